package payops_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	checkoutPath = "/gateway/checkout"
	miniAppid    = "wx2421b1c4370ec43b"
	mobileAppid  = "wx7777777777777777"
	payerOpenid  = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
	prepayID     = "wx201410272009395522657a690389285100"
	h5URL        = "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=wx2016121516420242444321ca0631331346&package=1405458241"
)

// openings answers every way of creating like WeChat Pay.
func openings(g got) reply {
	switch path := strings.Split(g.uri, "?")[0]; {
	case strings.HasSuffix(path, "/native"):
		return codeURL(g)
	case strings.HasSuffix(path, "/jsapi"), strings.HasSuffix(path, "/app"):
		return reply{status: 200, body: `{"prepay_id":"` + prepayID + `"}`}
	case strings.HasSuffix(path, "/h5"):
		return reply{status: 200, body: `{"h5_url":"` + h5URL + `"}`}
	}
	return reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"订单不存在"}`}
}

func threeApps(c *merchant.Config) {
	c.Apps = []merchant.App{{Appid: appid}, {Appid: miniAppid, Type: merchant.AppMiniProgram}, {Appid: mobileAppid, Type: merchant.AppMobile}}
}

// checkout does one checkout and returns the answer's header and body.
func (g *rig) checkout(body string, status int, headers ...string) (http.Header, gjson.Result) {
	g.t.Helper()
	r := g.do("POST", checkoutPath, body, headers...)
	answer := text(g.t, r)
	if r.StatusCode != status {
		g.t.Fatalf("%s: %d %v %s, want %d", body, r.StatusCode, r.Header, answer, status)
	}
	return r.Header, gjson.Parse(answer)
}

// TestCheckoutWays: what is sent for each way and kind, byte for byte, and what
// the backend gets for its frontend.
func TestCheckoutWays(t *testing.T) {
	const amount = `"amount":{"total":100,"currency":"CNY"}`
	subs := `"sub_orders":[{"out_trade_no":"S00001","amount":{"total_amount":60}},{"mchid":"1900000102","out_trade_no":"S00002","description":"二","attach":"b","amount":{"total_amount":40}}]`
	sentSubs := `"sub_orders":[{"mchid":"1900000001","out_trade_no":"S00001","description":"图书 <1>","attach":"S00001","amount":{"total_amount":60,"currency":"CNY"}},` +
		`{"mchid":"1900000102","out_trade_no":"S00002","description":"二","attach":"b","amount":{"total_amount":40,"currency":"CNY"}}]`
	notify := `,"notify_url":"` + notifyURL + `"}`
	scene := `"scene_info":{"payer_client_ip":"14.17.22.32","h5_info":{"type":"Wap"}}`
	for _, tc := range []struct {
		way, body, path, sent, shows string
	}{
		{
			"native", `"amount":{"total":100}`, "/v3/pay/transactions/native",
			`{"appid":"` + appid + `","mchid":"1900000001","description":"图书 <1>","out_trade_no":"N20261122",` + amount + notify, "code_url",
		},
		{
			"jsapi", `"amount":{"total":100},"openid":"` + payerOpenid + `"`, "/v3/pay/transactions/jsapi",
			`{"appid":"` + appid + `","mchid":"1900000001","description":"图书 <1>","out_trade_no":"N20261122",` + amount + `,"payer":{"openid":"` + payerOpenid + `"}` + notify, "invoke.paySign",
		},
		{
			"miniprogram", `"amount":{"total":100},"openid":"` + payerOpenid + `"`, "/v3/pay/transactions/jsapi",
			`{"appid":"` + miniAppid + `","mchid":"1900000001","description":"图书 <1>","out_trade_no":"N20261122",` + amount + `,"payer":{"openid":"` + payerOpenid + `"}` + notify, "invoke.paySign",
		},
		{
			"app", `"amount":{"total":100}`, "/v3/pay/transactions/app",
			`{"appid":"` + mobileAppid + `","mchid":"1900000001","description":"图书 <1>","out_trade_no":"N20261122",` + amount + notify, "invoke.sign",
		},
		{
			"h5", `"amount":{"total":100},"payer_client_ip":"14.17.22.32"`, "/v3/pay/transactions/h5",
			`{"appid":"` + appid + `","mchid":"1900000001","description":"图书 <1>","out_trade_no":"N20261122",` + amount + `,` + scene + notify, "h5_url",
		},
		{
			"native", `"amount":{"total":100},"sub_mchid":"1900000109","sub_appid":"wxd678efh567hg6787","attach":"x","goods_tag":"g","profit_sharing":true,"time_expire":"2099-01-01T00:00:00+08:00","notify_url":"https://other.example.com/n"`,
			"/v3/pay/partner/transactions/native",
			`{"sp_appid":"` + appid + `","sp_mchid":"1900000001","sub_appid":"wxd678efh567hg6787","sub_mchid":"1900000109","description":"图书 <1>","out_trade_no":"N20261122",` +
				`"time_expire":"2099-01-01T00:00:00+08:00","attach":"x","notify_url":"https://other.example.com/n","goods_tag":"g","settle_info":{"profit_sharing":true},` + amount + `}`, "code_url",
		},
		{
			"jsapi", `"amount":{"total":100},"sub_mchid":"1900000109","sub_appid":"wxd678efh567hg6787","sub_openid":"o2"`, "/v3/pay/partner/transactions/jsapi",
			`{"sp_appid":"` + appid + `","sp_mchid":"1900000001","sub_appid":"wxd678efh567hg6787","sub_mchid":"1900000109","description":"图书 <1>","out_trade_no":"N20261122",` +
				amount + `,"payer":{"sub_openid":"o2"}` + notify, "invoke.paySign",
		},
		{
			"miniprogram", `"amount":{"total":100},"sub_mchid":"1900000109","openid":"` + payerOpenid + `"`, "/v3/pay/partner/transactions/jsapi",
			`{"sp_appid":"` + miniAppid + `","sp_mchid":"1900000001","sub_mchid":"1900000109","description":"图书 <1>","out_trade_no":"N20261122",` +
				amount + `,"payer":{"sp_openid":"` + payerOpenid + `"}` + notify, "invoke.paySign",
		},
		{
			"native", subs, "/v3/combine-transactions/native",
			`{"combine_appid":"` + appid + `","combine_mchid":"1900000001","combine_out_trade_no":"N20261122",` + sentSubs + notify, "code_url",
		},
		{
			"jsapi", subs + `,"openid":"` + payerOpenid + `"`, "/v3/combine-transactions/jsapi",
			`{"combine_appid":"` + appid + `","combine_mchid":"1900000001","combine_out_trade_no":"N20261122",` + sentSubs + `,"combine_payer_info":{"openid":"` + payerOpenid + `"}` + notify, "invoke.paySign",
		},
		{
			"app", subs, "/v3/combine-transactions/app",
			`{"combine_appid":"` + mobileAppid + `","combine_mchid":"1900000001","combine_out_trade_no":"N20261122",` + sentSubs + notify, "invoke.sign",
		},
		{
			"h5", subs + `,"scene_info":{"payer_client_ip":"2001:db8::1","device_id":"d","h5_info":{"type":"iOS","app_name":"n"}}`, "/v3/combine-transactions/h5",
			`{"combine_appid":"` + appid + `","combine_mchid":"1900000001","combine_out_trade_no":"N20261122",` +
				`"scene_info":{"payer_client_ip":"2001:db8::1","device_id":"d","h5_info":{"type":"iOS","app_name":"n"}},` + sentSubs + notify, "h5_url",
		},
	} {
		t.Run(tc.way+" "+tc.path, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: openings, mutate: threeApps})
			h, view := g.checkout(`{"way":"`+tc.way+`","out_trade_no":"N20261122","description":"图书 <1>",`+tc.body+`}`, 201)
			sent := g.wx.requests()
			if len(sent) != 1 || sent[0].uri != tc.path || sent[0].body != tc.sent {
				t.Errorf("sent %+v\nwant %s %s", sent, tc.path, tc.sent)
			}
			if view.Get("out_trade_no").String() != "N20261122" || view.Get("state").String() != "created" || view.Get("way").String() != tc.way ||
				view.Get("amount.total").Int() != 100 || !view.Get(tc.shows).Exists() {
				t.Error(view)
			}
			if h.Get("Wechatpay-Signature") != "" || !strings.HasPrefix(h.Get("Location"), ordersPath+"N20261122") {
				t.Error(h)
			}
			// The same again makes no second order.
			_, again := g.checkout(`{"way":"`+tc.way+`","out_trade_no":"N20261122","description":"图书 <1>",`+tc.body+`}`, 200)
			if again.Get("created_at").String() != view.Get("created_at").String() {
				t.Error(again)
			}
		})
	}
}

// TestCheckoutInvokes: the appid that opens the payment is the one that the payer
// is known under.
func TestCheckoutInvokes(t *testing.T) {
	for body, want := range map[string]string{
		`"way":"jsapi","openid":"o1"`:                                                                             appid,
		`"way":"miniprogram","openid":"o1"`:                                                                       miniAppid,
		`"way":"miniprogram","openid":"o1","appid":"` + appid + `"`:                                               appid,
		`"way":"jsapi","sub_mchid":"1900000109","openid":"o1"`:                                                    appid,
		`"way":"jsapi","sub_mchid":"1900000109","openid":"o1","sub_appid":"wxd678ef0567006787"`:                   appid,
		`"way":"jsapi","sub_mchid":"1900000109","openid":"o1","sub_openid":"o2","sub_appid":"wxd678ef0567006787"`: "wxd678ef0567006787",
		`"way":"app"`: mobileAppid,
		`"way":"app","sub_mchid":"1900000109","sub_appid":"wxd678ef0567006787"`: "wxd678ef0567006787",
	} {
		g := newRig(t, rigOptions{answer: openings, mutate: threeApps})
		_, view := g.checkout(`{"description":"x","out_trade_no":"N20261122","amount":{"total":1},`+body+`}`, 201)
		invoke := view.Get("invoke")
		if got := invoke.Get("appId").String() + invoke.Get("appid").String(); got != want {
			t.Errorf("%s: %s", body, view)
		}
		if invoke.Get("package").String() != "prepay_id="+prepayID && invoke.Get("prepayid").String() != prepayID {
			t.Error(view)
		}
		if o := g.ledger.orders[storage.OrderKey{Mchid: mchid, SubMchid: view.Get("sub_mchid").String(), Number: "N20261122"}]; o.PrepayID != prepayID {
			t.Errorf("%+v", o)
		}
	}
}

// TestCheckoutNumbers: what has no number gets one that no other has.
func TestCheckoutNumbers(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	seen := map[string]bool{}
	for range 50 {
		_, view := g.checkout(`{"way":"native","description":"x","sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":2}}]}`, 201)
		for _, number := range []string{view.Get("out_trade_no").String(), view.Get("sub_orders.0.out_trade_no").String(), view.Get("sub_orders.1.out_trade_no").String()} {
			if len(number) != 30 || seen[number] || !strings.HasPrefix(number, "20") {
				t.Fatal(number, view)
			}
			seen[number] = true
		}
	}
}

// checkoutRefusals are bodies that are refused before anything is sent.
var checkoutRefusals = []struct {
	body   string
	status int
	rule   string
	names  string // the message holds it
}{
	{``, 400, "body", ""},
	{`[]`, 400, "body", "object"},
	{`null`, 400, "body", ""},
	{`"x"`, 400, "body", ""},
	{`{}x`, 400, "body", ""},
	{`{}{}`, 400, "body", ""},
	{"{\"way\":\"\xff\"}", 400, "body", "UTF-8"},
	{`{"way":"native"`, 400, "body", ""},
	{`{}`, 400, "body", "way"},
	{`{"way":"cash","description":"x","amount":{"total":1}}`, 400, "body", "way"},
	{`{"way":"NATIVE","description":"x","amount":{"total":1}}`, 400, "body", "way"},
	{`{"way":1,"description":"x","amount":{"total":1}}`, 400, "body", "way"},
	{`{"way":null,"description":"x","amount":{"total":1}}`, 400, "body", "way"},
	{`{"way":"native","description":"x","amount":{"total":1},"atach":"y"}`, 400, "body", "atach"},
	{`{"way":"native","description":"x","amount":{"total":1},"Attach":"y"}`, 400, "body", "Attach"},
	{`{"way":"native","description":"x","amount":{"totl":1}}`, 400, "body", "amount.totl"},
	{`{"way":"native","description":"x","amount":{"total":1,"refund":1}}`, 400, "body", "amount.refund"},
	{`{"way":"native","description":"x","sub_orders":[{"amount":{"total":1}}]}`, 400, "body", "sub_orders[0].amount.total"},
	{`{"way":"native","description":"x","amount":{"total":1},"":1}`, 400, "body", ""},
	{`{"way":"native","description":"x","amount":{"total":1},"<script>":1}`, 400, "body", "other characters"},
	{`{"way":"native","description":"x","amount":{"total":1},"` + strings.Repeat("a", 200) + `":1}`, 400, "body", "long name"},
	{`{"way":"native","way":"h5","description":"x","amount":{"total":1}}`, 400, "duplicate_key", "way"},
	{`{"way":"native","w\u0061y":"h5","description":"x","amount":{"total":1}}`, 400, "duplicate_key", "way"},
	{`{"way":"native","description":"x","amount":{"total":1,"total":2}}`, 400, "duplicate_key", "amount.total"},
	{`{"way":"native","amount":{"total":1}}`, 400, "body", "description"},
	{`{"way":"native","description":"x"}`, 400, "amount", ""},
	{`{"way":"native","description":"x","amount":null}`, 400, "amount", ""},
	{`{"way":"native","description":"x","amount":100}`, 400, "body", "amount"},
	{`{"way":"native","description":"x","amount":{}}`, 400, "amount", "total"},
	{`{"way":"native","description":"x","amount":{"total":0}}`, 400, "amount", "total"},
	{`{"way":"native","description":"x","amount":{"total":-1}}`, 400, "amount", "total"},
	{`{"way":"native","description":"x","amount":{"total":1.0}}`, 400, "amount", "total"},
	{`{"way":"native","description":"x","amount":{"total":1e2}}`, 400, "amount", "total"},
	{`{"way":"native","description":"x","amount":{"total":"1"}}`, 400, "amount", "total"},
	{`{"way":"native","description":"x","amount":{"total":9223372036854775808}}`, 400, "amount", "total"},
	{`{"way":"native","description":"x","amount":{"total":1,"currency":"cny"}}`, 400, "amount", ""},
	{`{"way":"native","description":"x","amount":{"total":1,"currency":"RMBX"}}`, 400, "amount", ""},
	{`{"way":"native","description":"x","amount":{"total":1,"currency":5}}`, 400, "body", "currency"},
	{`{"way":"native","description":"x","amount":{"total":1},"sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`, 400, "amount", "both"},
	{`{"way":"native","description":"x","sub_orders":[]}`, 400, "amount", ""},
	{`{"way":"native","description":"x","sub_orders":{}}`, 400, "body", "sub_orders"},
	{`{"way":"native","description":"x","sub_orders":[1]}`, 400, "body", "sub_orders[0]"},
	{`{"way":"native","description":"x","sub_orders":[null,null]}`, 400, "amount", ""},
	{`{"way":"native","description":"x","sub_orders":[{"amount":{"total_amount":1}}]}`, 400, "sub_order_count", ""},
	{`{"way":"native","sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`, 400, "body", "description"},
	{`{"way":"native","description":"x","sub_orders":[{"amount":{"total_amount":0}},{"amount":{"total_amount":1}}]}`, 400, "amount", "total_amount"},
	{`{"way":"native","description":"x","sub_orders":[{"amount":{"total_amount":9223372036854775807}},{"amount":{"total_amount":1}}]}`, 400, "amount", "sum"},
	{`{"way":"native","description":"x","sub_orders":[{"mchid":"x","amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`, 400, "mchid", ""},
	{`{"way":"native","description":"x","sub_orders":[{"out_trade_no":"a/b","amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`, 400, "number", ""},
	{`{"way":"native","description":"x","sub_orders":[{"out_trade_no":"S1","amount":{"total_amount":1}},{"out_trade_no":"S1","amount":{"total_amount":1}}]}`, 400, "sub_orders", "same number"},
	{`{"way":"native","description":"x","sub_orders":[{"sub_appid":"a","amount":{"total_amount":1}},{"sub_appid":"b","amount":{"total_amount":1}}]}`, 400, "one_appid", ""},
	{`{"way":"native","description":"x","sub_mchid":"1900000109","sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`, 400, "sub_orders", ""},
	{`{"way":"native","description":"x","profit_sharing":true,"sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`, 400, "sub_orders", ""},
	{`{"way":"native","description":"x","amount":{"total":1},"profit_sharing":"yes"}`, 400, "body", "profit_sharing"},
	{`{"way":"native","description":"x","amount":{"total":1},"out_trade_no":"short"}`, 400, "number", "out_trade_no"},
	{`{"way":"native","description":"x","amount":{"total":1},"out_trade_no":"` + strings.Repeat("9", 33) + `"}`, 400, "number", "out_trade_no"},
	{`{"way":"native","description":"x","amount":{"total":1},"out_trade_no":"N2026/../1"}`, 400, "number", "out_trade_no"},
	{`{"way":"native","description":"x","amount":{"total":1},"out_trade_no":"N2026 1122"}`, 400, "number", "out_trade_no"},
	{`{"way":"native","description":"x","amount":{"total":1},"out_trade_no":"订单订单订单"}`, 400, "number", "out_trade_no"},
	{`{"way":"native","description":"x","amount":{"total":1},"sub_mchid":"19x"}`, 400, "mchid", "sub_mchid"},
	{`{"way":"native","description":"x","amount":{"total":1},"sub_appid":"wx"}`, 400, "body", "sub_appid"},
	{`{"way":"jsapi","description":"x","amount":{"total":1},"sub_mchid":"1900000109","sub_openid":"o"}`, 400, "body", "sub_appid"},
	{`{"way":"jsapi","description":"x","amount":{"total":1}}`, 400, "body", "openid"},
	{`{"way":"miniprogram","description":"x","amount":{"total":1},"openid":""}`, 400, "body", "openid"},
	{`{"way":"jsapi","description":"x","sub_openid":"o","sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`, 400, "body", "openid"},
	{`{"way":"h5","description":"x","amount":{"total":1}}`, 400, "body", "payer_client_ip"},
	{`{"way":"h5","description":"x","amount":{"total":1},"payer_client_ip":"example.com"}`, 400, "body", "payer_client_ip"},
	{`{"way":"h5","description":"x","amount":{"total":1},"payer_client_ip":"fe80::1%eth0"}`, 400, "body", "payer_client_ip"},
	{`{"way":"h5","description":"x","amount":{"total":1},"payer_client_ip":"1.2.3.4","scene_info":{"payer_client_ip":"1.2.3.5"}}`, 400, "body", "differ"},
	{`{"way":"native","description":"x","amount":{"total":1},"scene_info":{"h5_info":{"type":"Wap"}}}`, 400, "body", "h5_info"},
	{`{"way":"native","description":"x","amount":{"total":1},"scene_info":{"ip":"1.2.3.4"}}`, 400, "body", "scene_info.ip"},
	{`{"way":"native","description":"x","scene_info":{"store_info":{"id":"1"}},"sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`, 400, "body", "store_info"},
	{`{"way":"native","description":"x","amount":{"total":1},"time_expire":"tomorrow"}`, 400, "body", "time_expire"},
	{`{"way":"native","description":"x","amount":{"total":1},"time_expire":"2026-11-22 18:27:34"}`, 400, "body", "time_expire"},
	{`{"way":"native","description":"x","amount":{"total":1},"notify_url":"https://pay.example.com/n?a=1"}`, 400, "notify_url", ""},
	{`{"way":"native","description":"x","amount":{"total":1},"notify_url":"http://127.0.0.1/n"}`, 400, "notify_url", ""},
	{`{"way":"native","description":"x","amount":{"total":1},"notify_url":7}`, 400, "body", "notify_url"},
	{`{"way":"native","description":"x","amount":{"total":1},"replaces":"a b"}`, 400, "number", "replaces"},
	{`{"way":"native","description":"x","amount":{"total":1},"out_trade_no":"N20261122","replaces":"N20261122"}`, 400, "number", "replaces"},
	{`{"way":"native","description":"x","amount":{"total":1},"replaces":"N20261121"}`, 404, "order_not_found", "replaced"},
}

func TestCheckoutRefuses(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	for _, tc := range checkoutRefusals {
		r := g.do("POST", checkoutPath, tc.body)
		body := text(t, r)
		if r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Refused") != tc.rule || !strings.Contains(gjson.Get(body, "message").String(), tc.names) ||
			gjson.Get(body, "code").String() == "" {
			t.Errorf("%.120s: %d %s %s, want %d %s %q", tc.body, r.StatusCode, r.Header.Get("Wechatpay-Gateway-Refused"), body, tc.status, tc.rule, tc.names)
		}
	}
	good := `{"way":"native","description":"x","amount":{"total":1}}`
	for _, tc := range []struct {
		target string
		status int
		rule   string
		header []string
	}{
		{checkoutPath + "?a=1", 400, "path", nil},
		{checkoutPath + "?%zz", 400, "path", nil},
		{checkoutPath, 400, "content_type", []string{"Content-Type", "text/plain"}},
		{checkoutPath, 400, "content_type", []string{"Content-Encoding", "gzip"}},
		{checkoutPath, 400, "idempotency_key", []string{"Idempotency-Key", strings.Repeat("k", 129)}},
		{checkoutPath, 400, "idempotency_key", []string{"Idempotency-Key", "a b"}},
		{checkoutPath, 400, "idempotency_key", []string{"Idempotency-Key", "钥匙"}},
		{checkoutPath, 401, "unknown_caller", []string{"Authorization", "Bearer nobody"}},
		{checkoutPath, 403, "not_allowed", []string{"Authorization", "Bearer query-token"}},
		{checkoutPath + "/", 404, "path", nil},
		{"/gateway/Checkout", 404, "path", nil},
		{"/gateway/%63heckout", 404, "path", nil},
		{"/gateway/", 404, "path", nil},
	} {
		g.refused(tc.target+fmt.Sprint(tc.header), g.do("POST", tc.target, good, tc.header...), tc.status, payops.Rule(tc.rule))
	}
	empty := newRequest(t.Context(), "POST", checkoutPath, good)
	empty.Header["Idempotency-Key"] = []string{""}
	g.refused("an empty key", g.serve(empty), 400, "idempotency_key")
	twice := newRequest(t.Context(), "POST", checkoutPath, good)
	twice.Header["Idempotency-Key"] = []string{"a", "b"}
	g.refused("two keys", g.serve(twice), 400, "idempotency_key")
	if n := len(g.wx.requests()); n != 0 {
		t.Errorf("%d requests reached WeChat Pay", n)
	}
	if len(g.ledger.orders) != 0 {
		t.Errorf("the ledger has %d orders", len(g.ledger.orders))
	}
}

func TestGatewayMethods(t *testing.T) {
	g := newRig(t, rigOptions{})
	for target, allow := range map[string]string{
		checkoutPath:                     "POST",
		ordersPath + "N20261122":         "GET, PUT",
		ordersPath + "N20261122/close":   "POST",
		ordersPath + "N20261122/qr.png":  "GET",
		ordersPath + "N20261122/refunds": "POST",
		"/gateway/refunds":               "POST",
		"/gateway/refunds/R1":            "GET",
		"/gateway/openapi.json":          "GET",
	} {
		r := g.do("DELETE", target, "")
		if r.Header.Get("Allow") != allow {
			t.Errorf("%s: %v", target, r.Header)
		}
		g.refused(target, r, 405, payops.RuleMethod)
	}
	for _, target := range []string{"/gateway/", "/gateway/x", "/gateway/orders", "/gateway/orders/N20261122/qr.gif", "/gateway/refunds/R/x", "/gateway/orders/N20261122/close/"} {
		g.refused(target, g.do("GET", target, ""), 404, payops.RulePath)
	}
}

// TestCheckoutGroups: each kind needs its own group, and replacing close as well.
func TestCheckoutGroups(t *testing.T) {
	single, combined := `{"way":"native","description":"x","amount":{"total":1}}`, `{"way":"native","description":"x","sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`
	partner, replacing := strings.Replace(single, `{"way"`, `{"sub_mchid":"1900000109","way"`, 1), strings.Replace(single, `{"way"`, `{"replaces":"N20261121","way"`, 1)
	for allow, want := range map[string][4]int{
		"pay":       {201, 403, 403, 403},
		"combine":   {403, 201, 403, 403},
		"partner":   {403, 403, 201, 403},
		"pay close": {201, 403, 403, 404},
		"query":     {403, 403, 403, 403},
	} {
		callers, err := caller.New(mchid, []caller.Config{{Name: "c", Token: merchant.NewSecret("all-token"), Allow: strings.Fields(allow)}})
		if err != nil {
			t.Fatal(err)
		}
		g := newRig(t, rigOptions{answer: openings, callers: callers})
		for i, body := range []string{single, combined, partner, replacing} {
			if r := g.do("POST", checkoutPath, body); r.StatusCode != want[i] {
				t.Errorf("%s: %s: %d %s", allow, body, r.StatusCode, text(t, r))
			}
		}
	}
}

// TestCheckoutFails: what WeChat Pay refuses comes back as it said it, and an
// unknown outcome names the number.
func TestCheckoutFails(t *testing.T) {
	answer := reply{status: 403, body: `{"code":"NO_AUTH","message":"商户无权限"}`}
	g := newRig(t, rigOptions{answer: func(got) reply { return answer }})
	body := `{"way":"native","description":"x","amount":{"total":1}}`
	r := g.do("POST", checkoutPath, body)
	if got := text(t, r); r.StatusCode != 403 || got != answer.body || r.Header.Get("Wechatpay-Signature") == "" || !strings.HasPrefix(r.Header.Get("Location"), ordersPath) {
		t.Error(r.StatusCode, r.Header, got)
	}
	for _, a := range []reply{{status: 500, body: `{"code":"SYSTEM_ERROR"}`}, {status: 200, body: `{"code_url":"weixin://x"}`, sign: "bad"}, {status: 202, body: `{}`}} {
		answer = a
		r := g.do("POST", checkoutPath, body)
		number := strings.TrimPrefix(r.Header.Get("Location"), ordersPath)
		if r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" || gjson.Get(text(t, r), "code").String() != "SYSTEM_ERROR" {
			t.Error(a, r.StatusCode, r.Header)
		}
		if o := g.order(number); o.State != storage.OrderUnknown {
			t.Errorf("%+v", o)
		}
	}
	// A prepay_id that cannot be signed for opens nothing; the order is there.
	answer = reply{status: 200, body: `{"prepay_id":"../../x"}`}
	if r := g.do("POST", checkoutPath, `{"way":"app","description":"x","amount":{"total":1}}`); r.StatusCode != 500 || r.Header.Get("Location") == "" {
		t.Error(r.StatusCode, r.Header)
	}
}

// TestIdempotencyKey: one key, one request, one order.
func TestIdempotencyKey(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	body := `{"way":"native","description":"x","amount":{"total":1}}`
	key := []string{"Idempotency-Key", "order-7"}
	h, first := g.checkout(body, 201, key...)
	if h.Get("Idempotency-Replayed") != "" {
		t.Error(h)
	}
	h, again := g.checkout(body, 201, key...)
	if h.Get("Idempotency-Replayed") != "true" || again.Raw != first.Raw || h.Get("Location") == "" || h.Get("Content-Type") == "" || len(g.wx.requests()) != 1 {
		t.Error(h, again, len(g.wx.requests()))
	}
	for name, tc := range map[string][2]string{
		"another body":     {checkoutPath, strings.Replace(body, `1}`, `2}`, 1)},
		"another spelling": {checkoutPath, body + " "},
		"another resource": {"/gateway/refunds", `{"out_trade_no":"N20261122","amount":{"refund":1,"total":1}}`},
	} {
		g.refused(name, g.do("POST", tc[0], tc[1], key...), 409, "idempotency_key")
	}
	// Another caller's keys are its own.
	if _, other := g.checkout(body, 201, "Idempotency-Key", "order-7", "Authorization", "Bearer pay-token"); other.Get("out_trade_no").String() == first.Get("out_trade_no").String() {
		t.Error(other)
	}
	// 128 characters are a key; after a week it is free.
	long := strings.Repeat("k", 128)
	_, one := g.checkout(body, 201, "Idempotency-Key", long)
	g.offset = 7*24*time.Hour - time.Minute
	if _, same := g.checkout(body, 201, "Idempotency-Key", long); same.Raw != one.Raw {
		t.Error(same)
	}
	g.offset = 7*24*time.Hour + time.Minute
	if _, other := g.checkout(body, 201, "Idempotency-Key", long); other.Raw == one.Raw {
		t.Error(other)
	}
	for name := range g.ledger.memos {
		if strings.Contains(name, "order-7") || len(name) > storage.MaxMemoKey {
			t.Error(name)
		}
	}
}

// TestIdempotencyKeyFinal: what another try may change is tried again, with the
// same number; what it would not is replayed.
func TestIdempotencyKeyFinal(t *testing.T) {
	body := `{"way":"native","description":"x","amount":{"total":1}}`
	for _, tc := range []struct {
		answer reply
		status int
		final  bool
	}{
		{reply{status: 400, body: `{"code":"PARAM_ERROR","message":"x"}`}, 400, true},
		{reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`}, 404, true},
		{reply{status: 401, body: `{"code":"SIGN_ERROR","message":"x"}`}, 401, false},
		{reply{status: 403, body: `{"code":"NO_AUTH","message":"x"}`}, 403, false},
		{reply{status: 429, body: `{"code":"FREQUENCY_LIMITED","message":"x"}`}, 429, false},
		{reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`}, 500, false},
		{reply{status: 200, body: `{"code_url":"weixin://x"}`, sign: "bad"}, 500, false},
		{reply{status: 200, body: `{"code_url":"weixin://x"}`, cut: 3}, 500, false},
		{reply{status: 202, body: `{}`}, 500, false},
	} {
		answer := tc.answer
		g := newRig(t, rigOptions{answer: func(got) reply { return answer }})
		r := g.do("POST", checkoutPath, body, "Idempotency-Key", "k")
		if r.StatusCode != tc.status {
			t.Error(tc.answer, r.StatusCode, text(t, r))
		}
		answer = codeURL(got{})
		again := g.do("POST", checkoutPath, body, "Idempotency-Key", "k")
		if replayed := again.Header.Get("Idempotency-Replayed") == "true"; replayed != tc.final || tc.final != (again.StatusCode == tc.status) {
			t.Error(tc.answer, again.StatusCode, again.Header, text(t, again))
		}
		if again.Header.Get("Location") != r.Header.Get("Location") {
			t.Error(tc.answer, "another number")
		}
		if n := len(g.ledger.orders); n != 1 {
			t.Errorf("%v: %d orders", tc.answer, n)
		}
	}
}

// TestIdempotencyKeyParallel: twenty at once make one order and get one answer.
func TestIdempotencyKeyParallel(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	body := `{"way":"native","description":"x","sub_orders":[{"amount":{"total_amount":1}},{"amount":{"total_amount":1}}]}`
	var wg sync.WaitGroup
	answers := make(chan string, 20)
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := g.do("POST", checkoutPath, body, "Idempotency-Key", "k")
			answers <- fmt.Sprint(r.StatusCode, text(t, r))
		}()
	}
	wg.Wait()
	close(answers)
	first := <-answers
	if !strings.HasPrefix(first, "201") {
		t.Error(first)
	}
	for a := range answers {
		if a != first {
			t.Errorf("%s\n%s", a, first)
		}
	}
	if len(g.ledger.orders) != 1 || len(g.wx.requests()) != 1 {
		t.Error(len(g.ledger.orders), len(g.wx.requests()))
	}
}

// TestIdempotencyKeyCrash: a run that breaks off at any write of the ledger goes
// on with the numbers of the first.
func TestIdempotencyKeyCrash(t *testing.T) {
	body := `{"way":"native","description":"x","amount":{"total":1}}`
	refunds := `{"out_trade_no":"N20261122","amount":{"refund":1}}`
	for _, tc := range []struct{ name, target, body string }{{"checkout", checkoutPath, body}, {"refund", "/gateway/refunds", refunds}} {
		for step := 1; ; step++ {
			answer := func(g got) reply {
				if strings.HasPrefix(g.uri, refundPath) {
					return reply{status: 200, body: fmt.Sprintf(`{"refund_id":"50000000382019052709732678859","out_refund_no":%q,"transaction_id":"4200000001","out_trade_no":"N20261122","status":"PROCESSING","amount":{"total":1,"refund":1,"currency":"CNY"}}`, gjson.Get(g.body, "out_refund_no").String())}
				}
				return codeURL(g)
			}
			g := newRig(t, rigOptions{answer: answer})
			if tc.name == "refund" {
				g.paid("N20261122", 1)
			}
			writes := 0
			g.ledger.fail = func(storage.Keys) error {
				if writes++; writes == step {
					return storage.ErrDiskFloor
				}
				return nil
			}
			r := g.do("POST", tc.target, tc.body, "Idempotency-Key", "k")
			g.ledger.fail = nil
			done := writes < step
			first := r.Header.Get("Location")
			again := g.do("POST", tc.target, tc.body, "Idempotency-Key", "k")
			if again.StatusCode != 201 && again.StatusCode != 200 {
				t.Errorf("%s, write %d: %d %s", tc.name, step, again.StatusCode, text(t, again))
			}
			if first != "" && again.Header.Get("Location") != first {
				t.Errorf("%s, write %d: %s then %s", tc.name, step, first, again.Header.Get("Location"))
			}
			if len(g.ledger.orders) != 1 || len(g.ledger.refunds) > 1 {
				t.Errorf("%s, write %d: %d orders, %d refunds", tc.name, step, len(g.ledger.orders), len(g.ledger.refunds))
			}
			numbers := map[string]bool{}
			for _, sent := range g.wx.requests() {
				numbers[gjson.Get(sent.body, "out_trade_no").String()+gjson.Get(sent.body, "out_refund_no").String()] = true
			}
			if len(numbers) != 1 {
				t.Errorf("%s, write %d: numbers sent: %v", tc.name, step, numbers)
			}
			if done {
				if step < 4 {
					t.Errorf("%s wrote %d times only", tc.name, writes)
				}
				break
			}
		}
	}
}

// TestIdempotencyKeyCallerGone: a caller that goes away while WeChat Pay answers
// finds the answer later; one that was gone before changes nothing.
func TestIdempotencyKeyCallerGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := newRig(t, rigOptions{answer: func(x got) reply {
		cancel()
		return openings(x)
	}})
	body := `{"way":"native","description":"x","amount":{"total":1}}`
	request := func(ctx context.Context) *http.Response {
		r := newRequest(ctx, "POST", checkoutPath, body)
		r.Header.Set("Idempotency-Key", "k")
		return g.serve(r)
	}
	first := request(ctx)
	again := request(t.Context())
	if first.StatusCode != 201 || again.Header.Get("Idempotency-Replayed") != "true" || text(t, again) != text(t, first) {
		t.Error(first.StatusCode, again.StatusCode, again.Header)
	}
	gone := newRequest(ctx, "POST", checkoutPath, body)
	if r := g.serve(gone); r.StatusCode != 429 {
		t.Error(r.StatusCode)
	}
	if len(g.wx.requests()) != 1 || len(g.ledger.orders) != 1 {
		t.Error(len(g.wx.requests()), len(g.ledger.orders))
	}
}

// paid puts a paid order of the gateway's into the ledger.
func (g *rig) paid(number string, total int) {
	g.t.Helper()
	g.orderIn(storage.Order{
		Key: storage.OrderKey{Mchid: mchid, Number: number}, Kind: storage.OrderBasic, State: storage.OrderPaid, Appid: appid,
		Amount: storage.Money{Total: storage.Fen(total), Currency: "CNY"}, TransactionID: "4200000001", PaidAt: time.Now().Add(-time.Hour),
	})
}

// orderIn puts an order of the gateway's into the ledger, made now unless it says
// when.
func (g *rig) orderIn(o storage.Order) {
	g.t.Helper()
	o.Merchant = "shop"
	if o.Origin == "" {
		o.Origin = storage.OriginGateway
	}
	if o.CreatedAt.IsZero() {
		o.CreatedAt = time.Now().Add(g.offset)
	}
	if o.UpdatedAt.IsZero() {
		o.UpdatedAt = o.CreatedAt
	}
	if err := g.ledger.Change(g.t.Context(), storage.Keys{Order: o.Key}, func(rows *storage.Rows) error {
		order := o
		rows.Order = &order
		return nil
	}); err != nil {
		g.t.Fatal(err)
	}
}
