package merchant

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/validators"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/verifiers"
	sdkutils "github.com/wechatpay-apiv3/wechatpay-go/utils"
)

// The tests of this file pin two things each: a trap of the SDK, as it is in
// the version in go.mod, and that this package does not step into it. When an
// upgrade of the SDK removes a trap its half fails, and the guard may go.

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestTrapSerialSpelling(t *testing.T) {
	cert := certSpec{serial: "0A0B"}.make()
	sdk := core.NewCertificateMapWithList([]*x509.Certificate{cert})
	if _, ok := sdk.Get(context.Background(), "0A0B"); !ok {
		t.Error("SDK: 0A0B is not found")
	}
	if _, ok := sdk.Get(context.Background(), "A0B"); ok {
		t.Error("SDK: A0B is found now")
	}
	key, err := certificateKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	set := newKeySet(atBase, nil, []Key{key})
	for _, serial := range []string{"0A0B", "A0B", "a0b"} {
		if _, err := set.Lookup(serial, baseTime); err != nil {
			t.Errorf("%s: %v", serial, err)
		}
	}
	if key.Serial != sdkutils.GetCertificateSerialNumber(*cert) {
		t.Error("the spelling on the wire differs from the SDK's")
	}
}

func TestTrapPublicKeyErrorShowsItsText(t *testing.T) {
	text := pkix8(&curveKey().PublicKey)
	if _, err := sdkutils.LoadPublicKey(text); err == nil || !strings.Contains(err.Error(), text) {
		t.Error("SDK: the error no longer holds the text")
	}
	if _, err := parsePublicKey(text); err == nil || strings.Contains(err.Error(), strings.Split(text, "\n")[1]) {
		t.Error("the error holds the text")
	}
}

func TestTrapExpiredCertificateVerifies(t *testing.T) {
	cert := certSpec{notBefore: baseTime.Add(-2 * time.Hour), notAfter: baseTime.Add(-time.Hour)}.make()
	sdk := verifiers.NewSHA256WithRSAVerifier(core.NewCertificateMapWithList([]*x509.Certificate{cert}))
	if err := sdk.Verify(context.Background(), serialOf(1), "m", sign64(platformKey(), "m")); err != nil {
		t.Error("SDK: an expired certificate is refused now")
	}
	key, err := certificateKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	v := keyVerifier{keys: func() *KeySet { return newKeySet(atBase, nil, []Key{key}) }, now: atBase}
	if err := v.Verify(context.Background(), serialOf(1), "m", sign64(platformKey(), "m")); !errors.Is(err, ErrKeyExpired) {
		t.Errorf("ours: %v", err)
	}
}

func TestTrapLenientBase64(t *testing.T) {
	cert := certSpec{}.make()
	sdk := verifiers.NewSHA256WithRSAVerifier(core.NewCertificateMapWithList([]*x509.Certificate{cert}))
	key, err := certificateKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	ours := keyVerifier{keys: func() *KeySet { return newKeySet(atBase, nil, []Key{key}) }, now: atBase}
	good := sign64(platformKey(), "m")
	bySDK, byUs := 0, 0
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		spelled := good[:len(good)-3] + string(c) + "=="
		if sdk.Verify(context.Background(), serialOf(1), "m", spelled) == nil {
			bySDK++
		}
		if ours.Verify(context.Background(), serialOf(1), "m", spelled) == nil {
			byUs++
		}
	}
	if bySDK != 16 || byUs != 1 {
		t.Errorf("spellings of one signature: the SDK takes %d (16 when this was written), we take %d", bySDK, byUs)
	}
}

func TestTrapECDSACertificatePanics(t *testing.T) {
	cert := certSpec{key: curveKey()}.make()
	sdk := verifiers.NewSHA256WithRSAVerifier(core.NewCertificateMapWithList([]*x509.Certificate{cert}))
	if !panics(func() { _ = sdk.Verify(context.Background(), serialOf(1), "m", "AAAA") }) {
		t.Error("SDK: an ECDSA certificate no longer panics")
	}
	if _, err := certificateKey(cert); err == nil {
		t.Error("an ECDSA certificate becomes a key")
	}
}

