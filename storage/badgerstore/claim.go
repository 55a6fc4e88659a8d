package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Claim leases due notifications. It writes nothing to the disk.
func (s *Store) Claim(_ context.Context, queue string, terms storage.ClaimTerms, limit int) ([]storage.Claim, error) {
	if err := checkTerms(terms); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := s.sick.Load(); err != nil {
		return nil, *err // what is delivered now could not be marked
	}
	held, sn, err := s.lease(queue, terms, limit)
	if len(held) == 0 {
		return nil, err
	}
	defer sn.release()
	claims := make([]storage.Claim, 0, len(held))
	for _, h := range held {
		n, rerr := s.whole(sn, h.id)
		if rerr == nil && n == nil {
			rerr = corrupt([]byte{kDue}, "notification is missing")
		}
		if rerr != nil {
			// It stays leased, so that the queue goes on without it; the next
			// lease reports it again.
			s.log.Error("a notification that is due cannot be read", "id", h.id, "queue", queue, "error", rerr)
			err = errors.Join(err, fmt.Errorf("notification %s: %w", h.id, rerr))
			continue
		}
		claims = append(claims, storage.Claim{
			Record: n.Record, Fence: h.fence, Owner: terms.Owner,
			LeaseUntil: fromNanos(h.until), Replay: n.Source == storage.SourceReplay,
		})
	}
	if len(claims) > 0 {
		return claims, nil
	}
	return nil, err
}

type held struct {
	id    string
	fence uint64
	until int64
}

// lease takes entries out of the queue, and the snapshot that has them.
func (s *Store) lease(queue string, terms storage.ClaimTerms, limit int) (list []held, sn *snapshot, err error) {
	m := &s.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending[queue] == 0 || limit <= 0 {
		return nil, nil, nil
	}
	now := nanos(s.now())
	m.expire(now)
	q := m.queue(queue)
	for len(list) < limit {
		e, err := s.top(q)
		if err != nil {
			return nil, nil, err
		}
		if e == nil || e.due > now {
			break
		}
		if _, busy := m.busy[e.id]; busy {
			heapRemove(&q.heap, e.place, byDue, setPlace)
			continue
		}
		m.grant(e, terms, now)
		list = append(list, held{e.id, e.fence, e.until})
	}
	if len(list) == 0 {
		return nil, nil, nil
	}
	return list, s.read(), nil
}

// hold checks the fence of a claim and keeps the notification from being claimed
// while an operation ends it. It is the last thing in the operation that fails.
func (t *tx) hold(id string, fence uint64) error {
	m := &t.c.s.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.holds(id, fence) {
		return storage.ErrStale
	}
	m.busy[id] = struct{}{}
	return nil
}

func (m *memory) holds(id string, fence uint64) bool {
	e := m.entries[id]
	_, busy := m.busy[id]
	return e != nil && fence != 0 && e.fence == fence && !busy
}

// Complete records what became of a claimed attempt.
func (s *Store) Complete(ctx context.Context, id string, fence uint64, done storage.Completion) error {
	switch done.State {
	case storage.StateDelivered, storage.StatePending, storage.StateDead, storage.StateParked:
	case storage.StateDismissed, storage.StateSuperseded:
		return storage.ErrState
	default:
		return storage.ErrState
	}
	if len(done.Answer) > storage.MaxRecord || len(done.ParkDetail)+len(done.Error) > storage.MaxRecord/2 {
		return errTooLarge
	}
	return s.guard(ctx, func(t *tx) error {
		n, err := loadNote(t, id)
		if err != nil {
			return err
		}
		if n == nil {
			return storage.ErrNotFound
		}
		m := &s.mem
		m.mu.Lock()
		ours := m.holds(id, fence)
		m.mu.Unlock()
		if !ours || n.State != storage.StatePending {
			return storage.ErrStale
		}
		var next *note
		if done.State == storage.StatePending {
			t.del(indexKey(kDue, n.Queue(), nanos(n.NextDue), n.qseq))
		} else if next, err = t.dequeue(n); err != nil {
			return err
		}
		n.Attempts++
		n.LastStatus, n.LastError = done.Status, done.Error
		if done.Answer != nil {
			n.hasAnswer = true
			t.put(key1(kAnswer, id), append(newRecord(len(done.Answer)), done.Answer...))
		}
		if done.State == storage.StatePending {
			n.NextDue = done.NextDue
			t.putText(indexKey(kDue, n.Queue(), nanos(n.NextDue), n.qseq), id)
		} else {
			t.leaveState(n)
			n.State, n.NextDue = done.State, time.Time{}
			switch done.State {
			case storage.StateDelivered:
				n.DeliveredAt = t.now()
			case storage.StateParked:
				n.ParkReason, n.ParkDetail = done.ParkReason, done.ParkDetail
			case storage.StateDead, storage.StatePending, storage.StateDismissed, storage.StateSuperseded:
			}
			t.enterState(n)
		}
		t.put(key1(kNote, id), n.encode())
		if err := t.hold(id, fence); err != nil {
			return err
		}
		if done.State == storage.StatePending {
			t.pushes(n)
			return nil
		}
		t.then(effect{kind: effectDrop, id: id})
		if next != nil {
			t.pushes(next)
		}
		return nil
	})
}

