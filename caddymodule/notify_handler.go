package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/deliver"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/receive"
)

func init() {
	caddy.RegisterModule(new(NotifyHandler))
}

// NotifyHandler receives WeChat Pay's callbacks (回调通知): it verifies,
// decrypts and stores each once, answers WeChat, and delivers it to the backend
// through its `deliver` routes.
//
// Placeholders in those routes:
//
// Placeholder | Description
// ------------|---------------
// `{http.wechatpay.event_type}` | WeChat's event type, such as `TRANSACTION.SUCCESS`
// `{http.wechatpay.kind}` | what it is, such as `payment` or `refund`
// `{http.wechatpay.merchant}` | the merchant block's name
// `{http.wechatpay.mchid}` | the merchant number
// `{http.wechatpay.sub_mchid}` | the sub-merchant's number
// `{http.wechatpay.appid}` | the appid
// `{http.wechatpay.out_trade_no}` | the order's number
// `{http.wechatpay.out_refund_no}` | the refund's number
// `{http.wechatpay.parking_id}` | the parking entry's id
// `{http.wechatpay.trade_scene}` | such as `PARKING`
// `{http.wechatpay.id}` | the Webhook-Id
type NotifyHandler struct {
	NotifyConfig

	app   *App
	log   *zap.Logger
	route *notify.Route
}

// CaddyModule returns the Caddy module information.
func (*NotifyHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.wechatpay_notify",
		New: func() caddy.Module { return new(NotifyHandler) },
	}
}

// Provision sets the route up and makes it known to the app.
func (h *NotifyHandler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	if err := h.NotifyConfig.validate(); err != nil {
		return err
	}
	app, err := appOf(ctx, "wechatpay_notify")
	if err != nil {
		return err
	}
	h.app = app
	if h.Merchant != "" {
		if _, err := app.merchant(h.Merchant); err != nil {
			return fmt.Errorf("wechatpay_notify: %w", err)
		}
	}
	h.route, err = h.newRoute(ctx)
	if err != nil {
		return fmt.Errorf("wechatpay_notify: %w", err)
	}
	h.route = app.addRoute(h.route)
	return nil
}

// newRoute turns the configuration into the domain's route, defaults filled in.
func (h *NotifyHandler) newRoute(ctx caddy.Context) (*notify.Route, error) {
	id, err := h.routeID()
	if err != nil {
		return nil, err
	}
	r := &notify.Route{
		ID:          id,
		Merchant:    h.Merchant,
		Ack:         notify.AckCommit,
		AmountCheck: notify.CheckKnown,
		Payload:     notify.PayloadEnvelope,
		Retry:       notify.DefaultRetry,
		MaxBody:     notify.DefaultMaxBody,
		Timeout:     time.Duration(h.Timeout),
	}
	if h.Ack != "" {
		r.Ack = notify.AckMode(h.Ack)
	}
	if h.AmountCheck != "" {
		r.AmountCheck = notify.CheckMode(h.AmountCheck)
	}
	if h.Payload != "" {
		r.Payload = notify.PayloadForm(h.Payload)
	}
	if len(h.Retry) > 0 {
		r.Retry = make([]time.Duration, len(h.Retry))
		for i, d := range h.Retry {
			r.Retry[i] = time.Duration(d)
		}
	}
	if h.MaxBody != 0 {
		r.MaxBody = h.MaxBody
	}
	if r.Timeout == 0 {
		r.Timeout = notify.DefaultTimeout
		if r.Ack == notify.AckDelivery {
			r.Timeout = notify.DefaultDeliveryTimeout
		}
	}
	for i, s := range h.Sign {
		text, err := resolve("sign", s)
		if err != nil {
			return nil, err
		}
		secret, err := deliver.ParseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("sign: secret %d: %w", i+1, err)
		}
		r.Sign = append(r.Sign, secret)
		if !isPlaceholder(s) {
			h.log.Warn("sign stands in the configuration in clear; use {env.NAME} or {file./path}")
		}
	}
	upstreams := upstreamsOf(h.Deliver)
	if err := h.Deliver.Provision(ctx); err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	deliverer := newRouteDeliverer(h.Deliver)
	deliverer.upstreams = upstreams
	r.Deliverer = deliverer
	return r, nil
}

// routeID names the route by its merchant, by where it delivers to, and by all
// it says: the same in every configuration that leaves these alone. What a
// changed configuration still shares with the name finds the route again, see
// gateway.route.
func (h *NotifyHandler) routeID() (string, error) {
	deliver, err := digest(h.Deliver)
	if err != nil {
		return "", err
	}
	all, err := digest(h.NotifyConfig)
	if err != nil {
		return "", err
	}
	name := h.Merchant
	if name == "" {
		name = "*"
	}
	return name + "/" + deliver + "/" + all, nil
}

// digest is a short fingerprint of a configuration value.
func digest(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6]), nil
}

// bodyBound is how long a callback's body may take to arrive. Within WeChat's
// 5 s there must be time left for the rest.
const bodyBound = 2 * time.Second

// ServeHTTP answers one callback. The answer is WeChat's own format whatever
// happens; it never goes through handle_errors, whose pages WeChat would not
// understand.
func (h *NotifyHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	arrived := time.Now()
	orig := r
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		orig = &o
	}
	in := receive.Incoming{
		Method:        r.Method,
		Host:          r.Host,
		Path:          orig.URL.Path,
		Header:        r.Header,
		ContentLength: r.ContentLength,
		Body:          r.Body,
		Arrived:       arrived,
	}
	var m receive.Merchant
	if mm := h.merchantOf(r.URL.Path); mm != nil {
		m = mm
	}
	// A body that trickles in must not keep WeChat, or anybody, waiting for an
	// answer: net/http sets the deadline anew for the next request.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyBound)); err != nil {
		h.log.Debug("no read deadline", zap.Error(err))
	}
	g, done, err := h.app.acquire(r.Context())
	if err != nil {
		h.log.Warn("callback refused while starting", zap.Error(err))
		h.answer(w, receive.Unavailable())
		return nil
	}
	defer done()
	h.answer(w, g.receiver.Receive(r.Context(), h.route, m, in))
	return nil
}

// merchantOf finds the merchant whose callbacks arrive under the path, or nil.
func (h *NotifyHandler) merchantOf(path string) *merchant.Merchant {
	name := h.Merchant
	if name == "" {
		name = path[strings.LastIndexByte(path, '/')+1:]
	}
	return h.app.merchants[name]
}

func (h *NotifyHandler) answer(w http.ResponseWriter, a receive.Answer) {
	hdr := w.Header()
	hdr.Set("Content-Type", "application/json")
	hdr.Set("Content-Length", strconv.Itoa(len(a.Body)))
	if a.Status == http.StatusMethodNotAllowed {
		hdr.Set("Allow", http.MethodPost)
	}
	w.WriteHeader(a.Status)
	if _, err := w.Write(a.Body); err != nil {
		h.log.Debug("answer not taken", zap.Error(err))
	}
}

var (
	_ caddy.Provisioner           = (*NotifyHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*NotifyHandler)(nil)
)
