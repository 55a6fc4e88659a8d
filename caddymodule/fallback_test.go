package caddymodule

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// secondStep is when the second query of an order is over: 30 s after it was
// made, and what jitter and polling add.
const secondStep = 40 * time.Second

// A payment whose callback WeChat Pay never sends is asked for, and told the
// backend as the callback would have told it; the callback that comes late after
// all is a duplicate.
func TestLostCallbackIsAskedFor(t *testing.T) {
	b, platform := newPlay(t, "")
	b.start()
	b.ready()
	if got := b.place("LOST-ORDER-1", 100); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	made := time.Now()
	if _, err := platform.Pay("LOST-ORDER-1", sandbox.Faults{Lost: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, secondStep, "the backend has the event", func() bool { return b.backend.total.Load() == 1 })
	t.Logf("told %v after the order", time.Since(made))
	got := b.backend.requests()[0]
	for name, want := range map[string]string{
		"Wechatpay-Gateway-Source":       "query",
		"Wechatpay-Gateway-Kind":         "payment",
		"Wechatpay-Gateway-Event-Type":   "TRANSACTION.SUCCESS",
		"Wechatpay-Gateway-Merchant":     "play",
		"Wechatpay-Gateway-Amount-Check": "matched",
	} {
		if g := got.header.Get(name); g != want {
			t.Errorf("%s: %q, want %q", name, g, want)
		}
	}
	if got.path != "/wechatpay/notify/play" || gjson.GetBytes(got.body, "resource.out_trade_no").String() != "LOST-ORDER-1" ||
		gjson.GetBytes(got.body, "id").String() != got.id {
		t.Errorf("%s %s", got.path, got.body)
	}
	eventually(t, 5*time.Second, "recorded as delivered", func() bool {
		in := b.inbox()
		return len(in) == 1 && in[0].State == "delivered"
	})

	if _, err := platform.Send("LOST-ORDER-1", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := platform.WaitState(ctx, "LOST-ORDER-1", sandbox.Delivered); err != nil {
		t.Fatal(err)
	}
	if in := b.inbox(); len(in) != 1 || b.backend.total.Load() != 1 {
		t.Errorf("after the late callback: %d notifications, %d deliveries", len(in), b.backend.total.Load())
	}
	eventually(t, 5*time.Second, "counted", func() bool {
		return strings.Contains(get(t, "http://"+b.admin+"/metrics"), `caddy_wechatpay_work_total{kind="ask_order",merchant="play",result="done"}`)
	})
}

// A callback that came leaves nothing to ask for, and a stop in the middle of the
// schedule leaves it to the next start.
func TestQueriesOutliveARestart(t *testing.T) {
	b, platform := newPlay(t, "")
	b.load()
	b.ready()
	b.place("LOST-ORDER-2", 100)
	b.place("TOLD-ORDER-2", 100)
	if _, err := platform.Pay("TOLD-ORDER-2", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	if _, err := platform.Pay("LOST-ORDER-2", sandbox.Faults{Lost: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the callback is delivered", func() bool { return b.backend.total.Load() == 1 })
	b.stop()
	b.start()
	eventually(t, secondStep, "the other is asked for", func() bool { return b.backend.total.Load() == 2 })
	if got := b.backend.requests()[1]; gjson.GetBytes(got.body, "resource.out_trade_no").String() != "LOST-ORDER-2" {
		t.Errorf("%s", got.body)
	}
	if in := b.inbox(); len(in) != 2 {
		t.Errorf("%d notifications", len(in))
	}
}

// A refund's callback that contradicts the ledger is parked, and WeChat Pay is
// asked at once.
func TestParkedRefundIsAskedFor(t *testing.T) {
	b, platform := newPlay(t, "")
	b.start()
	b.ready()
	b.place("REFUND-ORDER-3", 100)
	if _, err := platform.Pay("REFUND-ORDER-3", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the payment is delivered", func() bool { return b.backend.total.Load() == 1 })
	if err := platform.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundSuccess, Faults: sandbox.Faults{WrongAmount: 1, Lost: true}}); err != nil {
		t.Fatal(err)
	}
	got := b.api(http.MethodPost, "/v3/refund/domestic/refunds",
		`{"out_trade_no":"REFUND-ORDER-3","out_refund_no":"REFUND-3","amount":{"refund":40,"total":100,"currency":"CNY"}}`, nil)
	if got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	eventually(t, 10*time.Second, "the refund is delivered", func() bool { return b.backend.total.Load() == 2 })
	r := b.backend.requests()[1]
	if r.header.Get("Wechatpay-Gateway-Source") != "query" || r.header.Get("Wechatpay-Gateway-Event-Type") != "REFUND.SUCCESS" ||
		gjson.GetBytes(r.body, "resource.amount.refund").Int() != 40 || gjson.GetBytes(r.body, "resource.refund_status").String() != "SUCCESS" {
		t.Errorf("%v %s", r.header, r.body)
	}
}
