package merchant

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testAPIv3   = "0123456789abcdefghijklmnopqrstuv"
	testAPIv3b  = "vutsrqponmlkjihgfedcba9876543210"
	testMchid   = "1900000001"
	testSerial  = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"
	testKeyID   = "PUB_KEY_ID_0119000000012024101100000000000001"
	testKeyID2  = "PUB_KEY_ID_0119000000012025101100000000000002"
	waitForThis = 20 * time.Second // bounds a wait for an event, never spent
)

// baseTime is where every fake clock starts.
var baseTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Keys are made once: each takes a good part of a second on a small machine.
var (
	merchantKey = sync.OnceValue(func() *rsa.PrivateKey { return mustRSA(2048) })
	platformKey = sync.OnceValue(func() *rsa.PrivateKey { return mustRSA(2048) })
	nextKey     = sync.OnceValue(func() *rsa.PrivateKey { return mustRSA(2048) })
	smallKey    = sync.OnceValue(func() *rsa.PrivateKey { return mustRSA(1024) })
	exponent3   = sync.OnceValue(makeExponent3)
	curveKey    = sync.OnceValue(func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return key
	})
)

func mustRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

// makeExponent3 makes a sound 2048-bit key whose exponent is 3.
func makeExponent3() *rsa.PrivateKey {
	one, three := big.NewInt(1), big.NewInt(3)
	prime := func() *big.Int {
		for {
			p, err := rand.Prime(rand.Reader, 1024)
			if err != nil {
				panic(err)
			}
			if new(big.Int).Mod(new(big.Int).Sub(p, one), three).Sign() != 0 {
				return p
			}
		}
	}
	for {
		p, q := prime(), prime()
		n := new(big.Int).Mul(p, q)
		if n.BitLen() != 2048 || p.Cmp(q) == 0 {
			continue
		}
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		key := &rsa.PrivateKey{
			PublicKey: rsa.PublicKey{N: n, E: 3},
			D:         new(big.Int).ModInverse(three, phi),
			Primes:    []*big.Int{p, q},
		}
		key.Precompute()
		return key
	}
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(key any) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return pemText("PRIVATE KEY", der)
}

func pkix8(key any) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return pemText("PUBLIC KEY", der)
}

// certSpec describes a self-signed certificate; zero fields have defaults.
type certSpec struct {
	key                 crypto.Signer
	serial              string // hex
	notBefore, notAfter time.Time
	organization        string
}

func (c certSpec) make() *x509.Certificate {
	if c.key == nil {
		c.key = platformKey()
	}
	if c.serial == "" {
		c.serial = "7132D72A03E93CDDF8C03BBD1F37EEDF00000001"
	}
	if c.notBefore.IsZero() {
		c.notBefore = baseTime.Add(-24 * time.Hour)
	}
	if c.notAfter.IsZero() {
		c.notAfter = baseTime.Add(5 * 365 * 24 * time.Hour)
	}
	if c.organization == "" {
		c.organization = "Tenpay.com"
	}
	serial, ok := new(big.Int).SetString(c.serial, 16)
	if !ok {
		panic("serial of a test certificate is not hex")
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Tenpay.com sign", Organization: []string{c.organization}},
		NotBefore:    c.notBefore, NotAfter: c.notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

func (c certSpec) pem() string { return pemText("CERTIFICATE", c.make().Raw) }

// goodConfig is a production block that loads, with a public key.
func goodConfig() Config {
	return Config{
		Name: "shop", Mchid: testMchid,
		Apps:       []App{{Appid: "wx8888888888888888", Type: AppOfficial}},
		SerialNo:   testSerial,
		PrivateKey: pkcs8(merchantKey()),
		APIv3Keys:  []string{testAPIv3},
		PublicKeys: []PublicKeyConfig{{ID: testKeyID, PEM: pkix8(&platformKey().PublicKey)}},
		NotifyURL:  "https://pay.example.com/wechatpay/notify/shop",
	}
}

// sign is what WeChat Pay does: RSASSA-PKCS1-v1_5 with SHA-256.
func sign(key *rsa.PrivateKey, message string) []byte {
	digest := sha256.Sum256([]byte(message))
	raw, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		panic(err)
	}
	return raw
}

func sign64(key *rsa.PrivateKey, message string) string {
	return base64.StdEncoding.EncodeToString(sign(key, message))
}

func seal(key, associatedData, nonce, plaintext string) []byte {
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm.Seal(nil, []byte(nonce), []byte(plaintext), []byte(associatedData))
}

// fakeClock is a clock and its timers; nothing moves but by advance.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[chan time.Time]time.Time
	armed  chan time.Duration // one for each timer started
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: baseTime, timers: make(map[chan time.Time]time.Time), armed: make(chan time.Duration, 1024)}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := make(chan time.Time, 1)
	c.timers[timer] = c.now.Add(d)
	c.armed <- d
	return timer, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, timer)
	}
}

