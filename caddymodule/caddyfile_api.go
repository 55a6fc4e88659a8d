package caddymodule

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
)

// unmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	wechatpay_api [<matcher>] <merchant> {
//		caller <name> token <token>                                # Authorization: Bearer …
//		caller <name> key <serial> <pem file or placeholder>       # WECHATPAY2-SHA256-RSA2048, signed with the caller's own key
//		allow  <caller> <group...>                                 # mandatory per caller; * = every path
//		trust_upstream_auth                                        # instead of callers: an outer handler authenticates; allow upstream <group...>
//		limit  <caller> [refund_per_day <yuan>] [refund_per_order <yuan>] [sub_mchid <mchid>]   # at most; beyond: 403
//		rules  enforce | warn | off [<rule...>]                    # WeChat Pay's rules about money; default enforce
//		then {                                                     # ordinary HTTP directives: where the result of a success goes on to
//			<directives...>
//		}
//	}
//
// The groups are pay combine partner query close refund bill parking
// profitsharing transfer media crypto openid other.
func (c *APIConfig) unmarshalCaddyfile(h httpcaddyfile.Helper) error {
	const name = "wechatpay_api"
	d := h.Dispenser
	d.Next() // the directive's name
	if !d.NextArg() {
		return d.Errf("%s: missing argument, the merchant block that signs; syntax: %s <merchant> { … }", name, name)
	}
	c.Merchant = d.Val()
	if err := validateMerchantName(c.Merchant); err != nil {
		return d.WrapErr(fmt.Errorf("%s: %w", name, err))
	}
	if err := noArgs(d, name); err != nil {
		return err
	}
	block := optionBlock{name: name}
	block.options = []option{
		{
			name: "caller", syntax: "<name> token <token> | key <serial> <pem file or placeholder>",
			min: 3, max: -1, repeat: true, set: c.addCaller,
		},
		{name: "allow", syntax: "<caller> <group...>", min: 2, max: -1, repeat: true, set: c.addAllow},
		{
			name: "limit", syntax: "<caller> [refund_per_day <yuan>] [refund_per_order <yuan>] [sub_mchid <mchid>]",
			min: 3, max: -1, repeat: true, set: c.addLimit,
		},
		{name: "rules", syntax: "enforce | warn | off [<rule...>]", min: 1, max: -1, repeat: true, set: c.addRules},
		{name: "trust_upstream_auth", set: func([]string) error {
			c.TrustUpstreamAuth = true
			return nil
		}},
		{name: "then", parse: func(*caddyfile.Dispenser) (err error) {
			c.Then, err = parseRoutes(h, name, "then")
			return err
		}},
	}
	if err := block.parse(d); err != nil {
		return err
	}
	return block.check(d, c.validate())
}

// addRules reads `warn close_too_early`.
func (c *APIConfig) addRules(args []string) error {
	setting, err := guard.ParseSetting(args)
	if err != nil {
		return err
	}
	c.Rules = append(c.Rules, setting)
	return nil
}

// addCaller reads `erp token …` or `store key <serial> <pem>`.
func (c *APIConfig) addCaller(args []string) error {
	caller := Caller{Name: args[0]}
	for _, other := range c.Callers {
		if other.Name == caller.Name {
			return fmt.Errorf("duplicate caller %q; give each caller its own name", caller.Name)
		}
	}
	switch form := args[1]; {
	case form == "token" && len(args) == 3:
		caller.Token = args[2]
	case form == "token":
		return errors.New("surplus argument after the token; syntax: caller <name> token <token>")
	case form == "key" && len(args) == 4:
		caller.SerialNo, caller.PublicKey = args[2], args[3]
	case form == "key" && len(args) == 3:
		return errors.New("missing argument, the caller's public key; syntax: caller <name> key <serial> <pem file or placeholder>")
	case form == "key":
		return errors.New("surplus argument after the key; syntax: caller <name> key <serial> <pem file or placeholder>")
	default:
		// What stands here may be a token whose keyword was forgotten.
		return errors.New("after the name comes token or key; syntax: caller <name> token <token>, or caller <name> key <serial> <pem file or placeholder>")
	}
	c.Callers = append(c.Callers, caller)
	return nil
}

// addAllow reads `erp pay combine query`.
func (c *APIConfig) addAllow(args []string) error {
	caller, groups := args[0], args[1:]
	if _, ok := c.Allow[caller]; ok {
		return fmt.Errorf("duplicate allow of caller %q; put all its groups on one line", caller)
	}
	if c.Allow == nil {
		c.Allow = make(map[string][]string)
	}
	c.Allow[caller] = groups
	return nil
}

// addLimit reads `erp refund_per_day 5000 sub_mchid 1900000109`. Lines for one
// caller add up.
func (c *APIConfig) addLimit(args []string) error {
	caller := args[0]
	limit, err := guard.ParseLimit(c.Limits[caller], args[1:])
	if err != nil {
		return fmt.Errorf("%s: %w", caller, err)
	}
	if c.Limits == nil {
		c.Limits = make(map[string]guard.Limit)
	}
	c.Limits[caller] = limit
	return nil
}
