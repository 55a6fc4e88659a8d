package payops_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
)

const (
	mchid      = "1900000001"
	appid      = "wx8888888888888888"
	notifyURL  = "https://pay.example.com/wechatpay/notify/shop"
	serialNo   = "3775B6A45ACD588826D15E583A95F5DD12345678"
	platformID = "PUB_KEY_ID_0119000000012026010100000000000001"
	otherID    = "PUB_KEY_ID_0119000000012026010100000000000000"
)

// keyring holds the keys of all tests; making them takes a while.
var keyring = sync.OnceValue(func() (k struct{ merchant, platform, other, store *rsa.PrivateKey }) {
	for _, p := range []**rsa.PrivateKey{&k.merchant, &k.platform, &k.other, &k.store} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		*p = key
	}
	return k
})

func privatePEM(k *rsa.PrivateKey) string {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func publicPEM(k *rsa.PrivateKey) string {
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// reply is what the fake answers.
type reply struct {
	status int
	body   string
	header http.Header
	// sign says how the answer is signed: "" well, or "none", "bad", "probe",
	// "stale", "unknown_serial".
	sign string
	// cut closes the connection after so many bytes of the body.
	cut int
}

// got is a request as the fake received it.
type got struct {
	method, uri, body string
	header            http.Header
}

// wechat is a fake WeChat Pay: it verifies the Authorization of every request
// over its exact URL and body bytes, and signs what the test wants answered.
type wechat struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	seen   []got
	answer func(g got) reply
}

func newWechat(t *testing.T, answer func(g got) reply) *wechat {
	x := &wechat{t: t, answer: answer}
	x.server = httptest.NewServer(x)
	t.Cleanup(x.server.Close)
	return x
}

func (x *wechat) requests() []got {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]got(nil), x.seen...)
}

func (x *wechat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // a caller that went away
	}
	g := got{method: r.Method, uri: r.RequestURI, body: string(body), header: r.Header.Clone()}
	x.mu.Lock()
	x.seen = append(x.seen, g)
	x.mu.Unlock()
	if err := verifyRequest(g); err != nil {
		x.t.Errorf("WeChat Pay would refuse %s %s: %v", g.method, g.uri, err)
	}
	a := x.answer(g)
	for name, values := range a.header {
		w.Header()[name] = values
	}
	signAnswer(w.Header(), r.Header.Get("Wechatpay-Serial"), a)
	if a.cut > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body[:a.cut])
		// Without the flush the caller would see no byte of it.
		if err := http.NewResponseController(w).Flush(); err != nil {
			x.t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func verifyRequest(g got) error {
	a, err := caller.ParseAuthorization(g.header.Get("Authorization"))
	if err != nil {
		return err
	}
	if a.Mchid != mchid || a.SerialNo != serialNo {
		return fmt.Errorf("signed by %s %s", a.Mchid, a.SerialNo)
	}
	signature, err := base64.StdEncoding.DecodeString(a.Signature)
	if err != nil {
		return err
	}
	signed, err := signedBody(g)
	if err != nil {
		return err
	}
	message := fmt.Sprintf("%s\n%s\n%d\n%s\n%s\n", g.method, g.uri, a.Timestamp, a.Nonce, signed)
	digest := sha256.Sum256([]byte(message))
	return rsa.VerifyPKCS1v15(&keyring().merchant.PublicKey, crypto.SHA256, digest[:], signature)
}

// signedBody is the body of a request, or the meta part of an upload, as another
// multipart reader than the gateway's finds it.
func signedBody(g got) (string, error) {
	media, params, err := mime.ParseMediaType(g.header.Get("Content-Type"))
	if err != nil || media != "multipart/form-data" {
		return g.body, nil
	}
	parts := multipart.NewReader(strings.NewReader(g.body), params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err != nil {
			return "", err
		}
		if part.FormName() == "meta" {
			meta, err := io.ReadAll(part)
			return string(meta), err
		}
	}
}

func signAnswer(h http.Header, serial string, a reply) {
	if h.Get("Content-Type") == "" && a.body != "" {
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	h.Set("Request-Id", "08F78BD7A00610-01")
	if a.sign == "none" {
		return
	}
	now := time.Now().Unix()
	if a.sign == "stale" {
		now -= 400
	}
	key := keyring().platform
	if serial == otherID || a.sign == "bad" {
		key = keyring().other
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s\n", now, "answer-nonce", a.body))
	raw, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		panic(err)
	}
	signature := base64.StdEncoding.EncodeToString(raw)
	if a.sign == "probe" {
		signature = "WECHATPAY/SIGNTEST/" + signature
	}
	if a.sign == "unknown_serial" {
		serial = "PUB_KEY_ID_9999"
	}
	h.Set("Wechatpay-Timestamp", strconv.FormatInt(now, 10))
	h.Set("Wechatpay-Nonce", "answer-nonce")
	h.Set("Wechatpay-Serial", serial)
	h.Set("Wechatpay-Signature", signature)
	h.Set("Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048")
}

// codeURL answers creates like WeChat Pay, with formatting of its own.
func codeURL(got) reply {
	return reply{status: 200, body: "{ \"code_url\" :\t\"weixin://wxpay/bizpayurl?pr=p4lpSuKzz\" }"}
}

func equalBytes(a, b string) bool { return bytes.Equal([]byte(a), []byte(b)) }
