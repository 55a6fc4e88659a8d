package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// ErrorBodyExpired is the error class of a notification whose body retention has
// removed: there is nothing left to send.
const ErrorBodyExpired = "body_expired"

// Attempted is what became of one attempt.
type Attempted struct {
	// Result of the attempt; empty when nothing was sent.
	Result notify.Result
	// Success is true when the backend's success is recorded, durably.
	Success bool
	// Answer is the backend's JSON object, to hand to WeChat in delivery mode;
	// nil when it gave none, or did not succeed.
	Answer []byte
	// Held is true when the attempt did not count and the claim was given back:
	// the breaker is open, the queue is paused, or the gateway stops.
	Held bool
}

// Attempt delivers a claimed notification now and records the outcome: what a
// callback's own request does in delivery mode. The claim must have been given
// for [Lease] of the route just before; Attempt ends it.
//
// It sends whatever the breaker says, since WeChat's own schedule bounds these
// attempts and each is as good as a probe; but while the breaker is open a
// failure of the backend does not count.
//
// The attempt ends after the route's timeout, or when ctx ends: at its deadline
// as a timeout that counts, cancelled without counting. The outcome is recorded
// whatever becomes of ctx. If the store does not take it at once, Attempt returns
// without Success and the recording goes on in the background until the lease is
// nearly over.
func (d *Dispatcher) Attempt(ctx context.Context, c storage.Claim, route *notify.Route) Attempted {
	if route == nil || d.cfg.Paused(c.Record.Queue()) || !d.begin() {
		d.release(&c, c.Record.NextDue)
		return Attempted{Held: true}
	}
	defer d.wg.Done()

	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.base, cancel)()

	q := d.queue(c.Record.Queue())
	j := &job{claim: c, route: route, until: d.cfg.Now().Add(Lease(route))}
	j.leave, _ = q.breaker.enter()
	out, done := d.attempt(both, j, q)
	if done != nil {
		d.record(j, q, done, &out, true)
	}
	if !out.Success {
		d.kick(c.Record.Queue()) // the queue's next due time is another
	}
	return out
}

// outcome is what is to be recorded of an attempt.
type outcome struct {
	storage.Completion
	sent bool // by this attempt; else an earlier one's success is recorded
	took time.Duration
}

// attempt sends and judges. The job's admission ends here. What it returns is
// still to be recorded; nil when the claim was given back.
func (d *Dispatcher) attempt(ctx context.Context, j *job, q *queue) (out Attempted, done *outcome) {
	rec := &j.claim.Record
	verdict, left := verdictNone, false
	leave := func() bool {
		left = true
		return q.breaker.leave(j.leave, rec.ID, verdict)
	}
	defer func() {
		if !left {
			leave()
		}
	}()

	if completion, ok := d.delivered(j); ok {
		return out, &outcome{Completion: completion}
	}
	sign, err := d.signerFor(j.route)
	if err != nil { // logged; a delivery that cannot be signed is not sent unsigned
		d.release(&j.claim, d.cfg.Now().Add(holdFor))
		return Attempted{Held: true}, nil
	}
	if !deliverable(rec) {
		return out, &outcome{Completion: storage.Completion{State: storage.StateDead, Error: ErrorBodyExpired}}
	}

	began := time.Now()
	answer, result := d.send(ctx, j, sign)
	took := time.Since(began)
	if result == "" { // cancelled
		d.release(&j.claim, rec.NextDue)
		return Attempted{Held: true}, nil
	}
	out.Result = result

	verdict = verdictOf(result, answer.Status)
	if leave() {
		// A failed probe goes behind what is due already: one that its backend
		// never takes must not be every probe. The others keep their place.
		due := rec.NextDue
		if j.leave.round != nil {
			due = d.cfg.Now()
		}
		d.release(&j.claim, due)
		d.cfg.Observer.DeliveryAttempted(rec.Merchant, rec.Kind, result, took)
		d.logAttempt(slog.LevelDebug, "delivery failed while deliveries are held", rec, result, answer.Status, time.Time{})
		out.Held = true
		return out, nil
	}
	return out, &outcome{Completion: d.completion(j, result, &answer), sent: true, took: took}
}

// send makes the attempt. The result is empty when it was cancelled before a
// whole answer came.
func (d *Dispatcher) send(ctx context.Context, j *job, sign *signer) (notify.Response, notify.Result) {
	delivery := newDelivery(j.route, sign, &j.claim, d.cfg.Now())
	limited, cancel := context.WithTimeout(ctx, timeoutOf(j.route))
	defer cancel()
	answer, err := safely(limited, j.route.Deliverer, delivery)

	ended := limited.Err()
	switch {
	case err == nil && (ended == nil || answer.NoRoute || answer.Status >= 200 && answer.Status <= 299):
		return answer, judge(&answer)
	case ended == nil:
		return answer, classify(err, &answer)
	case errors.Is(ended, context.Canceled):
		return answer, ""
	default:
		// A proxy whose request ended makes up a status of its own.
		return answer, notify.ResultTimeout
	}
}

// safely calls the Deliverer and turns its panics into errors. A reverse proxy
// panics with http.ErrAbortHandler when the backend's answer breaks off.
func safely(ctx context.Context, to notify.Deliverer, d *notify.Delivery) (answer notify.Response, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			if errors.Is(p, http.ErrAbortHandler) {
				err = http.ErrAbortHandler
				return
			}
			err = fmt.Errorf("%w: %T", errPanic, p)
		default:
			err = fmt.Errorf("%w: %T", errPanic, p)
		}
	}()
	return to.Deliver(ctx, d)
}

// completion says what a counted attempt makes of its notification.
func (d *Dispatcher) completion(j *job, result notify.Result, answer *notify.Response) storage.Completion {
	rec := &j.claim.Record
	done := storage.Completion{Status: answer.Status, Error: string(result)}
	switch result {
	case notify.ResultSuccess:
		done.State, done.Error = storage.StateDelivered, ""
		if j.route.Ack == notify.AckDelivery {
			done.Answer = answerFor(answer)
		}
	case notify.ResultNoRoute:
		done.State, done.ParkReason = storage.StateParked, storage.ParkNoRoute
		done.ParkDetail = "no route of the deliver block takes it"
		done.Status = 0
	default:
		due, ok := retryAt(j.route, rec, rec.Attempts+1, d.cfg.Now(), d.cfg.Rand(), answer.RetryAfter)
		if ok {
			done.State, done.NextDue = storage.StatePending, due
			d.logAttempt(slog.LevelWarn, "delivery failed", rec, result, answer.Status, due)
		} else {
			done.State = storage.StateDead
		}
	}
	return done
}

// logAttempt writes one line about an attempt.
func (d *Dispatcher) logAttempt(level slog.Level, message string, rec *storage.Record, result notify.Result, status int, next time.Time) {
	ctx := context.Background()
	if !d.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("merchant", rec.Merchant),
		slog.String("id", rec.ID),
		slog.String("kind", rec.Kind),
		slog.Int("attempt", rec.Attempts+1),
		slog.String("result", string(result)),
		slog.Int("status", status),
	}
	if !next.IsZero() {
		attrs = append(attrs, slog.Time("next", next))
	}
	d.cfg.Logger.LogAttrs(ctx, level, message, attrs...)
}
