package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var acceptTests = []test{
	{"KeepsEveryField", func(e *env) {
		n := e.event("a", "g")
		n.SubMchid, n.Appid, n.OutRefundNo, n.TransactionID = "1900000002", "wx8888888888888888", "re1", "42000"
		n.ParkingID, n.TradeScene, n.Money, n.Host, n.Path, n.Route = "p1", "PARKING", true, "pay.example.com", "/wechatpay/notify/shop", "shop-1"
		n.Orders = append(n.Orders, storage.OrderKey{Mchid: mchid, SubMchid: "s", Number: "二"})
		n.Raw = []byte{0, 1, 0xff}
		n.RawHeaders = []storage.Header{{Name: "Wechatpay-Serial", Value: "x"}, {Name: "Wechatpay-Nonce", Value: ""}}
		n.ReceivedAt = n.ReceivedAt.Add(123456789)
		a := e.accept(n)
		e.equal(a, storage.Acceptance{Outcome: storage.AcceptedFresh, State: storage.StatePending})
		want := storage.Record{Notification: n, State: storage.StatePending, NextDue: e.clock.Now(), Seen: 1}
		e.equal(e.record(n.ID), want)
		e.noClaim()
		c := e.claimsOf(n.Route, worker, 10)
		if len(c) != 1 {
			e.Fatalf("claimed %v from the route's queue, want one", ids(c))
		}
		e.equal(c[0].Record, want)
		r := e.record(n.ID)
		e.equal(r.Resource(), n.Resource())
	}},
	{"QueueIsTheRoutes", func(e *env) {
		// One merchant, two routes: each has a queue of its own, but an order's
		// notifications go one at a time whichever routes they came by.
		first, second, free := e.event("a", "g"), e.event("b", "g"), e.event("c", "")
		first.Route, second.Route, free.Route = "north", "south", "south"
		for _, n := range []storage.Notification{first, second, free} {
			e.accept(n)
		}
		names, err := e.s.Queues(e.ctx)
		e.ok(err)
		slices.Sort(names)
		e.equal(names, []string{"north", "south"})
		if c := e.claimsOf("south", worker, 10); len(c) != 1 || c[0].Record.ID != free.ID {
			e.Fatalf("claimed %v, want %s alone", ids(c), free.ID)
		}
		c := e.claimsOf("north", worker, 10)
		if len(c) != 1 || c[0].Record.ID != first.ID {
			e.Fatalf("claimed %v, want %s alone", ids(c), first.ID)
		}
		e.ok(e.s.Complete(e.ctx, first.ID, c[0].Fence, storage.Completion{State: storage.StateDelivered, Status: 200}))
		if c := e.claimsOf("south", worker, 10); len(c) != 1 || c[0].Record.ID != second.ID {
			e.Fatalf("claimed %v, want %s alone", ids(c), second.ID)
		}
		e.noClaim()
	}},
	{"DoesNotKeepTheCallersBytes", func(e *env) {
		n := e.event("a", "")
		want := bytes.Clone(n.Body)
		e.accept(n)
		clear(n.Body)
		e.equal(e.record(n.ID).Body, want)
		r := e.record(n.ID)
		clear(r.Body)
		e.equal(e.record(n.ID).Body, want)
	}},
	{"DuplicateStoresNothing", func(e *env) {
		n := e.event("a", "")
		e.accept(n)
		again := n
		again.Body, again.ResourceStart, again.ResourceEnd = []byte("{}"), 0, 2
		again.Merchant = "elsewhere"
		a := e.accept(again)
		e.equal(a, storage.Acceptance{Outcome: storage.AcceptedDuplicate, State: storage.StatePending})
		r := e.record(n.ID)
		e.equal(r.Body, n.Body)
		e.equal(r.Merchant, shop)
		e.equal(r.Seen, 2)
	}},
	{"DuplicateTellsStateAttemptsAndAnswer", func(e *env) {
		n := e.event("a", "")
		c := *e.acceptClaim(n, worker).Claim
		e.ok(e.s.Complete(e.ctx, n.ID, c.Fence, storage.Completion{State: storage.StateDelivered, Status: 200, Answer: []byte(`{"x":1}`)}))
		a := e.acceptClaim(n, worker)
		e.equal(a, storage.Acceptance{Outcome: storage.AcceptedDuplicate, State: storage.StateDelivered, Attempts: 1, Answer: []byte(`{"x":1}`)})
	}},
	{"LimitOfID", func(e *env) { e.limit(func(n *storage.Notification, over int) { n.ID = strings.Repeat("i", 64+over) }) }},
	{"LimitOfKey", func(e *env) {
		e.limit(func(n *storage.Notification, over int) { n.Key = strings.Repeat("k", 512+over) })
	}},
	{"LargeBody", func(e *env) {
		n := e.event("a", "")
		for _, size := range []int{1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, storage.MaxRecord - 4096} {
			n.ID = fmt.Sprint("evt_", size)
			n.Key = n.ID
			n.Body = bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			n.ResourceStart, n.ResourceEnd = size/2, size
			e.accept(n)
			e.equal(e.record(n.ID).Notification, n)
		}
		n.ID, n.Key = "evt_over", "over"
		n.Body = make([]byte, storage.MaxRecord+1)
		_, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: n})
		e.is(err, storage.ErrTooLarge)
		_, err = e.s.Notification(e.ctx, n.ID)
		e.is(err, storage.ErrNotFound)
	}},
	{"ResourceOutsideTheBody", func(e *env) {
		for _, b := range [][2]int{{-1, 1}, {2, 1}, {0, 1000}} {
			n := e.event("a", "")
			n.ResourceStart, n.ResourceEnd = b[0], b[1]
			if _, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: n}); err == nil {
				e.Fatal("accepted", b)
			}
		}
	}},
	{"CancelledWritesNothing", func(e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		n := e.event("a", "")
		_, err := e.s.Accept(ctx, storage.AcceptRequest{Notification: n})
		e.is(err, context.Canceled)
		_, err = e.s.Notification(e.ctx, n.ID)
		e.is(err, storage.ErrNotFound)
	}},
	{"ClaimInTheSameStep", func(e *env) {
		n := e.event("a", "g")
		a := e.acceptClaim(n, worker)
		if a.Claim == nil || a.Claim.Owner != "worker" || a.Claim.Record.ID != n.ID || a.Claim.Replay {
			e.Fatalf("claim %+v", a.Claim)
		}
		e.equal(a.Claim.LeaseUntil, e.clock.Now().Add(time.Minute))
		e.equal(a.Claim.Record.Body, n.Body)
		e.noClaim()
		e.complete(*a.Claim, storage.StateDelivered)
		e.state(n.ID, storage.StateDelivered)
	}},
	{"ClaimNeedsALease", func(e *env) {
		_, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: e.event("a", ""), Claim: storage.ClaimTerms{Owner: "w"}})
		if err == nil {
			e.Fatal("a claim without a lease was given")
		}
	}},
	{"DuplicateOfLeased", func(e *env) {
		n := e.event("a", "")
		first := e.acceptClaim(n, worker).Claim
		for _, t := range []storage.ClaimTerms{worker, other} {
			a := e.acceptClaim(n, t)
			if a.Claim != nil || !a.Leased {
				e.Fatalf("%+v", a)
			}
		}
		e.clock.Advance(time.Minute - 1)
		if a := e.acceptClaim(n, other); a.Claim != nil || !a.Leased {
			e.Fatalf("before the end of the lease: %+v", a)
		}
		e.clock.Advance(1)
		a := e.acceptClaim(n, other)
		if a.Claim == nil || a.Leased || a.Claim.Fence <= first.Fence {
			e.Fatalf("after the end of the lease: %+v", a)
		}
		e.is(e.s.Complete(e.ctx, n.ID, first.Fence, storage.Completion{State: storage.StateDelivered}), storage.ErrStale)
		e.complete(*a.Claim, storage.StateDelivered)
	}},
	{"DuplicateOfPendingIsClaimedBeforeItsTime", func(e *env) {
		n := e.event("a", "g")
		e.complete(*e.acceptClaim(n, worker).Claim, storage.StatePending)
		e.noClaim()
		a := e.acceptClaim(n, worker)
		if a.Claim == nil || a.Attempts != 1 {
			e.Fatalf("%+v", a)
		}
		// Given back untouched, it is due at once, whatever its time was.
		e.ok(e.s.Release(e.ctx, n.ID, a.Claim.Fence, time.Time{}))
		e.deliver(n.ID, storage.StateDelivered)
	}},
	{"DuplicateOfDead", func(e *env) {
		n := e.event("a", "g")
		e.accept(n)
		e.deliver(n.ID, storage.StateDead)
		if a := e.accept(n); a.State != storage.StateDead || a.Claim != nil {
			e.Fatalf("%+v", a)
		}
		a := e.acceptClaim(n, worker)
		if a.Claim == nil || a.State != storage.StatePending || a.Attempts != 1 {
			e.Fatalf("%+v", a)
		}
		e.equal(a.Claim.Record.Body, n.Body)
		e.noClaim()
		e.complete(*a.Claim, storage.StateDelivered)
		e.equal(e.state(n.ID, storage.StateDelivered).Attempts, 2)
	}},
	{"DuplicateOfDeadBehindItsGroup", func(e *env) {
		n := e.event("a", "g")
		e.accept(n)
		e.deliver(n.ID, storage.StateDead)
		e.accept(e.event("b", "g"))
		if a := e.acceptClaim(n, worker); a.Claim != nil || !a.Behind || a.State != storage.StateDead {
			e.Fatalf("%+v", a)
		}
	}},
	{"BehindItsGroup", func(e *env) {
		e.accept(e.event("a", "g"))
		for range 2 {
			if a := e.acceptClaim(e.event("b", "g"), worker); a.Claim != nil || !a.Behind || a.Leased {
				e.Fatalf("%+v", a)
			}
		}
		if a := e.acceptClaim(e.event("c", "another"), worker); a.Claim == nil || a.Behind {
			e.Fatalf("%+v", a)
		}
		if a := e.acceptClaim(e.event("d", ""), worker); a.Claim == nil || a.Behind {
			e.Fatalf("%+v", a)
		}
		e.deliver("evt_a", storage.StateDelivered)
		if a := e.acceptClaim(e.event("b", "g"), worker); a.Claim == nil || a.Behind {
			e.Fatalf("%+v", a)
		}
	}},
	{"GroupsOfTwoMerchants", func(e *env) {
		e.accept(e.event("a", "g"))
		n := e.event("b", "g")
		n.Merchant = "elsewhere"
		if a := e.acceptClaim(n, worker); a.Claim == nil || a.Behind {
			e.Fatalf("%+v", a)
		}
	}},
	{"NotificationIDUnderTwoKeys", func(e *env) {
		a, b := e.event("a", ""), e.event("b", "")
		b.NotificationID = a.NotificationID
		for _, step := range []struct {
			n        storage.Notification
			conflict bool
		}{{a, false}, {a, false}, {b, true}, {b, true}, {a, false}} {
			if got := e.accept(step.n).IDConflict; got != step.conflict {
				e.Fatalf("%s: conflict %v, want %v", step.n.Key, got, step.conflict)
			}
		}
		c, d := e.event("c", ""), e.event("d", "")
		c.NotificationID, d.NotificationID = "", ""
		if e.accept(c).IDConflict || e.accept(d).IDConflict {
			e.Fatal("no id is no conflict")
		}
		e.state(a.ID, storage.StatePending)
		e.state(b.ID, storage.StatePending)
	}},
	{"SurvivesReopening", func(e *env) {
		if e.h.Reopen == nil {
			return
		}
		n := e.event("a", "g")
		n.Body = bytes.Repeat([]byte("x"), 700<<10)
		n.ResourceStart, n.ResourceEnd = 0, len(n.Body)
		c := e.acceptClaim(n, worker).Claim
		e.accept(e.event("b", "g"))
		e.s = e.h.Reopen(e, e.s, Options{Now: e.clock.Now})
		e.equal(e.record(n.ID).Notification, n)
		if a := e.accept(n); a.Outcome != storage.AcceptedDuplicate {
			e.Fatalf("%+v", a)
		}
		if e.h.Shared {
			return
		}
		e.is(e.s.Complete(e.ctx, n.ID, c.Fence, storage.Completion{State: storage.StateDelivered}), storage.ErrStale)
		again := e.claim(worker, n.ID)
		if again.Fence <= c.Fence {
			e.Fatalf("fence %d after %d", again.Fence, c.Fence)
		}
		e.complete(again, storage.StateDelivered)
		e.deliver("evt_b", storage.StateDelivered)
	}},
}

