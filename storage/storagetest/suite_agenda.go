package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func (e *env) schedule(id string, in time.Duration, payload string) storage.Work {
	e.Helper()
	w := storage.Work{ID: id, Kind: "query", Merchant: shop, Due: e.clock.Now().Add(in), Payload: []byte(payload)}
	e.ok(e.s.ScheduleWork(e.ctx, w))
	return w
}

func (e *env) work(want ...string) []storage.ClaimedWork {
	e.Helper()
	list, err := e.s.ClaimWork(e.ctx, "query", worker, 10)
	e.ok(err)
	var got []string
	for _, w := range list {
		got = append(got, w.ID)
	}
	e.equal(got, want)
	return list
}

func (e *env) finish(w storage.ClaimedWork, next time.Time) {
	e.Helper()
	e.ok(e.s.FinishWork(e.ctx, "query", w.ID, w.Fence, next))
}

var agendaTests = []test{
	{"DueInOrder", func(e *env) {
		a := e.schedule("a", time.Second, "x")
		e.schedule("b", 0, "")
		e.schedule("c", time.Hour, "")
		e.ok(e.s.ScheduleWork(e.ctx, storage.Work{ID: "a", Kind: "other", Due: e.clock.Now()}))
		e.clock.Advance(time.Second)
		list := e.work("b", "a")
		e.equal(list[1].Work, a)
		e.equal(list[1].LeaseUntil, e.clock.Now().Add(time.Minute))
		e.work()
		e.finish(list[0], time.Time{})
		e.finish(list[1], e.clock.Now().Add(time.Minute))
		e.is(e.s.FinishWork(e.ctx, "query", "b", list[0].Fence, time.Time{}), storage.ErrNotFound)
		e.is(e.s.FinishWork(e.ctx, "query", "a", list[1].Fence, time.Time{}), storage.ErrStale)
		e.clock.Advance(time.Minute - 1)
		e.work()
		e.clock.Advance(1)
		e.equal(e.work("a")[0].Attempt, 1)
		e.clock.Advance(time.Hour)
		e.work("a", "c") // the lease of a ran out
	}},
	{"LimitAndTerms", func(e *env) {
		for i := range 5 {
			e.schedule(fmt.Sprint(i), 0, "")
		}
		for _, tt := range []struct{ limit, want int }{{0, 0}, {2, 2}, {10, 3}} {
			list, err := e.s.ClaimWork(e.ctx, "query", worker, tt.limit)
			e.ok(err)
			e.equal(len(list), tt.want)
		}
		if _, err := e.s.ClaimWork(e.ctx, "query", storage.ClaimTerms{Owner: "w"}, 1); err == nil {
			e.Fatal("a claim without a lease was given")
		}
	}},
	{"ExpiredLease", func(e *env) {
		e.schedule("a", 0, "")
		first := e.work("a")[0]
		e.clock.Advance(time.Minute - 1)
		e.work()
		e.clock.Advance(1)
		second := e.work("a")[0]
		if second.Fence <= first.Fence {
			e.Fatal("the fence did not grow")
		}
		e.is(e.s.FinishWork(e.ctx, "query", "a", first.Fence, time.Time{}), storage.ErrStale)
		e.finish(second, time.Time{})
		e.work()
	}},
	{"ReplaceFree", func(e *env) {
		e.schedule("a", 0, "1")
		w := e.schedule("a", time.Hour, "2")
		e.work()
		e.clock.Advance(time.Hour)
		e.equal(e.work("a")[0].Work, w)
	}},
	{"ReplaceHeld", func(e *env) {
		e.schedule("a", 0, "1")
		c := e.work("a")[0]
		e.schedule("a", time.Second, "2")
		e.clock.Advance(2 * time.Second)
		e.work() // the lease holds
		e.finish(c, e.clock.Now().Add(time.Hour))
		again := e.work("a")[0] // due when it was scheduled for
		e.equal(string(again.Payload), "2")
		e.equal(again.Attempt, 1)
		e.schedule("a", time.Second, "3")
		e.finish(again, time.Time{}) // done is done
		e.clock.Advance(time.Hour)
		e.work()
	}},
	{"ReplaceAfterTheLease", func(e *env) {
		e.schedule("a", 0, "1")
		c := e.work("a")[0]
		e.clock.Advance(time.Minute)
		e.schedule("a", 0, "2")
		e.is(e.s.FinishWork(e.ctx, "query", "a", c.Fence, time.Time{}), storage.ErrStale)
		e.equal(string(e.work("a")[0].Payload), "2")
	}},
	{"LimitOfPayload", func(e *env) {
		w := storage.Work{ID: "a", Kind: "query", Payload: bytes.Repeat([]byte{1}, 64<<10)}
		e.ok(e.s.ScheduleWork(e.ctx, w))
		e.equal(e.work("a")[0].Payload, w.Payload)
		w.Payload = append(w.Payload, 1)
		e.is(e.s.ScheduleWork(e.ctx, w), storage.ErrTooLarge)
	}},
	{"SurvivesReopening", func(e *env) {
		if e.h.Reopen == nil {
			return
		}
		w := e.schedule("a", 0, "1")
		c := e.work("a")[0]
		e.s = e.h.Reopen(e, e.s, Options{Now: e.clock.Now})
		if e.h.Shared {
			e.finish(c, time.Time{})
			return
		}
		e.is(e.s.FinishWork(e.ctx, "query", "a", c.Fence, time.Time{}), storage.ErrStale)
		e.equal(e.work("a")[0].Work, w)
	}},
}

