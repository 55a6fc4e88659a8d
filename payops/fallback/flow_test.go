package fallback_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/fallback"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mchid     = "1900000001"
	appid     = "wx8888888888888888"
	notifyURL = "https://pay.example.com/wechatpay/notify/shop"
)

// run gives the test a clock of its own, which stands still while anything works:
// the gateway's, the SDK's and the sandbox's at once.
func run(t *testing.T, test func(t *testing.T, g *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newRig(t)) })
}

// rig is a payment API that leaves queries on the agenda, in front of a sandbox,
// and a fallback that does them when the test's clock says so.
type rig struct {
	t        *testing.T
	began    time.Time
	platform *sandbox.Platform
	ledger   *storagetest.Model
	api      *payops.API
	fallback *fallback.Fallback
	events   *events
	queries  int
	closes   int
	calls    *calls
	gone     bool // the merchant is not configured
}

// arrived signals when a merchant holds keys.
type arrived struct {
	merchant.NopMetrics
	keys chan struct{}
}

func (a arrived) KeySetChanged(_ string, keys *merchant.KeySet) {
	if keys.Len() > 0 {
		select {
		case a.keys <- struct{}{}:
		default:
		}
	}
}

// takeAll is a merchant that takes every callback.
type takeAll struct{}

func (takeAll) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
}

// direct brings requests to the sandbox without a connection.
type direct struct{ g *rig }

