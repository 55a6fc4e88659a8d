package openid_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	. "github.com/caddy-wechatpay/caddy-wechatpay/payops/openid"
)

const open = "https://open.weixin.qq.com"

func official() merchant.App {
	return merchant.App{
		Appid: "wx8888888888888888", Type: merchant.AppOfficial, Secret: merchant.NewSecret(secret),
		Domains: []string{"shop.example.com", "127.0.0.1:8080", "m.example.com:8443", "s.example.com:443"},
	}
}

// TestAuthorizeURL holds WeChat's order of the parameters.
func TestAuthorizeURL(t *testing.T) {
	for _, tc := range []struct {
		a    Authorize
		want string
	}{
		{
			Authorize{RedirectURI: "https://shop.example.com/back?x=1&y=a%20b", Scope: ScopeUserinfo, State: "abc123"},
			"https://open.weixin.qq.com/connect/oauth2/authorize?appid=wx8888888888888888&redirect_uri=https%3A%2F%2Fshop.example.com%2Fback%3Fx%3D1%26y%3Da%2520b&response_type=code&scope=snsapi_userinfo&state=abc123#wechat_redirect",
		},
		{
			Authorize{RedirectURI: "https://shop.example.com"},
			"https://open.weixin.qq.com/connect/oauth2/authorize?appid=wx8888888888888888&redirect_uri=https%3A%2F%2Fshop.example.com&response_type=code&scope=snsapi_base#wechat_redirect",
		},
	} {
		got, err := AuthorizeURL(open, official(), tc.a)
		if err != nil || got != tc.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, tc.want)
		}
	}
	for _, redirect := range []string{
		"https://shop.example.com:443/", "http://shop.example.com/", "http://shop.example.com:80", "https://SHOP.example.com/",
		"http://127.0.0.1:8080/back", "https://s.example.com/", "https://s.example.com:443/", "https://m.example.com:8443/#/pay", "https://shop.example.com?state=other",
	} {
		if _, err := AuthorizeURL(open, official(), Authorize{RedirectURI: redirect, State: strings.Repeat("a", 128)}); err != nil {
			t.Errorf("%s: %v", redirect, err)
		}
	}
}

