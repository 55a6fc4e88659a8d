package payops_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func reverseOf(number string) string {
	return "/v3/pay/transactions/out-trade-no/" + number + "/reverse"
}

// TestReverse: what was paid is refunded and nothing is left to refund, what was
// not is closed; only a verified success says so.
func TestReverse(t *testing.T) {
	done := reply{status: 200, body: `{"mchid":"` + mchid + `","out_trade_no":"N20261122"}`}
	for name, tc := range map[string]struct {
		state  storage.OrderState
		answer reply
		want   storage.OrderState
		total  storage.Fen // refunded, or reserved while nobody knows
	}{
		"paid":               {storage.OrderPaid, done, storage.OrderPaid, 100},
		"open":               {storage.OrderUnknown, done, storage.OrderClosed, 0},
		"created":            {storage.OrderCreated, done, storage.OrderClosed, 0},
		"closed":             {storage.OrderClosed, done, storage.OrderClosed, 0},
		"paid, rejected":     {storage.OrderPaid, reply{status: 400, body: `{"code":"INVALID_REQUEST"}`}, storage.OrderPaid, 0},
		"open, rejected":     {storage.OrderUnknown, reply{status: 400, body: `{"code":"USERPAYING"}`}, storage.OrderUnknown, 0},
		"open, unsigned":     {storage.OrderUnknown, reply{status: 200, body: done.body, sign: "none"}, storage.OrderUnknown, 100},
		"open, 5xx":          {storage.OrderUnknown, reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}, storage.OrderUnknown, 100},
		"open, 202":          {storage.OrderUnknown, reply{status: 202, body: `{}`}, storage.OrderUnknown, 100},
		"paid, cut":          {storage.OrderPaid, reply{status: 200, body: done.body, cut: 3}, storage.OrderPaid, 100},
		"paid, badly signed": {storage.OrderPaid, reply{status: 200, body: done.body, sign: "bad"}, storage.OrderPaid, 100},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: func(x got) reply {
				if x.method == http.MethodGet {
					return reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
				}
				if strings.Contains(x.uri, "refunds") {
					return takesRefunds("PROCESSING")(x)
				}
				return tc.answer
			}})
			o := paidOrder("N20261122")
			if o.State = tc.state; tc.state != storage.OrderPaid {
				o.PaidAt, o.TransactionID = time.Time{}, ""
			}
			put(t, g.ledger, o)
			for range 2 { // a repeat is harmless
				g.do("POST", reverseOf("N20261122"), "")
				if o := g.order("N20261122"); o.State != tc.want || o.RefundTotal != tc.total {
					t.Fatalf("%+v", o)
				}
			}
			sent := g.wx.requests()
			sent = slices.DeleteFunc(sent, func(x got) bool { return x.method == http.MethodGet })
			if sent := sent[0]; gjson.Get(sent.body, "mchid").String() != mchid || gjson.Get(sent.body, "appid").String() != appid || sent.uri != reverseOf("N20261122") {
				t.Errorf("%+v", sent)
			}
			if tc.want == storage.OrderPaid && tc.total > 0 {
				g.refused("nothing is left", g.do("POST", refundPath, refundBody("N20261122", "R1", 1)), 409, payops.Rule(guard.RefundTotal))
			}
		})
	}
}

