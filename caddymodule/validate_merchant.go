package caddymodule

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	mchidForm       = regexp.MustCompile(`^[0-9]{8,32}$`)
	publicKeyIDForm = regexp.MustCompile(`^PUB_KEY_ID_[0-9A-Za-z_-]+$`)
)

// Platform certificate modes, as Merchant.PlatformCertificates has them.
const (
	certificatesAuto  = "auto"
	certificatesOff   = "off"
	certificatesFiles = "files"
)

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
