package caddymodule

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
)

// thenBound is how long the routes of a `then` block may take to answer.
const thenBound = 30 * time.Second

// headerOutcome says what became of the operation, whatever the backend behind a
// `then` block says.
const (
	headerOutcome    = "Wechatpay-Gateway-Outcome"
	outcomeSucceeded = "succeeded"
)

// resultRoutes carries results of operations on through the routes of a `then`
// block.
type resultRoutes struct {
	handler  caddyhttp.Handler
	merchant string
	mchid    string
	log      *zap.Logger
}

// newResultRoutes compiles provisioned routes. What no route answers ends in a
// handler that only says so.
func newResultRoutes(routes caddyhttp.RouteList, merchant, mchid string, log *zap.Logger) *resultRoutes {
	end := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		if fell, ok := r.Context().Value(noRouteKey{}).(*bool); ok {
			*fell = true
		}
		return nil
	})
	return &resultRoutes{handler: routes.Compile(end), merchant: merchant, mchid: mchid, log: log}
}

// serve lets api answer, holds a success back and sends it on. What is no
// success of WeChat Pay's goes to the caller as it comes.
func (t *resultRoutes) serve(w http.ResponseWriter, r *http.Request, api http.Handler) error {
	var report payops.Report
	held := &heldAnswer{
		ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
		header:                make(http.Header),
		hold: func() bool {
			return report.Operation != "" && strings.HasPrefix(r.URL.Path, "/v3/")
		},
	}
	api.ServeHTTP(held, r.WithContext(payops.WithReport(r.Context(), &report)))
	if held.held == 0 {
		return nil
	}
	return t.goOn(w, r, held, &report)
}

// goOn sends a success on to the routes. The caller may have gone away: what has
// happened at WeChat Pay is told to the backend all the same.
func (t *resultRoutes) goOn(w http.ResponseWriter, r *http.Request, held *heldAnswer, report *payops.Report) error {
	var noRoute bool
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), thenBound)
	defer cancel()
	ctx = context.WithValue(ctx, noRouteKey{}, &noRoute)

	path := r.URL.Path
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		path = orig.URL.Path
	}
	target := &url.URL{Path: path}
	req := (&http.Request{
		Method: http.MethodPost, URL: target, RequestURI: target.EscapedPath(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: t.header(r.Header, held, report),
		Host:   r.Host, RemoteAddr: r.RemoteAddr, TLS: r.TLS,
		Body:          io.NopCloser(bytes.NewReader(held.body.Bytes())),
		ContentLength: int64(held.body.Len()),
	}).WithContext(ctx)

	answer := &backendAnswer{
		ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
		ours:                  ours(held.header),
	}
	req = t.prepare(req, r, answer, report)
	err := t.handler.ServeHTTP(answer, req)
	switch {
	case err == nil && noRoute && !answer.wrote:
		maps.Copy(w.Header(), held.header)
		w.WriteHeader(held.held)
		_, _ = w.Write(held.body.Bytes()) // the caller is gone when this fails
		return nil
	case err == nil && ctx.Err() != nil && !answer.wrote: // reverse_proxy returns nil when its request was cancelled
		err = caddyhttp.Error(http.StatusGatewayTimeout, ctx.Err())
	}
	if err != nil {
		answer.mark()
		t.log.Warn("the operation succeeded at WeChat Pay, and the routes of then failed with its result",
			zap.String("merchant", t.merchant), zap.String("operation", report.Operation),
			zap.String("request_id", report.RequestID), zap.Error(err))
	}
	return err
}

// prepare makes the request one of its own, with the variables of the one that
// it follows and the placeholders of the operation.
func (t *resultRoutes) prepare(req, outer *http.Request, w http.ResponseWriter, report *payops.Report) *http.Request {
	server, ok := outer.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		server = new(caddyhttp.Server)
	}
	repl := caddy.NewReplacer()
	req = caddyhttp.PrepareRequest(req, repl, w, server)
	before, _ := outer.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if vars, ok := req.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		maps.Copy(vars, before)
	}
	repl.Map(t.placeholders(report))
	if outerRepl, ok := outer.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(outerRepl.Get) // such as http.auth.user.id
	}
	return req
}