func TestTrapNonceLengthPanics(t *testing.T) {
	if !panics(func() { _, _ = sdkutils.DecryptAES256GCM(testAPIv3, "", "short", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") }) {
		t.Error("SDK: a short nonce no longer panics")
	}
	m := wantNew(t, goodConfig(), Deps{})
	if _, err := m.Decrypt(nil, []byte("short"), make([]byte, 32)); !errors.Is(err, ErrDecrypt) {
		t.Errorf("ours: %v", err)
	}
}

func TestTrapShortAPIv3Key(t *testing.T) {
	if _, err := sdkutils.DecryptAES256GCM(testAPIv3[:16], "", "fdasflkja484", "AAAA"); err == nil || strings.Contains(err.Error(), "key size") {
		t.Errorf("SDK: a key of 16 bytes is refused as such now: %v", err)
	}
	if _, err := newAEAD(NewSecret(testAPIv3[:16])); err == nil {
		t.Error("a key of 16 bytes makes a cipher")
	}
}

// answer makes a signed API answer.
func answer(body string, at time.Time, edit func(http.Header)) *http.Response {
	h := http.Header{}
	h.Set("Wechatpay-Timestamp", unixText(at))
	h.Set("Wechatpay-Nonce", "n")
	h.Set("Wechatpay-Serial", testKeyID)
	h.Set("Wechatpay-Signature", sign64(platformKey(), unixText(at)+"\nn\n"+body+"\n"))
	if edit != nil {
		edit(h)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func TestValidator(t *testing.T) {
	now := time.Now() // the SDK's own check knows no other clock
	m := wantNew(t, goodConfig(), Deps{Now: func() time.Time { return now }})
	v := m.Validator()
	if serial, err := v.GetAcceptSerial(context.Background()); err != nil || serial != testKeyID {
		t.Errorf("GetAcceptSerial: %q, %v", serial, err)
	}
	res := answer(`{"a":1}`, now, nil)
	if err := v.Validate(context.Background(), res); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != `{"a":1}` {
		t.Errorf("the body is gone: %q, %v", body, err)
	}
	if err := v.Validate(context.Background(), answer("", now, nil)); err != nil {
		t.Errorf("an empty body (204): %v", err)
	}
	for _, row := range []struct {
		name string
		res  *http.Response
		want error
	}{
		{"no timestamp", answer("{}", now, func(h http.Header) { h.Del("Wechatpay-Timestamp") }), ErrAnswerHeaders},
		{"empty timestamp", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Timestamp", "") }), ErrAnswerHeaders},
		{"no nonce", answer("{}", now, func(h http.Header) { h.Del("Wechatpay-Nonce") }), ErrAnswerHeaders},
		{"no serial", answer("{}", now, func(h http.Header) { h.Del("Wechatpay-Serial") }), ErrAnswerHeaders},
		{"no signature", answer("{}", now, func(h http.Header) { h.Del("Wechatpay-Signature") }), ErrAnswerHeaders},
		{"two serials", answer("{}", now, func(h http.Header) { h.Add("Wechatpay-Serial", "x") }), ErrAnswerHeaders},
		{"plus", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Timestamp", "+"+unixText(now)) }), ErrAnswerHeaders},
		{"zeros", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Timestamp", "00"+unixText(now)) }), ErrAnswerHeaders},
		{"U+00A0", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Nonce", "n\u00a0") }), ErrAnswerHeaders},
		{"MaxInt64", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Timestamp", "9223372036854775807") }), ErrAnswerHeaders},
		{"MinInt64", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Timestamp", "-9223372036854775808") }), ErrAnswerHeaders},
		{"a fraction", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Timestamp", unixText(now)+".0") }), ErrAnswerHeaders},
		{"300 s ago", answer("{}", now.Add(-300*time.Second), nil), ErrAnswerHeaders},
		{"in 300 s", answer("{}", now.Add(300*time.Second), nil), ErrAnswerHeaders},
		{"probe", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Signature", "WECHATPAY/SIGNTEST/AAAA") }), ErrSignature},
		{"changed body", func() *http.Response {
			r := answer("{}", now, nil)
			r.Body = io.NopCloser(strings.NewReader("{ }"))
			return r
		}(), ErrSignature},
		{"unknown serial", answer("{}", now, func(h http.Header) { h.Set("Wechatpay-Serial", serialOf(5)) }), ErrUnknownSerial},
		{"too large", answer(strings.Repeat(" ", MaxAnswer+1), now, nil), ErrAnswerTooLarge},
	} {
		if err := v.Validate(context.Background(), row.res); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
	for _, off := range []time.Duration{-298 * time.Second, 298 * time.Second} {
		if err := v.Validate(context.Background(), answer("{}", now.Add(off), nil)); err != nil {
			t.Errorf("%v off: %v", off, err)
		}
	}
}

// TestTrapValidatorReadsTheFirstOfTwo: what the SDK's validator would let pass.
func TestTrapValidatorReadsTheFirstOfTwo(t *testing.T) {
	m := wantNew(t, goodConfig(), Deps{Now: time.Now})
	sdk := validators.NewWechatPayResponseValidator(m.Verifier())
	now := time.Now()
	for name, edit := range map[string]func(http.Header){
		"two serials": func(h http.Header) { h.Add("Wechatpay-Serial", "x") },
		"plus":        func(h http.Header) { h.Set("Wechatpay-Timestamp", "+"+unixText(now)) },
		"zeros":       func(h http.Header) { h.Set("Wechatpay-Timestamp", "000"+unixText(now)) },
		"U+2028":      func(h http.Header) { h.Set("Wechatpay-Nonce", "n\u2028") },
	} {
		if err := sdk.Validate(context.Background(), answer("{}", now, edit)); err != nil {
			t.Errorf("SDK: %s is refused now", name)
		}
		if err := m.Validator().Validate(context.Background(), answer("{}", now, edit)); !errors.Is(err, ErrAnswerHeaders) {
			t.Errorf("%s: %v", name, err)
		}
	}
	endless := &countingReader{r: io.LimitReader(zeros{}, 4*MaxAnswer)}
	res := answer("{}", now, nil)
	res.Body = io.NopCloser(endless)
	if err := m.Validator().Validate(context.Background(), res); !errors.Is(err, ErrAnswerTooLarge) || endless.n > MaxAnswer+1 {
		t.Errorf("%d bytes were read: %v", endless.n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte{'0'}, len(p))), nil }

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestCredentialSigns: the header that goes out verifies, for a path with its
// query and a body, and the zero credential signs nothing.
func TestCredentialSigns(t *testing.T) {
	m := wantNew(t, goodConfig(), Deps{})
	c, err := m.Credential()
	if err != nil {
		t.Fatal(err)
	}
	header, err := c.GenerateAuthorizationHeader(context.Background(), http.MethodPost, "/v3/pay/transactions/native?b=2&a=1", `{"a":1}`)
	if err != nil {
		t.Fatal(err)
	}
	parts := authorizationForm.FindStringSubmatch(header)
	if parts == nil || parts[1] != testMchid || parts[4] != testSerial {
		t.Fatalf("header %q", header)
	}
	raw, err := DecodeSignature(parts[5])
	if err != nil {
		t.Fatal(err)
	}
	message := "POST\n/v3/pay/transactions/native?b=2&a=1\n" + parts[3] + "\n" + parts[2] + "\n{\"a\":1}\n"
	if err := publicKey("", merchantKey()).Verify([]byte(message), raw); err != nil {
		t.Error(err)
	}
	if result, err := c.Sign(context.Background(), "m"); err != nil || result.MchID != testMchid || result.Signature == "" {
		t.Errorf("Sign: %v", err)
	}
	var zero Credential
	if _, err := zero.Sign(context.Background(), "m"); !errors.Is(err, ErrNoKeys) {
		t.Errorf("zero Sign: %v", err)
	}
	if _, err := zero.GenerateAuthorizationHeader(context.Background(), "GET", "/", ""); !errors.Is(err, ErrNoKeys) {
		t.Errorf("zero header: %v", err)
	}
	if zero.Mchid() != "" || zero.SerialNo() != "" || !zero.PrivateKey().Empty() || zero.Algorithm() == "" {
		t.Error("zero credential")
	}
}