func (d direct) RoundTrip(r *http.Request) (answer *http.Response, err error) {
	served := httptest.NewRequest(r.Method, r.URL.String(), r.Body).WithContext(r.Context())
	switch {
	case strings.HasSuffix(served.URL.Path, "/close"):
		d.g.closes++
	case r.Method == http.MethodGet && strings.HasPrefix(served.URL.Path, "/v3/"):
		d.g.queries++
	}
	served.Header, served.RemoteAddr = r.Header, "127.0.0.1:1"
	defer func() {
		if recover() != nil { // the sandbox cuts the connection
			answer, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	d.g.platform.ServeHTTP(w, served)
	return w.Result(), nil
}

func newRig(t *testing.T) *rig {
	t.Helper()
	g := &rig{t: t, began: time.Now(), events: &events{serves: true}}
	p, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: appid}}, Client: &http.Client{Transport: takeAll{}},
		RefundTime: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	g.platform = p
	wire := &http.Client{Transport: direct{g}}
	keys := arrived{keys: make(chan struct{}, 1)}
	m, err := merchant.New(merchant.Config{Name: "shop", Mchid: mchid, Sandbox: "http://127.0.0.1:1", NotifyURL: notifyURL},
		merchant.Deps{Metrics: keys, HTTP: wire})
	if err != nil {
		t.Fatal(err)
	}
	m.Start(nil)
	<-keys.keys
	m.Stop() // they do not change
	callers, err := caller.New(mchid, []caller.Config{{Name: "erp", Token: merchant.NewSecret("a-token-of-the-erp"), Allow: []string{"*"}}})
	if err != nil {
		t.Fatal(err)
	}
	g.ledger = storagetest.NewModel(nil)
	g.calls = &calls{Ledger: g.ledger}
	if g.api, err = payops.New(payops.Config{Merchant: m, Ledger: g.calls, Callers: callers, HTTP: wire, Fallback: true}); err != nil {
		t.Fatal(err)
	}
	g.fallback, err = fallback.New(fallback.Config{
		Ledger: g.ledger, Events: g.events, Jitter: func() float64 { return 0 }, Rate: 1000,
		API: func(name string) fallback.API {
			if name != "shop" || g.gone {
				return nil
			}
			return adapter{g.api}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// calls keeps the row of the call that was written last.
type calls struct {
	storage.Ledger
	last storage.Call
}

func (c *calls) Change(ctx context.Context, keys storage.Keys, change func(*storage.Rows) error) error {
	return c.Ledger.Change(ctx, keys, func(rows *storage.Rows) error {
		err := change(rows)
		if err == nil && rows.Call != nil {
			c.last = *rows.Call
		}
		return err
	})
}

// adapter is how the gateway gives its API to the fallback.
type adapter struct{ *payops.API }

func (a adapter) QueryRefund(ctx context.Context, key storage.RefundKey, ecommerce bool) ([]byte, error) {
	if ecommerce {
		return a.QueryEcommerceRefund(ctx, key)
	}
	return a.API.QueryRefund(ctx, key)
}

// events is an inbox that knows events by their type and numbers.
type events struct {
	serves bool
	fails  error
	there  []string
	told   []fallback.Event
	urls   []string
}

func name(e fallback.Event) string {
	p := gjson.ParseBytes(e.Plaintext)
	return e.EventType + " " + p.Get("out_trade_no").String() + p.Get("combine_out_trade_no").String() + " " + p.Get("out_refund_no").String()
}

func (v *events) Serves(string) bool { return v.serves }

func (v *events) Told(_ context.Context, _ string, e fallback.Event) (bool, error) {
	return slices.Contains(v.there, name(e)), v.fails
}

func (v *events) Tell(_ context.Context, _, url string, e fallback.Event) error {
	if v.fails != nil {
		return v.fails
	}
	if !slices.Contains(v.there, name(e)) {
		v.there, v.told, v.urls = append(v.there, name(e)), append(v.told, e), append(v.urls, url)
	}
	return nil
}

func (g *rig) do(method, target, body string, status int) string {
	g.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer a-token-of-the-erp")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	g.api.ServeHTTP(w, r)
	if w.Code != status {
		g.t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
	return w.Body.String()
}

// order creates a Native order; more are further members.
func (g *rig) order(number string, more string) {
	g.t.Helper()
	g.do("POST", "/v3/pay/transactions/native", `{"description":"d","out_trade_no":"`+number+`","amount":{"total":100,"currency":"CNY"}`+more+`}`, 200)
}

// steps does the work that is due until nothing is left, or the bound is over,
// moving the clock from one due time to the next, and returns when each step was
// done, since the beginning.
func (g *rig) steps(bound time.Duration) []time.Duration {
	g.t.Helper()
	var done []time.Duration
	for {
		kind, w, ok := g.next(g.began.Add(bound))
		if !ok {
			return done
		}
		do := g.fallback.Order
		if kind == fallback.KindRefund {
			do = g.fallback.Refund
		}
		next, err := do(g.t.Context(), w.Work)
		if err != nil {
			g.t.Logf("%s at %v: %v", w.ID, time.Since(g.began), err)
			if next.IsZero() {
				g.t.Error("an error without a time to try again")
			}
		}
		done = append(done, w.Due.Sub(g.began))
		if err := g.ledger.FinishWork(g.t.Context(), kind, w.ID, w.Fence, next); err != nil {
			g.t.Fatal(err)
		}
	}
}

// next claims the work that is due first, and moves the clock there.
func (g *rig) next(until time.Time) (kind string, w storage.ClaimedWork, ok bool) {
	g.t.Helper()
	for at := time.Now(); !at.After(until); at = at.Add(step(at.Sub(g.began))) {
		time.Sleep(time.Until(at))
		for _, kind := range []string{fallback.KindOrder, fallback.KindRefund} {
			list, err := g.ledger.ClaimWork(g.t.Context(), kind, storage.ClaimTerms{Owner: "test", Lease: time.Second}, 1)
			if err != nil {
				g.t.Fatal(err)
			}
			if len(list) == 1 {
				return kind, list[0], true
			}
		}
	}
	time.Sleep(time.Until(until))
	return "", w, false
}

// step is how far the clock moves at an age.
func step(age time.Duration) time.Duration {
	switch {
	case age < 10*time.Minute:
		return time.Second
	case age < 3*time.Hour:
		return 10 * time.Second
	}
	return 10 * time.Minute
}

func seconds(list ...float64) []time.Duration {
	var out []time.Duration
	for _, s := range list {
		out = append(out, time.Duration(s*float64(time.Second)))
	}
	return out
}

func (g *rig) state(number string) storage.OrderState {
	g.t.Helper()
	o, err := g.ledger.Order(g.t.Context(), storage.OrderKey{Mchid: mchid, Number: number})
	if err != nil {
		g.t.Fatal(err)
	}
	return o.State
}

func equal(t *testing.T, what string, got, want []time.Duration) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
		return
	}
	for i := range got {
		if d := got[i] - want[i]; d < 0 || d > time.Second {
			t.Errorf("%s: %v, want %v", what, got, want)
			return
		}
	}
}

// The whole schedule of an order that nobody pays: WeChat Pay closes it in the end.
func TestOrderNobodyPays(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.order("ORDER-1", "")
		got := g.steps(8 * 24 * time.Hour)
		equal(t, "steps", got, seconds(5, 30, 60, 180, 300, 600, 1800, 3600, 7200, 86400, 604800))
		if g.queries != 11 || g.closes != 0 || len(g.events.told) != 0 || g.state("ORDER-1") != storage.OrderClosed {
			t.Errorf("%d queries, %d closes, %d told, %s", g.queries, g.closes, len(g.events.told), g.state("ORDER-1"))
		}
	})
}

// A payment whose callback never comes is told at the next step, once.
func TestLostCallbackOfAPayment(t *testing.T) {
	for _, paidAfter := range []int{0, 1, 4, 8} {
		run(t, func(t *testing.T, g *rig) {
			g.order("ORDER-1", "")
			for range paidAfter {
				kind, w, _ := g.next(g.began.Add(48 * time.Hour))
				next, err := g.fallback.Order(t.Context(), w.Work)
				if err != nil {
					t.Fatal(err)
				}
				if err := g.ledger.FinishWork(t.Context(), kind, w.ID, w.Fence, next); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := g.platform.Pay("ORDER-1", sandbox.Faults{Lost: true}); err != nil {
				t.Fatal(err)
			}
			if got := g.steps(48 * time.Hour); len(got) != 1 {
				t.Errorf("steps %v", got)
			}
			if len(g.events.told) != 1 || g.state("ORDER-1") != storage.OrderPaid || g.events.urls[0] != notifyURL {
				t.Fatalf("told %v, %s", g.events.there, g.state("ORDER-1"))
			}
			e := g.events.told[0]
			p := gjson.ParseBytes(e.Plaintext)
			if e.EventType != "TRANSACTION.SUCCESS" || p.Get("trade_state").String() != "SUCCESS" || p.Get("amount.total").Int() != 100 ||
				p.Get("transaction_id").String() == "" {
				t.Errorf("%s %s", e.EventType, e.Plaintext)
			}
		})
	}
}

// What a callback has told is not asked for; what only a caller's query found is.
func TestPaidInTheLedger(t *testing.T) {
	for _, told := range []bool{true, false} {
		run(t, func(t *testing.T, g *rig) {
			g.order("ORDER-1", "")
			if _, err := g.platform.Pay("ORDER-1", sandbox.Faults{Lost: true}); err != nil {
				t.Fatal(err)
			}
			g.do("GET", "/v3/pay/transactions/out-trade-no/ORDER-1", "", 200) // the caller's own
			if told {
				g.events.there = append(g.events.there, "TRANSACTION.SUCCESS ORDER-1 ")
			}
			g.queries = 0
			if got := g.steps(time.Hour); len(got) != 1 {
				t.Errorf("steps %v", got)
			}
			want := 1
			if told {
				want = 0
			}
			if g.queries != want || len(g.events.told) != want {
				t.Errorf("%d queries, %d told", g.queries, len(g.events.told))
			}
		})
	}
}

// An order with a time_expire of its own is asked for and closed a minute after it.
func TestExpiredOrderIsClosed(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		run(t, func(t *testing.T, g *rig) {
			expire := g.began.Add(20 * time.Minute)
			more := `,"time_expire":"` + expire.Format(time.RFC3339) + `"`
			if foreign {
				more += `,"notify_url":"https://elsewhere.example.com/n"`
			}
			g.order("ORDER-1", more)
			got := g.steps(8 * 24 * time.Hour)
			last := got[len(got)-1] - 21*time.Minute
			if last < -time.Second || last > time.Second {
				t.Errorf("foreign %v: %v", foreign, got)
			}
			if g.closes != 1 || g.state("ORDER-1") != storage.OrderClosed || len(g.events.told) != 0 {
				t.Errorf("foreign %v: %d closes, %s", foreign, g.closes, g.state("ORDER-1"))
			}
			if foreign && g.queries != 1 {
				t.Errorf("%d queries of an order whose callbacks go elsewhere", g.queries)
			}
			if call := g.calls.last; call.Caller != "gateway" || !strings.HasSuffix(call.Path, "/close") || call.Outcome != storage.CallSucceeded {
				t.Errorf("%+v", call)
			}
		})
	}
}

// A payment that comes between the last question and the close is told.
func TestPaymentWinsTheRace(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.order("ORDER-1", `,"time_expire":"`+g.began.Add(20*time.Minute).Format(time.RFC3339)+`"`)
		stale, err := g.api.QueryOrder(t.Context(), storage.OrderKey{Mchid: mchid, Number: "ORDER-1"}, storage.OrderBasic)
		if err != nil {
			t.Fatal(err)
		}
		g.steps(11 * time.Minute)
		if _, err := g.platform.Pay("ORDER-1", sandbox.Faults{Lost: true}); err != nil {
			t.Fatal(err)
		}
		api := &racing{adapter: adapter{g.api}, stale: stale}
		g.fallback, err = fallback.New(fallback.Config{Ledger: g.ledger, Events: g.events, API: func(string) fallback.API { return api }})
		if err != nil {
			t.Fatal(err)
		}
		g.steps(24 * time.Hour)
		if g.closes != 1 || len(g.events.told) != 1 || g.state("ORDER-1") != storage.OrderPaid {
			t.Errorf("%d closes, %v, %s", g.closes, g.events.there, g.state("ORDER-1"))
		}
	})
}

