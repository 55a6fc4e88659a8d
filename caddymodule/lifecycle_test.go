package caddymodule

import (
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
)

func storeRefs(b *bench) int {
	n, _ := stores.References("badger:" + canonicalDir(filepath.Join(b.dir, "db")))
	return n
}

func TestCallbackReachesTheBackendOnce(t *testing.T) {
	b := newBench(t)
	b.start()
	for range 5 {
		status, answer := b.send(testplatform.Payment(1, 100))
		if status != http.StatusOK || answer != `{"code":"SUCCESS","message":"成功"}` {
			t.Fatalf("answer %d %s", status, answer)
		}
	}
	eventually(t, 5*time.Second, "one delivery", func() bool { return b.backend.total.Load() == 1 })
	eventually(t, 5*time.Second, "recorded as delivered", func() bool {
		in := b.inbox()
		return len(in) == 1 && in[0].State == "delivered"
	})
	got := b.backend.requests()[0]
	if got.path != "/wechatpay/notify/shop" {
		t.Errorf("path %q", got.path)
	}
	for name, want := range map[string]string{
		"Content-Type":                   "application/json",
		"Wechatpay-Gateway-Merchant":     "shop",
		"Wechatpay-Gateway-Mchid":        testplatform.Mchid,
		"Wechatpay-Gateway-Event-Type":   "TRANSACTION.SUCCESS",
		"Wechatpay-Gateway-Kind":         "payment",
		"Wechatpay-Gateway-Attempt":      "1",
		"Wechatpay-Gateway-Source":       "callback",
		"Wechatpay-Gateway-Amount-Check": "unknown",
	} {
		if g := got.header.Get(name); g != want {
			t.Errorf("%s: %q, want %q", name, g, want)
		}
	}
}

// The store is handed over on a reload: one reference more for a moment, then
// one again, never closed in between.
func TestReloadHandsTheStoreOver(t *testing.T) {
	b := newBench(t)
	b.start()
	b.send(testplatform.Payment(1, 100))
	for range 5 {
		b.load()
		eventually(t, 10*time.Second, "one reference", func() bool { return storeRefs(b) == 1 })
	}
	if status, _ := b.send(testplatform.Payment(1, 100)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	eventually(t, 5*time.Second, "delivered once", func() bool { return b.backend.total.Load() == 1 })
	if in := b.inbox(); len(in) != 1 {
		t.Fatalf("%d notifications", len(in))
	}
}

// A reload that fails leaves the running gateway whole, whatever fails.
func TestFailedReloadLeavesTheRunningGateway(t *testing.T) {
	b := newBench(t)
	b.start()
	good := string(b.json())
	occupied := b.backend.addr()
	for name, bad := range map[string]string{
		"provision": strings.Replace(good, `"mchid":"1900000001"`, `"mchid":"not-a-number"`, 1),
		"handler":   strings.Replace(good, `"handler":"wechatpay_notify"`, `"handler":"wechatpay_notify","merchant":"nobody"`, 1),
		"start":     strings.Replace(good, b.listen, occupied, 1),
		"unknown":   strings.Replace(good, `"mchid":`, `"mchidd":"x","mchid":`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if bad == good {
				t.Fatal("the mutation did not take")
			}
			if err := caddy.Load([]byte(bad), true); err == nil {
				t.Fatal("a bad configuration was loaded")
			}
			eventually(t, 10*time.Second, "one reference", func() bool { return storeRefs(b) == 1 })
			if status, _ := b.send(testplatform.Payment(7, 100)); status != http.StatusOK {
				t.Errorf("callback after the failed reload: status %d", status)
			}
			// The admin endpoint that survives is the failed configuration's.
			if in := b.inbox(); len(in) != 1 {
				t.Errorf("admin after the failed reload: %d notifications", len(in))
			}
		})
	}
	eventually(t, 5*time.Second, "delivered once", func() bool { return b.backend.total.Load() == 1 })
}

