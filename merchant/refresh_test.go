package merchant

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	hourLeast, hourMost = 54 * time.Minute, 66 * time.Minute
	gapMost             = 6 * time.Minute
)

func TestNewAndStopTouchNothing(t *testing.T) {
	h := newHarness(t, nil)
	if err := h.Ready(); !errors.Is(err, ErrNoKeys) {
		t.Errorf("Ready before any certificate: %v", err)
	}
	h.Stop()
	h.Stop()
	h.Start(h.store) // after Stop nothing starts
	h.wantRequests(t, 0)
	if h.store.saves != 0 || len(h.clock.armed) != 0 {
		t.Error("something was started")
	}
}

func TestStartWithoutRefreshStartsNothing(t *testing.T) {
	clock := newFakeClock()
	m := wantNew(t, goodConfig(), Deps{Now: clock.Now, Timer: clock.Timer, HTTP: &http.Client{Transport: failingTransport{}}})
	m.Start(nil)
	if len(clock.armed) != 0 {
		t.Error("a timer was started")
	}
	if err := m.Ready(); err != nil {
		t.Error(err)
	}
}

type failingTransport struct{}

func (failingTransport) RoundTrip(*http.Request) (*http.Response, error) {
	panic("a request was made")
}

func TestFirstDownload(t *testing.T) {
	h := newHarness(t, nil)
	h.Start(h.store)
	h.Start(h.store) // a second one changes nothing
	h.wantTimer(t, hourLeast, hourMost)
	h.wantRequests(t, 1)
	wantKeys(t, h.Merchant, h.clock.Now(), serialOf(1))
	if err := h.Ready(); err != nil {
		t.Error(err)
	}
	if h.metrics.count(RefreshChanged) != 1 {
		t.Errorf("counted %v", h.metrics.refreshes)
	}
	message := "1772366400\nn\n{}\n"
	if err := h.Verifier().Verify(context.Background(), serialOf(1), message, sign64(platformKey(), message)); err != nil {
		t.Error(err)
	}
}

func TestUnknownSerialsCauseNoRequest(t *testing.T) {
	h := newHarness(t, nil)
	h.Start(h.store)
	h.wantTimer(t, hourLeast, hourMost)
	verifier := h.Verifier()
	for i := range 10_000 {
		if err := verifier.Verify(context.Background(), serialOf(i+2), "m", "AAAA"); !errors.Is(err, ErrUnknownSerial) {
			t.Fatal(err)
		}
	}
	h.wantRequests(t, 1)
	if len(h.clock.armed) != 0 {
		t.Error("a timer was started")
	}
}

func TestHourlyRefreshAndRotation(t *testing.T) {
	first := certSpec{notAfter: baseTime.Add(90 * time.Minute)}.make()
	second := certSpec{key: nextKey(), serial: serialOf(2)}.make()
	h := newHarness(t, nil, first)
	h.Start(h.store)
	d := h.wantTimer(t, hourLeast, hourMost)
	h.clock.advance(d - time.Second)
	if len(h.clock.armed) != 0 {
		t.Fatal("a refresh before its time")
	}
	h.wantRequests(t, 1)

	// The platform drops the old certificate from its list: ours stays until
	// it expires, since callbacks signed with it are still on their way.
	h.platform.set(func(p *fakePlatform) {
		p.certs, p.signer, p.serial = []*x509.Certificate{second}, nextKey(), serialOf(2)
	})
	h.clock.advance(time.Second)
	d = h.wantTimer(t, hourLeast, hourMost)
	wantKeys(t, h.Merchant, h.clock.Now(), serialOf(1), serialOf(2))
	if key, ok := h.Keys().Preferred(); !ok || key.Serial == "" {
		t.Error("no preferred key")
	}

	h.clock.advance(d) // past the first one's NotAfter
	h.wantTimer(t, hourLeast, hourMost)
	h.wantRequests(t, 3)
	wantKeys(t, h.Merchant, h.clock.Now(), serialOf(2))
	if h.metrics.count(RefreshChanged) != 3 {
		t.Errorf("counted %v", h.metrics.refreshes)
	}
}

