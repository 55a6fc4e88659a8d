package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

type modelLedger struct {
	orders  map[storage.OrderKey]*aged[storage.Order]
	refunds map[storage.RefundKey]*aged[storage.Refund]
	calls   map[string]*aged[storage.Call]
	subs    map[storage.OrderKey]storage.OrderKey // number of a sub-order → its order
	memos   map[string]storage.Memo
}

// aged is a row and the time from which retention counts.
type aged[T any] struct {
	row  T
	from time.Time
}

func copyOrder(o storage.Order) storage.Order {
	o.Subs = slices.Clone(o.Subs)
	return o
}

// Change implements storage.Ledger.
func (m *Model) Change(ctx context.Context, keys storage.Keys, change func(*storage.Rows) error) error {
	if err := errors.Join(ctx.Err(), checkMemoKeys(keys.Memos)); err != nil {
		return err
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	var rows storage.Rows
	m.readMemos(keys.Memos, &rows)
	order, refund, call := m.orders[keys.Order], m.refunds[keys.Refund], m.calls[keys.Call]
	if order != nil {
		o := copyOrder(order.row)
		rows.Order = &o
	}
	if refund != nil {
		r := refund.row
		rows.Refund = &r
	}
	if call != nil {
		c := call.row
		rows.Call = &c
	}
	if err := change(&rows); err != nil {
		return err
	}
	switch {
	case order != nil && rows.Order == nil, refund != nil && rows.Refund == nil, call != nil && rows.Call == nil:
		return errors.New("model: a change must not remove a ledger row")
	case rows.Order != nil && (keys.Order.IsZero() || rows.Order.Key != keys.Order),
		rows.Refund != nil && (keys.Refund.IsZero() || rows.Refund.Key != keys.Refund),
		rows.Call != nil && (keys.Call == "" || rows.Call.ID != keys.Call):
		return errors.New("model: a row is not under the key that was named")
	case tooLarge(rows.Order), tooLarge(rows.Refund), tooLarge(rows.Call):
		return storage.ErrTooLarge
	}
	if err := errors.Join(checkMemos(keys.Memos, rows.Memos), checkSchedule(rows.Schedule)); err != nil {
		return err
	}
	if o := rows.Order; o != nil {
		if err := m.bind(o); err != nil {
			return err
		}
		m.orders[keys.Order] = newAged(copyOrder(*o), order, cmpTime(o.CreatedAt, m.now()))
	}
	if r := rows.Refund; r != nil {
		m.refunds[keys.Refund] = newAged(*r, refund, cmpTime(r.CreatedAt, m.now()))
	}
	if c := rows.Call; c != nil {
		m.calls[keys.Call] = newAged(*c, call, cmpTime(c.StartedAt, m.now()))
	}
	m.writeMemos(keys.Memos, rows.Memos)
	for _, w := range rows.Schedule {
		m.schedule(w)
	}
	return nil
}

func tooLarge(row any) bool {
	b, err := json.Marshal(row)
	return err != nil || len(b) > storage.MaxRecord
}

func newAged[T any](row T, old *aged[T], from time.Time) *aged[T] {
	if old != nil {
		from = old.from
	}
	return &aged[T]{row, from}
}

func cmpTime(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}

// live reports whether there is an order under the key that is not rejected.
func (m *Model) live(k storage.OrderKey) bool {
	o := m.orders[k]
	return o != nil && o.row.State != storage.OrderRejected
}

// taken reports whether a number belongs to an order other than owner that is
// not rejected.
func (m *Model) taken(number, owner storage.OrderKey) bool {
	holder, bound := m.subs[number]
	return bound && holder != owner && m.live(holder) || number != owner && m.live(number)
}

func (m *Model) bind(o *storage.Order) error {
	rejected := o.State == storage.OrderRejected
	if !rejected && m.taken(o.Key, o.Key) {
		return storage.ErrNumberTaken
	}
	now := map[storage.OrderKey]bool{}
	for _, s := range o.Subs {
		if now[s.Key()] || s.Key() == o.Key || !rejected && m.taken(s.Key(), o.Key) {
			return storage.ErrNumberTaken
		}
		now[s.Key()] = true
	}
	for number, holder := range m.subs {
		if holder == o.Key && !now[number] {
			delete(m.subs, number)
		}
	}
	for number := range now {
		if !m.taken(number, o.Key) {
			m.subs[number] = o.Key
		}
	}
	return nil
}

// Order implements storage.Ledger.
func (m *Model) Order(_ context.Context, key storage.OrderKey) (storage.Order, error) {
	if err := m.lock(); err != nil {
		return storage.Order{}, err
	}
	defer m.mu.Unlock()
	holder := m.orders[m.subs[key]]
	switch own := m.orders[key]; {
	case m.live(key), own != nil && (holder == nil || !m.live(m.subs[key])):
		return copyOrder(own.row), nil
	case holder != nil:
		return copyOrder(holder.row), nil
	}
	return storage.Order{}, storage.ErrNotFound
}

// OrderByTransaction implements storage.Ledger.
func (m *Model) OrderByTransaction(_ context.Context, mchid, id string) (storage.Order, error) {
	if err := m.lock(); err != nil {
		return storage.Order{}, err
	}
	defer m.mu.Unlock()
	for _, o := range m.orders {
		if id != "" && o.row.TransactionID == id && o.row.Key.Mchid == mchid {
			return copyOrder(o.row), nil
		}
		for _, s := range o.row.Subs {
			if id != "" && s.TransactionID == id && (s.Mchid == mchid || o.row.Key.Mchid == mchid) {
				return copyOrder(o.row), nil
			}
		}
	}
	return storage.Order{}, storage.ErrNotFound
}

// Refund implements storage.Ledger.
func (m *Model) Refund(_ context.Context, key storage.RefundKey) (storage.Refund, error) {
	if err := m.lock(); err != nil {
		return storage.Refund{}, err
	}
	defer m.mu.Unlock()
	if r := m.refunds[key]; r != nil {
		return r.row, nil
	}
	return storage.Refund{}, storage.ErrNotFound
}

// Call implements storage.Ledger.
func (m *Model) Call(_ context.Context, id string) (storage.Call, error) {
	if err := m.lock(); err != nil {
		return storage.Call{}, err
	}
	defer m.mu.Unlock()
	if c := m.calls[id]; c != nil {
		return c.row, nil
	}
	return storage.Call{}, storage.ErrNotFound
}

// OpenCalls implements storage.Ledger.
func (m *Model) OpenCalls(_ context.Context, before time.Time, limit int) ([]storage.Call, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []storage.Call
	for _, c := range m.calls {
		if c.row.Outcome == storage.CallPending && c.row.StartedAt.Before(before) {
			list = append(list, c.row)
		}
	}
	slices.SortFunc(list, func(a, b storage.Call) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), max(limit, 0))], nil
}

