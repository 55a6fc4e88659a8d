package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

func init() {
	caddy.RegisterModule(new(SandboxHandler))
}

// SandboxHandler is a WeChat Pay platform to try things with: orders, a page to
// pay on, signed callbacks. What it signs is accepted only by merchants that
// name it with their `sandbox` option. Its state lives in memory, and survives
// reloads that leave its options alone.
type SandboxHandler struct {
	SandboxConfig

	platform lazyHandler
}

// CaddyModule returns the Caddy module information.
func (*SandboxHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.wechatpay_sandbox",
		New: func() caddy.Module { return new(SandboxHandler) },
	}
}

// Provision judges the options; the platform is made by its first request.
func (h *SandboxHandler) Provision(ctx caddy.Context) error {
	if err := h.SandboxConfig.validate(); err != nil {
		return err
	}
	client, err := trustingClient(ctx, h.Trust)
	if err != nil {
		return fmt.Errorf("wechatpay_sandbox: trust: %w", err)
	}
	key, err := json.Marshal(h.SandboxConfig)
	if err != nil {
		return err
	}
	opts := h.options()
	opts.Client, opts.Logger = client, ctx.Slogger()
	h.platform.key = "sandbox:" + string(key)
	h.platform.make = func() (closableHandler, error) { return sandbox.New(opts) }
	return nil
}

// options says to the platform what the configuration says.
func (c *SandboxConfig) options() sandbox.Options {
	opts := sandbox.Options{
		Keys: sandbox.KeyMode(c.Keys), TimeScale: c.TimeScale,
		RefundTime: time.Duration(c.RefundTime), RefundPace: c.RefundPace, BillsAtOnce: c.BillsAtOnce,
	}
	listed := make(map[string]bool) // mchids whose sub-merchants are there
	for _, m := range c.Merchants {
		entry := sandbox.Merchant{Mchid: m.Mchid, Appid: m.Appid}
		if i := slices.IndexFunc(c.Apps, func(app MerchantApp) bool { return app.Appid == m.Appid }); i >= 0 {
			app := c.Apps[i]
			entry.AppType, entry.AppSecret = sandbox.AppType(app.Type), app.Secret
			if !slices.ContainsFunc(opts.Merchants, func(other sandbox.Merchant) bool { return other.Appid == m.Appid }) {
				entry.Domains = app.Domains
			}
		}
		var subs []string
		if subs, entry.ServiceProvider = c.ServiceProviders[m.Mchid]; !listed[m.Mchid] {
			entry.SubMchids, listed[m.Mchid] = subs, true
		}
		opts.Merchants = append(opts.Merchants, entry)
	}
	return opts
}

// Cleanup lets go of the platform.
func (h *SandboxHandler) Cleanup() error { return h.platform.release() }

// ServeHTTP plays WeChat Pay.
func (h *SandboxHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	p, err := h.platform.get()
	if err != nil {
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	p.ServeHTTP(w, r)
	return nil
}

var (
	_ caddy.Provisioner           = (*SandboxHandler)(nil)
	_ caddy.CleanerUpper          = (*SandboxHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*SandboxHandler)(nil)
)
