package payops_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestCreateByteForByte(t *testing.T) {
	g := newRig(t, rigOptions{})
	body := "{\n \"out_trade_no\" : \"N20261122\",\"description\":\"商品 \\u4e00 <&>\",\t\"amount\" :{\"total\":1 , \"currency\": \"CNY\"},\n" +
		" \"mchid\":\"" + mchid + "\", \"appid\":\"" + appid + "\", \"notify_url\":\"" + notifyURL + "\", \"unknown\": [1.50, 1e3, {}] }\n"
	r := g.do("POST", nativePath, body,
		"Accept", "application/json", "Accept-Language", "zh-CN", "User-Agent", "my-shop/1.0", "Content-Type", "application/json; charset=UTF-8",
		"X-Forwarded-For", "10.0.0.1", "Cookie", "a=b", "Wechatpay-Serial", otherID, "Wechatpay-Gateway-Refused", "x")
	answer := text(t, r)
	if want := codeURL(got{}).body; r.StatusCode != 200 || !equalBytes(answer, want) {
		t.Fatalf("%d %q, want %q", r.StatusCode, answer, want)
	}
	sent := g.wx.requests()[0]
	if sent.uri != nativePath || !equalBytes(sent.body, body) {
		t.Errorf("sent %s\n%q\nwant\n%q", sent.uri, sent.body, body)
	}
	for name, want := range map[string]string{
		"Accept": "application/json", "Accept-Language": "zh-CN", "User-Agent": "my-shop/1.0",
		"Content-Type": "application/json; charset=UTF-8", "Wechatpay-Serial": otherID,
		"X-Forwarded-For": "", "Cookie": "", "Wechatpay-Gateway-Refused": "",
	} {
		if sent.header.Get(name) != want {
			t.Errorf("%s: %q went on, want %q", name, sent.header.Get(name), want)
		}
	}
	for _, name := range []string{"Wechatpay-Signature", "Wechatpay-Nonce", "Wechatpay-Timestamp", "Request-Id"} {
		if r.Header.Get(name) == "" {
			t.Errorf("the answer lacks %s", name)
		}
	}
	if r.Header.Get("Wechatpay-Serial") != otherID || r.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("answer headers %v", r.Header)
	}
	o := g.order("N20261122")
	if o.State != storage.OrderCreated || o.Amount != (storage.Money{Total: 1, Currency: "CNY"}) || o.Appid != appid ||
		o.Kind != storage.OrderBasic || o.Origin != storage.OriginGateway || o.CodeURL != "weixin://wxpay/bizpayurl?pr=p4lpSuKzz" ||
		o.NotifyURL != notifyURL || o.ForeignNotifyURL || o.Merchant != "shop" {
		t.Errorf("%+v", o)
	}
	c := g.lastCall()
	if c.Outcome != storage.CallSucceeded || c.Status != 200 || c.RequestID == "" || c.Caller != "all" ||
		c.Operation != "POST "+nativePath || c.Path != nativePath || c.EndedAt.IsZero() || c.Order != o.Key {
		t.Errorf("%+v", c)
	}
	if len(g.changed) != 1 || g.changed[0] != o.Key {
		t.Errorf("LedgerChanged: %v", g.changed)
	}
}

func TestIntentIsThereBeforeTheFirstByte(t *testing.T) {
	var g *rig
	g = newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			o := g.order("N20261122")
			calls := g.ledger.allCalls()
			if o.State != storage.OrderIntended || o.Amount.Total != 7 || len(calls) != 1 || calls[0].Outcome != storage.CallPending {
				t.Errorf("at WeChat Pay's door: order %+v, calls %+v", o, calls)
			}
		}
		return codeURL(x)
	}})
	if r := g.do("POST", nativePath, basicBody("N20261122", "7")); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
}