// placeholders gives an operation's `{http.wechatpay.*}`.
func (t *resultRoutes) placeholders(report *payops.Report) caddy.ReplacerFunc {
	return func(key string) (any, bool) {
		name, ok := strings.CutPrefix(key, "http.wechatpay.")
		if !ok {
			return nil, false
		}
		switch name {
		case "operation":
			return report.Operation, true
		case "group":
			return string(report.Group), true
		case "status":
			return report.Status, true
		case "caller":
			return report.Caller, true
		case "merchant":
			return t.merchant, true
		case "mchid":
			return t.mchid, true
		case "request_id":
			return report.RequestID, true
		case "appid", "sub_mchid", "out_trade_no", "transaction_id", "out_refund_no", "refund_id",
			"out_order_no", "out_bill_no", "parking_id":
			return report.Named(name), true
		}
		return nil, false
	}
}

// header is what the backend gets: the caller's headers but for those that speak
// to the gateway or about the body that is no more, WeChat Pay's signature
// headers, so that the backend may verify, and the gateway's own.
func (t *resultRoutes) header(client http.Header, held *heldAnswer, report *payops.Report) http.Header {
	h := make(http.Header, len(client)+len(held.header)+4)
	for name, values := range client {
		if !notGoingOn(name) {
			h[name] = values
		}
	}
	for name, values := range held.header {
		switch name {
		case "Date", "Retry-After", "Cache-Control":
		default:
			h[name] = values
		}
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(held.body.Len()))
	h.Set("Wechatpay-Gateway-Merchant", t.merchant)
	h.Set("Wechatpay-Gateway-Mchid", t.mchid)
	h.Set("Wechatpay-Gateway-Operation", report.Operation)
	h.Set("Wechatpay-Gateway-Caller", report.Caller)
	return h
}

// notGoingOn reports whether a caller's header stays behind: its credential,
// what describes its body, its connection or a cached answer, and names that
// WeChat Pay and the gateway speak in, in any spelling.
func notGoingOn(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	switch name {
	case "authorization", "expect", "range", "request-id",
		"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	for _, prefix := range []string{"wechatpay-", "webhook-", "content-", "if-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// ours are the headers in the gateway's name that the caller gets beside the
// backend's answer.
func ours(answer http.Header) http.Header {
	h := http.Header{headerOutcome: {outcomeSucceeded}}
	for name, values := range answer {
		if strings.HasPrefix(name, "Wechatpay-Gateway-") {
			h[name] = values
		}
	}
	return h
}

// heldAnswer holds an answer back when hold says so, and passes it on otherwise.
type heldAnswer struct {
	*caddyhttp.ResponseWriterWrapper
	header http.Header
	hold   func() bool
	held   int // status of what is held back, 0 when nothing is
	passed bool
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header { return h.header }

func (h *heldAnswer) WriteHeader(status int) {
	if h.held != 0 || h.passed {
		return
	}
	if status < http.StatusMultipleChoices && h.hold() {
		h.held = status
		return
	}
	h.passed = true
	maps.Copy(h.ResponseWriter.Header(), h.header)
	h.ResponseWriter.WriteHeader(status)
}

func (h *heldAnswer) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	if h.held != 0 {
		return h.body.Write(p)
	}
	return h.ResponseWriter.Write(p)
}

// ReadFrom keeps a body that is held back from going around Write.
func (h *heldAnswer) ReadFrom(r io.Reader) (int64, error) {
	h.WriteHeader(http.StatusOK)
	if h.held != 0 {
		return h.body.ReadFrom(r)
	}
	return h.ResponseWriterWrapper.ReadFrom(r)
}

// backendAnswer is the answer of the routes, with the gateway's own headers,
// which no backend overwrites.
type backendAnswer struct {
	*caddyhttp.ResponseWriterWrapper
	ours  http.Header
	wrote bool
}

// mark sets the gateway's headers.
func (b *backendAnswer) mark() {
	h := b.Header()
	for name := range h {
		if strings.HasPrefix(name, "Wechatpay-Gateway-") {
			delete(h, name)
		}
	}
	maps.Copy(h, b.ours)
}

func (b *backendAnswer) WriteHeader(status int) {
	if !b.wrote && status >= http.StatusOK {
		b.wrote = true
		b.mark()
	}
	b.ResponseWriter.WriteHeader(status)
}

func (b *backendAnswer) Write(p []byte) (int, error) {
	if !b.wrote {
		b.WriteHeader(http.StatusOK)
	}
	return b.ResponseWriter.Write(p)
}

// ReadFrom marks an answer that begins with its body.
func (b *backendAnswer) ReadFrom(r io.Reader) (int64, error) {
	if !b.wrote {
		b.WriteHeader(http.StatusOK)
	}
	return b.ResponseWriterWrapper.ReadFrom(r)
}

var (
	_ http.ResponseWriter = (*heldAnswer)(nil)
	_ http.ResponseWriter = (*backendAnswer)(nil)
)