// caddy validate provisions. It must touch neither store nor network, and work
// beside a running gateway.
func TestValidateOpensNothing(t *testing.T) {
	b := newBench(t)
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(b.json(), cfg); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	if err := caddy.Validate(cfg); err != nil {
		t.Fatal(err)
	}
	if matches, _ := filepath.Glob(filepath.Join(b.dir, "db*")); len(matches) > 0 {
		t.Fatalf("validating made %v", matches)
	}
	if storeRefs(b) != 0 {
		t.Fatal("validating took the store")
	}
	eventually(t, 5*time.Second, "no goroutine is left behind", func() bool { return runtime.NumGoroutine() <= before })

	b.start()
	cfg = new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(b.json(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(cfg); err != nil {
		t.Fatalf("beside a running gateway: %v", err)
	}
	if storeRefs(b) != 1 {
		t.Fatalf("%d references", storeRefs(b))
	}
	if status, _ := b.send(testplatform.Payment(1, 100)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
}

// Another directory is another store: the old one is closed when its
// configuration has gone, and its notifications stay in it.
func TestReloadToAnotherDirectory(t *testing.T) {
	b := newBench(t)
	b.start()
	b.send(testplatform.Payment(1, 100))
	eventually(t, 5*time.Second, "delivered", func() bool { return b.backend.total.Load() == 1 })
	elsewhere := filepath.Join(t.TempDir(), "other")
	other := strings.ReplaceAll(string(b.json()), filepath.Join(b.dir, "db"), elsewhere)
	t.Cleanup(func() {
		key := "badger:" + canonicalDir(elsewhere)
		eventually(t, 10*time.Second, "the other store is let go", func() bool {
			_, open := stores.References(key)
			return !open
		})
		lockStore(key)()
	})
	if err := caddy.Load([]byte(other), true); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the old store is closed", func() bool { return storeRefs(b) == 0 })
	if in := b.inbox(); len(in) != 0 {
		t.Fatalf("%d notifications in a new store", len(in))
	}
	b.load()
	eventually(t, 5*time.Second, "the old inbox again", func() bool { return len(b.inbox()) == 1 })
}

// A delivery that runs during a reload ends under the old configuration, and is
// not sent again by the new one.
func TestDeliveryAcrossReload(t *testing.T) {
	b := newBench(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.backend.says(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		once.Do(func() { close(entered) })
		<-release
		w.WriteHeader(http.StatusNoContent)
	})
	b.start()
	b.send(testplatform.Payment(1, 100))
	<-entered
	b.load()
	b.load()
	if n := b.backend.total.Load(); n != 1 {
		t.Fatalf("%d requests", n)
	}
	close(release)
	eventually(t, 5*time.Second, "delivered", func() bool {
		in := b.inbox()
		return len(in) == 1 && in[0].State == "delivered"
	})
	eventually(t, 10*time.Second, "one reference", func() bool { return storeRefs(b) == 1 })
	if n := b.backend.total.Load(); n != 1 {
		t.Fatalf("%d requests", n)
	}
}

// A configuration without the app has no admin routes of it to answer, and does
// not make one.
func TestAdminWithoutTheApp(t *testing.T) {
	b := newBench(t)
	text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\n\tadmin "+b.admin+"\n\tpersist_config off\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(text, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	if status := b.call(http.MethodGet, "/wechatpay/health", "", nil); status != http.StatusNotFound {
		t.Fatalf("status %d", status)
	}
	if storeRefs(b) != 0 {
		t.Fatal("a store was opened")
	}
}

// Handlers without the global option say what to add.
func TestHandlerWithoutTheApp(t *testing.T) {
	for _, directive := range []string{
		"wechatpay_notify {\n\t\tdeliver {\n\t\t\trespond 200\n\t\t}\n\t}",
		"wechatpay_api shop {\n\t\tcaller erp token 0123456789abcdef\n\t\tallow erp query\n\t}",
	} {
		text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\n\tadmin off\n\tpersist_config off\n}\nhttp://127.0.0.1:1 {\n\t"+directive+"\n}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg := new(caddy.Config)
		if err := caddy.StrictUnmarshalJSON(text, cfg); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(cfg); err == nil || !strings.Contains(err.Error(), "add a wechatpay global option") {
			t.Errorf("%s: %v", directive[:16], err)
		}
	}
}

// One merchant number cannot be real and a sandbox's in one gateway.
func TestSandboxApart(t *testing.T) {
	b := newBench(t)
	good := string(b.json())
	bad := strings.Replace(good, `"merchants":{`, `"merchants":{"play":{"mchid":"1900000001","sandbox":"http://127.0.0.1:1"},`, 1)
	if bad == good {
		t.Fatal("the mutation did not take")
	}
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON([]byte(bad), cfg); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(cfg); err == nil || !strings.Contains(err.Error(), "give the sandbox another mchid") {
		t.Fatalf("%v", err)
	}
}
