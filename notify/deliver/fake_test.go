package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore is a queue in memory with the rules of storage.Inbox: due times,
// leases, fences, and one notification of a group at a time.
type fakeStore struct {
	mu       sync.Mutex
	rows     map[string]*fakeRow
	queues   map[string][]*fakeRow // pending, in order of arrival
	fence    uint64
	watchers map[chan struct{}]struct{}
	deaf     bool // signals nobody, as another gateway's writes do

	claims      int
	completions []storage.Completion
	failClaim   func(n int) error
	failDone    func(n int) error // n counts calls of Complete, from 1
	doneCalls   int
	lostAnswers int // completions that are written and answered with an error
}

type fakeRow struct {
	rec    storage.Record
	fence  uint64
	until  time.Time
	leased bool
	replay bool
}

func newFakeStore() *fakeStore {
	return &fakeStore{rows: map[string]*fakeRow{}, queues: map[string][]*fakeRow{}, watchers: map[chan struct{}]struct{}{}}
}

var _ Store = (*fakeStore)(nil)

func (s *fakeStore) signal() {
	if s.deaf {
		return
	}
	for c := range s.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// add accepts a notification.
func (s *fakeStore) add(n storage.Notification) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := &fakeRow{rec: storage.Record{Notification: n, State: storage.StatePending, NextDue: n.ReceivedAt}}
	s.rows[n.ID] = row
	s.queues[n.Merchant] = append(s.queues[n.Merchant], row)
	s.signal()
}

// replay makes a finished notification pending again.
func (s *fakeStore) replay(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.rows[id]
	row.rec.State, row.replay, row.rec.NextDue = storage.StatePending, true, time.Now()
	row.rec.Source = storage.SourceReplay
	s.queues[row.rec.Merchant] = append(s.queues[row.rec.Merchant], row)
	s.signal()
}

// claimOne claims as the receiving request does.
func (s *fakeStore) claimOne(id string, lease time.Duration) storage.Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease(s.rows[id], storage.ClaimTerms{Owner: "request", Lease: lease})
}

// steal takes a claim over, as another gateway does when a lease has run out.
func (s *fakeStore) steal(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fence++
	s.rows[id].fence = s.fence
}

func (s *fakeStore) record(id string) storage.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[id].rec
}

// claimed is how often Claim was called.
func (s *fakeStore) claimed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims
}

func (s *fakeStore) leasedNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, row := range s.rows {
		if row.leased {
			n++
		}
	}
	return n
}

func (s *fakeStore) lease(row *fakeRow, terms storage.ClaimTerms) storage.Claim {
	s.fence++
	row.fence, row.leased, row.until = s.fence, true, time.Now().Add(terms.Lease)
	return storage.Claim{Record: row.rec, Fence: row.fence, Owner: terms.Owner, LeaseUntil: row.until, Replay: row.replay}
}

// ready lists what may be claimed, oldest due first, and the next due time.
func (s *fakeStore) ready(merchant string, now time.Time) (due []*fakeRow, next time.Time) {
	waiting := map[string]bool{}
	for _, row := range s.queues[merchant] {
		group := row.rec.Group
		if group != "" {
			if waiting[group] {
				continue
			}
			waiting[group] = true
		}
		if row.leased && row.until.After(now) {
			continue
		}
		if !row.rec.NextDue.After(now) {
			due = append(due, row)
		}
		if next.IsZero() || row.rec.NextDue.Before(next) {
			next = row.rec.NextDue
		}
	}
	slices.SortStableFunc(due, func(a, b *fakeRow) int { return a.rec.NextDue.Compare(b.rec.NextDue) })
	return due, next
}

func (s *fakeStore) Claim(_ context.Context, merchant string, terms storage.ClaimTerms, limit int) ([]storage.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims++
	if s.failClaim != nil {
		if err := s.failClaim(s.claims); err != nil {
			return nil, err
		}
	}
	due, _ := s.ready(merchant, time.Now())
	var claims []storage.Claim
	for _, row := range due[:min(len(due), limit)] {
		claims = append(claims, s.lease(row, terms))
	}
	return claims, nil
}

func (s *fakeStore) held(id string, fence uint64) (*fakeRow, error) {
	row := s.rows[id]
	switch {
	case row == nil:
		return nil, storage.ErrNotFound
	case !row.leased || row.fence != fence:
		return nil, storage.ErrStale
	default:
		return row, nil
	}
}

func (s *fakeStore) Complete(ctx context.Context, id string, fence uint64, done storage.Completion) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doneCalls++
	defer func() {
		if err == nil && s.lostAnswers > 0 {
			s.lostAnswers--
			err = errors.New("connection lost during commit")
		}
	}()
	if s.failDone != nil {
		if err := s.failDone(s.doneCalls); err != nil {
			return err
		}
	}
	row, err := s.held(id, fence)
	if err != nil {
		return err
	}
	s.completions = append(s.completions, done)
	row.leased, row.replay = false, false
	row.rec.State, row.rec.Attempts = done.State, row.rec.Attempts+1
	row.rec.NextDue, row.rec.LastError, row.rec.LastStatus = done.NextDue, done.Error, done.Status
	row.rec.ParkReason, row.rec.Answer = done.ParkReason, done.Answer
	if done.State != storage.StatePending {
		queue := s.queues[row.rec.Merchant]
		s.queues[row.rec.Merchant] = slices.DeleteFunc(queue, func(r *fakeRow) bool { return r == row })
		if row.rec.Group != "" {
			s.signal()
		}
	}
	return nil
}

