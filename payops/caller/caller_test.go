package caller

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/credentials"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/signers"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

const testMchid = "1900000001"

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func testSet(t *testing.T) *Set {
	t.Helper()
	s, err := New(testMchid, []Config{
		{Name: "erp", Token: merchant.NewSecret("erp-token-0123456789"), Allow: []string{"pay", "query"}},
		{Name: "ops", Token: merchant.NewSecret("ops-token-0123456789"), Allow: []string{"*"}},
		{Name: "store", Serial: "7D3A00FF", Key: &testKey().PublicKey, Allow: []string{"query"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signed makes the Authorization that the SDK makes towards WeChat Pay.
func signed(t *testing.T, mchid, serial, method, target, body string) string {
	t.Helper()
	c := credentials.WechatPayCredentials{Signer: &signers.SHA256WithRSASigner{
		MchID: mchid, CertificateSerialNo: serial, PrivateKey: testKey(),
	}}
	h, err := c.GenerateAuthorizationHeader(context.Background(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func identify(s *Set, authorization []string, method, target, body string, now time.Time) (*Caller, error) {
	p, err := s.Begin(http.Header{"Authorization": authorization}, now)
	if err != nil {
		return nil, err
	}
	return p.Finish(method, target, []byte(body))
}

func TestTokens(t *testing.T) {
	s := testSet(t)
	for _, tc := range []struct {
		values []string
		name   string
	}{
		{[]string{"Bearer erp-token-0123456789"}, "erp"},
		{[]string{"bearer ops-token-0123456789"}, "ops"},
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"Bearer"}, ""},
		{[]string{"Bearer "}, ""},
		{[]string{"Bearer  erp-token-0123456789"}, ""},
		{[]string{"Bearer erp-token-0123456789 "}, ""},
		{[]string{"Bearer erp-token-012345678"}, ""},
		{[]string{"Bearer erp-token-01234567890"}, ""},
		{[]string{"Bearer ERP-TOKEN-0123456789"}, ""},
		{[]string{"Basic erp-token-0123456789"}, ""},
		{[]string{"erp-token-0123456789"}, ""},
		{[]string{"Bearer erp-token-0123456789", "Bearer erp-token-0123456789"}, ""},
		{[]string{"Bearer " + strings.Repeat("a", 10_000)}, ""},
	} {
		c, err := identify(s, tc.values, "GET", "/v3/x", "", time.Now())
		switch {
		case tc.name == "" && !errors.Is(err, ErrUnknown):
			t.Errorf("%.60q: %v", tc.values, err)
		case tc.name != "" && (err != nil || c.Name != tc.name):
			t.Errorf("%q: %v %v", tc.values, c, err)
		}
	}
}

func TestAllow(t *testing.T) {
	s := testSet(t)
	erp, err := identify(s, []string{"Bearer erp-token-0123456789"}, "GET", "/", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range operation.Groups() {
		if want := g == operation.Pay || g == operation.Query; erp.Allows(g) != want {
			t.Errorf("erp and %s: %v", g, !want)
		}
	}
	if erp.AllowsEverything() {
		t.Error("erp is allowed everything")
	}
	var nobody *Caller
	if nobody.Allows(operation.Query) || nobody.AllowsEverything() || (&Caller{}).Allows(operation.Query) {
		t.Error("nobody is allowed something")
	}
}

func TestOwnKey(t *testing.T) {
	s, now := testSet(t), time.Now()
	const target, body = "/v3/pay/transactions/native?b=2&a=%20", `{"a": 1}`
	good := signed(t, testMchid, "7D3A00FF", "POST", target, body)
	if c, err := identify(s, []string{good}, "POST", target, body, now); err != nil || c.Name != "store" {
		t.Fatal(c, err)
	}
	// A serial is a number: case and leading zeros do not matter.
	if _, err := identify(s, []string{signed(t, testMchid, "007d3a00ff", "POST", target, body)}, "POST", target, body, now); err != nil {
		t.Error(err)
	}
	for name, tc := range map[string]struct {
		authorization, method, target, body string
		want                                error
	}{
		"other method":  {good, "PUT", target, body, ErrUnknown},
		"other query":   {good, "POST", "/v3/pay/transactions/native?a=%20&b=2", body, ErrUnknown},
		"other escape":  {good, "POST", "/v3/pay/transactions/native?b=2&a=+", body, ErrUnknown},
		"other body":    {good, "POST", target, `{"a":1}`, ErrUnknown},
		"no body":       {good, "POST", target, "", ErrUnknown},
		"other mchid":   {signed(t, "1900000002", "7D3A00FF", "POST", target, body), "POST", target, body, ErrMchid},
		"other serial":  {signed(t, testMchid, "7D3A00FE", "POST", target, body), "POST", target, body, ErrUnknown},
		"cut signature": {strings.Replace(good, `signature="`, `signature="AAAA`, 1), "POST", target, body, ErrUnknown},
	} {
		if _, err := identify(s, []string{tc.authorization}, tc.method, tc.target, tc.body, now); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestOwnKeyTimestampEdges(t *testing.T) {
	s := testSet(t)
	a, err := ParseAuthorization(signed(t, testMchid, "7D3A00FF", "GET", "/v3/x", ""))
	if err != nil {
		t.Fatal(err)
	}
	value := fmt.Sprintf(`%s mchid="%s",nonce_str="%s",timestamp="%d",serial_no="%s",signature="%s"`,
		Schema, a.Mchid, a.Nonce, a.Timestamp, a.SerialNo, a.Signature)
	for off, want := range map[int64]error{
		-301: ErrTimestamp, -300: nil, -299: nil, 0: nil, 299: nil, 300: nil, 301: ErrTimestamp, 86400: ErrTimestamp,
	} {
		if _, err := identify(s, []string{value}, "GET", "/v3/x", "", time.Unix(a.Timestamp+off, 0)); !errors.Is(err, want) {
			t.Errorf("%d s off: %v, want %v", off, err, want)
		}
	}
}

func TestParseAuthorization(t *testing.T) {
	ok := func(s string) string { return Schema + " " + s }
	const m, n, ts, sn, sg = `mchid="1900000001"`, `nonce_str="abc"`, `timestamp="1700000000"`, `serial_no="7D3A"`, `signature="c2ln"`
	all := strings.Join([]string{m, n, ts, sn, sg}, ",")
	for _, good := range []string{
		ok(all),
		ok(strings.Join([]string{m, sn, ts, n, sg}, ",")), // as wechatpay-php writes it
		ok(strings.Join([]string{m, n, sg, ts, sn}, ",")), // as the documentation writes it
		ok(strings.Join([]string{m, n, ts, sn, sg}, ", ")),
	} {
		a, err := ParseAuthorization(good)
		if err != nil || a != (Authorization{"1900000001", "abc", 1700000000, "7D3A", "c2ln"}) {
			t.Errorf("%s: %+v %v", good, a, err)
		}
	}
	for _, bad := range []string{
		"", Schema, Schema + " ", all, ok(" " + all), ok(all + ","), ok(all + " "), ok(all + "," + m), ok("," + all),
		"wechatpay2-sha256-rsa2048 " + all, "WECHATPAY2-SM2-WITH-SM3 " + all, Schema + "\t" + all,
		ok(strings.Join([]string{m, n, ts, sn}, ",")),
		ok(strings.Join([]string{m, m, n, ts, sn}, ",")),
		ok(strings.Join([]string{m, n, ts, sn, sg}, ",,")),
		ok(strings.Join([]string{m, n, ts, sn, sg}, ",  ")),
		ok(strings.Join([]string{m, n, ts, sn, sg}, ";")),
		ok(strings.Replace(all, `mchid=`, `Mchid=`, 1)),
		ok(strings.Replace(all, `mchid=`, `mchid =`, 1)),
		ok(strings.Replace(all, `"abc"`, `""`, 1)),
		ok(strings.Replace(all, `"abc"`, `abc`, 1)),
		ok(strings.Replace(all, `"abc"`, `"a\"bc"`, 1)),
		ok(strings.Replace(all, `"abc"`, `"a bc"`, 1)),
		ok(strings.Replace(all, `"abc"`, `"`+strings.Repeat("a", 129)+`"`, 1)),
		ok(strings.Replace(all, `"abc"`, "\"a\u00a0c\"", 1)),
		ok(strings.Replace(all, `"7D3A"`, `"../../etc/passwd"`, 1)),
		ok(strings.Replace(all, `"7D3A"`, `"`+strings.Repeat("A", 65)+`"`, 1)),
		ok(strings.Replace(all, `1700000000`, `+1700000000`, 1)),
		ok(strings.Replace(all, `1700000000`, `01700000000`, 1)),
		ok(strings.Replace(all, `1700000000`, `-1700000000`, 1)),
		ok(strings.Replace(all, `1700000000`, `1700000000.0`, 1)),
		ok(strings.Replace(all, `1700000000`, `99999999999999999999`, 1)),
		ok(strings.Replace(all, `1700000000`, `0`, 1)),
		ok(all + strings.Repeat(" ", 5000)),
	} {
		if a, err := ParseAuthorization(bad); err == nil {
			t.Errorf("%.120q passes: %+v", bad, a)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	key, token := &testKey().PublicKey, merchant.NewSecret("a-token")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for want, callers := range map[string][]Config{
		"no caller is configured":     nil,
		"needs a name":                {{Token: token, Allow: []string{"pay"}}},
		"nothing is allowed":          {{Name: "a", Token: token}},
		"neither a token nor a key":   {{Name: "a", Allow: []string{"pay"}}},
		"a token and a key":           {{Name: "a", Token: token, Key: key, Serial: "1", Allow: []string{"pay"}}},
		"a serial but no key":         {{Name: "a", Serial: "1", Allow: []string{"pay"}}},
		"the serial must be":          {{Name: "a", Key: key, Serial: "a b", Allow: []string{"pay"}}},
		"and not zero":                {{Name: "a", Key: key, Serial: "000", Allow: []string{"pay"}}},
		"1024 bits":                   {{Name: "a", Key: &short.PublicKey, Serial: "1", Allow: []string{"pay"}}},
		"no operation group":          {{Name: "a", Token: token, Allow: []string{"payments"}}},
		"holds a blank":               {{Name: "a", Token: merchant.NewSecret("a b"), Allow: []string{"pay"}}},
		"the name is used twice":      {{Name: "a", Token: token, Allow: []string{"pay"}}, {Name: "a", Key: key, Serial: "1", Allow: []string{"pay"}}},
		"the same token as caller a":  {{Name: "a", Token: token, Allow: []string{"pay"}}, {Name: "b", Token: token, Allow: []string{"pay"}}},
		"the same serial as caller a": {{Name: "a", Key: key, Serial: "0a", Allow: []string{"pay"}}, {Name: "b", Key: key, Serial: "A", Allow: []string{"pay"}}},
	} {
		if _, err := New(testMchid, callers); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		} else if strings.Contains(err.Error(), "a-token") {
			t.Errorf("the error holds the token: %v", err)
		}
	}
}

func TestTrustUpstream(t *testing.T) {
	set, err := TrustUpstream([]string{"query"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := identify(set, nil, "POST", "/v3/x", "body", time.Now())
	if err != nil || c.Name != Upstream || !c.Allows(operation.Query) || c.Allows(operation.Transfer) || c.AllowsEverything() {
		t.Error(c, err)
	}
	for _, allow := range [][]string{nil, {"everything"}} {
		if _, err := TrustUpstream(allow); err == nil {
			t.Errorf("allow %q is accepted", allow)
		}
	}
}

func TestNobody(t *testing.T) {
	if _, err := identify(Nobody(), []string{"Bearer x"}, "GET", "/v3/x", "", time.Now()); err == nil {
		t.Error("somebody was let in")
	}
}

func TestParseKey(t *testing.T) {
	key := testKey()
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for _, good := range []string{
		block("PUBLIC KEY", spki), block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey)),
	} {
		if k, err := ParseKey(good); err != nil || !k.Equal(&key.PublicKey) {
			t.Error(err)
		}
	}
	for want, bad := range map[string]string{
		"not PEM text":            "hello",
		"more than one PEM block": block("PUBLIC KEY", spki) + block("PUBLIC KEY", spki),
		"this is a private key":   block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)),
		"is no public key":        block("DH PARAMETERS", spki),
		"the file is damaged":     block("PUBLIC KEY", spki[:40]),
	} {
		if _, err := ParseKey(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add(Schema + ` mchid="1",nonce_str="abc",timestamp="1700000000",serial_no="7D3A",signature="c2ln"`)
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, value string) {
		a, err := ParseAuthorization(value)
		if err != nil {
			if a != (Authorization{}) {
				t.Fatalf("an error and a value: %+v", a)
			}
			return
		}
		for _, v := range []string{a.Mchid, a.Nonce, a.SerialNo, a.Signature} {
			if !plain(v) {
				t.Fatalf("%q passes in %q", v, value)
			}
		}
		if a.Timestamp <= 0 {
			t.Fatalf("timestamp %d", a.Timestamp)
		}
	})
}

func BenchmarkOwnKey(b *testing.B) {
	c := credentials.WechatPayCredentials{Signer: &signers.SHA256WithRSASigner{
		MchID: testMchid, CertificateSerialNo: "7D3A", PrivateKey: testKey(),
	}}
	value, err := c.GenerateAuthorizationHeader(context.Background(), "GET", "/v3/x", "")
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(testMchid, []Config{{Name: "store", Serial: "7D3A", Key: &testKey().PublicKey, Allow: []string{"query"}}})
	if err != nil {
		b.Fatal(err)
	}
	header, now := http.Header{"Authorization": {value}}, time.Now()
	b.ReportAllocs()
	for b.Loop() {
		p, err := s.Begin(header, now)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Finish("GET", "/v3/x", nil); err != nil {
			b.Fatal(err)
		}
	}
}
