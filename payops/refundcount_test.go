package payops_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// noon is a time at which no day ends, for clocks that stand still.
var noon = time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

// paidToday is an order that was paid an hour before noon.
func paidToday(number string) storage.Order {
	o := paidOrder(number)
	o.CreatedAt, o.PaidAt = noon.Add(-2*time.Hour), noon.Add(-time.Hour)
	return o
}

func refuses(status int) func(got) reply {
	return func(got) reply { return reply{status: status, body: `{"code":"NOT_ENOUGH","message":"x"}`} }
}

// sum reads what a caller has refunded on the day of noon.
func sum(t *testing.T, l storage.Ledger, caller string) string {
	t.Helper()
	m, err := l.Memo(context.Background(), "refunds/"+mchid+"/"+caller+"/2026-11-22")
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	return string(m.Data)
}

func TestRefundFailureRate(t *testing.T) {
	options := rigOptions{now: atNoon, answer: refuses(400)}
	g := newRig(t, options)
	for i := range guard.MaxFailures {
		n := fmt.Sprintf("N2026112%d", i)
		put(t, g.ledger, paidToday(n))
		if r := g.do("POST", refundPath, refundBody(n, "R"+n, 30)); r.StatusCode != 400 {
			t.Fatal(r.StatusCode)
		}
	}
	options.store = g.ledger // a restart
	next := newRig(t, options)
	put(t, g.ledger, paidToday("N20261129"))
	r := next.do("POST", refundPath, refundBody("N20261129", "R1", 30))
	retryAfter(t, r, 1)
	next.refused("the seventh", r, 429, payops.Rule(guard.RefundFailures))
	if r := next.do("POST", nativePath, basicBody("N20261130", "1")); r.StatusCode != 400 {
		t.Error("what is no refund is held back:", r.StatusCode)
	}
	next.offset, g.offset = guard.FailureSpan, guard.FailureSpan
	if r := next.do("POST", refundPath, refundBody("N20261129", "R1", 30)); r.StatusCode != 400 || r.Header.Get("Wechatpay-Gateway-Refused") != "" {
		t.Error(r.StatusCode, r.Header)
	}
}

// TestRefundFailuresAtOnce: of refunds that are on their way at once no more can
// fail than of those that follow each other, through however many gateways.
func TestRefundFailuresAtOnce(t *testing.T) {
	var mu sync.Mutex
	began, gate := 0, make(chan struct{})
	options := rigOptions{now: atNoon, answer: func(x got) reply {
		mu.Lock()
		if began++; began == guard.MaxFailures {
			close(gate)
		}
		mu.Unlock()
		<-gate
		return refuses(403)(x)
	}}
	g := newRig(t, options)
	options.store, options.bases = g.ledger, []string{g.wx.server.URL}
	other := newRig(t, options)
	statuses := make([]int, 14)
	var wg sync.WaitGroup
	for i := range statuses {
		n := fmt.Sprintf("N202611%d", 20+i)
		put(t, g.ledger, paidToday(n))
		wg.Go(func() {
			statuses[i] = []*rig{g, other}[i%2].do("POST", refundPath, refundBody(n, fmt.Sprintf("R%d", i), 30)).StatusCode
		})
	}
	wg.Wait()
	slices.Sort(statuses)
	if began != guard.MaxFailures || statuses[guard.MaxFailures-1] != 403 || statuses[guard.MaxFailures] != 429 {
		t.Errorf("%d at WeChat Pay, %v", began, statuses)
	}
}

// TestRefundsInABunch: those that do not fail are not refused for it.
func TestRefundsInABunch(t *testing.T) {
	g := newRig(t, rigOptions{answer: takesRefunds("PROCESSING")})
	var wg sync.WaitGroup
	for i := range 5 * guard.MaxFailures {
		n := fmt.Sprintf("N202611%d", 20+i)
		put(t, g.ledger, paidOrder(n))
		wg.Go(func() {
			if r := g.do("POST", refundPath, refundBody(n, fmt.Sprintf("R%d", i), 30)); r.StatusCode != 200 {
				t.Error(r.StatusCode, r.Header)
			}
		})
	}
	wg.Wait()
}

// TestRefundSuccessesAreNoFailures: however many, they hold nobody back.
func TestRefundSuccessesAreNoFailures(t *testing.T) {
	g := newRig(t, rigOptions{now: atNoon, answer: takesRefunds("PROCESSING")})
	for i := range 2 * guard.MaxFailures {
		n := fmt.Sprintf("N202611%d", 20+i)
		put(t, g.ledger, paidToday(n))
		if r := g.do("POST", refundPath, refundBody(n, "R"+n, 30)); r.StatusCode != 200 {
			t.Fatal(r.StatusCode)
		}
	}
	if len(g.ledger.memos) != 0 {
		t.Error("memos that nothing needs:", g.ledger.memos)
	}
}

