package payops_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

const (
	miniApp   = "wx1111111111111111"
	appSecret = "hush0123456789abcdefhush01234567"
)

// accounts is a payment API whose openids come from a sandbox's open platform,
// and everything that it has logged.
type accounts struct {
	*rig
	platform *sandbox.Platform
	log      *syncBuffer
}

// syncBuffer is a log that handlers may write at the same time.
type syncBuffer struct {
	mu chan struct{}
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu <- struct{}{}
	defer func() { <-s.mu }()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu <- struct{}{}
	defer func() { <-s.mu }()
	return s.b.String()
}

func newAccounts(t *testing.T) *accounts {
	t.Helper()
	p, err := sandbox.New(sandbox.Options{Merchants: []sandbox.Merchant{
		{Mchid: mchid, Appid: appid, AppSecret: appSecret, Domains: []string{"shop.example.com"}},
		{Mchid: mchid, Appid: miniApp, AppType: sandbox.AppMiniProgram, AppSecret: appSecret},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	a := &accounts{platform: p, log: &syncBuffer{mu: make(chan struct{}, 1)}}
	a.rig = newRig(t, rigOptions{
		log: slog.New(slog.NewJSONHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		answer: func(got) reply {
			return reply{status: 200, body: `{"prepay_id":"wx201410272009395522657a690389285100"}`}
		},
		mutate: func(cfg *merchant.Config) {
			cfg.Apps = []merchant.App{
				{Appid: appid, Type: merchant.AppOfficial, Secret: merchant.NewSecret(appSecret), Domains: []string{"shop.example.com"}},
				{Appid: miniApp, Type: merchant.AppMiniProgram, Secret: merchant.NewSecret(appSecret)},
			}
			cfg.OpenIDBase, cfg.OpenIDOpenBase = server.URL, server.URL
		},
	})
	t.Cleanup(a.merchant.Stop)
	return a
}

// TestOpenIDs goes the whole way: the authorize URL, the page, the code, the
// openid, and an order of another app with it.
func TestOpenIDs(t *testing.T) {
	a := newAccounts(t)
	r := a.do("GET", "/gateway/openid/authorize?redirect_uri=https%3A%2F%2Fshop.example.com%2Fback&scope=snsapi_base&state=s1", "")
	var answer struct {
		AuthorizeURL string            `json:"authorize_url"`
		PageErrors   map[string]string `json:"page_errors"`
	}
	if body := text(t, r); r.StatusCode != 200 || json.Unmarshal([]byte(body), &answer) != nil {
		t.Fatalf("%d %s", r.StatusCode, body)
	}
	if !strings.Contains(answer.PageErrors["10003"], "网页授权域名") || !strings.Contains(answer.PageErrors["10005"], "订阅号") {
		t.Errorf("page errors %v", answer.PageErrors)
	}
	r = a.do("GET", "/gateway/openid/authorize?appid="+appid+"&redirect_uri=https%3A%2F%2Fshop.example.com%2Fback&state=s1&redirect=1", "")
	if r.StatusCode != 302 || r.Header.Get("Location") != answer.AuthorizeURL || !strings.HasSuffix(answer.AuthorizeURL, "#wechat_redirect") {
		t.Errorf("%d to %s, want %s", r.StatusCode, r.Header.Get("Location"), answer.AuthorizeURL)
	}
	page, err := url.Parse(answer.AuthorizeURL)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	a.platform.ServeHTTP(w, httptest.NewRequest("GET", page.RequestURI(), nil))
	back, err := url.Parse(w.Header().Get("Location"))
	if err != nil || back.Query().Get("state") != "s1" {
		t.Fatalf("back to %s", w.Header().Get("Location"))
	}
	code := back.Query().Get("code")
	openid := sandbox.OpenID(appid, "1")
	exchange := func(body string) *http.Response { return a.do("POST", "/gateway/openid", body) }
	if got := text(t, exchange(`{"code":"`+code+`"}`)); got != `{"appid":"`+appid+`","openid":"`+openid+`"}` {
		t.Errorf("openid: %s", got)
	}
	a.refused("a code twice", exchange(`{"code":"`+code+`"}`), 400, "openid_code")

	mini, err := a.platform.Login(miniApp, "ann")
	if err != nil {
		t.Fatal(err)
	}
	var user struct{ Appid, Openid, Unionid string }
	if body := text(t, exchange(`{"appid":"`+miniApp+`","code":"`+mini+`"}`)); json.Unmarshal([]byte(body), &user) != nil ||
		user.Appid != miniApp || user.Openid != sandbox.OpenID(miniApp, "ann") || user.Unionid == "" || strings.Contains(body, "session_key") {
		t.Errorf("mini program: %s", body)
	}

	// The gateway now knows whose they are.
	order := func(number, app, openid string) *http.Response {
		return a.do("POST", "/v3/pay/transactions/jsapi", `{"mchid":"`+mchid+`","appid":"`+app+`","description":"x","out_trade_no":"`+number+
			`","notify_url":"`+notifyURL+`","payer":{"openid":"`+openid+`"},"amount":{"total":1,"currency":"CNY"}}`)
	}
	if r := order("FOREIGN-0001", appid, user.Openid); r.StatusCode != 409 || r.Header.Get("Wechatpay-Gateway-Refused") == "" {
		t.Errorf("a mini program's openid in an official account's order: %d %s", r.StatusCode, text(t, r))
	}
	if r := order("OWN-0001", miniApp, user.Openid); r.StatusCode != 200 {
		t.Errorf("in its own: %d %s", r.StatusCode, text(t, r))
	}
	if len(a.wx.requests()) != 1 {
		t.Errorf("WeChat Pay saw %d requests, want the one order", len(a.wx.requests()))
	}
	for _, secret := range []string{appSecret, code, mini, openid, user.Openid, "session_key", "access_token"} {
		if strings.Contains(a.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestOpenIDRefusals(t *testing.T) {
	a := newAccounts(t)
	code, err := a.platform.Login(appid, "")
	if err != nil {
		t.Fatal(err)
	}
	const authorize = "/gateway/openid/authorize?redirect_uri=https%3A%2F%2Fshop.example.com"
	for _, tc := range []struct {
		name, method, target, body string
		status                     int
		rule                       payops.Rule
	}{
		{"another domain", "GET", "/gateway/openid/authorize?redirect_uri=https%3A%2F%2Fevil.example", "", 400, "openid_redirect"},
		{"no redirect_uri", "GET", "/gateway/openid/authorize", "", 400, "openid_redirect"},
		{"another scope", "GET", authorize + "&scope=snsapi_login", "", 400, "openid_scope"},
		{"a mini program", "GET", authorize + "&appid=" + miniApp, "", 400, "openid_scope"},
		{"state", "GET", authorize + "&state=a-b", "", 400, "openid_state"},
		{"an unknown appid", "GET", authorize + "&appid=wx0000000000000000", "", 400, "appid"},
		{"an unknown parameter", "GET", authorize + "&x=1", "", 400, payops.RulePath},
		{"twice", "GET", authorize + "&scope=snsapi_base&scope=snsapi_userinfo", "", 400, payops.RulePath},
		{"redirect", "GET", authorize + "&redirect=yes", "", 400, payops.RulePath},
		{"a body", "GET", authorize, "{}", 400, payops.RuleBody},
		{"a method", "POST", authorize, "", 405, payops.RuleMethod},
		{"an unknown code", "POST", "/gateway/openid", `{"code":"071nobody"}`, 400, "openid_code"},
		{"another app's code", "POST", "/gateway/openid", `{"appid":"` + miniApp + `","code":"` + code + `"}`, 400, "openid_code"},
		{"a code with a blank", "POST", "/gateway/openid", `{"code":"a b"}`, 400, "openid_code"},
		{"no code", "POST", "/gateway/openid", `{}`, 400, "openid_code"},
		{"a secret of the caller's", "POST", "/gateway/openid", `{"code":"` + code + `","secret":"x"}`, 400, payops.RuleBody},
		{"an unknown appid's code", "POST", "/gateway/openid", `{"appid":"wx0000000000000000","code":"` + code + `"}`, 400, "appid"},
		{"no body", "POST", "/gateway/openid", "", 400, payops.RuleBody},
		{"a query", "POST", "/gateway/openid?code=" + code, `{"code":"` + code + `"}`, 400, payops.RulePath},
		{"a list", "POST", "/gateway/openid", `[]`, 400, payops.RuleBody},
	} {
		a.refused(tc.name, a.do(tc.method, tc.target, tc.body), tc.status, tc.rule)
		if tc.method == "GET" {
			a.refused(tc.name+", not allowed", a.do(tc.method, tc.target, tc.body, "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)
		}
	}
	if len(a.wx.requests()) != 0 {
		t.Error("WeChat Pay was asked")
	}
	if strings.Contains(a.log.String(), "hush") {
		t.Error("the log holds the AppSecret")
	}
}

// TestOpenIDWrongSecret: an operator's mistake is neither the caller's nor shown
// to it, and says what it is in the log.
func TestOpenIDWrongSecret(t *testing.T) {
	for body, want := range map[string]struct {
		status int
		rule   payops.Rule
	}{
		`{"errcode":40125,"errmsg":"invalid appsecret"}`: {500, "openid_secret"},
		`{"errcode":45011,"errmsg":"quota"}`:             {429, "openid_rate"},
		`{"errcode":-1}`:                                 {503, "openid_busy"},
		`{"errcode":40226}`:                              {403, "openid_user"},
		`{"errcode":77777}`:                              {502, "openid_unreachable"},
		`oops`:                                           {502, "openid_unreachable"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		g := newRig(t, rigOptions{mutate: func(cfg *merchant.Config) {
			cfg.Apps[0].Secret = merchant.NewSecret(appSecret)
			cfg.OpenIDBase = server.URL
		}})
		r := g.do("POST", "/gateway/openid", `{"code":"071abc"}`)
		retry := r.Header.Get("Retry-After") != ""
		g.refused(body, r, want.status, want.rule)
		if retry != (want.status == 429 || want.status == 503) {
			t.Errorf("%s: Retry-After %v", body, retry)
		}
		g.merchant.Stop()
		server.Close()
	}
	down := newRig(t, rigOptions{mutate: func(cfg *merchant.Config) {
		cfg.Apps[0].Secret = merchant.NewSecret(appSecret)
		cfg.OpenIDBase = closedPort(t)
	}})
	defer down.merchant.Stop()
	down.refused("down", down.do("POST", "/gateway/openid", `{"code":"071abc"}`), 502, "openid_unreachable")
	none := newRig(t, rigOptions{})
	defer none.merchant.Stop()
	none.refused("no secret", none.do("POST", "/gateway/openid", `{"code":"071abc"}`), 500, "openid_secret")
}

// FuzzOpenIDCode: no body of a caller's makes the gateway fail, and what asks
// WeChat holds one appid, one secret and one code.
func FuzzOpenIDCode(f *testing.F) {
	for _, seed := range []string{`{"code":"071abc"}`, `{"appid":"wx8888888888888888","code":"a&secret=b"}`, `{"code":"a\u0000"}`, `{"code":7}`, `{"code":"a","code":"b"}`, "\xff"} {
		f.Add([]byte(seed))
	}
	var seen url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.URL.Query()
		fmt.Fprint(w, `{"openid":"oUpF8u"}`)
	}))
	f.Cleanup(server.Close)
	cfg := merchant.Config{
		Name: "shop", Mchid: mchid, Apps: []merchant.App{{Appid: appid, Secret: merchant.NewSecret(appSecret)}},
		SerialNo: serialNo, PrivateKey: privatePEM(keyring().merchant), APIv3Keys: []string{"0123456789abcdef0123456789ABCDEF"},
		PublicKeys: []merchant.PublicKeyConfig{{ID: platformID, PEM: publicPEM(keyring().platform)}},
		OpenIDBase: server.URL,
	}
	m, err := merchant.New(cfg, merchant.Deps{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(m.Stop)
	callers, err := caller.New(mchid, []caller.Config{{Name: "all", Token: merchant.NewSecret("all-token"), Allow: []string{"*"}}})
	if err != nil {
		f.Fatal(err)
	}
	api, err := payops.New(payops.Config{Merchant: m, Ledger: storagetest.NewModel(nil), Callers: callers})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		seen = nil
		w := httptest.NewRecorder()
		api.ServeHTTP(w, newRequest(context.Background(), "POST", "/gateway/openid", string(body)))
		switch {
		case w.Code == 200:
			if len(seen) != 4 || len(seen["code"]) != 1 || seen.Get("secret") != appSecret || seen.Get("appid") != appid {
				t.Fatalf("asked %v", seen)
			}
		case w.Code != 400 || seen != nil:
			t.Fatalf("%d %s, asked %v", w.Code, w.Body, seen)
		}
	})
}
