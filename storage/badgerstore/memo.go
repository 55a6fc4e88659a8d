package badgerstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// A memo is stored as the time at which it expires, and its data. An index by
// that time, written with it, leads the sweeper to it.
func encodeMemo(m *storage.Memo) []byte {
	b := appendNanos(newRecord(len(m.Data)+8), nanos(m.Expires))
	return append(b, m.Data...)
}

func decodeMemo(key, p []byte, m *storage.Memo) error {
	if len(p) < 8 {
		return corrupt(key, "too short")
	}
	m.Expires = fromNanos(int64(binary.LittleEndian.Uint64(p)))
	m.Data = append([]byte(nil), p[8:]...)
	return nil
}

// loadMemo reads a memo, be it expired; nil when there is none.
func loadMemo(v view, name string) (*storage.Memo, error) {
	key := key1(kMemo, name)
	m := storage.Memo{Key: name}
	found, err := v.get(key, func(p []byte) error { return decodeMemo(key, p, &m) })
	if err != nil || !found {
		return nil, err
	}
	return &m, nil
}

func expired(m *storage.Memo, now time.Time) bool { return !m.Expires.After(now) }

// loadMemos reads the named memos into the rows and returns them as they are
// stored: nil where there is none.
func (t *tx) loadMemos(names []string, rows *storage.Rows) (map[string]*storage.Memo, error) {
	if len(names) == 0 {
		return nil, nil
	}
	stored := make(map[string]*storage.Memo, len(names))
	rows.Memos = make(map[string]*storage.Memo, len(names))
	for _, name := range names {
		if _, twice := stored[name]; twice || name == "" {
			continue
		}
		m, err := loadMemo(t, name)
		if err != nil {
			return nil, err
		}
		stored[name] = m
		if m != nil && !expired(m, t.now()) {
			c := *m
			c.Data = bytes.Clone(m.Data)
			rows.Memos[name] = &c
		}
	}
	return stored, nil
}

// checkMemos looks at what a change made of the memos it named.
func checkMemos(stored, memos map[string]*storage.Memo) error {
	for name, m := range memos {
		if _, named := stored[name]; !named {
			return errors.New("badgerstore: a memo is not under a key that was named")
		}
		switch {
		case m == nil:
		case m.Key != name:
			return errors.New("badgerstore: a memo is not under its own key")
		case m.Expires.IsZero():
			return errors.New("badgerstore: a memo must say when it expires")
		case len(m.Data) > storage.MaxMemo:
			return errTooLarge
		}
	}
	return nil
}

// putMemos writes what a change made of the memos it named. An expired one that
// it left alone is the sweeper's.
func (t *tx) putMemos(stored, memos map[string]*storage.Memo) {
	for name, was := range stored {
		key, m := key1(kMemo, name), memos[name]
		switch {
		case m == nil:
			if was != nil && !expired(was, t.now()) {
				t.del(memoEndKey(nanos(was.Expires), name))
				t.del(key)
			}
			continue
		case was == nil:
		case nanos(was.Expires) != nanos(m.Expires):
			t.del(memoEndKey(nanos(was.Expires), name))
		case bytes.Equal(was.Data, m.Data):
			continue
		}
		t.putText(memoEndKey(nanos(m.Expires), name), name)
		t.putAbove(key, encodeMemo(m), beside)
		t.then(effect{kind: effectMemo, due: nanos(m.Expires)})
	}
}

// Memo returns one memo.
func (s *Store) Memo(_ context.Context, key string) (storage.Memo, error) {
	if err := s.enter(); err != nil {
		return storage.Memo{}, err
	}
	defer s.leave()
	sn := s.read()
	defer sn.release()
	m, err := loadMemo(sn, key)
	if err != nil {
		return storage.Memo{}, err
	}
	if m == nil || expired(m, s.now()) {
		return storage.Memo{}, storage.ErrNotFound
	}
	return *m, nil
}

// sweepMemos removes memos that have expired, a bounded number of them, and
// reports whether there are more.
func (s *Store) sweepMemos(ctx context.Context) (removed int, more bool, err error) {
	s.mem.mu.Lock()
	from, report := s.mem.memos.begin()
	sn := s.read()
	s.mem.mu.Unlock()
	defer sn.release()
	type end struct {
		index []byte
		name  string
	}
	var list []end
	now := nanos(s.now())
	first := int64(1<<63 - 1)
	err = sn.scan([]byte{kMemoEnd}, appendTime([]byte{kMemoEnd}, from), false, func(k, p []byte) (bool, error) {
		at := readTime(k[1:])
		first = min(first, at)
		if at > now {
			return false, nil
		}
		if more = len(list) == sweepBound; more {
			return false, nil
		}
		list = append(list, end{append([]byte(nil), k...), string(p)})
		return true, nil
	})
	if report {
		s.mem.mu.Lock()
		s.mem.memos.end(first, err == nil)
		s.mem.mu.Unlock()
	}
	for err == nil && len(list) > 0 {
		step := list[:min(len(list), sweepStep)]
		list = list[len(step):]
		n := 0
		err = s.do(ctx, func(t *tx) error {
			n = 0
			for _, e := range step {
				// The entry is gone when the memo was given longer meanwhile.
				if there, err := t.has(e.index); err != nil || !there {
					if err != nil {
						return err
					}
					continue
				}
				t.del(e.index)
				t.del(key1(kMemo, e.name))
				n++
			}
			return nil
		})
		if err == nil {
			removed += n
		}
	}
	return removed, more && err == nil, err
}