func TestFillIn(t *testing.T) {
	g := newRig(t, rigOptions{})
	const body = "{ \"out_trade_no\":\"N20261122\", \"description\":\"一  1\\/2\",\n\"mchid\":null,\"appid\":\"\", \"amount\":{\"total\":1}}"
	if r := g.do("POST", nativePath, body, "Wechatpay-Serial", "PUB_KEY_ID_NOBODY"); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	sent := g.wx.requests()[0]
	want := "{ \"out_trade_no\":\"N20261122\", \"description\":\"一  1\\/2\",\n\"mchid\":\"" + mchid + "\",\"appid\":\"" + appid +
		"\", \"amount\":{\"total\":1},\"notify_url\":\"" + notifyURL + "\"}"
	if !equalBytes(sent.body, want) {
		t.Errorf("sent\n%q\nwant\n%q", sent.body, want)
	}
	if sent.header.Get("Wechatpay-Serial") != platformID || sent.header.Get("Content-Type") != "application/json" || sent.header.Get("User-Agent") == "" {
		t.Errorf("headers %v", sent.header)
	}
	if o := g.order("N20261122"); o.Appid != appid || o.Amount.Currency != "CNY" || o.NotifyURL != notifyURL {
		t.Errorf("%+v", o)
	}
}

func TestNotifyURL(t *testing.T) {
	const foreign = "https://elsewhere.example.com/cb"
	for name, tc := range map[string]struct {
		options rigOptions
		given   string
		sent    string
		warned  bool
	}{
		"ours":            {rigOptions{}, notifyURL, notifyURL, false},
		"none":            {rigOptions{}, "", notifyURL, false},
		"foreign":         {rigOptions{}, foreign, foreign, true},
		"forced":          {rigOptions{force: true}, foreign, notifyURL, false},
		"nothing to fill": {rigOptions{noNotify: true}, foreign, foreign, false},
		"nothing at all":  {rigOptions{noNotify: true}, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, tc.options)
			body := strings.Replace(basicBody("N20261122", "1"), `"notify_url":"`+notifyURL+`",`, `"notify_url":"`+tc.given+`",`, 1)
			r := g.do("POST", nativePath, body)
			if r.StatusCode != 200 || (r.Header.Get("Wechatpay-Gateway-Warning") == "foreign_notify_url") != tc.warned {
				t.Errorf("%d %v", r.StatusCode, r.Header)
			}
			if sent := g.wx.requests()[0].body; !strings.Contains(sent, `"notify_url":"`+tc.sent+`"`) {
				t.Error(sent)
			}
			if o := g.order("N20261122"); o.NotifyURL != tc.sent || o.ForeignNotifyURL != tc.warned {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestCombineCreate(t *testing.T) {
	g := newRig(t, rigOptions{})
	if r := g.do("POST", combinePath, combineBody("C1")); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	o := g.order("C1")
	if o.Kind != storage.OrderCombine || o.Amount != (storage.Money{Total: 15, Currency: "CNY"}) || len(o.Subs) != 2 ||
		o.Subs[1].SubMchid != "1900000109" || o.Subs[0].Amount.Total != 10 {
		t.Errorf("%+v", o)
	}
	// The order of the sub-orders is no content; their amounts are.
	subs := strings.SplitN(combineBody("C1"), `"sub_orders":[`, 2)
	first, second, _ := strings.Cut(strings.TrimSuffix(subs[1], "]}"), "},{\"mchid\"")
	swapped := subs[0] + `"sub_orders":[{"mchid"` + second + "," + first + "}]}"
	if r := g.do("POST", combinePath, swapped); r.StatusCode != 200 {
		t.Error(r.StatusCode, text(t, r))
	}
	g.refused("other amounts", g.do("POST", combinePath, strings.Replace(combineBody("C1"), `"total_amount":10`, `"total_amount":11`, 1)), 409, payops.RuleContent)
	g.refused("a sub-order's number in another combine order", g.do("POST", combinePath, strings.Replace(combineBody("C2"), "C2-S1", "C1-S1", 1)), 409, payops.RuleNumberTaken)
	if n := len(g.wx.requests()); n != 2 {
		t.Errorf("%d requests reached WeChat Pay", n)
	}
}

func TestOneNumberOneContent(t *testing.T) {
	g := newRig(t, rigOptions{})
	if r := g.do("POST", nativePath, basicBody("N20261122", "100")); r.StatusCode != 200 {
		t.Fatal(r.StatusCode)
	}
	if r := g.do("POST", nativePath, basicBody("N20261122", "100")); r.StatusCode != 200 {
		t.Error("a repeat:", r.StatusCode)
	}
	for name, body := range map[string]string{
		"one fen more":   basicBody("N20261122", "101"),
		"one fen less":   basicBody("N20261122", "99"),
		"other currency": strings.Replace(basicBody("N20261122", "100"), "CNY", "USD", 1),
		"other appid":    strings.Replace(basicBody("N20261122", "100"), appid, "wx8888888888888889", 1),
	} {
		g.refused(name, g.do("POST", nativePath, body), 409, payops.RuleContent)
	}
	g.refused("as a combine order", g.do("POST", combinePath, combineBody("N20261122")), 409, payops.RuleContent)
	if n := len(g.wx.requests()); n != 2 {
		t.Errorf("%d requests reached WeChat Pay", n)
	}
	if r := g.do("POST", nativePath, strings.Replace(basicBody("N20261122", "100"), `"description":"x"`, `"description":"y"`, 1)); r.StatusCode != 200 {
		t.Error("the description is no content:", r.StatusCode)
	}
}

func TestRejectionFreesTheNumber(t *testing.T) {
	a := reply{status: 400, body: `{"code":"PARAM_ERROR","message":"参数错误"}`}
	g := newRig(t, rigOptions{answer: func(got) reply { return a }})
	r := g.do("POST", nativePath, basicBody("N20261122", "100"))
	if body := text(t, r); r.StatusCode != 400 || body != a.body || r.Header.Get("Wechatpay-Gateway-Outcome") != "" || r.Header.Get("Wechatpay-Gateway-Refused") != "" {
		t.Error(r.StatusCode, r.Header, body)
	}
	if o, c := g.order("N20261122"), g.lastCall(); o.State != storage.OrderRejected || c.Outcome != storage.CallRejected || c.Code != "PARAM_ERROR" {
		t.Errorf("%+v %+v", o, c)
	}
	a = reply{status: 200, body: `{"code_url":"weixin://x"}`}
	if r := g.do("POST", nativePath, basicBody("N20261122", "200")); r.StatusCode != 200 {
		t.Error("the freed number:", r.StatusCode, text(t, r))
	}
	if o := g.order("N20261122"); o.State != storage.OrderCreated || o.Amount.Total != 200 {
		t.Errorf("%+v", o)
	}
	// A rejection of a repeat says nothing about the order that exists.
	a = reply{status: 400, body: `{"code":"ORDERPAID","message":"订单已支付"}`}
	if r := g.do("POST", nativePath, basicBody("N20261122", "200")); r.StatusCode != 400 {
		t.Error(r.StatusCode)
	}
	if o := g.order("N20261122"); o.State != storage.OrderCreated {
		t.Errorf("%+v", o)
	}
}

// TestUnknownOutcomes: an answer that does not verify proves nothing, so that none of
// it goes back, whatever its status: a caller would take a 4xx for a rejection.
func TestUnknownOutcomes(t *testing.T) {
	for name, tc := range map[string]struct {
		answer reply
		status int
		passed bool // the answer goes back as it is
		verify bool
	}{
		"2xx unsigned":         {reply{status: 200, body: `{"code_url":"x"}`, sign: "none"}, 500, false, true},
		"2xx badly signed":     {reply{status: 200, body: `{"code_url":"x"}`, sign: "bad"}, 500, false, true},
		"2xx probe":            {reply{status: 200, body: `{"code_url":"x"}`, sign: "probe"}, 500, false, true},
		"2xx stale":            {reply{status: 200, body: `{"code_url":"x"}`, sign: "stale"}, 500, false, true},
		"2xx unknown serial":   {reply{status: 200, body: `{"code_url":"x"}`, sign: "unknown_serial"}, 500, false, true},
		"204 unsigned":         {reply{status: 204, sign: "none"}, 500, false, true},
		"202 well signed":      {reply{status: 202, body: `{"code":"ACCEPTED"}`}, 202, true, false},
		"4xx unsigned":         {reply{status: 400, body: `{"code":"PARAM_ERROR","message":"forged"}`, sign: "none"}, 500, false, true},
		"4xx badly signed":     {reply{status: 403, body: `{"code":"NO_AUTH"}`, sign: "bad"}, 500, false, true},
		"4xx that plays 200":   {reply{status: 404, body: `{"StatusCode":200,"Body":"forged","Header":{}}`, sign: "none"}, 500, false, true},
		"5xx well signed":      {reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}, 500, true, false},
		"5xx unsigned":         {reply{status: 502, body: `<html>`, sign: "none"}, 500, false, true},
		"redirect":             {reply{status: 307, header: http.Header{"Location": {"https://evil.example.com/"}}, sign: "none"}, 500, false, true},
		"redirect well signed": {reply{status: 302, header: http.Header{"Location": {"https://evil.example.com/"}}}, 302, true, false},
		"truncated":            {reply{status: 200, body: `{"code_url":"weixin://x"}`, cut: 5}, 500, false, false},
		"too large":            {reply{status: 200, body: strings.Repeat(" ", 9<<20)}, 500, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: func(got) reply { return tc.answer }})
			r := g.do("POST", nativePath, basicBody("N20261122", "100"))
			body := text(t, r)
			if r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" || r.Header.Get("Wechatpay-Gateway-Refused") != "" {
				t.Errorf("%d %v %.200s", r.StatusCode, r.Header, body)
			}
			if r.Header.Get("Location") != "" {
				t.Error("a Location goes back")
			}
			if tc.passed && body != tc.answer.body {
				t.Errorf("%q, want %q", body, tc.answer.body)
			}
			if !tc.passed && (!strings.Contains(body, "SYSTEM_ERROR") || !strings.Contains(body, "never a new one") || strings.Contains(body, "code_url") || strings.Contains(body, "forged")) {
				t.Errorf("%.300s", body)
			}
			if o, c := g.order("N20261122"), g.lastCall(); o.State != storage.OrderUnknown || c.Outcome != storage.CallUnknown && tc.status != 202 {
				t.Errorf("%+v %+v", o, c)
			}
			if (g.observer.unverified == 1) != tc.verify || (g.observer.probes == 1) != (tc.answer.sign == "probe") {
				t.Errorf("observer %+v", g.observer)
			}
			// Unknown keeps the number.
			g.refused("another content", g.do("POST", nativePath, basicBody("N20261122", "101")), 409, payops.RuleContent)
		})
	}
}

