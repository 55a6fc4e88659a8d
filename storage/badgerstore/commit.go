package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	memTableSize = 16 << 20
	// A batch is closed when it holds this much. Badger's own bound is 15 % of a
	// memtable (2.4 MiB); outside the chunk key space one operation adds at most
	// three values of chunkSize, for the rows of a ledger change, and 512 KiB of
	// what is beside them.
	maxBatchBytes  = 1 << 20
	maxBatchWrites = 8192
	// maxTxnBytes bounds a transaction; chunks beyond it go in transactions of
	// their own, before the record that makes them visible.
	maxTxnBytes = 2 << 20
)

// gather is how long the syncer lets a batch fill before the next commit, when
// several callers write at once. A sync costs the processor as much as several
// operations; on a disk that syncs in a fraction of a millisecond batches would
// otherwise stay small. One caller alone never waits. Measured with 64
// connections by cmd/compare, two short runs: 15 to 25 % less processor time for
// each callback of a burst, and no clear difference to the rates.
const gather = 500 * time.Microsecond

// The states of an operation.
const (
	opQueued    = iota // nothing happened
	opRunning          // part of a batch
	opDone             // its outcome is known
	opAbandoned        // the caller gave up; the outcome is unknown to it
)

// An op is one mutation on its way through the committer.
type op struct {
	run      func(*tx) error
	err      error
	panicked any
	state    atomic.Int32
	done     chan struct{}
}

// A committer owns all mutations. The assembler runs operations and fills
// batches; the syncer commits them one after the other. The assembler adds to
// its batch for as long as the syncer is busy.
type committer struct {
	s *Store

	mu      sync.Mutex
	queue   []*op
	stopped bool
	wake    chan struct{} // capacity 1: the queue may have grown

	batches chan *batch // unbuffered: who receives has published all earlier ones
	wg      sync.WaitGroup
	ended   chan struct{} // closed when everything is committed
	written atomic.Int64  // bytes

	// The rest belongs to the assembler.
	last      *batch // handed over last
	c         counters
	pending   map[string]int64 // queue → pending notifications, uncommitted ones included
	hasChunks bool
}

func (c *committer) load(n counters, pending map[string]int64, hasChunks bool) {
	c.c, c.pending, c.hasChunks = n, pending, hasChunks
}

func (c *committer) start(s *Store) {
	c.s = s
	c.wake = make(chan struct{}, 1)
	c.batches = make(chan *batch)
	c.ended = make(chan struct{})
	c.wg.Add(3)
	go c.assemble()
	go c.sync()
	go c.trim()
}

// stop returns when everything queued is committed.
func (c *committer) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.signal()
	c.wg.Wait()
}

func (c *committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// do runs fn in the committer and returns when what it wrote is durable. An
// error from fn means that nothing was written. When ctx ends first, the
// outcome is unknown unless fn had not begun.
func (s *Store) do(ctx context.Context, fn func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		return err
	}
	o := &op{run: fn, done: make(chan struct{}, 1)}
	c := &s.committer
	c.mu.Lock()
	c.queue = append(c.queue, o)
	first := len(c.queue) == 1
	c.mu.Unlock()
	if first {
		c.signal()
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		if o.state.CompareAndSwap(opQueued, opAbandoned) || o.state.CompareAndSwap(opRunning, opAbandoned) {
			return ctx.Err()
		}
		<-o.done
	}
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}

// take returns what is queued, after waiting for it if wait is set. It returns
// nil at the end.
func (c *committer) take(buf []*op, wait bool) []*op {
	for {
		c.mu.Lock()
		if len(c.queue) > 0 {
			q := c.queue
			c.queue = buf[:0]
			c.mu.Unlock()
			return q
		}
		stopped := c.stopped
		c.mu.Unlock()
		if stopped || !wait {
			return nil
		}
		<-c.wake
	}
}

func (c *committer) assemble() {
	defer c.wg.Done()
	defer close(c.batches)
	var ops, spare []*op
	at := 0 // ops[:at] are done with
	for {
		if at == len(ops) {
			spare = ops
			clear(spare)
			if ops, at = c.take(spare, true), 0; ops == nil {
				return
			}
		}
		b := c.newBatch()
		for sent := false; !sent; {
			for at < len(ops) && !b.full() {
				c.run(b, ops[at])
				at++
			}
			c.close(b)
			if at < len(ops) { // full
				c.batches <- b
				break
			}
			select {
			case c.batches <- b:
				sent = true
			case <-c.wake:
				spare = ops
				clear(spare)
				ops, at = c.take(spare, false), 0
			}
		}
		c.last = b
		if !b.empty() {
			c.c.Commit = b.counters.Commit
		}
	}
}

// run carries out one operation in the batch, or nothing of it.
func (c *committer) run(b *batch, o *op) {
	if !o.state.CompareAndSwap(opQueued, opRunning) {
		return // given up before it began
	}
	b.ops = append(b.ops, o)
	if err := c.s.sick.Load(); err != nil {
		o.err = *err
		return
	}
	t := tx{c: c, b: b, op: o, before: c.c, undo: b.undo[:0], effects: len(b.effects)}
	defer func() {
		if p := recover(); p != nil {
			o.panicked, o.err = p, errors.New("badgerstore: operation panicked")
			t.rollback()
		}
		b.undo = t.undo
	}()
	if o.err = o.run(&t); o.err != nil {
		t.rollback()
	}
}

