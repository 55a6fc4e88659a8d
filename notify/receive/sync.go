package receive

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// flight is one delivery under way within its callback's request. Copies of the
// callback that come meanwhile wait for its outcome.
type flight struct {
	done    chan struct{} // closed at the end, when the rest may be read
	answer  Answer
	outcome notify.Outcome
	err     error
}

// deliver takes an event in and delivers it before it answers (ack delivery).
func (r *Receiver) deliver(ctx context.Context, v *visit, n *storage.Notification, e *event.Event, j *judgement) Answer {
	r.mu.Lock()
	f, joined := r.flights[n.ID]
	if !joined {
		f = &flight{done: make(chan struct{})}
		// The flight outlives this request when the request runs out of time.
		route, m := v.route, v.m
		// A little less than the answer may take, so that the outcome still makes it.
		deadline := v.in.Arrived.Add(r.within - r.within/20)
		if !r.startLocked(func() { r.fly(context.WithoutCancel(ctx), deadline, f, route, m, *n, e, j) }) {
			r.mu.Unlock()
			v.err = errClosed
			return v.refuse(notify.OutcomeUnavailable, answerUnavailable, "shutting down")
		}
		r.flights[n.ID] = f
	}
	r.mu.Unlock()

	select {
	case <-f.done:
	case <-ctx.Done():
		return v.refuse(notify.OutcomeUndelivered, answerUndelivered, "delivery takes too long")
	}
	v.outcome, v.err = f.outcome, f.err
	if joined && v.outcome == notify.OutcomeDelivered {
		v.outcome = notify.OutcomeDuplicate
	}
	return f.answer
}

// fly accepts with a claim, delivers, and tells everybody who waits.
func (r *Receiver) fly(ctx context.Context, deadline time.Time, f *flight, route *notify.Route, m Merchant, n storage.Notification, e *event.Event, j *judgement) {
	f.answer, f.outcome = answerInternal, notify.OutcomeInternalError
	defer func() {
		if p := recover(); p != nil {
			r.panicked(n.Merchant, p, debug.Stack())
			f.answer, f.outcome = answerInternal, notify.OutcomeInternalError
		}
		r.mu.Lock()
		delete(r.flights, n.ID)
		r.mu.Unlock()
		close(f.done)
	}()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	request := storage.AcceptRequest{Notification: n}
	if r.sync != nil {
		request.Claim = storage.ClaimTerms{Owner: r.owner, Lease: r.sync.Lease(route)}
	}
	a, err := r.accept(ctx, request, e, j, m)
	if err != nil {
		f.answer, f.outcome, f.err = answerUnavailable, notify.OutcomeUnavailable, err
		return
	}
	if a.Claim != nil {
		if result := r.sync.Attempt(ctx, *a.Claim, route); result.Success {
			f.answer, f.outcome = delivered(result.Answer), notify.OutcomeDelivered
		} else {
			f.answer, f.outcome = answerUndelivered, notify.OutcomeUndelivered
		}
		return
	}
	f.answer, f.outcome = repeated(&a)
}

// repeated answers a callback whose notification this request may not deliver.
func repeated(a *storage.Acceptance) (Answer, notify.Outcome) {
	switch a.State {
	case storage.StateDelivered:
		return delivered(a.Answer), notify.OutcomeDuplicate
	case storage.StateDismissed:
		// An operator decided that nobody is to have it; WeChat need not go on.
		return answerSuccess, notify.OutcomeDuplicate
	case storage.StatePending, storage.StateDead, storage.StateParked, storage.StateSuperseded:
		// Somebody else delivers it, or an earlier one of its order is first,
		// or no route takes it. WeChat asks again.
		return answerUndelivered, notify.OutcomeUndelivered
	default:
		return answerUndelivered, notify.OutcomeUndelivered
	}
}
