// Command caddy is Caddy with the WeChat Pay gateway compiled in.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-wechatpay/caddy-wechatpay"
)

func main() { caddycmd.Main() }