func (s *fakeStore) Release(ctx context.Context, id string, fence uint64, due time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	row, err := s.held(id, fence)
	if err != nil {
		return err
	}
	row.leased, row.rec.NextDue = false, due
	return nil
}

func (s *fakeStore) NextDue(_ context.Context, merchant string) (time.Time, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, next := s.ready(merchant, time.Now())
	return next, !next.IsZero(), nil
}

func (s *fakeStore) Notification(_ context.Context, id string) (storage.Record, error) {
	return s.record(id), nil
}

func (s *fakeStore) Queues(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, rows := range s.queues {
		if len(rows) > 0 {
			names = append(names, name)
		}
	}
	return names, nil
}

func (s *fakeStore) Watch() (<-chan struct{}, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{}, 1)
	s.watchers[c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, c)
	}
}

// send is one request that a backend saw.
type send struct {
	id      string
	attempt string
	at      time.Time
}

// backend is a Deliverer under the test's control.
type backend struct {
	mu     sync.Mutex
	answer func(ctx context.Context, d *notify.Delivery) (notify.Response, error)
	sends  []send
	now    int // under way
	most   int
}

func (b *backend) Deliver(ctx context.Context, d *notify.Delivery) (notify.Response, error) {
	b.mu.Lock()
	b.sends = append(b.sends, send{d.Header.Get(HeaderID), d.Header.Get(HeaderAttempt), time.Now()})
	b.now++
	b.most = max(b.most, b.now)
	answer := b.answer
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.now--
		b.mu.Unlock()
	}()
	if answer == nil {
		return notify.Response{Status: 200}, nil
	}
	return answer(ctx, d)
}

func (b *backend) set(answer func(ctx context.Context, d *notify.Delivery) (notify.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) seen() []send {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sends)
}

func (b *backend) ids() []string {
	var ids []string
	for _, s := range b.seen() {
		ids = append(ids, s.id)
	}
	return ids
}

func status(code int) func(context.Context, *notify.Delivery) (notify.Response, error) {
	return func(context.Context, *notify.Delivery) (notify.Response, error) {
		return notify.Response{Status: code}, nil
	}
}

// watcher records what an Observer hears.
type watcher struct {
	notify.NopObserver
	mu       sync.Mutex
	results  map[notify.Result]int
	changes  []notify.Change
	breakers []bool
}

func (w *watcher) DeliveryAttempted(_, _ string, r notify.Result, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.results == nil {
		w.results = map[notify.Result]int{}
	}
	w.results[r]++
}

func (w *watcher) Changed(c notify.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, c)
}

func (w *watcher) BreakerChanged(_ string, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breakers = append(w.breakers, open)
}

func (w *watcher) count(r notify.Result) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.results[r]
}

// payment is a paid order's notification, received now.
func payment(number int) storage.Notification {
	id := fmt.Sprintf("msg_%04d", number)
	body := []byte(fmt.Sprintf(`{"id":"EV-%d","resource":{"out_trade_no":"ORDER%04d"}}`, number, number))
	start := len(`{"id":"EV-`) + len(fmt.Sprint(number)) + len(`","resource":`)
	return storage.Notification{
		ID: id, Key: "payment/" + id, Merchant: "shop", Group: "ORDER" + id,
		Mchid: "1900000001", EventType: "TRANSACTION.SUCCESS", Kind: "payment",
		Source: storage.SourceCallback, AmountCheck: storage.AmountMatched,
		ReceivedAt: time.Now(), Host: "pay.example.com", Path: "/wechatpay/notify/shop",
		Body: body, ResourceStart: start, ResourceEnd: len(body) - 1,
	}
}

// fixture is a dispatcher around a fake store and a backend, with no jitter.
type fixture struct {
	store   *fakeStore
	backend *backend
	route   *notify.Route
	seen    *watcher
	d       *Dispatcher
}

func newFixture(change ...func(*Config, *notify.Route)) *fixture {
	f := &fixture{store: newFakeStore(), backend: &backend{}, seen: &watcher{}}
	f.route = &notify.Route{
		ID: "r1", Ack: notify.AckCommit, Payload: notify.PayloadEnvelope,
		Retry: notify.DefaultRetry, Timeout: notify.DefaultTimeout, Deliverer: f.backend,
	}
	cfg := Config{
		Store: f.store, Owner: "test/1", Observer: f.seen,
		Route: func(*storage.Record) *notify.Route { return f.route },
		Rand:  func() float64 { return 0.5 },
	}
	for _, c := range change {
		c(&cfg, f.route)
	}
	f.d = New(cfg)
	return f
}

// stop ends the dispatcher, which must need no help.
func (f *fixture) stop(t *testing.T) {
	t.Helper()
	if err := f.d.Stop(context.Background()); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// httpBackend is the smallest Deliverer over HTTP.
type httpBackend struct {
	client *http.Client
	url    string
}

func newHTTPBackend(t *testing.T, url string) *httpBackend {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &httpBackend{url: url, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (b *httpBackend) Deliver(ctx context.Context, d *notify.Delivery) (notify.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+d.Path, bytes.NewReader(d.Body))
	if err != nil {
		return notify.Response{}, err
	}
	r.Host, r.Header = d.Host, d.Header
	res, err := b.client.Do(r)
	if err != nil {
		return notify.Response{}, err
	}
	defer func() { _ = res.Body.Close() }()
	out := notify.Response{Status: res.StatusCode, RetryAfter: res.Header.Get("Retry-After"), ContentType: res.Header.Get("Content-Type")}
	if out.Body, err = io.ReadAll(io.LimitReader(res.Body, d.Wanted)); err != nil {
		return out, err
	}
	rest, err := io.Copy(io.Discard, res.Body)
	out.Truncated = rest > 0
	return out, err
}