func TestAuthorizeRefusals(t *testing.T) {
	fine := "https://shop.example.com/back"
	for _, tc := range []struct {
		name string
		edit func(*merchant.App)
		a    Authorize
		want Reason
		say  string
	}{
		{"no redirect_uri", nil, Authorize{}, ReasonRedirect, "missing"},
		{"another host", nil, Authorize{RedirectURI: "https://evil.example/"}, ReasonRedirect, "10003"},
		{"a subdomain", nil, Authorize{RedirectURI: "https://a.shop.example.com/"}, ReasonRedirect, "10003"},
		{"the parent", nil, Authorize{RedirectURI: "https://example.com/"}, ReasonRedirect, "10003"},
		{"a longer host", nil, Authorize{RedirectURI: "https://shop.example.com.evil.example/"}, ReasonRedirect, "10003"},
		{"the root's dot", nil, Authorize{RedirectURI: "https://shop.example.com./"}, ReasonRedirect, "10003"},
		{"another port", nil, Authorize{RedirectURI: "https://shop.example.com:8443/"}, ReasonRedirect, "10003"},
		{"the other scheme's port", nil, Authorize{RedirectURI: "https://shop.example.com:80/"}, ReasonRedirect, "10003"},
		{"the list's port of the other scheme", nil, Authorize{RedirectURI: "http://s.example.com/"}, ReasonRedirect, "10003"},
		{"no port where one is listed", nil, Authorize{RedirectURI: "https://m.example.com/"}, ReasonRedirect, "10003"},
		{"a user name that looks like the host", nil, Authorize{RedirectURI: "https://shop.example.com@evil.example/"}, ReasonRedirect, "user name"},
		{"a user name", nil, Authorize{RedirectURI: "https://u:p@shop.example.com/"}, ReasonRedirect, "user name"},
		{"a backslash", nil, Authorize{RedirectURI: `https://evil.example\@shop.example.com/`}, ReasonRedirect, "ASCII"},
		{"a line end", nil, Authorize{RedirectURI: fine + "\r\nX: y"}, ReasonRedirect, "ASCII"},
		{"a blank", nil, Authorize{RedirectURI: " " + fine}, ReasonRedirect, "ASCII"},
		{"a tab", nil, Authorize{RedirectURI: "https://shop.example.com/\t"}, ReasonRedirect, "ASCII"},
		{"a wide host", nil, Authorize{RedirectURI: "https://ｓhop.example.com/"}, ReasonRedirect, "ASCII"},
		{"script", nil, Authorize{RedirectURI: "javascript:alert(1)//shop.example.com"}, ReasonRedirect, ""},
		{"data", nil, Authorize{RedirectURI: "data:text/html,shop.example.com"}, ReasonRedirect, ""},
		{"another scheme", nil, Authorize{RedirectURI: "ftp://shop.example.com/"}, ReasonRedirect, "https or http"},
		{"a scheme of an app", nil, Authorize{RedirectURI: "shop://shop.example.com/"}, ReasonRedirect, "https or http"},
		{"no scheme", nil, Authorize{RedirectURI: "//shop.example.com/"}, ReasonRedirect, "https or http"},
		{"a path", nil, Authorize{RedirectURI: "/back"}, ReasonRedirect, "absolute"},
		{"an escaped host", nil, Authorize{RedirectURI: "https://shop%2eexample.com.evil.example/"}, ReasonRedirect, ""},
		{"too long", nil, Authorize{RedirectURI: fine + strings.Repeat("a", 2048)}, ReasonRedirect, "2048"},
		{"no domain listed", func(a *merchant.App) { a.Domains = nil }, Authorize{RedirectURI: fine}, ReasonRedirect, "网页授权域名"},
		{"a scope of websites", nil, Authorize{RedirectURI: fine, Scope: "snsapi_login"}, ReasonScope, "10005"},
		{"a scope in capitals", nil, Authorize{RedirectURI: fine, Scope: "SNSAPI_BASE"}, ReasonScope, "10005"},
		{"two scopes", nil, Authorize{RedirectURI: fine, Scope: "snsapi_base,snsapi_userinfo"}, ReasonScope, "10005"},
		{"a mini program", func(a *merchant.App) { a.Type = merchant.AppMiniProgram }, Authorize{RedirectURI: fine, Scope: ScopeBase}, ReasonScope, "wx.login"},
		{"an app", func(a *merchant.App) { a.Type = merchant.AppMobile }, Authorize{RedirectURI: fine}, ReasonScope, "SendAuth"},
		{"a long state", nil, Authorize{RedirectURI: fine, State: strings.Repeat("a", 129)}, ReasonState, "128"},
		{"a state with a sign", nil, Authorize{RedirectURI: fine, State: "a-b"}, ReasonState, "letters"},
		{"a state that adds a parameter", nil, Authorize{RedirectURI: fine, State: "a&appid=wx1"}, ReasonState, "letters"},
		{"a state with a line end", nil, Authorize{RedirectURI: fine, State: "a\n"}, ReasonState, "letters"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := official()
			if tc.edit != nil {
				tc.edit(&app)
			}
			got, err := AuthorizeURL(open, app, tc.a)
			var e *Error
			if got != "" || !errors.As(err, &e) || e.Reason != tc.want {
				t.Fatalf("got %q, %v, want %s", got, err, tc.want)
			}
			if !strings.Contains(err.Error(), tc.say) {
				t.Errorf("%v does not say %q", err, tc.say)
			}
			if strings.Contains(err.Error(), "evil") {
				t.Errorf("%v repeats what was given", err)
			}
		})
	}
}

// TestPageErrors: the guide's two errors are explained with its own steps.
func TestPageErrors(t *testing.T) {
	errors := PageErrors()
	for number, words := range map[string][]string{
		"10003": {"网页授权域名", "appid", "redirect_uri"},
		"10005": {"订阅号", "未认证", "snsapi_userinfo", "appid"},
	} {
		for _, word := range words {
			if !strings.Contains(errors[number], word) {
				t.Errorf("%s does not mention %s", number, word)
			}
		}
	}
}