// racing answers with what was true before, until the order is closed.
type racing struct {
	adapter
	stale []byte
}

func (r *racing) QueryOrder(ctx context.Context, key storage.OrderKey, kind storage.OrderKind) ([]byte, error) {
	if r.stale != nil {
		return r.stale, nil
	}
	return r.adapter.QueryOrder(ctx, key, kind)
}

func (r *racing) CloseOrder(ctx context.Context, key storage.OrderKey, kind storage.OrderKind) error {
	r.stale = nil
	return r.adapter.CloseOrder(ctx, key, kind)
}

// Nothing is told of an order whose callbacks go elsewhere, and nothing asked.
func TestForeignOrder(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.order("ORDER-1", `,"notify_url":"https://elsewhere.example.com/n"`)
		if _, err := g.platform.Pay("ORDER-1", sandbox.Faults{Lost: true}); err != nil {
			t.Fatal(err)
		}
		if got := g.steps(8 * 24 * time.Hour); len(got) != 1 || g.queries != 0 || len(g.events.told) != 0 {
			t.Errorf("%v, %d queries, %d told", got, g.queries, len(g.events.told))
		}
	})
}

// Without a notify handler nothing is asked; when there is one, the schedule goes
// on with its next step.
func TestNoNotifyHandler(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.events.serves = false
		g.order("ORDER-1", "")
		if _, err := g.platform.Pay("ORDER-1", sandbox.Faults{Lost: true}); err != nil {
			t.Fatal(err)
		}
		g.steps(4 * time.Minute)
		if g.queries != 0 || len(g.events.told) != 0 {
			t.Errorf("%d queries, %d told", g.queries, len(g.events.told))
		}
		g.events.serves = true
		g.steps(10 * time.Minute)
		if g.queries != 1 || len(g.events.told) != 1 {
			t.Errorf("%d queries, %d told", g.queries, len(g.events.told))
		}
	})
}

