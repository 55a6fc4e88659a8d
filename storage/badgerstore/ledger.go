package badgerstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// A ledger row is stored as JSON, behind the time under which the sweeper finds
// it, which stays as it was when the row was created.
func encodeRow(aged int64, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("badgerstore: ledger row: %w", err)
	}
	if len(b) > storage.MaxRecord {
		return nil, errTooLarge
	}
	return append(appendNanos(newRecord(len(b)+8), aged), b...), nil
}

func decodeRow(key, p []byte, v any) (aged int64, err error) {
	if len(p) < 8 {
		return 0, corrupt(key, "too short")
	}
	if err := json.Unmarshal(p[8:], v); err != nil {
		return 0, corrupt(key, "not a ledger row")
	}
	return int64(binary.LittleEndian.Uint64(p)), nil
}

// loadRow reads a ledger row; nil when there is none.
func loadRow[T any](v view, key []byte) (row *T, aged int64, err error) {
	var r T
	found, err := v.get(key, func(p []byte) error {
		aged, err = decodeRow(key, p, &r)
		return err
	})
	if err != nil || !found {
		return nil, 0, err
	}
	return &r, aged, nil
}

func checkOrderKey(k storage.OrderKey) error {
	if len(k.Mchid)+len(k.SubMchid)+len(k.Number) > maxKeyText {
		return errTooLarge
	}
	return nil
}

func (k rowKeys) check() error {
	if err := checkOrderKey(k.Order); err != nil {
		return err
	}
	if len(k.Refund.Mchid)+len(k.Refund.SubMchid)+len(k.Refund.OutRefundNo) > maxKeyText || len(k.Call) > maxKeyText ||
		len(k.Memos) > storage.MaxChangeMemos {
		return errTooLarge
	}
	for _, name := range k.Memos {
		if len(name) > storage.MaxMemoKey {
			return errTooLarge
		}
	}
	return nil
}

type rowKeys storage.Keys

// Change edits the named rows in one step. change runs in the committer: it must
// be quick and must not call the store.
func (s *Store) Change(ctx context.Context, keys storage.Keys, change func(*storage.Rows) error) error {
	if err := rowKeys(keys).check(); err != nil {
		return err
	}
	return s.guard(ctx, func(t *tx) error {
		var rows storage.Rows
		var agedOrder, agedRefund, agedCall int64
		var err error
		okey, rkey, ckey := orderKey(kOrder, keys.Order), refundKey(keys.Refund), key1(kCall, keys.Call)
		if !keys.Order.IsZero() {
			if rows.Order, agedOrder, err = loadRow[storage.Order](t, okey); err != nil {
				return err
			}
		}
		if !keys.Refund.IsZero() {
			if rows.Refund, agedRefund, err = loadRow[storage.Refund](t, rkey); err != nil {
				return err
			}
		}
		if keys.Call != "" {
			if rows.Call, agedCall, err = loadRow[storage.Call](t, ckey); err != nil {
				return err
			}
		}
		memos, err := t.loadMemos(keys.Memos, &rows)
		if err != nil {
			return err
		}
		var oldOrder *storage.Order
		if rows.Order != nil {
			c := *rows.Order
			c.Subs = append([]storage.SubOrder(nil), c.Subs...)
			oldOrder = &c
		}
		var oldCall *storage.Call
		if rows.Call != nil {
			c := *rows.Call
			oldCall = &c
		}
		hadRefund := rows.Refund != nil
		if err := change(&rows); err != nil {
			return err
		}
		if oldOrder != nil && rows.Order == nil || hadRefund && rows.Refund == nil || oldCall != nil && rows.Call == nil {
			return errors.New("badgerstore: a change must not remove a ledger row")
		}
		if err := errors.Join(checkMemos(memos, rows.Memos), checkSchedule(rows.Schedule)); err != nil {
			return err
		}
		if rows.Order != nil {
			if keys.Order.IsZero() || rows.Order.Key != keys.Order {
				return errors.New("badgerstore: the order is not under the key that was named")
			}
			if err := t.putOrder(okey, rows.Order, oldOrder, agedOrder); err != nil {
				return err
			}
		}
		if r := rows.Refund; r != nil {
			if keys.Refund.IsZero() || r.Key != keys.Refund {
				return errors.New("badgerstore: the refund is not under the key that was named")
			}
			if err := t.putRow(rkey, r, agedRefund, hadRefund, r.CreatedAt, refundFinal(r)); err != nil {
				return err
			}
		}
		if c := rows.Call; c != nil {
			if keys.Call == "" || c.ID != keys.Call {
				return errors.New("badgerstore: the call is not under the key that was named")
			}
			if err := t.putCall(ckey, c, oldCall, agedCall); err != nil {
				return err
			}
		}
		t.putMemos(memos, rows.Memos)
		return t.schedule(rows.Schedule)
	})
}

