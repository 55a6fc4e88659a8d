package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func orderKey(number string) storage.OrderKey {
	return storage.OrderKey{Mchid: mchid, Number: number}
}

func (e *env) order(number string, subs ...string) storage.Order {
	o := storage.Order{
		Key: orderKey(number), Kind: storage.OrderBasic, Merchant: shop, Origin: storage.OriginGateway,
		State: storage.OrderCreated, Appid: "wx8888888888888888", Amount: storage.Money{Total: 100, Currency: "CNY"},
		CreatedAt: e.clock.Now(), UpdatedAt: e.clock.Now(),
	}
	for _, s := range subs {
		o.Kind = storage.OrderCombine
		o.Subs = append(o.Subs, storage.SubOrder{Mchid: mchid, OutTradeNo: s, Amount: storage.Money{Total: 50, Currency: "CNY"}})
	}
	return o
}

// put writes an order as it is given.
func (e *env) put(o storage.Order) error {
	return e.s.Change(e.ctx, storage.Keys{Order: o.Key}, func(r *storage.Rows) error {
		c := o
		r.Order = &c
		return nil
	})
}

func (e *env) getOrder(k storage.OrderKey) storage.Order {
	e.Helper()
	o, err := e.s.Order(e.ctx, k)
	e.ok(err)
	return o
}

func (e *env) putCall(id string, at time.Time, outcome storage.CallOutcome) {
	e.Helper()
	e.ok(e.s.Change(e.ctx, storage.Keys{Call: id}, func(r *storage.Rows) error {
		if r.Call == nil {
			r.Call = &storage.Call{ID: id, Merchant: shop, StartedAt: at}
		}
		r.Call.Outcome = outcome
		return nil
	}))
}

var errChange = errors.New("changed my mind")

