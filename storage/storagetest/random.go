package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// SeedVariable names the environment variable that makes the random sequences
// begin with a seed of one's choice, such as one that a failure printed.
const SeedVariable = "STORAGETEST_SEED"

const randomSteps = 400

// runRandom does the same random things to the store and to the model, and
// compares what both say after every step.
func runRandom(t *testing.T, h Harness) {
	first := uint64(time.Now().UnixNano())
	if v := os.Getenv(SeedVariable); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first = n
	}
	for i := range uint64(cmp.Or(h.Seeds, 20)) {
		seed := first + i
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			w := &walk{
				env: newEnv(t, h), rnd: rand.New(rand.NewPCG(seed, 0)), parked: map[string]string{},
				trace: []string{fmt.Sprintf("%s=%d", SeedVariable, seed)},
			}
			w.model = NewModel(w.clock.Now)
			defer func() {
				if t.Failed() {
					for _, l := range w.trace[max(0, len(w.trace)-40):] {
						t.Log(l)
					}
					t.Logf("%s=%d shows it again", SeedVariable, seed)
				}
			}()
			for range randomSteps {
				w.step()
			}
		})
	}
}

type walk struct {
	*env
	rnd    *rand.Rand
	model  *Model
	parked map[string]string // the model's id of what is parked → the store's
	claims [][2]storage.Claim
	tasks  [][2]storage.ClaimedWork
	trace  []string
}

func (w *walk) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%d: ", len(w.trace))+fmt.Sprintf(format, args...))
}

// classes are the errors that the two must agree on; others only as such.
var classes = []error{
	storage.ErrNotFound, storage.ErrStale, storage.ErrState, storage.ErrNumberTaken, storage.ErrDiskFloor,
	storage.ErrClosed, storage.ErrCorrupt, storage.ErrTooLarge,
}

func (w *walk) same(got, want error) bool {
	w.Helper()
	for _, c := range classes {
		if errors.Is(got, c) != errors.Is(want, c) {
			w.Fatalf("error %v, the model has %v", got, want)
		}
	}
	if (got == nil) != (want == nil) {
		w.Fatalf("error %v, the model has %v", got, want)
	}
	return got == nil
}

// translate puts the store's ids of parked notifications into what the model said.
func (w *walk) translate(r storage.Record) storage.Record {
	if id, ok := w.parked[r.ID]; ok {
		r.ID = id
	}
	return r
}

func (w *walk) pick(n int) int { return w.rnd.IntN(n) }

func (w *walk) event() storage.Notification {
	i := w.pick(40)
	n := w.env.event(strconv.Itoa(i), "")
	if i%4 != 0 {
		n.Group = fmt.Sprint("g", i%3)
	}
	if i%5 == 0 {
		n.Merchant = "elsewhere"
	}
	if w.pick(10) == 0 {
		n.NotificationID = "wx-shared"
	}
	n.OutTradeNo = fmt.Sprint("no", i%7)
	n.Orders = []storage.OrderKey{{Mchid: mchid, Number: fmt.Sprint("no", i%7)}}
	if i == 13 {
		n.Body = append(bytes.Repeat([]byte(" "), 300<<10), n.Body...)
		n.ResourceStart, n.ResourceEnd = 1, len(n.Body)
	}
	if w.pick(6) == 0 {
		n.ReceivedAt = n.ReceivedAt.Add(-time.Duration(w.pick(100)) * time.Minute)
	}
	return n
}

func (w *walk) terms() storage.ClaimTerms {
	return storage.ClaimTerms{Owner: fmt.Sprint("o", w.pick(2)), Lease: time.Duration(1+w.pick(20)) * time.Minute}
}

func (w *walk) sameClaim(got, want storage.Claim) {
	w.Helper()
	w.claims = append(w.claims, [2]storage.Claim{got, want})
	want.Fence = got.Fence
	w.equal(got, want)
}

// anyID picks an id that exists, mostly: the store's and the model's.
func (w *walk) anyID() (string, string) {
	var all []string
	for _, n := range w.model.sorted() {
		all = append(all, n.ID)
	}
	if len(all) == 0 || w.pick(20) == 0 {
		return "evt_none", "evt_none"
	}
	id := all[w.pick(len(all))]
	return cmp.Or(w.parked[id], id), id
}

