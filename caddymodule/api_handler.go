package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func init() {
	caddy.RegisterModule(new(APIHandler))
}

// APIHandler is the payment API for backends: WeChat Pay's own `/v3/…` paths,
// signed and verified by the gateway, and the gateway's own `/gateway/…`
// resources.
//
// With `then`, the result of a successful operation of WeChat Pay's (a verified
// 2xx) goes on to ordinary HTTP routes: a POST with the original path, WeChat
// Pay's answer as its body and WeChat Pay's signature headers. What they answer
// is what the caller gets, with `Wechatpay-Gateway-Outcome: succeeded`: whatever
// the backend says, the money has moved or the order stands. Where no route
// answers, the caller gets WeChat Pay's answer. Everything else is answered as
// it is: refusals, rejections, unknown outcomes, files, and the `/gateway/…`
// resources.
//
// Placeholders in those routes:
//
// Placeholder | Description
// ------------|---------------
// `{http.wechatpay.operation}` | method and path template, such as `POST /v3/pay/transactions/native`
// `{http.wechatpay.group}` | the operation's group, such as `pay`
// `{http.wechatpay.status}` | WeChat Pay's status, such as `200`
// `{http.wechatpay.caller}` | who asked
// `{http.wechatpay.merchant}` | the merchant block's name
// `{http.wechatpay.mchid}` | the merchant number
// `{http.wechatpay.request_id}` | WeChat Pay's Request-ID
// `{http.wechatpay.appid}` | the appid
// `{http.wechatpay.sub_mchid}` | the sub-merchant's number
// `{http.wechatpay.out_trade_no}` | the order's number, also a combine order's
// `{http.wechatpay.transaction_id}` | WeChat Pay's number of the payment
// `{http.wechatpay.out_refund_no}` | the refund's number
// `{http.wechatpay.refund_id}` | WeChat Pay's number of the refund
// `{http.wechatpay.out_order_no}` | the profit sharing order's number
// `{http.wechatpay.out_bill_no}` | the transfer's number
// `{http.wechatpay.parking_id}` | the parking entry's id
type APIHandler struct {
	APIConfig

	app      *App
	log      *zap.Logger
	merchant *merchant.Merchant
	callers  *caller.Set
	then     *resultRoutes // nil without then
	api      atomic.Pointer[payops.API]
}

// CaddyModule returns the Caddy module information.
func (*APIHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.wechatpay_api",
		New: func() caddy.Module { return new(APIHandler) },
	}
}

// Provision resolves the callers and makes the handler known to the app.
func (h *APIHandler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	if err := h.APIConfig.validate(); err != nil {
		return err
	}
	app, err := appOf(ctx, "wechatpay_api")
	if err != nil {
		return err
	}
	h.app = app
	if h.merchant, err = app.merchant(h.Merchant); err != nil {
		return fmt.Errorf("wechatpay_api: %w", err)
	}
	if h.callers, err = h.resolveCallers(); err != nil {
		return fmt.Errorf("wechatpay_api: %w", err)
	}
	if len(h.Then) > 0 {
		if err := h.Then.Provision(ctx); err != nil {
			return fmt.Errorf("wechatpay_api: then: %w", err)
		}
		h.then = newResultRoutes(h.Then, h.merchant.Name(), h.merchant.Mchid(), h.log)
	}
	app.addAPI(h)
	return nil
}

func (h *APIHandler) resolveCallers() (*caller.Set, error) {
	if h.TrustUpstreamAuth {
		allow := h.Allow[upstreamCaller]
		if len(allow) == 0 {
			allow = upstreamGroups
		}
		return caller.TrustUpstream(allow)
	}
	var all []caller.Config
	for _, c := range h.Callers {
		one := caller.Config{Name: c.Name, Serial: c.SerialNo, Allow: h.Allow[c.Name]}
		if c.Token != "" {
			text, err := resolve("caller "+c.Name+": token", c.Token)
			if err != nil {
				return nil, err
			}
			if len(text) < minTokenLength {
				return nil, fmt.Errorf("caller %s: token: has %d characters, and fewer than %d can be guessed", c.Name, len(text), minTokenLength)
			}
			if !isPlaceholder(c.Token) {
				h.log.Warn("a token stands in the configuration in clear; use {env.NAME} or {file./path}", zap.String("caller", c.Name))
			}
			one.Token = merchant.NewSecret(text)
		}
		if c.PublicKey != "" {
			text, err := resolvePEM("caller "+c.Name+": key", c.PublicKey)
			if err != nil {
				return nil, err
			}
			if one.Key, err = caller.ParseKey(text); err != nil {
				return nil, fmt.Errorf("caller %s: key: %w", c.Name, err)
			}
		}
		all = append(all, one)
	}
	return caller.New(h.merchant.Mchid(), all)
}