func TestRefundOldOrders(t *testing.T) {
	options := rigOptions{now: atNoon, answer: takesRefunds("PROCESSING")}
	g := newRig(t, options)
	for i := range 9 {
		o := paidToday(fmt.Sprintf("N2026112%d", i))
		o.PaidAt = noon.AddDate(0, -1, -1)
		put(t, g.ledger, o)
	}
	put(t, g.ledger, paidToday("N20261129"))
	// All but two of the minute's requests have gone out.
	key := "refund_old_orders/" + mchid
	seed := guard.Events{{noon.Add(-time.Second).UnixNano(), guard.MaxOldRefunds - 2}}
	err := g.ledger.Change(context.Background(), storage.Keys{Memos: []string{key}}, func(r *storage.Rows) error {
		r.Memos[key] = &storage.Memo{Key: key, Data: seed.Encode(), Expires: guard.OldWindow.Until(seed)}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	refund := func(g *rig, order, number string) *http.Response {
		return g.do("POST", refundPath, refundBody(order, number, 30))
	}
	g.refused("refused by another rule: takes no place", g.do("POST", refundPath, refundBody("N20261120", "R0", 101)), 409, payops.Rule(guard.RefundTotal))
	if r := refund(g, "N20261120", "R0"); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	if r := refund(g, "N20261120", "R0"); r.StatusCode != 200 { // a repeat goes out, too
		t.Fatal(r.StatusCode, text(t, r))
	}
	options.store = g.ledger // a restart
	next := newRig(t, options)
	r := refund(next, "N20261121", "R1")
	retryAfter(t, r, 59)
	next.refused("the 5001st", r, 429, payops.Rule(guard.RefundOldOrders))
	if r := refund(next, "N20261129", "R9"); r.StatusCode != 200 {
		t.Error("an order of today:", r.StatusCode, text(t, r))
	}
	next.offset, g.offset = 59*time.Second, 59*time.Second
	if r := refund(next, "N20261121", "R1"); r.StatusCode != 200 {
		t.Error("a minute later:", r.StatusCode, text(t, r))
	}
}

func TestLimits(t *testing.T) {
	answer := takesRefunds("PROCESSING")
	options := rigOptions{
		now:    atNoon,
		answer: func(x got) reply { return answer(x) },
		limits: map[string]guard.Limit{"all": {RefundPerOrder: 50, RefundPerDay: 120}}, rules: policy(t, "off refund_interval"),
	}
	g := newRig(t, options)
	for i := 1; i <= 4; i++ {
		put(t, g.ledger, paidToday(fmt.Sprintf("N2026112%d", i)))
	}
	via := g
	refund := func(order, number string, amount int) *http.Response {
		return via.do("POST", refundPath, refundBody(order, number, amount))
	}
	ok := func(r *http.Response) {
		t.Helper()
		if r.StatusCode != 200 {
			t.Error(r.StatusCode, r.Header.Get("Wechatpay-Gateway-Refused"))
		}
	}
	g.refused("51 of one order", refund("N20261121", "R1", 51), 403, payops.Rule(guard.LimitRefundPerOrder))
	ok(refund("N20261121", "R1", 30))
	ok(refund("N20261121", "R1", 30)) // a repeat is none
	g.refused("21 more", refund("N20261121", "R2", 21), 403, payops.Rule(guard.LimitRefundPerOrder))
	ok(refund("N20261121", "R2", 20))
	answer = refuses(403)
	refund("N20261122", "R3", 50) // rejected: does not count
	answer = takesRefunds("PROCESSING")
	options.store = g.ledger // a restart
	via = newRig(t, options)
	ok(refund("N20261123", "R4", 50))
	r := refund("N20261124", "R5", 21)
	retryAfter(t, r, 12*60*60)
	via.refused("21 today", r, 403, payops.Rule(guard.LimitRefundPerDay))
	ok(refund("N20261124", "R5", 20))
	if got := sum(t, g.ledger, "all"); got != "120" {
		t.Error("counted:", got)
	}
	if r := via.do("POST", refundPath, refundBody("N20261122", "R3", 50), "Authorization", "Bearer refund-token"); r.StatusCode != 200 {
		t.Error("a caller without a limit:", r.StatusCode)
	}
	g.offset, via.offset = 24*time.Hour, 24*time.Hour
	ok(refund("N20261124", "R6", 30))
	via.refused("nobody tells which payment it is", refund("N20269999", "R7", 30), 403, payops.Rule(guard.LimitRefundPerOrder))
}

// TestDayLimitOutcomes: what surely was not refunded is given back, what may have
// been is not.
func TestDayLimitOutcomes(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(got) reply
		bases  func(*testing.T) []string
		want   string
	}{
		"accepted":          {takesRefunds("PROCESSING"), nil, "30"},
		"rejected":          {refuses(403), nil, "0"},
		"unknown":           {refuses(500), nil, "30"},
		"202":               {func(got) reply { return reply{status: 202, body: `{}`} }, nil, "30"},
		"rejected unsigned": {func(got) reply { return reply{status: 403, body: `{"code":"NOT_ENOUGH"}`, sign: "none"} }, nil, "30"},
		"never sent":        {nil, func(t *testing.T) []string { return []string{closedPort(t)} }, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			o := rigOptions{now: atNoon, answer: tc.answer, limits: map[string]guard.Limit{"all": {RefundPerDay: 100}}}
			if tc.bases != nil {
				o.bases = tc.bases(t)
			}
			g := newRig(t, o)
			put(t, g.ledger, paidToday("N20261122"))
			g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
			if got := sum(t, g.ledger, "all"); got != tc.want {
				t.Errorf("counted %q, want %q", got, tc.want)
			}
		})
	}
}

