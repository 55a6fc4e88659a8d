package agenda

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Handler does one piece of work. It returns when the work is due again, or the
// zero time when it is done for good; the store counts the former in
// [storage.Work].Attempt. An error means that it is to be tried again: at next, or
// where that is zero after [Retry]. ctx ends before the lease does, and when the
// runner stops: a handler that returns ctx's error then leaves its work due at
// once. Errors are logged and must hold no body, key or openid.
type Handler func(ctx context.Context, w storage.Work) (next time.Time, err error)

// Kind is one kind of work and who does it.
type Kind struct {
	// Name is the work's [storage.Work].Kind. Required, and no two the same.
	Name string
	// Do does it. Required.
	Do Handler
	// Workers is how many pieces are worked on at once. Default: [DefaultWorkers].
	Workers int
	// Lease is how long a claim protects a piece from other runners; a handler has
	// nine tenths of it. Default: [DefaultLease].
	Lease time.Duration
}

const (
	// DefaultWorkers is how many pieces of one kind are worked on at once.
	DefaultWorkers = 8
	// DefaultLease is how long a claim protects a piece of work.
	DefaultLease = time.Minute
	// DefaultPoll is how often the agenda is looked at, give or take a fifth.
	DefaultPoll = time.Second
)

// Retry is the wait before work that failed without saying when is tried again:
// 10 seconds, doubled with each attempt up to an hour.
func Retry(attempt int) time.Duration {
	const first, most = 10 * time.Second, time.Hour
	if attempt < 0 || attempt > 8 {
		return most
	}
	return min(first<<attempt, most)
}

// Result is what became of one piece of work, for metrics.
type Result string

// The results.
const (
	Done     Result = "done"     // finished for good
	Again    Result = "again"    // due again
	Failed   Result = "failed"   // the handler failed or panicked; due again
	Returned Result = "returned" // given back, since the runner stops
)

// Observer counts. It is called concurrently and must not block.
type Observer interface {
	// Worked is told of every piece of work that a handler was given.
	Worked(kind, merchant string, result Result, took time.Duration)
}

// Config is what a [Runner] needs.
type Config struct {
	// Agenda holds the work. Required.
	Agenda storage.Agenda
	// Kinds are the kinds of work to do; other work stays where it is.
	Kinds []Kind
	// Owner names the runner in claims: one per process and configuration.
	// Required.
	Owner string
	// Poll is how often the agenda is looked at. Default: [DefaultPoll].
	Poll time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Jitter returns a random number in [0,1). Default: math/rand/v2.
	Jitter func() float64
	// Logger. Default: discards.
	Logger *slog.Logger
	// Observer. Default: nobody counts.
	Observer Observer
}

type nobody struct{}

func (nobody) Worked(string, string, Result, time.Duration) {}

// errConfig says what New refuses.
var errConfig = errors.New("agenda: a runner needs an agenda, an owner, and kinds with distinct names and handlers")

// New makes a runner that does nothing until Start. It fails on a configuration
// that lacks something.
func New(cfg Config) (*Runner, error) {
	names := make(map[string]bool)
	for i := range cfg.Kinds {
		k := cfg.Kinds[i]
		if k.Name == "" || k.Do == nil || names[k.Name] {
			return nil, errConfig
		}
		names[k.Name] = true
	}
	if cfg.Agenda == nil || cfg.Owner == "" {
		return nil, errConfig
	}
	if cfg.Poll <= 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Observer == nil {
		cfg.Observer = nobody{}
	}
	r := &Runner{cfg: cfg, stopping: make(chan struct{})}
	r.base, r.cancel = context.WithCancel(context.Background())
	for _, k := range cfg.Kinds {
		if k.Workers <= 0 {
			k.Workers = DefaultWorkers
		}
		if k.Lease <= 0 {
			k.Lease = DefaultLease
		}
		r.kinds = append(r.kinds, k)
	}
	return r, nil
}
