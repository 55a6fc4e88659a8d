package guard

import (
	"sync"
	"time"
)

// Window counts what happens within a span of time, up to a limit. It lives in
// memory: a restart empties it, which for spans of a second and a minute gives
// away at most one span. Safe for concurrent use.
type Window struct {
	mu   sync.Mutex
	span time.Duration
	at   []time.Time // a ring of the newest events; zero: none yet
	next int         // the oldest of them
}

// NewWindow makes a window that holds limit events in span.
func NewWindow(limit int, span time.Duration) *Window {
	return &Window{span: span, at: make([]time.Time, limit)}
}

// Wait returns how long the window stays full, zero when it is not.
func (w *Window) Wait(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wait(now)
}

func (w *Window) wait(now time.Time) time.Duration {
	if oldest := w.at[w.next]; !oldest.IsZero() {
		return max(oldest.Add(w.span).Sub(now), 0)
	}
	return 0
}

// Add notes an event, whether or not the window is full.
func (w *Window) Add(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(now)
}

func (w *Window) add(now time.Time) {
	w.at[w.next] = now
	w.next = (w.next + 1) % len(w.at)
}

// Take notes an event if the window is not full, and returns zero; otherwise how
// long it stays full. No two callers take one place.
func (w *Window) Take(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait := w.wait(now)
	if wait == 0 {
		w.add(now)
	}
	return wait
}