func TestTimeoutAfterSending(t *testing.T) {
	hold := make(chan struct{})
	g := newRig(t, rigOptions{timeout: 400 * time.Millisecond, answer: func(x got) reply {
		<-hold
		return codeURL(x)
	}})
	r := g.do("POST", nativePath, basicBody("N20261122", "100"))
	close(hold)
	if body := text(t, r); r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" || !strings.Contains(body, "SYSTEM_ERROR") {
		t.Errorf("%d %v %s", r.StatusCode, r.Header, body)
	}
	if o := g.order("N20261122"); o.State != storage.OrderUnknown {
		t.Errorf("%+v", o)
	}
	// A repeat with the same number and content goes through.
	if r := g.do("POST", nativePath, basicBody("N20261122", "100")); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	if o := g.order("N20261122"); o.State != storage.OrderCreated {
		t.Errorf("%+v", o)
	}
}

func TestNothingSent(t *testing.T) {
	g := newRig(t, rigOptions{bases: []string{closedPort(t)}})
	g.refused("nobody listens", g.do("POST", nativePath, basicBody("N20261122", "100")), 502, payops.RuleUnreachable)
	if o, c := g.order("N20261122"), g.lastCall(); o.State != storage.OrderRejected || c.Outcome != storage.CallRejected || c.Status != 0 {
		t.Errorf("%+v %+v", o, c)
	}
}

