package badgerstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// queueBound is how many due entries of one queue are kept in
	// memory; twice as many for a moment.
	queueBound = 8192
	// queuePage is how many are read from Badger at a time.
	queuePage = 1024
	// floatingBound is how many released entries, of all queues, may have a due
	// time that is only in memory.
	floatingBound = 8192
	// seenBound is how many notifications have their repeats counted.
	seenBound = 65536
)

// memory is what the store keeps beside Badger. Its lock is never held while
// waiting for a disk write.
type memory struct {
	mu       sync.Mutex
	counters counters // of the last commit
	pending  map[string]int64

	fences   uint64 // last fence given
	queues   map[string]*queue
	entries  map[string]*entry   // by id: those in a queue's heap, and the leased
	leases   []*entry            // heap by lease end
	busy     map[string]struct{} // an operation under way ends these; not to be claimed
	floating int

	oldestKey []byte    // index key of the oldest pending notification that was seen
	oldest    watermark // of the times at which pending notifications were received
	openCall  watermark // of the times at which pending calls were started
	memos     watermark // of the times at which memos expire

	work workMemory

	seen     map[string]int
	watchers map[chan struct{}]struct{}
}

// An entry is the head of a group (or a notification of its own group) that is
// pending: waiting in its queue's heap, or leased.
type entry struct {
	id    string
	q     *queue
	due   int64 // when it is due, by memory
	qseq  uint64
	disk  int64 // when it is due, by its key in Badger
	place int   // in the queue's heap, -1 when it is not there

	fence uint64 // 0 when it was never claimed, or its claim has ended
	owner string
	until int64
	lease int // place in the heap of leases, -1 when the lease is over
}

// A queue holds the earliest due entries of one queue: every entry in Badger
// whose key is below the frontier, less those that are leased.
type queue struct {
	name      string
	heap      []*entry
	frontier  mark
	exhausted bool // nothing lies at or above the frontier
}

type mark struct {
	due  int64
	qseq uint64
}

func (m mark) compare(o mark) int {
	return cmp.Or(cmp.Compare(m.due, o.due), cmp.Compare(m.qseq, o.qseq))
}

func (e *entry) mark() mark { return mark{e.due, e.qseq} }

// leased says that e is somebody's now.
func (e *entry) leased() bool { return e.lease >= 0 }

func (m *memory) init() {
	m.pending = map[string]int64{}
	m.queues = map[string]*queue{}
	m.entries = map[string]*entry{}
	m.busy = map[string]struct{}{}
	m.seen = map[string]int{}
	m.watchers = map[chan struct{}]struct{}{}
	m.oldest.low, m.openCall.low, m.memos.low = minTime, minTime, minTime
	m.work.init()
}

// A watermark is a time before which an index holds nothing but the traces of
// what was deleted, so that a scan need not pass them again.
type watermark struct {
	low, added int64
	scanning   bool
}

// begin returns where a scan may start, and whether it is to report to end what
// it found first.
func (w *watermark) begin() (low int64, report bool) {
	if w.scanning {
		return w.low, false
	}
	w.scanning, w.added = true, 1<<63-1
	return w.low, true
}

func (w *watermark) end(first int64, ok bool) {
	w.scanning = false
	if ok {
		w.low = min(first, w.added)
	}
}

func (w *watermark) add(at int64) {
	w.low, w.added = min(w.low, at), min(w.added, at)
}

const minTime = -1 << 63

func (m *memory) load(c counters, pending map[string]int64) {
	m.counters, m.pending = c, maps.Clone(pending)
	m.fences = c.Generation << 40
}

func (m *memory) setPending(queue string, n int64) {
	if n == 0 {
		delete(m.pending, queue)
		return
	}
	m.pending[queue] = n
}

func (m *memory) queue(name string) *queue {
	q := m.queues[name]
	if q == nil {
		q = &queue{name: name, frontier: mark{due: minTime}}
		m.queues[name] = q
	}
	return q
}

// An effect is what a durable operation changes in memory.
type effect struct {
	kind  effectKind
	id    string
	queue string
	due   int64
	qseq  uint64
	fence uint64
	op    *op
}

type effectKind uint8

