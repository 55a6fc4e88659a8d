package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// pauseMemo is where the pauses are kept.
	pauseMemo = "delivery/pauses"
	// pauseKept is how long a pause lasts unless somebody ends it: for good.
	pauseKept = 100 * 365 * 24 * time.Hour
	// pauseRead is how long what was read of the store is trusted, so that
	// another gateway on the same store, and another configuration, obey within
	// it.
	pauseRead = time.Second
	// maxPauses bounds how many places are paused at a time.
	maxPauses = 1000
)

// The acts of pausing in the audit log.
const (
	ActPause  = "pause"
	ActResume = "resume"
)

var (
	// ErrPaused is returned when the place is paused already.
	ErrPaused = errors.New("operate: is paused already")
	// ErrNotPaused is returned when there is nothing to resume.
	ErrNotPaused = errors.New("operate: is not paused")
)

// Pause says that nothing is delivered to a place for the time being.
type Pause struct {
	// Place names it, see [PlaceOf].
	Place  string    `json:"route"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// PlaceOf returns the part of a route's id that says whose notifications it
// takes ("*" for every merchant's) and where it delivers them to: it stays the
// same when the route's other options change.
func PlaceOf(route string) string {
	if whose, rest, ok := strings.Cut(route, "/"); ok {
		to, _, _ := strings.Cut(rest, "/")
		return whose + "/" + to
	}
	return route
}

// whose is the merchant of a place, or "*".
func whose(place string) string {
	name, _, _ := strings.Cut(place, "/")
	return name
}

// PauseStore is what pausing needs of a [storage.Store].
type PauseStore interface {
	Memo(ctx context.Context, key string) (storage.Memo, error)
	Change(ctx context.Context, keys storage.Keys, change func(*storage.Rows) error) error
	AppendAudit(ctx context.Context, e storage.AuditEntry) error
}

var _ PauseStore = storage.Store(nil)

// Pauses knows which delivery queues are paused. They are kept in the store, so
// a reload, a restart and another gateway on the same store find them; a change
// takes hold at once here and within a second elsewhere. All methods are safe
// for concurrent use.
type Pauses struct {
	store PauseStore
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	known  bool // list was read at least once
	failed bool // the last read failed, and that was logged
	readAt time.Time
	list   []Pause
}

// NewPauses returns the pauses that a store keeps; it reads nothing yet. now is
// the clock and log gets failures to read.
func NewPauses(store PauseStore, now func() time.Time, log *slog.Logger) *Pauses {
	return &Pauses{store: store, now: now, log: log}
}

// List returns the pauses, the oldest first. It reads the store.
func (p *Pauses) List(ctx context.Context) ([]Pause, error) {
	list, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learn(list)
	return slices.Clone(list), nil
}

// Holds reports whether nothing of the queue may be delivered now. places are
// those of the routes that are configured. A pause holds the queues of its
// place. When its place, or the queue's, is no longer configured, somebody has
// changed where deliveries go meanwhile: then it holds all that it might be
// about, the same merchant's, until it is resumed. While the store cannot be read
// the last answer holds, and before the first one everything is held.
func (p *Pauses) Holds(ctx context.Context, queue string, places []string) bool {
	list, known := p.current(ctx)
	if !known {
		return true
	}
	place := PlaceOf(queue)
	for _, pause := range list {
		switch {
		case pause.Place == place:
			return true
		case slices.Contains(places, place) && slices.Contains(places, pause.Place):
			// Two routes that stand side by side.
		case whose(place) == whose(pause.Place), whose(place) == "*", whose(pause.Place) == "*":
			return true
		}
	}
	return false
}

// current returns the pauses as they were a second ago or later.
func (p *Pauses) current(ctx context.Context) (list []Pause, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known && p.now().Sub(p.readAt).Abs() < pauseRead {
		return p.list, true
	}
	list, err := p.read(ctx)
	if err == nil {
		p.learn(list)
		return list, true
	}
	if !p.failed && ctx.Err() == nil && !errors.Is(err, storage.ErrClosed) {
		p.failed = true
		p.log.Error("reading which deliveries are paused", "error", err)
	}
	return p.list, p.known
}

// learn takes over what the store says. The caller holds mu.
func (p *Pauses) learn(list []Pause) {
	p.list, p.known, p.failed, p.readAt = list, true, false, p.now()
}

func (p *Pauses) read(ctx context.Context) ([]Pause, error) {
	memo, err := p.store.Memo(ctx, pauseMemo)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodePauses(memo.Data)
}

func decodePauses(data []byte) ([]Pause, error) {
	var list []Pause
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("operate: the record of pauses does not read: %w", storage.ErrCorrupt)
	}
	return list, nil
}

// Pause holds deliveries to the place of pause.Place from now on, durably, and
// writes the audit entry first: an entry without its pause is an attempt that
// failed. What is under way is finished. Errors: ErrPaused, and the store's.
func (p *Pauses) Pause(ctx context.Context, pause Pause) error {
	pause.Place, pause.At = PlaceOf(pause.Place), p.now().UTC()
	list, err := p.List(ctx)
	if err != nil {
		return err
	}
	if has(list, pause.Place) {
		return ErrPaused
	}
	if len(list) >= maxPauses {
		return fmt.Errorf("operate: %d places are paused, no more than that", len(list))
	}
	if err := p.audit(ctx, ActPause, pause); err != nil {
		return err
	}
	return p.change(ctx, func(list []Pause) ([]Pause, error) {
		if has(list, pause.Place) {
			return nil, ErrPaused
		}
		return append(list, pause), nil
	})
}

// Resume ends a pause, durably; by and reason go to the audit log.
// Errors: ErrNotPaused, and the store's.
func (p *Pauses) Resume(ctx context.Context, place, by, reason string) error {
	place = PlaceOf(place)
	list, err := p.List(ctx)
	if err != nil {
		return err
	}
	if !has(list, place) {
		return ErrNotPaused
	}
	if err := p.audit(ctx, ActResume, Pause{Place: place, By: by, Reason: reason, At: p.now().UTC()}); err != nil {
		return err
	}
	return p.change(ctx, func(list []Pause) ([]Pause, error) {
		if !has(list, place) {
			return nil, ErrNotPaused
		}
		return slices.DeleteFunc(list, func(one Pause) bool { return one.Place == place }), nil
	})
}

func has(list []Pause, place string) bool {
	return slices.ContainsFunc(list, func(one Pause) bool { return one.Place == place })
}

func (p *Pauses) audit(ctx context.Context, act string, pause Pause) error {
	return p.store.AppendAudit(ctx, storage.AuditEntry{
		At: pause.At, By: pause.By, Act: act, Object: pause.Place, Reason: pause.Reason,
	})
}

// change edits the record of pauses in one step.
func (p *Pauses) change(ctx context.Context, edit func([]Pause) ([]Pause, error)) error {
	var after []Pause
	expires := p.now().Add(pauseKept)
	err := p.store.Change(ctx, storage.Keys{Memos: []string{pauseMemo}}, func(rows *storage.Rows) error {
		var list []Pause
		if memo := rows.Memos[pauseMemo]; memo != nil {
			var err error
			if list, err = decodePauses(memo.Data); err != nil {
				return err
			}
		}
		var err error
		if after, err = edit(list); err != nil {
			return err
		}
		if len(after) == 0 {
			delete(rows.Memos, pauseMemo)
			return nil
		}
		data, err := json.Marshal(after)
		if err != nil {
			return err
		}
		if rows.Memos == nil {
			rows.Memos = make(map[string]*storage.Memo, 1)
		}
		rows.Memos[pauseMemo] = &storage.Memo{Key: pauseMemo, Data: data, Expires: expires}
		return nil
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learn(after)
	return nil
}
