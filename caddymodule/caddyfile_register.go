package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("wechatpay", parseGlobalOption)

	// Each of these answers every request it gets. They come after error and
	// abort, which block, and before respond: a site-wide respond, as a site has
	// it for paths that nothing else serves, would otherwise answer WeChat's
	// callbacks with 200, and WeChat would never send them again.
	for _, directive := range []struct {
		name  string
		parse httpcaddyfile.UnmarshalHandlerFunc
	}{
		{"wechatpay_notify", parseNotify},
		{"wechatpay_api", parseAPI},
		{"wechatpay_sandbox", parseSandbox},
		{"wechatpay_demo_shop", parseDemoShop},
	} {
		httpcaddyfile.RegisterHandlerDirective(directive.name, directive.parse)
		httpcaddyfile.RegisterDirectiveOrder(directive.name, httpcaddyfile.Before, "respond")
	}
}

func parseNotify(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(NotifyHandler)
	return handler, handler.NotifyConfig.unmarshalCaddyfile(h)
}

func parseAPI(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(APIHandler)
	return handler, handler.APIConfig.unmarshalCaddyfile(h)
}

func parseSandbox(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(SandboxHandler)
	return handler, handler.SandboxConfig.unmarshalCaddyfile(h.Dispenser)
}

func parseDemoShop(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(DemoShop)
	return handler, handler.DemoShopConfig.unmarshalCaddyfile(h.Dispenser)
}