// close writes the batch's counters. It may be called again after more
// operations were run.
func (c *committer) close(b *batch) {
	if b.empty() {
		return
	}
	next := c.c
	next.Commit++
	key := b.writes[0].key
	b.writes[0].val = seal(key, next.encode(), 0)
	for name := range b.dirty {
		key := key1(kQueueNo, name)
		n := c.pending[name]
		if n == 0 {
			b.set(key, nil)
		} else {
			b.set(key, seal(key, appendFixed64(appendText(newRecord(32), name), uint64(n)), 0))
		}
		b.dirty[name] = n
	}
	b.counters = next
}

// sync commits batches, one after the other.
func (c *committer) sync() {
	defer c.wg.Done()
	defer close(c.ended)
	for b := range c.batches {
		busy := len(b.ops) > 1
		c.publish(b, c.commit(b))
		if busy {
			time.Sleep(gather)
		}
	}
}

func (c *committer) commit(b *batch) error {
	s := c.s
	if err := s.sick.Load(); err != nil {
		return *err
	}
	if b.empty() {
		return nil
	}
	s.opt.Hook("commit.before")
	s.floor.wrote(b.bytes)
	c.written.Add(int64(b.bytes))
	writes := b.writes
	if b.bytes > maxTxnBytes {
		var err error
		if writes, err = c.commitChunks(b.writes); err != nil {
			return s.fail(err)
		}
	}
	if err := s.update(append(writes, markWrite(b.counters.Commit))); err != nil {
		return s.fail(err)
	}
	s.witness.write(b.counters.Commit)
	s.opt.Hook("commit.after")
	return nil
}

// commitChunks commits the chunks among the writes and returns the others. A
// chunk means nothing until the record that lists it is there.
func (c *committer) commitChunks(all []write) ([]write, error) {
	rest := make([]write, 0, len(all))
	var chunks []write
	size := 0
	flush := func() error {
		err := c.s.update(chunks)
		chunks, size = chunks[:0], 0
		return err
	}
	for _, w := range all {
		if w.key[0] != kChunk || w.val == nil {
			rest = append(rest, w)
			continue
		}
		if chunks, size = append(chunks, w), size+len(w.val); size > maxTxnBytes-2*chunkSize {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return rest, nil
}

// update commits writes as one transaction, durably.
func (s *Store) update(writes []write) error {
	if len(writes) == 0 {
		return nil
	}
	t := s.db.NewTransaction(true)
	defer t.Discard()
	for i := range writes {
		w := &writes[i]
		var err error
		if w.val == nil {
			err = t.Delete(w.key)
		} else {
			err = t.SetEntry(&badger.Entry{Key: w.key, Value: w.val})
		}
		if err != nil {
			return fmt.Errorf("badgerstore: %w", err)
		}
	}
	return t.Commit()
}

// publish makes a batch visible and releases those who wait for it.
func (c *committer) publish(b *batch, err error) {
	s := c.s
	for _, o := range b.ops {
		if err != nil {
			o.err = err
		}
	}
	done := b.ops[:0]
	s.mem.mu.Lock()
	for _, o := range b.ops {
		if o.state.CompareAndSwap(opRunning, opDone) {
			done = append(done, o)
		}
	}
	if err == nil {
		if !b.empty() {
			s.publishSnapshot()
			s.mem.counters = b.counters
			for name, n := range b.dirty {
				s.mem.setPending(name, n)
			}
		}
		for i := range b.effects {
			s.mem.apply(&b.effects[i])
		}
	}
	s.mem.mu.Unlock()
	b.prev = nil
	b.published.Store(true)
	b.base.release()
	for _, o := range done {
		o.done <- struct{}{}
	}
}

// counters are what the store counts. They are written with every batch.
type counters struct {
	Commit     uint64 // number of the commit
	Generation uint64 // grows by one with every Open
	Seq        uint64 // order of arrival, chunk sets
	Audit      uint64
	Pending    int64
	Parked     int64
	ParkedOn   int64 // of the parked, those parked before acceptance
	Dead       int64
	BodyCursor string // where the sweeper of bodies stands, a key
	AgedCursor string // where the sweeper of the ledger stands, a key
	Base       uint64 // the first commit whose mark is expected, see marks.go
}

func (n *counters) encode() []byte {
	b := newRecord(104 + len(n.BodyCursor) + len(n.AgedCursor))
	for _, v := range [...]uint64{n.Commit, n.Generation, n.Seq, n.Audit, uint64(n.Pending), uint64(n.Parked), uint64(n.ParkedOn), uint64(n.Dead), n.Base} {
		b = appendFixed64(b, v)
	}
	return appendText(appendText(b, n.BodyCursor), n.AgedCursor)
}

func (n *counters) decode(p []byte) error {
	r := reader{s: string(p)}
	n.Commit, n.Generation, n.Seq, n.Audit = r.fixed64(), r.fixed64(), r.fixed64(), r.fixed64()
	n.Pending, n.Parked, n.ParkedOn, n.Dead = r.nanos(), r.nanos(), r.nanos(), r.nanos()
	n.Base = r.fixed64()
	n.BodyCursor, n.AgedCursor = r.text(), r.text()
	return r.done([]byte{kCounter})
}

// guard adapts a public method that writes: it refuses after Close.
func (s *Store) guard(ctx context.Context, fn func(*tx) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.do(ctx, fn)
}

var errTooLarge = fmt.Errorf("badgerstore: %w", storage.ErrTooLarge)
