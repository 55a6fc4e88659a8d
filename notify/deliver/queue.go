package deliver

import (
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// holdFor is how long a notification without a route is left alone.
	holdFor = 2 * time.Second
	// storeBackoff is the first wait after a claim failed; it doubles to its max.
	storeBackoff    = 100 * time.Millisecond
	storeBackoffMax = 5 * time.Second
	// earliest keeps a store that calls work due and does not give it from
	// turning the loop into a spin.
	earliest = 50 * time.Millisecond
	// never is the wait of a queue that only a signal can wake.
	never = 24 * time.Hour
)

// job is a claim on its way to a worker.
type job struct {
	claim storage.Claim
	route *notify.Route
	until time.Time // when the lease ends, by our clock
	leave admission // of a probe; workers ask for all others
}

// queue delivers one route's notifications: its loop claims, its workers send.
// Claims are fetched ahead in batches, since each claim is a write of the store.
type queue struct {
	d       *Dispatcher
	name    string // storage.Notification.Queue
	breaker *breaker
	wake    chan struct{}
	looping bool // guarded by d.mu

	mu      sync.Mutex
	jobs    []*job // claimed, not with a worker yet, oldest first
	running int    // workers

	// Of the loop alone.
	timeout   time.Duration // the longest of the routes seen so far
	holdUntil time.Time
	backoff   time.Duration // of a store that fails; 0 while it works
	unserved  bool          // a notification without a route was logged
}

func newQueue(d *Dispatcher, name string) *queue {
	q := &queue{d: d, name: name, wake: make(chan struct{}, 1), timeout: notify.DefaultTimeout}
	q.breaker = newBreaker(d.cfg.ProbeEvery, d.cfg.TripAfter, q.breakerChanged)
	return q
}

// breakerChanged tells of the breaker, and lets the loop go on.
func (q *queue) breakerChanged(open bool) {
	if open {
		q.d.cfg.Logger.Warn("backend is down, deliveries are held", "queue", q.name)
	} else {
		q.d.cfg.Logger.Info("backend is back, deliveries go on", "queue", q.name)
	}
	q.d.cfg.Observer.BreakerChanged(q.name, open)
	q.signal()
}

// signal wakes the loop; it never blocks.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// loop claims until the dispatcher stops.
func (q *queue) loop() {
	defer q.d.wg.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-q.d.stopping:
			q.giveBack(q.take()...)
			return
		case <-q.wake:
		case <-timer.C:
		}
		timer.Reset(q.step())
	}
}

// step claims what may be claimed now and returns when to look again.
func (q *queue) step() (wait time.Duration) {
	wait = storeBackoffMax // after a panic
	defer q.d.recoverIn("queue")
	if wait := time.Until(q.holdUntil); wait > 0 {
		return wait
	}
	if q.d.cfg.Paused(q.name) {
		q.giveBack(q.take()...)
		return never // the next poll asks again
	}
	if !q.breaker.closed() {
		q.giveBack(q.take()...) // the workers may all hang
		return q.probe()
	}
	room := q.room()
	if room < q.batch() {
		return never // a worker signals when there is room
	}
	jobs, got := q.claim(room)
	q.push(jobs)
	switch {
	case got > 0 && len(jobs) == 0:
		return q.hold(holdFor)
	case got == room:
		return 0
	default:
		return q.idle()
	}
}

// probe lets one notification through an open breaker. It waits for no worker:
// they may all hang.
func (q *queue) probe() time.Duration {
	leave, wait := q.breaker.enter()
	if !leave.given() {
		return wait
	}
	jobs, got := q.claim(1)
	if len(jobs) == 0 {
		q.breaker.leave(leave, "", verdictNone)
		if got > 0 {
			return q.hold(holdFor)
		}
		return q.idle()
	}
	jobs[0].leave = leave
	q.d.wg.Add(1) // never the first: the loop is counted
	go func() {
		defer q.d.wg.Done()
		q.deliver(jobs[0])
	}()
	return q.d.cfg.ProbeEvery
}

// hold keeps the loop from claiming for a while, whatever wakes it.
func (q *queue) hold(wait time.Duration) time.Duration {
	q.holdUntil = time.Now().Add(wait)
	return wait
}

// capacity is how many claims the queue holds at most, and batch how many there
// must be room for before it claims again.
func (q *queue) capacity() int { return 3 * q.d.cfg.Workers }
func (q *queue) batch() int    { return q.d.cfg.Workers }

// room is how many more claims the queue may hold.
func (q *queue) room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.capacity() - q.running - len(q.jobs)
}

