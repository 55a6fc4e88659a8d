package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Model is the reference implementation of storage.Store, in memory. Nothing
// survives the process. All methods are safe for concurrent use.
type Model struct {
	now func() time.Time

	mu       sync.Mutex
	closed   bool
	seq      uint64 // order of arrival, and of queueing
	fence    uint64
	notes    map[string]*modelNote
	wechatID map[string]string // WeChat's notification id → first id
	watchers map[chan struct{}]struct{}

	modelLedger
	work  map[[2]string]*modelWork
	audit []storage.AuditEntry
	certs map[string][]byte
}

var _ storage.Store = (*Model)(nil)

type modelNote struct {
	storage.Record
	seq     uint64    // order of arrival
	qseq    uint64    // place in the queue
	due     time.Time // NextDue as it was last written durably
	underID string    // of a notification parked before acceptance
	lease   *modelLease
}

type modelLease struct {
	fence uint64
	owner string
	until time.Time
}

// NewModel returns an empty store. A nil clock means time.Now.
func NewModel(now func() time.Time) *Model {
	if now == nil {
		now = time.Now
	}
	return &Model{
		now:      now,
		notes:    map[string]*modelNote{},
		wechatID: map[string]string{},
		watchers: map[chan struct{}]struct{}{},
		modelLedger: modelLedger{
			orders:  map[storage.OrderKey]*aged[storage.Order]{},
			refunds: map[storage.RefundKey]*aged[storage.Refund]{},
			calls:   map[string]*aged[storage.Call]{},
			subs:    map[storage.OrderKey]storage.OrderKey{},
			memos:   map[string]storage.Memo{},
		},
		work:  map[[2]string]*modelWork{},
		certs: map[string][]byte{},
	}
}

// Restart does to the model what the end of its process and a new one do to an
// embedded store: leases end, and what need not be durable is forgotten.
func (m *Model) Restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = false
	for _, n := range m.notes {
		n.lease, n.Seen = nil, 1
		if n.State == storage.StatePending {
			n.NextDue = n.due
		}
	}
	for _, w := range m.work {
		w.lease = nil
	}
}

// lock returns ErrClosed after Close; otherwise the caller unlocks.
func (m *Model) lock() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return storage.ErrClosed
	}
	return nil
}

func (m *Model) next() uint64 { m.seq++; return m.seq }

// queue returns the pending notifications of a group in the order in which they
// are to be delivered. A notification without a group is one of its own.
func (m *Model) queue(n *modelNote) []*modelNote {
	if n.Group == "" {
		if n.State == storage.StatePending {
			return []*modelNote{n}
		}
		return nil
	}
	var q []*modelNote
	for _, o := range m.notes {
		if o.State == storage.StatePending && o.Merchant == n.Merchant && o.Group == n.Group {
			q = append(q, o)
		}
	}
	slices.SortFunc(q, func(a, b *modelNote) int { return cmp.Compare(a.qseq, b.qseq) })
	return q
}

func (m *Model) behind(n *modelNote) bool {
	q := m.queue(n)
	return len(q) > 0 && q[0] != n
}

func (m *Model) leased(n *modelNote) bool { return n.lease != nil && n.lease.until.After(m.now()) }

func (m *Model) enqueue(n *modelNote) {
	n.State, n.ParkReason, n.ParkDetail = storage.StatePending, "", ""
	n.qseq = m.next()
	n.NextDue, n.due = m.now(), m.now()
	m.signal()
}

func (m *Model) claim(n *modelNote, t storage.ClaimTerms) storage.Claim {
	m.fence++
	n.lease = &modelLease{m.fence, t.Owner, m.now().Add(t.Lease)}
	return storage.Claim{
		Record: copyRecord(&n.Record, true), Fence: m.fence, Owner: t.Owner,
		LeaseUntil: n.lease.until, Replay: n.Source == storage.SourceReplay,
	}
}

func checkNotification(n *storage.Notification) error {
	size := len(n.Body) + len(n.Raw)
	switch {
	case n.ID == "" || n.Key == "":
		return errors.New("model: a notification needs an id and a business key")
	case n.ResourceStart < 0 || n.ResourceStart > n.ResourceEnd || n.ResourceEnd > len(n.Body):
		return errors.New("model: the resource does not lie within the body")
	case len(n.ID) > 64, len(n.Key) > 512, size > storage.MaxRecord:
		return storage.ErrTooLarge
	}
	return nil
}

func checkTerms(t storage.ClaimTerms) error {
	if t.Owner == "" || t.Lease <= 0 {
		return errors.New("model: a claim needs an owner and a lease")
	}
	return nil
}

