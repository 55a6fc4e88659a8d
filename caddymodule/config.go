package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
)

// Merchant is one set of WeChat Pay keys: a merchant number and what signs,
// verifies and decrypts for it. Secrets take `{env.NAME}` and `{file./path}`
// placeholders, which stay literal in the configuration and are resolved when
// it is loaded.
type Merchant struct {
	// The merchant number (商户号); with `service_provider` the 服务商's. Required.
	Mchid string `json:"mchid,omitempty"`
	// The apps that belong to the merchant; the first is the default for orders
	// that carry no appid. A sandbox merchant may leave them out.
	Apps []MerchantApp `json:"apps,omitempty"`
	// Serial number of the merchant API certificate (商户API证书), in hex.
	SerialNo string `json:"serial_no,omitempty"`
	// The merchant API private key: the path of a PEM file, or a placeholder that
	// holds PEM.
	PrivateKey string `json:"private_key,omitempty"`
	// The APIv3 key, 32 bytes; two while it is being replaced.
	APIv3Keys []string `json:"apiv3_keys,omitempty"`
	// WeChat Pay's public keys (微信支付公钥), by id.
	PublicKeys []PublicKey `json:"public_keys,omitempty"`
	// Where platform certificates (平台证书) come from: `auto` (fetched and
	// refreshed), `off`, or `files`. Default: `off` with a public key, else `auto`.
	PlatformCertificates string `json:"platform_certificates,omitempty"`
	// PEM files of platform certificates, with `files`.
	PlatformCertificateFiles []string `json:"platform_certificate_files,omitempty"`
	// Where WeChat sends callbacks of orders that carry no notify_url. No query string.
	NotifyURL string `json:"notify_url,omitempty"`
	// Replace the notify_url of every order by the one above.
	ForceNotifyURL bool `json:"force_notify_url,omitempty"`
	// The merchant number is a service provider's (服务商).
	ServiceProvider bool `json:"service_provider,omitempty"`
	// WeChat Pay's hosts, the main one first. Default:
	// `https://api.mch.weixin.qq.com`, `https://api2.mch.weixin.qq.com`.
	APIBases []string `json:"api_bases,omitempty"`
	// Where codes are exchanged for openids, and the host of the page where users
	// authorize. https, or any scheme on a loopback address. Default:
	// `https://api.weixin.qq.com`, `https://open.weixin.qq.com`; with `sandbox`,
	// the sandbox for both.
	OpenIDBases []string `json:"openid_bases,omitempty"`
	// A proxy for calls to WeChat: an http, https or socks5 URL. Default: none;
	// the environment's proxy settings are not used.
	EgressProxy string `json:"egress_proxy,omitempty"`
	// Base URL of a sandbox that this merchant takes its keys from, instead of
	// keys and api_bases. https, or any scheme on a loopback address.
	Sandbox string `json:"sandbox,omitempty"`
}

// MerchantApp is an appid and what kind of app it belongs to.
type MerchantApp struct {
	// The appid, such as `wx8888888888888888`.
	Appid string `json:"appid"`
	// `official` (公众号), `miniprogram` (小程序) or `app`.
	Type string `json:"type"`
	// The AppSecret, which exchanges a user's code for an openid; placeholders are
	// resolved when the configuration is loaded. Default: no openids for this app;
	// with `sandbox`, the sandbox's.
	Secret string `json:"secret,omitempty"`
	// The hosts, with a port unless it is the scheme's own, that WeChat may send
	// users of an official account back to (网页授权域名). Each stands for itself,
	// not for its subdomains. Default: none, so no authorize URL is built.
	Domains []string `json:"domains,omitempty"`
}

// PublicKey is one of WeChat Pay's public keys.
type PublicKey struct {
	// The key's id, `PUB_KEY_ID_…`.
	ID string `json:"id"`
	// The path of a PEM file, or a placeholder that holds PEM.
	Key string `json:"key"`
}

// Retain says how long finished records are kept. Business keys and final
// states are kept for ever.
type Retain struct {
	// Orders, refunds and calls. Default: 400 days; at least 366 (refunds are
	// possible for a year).
	Orders caddy.Duration `json:"orders,omitempty"`
	// Bodies of delivered and dismissed notifications. Default: 90 days.
	Bodies caddy.Duration `json:"bodies,omitempty"`
}

// NotifyConfig is the configuration of the wechatpay_notify handler.
type NotifyConfig struct {
	// The merchant block whose callbacks arrive here. Default: the last segment
	// of the request's path names it.
	Merchant string `json:"merchant,omitempty"`
	// What must have happened before WeChat gets its 200: `commit` (the durable
	// record) or `delivery` (the backend's success too). Default: `commit`.
	Ack string `json:"ack,omitempty"`
	// `known`: orders the ledger knows must agree; `strict`: payments of orders
	// it does not know are parked, too; `off`. Default: `known`.
	AmountCheck string `json:"amount_check,omitempty"`
	// What the backend gets: `envelope`, `resource`, or `raw` (only with `ack
	// delivery`). Default: `envelope`.
	Payload string `json:"payload,omitempty"`
	// The waits after the first, second, … failed attempt. Default: `1s 5s 15s
	// 30s 3m 10m 20m 30m 30m 30m 60m 3h 3h 3h 6h 6h`. Notifications about money
	// then go on every 6 hours for 15 days.
	Retry []caddy.Duration `json:"retry,omitempty"`
	// Bounds one delivery attempt. Default: 30s; 3s with `ack delivery`, where it
	// must stay below 4s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// Standard Webhooks secrets that sign deliveries, newest first; placeholders
	// are resolved when the configuration is loaded. Default: not signed.
	Sign []string `json:"sign,omitempty"`
	// Bounds a callback's body, in bytes: 1 KiB to 1 MiB. Default: 256 KiB.
	MaxBody int64 `json:"max_body,omitempty"`
	// The HTTP routes that carry deliveries to the backend. Required.
	Deliver caddyhttp.RouteList `json:"deliver,omitempty"`
}

