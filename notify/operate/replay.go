package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// MaxReplay bounds how many notifications one replay of a range takes.
const MaxReplay = 100_000

// ActReplayRange is the act of a replay of a range in the audit log; each
// notification's own entry says [storage.ActReplay].
const ActReplayRange = "replay_range"

// replayPage is how many notifications are listed at a time.
const replayPage = 1000

var (
	// ErrRange is returned when a range is no range.
	ErrRange = errors.New("operate: from must be before to")
	// ErrTooMany is returned when a range holds more than [MaxReplay].
	ErrTooMany = fmt.Errorf("operate: more than %d notifications; take a shorter range", MaxReplay)
)

// ReplayStore is what a replay needs of a [storage.Store].
type ReplayStore interface {
	Notifications(ctx context.Context, f storage.Filter) (storage.Page, error)
	Decide(ctx context.Context, d storage.Decision) (storage.Record, error)
	AppendAudit(ctx context.Context, e storage.AuditEntry) error
}

var _ ReplayStore = storage.Store(nil)

// Range says which notifications are to be sent to the backend again: those
// received from From (included) to To (not included) that can be replayed, that
// is delivered, dead, or parked because no route took them. Empty fields do not
// narrow.
type Range struct {
	From, To time.Time
	Merchant string
	Kind     string
	// State narrows to delivered, dead or parked ones.
	State storage.State
}

// Progress is how far a replay has come.
type Progress struct {
	// Found is how many there are to replay; it grows while they are looked for.
	Found int `json:"found"`
	// Replayed are pending again.
	Replayed int `json:"replayed"`
	// Skipped cannot be replayed any more: their body is gone by retention, or
	// somebody else has decided about them meanwhile.
	Skipped int `json:"skipped"`
}

// Replay makes every notification of the range pending again, in the order in
// which they were received, each in a step of its own with an audit entry; one
// more entry before the first says which range. Nothing is written with dry.
// report, when it is not nil, is called after each step; replayed with each
// notification. On an error, or when ctx ends, what was done stays done.
// Errors: ErrRange, ErrTooMany, and the store's.
func Replay(ctx context.Context, store ReplayStore, r Range, by, reason string, now func() time.Time, dry bool,
	report func(Progress), replayed func(*storage.Record),
) (Progress, error) {
	var p Progress
	if report == nil {
		report = func(Progress) {}
	}
	if !r.From.Before(r.To) {
		return p, ErrRange
	}
	ids, err := find(ctx, store, r, func(n int) {
		p.Found = n
		report(p)
	})
	if err != nil || dry || len(ids) == 0 {
		return p, err
	}
	if err := store.AppendAudit(ctx, storage.AuditEntry{
		At: now(), By: by, Act: ActReplayRange, Object: r.String(), Reason: reason,
	}); err != nil {
		return p, err
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return p, err
		}
		rec, err := store.Decide(ctx, storage.Decision{ID: id, Act: storage.ActReplay, By: by, Reason: reason, At: now()})
		switch {
		case err == nil:
			p.Replayed++
			if replayed != nil {
				replayed(&rec)
			}
		case errors.Is(err, storage.ErrState), errors.Is(err, storage.ErrNotFound):
			p.Skipped++
		default:
			return p, err
		}
		report(p)
	}
	return p, nil
}

// find lists the ids of the range, the oldest first.
func find(ctx context.Context, store ReplayStore, r Range, found func(int)) ([]string, error) {
	// Merchant and kind are looked at here: a listing that they narrow says
	// nothing about how far back it has come.
	f := storage.Filter{Limit: replayPage}
	if r.State != storage.StateDelivered {
		f.State = r.State
	}
	var ids []string
	for {
		page, err := store.Notifications(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Records {
			rec := &page.Records[i]
			if rec.ReceivedAt.Before(r.From) {
				page.Cursor = ""
				break
			}
			if r.takes(rec) {
				if len(ids) == MaxReplay {
					return nil, ErrTooMany
				}
				ids = append(ids, rec.ID)
			}
		}
		found(len(ids))
		if page.Cursor == "" {
			slices.Reverse(ids)
			return ids, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f.After = page.Cursor
	}
}

func (r Range) takes(rec *storage.Record) bool {
	if !rec.ReceivedAt.Before(r.To) || rec.BodyExpired ||
		r.Merchant != "" && rec.Merchant != r.Merchant || r.Kind != "" && rec.Kind != r.Kind ||
		r.State != "" && rec.State != r.State {
		return false
	}
	switch rec.State {
	case storage.StateDelivered, storage.StateDead:
		return true
	case storage.StateParked:
		return rec.ParkReason == storage.ParkNoRoute
	case storage.StatePending, storage.StateDismissed, storage.StateSuperseded:
		return false
	}
	return false
}

// String describes the range, for the audit log.
func (r Range) String() string {
	text := r.From.UTC().Format(time.RFC3339) + "/" + r.To.UTC().Format(time.RFC3339)
	for _, part := range [][2]string{{"merchant", r.Merchant}, {"kind", r.Kind}, {"state", string(r.State)}} {
		if part[1] != "" {
			text += " " + part[0] + "=" + part[1]
		}
	}
	return text
}
