package caddymodule

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// What a caller has refunded today is in the store: a gateway that is stopped
// and started again goes on counting.
func TestLimitAcrossRestart(t *testing.T) {
	b, platform := newPlay(t, "limit erp refund_per_day 1 refund_per_order 0.60")
	b.start()
	b.ready()
	for i := range 3 {
		b.place(fmt.Sprintf("LIMIT-ORDER-%d", i), 100)
		if _, err := platform.Pay(fmt.Sprintf("LIMIT-ORDER-%d", i), sandbox.Faults{Lost: true}); err != nil {
			t.Fatal(err)
		}
	}
	refund := func(i, fen int) (int, string) {
		t.Helper()
		body := fmt.Sprintf(`{"out_trade_no":"LIMIT-ORDER-%d","out_refund_no":"LIMIT-REFUND-%d","amount":{"refund":%d,"total":100,"currency":"CNY"}}`, i, i, fen)
		got := b.api(http.MethodPost, "/v3/refund/domestic/refunds", body, nil)
		return got.status, got.header.Get("Wechatpay-Gateway-Refused")
	}
	today := guard.Day(time.Now())
	if status, rule := refund(0, 61); status != http.StatusForbidden || rule != "limit_refund_per_order" {
		t.Errorf("61 fen of one order: %d %s", status, rule)
	}
	if status, rule := refund(0, 60); status != http.StatusOK {
		t.Fatalf("60 fen: %d %s", status, rule)
	}
	b.stop()
	b.load()
	b.ready()
	if status, rule := refund(1, 41); (status != http.StatusForbidden || rule != "limit_refund_per_day") && guard.Day(time.Now()) == today {
		t.Errorf("41 fen more after a restart: %d %s", status, rule)
	}
	if status, rule := refund(2, 40); status != http.StatusOK {
		t.Errorf("40 fen more: %d %s", status, rule)
	}
}