func TestStoreDown(t *testing.T) {
	g := newRig(t, rigOptions{})
	for _, cause := range []error{storage.ErrDiskFloor, storage.ErrClosed, fmt.Errorf("io: %w", context.DeadlineExceeded)} {
		g.ledger.fail = func(storage.Keys) error { return cause }
		r := g.do("POST", nativePath, basicBody("N20261122", "100"))
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		g.refused(cause.Error(), r, 503, payops.RuleStore)
		g.refused(cause.Error(), g.do("PUT", "/gateway/orders/N20261122", `{"amount":{"total":1}}`), 503, payops.RuleStore)
	}
	if n := len(g.wx.requests()); n != 0 {
		t.Errorf("%d requests were sent without an intent", n)
	}
	// A store that fails after the call: the answer goes back, the intent stays.
	n := 0
	g.ledger.fail = func(storage.Keys) error {
		if n++; n > 1 {
			return storage.ErrDiskFloor
		}
		return nil
	}
	r := g.do("POST", nativePath, basicBody("N20261122", "100"))
	if r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != "ledger_not_updated" {
		t.Error(r.StatusCode, r.Header)
	}
	if o, c := g.order("N20261122"), g.lastCall(); o.State != storage.OrderIntended || c.Outcome != storage.CallPending {
		t.Errorf("%+v %+v", o, c)
	}
}
