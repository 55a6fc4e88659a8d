package payops_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/openapi"
	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// newGateway is a payment API in front of a sandbox, whose caller may do
// everything, for a merchant with an app of each type.
func newGateway(t *testing.T, serviceProvider bool) *inSandbox {
	t.Helper()
	p, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{
			{Mchid: mchid, Appid: appid, ServiceProvider: serviceProvider, Domains: []string{"shop.example.com"}},
			{Mchid: mchid, Appid: miniAppid, ServiceProvider: serviceProvider, AppType: sandbox.AppMiniProgram},
			{Mchid: mchid, Appid: mobileAppid, ServiceProvider: serviceProvider, AppType: sandbox.AppMobile},
		},
		Client: &http.Client{Transport: answerAll{}}, BillsAtOnce: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	arrived := keysArrived{arrived: make(chan struct{}, 1)}
	m, err := merchant.New(merchant.Config{
		Name: "demo", Mchid: mchid, Sandbox: server.URL, NotifyURL: notifyURL, ServiceProvider: serviceProvider,
		Apps: []merchant.App{
			{Appid: appid, Domains: []string{"shop.example.com"}}, {Appid: miniAppid, Type: merchant.AppMiniProgram}, {Appid: mobileAppid, Type: merchant.AppMobile},
		},
	}, merchant.Deps{Metrics: arrived})
	if err != nil {
		t.Fatal(err)
	}
	m.Start(nil)
	t.Cleanup(m.Stop)
	<-arrived.arrived
	callers, err := caller.New(mchid, []caller.Config{{Name: "shop", Token: merchant.NewSecret("all-token"), Allow: []string{"*"}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &inSandbox{t: t, platform: p, ledger: storagetest.NewModel(nil)}
	if s.api, err = payops.New(payops.Config{Merchant: m, Ledger: s.ledger, Callers: callers}); err != nil {
		t.Fatal(err)
	}
	return s
}

// ask is do with headers, for answers of any status.
func (s *inSandbox) ask(method, target, body string, headers ...string) *http.Response {
	s.t.Helper()
	r := newRequest(context.Background(), method, target, body)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	return w.Result()
}

// old makes an order of the ledger older than five minutes.
func (s *inSandbox) old(key storage.OrderKey) {
	s.t.Helper()
	if err := s.ledger.Change(s.t.Context(), storage.Keys{Order: key}, func(rows *storage.Rows) error {
		rows.Order.CreatedAt = rows.Order.CreatedAt.Add(-5 * time.Minute)
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
}

// invoked pays with the parameters that the frontend got.
func (s *inSandbox) invoked(view gjson.Result) {
	s.t.Helper()
	params := map[string]string{}
	for name, value := range view.Get("invoke").Map() {
		params[name] = value.String()
	}
	if _, err := s.platform.Invoke(params, sandbox.Faults{}); err != nil {
		s.t.Errorf("%s: %v", view, err)
	}
}

// described sends requests that the description gives and holds their answers
// against it.
type described struct {
	*inSandbox
	doc  *openapi.Document
	seen map[string]bool // operations, and examples of them
}

// run sends one request of the description: values go into its path and query.
func (d *described) run(method, pattern, example, values string, status int, headers ...string) gjson.Result {
	d.t.Helper()
	op, ok := d.doc.Paths[pattern][strings.ToLower(method)]
	if !ok {
		d.t.Fatalf("%s %s is not described", method, pattern)
	}
	d.seen[method+" "+pattern] = true
	given, err := url.ParseQuery(values)
	if err != nil {
		d.t.Fatal(err)
	}
	target := pattern
	for _, p := range op.Parameters {
		value := given.Get(p.Name)
		if given.Has(p.Name) {
			text, _ := json.Marshal(value)
			if err := d.doc.Validate(p.Schema, text); err != nil {
				d.t.Errorf("%s %s: %s: %v", method, pattern, p.Name, err)
			}
		} else if p.Required {
			d.t.Errorf("%s %s needs %s", method, pattern, p.Name)
		}
		switch p.In {
		case "path":
			target = strings.Replace(target, "{"+p.Name+"}", url.PathEscape(value), 1)
		case "header":
			if given.Has(p.Name) {
				headers = append(headers, p.Name, value)
			}
		case "query":
			continue
		}
		given.Del(p.Name)
	}
	if len(given) > 0 {
		target += "?" + given.Encode()
	}
	body := example
	if op.RequestBody != nil {
		if content, ok := op.RequestBody.Content["application/json"]; ok && example != "" {
			found, ok := content.Examples[example]
			if !ok {
				d.t.Fatalf("%s %s has no example %s", method, pattern, example)
			}
			d.seen[method+" "+pattern+" "+example] = true
			body = string(found.Value)
		}
	}
	r := d.ask(method, target, body, headers...)
	answer := text(d.t, r)
	if r.StatusCode != status {
		d.t.Fatalf("%s %s: %d %v %s, want %d", method, target, r.StatusCode, r.Header, answer, status)
	}
	response, listed := d.doc.Answer(op, status)
	if !listed && status < 400 {
		d.t.Errorf("%s %s: %d is not described", method, pattern, status)
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	content, ok := response.Content[media]
	switch {
	case !ok && len(response.Content) > 0:
		d.t.Errorf("%s %s: %d with %s is not described", method, pattern, status, media)
	case media == "application/json" && content.Schema.Type != "object":
		if err := d.doc.Validate(content.Schema, []byte(answer)); err != nil {
			d.t.Errorf("%s %s: %v: %s", method, pattern, err, answer)
		}
		if s := d.doc.Resolve(content.Schema); s != nil && s.Properties != nil {
			for name := range gjson.Parse(answer).Map() {
				if s.Properties[name] == nil {
					d.t.Errorf("%s %s: %d: %s is not described: %s", method, pattern, status, name, answer)
				}
			}
		}
	}
	return gjson.Parse(answer)
}

// TestOpenAPIRuns carries out every operation and every example of the
// description against a sandbox.
func TestOpenAPIRuns(t *testing.T) {
	doc, err := openapi.Parse(resource.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	d := &described{newGateway(t, false), doc, map[string]bool{}}
	const (
		checkout, order = "/gateway/checkout", "/gateway/orders/{out_trade_no}"
		refunds, refund = "/gateway/refunds", "/gateway/refunds/{out_refund_no}"
		n, r            = "out_trade_no=N20261122001", "out_refund_no=R20261122001"
	)
	d.run("GET", "/gateway/openapi.json", "", "", 200)

	d.run("POST", checkout, "native", "", 201)
	d.run("POST", checkout, "native", "", 200)
	if kept := d.run("POST", checkout, "replacing", "", 200); kept.Get("out_trade_no").String() != "N20261122001" {
		t.Error(kept)
	}
	for _, way := range []string{"jsapi", "miniprogram", "app"} {
		d.invoked(d.run("POST", checkout, way, "", 201))
	}
	d.run("POST", checkout, "h5", "", 201)
	combined := d.run("POST", checkout, "combined", "Idempotency-Key=order-1", 201)
	d.run("POST", checkout, "combined", "Idempotency-Key=order-1", 201)

	d.run("GET", order, "", n, 200)
	d.run("GET", order, "", n+"&fresh=1", 200)
	d.run("GET", order, "", "out_trade_no=N20261122000", 404)
	d.run("GET", order+"/qr.png", "", n, 200)
	d.run("GET", order+"/qr.svg", "", n+"&size=600", 200)
	d.run("PUT", order, "basic", "out_trade_no=N20261122101", 201)
	d.run("PUT", order, "basic", "out_trade_no=N20261122101", 200)
	d.run("PUT", order, "combined", "out_trade_no=N20261122102", 201)

	number := combined.Get("out_trade_no").String()
	d.run("POST", order+"/close", "empty", "Idempotency-Key=close-1&out_trade_no="+number, 202)
	d.old(storage.OrderKey{Mchid: mchid, Number: number})
	d.run("POST", order+"/close", "empty", "out_trade_no="+number, 200)
	d.run("GET", order+"/qr.png", "", "out_trade_no="+number, 410)

	if _, err := d.platform.Pay("N20261122001", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	d.run("POST", order+"/close", "", n, 202)
	d.old(storage.OrderKey{Mchid: mchid, Number: "N20261122001"})
	d.run("POST", order+"/close", "", n, 409)
	if paid := d.run("POST", checkout, "replacing", "", 409); paid.Get("detail.order.state").String() != "paid" {
		t.Error(paid)
	}
	d.run("POST", order+"/refunds", "part", n, 201)
	d.run("POST", order+"/refunds", "part", n, 200)
	d.run("POST", refunds, "whole", "", 409)
	d.run("POST", refunds, "unknown to the ledger", "", 404)
	d.run("GET", refund, "", r, 200)
	d.run("GET", refund, "", r+"&fresh=1", 200)
	d.run("GET", refund, "", "out_refund_no=R0", 404)

	const entries, entry = "/gateway/parking/entries", "/gateway/parking/entries/{out_parking_no}"
	d.run("GET", "/gateway/parking/services", "", "plate_number=粤B888888&plate_color=BLUE&openid="+payerOpenid, 200)
	d.run("POST", entries, "car", "Idempotency-Key=car-1", 201)
	d.run("POST", entries, "car", "", 200)
	d.run("POST", entries, "again, forced", "", 201)
	d.run("GET", entry, "", "out_parking_no=IN20261122001", 200)
	d.run("GET", entry, "", "out_parking_no=IN0", 404)
	if left := d.run("POST", "/gateway/parking/exits", "car", "", 200); left.Get("release").Bool() || left.Get("outcome").String() != "blocked" {
		t.Error(left)
	}
	d.run("POST", "/gateway/parking/exits", "careful", "", 404)

	today := "date=" + time.Now().In(time.FixedZone("CST", 8*60*60)).Format("2006-01-02")
	d.run("GET", "/gateway/bills/trade", "", today, 200)
	d.run("GET", "/gateway/bills/trade", "", today+"&type=SUCCESS", 200, "Accept", "application/json")
	d.run("GET", "/gateway/bills/fundflow", "", today, 200, "Accept", "application/json")

	d.run("GET", "/gateway/openid/authorize", "", "redirect_uri=https%3A%2F%2Fshop.example.com%2Fback&state=s1", 200)
	d.run("GET", "/gateway/openid/authorize", "", "redirect_uri=https%3A%2F%2Fshop.example.com%2Fback&redirect=1", 302)
	d.run("POST", "/gateway/openid", "code", "", 400)
	d.run("POST", "/gateway/crypto/verify", "stale", "", 200)
	d.run("POST", "/gateway/crypto/encrypt", "name", "", 200)
	d.run("POST", "/gateway/crypto/decrypt", "foreign", "", 400)
	d.run("POST", "/gateway/crypto/invoke", "jsapi", "", 200)
	d.run("POST", "/gateway/crypto/invoke", "app", "", 200)
	d.run("POST", "/gateway/media/images", "\x89PNG\r\n\x1a\n", "filename=shop.png", 200, "Content-Type", "image/png")
	d.run("POST", "/gateway/media/videos", "\x00\x00\x00\x18ftypmp42", "filename=shop.mp4", 200, "Content-Type", "video/mp4")

	for _, route := range resource.Table() {
		name := route.Method + " " + route.Pattern
		if !d.seen[name] {
			t.Errorf("%s was not run", name)
		}
		body := doc.Paths[route.Pattern][strings.ToLower(route.Method)].RequestBody
		if body == nil {
			continue
		}
		for example := range body.Content["application/json"].Examples {
			if !d.seen[name+" "+example] {
				t.Errorf("%s: the example %s was not run", name, example)
			}
		}
	}
}

// TestGatewayInSandbox goes from a checkout to a refund, of every kind and in
// every way, against a platform that shares no code with the gateway.
func TestGatewayInSandbox(t *testing.T) {
	const sub = "1900000109"
	for _, serviceProvider := range []bool{false, true} {
		s := newGateway(t, serviceProvider)
		if err := s.platform.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundProcessing, Count: 100}); err != nil {
			t.Fatal(err)
		}
		kinds := map[string]string{"basic": `"amount":{"total":100}`, "combine": `"sub_orders":[{"amount":{"total_amount":60}},{"amount":{"total_amount":40}}]`}
		if serviceProvider {
			kinds = map[string]string{
				"partner": `"amount":{"total":100},"sub_mchid":"` + sub + `"`,
				"combine": `"sub_orders":[{"sub_mchid":"` + sub + `","amount":{"total_amount":100}}]`,
			}
		}
		for kind, terms := range kinds {
			for _, way := range []string{"native", "jsapi", "miniprogram", "app", "h5"} {
				t.Run(fmt.Sprint(kind, " ", way, " ", serviceProvider), func(t *testing.T) {
					s.t = t
					who := `,"payer_client_ip":"14.17.22.32"`
					if way == "jsapi" || way == "miniprogram" {
						who = `,"openid":"o` + way + `"`
					}
					view := gjson.Parse(s.do("POST", checkoutPath, `{"way":"`+way+`","description":"图书",`+terms+who+`}`, 201))
					number, payment, query := view.Get("out_trade_no").String(), view.Get("out_trade_no").String(), ""
					if kind == "partner" {
						query = "?sub_mchid=" + sub
					}
					if view.Get("kind").String() != kind || view.Get("state").String() != "created" {
						t.Error(view)
					}
					switch way {
					case "native":
						r := s.ask("GET", view.Get("qr.svg").String(), "")
						if _, err := s.platform.Pay(view.Get("code_url").String(), sandbox.Faults{}); err != nil || r.StatusCode != 200 {
							t.Fatal(err, r.StatusCode)
						}
					case "h5":
						if _, err := s.platform.Pay(number, sandbox.Faults{}); err != nil || !strings.HasPrefix(view.Get("h5_url").String(), "https://wx.tenpay.com/") {
							t.Fatal(err, view)
						}
					default:
						s.invoked(view)
					}
					if state := gjson.Get(s.do("GET", ordersPath+number+query, "", 200), "state").String(); state != "created" {
						t.Error(state)
					}
					shown := gjson.Parse(s.do("GET", ordersPath+number+"?fresh=1"+strings.Replace(query, "?", "&", 1), "", 200))
					if shown.Get("state").String() != "paid" {
						t.Error(shown)
					}
					body := `{"amount":{"refund":40},"reason":"退货"`
					if kind == "combine" {
						first := shown.Get("sub_orders.0")
						payment = first.Get("out_trade_no").String()
						if first.Get("sub_mchid").Exists() {
							query = "?sub_mchid=" + sub
						}
						r := s.ask("POST", ordersPath+number+"/refunds", body+`,"out_refund_no":"whole"}`)
						if r.Header.Get("Wechatpay-Gateway-Refused") != "refund_combine" {
							t.Error(r.StatusCode, r.Header)
						}
					}
					r := s.ask("POST", ordersPath+payment+"/refunds"+query, body+"}", "Idempotency-Key", way+kind)
					refund := gjson.Parse(text(t, r))
					if r.StatusCode != 201 || refund.Get("state").String() != "processing" {
						t.Fatal(r.StatusCode, r.Header, refund)
					}
					if again := s.ask("POST", ordersPath+payment+"/refunds"+query, body+"}", "Idempotency-Key", way+kind); text(t, again) != refund.Raw {
						t.Error(again.StatusCode)
					}
					out := refund.Get("out_refund_no").String()
					if _, err := s.platform.SettleRefund(out, sandbox.RefundSuccess, sandbox.Faults{}); err != nil {
						t.Fatal(err)
					}
					target := r.Header.Get("Location")
					if state := gjson.Get(s.do("GET", target, "", 200), "state").String(); state != "processing" {
						t.Error(state)
					}
					if strings.Contains(target, "?") {
						target += "&fresh=1"
					} else {
						target += "?fresh=1"
					}
					if state := gjson.Get(s.do("GET", target, "", 200), "state").String(); state != "success" {
						t.Error(state)
					}
				})
			}
		}
	}
}

// TestReplaceInSandbox: old orders are closed, or paid, at the platform itself.
func TestReplaceInSandbox(t *testing.T) {
	s := newGateway(t, false)
	combine := `"sub_orders":[{"amount":{"total_amount":60}},{"amount":{"total_amount":40}}]`
	for i, terms := range []string{`"amount":{"total":100}`, combine} {
		for _, paid := range []bool{false, true} {
			old := fmt.Sprintf("OLD%d%v", i, paid)
			s.do("POST", checkoutPath, `{"way":"native","description":"x","out_trade_no":"`+old+`",`+terms+`}`, 201)
			if paid {
				if _, err := s.platform.Pay(old, sandbox.Faults{}); err != nil {
					t.Fatal(err)
				}
			}
			s.old(storage.OrderKey{Mchid: mchid, Number: old})
			status := map[bool]int{false: 201, true: 409}[paid]
			view := gjson.Parse(s.do("POST", checkoutPath, `{"way":"app","description":"x","replaces":"`+old+`",`+terms+`}`, status))
			state := storage.OrderClosed
			if paid {
				state = storage.OrderPaid
			} else if view.Get("replaced.state").String() != "closed" {
				t.Error(view)
			}
			s.state(old, state)
			if _, err := s.platform.Pay(old, sandbox.Faults{}); err == nil {
				t.Error("the old order can still be paid")
			}
		}
	}
	orders := []string{}
	for _, o := range s.platform.Callbacks() {
		orders = append(orders, o.OutTradeNo)
	}
	if slices.Sort(orders); len(orders) != 2 {
		t.Error(orders)
	}
}
