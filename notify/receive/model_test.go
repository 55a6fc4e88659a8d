package receive

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// The tests of this file run on the reference model that every store is held
// against, so that what is assumed here of a store is what stores promise.

func modelBench(t *testing.T, change ...func(*Config)) (*Receiver, *storagetest.Model, *observed) {
	t.Helper()
	model, seen := storagetest.NewModel(now), &observed{}
	c := Config{Store: model, Now: now, Observer: seen, Owner: "test"}
	for _, f := range change {
		f(&c)
	}
	r := New(c)
	t.Cleanup(r.Close)
	return r, model, seen
}

func write(t *testing.T, model *storagetest.Model, order storage.Order) {
	t.Helper()
	err := model.Change(t.Context(), storage.Keys{Order: order.Key}, func(rows *storage.Rows) error {
		rows.Order = &order
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestModelParkReleaseDuplicate(t *testing.T) {
	r, model, seen := modelBench(t)
	take := func(plaintext string) Answer {
		return r.Receive(t.Context(), commitRoute(), theMerchant(), request(paid(plaintext)))
	}
	write(t, model, created("6001", 101))
	if a := take(basic("6001", 100)); a.Status != 409 {
		t.Fatalf("%d", a.Status)
	}
	if a := take(basic("6001", 100)); a.Status != 409 {
		t.Fatalf("again: %d", a.Status)
	}
	parked, err := model.ParkedFor(t.Context(), orderKey("6001"))
	if err != nil || len(parked) != 1 {
		t.Fatalf("%d parked, %v", len(parked), err)
	}
	write(t, model, created("6001", 100))
	if err := r.Recheck(t.Context(), orderKey("6001")); err != nil {
		t.Fatal(err)
	}
	e, err := event.Classify(event.Head{ID: testID, EventType: "TRANSACTION.SUCCESS"}, []byte(basic("6001", 100)), testMchid)
	if err != nil {
		t.Fatal(err)
	}
	got, err := model.Notification(t.Context(), e.ID)
	if err != nil || got.State != storage.StatePending || got.AmountCheck != storage.AmountMatched || got.Key != e.Key {
		t.Fatalf("released: %+v, %v", got, err)
	}
	if order, err := model.Order(t.Context(), orderKey("6001")); err != nil || order.State != storage.OrderPaid {
		t.Errorf("order %+v, %v", order, err)
	}
	if a := take(basic("6001", 100)); a.Status != 200 || seen.last() != notify.OutcomeDuplicate {
		t.Errorf("a callback after the release: %d %s", a.Status, seen.last())
	}
	if err := r.Recheck(t.Context(), orderKey("6001")); err != nil {
		t.Errorf("a second recheck: %v", err)
	}
	if err := r.Found(t.Context(), commitRoute(), theMerchant(), Query{EventType: "TRANSACTION.SUCCESS", Plaintext: []byte(basic("6001", 100))}); err != nil {
		t.Errorf("a query after all: %v", err)
	}
	stats, err := model.Stats(t.Context())
	if err != nil || stats.Pending != 1 || stats.Parked != 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
}

func TestModelCombineAndRefund(t *testing.T) {
	r, model, _ := modelBench(t)
	write(t, model, combineOrder("6002"))
	take := func(eventType, plaintext string) Answer {
		return r.Receive(t.Context(), commitRoute(), theMerchant(), request(envelope("id-"+eventType, eventType, "", seal(plaintext))))
	}
	if a := take("TRANSACTION.SUCCESS", combinePaid("6002")); a.Status != 200 {
		t.Fatalf("combine: %d %s", a.Status, a.Body)
	}
	order, err := model.OrderByTransaction(t.Context(), testMchid, "42006002b")
	if err != nil || order.State != storage.OrderPaid || order.Key != orderKey("6002") {
		t.Fatalf("order %+v, %v", order, err)
	}
	if a := take("REFUND.SUCCESS", refundOf("6002a", "R1", "SUCCESS", 10, 4)); a.Status != 200 {
		t.Errorf("refund of a sub-order: %d %s", a.Status, a.Body)
	}
	if a := take("TRANSACTION.SUCCESS", strings.Replace(basic("6003", 20), "42006003", "42006002b", 1)); a.Status != 409 {
		t.Errorf("a sub-order's transaction under another number: %d", a.Status)
	}
	page, err := model.Notifications(t.Context(), storage.Filter{State: storage.StatePending})
	if err != nil || len(page.Records) != 2 || page.Records[0].Group != page.Records[1].Group {
		t.Errorf("%+v, %v", page.Records, err)
	}
}

// modelBackend completes claims as the delivery side does.
type modelBackend struct {
	model    *storagetest.Model
	attempts atomic.Int64
	success  atomic.Bool
}

func (d *modelBackend) Lease(route *notify.Route) time.Duration { return route.Timeout + time.Second }

func (d *modelBackend) Attempt(ctx context.Context, claim storage.Claim, _ *notify.Route) SyncResult {
	d.attempts.Add(1)
	done := storage.Completion{State: storage.StatePending, NextDue: baseTime.Add(time.Hour), Status: 500, Error: "status"}
	var result SyncResult
	if d.success.Load() {
		done = storage.Completion{State: storage.StateDelivered, Status: 200, Answer: []byte(`{"code":"SUCCESS","message":"kept"}`)}
		result = SyncResult{Success: true, Answer: done.Answer}
	}
	if err := d.model.Complete(ctx, claim.Record.ID, claim.Fence, done); err != nil {
		return SyncResult{}
	}
	return result
}

func TestModelDelivery(t *testing.T) {
	d := &modelBackend{}
	r, model, seen := modelBench(t, func(c *Config) { c.Sync = d })
	d.model = model
	route := commitRoute()
	route.Ack, route.Timeout = notify.AckDelivery, notify.DefaultDeliveryTimeout
	body := goodBody()
	if a := r.Receive(t.Context(), route, theMerchant(), request(body)); a.Status != 500 {
		t.Fatalf("failure: %d", a.Status)
	}
	d.success.Store(true)
	var wg sync.WaitGroup
	for range 50 {
		in := request(body)
		wg.Go(func() {
			a := r.Receive(context.Background(), route, theMerchant(), in)
			if a.Status != 200 || !strings.Contains(string(a.Body), "kept") {
				t.Errorf("%d %s", a.Status, a.Body)
			}
		})
	}
	wg.Wait()
	if n := d.attempts.Load(); n != 2 {
		t.Errorf("%d attempts, want one that failed and one that did not", n)
	}
	if n := seen.count(notify.OutcomeDelivered); n != 1 {
		t.Errorf("%d delivered", n)
	}
	// A refund of the same order behind a payment that waits.
	d.success.Store(false)
	payment := envelope("p", "TRANSACTION.SUCCESS", "", seal(basic("6004", 100)))
	refund := envelope("r", "REFUND.SUCCESS", "", seal(refundOf("6004", "R1", "SUCCESS", 100, 1)))
	before := d.attempts.Load()
	for _, body := range [][]byte{payment, refund} {
		if a := r.Receive(t.Context(), route, theMerchant(), request(body)); a.Status != 500 {
			t.Errorf("%d", a.Status)
		}
	}
	if n := d.attempts.Load() - before; n != 1 {
		t.Errorf("%d attempts: the refund overtook its payment", n)
	}
}
