// Package caddywechatpay is a WeChat Pay (微信支付 APIv3) gateway as Caddy
// modules. Importing it registers them, which is all that a build with xcaddy
// needs:
//
//	xcaddy build v2.11.9 --with github.com/caddy-wechatpay/caddy-wechatpay
//
// The modules are in caddymodule; what they do is decided in notify, payops,
// merchant and storage, which know nothing of Caddy; sandbox is a WeChat Pay
// platform for development and tests.
package caddywechatpay

import (
	_ "github.com/caddy-wechatpay/caddy-wechatpay/caddymodule" // registers the modules
)