// TestReverseWithinRefundRules: what a reversal gives back is reserved before it is
// sent, and never more than was paid, within a year of it.
func TestReverseWithinRefundRules(t *testing.T) {
	answer, state := reply{status: 200, body: `{}`, cut: 1}, "SUCCESS"
	g := newRig(t, rigOptions{answer: func(x got) reply {
		switch {
		case x.method == http.MethodGet && state == "":
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
		case x.method == http.MethodGet:
			return reply{status: 200, body: `{"mchid":"` + mchid + `","out_trade_no":"` + strings.Split(x.uri, "/")[5][:9] + `","trade_state":"` + state + `"}`}
		case strings.Contains(x.uri, "refunds"):
			return takesRefunds("PROCESSING")(x)
		}
		return answer
	}})
	order := func(number string, change func(*storage.Order)) {
		t.Helper()
		o := paidOrder(number)
		if o.TransactionID = "42" + number; change != nil {
			change(&o)
		}
		put(t, g.ledger, o)
	}
	refund := func(number, no string, fen int) *http.Response {
		t.Helper()
		return g.do("POST", refundPath, refundBody(number, no, fen))
	}

	// Unknown keeps what is reserved, until WeChat Pay's word settles it.
	order("N20261101", nil)
	if r := g.do("POST", reverseOf("N20261101"), ""); r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" {
		t.Fatal(r.StatusCode, r.Header)
	}
	g.refused("it may be reversed", refund("N20261101", "R1", 100), 409, payops.Rule(guard.RefundTotal))
	g.do("GET", basicQuery+"N20261101", "")
	g.refused("the call may be on its way", refund("N20261101", "R1", 1), 409, payops.Rule(guard.RefundTotal))
	answer = reply{status: 400, body: `{"code":"INVALID_REQUEST"}`}
	g.do("POST", reverseOf("N20261101"), "")
	if o := g.order("N20261101"); o.RefundTotal != 100 {
		t.Error("the rejection of a repeat frees what the first call may have given back")
	}
	g.offset += 2 * time.Minute
	g.do("GET", basicQuery+"N20261101", "")
	if o := g.order("N20261101"); o.RefundTotal != 0 || o.Reversal.Begun() {
		t.Errorf("%+v", o)
	}
	if r := refund("N20261101", "R1", 40); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	answer = reply{status: 200, body: `{}`}
	sent := len(g.wx.requests())
	g.offset += 2 * time.Minute
	g.refused("a refund stands", g.do("POST", reverseOf("N20261101"), ""), 409, payops.Rule(guard.RefundTotal))

	order("N20261102", func(o *storage.Order) { o.PaidAt = time.Now().AddDate(-2, 0, 0) })
	g.refused("two years", g.do("POST", reverseOf("N20261102"), ""), 409, payops.Rule(guard.RefundTooLate))
	if n := len(g.wx.requests()); n != sent {
		t.Errorf("%d requests were sent", n-sent)
	}

	// An order that nobody knows to be paid is asked for.
	open := func(o *storage.Order) { o.State, o.PaidAt, o.TransactionID = storage.OrderUnknown, time.Time{}, "" }
	order("N20261103", open)
	state = "USERPAYING"
	if r := g.do("POST", reverseOf("N20261103"), ""); r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Rule-Unchecked") != "" {
		t.Error(r.StatusCode, r.Header)
	}
	order("N20261104", open)
	state = ""
	for _, number := range []string{"N20261104", "N20261199"} {
		r := g.do("POST", reverseOf(number), "")
		if unchecked := r.Header.Values("Wechatpay-Gateway-Rule-Unchecked"); r.StatusCode != 200 || !slices.Contains(unchecked, "refund_not_paid") || !slices.Contains(unchecked, "refund_too_late") {
			t.Error(number, r.StatusCode, r.Header)
		}
	}

	// What is reversed is all of it, once.
	order("N20261105", nil)
	for range 2 {
		if r := g.do("POST", reverseOf("N20261105"), ""); r.StatusCode != 200 {
			t.Error(r.StatusCode, text(t, r))
		}
	}
	g.refused("reversed", refund("N20261105", "R5", 1), 409, payops.Rule(guard.RefundTotal))
}

func TestReverseOfOthers(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(got) reply { return reply{status: 200, body: `{}`} }})
	if r := g.do("POST", reverseOf("N20261199"), `{"mchid":"`+mchid+`"}`); r.StatusCode != 200 {
		t.Error("not the ledger's:", r.StatusCode)
	}
	o := paidOrder("C1")
	o.Kind = storage.OrderCombine
	o.Subs = []storage.SubOrder{{Mchid: mchid, OutTradeNo: "SUB-000001"}}
	put(t, g.ledger, o)
	g.refused("a sub-order", g.do("POST", reverseOf("SUB-000001"), ""), 409, payops.RuleCombineOnly)

	// A partner's order is another order than the merchant's own of the number.
	o = paidOrder("N20261122")
	o.Key.SubMchid, o.Kind = "1900000109", storage.OrderPartner
	put(t, g.ledger, o)
	put(t, g.ledger, paidOrder("N20261122"))
	if r := g.do("POST", "/v3/pay/partner/transactions/out-trade-no/N20261122/reverse", `{"sub_mchid":"1900000109"}`); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	if theirs, err := g.ledger.Order(context.Background(), o.Key); err != nil || theirs.RefundTotal != 100 || g.order("N20261122").RefundTotal != 0 {
		t.Errorf("%+v %v", theirs, err)
	}
}

