package deliver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// hijack takes the connection over after the request was read.
func hijack(t *testing.T, w http.ResponseWriter, act func(*net.TCPConn, *bufio.ReadWriter)) {
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Errorf("hijack: %v", err)
		return
	}
	defer func() { _ = conn.Close() }()
	act(conn.(*net.TCPConn), rw)
}

func write(rw *bufio.ReadWriter, text string) {
	_, _ = rw.WriteString(text)
	_ = rw.Flush()
}

// TestBackendFaults runs every fault of a backend over a real connection.
func TestBackendFaults(t *testing.T) {
	const short, long = 500 * time.Millisecond, 20 * time.Second
	var redirected atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected.Store(true) }))
	defer target.Close()

	for _, row := range []struct {
		name    string
		timeout time.Duration
		handle  func(t *testing.T, w http.ResponseWriter, r *http.Request)
		want    notify.Result
		status  int
		wait    time.Duration // until the next attempt; the step is 1 s
	}{
		{"ok", long, func(_ *testing.T, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, notify.ResultSuccess, 204, 0},
		{"ok json", long, answer(200, `{"code":"SUCCESS"}`), notify.ResultSuccess, 200, 0},
		{"long ok", long, answer(200, strings.Repeat("x", 3*maxAnswer)), notify.ResultSuccess, 200, 0},
		{"500", long, answer(500, "oops"), notify.ResultStatus, 500, time.Second},
		{"503 of a success", long, answer(503, `{"code":"SUCCESS"}`), notify.ResultStatus, 503, time.Second},
		{"429", long, func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "37")
			w.WriteHeader(429)
		}, notify.ResultStatus, 429, 37 * time.Second},
		{"503 until a date", long, func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", epoch.Add(2*time.Minute).Format(http.TimeFormat))
			w.WriteHeader(503)
		}, notify.ResultStatus, 503, 2 * time.Minute},
		{"fail", long, answer(200, "fail"), notify.ResultRefused, 200, time.Second},
		{"FAIL code", long, answer(200, `{"code":"FAIL","message":"no"}`), notify.ResultRefused, 200, time.Second},
		{"V2 FAIL", long, answer(200, "<xml><return_code><![CDATA[FAIL]]></return_code></xml>"), notify.ResultRefused, 200, time.Second},
		{"302", long, func(_ *testing.T, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusFound)
		}, notify.ResultStatus, 302, time.Second},
		{"307", long, func(_ *testing.T, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		}, notify.ResultStatus, 307, time.Second},
		{"hang", short, func(_ *testing.T, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, notify.ResultTimeout, 0, time.Second},
		{"slow body", short, func(_ *testing.T, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			_, _ = io.WriteString(w, "o")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, notify.ResultTimeout, 200, time.Second},
		{"endless body", short, func(_ *testing.T, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		}, notify.ResultTimeout, 200, time.Second},
		{"truncated body", long, func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, func(_ *net.TCPConn, rw *bufio.ReadWriter) {
				write(rw, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"code\":\"SUCC")
			})
		}, notify.ResultIncomplete, 200, time.Second},
		{"truncated chunks", long, func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, func(_ *net.TCPConn, rw *bufio.ReadWriter) {
				write(rw, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
			})
		}, notify.ResultIncomplete, 200, time.Second},
		{"aborted", long, func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.WriteHeader(200)
			_, _ = io.WriteString(w, "ok")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, notify.ResultIncomplete, 200, time.Second},
		{"reset", long, func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, func(conn *net.TCPConn, _ *bufio.ReadWriter) { _ = conn.SetLinger(0) })
		}, notify.ResultUnreachable, 0, time.Second},
		{"closed without an answer", long, func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, func(*net.TCPConn, *bufio.ReadWriter) {})
		}, notify.ResultUnreachable, 0, time.Second},
		{"no http", long, func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, func(_ *net.TCPConn, rw *bufio.ReadWriter) { write(rw, "220 smtp.example.com ESMTP\r\n") })
		}, notify.ResultUnreachable, 0, time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || int64(len(body)) != r.ContentLength || r.Method != http.MethodPost ||
					r.URL.Path != "/wechatpay/notify/shop" || r.Host != "pay.example.com" {
					t.Errorf("request %s %s%s, %d of %d bytes: %v", r.Method, r.Host, r.URL.Path, len(body), r.ContentLength, err)
				}
				row.handle(t, w, r)
			}))
			defer server.Close()
			checkAttempt(t, newHTTPBackend(t, server.URL), row.timeout, row.want, row.status, row.wait)
		})
	}
	t.Run("connection refused", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		url := "http://" + listener.Addr().String()
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		checkAttempt(t, newHTTPBackend(t, url), long, notify.ResultUnreachable, 0, time.Second)
	})
	if redirected.Load() {
		t.Error("a redirect was followed")
	}
}

