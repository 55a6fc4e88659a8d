package payops_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

const refundPath = "/v3/refund/domestic/refunds"

// refundBody is a refund of an order of 100 fen, in a spelling of its own.
func refundBody(order, number string, amount int) string {
	return fmt.Sprintf(`{ "out_trade_no":"%s", "out_refund_no" : "%s","sp_appid":"%s","notify_url":"%s","amount":{"refund": %d,"total":100,"currency":"CNY"}}`,
		order, number, appid, notifyURL, amount)
}

func paidOrder(number string) storage.Order {
	return storage.Order{
		Key: storage.OrderKey{Mchid: mchid, Number: number}, Kind: storage.OrderBasic, Merchant: "shop", Origin: storage.OriginGateway,
		State: storage.OrderPaid, Amount: storage.Money{Total: 100, Currency: "CNY"}, TransactionID: "42" + strings.ToLower(number),
		CreatedAt: time.Now().Add(-2 * time.Hour), PaidAt: time.Now().Add(-time.Hour),
	}
}

func put(t *testing.T, l storage.Ledger, o storage.Order) {
	t.Helper()
	err := l.Change(context.Background(), storage.Keys{Order: o.Key}, func(rows *storage.Rows) error {
		rows.Order = &o
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refundAnswer is WeChat Pay's about a refund of an order of 100 fen.
func refundAnswer(number, order, status string, amount int) reply {
	return reply{status: 200, body: fmt.Sprintf(`{"refund_id":"5%s","out_refund_no":"%s","transaction_id":"42%s","out_trade_no":"%s","status":"%s",`+
		`"amount":{"total":100,"refund":%d,"payer_total":100,"payer_refund":%d,"currency":"CNY"}}`, number, number, strings.ToLower(order), order, status, amount, amount)}
}

// takesRefunds answers applies like WeChat Pay, with the status given.
func takesRefunds(status string) func(got) reply {
	return func(x got) reply {
		if x.method != "POST" {
			return reply{status: 404, body: `{"code":"RESOURCE_NOT_EXISTS","message":"x"}`}
		}
		b := gjson.Parse(x.body)
		return refundAnswer(b.Get("out_refund_no").String(), b.Get("out_trade_no").String(), status, int(b.Get("amount.refund").Int()))
	}
}

func (g *rig) refundRow(number string) storage.Refund {
	g.t.Helper()
	r, err := g.ledger.Refund(context.Background(), storage.RefundKey{Mchid: mchid, OutRefundNo: number})
	if err != nil {
		g.t.Fatalf("refund %s: %v", number, err)
	}
	return r
}

func (g *rig) reserved(order string, total storage.Fen, count int) {
	g.t.Helper()
	if o := g.order(order); o.RefundTotal != total || o.RefundCount != count {
		g.t.Errorf("%s has reserved %s in %d refunds, want %d in %d", order, o.RefundTotal, o.RefundCount, total, count)
	}
}

// retryAfter wants a whole number of seconds, less the few that a test takes.
func retryAfter(t *testing.T, r *http.Response, want int) {
	t.Helper()
	if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || s > want || s < want-30 {
		t.Errorf("Retry-After %q, want %d", r.Header.Get("Retry-After"), want)
	}
}

func policy(t *testing.T, lines ...string) guard.Policy {
	t.Helper()
	var settings []guard.Setting
	for _, line := range lines {
		s, err := guard.ParseSetting(strings.Fields(line))
		if err != nil {
			t.Fatal(err)
		}
		settings = append(settings, s)
	}
	p, err := guard.NewPolicy(settings)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRefund(t *testing.T) {
	g := newRig(t, rigOptions{answer: takesRefunds("SUCCESS")})
	put(t, g.ledger, paidOrder("N20261122"))
	body := refundBody("N20261122", "R1", 30)
	r := g.do("POST", refundPath, body)
	if r.StatusCode != 200 || text(t, r) != refundAnswer("R1", "N20261122", "SUCCESS", 30).body || r.Header.Get("Wechatpay-Gateway-Rule-Unchecked") != "" {
		t.Fatal(r.StatusCode, r.Header)
	}
	sent := g.wx.requests()
	if len(sent) != 1 || sent[0].uri != refundPath || sent[0].body != body {
		t.Fatalf("%+v", sent)
	}
	// The apply's answer says success; the ledger waits for a callback or query.
	if row := g.refundRow("R1"); row.State != storage.RefundProcessing || row.RefundID != "5R1" || row.Amount != 30 || row.Total != 100 ||
		row.Currency != "CNY" || row.Order.Number != "N20261122" || row.TransactionID != "42n20261122" || row.Merchant != "shop" {
		t.Errorf("%+v", row)
	}
	g.reserved("N20261122", 30, 1)
	if o := g.order("N20261122"); o.LastRefundNo != "R1" || o.LastRefundAt.IsZero() {
		t.Errorf("%+v", o)
	}
	if c := g.lastCall(); c.Outcome != storage.CallSucceeded || c.Operation != "POST "+refundPath || c.Order.Number != "N20261122" {
		t.Errorf("%+v", c)
	}

	// Again, by the payment's other name too: sent, and reserved once.
	for _, again := range []string{body, strings.Replace(body, `"out_trade_no":"N20261122"`, `"transaction_id":"42n20261122"`, 1)} {
		if r := g.do("POST", refundPath, again); r.StatusCode != 200 {
			t.Error(r.StatusCode, text(t, r))
		}
	}
	g.reserved("N20261122", 30, 1)
	for name, body := range map[string]string{
		"other amount":   refundBody("N20261122", "R1", 31),
		"other currency": strings.Replace(body, "CNY", "USD", 1),
		"other total":    strings.Replace(body, `"total":100`, `"total":99`, 1),
	} {
		g.refused(name, g.do("POST", refundPath, body), 409, payops.Rule(guard.RefundContent))
	}
	r = g.do("POST", refundPath, refundBody("N20261122", "R2", 30))
	retryAfter(t, r, 60)
	g.refused("within the minute", r, 429, payops.Rule(guard.RefundInterval))
	g.offset = guard.RefundEvery
	g.refused("more than is left", g.do("POST", refundPath, refundBody("N20261122", "R2", 71)), 409, payops.Rule(guard.RefundTotal))
	if r := g.do("POST", refundPath, refundBody("N20261122", "R2", 70)); r.StatusCode != 200 {
		t.Error(r.StatusCode, text(t, r))
	}
	g.reserved("N20261122", 100, 2)
	g.offset = 2 * guard.RefundEvery
	g.refused("nothing is left", g.do("POST", refundPath, refundBody("N20261122", "R3", 1)), 409, payops.Rule(guard.RefundTotal))
	if n := len(g.wx.requests()); n != 4 {
		t.Errorf("%d requests", n)
	}
}

// TestRefundQuery: the verified word of a query moves the refund, and a closed
// one gives its amount free, once.
func TestRefundQuery(t *testing.T) {
	for status, want := range map[string]storage.RefundState{
		"PROCESSING": storage.RefundProcessing, "SUCCESS": storage.RefundSuccess, "ABNORMAL": storage.RefundAbnormal, "CLOSED": storage.RefundClosed,
		"OTHER": storage.RefundProcessing,
	} {
		t.Run(status, func(t *testing.T) {
			answer := refundAnswer("R1", "N20261122", status, 30)
			g := newRig(t, rigOptions{answer: func(x got) reply {
				if x.method == "POST" {
					return takesRefunds("PROCESSING")(x)
				}
				return answer
			}})
			put(t, g.ledger, paidOrder("N20261122"))
			g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
			for range 2 {
				if r := g.do("GET", refundPath+"/R1", ""); r.StatusCode != 200 || text(t, r) != answer.body {
					t.Fatal(r.StatusCode)
				}
				if row := g.refundRow("R1"); row.State != want {
					t.Fatalf("%+v", row)
				}
				total, count := storage.Fen(30), 1
				if want == storage.RefundClosed {
					total, count = 0, 0
				}
				g.reserved("N20261122", total, count)
			}
			r := g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
			if want == storage.RefundClosed {
				g.refused("a finished number", r, 409, payops.Rule(guard.RefundClosed))
			} else if r.StatusCode != 200 || g.refundRow("R1").State != want {
				t.Error(r.StatusCode, g.refundRow("R1").State)
			}
			if _, err := g.api.QueryRefund(context.Background(), storage.RefundKey{Mchid: mchid, OutRefundNo: "R2"}); !errors.Is(err, payops.ErrQuery) {
				t.Error("an answer about another refund:", err)
			}
		})
	}
}

func TestRefundQueryContradicts(t *testing.T) {
	var answer reply
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			return takesRefunds("PROCESSING")(x)
		}
		return answer
	}})
	put(t, g.ledger, paidOrder("N20261122"))
	g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
	for name, a := range map[string]reply{
		"amount":         refundAnswer("R1", "N20261122", "CLOSED", 31),
		"payment":        refundAnswer("R1", "N20261123", "CLOSED", 30),
		"another refund": refundAnswer("R2", "N20261122", "CLOSED", 30),
		"badly signed":   {status: 200, body: refundAnswer("R1", "N20261122", "CLOSED", 30).body, sign: "bad"},
		"4xx unsigned":   {status: 404, body: `{"code":"RESOURCE_NOT_EXISTS"}`, sign: "none"},
	} {
		answer = a
		g.do("GET", refundPath+"/R1", "")
		if row := g.refundRow("R1"); row.State != storage.RefundProcessing {
			t.Errorf("%s: %+v", name, row)
		}
		g.reserved("N20261122", 30, 1)
	}
	if g.observer.contra != 2 {
		t.Errorf("%d contradictions", g.observer.contra)
	}
}

