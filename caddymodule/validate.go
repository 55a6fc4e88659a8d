package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

// The checks below judge what a configuration says, whether it was written as a
// Caddyfile or as JSON. They read no file and resolve no placeholder: a value
// that holds one is left to Provision.

// optionError says which option of a block an error is about, so that the
// Caddyfile adapter can give it that option's line.
type optionError struct {
	option string // such as `payload`, or `caller erp` for one of several
	err    error
}

func (e *optionError) Error() string { return e.err.Error() }
func (e *optionError) Unwrap() error { return e.err }

// invalid is the error for an option whose value is refused.
func invalid(block, option, format string, args ...any) error {
	return &optionError{option, fmt.Errorf("%s: invalid option %q: %w", block, option, fmt.Errorf(format, args...))}
}

// missing is the error for a required option that is absent.
func missing(block, option, fix string) error {
	return &optionError{option, fmt.Errorf("%s: missing option %q; %s", block, option, fix)}
}

// Platform certificate modes, as Merchant.PlatformCertificates has them.
const (
	certificatesAuto  = "auto"
	certificatesOff   = "off"
	certificatesFiles = "files"
)

const day = 24 * time.Hour

// minRetainOrders is a year and a day: WeChat Pay refunds for a year.
const minRetainOrders = 366 * day

// maxBodyRange tells the bounds of max_body.
const maxBodyRange = "it goes from 1KiB to 1MiB"