// TestDayLimitCrash: a process that dies between the intent and the outcome
// leaves the amount counted; a step of the ledger that fails counts nothing.
func TestDayLimitCrash(t *testing.T) {
	options := rigOptions{now: atNoon, answer: refuses(403), limits: map[string]guard.Limit{"all": {RefundPerDay: 100}}}
	g := newRig(t, options)
	put(t, g.ledger, paidToday("N20261122"))
	put(t, g.ledger, paidToday("N20261123"))
	g.ledger.fail = func(storage.Keys) error { return storage.ErrClosed }
	g.refused("before the intent", g.do("POST", refundPath, refundBody("N20261122", "R1", 60)), 503, payops.RuleStore)
	changes := 0
	g.ledger.fail = func(storage.Keys) error {
		if changes++; changes > 1 {
			return storage.ErrClosed
		}
		return nil
	}
	if got := sum(t, g.ledger, "all"); got != "" {
		t.Error("counted without an intent:", got)
	}
	g.do("POST", refundPath, refundBody("N20261122", "R1", 60))
	g.ledger.fail = nil
	if got := sum(t, g.ledger, "all"); got != "60" {
		t.Error("counted:", got)
	}
	options.store = g.ledger
	next := newRig(t, options)
	next.refused("41 more", next.do("POST", refundPath, refundBody("N20261123", "R2", 41)), 403, payops.Rule(guard.LimitRefundPerDay))
	// The same refund goes on where it was, and counts once. Its rejection proves
	// nothing about the call that was cut off.
	if r := next.do("POST", refundPath, refundBody("N20261122", "R1", 60)); r.StatusCode != 403 || r.Header.Get("Wechatpay-Gateway-Refused") != "" {
		t.Error(r.StatusCode, r.Header)
	}
	if got := sum(t, g.ledger, "all"); got != "60" {
		t.Error("counted:", got)
	}
}

// TestDayLimitAtMidnight: an amount is counted on the day of its intent, and what
// is given back after midnight takes nothing from the new day.
func TestDayLimitAtMidnight(t *testing.T) {
	midnight := noon.Add(12 * time.Hour)
	var g *rig
	g = newRig(t, rigOptions{
		now: func() time.Time { return midnight.Add(-time.Second) }, limits: map[string]guard.Limit{"all": {RefundPerDay: 100}},
		answer: func(x got) reply {
			g.offset = 2 * time.Second
			return refuses(403)(x)
		},
	})
	put(t, g.ledger, paidToday("N20261122"))
	g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
	if got := sum(t, g.ledger, "all"); got != "0" {
		t.Errorf("yesterday: %q", got)
	}
	if n := len(g.ledger.memos); n != 2 { // yesterday's sum and one failure
		t.Errorf("%d memos: %v", n, g.ledger.memos)
	}
}

