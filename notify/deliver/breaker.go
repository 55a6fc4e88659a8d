package deliver

import (
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// verdict is what an attempt says about the backend, not about its notification.
type verdict int

const (
	// verdictAlive: the backend answered by itself, if only to refuse.
	verdictAlive verdict = iota + 1
	// verdictFailing: no answer, a broken one, or a 5xx.
	verdictFailing
	// verdictDown: there is no connection to be had, for any notification.
	verdictDown
	// verdictNone: the attempt says nothing about the backend.
	verdictNone
)

// verdictOf sorts the results of attempts.
func verdictOf(result notify.Result, status int) verdict {
	switch result {
	case notify.ResultSuccess, notify.ResultRefused:
		return verdictAlive
	case notify.ResultStatus:
		if status >= 500 {
			return verdictFailing
		}
		return verdictAlive
	case notify.ResultNotSent:
		return verdictDown
	case notify.ResultTimeout, notify.ResultUnreachable, notify.ResultIncomplete, notify.ResultPanic:
		return verdictFailing
	case notify.ResultNoRoute, notify.ResultStale:
		return verdictNone
	default:
		return verdictNone
	}
}

var (
	errFailing = errors.New("deliver: backend is failing")
	errNothing = errors.New("deliver: says nothing about the backend")
)

// breaker holds a queue while its backend is down for everybody, so
// that an outage of hours burns no attempt.
//
// The states, the wait and the counting are gobreaker's. Around them:
//
//   - it trips at once when there is no connection to the backend: the next
//     notification would fare no better;
//   - it trips otherwise on failures of different notifications only: one that
//     its backend always answers with 500 must not hold the others back;
//   - while it is open, probes overlap: one that hangs until its timeout does not
//     put off the next (a round of probes shares one half-open slot);
//   - any sign of life closes it, also of an attempt that was under way when it
//     opened.
type breaker struct {
	every   time.Duration
	trip    int
	changed func(open bool) // called in order, with the lock held

	mu       sync.Mutex
	cb       *gobreaker.TwoStepCircuitBreaker[struct{}]
	down     bool                // the last failure was that there is no connection
	failed   map[string]struct{} // notifications that failed since the last sign of life
	round    *round
	openedAt time.Time // when the wait for the next round began
	open     bool      // as changed was last told
}

// round is a set of probes that overlap.
type round struct {
	done    func(error)
	running int
	last    time.Time // when the newest was let go
}

// admission is the leave to send; the zero value is that of an attempt that
// never asked or was refused.
type admission struct {
	done  func(error) // while closed
	round *round      // of a probe
}

func (a admission) given() bool { return a.done != nil || a.round != nil }

func newBreaker(every time.Duration, trip int, changed func(open bool)) *breaker {
	b := &breaker{every: every, trip: trip, changed: changed, failed: make(map[string]struct{}, trip)}
	b.cb = b.fresh()
	return b
}

func (b *breaker) fresh() *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     b.every,
		ReadyToTrip: func(counts gobreaker.Counts) bool {
			return b.down || int(counts.ConsecutiveFailures) >= b.trip && len(b.failed) >= b.trip
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.openedAt = time.Now()
			}
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNothing) },
	})
}

// closed reports whether deliveries go on.
func (b *breaker) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cb.State() == gobreaker.StateClosed
}

// enter asks for leave to send. While open it is given to one probe every
// interval; else wait says how long until the next.
func (b *breaker) enter() (leave admission, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if r := b.round; r != nil {
		if wait := r.last.Add(b.every).Sub(now); wait > 0 {
			return admission{}, wait
		}
		r.running++
		r.last = now
		return admission{round: r}, 0
	}
	done, err := b.cb.Allow()
	if err != nil {
		// gobreaker waits until its time is over, not just up.
		return admission{}, max(b.openedAt.Add(b.every).Sub(now), 0) + time.Millisecond
	}
	if b.cb.State() == gobreaker.StateClosed {
		return admission{done: done}, 0
	}
	b.round = &round{done: done, running: 1, last: now}
	return admission{round: b.round}, 0
}

// leave reports how the attempt ended. held is true when the breaker is open and
// the attempt failed for the backend's sake: it must not count.
func (b *breaker) leave(a admission, id string, v verdict) (held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch v {
	case verdictAlive:
		b.down = false
		clear(b.failed)
		if b.cb.State() != gobreaker.StateClosed {
			b.cb, b.round = b.fresh(), nil
		} else if a.done != nil {
			a.done(nil)
		}
	case verdictFailing, verdictDown:
		b.down = v == verdictDown
		if a.round != nil {
			b.endProbe(a.round, errFailing)
			held = true
			break
		}
		if a.done != nil {
			if len(b.failed) < b.trip {
				b.failed[id] = struct{}{}
			}
			a.done(errFailing)
		}
		held = b.cb.State() != gobreaker.StateClosed
	case verdictNone:
		if a.round != nil {
			b.endProbe(a.round, errNothing)
		} else if a.done != nil {
			a.done(errNothing)
		}
	}
	if open := b.cb.State() != gobreaker.StateClosed; open != b.open {
		b.open = open
		b.changed(open)
	}
	return held
}

// endProbe takes a probe out of its round; the last one ends the round.
func (b *breaker) endProbe(r *round, err error) {
	r.running--
	if r.running == 0 && b.round == r {
		b.round = nil
		r.done(err)
	}
}
