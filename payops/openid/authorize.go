package openid

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// Scope is what a user is asked for.
type Scope string

// The scopes of an official account.
const (
	// ScopeBase gives the openid without asking the user. The default.
	ScopeBase Scope = "snsapi_base"
	// ScopeUserinfo asks the user. The guide names it as the way around 10005.
	ScopeUserinfo Scope = "snsapi_userinfo"
)

// Authorize is what an authorize URL is made of.
type Authorize struct {
	// RedirectURI is where the browser comes back to: http or https, on one of
	// the app's domains, at most 2048 characters.
	RedirectURI string
	// Scope; "" stands for [ScopeBase].
	Scope Scope
	// State comes back as it is: up to 128 letters and digits. Put something
	// there that only this browser's session knows, else anybody can hand the
	// user a code of their own. "": none.
	State string
}

const maxRedirectURI = 2048

var (
	stateForm = regexp.MustCompile(`^[0-9a-zA-Z]{1,128}$`)
	// uriForm is the characters of RFC 3986, the fragment's # included: browsers
	// read others, such as a backslash, in ways of their own.
	uriForm = regexp.MustCompile(`^[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+$`)
)

// AuthorizeURL returns the page that a user's browser is sent to, at the origin
// base, with the parameters in WeChat's order, without which its page does not
// open. The error is an *[Error].
// https://developers.weixin.qq.com/doc/offiaccount/OA_Web_Apps/Wechat_webpage_authorization.html
func AuthorizeURL(base string, app merchant.App, a Authorize) (string, error) {
	scope := a.Scope
	if scope == "" {
		scope = ScopeBase
	}
	switch {
	case app.Type != merchant.AppOfficial:
		return "", refuse(ReasonScope, "the authorize page and its scopes belong to official accounts (公众号): a mini program gets its code from wx.login, an app from the SDK's SendAuth")
	case scope != ScopeBase && scope != ScopeUserinfo:
		return "", refuse(ReasonScope, "scope must be snsapi_base or snsapi_userinfo; for another one WeChat's page says 错误码10005, 此公众号并没有这些scope的权限")
	case a.State != "" && !stateForm.MatchString(a.State):
		return "", refuse(ReasonState, "state must be up to 128 letters and digits, as WeChat has it")
	}
	if err := checkRedirect(app, a.RedirectURI); err != nil {
		return "", err
	}
	to := base + "/connect/oauth2/authorize?appid=" + url.QueryEscape(app.Appid) +
		"&redirect_uri=" + url.QueryEscape(a.RedirectURI) +
		"&response_type=code&scope=" + string(scope)
	if a.State != "" {
		to += "&state=" + a.State
	}
	return to + "#wechat_redirect", nil
}

// checkRedirect refuses a URL that WeChat would not send users back to, or that
// would hand their codes to somebody else.
func checkRedirect(app merchant.App, text string) error {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return refuse(ReasonRedirect, "redirect_uri is missing: the page that the user comes back to")
	case len(text) > maxRedirectURI || !uriForm.MatchString(text) || err != nil || u.Opaque != "" || u.Host == "":
		return refuse(ReasonRedirect, "redirect_uri must be an absolute URL of at most 2048 characters, all of them ASCII and none left unescaped")
	case u.Scheme != "https" && u.Scheme != "http":
		return refuse(ReasonRedirect, "redirect_uri must be https or http")
	case u.User != nil:
		return refuse(ReasonRedirect, "redirect_uri must hold no user name or password")
	}
	// The scheme's own port may stand in the URL, in the list, in both or neither.
	port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
	host := strings.TrimSuffix(strings.ToLower(u.Host), port)
	switch {
	case len(app.Domains) == 0:
		return refuse(ReasonRedirect, "the app lists no domain; add domain <host> to its line, the same one as in "+consoleDomain)
	case !slices.Contains(app.Domains, host) && !slices.Contains(app.Domains, host+port):
		return refuse(ReasonRedirect, "the domain of redirect_uri is not one that the app lists; add it there and to "+consoleDomain+
			", without which WeChat's page says 错误码10003, redirect_uri域名与后台配置不一致")
	}
	return nil
}

// consoleDomain is where the guide says that domains are configured.
const consoleDomain = "公众平台 > 设置 > 公众号设置 > 功能设置 > 网页授权域名"

// PageErrors explains the errors that WeChat's authorize page shows to the user,
// by number, as the guide does. Nothing of them reaches the merchant: who sees
// one looks here.
func PageErrors() map[string]string {
	return map[string]string{
		"10003": "redirect_uri域名与后台配置不一致: the domain of redirect_uri is not configured for the app: add it in " + consoleDomain +
			"; and the appid must be the one that the order is placed with.",
		"10005": "此公众号并没有这些scope的权限: the account may not use the scope: a subscription account (订阅号) or one that is not verified (未认证), " +
			"one whose verification has run out, or a wrong appid; else try snsapi_userinfo.",
	}
}
