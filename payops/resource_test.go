package payops_test

import (
	"fmt"
	"image/png"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/credentials"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/signers"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// TestQR: a code as long as it opens something, for who may see it.
func TestQR(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	_, view := g.checkout(oldCheckout, 201)
	for _, link := range []string{view.Get("qr.png").String(), view.Get("qr.png").String() + "?size=120"} {
		r := g.do("GET", link, "", "Authorization", "Bearer pay-token")
		picture, err := png.Decode(strings.NewReader(text(t, r)))
		if err != nil || r.StatusCode != 200 || r.Header.Get("Content-Type") != "image/png" || r.Header.Get("Cache-Control") != "no-store" {
			t.Fatal(link, r.StatusCode, r.Header, err)
		}
		if strings.HasSuffix(link, "120") != (picture.Bounds().Dx() == 120) {
			t.Error(picture.Bounds())
		}
	}
	r := g.do("GET", view.Get("qr.svg").String(), "", "Authorization", "Bearer query-token")
	if body := text(t, r); r.StatusCode != 200 || r.Header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(body, "<svg") {
		t.Error(r.StatusCode, r.Header, body)
	}
	g.refused("another caller", g.do("GET", view.Get("qr.png").String(), "", "Authorization", "Bearer refund-token"), 403, payops.RuleNotAllowed)
	g.refused("another caller, no order", g.do("GET", ordersPath+"N20261129/qr.png", "", "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)
	g.refused("no order", g.do("GET", ordersPath+"N20261129/qr.png", ""), 404, payops.RuleOrderNotFound)
	for _, query := range []string{"?size=119", "?size=1201", "?size=x", "?size=1&size=2", "?a=1"} {
		g.refused(query, g.do("GET", ordersPath+"N20261121/qr.png"+query, ""), 400, payops.RulePath)
	}
	g.refused("body", g.do("GET", ordersPath+"N20261121/qr.png", "x"), 400, payops.RuleBody)

	g.checkout(`{"way":"app","description":"x","out_trade_no":"N20261122","amount":{"total":1}}`, 201)
	g.refused("an app's order", g.do("GET", ordersPath+"N20261122/qr.svg", ""), 404, "qr_absent")
	g.offset = 2*time.Hour - time.Minute
	if r := g.do("GET", ordersPath+"N20261121/qr.png", ""); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	g.offset = 2 * time.Hour
	g.refused("after two hours", g.do("GET", ordersPath+"N20261121/qr.png", ""), 410, "qr_gone")
	g.offset = 0
	for _, state := range []storage.OrderState{storage.OrderPaid, storage.OrderClosed, storage.OrderRejected} {
		g.setState("N20261121", state)
		g.refused(string(state), g.do("GET", ordersPath+"N20261121/qr.png", ""), 410, "qr_gone")
	}
	at := time.Now().Add(time.Minute)
	g.checkout(`{"way":"native","description":"x","out_trade_no":"N20261123","amount":{"total":1},"time_expire":"`+at.Format(time.RFC3339)+`"}`, 201)
	if r := g.do("GET", ordersPath+"N20261123/qr.png", ""); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	g.offset = time.Minute
	g.refused("expired", g.do("GET", ordersPath+"N20261123/qr.png", ""), 410, "qr_gone")
}

// TestShowFresh: ?fresh=1 asks now, and does not pass off what it could not ask.
func TestShowFresh(t *testing.T) {
	l := &life{state: "NOTPAY"}
	g := newRig(t, rigOptions{answer: l.answer})
	g.checkout(oldCheckout, 201)
	l.state = "SUCCESS"
	show := func(query string) (int, string) {
		r := g.do("GET", ordersPath+"N20261121"+query, "", "Authorization", "Bearer query-token")
		return r.StatusCode, gjson.Get(text(t, r), "state").String()
	}
	if status, state := show(""); status != 200 || state != "created" || l.queries != 0 {
		t.Error(status, state)
	}
	l.query = &reply{status: 500}
	if status, _ := show("?fresh=1"); status != 502 {
		t.Error(status)
	}
	l.query = nil
	if status, state := show("?fresh=1"); status != 200 || state != "paid" {
		t.Error(status, state)
	}
	if status, state := show(""); status != 200 || state != "paid" || l.queries != 2 {
		t.Error(status, state, l.queries)
	}
	if status, _ := show("?fresh=0"); status != 400 {
		t.Error(status)
	}
	g.refused("unknown", g.do("GET", ordersPath+"N20261129?fresh=1", ""), 404, payops.RuleOrderNotFound)
	g.orderIn(storage.Order{Key: storage.OrderKey{Mchid: mchid, Number: "PARKING"}, Kind: storage.OrderParking, State: storage.OrderRegistered, Origin: storage.OriginRegistered})
	g.refused("parking", g.do("GET", ordersPath+"PARKING?fresh=1", ""), 400, payops.RulePath)
	g.refused("body", g.do("GET", ordersPath+"N20261121", "{}"), 400, payops.RuleBody)
	g.refused("caller", g.do("GET", ordersPath+"N20261121", "", "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)
}

const refundsPath = "/gateway/refunds"

// refunding answers applications and queries of refunds.
type refunding struct {
	status string
	apply  *reply

	amount, total int64 // of the last application
}

func (f *refunding) answer(g got) reply {
	body := g.body
	if g.method == http.MethodGet {
		number := g.uri[strings.LastIndexByte(g.uri, '/')+1:]
		number, _, _ = strings.Cut(number, "?")
		body = fmt.Sprintf(`{"out_refund_no":%q,"out_trade_no":"N20261121","amount":{"refund":%d,"total":%d}}`, number, f.amount, f.total)
	} else {
		f.amount, f.total = gjson.Get(body, "amount.refund").Int(), gjson.Get(body, "amount.total").Int()
		if f.apply != nil {
			return *f.apply
		}
	}
	return reply{status: 200, body: fmt.Sprintf(`{"refund_id":"50000000382019052709732678859","out_refund_no":%q,"transaction_id":"4200000001","out_trade_no":%q,"status":%q,"amount":{"total":%d,"refund":%d,"currency":"CNY"}}`,
		gjson.Get(body, "out_refund_no").String(), gjson.Get(body, "out_trade_no").String(), f.status, gjson.Get(body, "amount.total").Int(), gjson.Get(body, "amount.refund").Int())}
}

// TestRefundResource: applied for once, seen as the ledger has it, successful by
// a query alone.
func TestRefundResource(t *testing.T) {
	f := &refunding{status: "SUCCESS"}
	g := newRig(t, rigOptions{answer: f.answer})
	g.paid("N20261121", 100)
	body := `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":40},"reason":"退货"}`
	r := g.do("POST", refundsPath, body)
	view := gjson.Parse(text(t, r))
	if r.StatusCode != 201 || r.Header.Get("Location") != refundsPath+"/R1" || view.Get("state").String() != "processing" ||
		view.Get("amount").Raw != `{"refund":40,"total":100,"currency":"CNY"}` || view.Get("out_trade_no").String() != "N20261121" {
		t.Error(r.StatusCode, r.Header, view)
	}
	sent := g.wx.requests()
	if want := `{"out_trade_no":"N20261121","out_refund_no":"R1","reason":"退货","amount":{"refund":40,"total":100,"currency":"CNY"},"notify_url":"` + notifyURL + `"}`; len(sent) != 1 ||
		sent[0].uri != "/v3/refund/domestic/refunds" || sent[0].body != want {
		t.Errorf("%+v\n%s", sent, want)
	}
	if r := g.do("POST", refundsPath, body); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	g.refused("another amount", g.do("POST", refundsPath, strings.Replace(body, "40", "41", 1)), 409, payops.Rule(guard.RefundContent))
	for _, tc := range [][2]string{{"", "processing"}, {"?fresh=1", "success"}, {"", "success"}} {
		r = g.do("GET", refundsPath+"/R1"+tc[0], "", "Authorization", "Bearer query-token")
		if got := gjson.Get(text(t, r), "state").String(); r.StatusCode != 200 || got != tc[1] {
			t.Error(tc, r.StatusCode, got)
		}
	}
	// By the order's own path, without a number of its own.
	g.offset = 2 * time.Minute
	r = g.do("POST", ordersPath+"N20261121/refunds", `{"amount":{"refund":60}}`, "Idempotency-Key", "k")
	view = gjson.Parse(text(t, r))
	if r.StatusCode != 201 || len(view.Get("out_refund_no").String()) != 30 {
		t.Error(r.StatusCode, view)
	}
	again := g.do("POST", ordersPath+"N20261121/refunds", `{"amount":{"refund":60}}`, "Idempotency-Key", "k")
	if text(t, again) != view.Raw || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Error(again.Header)
	}
	g.offset = 4 * time.Minute
	g.refused("more than was paid", g.do("POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R3","amount":{"refund":1}}`), 409, payops.Rule(guard.RefundTotal))
}

// TestRefundResourceRejected: a refund that failed is applied for again with the
// number that the gateway made, under its key; a new key is told which number it is.
func TestRefundResourceRejected(t *testing.T) {
	for _, status := range []int{400, 403, 404, 409} {
		f := &refunding{status: "PROCESSING", apply: &reply{status: status, body: `{"code":"PARAM_ERROR","message":"x"}`}}
		g := newRig(t, rigOptions{answer: f.answer})
		g.paid("N20261121", 100)
		refund := func(key string) *http.Response {
			return g.do("POST", ordersPath+"N20261121/refunds", `{"amount":{"refund":60}}`, "Idempotency-Key", key)
		}
		r := refund("k")
		where := r.Header.Get("Location")
		if r.StatusCode != status || where == "" {
			t.Fatal(r.StatusCode, r.Header)
		}
		r = refund("k")
		if r.StatusCode != status || r.Header.Get("Location") != where || r.Header.Get("Idempotency-Replayed") != "" || len(g.wx.requests()) != 2 {
			t.Error(r.StatusCode, r.Header)
		}
		g.offset = time.Hour
		number := strings.TrimPrefix(where, refundsPath+"/")
		r = refund("another")
		body := text(t, r)
		if r.StatusCode != 409 || r.Header.Get("Wechatpay-Gateway-Refused") != string(guard.RefundSameNumber) || !strings.HasSuffix(gjson.Get(body, "message").String(), ": "+number) {
			t.Error(r.StatusCode, body, number)
		}
		f.apply = nil
		r = refund("k")
		if got := gjson.Get(text(t, r), "out_refund_no").String(); r.StatusCode != 201 || got != number {
			t.Error(r.StatusCode, got)
		}
		if r = refund("k"); r.StatusCode != 201 || r.Header.Get("Idempotency-Replayed") != "true" {
			t.Error("a refund that was taken:", r.StatusCode, r.Header)
		}
	}
}

// TestRefundPaths: which operation refunds what.
func TestRefundPaths(t *testing.T) {
	const domestic, ecommerce = "/v3/refund/domestic/refunds", "/v3/ecommerce/refunds/apply"
	for _, tc := range []struct{ kind, body, path, total string }{
		{"basic", `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1}}`, domestic, "100"},
		{"partner", `{"out_trade_no":"N20261121","sub_mchid":"1900000109","out_refund_no":"R1","amount":{"refund":1}}`, domestic, "100"},
		{"partner", `{"out_trade_no":"N20261121","sub_mchid":"1900000109","out_refund_no":"R1","amount":{"refund":1},"via":"ecommerce"}`, ecommerce, "100"},
		{"combine", `{"out_trade_no":"S00001","out_refund_no":"R1","amount":{"refund":1}}`, domestic, "60"},
		{"combine", `{"out_trade_no":"S00002","sub_mchid":"1900000109","out_refund_no":"R1","amount":{"refund":1}}`, ecommerce, "40"},
		{"combine", `{"out_trade_no":"S00002","sub_mchid":"1900000109","out_refund_no":"R1","amount":{"refund":1},"via":"domestic"}`, domestic, "40"},
		{"none", `{"out_trade_no":"S00009","out_refund_no":"R1","amount":{"refund":1,"total":7,"currency":"USD"}}`, domestic, "7"},
	} {
		f := &refunding{status: "PROCESSING"}
		g := newRig(t, rigOptions{answer: f.answer})
		o := storage.Order{Key: storage.OrderKey{Mchid: mchid, Number: "N20261121"}, State: storage.OrderPaid, Kind: storage.OrderKind(tc.kind), Amount: storage.Money{Total: 100, Currency: "CNY"}, PaidAt: time.Now()}
		switch tc.kind {
		case "partner":
			o.Key.SubMchid = "1900000109"
		case "combine":
			o.Subs = []storage.SubOrder{
				{Mchid: mchid, OutTradeNo: "S00001", Amount: storage.Money{Total: 60, Currency: "CNY"}},
				{Mchid: mchid, SubMchid: "1900000109", OutTradeNo: "S00002", Amount: storage.Money{Total: 40, Currency: "CNY"}},
			}
		}
		if tc.kind != "none" {
			g.orderIn(o)
		}
		r := g.do("POST", refundsPath, tc.body)
		if r.StatusCode != 201 {
			t.Error(tc.body, r.StatusCode, text(t, r))
			continue
		}
		sent := g.wx.requests()
		if last := sent[len(sent)-1]; last.uri != tc.path || gjson.Get(last.body, "amount.total").Raw != tc.total {
			t.Errorf("%s: %+v", tc.body, last)
		}
		if location := r.Header.Get("Location"); strings.Contains(tc.body, "sub_mchid") != strings.HasSuffix(location, "?sub_mchid=1900000109") {
			t.Error(location)
		} else if r := g.do("GET", strings.Replace(location+"&fresh=1", "R1&", "R1?", 1), ""); r.StatusCode != 200 {
			t.Error(location, r.StatusCode, text(t, r))
		}
		// Asked for where it was applied for.
		sent = g.wx.requests()
		if last := sent[len(sent)-1]; last.method != "GET" || strings.HasPrefix(last.uri, "/v3/ecommerce/refunds/out-refund-no/R1") != (tc.path == ecommerce) {
			t.Errorf("%s: %+v", tc.body, last)
		}
	}
}

func TestRefundResourceRefuses(t *testing.T) {
	f := &refunding{status: "PROCESSING"}
	g := newRig(t, rigOptions{answer: f.answer})
	g.paid("N20261121", 100)
	g.orderIn(storage.Order{
		Key: storage.OrderKey{Mchid: mchid, Number: "C1"}, State: storage.OrderPaid, Kind: storage.OrderCombine, Amount: storage.Money{Total: 100, Currency: "CNY"}, PaidAt: time.Now(),
		Subs: []storage.SubOrder{{Mchid: mchid, OutTradeNo: "S00001", Amount: storage.Money{Total: 100, Currency: "CNY"}}},
	})
	for _, tc := range []struct {
		method, target, body string
		status               int
		rule                 string
	}{
		{"POST", refundsPath, ``, 400, "body"},
		{"POST", refundsPath, `{}`, 400, "number"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","amount":{"refund":1}}`, 400, "idempotency_key"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1"}`, 400, "amount"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":0}}`, 400, "amount"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":-1}}`, 400, "amount"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1.5}}`, 400, "amount"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":"1"}}`, 400, "amount"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":1}`, 400, "body"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":101}}`, 409, "refund_total"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1,"total":99}}`, 409, "refund_total"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1,"currency":"USD"}}`, 409, "refund_currency"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1},"transaction_id":"1"}`, 400, "body"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R 1","amount":{"refund":1}}`, 400, "number"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"` + strings.Repeat("R", 65) + `","amount":{"refund":1}}`, 400, "number"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","sub_mchid":"x","out_refund_no":"R1","amount":{"refund":1}}`, 400, "mchid"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1},"via":"post"}`, 400, "body"},
		{"POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1},"notify_url":"https://a.example.com/?x"}`, 400, "notify_url"},
		{"POST", refundsPath, `{"out_trade_no":"N20261129","out_refund_no":"R1","amount":{"refund":1}}`, 404, "order_not_found"},
		{"POST", refundsPath, `{"out_trade_no":"C1","out_refund_no":"R1","amount":{"refund":1}}`, 409, "refund_combine"},
		{"POST", refundsPath + "?a=1", `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1}}`, 400, "path"},
		{"POST", ordersPath + "N20261121/refunds", `{"out_trade_no":"N20261120","out_refund_no":"R1","amount":{"refund":1}}`, 400, "number"},
		{"POST", ordersPath + "N20261121/refunds", `{"sub_mchid":"1900000109","out_refund_no":"R1","amount":{"refund":1}}`, 400, "number"},
		{"GET", refundsPath + "/R1", ``, 404, "refund_not_found"},
		{"GET", refundsPath + "/R1?fresh=1", ``, 404, "refund_not_found"},
		{"GET", refundsPath + "/R1?fresh=2", ``, 400, "path"},
		{"GET", refundsPath + "/R1?sub_mchid=", ``, 400, "path"},
		{"GET", refundsPath + "/R1", `{}`, 400, "body"},
		{"GET", refundsPath + "/" + strings.Repeat("R", 65), ``, 400, "number"},
		{"GET", refundsPath + "/a%2Fb", ``, 400, "number"},
	} {
		g.refused(tc.target+tc.body, g.do(tc.method, tc.target, tc.body), tc.status, payops.Rule(tc.rule))
	}
	g.refused("caller", g.do("POST", refundsPath, `{"out_trade_no":"N20261121","out_refund_no":"R1","amount":{"refund":1}}`, "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)
	if n := len(g.wx.requests()); n != 0 {
		t.Errorf("%d requests reached WeChat Pay", n)
	}
	// An unknown outcome names the number, and keeps it.
	f.apply = &reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
	r := g.do("POST", refundsPath, `{"out_trade_no":"N20261121","amount":{"refund":1}}`, "Idempotency-Key", "k")
	location := r.Header.Get("Location")
	if r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" || !strings.HasPrefix(location, refundsPath+"/20") {
		t.Error(r.StatusCode, r.Header)
	}
	f.apply = nil
	if r = g.do("POST", refundsPath, `{"out_trade_no":"N20261121","amount":{"refund":1}}`, "Idempotency-Key", "k"); r.StatusCode != 200 || r.Header.Get("Location") != location {
		t.Error(r.StatusCode, r.Header, text(t, r))
	}
	if len(g.ledger.refunds) != 1 {
		t.Error(len(g.ledger.refunds))
	}
}

