package sandbox_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// A merchant orders, a user pays, and the callback arrives: first a probe, which
// a merchant that verifies refuses, then the right one.
func Example() {
	merchant := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Wechatpay-Signature"), sandbox.ProbePrefix) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer merchant.Close()

	p, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{{Mchid: "1900000001", Appid: "wx8888888888888888"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = p.Close() }()

	keys, err := p.Keys("1900000001")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("answer:", placeOrder(p, keys, "ORDER-1", merchant.URL))

	if _, err := p.Pay("ORDER-1", sandbox.Faults{Probes: 1}); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	callback, err := p.WaitState(ctx, "ORDER-1", sandbox.Delivered)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range callback.Attempts {
		fmt.Println(a.Kind, a.Status)
	}
	// Output:
	// answer: 200
	// probe 401
	// regular 204
}

// A refund ends as ABNORMAL, and is told as a payment is.
func Example_refund() {
	p, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{{Mchid: "1900000001", Appid: "wx8888888888888888"}},
		Client:    &http.Client{Transport: answering(http.StatusOK)}, // the merchant's side
		TimeScale: 1000,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = p.Close() }()
	keys, err := p.Keys("1900000001")
	if err != nil {
		fmt.Println(err)
		return
	}
	placeOrder(p, keys, "ORDER-1", notify)
	if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
		fmt.Println(err)
		return
	}
	if err := p.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundAbnormal}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("answer:", applyForRefund(p, keys, refundBody("ORDER-1", "REFUND-1", 40, 100)))

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	told, err := p.WaitState(ctx, "refund:REFUND-1", sandbox.Delivered)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(told.EventType, told.RefundNo)
	// Output:
	// answer: 200
	// REFUND.ABNORMAL REFUND-1
}
