package deliver_test

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/deliver"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// oneWaits is a store in which one notification waits.
type oneWaits struct {
	deliver.Store
	claim chan storage.Claim
	done  chan storage.Completion
}

func (s oneWaits) Queues(context.Context) ([]string, error) { return []string{"shop"}, nil }
func (s oneWaits) Watch() (<-chan struct{}, func())         { return nil, func() {} }

func (s oneWaits) NextDue(context.Context, string) (time.Time, bool, error) {
	return time.Time{}, false, nil
}

func (s oneWaits) Claim(context.Context, string, storage.ClaimTerms, int) ([]storage.Claim, error) {
	select {
	case c := <-s.claim:
		return []storage.Claim{c}, nil
	default:
		return nil, nil
	}
}

func (s oneWaits) Complete(_ context.Context, _ string, _ uint64, done storage.Completion) error {
	s.done <- done
	return nil
}

// legacy is a backend that prints what it gets.
type legacy struct{}

func (legacy) Deliver(_ context.Context, d *notify.Delivery) (notify.Response, error) {
	fmt.Println("POST", d.Path)
	for _, name := range []string{deliver.HeaderID, deliver.HeaderTimestamp, deliver.HeaderSignature, deliver.HeaderKind, deliver.HeaderAttempt} {
		fmt.Printf("%s: %s\n", name, d.Header.Get(name))
	}
	fmt.Printf("\n%s\n", d.Body)
	return notify.Response{Status: 200, Body: []byte(`{"code":"SUCCESS"}`)}, nil
}

// A notification that waits in the store goes to the backend, signed, as soon as
// the dispatcher starts.
func Example() {
	secret, err := deliver.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		fmt.Println(err)
		return
	}
	store := oneWaits{claim: make(chan storage.Claim, 1), done: make(chan storage.Completion, 1)}
	body := []byte(`{"event_type":"TRANSACTION.SUCCESS","resource":{"out_trade_no":"A1"}}`)
	store.claim <- storage.Claim{Record: storage.Record{Notification: storage.Notification{
		ID: "evt_1", Merchant: "shop", Kind: "payment", Path: "/wechatpay/notify/shop", Body: body,
	}}}

	route := &notify.Route{
		Ack: notify.AckCommit, Payload: notify.PayloadEnvelope, Retry: notify.DefaultRetry,
		Timeout: notify.DefaultTimeout, Sign: []merchant.Secret{secret}, Deliverer: legacy{},
	}
	d := deliver.New(deliver.Config{
		Store: store, Owner: "example",
		Route: func(*storage.Record) *notify.Route { return route },
		Now:   func() time.Time { return time.Unix(1614265330, 0) },
	})
	d.Start()
	done := <-store.done
	if err := d.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(done.State, done.Status)
	// Output:
	// POST /wechatpay/notify/shop
	// Webhook-Id: evt_1
	// Webhook-Timestamp: 1614265330
	// Webhook-Signature: v1,ghE3ihGO7JUaOxCPrIXSSRdEl3IXkRc+n3sp86zY+lU=
	// Wechatpay-Gateway-Kind: payment
	// Wechatpay-Gateway-Attempt: 1
	//
	// {"event_type":"TRANSACTION.SUCCESS","resource":{"out_trade_no":"A1"}}
	// delivered 200
}
