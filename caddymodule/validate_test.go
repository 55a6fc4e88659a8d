package caddymodule

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
)

// TestValidateJSON holds what only JSON can say, past the Caddyfile's parser,
// against the shared checks. What both can say is in testdata/adapt.
func TestValidateJSON(t *testing.T) {
	routes := caddyhttp.RouteList{{}}
	good := func() Merchant {
		return Merchant{Mchid: "1900000001", SerialNo: "5157F09E", PrivateKey: "/key.pem", APIv3Keys: []string{"{env.KEY}"}}
	}
	with := func(change func(*Merchant)) interface{ check() error } {
		m := good()
		change(&m)
		return merchantCheck{&m}
	}
	for name, test := range map[string]struct {
		config interface{ check() error }
		want   string // part of the error; empty: none
	}{
		"merchant":                  {with(func(*Merchant) {}), ""},
		"null merchant":             {merchantCheck{nil}, "it is null"},
		"merchant without app type": {with(func(m *Merchant) { m.Apps = []MerchantApp{{Appid: "wx8888888888888888"}} }), `invalid option "app"`},
		"too many openid bases":     {with(func(m *Merchant) { m.OpenIDBases = []string{"https://a", "https://b", "https://c"} }), "there are two"},
		"app with domains and no type": {with(func(m *Merchant) {
			m.Apps = []MerchantApp{{Appid: "wx8888888888888888", Domains: []string{"a.example.com"}}}
		}), `invalid option "app"`},
		"force without URL":            {with(func(m *Merchant) { m.ForceNotifyURL = true }), "force needs a URL"},
		"three keys":                   {with(func(m *Merchant) { m.APIv3Keys = []string{"{a}", "{b}", "{c}"} }), "3 keys are given"},
		"empty key":                    {with(func(m *Merchant) { m.APIv3Keys = []string{""} }), "32 bytes, this one has 0"},
		"certificate mode":             {with(func(m *Merchant) { m.PlatformCertificates = "on" }), `unknown value "on"`},
		"files without mode":           {with(func(m *Merchant) { m.PlatformCertificateFiles = []string{"/a.pem"} }), `files go with "files"`},
		"mode without files":           {with(func(m *Merchant) { m.PlatformCertificates = "files" }), "names no file"},
		"public key without key":       {with(func(m *Merchant) { m.PublicKeys = []PublicKey{{ID: "PUB_KEY_ID_01"}} }), "has no key"},
		"retention":                    {retainCheck{&Retain{Orders: caddy.Duration(366 * day)}}, ""},
		"no retention":                 {retainCheck{nil}, ""},
		"negative retention":           {retainCheck{&Retain{Bodies: -1}}, "below zero"},
		"short retention":              {retainCheck{&Retain{Orders: caddy.Duration(366*day - 1)}}, "at least 366d"},
		"notify":                       {notifyCheck{NotifyConfig{Deliver: routes}}, ""},
		"notify without deliver":       {notifyCheck{NotifyConfig{}}, `missing option "deliver"`},
		"notify name":                  {notifyCheck{NotifyConfig{Merchant: "a/b", Deliver: routes}}, "a merchant's name"},
		"negative retry":               {notifyCheck{NotifyConfig{Retry: []caddy.Duration{1, -1}, Deliver: routes}}, "not above zero"},
		"zero retry":                   {notifyCheck{NotifyConfig{Retry: []caddy.Duration{0}, Deliver: routes}}, "not above zero"},
		"negative timeout":             {notifyCheck{NotifyConfig{Timeout: -1, Deliver: routes}}, "not above zero"},
		"timeout just below the bound": {notifyCheck{NotifyConfig{Ack: "delivery", Timeout: caddy.Duration(4*time.Second - 1), Deliver: routes}}, ""},
		"longest timeout":              {notifyCheck{NotifyConfig{Timeout: caddy.Duration(10 * time.Minute), Deliver: routes}}, ""},
		"empty secret":                 {notifyCheck{NotifyConfig{Sign: []string{""}, Deliver: routes}}, "it is empty"},
		"negative max_body":            {notifyCheck{NotifyConfig{MaxBody: -1, Deliver: routes}}, "out of range"},
		"smallest max_body":            {notifyCheck{NotifyConfig{MaxBody: 1 << 10, Deliver: routes}}, ""},
		"largest max_body":             {notifyCheck{NotifyConfig{MaxBody: 1 << 20, Deliver: routes}}, ""},
		"api without merchant":         {apiCheck{APIConfig{}}, "a merchant's name"},
		"api without callers":          {apiCheck{APIConfig{Merchant: "shop"}}, `missing option "caller"`},
		"caller without name":          {apiCheck{APIConfig{Merchant: "shop", Callers: []Caller{{Token: "{env.T}"}}}}, "a caller's name"},
		"caller with both": {apiCheck{APIConfig{
			Merchant: "shop", Callers: []Caller{{Name: "a", Token: "{env.T}", SerialNo: "7D3A", PublicKey: "/a.pem"}},
		}}, "a token and a key"},
		"caller with half a key": {apiCheck{APIConfig{Merchant: "shop", Callers: []Caller{{Name: "a", SerialNo: "7D3A"}}}}, "needs both"},
		"caller twice": {apiCheck{APIConfig{
			Merchant: "shop", Callers: []Caller{{Name: "a", Token: "{env.T}"}, {Name: "a", Token: "{env.U}"}},
		}}, "duplicate caller"},
		"allow of nobody": {apiCheck{APIConfig{
			Merchant: "shop", Callers: []Caller{{Name: "a", Token: "{env.T}"}},
			Allow: map[string][]string{"a": {"pay"}, "b": {"pay"}},
		}}, `there is no caller "b"`},
		"limit of nobody": {apiCheck{APIConfig{
			Merchant: "shop", Callers: []Caller{{Name: "a", Token: "{env.T}"}}, Allow: map[string][]string{"a": {"refund"}},
			Limits: map[string]guard.Limit{"b": {RefundPerDay: 1}},
		}}, `there is no caller "b"`},
		"limit below zero": {apiCheck{APIConfig{
			Merchant: "shop", Callers: []Caller{{Name: "a", Token: "{env.T}"}}, Allow: map[string][]string{"a": {"refund"}},
			Limits: map[string]guard.Limit{"a": {RefundPerDay: -1}},
		}}, "below zero"},
		"limit of nothing": {apiCheck{APIConfig{
			Merchant: "shop", Callers: []Caller{{Name: "a", Token: "{env.T}"}}, Allow: map[string][]string{"a": {"refund"}},
			Limits: map[string]guard.Limit{"a": {}},
		}}, "limits nothing"},
		"limit": {apiCheck{APIConfig{
			Merchant: "shop", Callers: []Caller{{Name: "a", Token: "{env.T}"}}, Allow: map[string][]string{"a": {"refund"}},
			Limits: map[string]guard.Limit{"a": {SubMchids: []string{"1900000109"}, RefundPerOrder: 1}},
		}}, ""},
		"empty allow": {apiCheck{APIConfig{
			Merchant: "shop", Callers: []Caller{{Name: "a", Token: "{env.T}"}}, Allow: map[string][]string{"a": {}},
		}}, `missing option "allow a"`},
		"sandbox time scale": {sandboxCheck{SandboxConfig{
			Merchants: []SandboxMerchant{{"1900000001", "wx8888888888888888"}}, TimeScale: -1,
		}}, "not above zero"},
		"sandbox refund time": {sandboxCheck{SandboxConfig{
			Merchants: []SandboxMerchant{{"1900000001", "wx8888888888888888"}}, RefundTime: -1,
		}}, "not above zero"},
		"sandbox provider without merchant": {sandboxCheck{SandboxConfig{
			Merchants:        []SandboxMerchant{{"1900000001", "wx8888888888888888"}},
			ServiceProviders: map[string][]string{"1900000002": nil},
		}}, "there is no merchant 1900000002"},
		"demo shop": {shopCheck{DemoShopConfig{}}, `missing option "gateway"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.config.check()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("error = %v, want none", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error = %v, want it to contain %q", err, test.want)
			}
		})
	}
}

// These give the configurations one method to check them by.
type (
	merchantCheck struct{ *Merchant }
	retainCheck   struct{ *Retain }
	notifyCheck   struct{ NotifyConfig }
	apiCheck      struct{ APIConfig }
	sandboxCheck  struct{ SandboxConfig }
	shopCheck     struct{ DemoShopConfig }
)

func (c merchantCheck) check() error { return c.Merchant.validate("shop") }
func (c retainCheck) check() error   { return c.Retain.validate() }
func (c notifyCheck) check() error   { return c.NotifyConfig.validate() }
func (c apiCheck) check() error      { return c.APIConfig.validate() }
func (c sandboxCheck) check() error  { return c.SandboxConfig.validate() }
func (c shopCheck) check() error     { return c.DemoShopConfig.validate() }

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "ack", 3},
		{"ack", "ack", 0},
		{"akc", "ack", 1},
		{"acks", "ack", 1},
		{"amountcheck", "amount_check", 1},
		{"merchnat", "merchant", 1},
		{"payload", "pay", 4},
		{"sign", "ack", 4},
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
		if got := editDistance(test.b, test.a); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

// TestMergeRefusesForeignValue covers an earlier block that is not ours.
func TestMergeRefusesForeignValue(t *testing.T) {
	d := caddyfile.NewTestDispenser("wechatpay {\n}")
	if _, err := parseGlobalOption(d, 1); err == nil || !strings.Contains(err.Error(), "unexpected earlier value of type int") {
		t.Errorf("error = %v, want one about the earlier value", err)
	}
}