// TestRefundOutcomes: a verified rejection gives the amount free and keeps to the
// number; an unknown outcome keeps both.
func TestRefundOutcomes(t *testing.T) {
	rejected := `{"code":"NOT_ENOUGH","message":"基本账户余额不足"}`
	for name, tc := range map[string]struct {
		answer reply
		state  storage.RefundState
		total  storage.Fen
	}{
		"rejected":          {reply{status: 403, body: rejected}, storage.RefundRejected, 0},
		"rejected unsigned": {reply{status: 403, body: rejected, sign: "none"}, storage.RefundUnknown, 30},
		"5xx":               {reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}, storage.RefundUnknown, 30},
		"202":               {reply{status: 202, body: `{}`}, storage.RefundUnknown, 30},
		"2xx badly signed":  {reply{status: 200, body: `{}`, sign: "bad"}, storage.RefundUnknown, 30},
		"cut":               {reply{status: 200, body: `{"refund_id":"5"}`, cut: 4}, storage.RefundUnknown, 30},
	} {
		t.Run(name, func(t *testing.T) {
			answer := func(got) reply { return tc.answer }
			g := newRig(t, rigOptions{answer: func(x got) reply { return answer(x) }})
			put(t, g.ledger, paidOrder("N20261122"))
			r := g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
			if (r.Header.Get("Wechatpay-Gateway-Outcome") == "unknown") != (tc.state == storage.RefundUnknown) {
				t.Error(r.StatusCode, r.Header)
			}
			if row := g.refundRow("R1"); row.State != tc.state {
				t.Fatalf("%+v", row)
			}
			g.reserved("N20261122", tc.total, int(tc.total/30))
			g.offset = time.Hour
			g.refused("the same refund under a new number", g.do("POST", refundPath, refundBody("N20261122", "R2", 30)), 409, payops.Rule(guard.RefundSameNumber))
			r = g.do("POST", refundPath, refundBody("N20261122", "R1", 40))
			if tc.state == storage.RefundUnknown {
				g.refused("other content", r, 409, payops.Rule(guard.RefundContent))
			}

			// A rejection of a repeat proves nothing about the call before it.
			answer = func(got) reply { return reply{status: 429, body: `{"code":"FREQUENCY_LIMITED","message":"x"}`} }
			g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
			if row := g.refundRow("R1"); row.State != tc.state {
				t.Fatalf("%+v", row)
			}
			// The same number again.
			answer = takesRefunds("PROCESSING")
			if r := g.do("POST", refundPath, refundBody("N20261122", "R1", 30)); r.StatusCode != 200 {
				t.Fatal(r.StatusCode, text(t, r))
			}
			if row := g.refundRow("R1"); row.State != storage.RefundProcessing {
				t.Errorf("%+v", row)
			}
			g.reserved("N20261122", 30, 1)
		})
	}
}

