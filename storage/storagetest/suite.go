package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Options are what the suite wants of the store it opens.
type Options struct {
	// Now is the clock the store is to go by.
	Now func() time.Time
}

// Harness opens the stores that are to be tested.
type Harness struct {
	// Open opens an empty store. The harness closes it when the test ends.
	Open func(t testing.TB, o Options) storage.Store
	// Reopen ends the store and opens another one over the same data, as after
	// a restart of the process. Nil: the store cannot do that.
	Reopen func(t testing.TB, s storage.Store, o Options) storage.Store
	// Shared says that several gateways use the store, so that leases outlive
	// the process that holds them.
	Shared bool
	// Seeds says how many random sequences are run; zero means 20.
	Seeds int
}

// Clock is a clock that stands still until it is moved. It is safe for
// concurrent use.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// NewClock returns a clock that stands at a fixed time.
func NewClock() *Clock {
	return &Clock{t: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)}
}

// Now returns the time the clock stands at.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// Run runs the conformance suite.
func Run(t *testing.T, h Harness) {
	for _, g := range []struct {
		name  string
		tests []test
	}{
		{"Accept", acceptTests}, {"Park", parkTests}, {"Deliver", deliverTests}, {"Decide", decideTests},
		{"List", listTests}, {"Ledger", ledgerTests}, {"Memo", memoTests}, {"Agenda", agendaTests}, {"Keep", keepTests},
		{"Concurrent", concurrentTests},
	} {
		t.Run(g.name, func(t *testing.T) {
			for _, tt := range g.tests {
				t.Run(tt.name, func(t *testing.T) { tt.run(newEnv(t, h)) })
			}
		})
	}
	t.Run("Random", func(t *testing.T) { runRandom(t, h) })
}

type test struct {
	name string
	run  func(*env)
}

// An env is a store under test and short words for what is asked of it.
type env struct {
	testing.TB
	t     *testing.T
	h     Harness
	s     storage.Store
	clock *Clock
	ctx   context.Context
}

func newEnv(t *testing.T, h Harness) *env {
	c := NewClock()
	return &env{TB: t, t: t, h: h, s: h.Open(t, Options{Now: c.Now}), clock: c, ctx: context.Background()}
}

const (
	shop  = "shop"
	mchid = "1900000001"
)

var (
	worker = storage.ClaimTerms{Owner: "worker", Lease: time.Minute}
	other  = storage.ClaimTerms{Owner: "other", Lease: time.Minute}
)

// event makes a notification of its own business key, in the group given.
func (e *env) event(name, group string) storage.Notification {
	body := []byte(`{"id":"` + name + `","resource":{"out_trade_no":"no-` + name + `"}}`)
	start := bytes.Index(body, []byte(`{"out`))
	return storage.Notification{
		ID: "evt_" + name, Key: "payment/" + mchid + "/" + name, Merchant: shop, Group: group, Mchid: mchid,
		NotificationID: "wx-" + name, EventType: "TRANSACTION.SUCCESS", Kind: "payment", OutTradeNo: "no-" + name,
		Source: storage.SourceCallback, AmountCheck: storage.AmountMatched, ReceivedAt: e.clock.Now(),
		Orders: []storage.OrderKey{{Mchid: mchid, Number: "no-" + name}},
		Body:   body, ResourceStart: start, ResourceEnd: len(body) - 1,
	}
}

func (e *env) accept(n storage.Notification) storage.Acceptance {
	e.Helper()
	return e.acceptClaim(n, storage.ClaimTerms{})
}

func (e *env) acceptClaim(n storage.Notification, t storage.ClaimTerms) storage.Acceptance {
	e.Helper()
	a, err := e.s.Accept(e.ctx, storage.AcceptRequest{Notification: n, Claim: t})
	e.ok(err)
	return a
}

func (e *env) park(n storage.Notification, why storage.ParkReason) string {
	e.Helper()
	id, fresh, err := e.s.Park(e.ctx, n, why, "detail")
	e.ok(err)
	if !fresh {
		e.Fatalf("Park: not fresh")
	}
	return id
}

func (e *env) claims(t storage.ClaimTerms, limit int) []storage.Claim {
	e.Helper()
	return e.claimsOf(shop, t, limit)
}

func (e *env) claimsOf(queue string, t storage.ClaimTerms, limit int) []storage.Claim {
	e.Helper()
	c, err := e.s.Claim(e.ctx, queue, t, limit)
	e.ok(err)
	return c
}

