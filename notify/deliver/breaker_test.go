package deliver

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// newTestBreaker returns a breaker that opens after 5 and probes every 4 s.
func newTestBreaker() (*breaker, *[]bool) {
	var changes []bool
	b := newBreaker(4*time.Second, 5, func(open bool) { changes = append(changes, open) })
	return b, &changes
}

// end makes one attempt that ends with v.
func end(t *testing.T, b *breaker, id string, v verdict) (held bool) {
	t.Helper()
	leave, wait := b.enter()
	if !leave.given() {
		t.Fatalf("%s may not be sent for %s", id, wait)
	}
	return b.leave(leave, id, v)
}

// trip opens the breaker.
func trip(t *testing.T, b *breaker) {
	t.Helper()
	for n := range 5 {
		if held := end(t, b, fmt.Sprint(n), verdictFailing); held != (n == 4) {
			t.Fatalf("failure %d held: %v", n, held)
		}
	}
	if b.closed() {
		t.Fatal("did not open")
	}
}

func TestBreakerTripsOnDifferentNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, changes := newTestBreaker()
		for range 100 { // one that its backend never takes
			if end(t, b, "poisoned", verdictFailing) {
				t.Fatal("one notification opened the breaker")
			}
		}
		end(t, b, "good", verdictAlive)
		for n := range 100 { // others succeed in between
			end(t, b, fmt.Sprint("bad", n), verdictFailing)
			if n%4 == 3 {
				end(t, b, fmt.Sprint("good", n), verdictAlive)
			}
			if !b.closed() {
				t.Fatal("opened although some succeeded")
			}
		}
		for n := range 20 { // says nothing
			end(t, b, fmt.Sprint("none", n), verdictNone)
		}
		if len(*changes) != 0 {
			t.Fatalf("changes: %v", *changes)
		}
		trip(t, b)
		if !slices.Equal(*changes, []bool{true}) {
			t.Errorf("changes: %v", *changes)
		}
	})
}

func TestBreakerProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, changes := newTestBreaker()
		trip(t, b)
		for range 10 {
			opened := time.Now()
			for {
				leave, wait := b.enter()
				if leave.given() {
					if !b.leave(leave, "probe", verdictFailing) {
						t.Fatal("a failed probe was counted")
					}
					break
				}
				if wait <= 0 {
					t.Fatal("refused without a wait")
				}
				time.Sleep(wait)
			}
			if took := time.Since(opened); took < 4*time.Second || took > 5*time.Second {
				t.Fatalf("probe after %s", took)
			}
		}
		time.Sleep(5 * time.Second)
		leave, _ := b.enter()
		if second, wait := b.enter(); second.given() || wait <= 0 {
			t.Fatal("two probes at a time")
		}
		b.leave(leave, "probe", verdictAlive)
		if !b.closed() || !slices.Equal(*changes, []bool{true, false}) {
			t.Fatalf("after a good probe: changes %v", *changes)
		}
		trip(t, b) // the count starts anew
	})
}

func TestBreakerProbesOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		trip(t, b)
		time.Sleep(5 * time.Second)
		var hanging []admission
		for range 7 { // each hangs for 30 s
			leave, _ := b.enter()
			if !leave.given() {
				t.Fatal("a hanging probe put off the next")
			}
			hanging = append(hanging, leave)
			time.Sleep(4 * time.Second)
		}
		for _, leave := range hanging[:6] {
			if !b.leave(leave, "probe", verdictFailing) || b.closed() {
				t.Fatal("a failed probe closed the breaker")
			}
		}
		b.leave(hanging[6], "probe", verdictAlive)
		if !b.closed() {
			t.Fatal("the last probe's success did not close it")
		}

		// All of a round fail: the next waits again.
		trip(t, b)
		time.Sleep(5 * time.Second)
		first, _ := b.enter()
		time.Sleep(4 * time.Second)
		second, _ := b.enter()
		b.leave(second, "b", verdictFailing)
		b.leave(first, "a", verdictFailing)
		if leave, _ := b.enter(); leave.given() {
			t.Fatal("a probe without a wait")
		}
		// A probe that found nothing to send costs no wait.
		time.Sleep(5 * time.Second)
		empty, _ := b.enter()
		b.leave(empty, "", verdictNone)
		if leave, _ := b.enter(); !leave.given() {
			t.Fatal("an empty probe took the turn")
		}
	})
}

func TestBreakerStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		var early []admission
		for range 3 {
			leave, _ := b.enter()
			early = append(early, leave)
		}
		trip(t, b)
		if !b.leave(early[0], "x", verdictFailing) {
			t.Error("a failure while open was counted")
		}
		if b.leave(admission{}, "y", verdictFailing); b.closed() {
			t.Error("closed by a failure")
		}
		// One that was under way when it opened succeeds: the backend lives.
		b.leave(early[1], "z", verdictAlive)
		if !b.closed() {
			t.Fatal("a success did not close it")
		}
		// And one from before counts against the new count as nothing.
		for n := range 4 {
			end(t, b, fmt.Sprint(n), verdictFailing)
		}
		b.leave(early[2], "late", verdictFailing)
		if !b.closed() {
			t.Error("a failure of another time tripped it")
		}
	})
}

func TestVerdicts(t *testing.T) {
	for _, row := range []struct {
		result notify.Result
		status int
		want   verdict
	}{
		{notify.ResultSuccess, 200, verdictAlive},
		{notify.ResultRefused, 200, verdictAlive},
		{notify.ResultStatus, 302, verdictAlive},
		{notify.ResultStatus, 404, verdictAlive},
		{notify.ResultStatus, 429, verdictAlive},
		{notify.ResultStatus, 499, verdictAlive},
		{notify.ResultStatus, 500, verdictFailing},
		{notify.ResultStatus, 503, verdictFailing},
		{notify.ResultTimeout, 0, verdictFailing},
		{notify.ResultUnreachable, 0, verdictFailing},
		{notify.ResultIncomplete, 200, verdictFailing},
		{notify.ResultPanic, 0, verdictFailing},
		{notify.ResultNoRoute, 0, verdictNone},
		{notify.ResultStale, 0, verdictNone},
		{"", 0, verdictNone},
	} {
		if got := verdictOf(row.result, row.status); got != row.want {
			t.Errorf("%s %d: %d, want %d", row.result, row.status, got, row.want)
		}
	}
}
