package deliver

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var epoch = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// TestRetrySchedule walks 20 failures of an event and checks each wait.
func TestRetrySchedule(t *testing.T) {
	route := &notify.Route{Retry: notify.DefaultRetry}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for name, random := range map[string]func() float64{
		"lowest": func() float64 { return 0 }, "middle": func() float64 { return 0.5 },
		"highest": func() float64 { return 0.999999 }, "any": rng.Float64,
	} {
		for _, money := range []bool{false, true} {
			rec := &storage.Record{Notification: storage.Notification{Money: money, ReceivedAt: epoch}}
			now := epoch
			for n := 1; n <= 20; n++ {
				due, ok := retryAt(route, rec, n, now, random(), "")
				if wantOK := n <= len(notify.DefaultRetry) || money; ok != wantOK {
					t.Fatalf("%s, money %v: after failure %d alive is %v", name, money, n, ok)
				}
				if !ok {
					continue
				}
				step := 6 * time.Hour
				if n <= len(notify.DefaultRetry) {
					step = notify.DefaultRetry[n-1]
				}
				if wait := due.Sub(now); wait < step*8/10 || wait > step*12/10 {
					t.Errorf("%s: wait %d is %s, the step is %s", name, n, wait, step)
				} else if name == "middle" && wait != step {
					t.Errorf("without jitter wait %d is %s, want %s", n, wait, step)
				}
				now = due
			}
		}
	}
}

func TestMoneyTailEnds(t *testing.T) {
	route := &notify.Route{Retry: []time.Duration{time.Second}}
	rec := &storage.Record{Notification: storage.Notification{Money: true, ReceivedAt: epoch}}
	now, failures := epoch, 1
	for {
		due, ok := retryAt(route, rec, failures, now, 0.5, "")
		if !ok {
			break
		}
		now = due
		failures++
	}
	// 1 s, then every 6 h while the attempt falls into the 15 days.
	if want := epoch.Add(time.Second + 59*6*time.Hour); !now.Equal(want) || failures != 61 {
		t.Errorf("last attempt at %s after %d failures, want %s", now, failures, want)
	}
	last := epoch.Add(moneyTail)
	if due, ok := retryAt(route, rec, 9, last.Add(-moneyStep), 0.5, ""); !ok || !due.Equal(last) {
		t.Errorf("an attempt at the end of the 15th day: %s, %v", due, ok)
	}
	if _, ok := retryAt(route, rec, 9, last.Add(-moneyStep+1), 0.5, ""); ok {
		t.Error("an attempt after the 15th day")
	}
	// A schedule that is itself longer than 15 days is followed to its end.
	long := &notify.Route{Retry: []time.Duration{20 * 24 * time.Hour}}
	if _, ok := retryAt(long, rec, 1, epoch, 0.5, ""); !ok {
		t.Error("a configured step was not followed")
	}
	if _, ok := retryAt(&notify.Route{}, &storage.Record{}, 1, epoch, 0.5, ""); ok {
		t.Error("no schedule and no money: dead after one attempt")
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 120 ": 2 * time.Minute, "007": 7 * time.Second,
		"21600": maxRetryAfter, "21601": maxRetryAfter, "99999999999999999999999999": maxRetryAfter, strings.Repeat("9", 4096): maxRetryAfter,
		"-5": 0, "+5": 0, "1.5": 0, "1e3": 0, "soon": 0, "5 s": 0, "５": 0,
		epoch.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		epoch.Add(-time.Hour).Format(http.TimeFormat):       0,
		epoch.Add(999 * time.Hour).Format(http.TimeFormat):  maxRetryAfter,
		epoch.Add(time.Minute).Format(time.RFC850):          time.Minute,
		epoch.Add(time.Minute).Format(time.ANSIC):           time.Minute,
		epoch.Add(time.Minute).Format(time.RFC3339):         0,
	} {
		if got := parseRetryAfter(value, epoch); got != want {
			t.Errorf("%.40q: %s, want %s", value, got, want)
		}
	}

	route := &notify.Route{Retry: []time.Duration{10 * time.Second}}
	rec := &storage.Record{Notification: storage.Notification{ReceivedAt: epoch}}
	for value, want := range map[string]time.Duration{"3": 10 * time.Second, "30": 30 * time.Second, "10": 10 * time.Second} {
		if due, _ := retryAt(route, rec, 1, epoch, 0.5, value); due.Sub(epoch) != want {
			t.Errorf("step 10 s, Retry-After %s: %s, want %s", value, due.Sub(epoch), want)
		}
	}
	// Jitter takes nothing off what the backend asked for.
	if due, _ := retryAt(route, rec, 1, epoch, 0, "10"); due.Sub(epoch) != 10*time.Second {
		t.Errorf("earlier than Retry-After: %s", due.Sub(epoch))
	}
	if _, ok := retryAt(route, rec, 2, epoch, 0.5, "30"); ok {
		t.Error("Retry-After gave a dead notification another attempt")
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "5", "-1", "99999999999999999999", "Sun, 01 Mar 2026 08:01:00 GMT"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got := parseRetryAfter(value, epoch); got < 0 || got > maxRetryAfter {
			t.Fatalf("%q: %s", value, got)
		}
	})
}
