package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core/consts"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// DefaultAttempt is how long one host has to answer.
const DefaultAttempt = 12 * time.Second

// probePrefix begins the signatures of WeChat Pay's probes.
// https://pay.weixin.qq.com/doc/v3/merchant/4013053249
const probePrefix = "WECHATPAY/SIGNTEST/"

// Config is what a Sender needs.
type Config struct {
	// Merchant signs, names the hosts and holds the keys. Required.
	Merchant *merchant.Merchant
	// HTTP carries the requests; its redirect policy, cookies and timeout are
	// not used. Default: the merchant's client.
	HTTP *http.Client
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Attempt is how long one host has to answer. Default: [DefaultAttempt].
	Attempt time.Duration
}

// Sender sends requests of one merchant. It is safe for concurrent use and
// starts nothing.
type Sender struct {
	merchant *merchant.Merchant
	client   http.Client
	now      func() time.Time
	attempt  time.Duration
	hosts    *hosts
	// traced is true when the transport reports the connections it gets.
	traced bool
}

// New makes a Sender.
func New(cfg Config) *Sender {
	s := &Sender{merchant: cfg.Merchant, now: cfg.Now, attempt: cfg.Attempt}
	client := cfg.HTTP
	if client == nil {
		client = cfg.Merchant.HTTPClient()
	}
	// A redirect would carry a signed body to another host; a cookie would
	// carry one caller's answer into another's request.
	s.client = http.Client{
		Transport:     client.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.attempt <= 0 {
		s.attempt = DefaultAttempt
	}
	switch s.client.Transport.(type) {
	case nil, *http.Transport:
		s.traced = true
	}
	s.hosts = newHosts(cfg.Merchant.APIBases())
	return s
}

// Request is one request to WeChat Pay.
type Request struct {
	Method string
	// Target is path and query exactly as they are signed and sent: it begins
	// with /v3/ and is not re-encoded.
	Target string
	// Header is the caller's; [Sender.Do] takes from it what goes on.
	Header http.Header
	// Body is sent as it is; nil for none.
	Body []byte
	// Signed is what is signed in place of Body: the meta JSON of an upload. Nil
	// means Body.
	Signed []byte
	// Serial names WeChat Pay's key that values of Body are encrypted with; "" to
	// let the caller's header or the preferred key decide.
	Serial string
	// Authorization is what [Sender.Authorize] made of the same request; "" to have
	// [Sender.Do] sign.
	Authorization string
	// Attempt is how long one host has to answer, the sending of Body included.
	// Zero: as long as the Sender gives it.
	Attempt time.Duration
	// Stream asks for the body of a 200 unread in Result.Stream, and without a
	// look at its signature: for operations whose answers WeChat Pay does not
	// sign. An attempt then ends with the answer's header, the body with ctx.
	Stream bool
	// Repeatable says that the operation is a query, or that a merchant number
	// makes a second send harmless: after a failure in mid-call the same signed
	// bytes may go to the next host.
	Repeatable bool
}

// Authorize signs a request and returns its Authorization header. It sends
// nothing, so that it may be done while something is waited for. What it returns
// is good for some minutes. Errors: ErrSign.
func (s *Sender) Authorize(ctx context.Context, r Request) (string, error) {
	credential, err := s.merchant.Credential()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSign, err)
	}
	signed := r.Body
	if r.Signed != nil {
		signed = r.Signed
	}
	authorization, err := credential.GenerateAuthorizationHeader(ctx, r.Method, r.Target, string(signed))
	if err != nil {
		return "", ErrSign
	}
	return authorization, nil
}

// Do signs once and sends to one host after the other until one answers. The
// context's deadline bounds all of it. Result.Outcome says what is known.
func (s *Sender) Do(ctx context.Context, r Request) Result {
	if !strings.HasPrefix(r.Target, "/v3/") {
		return Result{Err: ErrSign}
	}
	authorization := r.Authorization
	if authorization == "" {
		var err error
		if authorization, err = s.Authorize(ctx, r); err != nil {
			return Result{Err: err}
		}
	}
	header := requestHeader(r.Header, authorization, s.merchant.Keys(), s.now())
	if r.Serial != "" {
		header.Set(consts.WechatPaySerial, r.Serial)
	}

	last := Result{Err: ErrUnreachable}
	maybeDone := false // an earlier host may have carried it out
	for _, i := range s.hosts.order(s.now()) {
		if ctx.Err() != nil {
			break
		}
		attempts := last.Attempts + 1
		var sent bool
		last, sent = s.once(ctx, i, r, header)
		last.Attempts = attempts
		s.hosts.report(i, last.Status != 0, s.now())
		maybeDone = maybeDone || sent && last.Status == 0
		if last.Status != 0 || sent && !r.Repeatable {
			break
		}
	}
	switch {
	case maybeDone && last.Outcome == Unsent:
		// The last host was not even reached, an earlier one had the bytes.
		last.Outcome, last.Err = Unknown, ErrNoAnswer
	case maybeDone && last.Outcome == Rejected:
		// This host refuses what the first may have carried out: no proof.
		last.Outcome = Unknown
	case last.Attempts == 0 && ctx.Err() != nil:
		last.Err = ErrDialTimeout
	}
	return last
}

