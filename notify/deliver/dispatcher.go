package deliver

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// pollEvery finds the work of stores shared with other gateways, and of
	// signals that got lost. A scan costs the store one listing of its queues.
	pollEvery = time.Second
	// scanGap is the least time between two scans that signals cause.
	scanGap = 50 * time.Millisecond
	// maxCompleting bounds the completions that wait for the store.
	maxCompleting = 256
)

// Dispatcher delivers what waits in the queues of a store. Make it with [New].
// All methods are safe for concurrent use.
type Dispatcher struct {
	cfg        Config
	total      chan struct{} // slots of all queues' workers
	completing chan struct{} // slots of recordLater
	signers    sync.Map      // *notify.Route → *signer, or the error that there is none

	// base ends when Stop gives up waiting: attempts under way are cancelled.
	base   context.Context
	cancel context.CancelFunc
	// stopping is closed when Halt or Stop begins.
	stopping chan struct{}

	mu      sync.Mutex
	started bool
	halted  bool // no more claiming
	stopped bool // and no more attempts for callers
	queues  map[string]*queue
	wg      sync.WaitGroup // loops, workers, attempts, completions

	// unrecorded holds successes that the store has not taken yet: if such a
	// notification is claimed again, its success is recorded instead of sending
	// it a second time.
	unrecordedMu sync.Mutex
	unrecorded   map[string]storage.Completion
}

// New returns a Dispatcher that does nothing until Start. It starts no
// goroutine.
func New(cfg Config) *Dispatcher {
	cfg = cfg.withDefaults()
	base, cancel := context.WithCancel(context.Background())
	return &Dispatcher{
		cfg:        cfg,
		total:      make(chan struct{}, cfg.Total),
		completing: make(chan struct{}, maxCompleting),
		base:       base,
		cancel:     cancel,
		stopping:   make(chan struct{}),
		queues:     make(map[string]*queue),
		unrecorded: make(map[string]storage.Completion),
	}
}

// Start begins to claim and deliver. What is due goes out at once. Calling it
// twice, or after Stop, does nothing.
func (d *Dispatcher) Start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started || d.halted {
		return
	}
	d.started = true
	d.wg.Add(1)
	go d.supervise()
}

// Halt ends claiming at once and gives back what was claimed and not sent.
// Attempts under way go on, and so do those that callers make with
// [Dispatcher.Attempt], until Stop: a configuration that was replaced still
// answers the requests it has taken in.
func (d *Dispatcher) Halt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.halted {
		d.halted = true
		close(d.stopping)
	}
}

// Stop ends claiming at once, gives back what was claimed and not sent, and
// waits for the attempts under way. When ctx ends first they are cancelled,
// their notifications given back untouched (the backend may have seen them: they
// go out again under the same Webhook-Id), and ctx's error is returned after the
// last of them has ended. Later calls wait for the same end.
func (d *Dispatcher) Stop(ctx context.Context) error {
	d.Halt()
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()

	done := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(done)
	}()
	defer d.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		d.cancel()
		<-done
		return ctx.Err()
	}
}

// begin counts an attempt that a caller makes; false after Stop began.
func (d *Dispatcher) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return false
	}
	d.wg.Add(1)
	return true
}

// supervise finds the queues that have work and wakes them.
func (d *Dispatcher) supervise() {
	defer d.wg.Done()
	changed, stopWatch := d.cfg.Store.Watch()
	defer stopWatch()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	scan := time.NewTimer(0)
	defer scan.Stop()
	soon := true // scan will fire
	var lastScan time.Time
	for {
		select {
		case <-d.stopping:
			return
		case _, open := <-changed:
			if !open { // the store is closing: polling goes on until Stop
				changed = nil
				continue
			}
			d.wakeAll()
			if !soon {
				soon = true
				scan.Reset(max(scanGap-time.Since(lastScan), 0))
			}
			continue
		case <-scan.C:
			soon = false
		case <-poll.C:
		}
		d.scan()
		lastScan = time.Now()
	}
}

// Wake makes every queue look for work at once, such as after one was resumed.
func (d *Dispatcher) Wake() { d.wakeAll() }

// Down reports whether the queue's deliveries are held because its backend does
// not answer.
func (d *Dispatcher) Down(queue string) bool {
	d.mu.Lock()
	q := d.queues[queue]
	d.mu.Unlock()
	return q != nil && !q.breaker.closed()
}

// wakeAll wakes the queues that are known.
func (d *Dispatcher) wakeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range d.queues {
		q.signal()
	}
}

// scan starts and wakes the queues that hold pending notifications.
func (d *Dispatcher) scan() {
	defer d.recoverIn("scan")
	names, err := d.cfg.Store.Queues(d.base)
	if err != nil {
		d.cfg.Logger.Debug("listing delivery queues failed", "error", err)
		return
	}
	for _, name := range names {
		d.kick(name)
	}
}

// kick wakes a queue, and starts its loop if it has none.
func (d *Dispatcher) kick(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queueLocked(name)
	if d.started && !d.halted && !q.looping {
		q.looping = true
		d.wg.Add(1)
		go q.loop()
	}
	q.signal()
}

// queue returns the queue of that name.
func (d *Dispatcher) queue(name string) *queue {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queueLocked(name)
}

func (d *Dispatcher) queueLocked(name string) *queue {
	q := d.queues[name]
	if q == nil {
		q = newQueue(d, name)
		d.queues[name] = q
	}
	return q
}

// signerFor returns the route's signer, nil when the route does not sign.
func (d *Dispatcher) signerFor(route *notify.Route) (*signer, error) {
	if len(route.Sign) == 0 {
		return nil, nil
	}
	if kept, ok := d.signers.Load(route); ok {
		if s, ok := kept.(*signer); ok {
			return s, nil
		}
		return nil, kept.(error)
	}
	s, err := newSigner(route.Sign)
	if err != nil {
		if _, known := d.signers.LoadOrStore(route, err); !known {
			d.cfg.Logger.Error("deliveries are held: a sign secret cannot be used", "route", route.ID, "error", err)
		}
		return nil, err
	}
	d.signers.Store(route, s)
	return s, nil
}

// recoverIn, deferred, logs a panic in one of this package's own goroutines. What
// the goroutine held is tried again when its lease has run out.
func (d *Dispatcher) recoverIn(where string) {
	if p := recover(); p != nil {
		d.cfg.Logger.LogAttrs(context.Background(), slog.LevelError, "panic in delivery",
			slog.String("where", where), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	}
}