type modelWork struct {
	storage.Work
	seq   uint64
	lease *modelWorkLease
}

type modelWorkLease struct {
	fence     uint64
	until     time.Time
	scheduled bool // scheduled anew while held
}

// ScheduleWork implements storage.Agenda.
func (m *Model) ScheduleWork(ctx context.Context, w storage.Work) error {
	if err := errors.Join(ctx.Err(), checkSchedule([]storage.Work{w})); err != nil {
		return err
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.schedule(w)
	return nil
}

func checkSchedule(list []storage.Work) error {
	if len(list) > storage.MaxChangeWork {
		return storage.ErrTooLarge
	}
	for _, w := range list {
		if w.ID == "" || w.Kind == "" {
			return errors.New("model: work needs an id and a kind")
		}
		if len(w.Payload) > storage.MaxPayload {
			return storage.ErrTooLarge
		}
	}
	return nil
}

func (m *Model) schedule(w storage.Work) {
	w.Payload = bytes.Clone(w.Payload)
	next := &modelWork{Work: w, seq: m.next()}
	if old := m.work[[2]string{w.Kind, w.ID}]; old != nil && old.lease != nil && old.lease.until.After(m.now()) {
		next.lease = old.lease
		next.lease.scheduled = true
		next.Attempt = old.Attempt
	}
	m.work[[2]string{w.Kind, w.ID}] = next
	m.signal()
}

// ClaimWork implements storage.Agenda.
func (m *Model) ClaimWork(_ context.Context, kind string, terms storage.ClaimTerms, limit int) ([]storage.ClaimedWork, error) {
	if err := checkTerms(terms); err != nil {
		return nil, err
	}
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	due := slices.SortedFunc(maps.Values(m.work), func(a, b *modelWork) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.seq, b.seq))
	})
	var list []storage.ClaimedWork
	for _, w := range due {
		if w.Kind != kind || w.Due.After(m.now()) || w.lease != nil && w.lease.until.After(m.now()) || len(list) >= limit {
			continue
		}
		m.fence++
		w.lease = &modelWorkLease{fence: m.fence, until: m.now().Add(terms.Lease)}
		c := storage.ClaimedWork{Work: w.Work, Fence: m.fence, LeaseUntil: w.lease.until}
		c.Payload = bytes.Clone(w.Payload)
		list = append(list, c)
	}
	return list, nil
}

