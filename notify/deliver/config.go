package deliver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Store is what delivery needs of a [storage.Inbox]; the contract is stated there.
type Store interface {
	Claim(ctx context.Context, queue string, terms storage.ClaimTerms, limit int) ([]storage.Claim, error)
	Complete(ctx context.Context, id string, fence uint64, done storage.Completion) error
	Release(ctx context.Context, id string, fence uint64, due time.Time) error
	NextDue(ctx context.Context, queue string) (due time.Time, ok bool, err error)
	Notification(ctx context.Context, id string) (storage.Record, error)
	Queues(ctx context.Context) ([]string, error)
	Watch() (changed <-chan struct{}, stop func())
}

var _ Store = storage.Inbox(nil)

// Defaults of a [Config].
const (
	// DefaultWorkers is how many deliveries one queue has under way.
	DefaultWorkers = 32
	// DefaultTotal is how many deliveries all queues together have under way.
	DefaultTotal = 256
	// DefaultProbeEvery is how long an open breaker waits between two probes:
	// the contract says at least one in 5 s.
	DefaultProbeEvery = 4 * time.Second
	// DefaultTripAfter is how many different notifications must fail in a row
	// before the breaker opens.
	DefaultTripAfter = 5
)

// Config is what a [Dispatcher] works with. Store, Route and Owner are required.
type Config struct {
	// Store holds the queues.
	Store Store

	// Route names the route that delivers the record. Nil means that no handler
	// serves it now: the notification stays pending, nothing is burned, and it is
	// looked at again every few seconds. It is called from many goroutines, must
	// not block, and must not change or keep the record.
	Route func(rec *storage.Record) *notify.Route

	// Paused reports whether an operator holds the queue: nothing of it is then
	// sent, not even a probe or the delivery of a callback's own request; what is
	// under way is finished. It is asked before each claim and each send, from
	// many goroutines, and must be quick. When it changes, [Dispatcher.Wake]
	// makes queues look at once. Default: never.
	Paused func(queue string) bool

	// Owner names this dispatcher in claims: unique per process and
	// configuration generation.
	Owner string

	// Now is the clock that due times are computed with. Default: time.Now.
	Now func() time.Time
	// Rand returns a number in [0,1) for jitter; safe for concurrent use.
	// Default: math/rand/v2.
	Rand func() float64
	// Logger gets what an operator should know; never a body, a key or an
	// openid. Default: discards.
	Logger *slog.Logger
	// Observer hears of attempts, changes and breakers. Default: nobody.
	Observer notify.Observer

	// Workers bounds the deliveries under way per queue. Zero:
	// [DefaultWorkers].
	Workers int
	// Total bounds the deliveries under way over all queues. Zero:
	// [DefaultTotal]. Not counted are deliveries by [Dispatcher.Attempt], which
	// its callers bound, and probes of open breakers, which ProbeEvery bounds.
	Total int
	// ProbeEvery is how long an open breaker waits between two probes. Zero:
	// [DefaultProbeEvery].
	ProbeEvery time.Duration
	// TripAfter is how many different notifications must fail, none succeeding
	// in between, before the breaker opens. Zero: [DefaultTripAfter].
	TripAfter int
}

// withDefaults fills in what may be left out.
func (c Config) withDefaults() Config {
	if c.Paused == nil {
		c.Paused = func(string) bool { return false }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = notify.NopObserver{}
	}
	if c.Workers <= 0 {
		c.Workers = DefaultWorkers
	}
	if c.Total <= 0 {
		c.Total = DefaultTotal
	}
	if c.ProbeEvery <= 0 {
		c.ProbeEvery = DefaultProbeEvery
	}
	if c.TripAfter <= 0 {
		c.TripAfter = DefaultTripAfter
	}
	return c
}

// leaseMargin is what a claim's lease has over the delivery timeout: room for
// waiting for a worker and for recording the outcome.
const leaseMargin = 15 * time.Second

// recordMargin is what of a lease must be left, beyond the timeout, when a send
// starts: the time to record its outcome while the claim is still ours.
const recordMargin = 2 * time.Second

// Lease says how long a claim must protect a notification that route delivers:
// the delivery timeout and a margin. Whoever claims for [Dispatcher.Attempt]
// asks the store for it.
func Lease(route *notify.Route) time.Duration { return timeoutOf(route) + leaseMargin }

// timeoutOf is the bound of one attempt.
func timeoutOf(route *notify.Route) time.Duration {
	if route.Timeout > 0 {
		return route.Timeout
	}
	if route.Ack == notify.AckDelivery {
		return notify.DefaultDeliveryTimeout
	}
	return notify.DefaultTimeout
}
