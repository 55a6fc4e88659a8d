package payops

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/bill"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// DefaultMaxBody is the largest request body, in bytes.
	DefaultMaxBody = 1 << 20
	// DefaultTimeout bounds a call to WeChat Pay, fail-over included.
	DefaultTimeout = 25 * time.Second
	// DefaultMaxUpload is the largest body of a multipart upload, in bytes: WeChat
	// Pay takes files of up to 7.5 MB.
	DefaultMaxUpload = 16 << 20
	// DefaultMaxDownload is the largest file that is streamed to a caller, in bytes.
	DefaultMaxDownload = 1 << 30
	// DefaultDownloadTimeout bounds the streaming of a file.
	DefaultDownloadTimeout = 10 * time.Minute
	// uploadSlots is how many uploads are held in memory at a time.
	uploadSlots = 8
	// DefaultRefundWait is how long a refund waits for others of the same payer.
	DefaultRefundWait = 5 * time.Second
	// outcomeTimeout bounds the writing of an outcome row.
	outcomeTimeout = 5 * time.Second
)

// Config is what an API needs.
type Config struct {
	// Merchant signs and verifies. Required.
	Merchant *merchant.Merchant
	// Ledger keeps orders and calls. Required.
	Ledger storage.Ledger
	// Callers knows who may call: caller.New or caller.TrustUpstream. Required.
	Callers *caller.Set
	// Rules says which of WeChat Pay's rules are enforced. Default: all of them,
	// and close_too_early warns.
	Rules guard.Policy
	// Limits says what callers may do at most, by their names. Default: nothing
	// is limited.
	Limits map[string]guard.Limit
	// HTTP carries the calls. Default: the merchant's client.
	HTTP *http.Client
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Rand gives the ids of calls. Default: crypto/rand. It is read by one
	// goroutine at a time.
	Rand io.Reader
	// Logger gets no body, key, openid or Authorization. Default: discards.
	Logger *slog.Logger
	// Observer counts. Default: [NopObserver].
	Observer Observer
	// LedgerChanged is called after an order of the ledger changed and the
	// change is durable: callbacks that were parked for it may be looked at
	// again. It must not block. Default: nothing.
	LedgerChanged func(ctx context.Context, key storage.OrderKey)
	// Fallback leaves a query of every order and refund on the ledger's agenda, in
	// the same step as its intent row: work of package fallback, for whoever runs
	// the agenda. Default: false.
	Fallback bool
	// MaxBody is the largest request body in bytes. Default: [DefaultMaxBody].
	MaxBody int64
	// MaxUpload is the largest body of a multipart upload in bytes. Default:
	// [DefaultMaxUpload].
	MaxUpload int64
	// MaxDownload is the largest streamed file in bytes. Default:
	// [DefaultMaxDownload].
	MaxDownload int64
	// Timeout bounds one call, fail-over included. Default: [DefaultTimeout].
	Timeout time.Duration
	// DownloadTimeout bounds the streaming of a file. Default:
	// [DefaultDownloadTimeout].
	DownloadTimeout time.Duration
	// RefundWait bounds how long a refund waits for the refunds of the same payer
	// (支付者) that came before it: they go out one after another. Default:
	// [DefaultRefundWait].
	RefundWait time.Duration
	// TempDir is where bills lie while they are checked and passed on: files that
	// nobody else can open, gone when they are. Default: as [os.CreateTemp] has it.
	TempDir string
	// Locks is shared by all APIs of one ledger in this process: a repeat that comes
	// in at another one waits for the call that is running. Default: its own.
	Locks *Locks
	// Attempt is how long one host has to answer. Default: [send.DefaultAttempt],
	// and at most half of Timeout.
	Attempt time.Duration
}

// API is the payment API of one wechatpay_api block: an http.Handler for /v3/…
// and /gateway/…. It starts no goroutine but the signing of a request and the parking
// exits that [API.Wait] waits for, is safe for concurrent use, and holds nothing that
// must be closed.
type API struct {
	merchant *merchant.Merchant
	ledger   storage.Ledger
	callers  *caller.Set
	sender   *send.Sender
	now      func() time.Time
	ids      *idSource
	log      *slog.Logger
	observer Observer
	changed  func(ctx context.Context, key storage.OrderKey)
	maxBody  int64
	timeout  time.Duration
	wait     time.Duration // for the turn of a payer's refund
	locks    *Locks
	rules    guard.Policy
	limits   map[string]guard.Limit
	fallback bool // leave queries on the agenda

	maxUpload, maxDownload int64
	downloadTimeout        time.Duration
	uploads                chan struct{} // holds one value for each upload in memory
	resources              *resource.Resources
	bills                  *bill.Client
}

var _ http.Handler = (*API)(nil)

// New makes an API. It is pure: no network, no store, no goroutine.
func New(cfg Config) (*API, error) {
	if cfg.Merchant == nil || cfg.Ledger == nil || cfg.Callers == nil {
		return nil, errors.New("payops: a merchant, a ledger and callers are needed")
	}
	a := &API{
		merchant: cfg.Merchant, ledger: cfg.Ledger, callers: cfg.Callers,
		now: cfg.Now, log: cfg.Logger, observer: cfg.Observer, changed: cfg.LedgerChanged,
		maxBody: cfg.MaxBody, timeout: cfg.Timeout, wait: cfg.RefundWait, ids: &idSource{rand: cfg.Rand}, locks: cfg.Locks,
		maxUpload: cfg.MaxUpload, maxDownload: cfg.MaxDownload, downloadTimeout: cfg.DownloadTimeout,
		uploads: make(chan struct{}, uploadSlots), fallback: cfg.Fallback,
		rules: cfg.Rules, limits: maps.Clone(cfg.Limits),
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.locks == nil {
		a.locks = &Locks{}
	}
	if a.ids.rand == nil {
		a.ids.rand = rand.Reader
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.log = a.log.With("merchant", cfg.Merchant.Name())
	if a.observer == nil {
		a.observer = NopObserver{}
	}
	if a.changed == nil {
		a.changed = func(context.Context, storage.OrderKey) {}
	}
	if a.maxBody <= 0 {
		a.maxBody = DefaultMaxBody
	}
	if a.maxUpload <= 0 {
		a.maxUpload = DefaultMaxUpload
	}
	if a.maxDownload <= 0 {
		a.maxDownload = DefaultMaxDownload
	}
	if a.timeout <= 0 {
		a.timeout = DefaultTimeout
	}
	if a.wait <= 0 {
		a.wait = DefaultRefundWait
	}
	if a.downloadTimeout <= 0 {
		a.downloadTimeout = DefaultDownloadTimeout
	}
	attempt := cfg.Attempt
	if attempt <= 0 {
		attempt = send.DefaultAttempt
	}
	a.sender = send.New(send.Config{
		Merchant: cfg.Merchant, HTTP: cfg.HTTP, Now: a.now, Attempt: min(attempt, a.timeout/2),
	})
	bills, err := a.newBills(cfg.TempDir)
	if err != nil {
		return nil, err
	}
	a.bills = bills
	a.resources = a.newResources()
	return a, nil
}
