package caddymodule

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

// unmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	wechatpay_notify [<matcher>] [<merchant>] {      # without a name: the last path segment names the merchant
//		ack          commit | delivery               # default: commit
//		amount_check known | strict | off            # default: known
//		payload      envelope | resource | raw       # default: envelope; raw only with ack delivery
//		retry        <duration...>                   # default: 1s 5s 15s 30s 3m 10m 20m 30m 30m 30m 60m 3h 3h 3h 6h 6h
//		timeout      <duration>                      # default: 30s, 3s with ack delivery
//		sign         <secret>                        # Standard Webhooks secret, repeatable while rolling
//		max_body     <size>                          # default: 256KiB
//		deliver {                                    # ordinary HTTP directives
//			<directives...>
//		}
//	}
func (c *NotifyConfig) unmarshalCaddyfile(h httpcaddyfile.Helper) error {
	const name = "wechatpay_notify"
	h.Next() // the directive's name
	if h.NextArg() {
		c.Merchant = h.Val()
		if err := validateMerchantName(c.Merchant); err != nil {
			return h.WrapErr(fmt.Errorf("%s: %w", name, err))
		}
	}
	if err := noArgs(h.Dispenser, name); err != nil {
		return err
	}
	text := func(field *string) func([]string) error {
		return func(args []string) error { return setText(field, args[0]) }
	}
	block := optionBlock{name: name}
	block.options = []option{
		{name: "ack", syntax: "commit | delivery", min: 1, max: 1, set: text(&c.Ack)},
		{name: "amount_check", syntax: "known | strict | off", min: 1, max: 1, set: text(&c.AmountCheck)},
		{name: "payload", syntax: "envelope | resource | raw", min: 1, max: 1, set: text(&c.Payload)},
		{name: "retry", syntax: "<duration...>", min: 1, max: -1, set: func(args []string) error {
			for _, arg := range args {
				wait, err := parseDuration(arg)
				if err != nil {
					return err
				}
				c.Retry = append(c.Retry, wait)
			}
			return nil
		}},
		{name: "timeout", syntax: "<duration>", min: 1, max: 1, set: func(args []string) (err error) {
			c.Timeout, err = parseDuration(args[0])
			return err
		}},
		{name: "sign", syntax: "<secret>", min: 1, max: 1, repeat: true, secret: true, set: func(args []string) error {
			c.Sign = append(c.Sign, args[0])
			return nil
		}},
		{name: "max_body", syntax: "<size>", min: 1, max: 1, set: func(args []string) (err error) {
			c.MaxBody, err = parseSize(args[0])
			return err
		}},
		{name: "deliver", parse: func(*caddyfile.Dispenser) (err error) {
			c.Deliver, err = parseRoutes(h, name, "deliver")
			return err
		}},
	}
	if err := block.parse(h.Dispenser); err != nil {
		return err
	}
	return block.check(h.Dispenser, c.validate())
}

// parseRoutes reads the routes of a block such as `deliver` as Caddy reads those
// of a site: sorted by directive, with named matchers of the site and its own.
func parseRoutes(h httpcaddyfile.Helper, directive, option string) (caddyhttp.RouteList, error) {
	line := h.Token()
	if h.NextArg() {
		return nil, h.Errf("%s: surplus argument %q of option %q; it takes a block of HTTP directives, such as %s { reverse_proxy legacy:8080 }", directive, h.Val(), option, option)
	}
	handler, err := httpcaddyfile.ParseSegmentAsSubroute(h.WithDispenser(h.NewFromNextSegment()))
	if err != nil {
		return nil, wrapAt(line, invalid(directive, option, "%w", err))
	}
	subroute, ok := handler.(*caddyhttp.Subroute)
	if !ok {
		return nil, h.Errf("%s: option %q gave a %T instead of routes", directive, option, handler)
	}
	if len(subroute.Routes) == 0 {
		return nil, wrapAt(line, missing(directive, option, "its block is empty; put HTTP directives into it, such as reverse_proxy legacy:8080"))
	}
	return subroute.Routes, nil
}

// parseDuration reads a duration of Caddy, which knows days, too.
func parseDuration(text string) (caddy.Duration, error) {
	parsed, err := caddy.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration; write 30s, 5m, 3h or 400d", text)
	}
	if parsed <= 0 {
		return 0, fmt.Errorf("%q is not above zero", text)
	}
	return caddy.Duration(parsed), nil
}

// parseSize reads a size in bytes, such as 256KiB.
func parseSize(text string) (int64, error) {
	size, err := humanize.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no size; write 256KiB or 1MiB", text)
	}
	if size == 0 || size > 1<<62 {
		return 0, fmt.Errorf("%q is out of range; %s", text, maxBodyRange)
	}
	return int64(size), nil
}

// setText refuses an empty argument: what is left out has a default, what is
// given has a value.
func setText(field *string, arg string) error {
	if arg == "" {
		return errors.New("it is empty; give it a value or leave it out")
	}
	*field = arg
	return nil
}