// TestReversedByQuery: a query that finds the order reversed (已撤销) says so of the
// money too.
func TestReversedByQuery(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(got) reply {
		return reply{status: 200, body: `{"mchid":"` + mchid + `","appid":"` + appid + `","out_trade_no":"N20261122","trade_state":"REVOKED","amount":{"total":100,"currency":"CNY"}}`}
	}})
	put(t, g.ledger, paidOrder("N20261122"))
	g.do("GET", basicQuery+"N20261122", "")
	if o := g.order("N20261122"); o.State != storage.OrderPaid || o.RefundTotal != 100 {
		t.Errorf("%+v", o)
	}
}

// TestReverseCrash: a store that fails after the intent leaves a row, and the same
// request again puts the ledger right.
func TestReverseCrash(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(got) reply { return reply{status: 200, body: `{}`} }})
	put(t, g.ledger, paidOrder("N20261122"))
	g.ledger.fail = func(storage.Keys) error { return storage.ErrClosed }
	g.refused("before the intent", g.do("POST", reverseOf("N20261122"), ""), 503, payops.RuleStore)
	if len(g.wx.requests()) != 0 {
		t.Fatal("sent without an intent")
	}
	g.ledger.fail = failAfter(1)
	if r := g.do("POST", reverseOf("N20261122"), ""); r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != "ledger_not_updated" {
		t.Error(r.StatusCode, r.Header)
	}
	if c := g.lastCall(); c.Outcome != storage.CallPending {
		t.Errorf("%+v", c)
	}
	g.ledger.fail = nil
	g.do("POST", reverseOf("N20261122"), "")
	if o := g.order("N20261122"); o.RefundTotal != 100 {
		t.Errorf("%+v", o)
	}
}

// TestReverseWithinLimits: a reversal of what is paid counts as a refund of it.
func TestReverseWithinLimits(t *testing.T) {
	paid := true
	g := newRig(t, rigOptions{
		limits: map[string]guard.Limit{"all": {RefundPerDay: 150, RefundPerOrder: 100}},
		answer: func(x got) reply {
			if x.method == http.MethodPost {
				return reply{status: 200, body: `{}`}
			}
			state := "USERPAYING"
			if paid {
				state = "SUCCESS"
			}
			_, number, _ := strings.Cut(x.uri, "out-trade-no/")
			return reply{status: 200, body: `{"mchid":"` + mchid + `","out_trade_no":"` + number[:9] + `","trade_state":"` + state + `"}`}
		},
	})
	g.refused("not the ledger's", g.do("POST", reverseOf("N20261199"), ""), 403, payops.Rule(guard.LimitRefundPerOrder))
	for _, number := range []string{"N20261121", "N20261122", "N20261123", "N20261124"} {
		o := paidOrder(number)
		if o.TransactionID = "42" + number; number == "N20261123" || number == "N20261124" {
			o.State, o.PaidAt, o.TransactionID = storage.OrderUnknown, time.Time{}, ""
		}
		put(t, g.ledger, o)
	}
	large := paidOrder("N20261125")
	large.Amount.Total = 101
	put(t, g.ledger, large)
	g.refused("above what one order may", g.do("POST", reverseOf("N20261125"), ""), 403, payops.Rule(guard.LimitRefundPerOrder))
	if r := g.do("POST", reverseOf("N20261121"), ""); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	if r := g.do("POST", reverseOf("N20261121"), ""); r.StatusCode != 200 {
		t.Fatal("again:", r.StatusCode, text(t, r))
	}
	g.refused("above the day", g.do("POST", reverseOf("N20261122"), ""), 403, payops.Rule(guard.LimitRefundPerDay))
	g.refused("above the day, as WeChat Pay says", g.do("POST", reverseOf("N20261123"), ""), 403, payops.Rule(guard.LimitRefundPerDay))
	paid = false
	if r := g.do("POST", reverseOf("N20261124"), ""); r.StatusCode != 200 {
		t.Error("nothing was paid:", r.StatusCode, text(t, r))
	}
	g.refused("what is not counted", g.do("POST", "/v3/global/refunds", `{"out_refund_no":"R1","amount":{"refund":1,"total":1}}`), 403, payops.Rule(guard.LimitRefundPerOrder))
}

// failAfter fails every change of the ledger but the first n.
func failAfter(n int) func(storage.Keys) error {
	changes := 0
	return func(storage.Keys) error {
		if changes++; changes > n {
			return storage.ErrClosed
		}
		return nil
	}
}
