package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"time"
)

// Merchant is one mchid (商户号) of the platform and one appid bound to it.
// Several entries with one Mchid add appids and sub_mchids; the first appid is
// the default.
type Merchant struct {
	Mchid string // 1 to 32 digits
	Appid string // "wx" and more; 3 to 32 letters and digits

	// ServiceProvider makes it a service provider (服务商): it orders through
	// /v3/pay/partner/, combines 1 to 50 sub-orders, and names a sub_mchid
	// wherever money is concerned. The zero value is a direct merchant
	// (直连商户), which never names one. Entries with one Mchid must agree.
	ServiceProvider bool
	// SubMchids are the sub-merchants (子商户) of a service provider. Empty: any.
	SubMchids []string

	// AppType is what Appid belongs to. Zero: AppOfficial. Entries with one
	// Appid must agree, on AppSecret too.
	AppType AppType
	// AppSecret exchanges users' codes for openids. Empty: 32 hex digits of the
	// platform's choice, which Keys tells.
	AppSecret string
	// Domains are an official account's 网页授权域名, with or without a port:
	// where its users may be sent back to. Empty: to this machine.
	Domains []string
}

// KeyMode says which keys the platform signs with and hands out.
type KeyMode string

const (
	// PublicKeyMode is a merchant of today: WeChat Pay public keys (微信支付公钥)
	// only, GET /v3/certificates answers 404.
	PublicKeyMode KeyMode = "public_key"
	// CertificatesMode is a merchant of old: platform certificates (平台证书) only.
	CertificatesMode KeyMode = "certificates"
	// BothMode is a merchant in migration: both kinds are valid, and a settable
	// share of the callbacks is signed with the public key. It is the zero value's meaning.
	BothMode KeyMode = "both"
)

// Options configures New. Only Merchants is required.
type Options struct {
	Merchants []Merchant
	Keys      KeyMode // zero: BothMode

	// TimeScale divides the waits between a callback's retries, so that WeChat's
	// day of retries can be watched in minutes. Zero: 1. The clock of signatures
	// is never scaled.
	TimeScale int

	// Client sends the callbacks. Its redirect policy is ignored: a redirect is
	// an answer like any other, never followed. Nil: a client of the platform's
	// own that trusts the system's roots. Each attempt has 5 seconds in any case.
	Client *http.Client

	// RefundTime is how long a refund is PROCESSING, divided by TimeScale.
	// Zero: 5 seconds.
	RefundTime time.Duration

	// ChargeTime is how long a parking charge is ACCEPTED, divided by TimeScale.
	// Zero: 2 seconds.
	ChargeTime time.Duration

	// RefundPace turns on WeChat Pay's limits on refunds, answered with 429
	// FREQUENCY_LIMITED: a minute (divided by TimeScale) between two refunds of
	// one order, 6 refused applications a second, 5,000 a minute of orders older
	// than a month. Zero: no limits.
	RefundPace bool

	// BillsAtOnce lets bills be had of any day, today included. Zero: as WeChat
	// Pay has it, of past days only, from ten o'clock of the next day.
	BillsAtOnce bool

	Now    func() time.Time // zero: time.Now
	Rand   io.Reader        // nonces and identifiers; zero: crypto/rand.Reader
	Logger *slog.Logger     // zero: no logging
}

// maxOrders bounds the memory of one Platform.
const maxOrders = 100_000

// maxCallbacks bounds what can be made to call back again and again.
const maxCallbacks = 4 * maxOrders

