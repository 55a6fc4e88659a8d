package merchant

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const sandboxKeyID = "PUB_KEY_ID_SANDBOX_1900000001_1"

// fakeSandbox serves /sandbox/keys/{mchid}.
type fakeSandbox struct {
	*httptest.Server
	requests atomic.Int64
	mu       sync.Mutex
	answer   map[string]any
	status   int
}

func newFakeSandbox(t *testing.T) *fakeSandbox {
	s := &fakeSandbox{status: http.StatusOK, answer: map[string]any{
		"mchid": testMchid, "appids": []string{"wx8888888888888888", "wxd678efh567hg6786"},
		"serial_no": testSerial, "private_key": pkcs8(merchantKey()), "apiv3_key": testAPIv3,
		"public_keys":           []any{map[string]any{"id": sandboxKeyID, "pem": pkix8(&platformKey().PublicKey)}},
		"platform_certificates": []any{certSpec{key: nextKey(), organization: SandboxOrganization}.pem()},
	}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.RequestURI != "/sandbox/keys/"+testMchid || r.Header.Get("Authorization") != "" {
			t.Errorf("asked for %s", r.RequestURI)
		}
		w.WriteHeader(s.status)
		if err := json.NewEncoder(w).Encode(s.answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *fakeSandbox) set(change func(*fakeSandbox)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func newSandboxHarness(t *testing.T, s *fakeSandbox, apps ...App) *harness {
	t.Helper()
	h := &harness{clock: newFakeClock(), metrics: &countingMetrics{}, log: &logBuffer{}}
	h.cfg = Config{Name: "demo", Mchid: testMchid, Apps: apps, Sandbox: s.URL}
	h.Merchant = h.again(t)
	return h
}

const sandboxLeast, sandboxMost = 9 * time.Second, 11 * time.Second

func TestSandboxKeys(t *testing.T) {
	s := newFakeSandbox(t)
	h := newSandboxHarness(t, s)
	if err := h.Ready(); !errors.Is(err, ErrNoKeys) {
		t.Errorf("Ready: %v", err)
	}
	if _, err := h.Credential(); !errors.Is(err, ErrNoKeys) {
		t.Errorf("Credential: %v", err)
	}
	if _, err := h.Decrypt(nil, make([]byte, 12), make([]byte, 32)); !errors.Is(err, ErrNoKeys) {
		t.Errorf("Decrypt: %v", err)
	}
	if bases := h.APIBases(); len(bases) != 1 || bases[0] != s.URL || !h.Sandbox() || h.Keys().Len() != 0 || len(h.Apps()) != 0 {
		t.Error("before the fetch")
	}
	h.Start(nil)
	h.wantTimer(t, sandboxLeast, sandboxMost)
	if err := h.Ready(); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, h.Merchant, h.clock.Now(), sandboxKeyID, serialOf(1))
	if !h.HasApp("wxd678efh567hg6786") || h.DefaultApp().Appid != "wx8888888888888888" {
		t.Errorf("apps %v", h.Apps())
	}
	if c, err := h.Credential(); err != nil || c.SerialNo() != testSerial || c.Mchid() != testMchid {
		t.Errorf("credential %v, %v", c, err)
	}
	if got, err := h.Decrypt([]byte("a"), []byte("fdasflkja484"), seal(testAPIv3, "a", "fdasflkja484", "{}")); err != nil || string(got) != "{}" {
		t.Errorf("decrypt: %v", err)
	}
}

func TestSandboxAppsOfTheBlockWin(t *testing.T) {
	s := newFakeSandbox(t)
	app := App{Appid: "wx2421b1c4370ec43b", Type: AppMiniProgram}
	h := newSandboxHarness(t, s, app)
	h.Start(nil)
	h.wantTimer(t, sandboxLeast, sandboxMost)
	if apps := h.Apps(); len(apps) != 1 || !reflect.DeepEqual(apps[0], app) {
		t.Errorf("apps %v", apps)
	}
}

// TestSandboxGivesSecrets: AppSecrets come with the keys; one that the block
// holds itself wins, and both outlive a reload.
func TestSandboxGivesSecrets(t *testing.T) {
	s := newFakeSandbox(t)
	s.set(func(s *fakeSandbox) {
		s.answer["apps"] = []any{
			map[string]any{"appid": "wx8888888888888888", "type": "official", "secret": "offered-1", "domains": []string{"Shop.example.com"}},
			map[string]any{"appid": "wxd678efh567hg6786", "type": "miniprogram", "secret": "offered-2"},
		}
	})
	h := newSandboxHarness(t, s)
	h.Start(nil)
	h.wantTimer(t, sandboxLeast, sandboxMost)
	official, _ := h.App("wx8888888888888888")
	mini, _ := h.App("wxd678efh567hg6786")
	if official.Secret.Reveal() != "offered-1" || !reflect.DeepEqual(official.Domains, []string{"shop.example.com"}) ||
		mini.Secret.Reveal() != "offered-2" || mini.Type != AppMiniProgram {
		t.Errorf("apps %v", h.Apps())
	}
	if exchange, authorize := h.OpenIDBases(); exchange != s.URL || authorize != s.URL {
		t.Errorf("openid bases %s, %s", exchange, authorize)
	}

	own := newSandboxHarness(t, s, App{Appid: "wx8888888888888888", Secret: NewSecret("own")}, App{Appid: "wxd678efh567hg6786"})
	own.Adopt(h.Merchant)
	check := func() {
		t.Helper()
		first, _ := own.App("wx8888888888888888")
		second, _ := own.App("wxd678efh567hg6786")
		if first.Secret.Reveal() != "own" || second.Secret.Reveal() != "offered-2" || second.Type != AppOfficial {
			t.Errorf("apps %v", own.Apps())
		}
	}
	check() // adopted
	own.Start(nil)
	own.wantTimer(t, sandboxLeast, sandboxMost)
	check() // fetched
}

func TestSandboxBackoffAndRotation(t *testing.T) {
	s := newFakeSandbox(t)
	s.set(func(s *fakeSandbox) { s.status = http.StatusServiceUnavailable })
	h := newSandboxHarness(t, s)
	h.Start(nil)
	for _, want := range []time.Duration{200, 400, 800, 1600, 3200, 5000, 5000} {
		d := h.wantTimer(t, want*time.Millisecond, want*time.Millisecond)
		h.clock.advance(d)
	}
	d := h.wantTimer(t, sandboxLastRetry, sandboxLastRetry)
	if n := strings.Count(h.log.String(), "not fetched"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	s.set(func(s *fakeSandbox) { s.status = http.StatusOK })
	h.clock.advance(d)
	d = h.wantTimer(t, sandboxLeast, sandboxMost)
	before := h.Keys()

	h.clock.advance(d) // the same answer
	d = h.wantTimer(t, sandboxLeast, sandboxMost)
	if h.Keys() != before {
		t.Error("the same answer made another set")
	}

	s.set(func(s *fakeSandbox) { // down: what there is stays
		s.status = http.StatusInternalServerError
	})
	h.clock.advance(d)
	d = h.wantTimer(t, sandboxInterval, sandboxInterval)
	if h.Keys() != before || h.Ready() != nil {
		t.Error("a failed fetch took the keys away")
	}

	s.set(func(s *fakeSandbox) { // rotated
		s.status = http.StatusOK
		s.answer["public_keys"] = []any{map[string]any{"id": sandboxKeyID + "b", "pem": pkix8(&nextKey().PublicKey)}}
		s.answer["apiv3_key"] = testAPIv3b
	})
	h.clock.advance(d)
	h.wantTimer(t, sandboxLeast, sandboxMost)
	wantKeys(t, h.Merchant, h.clock.Now(), sandboxKeyID+"b", serialOf(1))
}

func TestSandboxRefusals(t *testing.T) {
	key := func(id, text string) any { return map[string]any{"id": id, "pem": text} }
	public := pkix8(&platformKey().PublicKey)
	for name, change := range map[string]map[string]any{
		"another mchid":       {"mchid": "1900000002"},
		"no serial_no":        {"serial_no": ""},
		"a quote in serial":   {"serial_no": `5157",x="`},
		"no private_key":      {"private_key": ""},
		"a small private_key": {"private_key": pkcs8(smallKey())},
		"a short apiv3_key":   {"apiv3_key": testAPIv3[:16]},
		"a bad appid":         {"appids": []string{"x"}},
		"appids of no list":   {"appids": "x"},
		"production id":       {"public_keys": []any{key(testKeyID, public)}},
		"id twice":            {"public_keys": []any{key(sandboxKeyID, public), key(sandboxKeyID, public)}},
		"a curve":             {"public_keys": []any{key(sandboxKeyID, pkix8(&curveKey().PublicKey))}},
		"no pem":              {"public_keys": []any{key(sandboxKeyID, "")}},
		"production cert":     {"platform_certificates": []any{certSpec{}.pem()}},
		"cert of a curve":     {"platform_certificates": []any{certSpec{key: curveKey(), organization: SandboxOrganization}.pem()}},
		"cert twice":          {"platform_certificates": []any{certSpec{organization: SandboxOrganization}.pem() + certSpec{organization: SandboxOrganization}.pem()}},
		"cert of no kind":     {"platform_certificates": []any{"x"}},
		"no keys at all":      {"public_keys": []any{}, "platform_certificates": []any{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFakeSandbox(t)
			s.set(func(s *fakeSandbox) { maps.Copy(s.answer, change) })
			h := newSandboxHarness(t, s)
			h.Start(nil)
			h.wantTimer(t, sandboxFirstRetry, sandboxFirstRetry)
			if err := h.Ready(); !errors.Is(err, ErrNoKeys) {
				t.Errorf("accepted: %v", err)
			}
			if h.metrics.count(RefreshMalformed) != 1 {
				t.Errorf("counted %v", h.metrics.refreshes)
			}
		})
	}
}

// TestSandboxNeverPassesProduction: whichever way a sandbox's key comes in.
func TestSandboxNeverPassesProduction(t *testing.T) {
	s := newFakeSandbox(t)
	demo := newSandboxHarness(t, s)
	demo.Start(nil)
	demo.wantTimer(t, sandboxLeast, sandboxMost)
	message := unixText(baseTime) + "\nn\n{}\n"
	for serial, signature := range map[string]string{sandboxKeyID: sign64(platformKey(), message), serialOf(1): sign64(nextKey(), message)} {
		if err := demo.Verifier().Verify(t.Context(), serial, message, signature); err != nil {
			t.Errorf("the sandbox merchant refuses %s: %v", serial, err)
		}
		shop := newHarness(t, nil, certSpec{serial: serialOf(7)}.make(), certSpec{key: nextKey(), organization: SandboxOrganization}.make())
		shop.platform.set(func(p *fakePlatform) { p.serial = serialOf(7) })
		shop.Start(shop.store)
		shop.wantTimer(t, hourLeast, hourMost)
		wantKeys(t, shop.Merchant, baseTime, serialOf(7))
		if err := shop.Verifier().Verify(t.Context(), serial, message, signature); !errors.Is(err, ErrUnknownSerial) {
			t.Errorf("a production merchant takes %s: %v", serial, err)
		}
	}
}

// TestAdopt: a reload keeps a sandbox's keys, and only those of the same one.
func TestAdopt(t *testing.T) {
	s := newFakeSandbox(t)
	app := App{Appid: "wx2421b1c4370ec43b", Type: AppMiniProgram}
	old := newSandboxHarness(t, s, app)
	fresh := old.again(t)
	fresh.Adopt(nil)
	fresh.Adopt(fresh)
	fresh.Adopt(old.Merchant) // it has none yet
	if fresh.Ready() == nil {
		t.Error("ready without keys")
	}
	old.Start(nil)
	old.wantTimer(t, sandboxLeast, sandboxMost)
	fresh.Adopt(old.Merchant)
	wantKeys(t, fresh, baseTime, sandboxKeyID, serialOf(1))
	if err := fresh.Ready(); err != nil || !reflect.DeepEqual(fresh.DefaultApp(), app) {
		t.Errorf("Ready: %v; apps %v", err, fresh.Apps())
	}
	if s.requests.Load() != 1 {
		t.Error("Adopt asked the sandbox")
	}
	old.cfg.Apps = nil
	bare := old.again(t)
	bare.Adopt(fresh)
	if len(bare.Apps()) != 2 || bare.Ready() != nil {
		t.Errorf("apps %v", bare.Apps())
	}
	for name, edit := range map[string]func(*Config){
		"another mchid":   func(c *Config) { c.Mchid = "1900000002" },
		"another sandbox": func(c *Config) { c.Sandbox = "http://127.0.0.1:1" },
		"production":      func(c *Config) { *c = goodConfig(); c.Mchid = testMchid },
	} {
		cfg := old.cfg
		edit(&cfg)
		other := wantNew(t, cfg, Deps{})
		other.Adopt(old.Merchant)
		if _, err := other.Keys().Lookup(sandboxKeyID, baseTime); !errors.Is(err, ErrUnknownSerial) {
			t.Errorf("%s adopts: %v", name, err)
		}
	}
}