func answer(status int, body string) func(*testing.T, http.ResponseWriter, *http.Request) {
	return func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// checkAttempt makes one attempt and checks its result and what was recorded.
func checkAttempt(t *testing.T, to notify.Deliverer, timeout time.Duration, want notify.Result, status int, wait time.Duration) {
	t.Helper()
	f := newFixture(func(c *Config, r *notify.Route) {
		c.Now = func() time.Time { return epoch }
		r.Deliverer, r.Timeout, r.Retry = to, timeout, []time.Duration{time.Second}
	})
	f.store.add(payment(1))
	began := time.Now()
	out := f.d.Attempt(context.Background(), f.store.claimOne("msg_0001", time.Minute), f.route)
	if took := time.Since(began); took > timeout+5*time.Second {
		t.Errorf("took %s", took)
	}
	f.stop(t)
	rec := f.store.record("msg_0001")
	if out.Result != want || rec.Attempts != 1 || f.seen.count(want) != 1 {
		t.Errorf("result %s, want %s; %d attempts, heard %v", out.Result, want, rec.Attempts, f.seen.results)
	}
	if rec.LastStatus != status {
		t.Errorf("status %d, want %d", rec.LastStatus, status)
	}
	if want == notify.ResultSuccess {
		if !out.Success || rec.State != storage.StateDelivered || rec.LastError != "" {
			t.Errorf("%+v, %s, %q", out, rec.State, rec.LastError)
		}
		return
	}
	if out.Success || out.Answer != nil || rec.State != storage.StatePending || rec.LastError != string(want) || rec.NextDue.Sub(epoch) != wait {
		t.Errorf("%+v, %s, %q, due after %s", out, rec.State, rec.LastError, rec.NextDue.Sub(epoch))
	}
}

// BenchmarkAttempt makes and judges one attempt, without a store and a network.
func BenchmarkAttempt(b *testing.B) {
	sign, err := newSigner(benchSecrets())
	if err != nil {
		b.Fatal(err)
	}
	answers := map[string]notify.Response{
		"empty": {Status: 204},
		"json":  {Status: 200, Body: []byte(`{"code":"SUCCESS","message":"成功"}`)},
		"xml":   {Status: 200, Body: []byte("<xml><return_code><![CDATA[SUCCESS]]></return_code></xml>")},
	}
	claim := goldenClaim()
	claim.Record.Body = []byte(`{"resource":{"x":"` + strings.Repeat("x", 2000) + `"}}`)
	for _, s := range []*signer{nil, sign} {
		b.Run(fmt.Sprintf("build/signed=%v", s != nil), func(b *testing.B) {
			b.ReportAllocs()
			route := &notify.Route{Payload: notify.PayloadEnvelope}
			for b.Loop() {
				newDelivery(route, s, claim, epoch)
			}
		})
	}
	for name, response := range answers {
		b.Run("judge/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if judge(&response) != notify.ResultSuccess {
					b.Fatal("refused")
				}
			}
		})
	}
}

// instant takes everything.
type instant struct{}

func (instant) Deliver(context.Context, *notify.Delivery) (notify.Response, error) {
	return notify.Response{Status: 200}, nil
}

// endless is a queue that always has more, and costs nothing.
type endless struct {
	*fakeStore
	body  storage.Notification
	fence atomic.Uint64
	left  atomic.Int64
	done  chan struct{}
}

func (s *endless) Claim(_ context.Context, _ string, terms storage.ClaimTerms, limit int) ([]storage.Claim, error) {
	claims := make([]storage.Claim, limit)
	for i := range claims {
		claims[i] = storage.Claim{Record: storage.Record{Notification: s.body}, Fence: s.fence.Add(1), Owner: terms.Owner}
	}
	return claims, nil
}

func (s *endless) Complete(context.Context, string, uint64, storage.Completion) error {
	if s.left.Add(-1) == 0 {
		close(s.done)
	}
	return nil
}
func (s *endless) Release(context.Context, string, uint64, time.Time) error { return nil }
func (s *endless) Queues(context.Context) ([]string, error)                 { return []string{"shop"}, nil }
func (s *endless) NextDue(context.Context, string) (time.Time, bool, error) {
	return time.Time{}, false, nil
}

// BenchmarkDispatch measures what the dispatcher itself costs per notification.
func BenchmarkDispatch(b *testing.B) {
	b.ReportAllocs()
	store := &endless{fakeStore: newFakeStore(), body: payment(1), done: make(chan struct{})}
	store.left.Store(int64(b.N))
	route := &notify.Route{Payload: notify.PayloadEnvelope, Sign: benchSecrets(), Deliverer: instant{}}
	d := New(Config{Store: store, Owner: "bench", Route: func(*storage.Record) *notify.Route { return route }})
	b.ResetTimer()
	d.Start()
	<-store.done
	b.StopTimer()
	if err := d.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
}
