// Package demoshop is a tiny demo merchant: a shop page and the "legacy
// backend" behind it. It orders through the gateway and shows what the gateway
// delivers to it, so that a newcomer can watch a payment come in once, however
// often WeChat Pay sends it.
//
// It knows nothing of WeChat Pay's cryptography: it holds a bearer token for
// the gateway's API and a Standard Webhooks secret for what comes back.
package demoshop

import (
	"crypto/rand"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Options configures New. Gateway, Mchid and Appid are required.
type Options struct {
	Gateway       string       // base URL of the gateway's API, e.g. https://localhost:8443
	Token         string       // the caller's bearer token; "" sends none
	WebhookSecret string       // Standard Webhooks secret, "whsec_" and base64; "" accepts nothing
	SandboxPay    string       // base URL of the sandbox's pages, as the browser and Client reach it
	Client        *http.Client // calls the gateway and the sandbox; nil: 10 s timeout, no redirects
	Mchid, Appid  string       // whose orders
	NotifyURL     string       // of the orders: the gateway's callback address; "" leaves it to the gateway

	Now    func() time.Time // zero: time.Now
	Logger *slog.Logger     // zero: no logging
}

// Shop is the demo merchant. It is an http.Handler, safe for concurrent use,
// and keeps everything in memory.
type Shop struct {
	options Options
	secret  []byte
	client  *http.Client
	now     func() time.Time
	log     *slog.Logger
	pages   http.Handler

	mu      sync.Mutex
	orders  []*shopOrder // the newest last
	events  []*event     // verified, in order of their first arrival
	refused []event      // the last few that did not verify
	byID    map[string]*event
}

//go:embed assets
var assets embed.FS

// New checks the options and makes a shop. Nothing is called before the first page.
func New(o Options) (*Shop, error) {
	s := &Shop{options: o, client: o.Client, now: o.Now, log: o.Logger, byID: map[string]*event{}}
	for name, value := range map[string]string{"gateway": o.Gateway, "notify_url": o.NotifyURL, "sandbox pay": o.SandboxPay} {
		if name != "gateway" && value == "" {
			continue
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("demoshop: %s: want an http or https URL", name)
		}
	}
	if o.Mchid == "" || o.Appid == "" {
		return nil, errors.New("demoshop: mchid and appid are required")
	}
	s.options.Gateway = strings.TrimRight(o.Gateway, "/")
	s.options.SandboxPay = strings.TrimRight(o.SandboxPay, "/")
	var err error
	if s.secret, err = decodeSecret(o.WebhookSecret); err != nil {
		return nil, err
	}
	if s.client == nil {
		s.client = &http.Client{
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.pages = s.pageHandler()
	return s, nil
}

// decodeSecret reads a Standard Webhooks secret of 24 to 64 bytes.
func decodeSecret(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	encoded, ok := strings.CutPrefix(text, "whsec_")
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(secret) < 24 || len(secret) > 64 {
		return nil, errors.New(`demoshop: webhook secret: want "whsec_" and base64 of 24 to 64 bytes`)
	}
	return secret, nil
}

// ServeHTTP serves the shop's page on GET / and takes the gateway's deliveries
// on POST to any path that is not one of the page's own.
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && !strings.HasPrefix(r.URL.Path, "/shop/") {
		s.receive(w, r)
		return
	}
	s.pages.ServeHTTP(w, r)
}

// number makes an out_trade_no: unique in practice, 6 to 32 characters.
func (s *Shop) number(prefix string) string {
	return prefix + s.now().UTC().Format("20060102150405") + rand.Text()[:8]
}
