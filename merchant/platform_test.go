package merchant

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakePlatform answers GET /v3/certificates as WeChat Pay does; its fields
// bend the answer.
type fakePlatform struct {
	*httptest.Server
	requests atomic.Int64
	clock    *fakeClock

	mu       sync.Mutex
	certs    []*x509.Certificate
	signer   *rsa.PrivateKey
	serial   string // signs under this one
	apiv3    string
	edit     func(entries []map[string]any) any // of the answer before it is signed
	respond  http.HandlerFunc                   // instead of all that
	after    func(http.Header)                  // of the signed headers
	problems []string
}

func newFakePlatform(t *testing.T, clock *fakeClock, certs ...*x509.Certificate) *fakePlatform {
	p := &fakePlatform{clock: clock, certs: certs, signer: platformKey(), serial: serialOf(1), apiv3: testAPIv3}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(func() {
		p.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.problems {
			t.Error(problem)
		}
	})
	return p
}

// set changes the platform's fields.
func (p *fakePlatform) set(change func(*fakePlatform)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

var authorizationForm = regexp.MustCompile(`^WECHATPAY2-SHA256-RSA2048 mchid="(\d+)",nonce_str="(\w+)",timestamp="(\d+)",serial_no="(\w+)",signature="([^"]+)"$`)

// checkRequest holds a request against the rules for signing.
func (p *fakePlatform) checkRequest(r *http.Request) {
	parts := authorizationForm.FindStringSubmatch(r.Header.Get("Authorization"))
	if r.Method != http.MethodGet || r.RequestURI != "/v3/certificates" || parts == nil {
		p.problems = append(p.problems, "not a signed GET /v3/certificates")
		return
	}
	digest := sha256.Sum256([]byte(fmt.Sprintf("GET\n/v3/certificates\n%s\n%s\n\n", parts[3], parts[2])))
	raw, err := base64.StdEncoding.DecodeString(parts[5])
	if err != nil || parts[1] != testMchid || parts[4] != testSerial ||
		rsa.VerifyPKCS1v15(&merchantKey().PublicKey, crypto.SHA256, digest[:], raw) != nil {
		p.problems = append(p.problems, "the request's signature does not verify")
	}
	if r.Header.Get("Accept") != "application/json" || r.Header.Get("User-Agent") == "" {
		p.problems = append(p.problems, "WeChat Pay wants Accept and User-Agent")
	}
}

func (p *fakePlatform) serve(w http.ResponseWriter, r *http.Request) {
	p.requests.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checkRequest(r)
	if p.respond != nil {
		p.respond(w, r)
		return
	}
	var entries []map[string]any
	for i, cert := range p.certs {
		nonce := fmt.Sprintf("nonce-%06d", i)
		entries = append(entries, map[string]any{
			"serial_no":      certificateSerial(cert),
			"effective_time": cert.NotBefore.Format(time.RFC3339), "expire_time": cert.NotAfter.Format(time.RFC3339),
			"encrypt_certificate": map[string]any{
				"algorithm": "AEAD_AES_256_GCM", "nonce": nonce, "associated_data": "certificate",
				"ciphertext": base64.StdEncoding.EncodeToString(seal(p.apiv3, "certificate", nonce, pemText("CERTIFICATE", cert.Raw))),
			},
		})
	}
	var answer any = map[string]any{"data": entries}
	if p.edit != nil {
		answer = p.edit(entries)
	}
	body, ok := answer.([]byte)
	if !ok {
		var err error
		if body, err = json.Marshal(answer); err != nil {
			p.problems = append(p.problems, err.Error())
		}
	}
	timestamp := unixText(p.clock.Now())
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Wechatpay-Timestamp", timestamp)
	h.Set("Wechatpay-Nonce", "c5ac7061fccab6bf3e254dcf98995b8c")
	h.Set("Wechatpay-Serial", p.serial)
	h.Set("Wechatpay-Signature", sign64(p.signer, timestamp+"\nc5ac7061fccab6bf3e254dcf98995b8c\n"+string(body)+"\n"))
	if p.after != nil {
		p.after(h)
	}
	_, _ = w.Write(body)
}

// harness is a merchant in mode auto in front of a fake platform.
type harness struct {
	*Merchant
	clock    *fakeClock
	platform *fakePlatform
	metrics  *countingMetrics
	log      *logBuffer
	store    *memoryStore
	cfg      Config
}

func newHarness(t *testing.T, edit func(*Config), certs ...*x509.Certificate) *harness {
	t.Helper()
	if len(certs) == 0 {
		certs = []*x509.Certificate{certSpec{}.make()}
	}
	h := &harness{clock: newFakeClock(), metrics: &countingMetrics{}, log: &logBuffer{}, store: &memoryStore{}}
	h.platform = newFakePlatform(t, h.clock, certs...)
	h.cfg = goodConfig()
	h.cfg.PublicKeys = nil
	h.cfg.APIBases = []string{h.platform.URL}
	if edit != nil {
		edit(&h.cfg)
	}
	h.Merchant = h.again(t)
	return h
}

// again makes another merchant of the same block: a reload.
func (h *harness) again(t *testing.T) *Merchant {
	t.Helper()
	m := wantNew(t, h.cfg, Deps{Now: h.clock.Now, Timer: h.clock.Timer, Logger: h.log.logger(), Metrics: h.metrics})
	t.Cleanup(func() {
		m.Stop()
		wantNoSecret(t, "the log", h.log.String())
	})
	return m
}

// wantTimer waits for the next timer, which is started when a refresh is over.
func (h *harness) wantTimer(t *testing.T, least, most time.Duration) time.Duration {
	t.Helper()
	d := h.clock.awaitTimer(t)
	if d < least || d > most {
		t.Fatalf("the next refresh is in %v, want %v to %v", d, least, most)
	}
	return d
}

func (h *harness) wantRequests(t *testing.T, want int64) {
	t.Helper()
	if got := h.platform.requests.Load(); got != want {
		t.Fatalf("%d requests, want %d", got, want)
	}
}

func wantKeys(t *testing.T, m *Merchant, now time.Time, serials ...string) {
	t.Helper()
	if got := m.Keys().Len(); got != len(serials) {
		t.Errorf("%d keys, want %d", got, len(serials))
	}
	for _, serial := range serials {
		if _, err := m.Keys().Lookup(serial, now); err != nil {
			t.Errorf("%s: %v", serial, err)
		}
	}
}
