package deliver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// storeWait bounds one call that ends a claim.
	storeWait = 10 * time.Second
	// completeBackoff is the first wait after a completion failed; it doubles.
	completeBackoff    = 50 * time.Millisecond
	completeBackoffMax = 2 * time.Second
	// giveUpBefore the lease ends, recording is left to whoever claims next.
	giveUpBefore = time.Second
	// maxUnrecorded bounds what is remembered of successes that the store would
	// not take: some bytes each.
	maxUnrecorded = 10_000
)

// recordOutcome says where an outcome stands.
type recordOutcome int

const (
	// recordTaken: the store has it, durably.
	recordTaken recordOutcome = iota + 1
	// recordStale: the claim was no longer ours, nothing was written.
	recordStale
	// recordUnknown: the store has not taken it (yet).
	recordUnknown
)

// record ends the claim with its outcome and completes out. A store that fails
// (its volume is full, it is down) is asked again until the lease is nearly over,
// in the background if so wished: giving up early would mean sending again what
// was delivered.
func (d *Dispatcher) record(j *job, q *queue, done *outcome, out *Attempted, background bool) {
	rec := &j.claim.Record
	taken := recordUnknown
	err := d.complete(j, done.Completion)
	switch {
	case err == nil || final(err):
		taken = d.recorded(j, done.Completion, err)
	default:
		d.cfg.Logger.Warn("recording a delivery's outcome failed, trying again",
			"merchant", rec.Merchant, "id", rec.ID, "state", string(done.State), "error", err)
		if done.State == storage.StateDelivered {
			d.remember(rec.ID, done.Completion)
		}
		if !background {
			taken = d.insist(j, done.Completion)
			break
		}
		d.wg.Add(1) // Attempt is counted: never the first
		go func() {
			defer d.wg.Done()
			defer d.recoverIn("completion")
			d.insist(j, done.Completion)
			d.kick(rec.Queue())
		}()
	}

	switch taken {
	case recordTaken:
		if done.State == storage.StateDelivered {
			out.Success, out.Answer = true, done.Answer
		} else if done.State == storage.StatePending {
			q.signal() // the loop's next due time is another
		}
	case recordStale:
		out.Result = notify.ResultStale
	case recordUnknown:
	}
	if done.sent {
		d.cfg.Observer.DeliveryAttempted(rec.Merchant, rec.Kind, out.Result, done.took)
	}
}

// recordLater records in a goroutine of its own, so that a worker goes on while
// the store syncs, and completions share a sync. A store that is slower than the
// backend slows the workers down: only so many completions are under way.
func (d *Dispatcher) recordLater(j *job, q *queue, done *outcome, out Attempted) {
	d.completing <- struct{}{}
	d.wg.Add(1) // the worker is counted: never the first
	go func() {
		defer d.wg.Done()
		defer func() { <-d.completing }()
		defer d.recoverIn("completion")
		d.record(j, q, done, &out, false)
	}()
}

// insist completes with growing pauses until the lease is nearly over or the
// dispatcher gives up.
func (d *Dispatcher) insist(j *job, done storage.Completion) recordOutcome {
	// From here on the store may have written what it would not vouch for.
	pause := completeBackoff
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-d.base.Done():
			d.abandoned(j, done)
			return recordUnknown
		}
		err := d.complete(j, done)
		if final(err) && d.written(j, done) {
			err = nil
		}
		if err == nil || final(err) {
			return d.recorded(j, done, err)
		}
		if d.cfg.Now().Add(pause).After(j.until.Add(-giveUpBefore)) {
			d.abandoned(j, done)
			return recordUnknown
		}
		pause = min(2*pause, completeBackoffMax)
		timer.Reset(pause)
	}
}

// written reports whether the outcome stands although the store answered an
// earlier try with an error, as a database does whose answer to COMMIT got lost.
func (d *Dispatcher) written(j *job, done storage.Completion) bool {
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	rec, err := d.cfg.Store.Notification(ctx, j.claim.Record.ID)
	return err == nil && rec.State == done.State && rec.Attempts == j.claim.Record.Attempts+1
}

// complete asks the store once. A delivery that was made is recorded even if
// everybody who waited for it has gone.
func (d *Dispatcher) complete(j *job, done storage.Completion) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	return d.cfg.Store.Complete(ctx, j.claim.Record.ID, j.claim.Fence, done)
}

// final reports whether asking again is pointless.
func final(err error) bool {
	return errors.Is(err, storage.ErrStale) || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrState)
}

// recorded tells of an outcome that stands, or that came too late (err).
func (d *Dispatcher) recorded(j *job, done storage.Completion, err error) recordOutcome {
	rec := &j.claim.Record
	d.forget(rec.ID)
	if err != nil {
		d.cfg.Logger.Warn("a delivery ended after its claim was lost",
			"merchant", rec.Merchant, "id", rec.ID, "state", string(done.State), "error", err)
		return recordStale
	}
	change := notify.Change{
		Merchant: rec.Merchant, ID: rec.ID, Kind: rec.Kind, EventType: rec.EventType,
		State: done.State, Reason: done.Error, Attempt: rec.Attempts + 1,
	}
	switch done.State {
	case storage.StateDelivered:
		d.logAttempt(slog.LevelDebug, "notification delivered", rec, notify.ResultSuccess, done.Status, time.Time{})
	case storage.StateDead:
		d.logAttempt(slog.LevelError, "notification is dead: every attempt failed", rec, notify.Result(done.Error), done.Status, time.Time{})
	case storage.StateParked:
		change.Reason = string(done.ParkReason)
		d.logAttempt(slog.LevelError, "notification is parked: no route takes it", rec, notify.ResultNoRoute, 0, time.Time{})
	case storage.StatePending, storage.StateDismissed, storage.StateSuperseded:
		return recordTaken
	}
	d.cfg.Observer.Changed(change)
	return recordTaken
}

// abandoned says that an outcome could not be recorded. A success stays
// remembered, and is recorded when this dispatcher claims the notification next.
func (d *Dispatcher) abandoned(j *job, done storage.Completion) {
	d.cfg.Logger.Error("a delivery's outcome is not recorded",
		"merchant", j.claim.Record.Merchant, "id", j.claim.Record.ID, "state", string(done.State))
}

// release gives a claim back, due again at due (zero: at once).
func (d *Dispatcher) release(claim *storage.Claim, due time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	if err := d.cfg.Store.Release(ctx, claim.Record.ID, claim.Fence, due); err != nil {
		d.cfg.Logger.Debug("giving back a claim failed, its lease has to run out",
			"merchant", claim.Record.Merchant, "id", claim.Record.ID, "error", err)
	}
}

// remember keeps a success that is not recorded.
func (d *Dispatcher) remember(id string, done storage.Completion) {
	d.unrecordedMu.Lock()
	defer d.unrecordedMu.Unlock()
	if len(d.unrecorded) < maxUnrecorded {
		d.unrecorded[id] = done
	}
}

func (d *Dispatcher) forget(id string) {
	d.unrecordedMu.Lock()
	defer d.unrecordedMu.Unlock()
	delete(d.unrecorded, id)
}

// delivered returns the success of an earlier claim that could not be recorded.
// An operator's replay is a wish to send again: it wins.
func (d *Dispatcher) delivered(j *job) (storage.Completion, bool) {
	d.unrecordedMu.Lock()
	defer d.unrecordedMu.Unlock()
	id := j.claim.Record.ID
	done, ok := d.unrecorded[id]
	if ok && j.claim.Replay {
		delete(d.unrecorded, id)
		return storage.Completion{}, false
	}
	return done, ok
}
