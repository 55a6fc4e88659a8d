package sandbox_test

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

const (
	miniApp    = "wx1111111111111111"
	mobileApp  = "wx2222222222222222"
	officialAS = "0123456789abcdef0123456789abcdef"
)

// newAccounts is a platform of one merchant with an app of each type.
func newAccounts(t testing.TB, now func() time.Time) *sandbox.Platform {
	return newPlatform(t, func(o *sandbox.Options) {
		o.Now = now
		o.Merchants = []sandbox.Merchant{
			{Mchid: mchid, Appid: appid, AppSecret: officialAS, Domains: []string{"Shop.example.com", "127.0.0.1:8080"}},
			{Mchid: mchid, Appid: miniApp, AppType: sandbox.AppMiniProgram},
			{Mchid: mchid, Appid: mobileApp, AppType: sandbox.AppMobile},
			{Mchid: other, Appid: appid}, {Mchid: other, Appid: otherApp},
		}
	})
}

// secrets are the AppSecrets as the merchant's keys have them.
func secrets(t testing.TB, p *sandbox.Platform) map[string]string {
	t.Helper()
	k, err := p.Keys(mchid)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, a := range k.Apps {
		out[a.Appid] = a.Secret
	}
	return out
}

type sns struct {
	Openid      string `json:"openid"`
	Unionid     string `json:"unionid"`
	SessionKey  string `json:"session_key"`
	AccessToken string `json:"access_token"`
	Errcode     int    `json:"errcode"`
	Errmsg      string `json:"errmsg"`
}

