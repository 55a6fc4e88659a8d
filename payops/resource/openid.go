package resource

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/openid"
)

// authorization is where a user's browser is sent to, and what its page may say.
type authorization struct {
	AuthorizeURL string `json:"authorize_url"`
	// PageErrors explains the numbers that WeChat's page shows to the user; none
	// of them reaches the merchant.
	PageErrors map[string]string `json:"page_errors"`
}

// authorize builds the URL of WeChat's authorize page; ?redirect=1 sends the
// browser there.
func (rs *Resources) authorize(r *Request) Response {
	if refused := r.noBody(); refused.Refused() {
		return refused
	}
	values, refused := r.Values("appid", "redirect_uri", "scope", "state", "redirect")
	if refused.Refused() {
		return refused
	}
	if values.Has("redirect") && values.Get("redirect") != "1" {
		return badRequest(RulePath, "redirect takes 1 and nothing else")
	}
	app, refused := rs.app(values.Get("appid"), merchant.AppOfficial)
	if refused.Refused() {
		return refused
	}
	_, base := rs.Merchant.OpenIDBases()
	to, err := openid.AuthorizeURL(base, app, openid.Authorize{
		RedirectURI: values.Get("redirect_uri"), Scope: openid.Scope(values.Get("scope")), State: values.Get("state"),
	})
	if err != nil {
		return rs.noOpenID(app, err)
	}
	if values.Has("redirect") {
		return Response{Status: http.StatusFound, Header: http.Header{"Location": {to}, "Cache-Control": {"no-store"}}}
	}
	return respond(http.StatusOK, authorization{to, openid.PageErrors()})
}

// codeBody is a code that WeChat gave to a page, a mini program or an app.
type codeBody struct {
	Appid string `json:"appid"`
	Code  string `json:"code"`
}

// identity is who a user is to an app.
type identity struct {
	Appid   string `json:"appid"`
	Openid  string `json:"openid"`
	Unionid string `json:"unionid,omitempty"`
}

// exchangeCode exchanges a code for an openid.
func (rs *Resources) exchangeCode(r *Request) Response {
	if _, refused := r.Values(); refused.Refused() {
		return refused
	}
	var body codeBody
	if refused := r.decode(&body, false); refused.Refused() {
		return refused
	}
	app, refused := rs.app(body.Appid, "")
	if refused.Refused() {
		return refused
	}
	if rs.Merchant.Sandbox() && app.Secret.Empty() && rs.Merchant.Ready() != nil {
		return later(refuse(http.StatusServiceUnavailable, codeSystem, RuleUnreachable, "the sandbox has not given its keys yet"), time.Second)
	}
	base, _ := rs.Merchant.OpenIDBases()
	user, err := openid.Client{Base: base, HTTP: rs.Merchant.HTTPClient()}.Exchange(r.Core.Live(), app, body.Code)
	if err != nil {
		return rs.noOpenID(app, err)
	}
	if rs.KnowOpenID != nil {
		if err := rs.KnowOpenID(r.Core.Context(), app.Appid, user.Openid); err != nil {
			// The code is used up and the openid right: the user is not sent back.
			rs.Logger.Error("the app of an openid is not remembered", "appid", app.Appid, "error", err)
		}
	}
	return respond(http.StatusOK, identity{app.Appid, user.Openid, user.Unionid})
}

// app returns the app of an appid; without one the merchant's first, of the kind
// if one is named.
func (rs *Resources) app(appid string, kind merchant.AppType) (merchant.App, Response) {
	if appid != "" {
		if app, ok := rs.Merchant.App(appid); ok {
			return app, Response{}
		}
		return merchant.App{}, badRequest(RuleAppid, "the appid is not one of the merchant's apps; add app <appid> <type> to its block")
	}
	for _, app := range rs.Merchant.Apps() {
		if kind == "" || app.Type == kind {
			return app, Response{}
		}
	}
	return merchant.App{}, badRequest(RuleAppid, "the merchant has no such app; name an appid, and add app <appid> <type> to its block")
}

// noOpenID is the answer when there is no openid or no URL.
func (rs *Resources) noOpenID(app merchant.App, err error) Response {
	var why *openid.Error
	if !errors.As(err, &why) {
		return unreachable("the exchange failed")
	}
	status, code, wait := http.StatusBadRequest, codeParam, time.Duration(0)
	switch why.Reason {
	case openid.ReasonRedirect, openid.ReasonScope, openid.ReasonState, openid.ReasonCode:
	case openid.ReasonUser:
		status, code = http.StatusForbidden, codeNoAuth
	case openid.ReasonSecret:
		status, code = http.StatusInternalServerError, codeSystem
		rs.Logger.Error("an app's openid exchange is not set up", "appid", app.Appid, "errcode", why.Errcode)
	case openid.ReasonRate:
		status, code, wait = http.StatusTooManyRequests, codeRate, time.Minute
	case openid.ReasonBusy:
		status, code, wait = http.StatusServiceUnavailable, codeSystem, time.Second
	case openid.ReasonUnreachable:
		status, code = http.StatusBadGateway, codeSystem
		if why.Timeout {
			status = http.StatusGatewayTimeout
		}
		rs.Logger.Warn("an openid exchange failed", "appid", app.Appid, "errcode", why.Errcode, "timeout", why.Timeout)
	}
	var detail any
	if why.Errcode != 0 {
		detail = struct {
			Errcode int `json:"errcode"`
		}{why.Errcode}
	}
	refused := refuseWith(status, code, string(why.Reason), why.Message, detail)
	if wait > 0 {
		refused = later(refused, wait)
	}
	return refused
}
