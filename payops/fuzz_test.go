package payops_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

// FuzzTarget sends whatever request line through the whole API: nothing goes to
// another host, and what goes out is what came in.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{
		"/v3/certificates", "/v3/certificates?a=b&c", "//evil/v3/certificates", "http://evil/v3/certificates", "/v3/x/../certificates",
		"/v3/%63ertificates", "/v3/new/%2e%2e/x", "/v3/bill/tradebill?x=\r\nHost:evil", "/v3/@evil:80/x", "/v3/merchant-service/images/a|b'%20c", "*",
	} {
		f.Add(target)
	}
	var sent []*http.Request
	m, err := merchant.New(merchant.Config{
		Name: "shop", Mchid: mchid, SerialNo: serialNo, PrivateKey: privatePEM(keyring().merchant),
		Apps: []merchant.App{{Appid: appid}}, APIv3Keys: []string{"0123456789abcdef0123456789ABCDEF"},
		PublicKeys: []merchant.PublicKeyConfig{{ID: platformID, PEM: publicPEM(keyring().platform)}},
	}, merchant.Deps{})
	if err != nil {
		f.Fatal(err)
	}
	set, err := caller.TrustUpstream([]string{"*"})
	if err != nil {
		f.Fatal(err)
	}
	api, err := payops.New(payops.Config{Merchant: m, Ledger: newMemLedger(), Callers: set, HTTP: &http.Client{
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			sent = append(sent, r)
			return instant{}.RoundTrip(r)
		}),
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		sent = nil
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // net/http answers 400
		}
		r := &http.Request{Method: "GET", URL: u, RequestURI: target, Host: "gateway", Header: http.Header{}, Body: http.NoBody}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r.WithContext(t.Context()))
		if len(sent) == 0 {
			return
		}
		out := sent[0].URL
		if len(sent) > 1 || out.Host != "api.mch.weixin.qq.com" || out.Scheme != "https" || out.User != nil || !strings.HasPrefix(out.Opaque, "/v3/") {
			t.Fatalf("%q went to %+v", target, out)
		}
		if strings.HasPrefix(target, "/gateway/") {
			return // a resource asks in its own way
		}
		// An order's query may be completed, and an empty one leaves no mark.
		if path, _, _ := strings.Cut(out.Opaque, "?"); path != strings.SplitN(target, "?", 2)[0] || !strings.HasPrefix(out.Opaque, strings.TrimSuffix(target, "?")) {
			t.Fatalf("%q became %q", target, out.Opaque)
		}
		path, _, _ := strings.Cut(out.Opaque, "?")
		if lower := strings.ToLower(path); strings.Contains(path, "//") && !strings.HasSuffix(path, "/") ||
			strings.Contains(path, "/../") || strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") || strings.Contains(lower, "/%2e") && strings.Contains(lower, "%2e/") {
			t.Fatalf("%q can be read in two ways", path)
		}
		if strings.ContainsAny(out.Opaque, " \r\n\t\x00#") {
			t.Fatalf("%q breaks the request line", out.Opaque)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func FuzzPaths(f *testing.F) {
	for _, p := range []string{"/v3/certificates", "/v3/pay/transactions/Native", "/v3/%72efund/domestic/refunds", "/v3/x/../y", "/v3/a;b=c", "/v3/refund/domestic/refunds/", "//v3/x", "/v3/new/thing"} {
		f.Add("POST", p)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		m, ok := operation.Unlisted(method, path, false)
		if !ok {
			return
		}
		if _, listed := operation.Find(method, path); listed {
			return // the gateway does not ask
		}
		decoded, err := url.PathUnescape(path)
		if err != nil || strings.ContainsAny(path, ";\\?# \r\n\x00") || strings.ContainsAny(decoded, "%;\\?#\r\n\x00") || strings.Count(decoded, "/") != strings.Count(path, "/") || strings.Contains(path, "//") || strings.Contains(path, "/../") {
			t.Fatalf("%q can be read in two ways", path)
		}
		if known, listed := operation.Find(method, strings.ToLower(decoded)); listed {
			t.Fatalf("%q is %s", path, known)
		}
		if m.Act != operation.ActForward || m.Number != nil {
			t.Fatalf("%s %q: %s", method, path, m.Act)
		}
	})
}
