package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

// A snapshot is the store after some commit. Opening a Badger transaction waits
// for every commit under way, so readers share the snapshot that the committer
// opened when the last one was done.
type snapshot struct {
	txn  *badger.Txn
	refs atomic.Int32
}

// view is what both committed and uncommitted state can be read through.
type view interface {
	// get calls fn with the payload under key, which fn must not keep, and
	// reports whether there is one.
	get(key []byte, fn func(payload []byte) error) (bool, error)
}

// publishSnapshot makes the newest commit visible to readers.
func (s *Store) publishSnapshot() {
	sn := &snapshot{txn: s.db.NewTransaction(false)}
	sn.refs.Store(1)
	s.snapMu.Lock()
	old := s.snap
	s.snap = sn
	s.snapMu.Unlock()
	if old != nil {
		old.release()
	}
}

// read returns the newest snapshot; the caller releases it.
func (s *Store) read() *snapshot {
	s.snapMu.Lock()
	defer s.snapMu.Unlock()
	s.snap.refs.Add(1)
	return s.snap
}

func (sn *snapshot) release() {
	if sn.refs.Add(-1) == 0 {
		sn.txn.Discard()
	}
}

func (sn *snapshot) get(key []byte, fn func([]byte) error) (bool, error) {
	item, err := sn.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("badgerstore: %w", err)
	}
	return true, item.Value(func(v []byte) error { return open(sn, key, v, fn) })
}

// open unseals a record, puts its chunks together if it has any, and hands the
// payload to fn.
func open(v view, key, rec []byte, fn func([]byte) error) error {
	p, flags, err := unseal(key, rec)
	if err != nil {
		return err
	}
	switch flags {
	case 0:
		return fn(p)
	case flagChunked:
		whole, err := joinChunks(v, key, p)
		if err != nil {
			return err
		}
		return fn(whole)
	}
	return corrupt(key, "unknown flags")
}

// scan calls fn for every record whose key has the prefix, from the key `from`
// on (nil: from the beginning, or from the end when reverse), until fn returns
// false. fn must not keep its arguments.
func (sn *snapshot) scan(prefix, from []byte, reverse bool, fn func(key, payload []byte) (bool, error)) error {
	it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: reverse})
	defer it.Close()
	switch {
	case from == nil && reverse:
		from = append(append([]byte(nil), prefix...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	case from == nil:
		from = prefix
	}
	for it.Seek(from); it.ValidForPrefix(prefix); it.Next() {
		item := it.Item()
		more := false
		if err := item.Value(func(v []byte) error {
			return open(sn, item.Key(), v, func(p []byte) error {
				var err error
				more, err = fn(item.Key(), p)
				return err
			})
		}); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return nil
}

// Values above chunkSize are cut up: Badger would move values of 1 MiB to its
// value log, whose corruption it does not report, and a transaction holds no
// more than 15 % of a memtable.
const chunkSize = 256 << 10

func chunkKey(key []byte, set uint64, i uint32) []byte {
	b := appendText(append(make([]byte, 0, len(key)+20), kChunk), string(key))
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, set), i)
}

// A chunk list is the payload of a chunked record: set, number of chunks, size.
func encodeChunkList(set uint64, n, size int) []byte {
	b := appendFixed64(newRecord(24), set)
	return appendFixed64(appendFixed64(b, uint64(n)), uint64(size))
}

func decodeChunkList(key, p []byte) (set uint64, n, size int, err error) {
	if len(p) != 24 {
		return 0, 0, 0, corrupt(key, "wrong chunk list")
	}
	set = binary.LittleEndian.Uint64(p)
	n, size = int(binary.LittleEndian.Uint64(p[8:])), int(binary.LittleEndian.Uint64(p[16:]))
	if n < 1 || n > 1<<16 || size < 0 || size > n*chunkSize {
		return 0, 0, 0, corrupt(key, "wrong chunk list")
	}
	return set, n, size, nil
}

func joinChunks(v view, key, list []byte) ([]byte, error) {
	set, n, size, err := decodeChunkList(key, list)
	if err != nil {
		return nil, err
	}
	whole := make([]byte, 0, size)
	for i := range n {
		found, err := v.get(chunkKey(key, set, uint32(i)), func(p []byte) error {
			whole = append(whole, p...)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, corrupt(key, "chunk is missing")
		}
	}
	if len(whole) != size {
		return nil, corrupt(key, "chunks do not fit")
	}
	return whole, nil
}

// dropOrphanChunks removes chunks whose record was never committed, because the
// process died between the two, and tells whether any chunks are left.
func (s *Store) dropOrphanChunks() (bool, error) {
	var orphans [][]byte
	left := false
	it := s.snap.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kChunk}})
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().KeyCopy(nil)
		r := reader{s: string(k[1:])}
		owner := []byte(r.text())
		if r.bad || len(r.s) != 12 {
			it.Close()
			return false, corrupt(k, "wrong chunk key")
		}
		set := binary.BigEndian.Uint64([]byte(r.s))
		if item, err := s.snap.txn.Get(owner); err == nil {
			live := false
			err := item.Value(func(v []byte) error {
				p, flags, err := unseal(owner, v)
				if err != nil || flags != flagChunked {
					return nil //nolint:nilerr // a damaged owner keeps its chunks until it is read and reported
				}
				now, _, _, err := decodeChunkList(owner, p)
				live = err == nil && now == set
				return nil
			})
			if err == nil && live {
				left = true
				continue
			}
		}
		orphans = append(orphans, k)
	}
	it.Close()
	for len(orphans) > 0 {
		n := min(len(orphans), 1000)
		if err := s.db.Update(func(t *badger.Txn) error {
			for _, k := range orphans[:n] {
				if err := t.Delete(k); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return false, fmt.Errorf("badgerstore: %w", err)
		}
		orphans = orphans[n:]
	}
	return left, nil
}