// A merchant that is gone from the configuration keeps its work.
func TestMerchantNotConfigured(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.gone = true
		g.order("ORDER-1", "")
		if _, err := g.platform.Pay("ORDER-1", sandbox.Faults{Lost: true}); err != nil {
			t.Fatal(err)
		}
		if got := g.steps(time.Hour); len(got) != 6 {
			t.Errorf("steps %v", got)
		}
		g.gone = false
		g.steps(2 * time.Hour)
		if len(g.events.told) != 1 {
			t.Error("not told when the merchant is back")
		}
	})
}

// Calls that fail, and an inbox that does, are tried again; nothing is lost.
func TestQueriesThatFail(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.order("ORDER-1", "")
		if _, err := g.platform.Pay("ORDER-1", sandbox.Faults{Lost: true}); err != nil {
			t.Fatal(err)
		}
		if err := g.platform.FailAPI(sandbox.APIFault{Kind: sandbox.FaultWrongSignature, Path: "/v3/pay/transactions/out-trade-no", Count: 2}); err != nil {
			t.Fatal(err)
		}
		g.events.fails = errors.New("the disk is full")
		g.steps(2 * time.Minute)
		g.events.fails = nil
		got := g.steps(time.Hour)
		if len(g.events.told) != 1 || len(got) != 1 {
			t.Errorf("%v, %v", got, g.events.there)
		}
	})
}

