package merchant

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoKeys says that the merchant cannot verify or sign yet: a sandbox
// merchant before its first fetch, one whose first certificate download has not
// succeeded, or one whose certificates have all expired. Callers answer 503.
var ErrNoKeys = errors.New("merchant: the keys are not there yet")

// Merchant is one set of keys. All methods are safe for concurrent use.
type Merchant struct {
	name, mchid     string
	notifyURL       string
	forceNotifyURL  bool
	serviceProvider bool
	bases           []string
	openidBase      string
	openBase        string
	sandbox         bool
	certificates    CertificateMode
	configuredApps  []App
	warnings        []string
	settings        string // fingerprint of what a download depends on

	now     func() time.Time
	rand    io.Reader
	log     *slog.Logger
	metrics Metrics
	timer   TimerFunc
	client  *http.Client
	ownHTTP bool
	store   CertificateStore

	state atomic.Pointer[state]
	clock clockWatch

	lifecycle sync.Mutex
	started   bool
	stopped   bool
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

// state is what changes while a merchant runs, swapped as a whole so that a
// credential, its APIv3 keys and the platform's keys always belong together.
type state struct {
	credential Credential
	apiv3      []cipher.AEAD
	keys       *KeySet
	apps       []App
	offered    []App // a sandbox's, whether or not the block lists its own
}

// New checks cfg and makes a Merchant. It is pure: no network, no store, no
// goroutine. Its error joins everything that is wrong; each part names the
// option and what to do, and none holds a secret.
func New(cfg Config, deps Deps) (*Merchant, error) {
	m := &Merchant{
		name: cfg.Name, mchid: cfg.Mchid,
		serviceProvider: cfg.ServiceProvider,
		now:             deps.Now, rand: deps.Rand, log: deps.Logger,
		metrics: deps.Metrics, timer: deps.Timer, store: deps.Certificates,
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.rand == nil {
		m.rand = rand.Reader
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.log = m.log.With("merchant", m.name)
	if m.metrics == nil {
		m.metrics = NopMetrics{}
	}
	if m.timer == nil {
		m.timer = systemTimer
	}
	checked, err := check(cfg, m.now())
	if err != nil {
		return nil, err
	}
	if deps.HTTP != nil {
		m.client = withoutRedirects(deps.HTTP)
	} else {
		m.client, m.ownHTTP = NewClient(cfg), true
	}
	m.notifyURL, m.forceNotifyURL = cfg.NotifyURL, cfg.ForceNotifyURL
	m.bases, m.sandbox = checked.bases, cfg.Sandbox != ""
	m.openidBase, m.openBase = checked.openidBase, checked.openBase
	m.certificates = checked.certificates
	m.configuredApps = checked.apps
	m.warnings = checked.warnings
	m.settings = checked.settings
	m.state.Store(&state{
		credential: checked.credential,
		apiv3:      checked.apiv3,
		keys:       newKeySet(m.now, checked.publicKeys, checked.platformCertificates),
		apps:       checked.apps,
	})
	return m, nil
}

// Start begins the background refresh of platform certificates, or the fetch of
// a sandbox's keys, and returns: it waits at most a second for certs to give
// the last good set, and for no network at all. certs may be nil; then
// Deps.Certificates is used. A merchant with neither refresh starts nothing.
// Only the first call does anything, and none after Stop.
func (m *Merchant) Start(certs CertificateStore) {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	if m.started || m.stopped {
		return
	}
	m.started = true
	if certs != nil {
		m.store = certs
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.metrics.KeySetChanged(m.name, m.Keys())
	switch {
	case m.sandbox:
		m.running.Go(func() { m.runSandbox(ctx) })
	case m.certificates == CertificatesAuto:
		loaded := make(chan struct{})
		m.running.Go(func() { m.runCertificates(ctx, loaded) })
		select {
		case <-loaded:
		case <-time.After(time.Second): // a store that hangs holds up no start
		}
	}
}

// Stop ends the background work and waits for it. A download in progress is
// cancelled; a store call in progress is waited for. It may be called without
// Start, and more than once.
func (m *Merchant) Stop() {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	m.stopped = true
	if m.cancel != nil {
		m.cancel()
	}
	m.running.Wait()
	if m.ownHTTP {
		m.client.CloseIdleConnections()
	}
}

// Adopt takes over what from, the same block before a reload, has from the same
// sandbox, so that a reload does not make callbacks wait for a fetch. Call it
// between New and Start; the fetch of Start still happens. It does nothing for
// production merchants, whose last good set the store keeps, for another
// sandbox or mchid, and when from has no keys yet. from may be nil.
func (m *Merchant) Adopt(from *Merchant) {
	if from == nil || from == m || !m.sandbox || !from.sandbox || m.mchid != from.mchid || !slices.Equal(m.bases, from.bases) {
		return
	}
	held, mine := from.state.Load(), m.state.Load()
	if held.credential.signer == nil || mine.credential.signer != nil {
		return
	}
	adopted := *held
	adopted.apps = appsOf(m.configuredApps, held.offered)
	adopted.keys = newKeySet(m.now, ofKind(held.keys.All(), KindPublicKey), ofKind(held.keys.All(), KindCertificate))
	m.state.CompareAndSwap(mine, &adopted)
}

// Name returns the block's name.
func (m *Merchant) Name() string { return m.name }

// Mchid returns 商户号.
func (m *Merchant) Mchid() string { return m.mchid }

// Apps returns the appids in their order; of a sandbox merchant that lists
// none, the sandbox's, once they are there. The slice is the caller's.
func (m *Merchant) Apps() []App { return slices.Clone(m.state.Load().apps) }

// HasApp reports whether appid is one of Apps.
func (m *Merchant) HasApp(appid string) bool {
	for _, app := range m.state.Load().apps {
		if app.Appid == appid {
			return true
		}
	}
	return false
}

// App returns the one of Apps with that appid, and whether there is one.
func (m *Merchant) App(appid string) (App, bool) {
	for _, app := range m.state.Load().apps {
		if app.Appid == appid {
			app.Domains = slices.Clone(app.Domains)
			return app, true
		}
	}
	return App{}, false
}

// DefaultApp returns the first of Apps, the zero App when there is none.
func (m *Merchant) DefaultApp() App {
	if apps := m.state.Load().apps; len(apps) > 0 {
		return apps[0]
	}
	return App{}
}

// ServiceProvider reports whether the mchid is a 服务商.
func (m *Merchant) ServiceProvider() bool { return m.serviceProvider }

// NotifyURL returns the notify_url for orders that carry none, "" for none, and
// whether it replaces any.
func (m *Merchant) NotifyURL() (url string, force bool) { return m.notifyURL, m.forceNotifyURL }

// APIBases returns scheme://host[:port] of the API, the main one first; of a
// sandbox merchant, the sandbox. The slice is the caller's.
func (m *Merchant) APIBases() []string { return slices.Clone(m.bases) }

// OpenIDBases returns scheme://host[:port] of the host that exchanges codes for
// openids, and of the page where users authorize.
func (m *Merchant) OpenIDBases() (exchange, authorize string) { return m.openidBase, m.openBase }

// Sandbox reports whether the merchant takes its keys from a sandbox.
func (m *Merchant) Sandbox() bool { return m.sandbox }

// CertificateMode returns the mode in force: never the default one; of a
// sandbox merchant, off.
func (m *Merchant) CertificateMode() CertificateMode { return m.certificates }

// HTTPClient returns the client for the merchant's calls. It follows no
// redirect and has no timeout of its own: bring a context with a deadline.
func (m *Merchant) HTTPClient() *http.Client { return m.client }

// Warnings returns what New accepted and an operator should still know. None
// holds a secret.
func (m *Merchant) Warnings() []string { return slices.Clone(m.warnings) }

// Ready returns nil when requests can be signed and what WeChat Pay signs can
// be verified, else an error that matches [ErrNoKeys] and says what is missing.
func (m *Merchant) Ready() error {
	s := m.state.Load()
	if s.credential.signer == nil {
		return fmt.Errorf("%w: merchant %s waits for its sandbox", ErrNoKeys, m.name)
	}
	if _, ok := s.keys.Preferred(); ok {
		return nil
	}
	if s.keys.Len() == 0 {
		return fmt.Errorf("%w: merchant %s waits for its first platform certificates", ErrNoKeys, m.name)
	}
	return fmt.Errorf("%w: merchant %s holds no platform certificate that is valid now", ErrNoKeys, m.name)
}

// Credential returns what requests are signed with, [ErrNoKeys] when it is not
// there yet. It belongs to the moment: a sandbox may rotate it.
func (m *Merchant) Credential() (Credential, error) {
	s := m.state.Load()
	if s.credential.signer == nil {
		return Credential{}, fmt.Errorf("%w: merchant %s waits for its sandbox", ErrNoKeys, m.name)
	}
	return s.credential, nil
}

// Keys returns the current snapshot, never nil. It takes no lock.
func (m *Merchant) Keys() *KeySet { return m.state.Load().keys }

// String names the merchant, and nothing secret.
func (m *Merchant) String() string {
	if m == nil {
		return "no merchant"
	}
	return "merchant " + m.name + " (" + m.mchid + ")"
}

// GoString is String.
func (m *Merchant) GoString() string { return m.String() }

// Format writes String whatever the verb.
func (m *Merchant) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.String()) }

// LogValue is String as a log value.
func (m *Merchant) LogValue() slog.Value { return slog.StringValue(m.String()) }

// setState swaps the state and tells the metrics.
func (m *Merchant) setState(s *state) {
	m.state.Store(s)
	m.metrics.KeySetChanged(m.name, s.keys)
}

// fraction returns a random number in [0, 1) for jitter; the middle when there
// is no randomness, for jitter needs none badly.
func (m *Merchant) fraction() float64 {
	var b [8]byte
	if _, err := io.ReadFull(m.rand, b[:]); err != nil {
		return 0.5
	}
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)
}

// sleep waits for d or until ctx ends, and reports whether it was d.
func (m *Merchant) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	c, stop := m.timer(d)
	defer stop()
	select {
	case <-c:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// systemTimer is the default TimerFunc.
func systemTimer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