// putRow writes a row and, when it is new, its place in the sweeper's order.
func (t *tx) putRow(key []byte, row any, aged int64, had bool, created time.Time, final bool) error {
	if !had {
		if created.IsZero() {
			created = t.now()
		}
		aged = nanos(created)
		t.put(agedKey(aged, key), newRecord(0))
	}
	if final && t.counters().AgedCursor >= string(agedKey(aged, key)) {
		t.putText(key1(kLate, string(key)), "")
	}
	rec, err := encodeRow(aged, row)
	if err != nil {
		return err
	}
	t.put(key, rec)
	return nil
}

func (t *tx) putOrder(key []byte, o, old *storage.Order, aged int64) error {
	if err := t.bind(o, old); err != nil {
		return err
	}
	for _, k := range txKeys(old) {
		t.del(k)
	}
	for _, k := range txKeys(o) {
		t.put(k, encodeOrderKey(o.Key))
	}
	return t.putRow(key, o, aged, old != nil, o.CreatedAt, orderFinal(o))
}

// txKeys are the keys under which an order is found by a transaction_id: with
// its own mchid, and a sub-order's with the sub-order's, too.
func txKeys(o *storage.Order) (keys [][]byte) {
	if o == nil {
		return nil
	}
	if o.TransactionID != "" {
		keys = append(keys, key2(kTx, o.Key.Mchid, o.TransactionID))
	}
	for _, sub := range o.Subs {
		if sub.TransactionID != "" {
			keys = append(keys, key2(kTx, sub.Mchid, sub.TransactionID))
			if sub.Mchid != o.Key.Mchid {
				keys = append(keys, key2(kTx, o.Key.Mchid, sub.TransactionID))
			}
		}
	}
	return keys
}

func encodeOrderKey(k storage.OrderKey) []byte { return appendOrderKey(newRecord(64), k) }

func loadOrderKey(v view, key []byte) (k storage.OrderKey, found bool, err error) {
	found, err = v.get(key, func(p []byte) error {
		r := reader{s: string(p)}
		k = storage.OrderKey{Mchid: r.text(), SubMchid: r.text(), Number: r.text()}
		return r.done(key)
	})
	return k, found, err
}

// bind makes an order the owner of its number and of its sub-orders' numbers. A
// rejected order claims none.
func (t *tx) bind(o, old *storage.Order) error {
	if o.State != storage.OrderRejected {
		if err := t.free(o.Key, o.Key, false); err != nil {
			return err
		}
	}
	now := make(map[storage.OrderKey]bool, len(o.Subs))
	for _, sub := range o.Subs {
		k := sub.Key()
		if err := checkOrderKey(k); err != nil {
			return err
		}
		if now[k] || k == o.Key {
			return fmt.Errorf("badgerstore: a number occurs twice in one order: %w", storage.ErrNumberTaken)
		}
		now[k] = true
		if err := t.free(k, o.Key, true); err != nil {
			if o.State == storage.OrderRejected && errors.Is(err, storage.ErrNumberTaken) {
				continue
			}
			return err
		}
		t.put(orderKey(kSub, k), encodeOrderKey(o.Key))
	}
	if old == nil {
		return nil
	}
	for _, sub := range old.Subs {
		k := sub.Key()
		if now[k] {
			continue
		}
		owner, found, err := loadOrderKey(t, orderKey(kSub, k))
		if err != nil {
			return err
		}
		if found && owner == o.Key {
			t.del(orderKey(kSub, k))
		}
	}
	return nil
}

// free returns ErrNumberTaken when number belongs to an order other than owner
// that is not rejected.
func (t *tx) free(number, owner storage.OrderKey, rows bool) error {
	holder, bound, err := loadOrderKey(t, orderKey(kSub, number))
	if err != nil {
		return err
	}
	if bound && holder != owner {
		if err := t.rejected(holder); err != nil {
			return err
		}
	}
	if rows && number != owner {
		return t.rejected(number)
	}
	return nil
}

// rejected returns ErrNumberTaken when there is an order under the key that is
// not rejected.
func (t *tx) rejected(k storage.OrderKey) error {
	o, _, err := loadRow[storage.Order](t, orderKey(kOrder, k))
	if err != nil || o == nil || o.State == storage.OrderRejected {
		return err
	}
	return storage.ErrNumberTaken
}

func (t *tx) putCall(key []byte, c, old *storage.Call, aged int64) error {
	if old != nil && old.Outcome == storage.CallPending {
		t.del(openCallKey(nanos(old.StartedAt), old.ID))
	}
	if c.Outcome == storage.CallPending {
		at := nanos(c.StartedAt)
		t.putText(openCallKey(at, c.ID), c.ID)
		t.then(effect{kind: effectOpenCall, due: at})
	}
	return t.putRow(key, c, aged, old != nil, c.StartedAt, callFinal(c))
}

