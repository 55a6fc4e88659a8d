package payops_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// FuzzGateway sends whatever to the gateway's resources: every refusal has WeChat
// Pay's shape, what goes out goes to WeChat Pay's own paths with the money that
// the body states, and the same request under one key makes nothing twice.
func FuzzGateway(f *testing.F) {
	for _, body := range []string{
		`{"way":"native","description":"x","amount":{"total":1}}`,
		`{"way":"app","out_trade_no":"N20261122","description":"x","amount":{"total":100,"currency":"CNY"},"time_expire":"2099-01-01T00:00:00Z"}`,
		`{"way":"jsapi","description":"x","sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":2}}],"openid":"o"}`,
		`{"way":"h5","description":"x","amount":{"total":1},"payer_client_ip":"1.2.3.4","replaces":"N20261121"}`,
		`{"out_trade_no":"N20261121","amount":{"refund":1,"total":100}}`, `{"kind":"parking","amount":{"total":1}}`, `{}`, ``,
	} {
		for _, target := range []string{"POST /gateway/checkout", "POST /gateway/refunds", "PUT /gateway/orders/N20261123", "POST /gateway/orders/N20261121/close", "POST /gateway/orders/N20261121/refunds?sub_mchid=1"} {
			f.Add(target, body, "k")
		}
	}
	f.Add("GET /gateway/orders/N20261121?fresh=1", "", "")
	f.Add("GET /gateway/orders/N20261121/qr.png?size=120", "", "")
	f.Add("GET /gateway/refunds/R1?fresh=1", "", "")
	var sent []got
	m, err := merchant.New(merchant.Config{
		Name: "shop", Mchid: mchid, SerialNo: serialNo, PrivateKey: privatePEM(keyring().merchant),
		Apps: []merchant.App{{Appid: appid}}, APIv3Keys: []string{"0123456789abcdef0123456789ABCDEF"},
		PublicKeys: []merchant.PublicKeyConfig{{ID: platformID, PEM: publicPEM(keyring().platform)}}, NotifyURL: notifyURL,
	}, merchant.Deps{})
	if err != nil {
		f.Fatal(err)
	}
	set, err := caller.TrustUpstream([]string{"*"})
	if err != nil {
		f.Fatal(err)
	}
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		g := got{method: r.Method, uri: r.URL.Opaque, header: r.Header}
		if r.Body != nil {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			g.body = string(b)
		}
		sent = append(sent, g)
		a := openings(g)
		w := httptest.NewRecorder()
		signAnswer(w.Header(), r.Header.Get("Wechatpay-Serial"), a)
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
		answer := w.Result()
		answer.Request = r
		return answer, nil
	})
	f.Fuzz(func(t *testing.T, line, body, key string) {
		sent = nil
		method, target, ok := strings.Cut(line, " ")
		u, err := url.ParseRequestURI(target)
		if !ok || err != nil || !strings.HasPrefix(target, "/gateway/") || strings.HasPrefix(target, "/gateway/openid") {
			return
		}
		ledger := newMemLedger()
		ledger.orders[storage.OrderKey{Mchid: mchid, Number: "N20261121"}] = storage.Order{
			Key: storage.OrderKey{Mchid: mchid, Number: "N20261121"}, Merchant: "shop", Kind: storage.OrderBasic, State: storage.OrderCreated,
			Origin: storage.OriginGateway, Amount: storage.Money{Total: 100, Currency: "CNY"}, Appid: appid,
		}
		api, err := payops.New(payops.Config{Merchant: m, Ledger: ledger, Callers: set, HTTP: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		ask := func() (*httptest.ResponseRecorder, int) {
			before := len(sent)
			r := &http.Request{Method: method, URL: u, RequestURI: target, Host: "gateway", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
			if key != "" {
				r.Header["Idempotency-Key"] = []string{key}
			}
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r.WithContext(t.Context()))
			return w, len(sent) - before
		}
		w, _ := ask()
		if e := gjson.ParseBytes(w.Body.Bytes()); w.Code >= 400 && (!gjson.ValidBytes(w.Body.Bytes()) || e.Get("code").String() == "" || e.Get("message").String() == "") {
			t.Fatalf("%s %s: %d %s", line, body, w.Code, w.Body)
		}
		orders := len(ledger.orders)
		for _, g := range sent {
			if !strings.HasPrefix(g.uri, "/v3/") {
				t.Fatalf("%s went to %s", line, g.uri)
			}
			if g.body == "" || !strings.HasPrefix(g.header.Get("Content-Type"), "application/json") {
				continue
			}
			for _, name := range []string{"amount.total", "amount.refund"} {
				asked, out := gjson.Get(body, name), gjson.Get(g.body, name)
				if asked.Exists() && out.Exists() && asked.Raw != out.Raw {
					t.Fatalf("%s %s: %s went out as %s", line, body, name, g.body)
				}
			}
		}
		if w.Code < 300 && key != "" && (strings.HasPrefix(target, "/gateway/checkout") || strings.HasPrefix(target, "/gateway/refunds")) && method == http.MethodPost {
			again, calls := ask()
			if again.Code != w.Code || !bytes.Equal(again.Body.Bytes(), w.Body.Bytes()) || calls != 0 || len(ledger.orders) != orders {
				t.Fatalf("%s %s under one key: %d %s, then %d %s, %d calls", line, body, w.Code, w.Body, again.Code, again.Body, calls)
			}
		}
	})
}