var keepTests = []test{
	{"Audit", func(e *env) {
		for i := range 5 {
			e.ok(e.s.AppendAudit(e.ctx, storage.AuditEntry{Seq: 99, At: e.clock.Now(), By: "li", Act: "x", Object: fmt.Sprint(i), Reason: "理由"}))
		}
		log, err := e.s.AuditLog(e.ctx, 2, 2)
		e.ok(err)
		e.equal(log, []storage.AuditEntry{
			{Seq: 3, At: e.clock.Now(), By: "li", Act: "x", Object: "2", Reason: "理由"},
			{Seq: 4, At: e.clock.Now(), By: "li", Act: "x", Object: "3", Reason: "理由"},
		})
		log, err = e.s.AuditLog(e.ctx, 5, 10)
		e.ok(err)
		e.equal(len(log), 0)
		if e.h.Reopen != nil {
			e.s = e.h.Reopen(e, e.s, Options{Now: e.clock.Now})
			e.ok(e.s.AppendAudit(e.ctx, storage.AuditEntry{Object: "after"}))
			log, err = e.s.AuditLog(e.ctx, 4, 10)
			e.ok(err)
			e.equal(len(log), 2)
			e.equal(log[1].Seq, uint64(6))
		}
	}},
	{"Certificates", func(e *env) {
		data, err := e.s.LoadCertificates(e.ctx, shop)
		e.ok(err)
		if data != nil {
			e.Fatal("data that nobody saved")
		}
		e.ok(e.s.SaveCertificates(e.ctx, shop, []byte("one")))
		e.ok(e.s.SaveCertificates(e.ctx, shop, []byte("two")))
		e.ok(e.s.SaveCertificates(e.ctx, "elsewhere", []byte("three")))
		data, err = e.s.LoadCertificates(e.ctx, shop)
		e.ok(err)
		e.equal(string(data), "two")
	}},
	{"SweepBodies", func(e *env) {
		keep := storage.Retention{Bodies: time.Hour, Orders: 366 * 24 * time.Hour}
		for _, name := range []string{"delivered", "pending", "dead", "dismissed", "noroute"} {
			e.accept(e.event(name, ""))
		}
		c := e.claims(worker, 10)
		e.ok(e.s.Complete(e.ctx, "evt_delivered", c[0].Fence, storage.Completion{State: storage.StateDelivered, Answer: []byte("{}")}))
		e.complete(c[2], storage.StateDead)
		e.complete(c[4], storage.StateParked)
		e.clock.Advance(time.Minute)
		e.decide("evt_dismissed", storage.ActDismiss)
		parked := e.park(e.event("parked", ""), storage.ParkContradiction)
		e.clock.Advance(time.Hour - time.Minute - 1)
		e.sweep(keep, storage.Swept{})
		e.clock.Advance(1)
		e.sweep(keep, storage.Swept{Bodies: 2})
		for _, id := range []string{"evt_delivered", "evt_dismissed"} {
			r := e.record(id)
			if !r.BodyExpired || r.Body != nil || r.Answer != nil || r.ResourceEnd != 0 {
				e.Fatalf("%+v", r)
			}
		}
		e.refuse("evt_delivered", storage.ActReplay, storage.ErrState)
		if a := e.accept(e.event("delivered", "")); a.Outcome != storage.AcceptedDuplicate || a.State != storage.StateDelivered {
			e.Fatalf("the key was forgotten: %+v", a)
		}
		for _, id := range []string{"evt_pending", "evt_dead", "evt_noroute", parked} {
			if r := e.record(id); r.BodyExpired || r.Body == nil {
				e.Fatalf("%+v", r)
			}
		}
		// What was not finished when the sweeper came by is swept when it is.
		e.deliver("evt_pending", storage.StateDelivered)
		e.sweep(keep, storage.Swept{Bodies: 1})
		e.decide("evt_dead", storage.ActDismiss)
		e.decide("evt_noroute", storage.ActReplay)
		e.deliver("evt_noroute", storage.StateDelivered)
		e.sweep(keep, storage.Swept{Bodies: 2})
		e.sweep(keep, storage.Swept{})
	}},
	{"SweepLedger", func(e *env) {
		keep := storage.Retention{Bodies: time.Hour, Orders: 24 * time.Hour}
		final := e.order("final", "sub")
		final.State, final.TransactionID = storage.OrderPaid, "t"
		e.ok(e.put(final))
		open := e.order("open")
		e.ok(e.put(open))
		e.putCall("done", e.clock.Now(), storage.CallSucceeded)
		e.putCall("open", e.clock.Now(), storage.CallPending)
		rk := storage.RefundKey{Mchid: mchid, OutRefundNo: "r"}
		refund := func(s storage.RefundState) {
			e.ok(e.s.Change(e.ctx, storage.Keys{Refund: rk}, func(r *storage.Rows) error {
				r.Refund = &storage.Refund{Key: rk, State: s, CreatedAt: e.clock.Now()}
				return nil
			}))
		}
		refund(storage.RefundAbnormal)
		e.clock.Advance(24*time.Hour - 1)
		e.sweep(keep, storage.Swept{})
		e.clock.Advance(1)
		e.sweep(keep, storage.Swept{Orders: 2})
		for _, k := range []storage.OrderKey{final.Key, orderKey("sub")} {
			_, err := e.s.Order(e.ctx, k)
			e.is(err, storage.ErrNotFound)
		}
		_, err := e.s.OrderByTransaction(e.ctx, mchid, "t")
		e.is(err, storage.ErrNotFound)
		_, err = e.s.Call(e.ctx, "done")
		e.is(err, storage.ErrNotFound)
		e.getOrder(open.Key)
		e.openCalls(e.clock.Now(), 10, "open")
		open.State = storage.OrderClosed
		e.ok(e.put(open))
		refund(storage.RefundClosed)
		e.putCall("open", e.clock.Now(), storage.CallUnknown)
		e.sweep(keep, storage.Swept{Orders: 3})
		e.ok(e.put(final)) // the number may be used again
		e.ok(e.put(e.order("x", "sub2")))
	}},
	{"SweepInParts", func(e *env) {
		e.parallel(2500, func(i int) error {
			_, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: e.event(fmt.Sprint(i), "")})
			return err
		})
		list := e.claims(worker, 2500)
		e.equal(len(list), 2500)
		e.parallel(2500, func(i int) error {
			return e.s.Complete(e.ctx, list[i].Record.ID, list[i].Fence, storage.Completion{State: storage.StateDelivered})
		})
		e.clock.Advance(2 * time.Hour)
		e.sweep(storage.Retention{Bodies: time.Hour, Orders: time.Hour}, storage.Swept{Bodies: 2500})
		e.equal(e.record("evt_1234").BodyExpired, true)
	}},
	{"Closed", func(e *env) {
		e.accept(e.event("a", ""))
		e.ok(e.s.Healthy(e.ctx))
		e.ok(e.s.Close())
		e.ok(e.s.Close())
		for name, call := range map[string]func() error{
			"Accept": func() error {
				_, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: e.event("a", "")})
				return err
			},
			"Park": func() error {
				_, _, err := e.s.Park(e.ctx, e.event("a", ""), storage.ParkContradiction, "")
				return err
			},
			"ParkedFor": func() error { _, err := e.s.ParkedFor(e.ctx, orderKey("a")); return err },
			"Claim":     func() error { _, err := e.s.Claim(e.ctx, shop, worker, 1); return err },
			"Complete": func() error {
				return e.s.Complete(e.ctx, "evt_a", 1, storage.Completion{State: storage.StateDelivered})
			},
			"Release":      func() error { return e.s.Release(e.ctx, "evt_a", 1, time.Time{}) },
			"NextDue":      func() error { _, _, err := e.s.NextDue(e.ctx, shop); return err },
			"Queues":       func() error { _, err := e.s.Queues(e.ctx); return err },
			"Decide":       func() error { _, err := e.s.Decide(e.ctx, e.decision("evt_a", storage.ActDismiss)); return err },
			"Notification": func() error { _, err := e.s.Notification(e.ctx, "evt_a"); return err },
			"Notifications": func() error {
				_, err := e.s.Notifications(e.ctx, storage.Filter{})
				return err
			},
			"Stats":              func() error { _, err := e.s.Stats(e.ctx); return err },
			"Change":             func() error { return e.put(e.order("a")) },
			"Order":              func() error { _, err := e.s.Order(e.ctx, orderKey("a")); return err },
			"OrderByTransaction": func() error { _, err := e.s.OrderByTransaction(e.ctx, mchid, "a"); return err },
			"Refund":             func() error { _, err := e.s.Refund(e.ctx, storage.RefundKey{}); return err },
			"Call":               func() error { _, err := e.s.Call(e.ctx, "a"); return err },
			"Memo":               func() error { _, err := e.s.Memo(e.ctx, "a"); return err },
			"OpenCalls":          func() error { _, err := e.s.OpenCalls(e.ctx, e.clock.Now(), 1); return err },
			"ScheduleWork":       func() error { return e.s.ScheduleWork(e.ctx, storage.Work{ID: "a", Kind: "k"}) },
			"ClaimWork":          func() error { _, err := e.s.ClaimWork(e.ctx, "k", worker, 1); return err },
			"FinishWork":         func() error { return e.s.FinishWork(e.ctx, "k", "a", 1, time.Time{}) },
			"AppendAudit":        func() error { return e.s.AppendAudit(e.ctx, storage.AuditEntry{}) },
			"AuditLog":           func() error { _, err := e.s.AuditLog(e.ctx, 0, 1); return err },
			"LoadCertificates":   func() error { _, err := e.s.LoadCertificates(e.ctx, shop); return err },
			"SaveCertificates":   func() error { return e.s.SaveCertificates(e.ctx, shop, nil) },
			"Sweep":              func() error { _, err := e.s.Sweep(e.ctx, storage.Retention{}); return err },
			"Healthy":            func() error { return e.s.Healthy(context.Background()) },
		} {
			if err := call(); differ(err == nil, false) != "" {
				e.Errorf("%s: no error after Close", name)
			} else {
				e.is(err, storage.ErrClosed)
			}
		}
	}},
}

// sweep sweeps to the end and compares the sums.
func (e *env) sweep(keep storage.Retention, want storage.Swept) {
	e.Helper()
	var sum storage.Swept
	for range 1000 {
		s, err := e.s.Sweep(e.ctx, keep)
		e.ok(err)
		sum.Bodies += s.Bodies
		sum.Orders += s.Orders
		sum.Memos += s.Memos
		if !s.More {
			e.equal(sum, want)
			return
		}
	}
	e.Fatal("the sweep does not end")
}