// APIConfig is the configuration of the wechatpay_api handler.
type APIConfig struct {
	// The merchant block that signs. Required.
	Merchant string `json:"merchant,omitempty"`
	// Who may call. At least one, unless `trust_upstream_auth`.
	Callers []Caller `json:"callers,omitempty"`
	// An outer handler has authenticated every request: all of them are one
	// caller, `upstream`. Without an `allow` of its own it may use every group
	// but refund, transfer, profitsharing, crypto and other, which are never implied.
	TrustUpstreamAuth bool `json:"trust_upstream_auth,omitempty"`
	// What each caller may do, by operation group (`pay combine partner query
	// close refund bill parking profitsharing transfer media crypto openid
	// other`), or `*` for every path. Required for every caller but `upstream`.
	Allow map[string][]string `json:"allow,omitempty"`
	// What each caller may do at most: amounts in fen that it may refund of one
	// payment, and apply for in one day of China's time, and the sub-merchants that
	// it may act for. Beyond it: 403. What is counted is in the store and holds
	// across restarts. Default: nothing is limited.
	Limits map[string]guard.Limit `json:"limits,omitempty"`
	// Which of WeChat Pay's rules about money the gateway enforces itself, before
	// it sends anything: `enforce`, `warn` or `off`, for the rules named or for
	// all. Default: all are enforced, but close_too_early, which warns.
	Rules []guard.Setting `json:"rules,omitempty"`
	// HTTP routes that the result of a successful operation goes on to: a POST
	// with WeChat Pay's answer as its body, and what they answer is what the
	// caller gets. Default: the caller gets WeChat Pay's answer.
	Then caddyhttp.RouteList `json:"then,omitempty"`
}

// Caller is a backend that may use the payment API: by a bearer token or by a
// key of its own.
type Caller struct {
	// The caller's name in allow lists, logs and the ledger.
	Name string `json:"name"`
	// Bearer token (`Authorization: Bearer …`), at least 16 characters;
	// placeholders are resolved when the configuration is loaded.
	Token string `json:"token,omitempty"`
	// Serial number that the caller names when it signs with its own key
	// (WECHATPAY2-SHA256-RSA2048).
	SerialNo string `json:"serial_no,omitempty"`
	// The caller's public key or certificate: the path of a PEM file, or a
	// placeholder that holds PEM.
	PublicKey string `json:"public_key,omitempty"`
}

// SandboxConfig is the configuration of the wechatpay_sandbox handler.
type SandboxConfig struct {
	// The merchants of this platform. At least one.
	Merchants []SandboxMerchant `json:"merchants,omitempty"`
	// What the appids belong to, their AppSecrets and domains. Default: an official
	// account with a secret of the platform's choice, which a gateway takes over with
	// the keys, whose users are sent back to this machine only.
	Apps []MerchantApp `json:"apps,omitempty"`
	// Which of the merchants are service providers (服务商), by mchid, each with its
	// sub-merchants; an empty list means any. Default: all are direct merchants.
	ServiceProviders map[string][]string `json:"service_providers,omitempty"`
	// Which keys the platform signs with: `public_key`, `certificates` or
	// `both`. Default: `both`.
	Keys string `json:"keys,omitempty"`
	// Divides the waits of the callback schedule. Default: 1, WeChat's own waits.
	TimeScale int `json:"time_scale,omitempty"`
	// How long a refund is PROCESSING, divided by time_scale. Default: 5s.
	RefundTime caddy.Duration `json:"refund_time,omitempty"`
	// Keep WeChat Pay's limits on refunds, and answer 429 FREQUENCY_LIMITED beyond:
	// a minute between two refunds of one order, 6 failures a second, 5,000 a minute
	// of old orders. Default: no limits.
	RefundPace bool `json:"refund_pace,omitempty"`
	// Give bills of any day at any time. Default: of past days, from ten o'clock
	// of the next day.
	BillsAtOnce bool `json:"bills_at_once,omitempty"`
	// Whose certificates the platform trusts when it sends callbacks: the path of
	// a PEM file, or `internal` for Caddy's internal CA. Default: the system's.
	Trust string `json:"trust,omitempty"`
}

// SandboxMerchant is a merchant of the sandbox.
type SandboxMerchant struct {
	Mchid string `json:"mchid"`
	Appid string `json:"appid"`
}

// DemoShopConfig is the configuration of the wechatpay_demo_shop handler.
type DemoShopConfig struct {
	// Base URL of the gateway's payment API.
	Gateway string `json:"gateway,omitempty"`
	// Bearer token for it.
	Token string `json:"token,omitempty"`
	// Standard Webhooks secret of the deliveries.
	Secret string `json:"secret,omitempty"`
	// Base URL of the sandbox, for the link to its payment page.
	Sandbox string `json:"sandbox,omitempty"`
	// Merchant number and appid of the shop's orders.
	Mchid string `json:"mchid,omitempty"`
	Appid string `json:"appid,omitempty"`
	// Whose certificates the shop trusts: a PEM file, or `internal`.
	Trust string `json:"trust,omitempty"`
}
