package payops_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const basicQuery = "/v3/pay/transactions/out-trade-no/"

func transaction(number, state string, total int, extra string) string {
	return fmt.Sprintf(`{"mchid":"%s","appid":"%s","out_trade_no":"%s","trade_state":"%s","amount":{"total":%d,"payer_total":1,"currency":"CNY"}%s}`,
		mchid, appid, number, state, total, extra)
}

const paidExtra = `,"transaction_id":"4200000001202611220000000001","success_time":"2026-11-22T18:00:00+08:00"`

func TestQueryTargetByteForByte(t *testing.T) {
	for _, tc := range []struct{ target, sent string }{
		{basicQuery + "N20261122?mchid=" + mchid, ""},
		{basicQuery + "N20261122?z=%20a+b&mchid=" + mchid + "&a=%E4%B8%80&z=1&&=", ""},
		{basicQuery + "N20261122?mchid=" + mchid + "&q=一|'()", ""},
		{basicQuery + "N2026|1122?mchid=" + mchid, ""},
		{basicQuery + "N2026%7C1122?mchid=" + mchid, ""},
		{basicQuery + "N2026*1122@?mchid=" + mchid, ""},
		{basicQuery + "%4E20261122?mchid=" + mchid, ""},
		{"/v3/pay/transactions/id/4200000001?mchid=" + mchid, ""},
		{"/v3/combine-transactions/out-trade-no/C1?b=2&a=1", ""},
		{"/v3/combine-transactions/out-trade-no/C1", ""},
		// mchid is filled in, and nothing else changes
		{basicQuery + "N20261122", basicQuery + "N20261122?mchid=" + mchid},
		{basicQuery + "N20261122?b=%20&a", basicQuery + "N20261122?b=%20&a&mchid=" + mchid},
	} {
		g := newRig(t, rigOptions{})
		if r := g.do("GET", tc.target, ""); r.StatusCode != 200 {
			t.Errorf("%s: %d %s", tc.target, r.StatusCode, text(t, r))
			continue
		}
		want := tc.sent
		if want == "" {
			want = tc.target
		}
		if sent := g.wx.requests()[0]; sent.uri != want || sent.body != "" || sent.method != "GET" {
			t.Errorf("sent %s\nwant %s", sent.uri, want)
		}
		if n := len(g.ledger.allCalls()); n != 0 {
			t.Errorf("a query opened %d intent rows", n)
		}
	}
}

func TestRewrittenURLIsTakenAsRewritten(t *testing.T) {
	g := newRig(t, rigOptions{})
	r := newRequest(context.Background(), "GET", "/outer"+basicQuery+"N20261122?mchid="+mchid, "")
	r.URL.Path = basicQuery + "N20261122" // as a handler in front strips a prefix
	if w := g.serve(r); w.StatusCode != 200 || g.wx.requests()[0].uri != basicQuery+"N20261122?mchid="+mchid {
		t.Error(w.StatusCode, g.wx.requests())
	}
}

