package sandbox_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

const (
	mchid    = "1900000001"
	appid    = "wx8888888888888888"
	other    = "1900000002"
	otherApp = "wx9999999999999999"
	provider = "1900000003" // a service provider
	subMchid = "1900000109" // its only sub-merchants: this one
	subOther = "1900000110" // and this one
	notify   = "http://127.0.0.1:1/wechatpay/notify/demo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newPlatform makes a platform of two merchants that share one appid; the
// second has another one besides.
func newPlatform(t testing.TB, change func(*sandbox.Options)) *sandbox.Platform {
	t.Helper()
	o := sandbox.Options{
		Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: appid}, {Mchid: other, Appid: otherApp}, {Mchid: other, Appid: appid},
			{Mchid: provider, Appid: appid, ServiceProvider: true, SubMchids: []string{subMchid, subOther}}},
		Client: &http.Client{Transport: answering(http.StatusOK)},
	}
	if change != nil {
		change(&o)
	}
	p, err := sandbox.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// clock is a test's own time, for senders in the background too.
type clock struct{ at atomic.Pointer[time.Time] }

func newClock(t time.Time) *clock {
	c := &clock{}
	c.set(t)
	return c
}

func (c *clock) now() time.Time  { return *c.at.Load() }
func (c *clock) set(t time.Time) { c.at.Store(&t) }

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering is a merchant that gives every callback the same answer.
func answering(status int) roundTripper {
	return func(r *http.Request) (*http.Response, error) { return reply(r, status), nil }
}

func reply(r *http.Request, status int) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Request: r,
		Body: io.NopCloser(strings.NewReader(`{"code":"FAIL"}`)),
	}
}

// got is a callback as a merchant received it.
type got struct {
	at     time.Time
	header http.Header
	body   []byte
}

// receiver is a merchant that keeps what it gets and answers by script: the
// n-th callback gets the n-th status, the last one counts on.
type receiver struct {
	mu     sync.Mutex
	got    []got
	script []int
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.script[min(len(r.got), len(r.script)-1)]
	r.got = append(r.got, got{time.Now(), req.Header.Clone(), body})
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	return reply(req, status), nil
}

func (r *receiver) all() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]got(nil), r.got...)
}

// client is a merchant's own signing and verifying, apart from the platform's.
type client struct {
	t    testing.TB
	p    *sandbox.Platform
	keys sandbox.Keys
	key  *rsa.PrivateKey
}

func newClient(t testing.TB, p *sandbox.Platform, mchid string) *client {
	t.Helper()
	k, err := p.Keys(mchid)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(k.PrivateKey))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, p, k, parsed.(*rsa.PrivateKey)}
}

// platformKeys are the platform's keys by serial, as this merchant knows them now.
func (c *client) platformKeys() map[string]*rsa.PublicKey {
	c.t.Helper()
	k, err := c.p.Keys(c.keys.Mchid)
	if err != nil {
		c.t.Fatal(err)
	}
	out := map[string]*rsa.PublicKey{}
	for _, pk := range k.PublicKeys {
		block, _ := pem.Decode([]byte(pk.PEM))
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			c.t.Fatal(err)
		}
		out[pk.ID] = parsed.(*rsa.PublicKey)
	}
	for _, text := range k.PlatformCertificates {
		cert := parseCertificate(c.t, text)
		out[fmt.Sprintf("%X", cert.SerialNumber)] = cert.PublicKey.(*rsa.PublicKey)
	}
	return out
}

func parseCertificate(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (c *client) sign(text string) string {
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, c.key, crypto.SHA256, sum[:])
	if err != nil {
		c.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sig)
}

func (c *client) authorization(method, target, body string, at time.Time) string {
	ts, nonce := strconv.FormatInt(at.Unix(), 10), rand.Text()
	return fmt.Sprintf(`WECHATPAY2-SHA256-RSA2048 mchid="%s",nonce_str="%s",timestamp="%s",serial_no="%s",signature="%s"`,
		c.keys.Mchid, nonce, ts, c.keys.SerialNo, c.sign(method+"\n"+target+"\n"+ts+"\n"+nonce+"\n"+body+"\n"))
}

func (c *client) request(method, target, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "test")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", c.authorization(method, target, body, time.Now()))
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// call signs, calls and verifies the answer's signature.
func (c *client) call(method, target, body string) (int, string) {
	c.t.Helper()
	w := serve(c.p, c.request(method, target, body))
	c.verify(w.Header(), w.Body.Bytes())
	return w.Code, w.Body.String()
}

func (c *client) verify(h http.Header, body []byte) {
	c.t.Helper()
	if err := c.check(h, body); err != nil {
		c.t.Fatalf("%v; body %s", err, body)
	}
}

