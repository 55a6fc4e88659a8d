package agenda

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// finishBound is how long recording what became of a piece of work may take.
const finishBound = 10 * time.Second

// Runner does due work. Make it with [New]. All methods are safe for concurrent
// use.
type Runner struct {
	cfg   Config
	kinds []Kind

	base     context.Context // of handlers; ends when Stop gives up waiting
	cancel   context.CancelFunc
	stopping chan struct{} // closed when Halt or Stop begins

	mu      sync.Mutex
	started bool
	halted  bool
	wg      sync.WaitGroup // loops and handlers
}

// Start begins to claim: what is due is done at once. Calling it twice, or after
// Halt, does nothing.
func (r *Runner) Start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started || r.halted {
		return
	}
	r.started = true
	for _, k := range r.kinds {
		r.wg.Go(func() { r.loop(k) })
	}
}

// Halt ends claiming at once. Handlers under way go on until Stop.
func (r *Runner) Halt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.halted {
		r.halted = true
		close(r.stopping)
	}
}

// Stop ends claiming and waits for the handlers under way. When ctx ends first
// they are cancelled, and ctx's error is returned after the last has ended.
func (r *Runner) Stop(ctx context.Context) error {
	r.Halt()
	done := make(chan struct{})
	go func() {
		r.wg.Wait()
		close(done)
	}()
	defer r.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		r.cancel()
		<-done
		return ctx.Err()
	}
}

// loop claims work of one kind, as much as there are free workers for.
func (r *Runner) loop(k Kind) {
	free := make(chan struct{}, k.Workers)
	for range k.Workers {
		free <- struct{}{}
	}
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		select {
		case <-r.stopping:
			return
		case <-poll.C:
		}
		for more := true; more; {
			more = r.claim(k, free)
			select {
			case <-r.stopping:
				return
			default:
			}
		}
		poll.Reset(r.jittered(r.cfg.Poll))
	}
}

// claim waits for a free worker, claims for all that are free, and reports
// whether there may be more work.
func (r *Runner) claim(k Kind, free chan struct{}) (more bool) {
	select {
	case <-r.stopping:
		return false
	case <-free:
	}
	slots := 1
	for taken := true; taken; {
		select {
		case <-free:
			slots++
		default:
			taken = false
		}
	}
	claimed := r.claimed(k, slots)
	for _, w := range claimed {
		r.wg.Go(func() {
			defer func() { free <- struct{}{} }()
			r.work(k, w)
		})
	}
	for range slots - len(claimed) {
		free <- struct{}{}
	}
	return len(claimed) == slots
}

// claimed claims; a store that fails, or panics, has no work.
func (r *Runner) claimed(k Kind, limit int) (list []storage.ClaimedWork) {
	defer func() {
		if cause := recover(); cause != nil {
			r.panicked(k.Name, cause)
			list = nil
		}
	}()
	list, err := r.cfg.Agenda.ClaimWork(r.base, k.Name, storage.ClaimTerms{Owner: r.cfg.Owner, Lease: k.Lease}, limit)
	if err != nil && !errors.Is(err, storage.ErrClosed) && r.base.Err() == nil {
		r.cfg.Logger.Warn("claiming work", "kind", k.Name, "error", err)
	}
	return list
}

// work does one piece and finishes it.
func (r *Runner) work(k Kind, w storage.ClaimedWork) {
	// The lease counts from the claim, by the store's clock: what is left of it is
	// not asked for, a tenth of it is margin enough for a claim that was just made.
	ctx, cancel := context.WithTimeout(r.base, k.Lease*9/10)
	defer cancel()
	started := r.cfg.Now()
	next, err := r.do(ctx, k, w.Work)
	result := Done
	switch {
	case err != nil && r.base.Err() != nil:
		next, result = w.Due, Returned
	case err != nil:
		result = Failed
		if next.IsZero() {
			next = r.cfg.Now().Add(r.jittered(Retry(w.Attempt)))
		}
		r.cfg.Logger.Warn("work failed and will be tried again", "kind", k.Name, "merchant", w.Merchant, "attempt", w.Attempt, "error", err)
	case !next.IsZero():
		result = Again
	}
	r.cfg.Observer.Worked(k.Name, w.Merchant, result, r.cfg.Now().Sub(started))
	r.finish(k, w, next)
}

// do runs the handler; a panic is an error.
func (r *Runner) do(ctx context.Context, k Kind, w storage.Work) (next time.Time, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			r.panicked(k.Name, cause)
			next, err = time.Time{}, errPanic
		}
	}()
	return k.Do(ctx, w)
}

var errPanic = errors.New("agenda: the handler panicked")

// finish records what became of a piece. Work whose end is not recorded comes
// again when its lease has run out.
func (r *Runner) finish(k Kind, w storage.ClaimedWork, next time.Time) {
	defer func() {
		if cause := recover(); cause != nil {
			r.panicked(k.Name, cause)
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.base), finishBound)
	defer cancel()
	err := r.cfg.Agenda.FinishWork(ctx, k.Name, w.ID, w.Fence, next)
	switch {
	case err == nil, errors.Is(err, storage.ErrStale), errors.Is(err, storage.ErrNotFound):
	default:
		r.cfg.Logger.Warn("the end of work is not recorded; it will be done again", "kind", k.Name, "error", err)
	}
}

// jittered gives or takes a fifth.
func (r *Runner) jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*r.cfg.Jitter()))
}

// panicked logs a recovered panic: its type, since its text may hold content.
func (r *Runner) panicked(kind string, cause any) {
	r.cfg.Logger.Error("panic in work of the agenda", "kind", kind, "panic", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
}