// claim leases up to limit notifications. It returns those that a route serves,
// and how many the store gave.
func (q *queue) claim(limit int) (jobs []*job, got int) {
	terms := storage.ClaimTerms{Owner: q.d.cfg.Owner, Lease: q.timeout + leaseMargin}
	until := q.d.cfg.Now().Add(terms.Lease)
	// The claim is not tied to Stop: one that is cut off may have taken leases
	// that nobody would give back.
	claims, err := q.d.cfg.Store.Claim(q.d.base, q.name, terms, limit)
	if err != nil {
		if q.backoff == 0 {
			q.d.cfg.Logger.Warn("claiming notifications failed", "queue", q.name, "error", err)
		}
		q.backoff = min(max(2*q.backoff, storeBackoff), storeBackoffMax)
		q.hold(q.backoff)
		return nil, 0
	}
	q.backoff = 0
	jobs = make([]*job, 0, len(claims))
	for i := range claims {
		j := &job{claim: claims[i], until: until}
		j.route = q.d.cfg.Route(&j.claim.Record)
		if j.route == nil {
			q.unservedOne(&j.claim.Record)
			q.release(&j.claim, q.d.cfg.Now().Add(holdFor))
			continue
		}
		q.timeout = max(q.timeout, timeoutOf(j.route))
		jobs = append(jobs, j)
	}
	return jobs, len(claims)
}

// unservedOne says once that the queue holds what no handler delivers.
func (q *queue) unservedOne(rec *storage.Record) {
	if q.unserved {
		return
	}
	q.unserved = true
	q.d.cfg.Logger.Warn("no handler delivers the notifications of this queue, they are held",
		"queue", q.name, "route", rec.Route, "kind", rec.Kind)
}

// idle is how long nothing will be due.
func (q *queue) idle() time.Duration {
	if wait := time.Until(q.holdUntil); wait > 0 {
		return wait
	}
	due, ok, err := q.d.cfg.Store.NextDue(q.d.base, q.name)
	if err != nil || !ok {
		return never // the next poll asks again
	}
	return max(due.Sub(q.d.cfg.Now()), earliest)
}

// push queues jobs and starts the workers for them.
func (q *queue) push(jobs []*job) {
	q.mu.Lock()
	q.jobs = append(q.jobs, jobs...)
	start := min(len(q.jobs), q.d.cfg.Workers-q.running)
	q.running += max(start, 0)
	q.mu.Unlock()
	for range start {
		q.d.wg.Add(1) // never the first: the loop is counted
		go q.work()
	}
}

// next takes the oldest job; without one the worker ends.
func (q *queue) next() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		q.running--
		if q.capacity()-q.running >= q.batch() {
			q.signal()
		}
		return nil
	}
	j := q.jobs[0]
	q.jobs[0] = nil // lets go of the bodies
	q.jobs = q.jobs[1:]
	if q.capacity()-q.running-len(q.jobs) >= q.batch() {
		q.signal()
	}
	return j
}

// take empties the list of jobs.
func (q *queue) take() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := q.jobs
	q.jobs = nil
	return jobs
}

// work delivers until nothing is left.
func (q *queue) work() {
	defer q.d.wg.Done()
	for {
		j := q.next()
		if j == nil {
			return
		}
		select {
		case <-q.d.stopping:
			q.giveBack(j)
			continue
		default:
		}
		select {
		case q.d.total <- struct{}{}:
			q.deliver(j)
			<-q.d.total
		case <-q.d.stopping:
			q.giveBack(j)
		}
	}
}

// deliver makes one attempt, if it may be made now.
func (q *queue) deliver(j *job) {
	defer q.d.recoverIn("worker")
	if q.d.cfg.Paused(q.name) {
		q.giveBack(j)
		return
	}
	if !j.leave.given() {
		j.leave, _ = q.breaker.enter()
	}
	if !j.leave.given() || j.until.Sub(q.d.cfg.Now()) < timeoutOf(j.route)+recordMargin {
		// Held, or waited so long that the lease could end under the attempt.
		q.giveBack(j)
		return
	}
	if out, done := q.d.attempt(q.d.base, j, q); done != nil {
		q.d.recordLater(j, q, done, out)
	}
}

// giveBack returns claims untouched, with their place in the queue.
func (q *queue) giveBack(jobs ...*job) {
	for _, j := range jobs {
		if j.leave.given() {
			q.breaker.leave(j.leave, "", verdictNone)
		}
		q.release(&j.claim, j.claim.Record.NextDue)
	}
}

// release gives a claim back, due again at due.
func (q *queue) release(claim *storage.Claim, due time.Time) {
	q.d.release(claim, due)
	q.signal()
}