// dequeue takes a head out of its queue and returns the next of its group, which
// is the head now; nil when nobody waits. Dismissed ones are passed over.
func (t *tx) dequeue(n *note) (*note, error) {
	t.del(indexKey(kDue, n.Queue(), nanos(n.NextDue), n.qseq))
	if n.Group == "" {
		return nil, nil
	}
	gkey := key2(kGroup, n.Merchant, n.Group)
	g, found, err := loadGroup(t, n.Merchant, n.Group)
	if err != nil {
		return nil, err
	}
	if !found || g.head != n.ID {
		return nil, corrupt(gkey, "head of the group does not fit")
	}
	for at := n.ID; ; {
		if at == g.tail {
			t.del(gkey)
			return nil, nil
		}
		lkey := key1(kLink, at)
		found, err := t.get(lkey, func(p []byte) error {
			at = string(p)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, corrupt(lkey, "link is missing")
		}
		t.del(lkey)
		next, err := loadNote(t, at)
		if err != nil {
			return nil, err
		}
		if next == nil {
			return nil, corrupt(lkey, "linked notification is missing")
		}
		if next.State != storage.StatePending {
			continue
		}
		g.head = at
		t.put(gkey, g.encode())
		t.putText(indexKey(kDue, next.Queue(), nanos(next.NextDue), next.qseq), at)
		return next, nil
	}
}

// Release gives a claim back untouched. The due time is kept in memory, unless
// very many are waiting so.
func (s *Store) Release(ctx context.Context, id string, fence uint64, due time.Time) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	m := &s.mem
	m.mu.Lock()
	if !m.holds(id, fence) {
		m.mu.Unlock()
		sn := s.read()
		defer sn.release()
		found, err := sn.get(key1(kNote, id), func([]byte) error { return nil })
		if err == nil && !found {
			return storage.ErrNotFound
		}
		if err == nil {
			return storage.ErrStale
		}
		return err
	}
	e := m.entries[id]
	at := min(e.disk, nanos(s.now()))
	if !due.IsZero() {
		at = nanos(due)
	}
	if at != e.disk && e.due == e.disk && m.floating >= floatingBound && s.writable() == nil {
		m.mu.Unlock()
		return s.postpone(ctx, id, fence, due)
	}
	defer m.mu.Unlock()
	m.unlease(e)
	if e.place >= 0 {
		heapRemove(&e.q.heap, e.place, byDue, setPlace)
	}
	if (e.due != e.disk) != (at != e.disk) {
		if at != e.disk {
			m.floating++
		} else {
			m.floating--
		}
	}
	e.due, e.fence, e.owner = at, 0, ""
	m.insert(e)
	m.signal()
	return nil
}

// postpone is Release with a durable due time.
func (s *Store) postpone(ctx context.Context, id string, fence uint64, due time.Time) error {
	return s.do(ctx, func(t *tx) error {
		n, err := loadNote(t, id)
		if err != nil {
			return err
		}
		if n == nil {
			return storage.ErrNotFound
		}
		if n.State != storage.StatePending {
			return storage.ErrStale
		}
		t.del(indexKey(kDue, n.Queue(), nanos(n.NextDue), n.qseq))
		n.NextDue = due
		t.putText(indexKey(kDue, n.Queue(), nanos(n.NextDue), n.qseq), id)
		t.put(key1(kNote, id), n.encode())
		if err := t.hold(id, fence); err != nil {
			return err
		}
		t.pushes(n)
		return nil
	})
}
