package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddypki"
)

// closableHandler is a handler with state of its own.
type closableHandler interface {
	http.Handler
	Close() error
}

// platforms holds the state of sandboxes and demo shops across reloads, by
// their whole configuration: other options are another platform.
var platforms = caddy.NewUsagePool()

// lazyHandler makes its handler at the first request, so that provisioning
// starts nothing, and shares it with other configurations that say the same.
type lazyHandler struct {
	key  string
	make func() (closableHandler, error)

	mu   sync.Mutex
	held closableHandler
	gone bool
}

var errGone = errors.New("the configuration of this handler has ended")

func (l *lazyHandler) get() (http.Handler, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		return l.held, nil
	}
	if l.gone {
		return nil, errGone
	}
	val, _, err := platforms.LoadOrNew(l.key, func() (caddy.Destructor, error) {
		h, err := l.make()
		if err != nil {
			return nil, err
		}
		return pooledHandler{h}, nil
	})
	if err != nil {
		return nil, err
	}
	l.held = val.(pooledHandler).closableHandler
	return l.held, nil
}

// release gives the handler back if it was ever made. Requests that are still
// running keep it; the last configuration to let go closes it.
func (l *lazyHandler) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	if l.held == nil {
		return nil
	}
	_, err := platforms.Delete(l.key)
	return err
}

// pooledHandler closes its handler when the pool lets it go.
type pooledHandler struct{ closableHandler }

// Destruct closes the handler.
func (p pooledHandler) Destruct() error { return p.Close() }

// trustInternal is the `trust` argument that names Caddy's own CA.
const trustInternal = "internal"

// trustingClient makes the client that sandboxes and demo shops send with: no
// redirects, 5 s as WeChat waits, and the certificates that trust names.
func trustingClient(ctx caddy.Context, trust string) (*http.Client, error) {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout: 3 * time.Second,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
	}
	var rt http.RoundTripper = t
	switch trust {
	case "":
	case trustInternal:
		pki, err := ctx.App("pki")
		if err != nil {
			return nil, fmt.Errorf("loading pki app: %w", err)
		}
		rt = &internalTrust{ctx: ctx, pki: pki.(*caddypki.PKI), transport: t}
	default:
		text, err := os.ReadFile(trust)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no PEM certificate", trust)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport: rt,
		Timeout:   5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}, nil
}

// internalTrust asks Caddy's CA for its root at the first request: before the
// PKI app has started there may be none, and validating a configuration must
// not make one.
type internalTrust struct {
	ctx       caddy.Context
	pki       *caddypki.PKI
	transport *http.Transport

	once sync.Once
	err  error
}

// RoundTrip sends the request, trusting Caddy's internal CA alone.
func (t *internalTrust) RoundTrip(r *http.Request) (*http.Response, error) {
	t.once.Do(func() {
		ca, err := t.pki.GetCA(t.ctx, caddypki.DefaultCAID)
		if err != nil {
			t.err = fmt.Errorf("internal CA: %w", err)
			return
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca.RootCertificate())
		t.transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	})
	if t.err != nil {
		return nil, t.err
	}
	return t.transport.RoundTrip(r)
}

// CloseIdleConnections lets http.Client close what it keeps.
func (t *internalTrust) CloseIdleConnections() { t.transport.CloseIdleConnections() }

// closeWith pairs a handler with what is to be closed after it.
type closeWith struct {
	http.Handler
	close func()
}

// Close closes.
func (c closeWith) Close() error { c.close(); return nil }
