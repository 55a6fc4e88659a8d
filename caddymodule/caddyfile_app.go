package caddymodule

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// parseGlobalOption sets up the app from the global option. Several blocks are
// merged; what one has set another may not set again. Syntax:
//
//	wechatpay {
//		storage badger [<dir>]                    # default: {data_dir}/wechatpay
//		retain  [orders <duration>] [bodies <duration>]   # default: orders 400d bodies 90d
//		merchant <name> {
//			...
//		}
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	if existing != nil {
		earlier, ok := existing.(httpcaddyfile.App)
		if !ok {
			return nil, d.Errf("wechatpay: unexpected earlier value of type %T", existing)
		}
		if err := json.Unmarshal(earlier.Value, app); err != nil {
			return nil, d.Errf("wechatpay: reading the earlier block: %w", err)
		}
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "wechatpay", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile adds one `wechatpay` block to the app; the syntax is that
// of the global option.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	if err := noArgs(d, "wechatpay"); err != nil {
		return err
	}
	block := optionBlock{name: "wechatpay"}
	block.options = []option{
		{name: "storage", given: a.StorageRaw != nil, parse: func(d *caddyfile.Dispenser) (err error) {
			a.StorageRaw, err = parseStorage(&block, d)
			return err
		}},
		{
			name: "retain", syntax: "[orders <duration>] [bodies <duration>]", min: 2, max: 4, given: a.Retain != nil,
			set: func(args []string) error {
				a.Retain = new(Retain)
				return a.Retain.unmarshalArgs(args)
			},
		},
		{name: "alert", later: true},
		{name: "merchant", repeat: true, parse: a.parseMerchant},
	}
	if err := block.parse(d); err != nil {
		return err
	}
	return block.check(d, a.Retain.validate())
}

// parseStorage sets up the store's module. Syntax:
//
//	storage <module> ...
func parseStorage(block *optionBlock, d *caddyfile.Dispenser) (json.RawMessage, error) {
	if !d.NextArg() {
		return nil, d.Errf("%s: missing argument of option %q; syntax: storage badger [<dir>]", block.name, "storage")
	}
	name := d.Val()
	if name == "mysql" {
		return nil, d.WrapErr(block.notYet("storage mysql"))
	}
	const namespace = "wechatpay.storage"
	if _, err := caddy.GetModule(namespace + "." + name); err != nil {
		var known []string
		for _, module := range caddy.GetModules(namespace) {
			known = append(known, module.ID.Name())
		}
		return nil, d.Errf("%s: unknown store %q of option %q; the stores are %s", block.name, name, "storage", strings.Join(known, ", "))
	}
	module, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(module, "module", name, nil), nil
}

// UnmarshalCaddyfile sets up the embedded store. Syntax:
//
//	badger [<dir>]   # default: {data_dir}/wechatpay
func (b *BadgerStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the store's name
	args := d.RemainingArgs()
	switch {
	case len(args) > 1:
		return d.Errf("wechatpay: surplus argument %q of option %q; syntax: storage badger [<dir>]", args[1], "storage badger")
	case len(args) == 1 && args[0] == "":
		return d.Errf("wechatpay: option %q names an empty directory; leave it out for the default", "storage badger")
	case len(args) == 1:
		b.Dir = args[0]
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("wechatpay: option %q takes no block; syntax: storage badger [<dir>]", "storage badger")
	}
	return nil
}

// unmarshalArgs reads `orders 400d bodies 90d`.
func (r *Retain) unmarshalArgs(args []string) error {
	for i := 0; i < len(args); i += 2 {
		var value *caddy.Duration
		switch args[i] {
		case "orders":
			value = &r.Orders
		case "bodies":
			value = &r.Bodies
		default:
			return fmt.Errorf("unrecognized %q; it takes orders <duration> and bodies <duration>", args[i])
		}
		if *value != 0 {
			return fmt.Errorf("duplicate %q", args[i])
		}
		if i+1 == len(args) {
			return fmt.Errorf("missing duration after %q", args[i])
		}
		parsed, err := parseDuration(args[i+1])
		if err != nil {
			return fmt.Errorf("%s: %w", args[i], err)
		}
		*value = parsed
	}
	return nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*BadgerStorage)(nil)
)