// TestResourcesOfLimitedCallers: a caller that is limited to a sub-merchant is so
// here too, and so are its refunds.
func TestResourcesOfLimitedCallers(t *testing.T) {
	f := &refunding{status: "PROCESSING"}
	g := newRig(t, rigOptions{
		answer: func(x got) reply {
			if strings.Contains(x.uri, "refund") {
				return f.answer(x)
			}
			return openings(x)
		},
		limits: map[string]guard.Limit{"all": {SubMchids: []string{"1900000109"}, RefundPerOrder: 50}},
	})
	g.refused("none", g.do("POST", checkoutPath, oldCheckout), 403, payops.Rule(guard.LimitSubMchid))
	g.refused("another", g.do("POST", checkoutPath, strings.Replace(oldCheckout, `"way"`, `"sub_mchid":"1900000110","way"`, 1)), 403, payops.Rule(guard.LimitSubMchid))
	g.checkout(strings.Replace(oldCheckout, `"way"`, `"sub_mchid":"1900000109","way"`, 1), 201)
	for _, target := range []string{ordersPath + "N20261121", ordersPath + "N20261121/qr.png", refundsPath + "/R1"} {
		g.refused(target, g.do("GET", target, ""), 403, payops.Rule(guard.LimitSubMchid))
	}
	if r := g.do("GET", ordersPath+"N20261121?sub_mchid=1900000109", ""); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	if r := g.do("GET", "/gateway/openapi.json", ""); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	key := storage.OrderKey{Mchid: mchid, SubMchid: "1900000109", Number: "N20261121"}
	o := g.ledger.orders[key]
	o.State, o.PaidAt = storage.OrderPaid, time.Now()
	g.ledger.orders[key] = o
	g.refused("over the limit", g.do("POST", ordersPath+"N20261121/refunds?sub_mchid=1900000109", `{"out_refund_no":"R1","amount":{"refund":51}}`), 403, payops.Rule(guard.LimitRefundPerOrder))
	if r := g.do("POST", ordersPath+"N20261121/refunds?sub_mchid=1900000109", `{"out_refund_no":"R1","amount":{"refund":50}}`); r.StatusCode != 201 {
		t.Error(r.StatusCode, text(t, r))
	}
}