// awaitTimer returns the length of the next timer that is started.
func (c *fakeClock) awaitTimer(t *testing.T) time.Duration {
	t.Helper()
	select {
	case d := <-c.armed:
		return d
	case <-time.After(waitForThis):
		t.Fatal("no timer was started")
		return 0
	}
}

// advance moves the clock and fires what is due.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for timer, due := range c.timers {
		if !due.After(c.now) {
			timer <- c.now
			delete(c.timers, timer)
		}
	}
}

// memoryStore is a CertificateStore.
type memoryStore struct {
	mu    sync.Mutex
	data  map[string][]byte
	saves int
	err   error
}

func (s *memoryStore) LoadCertificates(_ context.Context, merchant string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.data[merchant]), s.err
}

func (s *memoryStore) SaveCertificates(_ context.Context, merchant string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.data == nil {
		s.data = make(map[string][]byte)
	}
	s.data[merchant] = bytes.Clone(data)
	s.saves++
	return nil
}

// countingMetrics keeps what it is told.
type countingMetrics struct {
	mu        sync.Mutex
	refreshes map[RefreshOutcome]int
	changes   int
}

func (c *countingMetrics) KeyRefresh(_ string, _ KeySource, outcome RefreshOutcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refreshes == nil {
		c.refreshes = make(map[RefreshOutcome]int)
	}
	c.refreshes[outcome]++
}

func (c *countingMetrics) KeySetChanged(string, *KeySet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
}

func (c *countingMetrics) count(outcome RefreshOutcome) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refreshes[outcome]
}

// logBuffer is a log that tests read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// secretFragments are pieces of every secret of the test blocks; none may
// appear in anything that is printed.
func secretFragments() []string {
	fragments := []string{testAPIv3, testAPIv3b, testAPIv3[:12], testAPIv3b[:12]}
	for _, key := range []*rsa.PrivateKey{merchantKey()} {
		d := key.D.String()
		fragments = append(fragments, d, d[:40], key.D.Text(16)[:40], key.Primes[0].String()[:40])
		for _, line := range strings.Split(pkcs8(key), "\n") {
			if len(line) == 64 {
				fragments = append(fragments, line)
			}
		}
		for _, line := range strings.Split(pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), "\n") {
			if len(line) == 64 {
				fragments = append(fragments, line)
			}
		}
	}
	return fragments
}

func wantNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, fragment := range secretFragments() {
		if strings.Contains(text, fragment) {
			t.Fatalf("%s shows a secret", where)
		}
	}
}

func wantNew(t *testing.T, cfg Config, deps Deps) *Merchant {
	t.Helper()
	if deps.Now == nil {
		deps.Now = func() time.Time { return baseTime }
	}
	m, err := New(cfg, deps)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(m.Stop)
	return m
}

func serialOf(n int) string { return fmt.Sprintf("7132D72A03E93CDDF8C03BBD1F37EEDF%08X", n) }

func unixText(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