// sawWechatID reports whether WeChat's id came under another key before.
func (m *Model) sawWechatID(n *storage.Notification) bool {
	if n.NotificationID == "" {
		return false
	}
	first, ok := m.wechatID[n.NotificationID]
	if !ok {
		m.wechatID[n.NotificationID] = n.ID
	}
	return ok && first != n.ID
}

// Accept implements storage.Inbox.
func (m *Model) Accept(ctx context.Context, req storage.AcceptRequest) (storage.Acceptance, error) {
	if req.Claim.Owner != "" {
		if err := checkTerms(req.Claim); err != nil {
			return storage.Acceptance{}, err
		}
	}
	if err := errors.Join(ctx.Err(), checkNotification(&req.Notification)); err != nil {
		return storage.Acceptance{}, err
	}
	if err := m.lock(); err != nil {
		return storage.Acceptance{}, err
	}
	defer m.mu.Unlock()
	conflict := m.sawWechatID(&req.Notification)
	if n := m.notes[req.Notification.ID]; n != nil {
		n.Seen++
		a := storage.Acceptance{
			Outcome: storage.AcceptedDuplicate, State: n.State, Attempts: n.Attempts, Answer: bytes.Clone(n.Answer),
			Leased: m.leased(n), IDConflict: conflict, Behind: n.State == storage.StatePending && m.behind(n),
		}
		if req.Claim.Owner == "" || a.Leased || a.Behind {
			return a, nil
		}
		if n.State == storage.StateDead {
			if a.Behind = len(m.queue(n)) > 0; a.Behind {
				return a, nil
			}
			m.enqueue(n)
			a.State = storage.StatePending
		}
		if n.State == storage.StatePending {
			c := m.claim(n, req.Claim)
			a.Claim = &c
		}
		return a, nil
	}
	a := storage.Acceptance{
		Outcome: storage.AcceptedFresh, State: storage.StatePending,
		IDConflict: conflict, Superseded: m.supersede(req.Notification.ID),
	}
	n := &modelNote{Record: storage.Record{Notification: copyNotification(&req.Notification), Seen: 1}, seq: m.next()}
	m.notes[n.ID] = n
	m.enqueue(n)
	a.Behind = m.behind(n)
	if req.Claim.Owner != "" && !a.Behind {
		c := m.claim(n, req.Claim)
		a.Claim = &c
	}
	return a, nil
}