func TestRefundNothingSent(t *testing.T) {
	g := newRig(t, rigOptions{bases: []string{closedPort(t)}})
	put(t, g.ledger, paidOrder("N20261122"))
	g.refused("nobody listens", g.do("POST", refundPath, refundBody("N20261122", "R1", 30)), 502, payops.RuleUnreachable)
	if row := g.refundRow("R1"); row.State != storage.RefundRejected {
		t.Errorf("%+v", row)
	}
	g.reserved("N20261122", 0, 0)
}

// TestRefundCrash walks the steps of a refund with a store that fails from the
// n-th change on, as a process that dies does.
func TestRefundCrash(t *testing.T) {
	var g *rig
	g = newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			row := g.refundRow("R1")
			if row.State == storage.RefundSuccess || row.Amount != 30 {
				t.Errorf("at WeChat Pay's door: %+v", row)
			}
			g.reserved("N20261122", 30, 1)
			return takesRefunds("PROCESSING")(x)
		}
		return refundAnswer("R1", "N20261122", "SUCCESS", 30)
	}})
	put(t, g.ledger, paidOrder("N20261122"))
	body := refundBody("N20261122", "R1", 30)

	g.ledger.fail = func(storage.Keys) error { return storage.ErrClosed }
	g.refused("before the intent", g.do("POST", refundPath, body), 503, payops.RuleStore)
	if len(g.wx.requests()) != 0 {
		t.Fatal("sent without an intent")
	}
	changes := 0
	g.ledger.fail = func(storage.Keys) error {
		if changes++; changes > 1 {
			return storage.ErrClosed
		}
		return nil
	}
	r := g.do("POST", refundPath, body)
	if r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != "ledger_not_updated" {
		t.Error(r.StatusCode, r.Header)
	}
	if row, c := g.refundRow("R1"), g.lastCall(); row.State != storage.RefundIntended || c.Outcome != storage.CallPending {
		t.Fatalf("%+v %+v", row, c)
	}
	g.ledger.fail = nil
	g.offset = time.Hour
	g.refused("a new number", g.do("POST", refundPath, refundBody("N20261122", "R2", 20)), 409, payops.Rule(guard.RefundSameNumber))
	// A query resolves it; and so would the same number.
	if _, err := g.api.QueryRefund(context.Background(), storage.RefundKey{Mchid: mchid, OutRefundNo: "R1"}); err != nil {
		t.Fatal(err)
	}
	if row := g.refundRow("R1"); row.State != storage.RefundSuccess {
		t.Errorf("%+v", row)
	}
	g.reserved("N20261122", 30, 1)
}

