package caddymodule

import (
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// TestAppSecrets: placeholders of an app are resolved when the configuration is
// loaded; one that is empty is an error that names the app and not the secret.
func TestAppSecrets(t *testing.T) {
	t.Setenv("LEAF_SECRET", "0123456789abcdef0123456789abcdef")
	t.Setenv("LEAF_EMPTY", "")
	t.Setenv("LEAF_DOMAIN", "shop.example.com")
	block := Merchant{Mchid: "1900000001", Sandbox: "http://127.0.0.1:9080", OpenIDBases: []string{"http://127.0.0.1:9081"}}
	with := func(app MerchantApp) *Merchant {
		m := block
		m.Apps = []MerchantApp{app}
		return &m
	}
	cfg, err := with(MerchantApp{Appid: "wx8888888888888888", Type: "official", Secret: "{env.LEAF_SECRET}", Domains: []string{"{env.LEAF_DOMAIN}"}}).resolve("shop")
	if err != nil {
		t.Fatal(err)
	}
	m, err := merchant.New(cfg, merchant.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	if app := m.DefaultApp(); app.Secret.Reveal() != "0123456789abcdef0123456789abcdef" || len(app.Domains) != 1 || app.Domains[0] != "shop.example.com" {
		t.Errorf("app %v", app)
	}
	if exchange, authorize := m.OpenIDBases(); exchange != "http://127.0.0.1:9081" || authorize != "http://127.0.0.1:9080" {
		t.Errorf("openid_base %s %s", exchange, authorize)
	}
	for _, secret := range []string{"{env.LEAF_EMPTY}", "{env.LEAF_NOT_SET}", "{file./does/not/exist}"} {
		_, err := with(MerchantApp{Appid: "wx8888888888888888", Type: "official", Secret: secret}).resolve("shop")
		if err == nil || !strings.Contains(err.Error(), "app wx8888888888888888: secret") {
			t.Errorf("%s: %v", secret, err)
		}
	}
	clear := with(MerchantApp{Appid: "wx8888888888888888", Type: "official", Secret: "0123456789abcdef0123456789abcdef"})
	if got := clear.warnings(); len(got) != 0 {
		t.Errorf("a sandbox's secret is no secret: %v", got)
	}
	clear.Sandbox = ""
	if got := clear.warnings(); len(got) != 1 || strings.Contains(got[0], "0123456789") {
		t.Errorf("warnings %v", got)
	}
}