// TestResourcesByOwnKey: a request signed with a caller's key is authenticated
// over its own path and body.
func TestResourcesByOwnKey(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	body := `{"way":"native","description":"x","out_trade_no":"N20261121","amount":{"total":100}}`
	r := newRequest(t.Context(), "POST", checkoutPath, body)
	r.Header.Set("Authorization", storeSigned(t, "POST", checkoutPath, body))
	if r := g.serve(r); r.StatusCode != 201 {
		t.Error(r.StatusCode, text(t, r))
	}
	r = newRequest(t.Context(), "POST", checkoutPath, strings.Replace(body, "100", "1", 1))
	r.Header.Set("Authorization", storeSigned(t, "POST", checkoutPath, body))
	g.refused("another body", g.serve(r), 401, payops.RuleUnknownCaller)
}

// TestResourceStoreDown: nothing is sent when the store takes no writes.
func TestResourceStoreDown(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	g.ledger.fail = func(storage.Keys) error { return storage.ErrDiskFloor }
	for _, headers := range [][]string{nil, {"Idempotency-Key", "k"}} {
		g.refused("", g.do("POST", checkoutPath, oldCheckout, headers...), 503, payops.RuleStore)
	}
	if n := len(g.wx.requests()); n != 0 {
		t.Error(n)
	}
}

// TestResourceNotReady: keys that are not there yet are no order.
func TestResourceNotReady(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings, mutate: func(c *merchant.Config) {
		c.PublicKeys, c.Certificates = nil, merchant.CertificatesAuto
	}})
	r := g.do("POST", checkoutPath, oldCheckout, "Idempotency-Key", "k")
	g.refused("", r, 503, payops.RuleNotReady)
	if len(g.ledger.orders) != 0 {
		t.Error(g.ledger.orders)
	}
}

// storeSigned is the Authorization of the caller "store", by the official SDK.
func storeSigned(t *testing.T, method, target, body string) string {
	t.Helper()
	c := credentials.WechatPayCredentials{Signer: &signers.SHA256WithRSASigner{
		MchID: mchid, CertificateSerialNo: "5D3A", PrivateKey: keyring().store,
	}}
	h, err := c.GenerateAuthorizationHeader(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