// TestRefundThatNeverWas: "no such refund" frees the amount when no call can be
// on its way any more, and not before.
func TestRefundThatNeverWas(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "POST" {
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
		}
		return reply{status: 404, body: `{"code":"RESOURCE_NOT_EXISTS","message":"退款单不存在"}`}
	}})
	put(t, g.ledger, paidOrder("N20261122"))
	g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
	key := storage.RefundKey{Mchid: mchid, OutRefundNo: "R1"}
	if _, err := g.api.QueryRefund(context.Background(), key); !errors.Is(err, payops.ErrRefundNotExist) {
		t.Error(err)
	}
	g.reserved("N20261122", 30, 1)
	g.offset = time.Minute
	if _, err := g.api.QueryRefund(context.Background(), key); !errors.Is(err, payops.ErrRefundNotExist) {
		t.Error(err)
	}
	g.reserved("N20261122", 0, 0)
	if row := g.refundRow("R1"); row.State != storage.RefundRejected {
		t.Errorf("%+v", row)
	}
	if _, err := g.api.QueryRefund(context.Background(), storage.RefundKey{Mchid: "1", OutRefundNo: "R1"}); !errors.Is(err, payops.ErrKind) {
		t.Error(err)
	}
}

// TestRefundOfACallerThatIsGone: what has begun is finished.
func TestRefundOfACallerThatIsGone(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	g := newRig(t, rigOptions{answer: func(x got) reply {
		cancel()
		return takesRefunds("PROCESSING")(x)
	}})
	put(t, g.ledger, paidOrder("N20261122"))
	g.serve(newRequest(ctx, "POST", refundPath, refundBody("N20261122", "R1", 30)))
	if row, c := g.refundRow("R1"), g.lastCall(); row.State != storage.RefundProcessing || c.Outcome != storage.CallSucceeded {
		t.Errorf("%+v %+v", row, c)
	}
	g.serve(newRequest(ctx, "POST", refundPath, refundBody("N20261122", "R2", 30)))
	if n := len(g.wx.requests()); n != 1 {
		t.Error("a caller that was gone before it began:", n)
	}
}

