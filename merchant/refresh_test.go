package merchant

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
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

// TestFailuresKeepTheLastGoodSet: every kind of bad answer, after a good one.
func TestFailuresKeepTheLastGoodSet(t *testing.T) {
	entry := func(change func(e map[string]any)) func([]map[string]any) any {
		return func(entries []map[string]any) any {
			change(entries[0])
			return map[string]any{"data": entries}
		}
	}
	encrypted := func(field string, value any) func(*fakePlatform) {
		return func(p *fakePlatform) {
			p.edit = entry(func(e map[string]any) { e["encrypt_certificate"].(map[string]any)[field] = value })
		}
	}
	answer := func(body string) func(*fakePlatform) {
		return func(p *fakePlatform) { p.edit = func([]map[string]any) any { return []byte(body) } }
	}
	inside := func(text string) func(*fakePlatform) {
		return encrypted("ciphertext", base64.StdEncoding.EncodeToString(seal(testAPIv3, "certificate", "nonce-000000", text)))
	}
	header := func(change func(http.Header)) func(*fakePlatform) {
		return func(p *fakePlatform) { p.after = change }
	}
	instead := func(certs ...certSpec) func(*fakePlatform) {
		return func(p *fakePlatform) {
			p.certs = nil
			for _, spec := range certs {
				p.certs = append(p.certs, spec.make())
			}
		}
	}
	for _, row := range []struct {
		name string
		bend func(*fakePlatform)
		want RefreshOutcome
	}{
		{"empty", answer(""), RefreshMalformed},
		{"null", answer("null"), RefreshMalformed},
		{"not JSON", answer("<xml/>"), RefreshMalformed},
		{"an array", answer("[]"), RefreshMalformed},
		{"no data", answer("{}"), RefreshMalformed},
		{"null data", answer(`{"data":null}`), RefreshMalformed},
		{"empty data", answer(`{"data":[]}`), RefreshMalformed},
		{"null entry", answer(`{"data":[null]}`), RefreshMalformed},
		{"empty entry", answer(`{"data":[{}]}`), RefreshMalformed},
		{"entry of another type", answer(`{"data":["x"]}`), RefreshMalformed},
		{"no encrypt_certificate", answer(`{"data":[{"serial_no":"01"}]}`), RefreshMalformed},
		{"null encrypt_certificate", answer(`{"data":[{"serial_no":"01","encrypt_certificate":null}]}`), RefreshMalformed},
		{"empty encrypt_certificate", answer(`{"data":[{"serial_no":"01","encrypt_certificate":{}}]}`), RefreshMalformed},
		{"33 entries", func(p *fakePlatform) {
			p.edit = func(entries []map[string]any) any {
				for len(entries) < maxCertificates+1 {
					entries = append(entries, entries[0])
				}
				return map[string]any{"data": entries}
			}
		}, RefreshMalformed},
		{"no serial_no", func(p *fakePlatform) { p.edit = entry(func(e map[string]any) { delete(e, "serial_no") }) }, RefreshMalformed},
		{"another serial_no", func(p *fakePlatform) { p.edit = entry(func(e map[string]any) { e["serial_no"] = "LIES" }) }, RefreshMalformed},
		{"a trusted one's serial_no", func(p *fakePlatform) {
			p.certs = []*x509.Certificate{certSpec{key: nextKey(), serial: serialOf(2)}.make()}
			p.edit = entry(func(e map[string]any) { e["serial_no"] = serialOf(1) })
		}, RefreshMalformed},
		{"nonce missing", encrypted("nonce", nil), RefreshMalformed},
		{"nonce of 11 bytes", encrypted("nonce", "nonce-00000"), RefreshMalformed},
		{"nonce of 16 bytes", encrypted("nonce", "nonce-0000000000"), RefreshMalformed},
		{"nonce of another type", encrypted("nonce", 12), RefreshMalformed},
		{"another nonce", encrypted("nonce", "nonce-000001"), RefreshMalformed},
		{"another associated_data", encrypted("associated_data", "transaction"), RefreshMalformed},
		{"another algorithm", encrypted("algorithm", "AEAD_SM4_GCM"), RefreshMalformed},
		{"no algorithm", encrypted("algorithm", nil), RefreshMalformed},
		{"ciphertext missing", encrypted("ciphertext", nil), RefreshMalformed},
		{"ciphertext not base64", encrypted("ciphertext", "***"), RefreshMalformed},
		{"ciphertext short", encrypted("ciphertext", "AAAA"), RefreshMalformed},
		{"plaintext null", inside("null"), RefreshMalformed},
		{"plaintext empty", inside(""), RefreshMalformed},
		{"plaintext a private key", inside(pkcs8(nextKey())), RefreshMalformed},
		{"plaintext two certificates", inside(certSpec{}.pem() + certSpec{serial: "02"}.pem()), RefreshMalformed},
		{"plaintext no certificate", inside(pemText("CERTIFICATE", []byte("x"))), RefreshMalformed},
		{"other APIv3 key", func(p *fakePlatform) { p.apiv3 = testAPIv3b }, RefreshMalformed},
		{"ECDSA", instead(certSpec{key: curveKey()}), RefreshMalformed},
		{"1024 bits", instead(certSpec{key: smallKey()}), RefreshMalformed},
		{"of a sandbox", instead(certSpec{organization: SandboxOrganization}), RefreshMalformed},
		{"of a sandbox, in other case", instead(certSpec{organization: " wechat pay SANDBOX"}), RefreshMalformed},
		{"the merchant's own", instead(certSpec{key: merchantKey()}), RefreshMalformed},
		{"expired", instead(certSpec{notBefore: baseTime.Add(-2 * time.Hour), notAfter: baseTime.Add(-time.Hour)}), RefreshMalformed},
		{"no signature", header(func(h http.Header) { h.Del("Wechatpay-Signature") }), RefreshMalformed},
		{"no timestamp", header(func(h http.Header) { h.Del("Wechatpay-Timestamp") }), RefreshMalformed},
		{"no nonce", header(func(h http.Header) { h.Del("Wechatpay-Nonce") }), RefreshMalformed},
		{"no serial", header(func(h http.Header) { h.Del("Wechatpay-Serial") }), RefreshMalformed},
		{"two signatures", header(func(h http.Header) { h.Add("Wechatpay-Signature", h.Get("Wechatpay-Signature")) }), RefreshMalformed},
		{"padded timestamp", header(func(h http.Header) { h.Set("Wechatpay-Timestamp", "0"+h.Get("Wechatpay-Timestamp")) }), RefreshMalformed},
		{"unknown serial", header(func(h http.Header) { h.Set("Wechatpay-Serial", serialOf(9)) }), RefreshMalformed},
		{"SIGNTEST", header(func(h http.Header) { h.Set("Wechatpay-Signature", "WECHATPAY/SIGNTEST/"+h.Get("Wechatpay-Signature")) }), RefreshMalformed},
		{"another's signature", func(p *fakePlatform) { p.signer = nextKey() }, RefreshMalformed},
		{"signed five minutes ago", header(func(h http.Header) {
			h.Set("Wechatpay-Timestamp", unixText(baseTime.Add(-5*time.Minute)))
		}), RefreshMalformed},
		{"over 1 MiB", answer(strings.Repeat(" ", maxKeyAnswer+1)), RefreshMalformed},
		{"500", status(500, `{"code":"SYSTEM_ERROR"}`), RefreshFailed},
		{"401", status(401, `{"code":"SIGN_ERROR","message":"`+testAPIv3+`"}`), RefreshFailed},
		{"404", status(404, `{"code":"RESOURCE_NOT_EXISTS","message":"无可用的平台证书"}`), RefreshFailed},
		{"204", status(204, ""), RefreshFailed},
		{"a code that is none", status(403, `{"code":"injected\nline"}`), RefreshFailed},
		{"307", func(p *fakePlatform) {
			p.respond = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			}
		}, RefreshFailed},
		{"cut off", func(p *fakePlatform) {
			p.respond = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, `{"data"`)
			}
		}, RefreshFailed},
		{"no answer", func(p *fakePlatform) {
			p.respond = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		}, RefreshFailed},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHarness(t, nil)
			h.Start(h.store)
			d := h.wantTimer(t, hourLeast, hourMost)
			before := h.Keys()
			savedBefore := h.store.data["shop"]
			h.platform.set(row.bend)
			h.clock.advance(d)
			h.wantTimer(t, refreshGap, gapMost)
			if h.Keys() != before {
				t.Error("the set in force was replaced")
			}
			if h.metrics.count(row.want) != 1 {
				t.Errorf("counted %v, want one %s", h.metrics.refreshes, row.want)
			}
			h.wantRequests(t, 2)
			if !strings.Contains(h.log.String(), "not refreshed") || strings.Contains(h.log.String(), "injected") {
				t.Errorf("logged: %s", h.log.String())
			}
			old, err := decodeSaved(testMchid, savedBefore, h.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			now, err := decodeSaved(testMchid, h.store.data["shop"], h.clock.Now())
			if err != nil || !sameCertificates(old.certificates, now.certificates) || !now.fetchedAt.Equal(old.fetchedAt) {
				t.Errorf("the persisted set was replaced: %v", err)
			}
		})
	}
}

func status(code int, body string) func(*fakePlatform) {
	return func(p *fakePlatform) {
		p.respond = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
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
