package operate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a store with a clock.
type bench struct {
	t     *testing.T
	clock *storagetest.Clock
	store storage.Store
}

func newBench(t *testing.T) *bench {
	clock := storagetest.NewClock()
	b := &bench{t: t, clock: clock, store: storagetest.NewModel(clock.Now)}
	t.Cleanup(func() {
		if err := b.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) pauses() *Pauses {
	return NewPauses(b.store, b.clock.Now, slog.New(slog.DiscardHandler))
}

// add accepts a notification of the i-th order and delivers it.
func (b *bench) add(i int, change func(*storage.Notification)) string {
	b.t.Helper()
	n := storage.Notification{
		ID: fmt.Sprintf("msg_%04d", i), Key: fmt.Sprint("payment/", i), Merchant: "shop", Mchid: "1900000001", Kind: "payment",
		EventType: "TRANSACTION.SUCCESS", OutTradeNo: fmt.Sprintf("ORDER%d", i),
		Group: "1900000001/ORDER", Source: storage.SourceCallback, ReceivedAt: b.clock.Now(),
		Body: []byte(`{"resource":{}}`), ResourceStart: 12, ResourceEnd: 14,
	}
	if change != nil {
		change(&n)
	}
	ctx := context.Background()
	acc, err := b.store.Accept(ctx, storage.AcceptRequest{Notification: n, Claim: storage.ClaimTerms{Owner: "t", Lease: time.Minute}})
	if err != nil || acc.Claim == nil {
		b.t.Fatalf("accept: %v, %+v", err, acc)
	}
	if err := b.store.Complete(ctx, n.ID, acc.Claim.Fence, storage.Completion{State: storage.StateDelivered, Status: 200}); err != nil {
		b.t.Fatal(err)
	}
	b.clock.Advance(time.Minute)
	return n.ID
}

func (b *bench) acts() (acts []string) {
	b.t.Helper()
	entries, err := b.store.AuditLog(context.Background(), 0, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		acts = append(acts, e.By+" "+e.Act+" "+e.Object+" "+e.Reason)
	}
	return acts
}

const (
	shopOld = "shop/aaaaaaaaaaaa/111111111111"
	shopNew = "shop/bbbbbbbbbbbb/111111111111"
	shopToo = "shop/aaaaaaaaaaaa/222222222222" // another option changed
	other   = "other/cccccccccccc/111111111111"
	all     = "*/dddddddddddd/111111111111"
)

func places(routes ...string) (list []string) {
	for _, r := range routes {
		list = append(list, PlaceOf(r))
	}
	return list
}

func TestWhatAPauseHolds(t *testing.T) {
	for _, row := range []struct {
		name   string
		pause  string
		queue  string
		routes []string
		held   bool
	}{
		{"its own queue", shopOld, shopOld, []string{shopOld, other}, true},
		{"its queue after an option changed", shopOld, shopToo, []string{shopToo, other}, true},
		{"another merchant's", shopOld, other, []string{shopOld, other}, false},
		{"its neighbour", shopOld, shopNew, []string{shopOld, shopNew}, false},
		{"the new backend's, when its own is gone", shopOld, shopNew, []string{shopNew, other}, true},
		{"another merchant's, when its own is gone", shopOld, other, []string{shopNew, other}, false},
		{"a queue whose route is gone", shopNew, shopOld, []string{shopNew, other}, true},
		{"everybody's route, when its own is gone", shopOld, all, []string{all}, true},
		{"one merchant's, when everybody's is gone", all, other, []string{shopOld, other}, true},
		{"a queue of no route", shopOld, "shop", []string{shopOld}, true},
		{"another's queue of no route", shopOld, "other", []string{shopOld}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t)
			ctx, p := context.Background(), b.pauses()
			if p.Holds(ctx, row.queue, places(row.routes...)) {
				t.Error("held before the pause")
			}
			if err := p.Pause(ctx, Pause{Place: row.pause, By: "li", Reason: "stock-taking"}); err != nil {
				t.Fatal(err)
			}
			if got := p.Holds(ctx, row.queue, places(row.routes...)); got != row.held {
				t.Errorf("held %v", got)
			}
			if err := p.Resume(ctx, row.pause, "li", "done"); err != nil {
				t.Fatal(err)
			}
			if p.Holds(ctx, row.queue, places(row.routes...)) {
				t.Error("held after the pause")
			}
		})
	}
}

