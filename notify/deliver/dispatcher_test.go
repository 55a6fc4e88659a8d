package deliver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var errConnection = errors.New("connection refused")

func refuse(context.Context, *notify.Delivery) (notify.Response, error) {
	return notify.Response{}, errConnection
}

func hang(ctx context.Context, _ *notify.Delivery) (notify.Response, error) {
	<-ctx.Done()
	return notify.Response{}, ctx.Err()
}

// failFor refuses the ids with a status and takes everything else.
func failFor(code int, ids ...string) func(context.Context, *notify.Delivery) (notify.Response, error) {
	return func(_ context.Context, d *notify.Delivery) (notify.Response, error) {
		if slices.Contains(ids, d.Header.Get(HeaderID)) {
			return notify.Response{Status: code}, nil
		}
		return notify.Response{Status: 200}, nil
	}
}

func TestDeliversWhatWaitedAndWhatComes(t *testing.T) {
	for name, deaf := range map[string]bool{"own store": false, "shared store, polled": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				f.store.deaf = deaf
				for n := range 100 {
					f.store.add(payment(n))
				}
				other := payment(100)
				other.Merchant = "second"
				f.store.add(other)
				began := time.Now()
				f.d.Start()
				f.d.Start() // does nothing
				time.Sleep(time.Second)
				synctest.Wait()
				if got := len(f.backend.seen()); got != 101 {
					t.Fatalf("%d deliveries after a second", got)
				}
				for n := 200; n < 300; n++ {
					f.store.add(payment(n))
				}
				time.Sleep(time.Second)
				synctest.Wait()
				sends := f.backend.seen()
				if len(sends) != 201 || f.backend.most > DefaultWorkers {
					t.Fatalf("%d deliveries, %d at a time", len(sends), f.backend.most)
				}
				ids := f.backend.ids()
				slices.Sort(ids)
				if len(slices.Compact(ids)) != 201 {
					t.Error("a notification was sent twice")
				}
				if last := sends[200].at.Sub(began); !deaf && last > time.Second {
					t.Errorf("took %s although the store signals", last)
				}
				f.stop(t)
				if got := f.seen.count(notify.ResultSuccess); got != 201 || len(f.seen.changes) != 201 {
					t.Errorf("%d successes, %d changes", got, len(f.seen.changes))
				}
			})
		})
	}
}

// TestScheduleIsFollowed: one notification fails for ever, and its attempts come
// exactly when its schedule says, through all its failures to its death.
func TestScheduleIsFollowed(t *testing.T) {
	for name, row := range map[string]struct {
		answer func(context.Context, *notify.Delivery) (notify.Response, error)
		steps  int
	}{
		"500": {status(500), 16}, "refused": {refuse, 6}, "404": {status(404), 6}, "302": {status(302), 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				f.route.Retry = notify.DefaultRetry[:row.steps]
				f.backend.set(row.answer)
				f.store.add(payment(1))
				f.d.Start()
				for _, wait := range f.route.Retry {
					time.Sleep(wait)
				}
				time.Sleep(time.Hour)
				f.stop(t)
				sends := f.backend.seen()
				if len(sends) != row.steps+1 {
					t.Fatalf("%d attempts", len(sends))
				}
				for n, wait := range f.route.Retry {
					if got := sends[n+1].at.Sub(sends[n].at); got != wait {
						t.Errorf("wait %d: %s, want %s", n+1, got, wait)
					}
					if sends[n].attempt != fmt.Sprint(n+1) {
						t.Errorf("attempt %d calls itself %s", n+1, sends[n].attempt)
					}
				}
				rec := f.store.record("msg_0001")
				if rec.State != storage.StateDead || rec.Attempts != row.steps+1 || rec.LastError == "" {
					t.Errorf("state %s, attempts %d, error %q", rec.State, rec.Attempts, rec.LastError)
				}
				if len(f.seen.changes) != 1 || f.seen.changes[0].State != storage.StateDead || f.seen.changes[0].Attempt != row.steps+1 {
					t.Errorf("changes: %+v", f.seen.changes)
				}
				if len(f.seen.breakers) != 0 {
					t.Error("one notification opened the breaker")
				}
			})
		})
	}
}

func TestMoneyGoesOnForFifteenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.backend.set(status(500))
		f.route.Retry = notify.DefaultRetry[:8]
		n := payment(1)
		n.Money, n.ReceivedAt = true, time.Now().Add(-14*24*time.Hour)
		f.store.add(n)
		f.d.Start()
		time.Sleep(30 * time.Hour)
		f.stop(t)
		sends := f.backend.seen()
		last := sends[len(sends)-1].at.Sub(n.ReceivedAt)
		if last > moneyTail || last < moneyTail-moneyStep {
			t.Errorf("last of %d attempts after %s", len(sends), last)
		}
		if rec := f.store.record(n.ID); rec.State != storage.StateDead {
			t.Errorf("state %s", rec.State)
		}
	})
}

// TestOutageOfADay: the backend refuses connections for a day; nothing dies,
// nothing but the first failures is counted, it is probed all the time, and when
// it is back everything goes out at once, in order per order.
func TestOutageOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total, orders = 1000, 100
		f := newFixture()
		f.backend.set(refuse)
		for n := range total {
			p := payment(n)
			p.Group = fmt.Sprint("ORDER", n%orders)
			f.store.add(p)
		}
		began := time.Now()
		f.d.Start()
		time.Sleep(24 * time.Hour)
		synctest.Wait()

		sends := f.backend.seen()
		for n := 1; n < len(sends); n++ {
			if gap := sends[n].at.Sub(sends[n-1].at); gap > 5*time.Second {
				t.Fatalf("no probe for %s after %s", gap, sends[n-1].at.Sub(began))
			}
		}
		if most := DefaultWorkers + 86400/4 + 10; len(sends) > most || len(sends) < 86400/5 {
			t.Errorf("%d attempts in a day of outage, at most %d wanted", len(sends), most)
		}
		burned := 0
		for n := range total {
			rec := f.store.record(fmt.Sprintf("msg_%04d", n))
			if rec.State != storage.StatePending {
				t.Fatalf("%s is %s", rec.ID, rec.State)
			}
			burned += rec.Attempts
		}
		if burned >= DefaultTripAfter {
			t.Errorf("%d attempts burned", burned)
		}
		if !slices.Equal(f.seen.breakers, []bool{true}) {
			t.Errorf("breaker: %v", f.seen.breakers)
		}
		if leased := f.store.leasedNow(); leased > 0 {
			t.Errorf("%d claims kept while held", leased)
		}

		f.backend.set(nil)
		time.Sleep(10 * time.Second)
		f.stop(t)
		after := f.backend.seen()[len(sends):]
		if len(after) != total {
			t.Fatalf("%d deliveries after the outage", len(after))
		}
		if !slices.Equal(f.seen.breakers, []bool{true, false}) || f.backend.most > DefaultWorkers {
			t.Errorf("breaker: %v, %d at a time", f.seen.breakers, f.backend.most)
		}
		next := map[int]int{}
		for _, s := range after {
			var n int
			if _, err := fmt.Sscanf(s.id, "msg_%d", &n); err != nil {
				t.Fatal(err)
			}
			if n/orders != next[n%orders] {
				t.Fatalf("order %d: notification %d came out of turn", n%orders, n)
			}
			next[n%orders]++
		}
	})
}

// TestOutageOfSlowBackend: hanging until the timeout opens the breaker too, and
// probes do not wait for each other.
func TestOutageOfSlowBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.backend.set(hang)
		for n := range 200 {
			f.store.add(payment(n))
		}
		f.d.Start()
		time.Sleep(time.Hour)
		synctest.Wait()
		sends := f.backend.seen()
		for n := DefaultWorkers + 1; n < len(sends); n++ {
			if gap := sends[n].at.Sub(sends[n-1].at); gap > 5*time.Second {
				t.Fatalf("no probe for %s", gap)
			}
		}
		f.backend.set(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := f.seen.count(notify.ResultSuccess); got < 180 { // a few hang on, their leases held
			t.Errorf("%d delivered 5 s after the backend came back", got)
		}
		time.Sleep(time.Minute)
		f.stop(t)
		if got := f.seen.count(notify.ResultSuccess); got != 200 {
			t.Errorf("%d delivered", got)
		}
	})
}