func TestUnchangedRefresh(t *testing.T) {
	h := newHarness(t, nil)
	h.Start(h.store)
	d := h.wantTimer(t, hourLeast, hourMost)
	before := h.Keys()
	h.clock.advance(d)
	h.wantTimer(t, hourLeast, hourMost)
	if h.Keys() != before || h.metrics.count(RefreshUnchanged) != 1 {
		t.Error("the same certificates made another set")
	}
}

// TestBadEntryBesideGoodOne: what cannot be trusted is dropped, and said.
func TestBadEntryBesideGoodOne(t *testing.T) {
	h := newHarness(t, nil,
		certSpec{}.make(),
		certSpec{key: curveKey(), serial: serialOf(2)}.make(),
		certSpec{key: nextKey(), serial: serialOf(3), organization: SandboxOrganization}.make(),
		certSpec{key: nextKey(), serial: serialOf(4)}.make(),
	)
	h.Start(h.store)
	h.wantTimer(t, hourLeast, hourMost)
	wantKeys(t, h.Merchant, h.clock.Now(), serialOf(1), serialOf(4))
	for _, serial := range []string{serialOf(2), serialOf(3)} {
		if !strings.Contains(h.log.String(), serial) {
			t.Errorf("%s was dropped in silence", serial)
		}
	}
}

// TestSameSerialOtherKey: a serial keeps the certificate it was first seen with.
func TestSameSerialOtherKey(t *testing.T) {
	h := newHarness(t, nil)
	h.Start(h.store)
	d := h.wantTimer(t, hourLeast, hourMost)
	before := h.Keys()
	h.platform.set(func(p *fakePlatform) {
		p.certs = []*x509.Certificate{certSpec{key: nextKey()}.make()}
	})
	h.clock.advance(d)
	h.wantTimer(t, hourLeast, hourMost)
	if h.Keys() != before || !strings.Contains(h.log.String(), "trusted already") {
		t.Error("a trusted serial changed its key")
	}
}

func TestFailureBackoffNeverUnderTheGap(t *testing.T) {
	h := newHarness(t, nil)
	h.platform.set(status(500, ""))
	h.Start(h.store)
	for i, want := range []time.Duration{5, 10, 20, 40, 60, 60, 60} {
		d := h.wantTimer(t, want*time.Minute, want*time.Minute*6/5)
		h.wantRequests(t, int64(i+1))
		h.clock.advance(d - 1)
		h.wantRequests(t, int64(i+1))
		h.clock.advance(1)
	}
	d := h.wantTimer(t, time.Hour, 72*time.Minute)
	h.platform.set(func(p *fakePlatform) { p.respond = nil })
	h.clock.advance(d)
	h.wantTimer(t, hourLeast, hourMost)
	wantKeys(t, h.Merchant, h.clock.Now(), serialOf(1))
}

// TestReloads: what is persisted is trusted at once, and reloads in a row do
// not download in a row, whether the downloads succeed or not.
func TestReloads(t *testing.T) {
	h := newHarness(t, nil)
	h.Start(h.store)
	h.wantTimer(t, hourLeast, hourMost)
	h.Stop()
	for range 20 {
		h.clock.advance(time.Minute)
		m := h.again(t)
		m.Start(h.store)
		wantKeys(t, m, h.clock.Now(), serialOf(1)) // before any timer
		h.wantTimer(t, 30*time.Minute, hourMost)
		m.Stop()
	}
	h.wantRequests(t, 1)

	// After two hours down it is due, spread over a few seconds.
	h.clock.advance(2 * time.Hour)
	m := h.again(t)
	m.Start(h.store)
	d := h.wantTimer(t, 0, startSpread)
	h.wantRequests(t, 1)
	h.clock.advance(d)
	h.wantTimer(t, hourLeast, hourMost)
	h.wantRequests(t, 2)
	m.Stop()
}