func (w *walk) step() {
	switch p := w.pick(100); {
	case p < 22:
		w.stepAccept()
	case p < 30:
		w.stepPark()
	case p < 42:
		w.stepClaim()
	case p < 56:
		w.stepComplete()
	case p < 61:
		w.stepRelease()
	case p < 70:
		w.stepDecide()
	case p < 80:
		w.stepChange()
	case p < 88:
		w.stepWork()
	case p < 94:
		d := time.Duration(w.pick(40)) * time.Minute
		w.note("advance %v", d)
		w.clock.Advance(d)
	case p < 97:
		w.stepSweep()
	default:
		if w.h.Reopen != nil && !w.h.Shared {
			w.note("reopen")
			w.s = w.h.Reopen(w, w.s, Options{Now: w.clock.Now})
			w.model.Restart()
		}
	}
	w.compare()
}

func (w *walk) stepAccept() {
	req := storage.AcceptRequest{Notification: w.event()}
	if w.pick(2) == 0 {
		req.Claim = w.terms()
	}
	w.note("accept %s claim %v", req.Notification.ID, req.Claim)
	got, err := w.s.Accept(w.ctx, req)
	want, merr := w.model.Accept(w.ctx, req)
	w.same(err, merr)
	if (got.Claim == nil) != (want.Claim == nil) {
		w.Fatalf("claim %v, the model has %v", got.Claim, want.Claim)
	}
	if got.Claim != nil {
		w.sameClaim(*got.Claim, *want.Claim)
		got.Claim, want.Claim = nil, nil
	}
	for i, id := range want.Superseded {
		want.Superseded[i] = w.parked[id]
	}
	w.equal(got, want)
}

func (w *walk) stepPark() {
	n := w.event()
	if w.pick(2) == 0 {
		n.Body = append([]byte(nil), n.Body...)
		n.Body[len(n.Body)-3] = byte('0' + w.pick(3))
	}
	reason := []storage.ParkReason{storage.ParkContradiction, storage.ParkUnknownOrder, storage.ParkNoRoute}[w.pick(3)]
	w.note("park %s", n.ID)
	id, fresh, err := w.s.Park(w.ctx, n, reason, "d")
	mid, mfresh, merr := w.model.Park(w.ctx, n, reason, "d")
	w.same(err, merr)
	w.equal(fresh, mfresh)
	if known, ok := w.parked[mid]; ok {
		w.equal(id, known)
	}
	w.parked[mid] = id
}

func (w *walk) stepClaim() {
	merchant, terms, limit := []string{shop, "elsewhere"}[w.pick(2)], w.terms(), w.pick(5)
	w.note("claim %s %v %d", merchant, terms, limit)
	got, err := w.s.Claim(w.ctx, merchant, terms, limit)
	want, merr := w.model.Claim(w.ctx, merchant, terms, limit)
	w.same(err, merr)
	w.equal(ids(got), ids(want))
	for i := range got {
		w.sameClaim(got[i], want[i])
	}
}

// anyClaim picks a claim, mostly a recent one.
func (w *walk) anyClaim() (got, want storage.Claim, ok bool) {
	if len(w.claims) == 0 {
		return got, want, false
	}
	recent := w.claims
	if w.pick(4) != 0 {
		recent = recent[max(0, len(recent)-6):]
	}
	c := recent[w.pick(len(recent))]
	return c[0], c[1], true
}

func (w *walk) stepComplete() {
	got, want, ok := w.anyClaim()
	if !ok {
		return
	}
	states := []storage.State{
		storage.StateDelivered, storage.StateDelivered, storage.StatePending, storage.StatePending,
		storage.StateDead, storage.StateParked, storage.StateDismissed,
	}
	done := storage.Completion{State: states[w.pick(len(states))], Status: 200 + w.pick(300), Error: "status"}
	switch done.State {
	case storage.StatePending:
		done.NextDue = w.clock.Now().Add(time.Duration(w.pick(60)) * time.Minute)
	case storage.StateParked:
		done.ParkReason = []storage.ParkReason{storage.ParkNoRoute, storage.ParkContradiction}[w.pick(2)]
	case storage.StateDelivered:
		if w.pick(2) == 0 {
			done.Answer = []byte(`{"n":` + strconv.Itoa(w.pick(100)) + `}`)
		}
	case storage.StateDead, storage.StateDismissed, storage.StateSuperseded:
	}
	w.note("complete %s %s", got.Record.ID, done.State)
	w.same(w.s.Complete(w.ctx, got.Record.ID, got.Fence, done), w.model.Complete(w.ctx, want.Record.ID, want.Fence, done))
}

func (w *walk) stepRelease() {
	got, want, ok := w.anyClaim()
	if !ok {
		return
	}
	var due time.Time
	if w.pick(2) == 0 {
		due = w.clock.Now().Add(time.Duration(w.pick(30)) * time.Minute)
	}
	w.note("release %s %v", got.Record.ID, due)
	w.same(w.s.Release(w.ctx, got.Record.ID, got.Fence, due), w.model.Release(w.ctx, want.Record.ID, want.Fence, due))
}

