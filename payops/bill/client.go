package bill

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

const (
	// LinkLife is how long a link to a bill can be used. Newer pages say five
	// minutes; this is the stricter of what is documented.
	// https://pay.weixin.qq.com/wiki/doc/apiv3_partner/apis/chapter5_1_19.shtml
	LinkLife = 30 * time.Second
	// DefaultMaxSize is the largest bill, decompressed, in bytes: several million
	// rows.
	DefaultMaxSize = 1 << 30
	// DefaultTimeout bounds a fetch as a whole.
	DefaultTimeout = 10 * time.Minute
	// DefaultFiles is how many files there are at a time.
	DefaultFiles = 4
)

// Sender signs, sends and verifies: a [send.Sender], or what counts and logs
// around one.
type Sender interface {
	Do(context.Context, send.Request) send.Result
}

// Config is what a Client needs.
type Config struct {
	// Sender sends, to the merchant's API hosts and to no other. Required.
	Sender Sender
	// Bases are the merchant's API hosts (api_base): "https://api.mch.weixin.qq.com".
	// A link that leads elsewhere is not followed. Required.
	Bases []string
	// Dir is where temporary files are made. Bills hold openids: it should be
	// readable by the gateway alone. Zero: as [os.CreateTemp] has it.
	Dir string
	// MaxSize is the largest bill in bytes, decompressed. Zero: [DefaultMaxSize].
	MaxSize int64
	// Timeout bounds a fetch as a whole. Zero: [DefaultTimeout].
	Timeout time.Duration
	// Files is how many files there are at a time, those that are being read
	// included; a further fetch waits. Zero: [DefaultFiles].
	Files int
	// Now is the clock. Zero: time.Now.
	Now func() time.Time
}

// Client fetches bills of one merchant. It is safe for concurrent use, starts
// nothing and holds nothing that must be closed.
type Client struct {
	sender  Sender
	bases   map[string]bool
	dir     string
	maxSize int64
	timeout time.Duration
	files   chan struct{} // holds one value for each file
	now     func() time.Time
}

