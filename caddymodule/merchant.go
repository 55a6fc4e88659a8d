package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// resolve replaces the block's placeholders and reads its files. What comes out
// holds secrets and is handed to the merchant package only.
func (m *Merchant) resolve(name string) (merchant.Config, error) {
	cfg := merchant.Config{
		Name:            name,
		Certificates:    merchant.CertificateMode(m.PlatformCertificates),
		ForceNotifyURL:  m.ForceNotifyURL,
		ServiceProvider: m.ServiceProvider,
	}

	// plain resolves options that may be left out.
	var err error
	plain := func(option, value string, into *string) {
		if err == nil && value != "" {
			*into, err = resolve(option, value)
		}
	}
	pem := func(option, value string, into *string) {
		if err == nil && value != "" {
			*into, err = resolvePEM(option, value)
		}
	}
	for _, app := range m.Apps {
		one := merchant.App{Appid: app.Appid, Type: merchant.AppType(app.Type)}
		for _, domain := range app.Domains {
			var text string
			plain("app "+app.Appid+": domain", domain, &text)
			one.Domains = append(one.Domains, text)
		}
		var secret string
		if plain("app "+app.Appid+": secret", app.Secret, &secret); secret != "" {
			one.Secret = merchant.NewSecret(secret)
		}
		cfg.Apps = append(cfg.Apps, one)
	}
	plain("mchid", m.Mchid, &cfg.Mchid)
	plain("serial_no", m.SerialNo, &cfg.SerialNo)
	pem("private_key", m.PrivateKey, &cfg.PrivateKey)
	for _, key := range m.APIv3Keys {
		var text string
		if plain("apiv3_key", key, &text); key == "" && err == nil {
			err = fmt.Errorf("apiv3_key: is empty")
		}
		cfg.APIv3Keys = append(cfg.APIv3Keys, text)
	}
	for _, key := range m.PublicKeys {
		one := merchant.PublicKeyConfig{ID: key.ID}
		if pem("public_key "+key.ID, key.Key, &one.PEM); key.Key == "" && err == nil {
			err = fmt.Errorf("public_key %s: names no file", key.ID)
		}
		cfg.PublicKeys = append(cfg.PublicKeys, one)
	}
	for _, file := range m.PlatformCertificateFiles {
		var text string
		pem("platform_certificates", file, &text)
		cfg.CertificatePEMs = append(cfg.CertificatePEMs, text)
	}
	plain("notify_url", m.NotifyURL, &cfg.NotifyURL)
	plain("egress_proxy", m.EgressProxy, &cfg.EgressProxy)
	plain("sandbox", m.Sandbox, &cfg.Sandbox)
	for i, into := range []*string{&cfg.OpenIDBase, &cfg.OpenIDOpenBase} {
		if i < len(m.OpenIDBases) {
			plain("openid_base", m.OpenIDBases[i], into)
		}
	}
	for _, base := range m.APIBases {
		var text string
		plain("api_base", base, &text)
		cfg.APIBases = append(cfg.APIBases, text)
	}
	return cfg, err
}

// warnings tells of secrets that stand in the configuration itself, where
// `GET /config/` and the autosaved file show them.
func (m *Merchant) warnings() []string {
	var out []string
	for _, key := range m.APIv3Keys {
		if !isPlaceholder(key) {
			out = append(out, "apiv3_key stands in the configuration in clear; use {env.NAME} or {file./path}")
			break
		}
	}
	for _, app := range m.Apps {
		if app.Secret != "" && !isPlaceholder(app.Secret) && m.Sandbox == "" {
			out = append(out, "the secret of app "+app.Appid+" stands in the configuration in clear; use {env.NAME} or {file./path}")
		}
	}
	return out
}

// merchantMetrics counts key refreshes.
type merchantMetrics struct{}

// KeyRefresh counts one refresh.
func (merchantMetrics) KeyRefresh(name string, _ merchant.KeySource, outcome merchant.RefreshOutcome) {
	collectors.certificates.WithLabelValues(name, string(outcome)).Inc()
}

// KeySetChanged needs no metric of its own.
func (merchantMetrics) KeySetChanged(string, *merchant.KeySet) {}

var _ merchant.Metrics = merchantMetrics{}

// How long finished records are kept unless `retain` says otherwise.
const (
	defaultRetainOrders = caddy.Duration(400 * day)
	defaultRetainBodies = caddy.Duration(90 * day)
)

// retention fills in the defaults.
func (r *Retain) retention() (orders, bodies caddy.Duration) {
	orders, bodies = defaultRetainOrders, defaultRetainBodies
	if r != nil {
		if r.Orders != 0 {
			orders = r.Orders
		}
		if r.Bodies != 0 {
			bodies = r.Bodies
		}
	}
	return orders, bodies
}
