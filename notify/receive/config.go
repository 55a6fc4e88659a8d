package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Store is what receiving needs of [storage.Store].
type Store interface {
	Accept(ctx context.Context, req storage.AcceptRequest) (storage.Acceptance, error)
	Park(ctx context.Context, n storage.Notification, reason storage.ParkReason, detail string) (id string, fresh bool, err error)
	ParkedFor(ctx context.Context, key storage.OrderKey) ([]storage.Record, error)
	Release(ctx context.Context, id string, fence uint64, due time.Time) error
	Decide(ctx context.Context, d storage.Decision) (storage.Record, error)
	Change(ctx context.Context, keys storage.Keys, change func(*storage.Rows) error) error
	Order(ctx context.Context, key storage.OrderKey) (storage.Order, error)
	OrderByTransaction(ctx context.Context, mchid, transactionID string) (storage.Order, error)
	Refund(ctx context.Context, key storage.RefundKey) (storage.Refund, error)
}

// Merchant is what receiving needs of [merchant.Merchant].
type Merchant interface {
	// Ready returns why callbacks cannot be verified yet; nil when they can.
	Ready() error
	Name() string
	Mchid() string
	HasApp(appid string) bool
	Keys() *merchant.KeySet
	Decrypt(associatedData, nonce, ciphertext []byte) ([]byte, error)
}

// SyncDeliverer delivers within the callback's own request (ack delivery).
type SyncDeliverer interface {
	// Lease is how long a claim must protect one attempt on the route.
	Lease(route *notify.Route) time.Duration
	// Attempt delivers a claimed notification once and completes the claim,
	// whatever becomes of it. It ends by ctx's deadline.
	Attempt(ctx context.Context, claim storage.Claim, route *notify.Route) SyncResult
}

// SyncResult is what became of an attempt.
type SyncResult struct {
	// Success is true when the backend's success is recorded, durably.
	Success bool
	// Answer is the JSON object that the backend gave for WeChat; nil when it
	// gave none.
	Answer []byte
}

// Parked says that a payment or refund was parked for the first time: what the
// gateway needs to ask WeChat about it at once.
type Parked struct {
	Merchant string
	Route    *notify.Route
	// ID is the id under which it is parked.
	ID     string
	Kind   event.Kind
	Reason storage.ParkReason
	// Event holds the numbers to ask with. It must not be changed.
	Event *event.Event
	// Host and Path are those of the callback.
	Host, Path string
}

// DefaultInFlight is how many bytes of bodies are held at once, by default.
const DefaultInFlight = 64 << 20

// Config is everything a [Receiver] hangs on. Store is required.
type Config struct {
	Store Store
	// Now is the clock that timestamps are held against. Default: time.Now.
	Now func() time.Time
	// Logger. Default: discards.
	Logger *slog.Logger
	// Observer. Default: hears nothing.
	Observer notify.Observer
	// Sync delivers on routes with ack delivery. Without it they answer 500,
	// and what they took in waits for the delivery worker.
	Sync SyncDeliverer
	// Owner names this process and generation in claims.
	Owner string
	// Parked is called in a goroutine of the Receiver's own, once for every
	// freshly parked payment or refund. Its ctx ends with Close, which waits
	// for it. Nil: nobody asks.
	Parked func(ctx context.Context, p Parked)
	// InFlight bounds the bytes of bodies held at once; beyond it callbacks are
	// answered 503. Zero: DefaultInFlight.
	InFlight int64
}

// Receiver takes callbacks in. It is safe for concurrent use; make one with New.
type Receiver struct {
	store    Store
	now      func() time.Time
	log      *slog.Logger
	observer notify.Observer
	sync     SyncDeliverer
	owner    string
	parked   func(ctx context.Context, p Parked)
	budget   int64
	// verify is key.Verify; tests of the parsers behind it replace it.
	verify func(key merchant.Key, message, signature []byte) error

	// within bounds the work for one answer: answerWithin but in tests.
	within time.Duration

	held    atomic.Int64 // bytes of bodies
	buffers sync.Pool    // *buffers

	mu      sync.Mutex
	closed  atomic.Bool        // set under mu
	flights map[string]*flight // deliveries under way, by notification id
	tasks   sync.WaitGroup
	runners chan func() // unbuffered: taken only by a runner that waits
	ctx     context.Context
	cancel  context.CancelFunc
}

// New makes a Receiver. It starts nothing.
func New(c Config) *Receiver {
	r := &Receiver{
		store: c.Store, now: c.Now, log: c.Logger, observer: c.Observer,
		sync: c.Sync, owner: c.Owner, parked: c.Parked, budget: c.InFlight,
		verify:  func(key merchant.Key, message, signature []byte) error { return key.Verify(message, signature) },
		within:  answerWithin,
		flights: make(map[string]*flight),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.observer == nil {
		r.observer = notify.NopObserver{}
	}
	if r.budget <= 0 {
		r.budget = DefaultInFlight
	}
	r.buffers.New = func() any { return new(buffers) }
	r.runners = make(chan func())
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close ends the work that callbacks started (asking about parked ones) and
// waits for it and for the deliveries under way, which end by their deadline.
// Callbacks that come later are answered 503. Closing twice is harmless.
func (r *Receiver) Close() {
	r.mu.Lock()
	r.closed.Store(true)
	r.mu.Unlock()
	r.cancel()
	r.tasks.Wait()
}

// start runs a task in a goroutine that Close waits for. False after Close.
func (r *Receiver) start(task func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.startLocked(task)
}

func (r *Receiver) startLocked(task func()) bool {
	if r.closed.Load() {
		return false
	}
	select {
	case r.runners <- task:
	default:
		r.tasks.Go(func() { r.runner(task) })
	}
	return true
}

// runnerIdle is how long a goroutine waits for its next task.
const runnerIdle = time.Second

// runner carries out a task, and then those that come while it is there. A
// delivery runs deep in its route's handlers; a goroutine that has done one has
// grown its stack for the next.
func (r *Receiver) runner(task func()) {
	idle := time.NewTimer(runnerIdle)
	defer idle.Stop()
	for {
		task()
		task = nil
		idle.Reset(runnerIdle)
		select {
		case task = <-r.runners:
		case <-idle.C:
			return
		case <-r.ctx.Done():
			return
		}
	}
}

// panicked logs a recovered panic: its type, since its text may hold content.
func (r *Receiver) panicked(merchantName string, value any, stack []byte) {
	r.log.Error("panic while receiving a notification",
		slog.String("merchant", merchantName),
		slog.String("panic", fmt.Sprintf("%T", value)),
		slog.String("stack", string(stack)))
}

var (
	errClosed   = errors.New("receive: shutting down")
	errInFlight = errors.New("receive: too many bytes in flight")
)

var (
	_ Store    = (storage.Store)(nil)
	_ Merchant = (*merchant.Merchant)(nil)
)
