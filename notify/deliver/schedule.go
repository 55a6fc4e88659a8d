package deliver

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// moneyStep and moneyDays: events that say that money moved go on after the
	// last step of the schedule, every 6 h until 15 days after they came.
	moneyStep = 6 * time.Hour
	moneyTail = 15 * 24 * time.Hour

	// maxRetryAfter caps what a backend's Retry-After may ask for. It is the
	// longest step of WeChat's own schedule: no answer makes a schedule sparser
	// than its sparsest step, so a wrong header cannot put a payment off for days.
	maxRetryAfter = 6 * time.Hour

	// jitter is the part of a wait that randomness may add or take away.
	jitter = 0.20
)

// retryAt says when a notification is to be tried again after its failures-th
// failure (1-based), and false when it is dead. random is in [0,1).
//
// A Retry-After that asks for more than the step is honoured up to
// maxRetryAfter, exactly: it is the backend's own date, so nothing is taken off.
func retryAt(route *notify.Route, rec *storage.Record, failures int, now time.Time, random float64, retryAfter string) (time.Time, bool) {
	var wait time.Duration
	tail := failures > len(route.Retry)
	switch {
	case !tail:
		wait = route.Retry[failures-1]
	case rec.Money:
		wait = moneyStep
	default:
		return time.Time{}, false
	}
	wait += time.Duration(float64(wait) * jitter * (2*random - 1))
	wait = max(wait, parseRetryAfter(retryAfter, now))
	due := now.Add(wait)
	if tail && due.After(rec.ReceivedAt.Add(moneyTail)) {
		return time.Time{}, false
	}
	return due, true
}

// parseRetryAfter reads a Retry-After (RFC 9110, 10.2.3): seconds or an HTTP
// date. Anything else, and what lies in the past, is 0; more than maxRetryAfter
// is maxRetryAfter.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.Trim(value, " \t")
	if value == "" {
		return 0
	}
	if seconds, ok := parseSeconds(value); ok {
		return seconds
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}

// parseSeconds reads a number of seconds, of any length, capped.
func parseSeconds(value string) (time.Duration, bool) {
	var total time.Duration
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return 0, false
		}
		total = min(total*10+time.Duration(c-'0')*time.Second, maxRetryAfter)
	}
	return total, true
}
