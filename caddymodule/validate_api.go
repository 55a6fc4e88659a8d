package caddymodule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

var (
	callerNameForm = merchantNameForm
	serialForm     = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)
)

// minTokenLength is the fewest characters of a caller's bearer token.
const minTokenLength = 16

// upstreamCaller is the caller of every request under trust_upstream_auth.
const upstreamCaller = "upstream"

// upstreamGroups is what the upstream caller may do when no allow says so. What
// moves money out, works with keys, or is not known well enough to tell, is
// never implied.
var upstreamGroups = slices.DeleteFunc(slices.Clone(operationGroups), func(group string) bool {
	switch operation.Group(group) {
	case operation.Refund, operation.Transfer, operation.ProfitSharing, operation.Crypto, operation.Other:
		return true
	default:
		return false
	}
})

// allGroups allows every path, known or not.
const allGroups = "*"

// operationGroups is what `allow` may name.
var operationGroups = func() []string {
	var names []string
	for _, group := range operation.Groups() {
		names = append(names, string(group))
	}
	return names
}()

// validate checks the configuration of a wechatpay_api handler.
func (c *APIConfig) validate() error {
	const block = "wechatpay_api"
	if err := validateMerchantName(c.Merchant); err != nil {
		return fmt.Errorf("%s: %w", block, err)
	}
	callers := make([]string, 0, len(c.Callers)+1)
	for i, caller := range c.Callers {
		option := "caller " + caller.Name
		if err := caller.validate(); err != nil {
			return &optionError{option, invalid(block, "caller", "%w", err)}
		}
		for _, other := range c.Callers[:i] {
			switch {
			case other.Name == caller.Name:
				return &optionError{option, fmt.Errorf("%s: duplicate caller %q; give each caller its own name", block, caller.Name)}
			case other.Token != "" && other.Token == caller.Token:
				return &optionError{option, invalid(block, "caller", "%s and %s have the same token; give each its own", other.Name, caller.Name)}
			case other.SerialNo != "" && strings.EqualFold(other.SerialNo, caller.SerialNo):
				return &optionError{option, invalid(block, "caller", "%s and %s have the same serial; give each its own", other.Name, caller.Name)}
			}
		}
		callers = append(callers, caller.Name)
	}
	switch {
	case c.TrustUpstreamAuth && len(c.Callers) > 0:
		return invalid(block, "trust_upstream_auth", "it does not go with caller: either an outer handler authenticates, or this one does; remove one of the two")
	case c.TrustUpstreamAuth:
		callers = append(callers, upstreamCaller)
	case len(c.Callers) == 0:
		return missing(block, "caller", "without one anybody could pay and refund; add caller <name> token {env.NAME}, or trust_upstream_auth when an outer handler authenticates every request")
	}
	for _, caller := range callers {
		if len(c.Allow[caller]) == 0 && !c.TrustUpstreamAuth {
			return &optionError{"caller " + caller, missing(block, "allow "+caller, fmt.Sprintf("say what %s may do: allow %s <group...>; the groups are %s, or * for every path", caller, caller, strings.Join(operationGroups, " ")))}
		}
	}
	if _, err := guard.NewPolicy(c.Rules); err != nil {
		return invalid(block, "rules", "%w", err)
	}
	for _, caller := range sortedKeys(c.Allow) {
		option := "allow " + caller
		if !slices.Contains(callers, caller) {
			return &optionError{option, invalid(block, "allow", "there is no caller %q; the callers are %s", caller, strings.Join(callers, ", "))}
		}
		if err := validateGroups(c.Allow[caller]); err != nil {
			return &optionError{option, invalid(block, "allow", "%s: %w", caller, err)}
		}
	}
	for _, caller := range sortedKeys(c.Limits) {
		option := "limit " + caller
		if !slices.Contains(callers, caller) {
			return &optionError{option, invalid(block, "limit", "there is no caller %q; the callers are %s", caller, strings.Join(callers, ", "))}
		}
		if err := c.Limits[caller].Validate(); err != nil {
			return &optionError{option, invalid(block, "limit", "%s: %w", caller, err)}
		}
	}
	return nil
}

// validateGroups checks what one caller is allowed.
func validateGroups(groups []string) error {
	for i, group := range groups {
		switch {
		case group == allGroups && len(groups) > 1:
			return errors.New("* stands alone: it allows every path")
		case group == allGroups:
		case !slices.Contains(operationGroups, group):
			if near := nearest(group, operationGroups); near != "" {
				return fmt.Errorf("unknown group %q; did you mean %q?", group, near)
			}
			return fmt.Errorf("unknown group %q; the groups are %s, or * for every path", group, strings.Join(operationGroups, " "))
		case slices.Contains(groups[:i], group):
			return fmt.Errorf("duplicate group %q", group)
		}
	}
	return nil
}

// validate checks one caller. Errors hold neither token nor key.
func (c *Caller) validate() error {
	if !callerNameForm.MatchString(c.Name) {
		return errors.New("a caller's name has 1 to 64 letters, digits, '.', '_' or '-'")
	}
	key := c.SerialNo != "" || c.PublicKey != ""
	switch {
	case c.Token != "" && key:
		return fmt.Errorf("%s has a token and a key; make it two callers", c.Name)
	case key && (c.SerialNo == "" || c.PublicKey == ""):
		return fmt.Errorf("%s: a key needs both a serial and a public key", c.Name)
	case key && !hasPlaceholder(c.SerialNo) && !serialForm.MatchString(c.SerialNo):
		return fmt.Errorf("%s: a serial has 1 to 64 letters, digits, '_' or '-'", c.Name)
	case !key && c.Token == "":
		return fmt.Errorf("%s has neither a token nor a key; write caller %s token {env.NAME}", c.Name, c.Name)
	case !key && !hasPlaceholder(c.Token) && len(c.Token) < minTokenLength:
		return fmt.Errorf("%s: a token has at least %d characters", c.Name, minTokenLength)
	}
	return nil
}
