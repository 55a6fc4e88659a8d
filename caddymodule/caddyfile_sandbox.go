package caddymodule

import (
	"fmt"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// unmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	wechatpay_sandbox [<matcher>] {
//		merchant         <mchid> <appid>                    # repeatable
//		app              <appid> official | miniprogram | app [secret <AppSecret>] [domain <host...>]   # of one of the appids; default: official
//		service_provider <mchid> [<sub_mchid...>]           # that merchant is a 服务商; of these sub-merchants, default: any
//		keys             public_key | certificates | both   # default: both
//		time_scale       <n>                                # divides the waits between callbacks; default: 1
//		refund_time      <duration>                         # how long a refund is PROCESSING, divided by time_scale; default: 5s
//		refund_pace                                         # keep WeChat Pay's limits on refunds: 429 FREQUENCY_LIMITED
//		bills_at_once                                       # bills of any day at any time, today's included
//		trust            <pem file> | internal              # default: the system's roots
//	}
func (c *SandboxConfig) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	const name = "wechatpay_sandbox"
	d.Next() // the directive's name
	if err := noArgs(d, name); err != nil {
		return err
	}
	text := func(field *string) func([]string) error {
		return func(args []string) error { return setText(field, args[0]) }
	}
	block := optionBlock{name: name}
	block.options = []option{
		{name: "merchant", syntax: "<mchid> <appid>", min: 2, max: 2, repeat: true, set: func(args []string) error {
			c.Merchants = append(c.Merchants, SandboxMerchant{Mchid: args[0], Appid: args[1]})
			return nil
		}},
		{name: "app", syntax: appSyntax, min: 2, max: -1, repeat: true, set: func(args []string) error {
			app, err := parseApp(args)
			c.Apps = append(c.Apps, app)
			return err
		}},
		{name: "service_provider", syntax: "<mchid> [<sub_mchid...>]", min: 1, max: -1, repeat: true, set: func(args []string) error {
			if _, ok := c.ServiceProviders[args[0]]; ok {
				return fmt.Errorf("duplicate service_provider %q; put all its sub-merchants on one line", args[0])
			}
			if c.ServiceProviders == nil {
				c.ServiceProviders = make(map[string][]string)
			}
			c.ServiceProviders[args[0]] = args[1:]
			return nil
		}},
		{name: "keys", syntax: "public_key | certificates | both", min: 1, max: 1, set: text(&c.Keys)},
		{name: "time_scale", syntax: "<n>", min: 1, max: 1, set: func(args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 1 {
				return fmt.Errorf("%q is not a whole number above zero", args[0])
			}
			c.TimeScale = n
			return nil
		}},
		{name: "refund_time", syntax: "<duration>", min: 1, max: 1, set: func(args []string) (err error) {
			c.RefundTime, err = parseDuration(args[0])
			return err
		}},
		{name: "refund_pace", set: func([]string) error {
			c.RefundPace = true
			return nil
		}},
		{name: "bills_at_once", set: func([]string) error {
			c.BillsAtOnce = true
			return nil
		}},
		{name: "trust", syntax: "<pem file> | internal", min: 1, max: 1, set: text(&c.Trust)},
	}
	if err := block.parse(d); err != nil {
		return err
	}
	return block.check(d, c.validate())
}

// unmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	wechatpay_demo_shop [<matcher>] {
//		gateway  <url>                  # base of the gateway's payment API
//		token    <token>                # the shop's bearer token there
//		secret   <secret>               # Standard Webhooks secret of the deliveries
//		sandbox  <url>                  # base of the sandbox, for the link to its payment page
//		merchant <mchid> <appid>
//		trust    <pem file> | internal  # default: the system's roots
//	}
func (c *DemoShopConfig) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	const name = "wechatpay_demo_shop"
	d.Next() // the directive's name
	if err := noArgs(d, name); err != nil {
		return err
	}
	text := func(field *string) func([]string) error {
		return func(args []string) error { return setText(field, args[0]) }
	}
	block := optionBlock{name: name}
	block.options = []option{
		{name: "gateway", syntax: "<url>", min: 1, max: 1, set: text(&c.Gateway)},
		{name: "token", syntax: "<token>", min: 1, max: 1, secret: true, set: text(&c.Token)},
		{name: "secret", syntax: "<secret>", min: 1, max: 1, secret: true, set: text(&c.Secret)},
		{name: "sandbox", syntax: "<url>", min: 1, max: 1, set: text(&c.Sandbox)},
		{name: "merchant", syntax: "<mchid> <appid>", min: 2, max: 2, set: func(args []string) error {
			c.Mchid, c.Appid = args[0], args[1]
			return nil
		}},
		{name: "trust", syntax: "<pem file> | internal", min: 1, max: 1, set: text(&c.Trust)},
	}
	if err := block.parse(d); err != nil {
		return err
	}
	return block.check(d, c.validate())
}
