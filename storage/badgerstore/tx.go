package badgerstore

import (
	"sync/atomic"
	"time"
)

// A batch is what one commit will write: an overlay over a snapshot and over
// the batch before it, which may still be on its way to the disk.
type batch struct {
	base *snapshot
	prev *batch

	index    map[string]int // key → place in writes
	writes   []write        // the first holds the counters
	bytes    int
	ops      []*op
	effects  []effect
	dirty    map[string]int64 // queues whose number of pending notifications changed
	counters counters
	touched  bool   // the counters are to be written in any case
	undo     []undo // scratch of the running operation

	published atomic.Bool
}

// A write puts a value, or deletes when val is nil.
type write struct {
	key, val []byte
}

type undo struct {
	at  int
	val []byte
	add bool // the write was added, not replaced
	// queue, when set, undoes a change of its number of pending ones.
	queue string
	delta int64
}

func (c *committer) newBatch() *batch {
	b := &batch{
		index:  make(map[string]int, 64),
		writes: make([]write, 1, 64),
		dirty:  map[string]int64{},
	}
	b.writes[0].key = []byte{kCounter}
	// Asked in this order: a batch that is published now is in the snapshot.
	if c.last != nil && !c.last.published.Load() {
		b.prev = c.last
	}
	c.last = nil
	b.base = c.s.read()
	return b
}

// empty says that there is nothing to commit: the first write is only the place
// kept for the counters.
func (b *batch) empty() bool { return len(b.writes) == 1 && !b.touched }

func (b *batch) full() bool { return b.bytes > maxBatchBytes || len(b.writes) > maxBatchWrites }

func (b *batch) set(key, val []byte) (at int, old []byte, added bool) {
	if at, ok := b.index[string(key)]; ok {
		w := &b.writes[at]
		old, w.val = w.val, val
		b.bytes += len(val) - len(old)
		return at, old, false
	}
	at = len(b.writes)
	b.writes = append(b.writes, write{key, val})
	b.index[string(key)] = at
	b.bytes += len(key) + len(val) + 16
	return at, nil, true
}

// raw returns the record that the overlay holds under key; known is false when
// the overlay has no opinion.
func (b *batch) raw(key []byte) (rec []byte, known bool) {
	if at, ok := b.index[string(key)]; ok {
		return b.writes[at].val, true
	}
	if b.prev != nil {
		if at, ok := b.prev.index[string(key)]; ok {
			return b.prev.writes[at].val, true
		}
	}
	return nil, false
}

// A tx is one operation's hands on the store.
type tx struct {
	c       *committer
	b       *batch
	op      *op
	before  counters
	undo    []undo
	effects int
}

func (t *tx) get(key []byte, fn func([]byte) error) (bool, error) {
	if rec, known := t.b.raw(key); known {
		if rec == nil {
			return false, nil
		}
		return true, open(t, key, rec, fn)
	}
	return t.b.base.get(key, fn)
}

// has reports whether there is a record under key.
func (t *tx) has(key []byte) (bool, error) {
	return t.get(key, func([]byte) error { return nil })
}

// put writes a record made by newRecord and not yet sealed.
func (t *tx) put(key, rec []byte) { t.putAbove(key, rec, chunkSize) }

// beside bounds what a record takes, outside of chunks, that an operation may
// write many of: memos and work beside a ledger change's rows.
const beside = 16 << 10

// putAbove is put, with chunks for what is above a bound that is not chunkSize.
func (t *tx) putAbove(key, rec []byte, bound int) {
	t.dropChunks(key)
	if size := len(rec) - envelopeHeader; size > bound {
		t.c.c.Seq++
		t.c.hasChunks = true
		set, n := t.c.c.Seq, 0
		for rest := rec[envelopeHeader:]; len(rest) > 0; n++ {
			part := rest[:min(len(rest), chunkSize)]
			rest = rest[len(part):]
			k := chunkKey(key, set, uint32(n))
			t.write(k, seal(k, append(newRecord(len(part)), part...), 0))
		}
		t.write(key, seal(key, encodeChunkList(set, n, size), flagChunked))
		return
	}
	t.write(key, seal(key, rec, 0))
}

// putText writes a record whose payload is one text.
func (t *tx) putText(key []byte, s string) {
	t.put(key, append(newRecord(len(s)), s...))
}

func (t *tx) del(key []byte) {
	t.dropChunks(key)
	t.write(key, nil)
}

func (t *tx) write(key, val []byte) {
	at, old, added := t.b.set(key, val)
	t.undo = append(t.undo, undo{at: at, val: old, add: added})
}

// dropChunks deletes the chunks of the record that is about to be replaced.
func (t *tx) dropChunks(key []byte) {
	if !t.c.hasChunks {
		return
	}
	look := func(rec []byte) {
		p, flags, err := unseal(key, rec)
		if err != nil || flags != flagChunked {
			return
		}
		if set, n, _, err := decodeChunkList(key, p); err == nil {
			for i := range n {
				t.write(chunkKey(key, set, uint32(i)), nil)
			}
		}
	}
	if rec, known := t.b.raw(key); known {
		if rec != nil {
			look(rec)
		}
		return
	}
	if item, err := t.b.base.txn.Get(key); err == nil {
		_ = item.Value(func(v []byte) error { look(v); return nil })
	}
}

// seq returns the next number in the order of arrival.
func (t *tx) seq() uint64 {
	t.c.c.Seq++
	return t.c.c.Seq
}

// addPending counts a queue's pending notifications.
func (t *tx) addPending(queue string, delta int64) {
	t.c.pending[queue] += delta
	t.c.c.Pending += delta
	t.b.dirty[queue] = 0
	t.undo = append(t.undo, undo{queue: queue, delta: delta, at: -1})
}

// then has e applied to memory once the batch is durable.
func (t *tx) then(e effect) {
	e.op = t.op
	t.b.effects = append(t.b.effects, e)
}

func (t *tx) counters() *counters { return &t.c.c }

// touch has the counters written although nothing else may be.
func (t *tx) touch() { t.b.touched = true }

func (t *tx) now() time.Time { return t.c.s.now() }

func (t *tx) rollback() {
	b := t.b
	for i := len(t.undo) - 1; i >= 0; i-- {
		u := &t.undo[i]
		switch {
		case u.at < 0:
			t.c.pending[u.queue] -= u.delta
		case u.add:
			w := b.writes[u.at]
			delete(b.index, string(w.key))
			b.bytes -= len(w.key) + len(w.val) + 16
			b.writes = b.writes[:u.at]
		default:
			w := &b.writes[u.at]
			b.bytes -= len(w.val) - len(u.val)
			w.val = u.val
		}
	}
	t.undo = t.undo[:0]
	t.c.c = t.before
	clear(b.effects[t.effects:])
	b.effects = b.effects[:t.effects]
}
