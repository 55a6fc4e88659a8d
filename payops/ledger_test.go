package payops_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// memLedger is a ledger in memory: one lock, deep copies in and out.
type memLedger struct {
	mu      sync.Mutex
	orders  map[storage.OrderKey]storage.Order
	subs    map[storage.OrderKey]storage.OrderKey
	refunds map[storage.RefundKey]storage.Refund
	calls   map[string]storage.Call
	memos   map[string]storage.Memo
	work    map[[2]string]storage.Work // by kind and id
	changes int
	// now is the clock that memos expire by; nil means time.Now.
	now func() time.Time
	// fail, when set, is asked before each Change.
	fail func(keys storage.Keys) error
}

func newMemLedger() *memLedger {
	return &memLedger{
		orders: map[storage.OrderKey]storage.Order{},
		subs:   map[storage.OrderKey]storage.OrderKey{},
		calls:  map[string]storage.Call{},

		refunds: map[storage.RefundKey]storage.Refund{},
		memos:   map[string]storage.Memo{},
		work:    map[[2]string]storage.Work{},
	}
}

var _ storage.Ledger = (*memLedger)(nil)

func clone[T any](v T) T {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var c T
	if err := json.Unmarshal(data, &c); err != nil {
		panic(err)
	}
	return c
}

func (l *memLedger) Change(ctx context.Context, keys storage.Keys, change func(*storage.Rows) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(keys); err != nil {
			return err
		}
	}
	// change may be run more than once: it is.
	var rows storage.Rows
	for range 2 {
		rows = storage.Rows{}
		if o, ok := l.orders[keys.Order]; ok && !keys.Order.IsZero() {
			o = clone(o)
			rows.Order = &o
		}
		if r, ok := l.refunds[keys.Refund]; ok && !keys.Refund.IsZero() {
			rows.Refund = &r
		}
		if c, ok := l.calls[keys.Call]; ok && keys.Call != "" {
			c = clone(c)
			rows.Call = &c
		}
		if len(keys.Memos) > 0 {
			rows.Memos = map[string]*storage.Memo{}
		}
		for _, name := range keys.Memos {
			if m, ok := l.memo(name); ok {
				rows.Memos[name] = &m
			}
		}
		if err := change(&rows); err != nil {
			return err
		}
	}
	if err := checkBeside(keys.Memos, &rows); err != nil {
		return err
	}
	if rows.Order != nil {
		for _, s := range rows.Order.Subs {
			owner, taken := l.subs[s.Key()]
			if taken && owner != rows.Order.Key && l.orders[owner].State != storage.OrderRejected {
				return storage.ErrNumberTaken
			}
		}
		for _, s := range rows.Order.Subs {
			l.subs[s.Key()] = rows.Order.Key
		}
		l.orders[keys.Order] = clone(*rows.Order)
	}
	if rows.Refund != nil {
		l.refunds[keys.Refund] = *rows.Refund
	}
	if rows.Call != nil {
		l.calls[keys.Call] = clone(*rows.Call)
	}
	for _, name := range keys.Memos {
		if m := rows.Memos[name]; m != nil {
			l.memos[name] = clone(*m)
		} else {
			delete(l.memos, name)
		}
	}
	for _, w := range rows.Schedule {
		l.work[[2]string{w.Kind, w.ID}] = clone(w)
	}
	l.changes++
	return nil
}

// checkBeside refuses what a store refuses of memos and work.
func checkBeside(names []string, rows *storage.Rows) error {
	for name, m := range rows.Memos {
		switch {
		case !slices.Contains(names, name), m != nil && (m.Key != name || m.Expires.IsZero()):
			return errors.New("memLedger: a memo that no store would take")
		case len(name) > storage.MaxMemoKey, m != nil && len(m.Data) > storage.MaxMemo:
			return storage.ErrTooLarge
		}
	}
	for _, w := range rows.Schedule {
		if w.ID == "" || w.Kind == "" {
			return errors.New("memLedger: work needs an id and a kind")
		}
		if len(w.Payload) > storage.MaxPayload {
			return storage.ErrTooLarge
		}
	}
	if len(names) > storage.MaxChangeMemos || len(rows.Schedule) > storage.MaxChangeWork {
		return storage.ErrTooLarge
	}
	return nil
}

// memo returns a copy of a memo that has not expired, with the lock held.
func (l *memLedger) memo(name string) (storage.Memo, bool) {
	now := time.Now
	if l.now != nil {
		now = l.now
	}
	m, ok := l.memos[name]
	return clone(m), ok && m.Expires.After(now())
}

func (l *memLedger) Memo(_ context.Context, key string) (storage.Memo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, ok := l.memo(key); ok {
		return m, nil
	}
	return storage.Memo{}, storage.ErrNotFound
}

func (l *memLedger) Order(_ context.Context, key storage.OrderKey) (storage.Order, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o, ok := l.orders[key]; ok {
		return clone(o), nil
	}
	if owner, ok := l.subs[key]; ok {
		return clone(l.orders[owner]), nil
	}
	return storage.Order{}, storage.ErrNotFound
}

func (l *memLedger) OrderByTransaction(_ context.Context, mchid, id string) (storage.Order, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.orders {
		for _, s := range append([]storage.SubOrder{{TransactionID: o.TransactionID}}, o.Subs...) {
			if o.Key.Mchid == mchid && id != "" && s.TransactionID == id {
				return clone(o), nil
			}
		}
	}
	return storage.Order{}, storage.ErrNotFound
}

func (l *memLedger) Refund(_ context.Context, key storage.RefundKey) (storage.Refund, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.refunds[key]; ok {
		return r, nil
	}
	return storage.Refund{}, storage.ErrNotFound
}

func (l *memLedger) Call(_ context.Context, id string) (storage.Call, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.calls[id]; ok {
		return clone(c), nil
	}
	return storage.Call{}, storage.ErrNotFound
}

func (l *memLedger) OpenCalls(_ context.Context, before time.Time, limit int) ([]storage.Call, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var open []storage.Call
	for _, c := range l.calls {
		if c.Outcome == storage.CallPending && c.StartedAt.Before(before) {
			open = append(open, c)
		}
	}
	slices.SortFunc(open, func(a, b storage.Call) int { return a.StartedAt.Compare(b.StartedAt) })
	return open[:min(limit, len(open))], nil
}

// forget empties the ledger.
func (l *memLedger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.orders)
	clear(l.subs)
	clear(l.calls)
	clear(l.memos)
}

// allCalls lists the calls by id, which is by time.
func (l *memLedger) allCalls() []storage.Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []storage.Call
	for _, c := range l.calls {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b storage.Call) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}
