package guard

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Window is how often something may happen within a span of time. It is a rule
// only; what happened is in [Events], which the caller keeps.
type Window struct {
	// Limit is how many events fit into any span.
	Limit int
	// Span is how long an event counts.
	Span time.Duration
	// Grain is how exactly the time of events is remembered: those that lie in one
	// grain count for as long as the last of them. Zero: to the nanosecond.
	Grain time.Duration
}

// The windows of the rate rules.
var (
	// FailureWindow is that of [RefundFailures].
	FailureWindow = Window{Limit: MaxFailures, Span: FailureSpan}
	// OldWindow is that of [RefundOldOrders]; some sixty pairs tell all of it.
	OldWindow = Window{Limit: MaxOldRefunds, Span: OldSpan, Grain: time.Second}
)

// Events are the events of a window that may still count, oldest first, as pairs:
// a time in nanoseconds since 1970, and how many happened then. nil: none.
type Events [][2]int64

// ParseEvents reads what Encode wrote.
func ParseEvents(data []byte) (Events, error) {
	var e Events
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("guard: events: %w", err)
	}
	for i := range e {
		if e[i][1] <= 0 || i > 0 && e[i][0] < e[i-1][0] {
			return nil, fmt.Errorf("guard: events: pair %d of %d is not one", i, len(e))
		}
	}
	return e, nil
}

// Encode writes the events as text.
func (e Events) Encode() []byte {
	data, err := json.Marshal(e)
	if err != nil {
		panic("guard: integers that cannot be written: " + err.Error())
	}
	return data
}

// counts reports whether an event of the time counts at now. One that lies more
// than a span ahead is of a clock that was set back since, and does not.
func (w Window) counts(at, now int64) bool { return at > now-int64(w.Span) && at <= now+int64(w.Span) }

// Wait returns how long the window stays full, zero when it is not.
func (w Window) Wait(e Events, now time.Time) time.Duration {
	at, n := now.UnixNano(), int64(0)
	for _, event := range slices.Backward(e) {
		if !w.counts(event[0], at) {
			continue
		}
		if n += event[1]; n >= int64(w.Limit) {
			return time.Duration(event[0] - at + int64(w.Span))
		}
	}
	return 0
}

// Add returns the events with one more at now, whether or not the window is full,
// and without those that can change no answer any more. e stays as it is.
func (w Window) Add(e Events, now time.Time) Events {
	at := now.UnixNano()
	grain := max(int64(w.Grain), 1)
	kept := make(Events, 0, len(e)+1)
	for _, event := range e {
		if w.counts(event[0], at) {
			kept = append(kept, event)
		}
	}
	if last := len(kept) - 1; last >= 0 && kept[last][0]/grain >= at/grain {
		kept[last][0] = max(kept[last][0], at) // of the same grain, or of a clock that is ahead
		kept[last][1]++
	} else {
		kept = append(kept, [2]int64{at, 1})
	}
	first, n := len(kept), int64(0)
	for first > 0 && n < int64(w.Limit) {
		first--
		n += kept[first][1]
	}
	return kept[first:]
}

// Remove returns the events without one that was added at the time, if that still
// counts at now. e stays as it is.
func (w Window) Remove(e Events, at, now time.Time) Events {
	if !w.counts(at.UnixNano(), now.UnixNano()) {
		return e
	}
	kept := slices.Clone(e)
	for i := range kept {
		if kept[i][0] < at.UnixNano() {
			continue // Add moves an event on, never back
		}
		if kept[i][1]--; kept[i][1] == 0 {
			kept = slices.Delete(kept, i, i+1)
		}
		break
	}
	return kept
}

// Until returns when none of the events counts any more; the zero time for none.
func (w Window) Until(e Events) time.Time {
	if len(e) == 0 {
		return time.Time{}
	}
	return time.Unix(0, e[len(e)-1][0]).Add(w.Span)
}