// Bounds on one delivery attempt.
const (
	maxTimeout         = 10 * time.Minute // what holds a claim while a backend works
	maxDeliveryTimeout = 4 * time.Second  // with ack delivery: WeChat waits 5 s
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

var (
	merchantNameForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$`)
	callerNameForm   = merchantNameForm
	mchidForm        = regexp.MustCompile(`^[0-9]{8,32}$`)
	publicKeyIDForm  = regexp.MustCompile(`^PUB_KEY_ID_[0-9A-Za-z_-]+$`)
	serialForm       = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)
)

// validateMerchantName checks the name of a merchant block, which stands as a
// path segment in notify URLs.
func validateMerchantName(name string) error {
	if !merchantNameForm.MatchString(name) {
		return errors.New("a merchant's name has 1 to 64 letters, digits, '.', '_' or '-', as it stands in notify URLs")
	}
	return nil
}

// validate checks the retention. A nil Retain has the defaults.
func (r *Retain) validate() error {
	if r == nil {
		return nil
	}
	if r.Orders < 0 || r.Bodies < 0 {
		return invalid("wechatpay", "retain", "a duration is below zero")
	}
	if r.Orders != 0 && time.Duration(r.Orders) < minRetainOrders {
		return invalid("wechatpay", "retain", "orders are kept at least 366d, since they can be refunded for a year")
	}
	return nil
}

// validate checks one merchant block. The keys themselves are checked when they
// are read.
func (m *Merchant) validate(name string) error {
	block := "merchant " + name
	if err := validateMerchantName(name); err != nil {
		return invalid("wechatpay", "merchant", "%w", err)
	}
	if m == nil {
		return fmt.Errorf("%s: it is null", block)
	}
	if m.Mchid == "" {
		return missing(block, "mchid", "add the merchant number (商户号)")
	}
	if !hasPlaceholder(m.Mchid) && !mchidForm.MatchString(m.Mchid) {
		return invalid(block, "mchid", "a merchant number (商户号) is digits only, ten as a rule")
	}
	for i, app := range m.Apps {
		option := "app " + app.Appid
		if !slices.Contains([]string{"official", "miniprogram", "app"}, app.Type) {
			return &optionError{option, invalid(block, "app", "%w", notOneOf(app.Type, "official", "miniprogram", "app"))}
		}
		if slices.ContainsFunc(m.Apps[:i], func(other MerchantApp) bool { return other.Appid == app.Appid }) {
			return &optionError{option, fmt.Errorf("%s: duplicate app %q", block, app.Appid)}
		}
		if err := app.validate(); err != nil {
			return &optionError{option, invalid(block, "app", "%w", err)}
		}
	}
	if err := m.validateURLs(block); err != nil {
		return err
	}
	if m.Sandbox != "" {
		return m.validateSandbox(block)
	}
	return m.validateKeys(block)
}

// domainForm is a host, with or without a port.
var domainForm = regexp.MustCompile(`^[0-9A-Za-z](?:[0-9A-Za-z.-]{0,251}[0-9A-Za-z])?(?::[0-9]{1,5})?$`)

// validate checks the domains of one app.
func (app MerchantApp) validate() error {
	if len(app.Domains) > 0 && app.Type != "official" {
		return errors.New("domain belongs to an official account; no browser is sent back to a mini program or an app")
	}
	for i, domain := range app.Domains {
		if !hasPlaceholder(domain) && !domainForm.MatchString(domain) {
			return errors.New("domain is a host such as shop.example.com, without scheme or path")
		}
		if slices.ContainsFunc(app.Domains[:i], func(other string) bool { return strings.EqualFold(other, domain) }) {
			return errors.New("a domain stands there twice; remove one")
		}
	}
	return nil
}

// validateURLs checks notify_url, api_base, sandbox and egress_proxy. Errors
// leave the URL out: it may carry a password.
func (m *Merchant) validateURLs(block string) error {
	if m.NotifyURL == "" && m.ForceNotifyURL {
		return invalid(block, "notify_url", "force needs a URL to force")
	}
	if u, err := url.Parse(m.NotifyURL); m.NotifyURL != "" && !hasPlaceholder(m.NotifyURL) {
		switch {
		case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
			return invalid(block, "notify_url", "it is an absolute URL, such as https://pay.example.com/wechatpay/notify/shop")
		case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			return invalid(block, "notify_url", "WeChat Pay allows no query string; put what you need into the path")
		case u.User != nil:
			return invalid(block, "notify_url", "a user name or password is not allowed; callbacks are authenticated by their signature")
		}
	}
	for _, base := range m.APIBases {
		if err := validateHost(base); err != nil {
			return invalid(block, "api_base", "%w", err)
		}
	}
	if len(m.OpenIDBases) > 2 {
		return invalid(block, "openid_base", "there are two: of the exchange, and of the authorize page")
	}
	for _, base := range m.OpenIDBases {
		if err := validateHost(base); err != nil {
			return invalid(block, "openid_base", "%w", err)
		}
	}
	if m.Sandbox != "" {
		if err := validateHost(m.Sandbox); err != nil {
			return invalid(block, "sandbox", "%w", err)
		}
	}
	if m.EgressProxy != "" && !hasPlaceholder(m.EgressProxy) {
		u, err := url.Parse(m.EgressProxy)
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) {
			return invalid(block, "egress_proxy", "it is an http, https or socks5 URL, such as http://proxy.internal:3128")
		}
	}
	return nil
}

// validateSandbox checks that a sandbox merchant brings no keys of its own.
func (m *Merchant) validateSandbox(block string) error {
	for _, option := range []struct {
		name  string
		given bool
	}{
		{"serial_no", m.SerialNo != ""},
		{"private_key", m.PrivateKey != ""},
		{"apiv3_key", len(m.APIv3Keys) > 0},
		{"public_key", len(m.PublicKeys) > 0},
		{"platform_certificates", m.PlatformCertificates != "" || len(m.PlatformCertificateFiles) > 0},
		{"api_base", len(m.APIBases) > 0},
	} {
		if option.given {
			return invalid(block, option.name, "it does not go with sandbox, which gives the keys and is the API; remove it, or sandbox for production")
		}
	}
	return nil
}

// validateKeys checks the keys of a production merchant.
func (m *Merchant) validateKeys(block string) error {
	switch {
	case m.SerialNo == "":
		return missing(block, "serial_no", "add the serial of the merchant API certificate, or sandbox <url> for a test merchant")
	case m.PrivateKey == "":
		return missing(block, "private_key", "add the path of apiclient_key.pem, or sandbox <url> for a test merchant")
	case len(m.APIv3Keys) == 0:
		return missing(block, "apiv3_key", "add the APIv3 key (APIv3密钥), such as {env.WECHATPAY_APIV3_KEY}, or sandbox <url> for a test merchant")
	case len(m.APIv3Keys) > 2:
		return invalid(block, "apiv3_key", "%d keys are given; there are two at most, the new and the old one of a rotation", len(m.APIv3Keys))
	}
	for _, key := range m.APIv3Keys {
		if !hasPlaceholder(key) && len(key) != 32 {
			return invalid(block, "apiv3_key", "an APIv3 key has 32 bytes, this one has %d", len(key))
		}
	}
	for i, key := range m.PublicKeys {
		option := "public_key " + key.ID
		if !hasPlaceholder(key.ID) && !publicKeyIDForm.MatchString(key.ID) {
			return &optionError{option, invalid(block, "public_key", "the id begins with PUB_KEY_ID_, as the merchant console shows it beside the key")}
		}
		if key.Key == "" {
			return &optionError{option, invalid(block, "public_key", "%s has no key; name the path of its pub_key.pem", key.ID)}
		}
		if slices.ContainsFunc(m.PublicKeys[:i], func(other PublicKey) bool { return other.ID == key.ID }) {
			return &optionError{option, fmt.Errorf("%s: duplicate public_key %q", block, key.ID)}
		}
	}
	files := len(m.PlatformCertificateFiles) > 0
	switch m.PlatformCertificates {
	case "", certificatesAuto, certificatesOff:
		if files {
			return invalid(block, "platform_certificates", "files go with %q", certificatesFiles)
		}
	case certificatesFiles:
		if !files {
			return invalid(block, "platform_certificates", "%q names no file", certificatesFiles)
		}
	default:
		return invalid(block, "platform_certificates", "%w", notOneOf(m.PlatformCertificates, certificatesAuto, certificatesOff, certificatesFiles))
	}
	if m.PlatformCertificates == certificatesOff && len(m.PublicKeys) == 0 {
		return invalid(block, "platform_certificates", "off without a public_key leaves nothing to verify callbacks with; add public_key, or say auto")
	}
	return nil
}

// validate checks the configuration of a wechatpay_notify handler.
func (c *NotifyConfig) validate() error {
	const block = "wechatpay_notify"
	if c.Merchant != "" {
		if err := validateMerchantName(c.Merchant); err != nil {
			return fmt.Errorf("%s: %w", block, err)
		}
	}
	for _, choice := range []struct {
		option, value string
		allowed       []string
	}{
		{"ack", c.Ack, []string{"commit", "delivery"}},
		{"amount_check", c.AmountCheck, []string{"known", "strict", "off"}},
		{"payload", c.Payload, []string{"envelope", "resource", "raw"}},
	} {
		if choice.value != "" && !slices.Contains(choice.allowed, choice.value) {
			return invalid(block, choice.option, "%w", notOneOf(choice.value, choice.allowed...))
		}
	}
	delivery := c.Ack == "delivery"
	if c.Payload == "raw" && !delivery {
		return invalid(block, "payload", `"raw" goes with "ack delivery" only: later attempts would carry a signature that has grown too old to verify; add ack delivery, or use envelope or resource`)
	}
	for _, wait := range c.Retry {
		if wait <= 0 {
			return invalid(block, "retry", "%s is not above zero", time.Duration(wait))
		}
	}
	switch timeout := time.Duration(c.Timeout); {
	case timeout < 0:
		return invalid(block, "timeout", "%s is not above zero", timeout)
	case delivery && timeout >= maxDeliveryTimeout:
		return invalid(block, "timeout", "%s is too long for ack delivery, where it must stay below %s so that WeChat gets its answer within 5s; shorten it, or use ack commit", timeout, maxDeliveryTimeout)
	case timeout > maxTimeout:
		return invalid(block, "timeout", "%s is over %s", timeout, maxTimeout)
	}
	for i, secret := range c.Sign {
		switch {
		case secret == "":
			return invalid(block, "sign", "it is empty; give it a secret or leave it out")
		case slices.Contains(c.Sign[:i], secret):
			return invalid(block, "sign", "two of its secrets are the same; remove one")
		}
	}
	if c.MaxBody != 0 && (c.MaxBody < notify.MinMaxBody || c.MaxBody > notify.MaxMaxBody) {
		return invalid(block, "max_body", "%d bytes are out of range; %s", c.MaxBody, maxBodyRange)
	}
	if len(c.Deliver) == 0 {
		return missing(block, "deliver", "add the HTTP routes to the backend, such as deliver { reverse_proxy legacy:8080 }")
	}
	return nil
}

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

// validateBase checks the base URL of an API: https, or anything on loopback.
func validateBase(text string) error {
	if hasPlaceholder(text) {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return errors.New("it is an absolute URL, such as https://api.mch.weixin.qq.com")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("a user name, a query string or a fragment is not allowed in it")
	case u.Scheme != "https" && !isLoopback(u.Hostname()):
		return errors.New("it must be https, except on a loopback address")
	}
	return nil
}

// validateHost checks a base URL that requests are signed for: the signature
// covers the whole path, so there is none to put before it.
func validateHost(text string) error {
	if err := validateBase(text); err != nil || hasPlaceholder(text) {
		return err
	}
	if u, err := url.Parse(text); err == nil && u.Path != "" && u.Path != "/" {
		return errors.New("it has a scheme, a host and a port only; remove the path")
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// hasPlaceholder reports whether a value is known only when it is resolved.
func hasPlaceholder(value string) bool {
	return strings.Contains(value, "{") && strings.Contains(value, "}")
}

// notOneOf tells what an option takes instead of got.
func notOneOf(got string, allowed ...string) error {
	if near := nearest(got, allowed); near != "" && near != got {
		return fmt.Errorf("unknown value %q, did you mean %q? It takes %s", got, near, strings.Join(allowed, ", "))
	}
	return fmt.Errorf("unknown value %q; it takes %s", got, strings.Join(allowed, ", "))
}