func TestReloadsWhileWeChatPayIsDown(t *testing.T) {
	h := newHarness(t, nil)
	h.platform.set(status(500, ""))
	h.Start(h.store)
	h.wantTimer(t, refreshGap, gapMost)
	h.Stop()
	for range 20 {
		h.clock.advance(10 * time.Second)
		m := h.again(t)
		m.Start(h.store)
		h.wantTimer(t, time.Second, refreshGap)
		m.Stop()
	}
	h.wantRequests(t, 1)

	// Another configuration is another attempt: an operator who has corrected
	// a key does not wait five minutes for it to work.
	h.cfg.APIv3Keys = []string{testAPIv3, testAPIv3b}
	h.platform.set(func(p *fakePlatform) { p.respond, p.apiv3 = nil, testAPIv3b })
	m := h.again(t)
	m.Start(h.store)
	h.wantTimer(t, hourLeast, hourMost)
	wantKeys(t, m, h.clock.Now(), serialOf(1))
	h.wantRequests(t, 2)
}

// TestClockSetBack: neither the gap nor the interval grows without bound.
func TestClockSetBack(t *testing.T) {
	h := newHarness(t, nil)
	h.Start(h.store)
	h.wantTimer(t, hourLeast, hourMost)
	h.Stop()
	h.clock.advance(-100 * time.Hour)
	h.cfg.PublicKeys = goodConfig().PublicKeys // the certificate is not valid yet at that time
	h.cfg.Certificates = CertificatesAuto
	m := h.again(t)
	m.Start(h.store)
	h.wantTimer(t, 0, hourMost)
}