func (w *walk) stepDecide() {
	id, mid := w.anyID()
	d := storage.Decision{
		ID: id, Act: []storage.Act{storage.ActRelease, storage.ActDismiss, storage.ActReplay}[w.pick(3)],
		By: "li", Reason: "r", At: w.clock.Now(), AmountCheck: storage.AmountOverridden,
	}
	w.note("%s %s", d.Act, id)
	got, err := w.s.Decide(w.ctx, d)
	d.ID = mid
	want, merr := w.model.Decide(w.ctx, d)
	if w.same(err, merr) {
		want = w.translate(want)
		// How often it was sent is counted by the id it is asked for.
		got.Seen, want.Seen = 0, 0
		w.equal(got, want)
	}
}

func (w *walk) stepChange() {
	number := fmt.Sprint("no", w.pick(7))
	o := w.order(number)
	o.State = []storage.OrderState{storage.OrderIntended, storage.OrderRejected, storage.OrderCreated, storage.OrderPaid, storage.OrderClosed}[w.pick(5)]
	if w.pick(2) == 0 {
		o.TransactionID = "t" + number
	}
	for range w.pick(3) {
		sub := fmt.Sprint("no", w.pick(9))
		o.Subs = append(o.Subs, storage.SubOrder{Mchid: mchid, OutTradeNo: sub, TransactionID: "t" + number + sub})
	}
	call := fmt.Sprint("c", w.pick(5))
	outcome := []storage.CallOutcome{storage.CallPending, storage.CallSucceeded, storage.CallUnknown}[w.pick(3)]
	w.note("change %s %s %v, %s %s", number, o.State, o.Subs, call, outcome)
	at := w.clock.Now()
	change := func(r *storage.Rows) error {
		next := copyOrder(o)
		if r.Order != nil {
			next.RefundCount = r.Order.RefundCount + 1
		}
		r.Order = &next
		if r.Call == nil {
			r.Call = &storage.Call{ID: call, StartedAt: at}
		}
		r.Call.Outcome = outcome
		return nil
	}
	keys := storage.Keys{Order: o.Key, Call: call}
	change = w.beside(&keys, change)
	w.same(w.s.Change(w.ctx, keys, change), w.model.Change(w.ctx, keys, change))
}

// beside adds memos and work to a change.
func (w *walk) beside(keys *storage.Keys, change func(*storage.Rows) error) func(*storage.Rows) error {
	type edit struct {
		name string
		memo *storage.Memo // nil: deleted
		data []byte        // put in the place of what is there
	}
	var edits []edit
	for range w.pick(4) {
		d := edit{name: fmt.Sprint("memo", w.pick(6))}
		keys.Memos = append(keys.Memos, d.name)
		data := []byte(strconv.Itoa(w.pick(100)))
		if w.pick(8) == 0 {
			data = bytes.Repeat(data, 20<<10)
		}
		switch w.pick(5) {
		case 0: // deleted
		case 1:
			d.data = data
		default:
			end := w.clock.Now().Add(time.Duration(w.pick(90)-5) * time.Minute)
			d.memo = &storage.Memo{Key: d.name, Data: data, Expires: end}
		}
		edits = append(edits, d)
	}
	if len(edits) > 0 && w.pick(15) == 0 {
		edits[0].name = "unnamed"
	}
	var work []storage.Work
	for range w.pick(3) {
		work = append(work, w.task())
	}
	w.note("  with memos %v, work %d", keys.Memos, len(work))
	return func(r *storage.Rows) error {
		for _, d := range edits {
			switch was := r.Memos[d.name]; {
			case d.data != nil && was != nil:
				was.Data = bytes.Clone(d.data)
			case d.memo != nil:
				c := *d.memo
				r.Memos[d.name] = &c
			default:
				delete(r.Memos, d.name)
			}
		}
		r.Schedule = append(r.Schedule, work...)
		return change(r)
	}
}

func (w *walk) task() storage.Work {
	return storage.Work{
		ID: fmt.Sprint(w.pick(6)), Kind: "query", Payload: []byte(strconv.Itoa(w.pick(100))),
		Due: w.clock.Now().Add(time.Duration(w.pick(30)-10) * time.Minute),
	}
}