// Platform is a WeChat Pay of its own: keys, merchants, orders and callbacks,
// all in memory. It is an http.Handler and safe for concurrent use. Close it
// when done.
type Platform struct {
	keyMode     KeyMode
	scale       time.Duration
	refundTime  time.Duration
	chargeTime  time.Duration
	pacing      bool
	billsAtOnce bool
	client      *http.Client
	now         func() time.Time
	rand        io.Reader
	log         *slog.Logger
	merchants   map[string]*merchant            // fixed after New
	mchids      []string                        // in order of Options.Merchants
	retired     func() (*platformKey, error)    // a certificate that expired, for FaultStaleCertificate
	forger      func() (*rsa.PrivateKey, error) // signs what Forged asks for; nobody holds its public half
	pages       http.Handler

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // callback senders

	mu           sync.Mutex
	closed       bool
	changed      chan struct{} // closed and replaced whenever a callback changes
	certificates []*platformKey
	publicKeys   []*platformKey
	share        int // of callbacks signed with the public key, percent
	shareCarry   int
	numbers      map[numberKey]*order // out_trade_no, combine_out_trade_no and sub-orders' numbers
	byPR         map[string]*order
	byPrepay     map[string]*order
	byTx         map[string]*order
	orders       []*order // in order of creation
	apiFaults    []*apiFault
	callbacks    []*callback // in order of creation
	byCallback   map[string]*callback
	refunds      []*refund // in order of creation
	refundIDs    map[string]*refund
	refundNos    map[numberKey]*refund // by who asked for it
	refundPlans  []RefundPlan
	downloads    map[string]*download // by token
	accounts     accounts
	lot          lot
}

type merchant struct {
	mchid     string
	appids    []string
	serial    string // of the merchant API certificate
	key       *rsa.PrivateKey
	apiV3Key  string
	publicKey *rsa.PublicKey
	provider  bool
	subMchids []string // of a provider; empty: any
	pace      pace     // guarded by the platform's mu
}

func (m *merchant) hasAppid(appid string) bool {
	for _, a := range m.appids {
		if a == appid {
			return true
		}
	}
	return false
}

var (
	mchidPattern = regexp.MustCompile(`^[0-9]{1,32}$`)
	appidPattern = regexp.MustCompile(`^[0-9A-Za-z]{3,32}$`)
)

