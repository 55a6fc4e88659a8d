package merchant

import (
	"context"
	"crypto/cipher"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core/consts"
)

const (
	certificatesPath   = "/v3/certificates"
	maxKeyAnswer       = 1 << 20 // bytes of an answer that carries keys
	maxCertificates    = 32      // of one answer, and of a whole set
	downloadHostBudget = 15 * time.Second
	userAgent          = "caddy-wechatpay"
)

// errMalformed marks an answer that came and was not believed.
var errMalformed = errors.New("the answer was not believed")

// statusError is an answer other than 200. It keeps the status and WeChat
// Pay's own error code, when it looks like one, and nothing else of the body.
type statusError struct {
	status int
	code   string
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("answered %d", e.status)
	if e.code != "" {
		text += " " + e.code
	}
	if e.status == http.StatusNotFound {
		text += "; a merchant that was given a public key has no platform certificates: add public_key and remove platform_certificates"
	}
	return text
}

var errorCodeForm = regexp.MustCompile(`^[A-Z0-9_]{1,32}$`)

// fetch makes one GET of path at each base in turn, until one answers.
// Anything short of an answer moves on to the next host: the call changes
// nothing, so asking twice is harmless.
func (m *Merchant) fetch(ctx context.Context, path string, header func() (http.Header, error)) (body []byte, answer http.Header, err error) {
	for _, base := range m.bases {
		body, answer, err = m.fetchFrom(ctx, base+path, header)
		var status *statusError
		if err == nil || ctx.Err() != nil || errors.Is(err, errMalformed) ||
			(errors.As(err, &status) && status.status < http.StatusInternalServerError) {
			return body, answer, err
		}
	}
	return body, answer, err
}

func (m *Merchant) fetchFrom(ctx context.Context, url string, header func() (http.Header, error)) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, downloadHostBudget)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, nil, errors.New("the request cannot be made")
	}
	if req.Header, err = header(); err != nil {
		return nil, nil, err
	}
	// A connection of its own: on one that was idle for an hour net/http would
	// ask again by itself when it turns out to be dead.
	req.Close = true
	sent := m.now()
	res, err := m.client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("no answer: %w", err)
	}
	m.SawDate(res.Header.Get("Date"), sent, m.now())
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeyAnswer+1))
	if err != nil {
		return nil, nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if len(body) > maxKeyAnswer {
		return nil, nil, fmt.Errorf("%w: it is over %d bytes", errMalformed, maxKeyAnswer)
	}
	if res.StatusCode != http.StatusOK {
		var said struct {
			Code string `json:"code"`
		}
		if json.Unmarshal(body, &said) != nil || !errorCodeForm.MatchString(said.Code) {
			said.Code = ""
		}
		return nil, nil, &statusError{status: res.StatusCode, code: said.Code}
	}
	return body, res.Header, nil
}

// download fetches the platform certificates and returns those that a
// production merchant may trust.
// https://pay.weixin.qq.com/doc/v3/merchant/4012551764
func (m *Merchant) download(ctx context.Context) ([]Key, error) {
	s := m.state.Load()
	body, header, err := m.fetch(ctx, certificatesPath, func() (http.Header, error) {
		// Signed anew for each host: a second host may be asked seconds later.
		authorization, err := s.credential.GenerateAuthorizationHeader(ctx, http.MethodGet, certificatesPath, "")
		if err != nil {
			return nil, errors.New("the request cannot be signed")
		}
		h := http.Header{
			consts.Authorization: {authorization},
			consts.Accept:        {consts.ApplicationJSON},
			consts.UserAgent:     {userAgent},
		}
		// A public key's id makes WeChat Pay sign the answer with it, which also
		// keeps its count of migrated answers (应答比例) at 100 %.
		if key, ok := s.keys.Preferred(); ok && key.Kind == KindPublicKey {
			h.Set(consts.WechatPaySerial, key.Serial)
		}
		return h, nil
	})
	if err != nil {
		return nil, err
	}
	return m.acceptCertificates(s, header, body)
}