// TestDamagedCount: who cannot count refunds nothing.
func TestDamagedCount(t *testing.T) {
	for _, key := range []string{"refunds/" + mchid + "/all/2026-11-22", "refund_failures/" + mchid, "refund_old_orders/" + mchid} {
		g := newRig(t, rigOptions{now: atNoon, answer: takesRefunds("PROCESSING"), limits: map[string]guard.Limit{"all": {RefundPerDay: 100}}})
		o := paidToday("N20261122")
		o.PaidAt = noon.AddDate(0, -1, -1)
		put(t, g.ledger, o)
		g.ledger.memos[key] = storage.Memo{Key: key, Data: []byte("-1"), Expires: noon.Add(time.Minute)}
		g.refused(key, g.do("POST", refundPath, refundBody("N20261122", "R1", 30)), 503, payops.RuleStore)
		if len(g.wx.requests()) != 0 || len(g.ledger.allCalls()) != 0 {
			t.Error("something was sent or written")
		}
	}
}

// TestLimitsSurviveReopening: what was counted is in the store, whatever becomes
// of the process.
func TestLimitsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	clock := storagetest.NewClock()
	clock.Advance(noon.Sub(clock.Now()))
	openStore := func() *badgerstore.Store {
		s, err := badgerstore.Open(context.Background(), badgerstore.Options{Dir: dir, FreeFloor: -1, Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	answer := takesRefunds("PROCESSING")
	options := rigOptions{now: clock.Now, answer: func(x got) reply { return answer(x) }, limits: map[string]guard.Limit{"all": {RefundPerDay: 100}}}
	run := func() (*rig, *badgerstore.Store) {
		s := openStore()
		options.store = s
		return newRig(t, options), s
	}
	g, s := run()
	for i := range 9 {
		put(t, s, paidToday(fmt.Sprintf("N2026112%d", i)))
	}
	if r := g.do("POST", refundPath, refundBody("N20261120", "R0", 70)); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	answer = refuses(400)
	for i := range guard.MaxFailures {
		if r := g.do("POST", refundPath, refundBody(fmt.Sprintf("N2026112%d", i+1), fmt.Sprintf("R%d", i+1), 30)); r.StatusCode != 400 {
			t.Fatal(r.StatusCode, text(t, r))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	g, s = run()
	if got := sum(t, s, "all"); got != "70" {
		t.Error("counted:", got)
	}
	g.refused("the seventh failure", g.do("POST", refundPath, refundBody("N20261128", "R8", 30)), 429, payops.Rule(guard.RefundFailures))
	clock.Advance(time.Second)
	g.refused("31 more", g.do("POST", refundPath, refundBody("N20261128", "R8", 31)), 403, payops.Rule(guard.LimitRefundPerDay))
	answer = takesRefunds("PROCESSING")
	if r := g.do("POST", refundPath, refundBody("N20261128", "R8", 30)); r.StatusCode != 200 {
		t.Error(r.StatusCode, text(t, r))
	}
	clock.Advance(12 * time.Hour)
	if r := g.do("POST", refundPath, refundBody("N20261127", "R7", 100)); r.StatusCode != 200 {
		t.Error("the next day:", r.StatusCode, text(t, r))
	}
}

// TestDayLimitAtOnce: fifty refunds of fifty orders through two gateways stay
// within what one caller may refund.
func TestDayLimitAtOnce(t *testing.T) {
	badger, err := badgerstore.Open(context.Background(), badgerstore.Options{InMemory: true, Now: atNoon})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = badger.Close() })
	for name, ledger := range map[string]storage.Ledger{"model": storagetest.NewModel(atNoon), "badger": badger} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var sent int64
			options := rigOptions{
				store: ledger, now: atNoon, limits: map[string]guard.Limit{"all": {RefundPerDay: 100}},
				answer: func(x got) reply {
					mu.Lock()
					defer mu.Unlock()
					amount := gjson.Get(x.body, "amount.refund").Int()
					if strings.HasSuffix(gjson.Get(x.body, "out_refund_no").String(), "7") {
						return refuses(403)(x) // given back
					}
					sent += amount
					return takesRefunds("PROCESSING")(x)
				},
			}
			g := newRig(t, options)
			options.bases = []string{g.wx.server.URL}
			other := newRig(t, options)
			var wg sync.WaitGroup
			for i := range 50 {
				n := fmt.Sprintf("N202611%d", 20+i)
				put(t, ledger, paidToday(n))
				wg.Go(func() {
					via := []*rig{g, other}[i%2]
					for status := 429; status == 429; { // that many refunds might fail
						status = via.do("POST", refundPath, refundBody(n, fmt.Sprintf("R%d", i), 7)).StatusCode
					}
				})
			}
			wg.Wait()
			if got := sum(t, ledger, "all"); got != fmt.Sprint(sent) || sent > 100 || sent < 63 {
				t.Errorf("%d fen refunded, %s counted", sent, got)
			}
		})
	}
}