const (
	effectPush    effectKind = iota + 1 // the entry waits in its queue
	effectDrop                          // it does not any more
	effectClaimed                       // it was leased in the operation
	effectOldest                        // something received at due is pending
	effectSignal                        // watchers may want to look
	effectWork                          // see workMemory.apply
	effectWorkGone
	effectOpenCall // a call started at due is pending
	effectMemo     // a memo expires at due
)

// apply carries out an effect, with the lock held.
func (m *memory) apply(e *effect) {
	switch e.kind {
	case effectPush:
		if _, ended := m.busy[e.id]; !ended && m.entries[e.id] != nil {
			break // claimed already, by a later operation of the same batch
		}
		delete(m.busy, e.id)
		m.push(e.queue, e.id, e.due, e.qseq)
		m.signal()
	case effectDrop:
		delete(m.busy, e.id)
		m.drop(e.id)
	case effectClaimed:
		// Whoever asked for the claim may have given up on it meanwhile.
		if en := m.entries[e.id]; en != nil && en.fence == e.fence && e.op.state.Load() == opAbandoned {
			m.unlease(en)
			en.fence = 0
			m.insert(en)
			m.signal()
		}
	case effectOldest:
		m.oldest.add(e.due)
	case effectSignal:
		m.signal()
	case effectOpenCall:
		m.openCall.add(e.due)
	case effectMemo:
		m.memos.add(e.due)
	case effectWork, effectWorkGone:
		m.work.apply(e)
	}
}

// push says that the entry waits on disk at (due, qseq), unleased.
func (m *memory) push(queue, id string, due int64, qseq uint64) {
	m.drop(id)
	q := m.queue(queue)
	e := &entry{id: id, q: q, due: due, disk: due, qseq: qseq, place: -1, lease: -1}
	if !q.exhausted && e.mark().compare(q.frontier) >= 0 {
		return // on disk only, until the frontier gets there
	}
	m.entries[id] = e
	m.insert(e)
	if len(q.heap) > 2*queueBound {
		m.evict(q)
	}
}

func (m *memory) insert(e *entry) { heapPush(&e.q.heap, e, byDue, setPlace) }

// evict leaves the later half of a queue's heap to the disk.
func (m *memory) evict(q *queue) {
	settled := make([]*entry, 0, len(q.heap))
	rest := make([]*entry, 0, queueBound+floatingBound/8)
	for _, e := range q.heap {
		if e.due == e.disk {
			settled = append(settled, e)
		} else {
			rest = append(rest, e)
		}
	}
	if len(settled) <= queueBound {
		return
	}
	slices.SortFunc(settled, func(a, b *entry) int { return a.mark().compare(b.mark()) })
	q.frontier, q.exhausted = settled[queueBound].mark(), false
	for _, e := range settled[queueBound:] {
		delete(m.entries, e.id)
	}
	q.heap = q.heap[:0]
	for _, e := range append(rest, settled[:queueBound]...) {
		m.insert(e)
	}
}

// drop forgets an entry.
func (m *memory) drop(id string) {
	e := m.entries[id]
	if e == nil {
		return
	}
	delete(m.entries, id)
	if e.place >= 0 {
		heapRemove(&e.q.heap, e.place, byDue, setPlace)
	}
	m.unlease(e)
	if e.due != e.disk {
		m.floating--
	}
}

func (m *memory) unlease(e *entry) {
	if e.lease >= 0 {
		heapRemove(&m.leases, e.lease, byLease, setLease)
	}
}

// grant leases an entry that nobody holds.
func (m *memory) grant(e *entry, terms storage.ClaimTerms, now int64) {
	if e.place >= 0 {
		heapRemove(&e.q.heap, e.place, byDue, setPlace)
	}
	m.fences++
	e.fence, e.owner, e.until = m.fences, terms.Owner, now+int64(terms.Lease)
	heapPush(&m.leases, e, byLease, setLease)
}

// expire gives entries whose lease is over back to their queues. Their last
// holder may still complete them, until somebody else claims them.
func (m *memory) expire(now int64) {
	for len(m.leases) > 0 && m.leases[0].until <= now {
		e := m.leases[0]
		m.unlease(e)
		m.insert(e)
	}
}