var ledgerTests = []test{
	{"ThreeRowsInOneStep", func(e *env) {
		o := e.order("o")
		o.ParkingID, o.Plate, o.CodeURL, o.RefundTotal, o.RefundCount = "p", "粤B888888", "weixin://x", 7, 2
		o.Payer = storage.PayerDigest("wx1", "o-1")
		o.TimeExpire, o.PaidAt = e.clock.Now().Add(time.Hour), e.clock.Now().Add(time.Minute)
		r := storage.Refund{Key: storage.RefundKey{Mchid: mchid, OutRefundNo: "r"}, Order: o.Key, Merchant: shop, State: storage.RefundIntended, Amount: 7, Total: 100, CreatedAt: e.clock.Now()}
		c := storage.Call{ID: "c", Merchant: shop, Caller: "legacy", Operation: "refund", Method: "POST", Path: "/v3/refund", Order: o.Key, Outcome: storage.CallPending, StartedAt: e.clock.Now()}
		keys := storage.Keys{Order: o.Key, Refund: r.Key, Call: "c"}
		e.ok(e.s.Change(e.ctx, keys, func(rows *storage.Rows) error {
			if rows.Order != nil || rows.Refund != nil || rows.Call != nil {
				e.Error("rows that do not exist")
			}
			oo, rr, cc := o, r, c
			rows.Order, rows.Refund, rows.Call = &oo, &rr, &cc
			return nil
		}))
		e.equal(e.getOrder(o.Key), o)
		gr, err := e.s.Refund(e.ctx, r.Key)
		e.ok(err)
		e.equal(gr, r)
		gc, err := e.s.Call(e.ctx, "c")
		e.ok(err)
		e.equal(gc, c)
		e.is(e.s.Change(e.ctx, keys, func(rows *storage.Rows) error {
			e.equal(*rows.Order, o)
			e.equal(*rows.Refund, r)
			e.equal(*rows.Call, c)
			rows.Order.State, rows.Refund.State, rows.Call.Outcome = storage.OrderPaid, storage.RefundSuccess, storage.CallSucceeded
			return errChange
		}), errChange)
		e.equal(e.getOrder(o.Key), o)
		if e.h.Reopen != nil {
			e.s = e.h.Reopen(e, e.s, Options{Now: e.clock.Now})
			e.equal(e.getOrder(o.Key), o)
		}
	}},
	{"NotFound", func(e *env) {
		_, err := e.s.Order(e.ctx, orderKey("x"))
		e.is(err, storage.ErrNotFound)
		_, err = e.s.OrderByTransaction(e.ctx, mchid, "x")
		e.is(err, storage.ErrNotFound)
		_, err = e.s.OrderByTransaction(e.ctx, mchid, "")
		e.is(err, storage.ErrNotFound)
		_, err = e.s.Refund(e.ctx, storage.RefundKey{Mchid: mchid, OutRefundNo: "x"})
		e.is(err, storage.ErrNotFound)
		_, err = e.s.Call(e.ctx, "x")
		e.is(err, storage.ErrNotFound)
	}},
	{"NothingNamedOrChanged", func(e *env) {
		e.ok(e.s.Change(e.ctx, storage.Keys{}, func(r *storage.Rows) error {
			e.equal(*r, storage.Rows{})
			return nil
		}))
		e.ok(e.s.Change(e.ctx, storage.Keys{Order: orderKey("x")}, func(*storage.Rows) error { return nil }))
		_, err := e.s.Order(e.ctx, orderKey("x"))
		e.is(err, storage.ErrNotFound)
	}},
	{"ForgetsNothing", func(e *env) {
		e.ok(e.put(e.order("o")))
		if e.s.Change(e.ctx, storage.Keys{Order: orderKey("o")}, func(r *storage.Rows) error { r.Order = nil; return nil }) == nil {
			e.Fatal("a row was removed")
		}
		e.getOrder(orderKey("o"))
		if e.s.Change(e.ctx, storage.Keys{Order: orderKey("o")}, func(r *storage.Rows) error { r.Order.Key.Number = "p"; return nil }) == nil {
			e.Fatal("a row was moved")
		}
	}},
	{"KeysAreApart", func(e *env) {
		for i, k := range []storage.OrderKey{{Mchid: "1", Number: "23"}, {Mchid: "12", Number: "3"}, {Mchid: "1", SubMchid: "2", Number: "3"}, {Mchid: "1", SubMchid: "", Number: "2\x003"}} {
			o := e.order("x")
			o.Key = k
			o.Amount.Total = storage.Fen(i)
			e.ok(e.put(o))
		}
		e.equal(e.getOrder(storage.OrderKey{Mchid: "12", Number: "3"}).Amount.Total, storage.Fen(1))
		e.equal(e.getOrder(storage.OrderKey{Mchid: "1", Number: "23"}).Amount.Total, storage.Fen(0))
	}},
	{"SubOrders", func(e *env) {
		o := e.order("combine", "s1", "s2")
		o.TransactionID = "t0"
		o.Subs[1].Mchid, o.Subs[1].SubMchid, o.Subs[1].TransactionID = "1900000009", "19", "t2"
		e.ok(e.put(o))
		e.equal(e.getOrder(orderKey("s1")), o)
		e.equal(e.getOrder(o.Subs[1].Key()), o)
		_, err := e.s.Order(e.ctx, orderKey("s2"))
		e.is(err, storage.ErrNotFound)
		for _, k := range [][2]string{{mchid, "t0"}, {"1900000009", "t2"}, {mchid, "t2"}} {
			got, err := e.s.OrderByTransaction(e.ctx, k[0], k[1])
			e.ok(err)
			e.equal(got, o)
		}
		_, err = e.s.OrderByTransaction(e.ctx, "1900000009", "t0")
		e.is(err, storage.ErrNotFound)
		o.Subs, o.TransactionID = o.Subs[:1], "t9"
		e.ok(e.put(o))
		_, err = e.s.OrderByTransaction(e.ctx, mchid, "t0")
		e.is(err, storage.ErrNotFound)
		_, err = e.s.OrderByTransaction(e.ctx, mchid, "t2")
		e.is(err, storage.ErrNotFound)
		_, err = e.s.Order(e.ctx, storage.OrderKey{Mchid: "1900000009", SubMchid: "19", Number: "s2"})
		e.is(err, storage.ErrNotFound)
	}},
	{"NumberTaken", func(e *env) {
		e.ok(e.put(e.order("basic")))
		e.ok(e.put(e.order("combine", "s1", "s2")))
		for _, o := range []storage.Order{
			e.order("c2", "s3", "s1"), // a sub-order's number
			e.order("c2", "basic"),    // an order's number
			e.order("c2", "combine"),  // a combine order's
			e.order("s2"),             // an order under a sub-order's number
			e.order("c2", "twice", "twice"),
			e.order("c2", "c2"),
		} {
			e.is(e.put(o), storage.ErrNumberTaken)
			_, err := e.s.Order(e.ctx, orderKey("c2"))
			e.is(err, storage.ErrNotFound)
			_, err = e.s.Order(e.ctx, orderKey("s3"))
			e.is(err, storage.ErrNotFound)
		}
		e.equal(e.getOrder(orderKey("s2")).Key.Number, "combine")
		e.ok(e.put(e.order("combine", "s1", "s2"))) // its own
		other := e.order("c2", "s1")
		other.Subs[0].SubMchid = "19" // another namespace
		e.ok(e.put(other))
	}},
	{"RejectedFreesTheNumber", func(e *env) {
		o := e.order("combine", "s1")
		o.State = storage.OrderRejected
		e.ok(e.put(o))
		e.equal(e.getOrder(orderKey("s1")).Key.Number, "combine")
		next := e.order("c2", "s1")
		e.ok(e.put(next))
		e.equal(e.getOrder(orderKey("s1")).Key.Number, "c2")
		e.ok(e.put(o)) // still rejected: claims nothing
		e.equal(e.getOrder(orderKey("s1")).Key.Number, "c2")
		o.State = storage.OrderCreated
		e.is(e.put(o), storage.ErrNumberTaken)
		b := e.order("basic")
		b.State = storage.OrderRejected
		e.ok(e.put(b))
		e.ok(e.put(e.order("c3", "basic")))
		e.equal(e.getOrder(orderKey("basic")).Key.Number, "c3")
		b.State = storage.OrderIntended
		e.is(e.put(b), storage.ErrNumberTaken)
	}},
	{"TooLarge", func(e *env) {
		o := e.order("o")
		o.CodeURL = string(make([]byte, storage.MaxRecord+1))
		e.is(e.put(o), storage.ErrTooLarge)
		_, err := e.s.Order(e.ctx, o.Key)
		e.is(err, storage.ErrNotFound)
		o.CodeURL = fmt.Sprintf("%0*d", storage.MaxRecord-4096, 1)
		e.ok(e.put(o))
		e.equal(e.getOrder(o.Key), o)
		o.CodeURL = "short"
		e.ok(e.put(o))
		e.equal(e.getOrder(o.Key), o)
	}},
	{"OpenCalls", func(e *env) {
		t0 := e.clock.Now()
		for i, id := range []string{"c", "a", "b", "d"} {
			e.putCall(id, t0.Add(time.Duration(i)*time.Second), storage.CallPending)
		}
		e.openCalls(t0, 10)
		e.openCalls(t0.Add(1), 10, "c")
		e.openCalls(t0.Add(time.Hour), 10, "c", "a", "b", "d")
		e.openCalls(t0.Add(time.Hour), 2, "c", "a")
		e.openCalls(t0.Add(time.Hour), 0)
		e.putCall("c", t0, storage.CallSucceeded)
		e.putCall("b", t0, storage.CallUnknown)
		e.openCalls(t0.Add(time.Hour), 10, "a", "d")
		e.putCall("old", t0.Add(-time.Hour), storage.CallPending)
		e.openCalls(t0.Add(time.Hour), 10, "old", "a", "d")
	}},
	{"ConcurrentChangesOfOneRow", func(e *env) {
		e.ok(e.put(e.order("o")))
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				key := storage.RefundKey{Mchid: mchid, OutRefundNo: fmt.Sprint("r", i)}
				err := e.s.Change(e.ctx, storage.Keys{Order: orderKey("o"), Refund: key}, func(r *storage.Rows) error {
					if r.Order.RefundTotal+3 > r.Order.Amount.Total {
						return errChange
					}
					r.Order.RefundTotal += 3
					r.Order.RefundCount++
					r.Refund = &storage.Refund{Key: key, Amount: 3}
					return nil
				})
				if err != nil && !errors.Is(err, errChange) {
					e.Error(err)
				}
			})
		}
		wg.Wait()
		o := e.getOrder(orderKey("o"))
		e.equal(o.RefundTotal, storage.Fen(99))
		e.equal(o.RefundCount, 33)
		n := 0
		for i := range 50 {
			if _, err := e.s.Refund(e.ctx, storage.RefundKey{Mchid: mchid, OutRefundNo: fmt.Sprint("r", i)}); err == nil {
				n++
			}
		}
		e.equal(n, 33)
	}},
}

func (e *env) openCalls(before time.Time, limit int, want ...string) {
	e.Helper()
	list, err := e.s.OpenCalls(e.ctx, before, limit)
	e.ok(err)
	var got []string
	for _, c := range list {
		got = append(got, c.ID)
	}
	e.equal(got, want)
}