func TestPersistedSet(t *testing.T) {
	good := certKey(t, certSpec{})
	expired := certKey(t, certSpec{serial: serialOf(2), notBefore: baseTime.Add(-2 * time.Hour), notAfter: baseTime.Add(-time.Hour)})
	sandbox := certKey(t, certSpec{serial: serialOf(3), organization: SandboxOrganization})
	curve := Key{Serial: serialOf(4), der: certSpec{key: curveKey(), serial: serialOf(4)}.make().Raw}
	encode := func(mchid string, keys ...Key) []byte {
		data, err := encodeSaved(mchid, savedCertificates{certificates: keys, fetchedAt: baseTime, attemptedAt: baseTime, settings: "s"})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	saved, err := decodeSaved(testMchid, encode(testMchid, good, expired, sandbox, curve, good, Key{der: []byte("x")}), baseTime)
	if err != nil || len(saved.certificates) != 1 || saved.certificates[0].Serial != serialOf(1) ||
		!saved.fetchedAt.Equal(baseTime) || !saved.attemptedAt.Equal(baseTime) || saved.settings != "s" {
		t.Errorf("%v, %v", saved, err)
	}
	for name, data := range map[string][]byte{
		"another mchid": encode("1900000002", good), "not JSON": []byte("x"), "empty": {}, "null": []byte("null"),
		"another version": []byte(`{"version":2,"mchid":"1900000001"}`),
	} {
		if saved, err := decodeSaved(testMchid, data, baseTime); err == nil || len(saved.certificates) != 0 {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStoreFailures(t *testing.T) {
	t.Run("errors", func(t *testing.T) {
		h := newHarness(t, nil)
		h.store.err = errors.New("disk on fire")
		h.Start(h.store)
		h.wantTimer(t, hourLeast, hourMost)
		wantKeys(t, h.Merchant, h.clock.Now(), serialOf(1))
		if !strings.Contains(h.log.String(), "not loaded") || !strings.Contains(h.log.String(), "not saved") {
			t.Error("a store that fails is not logged")
		}
	})
	t.Run("panics", func(t *testing.T) {
		h := newHarness(t, nil)
		h.Start(panickingStore{})
		h.wantTimer(t, refreshGap, gapMost)
		if h.metrics.count(RefreshPanicked) != 1 {
			t.Errorf("counted %v", h.metrics.refreshes)
		}
		wantNoSecret(t, "the log", h.log.String())
	})
	t.Run("hangs", func(t *testing.T) {
		h := newHarness(t, nil)
		store := hangingStore{entered: make(chan struct{}, 1)}
		began := time.Now()
		h.Start(store)
		<-store.entered
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("Start took %v", took)
		}
		h.Stop()
		h.wantRequests(t, 0)
	})
	t.Run("none", func(t *testing.T) {
		h := newHarness(t, nil)
		h.Start(nil)
		h.wantTimer(t, hourLeast, hourMost)
		wantKeys(t, h.Merchant, h.clock.Now(), serialOf(1))
	})
}

type panickingStore struct{}

func (panickingStore) LoadCertificates(context.Context, string) ([]byte, error) { panic("load") }
func (panickingStore) SaveCertificates(context.Context, string, []byte) error   { panic("save") }

type hangingStore struct{ entered chan struct{} }

func (s hangingStore) LoadCertificates(ctx context.Context, _ string) ([]byte, error) {
	s.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (hangingStore) SaveCertificates(ctx context.Context, _ string, _ []byte) error { return ctx.Err() }

// TestFailover: a host that cannot be reached, or answers 5xx, passes on to the
// next; one that refuses does not.
func TestFailover(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unreachable := "http://" + closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	answering := func(code int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.WriteHeader(code)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	for _, row := range []struct {
		name, first string
		works       bool
	}{
		{"unreachable", unreachable, true},
		{"502", answering(http.StatusBadGateway), true},
		{"401", answering(http.StatusUnauthorized), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHarness(t, func(c *Config) { c.APIBases = []string{row.first, c.APIBases[0]} })
			h.Start(h.store)
			if row.works {
				h.wantTimer(t, hourLeast, hourMost)
				h.wantRequests(t, 1)
			} else {
				h.wantTimer(t, refreshGap, gapMost)
				h.wantRequests(t, 0)
			}
		})
	}
	if asked.Load() != 2 {
		t.Errorf("%d requests, want 2", asked.Load())
	}
}

// TestPublicKeySignsTheDownload: with a public key, the request names it and
// the answer may be signed with it.
func TestPublicKeySignsTheDownload(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.PublicKeys = []PublicKeyConfig{{ID: testKeyID, PEM: pkix8(&nextKey().PublicKey)}}
		c.Certificates = CertificatesAuto
	})
	h.platform.set(func(p *fakePlatform) { p.signer, p.serial = nextKey(), testKeyID })
	h.Start(h.store)
	h.wantTimer(t, hourLeast, hourMost)
	wantKeys(t, h.Merchant, h.clock.Now(), serialOf(1), testKeyID)
}

// TestStopDuringDownload: Stop cancels a download and returns.
func TestStopDuringDownload(t *testing.T) {
	entered := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	defer hang.Close()
	h := newHarness(t, func(c *Config) { c.APIBases = []string{hang.URL} })
	h.Start(h.store)
	<-entered
	h.Stop()
	if len(h.metrics.refreshes) != 0 {
		t.Error("a cancelled download was counted")
	}
}

// TestStopRacesWithTick: Stop beside a timer that fires, and readers beside
// both; for the race detector and goleak.
func TestStopRacesWithTick(t *testing.T) {
	for range 50 {
		h := newHarness(t, nil)
		h.Start(h.store)
		h.clock.awaitTimer(t)
		var all sync.WaitGroup
		for _, act := range []func(){
			func() { h.clock.advance(2 * time.Hour) },
			h.Stop, h.Stop,
			func() { _, _ = h.Keys().Lookup(serialOf(1), baseTime) },
			func() { _ = h.Ready(); _, _ = h.Credential(); _, _ = h.Decrypt(nil, nil, nil) },
			func() { h.Start(nil) },
		} {
			all.Go(act)
		}
		all.Wait()
	}
}

func TestMergeIsBounded(t *testing.T) {
	public := &platformKey().PublicKey
	var many []Key
	for i := range 3 * maxCertificates {
		many = append(many, Key{Serial: serialOf(i + 1), Kind: KindCertificate, NotBefore: baseTime, NotAfter: baseTime.Add(time.Duration(i) * time.Hour), public: public, der: []byte{byte(i)}})
	}
	merged := mergeCertificates(many[:maxCertificates], many[maxCertificates:], baseTime, nil)
	if len(merged) != maxCertificates || merged[0].Serial != serialOf(3*maxCertificates) {
		t.Errorf("%d kept, the first %s", len(merged), merged[0].Serial)
	}
}
