package send

import (
	"sync"
	"time"
)

const (
	// tripAfter is how many failures in a row make the gateway prefer the backup.
	tripAfter = 3
	// holdFor is how long it does before one request tries the main host again.
	holdFor = 30 * time.Second
)

// hosts chooses the order in which API hosts are tried: the main one first;
// when it has failed a few times in a row the backups for a while, with one
// request at a time probing the main host; back to it when that one succeeds.
type hosts struct {
	mu    sync.Mutex
	bases []host
}

type host struct {
	base     string
	failures int
	retryAt  time.Time // while failures ≥ tripAfter: when it is probed next
}

func newHosts(bases []string) *hosts {
	h := &hosts{bases: make([]host, len(bases))}
	for i, b := range bases {
		h.bases[i].base = b
	}
	return h
}

// order lists the indices of all hosts, the one to try first at the front. A
// host that is due for its probe is at its own place for one caller only.
func (h *hosts) order(now time.Time) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	good, tripped := make([]int, 0, len(h.bases)), []int(nil)
	for i := range h.bases {
		b := &h.bases[i]
		switch {
		case b.failures < tripAfter:
			good = append(good, i)
		case !now.Before(b.retryAt):
			b.retryAt = now.Add(holdFor) // this request is the probe
			good = append(good, i)
		default:
			tripped = append(tripped, i)
		}
	}
	return append(good, tripped...)
}

// report records whether host i answered, whatever it said.
func (h *hosts) report(i int, answered bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := &h.bases[i]
	if answered {
		b.failures = 0
		return
	}
	if b.failures++; b.failures >= tripAfter {
		b.retryAt = now.Add(holdFor)
	}
}

// base returns scheme and host of host i.
func (h *hosts) base(i int) string { return h.bases[i].base }