// TestFiftyRefundsAtOnce: together they never exceed what was paid, over the
// reference model and over the embedded store.
func TestFiftyRefundsAtOnce(t *testing.T) {
	badger, err := badgerstore.Open(context.Background(), badgerstore.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = badger.Close() })
	for name, ledger := range map[string]storage.Ledger{"model": storagetest.NewModel(nil), "badger": badger} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			taken := map[string]int64{} // at WeChat Pay
			g := newRig(t, rigOptions{
				store: ledger, rules: policy(t, "off refund_interval refund_same_number"),
				answer: func(x got) reply {
					b := gjson.Parse(x.body)
					mu.Lock()
					defer mu.Unlock()
					taken[b.Get("out_refund_no").String()] = b.Get("amount.refund").Int()
					return takesRefunds("PROCESSING")(x)
				},
			})
			// Two gateways over one ledger: their locks do not know each other.
			other := newRig(t, rigOptions{store: ledger, rules: policy(t, "off refund_interval refund_same_number"), bases: []string{g.wx.server.URL}})
			put(t, ledger, paidOrder("N20261122"))
			var wg sync.WaitGroup
			statuses := make([]int, 50)
			for i := range 50 {
				wg.Go(func() {
					via := []*rig{g, other}[i%2]
					for statuses[i] == 0 || statuses[i] == 429 { // two gateways at one order: one waits
						statuses[i] = via.do("POST", refundPath, refundBody("N20261122", fmt.Sprintf("R%d", i), 7)).StatusCode
					}
				})
			}
			wg.Wait()
			var sum int64
			for _, amount := range taken {
				sum += amount
			}
			slices.Sort(statuses)
			if sum != 98 || len(taken) != 14 || statuses[13] != 200 || statuses[14] != 409 {
				t.Errorf("%d fen in %d refunds, %v", sum, len(taken), statuses)
			}
			o, err := ledger.Order(context.Background(), paidOrder("N20261122").Key)
			if err != nil || o.RefundTotal != 98 || o.RefundCount != 14 {
				t.Errorf("%+v %v", o, err)
			}
		})
	}
}

