package caddymodule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

var (
	sandboxMchidForm = regexp.MustCompile(`^[0-9]{1,32}$`)
	sandboxAppidForm = regexp.MustCompile(`^[0-9A-Za-z]{3,32}$`)
)

// validate checks the configuration of a wechatpay_sandbox handler.
func (c *SandboxConfig) validate() error {
	const block = "wechatpay_sandbox"
	if len(c.Merchants) == 0 {
		return missing(block, "merchant", "add merchant <mchid> <appid>")
	}
	for i, m := range c.Merchants {
		if err := validateSandboxMerchant(m.Mchid, m.Appid); err != nil {
			return &optionError{"merchant " + m.Mchid, invalid(block, "merchant", "%w", err)}
		}
		if slices.Contains(c.Merchants[:i], m) {
			return &optionError{"merchant " + m.Mchid, fmt.Errorf("%s: duplicate merchant %s %s", block, m.Mchid, m.Appid)}
		}
	}
	for i, app := range c.Apps {
		if err := c.validateApp(i); err != nil {
			return &optionError{"app " + app.Appid, invalid(block, "app", "%w", err)}
		}
	}
	for _, mchid := range sortedKeys(c.ServiceProviders) {
		if err := c.validateProvider(mchid); err != nil {
			return &optionError{"service_provider " + mchid, invalid(block, "service_provider", "%w", err)}
		}
	}
	if c.RefundTime < 0 {
		return invalid(block, "refund_time", "%s is not above zero", time.Duration(c.RefundTime))
	}
	if c.Keys != "" && !slices.Contains([]string{"public_key", "certificates", "both"}, c.Keys) {
		return invalid(block, "keys", "%w", notOneOf(c.Keys, "public_key", "certificates", "both"))
	}
	if c.TimeScale < 0 {
		return invalid(block, "time_scale", "%d is not above zero", c.TimeScale)
	}
	return nil
}

// validateApp checks what is said of one appid.
func (c *SandboxConfig) validateApp(i int) error {
	app := c.Apps[i]
	switch {
	case !slices.ContainsFunc(c.Merchants, func(m SandboxMerchant) bool { return m.Appid == app.Appid }):
		return errors.New("no merchant has the appid; add merchant <mchid> <appid>")
	case slices.ContainsFunc(c.Apps[:i], func(other MerchantApp) bool { return other.Appid == app.Appid }):
		return errors.New("the appid stands there twice; remove one")
	case !slices.Contains([]string{"official", "miniprogram", "app"}, app.Type):
		return notOneOf(app.Type, "official", "miniprogram", "app")
	case hasPlaceholder(app.Secret):
		return errors.New("placeholders are not resolved here; the secret of a sandbox is worth nothing elsewhere, write it down")
	}
	return app.validate()
}

// validateProvider checks what is said of one service provider.
func (c *SandboxConfig) validateProvider(mchid string) error {
	if !slices.ContainsFunc(c.Merchants, func(m SandboxMerchant) bool { return m.Mchid == mchid }) {
		return fmt.Errorf("there is no merchant %s; add merchant %s <appid>", mchid, mchid)
	}
	subs := c.ServiceProviders[mchid]
	for i, sub := range subs {
		if !hasPlaceholder(sub) && !sandboxMchidForm.MatchString(sub) {
			return errors.New("a sub-merchant's number (子商户号) has 1 to 32 digits")
		}
		if slices.Contains(subs[:i], sub) {
			return fmt.Errorf("duplicate sub-merchant %s", sub)
		}
	}
	return nil
}

// validate checks the configuration of a wechatpay_demo_shop handler.
func (c *DemoShopConfig) validate() error {
	const block = "wechatpay_demo_shop"
	switch {
	case c.Gateway == "":
		return missing(block, "gateway", "add the base URL of the gateway's payment API")
	case c.Token == "":
		return missing(block, "token", "add the bearer token that the gateway's wechatpay_api knows")
	case c.Secret == "":
		return missing(block, "secret", "add the secret of wechatpay_notify's sign")
	case c.Sandbox == "":
		return missing(block, "sandbox", "add the base URL of the sandbox")
	case c.Mchid == "" || c.Appid == "":
		return missing(block, "merchant", "add merchant <mchid> <appid>")
	}
	if err := validateSandboxMerchant(c.Mchid, c.Appid); err != nil {
		return invalid(block, "merchant", "%w", err)
	}
	for _, base := range []struct{ option, value string }{{"gateway", c.Gateway}, {"sandbox", c.Sandbox}} {
		if err := validateBase(base.value); err != nil {
			return invalid(block, base.option, "%w", err)
		}
	}
	return nil
}

func validateSandboxMerchant(mchid, appid string) error {
	if !hasPlaceholder(mchid) && !sandboxMchidForm.MatchString(mchid) {
		return errors.New("a merchant number (商户号) has 1 to 32 digits")
	}
	if !hasPlaceholder(appid) && !sandboxAppidForm.MatchString(appid) {
		return errors.New("an appid has 3 to 32 letters and digits")
	}
	return nil
}
