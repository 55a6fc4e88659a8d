package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var concurrentTests = []test{
	{"OneKeyManyRacers", func(e *env) {
		n := e.event("a", "g")
		var fresh, claimed atomic.Int32
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				terms := storage.ClaimTerms{}
				if i%2 == 0 {
					terms = storage.ClaimTerms{Owner: fmt.Sprint(i), Lease: time.Minute}
				}
				a, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: n, Claim: terms})
				if err != nil {
					e.Error(err)
				}
				if a.Outcome == storage.AcceptedFresh {
					fresh.Add(1)
				}
				if a.Claim != nil {
					claimed.Add(1)
				}
				if a.State != storage.StatePending {
					e.Errorf("%+v", a)
				}
			})
		}
		wg.Wait()
		e.equal(fresh.Load(), int32(1))
		e.equal(claimed.Load(), int32(1))
		e.equal(e.record(n.ID).Seen, 200)
		e.stats(storage.Stats{Pending: 1, Leased: 1, OldestPending: e.clock.Now()})
	}},
	{"ParkRacers", func(e *env) {
		n := e.event("a", "")
		var fresh atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, f, err := e.s.Park(e.ctx, n, storage.ParkContradiction, ""); err != nil {
					e.Error(err)
				} else if f {
					fresh.Add(1)
				}
			})
		}
		wg.Wait()
		e.equal(fresh.Load(), int32(1))
		e.stats(storage.Stats{Parked: 1})
	}},
	{"OrderWithinGroups", func(e *env) {
		const groups, each, workers = 40, 12, 16
		var arrivals sync.WaitGroup
		for g := range groups {
			arrivals.Go(func() {
				for i := range each {
					n := e.event(fmt.Sprintf("%d-%d", g, i), fmt.Sprint("g", g))
					if _, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: n}); err != nil {
						e.Error(err)
					}
				}
			})
		}
		var mu sync.Mutex
		next := map[string]int{}
		active := map[string]bool{}
		failed := map[string]bool{}
		done := 0
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				terms := storage.ClaimTerms{Owner: fmt.Sprint(w % 2), Lease: time.Hour}
				for end := time.Now().Add(time.Minute); time.Now().Before(end); {
					mu.Lock()
					finished := done == groups*each
					mu.Unlock()
					if finished {
						return
					}
					claims, err := e.s.Claim(e.ctx, shop, terms, 3)
					if err != nil {
						e.Error(err)
						return
					}
					for _, c := range claims {
						var g, i int
						_, _ = fmt.Sscanf(c.Record.ID, "evt_%d-%d", &g, &i)
						to := storage.StateDelivered
						mu.Lock()
						if active[c.Record.Group] {
							e.Errorf("two of group %s at a time", c.Record.Group)
						}
						if next[c.Record.Group] != i {
							e.Errorf("group %s: got %d, want %d", c.Record.Group, i, next[c.Record.Group])
						}
						if i%5 == 3 && !failed[c.Record.ID] {
							to = storage.StatePending // once more
							failed[c.Record.ID] = true
						} else {
							next[c.Record.Group]++
							done++
						}
						active[c.Record.Group] = true
						mu.Unlock()
						mu.Lock()
						active[c.Record.Group] = false
						mu.Unlock()
						if err := e.s.Complete(e.ctx, c.Record.ID, c.Fence, storage.Completion{State: to, NextDue: e.clock.Now()}); err != nil {
							e.Error(err)
						}
					}
				}
				e.Error("not done in time")
			})
		}
		arrivals.Wait()
		wg.Wait()
		e.equal(done, groups*each)
		e.stats(storage.Stats{})
	}},
	{"TwoOwnersExcludeEachOther", func(e *env) {
		for i := range 300 {
			e.accept(e.event(fmt.Sprint(i), ""))
		}
		var mu sync.Mutex
		seen := map[string]string{}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				terms := storage.ClaimTerms{Owner: fmt.Sprint("gen", w%2), Lease: time.Minute}
				for {
					claims, err := e.s.Claim(e.ctx, shop, terms, 7)
					if err != nil {
						e.Error(err)
					}
					if len(claims) == 0 {
						return
					}
					mu.Lock()
					for _, c := range claims {
						if by, twice := seen[c.Record.ID]; twice {
							e.Errorf("%s claimed by %s and %s", c.Record.ID, by, c.Owner)
						}
						seen[c.Record.ID] = c.Owner
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		e.equal(len(seen), 300)
	}},
	{"CompleteRacers", func(e *env) {
		e.accept(e.event("a", ""))
		c := e.claim(worker, "evt_a")
		var ok atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				err := e.s.Complete(e.ctx, "evt_a", c.Fence, storage.Completion{State: storage.StatePending, NextDue: e.clock.Now()})
				if err == nil {
					ok.Add(1)
				} else if !errors.Is(err, storage.ErrStale) {
					e.Error(err)
				}
			})
		}
		wg.Wait()
		e.equal(ok.Load(), int32(1))
		e.equal(e.record("evt_a").Attempts, 1)
	}},
	{"CloseUnderWrites", func(e *env) {
		if e.h.Reopen == nil {
			return
		}
		var mu sync.Mutex
		acked := map[string]bool{}
		var wg sync.WaitGroup
		started := make(chan struct{}, 8)
		for w := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					n := e.event(fmt.Sprintf("%d-%d", w, i), "")
					_, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: n})
					if i == 3 {
						started <- struct{}{}
					}
					if errors.Is(err, storage.ErrClosed) {
						return
					}
					if err != nil {
						e.Error(err)
						return
					}
					mu.Lock()
					acked[n.ID] = true
					mu.Unlock()
				}
			})
		}
		for range 8 {
			<-started
		}
		e.ok(e.s.Close())
		wg.Wait()
		e.s = e.h.Reopen(e, e.s, Options{Now: e.clock.Now})
		for id := range acked {
			e.state(id, storage.StatePending)
		}
		e.stats(storage.Stats{Pending: int64(len(acked)), OldestPending: e.clock.Now()})
	}},
}
