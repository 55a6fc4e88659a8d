package storagetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var decideTests = []test{
	{"UnknownIDOrAct", func(e *env) {
		e.refuse("evt_none", storage.ActRelease, storage.ErrNotFound)
		e.accept(e.event("a", ""))
		e.refuse("evt_a", storage.Act("wish"), storage.ErrState)
	}},
	{"ReleaseOfATakenKey", func(e *env) {
		n := e.event("a", "")
		e.accept(n)
		id := e.park(n, storage.ParkContradiction)
		e.refuse(id, storage.ActRelease, storage.ErrState)
		e.state(id, storage.StateSuperseded)
	}},
	{"ReleaseOfNoRoute", func(e *env) {
		n := e.event("a", "g")
		e.accept(n)
		e.deliver(n.ID, storage.StateParked)
		e.equal(e.state(n.ID, storage.StateParked).ParkReason, storage.ParkNoRoute)
		e.accept(e.event("b", "g"))
		r := e.decide(n.ID, storage.ActRelease)
		e.equal(r.State, storage.StatePending)
		e.equal(r.AmountCheck, storage.AmountOverridden)
		e.equal(r.ParkReason, storage.ParkReason(""))
		e.deliver("evt_b", storage.StateDelivered) // it waits at the end
		c := e.claim(worker, n.ID)
		e.equal(c.Record.Source, storage.SourceCallback)
		e.equal(c.Record.AmountCheck, storage.AmountOverridden)
		e.complete(c, storage.StateDelivered)
	}},
	{"ReleaseOfWhatIsNotParked", func(e *env) {
		n := e.event("a", "")
		e.accept(n)
		e.refuse(n.ID, storage.ActRelease, storage.ErrState)
		e.deliver(n.ID, storage.StateDead)
		e.refuse(n.ID, storage.ActRelease, storage.ErrState)
	}},
	{"ReplayOfDelivered", func(e *env) {
		n := e.event("a", "g")
		e.accept(n)
		e.accept(e.event("b", "g"))
		e.refuse(n.ID, storage.ActReplay, storage.ErrState)
		e.deliver(n.ID, storage.StateDelivered)
		r := e.decide(n.ID, storage.ActReplay)
		e.equal(r.State, storage.StatePending)
		e.equal(r.Source, storage.SourceReplay)
		e.equal(r.Attempts, 0)
		e.refuse(n.ID, storage.ActReplay, storage.ErrState)
		e.deliver("evt_b", storage.StateDelivered)
		c := e.claim(worker, n.ID)
		if !c.Replay || c.Record.ID != n.ID {
			e.Fatalf("%+v", c)
		}
		e.equal(c.Record.Body, n.Body)
		e.complete(c, storage.StateDelivered)
		log, err := e.s.AuditLog(e.ctx, 0, 10)
		e.ok(err)
		e.equal(len(log), 1)
	}},
	{"ReplayOfDeadAndNoRoute", func(e *env) {
		for _, to := range []storage.State{storage.StateDead, storage.StateParked} {
			n := e.event(string(to), "")
			e.accept(n)
			e.deliver(n.ID, to)
			e.decide(n.ID, storage.ActReplay)
			e.deliver(n.ID, storage.StateDelivered)
		}
	}},
	{"ReplayOfParkedBeforeAcceptance", func(e *env) {
		id := e.park(e.event("a", ""), storage.ParkNoRoute)
		e.refuse(id, storage.ActReplay, storage.ErrState)
	}},
	{"DismissParked", func(e *env) {
		n := e.event("a", "")
		id := e.park(n, storage.ParkContradiction)
		r := e.decide(id, storage.ActDismiss)
		e.equal(r.ID, id)
		e.equal(r.State, storage.StateDismissed)
		e.refuse(id, storage.ActDismiss, storage.ErrState)
		e.refuse(id, storage.ActRelease, storage.ErrState)
		if _, fresh, err := e.s.Park(e.ctx, n, storage.ParkContradiction, ""); err != nil || fresh {
			e.Fatal("a dismissed notification was parked again", err)
		}
		e.equal(e.accept(n).Superseded, []string(nil))
		e.state(id, storage.StateDismissed)
	}},
	{"DismissPending", func(e *env) {
		for _, name := range []string{"a", "b", "c", "d"} {
			e.accept(e.event(name, "g"))
		}
		e.decide("evt_b", storage.ActDismiss) // in the middle
		c := e.claim(worker, "evt_a")
		e.refuse("evt_a", storage.ActDismiss, storage.ErrState) // leased
		e.complete(c, storage.StateDelivered)
		c = e.claim(worker, "evt_c")
		e.clock.Advance(time.Minute)
		e.decide("evt_c", storage.ActDismiss) // its lease is over
		e.is(e.s.Complete(e.ctx, "evt_c", c.Fence, storage.Completion{State: storage.StateDelivered}), storage.ErrStale)
		e.decide("evt_d", storage.ActDismiss) // head and tail
		e.noClaim()
		e.accept(e.event("e", "g"))
		e.deliver("evt_e", storage.StateDelivered)
		e.refuse("evt_e", storage.ActDismiss, storage.ErrState)
		e.stats(storage.Stats{})
	}},
	{"DismissTheTail", func(e *env) {
		e.accept(e.event("a", "g"))
		e.accept(e.event("b", "g"))
		e.decide("evt_b", storage.ActDismiss)
		e.accept(e.event("c", "g"))
		e.deliver("evt_a", storage.StateDelivered)
		e.deliver("evt_c", storage.StateDelivered)
	}},
	{"DismissDead", func(e *env) {
		e.accept(e.event("a", ""))
		e.deliver("evt_a", storage.StateDead)
		e.decide("evt_a", storage.ActDismiss)
		if a := e.acceptClaim(e.event("a", ""), worker); a.Claim != nil || a.State != storage.StateDismissed {
			e.Fatalf("%+v", a)
		}
		e.refuse("evt_a", storage.ActReplay, storage.ErrState)
	}},
}