// acceptCertificates decrypts, filters and authenticates an answer.
//
// Its signature may come from a certificate that is trusted already, or from
// one that the answer itself brings: on the first download there is no other.
// What makes that one authentic is that it was encrypted under the APIv3 key,
// which nobody but the merchant and WeChat Pay holds, and came over verified
// TLS. The official SDKs rest on the same two. Not on the signature alone, ever.
func (m *Merchant) acceptCertificates(s *state, header http.Header, body []byte) ([]Key, error) {
	downloaded, err := parseCertificateAnswer(body, s.apiv3)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	now := m.now()
	var accepted []Key
	for _, d := range downloaded {
		key, why := m.acceptable(s, d, now)
		if why != "" {
			m.log.Warn("platform certificate dropped", "serial", certificateSerial(d.certificate), "reason", why)
			continue
		}
		accepted = append(accepted, key)
	}
	if len(accepted) == 0 {
		return nil, fmt.Errorf("%w: it brings no certificate that can be trusted", errMalformed)
	}
	if err := checkAnswerHeaders(header, now); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	known := s.keys.All()
	trusted := newKeySet(m.now, ofKind(known, KindPublicKey), mergeCertificates(ofKind(known, KindCertificate), accepted, now, nil))
	message := header.Get(consts.WechatPayTimestamp) + "\n" + header.Get(consts.WechatPayNonce) + "\n" + string(body) + "\n"
	err = keyVerifier{keys: func() *KeySet { return trusted }, now: m.now}.
		Verify(context.Background(), header.Get(consts.WechatPaySerial), message, header.Get(consts.WechatPaySignature))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return accepted, nil
}

// acceptable makes a Key of a downloaded certificate, or says why not.
func (m *Merchant) acceptable(s *state, d downloadedCertificate, now time.Time) (key Key, why string) {
	if isSandboxCertificate(d.certificate) {
		return Key{}, "a sandbox's certificate; a production merchant never trusts one"
	}
	key, err := certificateKey(d.certificate)
	if err != nil {
		return Key{}, err.Error()
	}
	switch own := s.credential.publicKey(); {
	case indexSerial(d.claimedSerial) != indexSerial(key.Serial):
		return Key{}, "the serial_no beside it is another one"
	case now.After(key.NotAfter):
		return Key{}, "expired"
	case own != nil && own.Equal(key.public):
		return Key{}, "the merchant's own key"
	}
	return key, ""
}

// downloadedCertificate is one decrypted entry of the answer.
type downloadedCertificate struct {
	claimedSerial string // serial_no as the JSON claims it
	certificate   *x509.Certificate
}

// parseCertificateAnswer decrypts every entry of a GET /v3/certificates answer.
// One entry that is not whole spoils all: half an answer is not a set.
func parseCertificateAnswer(body []byte, keys []cipher.AEAD) ([]downloadedCertificate, error) {
	var answer struct {
		Data []*struct {
			SerialNo           string `json:"serial_no"`
			EncryptCertificate *struct {
				Algorithm      string `json:"algorithm"`
				Nonce          string `json:"nonce"`
				AssociatedData string `json:"associated_data"`
				Ciphertext     string `json:"ciphertext"`
			} `json:"encrypt_certificate"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return nil, errors.New("it is not the JSON that was expected")
	}
	if len(answer.Data) == 0 {
		return nil, errors.New("it lists no certificate")
	}
	if len(answer.Data) > maxCertificates {
		return nil, fmt.Errorf("it lists more than %d certificates", maxCertificates)
	}
	out := make([]downloadedCertificate, 0, len(answer.Data))
	for _, entry := range answer.Data {
		if entry == nil || entry.EncryptCertificate == nil || entry.SerialNo == "" {
			return nil, errors.New("an entry is not whole")
		}
		encrypted := entry.EncryptCertificate
		if encrypted.Algorithm != "AEAD_AES_256_GCM" {
			return nil, errors.New("an entry is not encrypted with AEAD_AES_256_GCM")
		}
		ciphertext, err := base64.StdEncoding.Strict().DecodeString(encrypted.Ciphertext)
		if err != nil {
			return nil, errors.New("an entry's ciphertext is not base64")
		}
		plaintext, err := openWith(keys, []byte(encrypted.AssociatedData), []byte(encrypted.Nonce), ciphertext)
		if err != nil {
			return nil, errors.New("an entry does not open with the APIv3 key; compare apiv3_key with the merchant console")
		}
		certs, err := parseCertificates(string(plaintext))
		if err != nil || len(certs) != 1 {
			return nil, errors.New("an entry does not hold one certificate")
		}
		out = append(out, downloadedCertificate{claimedSerial: entry.SerialNo, certificate: certs[0]})
	}
	return out, nil
}
