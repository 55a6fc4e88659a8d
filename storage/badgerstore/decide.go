package badgerstore

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Decide carries out an act and writes its audit entry in one step.
func (s *Store) Decide(ctx context.Context, d storage.Decision) (storage.Record, error) {
	switch d.Act {
	case storage.ActRelease, storage.ActDismiss, storage.ActReplay:
	default:
		return storage.Record{}, fmt.Errorf("badgerstore: unknown act: %w", storage.ErrState)
	}
	if d.At.IsZero() {
		d.At = s.now()
	}
	var out *note
	taken := false
	err := s.guard(ctx, func(t *tx) error {
		n, err := loadNote(t, d.ID)
		if err != nil {
			return err
		}
		if n == nil {
			return storage.ErrNotFound
		}
		if err := loadBodies(t, n); err != nil {
			return err
		}
		switch d.Act {
		case storage.ActRelease:
			out, taken, err = t.release(n, d)
		case storage.ActReplay:
			out, err = t.replay(n)
		case storage.ActDismiss:
			out, err = t.dismiss(n)
		}
		if err != nil || taken {
			return err
		}
		return t.audit(storage.AuditEntry{At: d.At, By: d.By, Act: string(d.Act), Object: d.ID, Reason: d.Reason})
	})
	if err == nil && taken {
		err = storage.ErrState
	}
	if err != nil {
		return storage.Record{}, err
	}
	s.mem.annotate(out)
	return out.Record, nil
}

// release makes a parked notification pending. taken is true when it was parked
// before acceptance and its business key has been taken since: it is superseded.
func (t *tx) release(n *note, d storage.Decision) (out *note, taken bool, err error) {
	if n.State != storage.StateParked {
		return nil, false, storage.ErrState
	}
	if n.underID == "" {
		if d.AmountCheck != "" {
			n.AmountCheck = d.AmountCheck
		}
		return n, false, t.again(n)
	}
	if taken, err = t.has(key1(kNote, n.underID)); err != nil {
		return nil, false, err
	}
	if n.BodyExpired && !taken {
		return nil, false, storage.ErrState
	}
	if _, err := t.supersede(n.underID); err != nil || taken {
		return nil, taken, err
	}
	released := *n
	released.ID, released.underID = n.underID, ""
	released.Attempts, released.NextDue = 0, t.now()
	if d.AmountCheck != "" {
		released.AmountCheck = d.AmountCheck
	}
	head, err := t.insert(&released, encodeBody(&released.Notification))
	if err != nil {
		return nil, false, err
	}
	if head {
		t.pushes(&released)
	}
	return &released, false, nil
}

// again puts an accepted notification that is not pending at the end of its
// group's queue, with its attempts counted anew.
func (t *tx) again(n *note) error {
	if n.BodyExpired {
		return fmt.Errorf("badgerstore: retention has removed the body: %w", storage.ErrState)
	}
	t.leaveState(n)
	n.Attempts, n.NextDue = 0, t.now()
	head, err := t.enqueue(n)
	if err == nil && head {
		t.pushes(n)
	}
	return err
}

func (t *tx) replay(n *note) (*note, error) {
	switch n.State {
	case storage.StateDelivered, storage.StateDead:
	case storage.StateParked:
		if n.underID != "" || n.ParkReason != storage.ParkNoRoute {
			return nil, storage.ErrState
		}
	case storage.StatePending, storage.StateDismissed, storage.StateSuperseded:
		return nil, storage.ErrState
	}
	n.Source = storage.SourceReplay
	return n, t.again(n)
}

func (t *tx) dismiss(n *note) (*note, error) {
	switch n.State {
	case storage.StateParked, storage.StateDead:
	case storage.StatePending:
		return n, t.dismissPending(n)
	case storage.StateDelivered, storage.StateDismissed, storage.StateSuperseded:
		return nil, storage.ErrState
	}
	if n.underID != "" {
		if err := t.forgetParked(n); err != nil {
			return nil, err
		}
		t.unpark(n, storage.StateDismissed)
		return n, nil
	}
	t.leaveState(n)
	n.State = storage.StateDismissed
	t.enterState(n)
	t.put(key1(kNote, n.ID), n.encode())
	return n, nil
}

// forgetParked takes one id out of the list of what is parked under its key.
func (t *tx) forgetParked(n *note) error {
	key := key1(kParked, n.underID)
	var rest []string
	if _, err := t.get(key, func(p []byte) error {
		all, err := decodeTexts(key, p)
		for _, id := range all {
			if id != n.ID {
				rest = append(rest, id)
			}
		}
		return err
	}); err != nil {
		return err
	}
	if len(rest) == 0 {
		t.del(key)
	} else {
		t.put(key, encodeTexts(rest))
	}
	return nil
}

// dismissPending ends a notification that waits and that nobody holds. In the
// middle of its group it keeps its place there and is passed over.
func (t *tx) dismissPending(n *note) error {
	head := true
	if n.Group != "" {
		g, found, err := loadGroup(t, n.Merchant, n.Group)
		if err != nil {
			return err
		}
		if !found {
			return corrupt(key2(kGroup, n.Merchant, n.Group), "missing")
		}
		head = g.head == n.ID
	}
	var next *note
	if head {
		m := &t.c.s.mem
		m.mu.Lock()
		leased := m.leasedNow(n.ID, nanos(t.now()))
		_, busy := m.busy[n.ID]
		if !leased && !busy {
			m.busy[n.ID] = struct{}{}
		}
		m.mu.Unlock()
		if leased || busy {
			return storage.ErrState
		}
		t.then(effect{kind: effectDrop, id: n.ID})
		var err error
		if next, err = t.dequeue(n); err != nil {
			m.mu.Lock()
			delete(m.busy, n.ID)
			m.mu.Unlock()
			return err
		}
	}
	t.leaveState(n)
	n.State, n.NextDue = storage.StateDismissed, time.Time{}
	t.enterState(n)
	t.put(key1(kNote, n.ID), n.encode())
	if next != nil {
		t.pushes(next)
	}
	return nil
}