func TestQueryUpdatesTheLedger(t *testing.T) {
	answer := reply{}
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			return codeURL(x)
		}
		return answer
	}})
	created := func(n string) {
		t.Helper()
		if r := g.do("POST", nativePath, basicBody(n, "100")); r.StatusCode != 200 {
			t.Fatal(r.StatusCode)
		}
		g.changed = nil
	}
	for _, tc := range []struct {
		name, body, sign string
		want             storage.OrderState
		contradicts      bool
	}{
		{"paid", transaction("%s", "SUCCESS", 100, paidExtra), "", storage.OrderPaid, false},
		{"refunded", transaction("%s", "REFUND", 100, paidExtra), "", storage.OrderPaid, false},
		{"closed", transaction("%s", "CLOSED", 100, ""), "", storage.OrderClosed, false},
		{"revoked", transaction("%s", "REVOKED", 100, ""), "", storage.OrderClosed, false},
		{"waits", transaction("%s", "NOTPAY", 100, ""), "", storage.OrderCreated, false},
		{"failed", transaction("%s", "PAYERROR", 100, ""), "", storage.OrderCreated, false},
		{"paid, one fen off", transaction("%s", "SUCCESS", 101, paidExtra), "", storage.OrderCreated, true},
		{"paid, another appid", strings.Replace(transaction("%s", "SUCCESS", 100, paidExtra), appid, "wx8888888888888889", 1), "", storage.OrderCreated, true},
		{"paid, in dollars", strings.Replace(transaction("%s", "SUCCESS", 100, paidExtra), "CNY", "USD", 1), "", storage.OrderCreated, true},
		{"paid, unsigned", transaction("%s", "SUCCESS", 100, paidExtra), "none", storage.OrderCreated, false},
		{"another order", transaction("N99999999", "SUCCESS", 100, paidExtra), "", storage.OrderCreated, false},
		{"another merchant", strings.Replace(transaction("%s", "SUCCESS", 100, paidExtra), mchid, "1900000002", 1), "", storage.OrderCreated, false},
		{"no amount", `{"mchid":"` + mchid + `","out_trade_no":"%s","trade_state":"SUCCESS"` + paidExtra + `}`, "", storage.OrderPaid, false},
		{"not JSON", "%s paid", "", storage.OrderCreated, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			number := "N" + strings.ToUpper(fmt.Sprintf("%x", tc.name))
			number = number[:min(32, len(number))]
			if len(number) < 6 {
				number += "00000"
			}
			created(number)
			g.observer.contra = 0
			answer = reply{status: 200, body: strings.Replace(tc.body, "%s", number, 1), sign: tc.sign}
			r := g.do("GET", basicQuery+number, "")
			if body := text(t, r); tc.sign == "" && (r.StatusCode != 200 || body != answer.body) || tc.sign != "" && r.StatusCode != 500 {
				t.Errorf("%d %s", r.StatusCode, body)
			}
			o := g.order(number)
			if o.State != tc.want || (g.observer.contra == 1) != tc.contradicts {
				t.Errorf("%+v, contradictions %d", o, g.observer.contra)
			}
			if o.State == storage.OrderPaid && (o.TransactionID != "4200000001202611220000000001" || o.PaidAt.IsZero()) {
				t.Errorf("%+v", o)
			}
			if want := tc.want != storage.OrderCreated; (len(g.changed) == 1) != want {
				t.Errorf("LedgerChanged: %v", g.changed)
			}
			// Paid stays paid, whatever a later answer says.
			answer = reply{status: 200, body: transaction(number, "CLOSED", 100, "")}
			g.do("GET", basicQuery+number, "")
			if after := g.order(number); o.State == storage.OrderPaid && after.State != storage.OrderPaid {
				t.Errorf("%+v", after)
			}
		})
	}
}

func TestQueryByTransactionID(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			return codeURL(x)
		}
		return reply{status: 200, body: transaction("N20261122", "SUCCESS", 100, paidExtra)}
	}})
	g.do("POST", nativePath, basicBody("N20261122", "100"))
	if r := g.do("GET", "/v3/pay/transactions/id/4200000001202611220000000001?mchid="+mchid, ""); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	if o := g.order("N20261122"); o.State != storage.OrderPaid {
		t.Errorf("%+v", o)
	}
}

func TestCombineQuery(t *testing.T) {
	states := [2]string{"SUCCESS", "SUCCESS"}
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			return codeURL(x)
		}
		return reply{status: 200, body: fmt.Sprintf(`{"combine_mchid":"%s","combine_out_trade_no":"C1","sub_orders":[`+
			`{"mchid":"1900000102","sub_mchid":"1900000109","out_trade_no":"C1-S2","trade_state":"%s","transaction_id":"42B","success_time":"2026-11-22T18:00:01+08:00","amount":{"total_amount":5,"currency":"CNY"}},`+
			`{"mchid":"1900000101","out_trade_no":"C1-S1","trade_state":"%s","transaction_id":"42A","success_time":"2026-11-22T18:00:00+08:00","amount":{"total_amount":10,"currency":"CNY"}}]}`,
			mchid, states[0], states[1])}
	}})
	g.do("POST", combinePath, combineBody("C1"))
	states[1] = "NOTPAY"
	g.do("GET", "/v3/combine-transactions/out-trade-no/C1", "")
	if o := g.order("C1"); o.State != storage.OrderCreated {
		t.Errorf("half paid: %+v", o)
	}
	states[1] = "REFUND"
	g.do("GET", "/v3/combine-transactions/out-trade-no/C1", "")
	o := g.order("C1")
	if o.State != storage.OrderPaid || o.Subs[0].TransactionID != "42A" || o.Subs[1].TransactionID != "42B" || o.PaidAt.IsZero() {
		t.Errorf("%+v", o)
	}
}

