package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// routeDeliverer carries deliveries through the routes of a `deliver` block, so
// that a backend is anything Caddy can reach, with its load balancing, health
// checks and TLS.
type routeDeliverer struct {
	handler   caddyhttp.Handler
	server    *caddyhttp.Server
	upstreams []string // where they lead, for people
}

// noRouteKey is where the end of the routes leaves its mark in the request.
type noRouteKey struct{}

// newRouteDeliverer compiles provisioned routes. What no route answers ends in
// a handler that only says so.
func newRouteDeliverer(routes caddyhttp.RouteList) *routeDeliverer {
	end := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		if fell, ok := r.Context().Value(noRouteKey{}).(*bool); ok {
			*fell = true
		}
		return nil
	})
	// Handlers ask the request's server about its logging; a delivery has no
	// server of its own and gets one that says nothing.
	return &routeDeliverer{handler: routes.Compile(end), server: new(caddyhttp.Server)}
}

// Deliver sends one attempt through the routes and keeps the beginning of the
// answer.
func (d *routeDeliverer) Deliver(ctx context.Context, dl *notify.Delivery) (notify.Response, error) {
	var noRoute bool
	ctx = context.WithValue(ctx, noRouteKey{}, &noRoute)

	req := (&http.Request{
		Method:     http.MethodPost,
		URL:        &url.URL{Path: dl.Path},
		RequestURI: (&url.URL{Path: dl.Path}).EscapedPath(),
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        dl.Header,
		Host:          dl.Host,
		Body:          io.NopCloser(bytes.NewReader(dl.Body)),
		ContentLength: int64(len(dl.Body)),
		// The gateway itself is the client; without a parseable address
		// reverse_proxy would leave X-Forwarded-For out.
		RemoteAddr: "127.0.0.1:0",
	}).WithContext(ctx)

	rec := &recorder{header: make(http.Header), wanted: dl.Wanted}
	repl := caddy.NewReplacer()
	req = caddyhttp.PrepareRequest(req, repl, rec, d.server)
	repl.Map(placeholders(dl.Record))

	if err := d.handler.ServeHTTP(rec, req); err != nil {
		if ctx.Err() != nil {
			return notify.Response{}, ctx.Err()
		}
		var he caddyhttp.HandlerError
		if errors.As(err, &he) && he.StatusCode >= 400 && he.StatusCode < 500 {
			return notify.Response{Status: he.StatusCode}, nil // a route's own refusal
		}
		var dial reverseproxy.DialError
		if errors.As(err, &dial) {
			return notify.Response{}, fmt.Errorf("%w: %w", notify.ErrNotSent, err)
		}
		return notify.Response{}, fmt.Errorf("delivery route: %w", err)
	}
	// reverse_proxy returns nil when its request was cancelled.
	if err := ctx.Err(); err != nil {
		return notify.Response{}, err
	}
	if noRoute && rec.status == 0 {
		return notify.Response{NoRoute: true}, nil
	}
	if err := rec.complete(); err != nil {
		return notify.Response{}, err
	}
	return notify.Response{
		Status:      rec.statusOrOK(),
		RetryAfter:  rec.header.Get("Retry-After"),
		ContentType: rec.header.Get("Content-Type"),
		Body:        rec.body,
		Truncated:   rec.n > int64(len(rec.body)),
	}, nil
}

// recorder is the response writer of a delivery: the header, the status, and
// the first wanted bytes of the body.
type recorder struct {
	header http.Header
	status int
	body   []byte
	wanted int64
	n      int64
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if status >= 100 && status < 200 { // informational, the answer is still to come
		return
	}
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if room := r.wanted - int64(len(r.body)); room > 0 {
		r.body = append(r.body, p[:min(int64(len(p)), room)]...)
	}
	r.n += int64(len(p))
	return len(p), nil
}

// Flush lets handlers that stream believe they did.
func (r *recorder) Flush() {}

func (r *recorder) statusOrOK() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// complete returns an error when the answer is shorter than it announced.
func (r *recorder) complete() error {
	announced := r.header.Get("Content-Length")
	if announced == "" || r.status == http.StatusNoContent || r.status == http.StatusNotModified {
		return nil
	}
	if n, err := strconv.ParseInt(announced, 10, 64); err == nil && n != r.n {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// placeholders gives a delivery's `{http.wechatpay.*}`.
func placeholders(rec *storage.Record) caddy.ReplacerFunc {
	return func(key string) (any, bool) {
		switch key {
		case "http.wechatpay.event_type":
			return rec.EventType, true
		case "http.wechatpay.kind":
			return rec.Kind, true
		case "http.wechatpay.merchant":
			return rec.Merchant, true
		case "http.wechatpay.mchid":
			return rec.Mchid, true
		case "http.wechatpay.sub_mchid":
			return rec.SubMchid, true
		case "http.wechatpay.appid":
			return rec.Appid, true
		case "http.wechatpay.out_trade_no":
			return rec.OutTradeNo, true
		case "http.wechatpay.out_refund_no":
			return rec.OutRefundNo, true
		case "http.wechatpay.parking_id":
			return rec.ParkingID, true
		case "http.wechatpay.trade_scene":
			return rec.TradeScene, true
		case "http.wechatpay.id":
			return rec.ID, true
		}
		return nil, false
	}
}

var (
	_ notify.Deliverer    = (*routeDeliverer)(nil)
	_ http.ResponseWriter = (*recorder)(nil)
	_ http.Flusher        = (*recorder)(nil)
)