// parallel runs fn n times, 32 at a time, so that commits can be shared.
func (e *env) parallel(n int, fn func(i int) error) {
	e.Helper()
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := w; i < n; i += 32 {
				if err := fn(i); err != nil {
					e.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// all lists every record that passes a filter, page by page.
func (e *env) all(f storage.Filter) (list []storage.Record) {
	e.Helper()
	for {
		p, err := e.s.Notifications(e.ctx, f)
		e.ok(err)
		if f.Limit > 0 && len(p.Records) > f.Limit {
			e.Fatalf("%d records on a page of %d", len(p.Records), f.Limit)
		}
		list = append(list, p.Records...)
		if p.Cursor == "" {
			return list
		}
		f.After = p.Cursor
	}
}

var listTests = []test{
	{"NewestFirstWithoutBodies", func(e *env) {
		n := e.event("a", "")
		n.Raw = []byte("raw")
		e.accept(n)
		e.clock.Advance(1)
		e.accept(e.event("b", ""))
		e.accept(e.event("c", ""))
		list := e.all(storage.Filter{})
		e.equal(names(list), []string{"evt_c", "evt_b", "evt_a"})
		want := n
		want.Body, want.Raw, want.ResourceStart, want.ResourceEnd = nil, nil, 0, 0
		e.equal(list[2], storage.Record{Notification: want, State: storage.StatePending, NextDue: n.ReceivedAt, Seen: 1})
		_, err := e.s.Notification(e.ctx, "evt_d")
		e.is(err, storage.ErrNotFound)
	}},
	{"Filters", func(e *env) {
		for i := range 12 {
			n := e.event(fmt.Sprint("n", i), "")
			if i%2 == 0 {
				n.Merchant = "elsewhere"
			}
			if i%3 == 0 {
				n.Kind = "refund"
			}
			n.OutTradeNo = fmt.Sprint("no", i%4)
			e.accept(n)
			e.clock.Advance(time.Second)
		}
		for i, c := range e.claims(worker, 4) {
			e.complete(c, []storage.State{storage.StateDelivered, storage.StateDead, storage.StateParked, storage.StatePending}[i])
		}
		for _, tt := range []struct {
			f    storage.Filter
			want []string
		}{
			{storage.Filter{Merchant: "elsewhere"}, []string{"n10", "n8", "n6", "n4", "n2", "n0"}},
			{storage.Filter{Kind: "refund"}, []string{"n9", "n6", "n3", "n0"}},
			{storage.Filter{OutTradeNo: "no1"}, []string{"n9", "n5", "n1"}},
			{storage.Filter{OutTradeNo: "no"}, nil},
			{storage.Filter{State: storage.StateDelivered}, []string{"n1"}},
			{storage.Filter{State: storage.StateDead}, []string{"n3"}},
			{storage.Filter{State: storage.StateParked}, []string{"n5"}},
			{storage.Filter{State: storage.StatePending, Merchant: shop}, []string{"n11", "n9", "n7"}},
			{storage.Filter{State: storage.StateDead, OutTradeNo: "no3"}, []string{"n3"}},
			{storage.Filter{Merchant: shop, Kind: "refund", OutTradeNo: "no1"}, []string{"n9"}},
			{storage.Filter{Merchant: "nobody"}, nil},
		} {
			for _, limit := range []int{0, 1, 2, 5000} {
				tt.f.Limit = limit
				var want []string
				for _, w := range tt.want {
					want = append(want, "evt_"+w)
				}
				e.equal(names(e.all(tt.f)), want)
			}
		}
	}},
	{"Pages", func(e *env) {
		e.parallel(1003, func(i int) error {
			n := e.event(fmt.Sprint(i), "")
			n.Body, n.ResourceStart, n.ResourceEnd = nil, 0, 0
			n.ReceivedAt = n.ReceivedAt.Add(time.Duration(i/100) * time.Second)
			_, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: n})
			return err
		})
		e.clock.Advance(time.Hour)
		p, err := e.s.Notifications(e.ctx, storage.Filter{})
		e.ok(err)
		e.equal(len(p.Records), 100)
		p, err = e.s.Notifications(e.ctx, storage.Filter{Limit: 5000})
		e.ok(err)
		e.equal(len(p.Records), 1000)
		all := names(e.all(storage.Filter{Limit: 10}))
		e.equal(len(all), 1003)
		slices.Sort(all)
		e.equal(len(slices.Compact(all)), 1003)
		want := names(e.all(storage.Filter{Limit: 10}))[3]
		p, err = e.s.Notifications(e.ctx, storage.Filter{Limit: 3})
		e.ok(err)
		e.accept(e.event("new", "")) // does not disturb a listing under way
		next, err := e.s.Notifications(e.ctx, storage.Filter{Limit: 1, After: p.Cursor})
		e.ok(err)
		e.equal(names(next.Records), []string{want})
		_, err = e.s.Notifications(e.ctx, storage.Filter{After: "!"})
		e.is(err, storage.ErrCursor)
	}},
	{"EmptyStore", func(e *env) {
		p, err := e.s.Notifications(e.ctx, storage.Filter{})
		e.ok(err)
		e.equal(p, storage.Page{})
		q, err := e.s.Queues(e.ctx)
		e.ok(err)
		e.equal(len(q), 0)
		_, ok, err := e.s.NextDue(e.ctx, shop)
		e.ok(err)
		e.equal(ok, false)
	}},
}

func names(list []storage.Record) (ids []string) {
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}
