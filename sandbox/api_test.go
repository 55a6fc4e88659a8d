package sandbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

func TestNewRefuses(t *testing.T) {
	good := []sandbox.Merchant{{Mchid: mchid, Appid: appid}}
	for name, o := range map[string]sandbox.Options{
		"no merchant":    {},
		"mchid letters":  {Merchants: []sandbox.Merchant{{Mchid: "19a", Appid: appid}}},
		"mchid empty":    {Merchants: []sandbox.Merchant{{Appid: appid}}},
		"appid empty":    {Merchants: []sandbox.Merchant{{Mchid: mchid}}},
		"appid twice":    {Merchants: append(good, good...)},
		"keys":           {Merchants: good, Keys: "none"},
		"negative scale": {Merchants: good, TimeScale: -1},
		"refund time":    {Merchants: good, RefundTime: -1},
		"two roles":      {Merchants: append(good, sandbox.Merchant{Mchid: good[0].Mchid, Appid: "wx2", ServiceProvider: true})},
		"sub of direct":  {Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: appid, SubMchids: []string{subMchid}}}},
		"sub_mchid":      {Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: appid, ServiceProvider: true, SubMchids: []string{"x"}}}},
	} {
		if p, err := sandbox.New(o); err == nil {
			_ = p.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVerification(t *testing.T) {
	now := time.Now()
	p := newPlatform(t, func(o *sandbox.Options) { o.Now = func() time.Time { return now } })
	c, stranger := newClient(t, p, mchid), newClient(t, p, other)
	const target = "/v3/pay/transactions/out-trade-no/ORDER-1?mchid=" + mchid
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	edit := func(old, with string) func(*http.Request) {
		return func(r *http.Request) {
			have := r.Header.Get("Authorization")
			if !strings.Contains(have, old) {
				t.Fatalf("%q not in the header", old)
			}
			r.Header.Set("Authorization", strings.Replace(have, old, with, 1))
		}
	}
	at := func(d time.Duration) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", c.authorization("GET", target, "", now.Add(d))) }
	}
	for _, tc := range []struct {
		name   string
		change func(*http.Request)
		status int
		code   string
	}{
		{"right", func(*http.Request) {}, 404, "ORDER_NOT_EXIST"},
		{"299 s early", at(-299 * time.Second), 404, "ORDER_NOT_EXIST"},
		{"300 s early", at(-300 * time.Second), 404, "ORDER_NOT_EXIST"},
		{"301 s early", at(-301 * time.Second), 401, "SIGN_ERROR"},
		{"299 s late", at(299 * time.Second), 404, "ORDER_NOT_EXIST"},
		{"301 s late", at(301 * time.Second), 401, "SIGN_ERROR"},
		{"missing", func(r *http.Request) { r.Header.Del("Authorization") }, 401, "SIGN_ERROR"},
		{"twice", func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, 401, "SIGN_ERROR"},
		{"empty", set("Authorization", ""), 401, "SIGN_ERROR"},
		{"bearer", set("Authorization", "Bearer x"), 401, "SIGN_ERROR"},
		{"scheme only", set("Authorization", sandbox.SignatureType), 401, "SIGN_ERROR"},
		{"lower-case scheme", edit("WECHATPAY2-SHA256-RSA2048", "wechatpay2-sha256-rsa2048"), 401, "SIGN_ERROR"},
		{"SM2 scheme", edit("WECHATPAY2-SHA256-RSA2048", "WECHATPAY2-SM2-WITH-SM3"), 401, "SIGN_ERROR"},
		{"unknown mchid", edit(`mchid="`+mchid, `mchid="1900000009`), 401, "SIGN_ERROR"},
		{"another's mchid", edit(`mchid="`+mchid, `mchid="`+other), 401, "SIGN_ERROR"},
		{"wrong serial", edit(`serial_no="`+c.keys.SerialNo, `serial_no="`+stranger.keys.SerialNo), 401, "SIGN_ERROR"},
		{"lower-case serial", edit(`serial_no="`, `serial_no="0`), 401, "SIGN_ERROR"},
		{"missing nonce", edit(`nonce_str="`, `x="`), 401, "SIGN_ERROR"},
		{"repeated field", edit(`mchid="`, `mchid="1",mchid="`), 401, "SIGN_ERROR"},
		{"trailing comma", func(r *http.Request) { r.Header.Set("Authorization", r.Header.Get("Authorization")+",") }, 401, "SIGN_ERROR"},
		{"spaces after commas", edit(`",timestamp`, `", timestamp`), 401, "SIGN_ERROR"},
		{"padded timestamp", edit(`timestamp="`, `timestamp="0`), 401, "SIGN_ERROR"},
		{"negative timestamp", edit(`timestamp="`, `timestamp="-`), 401, "SIGN_ERROR"},
		{"huge timestamp", edit(`timestamp="`, `timestamp="9999999999`), 401, "SIGN_ERROR"},
		{"no signature", edit(`signature="`, `signature="",x="`), 401, "SIGN_ERROR"},
		{"signature cut", edit(`signature="`, `signature="A`), 401, "SIGN_ERROR"},
		{"too long", func(r *http.Request) {
			r.Header.Set("Authorization", r.Header.Get("Authorization")+strings.Repeat("x", 5000))
		}, 401, "SIGN_ERROR"},
		{"other method", func(r *http.Request) { r.Method = "DELETE" }, 401, "SIGN_ERROR"},
		{"other query", func(r *http.Request) { r.RequestURI += "&x=1" }, 401, "SIGN_ERROR"},
		{"no Accept", func(r *http.Request) { r.Header.Del("Accept") }, 400, "PARAM_ERROR"},
		{"no User-Agent", func(r *http.Request) { r.Header.Del("User-Agent") }, 400, "PARAM_ERROR"},
		{"absolute form", func(r *http.Request) { r.RequestURI = "https://api.mch.weixin.qq.com" + target }, 404, "ORDER_NOT_EXIST"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := c.request("GET", target, "")
			r.Header.Set("Authorization", c.authorization("GET", target, "", now))
			tc.change(r)
			w := serve(p, r)
			if w.Code != tc.status || codeOf(t, w.Body.String()) != tc.code {
				t.Errorf("have %d %s, want %d %s", w.Code, w.Body, tc.status, tc.code)
			}
			c.verify(w.Header(), w.Body.Bytes())
		})
	}
	t.Run("body changed", func(t *testing.T) {
		body := nativeBody("ORDER-2", 100)
		r := c.request("POST", "/v3/pay/transactions/native", body)
		changed := c.request("POST", "/v3/pay/transactions/native", strings.Replace(body, "100", "101", 1))
		changed.Header.Set("Authorization", r.Header.Get("Authorization"))
		w := serve(p, changed)
		if w.Code != 401 || !strings.Contains(w.Body.String(), `"sign_message_length"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "out_trade_no") {
			t.Error("the answer repeats the body")
		}
	})
}

func TestOperationErrors(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	c.order(nativeBody("OPEN-1", 100))
	c.order(nativeBody("PAID-1", 100))
	c.order(nativeBody("SHUT-1", 100))
	c.order(combineBody("COMB-1", subOrder(mchid, "COMB-1-A", 1), subOrder(other, "COMB-1-B", 2)))
	c.order(combineBody("COMB-P", subOrder(mchid, "COMB-P-A", 1), subOrder(mchid, "COMB-P-B", 2)))
	for _, number := range []string{"PAID-1", "COMB-P"} {
		if _, err := p.Pay(number, sandbox.Faults{}); err != nil {
			t.Fatal(err)
		}
	}
	if status, answer := c.call("POST", "/v3/pay/transactions/out-trade-no/SHUT-1/close", `{"mchid":"`+mchid+`"}`); status != 204 || answer != "" {
		t.Fatalf("close: %d %q", status, answer)
	}
	with := func(body, old, new string) string {
		if !strings.Contains(body, old) {
			t.Fatalf("%q not in %s", old, body)
		}
		return strings.Replace(body, old, new, 1)
	}
	native := func(old, new string) string { return with(nativeBody("NEW-01", 100), old, new) }
	combine := func(old, new string) string {
		return with(combineBody("CNEW-1", subOrder(mchid, "CNEW-1-A", 1), subOrder(other, "CNEW-1-B", 2)), old, new)
	}
	many := func(n int, extra string) string {
		var subs []string
		for i := range n {
			subs = append(subs, with(subOrder(mchid, fmt.Sprintf("MANY-%d-%d", n, i), 1), `"attach"`, extra+`"attach"`))
		}
		return combineBody(fmt.Sprintf("MANY-%d", n), subs...)
	}
	const (
		nativePath  = "/v3/pay/transactions/native"
		combinePath = "/v3/combine-transactions/native"
		byNumber    = "/v3/pay/transactions/out-trade-no/"
		combineNo   = "/v3/combine-transactions/out-trade-no/"
		me          = `{"mchid":"` + mchid + `"}`
		subsOfComb1 = `{"mchid":"` + mchid + `","out_trade_no":"COMB-1-A"},{"mchid":"` + other + `","out_trade_no":"COMB-1-B"}`
	)
	closeComb := func(subs string) string { return `{"combine_appid":"` + appid + `","sub_orders":[` + subs + `]}` }
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"unknown path", "GET", "/v3/nothing", "", 404, "RESOURCE_NOT_EXISTS"},
		{"bare v3", "GET", "/v3", "", 404, "RESOURCE_NOT_EXISTS"},
		{"dot segments", "POST", "/v3/pay/transactions/out-trade-no/../close", me, 404, "ORDER_NOT_EXIST"},
		{"empty segment", "GET", "/v3/pay/transactions/out-trade-no//close", "", 404, "RESOURCE_NOT_EXISTS"},
		{"escaped slash", "GET", byNumber + "OPEN-1%2Fclose?mchid=" + mchid, "", 404, "ORDER_NOT_EXIST"},
		{"method", "GET", nativePath, "", 405, "INVALID_REQUEST"},
		{"method of query", "POST", byNumber + "OPEN-1?mchid=" + mchid, me, 405, "INVALID_REQUEST"},
		{"bad query", "GET", byNumber + "OPEN-1?mchid=%zz", "", 400, "INVALID_REQUEST"},

		{"not JSON", "POST", nativePath, `{`, 400, "PARAM_ERROR"},
		{"null", "POST", nativePath, `null`, 400, "PARAM_ERROR"},
		{"array", "POST", nativePath, `[]`, 400, "PARAM_ERROR"},
		{"two objects", "POST", nativePath, `{}{}`, 400, "PARAM_ERROR"},
		{"invalid UTF-8", "POST", nativePath, native(`"tea"`, "\"\xff\""), 400, "PARAM_ERROR"},
		{"no appid", "POST", nativePath, native(`"appid"`, `"x"`), 400, "PARAM_ERROR"},
		{"appid in another case", "POST", nativePath, native(`"appid"`, `"AppID"`), 400, "PARAM_ERROR"},
		{"appid null", "POST", nativePath, native(`"`+appid+`"`, `null`), 400, "PARAM_ERROR"},
		{"appid number", "POST", nativePath, native(`"`+appid+`"`, `1`), 400, "PARAM_ERROR"},
		{"foreign appid", "POST", nativePath, native(appid, otherApp), 400, "APPID_MCHID_NOT_MATCH"},
		{"foreign mchid", "POST", nativePath, native(mchid, other), 400, "PARAM_ERROR"},
		{"number of 5", "POST", nativePath, native("NEW-01", "NEW-1"), 400, "PARAM_ERROR"},
		{"number of 33", "POST", nativePath, native("NEW-01", strings.Repeat("9", 33)), 400, "PARAM_ERROR"},
		{"number with a space", "POST", nativePath, native("NEW-01", "NEW 01"), 400, "PARAM_ERROR"},
		{"number with a newline", "POST", nativePath, native("NEW-01", `NEW-01\n`), 400, "PARAM_ERROR"},
		{"no description", "POST", nativePath, native(`"tea"`, `""`), 400, "PARAM_ERROR"},
		{"long description", "POST", nativePath, native("tea", strings.Repeat("茶", 128)), 400, "PARAM_ERROR"},
		{"long attach", "POST", nativePath, native(`"a"`, `"`+strings.Repeat("a", 129)+`"`), 400, "PARAM_ERROR"},
		{"no notify_url", "POST", nativePath, native(`"notify_url"`, `"x"`), 400, "PARAM_ERROR"},
		{"relative notify_url", "POST", nativePath, native(notify, "/notify"), 400, "PARAM_ERROR"},
		{"notify_url with a query", "POST", nativePath, native(notify, notify+"?a=1"), 400, "PARAM_ERROR"},
		{"notify_url with a bare ?", "POST", nativePath, native(notify, notify+"?"), 400, "PARAM_ERROR"},
		{"notify_url with a fragment", "POST", nativePath, native(notify, notify+"#a"), 400, "PARAM_ERROR"},
		{"notify_url with a user", "POST", nativePath, native("http://", "http://u:p@"), 400, "PARAM_ERROR"},
		{"notify_url file", "POST", nativePath, native("http://", "file://"), 400, "PARAM_ERROR"},
		{"time_expire", "POST", nativePath, native(`"attach":"a"`, `"time_expire":"tomorrow"`), 400, "PARAM_ERROR"},
		{"no amount", "POST", nativePath, native(`"amount"`, `"x"`), 400, "PARAM_ERROR"},
		{"amount array", "POST", nativePath, native(`{"total":100,"currency":"CNY"}`, `[]`), 400, "PARAM_ERROR"},
		{"total 0", "POST", nativePath, native("100", "0"), 400, "PARAM_ERROR"},
		{"total negative", "POST", nativePath, native("100", "-1"), 400, "PARAM_ERROR"},
		{"total fraction", "POST", nativePath, native("100", "1.0"), 400, "PARAM_ERROR"},
		{"total exponent", "POST", nativePath, native("100", "1e2"), 400, "PARAM_ERROR"},
		{"total string", "POST", nativePath, native("100", `"100"`), 400, "PARAM_ERROR"},
		{"total beyond int64", "POST", nativePath, native("100", "9223372036854775808"), 400, "PARAM_ERROR"},
		{"total far too large", "POST", nativePath, native("100", "100000000000000000"), 400, "PARAM_ERROR"},
		{"currency", "POST", nativePath, native("CNY", "XYZ"), 400, "PARAM_ERROR"},
		{"same number, other amount", "POST", nativePath, nativeBody("OPEN-1", 101), 403, "OUT_TRADE_NO_USED"},
		{"number of a sub-order", "POST", nativePath, nativeBody("COMB-1-A", 1), 403, "OUT_TRADE_NO_USED"},
		{"paid", "POST", nativePath, nativeBody("PAID-1", 100), 400, "ORDERPAID"},
		{"closed", "POST", nativePath, nativeBody("SHUT-1", 100), 400, "ORDER_CLOSED"},

		{"query unknown", "GET", byNumber + "NOBODY?mchid=" + mchid, "", 404, "ORDER_NOT_EXIST"},
		{"query without mchid", "GET", byNumber + "OPEN-1", "", 400, "PARAM_ERROR"},
		{"query with two mchids", "GET", byNumber + "OPEN-1?mchid=" + mchid + "&mchid=" + mchid, "", 400, "PARAM_ERROR"},
		{"query with a foreign mchid", "GET", byNumber + "OPEN-1?mchid=" + other, "", 400, "PARAM_ERROR"},
		{"query a combine order alone", "GET", byNumber + "COMB-1?mchid=" + mchid, "", 404, "ORDER_NOT_EXIST"},
		{"query a sub-order alone", "GET", byNumber + "COMB-1-A?mchid=" + mchid, "", 404, "ORDER_NOT_EXIST"},
		{"query an unknown id", "GET", "/v3/pay/transactions/id/4200?mchid=" + mchid, "", 404, "ORDER_NOT_EXIST"},
		{"query an id without mchid", "GET", "/v3/pay/transactions/id/4200", "", 400, "PARAM_ERROR"},
		{"close unknown", "POST", byNumber + "NOBODY/close", me, 404, "ORDER_NOT_EXIST"},
		{"close without mchid", "POST", byNumber + "OPEN-1/close", `{}`, 400, "PARAM_ERROR"},
		{"close with a foreign mchid", "POST", byNumber + "OPEN-1/close", `{"mchid":"` + other + `"}`, 400, "PARAM_ERROR"},
		{"close without a body", "POST", byNumber + "OPEN-1/close", "null", 400, "PARAM_ERROR"},
		{"close paid", "POST", byNumber + "PAID-1/close", me, 400, "ORDERPAID"},
		{"close closed", "POST", byNumber + "SHUT-1/close", me, 400, "ORDER_CLOSED"},
		{"close a combine order alone", "POST", byNumber + "COMB-1/close", me, 404, "ORDER_NOT_EXIST"},

		{"combine: no body", "POST", combinePath, `{}`, 400, "PARAM_ERROR"},
		{"combine: foreign mchid", "POST", combinePath, combine(mchid, other), 400, "PARAM_ERROR"},
		{"combine: foreign appid", "POST", combinePath, combine(appid, otherApp), 400, "APPID_MCHID_NOT_MATCH"},
		{"combine: unknown payee", "POST", combinePath, combine(`"mchid":"`+other, `"mchid":"1900000009`), 400, "MCH_NOT_EXISTS"},
		{"combine: number of 1", "POST", combinePath, combine("CNEW-1", "C"), 400, "PARAM_ERROR"},
		{"combine: no sub-order", "POST", combinePath, combineBody("CNEW-2"), 400, "PARAM_ERROR"},
		{"combine: one sub-order", "POST", combinePath, many(1, ""), 400, "PARAM_ERROR"},
		{"combine: eleven sub-orders", "POST", combinePath, many(11, ""), 400, "PARAM_ERROR"},
		{"combine: 51 sub-orders of a provider", "POST", combinePath, many(51, `"sub_mchid":"1900000109",`), 400, "PARAM_ERROR"},
		{"combine: sub-orders null", "POST", combinePath, combine(`"sub_orders":[`, `"sub_orders":null,"x":[`), 400, "PARAM_ERROR"},
		{"combine: sub-order null", "POST", combinePath, combine(`"sub_orders":[`, `"sub_orders":[null,`), 400, "PARAM_ERROR"},
		{"combine: sub-order number", "POST", combinePath, combine(`"sub_orders":[`, `"sub_orders":[1,`), 400, "PARAM_ERROR"},
		{"combine: no attach", "POST", combinePath, combine(`"attach"`, `"x"`), 400, "PARAM_ERROR"},
		{"combine: basic's amount", "POST", combinePath, combine(`"total_amount"`, `"total"`), 400, "PARAM_ERROR"},
		{"combine: no currency", "POST", combinePath, combine(`"currency"`, `"x"`), 400, "PARAM_ERROR"},
		{"combine: same sub-order twice", "POST", combinePath, combineBody("CNEW-3", subOrder(mchid, "CNEW-3-A", 1), subOrder(mchid, "CNEW-3-A", 1)), 403, "OUT_TRADE_NO_USED"},
		{"combine: sub-order used", "POST", combinePath, combineBody("CNEW-4", subOrder(mchid, "OPEN-1", 1), subOrder(mchid, "CNEW-4-A", 1)), 403, "OUT_TRADE_NO_USED"},
		{"combine: other parameters", "POST", combinePath, combineBody("COMB-1", subOrder(mchid, "COMB-1-A", 1), subOrder(other, "COMB-1-B", 3)), 403, "OUT_TRADE_NO_USED"},
		{"combine: paid", "POST", combinePath, combineBody("COMB-P", subOrder(mchid, "COMB-P-A", 1), subOrder(mchid, "COMB-P-B", 2)), 400, "ORDERPAID"},
		{"combine: query unknown", "GET", combineNo + "NOBODY", "", 404, "ORDER_NOT_EXIST"},
		{"combine: query a basic order", "GET", combineNo + "OPEN-1", "", 404, "ORDER_NOT_EXIST"},
		{"combine: close with one sub-order less", "POST", combineNo + "COMB-1/close", closeComb(`{"mchid":"` + mchid + `","out_trade_no":"COMB-1-A"}`), 400, "PARAM_ERROR"},
		{"combine: close with one sub-order twice", "POST", combineNo + "COMB-1/close", closeComb(strings.Repeat(`,{"mchid":"`+mchid+`","out_trade_no":"COMB-1-A"}`, 2)[1:]), 400, "PARAM_ERROR"},
		{"combine: close with one sub-order more", "POST", combineNo + "COMB-1/close", closeComb(subsOfComb1 + `,{"mchid":"1","out_trade_no":"XXXXXX"}`), 400, "PARAM_ERROR"},
		{"combine: close with another appid", "POST", combineNo + "COMB-1/close", with(closeComb(subsOfComb1), appid, otherApp), 400, "APPID_MCHID_NOT_MATCH"},
		{"combine: close unknown", "POST", combineNo + "NOBODY/close", closeComb(subsOfComb1), 404, "ORDER_NOT_EXIST"},
		{"combine: close paid", "POST", combineNo + "COMB-P/close", closeComb(`{"mchid":"` + mchid + `","out_trade_no":"COMB-P-A"},{"mchid":"` + mchid + `","out_trade_no":"COMB-P-B"}`), 400, "ORDERPAID"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := *c
			c.t = t
			status, answer := c.call(tc.method, tc.path, tc.body)
			if status != tc.status || codeOf(t, answer) != tc.code {
				t.Errorf("have %d %s, want %d %s", status, answer, tc.status, tc.code)
			}
		})
	}
	if have := len(p.Orders()); have != 5 {
		t.Errorf("a refused order was recorded: %d orders", have)
	}
	if status, answer := c.call("POST", combineNo+"COMB-1/close", closeComb(subsOfComb1)); status != 204 {
		t.Errorf("close: %d %s", status, answer)
	}
	r := c.request("POST", nativePath, nativeBody("NEW-02", 1))
	r.Header.Set("Content-Type", "text/plain")
	if w := serve(p, r); w.Code != 400 {
		t.Errorf("text/plain: %d", w.Code)
	}
	if w := serve(p, c.request("POST", nativePath, strings.Repeat(" ", 1<<20+1))); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", w.Code)
	}
}

func TestErrorSaysWhere(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	_, answer := c.call("POST", "/v3/combine-transactions/native",
		combineBody("CNEW-1", subOrder(mchid, "CNEW-1-A", 1), subOrder(mchid, "CNEW-1-B", 0)))
	sameJSON(t, answer, `{"code":"PARAM_ERROR","message":"输入源“/body/sub_orders/1/amount/total_amount”数值规则校验失败，超出取值范围",
		"detail":{"field":"/sub_orders/1/amount/total_amount","issue":"want 1 to 1000000000000","location":"body"}}`)
}

func TestNativeLife(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	codeURL := c.order(nativeBody("ORDER-1", 100))
	// The same parameters in another order of fields are the same request.
	var fields map[string]any
	if err := json.Unmarshal([]byte(nativeBody("ORDER-1", 100)), &fields); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if again := c.order(string(sorted)); again != codeURL {
		t.Errorf("placed again: %s, want %s", again, codeURL)
	}
	const query = "/v3/pay/transactions/out-trade-no/ORDER-1?mchid=" + mchid
	_, answer := c.call("GET", query, "")
	sameJSON(t, answer, `{"appid":"`+appid+`","mchid":"`+mchid+`","out_trade_no":"ORDER-1","attach":"a",
		"trade_state":"NOTPAY","trade_state_desc":"订单未支付","amount":{"total":100,"currency":"CNY"}}`)

	if _, err := p.Pay(codeURL, sandbox.Faults{Coupon: 30}); err != nil {
		t.Fatal(err)
	}
	_, answer = c.call("GET", query, "")
	sameJSON(t, answer, `{"appid":"`+appid+`","mchid":"`+mchid+`","out_trade_no":"ORDER-1","attach":"a",
		"trade_state":"SUCCESS","trade_state_desc":"支付成功","trade_type":"NATIVE","bank_type":"OTHERS",
		"transaction_id":"*","success_time":"*","payer":{"openid":"*"},
		"amount":{"total":100,"payer_total":70,"currency":"CNY","payer_currency":"CNY"},
		"promotion_detail":[{"coupon_id":"SANDBOX","name":"沙箱代金券","scope":"GLOBAL","type":"NOCASH","amount":30,
			"stock_id":"SANDBOX","wechatpay_contribute":30,"merchant_contribute":0,"other_contribute":0,"currency":"CNY"}]}`,
		"transaction_id", "success_time", "openid")
	o, err := p.Order("ORDER-1")
	if err != nil {
		t.Fatal(err)
	}
	id := o.SubOrders[0].TransactionID
	if len(id) != 28 {
		t.Errorf("transaction_id %q: want 28 digits", id)
	}
	if _, byID := c.call("GET", "/v3/pay/transactions/id/"+id+"?mchid="+mchid, ""); byID != answer {
		t.Errorf("by id: %s", byID)
	}
	stranger := newClient(t, p, other)
	if status, _ := stranger.call("GET", "/v3/pay/transactions/id/"+id+"?mchid="+other, ""); status != 404 {
		t.Errorf("a stranger sees the order: %d", status)
	}
	// A number is unique for a mchid only.
	stranger.order(strings.ReplaceAll(nativeBody("ORDER-1", 7), mchid, other))
	if _, err := p.Order("ORDER-1"); !errors.Is(err, sandbox.ErrAmbiguous) {
		t.Errorf("have %v, want ErrAmbiguous", err)
	}
	if o, err := p.Order(other + ":ORDER-1"); err != nil || o.Total != 7 {
		t.Errorf("mchid:number: %v %v", o.Total, err)
	}
}

func TestCombineLife(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	c.order(combineBody("COMB-1", subOrder(mchid, "SUB--A", 10), subOrder(other, "SUB--B", 20)))
	const query = "/v3/combine-transactions/out-trade-no/COMB-1"
	_, answer := c.call("GET", query, "")
	const head = `{"combine_appid":"` + appid + `","combine_mchid":"` + mchid + `","combine_out_trade_no":"COMB-1",`
	sameJSON(t, answer, head+`"sub_orders":[
		{"mchid":"`+mchid+`","out_trade_no":"SUB--A","attach":"x","trade_state":"NOTPAY","amount":{"total_amount":10,"currency":"CNY"}},
		{"mchid":"`+other+`","out_trade_no":"SUB--B","attach":"x","trade_state":"NOTPAY","amount":{"total_amount":20,"currency":"CNY"}}]}`)
	if _, err := p.Pay("SUB--B", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	_, answer = c.call("GET", query, "")
	sameJSON(t, answer, head+`"combine_payer_info":{"openid":"*"},"sub_orders":[
		{"mchid":"`+mchid+`","out_trade_no":"SUB--A","attach":"x","trade_state":"SUCCESS","trade_type":"NATIVE","bank_type":"OTHERS","transaction_id":"*","success_time":"*",
		 "amount":{"total_amount":10,"currency":"CNY","payer_amount":10,"payer_currency":"CNY"}},
		{"mchid":"`+other+`","out_trade_no":"SUB--B","attach":"x","trade_state":"SUCCESS","trade_type":"NATIVE","bank_type":"OTHERS","transaction_id":"*","success_time":"*",
		 "amount":{"total_amount":20,"currency":"CNY","payer_amount":20,"payer_currency":"CNY"}}]}`,
		"openid", "transaction_id", "success_time")
}

func TestProviderCombines50(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, provider)
	var subs []string
	for i := range 50 {
		subs = append(subs, strings.Replace(subOrder(provider, fmt.Sprintf("PROV-%02d", i), 1), `"attach"`, `"sub_mchid":"1900000109","attach"`, 1))
	}
	c.order(strings.Replace(combineBody("PROVIDER", subs...), mchid, provider, 1))
	_, answer := c.call("GET", "/v3/combine-transactions/out-trade-no/PROVIDER", "")
	if strings.Count(answer, `"sub_mchid":"1900000109"`) != 50 {
		t.Error(answer)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now()
	p := newPlatform(t, func(o *sandbox.Options) { o.Now = func() time.Time { return now } })
	c := newClient(t, p, mchid)
	// The client signs with the test's clock, moved along.
	place := func(body string) string {
		r := c.request("POST", "/v3/pay/transactions/native", body)
		r.Header.Set("Authorization", c.authorization("POST", "/v3/pay/transactions/native", body, now))
		w := serve(p, r)
		if w.Code != 200 {
			return codeOf(t, w.Body.String())
		}
		return strings.Trim(strings.TrimPrefix(w.Body.String(), `{"code_url":`), `"}`)
	}
	first := place(nativeBody("ORDER-1", 1))
	soon := now.Add(time.Minute).Format(time.RFC3339)
	place(strings.Replace(nativeBody("ORDER-2", 1), `"attach"`, `"time_expire":"`+soon+`","attach"`, 1))
	now = now.Add(2 * time.Minute)
	if _, err := p.Pay("ORDER-2", sandbox.Faults{}); !errors.Is(err, sandbox.ErrExpired) {
		t.Errorf("after time_expire: %v", err)
	}
	now = now.Add(2 * time.Hour)
	if _, err := p.Pay(first, sandbox.Faults{}); !errors.Is(err, sandbox.ErrExpired) {
		t.Errorf("an old code_url: %v", err)
	}
	second := place(nativeBody("ORDER-1", 1))
	if second == first {
		t.Error("the code_url was not renewed")
	}
	if _, err := p.Pay(first, sandbox.Faults{}); !errors.Is(err, sandbox.ErrNoOrder) {
		t.Errorf("a replaced code_url: %v", err)
	}
	now = now.Add(7 * 24 * time.Hour)
	if _, err := p.Pay(second, sandbox.Faults{}); !errors.Is(err, sandbox.ErrShut) {
		t.Errorf("after seven days: %v", err)
	}
	if have := place(nativeBody("ORDER-1", 1)); have != "ORDER_CLOSED" {
		t.Errorf("placed after seven days: %s", have)
	}
}