// TestRefundOfACombineOrder: by its sub-orders, each with its own sum.
func TestRefundOfACombineOrder(t *testing.T) {
	g := newRig(t, rigOptions{answer: takesRefunds("PROCESSING")})
	o := paidOrder("C1")
	o.Kind, o.TransactionID, o.Amount.Total = storage.OrderCombine, "", 200
	for _, n := range []string{"S1", "S2"} {
		o.Subs = append(o.Subs, storage.SubOrder{
			Mchid: mchid, OutTradeNo: n, Amount: storage.Money{Total: 100, Currency: "CNY"}, TransactionID: "42" + strings.ToLower(n),
		})
	}
	put(t, g.ledger, o)
	g.refused("whole", g.do("POST", refundPath, refundBody("C1", "R0", 30)), 409, payops.Rule(guard.RefundCombine))
	if r := g.do("POST", refundPath, refundBody("S1", "R1", 90)); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	if r := g.do("POST", refundPath, strings.Replace(refundBody("S2", "R2", 100), `"out_trade_no":"S2"`, `"transaction_id":"42s2"`, 1)); r.StatusCode != 200 {
		t.Error("the other sub-order, at once:", r.StatusCode, text(t, r))
	}
	g.offset = time.Hour
	g.refused("more than the sub-order", g.do("POST", refundPath, refundBody("S1", "R3", 11)), 409, payops.Rule(guard.RefundTotal))
	g.refused("two payments", g.do("POST", refundPath, strings.Replace(refundBody("S1", "R3", 1), `"out_trade_no"`, `"transaction_id":"42s2", "out_trade_no"`, 1)), 409, payops.RuleRefundOrder)
	g.reserved("C1", 190, 2)
	if o := g.order("C1"); o.Subs[0].Refunds.Total != 90 || o.Subs[1].Refunds.Total != 100 || o.Subs[1].Refunds.LastNo != "R2" {
		t.Errorf("%+v", o.Subs)
	}
	if row := g.refundRow("R2"); row.Order.Number != "S2" || row.TransactionID != "42s2" {
		t.Errorf("%+v", row)
	}
}

// TestRefundAsksWeChatPay for what the ledger does not know.
func TestRefundAsksWeChatPay(t *testing.T) {
	const all = "refund_total refund_count refund_same_number refund_interval"
	at := time.Now().Add(-time.Hour).Format(time.RFC3339)
	transaction := func(state, extra string) reply {
		return reply{status: 200, body: `{"mchid":"` + mchid + `","appid":"` + appid + `","out_trade_no":"N20261122","transaction_id":"42000","trade_state":"` + state +
			`","amount":{"total":100,"currency":"CNY"}` + extra + `}`}
	}
	for name, tc := range map[string]struct {
		answer    reply
		order     *storage.Order
		rule      payops.Rule
		unchecked string
	}{
		"unlisted, paid":     {transaction("SUCCESS", `,"success_time":"`+at+`"`), nil, "", all},
		"unlisted, not paid": {transaction("NOTPAY", ""), nil, payops.Rule(guard.RefundNotPaid), ""},
		"unlisted, too old":  {transaction("SUCCESS", `,"success_time":"2020-01-01T00:00:00+08:00"`), nil, payops.Rule(guard.RefundTooLate), ""},
		"unlisted, another": {reply{status: 200, body: `{"mchid":"` + mchid + `","out_trade_no":"N9","trade_state":"NOTPAY"}`}, nil, "",
			"refund_not_paid refund_currency refund_total refund_too_late refund_count refund_same_number refund_interval refund_old_orders"},
		"unlisted, no answer": {reply{status: 500, body: `{}`}, nil, "",
			"refund_not_paid refund_currency refund_total refund_too_late refund_count refund_same_number refund_interval refund_old_orders"},
		"unlisted, forged": {reply{status: 200, body: transaction("NOTPAY", "").body, sign: "bad"}, nil, "",
			"refund_not_paid refund_currency refund_total refund_too_late refund_count refund_same_number refund_interval refund_old_orders"},
		"listed, paid now":      {transaction("SUCCESS", `,"success_time":"`+at+`"`), &storage.Order{State: storage.OrderCreated}, "", ""},
		"listed, not paid":      {transaction("NOTPAY", ""), &storage.Order{State: storage.OrderCreated}, payops.Rule(guard.RefundNotPaid), ""},
		"registered, no answer": {reply{status: 500, body: `{}`}, &storage.Order{State: storage.OrderRegistered}, "", "refund_not_paid refund_too_late refund_old_orders"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: func(x got) reply {
				if x.method == "GET" {
					return tc.answer
				}
				return takesRefunds("PROCESSING")(x)
			}})
			if tc.order != nil {
				o := paidOrder("N20261122")
				o.State, o.TransactionID, o.PaidAt = tc.order.State, "", time.Time{}
				put(t, g.ledger, o)
			}
			r := g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
			if tc.rule != "" {
				g.refused(name, r, 409, tc.rule)
				return
			}
			if got := strings.Join(r.Header.Values("Wechatpay-Gateway-Rule-Unchecked"), " "); r.StatusCode != 200 || got != tc.unchecked {
				t.Errorf("%d %q %s", r.StatusCode, got, text(t, r))
			}
			if row := g.refundRow("R1"); row.State != storage.RefundProcessing {
				t.Errorf("%+v", row)
			}
			g.refused("other content", g.do("POST", refundPath, refundBody("N20261122", "R1", 31)), 409, payops.Rule(guard.RefundContent))
		})
	}
}

