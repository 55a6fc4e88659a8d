package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/operate"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// progressEvery is how often a long act says how far it has come.
const progressEvery = 500 * time.Millisecond

// replayRequest is the body of a replay of a range.
type replayRequest struct {
	From     string        `json:"from"` // RFC 3339, included
	To       string        `json:"to"`   // RFC 3339, not included; empty: now
	Merchant string        `json:"merchant"`
	Kind     string        `json:"kind"`
	State    storage.State `json:"state"`
	DryRun   bool          `json:"dry_run"` // count only
	decision
}

func (q *replayRequest) timeRange(now time.Time) (operate.Range, error) {
	r := operate.Range{To: now, Merchant: q.Merchant, Kind: q.Kind, State: q.State}
	var err error
	if r.From, err = time.Parse(time.RFC3339, q.From); err != nil {
		return r, badRequest("from: a time like 2026-01-01T08:00:00+08:00")
	}
	if q.To != "" {
		if r.To, err = time.Parse(time.RFC3339, q.To); err != nil {
			return r, badRequest("to: a time like 2026-01-01T08:00:00+08:00, or nothing for now")
		}
	}
	if !r.From.Before(r.To) {
		return r, badRequest("from must be before to")
	}
	switch q.State {
	case "", storage.StateDelivered, storage.StateDead, storage.StateParked:
	default:
		return r, badRequest("state: delivered, dead or parked, or nothing for all three")
	}
	return r, nil
}

// replayProgress is a line of the answer. The last one has Finished or Error.
type replayProgress struct {
	operate.Progress
	DryRun   bool   `json:"dry_run,omitempty"`
	Finished bool   `json:"finished"`
	Error    string `json:"error,omitempty"`
}

// adminReplay replays a range. It answers with a line of JSON now and then, and
// ends when the client goes away; what it has done by then stays done.
func adminReplay(w http.ResponseWriter, r *http.Request) error {
	req := new(replayRequest)
	if err := readBody(r, req, `{"from": "2026-01-01T00:00:00+08:00", "to": "…", "by": "who", "reason": "why"}`); err != nil {
		return err
	}
	selected, err := req.timeRange(time.Now())
	if err != nil {
		return err
	}
	if !req.DryRun {
		if err := req.check(); err != nil {
			return err
		}
	}
	app, g, err := runningApp()
	if err != nil {
		return err
	}
	// The store alone is held: a reload need not wait for this, and this goes on
	// under the configuration after it.
	defer g.store.users.add()()

	rc := http.NewResponseController(w)
	// The admin endpoint's read timeout would end the request's context.
	if err := rc.SetReadDeadline(time.Time{}); err != nil {
		app.log.Debug("no read deadline", zap.Error(err))
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	said := time.Now()
	say := func(line replayProgress) {
		said, line.DryRun = time.Now(), req.DryRun
		if lines.Encode(line) == nil {
			_ = rc.Flush() // a client that is gone ends the context
		}
	}
	progress, err := operate.Replay(r.Context(), g.store, selected, req.By, req.Reason, time.Now, req.DryRun,
		func(p operate.Progress) {
			if time.Since(said) >= progressEvery {
				say(replayProgress{Progress: p})
			}
		},
		func(rec *storage.Record) { app.changed(rec, storage.ActReplay) })
	last := replayProgress{Progress: progress, Finished: err == nil}
	switch {
	case errors.Is(err, operate.ErrTooMany), errors.Is(err, context.Canceled):
		last.Error = err.Error()
	case err != nil:
		app.log.Error("replaying a range", zap.Error(err))
		last.Error = err.Error()
	}
	say(last)
	return nil
}

// changed tells of an operator's decision about a notification.
func (a *App) changed(rec *storage.Record, act storage.Act) {
	a.observer.Changed(notify.Change{
		Merchant: rec.Merchant, ID: rec.ID, Kind: rec.Kind, EventType: rec.EventType,
		State: rec.State, Reason: string(act), Attempt: rec.Attempts,
	})
}