// top returns the earliest entry of a queue that nobody holds, reading from
// Badger as needed.
func (s *Store) top(q *queue) (*entry, error) {
	for !q.exhausted && (len(q.heap) == 0 || q.heap[0].mark().compare(q.frontier) >= 0) {
		if err := s.page(q); err != nil {
			return nil, err
		}
	}
	if len(q.heap) == 0 {
		return nil, nil
	}
	return q.heap[0], nil
}

// page reads the next entries of a queue from Badger into memory. The lock is
// held, so that no commit is published meanwhile.
func (s *Store) page(q *queue) error {
	m := &s.mem
	sn := s.read()
	defer sn.release()
	prefix := key1(kDue, q.name)
	from := prefix
	if q.frontier.due != minTime || q.frontier.qseq != 0 {
		from = indexKey(kDue, q.name, q.frontier.due, q.frontier.qseq)
	}
	n := 0
	err := sn.scan(prefix, from, false, func(k, p []byte) (bool, error) {
		due, qseq := tail16(k)
		if n == queuePage {
			q.frontier = mark{due, qseq}
			return false, nil
		}
		n++
		id := string(p)
		if m.entries[id] == nil {
			e := &entry{id: id, q: q, due: due, disk: due, qseq: qseq, place: -1, lease: -1}
			m.entries[id] = e
			m.insert(e)
		}
		q.frontier = mark{due, qseq + 1}
		return true, nil
	})
	if err == nil && n < queuePage {
		q.exhausted = true
	}
	return err
}

// lookup returns the entry of a pending head, reading it from the disk's word
// (due, qseq) when it is beyond the frontier.
func (m *memory) lookup(queue, id string, due int64, qseq uint64) *entry {
	e := m.entries[id]
	if e == nil {
		e = &entry{id: id, q: m.queue(queue), due: due, disk: due, qseq: qseq, place: -1, lease: -1}
		m.entries[id] = e
		m.insert(e)
	}
	return e
}

func (m *memory) signal() {
	for c := range m.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (m *memory) closeWatches() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.watchers)
}

// Watch returns a channel that gets a value when any queue may have got work.
func (s *Store) Watch() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	s.mem.mu.Lock()
	s.mem.watchers[c] = struct{}{}
	s.mem.mu.Unlock()
	return c, func() {
		s.mem.mu.Lock()
		delete(s.mem.watchers, c)
		s.mem.mu.Unlock()
	}
}

// Queues lists the queues that hold pending notifications.
func (s *Store) Queues(context.Context) ([]string, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.mem.mu.Lock()
	defer s.mem.mu.Unlock()
	return slices.Sorted(maps.Keys(s.mem.pending)), nil
}

// NextDue says when the queue has work next that nobody holds.
func (s *Store) NextDue(_ context.Context, queue string) (time.Time, bool, error) {
	if err := s.enter(); err != nil {
		return time.Time{}, false, err
	}
	defer s.leave()
	m := &s.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending[queue] == 0 {
		return time.Time{}, false, nil
	}
	m.expire(nanos(s.now()))
	e, err := s.top(m.queue(queue))
	if err != nil || e == nil {
		return time.Time{}, false, err
	}
	return fromNanos(e.due), true, nil
}

// noteSeen counts a repeat, in memory only.
func (m *memory) noteSeen(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.seen) >= seenBound {
		for k := range m.seen {
			if delete(m.seen, k); len(m.seen) < seenBound*7/8 {
				break
			}
		}
	}
	m.seen[id]++
}

// annotate adds to a record what only memory knows.
func (m *memory) annotate(n *note) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n.Seen = 1 + m.seen[n.ID]
	if e := m.entries[n.ID]; e != nil && n.State == storage.StatePending {
		n.NextDue = fromNanos(e.due)
	}
}

// groupRecord says who is first and who is last of those waiting in a group.
type groupRecord struct{ head, tail string }

func (g *groupRecord) decode(key []byte) func([]byte) error {
	return func(p []byte) error {
		r := reader{s: string(p)}
		g.head, g.tail = r.text(), r.text()
		return r.done(key)
	}
}

func (g *groupRecord) encode() []byte {
	return appendText(appendText(newRecord(len(g.head)+len(g.tail)+4), g.head), g.tail)
}

func checkTerms(t storage.ClaimTerms) error {
	if t.Owner == "" || t.Lease <= 0 {
		return fmt.Errorf("badgerstore: a claim needs an owner and a lease")
	}
	return nil
}