// Another gateway, or the one after a restart, obeys within a second.
func TestPausesAreShared(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	one, two := b.pauses(), b.pauses()
	if two.Holds(ctx, shopOld, places(shopOld)) {
		t.Fatal("held")
	}
	if err := one.Pause(ctx, Pause{Place: shopOld, By: "li", Reason: "why"}); err != nil {
		t.Fatal(err)
	}
	if err := two.Pause(ctx, Pause{Place: shopToo, By: "wang", Reason: "why"}); !errors.Is(err, ErrPaused) {
		t.Errorf("paused twice: %v", err)
	}
	b.clock.Advance(pauseRead)
	if !two.Holds(ctx, shopOld, places(shopOld)) {
		t.Error("not obeyed after a second")
	}
	if !b.pauses().Holds(ctx, shopOld, places(shopOld)) {
		t.Error("not obeyed after a restart")
	}
	b.clock.Advance(20 * 365 * 24 * time.Hour)
	if _, err := b.store.Sweep(ctx, storage.Retention{Orders: 400 * 24 * time.Hour, Bodies: time.Hour}); err != nil {
		t.Fatal(err)
	}
	list, err := b.pauses().List(ctx)
	if err != nil || len(list) != 1 || list[0].Place != PlaceOf(shopOld) || list[0].By != "li" || list[0].Reason != "why" || list[0].At.IsZero() {
		t.Fatalf("after twenty years: %v, %+v", err, list)
	}
	if err := two.Resume(ctx, PlaceOf(shopOld), "wang", "over"); err != nil {
		t.Fatal(err)
	}
	if err := one.Resume(ctx, shopOld, "wang", "over"); !errors.Is(err, ErrNotPaused) {
		t.Errorf("resumed twice: %v", err)
	}
	want := []string{
		"li pause shop/aaaaaaaaaaaa why",
		"wang resume shop/aaaaaaaaaaaa over",
	}
	if got := b.acts(); !slices.Equal(got, want) {
		t.Errorf("audit: %q", got)
	}
}

// brokenStore cannot be read.
type brokenStore struct {
	storage.Store
	broken bool
}

func (s *brokenStore) Memo(ctx context.Context, key string) (storage.Memo, error) {
	if s.broken {
		return storage.Memo{}, storage.ErrCorrupt
	}
	return s.Store.Memo(ctx, key)
}

// What cannot be known is held, and what was known goes on.
func TestPausesOfAStoreThatFails(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	st := &brokenStore{Store: b.store, broken: true}
	p := NewPauses(st, b.clock.Now, slog.New(slog.DiscardHandler))
	if !p.Holds(ctx, shopOld, places(shopOld)) {
		t.Error("delivers without knowing")
	}
	st.broken = false
	if p.Holds(ctx, shopOld, places(shopOld)) {
		t.Error("held although nothing is paused")
	}
	st.broken = true
	b.clock.Advance(time.Minute)
	if p.Holds(ctx, shopOld, places(shopOld)) {
		t.Error("held although nothing was paused when last known")
	}
	if err := p.Pause(ctx, Pause{Place: shopOld}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestReplayOfARange(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	begin := b.clock.Now()
	for i := range 2500 {
		b.add(i, func(n *storage.Notification) {
			if i%2 == 1 {
				n.Merchant = "other"
			}
			if i%10 == 0 {
				n.Kind = "refund"
			}
		})
	}
	at := func(i int) time.Time { return begin.Add(time.Duration(i) * time.Minute) }
	var seen []string
	replayed := func(r *storage.Record) { seen = append(seen, r.ID) }

	if _, err := Replay(ctx, b.store, Range{From: at(5), To: at(5)}, "li", "why", b.clock.Now, false, nil, replayed); !errors.Is(err, ErrRange) {
		t.Errorf("an empty range: %v", err)
	}
	p, err := Replay(ctx, b.store, Range{From: at(100), To: at(120)}, "", "", b.clock.Now, true, nil, replayed)
	if err != nil || p != (Progress{Found: 20}) || len(seen) != 0 || len(b.acts()) != 0 {
		t.Fatalf("dry: %v, %+v, %v, %q", err, p, seen, b.acts())
	}
	var reports []Progress
	r := Range{From: at(100), To: at(120), Merchant: "shop", Kind: "payment"}
	p, err = Replay(ctx, b.store, r, "li", "why", b.clock.Now, false, func(p Progress) { reports = append(reports, p) }, replayed)
	if err != nil || p != (Progress{Found: 8, Replayed: 8}) || reports[len(reports)-1] != p {
		t.Fatalf("%v, %+v", err, p)
	}
	if want := "msg_0102 msg_0104 msg_0106 msg_0108 msg_0112 msg_0114 msg_0116 msg_0118"; strings.Join(seen, " ") != want {
		t.Errorf("in the order %v", seen)
	}
	acts := b.acts()
	if len(acts) != 9 || !strings.Contains(acts[0], "replay_range") || !strings.Contains(acts[0], " merchant=shop kind=payment why") ||
		acts[1] != "li replay msg_0102 why" {
		t.Errorf("audit: %q", acts)
	}
	// They are pending now, and not replayed again.
	if p, err = Replay(ctx, b.store, r, "li", "why", b.clock.Now, false, nil, nil); err != nil || p.Found != 0 {
		t.Errorf("again: %v, %+v", err, p)
	}
	// Everything there is, and cut off in the middle.
	cut, stop := context.WithCancel(ctx)
	p, err = Replay(cut, b.store, Range{From: begin, To: at(2500)}, "li", "why", b.clock.Now, false, func(p Progress) {
		if p.Replayed == 10 {
			stop()
		}
	}, nil)
	if !errors.Is(err, context.Canceled) || p != (Progress{Found: 2492, Replayed: 10}) {
		t.Errorf("cut off: %v, %+v", err, p)
	}
	if p, err = Replay(ctx, b.store, Range{From: begin, To: at(2500), State: storage.StateDead}, "li", "why", b.clock.Now, true, nil, nil); err != nil || p.Found != 0 {
		t.Errorf("dead ones: %v, %+v", err, p)
	}
}