// New makes a platform with fresh keys (RSA 2048: one for the certificate, one
// public key, one for each merchant). It fails on options that make no sense.
func New(o Options) (*Platform, error) {
	p := &Platform{
		keyMode:     o.Keys,
		scale:       time.Duration(o.TimeScale),
		refundTime:  o.RefundTime,
		chargeTime:  o.ChargeTime,
		pacing:      o.RefundPace,
		billsAtOnce: o.BillsAtOnce,
		downloads:   map[string]*download{},
		byCallback:  map[string]*callback{},
		refundIDs:   map[string]*refund{},
		refundNos:   map[numberKey]*refund{},
		now:         o.Now,
		log:         o.Logger,
		merchants:   map[string]*merchant{},
		changed:     make(chan struct{}),
		share:       50,
		numbers:     map[numberKey]*order{},
		byPR:        map[string]*order{},
		byPrepay:    map[string]*order{},
		byTx:        map[string]*order{},
		lot:         newLot(),
		accounts:    accounts{apps: map[string]*App{}, codes: map[string]*loginCode{}, openids: map[string]string{}},
	}
	switch p.keyMode {
	case "":
		p.keyMode = BothMode
	case PublicKeyMode, CertificatesMode, BothMode:
	default:
		return nil, fmt.Errorf("sandbox: keys %q: want public_key, certificates or both", o.Keys)
	}
	if o.TimeScale < 0 {
		return nil, fmt.Errorf("sandbox: time scale %d: want 1 or more", o.TimeScale)
	}
	if p.refundTime < 0 {
		return nil, fmt.Errorf("sandbox: refund time %v: want 0 or more", p.refundTime)
	}
	if p.refundTime == 0 {
		p.refundTime = 5 * time.Second
	}
	if p.chargeTime < 0 {
		return nil, fmt.Errorf("sandbox: charge time %v: want 0 or more", p.chargeTime)
	}
	if p.chargeTime == 0 {
		p.chargeTime = 2 * time.Second
	}
	if p.scale == 0 {
		p.scale = 1
	}
	if p.now == nil {
		p.now = time.Now
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	source := o.Rand
	if source == nil {
		source = rand.Reader
	}
	p.rand = &lockedReader{r: source}
	if err := p.addMerchants(o.Merchants); err != nil {
		return nil, err
	}
	p.finishApps()
	if err := p.makeKeys(); err != nil {
		return nil, err
	}
	p.makeClient(o.Client)
	p.forger = sync.OnceValues(newKey)
	p.retired = sync.OnceValues(func() (*platformKey, error) { return p.newCertificate(p.now().AddDate(-6, 0, 0)) })
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.pages = p.pageHandler()
	return p, nil
}

func (p *Platform) addMerchants(list []Merchant) error {
	if len(list) == 0 {
		return errors.New("sandbox: no merchant: give at least one mchid and appid")
	}
	for _, m := range list {
		if !mchidPattern.MatchString(m.Mchid) {
			return fmt.Errorf("sandbox: mchid %q: want 1 to 32 digits", m.Mchid)
		}
		if !appidPattern.MatchString(m.Appid) {
			return fmt.Errorf("sandbox: appid %q: want 3 to 32 letters and digits", m.Appid)
		}
		known := p.merchants[m.Mchid]
		if known == nil {
			known = &merchant{mchid: m.Mchid, provider: m.ServiceProvider}
			p.merchants[m.Mchid] = known
			p.mchids = append(p.mchids, m.Mchid)
		}
		if known.provider != m.ServiceProvider {
			return fmt.Errorf("sandbox: mchid %s is a service provider in one entry and not in another", m.Mchid)
		}
		if len(m.SubMchids) > 0 && !m.ServiceProvider {
			return fmt.Errorf("sandbox: mchid %s has sub_mchids but is no service provider", m.Mchid)
		}
		for _, s := range m.SubMchids {
			if !mchidPattern.MatchString(s) {
				return fmt.Errorf("sandbox: sub_mchid %q: want 1 to 32 digits", s)
			}
		}
		known.subMchids = append(known.subMchids, m.SubMchids...)
		if known.hasAppid(m.Appid) {
			return fmt.Errorf("sandbox: mchid %s has appid %s twice", m.Mchid, m.Appid)
		}
		known.appids = append(known.appids, m.Appid)
		if err := p.addApp(m); err != nil {
			return err
		}
	}
	return nil
}

func (p *Platform) makeClient(given *http.Client) {
	c := http.Client{Timeout: callbackTimeout}
	if given != nil {
		c = *given
	} else {
		c.Transport = &http.Transport{
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: callbackTimeout,
			IdleConnTimeout:     30 * time.Second,
			MaxIdleConnsPerHost: 16,
		}
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p.client = &c
}

// Close stops the callback senders and waits for them; API calls that hang on
// purpose end too, and so do the client's idle connections. The state stays readable, but nothing is sent any more.
// Close may be called more than once and always returns nil.
func (p *Platform) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
	p.client.CloseIdleConnections()
	return nil
}

// ErrClosed is what acts on a closed Platform return.
var ErrClosed = errors.New("sandbox: platform is closed")

var errTooMany = errors.New("sandbox: too many callbacks")

// goLocked starts f as a sender that Close waits for. p.mu is held.
func (p *Platform) goLocked(f func()) error {
	if p.closed {
		return ErrClosed
	}
	p.wg.Go(f)
	return nil
}

// touchLocked wakes those who wait for a callback to change. p.mu is held.
func (p *Platform) touchLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// ServeHTTP serves the v3 API under /v3/, the open platform under /sns/ and
// /connect/, and the pages, keys and control endpoints under /sandbox/. See the package comment for the list.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isAPIPath(r.URL.Path) {
		p.serveAPI(w, r)
		return
	}
	p.pages.ServeHTTP(w, r)
}

// lockedReader makes any io.Reader safe for concurrent use.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(b)
}
