package payops_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestFailOverWhenDiallingFails(t *testing.T) {
	backup := newWechat(t, codeURL)
	main := closedPort(t)
	g := newRig(t, rigOptions{bases: []string{main, backup.server.URL}})
	if r := g.do("POST", nativePath, basicBody("N20261122", "1")); r.StatusCode != 200 || g.observer.failovers != 1 {
		t.Error(r.StatusCode, g.observer.failovers)
	}
	if o := g.order("N20261122"); o.State != storage.OrderCreated {
		t.Errorf("%+v", o)
	}
}

// TestFailOverAfterSending: the same signed bytes go to the backup when the
// main host took the request and gave no answer.
func TestFailOverAfterSending(t *testing.T) {
	for name, tc := range map[string]struct {
		backup reply
		status int
		state  storage.OrderState
		header string
	}{
		"backup succeeds": {codeURL(got{}), 200, storage.OrderCreated, ""},
		// The main host may have made the order: a rejection proves nothing.
		"backup rejects":  {reply{status: 400, body: `{"code":"OUT_TRADE_NO_USED"}`}, 400, storage.OrderUnknown, "unknown"},
		"backup unknown":  {reply{status: 500, body: `{}`}, 500, storage.OrderUnknown, "unknown"},
		"backup unsigned": {reply{status: 200, body: `{}`, sign: "none"}, 500, storage.OrderUnknown, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			var first got
			main := newWechat(t, func(got) reply { panic(http.ErrAbortHandler) })
			backup := newWechat(t, func(x got) reply { return tc.backup })
			g := newRig(t, rigOptions{bases: []string{main.server.URL, backup.server.URL}})
			r := g.do("POST", nativePath, basicBody("N20261122", "1"))
			if r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Outcome") != tc.header || g.order("N20261122").State != tc.state {
				t.Error(r.StatusCode, r.Header, g.order("N20261122").State)
			}
			first = main.requests()[0]
			second := backup.requests()[0]
			if first.body != second.body || first.uri != second.uri || first.header.Get("Authorization") != second.header.Get("Authorization") {
				t.Errorf("not the same signed bytes:\n%+v\n%+v", first, second)
			}
		})
	}
}

func TestSentThenUnreachableIsUnknown(t *testing.T) {
	main := newWechat(t, func(got) reply { panic(http.ErrAbortHandler) })
	g := newRig(t, rigOptions{bases: []string{main.server.URL, closedPort(t)}})
	r := g.do("POST", nativePath, basicBody("N20261122", "1"))
	if r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" || g.order("N20261122").State != storage.OrderUnknown {
		t.Error(r.StatusCode, r.Header, g.order("N20261122").State)
	}
}

func TestTimeoutGoesToTheBackup(t *testing.T) {
	hold := make(chan struct{})
	main := newWechat(t, func(x got) reply { <-hold; return codeURL(x) })
	backup := newWechat(t, codeURL)
	g := newRig(t, rigOptions{bases: []string{main.server.URL, backup.server.URL}, attempt: 200 * time.Millisecond, timeout: 20 * time.Second})
	r := g.do("POST", nativePath, basicBody("N20261122", "1"))
	close(hold)
	if r.StatusCode != 200 || len(backup.requests()) != 1 {
		t.Error(r.StatusCode)
	}
}

func TestEveryHostDown(t *testing.T) {
	g := newRig(t, rigOptions{bases: []string{closedPort(t), closedPort(t)}})
	g.refused("both down", g.do("POST", nativePath, basicBody("N20261122", "1")), 502, payops.RuleUnreachable)
	g.refused("query", g.do("GET", basicQuery+"N20261122", ""), 502, payops.RuleUnreachable)
}

// TestBreakerAndFailBack: after three failures the backup is asked first, one
// request at a time probes the main host when its time has come, and success
// brings everything back.
func TestBreakerAndFailBack(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	main := newWechat(t, func(x got) reply {
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
		return codeURL(x)
	})
	backup := newWechat(t, codeURL)
	g := newRig(t, rigOptions{bases: []string{main.server.URL, backup.server.URL}})
	ask := func(wantMain, wantBackup int) {
		t.Helper()
		m, b := len(main.requests()), len(backup.requests())
		// A POST: Go's client repeats a GET by itself on a broken idle connection.
		if r := g.do("POST", nativePath, basicBody("N20261122", "1")); r.StatusCode != 200 {
			t.Error(r.StatusCode)
		}
		if m, b = len(main.requests())-m, len(backup.requests())-b; m != wantMain || b != wantBackup {
			t.Errorf("main asked %d times, backup %d; want %d and %d", m, b, wantMain, wantBackup)
		}
	}
	for range 3 {
		ask(1, 1)
	}
	ask(0, 1)
	g.offset = 29 * time.Second
	ask(0, 1)
	g.offset = 31 * time.Second
	ask(1, 1) // the probe fails
	ask(0, 1)
	g.offset = 63 * time.Second
	broken.Store(false)
	ask(1, 0) // the probe succeeds
	ask(1, 0)
}

// TestRedirectsAreNotFollowed: neither for answers nor with the client's own
// policy.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer evil.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		g := newRig(t, rigOptions{answer: func(got) reply {
			return reply{status: status, header: http.Header{"Location": {evil.URL}}, sign: "none"}
		}})
		for _, r := range []*http.Response{
			g.do("POST", nativePath, basicBody("N20261122", "1")), g.do("GET", basicQuery+"N20261122", ""),
		} {
			if r.StatusCode != 500 || r.Header.Get("Location") != "" {
				t.Error(status, r.StatusCode, r.Header)
			}
		}
	}
	if reached.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// TestAnswerHeaders: what WeChat Pay says about the answer goes back, what
// could speak in the gateway's name or set a cookie does not.
func TestAnswerHeaders(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(x got) reply {
		a := codeURL(x)
		a.header = http.Header{
			"Set-Cookie": {"a=b"}, "Wechatpay-Gateway-Outcome": {"forged"}, "Wechatpay-Gateway-Refused": {"forged"},
			"Server": {"nginx"}, "Content-Language": {"zh-CN"}, "Wechatpay-Something": {"a", "b"}, "Keep-Alive": {"timeout=8"},
		}
		return a
	}})
	h := g.do("POST", nativePath, basicBody("N20261122", "1")).Header
	for _, name := range []string{"Set-Cookie", "Wechatpay-Gateway-Outcome", "Wechatpay-Gateway-Refused", "Server", "Keep-Alive"} {
		if h.Get(name) != "" {
			t.Errorf("%s goes back: %q", name, h.Get(name))
		}
	}
	if h.Get("Content-Language") != "zh-CN" || len(h["Wechatpay-Something"]) != 2 || h.Get("Request-Id") != "08F78BD7A00610-01" {
		t.Error(h)
	}
}