// claim claims exactly one notification, the one given.
func (e *env) claim(t storage.ClaimTerms, id string) storage.Claim {
	e.Helper()
	c := e.claims(t, 10)
	if len(c) != 1 || c[0].Record.ID != id {
		e.Fatalf("claimed %v, want %s alone", ids(c), id)
	}
	return c[0]
}

func (e *env) noClaim() {
	e.Helper()
	if c := e.claims(other, 10); len(c) != 0 {
		e.Fatalf("claimed %v, want nothing", ids(c))
	}
}

func ids(claims []storage.Claim) (list []string) {
	for _, c := range claims {
		list = append(list, c.Record.ID)
	}
	return list
}

func (e *env) complete(c storage.Claim, to storage.State) {
	e.Helper()
	done := storage.Completion{State: to, Status: 200}
	switch to {
	case storage.StatePending:
		done.NextDue, done.Status, done.Error = e.clock.Now().Add(time.Hour), 500, "status"
	case storage.StateParked:
		done.ParkReason = storage.ParkNoRoute
	case storage.StateDead:
		done.Status, done.Error = 500, "status"
	case storage.StateDelivered, storage.StateDismissed, storage.StateSuperseded:
	}
	e.ok(e.s.Complete(e.ctx, c.Record.ID, c.Fence, done))
}

// deliver brings a notification, which must be the next one due, to a state.
func (e *env) deliver(id string, to storage.State) {
	e.Helper()
	e.complete(e.claim(worker, id), to)
}

func (e *env) record(id string) storage.Record {
	e.Helper()
	r, err := e.s.Notification(e.ctx, id)
	e.ok(err)
	return r
}

func (e *env) state(id string, want storage.State) storage.Record {
	e.Helper()
	r := e.record(id)
	if r.State != want {
		e.Fatalf("state of %s is %s, want %s", id, r.State, want)
	}
	return r
}

func (e *env) decide(id string, act storage.Act) storage.Record {
	e.Helper()
	r, err := e.s.Decide(e.ctx, e.decision(id, act))
	e.ok(err)
	return r
}

func (e *env) decision(id string, act storage.Act) storage.Decision {
	return storage.Decision{ID: id, Act: act, By: "li", Reason: "because", At: e.clock.Now(), AmountCheck: storage.AmountOverridden}
}

func (e *env) refuse(id string, act storage.Act, want error) {
	e.Helper()
	before, _ := e.s.AuditLog(e.ctx, 0, 1000)
	_, err := e.s.Decide(e.ctx, e.decision(id, act))
	e.is(err, want)
	after, _ := e.s.AuditLog(e.ctx, 0, 1000)
	e.equal(len(after), len(before))
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env) is(err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("error %v, want %v", err, want)
	}
}

func (e *env) equal(got, want any) {
	e.Helper()
	if diff := differ(got, want); diff != "" {
		e.Fatal(diff)
	}
}

// differ compares two values as a caller would: times by Equal, nil and empty
// slices alike.
func differ(got, want any) string {
	return differAt("", reflect.ValueOf(got), reflect.ValueOf(want))
}

var timeType = reflect.TypeFor[time.Time]()

func differAt(path string, a, b reflect.Value) string {
	if a.IsValid() != b.IsValid() || a.IsValid() && a.Type() != b.Type() {
		return fmt.Sprintf("%s: %v, want %v", path, a, b)
	}
	if !a.IsValid() {
		return ""
	}
	if a.Type() == timeType {
		if x, y := a.Interface().(time.Time), b.Interface().(time.Time); !x.Equal(y) {
			return fmt.Sprintf("%s: %v, want %v", path, x, y)
		}
		return ""
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if d := differAt(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Slice:
		if a.Len() != b.Len() {
			return fmt.Sprintf("%s: %d elements (%.300v), want %d (%.300v)", path, a.Len(), a, b.Len(), b)
		}
		if a.Type().Elem().Kind() == reflect.Uint8 {
			if !bytes.Equal(a.Bytes(), b.Bytes()) {
				return fmt.Sprintf("%s: %.300q, want %.300q", path, a.Bytes(), b.Bytes())
			}
			return ""
		}
		for i := range a.Len() {
			if d := differAt(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			if a.IsNil() != b.IsNil() {
				return fmt.Sprintf("%s: %v, want %v", path, a, b)
			}
			return ""
		}
		return differAt(path, a.Elem(), b.Elem())
	}
	if !reflect.DeepEqual(a.Interface(), b.Interface()) {
		return fmt.Sprintf("%s: %v, want %v", path, a, b)
	}
	return ""
}