// limit accepts a notification at a limit and is refused one byte above.
func (e *env) limit(set func(n *storage.Notification, over int)) {
	n := e.event("a", "")
	set(&n, 1)
	_, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: n})
	e.is(err, storage.ErrTooLarge)
	set(&n, 0)
	e.accept(n)
	e.equal(e.record(n.ID).Notification, n)
}

var parkTests = []test{
	{"KeepsAndRepeats", func(e *env) {
		n := e.event("a", "g")
		n.RawHeaders = []storage.Header{{Name: "A", Value: "b"}}
		id := e.park(n, storage.ParkContradiction)
		want := n
		want.ID = id
		e.equal(e.record(id), storage.Record{Notification: want, State: storage.StateParked, ParkReason: storage.ParkContradiction, ParkDetail: "detail", Seen: 1})
		again, fresh, err := e.s.Park(e.ctx, n, storage.ParkUnknownOrder, "other")
		e.ok(err)
		if fresh || again != id {
			e.Fatalf("%s %v", again, fresh)
		}
		r := e.record(id)
		e.equal(r.ParkReason, storage.ParkContradiction)
		e.equal(r.Seen, 2)
		n.Body = bytes.Replace(n.Body, []byte("no-a"), []byte("no-x"), 1)
		if other := e.park(n, storage.ParkContradiction); other == id {
			e.Fatal("another resource under the same id")
		}
		e.noClaim()
		_, err = e.s.Notification(e.ctx, n.ID)
		e.is(err, storage.ErrNotFound)
	}},
	{"DoesNotTakeTheKey", func(e *env) {
		n := e.event("a", "")
		first := e.park(n, storage.ParkContradiction)
		n2 := n
		n2.Body = bytes.Replace(n.Body, []byte("no-a"), []byte("no-x"), 1)
		second := e.park(n2, storage.ParkContradiction)
		a := e.accept(n)
		e.equal(a, storage.Acceptance{Outcome: storage.AcceptedFresh, State: storage.StatePending, Superseded: []string{first, second}})
		e.state(first, storage.StateSuperseded)
		e.state(second, storage.StateSuperseded)
		e.equal(e.accept(n).Superseded, []string(nil))
		list, err := e.s.ParkedFor(e.ctx, n.Orders[0])
		e.ok(err)
		e.equal(len(list), 0)
		e.refuse(first, storage.ActRelease, storage.ErrState)
	}},
	{"ForOrder", func(e *env) {
		k := storage.OrderKey{Mchid: mchid, Number: "combine"}
		var want []string
		for i := range 105 {
			n := e.event(fmt.Sprint("p", i), "")
			n.Orders = append(n.Orders, k)
			id := e.park(n, storage.ParkUnknownOrder)
			if i < 100 {
				want = append(want, id)
			}
			e.clock.Advance(time.Second)
		}
		list, err := e.s.ParkedFor(e.ctx, k)
		e.ok(err)
		var got []string
		for _, r := range list {
			got = append(got, r.ID)
			if len(r.Resource()) == 0 {
				e.Fatal("no resource")
			}
		}
		e.equal(got, want)
		for _, no := range []storage.OrderKey{{Mchid: mchid, Number: "combin"}, {Mchid: mchid, Number: "combinee"}, {Number: "combine"}, {Mchid: mchid, SubMchid: "1", Number: "combine"}} {
			list, err := e.s.ParkedFor(e.ctx, no)
			e.ok(err)
			e.equal(len(list), 0)
		}
		e.decide(want[0], storage.ActDismiss)
		list, err = e.s.ParkedFor(e.ctx, k)
		e.ok(err)
		e.equal(list[0].ID, want[1])
	}},
	{"Released", func(e *env) {
		n := e.event("a", "g")
		e.accept(e.event("first", "g"))
		id := e.park(n, storage.ParkContradiction)
		e.clock.Advance(time.Minute)
		r := e.decide(id, storage.ActRelease)
		want := n
		want.AmountCheck = storage.AmountOverridden
		full := storage.Record{Notification: want, State: storage.StatePending, NextDue: e.clock.Now(), Seen: 1}
		e.equal(r, full)
		e.equal(e.record(n.ID), full)
		e.state(id, storage.StateSuperseded)
		e.deliver("evt_first", storage.StateDelivered)
		e.deliver(n.ID, storage.StateDelivered)
		log, err := e.s.AuditLog(e.ctx, 0, 10)
		e.ok(err)
		e.equal(log, []storage.AuditEntry{{Seq: 1, At: e.clock.Now(), By: "li", Act: "release", Object: id, Reason: "because"}})
	}},
	{"LimitsAsAccept", func(e *env) {
		n := e.event("a", "")
		n.Key = strings.Repeat("k", 513)
		_, _, err := e.s.Park(e.ctx, n, storage.ParkContradiction, "")
		e.is(err, storage.ErrTooLarge)
	}},
}