// TestProbesWhileAllWorkersHang: probing waits for no worker.
func TestProbesWhileAllWorkersHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(func(c *Config, r *notify.Route) { c.Workers, c.Total, r.Timeout = 2, 2, 10*time.Minute })
		quick := true // the first five fail at once, then everything hangs
		var mu sync.Mutex
		f.backend.set(func(ctx context.Context, d *notify.Delivery) (notify.Response, error) {
			mu.Lock()
			number := len(f.backend.seen())
			now := quick
			mu.Unlock()
			if number == 1 || number == 2 {
				return hang(ctx, d)
			}
			if now {
				return refuse(ctx, d)
			}
			return hang(ctx, d)
		})
		for n := range 4 {
			f.store.add(payment(n))
		}
		f.d.Start()
		time.Sleep(time.Second)
		synctest.Wait() // both workers hang
		for n := 10; n < 16; n++ {
			f.store.add(payment(n))
			f.d.Attempt(context.Background(), f.store.claimOne(payment(n).ID, Lease(f.route)), f.route)
		}
		if !slices.Equal(f.seen.breakers, []bool{true}) {
			t.Fatalf("breaker: %v", f.seen.breakers)
		}
		mu.Lock()
		quick = false
		mu.Unlock()
		before := len(f.backend.seen())
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := len(f.backend.seen()) - before; got != 8 { // all but the two that hang
			t.Errorf("%d probes in a minute", got)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = f.d.Stop(ctx)
	})
}

// TestPoisonedDoNotHoldOthers: more notifications than the breaker needs to trip
// are refused for ever; all others are delivered soon all the same.
func TestPoisonedDoNotHoldOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		var poisoned []string
		for n := range 8 {
			poisoned = append(poisoned, payment(n).ID)
		}
		f.backend.set(failFor(500, poisoned...))
		for n := range 8 {
			f.store.add(payment(n))
		}
		f.d.Start()
		time.Sleep(10 * time.Minute) // no good one comes: the breaker is open
		synctest.Wait()
		if len(f.seen.breakers) != 1 {
			t.Errorf("breaker: %v", f.seen.breakers)
		}
		for n := 100; n < 200; n++ {
			f.store.add(payment(n))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := f.seen.count(notify.ResultSuccess); got != 100 {
			t.Errorf("%d of 100 good ones delivered", got)
		}
		f.stop(t)
	})
}

func TestOneOfAnOrderAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		var mu sync.Mutex
		under := map[string]int{}
		f.backend.set(func(_ context.Context, d *notify.Delivery) (notify.Response, error) {
			group := d.Record.Group
			mu.Lock()
			under[group]++
			if under[group] > 1 {
				t.Errorf("two deliveries of %s at a time", group)
			}
			mu.Unlock()
			time.Sleep(time.Duration(len(d.Body)) * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			under[group]--
			if d.Header.Get(HeaderAttempt) == "1" && d.Header.Get(HeaderID) == "msg_0003" {
				return notify.Response{Status: 404}, nil // its order waits for it
			}
			return notify.Response{Status: 200}, nil
		})
		for n := range 50 {
			p := payment(n)
			p.Group = fmt.Sprint(n % 5)
			f.store.add(p)
		}
		f.d.Start()
		time.Sleep(time.Minute)
		f.stop(t)
		last := map[string]string{}
		for _, s := range f.backend.seen() {
			group := f.store.record(s.id).Group
			if s.id < last[group] {
				t.Errorf("order %s: %s after %s", group, s.id, last[group])
			}
			last[group] = s.id
		}
		if got := f.seen.count(notify.ResultSuccess); got != 50 {
			t.Errorf("%d delivered", got)
		}
	})
}

func TestStopDuringAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(func(c *Config, _ *notify.Route) { c.Workers = 4 })
		f.backend.set(hang)
		for n := range 20 {
			f.store.add(payment(n))
		}
		f.d.Start()
		time.Sleep(time.Second)
		synctest.Wait()
		claims := f.store.claimed()
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := f.d.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Stop: %v", err)
				}
			})
		}
		time.Sleep(time.Second)
		if leased := f.store.leasedNow(); leased != 4 {
			t.Errorf("%d claims kept while 4 attempts are under way", leased)
		}
		wg.Wait()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
		if f.store.claimed() != claims {
			t.Error("claimed after Stop began")
		}
		for n := range 20 {
			rec := f.store.record(fmt.Sprintf("msg_%04d", n))
			if rec.State != storage.StatePending || rec.Attempts != 0 || !rec.NextDue.Equal(rec.ReceivedAt) {
				t.Errorf("%s: %s, %d attempts, due %s", rec.ID, rec.State, rec.Attempts, rec.NextDue)
			}
		}
		if leased := f.store.leasedNow(); leased != 0 {
			t.Errorf("%d claims kept", leased)
		}
		f.stop(t) // again
		f.d.Start()
		if out := f.d.Attempt(context.Background(), f.store.claimOne("msg_0000", time.Minute), f.route); !out.Held || out.Success {
			t.Errorf("an attempt after Stop: %+v", out)
		}
		if f.store.leasedNow() != 0 {
			t.Error("its claim was kept")
		}
	})
}

func TestStopWaitsForAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.backend.set(func(context.Context, *notify.Delivery) (notify.Response, error) {
			time.Sleep(2 * time.Second)
			return notify.Response{Status: 200}, nil
		})
		f.store.add(payment(1))
		f.d.Start()
		synctest.Wait()
		f.stop(t)
		if rec := f.store.record("msg_0001"); rec.State != storage.StateDelivered {
			t.Errorf("state %s", rec.State)
		}
	})
}

func TestStaleClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.store.add(payment(1))
		claim := f.store.claimOne("msg_0001", time.Minute)
		f.store.steal("msg_0001")
		out := f.d.Attempt(context.Background(), claim, f.route)
		if out.Result != notify.ResultStale || out.Success || out.Answer != nil {
			t.Errorf("%+v", out)
		}
		if f.seen.count(notify.ResultStale) != 1 || len(f.seen.changes) != 0 {
			t.Errorf("heard %v, %v", f.seen.results, f.seen.changes)
		}
		f.stop(t)
	})
}

// TestStoreFailsOnComplete: what was delivered is recorded once the store takes
// it, and not sent again.
func TestStoreFailsOnComplete(t *testing.T) {
	for name, row := range map[string]struct {
		fails int
		took  time.Duration // until it is recorded, at most
	}{
		"once": {1, time.Second}, "for a while": {10, 30 * time.Second},
		// The lease of 45 s ends, the notification is claimed again: its success
		// is remembered.
		"beyond the lease": {30, 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				f.store.failDone = func(n int) error {
					if n <= row.fails {
						return storage.ErrDiskFloor
					}
					return nil
				}
				f.store.add(payment(1))
				f.d.Start()
				time.Sleep(row.took)
				synctest.Wait()
				if rec := f.store.record("msg_0001"); rec.State != storage.StateDelivered {
					t.Errorf("state %s after %d tries", rec.State, f.store.doneCalls)
				}
				f.stop(t)
				if sends := f.backend.seen(); len(sends) != 1 {
					t.Errorf("sent %d times", len(sends))
				}
			})
		})
	}
}

// TestStoreLosesItsAnswer: the completion was written, the store said it was not.
func TestStoreLosesItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.store.lostAnswers = 1
		f.store.add(payment(1))
		f.d.Start()
		time.Sleep(time.Minute)
		f.stop(t)
		if len(f.backend.seen()) != 1 || f.seen.count(notify.ResultSuccess) != 1 || len(f.seen.changes) != 1 {
			t.Errorf("%d sends, heard %v, %v", len(f.backend.seen()), f.seen.results, f.seen.changes)
		}
	})
}

func TestStoreFailsDuringAttemptAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(func(_ *Config, r *notify.Route) { r.Ack, r.Timeout = notify.AckDelivery, 3*time.Second })
		var down atomic.Bool
		down.Store(true)
		f.store.failDone = func(int) error {
			if down.Load() {
				return storage.ErrDiskFloor
			}
			return nil
		}
		f.store.add(payment(1))
		began := time.Now()
		out := f.d.Attempt(context.Background(), f.store.claimOne("msg_0001", Lease(f.route)), f.route)
		if out.Success || out.Result != notify.ResultSuccess || time.Since(began) != 0 {
			t.Errorf("%+v after %s", out, time.Since(began))
		}
		time.Sleep(time.Second)
		down.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if rec := f.store.record("msg_0001"); rec.State != storage.StateDelivered {
			t.Errorf("state %s", rec.State)
		}

		down.Store(true)
		f.store.add(payment(2))
		f.d.Attempt(context.Background(), f.store.claimOne("msg_0002", Lease(f.route)), f.route)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := f.d.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
	})
}

func TestReplayWinsOverARememberedSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.d.remember("msg_0001", storage.Completion{State: storage.StateDelivered})
		f.store.add(payment(1))
		f.store.mu.Lock()
		f.store.queues["shop"], f.store.rows["msg_0001"].rec.State = nil, storage.StateDelivered
		f.store.mu.Unlock()
		f.store.replay("msg_0001")
		f.d.Start()
		time.Sleep(time.Second)
		f.stop(t)
		if len(f.backend.seen()) != 1 {
			t.Error("the replay was not sent")
		}
	})
}

func TestClaimFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		down := time.Now().Add(time.Minute)
		f.store.failClaim = func(int) error {
			if time.Now().Before(down) {
				return storage.ErrDiskFloor
			}
			return nil
		}
		f.store.add(payment(1))
		f.d.Start()
		time.Sleep(time.Minute + storeBackoffMax)
		f.stop(t)
		if len(f.backend.seen()) != 1 || f.store.claimed() > 30 {
			t.Errorf("%d sends after %d claims", len(f.backend.seen()), f.store.claimed())
		}
	})
}

func TestPanicIsAFailure(t *testing.T) {
	for name, row := range map[string]struct {
		value any
		want  notify.Result
	}{
		"abort": {http.ErrAbortHandler, notify.ResultIncomplete},
		"error": {errConnection, notify.ResultPanic},
		"text":  {"boom", notify.ResultPanic},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				first := true
				f.backend.set(func(context.Context, *notify.Delivery) (notify.Response, error) {
					if first {
						first = false
						panic(row.value)
					}
					return notify.Response{Status: 200}, nil
				})
				f.store.add(payment(1))
				f.d.Start()
				time.Sleep(2 * time.Second)
				f.stop(t)
				if f.seen.count(row.want) != 1 || f.seen.count(notify.ResultSuccess) != 1 {
					t.Errorf("results: %v", f.seen.results)
				}
			})
		})
	}
}

func TestNoRouteParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.backend.set(func(context.Context, *notify.Delivery) (notify.Response, error) {
			return notify.Response{NoRoute: true}, nil
		})
		f.store.add(payment(1))
		f.d.Start()
		time.Sleep(time.Second)
		f.stop(t)
		rec := f.store.record("msg_0001")
		if rec.State != storage.StateParked || rec.ParkReason != storage.ParkNoRoute {
			t.Errorf("%s, %s", rec.State, rec.ParkReason)
		}
		if len(f.seen.changes) != 1 || f.seen.changes[0].Reason != string(storage.ParkNoRoute) {
			t.Errorf("changes: %+v", f.seen.changes)
		}
	})
}

// TestUnservedMerchantIsHeld: without a handler nothing is burned and little is
// asked of the store; with one, all of it goes out.
func TestUnservedMerchantIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var route *notify.Route
		f := newFixture(func(c *Config, r *notify.Route) {
			c.Route = func(rec *storage.Record) *notify.Route {
				mu.Lock()
				defer mu.Unlock()
				if rec.Kind == "refund" {
					return r
				}
				return route
			}
		})
		for n := range 500 {
			f.store.add(payment(n))
		}
		served := payment(900)
		served.Kind = "refund"
		f.store.add(served)
		f.d.Start()
		time.Sleep(time.Minute)
		synctest.Wait()
		if ids := f.backend.ids(); !slices.Equal(ids, []string{served.ID}) {
			t.Fatalf("sent %v", ids)
		}
		if f.store.claimed() > 60 {
			t.Errorf("%d claims in a minute", f.store.claimed())
		}
		mu.Lock()
		route = f.route
		mu.Unlock()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := f.seen.count(notify.ResultSuccess); got != 501 {
			t.Errorf("%d delivered 5 s after a handler came", got)
		}
		for _, s := range f.backend.seen() {
			if s.attempt != "1" {
				t.Fatalf("%s: attempt %s", s.id, s.attempt)
			}
		}
		f.stop(t)
	})
}

func TestExpiredBodyIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		n := payment(1)
		n.Body = nil
		f.store.add(n)
		f.d.Start()
		time.Sleep(time.Second)
		f.stop(t)
		rec := f.store.record(n.ID)
		if rec.State != storage.StateDead || rec.LastError != ErrorBodyExpired || len(f.backend.seen()) != 0 {
			t.Errorf("%s, %s, %d sends", rec.State, rec.LastError, len(f.backend.seen()))
		}
	})
}

func TestBadSecretSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(func(_ *Config, r *notify.Route) { r.Sign = []merchant.Secret{merchant.NewSecret("short")} })
		f.store.add(payment(1))
		f.d.Start()
		time.Sleep(time.Minute)
		f.stop(t)
		if rec := f.store.record("msg_0001"); len(f.backend.seen()) != 0 || rec.State != storage.StatePending || rec.Attempts != 0 {
			t.Errorf("%d sends, %s", len(f.backend.seen()), rec.State)
		}
	})
}

func TestAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(func(_ *Config, r *notify.Route) { r.Ack, r.Timeout = notify.AckDelivery, 3*time.Second })
		body := `{"code":"SUCCESS","data":"x"}`
		f.backend.set(func(context.Context, *notify.Delivery) (notify.Response, error) {
			return notify.Response{Status: 201, Body: []byte(body)}, nil
		})
		f.store.add(payment(1))
		out := f.d.Attempt(context.Background(), f.store.claimOne("msg_0001", Lease(f.route)), f.route)
		if !out.Success || string(out.Answer) != body || out.Result != notify.ResultSuccess {
			t.Errorf("%+v", out)
		}
		if rec := f.store.record("msg_0001"); rec.State != storage.StateDelivered || string(rec.Answer) != body {
			t.Errorf("%s, %s", rec.State, rec.Answer)
		}

		// A failure leaves it to the gateway's own schedule.
		f.backend.set(hang)
		f.store.add(payment(2))
		began := time.Now()
		out = f.d.Attempt(context.Background(), f.store.claimOne("msg_0002", Lease(f.route)), f.route)
		if out.Success || out.Result != notify.ResultTimeout || time.Since(began) != 3*time.Second {
			t.Errorf("%+v after %s", out, time.Since(began))
		}
		f.backend.set(nil)
		f.d.Start()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if rec := f.store.record("msg_0002"); rec.State != storage.StateDelivered || rec.Attempts != 2 {
			t.Errorf("%s, %d attempts", rec.State, rec.Attempts)
		}

		f.stop(t)
	})
}

// TestAttemptWhoseRequestEnds: cancelled it burns nothing, at its deadline it is
// a timeout like any other.
func TestAttemptWhoseRequestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(func(_ *Config, r *notify.Route) { r.Ack = notify.AckDelivery })
		f.backend.set(hang)
		f.store.add(payment(1))
		f.store.add(payment(2))

		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		out := f.d.Attempt(ctx, f.store.claimOne("msg_0001", Lease(f.route)), f.route)
		rec := f.store.record("msg_0001")
		if !out.Held || out.Success || out.Result != "" || rec.Attempts != 0 || rec.State != storage.StatePending {
			t.Errorf("cancelled: %+v, %d attempts", out, rec.Attempts)
		}

		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		out = f.d.Attempt(ctx, f.store.claimOne("msg_0002", Lease(f.route)), f.route)
		rec = f.store.record("msg_0002")
		if out.Held || out.Result != notify.ResultTimeout || rec.Attempts != 1 || rec.LastError != "timeout" {
			t.Errorf("at its deadline: %+v, %d attempts, %q", out, rec.Attempts, rec.LastError)
		}

		if out = f.d.Attempt(context.Background(), f.store.claimOne("msg_0001", time.Minute), nil); !out.Held {
			t.Errorf("without a route: %+v", out)
		}
		if f.store.leasedNow() != 0 {
			t.Error("a claim was kept")
		}
		f.stop(t)
	})
}

// TestAttemptsBehindAnOpenBreaker: WeChat's own requests are sent all the same,
// burn nothing, and close the breaker when one succeeds.
func TestAttemptsBehindAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(func(_ *Config, r *notify.Route) { r.Ack, r.Timeout = notify.AckDelivery, 3*time.Second })
		f.backend.set(status(503))
		attempt := func(n int) Attempted {
			f.store.add(payment(n))
			return f.d.Attempt(context.Background(), f.store.claimOne(payment(n).ID, Lease(f.route)), f.route)
		}
		for n := range 20 {
			if out := attempt(n); out.Success || out.Held != (n >= 4) {
				t.Fatalf("attempt %d: %+v", n, out)
			}
		}
		if len(f.backend.seen()) != 20 {
			t.Errorf("%d sent", len(f.backend.seen()))
		}
		f.backend.set(nil)
		if out := attempt(20); !out.Success {
			t.Errorf("after the outage: %+v", out)
		}
		if !slices.Equal(f.seen.breakers, []bool{true, false}) {
			t.Errorf("breaker: %v", f.seen.breakers)
		}
		f.d.Start()
		time.Sleep(5 * time.Second)
		f.stop(t)
		if got := f.seen.count(notify.ResultSuccess); got != 21 {
			t.Errorf("%d delivered", got)
		}
	})
}