func (w *walk) stepWork() {
	switch w.pick(3) {
	case 0:
		k := w.task()
		w.note("schedule %s", k.ID)
		w.same(w.s.ScheduleWork(w.ctx, k), w.model.ScheduleWork(w.ctx, k))
	case 1:
		terms, limit := w.terms(), w.pick(4)
		w.note("claim work %d", limit)
		got, err := w.s.ClaimWork(w.ctx, "query", terms, limit)
		want, merr := w.model.ClaimWork(w.ctx, "query", terms, limit)
		w.same(err, merr)
		w.equal(len(got), len(want))
		for i := range got {
			w.tasks = append(w.tasks, [2]storage.ClaimedWork{got[i], want[i]})
			want[i].Fence = got[i].Fence
			w.equal(got[i], want[i])
		}
	default:
		if len(w.tasks) == 0 {
			return
		}
		recent := w.tasks[max(0, len(w.tasks)-4):]
		c := recent[w.pick(len(recent))]
		var next time.Time
		if w.pick(2) == 0 {
			next = w.clock.Now().Add(time.Duration(w.pick(30)) * time.Minute)
		}
		w.note("finish work %s %v", c[0].ID, next)
		w.same(w.s.FinishWork(w.ctx, "query", c[0].ID, c[0].Fence, next), w.model.FinishWork(w.ctx, "query", c[1].ID, c[1].Fence, next))
	}
}

func (w *walk) stepSweep() {
	keep := storage.Retention{Bodies: time.Duration(1+w.pick(4)) * time.Hour, Orders: time.Duration(1+w.pick(4)) * time.Hour}
	w.note("sweep %v", keep)
	want, err := w.model.Sweep(w.ctx, keep)
	w.ok(err)
	w.sweep(keep, want)
}

// compare looks at everything that can be looked at without changing it.
func (w *walk) compare() {
	w.Helper()
	got := w.all(storage.Filter{Limit: 1 + w.pick(50)})
	want := modelAll(w.model)
	for i := range want {
		want[i] = w.translate(want[i])
	}
	w.equal(names(got), names(want))
	w.equal(got, want)
	id, mid := w.anyID()
	r, err := w.s.Notification(w.ctx, id)
	m, merr := w.model.Notification(w.ctx, mid)
	w.same(err, merr)
	w.equal(r, w.translate(m))
	for _, f := range []storage.Filter{{State: storage.StatePending}, {State: storage.StateParked, Merchant: shop}, {OutTradeNo: "no3"}} {
		p, err := w.model.Notifications(w.ctx, f)
		w.ok(err)
		for i := range p.Records {
			p.Records[i] = w.translate(p.Records[i])
		}
		w.equal(w.all(f), p.Records)
	}
	for _, merchant := range []string{shop, "elsewhere"} {
		due, ok, err := w.s.NextDue(w.ctx, merchant)
		w.ok(err)
		mdue, mok, _ := w.model.NextDue(w.ctx, merchant)
		w.equal(ok, mok)
		w.equal(due, mdue)
	}
	q, err := w.s.Queues(w.ctx)
	w.ok(err)
	mq, _ := w.model.Queues(w.ctx)
	w.equal(q, mq)
	want2, _ := w.model.Stats(w.ctx)
	w.stats(want2)
	for i := range 9 {
		k := storage.OrderKey{Mchid: mchid, Number: fmt.Sprint("no", i)}
		o, err := w.s.Order(w.ctx, k)
		mo, merr := w.model.Order(w.ctx, k)
		w.same(err, merr)
		w.equal(o, mo)
		o, err = w.s.OrderByTransaction(w.ctx, mchid, "t"+k.Number)
		mo, merr = w.model.OrderByTransaction(w.ctx, mchid, "t"+k.Number)
		w.same(err, merr)
		w.equal(o, mo)
		list, err := w.s.ParkedFor(w.ctx, k)
		w.ok(err)
		mlist, _ := w.model.ParkedFor(w.ctx, k)
		for i := range mlist {
			mlist[i] = w.translate(mlist[i])
		}
		w.equal(list, mlist)
	}
	for i := range 6 {
		memo, err := w.s.Memo(w.ctx, fmt.Sprint("memo", i))
		want, merr := w.model.Memo(w.ctx, fmt.Sprint("memo", i))
		w.same(err, merr)
		w.equal(memo, want)
	}
	before := w.clock.Now().Add(-10 * time.Minute)
	calls, err := w.s.OpenCalls(w.ctx, before, 3)
	w.ok(err)
	mcalls, _ := w.model.OpenCalls(w.ctx, before, 3)
	w.equal(calls, mcalls)
	log, err := w.s.AuditLog(w.ctx, 0, 10000)
	w.ok(err)
	mlog, _ := w.model.AuditLog(w.ctx, 0, 10000)
	w.equal(len(log), len(mlog))
}

func modelAll(m *Model) (list []storage.Record) {
	f := storage.Filter{Limit: 1000}
	for {
		p, err := m.Notifications(context.Background(), f)
		if err != nil {
			panic(err)
		}
		list = append(list, p.Records...)
		if f.After = p.Cursor; f.After == "" {
			return list
		}
	}
}