var deliverTests = []test{
	{"DueOnBothSides", func(e *env) {
		n := e.event("a", "")
		e.accept(n)
		e.complete(e.claim(worker, n.ID), storage.StatePending)
		due, ok, err := e.s.NextDue(e.ctx, shop)
		e.ok(err)
		e.equal(ok, true)
		e.equal(due, e.clock.Now().Add(time.Hour))
		e.clock.Advance(time.Hour - 1)
		e.noClaim()
		e.clock.Advance(1)
		c := e.claim(worker, n.ID)
		e.equal(c.Record.Attempts, 1)
		e.equal(c.Record.LastStatus, 500)
		e.equal(c.Record.LastError, "status")
	}},
	{"OldestDueFirstUpToLimit", func(e *env) {
		for i, name := range []string{"a", "b", "c", "d"} {
			e.accept(e.event(name, ""))
			e.clock.Advance(time.Duration(i) * time.Second)
		}
		if c := e.claims(worker, 0); len(c) != 0 {
			e.Fatal("claimed with limit 0")
		}
		e.equal(ids(e.claims(worker, 3)), []string{"evt_a", "evt_b", "evt_c"})
		e.equal(ids(e.claims(other, 3)), []string{"evt_d"})
		e.noClaim()
	}},
	{"QueuesAreApart", func(e *env) {
		n := e.event("a", "")
		n.Merchant = "sho"
		e.accept(n)
		e.noClaim()
		e.accept(e.event("b", ""))
		q, err := e.s.Queues(e.ctx)
		e.ok(err)
		e.equal(q, []string{"sho", shop})
		e.deliver("evt_b", storage.StateDelivered)
		q, err = e.s.Queues(e.ctx)
		e.ok(err)
		e.equal(q, []string{"sho"})
	}},
	{"OneOfAGroupAtATime", func(e *env) {
		for _, name := range []string{"a", "b", "c"} {
			e.accept(e.event(name, "g"))
		}
		e.accept(e.event("x", "h"))
		c := e.claims(worker, 10)
		e.equal(ids(c), []string{"evt_a", "evt_x"})
		e.noClaim()
		e.complete(c[0], storage.StatePending)
		e.noClaim() // the retry holds back the others
		e.clock.Advance(time.Hour)
		e.equal(ids(e.claims(worker, 10)), []string{"evt_x", "evt_a"}) // the lease of x ran out
	}},
	{"EveryEndLetsTheNextThrough", func(e *env) {
		for _, name := range []string{"a", "b", "c", "d"} {
			e.accept(e.event(name, "g"))
		}
		e.deliver("evt_a", storage.StateDelivered)
		e.deliver("evt_b", storage.StateDead)
		e.deliver("evt_c", storage.StateParked)
		e.deliver("evt_d", storage.StateDelivered)
		e.noClaim()
		e.accept(e.event("e", "g"))
		e.deliver("evt_e", storage.StateDelivered)
	}},
	{"CompleteRecords", func(e *env) {
		n := e.event("a", "")
		e.accept(n)
		e.complete(e.claim(worker, n.ID), storage.StatePending)
		e.clock.Advance(time.Hour)
		c := e.claim(worker, n.ID)
		e.clock.Advance(time.Second)
		e.ok(e.s.Complete(e.ctx, n.ID, c.Fence, storage.Completion{State: storage.StateDelivered, Status: 204, Answer: []byte{}}))
		r := e.record(n.ID)
		e.equal(r, storage.Record{Notification: n, State: storage.StateDelivered, Attempts: 2, LastStatus: 204, DeliveredAt: e.clock.Now(), Seen: 1})
		_, ok, err := e.s.NextDue(e.ctx, shop)
		e.ok(err)
		e.equal(ok, false)
	}},
	{"CompleteNeedsTheNewestFence", func(e *env) {
		n := e.event("a", "")
		e.accept(n)
		done := storage.Completion{State: storage.StateDelivered}
		e.is(e.s.Complete(e.ctx, n.ID, 0, done), storage.ErrStale)
		e.is(e.s.Complete(e.ctx, "evt_none", 1, done), storage.ErrNotFound)
		c := e.claim(worker, n.ID)
		e.is(e.s.Complete(e.ctx, n.ID, c.Fence+1, done), storage.ErrStale)
		e.is(e.s.Complete(e.ctx, n.ID, c.Fence, storage.Completion{State: storage.StateDismissed}), storage.ErrState)
		e.is(e.s.Complete(e.ctx, n.ID, c.Fence, storage.Completion{}), storage.ErrState)
		e.clock.Advance(time.Minute)
		c2 := e.claim(other, n.ID)
		e.is(e.s.Complete(e.ctx, n.ID, c.Fence, done), storage.ErrStale)
		e.is(e.s.Release(e.ctx, n.ID, c.Fence, time.Time{}), storage.ErrStale)
		e.equal(e.state(n.ID, storage.StatePending).Attempts, 0)
		e.complete(c2, storage.StateDelivered)
		e.is(e.s.Complete(e.ctx, n.ID, c2.Fence, done), storage.ErrStale)
		e.equal(e.state(n.ID, storage.StateDelivered).Attempts, 1)
	}},
	{"LateCompleteOfALeaseNobodyTook", func(e *env) {
		n := e.event("a", "")
		e.accept(n)
		c := e.claim(worker, n.ID)
		e.clock.Advance(time.Hour)
		if _, ok, err := e.s.NextDue(e.ctx, shop); err != nil || !ok {
			e.Fatal("an expired lease is due again", err)
		}
		e.complete(c, storage.StateDelivered)
		e.state(n.ID, storage.StateDelivered)
		e.noClaim()
	}},
	{"Release", func(e *env) {
		n := e.event("a", "")
		e.accept(n)
		e.is(e.s.Release(e.ctx, "evt_none", 1, time.Time{}), storage.ErrNotFound)
		c := e.claim(worker, n.ID)
		if _, ok, _ := e.s.NextDue(e.ctx, shop); ok {
			e.Fatal("what is held is not due")
		}
		due := e.clock.Now().Add(10 * time.Second)
		e.ok(e.s.Release(e.ctx, n.ID, c.Fence, due))
		e.is(e.s.Release(e.ctx, n.ID, c.Fence, due), storage.ErrStale)
		e.is(e.s.Complete(e.ctx, n.ID, c.Fence, storage.Completion{State: storage.StateDelivered}), storage.ErrStale)
		got, ok, err := e.s.NextDue(e.ctx, shop)
		e.ok(err)
		e.equal(ok, true)
		e.equal(got, due)
		e.equal(e.record(n.ID).NextDue, due)
		e.clock.Advance(10*time.Second - 1)
		e.noClaim()
		e.clock.Advance(1)
		c = e.claim(worker, n.ID)
		e.equal(c.Record.Attempts, 0)
		e.ok(e.s.Release(e.ctx, n.ID, c.Fence, time.Time{}))
		e.deliver(n.ID, storage.StateDelivered)
		e.equal(e.record(n.ID).Attempts, 1)
	}},
	{"Watch", func(e *env) {
		ch, stop := e.s.Watch()
		e.accept(e.event("a", ""))
		select {
		case <-ch:
		case <-time.After(10 * time.Second):
			e.Fatal("no signal for a new notification")
		}
		c := e.claim(worker, "evt_a")
		for len(ch) > 0 {
			<-ch
		}
		e.ok(e.s.Release(e.ctx, "evt_a", c.Fence, time.Time{}))
		select {
		case <-ch:
		case <-time.After(10 * time.Second):
			e.Fatal("no signal for a release")
		}
		stop()
		stop()
	}},
	{"Stats", func(e *env) {
		e.stats(storage.Stats{})
		at := e.clock.Now()
		for _, name := range []string{"a", "b", "c"} {
			e.accept(e.event(name, ""))
			e.clock.Advance(time.Second)
		}
		e.park(e.event("p", ""), storage.ParkContradiction)
		e.stats(storage.Stats{Pending: 3, Parked: 1, OldestPending: at})
		c := e.claims(worker, 2)
		e.stats(storage.Stats{Pending: 3, Leased: 2, Parked: 1, OldestPending: at})
		e.complete(c[0], storage.StateDelivered)
		e.complete(c[1], storage.StateDead)
		e.stats(storage.Stats{Pending: 1, Parked: 1, Dead: 1, OldestPending: at.Add(2 * time.Second)})
		late := e.event("late", "")
		late.ReceivedAt = at.Add(-time.Hour)
		e.accept(late)
		e.stats(storage.Stats{Pending: 2, Parked: 1, Dead: 1, OldestPending: late.ReceivedAt})
		for _, c := range e.claims(worker, 2) {
			e.complete(c, storage.StateParked)
		}
		e.stats(storage.Stats{Parked: 3, Dead: 1})
	}},
}

// stats waits a little: stores may be late.
func (e *env) stats(want storage.Stats) {
	e.Helper()
	var got storage.Stats
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var err error
		got, err = e.s.Stats(e.ctx)
		e.ok(err)
		if differ(got, want) == "" {
			return
		}
	}
	e.equal(got, want)
}
