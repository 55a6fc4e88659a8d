package merchant

import (
	"net/http"
	"sync/atomic"
	"time"
)

// clockSeen is how this machine's clock stood to WeChat Pay's when last seen.
type clockSeen struct {
	skew time.Duration
	at   time.Time
}

type clockWatch struct{ last atomic.Pointer[clockSeen] }

// SawDate compares this machine's clock with the Date header of an answer of
// WeChat Pay's: sent and received are when the request went out and the answer
// came, by this machine's clock. An answer without a Date says nothing. Signatures
// that are more than 300 s off are refused, so a clock that drifts is told before
// it stops payments.
func (m *Merchant) SawDate(date string, sent, received time.Time) {
	theirs, err := http.ParseTime(date)
	if err != nil || received.Before(sent) {
		return
	}
	seen := &clockSeen{at: received}
	// A Date is cut to the second, and the answer was made some time between
	// sent and received: only what neither explains is skew.
	switch until := theirs.Add(time.Second); {
	case sent.After(until):
		seen.skew = sent.Sub(until)
	case received.Before(theirs):
		seen.skew = received.Sub(theirs)
	}
	m.clock.last.Store(seen)
}

// ClockSkew returns by how much at least this machine's clock is ahead of WeChat
// Pay's (behind it when negative) and when that was seen; ok is false before the
// first answer. The Date header is not signed: it is good for a warning and for
// nothing else.
func (m *Merchant) ClockSkew() (skew time.Duration, at time.Time, ok bool) {
	seen := m.clock.last.Load()
	if seen == nil {
		return 0, time.Time{}, false
	}
	return seen.skew, seen.at, true
}