// bind gives the handler its ledger when the app starts.
func (h *APIHandler) bind(g *gateway) error {
	rules, err := guard.NewPolicy(h.Rules)
	if err != nil {
		return fmt.Errorf("wechatpay_api: %w", err)
	}
	api, err := g.newAPI(h.merchant, h.callers, rules, h.Limits)
	if err != nil {
		return fmt.Errorf("wechatpay_api: %w", err)
	}
	h.api.Store(api)
	return nil
}

// ServeHTTP serves one API request.
func (h *APIHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	_, done, err := h.app.acquire(r.Context())
	if err != nil {
		h.log.Warn("api request refused while starting", zap.Error(err))
		const body = `{"code":"SYSTEM_ERROR","message":"the gateway is starting; nothing was sent, try again"}`
		hdr := w.Header()
		hdr.Set("Content-Type", "application/json")
		hdr.Set("Content-Length", strconv.Itoa(len(body)))
		hdr.Set("Retry-After", "1")
		hdr.Set("Wechatpay-Gateway-Refused", string(payops.RuleStore))
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(body)) // the caller is gone when this fails
		return nil
	}
	defer done()
	api := h.api.Load()
	if h.then != nil {
		return h.then.serve(w, r, api)
	}
	api.ServeHTTP(w, r)
	return nil
}

// newAPI makes a payment API of the merchant over this configuration's ledger.
func (g *gateway) newAPI(m *merchant.Merchant, callers *caller.Set, rules guard.Policy, limits map[string]guard.Limit) (*payops.API, error) {
	return payops.New(payops.Config{
		Merchant: m,
		Ledger:   g.store,
		Locks:    &g.store.locks,
		Callers:  callers,
		Rules:    rules,
		Limits:   limits,
		Logger:   g.log,
		Observer: callObserver{observer: g.app.observer, merchant: m.Name()},
		Fallback: true,
		LedgerChanged: func(_ context.Context, key storage.OrderKey) {
			g.recheck(key)
		},
	})
}

// callObserver counts calls of one merchant.
type callObserver struct {
	*observer
	merchant string
}

// Called counts a call.
func (o callObserver) Called(group operation.Group, outcome send.Outcome, took time.Duration) {
	collectors.calls.WithLabelValues(o.merchant, string(group), outcome.String()).Inc()
	collectors.callDuration.WithLabelValues(o.merchant, string(group)).Observe(took.Seconds())
}

// Unverified counts an answer whose signature does not verify.
func (o callObserver) Unverified(probe bool) {
	kind := "signature"
	if probe {
		kind = "probe"
	}
	collectors.unverified.WithLabelValues(o.merchant, kind).Inc()
}

// FailedOver counts a call that needed a backup host.
func (o callObserver) FailedOver() { collectors.failovers.WithLabelValues(o.merchant).Inc() }

// Contradicted raises wechatpay.ledger_contradicted: WeChat's verified word
// about an order's money is not the ledger's.
func (o callObserver) Contradicted() {
	collectors.contradictions.WithLabelValues(o.merchant).Inc()
	o.log.Error("WeChat's answer contradicts the ledger about an order's money", zap.String("merchant", o.merchant))
	o.emit("wechatpay.ledger_contradicted", func() map[string]any {
		return map[string]any{"merchant": o.merchant}
	})
}

// Refused counts a refusal of the gateway's own.
func (o callObserver) Refused(rule payops.Rule) {
	collectors.refusals.WithLabelValues(o.merchant, string(rule)).Inc()
}

var (
	_ caddy.Provisioner           = (*APIHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*APIHandler)(nil)
	_ payops.Observer             = callObserver{}
)
