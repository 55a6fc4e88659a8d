package badgerstore

import (
	"context"
	"encoding/base64"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// scanBound is how many records one page of a listing looks at: a filter that
// little passes gives short pages with a cursor rather than a long wait.
const scanBound = 20000

// Notification returns one record whole.
func (s *Store) Notification(_ context.Context, id string) (storage.Record, error) {
	if err := s.enter(); err != nil {
		return storage.Record{}, err
	}
	defer s.leave()
	sn := s.read()
	defer sn.release()
	n, err := s.whole(sn, id)
	if err != nil {
		return storage.Record{}, err
	}
	if n == nil {
		return storage.Record{}, storage.ErrNotFound
	}
	return n.Record, nil
}

// Notifications lists records, newest first. A page may hold fewer records than
// asked for, or none, and still have a cursor.
func (s *Store) Notifications(_ context.Context, f storage.Filter) (storage.Page, error) {
	if err := s.enter(); err != nil {
		return storage.Page{}, err
	}
	defer s.leave()
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)

	// The narrowest index there is for the filter.
	prefix := []byte{kTime}
	switch {
	case f.OutTradeNo != "":
		prefix = key1(kNumber, f.OutTradeNo)
	case f.State != "" && f.State != storage.StateDelivered:
		prefix = key1(kState, string(f.State))
	}
	var from []byte
	if f.After != "" {
		mark, err := base64.RawURLEncoding.DecodeString(f.After)
		if err != nil || len(mark) != 16 {
			return storage.Page{}, storage.ErrCursor
		}
		from = append(append(from, prefix...), mark...)
	}
	sn := s.read()
	defer sn.release()
	var page storage.Page
	scanned := 0
	var last []byte
	more := false
	err := sn.scan(prefix, from, true, func(k, p []byte) (bool, error) {
		mark := k[len(k)-16:]
		if from != nil && string(mark) == string(from[len(prefix):]) {
			return true, nil
		}
		if len(page.Records) == limit || scanned == scanBound {
			more = true
			return false, nil
		}
		scanned++
		last = append(last[:0], mark...)
		n, err := loadNote(sn, string(p))
		if err != nil {
			return false, err
		}
		if n == nil {
			return false, corrupt(k, "notification is missing")
		}
		if f.Merchant != "" && n.Merchant != f.Merchant || f.State != "" && n.State != f.State ||
			f.Kind != "" && n.Kind != f.Kind || f.OutTradeNo != "" && n.OutTradeNo != f.OutTradeNo {
			return true, nil
		}
		s.mem.annotate(n)
		page.Records = append(page.Records, n.Record)
		return true, nil
	})
	if err != nil {
		return storage.Page{}, err
	}
	if more {
		page.Cursor = base64.RawURLEncoding.EncodeToString(last)
	}
	return page, nil
}

// Stats counts what an operator watches, from memory but for one seek.
func (s *Store) Stats(context.Context) (storage.Stats, error) {
	if err := s.enter(); err != nil {
		return storage.Stats{}, err
	}
	defer s.leave()
	m := &s.mem
	m.mu.Lock()
	m.expire(nanos(s.now()))
	st := storage.Stats{
		Pending: m.counters.Pending, Leased: int64(len(m.leases)),
		Parked: m.counters.Parked, Dead: m.counters.Dead,
	}
	if st.Pending == 0 {
		m.mu.Unlock()
		return st, nil
	}
	known, low := m.oldestKey, m.oldest.low
	sn := s.read()
	m.mu.Unlock()
	defer sn.release()
	if known != nil {
		// Usually the oldest one is still the same.
		at, _ := tail16(known)
		there, err := sn.get(known, func([]byte) error { return nil })
		if err != nil {
			return storage.Stats{}, err
		}
		if there && at <= low {
			st.OldestPending = fromNanos(at)
			return st, nil
		}
	}
	m.mu.Lock()
	oldest, report := m.oldest.begin()
	sn2 := s.read()
	m.mu.Unlock()
	defer sn2.release()
	// The scan begins where the last one found the oldest, so that the traces
	// of what was delivered since are passed once.
	prefix := key1(kState, string(storage.StatePending))
	found := oldest
	var first []byte
	err := sn2.scan(prefix, indexKey(kState, string(storage.StatePending), oldest, 0), false, func(k, _ []byte) (bool, error) {
		found, _ = tail16(k)
		first = append(first, k...)
		st.OldestPending = fromNanos(found)
		return false, nil
	})
	if report {
		m.mu.Lock()
		m.oldest.end(found, err == nil)
		m.oldestKey = first
		m.mu.Unlock()
	}
	if err != nil {
		return storage.Stats{}, err
	}
	return st, nil
}