func TestQueryResolvesUnknown(t *testing.T) {
	notThere := reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"订单不存在"}`}
	answer := notThere
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
		}
		return answer
	}})
	g.do("POST", nativePath, basicBody("N20261122", "100"))
	g.do("POST", nativePath, basicBody("N20261123", "100"))

	// The call may still be on its way: the answer proves nothing yet.
	r := g.do("GET", basicQuery+"N20261122", "")
	if r.StatusCode != 404 || r.Header.Get("Wechatpay-Gateway-Outcome") != "" || g.order("N20261122").State != storage.OrderUnknown {
		t.Error(r.StatusCode, r.Header, g.order("N20261122").State)
	}
	g.offset = 61 * time.Second
	answer.sign = "none"
	r = g.do("GET", basicQuery+"N20261122", "")
	if g.order("N20261122").State != storage.OrderUnknown || r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" {
		t.Error("an unverified 404 is taken for proof", r.StatusCode, r.Header)
	}
	answer = notThere
	if g.do("GET", basicQuery+"N20261122", ""); g.order("N20261122").State != storage.OrderRejected {
		t.Error(g.order("N20261122").State)
	}
	answer = reply{status: 200, body: transaction("N20261123", "NOTPAY", 100, "")}
	if g.do("GET", basicQuery+"N20261123", ""); g.order("N20261123").State != storage.OrderCreated {
		t.Error(g.order("N20261123").State)
	}
}

// TestNoSuchOrderOfAnotherKind: a combine order is none of the basic orders,
// and that says nothing about it.
func TestNoSuchOrderOfAnotherKind(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
		}
		return reply{status: 404, body: `{"code":"ORDER_NOT_EXIST"}`}
	}})
	g.do("POST", combinePath, combineBody("C20261122"))
	g.offset = 2 * time.Minute
	g.do("GET", basicQuery+"C20261122", "")
	if o := g.order("C20261122"); o.State != storage.OrderUnknown {
		t.Error(o.State)
	}
	// A repeat is on its way: "no such order" has to wait again.
	g.do("POST", combinePath, combineBody("C20261122"))
	g.offset += 30 * time.Second
	g.do("GET", "/v3/combine-transactions/out-trade-no/C20261122", "")
	if o := g.order("C20261122"); o.State != storage.OrderUnknown {
		t.Error(o.State)
	}
	g.offset += 31 * time.Second
	g.do("GET", "/v3/combine-transactions/out-trade-no/C20261122", "")
	if o := g.order("C20261122"); o.State != storage.OrderRejected {
		t.Error(o.State)
	}
}

func TestQueryOrder(t *testing.T) {
	answer := reply{status: 200, body: " " + transaction("N20261122", "SUCCESS", 100, paidExtra) + "\n"}
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			return codeURL(x)
		}
		return answer
	}})
	g.do("POST", nativePath, basicBody("N20261122", "100"))
	key := storage.OrderKey{Mchid: mchid, Number: "N20261122"}
	ctx := context.Background()
	body, err := g.api.QueryOrder(ctx, key, storage.OrderBasic)
	if err != nil || string(body) != answer.body || g.order("N20261122").State != storage.OrderPaid {
		t.Errorf("%s %v", body, err)
	}
	if sent := g.wx.requests()[1].uri; sent != basicQuery+"N20261122?mchid="+mchid {
		t.Error(sent)
	}
	for name, tc := range map[string]struct {
		answer reply
		key    storage.OrderKey
		kind   storage.OrderKind
		want   error
	}{
		"not there":     {reply{status: 404, body: `{"code":"ORDER_NOT_EXIST"}`}, key, storage.OrderBasic, payops.ErrOrderNotExist},
		"other 404":     {reply{status: 404, body: `{"code":"NOT_FOUND"}`}, key, storage.OrderBasic, payops.ErrQuery},
		"unsigned 404":  {reply{status: 404, body: `{"code":"ORDER_NOT_EXIST"}`, sign: "none"}, key, storage.OrderBasic, payops.ErrQuery},
		"unsigned 200":  {reply{status: 200, body: answer.body, sign: "bad"}, key, storage.OrderBasic, payops.ErrQuery},
		"5xx":           {reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}, key, storage.OrderBasic, payops.ErrQuery},
		"another order": {reply{status: 200, body: transaction("N20261123", "SUCCESS", 1, "")}, key, storage.OrderBasic, payops.ErrQuery},
		"parking":       {answer, storage.OrderKey{Mchid: mchid, SubMchid: "x", Number: "N20261122"}, storage.OrderParking, payops.ErrKind},
		"no kind":       {answer, key, "", payops.ErrKind},
		"dots":          {answer, storage.OrderKey{Mchid: mchid, Number: "../../x"}, storage.OrderBasic, payops.ErrKind},
		"other mchid":   {answer, storage.OrderKey{Mchid: "1900000002", Number: "N20261122"}, storage.OrderBasic, payops.ErrKind},
		"no sub_mchid":  {answer, key, storage.OrderPartner, payops.ErrKind},
	} {
		answer = tc.answer
		if body, err := g.api.QueryOrder(ctx, tc.key, tc.kind); !errors.Is(err, tc.want) || body != nil {
			t.Errorf("%s: %s %v, want %v", name, body, err, tc.want)
		}
	}
}

func TestClose(t *testing.T) {
	answer := reply{status: 204}
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if !strings.HasSuffix(x.uri, "/close") {
			return codeURL(x)
		}
		return answer
	}})
	g.do("POST", nativePath, basicBody("N20261122", "100"))
	answer.sign = "none"
	r := g.do("POST", basicQuery+"N20261122/close", `{"mchid": "`+mchid+`"}`)
	if r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" || g.order("N20261122").State != storage.OrderCreated {
		t.Error("an unsigned 204:", r.StatusCode, g.order("N20261122").State)
	}
	answer.sign = ""
	r = g.do("POST", basicQuery+"N20261122/close", "")
	if r.StatusCode != 204 || text(t, r) != "" || r.Header.Get("Wechatpay-Signature") == "" {
		t.Error(r.StatusCode)
	}
	sent := g.wx.requests()
	if sent[1].body != `{"mchid": "`+mchid+`"}` || sent[2].body != `{"mchid":"`+mchid+`"}` || sent[2].header.Get("Content-Type") != "application/json" {
		t.Errorf("%q %q", sent[1].body, sent[2].body)
	}
	if o, c := g.order("N20261122"), g.lastCall(); o.State != storage.OrderClosed || c.Outcome != storage.CallSucceeded || c.Status != 204 || c.Order != o.Key {
		t.Errorf("%+v %+v", o, c)
	}
	answer = reply{status: 400, body: `{"code":"ORDERPAID","message":"订单已支付"}`}
	g.do("POST", nativePath, basicBody("N20261123", "100"))
	if r := g.do("POST", basicQuery+"N20261123/close", ""); r.StatusCode != 400 || text(t, r) != answer.body || g.order("N20261123").State != storage.OrderCreated {
		t.Error(r.StatusCode, g.order("N20261123").State)
	}
	// An order that the ledger does not know is WeChat Pay's to judge.
	if r := g.do("POST", basicQuery+"N20261124/close", ""); r.StatusCode != 400 {
		t.Error(r.StatusCode)
	}
	if _, err := g.ledger.Order(context.Background(), storage.OrderKey{Mchid: mchid, Number: "N20261124"}); !errors.Is(err, storage.ErrNotFound) {
		t.Error("a close made an order up")
	}
}

func TestCombineClose(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if strings.HasSuffix(x.uri, "/close") {
			return reply{status: 204}
		}
		return codeURL(x)
	}})
	const path = "/v3/combine-transactions/out-trade-no/C1/close"
	const list = `[{"mchid":"1900000102","sub_mchid":"1900000109","out_trade_no":"C1-S2"},{"mchid":"1900000101","out_trade_no":"C1-S1"}]`
	g.do("POST", combinePath, combineBody("C1"))
	for name, body := range map[string]string{
		"one missing":   `{"combine_appid":"` + appid + `","sub_orders":[{"mchid":"1900000101","out_trade_no":"C1-S1"}]}`,
		"one too many":  `{"sub_orders":` + strings.Replace(list, "]", `,{"mchid":"1900000101","out_trade_no":"C1-S3"}]`, 1) + `}`,
		"another one":   `{"sub_orders":` + strings.Replace(list, "C1-S1", "C1-S3", 1) + `}`,
		"another payee": `{"sub_orders":` + strings.Replace(list, "1900000109", "1900000108", 1) + `}`,
		"no list items": `{"sub_orders":[]}`,
	} {
		g.refused(name, g.do("POST", path, body), 409, payops.RuleCloseList)
	}

	if r := g.do("POST", path, ""); r.StatusCode != 204 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	requests := g.wx.requests()
	want := `{"combine_appid":"` + appid + `","sub_orders":[{"mchid":"1900000101","out_trade_no":"C1-S1"},{"mchid":"1900000102","sub_mchid":"1900000109","out_trade_no":"C1-S2"}]}`
	if sent := requests[len(requests)-1].body; sent != want {
		t.Errorf("sent %s\nwant %s", sent, want)
	}
	if g.order("C1").State != storage.OrderClosed {
		t.Error(g.order("C1").State)
	}
	body := "{\"combine_appid\":\"" + appid + "\",\n\"sub_orders\": " + list + "}"
	if r := g.do("POST", path, body); r.StatusCode != 204 || r.Header.Get("Wechatpay-Gateway-Rule-Unchecked") != "" {
		t.Error(r.StatusCode, r.Header)
	}
	requests = g.wx.requests()
	if sent := requests[len(requests)-1].body; sent != body {
		t.Errorf("sent %q", sent)
	}
	r := g.do("POST", strings.Replace(path, "C1", "C9", 1), body)
	if r.StatusCode != 204 || !slices.Equal(r.Header.Values("Wechatpay-Gateway-Rule-Unchecked"), []string{"close_paid", "close_too_early", "close_list"}) {
		t.Error("an order that the ledger does not know:", r.StatusCode, r.Header)
	}
}

func TestSubOrderOfOurOwnMchid(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if strings.HasSuffix(x.uri, "/close") {
			return reply{status: http.StatusNoContent}
		}
		return codeURL(x)
	}})
	body := strings.Replace(combineBody("C1"), `"mchid":"1900000101"`, `"mchid":"`+mchid+`"`, 1)
	body = strings.Replace(body, "C1-S1", "N20261122", 1)
	if r := g.do("POST", combinePath, body); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	g.refused("close of a sub-order", g.do("POST", basicQuery+"N20261122/close", ""), 409, payops.RuleCombineOnly)
	g.refused("basic order with a sub-order's number", g.do("POST", nativePath, basicBody("N20261122", "10")), 409, payops.RuleNumberTaken)
	g.refused("registered with a sub-order's number", g.do("PUT", "/gateway/orders/N20261122", `{"amount":{"total":10}}`), 409, payops.RuleNumberTaken)
	// and the other way round
	if r := g.do("POST", nativePath, basicBody("N20261123", "10")); r.StatusCode != 200 {
		t.Fatal(r.StatusCode)
	}
	body = strings.ReplaceAll(strings.Replace(body, "N20261122", "N20261123", 1), "C1", "C2")
	g.refused("sub-order with a basic order's number", g.do("POST", combinePath, body), 409, payops.RuleNumberTaken)
}