// FinishWork implements storage.Agenda.
func (m *Model) FinishWork(ctx context.Context, kind, id string, fence uint64, next time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	w := m.work[[2]string{kind, id}]
	switch {
	case w == nil:
		return storage.ErrNotFound
	case w.lease == nil || w.lease.fence != fence:
		return storage.ErrStale
	case next.IsZero():
		delete(m.work, [2]string{kind, id})
		return nil
	case !w.lease.scheduled:
		w.Due = next
	}
	w.Attempt++
	w.seq, w.lease = m.next(), nil
	m.signal()
	return nil
}

func (m *Model) appendAudit(e storage.AuditEntry) {
	e.Seq = uint64(len(m.audit)) + 1
	m.audit = append(m.audit, e)
}

// AppendAudit implements storage.Audit.
func (m *Model) AppendAudit(ctx context.Context, e storage.AuditEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.appendAudit(e)
	return nil
}

// AuditLog implements storage.Audit.
func (m *Model) AuditLog(_ context.Context, after uint64, limit int) ([]storage.AuditEntry, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []storage.AuditEntry
	for _, e := range m.audit {
		if e.Seq > after && len(list) < limit {
			list = append(list, e)
		}
	}
	return list, nil
}

// LoadCertificates implements storage.Store.
func (m *Model) LoadCertificates(_ context.Context, merchant string) ([]byte, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return bytes.Clone(m.certs[merchant]), nil
}

// SaveCertificates implements storage.Store.
func (m *Model) SaveCertificates(ctx context.Context, merchant string, data []byte) error {
	if len(data) > storage.MaxRecord {
		return storage.ErrTooLarge
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.certs[merchant] = append([]byte{}, data...)
	return nil
}

// Sweep implements storage.Store. The model sweeps everything at once.
func (m *Model) Sweep(_ context.Context, keep storage.Retention) (storage.Swept, error) {
	if err := m.lock(); err != nil {
		return storage.Swept{}, err
	}
	defer m.mu.Unlock()
	var s storage.Swept
	bodies, orders := m.now().Add(-keep.Bodies), m.now().Add(-keep.Orders)
	for _, n := range m.notes {
		final := n.State == storage.StateDelivered || n.State == storage.StateDismissed || n.State == storage.StateSuperseded
		if final && !n.BodyExpired && !n.ReceivedAt.After(bodies) {
			n.Body, n.Raw, n.RawHeaders, n.Answer, n.ResourceStart, n.ResourceEnd = nil, nil, nil, nil, 0, 0
			n.BodyExpired = true
			s.Bodies++
		}
	}
	for k, o := range m.orders {
		final := o.row.State == storage.OrderPaid || o.row.State == storage.OrderClosed || o.row.State == storage.OrderRejected
		if final && !o.from.After(orders) {
			delete(m.orders, k)
			maps.DeleteFunc(m.subs, func(_, holder storage.OrderKey) bool { return holder == k })
			s.Orders++
		}
	}
	for k, r := range m.refunds {
		final := r.row.State == storage.RefundSuccess || r.row.State == storage.RefundClosed || r.row.State == storage.RefundRejected
		if final && !r.from.After(orders) {
			delete(m.refunds, k)
			s.Orders++
		}
	}
	for k, c := range m.calls {
		if c.row.Outcome != storage.CallPending && !c.from.After(orders) {
			delete(m.calls, k)
			s.Orders++
		}
	}
	for k, memo := range m.memos {
		if !memo.Expires.After(m.now()) {
			delete(m.memos, k)
			s.Memos++
		}
	}
	return s, nil
}

// Healthy implements storage.Store.
func (m *Model) Healthy(context.Context) error {
	if err := m.lock(); err != nil {
		return err
	}
	m.mu.Unlock()
	return nil
}

// Close implements storage.Store.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