func TestAbnormalRefund(t *testing.T) {
	status := "PROCESSING"
	g := newRig(t, rigOptions{answer: func(x got) reply { return refundAnswer("R1", "N20261122", status, 30) }})
	put(t, g.ledger, paidOrder("N20261122"))
	g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
	const path, body = refundPath + "/5R1/apply-abnormal-refund", `{"out_refund_no":"R1","type":"MERCHANT_BANK_CARD"}`
	status = "ABNORMAL" // its callback is late: the gateway asks
	r := g.do("POST", path, body)
	if r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Rule-Unchecked") != "" || g.refundRow("R1").State != storage.RefundProcessing {
		t.Error(r.StatusCode, r.Header, g.refundRow("R1"))
	}
	g.reserved("N20261122", 30, 1)
	g.refused("another refund's id", g.do("POST", strings.Replace(path, "5R1", "5R2", 1), body), 409, payops.RuleRefundOrder)
	status = "SUCCESS"
	g.do("GET", refundPath+"/R1", "")
	g.refused("done", g.do("POST", path, body), 409, payops.RuleNotAbnormal)
	if r := g.do("POST", path, strings.Replace(body, "R1", "R9", 1)); r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Rule-Unchecked") != string(payops.RuleNotAbnormal) {
		t.Error("one that the ledger does not know:", r.StatusCode, r.Header)
	}
}