// An order that WeChat Pay never got is given up when that is sure.
func TestOrderThatNeverArrived(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		if err := g.platform.FailAPI(sandbox.APIFault{Kind: sandbox.FaultDropBefore, Path: "/v3/pay/transactions/native", Count: 10}); err != nil {
			t.Fatal(err)
		}
		g.do("POST", "/v3/pay/transactions/native", `{"description":"d","out_trade_no":"ORDER-1","amount":{"total":100,"currency":"CNY"}}`, 500)
		got := g.steps(24 * time.Hour)
		if g.state("ORDER-1") != storage.OrderRejected || got[len(got)-1] > 3*time.Minute {
			t.Errorf("%s after %v", g.state("ORDER-1"), got)
		}
	})
}

// An order that was refused has nothing to ask for; a payment code neither.
func TestNothingToAsk(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.do("POST", "/v3/pay/transactions/native", `{"out_trade_no":"ORDER-1","amount":{"total":100,"currency":"CNY"}}`, 400)
		if got := g.steps(24 * time.Hour); len(got) != 1 || g.queries != 0 {
			t.Errorf("%v, %d queries", got, g.queries)
		}
	})
}

// A combine order is one event.
func TestLostCallbackOfACombineOrder(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		var subs bytes.Buffer
		for i := range 2 {
			if i > 0 {
				subs.WriteByte(',')
			}
			fmt.Fprintf(&subs, `{"mchid":%q,"out_trade_no":"SUB-%d00","attach":"a","description":"d","amount":{"total_amount":50,"currency":"CNY"}}`, mchid, i)
		}
		g.do("POST", "/v3/combine-transactions/native", `{"combine_out_trade_no":"COMBINE-1","sub_orders":[`+subs.String()+`]}`, 200)
		if _, err := g.platform.Pay("COMBINE-1", sandbox.Faults{Lost: true}); err != nil {
			t.Fatal(err)
		}
		// A sub-order is refunded before anybody asks: the query says REFUND.
		g.do("GET", "/v3/combine-transactions/out-trade-no/COMBINE-1", "", 200)
		g.do("POST", "/v3/refund/domestic/refunds", `{"out_trade_no":"SUB-000","out_refund_no":"R-1","amount":{"refund":50,"total":50,"currency":"CNY"}}`, 200)
		if _, err := g.platform.WaitRefund(t.Context(), "R-1", sandbox.RefundSuccess); err != nil {
			t.Fatal(err)
		}
		g.steps(10 * time.Minute)
		if !slices.Equal(g.events.there, []string{"TRANSACTION.SUCCESS COMBINE-1 ", "REFUND.SUCCESS SUB-000 R-1"}) {
			t.Errorf("%q", g.events.there)
		}
		for _, s := range gjson.GetBytes(g.events.told[0].Plaintext, "sub_orders.#.trade_state").Array() {
			if s.String() != "SUCCESS" {
				t.Errorf("%s", g.events.told[0].Plaintext)
			}
		}
	})
}

// refund pays an order and applies for a refund of it.
func (g *rig) refund(number, more string) {
	g.t.Helper()
	g.order("ORDER-"+number, "")
	if _, err := g.platform.Pay("ORDER-"+number, sandbox.Faults{Lost: true}); err != nil {
		g.t.Fatal(err)
	}
	g.do("GET", "/v3/pay/transactions/out-trade-no/ORDER-"+number, "", 200)
	g.events.there = append(g.events.there, "TRANSACTION.SUCCESS ORDER-"+number+" ")
	g.do("POST", "/v3/refund/domestic/refunds", `{"out_trade_no":"ORDER-`+number+`","out_refund_no":"REFUND-`+number+`","amount":{"refund":40,"total":100,"currency":"CNY"}`+more+`}`, 200)
}

