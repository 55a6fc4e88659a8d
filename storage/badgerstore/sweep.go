package badgerstore

import (
	"context"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// sweepBound is how many records one sweep looks at.
	sweepBound = 2000
	// sweepStep is how many of them one operation handles, so that a sweep does
	// not hold up what waits behind it.
	sweepStep = 100
)

// candidate is a record that the sweeper came across.
type candidate struct {
	index []byte // its key in the index that led to it
	row   []byte // its own key
	late  bool
}

// Sweep removes what retention no longer keeps, a bounded number at a time. It
// goes through the records in order of time and keeps its place, so that it
// costs no more the longer the store lives; what was not finished when it came
// by is noted when it is.
func (s *Store) Sweep(ctx context.Context, keep storage.Retention) (storage.Swept, error) {
	if err := s.enter(); err != nil {
		return storage.Swept{}, err
	}
	defer s.leave()
	s.mem.mu.Lock()
	c := s.mem.counters
	sn := s.read()
	s.mem.mu.Unlock()
	defer sn.release()

	now := s.now()
	var out storage.Swept
	var list []candidate
	bodies, orders := now.Add(-keep.Bodies), now.Add(-keep.Orders)
	if err := sn.scan([]byte{kLate}, nil, false, func(k, _ []byte) (bool, error) {
		r := reader{s: string(k[1:])}
		list = append(list, candidate{index: append([]byte(nil), k...), row: []byte(r.text()), late: true})
		return len(list) < sweepBound, r.done(k)
	}); err != nil {
		return out, err
	}
	aged := func(kind byte, cursor string, limit time.Time, row func(k, p []byte) []byte) error {
		from := []byte(cursor)
		if cursor != "" {
			from = append(from, 0)
		} else {
			from = nil
		}
		n := 0
		return sn.scan([]byte{kind}, from, false, func(k, p []byte) (bool, error) {
			if readTime(k[1:]) > nanos(limit) {
				return false, nil
			}
			if n == sweepBound {
				out.More = true
				return false, nil
			}
			n++
			list = append(list, candidate{index: append([]byte(nil), k...), row: row(k, p)})
			return true, nil
		})
	}
	out.More = len(list) == sweepBound
	if err := aged(kTime, c.BodyCursor, bodies, func(_, p []byte) []byte { return key1(kNote, string(p)) }); err != nil {
		return out, err
	}
	if err := aged(kAged, c.AgedCursor, orders, func(k, _ []byte) []byte { return append([]byte(nil), k[9:]...) }); err != nil {
		return out, err
	}
	for len(list) > 0 {
		step := list[:min(len(list), sweepStep)]
		list = list[len(step):]
		var done storage.Swept
		if err := s.do(ctx, func(t *tx) error {
			done = storage.Swept{}
			for _, c := range step {
				if err := t.sweep(c, bodies, orders, &done); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return out, err
		}
		out.Bodies += done.Bodies
		out.Orders += done.Orders
	}
	memos, more, err := s.sweepMemos(ctx)
	out.Memos, out.More = memos, out.More || more
	return out, err
}

// sweep handles one record, and moves the cursor past it.
func (t *tx) sweep(c candidate, bodies, orders time.Time, done *storage.Swept) error {
	removed, young := false, false
	var err error
	if c.row[0] == kNote {
		removed, young, err = t.sweepBodies(c.row, bodies)
		if removed {
			done.Bodies++
		}
		if !c.late {
			t.counters().BodyCursor = string(c.index)
		}
	} else {
		removed, young, err = t.sweepRow(c.row, orders)
		if removed {
			done.Orders++
		}
		if !c.late {
			t.counters().AgedCursor = string(c.index)
			if removed {
				t.del(c.index)
			}
		}
	}
	if err == nil && c.late && !young {
		t.del(c.index)
	}
	// The cursor alone must reach the disk, too.
	t.touch()
	return err
}

// sweepBodies removes the bodies of a notification that is finished. young says
// that it is to be looked at again.
func (t *tx) sweepBodies(key []byte, before time.Time) (removed, young bool, err error) {
	var n note
	found, err := t.get(key, func(p []byte) error { return n.decode(key, p) })
	if err != nil || !found {
		return false, false, err
	}
	if n.ReceivedAt.After(before) {
		return false, true, nil
	}
	if !n.finished() || !n.hasBody && !n.hasAnswer {
		return false, false, nil
	}
	t.del(key1(kBody, n.ID))
	if n.hasAnswer {
		t.del(key1(kAnswer, n.ID))
	}
	n.hasBody, n.hasAnswer, n.BodyExpired = false, false, true
	t.put(key, n.encode())
	return true, false, nil
}

// sweepRow removes a ledger row that is finished, with everything that leads to
// it.
func (t *tx) sweepRow(key []byte, before time.Time) (removed, young bool, err error) {
	var aged int64
	final := false
	var o *storage.Order
	switch key[0] {
	case kOrder:
		if o, aged, err = loadRow[storage.Order](t, key); err == nil && o != nil {
			final = orderFinal(o)
		}
	case kRefund:
		var r *storage.Refund
		if r, aged, err = loadRow[storage.Refund](t, key); err == nil && r != nil {
			final = refundFinal(r)
		}
	case kCall:
		var c *storage.Call
		if c, aged, err = loadRow[storage.Call](t, key); err == nil && c != nil {
			final = callFinal(c)
		}
	default:
		return false, false, corrupt(key, "not a row for the sweeper")
	}
	if err != nil || !final {
		return false, false, err
	}
	if aged > nanos(before) {
		return false, true, nil
	}
	if o != nil {
		for _, k := range txKeys(o) {
			t.del(k)
		}
		for _, sub := range o.Subs {
			k := orderKey(kSub, sub.Key())
			owner, found, err := loadOrderKey(t, k)
			if err != nil {
				return false, false, err
			}
			if found && owner == o.Key {
				t.del(k)
			}
		}
	}
	t.del(agedKey(aged, key))
	t.del(key)
	return true, false, nil
}