func TestRefundRefusals(t *testing.T) {
	good := refundBody("N20261122", "R1", 30)
	for _, tc := range []struct {
		name, body string
		status     int
		rule       payops.Rule
	}{
		{"no body", "", 400, payops.RuleBody},
		{"a list", "[]", 400, payops.RuleBody},
		{"twice", strings.Replace(good, `"out_refund_no"`, `"out_refund_no":"R2","out_refund_no"`, 1), 400, payops.RuleDuplicateKey},
		{"in another case", strings.Replace(good, `"out_refund_no"`, `"Out_Refund_No"`, 1), 400, payops.RuleBody},
		{"no number", strings.Replace(good, `"R1"`, `""`, 1), 400, payops.RuleNumber},
		{"number is a number", strings.Replace(good, `"R1"`, `1`, 1), 400, payops.RuleBody},
		{"number of 65", strings.Replace(good, `"R1"`, `"`+strings.Repeat("R", 65)+`"`, 1), 400, payops.RuleNumber},
		{"number with a slash", strings.Replace(good, `"R1"`, `"R/1"`, 1), 400, payops.RuleNumber},
		{"order with a slash", strings.Replace(good, `N20261122`, `../x`, 1), 400, payops.RuleNumber},
		{"order of 33", strings.Replace(good, `N20261122`, strings.Repeat("N", 33), 1), 400, payops.RuleNumber},
		{"transaction with a dot", strings.Replace(good, `"out_trade_no":"N20261122"`, `"transaction_id":"4.2"`, 1), 400, payops.RuleNumber},
		{"no payment", strings.Replace(good, `"out_trade_no":"N20261122",`, ``, 1), 400, payops.RuleNumber},
		{"sub_mchid of letters", strings.Replace(good, `{ `, `{"sub_mchid":"x",`, 1), 400, payops.RuleMchid},
		{"no amount", strings.Replace(good, `"amount"`, `"amounts"`, 1), 400, payops.RuleAmount},
		{"refund of 0", refundBody("N20261122", "R1", 0), 400, payops.RuleAmount},
		{"refund below 0", refundBody("N20261122", "R1", -1), 400, payops.RuleAmount},
		{"refund of a float", strings.Replace(good, `: 30`, `: 30.0`, 1), 400, payops.RuleAmount},
		{"refund in text", strings.Replace(good, `: 30`, `: "30"`, 1), 400, payops.RuleAmount},
		{"refund beyond int64", strings.Replace(good, `: 30`, `: 9223372036854775808`, 1), 400, payops.RuleAmount},
		{"currency in small letters", strings.Replace(good, `CNY`, `cny`, 1), 400, payops.RuleAmount},
		{"more than its total", refundBody("N20261122", "R1", 101), 409, payops.Rule(guard.RefundTotal)},
		{"another currency", strings.Replace(good, `CNY`, `USD`, 1), 409, payops.Rule(guard.RefundCurrency)},
		{"notify_url with a query", strings.Replace(good, notifyURL, "https://pay.example.com/n?a", 1), 400, payops.Rule(guard.NotifyURL)},
		{"notify_url inside", strings.Replace(good, notifyURL, "http://10.0.0.1/n", 1), 400, payops.Rule(guard.NotifyURL)},
		{"a transaction of another sub-merchant", strings.Replace(good, `"out_trade_no":"N20261122"`, `"sub_mchid":"1900000109","transaction_id":"42n20261122"`, 1), 409, payops.RuleMchid},
		{"another payment's transaction", strings.Replace(good, `{ `, `{"transaction_id":"43",`, 1), 409, payops.RuleRefundOrder},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: takesRefunds("PROCESSING")})
			put(t, g.ledger, paidOrder("N20261122"))
			g.refused(tc.name, g.do("POST", refundPath, tc.body), tc.status, tc.rule)
			if len(g.wx.requests()) != 0 || len(g.ledger.allCalls()) != 0 {
				t.Error("something was sent or written")
			}
			g.reserved("N20261122", 0, 0)
		})
	}
	g := newRig(t, rigOptions{})
	for target, rule := range map[string]payops.Rule{
		refundPath + "/" + strings.Repeat("R", 65):              payops.RuleNumber,
		refundPath + "/R1?sub_mchid=1&sub_mchid=2":              payops.RulePath,
		refundPath + "/R1?sub_mchid=x":                          payops.RuleMchid,
		"/v3/ecommerce/refunds/out-refund-no/R%201?sub_mchid=1": payops.RuleNumber,
	} {
		g.refused(target, g.do("GET", target, ""), 400, rule)
	}
	g.refused("a query with a body", g.do("GET", refundPath+"/R1", "{}"), 400, payops.RuleBody)
	if len(g.wx.requests()) != 0 {
		t.Error("something was sent")
	}
}

// TestRuleModes: a rule that warns is told of, one that is off is silent.
func TestRuleModes(t *testing.T) {
	for mode, warning := range map[string]string{"warn": "refund_too_late", "off": ""} {
		g := newRig(t, rigOptions{answer: takesRefunds("PROCESSING"), rules: policy(t, mode+" refund_too_late")})
		o := paidOrder("N20261122")
		o.PaidAt = time.Now().AddDate(-1, 0, -1)
		put(t, g.ledger, o)
		r := g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
		if r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != warning {
			t.Errorf("%s: %d %v", mode, r.StatusCode, r.Header)
		}
	}
	// close_too_early warns by default, and refuses where it is enforced.
	for _, rules := range []guard.Policy{{}, policy(t, "enforce close_too_early")} {
		g := newRig(t, rigOptions{rules: rules, answer: func(x got) reply {
			if strings.HasSuffix(x.uri, "/close") {
				return reply{status: 204}
			}
			return codeURL(x)
		}})
		g.do("POST", nativePath, basicBody("N20261122", "100"))
		r := g.do("POST", "/v3/pay/transactions/out-trade-no/N20261122/close", "")
		if rules.Mode(guard.CloseTooEarly) == guard.Warn {
			if r.StatusCode != 204 || r.Header.Get("Wechatpay-Gateway-Warning") != "close_too_early" {
				t.Error(r.StatusCode, r.Header)
			}
			continue
		}
		retryAfter(t, r, 300)
		g.refused("too early", r, 409, payops.Rule(guard.CloseTooEarly))
	}
}
