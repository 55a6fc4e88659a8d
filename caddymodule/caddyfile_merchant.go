package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseMerchant adds one `merchant` block to the app. The dispenser stands at
// the word merchant.
func (a *App) parseMerchant(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("wechatpay: missing argument of option %q; syntax: merchant <name> { … }", "merchant")
	}
	name := d.Val()
	if err := validateMerchantName(name); err != nil {
		return d.WrapErr(invalid("wechatpay", "merchant", "%w", err))
	}
	if _, ok := a.Merchants[name]; ok {
		return d.Errf("wechatpay: duplicate merchant %q; a merchant block is one set of keys, give each its own name", name)
	}
	if err := noArgs(d, "merchant "+name); err != nil {
		return err
	}
	merchant := new(Merchant)
	if err := merchant.unmarshalBlock(d, name); err != nil {
		return err
	}
	if a.Merchants == nil {
		a.Merchants = make(map[string]*Merchant)
	}
	a.Merchants[name] = merchant
	return nil
}

// unmarshalBlock sets up a merchant from the block at d's current line. Syntax:
//
//	merchant <name> {
//		mchid       <mchid>
//		app         <appid> official | miniprogram | app [secret <AppSecret>] [domain <host...>]   # repeatable, first is the default
//		serial_no   <merchant API certificate serial>
//		private_key <pem file or placeholder>
//		apiv3_key   <key> [<key>]                              # one or two (rotation)
//		public_key  <PUB_KEY_ID_…> <pem file or placeholder>   # repeatable
//		platform_certificates auto | off | <file...>           # default: off with a public_key, else auto
//		notify_url  <url> [force]                              # force: replaces any
//		service_provider                                       # mchid is a 服务商
//		api_base    <url...>                                   # default: https://api.mch.weixin.qq.com https://api2.mch.weixin.qq.com
//		openid_base <url> [<url>]                              # default: https://api.weixin.qq.com https://open.weixin.qq.com
//		egress_proxy <url>
//		sandbox     <url>                                      # instead of keys and api_base
//	}
func (m *Merchant) unmarshalBlock(d *caddyfile.Dispenser, name string) error {
	block := optionBlock{name: "merchant " + name}
	text := func(field *string) func([]string) error {
		return func(args []string) error { return setText(field, args[0]) }
	}
	block.options = []option{
		{name: "mchid", syntax: "<mchid>", min: 1, max: 1, set: text(&m.Mchid)},
		{name: "app", syntax: appSyntax, min: 2, max: -1, repeat: true, set: func(args []string) error {
			app, err := parseApp(args)
			m.Apps = append(m.Apps, app)
			return err
		}},
		{name: "serial_no", syntax: "<serial>", min: 1, max: 1, set: text(&m.SerialNo)},
		{name: "private_key", syntax: "<pem file or placeholder>", min: 1, max: 1, secret: true, set: text(&m.PrivateKey)},
		{name: "apiv3_key", syntax: "<key> [<key>]", min: 1, max: 2, secret: true, set: func(args []string) error {
			m.APIv3Keys = args
			return nil
		}},
		{name: "public_key", syntax: "<PUB_KEY_ID_…> <pem file or placeholder>", min: 2, max: 2, repeat: true, set: func(args []string) error {
			m.PublicKeys = append(m.PublicKeys, PublicKey{ID: args[0], Key: args[1]})
			return nil
		}},
		{name: "platform_certificates", syntax: "auto | off | <file...>", min: 1, max: -1, set: m.setPlatformCertificates},
		{name: "notify_url", syntax: "<url> [force]", min: 1, max: 2, set: func(args []string) error {
			if len(args) == 2 {
				if args[1] != "force" {
					return fmt.Errorf("unrecognized %q; syntax: notify_url <url> [force]", args[1])
				}
				m.ForceNotifyURL = true
			}
			return setText(&m.NotifyURL, args[0])
		}},
		{name: "service_provider", set: func([]string) error {
			m.ServiceProvider = true
			return nil
		}},
		{name: "api_base", syntax: "<url...>", min: 1, max: -1, set: func(args []string) error {
			m.APIBases = args
			return nil
		}},
		{name: "openid_base", syntax: "<url> [<url>]", min: 1, max: 2, set: func(args []string) error {
			m.OpenIDBases = args
			return nil
		}},
		{name: "egress_proxy", syntax: "<url>", min: 1, max: 1, secret: true, set: text(&m.EgressProxy)},
		{name: "sandbox", syntax: "<url>", min: 1, max: 1, set: text(&m.Sandbox)},
	}
	if err := block.parse(d); err != nil {
		return err
	}
	return block.check(d, m.validate(name))
}

const appSyntax = "<appid> official | miniprogram | app [secret <AppSecret>] [domain <host...>]"

// parseApp reads one app. Its errors repeat nothing that may be a secret whose
// keyword was forgotten.
func parseApp(args []string) (MerchantApp, error) {
	app := MerchantApp{Appid: args[0], Type: args[1]}
	for rest := args[2:]; len(rest) > 0; {
		word, values := rest[0], rest[1:]
		switch {
		case word == "secret" && app.Secret != "":
			return app, fmt.Errorf("duplicate secret; syntax: app %s", appSyntax)
		case word == "secret" && len(values) > 0 && values[0] != "domain":
			if values[0] == "" {
				return app, fmt.Errorf("the secret is empty; syntax: app %s", appSyntax)
			}
			app.Secret, rest = values[0], values[1:]
		case word == "domain" && len(values) > 0 && values[0] != "secret":
			for len(values) > 0 && values[0] != "secret" && values[0] != "domain" {
				app.Domains, values = append(app.Domains, values[0]), values[1:]
			}
			rest = values
		case word == "secret" || word == "domain":
			return app, fmt.Errorf("missing argument of %s; syntax: app %s", word, appSyntax)
		default:
			return app, fmt.Errorf("surplus argument; syntax: app %s", appSyntax)
		}
	}
	return app, nil
}

// setPlatformCertificates reads `auto`, `off` or a list of files.
func (m *Merchant) setPlatformCertificates(args []string) error {
	if len(args) == 1 && (args[0] == certificatesAuto || args[0] == certificatesOff) {
		m.PlatformCertificates = args[0]
		return nil
	}
	for _, arg := range args {
		if arg == certificatesAuto || arg == certificatesOff {
			return fmt.Errorf("%q stands alone; syntax: platform_certificates auto | off | <file...>", arg)
		}
	}
	m.PlatformCertificates, m.PlatformCertificateFiles = certificatesFiles, args
	return nil
}