// supersede ends what is parked under a business key, oldest first.
func (m *Model) supersede(id string) (ids []string) {
	for _, n := range m.sorted() {
		if n.underID == id && n.State == storage.StateParked {
			n.State = storage.StateSuperseded
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// sorted returns all notifications in order of arrival.
func (m *Model) sorted() []*modelNote {
	return slices.SortedFunc(maps.Values(m.notes), func(a, b *modelNote) int { return cmp.Compare(a.seq, b.seq) })
}

// Park implements storage.Inbox.
func (m *Model) Park(ctx context.Context, in storage.Notification, reason storage.ParkReason, detail string) (string, bool, error) {
	if err := errors.Join(ctx.Err(), checkNotification(&in)); err != nil {
		return "", false, err
	}
	if err := m.lock(); err != nil {
		return "", false, err
	}
	defer m.mu.Unlock()
	id := fmt.Sprintf("model_parked_%x", sha256.Sum256(append([]byte(in.Key+"\x00"), in.Resource()...)))[:48]
	if n := m.notes[id]; n != nil {
		n.Seen++
		return id, false, nil
	}
	m.sawWechatID(&in)
	n := &modelNote{
		Record:  storage.Record{Notification: copyNotification(&in), State: storage.StateParked, ParkReason: reason, ParkDetail: detail, Seen: 1},
		seq:     m.next(),
		underID: in.ID,
	}
	n.ID = id
	m.notes[id] = n
	return id, true, nil
}

// ParkedFor implements storage.Inbox.
func (m *Model) ParkedFor(_ context.Context, key storage.OrderKey) ([]storage.Record, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []storage.Record
	for _, n := range m.byTime() {
		if n.underID != "" && n.State == storage.StateParked && slices.Contains(n.Orders, key) && len(list) < 100 {
			list = append(list, copyRecord(&n.Record, true))
		}
	}
	return list, nil
}

// byTime returns all notifications in order of receipt, then of arrival.
func (m *Model) byTime() []*modelNote {
	return slices.SortedFunc(maps.Values(m.notes), func(a, b *modelNote) int {
		return cmp.Or(a.ReceivedAt.Compare(b.ReceivedAt), cmp.Compare(a.seq, b.seq))
	})
}

// free returns the heads of a queue's groups that nobody holds, earliest due
// first.
func (m *Model) free(queue string) []*modelNote {
	var list []*modelNote
	for _, n := range m.notes {
		if n.Queue() == queue && n.State == storage.StatePending && !m.leased(n) && !m.behind(n) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b *modelNote) int { return cmp.Or(a.NextDue.Compare(b.NextDue), cmp.Compare(a.qseq, b.qseq)) })
	return list
}

// Claim implements storage.Inbox.
func (m *Model) Claim(_ context.Context, queue string, terms storage.ClaimTerms, limit int) ([]storage.Claim, error) {
	if err := checkTerms(terms); err != nil {
		return nil, err
	}
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []storage.Claim
	for _, n := range m.free(queue) {
		if len(list) < limit && !n.NextDue.After(m.now()) {
			list = append(list, m.claim(n, terms))
		}
	}
	return list, nil
}

// held returns a claimed notification whose fence is still the newest.
func (m *Model) held(id string, fence uint64) (*modelNote, error) {
	n := m.notes[id]
	switch {
	case n == nil:
		return nil, storage.ErrNotFound
	case n.lease == nil || n.lease.fence != fence:
		return nil, storage.ErrStale
	}
	return n, nil
}

// Complete implements storage.Inbox.
func (m *Model) Complete(ctx context.Context, id string, fence uint64, done storage.Completion) error {
	switch done.State {
	case storage.StateDelivered, storage.StatePending, storage.StateDead, storage.StateParked:
	case storage.StateDismissed, storage.StateSuperseded:
		return storage.ErrState
	default:
		return storage.ErrState
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n, err := m.held(id, fence)
	if err != nil {
		return err
	}
	n.lease = nil
	n.Attempts++
	n.State, n.LastStatus, n.LastError = done.State, done.Status, done.Error
	n.NextDue, n.due = time.Time{}, time.Time{}
	if done.Answer != nil {
		n.Answer = bytes.Clone(done.Answer)
	}
	switch done.State {
	case storage.StatePending:
		n.NextDue, n.due = done.NextDue, done.NextDue
	case storage.StateDelivered:
		n.DeliveredAt = m.now()
	case storage.StateParked:
		n.ParkReason, n.ParkDetail = done.ParkReason, done.ParkDetail
	case storage.StateDead, storage.StateDismissed, storage.StateSuperseded:
	}
	m.signal()
	return nil
}

// Release implements storage.Inbox.
func (m *Model) Release(_ context.Context, id string, fence uint64, due time.Time) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n, err := m.held(id, fence)
	if err != nil {
		return err
	}
	n.lease = nil
	switch {
	case !due.IsZero():
		n.NextDue = due
	case n.due.After(m.now()):
		n.NextDue = m.now()
	default:
		n.NextDue = n.due
	}
	m.signal()
	return nil
}

// NextDue implements storage.Inbox.
func (m *Model) NextDue(_ context.Context, queue string) (time.Time, bool, error) {
	if err := m.lock(); err != nil {
		return time.Time{}, false, err
	}
	defer m.mu.Unlock()
	if list := m.free(queue); len(list) > 0 {
		return list[0].NextDue, true, nil
	}
	return time.Time{}, false, nil
}

// Queues implements storage.Inbox.
func (m *Model) Queues(context.Context) ([]string, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	names := map[string]bool{}
	for _, n := range m.notes {
		if n.State == storage.StatePending {
			names[n.Queue()] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// Watch implements storage.Inbox.
func (m *Model) Watch() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[c] = struct{}{}
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, c)
	}
}

func (m *Model) signal() {
	for c := range m.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Decide implements storage.Inbox.
func (m *Model) Decide(ctx context.Context, d storage.Decision) (storage.Record, error) {
	if err := ctx.Err(); err != nil {
		return storage.Record{}, err
	}
	if err := m.lock(); err != nil {
		return storage.Record{}, err
	}
	defer m.mu.Unlock()
	n := m.notes[d.ID]
	if n == nil {
		return storage.Record{}, storage.ErrNotFound
	}
	parkedBefore := n.State == storage.StateParked && n.underID != ""
	switch {
	case d.Act == storage.ActRelease && parkedBefore:
		taken := m.notes[n.underID] != nil
		m.supersede(n.underID)
		if taken {
			return storage.Record{}, storage.ErrState
		}
		r := &modelNote{Record: copyRecord(&n.Record, true), seq: m.next()}
		r.ID, r.Attempts, r.Seen = n.underID, 0, 1
		m.notes[r.ID] = r
		n = r
		fallthrough
	case d.Act == storage.ActRelease && n.State == storage.StateParked:
		if d.AmountCheck != "" {
			n.AmountCheck = d.AmountCheck
		}
		n.Attempts = 0
		m.enqueue(n)
	case d.Act == storage.ActReplay && !parkedBefore && !n.BodyExpired && (n.State == storage.StateDelivered ||
		n.State == storage.StateDead || n.State == storage.StateParked && n.ParkReason == storage.ParkNoRoute):
		n.Source, n.Attempts = storage.SourceReplay, 0
		m.enqueue(n)
	case d.Act == storage.ActDismiss && (n.State == storage.StateParked || n.State == storage.StateDead ||
		n.State == storage.StatePending && !m.leased(n)):
		n.State, n.lease, n.NextDue = storage.StateDismissed, nil, time.Time{}
		m.signal()
	default:
		return storage.Record{}, storage.ErrState
	}
	at := d.At
	if at.IsZero() {
		at = m.now()
	}
	m.appendAudit(storage.AuditEntry{At: at, By: d.By, Act: string(d.Act), Object: d.ID, Reason: d.Reason})
	return copyRecord(&n.Record, true), nil
}

// Notification implements storage.Inbox.
func (m *Model) Notification(_ context.Context, id string) (storage.Record, error) {
	if err := m.lock(); err != nil {
		return storage.Record{}, err
	}
	defer m.mu.Unlock()
	if n := m.notes[id]; n != nil {
		return copyRecord(&n.Record, true), nil
	}
	return storage.Record{}, storage.ErrNotFound
}

// Notifications implements storage.Inbox. Its cursors are positions.
func (m *Model) Notifications(_ context.Context, f storage.Filter) (storage.Page, error) {
	if err := m.lock(); err != nil {
		return storage.Page{}, err
	}
	defer m.mu.Unlock()
	limit := min(cmp.Or(f.Limit, 100), 1000)
	all := m.byTime()
	slices.Reverse(all)
	from := 0
	if f.After != "" {
		at, err := strconv.ParseUint(f.After, 10, 64)
		if err != nil {
			return storage.Page{}, storage.ErrCursor
		}
		from = 1 + slices.IndexFunc(all, func(n *modelNote) bool { return n.seq == at })
	}
	var page storage.Page
	var last uint64
	for _, n := range all[from:] {
		if f.Merchant != "" && n.Merchant != f.Merchant || f.State != "" && n.State != f.State ||
			f.Kind != "" && n.Kind != f.Kind || f.OutTradeNo != "" && n.OutTradeNo != f.OutTradeNo {
			continue
		}
		if len(page.Records) == limit {
			page.Cursor = strconv.FormatUint(last, 10)
			break
		}
		page.Records = append(page.Records, copyRecord(&n.Record, false))
		last = n.seq
	}
	return page, nil
}

// Stats implements storage.Inbox.
func (m *Model) Stats(context.Context) (storage.Stats, error) {
	if err := m.lock(); err != nil {
		return storage.Stats{}, err
	}
	defer m.mu.Unlock()
	var s storage.Stats
	for _, n := range m.notes {
		switch n.State {
		case storage.StatePending:
			s.Pending++
			if m.leased(n) {
				s.Leased++
			}
			if s.OldestPending.IsZero() || n.ReceivedAt.Before(s.OldestPending) {
				s.OldestPending = n.ReceivedAt
			}
		case storage.StateParked:
			s.Parked++
		case storage.StateDead:
			s.Dead++
		case storage.StateDelivered, storage.StateDismissed, storage.StateSuperseded:
		}
	}
	return s, nil
}

func copyNotification(n *storage.Notification) storage.Notification {
	c := *n
	c.Body, c.Raw = bytes.Clone(n.Body), bytes.Clone(n.Raw)
	c.RawHeaders, c.Orders = slices.Clone(n.RawHeaders), slices.Clone(n.Orders)
	return c
}

func copyRecord(r *storage.Record, whole bool) storage.Record {
	c := *r
	c.Notification = copyNotification(&r.Notification)
	c.Answer = bytes.Clone(r.Answer)
	if !whole {
		c.Body, c.Raw, c.RawHeaders, c.Answer, c.ResourceStart, c.ResourceEnd = nil, nil, nil, nil, 0, 0
	}
	return c
}
