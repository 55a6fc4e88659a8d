package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox/demoshop"
)

func init() {
	caddy.RegisterModule(new(DemoShop))
}

// DemoShop is a small shop to try the gateway with: one page that sells a
// combined order through the gateway, and the legacy backend that receives the
// callback. It is an example to read, not a thing to run a business on.
type DemoShop struct {
	DemoShopConfig

	shop lazyHandler
}

// CaddyModule returns the Caddy module information.
func (*DemoShop) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.wechatpay_demo_shop",
		New: func() caddy.Module { return new(DemoShop) },
	}
}

// Provision judges the options; the shop opens at its first request.
func (h *DemoShop) Provision(ctx caddy.Context) error {
	if err := h.DemoShopConfig.validate(); err != nil {
		return err
	}
	client, err := trustingClient(ctx, h.Trust)
	if err != nil {
		return fmt.Errorf("wechatpay_demo_shop: trust: %w", err)
	}
	token, err := resolve("token", h.Token)
	if err != nil {
		return fmt.Errorf("wechatpay_demo_shop: %w", err)
	}
	secret, err := resolve("secret", h.Secret)
	if err != nil {
		return fmt.Errorf("wechatpay_demo_shop: %w", err)
	}
	key, err := json.Marshal(h.DemoShopConfig)
	if err != nil {
		return err
	}
	opts := demoshop.Options{
		Gateway: h.Gateway, Token: token, WebhookSecret: secret, SandboxPay: h.Sandbox,
		Client: client, Mchid: h.Mchid, Appid: h.Appid, Logger: ctx.Slogger(),
	}
	h.shop.key = "demoshop:" + string(key)
	h.shop.make = func() (closableHandler, error) {
		shop, err := demoshop.New(opts)
		if err != nil {
			return nil, err
		}
		return closeWith{shop, client.CloseIdleConnections}, nil
	}
	return nil
}

// Cleanup lets go of the shop.
func (h *DemoShop) Cleanup() error { return h.shop.release() }

// ServeHTTP serves the shop's page and receives deliveries.
func (h *DemoShop) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	shop, err := h.shop.get()
	if err != nil {
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	shop.ServeHTTP(w, r)
	return nil
}

var (
	_ caddy.Provisioner           = (*DemoShop)(nil)
	_ caddy.CleanerUpper          = (*DemoShop)(nil)
	_ caddyhttp.MiddlewareHandler = (*DemoShop)(nil)
)
