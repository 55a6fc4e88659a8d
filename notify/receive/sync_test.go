package receive

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// backend is a SyncDeliverer over the fake store.
type backend struct {
	store    *fakeStore
	attempts atomic.Int64
	deliver  func(ctx context.Context) SyncResult
}

func (d *backend) Lease(route *notify.Route) time.Duration { return route.Timeout + time.Second }

func (d *backend) Attempt(ctx context.Context, claim storage.Claim, _ *notify.Route) SyncResult {
	d.attempts.Add(1)
	result := d.deliver(ctx)
	state := storage.StatePending
	if result.Success {
		state = storage.StateDelivered
	}
	d.store.complete(claim.Record.ID, state, result.Answer)
	return result
}

func deliveryBench(t *testing.T, deliver func(ctx context.Context) SyncResult) (*bench, *backend, *notify.Route) {
	d := &backend{deliver: deliver}
	b := newBench(t, func(c *Config) { c.Sync = d })
	d.store = b.store
	route := commitRoute()
	route.Ack, route.Timeout = notify.AckDelivery, notify.DefaultDeliveryTimeout
	return b, d, route
}

func TestAckDelivery(t *testing.T) {
	result := SyncResult{}
	b, d, route := deliveryBench(t, func(context.Context) SyncResult { return result })
	take := func() Answer { return b.take(t, route, "TRANSACTION.SUCCESS", basic("3001", 100)) }
	for range 2 {
		if a := take(); a.Status != 500 || b.seen.last() != notify.OutcomeUndelivered {
			t.Fatalf("failure: %d %s", a.Status, b.seen.last())
		}
	}
	result = SyncResult{Success: true, Answer: []byte(`{"code":"SUCCESS","message":"ok","extra":1}`)}
	for i, want := range []notify.Outcome{notify.OutcomeDelivered, notify.OutcomeDuplicate, notify.OutcomeDuplicate} {
		a := take()
		if a.Status != 200 || string(a.Body) != `{"code":"SUCCESS","message":"ok","extra":1}` || b.seen.last() != want {
			t.Errorf("%d: %d %s %s", i, a.Status, a.Body, b.seen.last())
		}
	}
	if n := d.attempts.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

// Only a JSON object replaces the answer to WeChat.
func TestAckDeliveryAnswers(t *testing.T) {
	for _, body := range []string{"", "success", "null", "[1]", `"SUCCESS"`, "{", `{"a":1}x`} {
		b, _, route := deliveryBench(t, func(context.Context) SyncResult { return SyncResult{Success: true, Answer: []byte(body)} })
		for range 2 {
			if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("3002", 100)); a.Status != 200 || string(a.Body) != string(answerSuccess.Body) {
				t.Errorf("%q: %d %s", body, a.Status, a.Body)
			}
		}
	}
}

func TestAckDeliveryMarksBeforeItDelivers(t *testing.T) {
	var b *bench
	b, _, route := deliveryBench(t, func(context.Context) SyncResult {
		return SyncResult{Success: b.order("3003").State == storage.OrderPaid}
	})
	b.know(created("3003", 100))
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("3003", 100)); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestAckDeliveryReleasesAClaimItCannotUse(t *testing.T) {
	b, d, route := deliveryBench(t, func(context.Context) SyncResult { return SyncResult{Success: true} })
	b.know(created("3004", 100))
	b.store.failing["Change"] = storage.ErrDiskFloor
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("3004", 100)); a.Status != 503 || d.attempts.Load() != 0 {
		t.Fatalf("%d, %d attempts", a.Status, d.attempts.Load())
	}
	delete(b.store.failing, "Change")
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("3004", 100)); a.Status != 200 || d.attempts.Load() != 1 {
		t.Errorf("%d, %d attempts", a.Status, d.attempts.Load())
	}
}

func TestAckDeliveryBehindAndLeased(t *testing.T) {
	b, d, route := deliveryBench(t, func(context.Context) SyncResult { return SyncResult{Success: true} })
	b.store.behind = true
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("3005", 100)); a.Status != 500 {
		t.Errorf("behind: %d", a.Status)
	}
	b.store.behind = false
	b.store.claims[b.store.only(t).ID] = 7 // another process holds it
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("3005", 100)); a.Status != 500 || d.attempts.Load() != 0 {
		t.Errorf("leased: %d, %d attempts", a.Status, d.attempts.Load())
	}
	b.store.complete(b.store.only(t).ID, storage.StateDismissed, nil)
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("3005", 100)); a.Status != 200 {
		t.Errorf("dismissed: %d", a.Status)
	}
	b.store.complete(b.store.only(t).ID, storage.StateParked, nil)
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("3005", 100)); a.Status != 500 {
		t.Errorf("parked for want of a route: %d", a.Status)
	}
}

func TestAckDeliveryParallelDuplicates(t *testing.T) {
	for _, success := range []bool{true, false} {
		gate := make(chan struct{})
		b, d, route := deliveryBench(t, func(context.Context) SyncResult {
			<-gate
			return SyncResult{Success: success, Answer: []byte(`{"code":"SUCCESS","message":"once"}`)}
		})
		body := goodBody()
		var wg sync.WaitGroup
		var entered sync.WaitGroup
		for range 200 {
			in := request(body)
			entered.Add(1)
			wg.Go(func() {
				entered.Done()
				a := b.Receive(context.Background(), route, theMerchant(), in)
				if success && (a.Status != 200 || !strings.Contains(string(a.Body), "once")) || !success && a.Status != 500 {
					t.Errorf("%d %s", a.Status, a.Body)
				}
			})
		}
		entered.Wait()
		// Copies that come after the first ended ask the store, which is right,
		// too; so it need not be waited for that all are inside.
		close(gate)
		wg.Wait()
		if success {
			if n := d.attempts.Load(); n != 1 {
				t.Errorf("%d attempts", n)
			}
			if n := b.seen.count(notify.OutcomeDelivered); n != 1 {
				t.Errorf("%d delivered", n)
			}
		}
		b.store.only(t)
	}
}

// A backend that hangs does not keep WeChat waiting, and its outcome is kept.
func TestAckDeliveryHangs(t *testing.T) {
	released := make(chan struct{})
	b, _, route := deliveryBench(t, func(ctx context.Context) SyncResult {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > 4500*time.Millisecond {
			t.Error("the attempt has no deadline in time")
		}
		<-released
		return SyncResult{Success: true}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	in := request(goodBody())
	in.Arrived = time.Now()
	v := visit{route: route, m: theMerchant(), in: &in, began: baseTime, body: -1}
	e := parsed(t)
	n := notification(e, route, "shop", baseTime)
	j := judgement{}
	a := b.Receiver.deliver(ctx, &v, &n, e, &j)
	if a.Status != 500 || v.outcome != notify.OutcomeUndelivered {
		t.Errorf("%d %s", a.Status, v.outcome)
	}
	close(released)
	b.Close() // waits for the delivery
	if got := b.store.only(t); got.State != storage.StateDelivered {
		t.Errorf("state %s", got.State)
	}
	if a := b.Receive(t.Context(), route, theMerchant(), request(goodBody())); a.Status != 503 {
		t.Errorf("after Close: %d", a.Status)
	}
}