func (g *rig) refundState(number string) storage.RefundState {
	g.t.Helper()
	r, err := g.ledger.Refund(g.t.Context(), storage.RefundKey{Mchid: mchid, OutRefundNo: "REFUND-" + number})
	if err != nil {
		g.t.Fatal(err)
	}
	return r.State
}

// A refund's callback that never comes is found by the first query, with the
// callback's field names.
func TestLostCallbackOfARefund(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.refund("1", "")
		if _, err := g.platform.WaitRefund(t.Context(), "REFUND-1", sandbox.RefundSuccess); err != nil {
			t.Fatal(err)
		}
		equal(t, "steps", g.steps(24*time.Hour), seconds(5, 60))
		if len(g.events.told) != 1 || g.refundState("1") != storage.RefundSuccess {
			t.Fatalf("%v %s", g.events.there, g.refundState("1"))
		}
		e := g.events.told[0]
		var got map[string]any
		if err := json.Unmarshal(e.Plaintext, &got); err != nil {
			t.Fatal(err)
		}
		r, err := g.platform.Refund("REFUND-1")
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]any{
			"mchid": mchid, "out_trade_no": "ORDER-1", "out_refund_no": "REFUND-1", "refund_id": r.RefundID, "refund_status": "SUCCESS",
			"status": nil, "channel": nil,
		} {
			if got[name] != want {
				t.Errorf("%s: %v, want %v", name, got[name], want)
			}
		}
		if a := gjson.GetBytes(e.Plaintext, "amount").Raw; !gjson.Get(a, "payer_refund").Exists() || gjson.Get(a, "refund").Int() != 40 || gjson.Get(a, "currency").Exists() {
			t.Errorf("amount %s", a)
		}
	})
}

// A refund that stays open is asked for as WeChat Pay says, and one that went
// wrong is told at once and asked for until it is final.
func TestRefundSchedule(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		if err := g.platform.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundProcessing}); err != nil {
			t.Fatal(err)
		}
		g.refund("1", "")
		got := g.steps(26 * time.Hour)
		equal(t, "steps", got[:10], seconds(5, 60, 120, 180, 240, 300, 600, 1200, 2400, 4200))
		for i, at := range got[10:33] {
			if want := time.Duration(i+2) * time.Hour; at-want < 0 || at-want > time.Second {
				t.Errorf("step %d at %v, want %v", i, at, want)
			}
		}
		if len(got) != 33 {
			t.Errorf("%d steps in the first day: %v", len(got), got)
		}
		if _, err := g.platform.SettleRefund("REFUND-1", sandbox.RefundAbnormal, sandbox.Faults{Lost: true}); err != nil {
			t.Fatal(err)
		}
		g.steps(49 * time.Hour)
		if g.refundState("1") != storage.RefundAbnormal || len(g.events.told) != 1 || g.events.told[0].EventType != "REFUND.ABNORMAL" {
			t.Errorf("%s %v", g.refundState("1"), g.events.there)
		}
	})
}

// A refund whose callbacks go elsewhere is asked for, since the ledger counts it,
// and nothing is told.
func TestForeignRefund(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		g.refund("1", `,"notify_url":"https://elsewhere.example.com/r"`)
		if _, err := g.platform.WaitRefund(t.Context(), "REFUND-1", sandbox.RefundSuccess); err != nil {
			t.Fatal(err)
		}
		g.steps(24 * time.Hour)
		if g.refundState("1") != storage.RefundSuccess || len(g.events.told) != 0 {
			t.Errorf("%s, %d told", g.refundState("1"), len(g.events.told))
		}
	})
}

// Payloads of nobody's are dropped.
func TestPayloadOfNobody(t *testing.T) {
	run(t, func(t *testing.T, g *rig) {
		for _, text := range []string{"", "{}", "null", `{"order":{"mchid":"1","number":"2"}}`, `{"order":7}`} {
			w := storage.Work{ID: "x", Merchant: "shop", Payload: []byte(text)}
			if next, err := g.fallback.Order(t.Context(), w); err != nil || !next.IsZero() {
				t.Errorf("%s: %v %v", text, next, err)
			}
			if next, err := g.fallback.Refund(t.Context(), w); err != nil || !next.IsZero() {
				t.Errorf("%s: %v %v", text, next, err)
			}
		}
	})
}
