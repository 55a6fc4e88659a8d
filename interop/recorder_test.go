//go:build interop

package interop

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// delivery is one request that the gateway sent to the backend.
type delivery struct {
	path   string
	header http.Header
	body   []byte
	status int // what the backend answered
}

// recorder stands between the gateway and the backend and remembers what went
// through. It can lose the backend's answer after the backend has acted.
type recorder struct {
	*httptest.Server
	backend string // base URL; empty: answers success itself

	mu   sync.Mutex
	seen []delivery
	lose int           // answers to lose
	more chan struct{} // closed and replaced at each delivery
}

func newRecorder(t *testing.T, backend string) *recorder {
	t.Helper()
	r := &recorder{backend: backend, more: make(chan struct{})}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// address is the recorder's host:port.
func (r *recorder) address() string { return strings.TrimPrefix(r.URL, "http://") }

// ServeHTTP passes a delivery on and its answer back.
func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, "cut short", http.StatusBadRequest)
		return
	}
	d := delivery{path: req.URL.Path, header: req.Header.Clone(), body: body, status: http.StatusOK}
	answer := []byte(`{"code":"SUCCESS"}`)
	if r.backend != "" {
		d.status, answer, err = r.forward(d)
		if err != nil {
			d.status, answer = http.StatusBadGateway, nil
		}
	}
	r.mu.Lock()
	r.seen = append(r.seen, d)
	lose := r.lose > 0
	if lose {
		r.lose--
	}
	close(r.more)
	r.more = make(chan struct{})
	r.mu.Unlock()
	if lose {
		w.WriteHeader(http.StatusGatewayTimeout)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(d.status)
	_, _ = w.Write(answer) // the gateway may be gone
}

// forward sends a delivery to the backend, whoever it came from.
func (r *recorder) forward(d delivery) (status int, answer []byte, err error) {
	req, err := http.NewRequest(http.MethodPost, r.backend+d.path, bytes.NewReader(d.body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = d.header.Clone()
	return do(req)
}

// loseAnswers makes the next n answers never arrive at the gateway.
func (r *recorder) loseAnswers(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose = n
}

// with returns the deliveries whose body has this text.
func (r *recorder) with(text string) []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []delivery
	for _, d := range r.seen {
		if bytes.Contains(d.body, []byte(text)) {
			out = append(out, d)
		}
	}
	return out
}

// count is the number of all deliveries.
func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// wait waits until there are n deliveries whose body has this text.
func (r *recorder) wait(t *testing.T, text string, n int) []delivery {
	t.Helper()
	bound := time.After(callBound)
	for {
		r.mu.Lock()
		more := r.more
		r.mu.Unlock()
		if got := r.with(text); len(got) >= n {
			return got
		}
		select {
		case <-more:
		case <-bound:
			t.Fatalf("%d deliveries of %s after %v, want %d", len(r.with(text)), text, callBound, n)
		}
	}
}