func orderFinal(o *storage.Order) bool {
	switch o.State {
	case storage.OrderPaid, storage.OrderClosed, storage.OrderRejected:
		return true
	case storage.OrderIntended, storage.OrderUnknown, storage.OrderCreated, storage.OrderRegistered:
		return false
	}
	return false
}

func refundFinal(r *storage.Refund) bool {
	switch r.State {
	case storage.RefundSuccess, storage.RefundClosed, storage.RefundRejected:
		return true
	case storage.RefundIntended, storage.RefundUnknown, storage.RefundProcessing, storage.RefundAbnormal:
		return false
	}
	return false
}

func callFinal(c *storage.Call) bool { return c.Outcome != storage.CallPending }

// Order returns the order under the key, or the combine order that has a
// sub-order under it. A rejected order yields to the one that took its number.
func (s *Store) Order(_ context.Context, key storage.OrderKey) (storage.Order, error) {
	if err := s.enter(); err != nil {
		return storage.Order{}, err
	}
	defer s.leave()
	sn := s.read()
	defer sn.release()
	return order(sn, key)
}

func order(v view, key storage.OrderKey) (storage.Order, error) {
	own, _, err := loadRow[storage.Order](v, orderKey(kOrder, key))
	if err != nil {
		return storage.Order{}, err
	}
	if own != nil && own.State != storage.OrderRejected {
		return *own, nil
	}
	holder, bound, err := loadOrderKey(v, orderKey(kSub, key))
	if err != nil {
		return storage.Order{}, err
	}
	if bound {
		o, _, err := loadRow[storage.Order](v, orderKey(kOrder, holder))
		if err != nil {
			return storage.Order{}, err
		}
		if o != nil && (own == nil || o.State != storage.OrderRejected) {
			return *o, nil
		}
	}
	if own == nil {
		return storage.Order{}, storage.ErrNotFound
	}
	return *own, nil
}

// OrderByTransaction returns the order that carries WeChat's transaction_id.
func (s *Store) OrderByTransaction(_ context.Context, mchid, transactionID string) (storage.Order, error) {
	if err := s.enter(); err != nil {
		return storage.Order{}, err
	}
	defer s.leave()
	sn := s.read()
	defer sn.release()
	k, found, err := loadOrderKey(sn, key2(kTx, mchid, transactionID))
	if err != nil {
		return storage.Order{}, err
	}
	if !found {
		return storage.Order{}, storage.ErrNotFound
	}
	o, _, err := loadRow[storage.Order](sn, orderKey(kOrder, k))
	if err != nil {
		return storage.Order{}, err
	}
	if o == nil {
		return storage.Order{}, storage.ErrNotFound
	}
	return *o, nil
}

// Refund returns one refund.
func (s *Store) Refund(_ context.Context, key storage.RefundKey) (storage.Refund, error) {
	return one[storage.Refund](s, refundKey(key))
}

// Call returns one call.
func (s *Store) Call(_ context.Context, id string) (storage.Call, error) {
	return one[storage.Call](s, key1(kCall, id))
}

func one[T any](s *Store, key []byte) (row T, err error) {
	if err := s.enter(); err != nil {
		return row, err
	}
	defer s.leave()
	sn := s.read()
	defer sn.release()
	r, _, err := loadRow[T](sn, key)
	if err != nil {
		return row, err
	}
	if r == nil {
		return row, storage.ErrNotFound
	}
	return *r, nil
}

// OpenCalls lists pending calls that were started before the given time.
func (s *Store) OpenCalls(_ context.Context, before time.Time, limit int) ([]storage.Call, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	if limit <= 0 {
		return nil, nil
	}
	s.mem.mu.Lock()
	from, report := s.mem.openCall.begin()
	sn := s.read()
	s.mem.mu.Unlock()
	defer sn.release()
	var list []storage.Call
	first := nanos(before)
	begun := appendTime([]byte{kOpenCall}, from)
	err := sn.scan([]byte{kOpenCall}, begun, false, func(k, p []byte) (bool, error) {
		at := readTime(k[1:])
		first = min(first, at)
		if at >= nanos(before) {
			return false, nil
		}
		c, _, err := loadRow[storage.Call](sn, key1(kCall, string(p)))
		if err != nil {
			return false, err
		}
		if c == nil {
			return false, corrupt(k, "call is missing")
		}
		list = append(list, *c)
		return len(list) < limit, nil
	})
	if report {
		s.mem.mu.Lock()
		s.mem.openCall.end(first, err == nil)
		s.mem.mu.Unlock()
	}
	return list, err
}
