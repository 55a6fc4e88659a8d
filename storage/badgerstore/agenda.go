package badgerstore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// workRecord is work as stored, with its number in the order of due times.
type workRecord struct {
	storage.Work
	seq uint64
}

func (w *workRecord) encode() []byte {
	b := appendFixed64(newRecord(len(w.Payload)+64), w.seq)
	b = appendNanos(b, nanos(w.Due))
	b = binary.AppendUvarint(b, uint64(w.Attempt))
	b = appendText(appendText(appendText(b, w.ID), w.Kind), w.Merchant)
	return appendText(b, string(w.Payload))
}

func (w *workRecord) decode(key, p []byte) error {
	r := reader{s: string(p)}
	w.seq, w.Due, w.Attempt = r.fixed64(), fromNanos(r.nanos()), int(r.uvarint())
	w.ID, w.Kind, w.Merchant = r.text(), r.text(), r.text()
	if t := r.text(); t != "" {
		w.Payload = []byte(t)
	}
	return r.done(key)
}

// workMemory holds the leases of work, and where the scan for due work begins.
type workMemory struct {
	leases map[string]*workLease // by record key
	lowest map[string]mark       // by kind: no work is due before
}

type workLease struct {
	fence     uint64
	until     int64
	busy      bool // being finished
	scheduled bool // scheduled anew meanwhile
}

func (m *workMemory) init() {
	m.leases = map[string]*workLease{}
	m.lowest = map[string]mark{}
}

func (m *workMemory) apply(e *effect) {
	if e.kind == effectWorkGone {
		delete(m.leases, e.id)
		return
	}
	if low, ok := m.lowest[e.queue]; ok {
		if at := (mark{e.due, e.qseq}); at.compare(low) < 0 {
			m.lowest[e.queue] = at
		}
	}
}

// workPlaced says that work of the kind is due at (due, seq).
func (t *tx) workPlaced(w *workRecord) {
	t.putText(indexKey(kWorkDue, w.Kind, nanos(w.Due), w.seq), w.ID)
	t.putAbove(key2(kWork, w.Kind, w.ID), w.encode(), beside)
	t.then(effect{kind: effectWork, queue: w.Kind, due: nanos(w.Due), qseq: w.seq})
	t.then(effect{kind: effectSignal})
}

func loadWork(v view, kind, id string) (*workRecord, error) {
	key := key2(kWork, kind, id)
	var w workRecord
	found, err := v.get(key, func(p []byte) error { return w.decode(key, p) })
	if err != nil || !found {
		return nil, err
	}
	return &w, nil
}

// ScheduleWork stores work, replacing what is there under its kind and id. Work
// that somebody holds keeps its lease; the new due time holds when it is
// finished with another due time, or when the lease runs out.
func (s *Store) ScheduleWork(ctx context.Context, w storage.Work) error {
	list := []storage.Work{w}
	if err := checkSchedule(list); err != nil {
		return err
	}
	return s.guard(ctx, func(t *tx) error { return t.schedule(list) })
}

func checkSchedule(list []storage.Work) error {
	if len(list) > storage.MaxChangeWork {
		return errTooLarge
	}
	for i := range list {
		w := &list[i]
		if w.ID == "" || w.Kind == "" {
			return errors.New("badgerstore: work needs an id and a kind")
		}
		if len(w.Payload) > storage.MaxPayload || len(w.ID)+len(w.Kind) > maxKeyText || len(w.Merchant) > maxKeyText {
			return errTooLarge
		}
	}
	return nil
}

// schedule stores work that was checked. It must be the last thing that can fail
// in an operation, because it changes what memory knows of leases.
func (t *tx) schedule(list []storage.Work) error {
	for i := range list {
		if _, err := loadWork(t, list[i].Kind, list[i].ID); err != nil {
			return err
		}
	}
	for _, w := range list {
		old, err := loadWork(t, w.Kind, w.ID) // as the list left it so far
		if err != nil {
			return err
		}
		next := workRecord{Work: w, seq: t.seq()}
		m, key := &t.c.s.mem, string(key2(kWork, w.Kind, w.ID))
		m.mu.Lock()
		if l := m.work.leases[key]; l != nil && !l.busy {
			if l.until > nanos(t.now()) {
				l.scheduled = true
				if old != nil {
					next.Attempt = old.Attempt
				}
			} else {
				delete(m.work.leases, key) // its holder is too late
			}
		}
		m.mu.Unlock()
		if old != nil {
			t.del(indexKey(kWorkDue, w.Kind, nanos(old.Due), old.seq))
		}
		t.workPlaced(&next)
	}
	return nil
}

// ClaimWork leases due work of the kind, earliest first. It writes nothing.
func (s *Store) ClaimWork(_ context.Context, kind string, terms storage.ClaimTerms, limit int) ([]storage.ClaimedWork, error) {
	if err := checkTerms(terms); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	if limit <= 0 {
		return nil, nil
	}
	m := &s.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	sn := s.read()
	defer sn.release()
	now := nanos(s.now())
	low, ok := m.work.lowest[kind]
	if !ok {
		low = mark{due: minTime}
	}
	if low.due > now {
		return nil, nil
	}
	var list []storage.ClaimedWork
	first := true
	m.work.lowest[kind] = mark{due: 1<<63 - 1}
	err := sn.scan(key1(kWorkDue, kind), indexKey(kWorkDue, kind, low.due, low.qseq), false, func(k, p []byte) (bool, error) {
		due, seq := tail16(k)
		if first {
			m.work.lowest[kind], first = mark{due, seq}, false
		}
		if due > now {
			return false, nil
		}
		key := string(key2(kWork, kind, string(p)))
		if l := m.work.leases[key]; l != nil && (l.busy || l.until > now) {
			return true, nil
		}
		w, err := loadWork(sn, kind, string(p))
		if err != nil {
			return false, err
		}
		if w == nil {
			return false, corrupt(k, "work is missing")
		}
		m.fences++
		l := &workLease{fence: m.fences, until: now + int64(terms.Lease)}
		m.work.leases[key] = l
		list = append(list, storage.ClaimedWork{Work: w.Work, Fence: l.fence, LeaseUntil: fromNanos(l.until)})
		return len(list) < limit, nil
	})
	if err != nil {
		m.work.lowest[kind] = low
		s.log.Error("work that is due cannot be read", "kind", kind, "error", err)
		if len(list) > 0 {
			return list, nil
		}
	}
	return list, err
}

// FinishWork ends a claim.
func (s *Store) FinishWork(ctx context.Context, kind, id string, fence uint64, next time.Time) error {
	return s.guard(ctx, func(t *tx) error {
		w, err := loadWork(t, kind, id)
		if err != nil {
			return err
		}
		if w == nil {
			return storage.ErrNotFound
		}
		m, key := &s.mem, string(key2(kWork, kind, id))
		m.mu.Lock()
		l := m.work.leases[key]
		if l == nil || l.busy || l.fence != fence {
			m.mu.Unlock()
			return storage.ErrStale
		}
		l.busy = true
		scheduled := l.scheduled
		m.mu.Unlock()
		t.then(effect{kind: effectWorkGone, id: key})
		t.del(indexKey(kWorkDue, kind, nanos(w.Due), w.seq))
		if next.IsZero() {
			t.del(key2(kWork, kind, id))
			return nil
		}
		w.Attempt++
		w.seq = t.seq()
		if !scheduled {
			w.Due = next
		}
		t.workPlaced(w)
		return nil
	})
}
