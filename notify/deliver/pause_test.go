package deliver

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// TestPausedQueueSendsNothing: a paused queue sends nothing, neither by its
// workers nor for a callback's own request, burns no attempt, and sends
// everything in its order after the pause.
func TestPausedQueueSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var paused atomic.Bool
		paused.Store(true)
		f := newFixture(func(c *Config, _ *notify.Route) {
			c.Paused = func(queue string) bool { return queue == "shop" && paused.Load() }
		})
		for n := range 3 {
			f.store.add(payment(n))
		}
		other := payment(3)
		other.Merchant = "second"
		f.store.add(other)
		f.d.Start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := f.backend.ids(); len(got) != 1 || got[0] != other.ID {
			t.Fatalf("sent while paused: %v", got)
		}
		direct := f.store.claimOne(payment(0).ID, time.Minute)
		if out := f.d.Attempt(context.Background(), direct, f.route); !out.Held || out.Success {
			t.Fatalf("a request delivered while paused: %+v", out)
		}
		if rec := f.store.record(payment(0).ID); rec.Attempts != 0 || rec.State != storage.StatePending {
			t.Fatalf("%d attempts, %s", rec.Attempts, rec.State)
		}
		paused.Store(false)
		f.d.Wake()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := f.backend.ids(); len(got) != 4 {
			t.Fatalf("after the pause: %v", got)
		}
		f.stop(t)
	})
}

// TestPauseUnderLoad: what was claimed and not sent when the pause began is given
// back.
func TestPauseUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var paused atomic.Bool
		f := newFixture(func(c *Config, _ *notify.Route) {
			c.Paused = func(string) bool { return paused.Load() }
			c.Workers = 2
		})
		f.backend.set(func(context.Context, *notify.Delivery) (notify.Response, error) {
			time.Sleep(time.Second)
			return notify.Response{Status: 200}, nil
		})
		for n := range 20 {
			f.store.add(payment(n))
		}
		f.d.Start()
		time.Sleep(1500 * time.Millisecond)
		paused.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := len(f.backend.seen()); got != 4 {
			t.Errorf("%d sent, 4 were under way or done", got)
		}
		if held := f.store.leasedNow(); held != 0 {
			t.Errorf("%d are still held by nobody", held)
		}
		paused.Store(false)
		time.Sleep(2 * time.Minute) // by polling alone
		synctest.Wait()
		if got := len(f.backend.seen()); got != 20 {
			t.Errorf("%d sent after the pause", got)
		}
		f.stop(t)
	})
}

// TestDownSaysSo: Down tells an open breaker.
func TestDownSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.backend.set(func(context.Context, *notify.Delivery) (notify.Response, error) {
			return notify.Response{}, notify.ErrNotSent
		})
		if f.d.Down("shop") {
			t.Error("a queue that nobody knows is down")
		}
		f.store.add(payment(1))
		f.d.Start()
		time.Sleep(time.Second)
		synctest.Wait()
		if !f.d.Down("shop") {
			t.Error("no connection, and the queue is not down")
		}
		f.stop(t)
	})
}