// NewClient makes a Client. It is pure.
func NewClient(cfg Config) (*Client, error) {
	c := &Client{
		sender: cfg.Sender, bases: make(map[string]bool, len(cfg.Bases)), dir: cfg.Dir,
		maxSize: cfg.MaxSize, timeout: cfg.Timeout, now: cfg.Now,
	}
	for _, base := range cfg.Bases {
		u, err := url.Parse(base)
		if err != nil || u.Host == "" {
			return nil, errors.New("bill: an API host is no URL")
		}
		c.bases[origin(u)] = true
	}
	if c.sender == nil || len(c.bases) == 0 {
		return nil, errors.New("bill: a sender and its API hosts are needed")
	}
	if c.maxSize <= 0 {
		c.maxSize = DefaultMaxSize
	}
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	if cfg.Files <= 0 {
		cfg.Files = DefaultFiles
	}
	c.files = make(chan struct{}, cfg.Files)
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

// Fetch applies for a bill, downloads it, and returns it when it is whole and the
// one that WeChat Pay signed the digest of. The file is for the caller to close.
// Errors: [ErrNoStatement], [ErrNotReady], [ErrRequest], [RejectedError],
// [ErrUnavailable], [ErrLink], [ErrLinkExpired], [ErrIncomplete], [ErrDigest],
// [ErrTooLarge], [ErrBomb], [ErrDisk]. A fetch has no effect at WeChat Pay and can
// be repeated after any of them.
func (c *Client) Fetch(ctx context.Context, r Request) (*File, error) {
	target, err := r.Target()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	select {
	case c.files <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	free := func() { <-c.files }
	file, err := c.fetch(ctx, target)
	if err != nil {
		free()
		return nil, err
	}
	file.free = free
	return file, nil
}

func (c *Client) fetch(ctx context.Context, target string) (*File, error) {
	link, err := c.apply(ctx, target)
	if err != nil {
		return nil, err
	}
	left := LinkLife - c.now().Sub(link.made)
	if left <= 0 {
		return nil, ErrLinkExpired
	}
	res := c.sender.Do(ctx, send.Request{
		Method: http.MethodGet, Target: link.target, Header: http.Header{"Accept": {"*/*"}},
		Repeatable: true, Stream: true, Attempt: min(left, send.DefaultAttempt),
	})
	switch {
	case res.Stream != nil:
		defer func() { _ = res.Stream.Close() }()
		return c.store(res, link.sha1)
	case res.Status >= 400 && res.Status < 500:
		// Whether or not it is signed: there is no file, and a new link costs nothing.
		return nil, ErrLinkExpired
	}
	return nil, unavailable(res)
}

// link is where a bill is to be had, and what it must be.
type link struct {
	target string // path and query, as they stand in the link
	sha1   [20]byte
	made   time.Time
}

// apply asks for the link.
func (c *Client) apply(ctx context.Context, target string) (*link, error) {
	res := c.sender.Do(ctx, send.Request{Method: http.MethodGet, Target: target, Repeatable: true})
	switch res.Outcome {
	case send.Succeeded:
		return c.link(res.Body)
	case send.Rejected:
		var refusal struct {
			Code string `json:"code"`
		}
		if json.Unmarshal(res.Body, &refusal) != nil || !codeText(refusal.Code) {
			refusal.Code = ""
		}
		switch refusal.Code {
		case "NO_STATEMENT_EXIST":
			return nil, ErrNoStatement
		case "STATEMENT_CREATING":
			return nil, ErrNotReady
		}
		return nil, &RejectedError{Status: res.Status, Code: refusal.Code}
	case send.Unsent, send.Unknown:
	}
	return nil, unavailable(res)
}

// link reads the answer to apply.
func (c *Client) link(body []byte) (*link, error) {
	var answer struct {
		HashType  string `json:"hash_type"`
		HashValue string `json:"hash_value"`
		URL       string `json:"download_url"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.HashType != "SHA1" {
		return nil, ErrLink
	}
	l := &link{made: c.now()}
	if n, err := hex.Decode(l.sha1[:], []byte(trimTo(answer.HashValue, 2*len(l.sha1)))); err != nil || n != len(l.sha1) {
		return nil, ErrLink
	}
	var ok bool
	if l.target, ok = c.target(strings.TrimSpace(answer.URL)); !ok {
		return nil, ErrLink
	}
	return l, nil
}

// target returns path and query of a link to one of the merchant's API hosts,
// byte for byte, since they are what is signed.
func (c *Client) target(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.User != nil || u.Fragment != "" || !c.bases[origin(u)] || len(text) > 8<<10 {
		return "", false
	}
	_, rest, _ := strings.Cut(text, "://")
	at := strings.IndexAny(rest, "/?#")
	if at < 0 || strings.Contains(rest, "#") || !strings.HasPrefix(rest[at:], "/v3/") {
		return "", false
	}
	target := rest[at:]
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			return "", false
		}
	}
	for _, segment := range strings.Split(u.Path, "/")[1:] {
		if segment == "" || segment == "." || segment == ".." {
			return "", false
		}
	}
	return target, true
}

// origin returns scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme + "://" + u.Hostname() + ":" + port)
}

// unavailable is what an answer without proof amounts to.
func unavailable(res send.Result) error {
	if res.Err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, res.Err)
	}
	return fmt.Errorf("%w: status %d", ErrUnavailable, res.Status)
}

// codeText reports whether text looks like an error code of WeChat Pay's, and is
// no text that would be of a bill or of a person.
func codeText(text string) bool {
	for i := range len(text) {
		if c := text[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return len(text) <= 64
}

// trimTo returns text, or "" when it does not have the length.
func trimTo(text string, length int) string {
	if len(text) != length {
		return ""
	}
	return text
}