// once sends to one host. sent reports whether a byte may have reached it.
func (s *Sender) once(ctx context.Context, i int, r Request, header http.Header) (result Result, sent bool) {
	base, err := url.Parse(s.hosts.base(i))
	if err != nil {
		return Result{Err: ErrUnreachable}, false
	}
	ctx, cancel := context.WithCancelCause(ctx)
	attempt := s.attempt
	if r.Attempt > 0 {
		attempt = r.Attempt
	}
	deadline := time.AfterFunc(attempt, func() { cancel(context.DeadlineExceeded) })
	streaming := false
	defer func() {
		if !streaming {
			deadline.Stop()
			cancel(nil)
		}
	}()
	// A connection in hand, TLS and all, is the last moment at which nothing
	// was sent for certain.
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	// Opaque is written to the request line as it is; Path would be re-encoded.
	req := (&http.Request{
		Method: r.Method,
		URL:    &url.URL{Scheme: base.Scheme, Host: base.Host, Opaque: r.Target},
		Host:   base.Host,
		Header: header.Clone(),
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if r.Body != nil {
		req.ContentLength = int64(len(r.Body))
		req.Body = io.NopCloser(bytes.NewReader(r.Body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
		if len(r.Body) == 0 {
			req.Body, req.GetBody = http.NoBody, nil
		}
	}
	began := s.now()
	response, err := s.client.Do(req)
	if err != nil {
		switch {
		case connected.Load() || !s.traced && !isDial(err):
			return Result{Outcome: Unknown, Err: ErrNoAnswer}, true
		case errors.Is(err, context.DeadlineExceeded) || errors.Is(context.Cause(ctx), context.DeadlineExceeded) || isTimeout(err):
			return Result{Err: ErrDialTimeout}, false
		default:
			return Result{Err: ErrUnreachable}, false
		}
	}
	s.merchant.SawDate(response.Header.Get("Date"), began, s.now())
	if r.Stream && response.StatusCode == http.StatusOK && deadline.Stop() {
		streaming = true
		return Result{
			Outcome: Succeeded, Status: response.StatusCode, Header: answerHeader(response.Header),
			Stream: &stream{response.Body, cancel}, Length: response.ContentLength,
		}, true
	}
	return s.judge(ctx, response), true
}

// stream is an answer's body that ends its request when it is closed.
type stream struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (s *stream) Close() error {
	err := s.ReadCloser.Close()
	s.cancel(nil)
	return err
}

// judge reads the answer and decides what it proves.
func (s *Sender) judge(ctx context.Context, response *http.Response) Result {
	body, err := io.ReadAll(io.LimitReader(response.Body, merchant.MaxAnswer+1))
	_ = response.Body.Close()
	if err != nil {
		// A part of an answer is none: not even its status is passed on.
		return Result{Outcome: Unknown, Err: ErrNoAnswer}
	}
	if len(body) > merchant.MaxAnswer {
		return Result{Outcome: Unknown, Err: ErrAnswerTooLarge}
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	result := Result{
		Outcome: Unknown,
		Status:  response.StatusCode,
		Header:  answerHeader(response.Header),
		Body:    body,
	}
	if err := s.merchant.Validator().Validate(ctx, response); err != nil {
		result.Err = unverified(err)
		if strings.HasPrefix(response.Header.Get(consts.WechatPaySignature), probePrefix) {
			result.Err = ErrProbe
		}
		return result
	}
	result.Verified = true
	switch {
	case response.StatusCode >= 200 && response.StatusCode < 300:
		result.Outcome = Succeeded
	case response.StatusCode >= 400 && response.StatusCode < 500:
		result.Outcome = Rejected
	}
	return result
}

// unverified says why an answer does not verify, as far as a sentinel says it:
// the validator's own text holds what the answer's headers say.
func unverified(err error) error {
	for _, cause := range []error{
		merchant.ErrUnknownSerial, merchant.ErrKeyExpired, merchant.ErrKeyNotYetValid,
		merchant.ErrSignature, merchant.ErrAnswerHeaders,
	} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", ErrUnverified, cause)
		}
	}
	return ErrUnverified
}

// isDial reports whether the error says by itself that no connection was made:
// all there is to go by with a transport that is not Go's own.
func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// isTimeout reports whether the network timed out.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
