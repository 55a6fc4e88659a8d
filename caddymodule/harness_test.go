package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
)

// bench is a gateway inside the test's process, the platform that signs for it
// and the backend behind it.
type bench struct {
	t        *testing.T
	dir      string
	platform *testplatform.Platform
	backend  *backend
	listen   string // host:port of the gateway
	admin    string // host:port of its admin endpoint
	notify   string // options of wechatpay_notify before deliver
	deliver  string // inside of deliver; default: reverse_proxy to backend
	merchant string // further options of the shop's merchant block
	global   string // further options of the wechatpay block
	site     string // further directives of the site
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	p, err := testplatform.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: dir, platform: p, backend: newBackend(t), listen: freePort(t), admin: freePort(t)}
	b.deliver = "reverse_proxy " + b.backend.addr()
	return b
}

// caddyfile is the configuration as it stands.
func (b *bench) caddyfile() string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	grace_period 2s
	log {
		level ERROR
	}
	wechatpay {
		storage badger %s
		merchant shop {
			%s
			%s
		}
		%s
	}
}
http://%s {
	bind 127.0.0.1
	handle /wechatpay/notify/* {
		wechatpay_notify {
			%s
			deliver {
				%s
			}
		}
	}
	%s
}
`, b.admin, filepath.Join(b.dir, "db"), b.platform.MerchantOptions(), b.merchant, b.global, b.listen, b.notify, b.deliver, b.site)
}

// json adapts the configuration.
func (b *bench) json() []byte {
	b.t.Helper()
	text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(b.caddyfile()), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		b.t.Fatalf("adapt: %v", err)
	}
	return text
}

// load runs the configuration in this process, in place of the one before.
func (b *bench) load() {
	b.t.Helper()
	if err := caddy.Load(b.json(), true); err != nil {
		b.t.Fatalf("load: %v", err)
	}
}

// start loads the configuration and stops it when the test ends, waiting until
// the store is closed.
func (b *bench) start() {
	b.t.Helper()
	b.load()
	b.t.Cleanup(func() { b.stop() })
}

func (b *bench) stop() {
	b.t.Helper()
	if err := caddy.Stop(); err != nil {
		b.t.Errorf("stop: %v", err)
	}
	key := "badger:" + canonicalDir(filepath.Join(b.dir, "db"))
	eventually(b.t, 10*time.Second, "the store is let go", func() bool {
		_, open := stores.References(key)
		return !open
	})
	lockStore(key)() // held until it is closed
}

// send posts a callback and returns status and body. As WeChat does, it sends
// again what was cut off: a reload resets connections that wait at the listener
// of the configuration before.
func (b *bench) send(n testplatform.Notification) (int, string) {
	b.t.Helper()
	for try := 1; ; try++ {
		h, body := b.platform.Callback(n)
		status, answer, err := b.post("/wechatpay/notify/shop", h, body)
		if err == nil {
			return status, answer
		}
		if try == 5 {
			b.t.Fatalf("callback: %v", err)
		}
	}
}

// client sends callbacks as WeChat does: a connection is kept and reused.
var client = &http.Client{
	Timeout:   10 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
}

func (b *bench) post(path string, h http.Header, body []byte) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+b.listen+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header = h
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// call asks the admin endpoint and decodes its answer.
func (b *bench) call(method, path, body string, into any) int {
	b.t.Helper()
	req, err := http.NewRequest(method, "http://"+b.admin+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		b.t.Fatalf("admin %s: %v", path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			b.t.Fatalf("admin %s: %v in %s", path, err, text)
		}
	}
	return resp.StatusCode
}

// inbox returns the notifications the gateway holds.
func (b *bench) inbox() []notificationView {
	b.t.Helper()
	var list struct {
		Notifications []notificationView `json:"notifications"`
	}
	if status := b.call(http.MethodGet, "/wechatpay/inbox?limit=1000", "", &list); status != http.StatusOK {
		b.t.Fatalf("inbox: status %d", status)
	}
	return list.Notifications
}

// backend is a legacy system that counts what it gets by Webhook-Id.
type backend struct {
	srv *httptest.Server

	mu    sync.Mutex
	got   map[string]int
	order []received
	total atomic.Int64

	// answer decides what it says; nil: 200 {"code":"SUCCESS"}.
	answer func(w http.ResponseWriter, r *http.Request, body []byte)
}

type received struct {
	id     string
	path   string
	header http.Header
	body   []byte
	at     time.Time
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{got: make(map[string]int)}
	b.srv = httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(b.srv.Close)
	return b
}

func (b *backend) addr() string { return strings.TrimPrefix(b.srv.URL, "http://") }

func (b *backend) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	b.got[r.Header.Get("Webhook-Id")]++
	b.order = append(b.order, received{r.Header.Get("Webhook-Id"), r.URL.Path, r.Header.Clone(), body, time.Now()})
	answer := b.answer
	b.mu.Unlock()
	b.total.Add(1)
	if answer != nil {
		answer(w, r, body)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"code":"SUCCESS"}`)
}

// says changes the backend's answer.
func (b *backend) says(f func(w http.ResponseWriter, r *http.Request, body []byte)) {
	b.mu.Lock()
	b.answer = f
	b.mu.Unlock()
}

// requests returns what came so far.
func (b *backend) requests() []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]received(nil), b.order...)
}

// distinct returns how many events came, and how many requests.
func (b *backend) distinct() (events, requests int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got), len(b.order)
}

// eventually waits for something that another goroutine or process brings
// about. It fails the test at the bound.
func eventually(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", bound, what)
		case <-tick.C:
		}
	}
}

// freePort returns a loopback address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