func (c *client) check(h http.Header, body []byte) error {
	if h.Get("Wechatpay-Signature-Type") != sandbox.SignatureType {
		return errors.New("wrong signature type")
	}
	key := c.platformKeys()[h.Get("Wechatpay-Serial")]
	if key == nil {
		return fmt.Errorf("unknown serial %q", h.Get("Wechatpay-Serial"))
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(h.Get("Wechatpay-Signature"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(h.Get("Wechatpay-Timestamp") + "\n" + h.Get("Wechatpay-Nonce") + "\n" + string(body) + "\n"))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig)
}

func (c *client) decrypt(nonce, aad, ciphertext string) ([]byte, error) {
	block, err := aes.NewCipher([]byte(c.keys.APIv3Key))
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(ciphertext)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, []byte(nonce), raw, []byte(aad))
}

type notification struct {
	ID           string `json:"id"`
	CreateTime   string `json:"create_time"`
	ResourceType string `json:"resource_type"`
	EventType    string `json:"event_type"`
	Summary      string `json:"summary"`
	Resource     struct {
		OriginalType   string `json:"original_type"`
		Algorithm      string `json:"algorithm"`
		Ciphertext     string `json:"ciphertext"`
		AssociatedData string `json:"associated_data"`
		Nonce          string `json:"nonce"`
	} `json:"resource"`
}

// open verifies and decrypts a callback.
func (c *client) open(h http.Header, body []byte) (notification, string) {
	c.t.Helper()
	c.verify(h, body)
	var n notification
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		c.t.Fatal(err)
	}
	plain, err := c.decrypt(n.Resource.Nonce, n.Resource.AssociatedData, n.Resource.Ciphertext)
	if err != nil {
		c.t.Fatal(err)
	}
	return n, string(plain)
}

func nativeBody(number string, total int64) string {
	return fmt.Sprintf(`{"appid":%q,"mchid":%q,"description":"tea","out_trade_no":%q,"notify_url":%q,"attach":"a","amount":{"total":%d,"currency":"CNY"}}`,
		appid, mchid, number, notify, total)
}

func combineBody(number string, subs ...string) string {
	return fmt.Sprintf(`{"combine_appid":%q,"combine_mchid":%q,"combine_out_trade_no":%q,"notify_url":%q,"sub_orders":[%s]}`,
		appid, mchid, number, notify, strings.Join(subs, ","))
}

func subOrder(mchid, number string, total int64) string {
	return fmt.Sprintf(`{"mchid":%q,"out_trade_no":%q,"description":"cup","attach":"x","amount":{"total_amount":%d,"currency":"CNY"}}`, mchid, number, total)
}

// order places an order and returns its code_url.
func (c *client) order(body string) string {
	c.t.Helper()
	path := "/v3/pay/transactions/native"
	if strings.Contains(body, "combine_appid") {
		path = "/v3/combine-transactions/native"
	}
	status, answer := c.call("POST", path, body)
	var out struct {
		CodeURL string `json:"code_url"`
	}
	if err := json.Unmarshal([]byte(answer), &out); err != nil || status != http.StatusOK || !strings.HasPrefix(out.CodeURL, "weixin://wxpay/bizpayurl?pr=") {
		c.t.Fatalf("order: %d %s", status, answer)
	}
	return out.CodeURL
}

func codeOf(t testing.TB, answer string) string {
	t.Helper()
	var out struct{ Code, Message string }
	if err := json.Unmarshal([]byte(answer), &out); err != nil || out.Code == "" || out.Message == "" {
		t.Fatalf("not WeChat-shaped: %s", answer)
	}
	return out.Code
}

// sameJSON compares as JSON, after fields whose value is not known beforehand
// were checked to be there and replaced by "*".
func sameJSON(t testing.TB, have, want string, open ...string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal([]byte(have), &a); err != nil {
		t.Fatalf("%v: %s", err, have)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	for _, name := range open {
		mask(a, name)
	}
	x, _ := json.MarshalIndent(a, "", " ")
	y, _ := json.MarshalIndent(b, "", " ")
	if !bytes.Equal(x, y) {
		t.Errorf("have\n%s\nwant\n%s", x, y)
	}
}

func mask(v any, name string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if s, ok := inner.(string); ok && k == name && s != "" {
				v[k] = "*"
				continue
			}
			mask(inner, name)
		}
	case []any:
		for _, inner := range v {
			mask(inner, name)
		}
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func atoi(t testing.TB, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// placeOrder orders as a merchant that holds keys; for the examples.
func placeOrder(p *sandbox.Platform, keys sandbox.Keys, number, notifyURL string) int {
	return post(p, keys, "/v3/pay/transactions/native", strings.Replace(nativeBody(number, 100), notify, notifyURL, 1))
}

// applyForRefund applies as a merchant that holds keys; for the examples.
func applyForRefund(p *sandbox.Platform, keys sandbox.Keys, body string) int {
	return post(p, keys, "/v3/refund/domestic/refunds", body)
}

func post(p *sandbox.Platform, keys sandbox.Keys, path, body string) int {
	block, _ := pem.Decode([]byte(keys.PrivateKey))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return 0
	}
	c := &client{t: nil, p: p, keys: keys, key: key.(*rsa.PrivateKey)}
	return serve(p, c.request(http.MethodPost, path, body)).Code
}
