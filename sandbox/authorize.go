package sandbox

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// authorizePage is what the authorize page shows: an error, or whom to be.
type authorizePage struct {
	Error, Text string
	Appid, Host string
	Users       []authorizeUser
}

type authorizeUser struct{ Name, Link string }

// The errors of the authorize page, by WeChat's number
// (https://developers.weixin.qq.com/doc/offiaccount/OA_Web_Apps/Wechat_webpage_authorization.html).
var authorizeErrors = map[string]string{
	"10003": "redirect_uri域名与后台配置不一致，错误码:10003",
	"10005": "此公众号并没有这些scope的权限，错误码:10005",
	"10010": "scope不能为空，错误码:10010",
	"10011": "redirect_uri不能为空，错误码:10011",
	"10012": "appid不能为空，错误码:10012",
	"10016": "不支持微信开放平台的Appid，请使用公众号Appid，错误码:10016",
	"order": "页面无法打开：参数的个数或顺序不对，须依次为 appid、redirect_uri、response_type=code、scope、state",
}

// authorize serves GET /connect/oauth2/authorize, where a page of an official
// account sends its users. With snsapi_base the browser goes back at once, with
// snsapi_userinfo after a click. The sandbox takes "user" behind WeChat's own
// parameters, and is told there who it is that authorizes.
func (s *pageServer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	user := q.Get("user")
	app, number := s.p.checkAuthorize(r.URL.RawQuery, q)
	if number != "" {
		s.render(w, http.StatusOK, "authorize.html", authorizePage{Error: number, Text: authorizeErrors[number], Appid: q.Get("appid")})
		return
	}
	target, err := url.Parse(q.Get("redirect_uri"))
	if err != nil { // it was checked
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	if q.Get("scope") == scopeUserinfo && user == "" {
		page := authorizePage{Appid: app.Appid, Host: target.Host}
		for _, name := range []string{"1", "2", "3"} {
			page.Users = append(page.Users, authorizeUser{name, "/connect/oauth2/authorize?" + r.URL.RawQuery + "&user=" + name})
		}
		s.render(w, http.StatusOK, "authorize.html", page)
		return
	}
	code, err := s.p.login(app.Appid, user, q.Get("scope"))
	if err != nil {
		http.Error(w, strings.TrimPrefix(err.Error(), "sandbox: "), http.StatusBadRequest)
		return
	}
	// The query grows, what is there stays as it is.
	if target.RawQuery != "" {
		target.RawQuery += "&"
	}
	target.RawQuery += "code=" + code + "&state=" + url.QueryEscape(q.Get("state"))
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, target.String(), http.StatusFound)
}

// checkAuthorize returns the app, or the number of the error that WeChat shows.
func (p *Platform) checkAuthorize(raw string, q url.Values) (*App, string) {
	switch {
	case q.Get("appid") == "":
		return nil, "10012"
	case q.Get("redirect_uri") == "":
		return nil, "10011"
	case q.Get("scope") == "":
		return nil, "10010"
	}
	var names []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "user" })
	want := []string{"appid", "redirect_uri", "response_type", "scope", "state"}
	if !slices.Equal(names, want) && !slices.Equal(names, want[:4]) || q.Get("response_type") != "code" {
		return nil, "order"
	}
	app := p.accounts.apps[q.Get("appid")]
	switch {
	case app == nil, q.Get("scope") != scopeBase && q.Get("scope") != scopeUserinfo:
		return nil, "10005"
	case app.Type != AppOfficial:
		return nil, "10016"
	case !app.mayReturnTo(q.Get("redirect_uri")):
		return nil, "10003"
	}
	return app, ""
}

// mayReturnTo reports whether the URL's host is one of the app's, or, when it
// has none, this machine.
func (a *App) mayReturnTo(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Host == "" {
		return false
	}
	if len(a.Domains) > 0 {
		return slices.Contains(a.Domains, strings.ToLower(u.Host)) || slices.Contains(a.Domains, strings.ToLower(u.Hostname()))
	}
	host := u.Hostname()
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