func ask(t testing.TB, p *sandbox.Platform, target string) sns {
	t.Helper()
	w := serve(p, httptest.NewRequest("GET", target, nil))
	var out sns
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 {
		t.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	return out
}

func tokenURL(appid, secret, code string) string {
	return "/sns/oauth2/access_token?appid=" + appid + "&secret=" + secret + "&code=" + code + "&grant_type=authorization_code"
}

func sessionURL(appid, secret, code string) string {
	return "/sns/jscode2session?appid=" + appid + "&secret=" + secret + "&js_code=" + code + "&grant_type=authorization_code"
}

func login(t testing.TB, p *sandbox.Platform, appid, user string) string {
	t.Helper()
	code, err := p.Login(appid, user)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestCodes: each code is good once, for its app, with its secret, in time.
func TestCodes(t *testing.T) {
	at := newClock(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC))
	p := newAccounts(t, at.now)
	secret := secrets(t, p)
	if secret[appid] != officialAS || len(secret[miniApp]) != 32 || secret[miniApp] == secret[mobileApp] {
		t.Fatalf("secrets %v", secret)
	}

	mini := login(t, p, miniApp, "ann")
	got := ask(t, p, sessionURL(miniApp, secret[miniApp], mini))
	if got.Openid != sandbox.OpenID(miniApp, "ann") || len(got.Openid) != 28 || got.SessionKey == "" || got.AccessToken != "" || got.Unionid == "" {
		t.Errorf("mini program: %+v", got)
	}
	again := ask(t, p, sessionURL(miniApp, secret[miniApp], login(t, p, miniApp, "ann")))
	mobile := ask(t, p, tokenURL(mobileApp, secret[mobileApp], login(t, p, mobileApp, "ann")))
	if again.Openid != got.Openid || mobile.Openid == got.Openid || mobile.Unionid != got.Unionid || mobile.AccessToken == "" || mobile.SessionKey != "" {
		t.Errorf("again %+v, app %+v", again, mobile)
	}
	if bob := ask(t, p, sessionURL(miniApp, secret[miniApp], login(t, p, miniApp, "bob"))); bob.Openid == got.Openid || bob.Unionid == got.Unionid {
		t.Errorf("two users are one: %+v", bob)
	}

	fresh := login(t, p, appid, "")
	for _, tc := range []struct {
		name, target string
		errcode      int
	}{
		{"used", sessionURL(miniApp, secret[miniApp], mini), 40163},
		{"unknown", tokenURL(appid, officialAS, "071nobody"), 40029},
		{"another app's", tokenURL(mobileApp, secret[mobileApp], fresh), 40029},
		{"wrong secret", tokenURL(appid, secret[mobileApp], fresh), 40125},
		{"no secret", tokenURL(appid, "", fresh), 41004},
		{"no appid", tokenURL("", officialAS, fresh), 41002},
		{"unknown appid", tokenURL("wx0000000000000000", officialAS, fresh), 40013},
		{"no code", tokenURL(appid, officialAS, ""), 41008},
		{"a mini program at the page's endpoint", tokenURL(miniApp, secret[miniApp], fresh), 40013},
		{"an account at the mini program's endpoint", sessionURL(appid, officialAS, fresh), 40013},
		{"grant_type", strings.Replace(tokenURL(appid, officialAS, fresh), "authorization_code", "client_credential", 1), 40002},
	} {
		if got := ask(t, p, tc.target); got.Errcode != tc.errcode || got.Openid != "" || !strings.Contains(got.Errmsg, "rid: ") {
			t.Errorf("%s: %+v, want %d", tc.name, got, tc.errcode)
		}
	}
	// No refusal has used it up.
	if got := ask(t, p, tokenURL(appid, officialAS, fresh)); got.Openid != sandbox.OpenID(appid, "1") {
		t.Errorf("after the refusals: %+v", got)
	}
	old, oldMini := login(t, p, appid, ""), login(t, p, miniApp, "")
	at.set(at.now().Add(5 * time.Minute))
	if got := ask(t, p, tokenURL(appid, officialAS, old)); got.Errcode != 42003 {
		t.Errorf("an old code: %+v", got)
	}
	if got := ask(t, p, sessionURL(miniApp, secret[miniApp], oldMini)); got.Errcode != 40029 {
		t.Errorf("a mini program's old code: %+v", got)
	}
	if _, err := p.Login("wx0000000000000000", ""); !errors.Is(err, sandbox.ErrNoApp) {
		t.Errorf("login to nothing: %v", err)
	}
	if _, err := p.Login(appid, "a b"); err == nil {
		t.Error("a user with a blank")
	}
}

func authorizeURL(redirect, scope, state string) string {
	return "/connect/oauth2/authorize?appid=" + appid + "&redirect_uri=" + url.QueryEscape(redirect) + "&response_type=code&scope=" + scope + "&state=" + state
}

// TestAuthorize: the page sends the browser back with a code and the state, or
// shows the number that WeChat shows.
func TestAuthorize(t *testing.T) {
	p := newAccounts(t, nil)
	back := func(target string) url.Values {
		t.Helper()
		w := serve(p, httptest.NewRequest("GET", target, nil))
		to, err := url.Parse(w.Header().Get("Location"))
		if w.Code != 302 || err != nil || to.Host != "shop.example.com" || to.Fragment != "/cart" {
			t.Fatalf("%d %s %s", w.Code, w.Header().Get("Location"), w.Body)
		}
		return to.Query()
	}
	const redirect = "https://shop.example.com/back?x=1#/cart"
	q := back(authorizeURL(redirect, "snsapi_base", "s1"))
	if q.Get("x") != "1" || q.Get("state") != "s1" {
		t.Errorf("back with %v", q)
	}
	got := ask(t, p, tokenURL(appid, officialAS, q.Get("code")))
	if got.Openid != sandbox.OpenID(appid, "1") || got.Unionid != "" {
		t.Errorf("snsapi_base: %+v", got)
	}
	page := serve(p, httptest.NewRequest("GET", authorizeURL(redirect, "snsapi_userinfo", "s2"), nil))
	if page.Code != 200 || !strings.Contains(page.Body.String(), "&amp;user=2") || !strings.Contains(page.Body.String(), "shop.example.com") {
		t.Fatalf("%d %s", page.Code, page.Body)
	}
	q = back(authorizeURL(redirect, "snsapi_userinfo", "s2") + "&user=2")
	if got := ask(t, p, tokenURL(appid, officialAS, q.Get("code"))); got.Openid != sandbox.OpenID(appid, "2") || got.Unionid == "" {
		t.Errorf("snsapi_userinfo: %+v", got)
	}

	fine := authorizeURL(redirect, "snsapi_base", "s")
	for _, tc := range []struct{ name, target, number string }{
		{"another domain", authorizeURL("https://evil.example/", "snsapi_base", "s"), "10003"},
		{"a user name", authorizeURL("https://shop.example.com@evil.example/", "snsapi_base", "s"), "10003"},
		{"another scheme", authorizeURL("javascript:alert(1)", "snsapi_base", "s"), "10003"},
		{"a relative URL", authorizeURL("/back", "snsapi_base", "s"), "10003"},
		{"no domain configured", strings.Replace(fine, appid, otherApp, 1), "10003"},
		{"another scope", authorizeURL(redirect, "snsapi_login", "s"), "10005"},
		{"an unknown appid", strings.Replace(fine, appid, "wx0000000000000000", 1), "10005"},
		{"a mini program", strings.Replace(fine, appid, miniApp, 1), "10016"},
		{"no scope", authorizeURL(redirect, "", "s"), "10010"},
		{"no redirect_uri", authorizeURL("", "snsapi_base", "s"), "10011"},
		{"no appid", strings.Replace(fine, appid, "", 1), "10012"},
		{"another order", "/connect/oauth2/authorize?redirect_uri=" + url.QueryEscape(redirect) + "&appid=" + appid + "&response_type=code&scope=snsapi_base&state=s", "顺序"},
		{"another response_type", strings.Replace(fine, "=code", "=token", 1), "顺序"},
		{"a further parameter", fine + "&x=1", "顺序"},
	} {
		w := serve(p, httptest.NewRequest("GET", tc.target, nil))
		if w.Code != 200 || w.Header().Get("Location") != "" || !strings.Contains(w.Body.String(), tc.number) {
			t.Errorf("%s: %d %s %s", tc.name, w.Code, w.Header().Get("Location"), w.Body)
		}
	}
	// An app without domains goes back to this machine only.
	local := strings.Replace(authorizeURL("http://127.0.0.1:1/x", "snsapi_base", "s"), appid, otherApp, 1)
	if w := serve(p, httptest.NewRequest("GET", local, nil)); w.Code != 302 || !strings.HasPrefix(w.Header().Get("Location"), "http://127.0.0.1:1/x?code=") {
		t.Errorf("to this machine: %d %s", w.Code, w.Header().Get("Location"))
	}
	if w := serve(p, httptest.NewRequest("GET", fine+"&user=a%20b", nil)); w.Code != 400 {
		t.Errorf("an impossible user: %d", w.Code)
	}
}

// TestForeignOpenid: an openid that was issued for one appid pays in no order of
// another.
func TestForeignOpenid(t *testing.T) {
	p := newAccounts(t, nil)
	c := newClient(t, p, mchid)
	openid := ask(t, p, sessionURL(miniApp, secrets(t, p)[miniApp], login(t, p, miniApp, "ann"))).Openid
	body := func(number, app, payer string) string {
		return `{"mchid":"` + mchid + `","appid":"` + app + `","description":"tea","out_trade_no":"` + number + `","notify_url":"` + notify +
			`","payer":{"openid":"` + payer + `"},"amount":{"total":1}}`
	}
	status, answer := c.call("POST", "/v3/pay/transactions/jsapi", body("FOREIGN-1", appid, openid))
	if status != 400 || codeOf(t, answer) != "INVALID_REQUEST" || !strings.Contains(answer, "不匹配") {
		t.Errorf("foreign: %d %s", status, answer)
	}
	for number, pair := range map[string][2]string{"FOREIGN-2": {miniApp, openid}, "FOREIGN-3": {appid, sandbox.OpenID(appid, "ann")}, "FOREIGN-4": {appid, "oNobodyKnows"}} {
		if status, answer := c.call("POST", "/v3/pay/transactions/jsapi", body(number, pair[0], pair[1])); status != 200 {
			t.Errorf("%s: %d %s", number, status, answer)
		}
	}
}

// TestLoginControl: tests in other processes log users in, too.
func TestLoginControl(t *testing.T) {
	p := newAccounts(t, nil)
	w := serve(p, local("POST", "/sandbox/control/login", `{"appid":"`+miniApp+`","user":"ann"}`))
	var got struct{ Code, Openid string }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if answer := ask(t, p, sessionURL(miniApp, secrets(t, p)[miniApp], got.Code)); answer.Openid != got.Openid {
		t.Errorf("%+v, want %s", answer, got.Openid)
	}
	if w := serve(p, local("POST", "/sandbox/control/login", `{"appid":"wx0"}`)); w.Code != 400 {
		t.Errorf("no such app: %d %s", w.Code, w.Body)
	}
}

func TestAppOptions(t *testing.T) {
	for name, merchants := range map[string][]sandbox.Merchant{
		"type":        {{Mchid: mchid, Appid: appid, AppType: "web"}},
		"secret":      {{Mchid: mchid, Appid: appid, AppSecret: "a b"}},
		"two types":   {{Mchid: mchid, Appid: appid, AppType: sandbox.AppMobile}, {Mchid: other, Appid: appid, AppType: sandbox.AppOfficial}},
		"two secrets": {{Mchid: mchid, Appid: appid, AppSecret: "a"}, {Mchid: other, Appid: appid, AppSecret: "b"}},
	} {
		if p, err := sandbox.New(sandbox.Options{Merchants: merchants}); err == nil {
			_ = p.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzOpenPlatform: no query makes the pages fail, redirects anywhere but to the
// app's own domains, or gets an openid without a code.
func FuzzOpenPlatform(f *testing.F) {
	p := newAccounts(f, nil)
	f.Add("appid=" + appid + "&redirect_uri=https%3A%2F%2Fshop.example.com&response_type=code&scope=snsapi_base&state=s")
	f.Add("appid=" + appid + "&redirect_uri=https%3A%2F%2Fshop.example.com%5C@evil.example&response_type=code&scope=snsapi_userinfo&state=s&user=2")
	f.Add("appid=" + appid + "&secret=" + officialAS + "&code=x&grant_type=authorization_code")
	f.Add("%zz;;&&=")
	f.Fuzz(func(t *testing.T, query string) {
		for i := range len(query) {
			if query[i] <= ' ' || query[i] > '~' || query[i] == '#' {
				return
			}
		}
		w := serve(p, httptest.NewRequest("GET", "/connect/oauth2/authorize?"+query, nil))
		if to := w.Header().Get("Location"); w.Code >= 500 || to != "" {
			u, err := url.Parse(to)
			if err != nil || !strings.EqualFold(u.Hostname(), "shop.example.com") && u.Hostname() != "127.0.0.1" && u.Hostname() != "::1" && !strings.EqualFold(u.Hostname(), "localhost") && !strings.HasPrefix(u.Hostname(), "127.") {
				t.Fatalf("%d to %s", w.Code, to)
			}
		}
		for _, path := range []string{"/sns/oauth2/access_token?", "/sns/jscode2session?"} {
			if got := ask(t, p, path+query); got.Errcode == 0 || got.Openid != "" {
				t.Fatalf("%+v", got)
			}
		}
	})
}
