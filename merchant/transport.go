package merchant

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// NewTransport returns the transport of a merchant's outgoing calls: TLS 1.2
// or newer, no proxy but Config.EgressProxy (the environment is not asked),
// bytes as the wire has them (no transparent decompression: signatures are over
// the bytes). It starts nothing. An EgressProxy that [New] would refuse makes
// every call fail rather than go out directly.
func NewTransport(cfg Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    64,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
	}
	if cfg.EgressProxy != "" {
		proxy, err := parseEgressProxy(cfg.EgressProxy)
		t.Proxy = func(*http.Request) (*url.URL, error) { return proxy, err }
	}
	return t
}

// NewClient returns a client over [NewTransport] that follows no redirect: a
// redirect would carry a signed body to another host. It has no overall
// timeout; every call brings a context with a deadline.
func NewClient(cfg Config) *http.Client {
	return withoutRedirects(&http.Client{Transport: NewTransport(cfg)})
}

// withoutRedirects returns a copy of client that follows no redirect and keeps
// no cookies.
func withoutRedirects(client *http.Client) *http.Client {
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Jar = nil
	return &c
}

// parseEgressProxy reads egress_proxy. Its errors hold nothing of the URL,
// which may carry a password.
func parseEgressProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Hostname() == "" {
		return nil, errors.New("egress_proxy: not a URL; write http://host:port, https://host:port or socks5://host:port")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, errors.New("egress_proxy: the scheme must be http, https or socks5")
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, errors.New("egress_proxy: a path, query or fragment has no meaning here; write scheme://host:port")
	}
	if !validPort(u.Port()) {
		return nil, errors.New("egress_proxy: the port must be 1 to 65535")
	}
	return u, nil
}

// parseBase reads api_base and sandbox: an origin, https unless the host is
// the machine itself. The result has no trailing slash.
func parseBase(option, text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Hostname() == "" {
		return "", errors.New(option + ": not a URL; write https://host")
	}
	if u.User != nil {
		return "", errors.New(option + ": a user name or password in the URL is not used; remove it")
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", errors.New(option + ": only scheme, host and port; remove the path, query or fragment")
	}
	if !validPort(u.Port()) {
		return "", errors.New(option + ": the port must be 1 to 65535")
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	case u.Scheme == "http":
		return "", errors.New(option + ": must be https; http is for a loopback address (127.0.0.1, [::1], localhost) only")
	default:
		return "", errors.New(option + ": the scheme must be https")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// isLoopback reports whether host is this machine by its spelling: nothing is
// resolved.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() && addr.Zone() == ""
}

// validPort accepts no port at all, or 1 to 65535.
func validPort(port string) bool {
	if port == "" {
		return true
	}
	n := 0
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return false
		}
	}
	return n > 0
}
