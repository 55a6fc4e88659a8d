package sandbox

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// AppType is what an appid belongs to.
type AppType string

// The types of apps. The zero value is AppOfficial.
const (
	AppOfficial    AppType = "official"    // 公众号: users authorize on a page
	AppMiniProgram AppType = "miniprogram" // 小程序: wx.login
	AppMobile      AppType = "app"         // 移动应用: the SDK's SendAuth
)

// App is one appid as its owner knows it from the open platform.
type App struct {
	Appid   string   `json:"appid"`
	Type    AppType  `json:"type"`
	Secret  string   `json:"secret"`            // AppSecret
	Domains []string `json:"domains,omitempty"` // 网页授权域名
}

const (
	codeLife = 5 * time.Minute
	maxCodes = 100_000
	// scopeBase asks nobody, scopeUserinfo asks the user.
	scopeBase     = "snsapi_base"
	scopeUserinfo = "snsapi_userinfo"
)

// loginCode is a code on its way from WeChat to a merchant.
type loginCode struct {
	appid, user, scope string
	issued             time.Time
	used               bool
}

// accounts are the open platform: its apps, and who logged in where. It is
// guarded by the platform's mu, but for apps, which is fixed after New.
type accounts struct {
	apps    map[string]*App
	codes   map[string]*loginCode
	order   []string          // of codes, oldest first
	openids map[string]string // issued ones, to the appid
}

var (
	userPattern   = regexp.MustCompile(`^[0-9A-Za-z_.@-]{1,64}$`)
	secretPattern = regexp.MustCompile(`^[!-~]{1,128}$`)
)

// defaultUser is who logs in when nobody is named.
const defaultUser = "1"

// addApp takes in the appid of one entry; two merchants may share one.
func (p *Platform) addApp(m Merchant) error {
	switch m.AppType {
	case "", AppOfficial, AppMiniProgram, AppMobile:
	default:
		return fmt.Errorf("sandbox: appid %s: type %q: want official, miniprogram or app", m.Appid, m.AppType)
	}
	if m.AppSecret != "" && !secretPattern.MatchString(m.AppSecret) {
		return fmt.Errorf("sandbox: appid %s: the AppSecret is not 1 to 128 visible characters", m.Appid)
	}
	app := p.accounts.apps[m.Appid]
	if app == nil {
		app = &App{Appid: m.Appid}
		p.accounts.apps[m.Appid] = app
	}
	if m.AppType != "" && app.Type != "" && app.Type != m.AppType || m.AppSecret != "" && app.Secret != "" && app.Secret != m.AppSecret {
		return fmt.Errorf("sandbox: appid %s has one type or AppSecret in one entry and another in another", m.Appid)
	}
	if m.AppType != "" {
		app.Type = m.AppType
	}
	if m.AppSecret != "" {
		app.Secret = m.AppSecret
	}
	for _, d := range m.Domains {
		app.Domains = append(app.Domains, strings.ToLower(d))
	}
	return nil
}

// finishApps fills in what no entry said.
func (p *Platform) finishApps() {
	for _, appid := range slices.Sorted(maps.Keys(p.accounts.apps)) { // in an order that a test's Rand can rely on
		app := p.accounts.apps[appid]
		if app.Type == "" {
			app.Type = AppOfficial
		}
		if app.Secret == "" {
			app.Secret = p.randomFrom("0123456789abcdef", 32)
		}
	}
}

// ErrNoApp is returned for an appid that no merchant of the platform has.
var ErrNoApp = errors.New("sandbox: no merchant has this appid")

// OpenID returns who user is to the app appid: the same whenever it is asked,
// on every platform. User names are made up by tests; "" stands for "1".
func OpenID(appid, user string) string {
	if user == "" {
		user = defaultUser
	}
	sum := sha256.Sum256([]byte("openid\n" + appid + "\n" + user))
	return "o" + base64.RawURLEncoding.EncodeToString(sum[:])[:27]
}

// unionID returns who user is to all apps of the open platform account.
func unionID(user string) string {
	sum := sha256.Sum256([]byte("unionid\n" + user))
	return "o" + base64.RawURLEncoding.EncodeToString(sum[:])[:27]
}

// Login is a user who opens a mini program (wx.login) or logs in to an app
// (SendAuth): it returns the code that the program hands to its backend, good
// for one exchange within five minutes. user is as for OpenID. A page of an
// official account gets its code from /connect/oauth2/authorize; a code from
// here serves it as well. ErrNoApp.
func (p *Platform) Login(appid, user string) (code string, err error) {
	return p.login(appid, user, scopeUserinfo)
}

func (p *Platform) login(appid, user, scope string) (code string, err error) {
	if user == "" {
		user = defaultUser
	}
	if !userPattern.MatchString(user) {
		return "", errors.New("sandbox: user: want 1 to 64 letters, digits and _.@-")
	}
	if p.accounts.apps[appid] == nil {
		return "", ErrNoApp
	}
	code = "0" + p.randomFrom("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 31)
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &p.accounts
	if len(a.order) == maxCodes {
		delete(a.codes, a.order[0])
		a.order = a.order[1:]
	}
	a.codes[code], a.order = &loginCode{appid: appid, user: user, scope: scope, issued: p.now()}, append(a.order, code)
	return code, nil
}

// foreignOpenidLocked reports whether an openid was issued for another appid.
func (p *Platform) foreignOpenidLocked(appid, openid string) bool {
	owner, issued := p.accounts.openids[openid]
	return issued && owner != appid
}

// checkPayerLocked refuses a payer who is nobody to the order's apps.
func (p *Platform) checkPayerLocked(o *order) *apiError {
	subAppid := ""
	for _, l := range o.lines {
		if l.subAppid != "" {
			subAppid = l.subAppid
			break
		}
	}
	if p.foreignOpenidLocked(o.appid, o.payer.openid) || p.foreignOpenidLocked(subAppid, o.payer.subOpenid) {
		return errInvalid("appid和openid不匹配")
	}
	return nil
}

// snsError is an error of the open platform, answered with status 200.
type snsError struct {
	Code    int    `json:"errcode"`
	Message string `json:"errmsg"`
}

// exchange serves GET /sns/oauth2/access_token and GET /sns/jscode2session
// (https://developers.weixin.qq.com/doc/offiaccount/OA_Web_Apps/Wechat_webpage_authorization.html,
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html).
func (p *Platform) exchange(mini bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Of the requests that hold an AppSecret nothing is logged.
		writeJSON(w, http.StatusOK, p.answerExchange(mini, r.URL.Query()))
	}
}

func (p *Platform) answerExchange(mini bool, q url.Values) any {
	fail := func(code int, message string) any {
		return snsError{code, message + ", rid: " + p.randomFrom("0123456789abcdef", 8) + "-" + p.randomFrom("0123456789abcdef", 8) + "-" + p.randomFrom("0123456789abcdef", 8)}
	}
	app, codeName := p.accounts.apps[q.Get("appid")], "code"
	if mini {
		codeName = "js_code"
	}
	switch {
	case q.Get("appid") == "":
		return fail(41002, "appid missing")
	case app == nil, mini != (app.Type == AppMiniProgram):
		return fail(40013, "invalid appid")
	case q.Get("secret") == "":
		return fail(41004, "appsecret missing")
	case subtle.ConstantTimeCompare([]byte(q.Get("secret")), []byte(app.Secret)) != 1:
		return fail(40125, "invalid appsecret")
	case q.Get("grant_type") != "authorization_code":
		return fail(40002, "invalid grant_type")
	case q.Get(codeName) == "":
		return fail(41008, "missing code")
	}
	p.mu.Lock()
	c := p.accounts.codes[q.Get(codeName)]
	known := c != nil && c.appid == app.Appid
	used := known && c.used
	old := known && p.now().Sub(c.issued) >= codeLife
	openid := ""
	if known && !used && !old {
		c.used = true
		openid = OpenID(app.Appid, c.user)
		if len(p.accounts.openids) < maxCodes {
			p.accounts.openids[openid] = app.Appid
		}
	}
	p.mu.Unlock()
	switch {
	case used:
		return fail(40163, "code been used")
	case old && !mini:
		return fail(42003, "oauth_code timeout")
	case openid == "":
		return fail(40029, "invalid code")
	}
	union := ""
	if c.scope == scopeUserinfo {
		union = unionID(c.user)
	}
	if mini {
		return struct {
			SessionKey string `json:"session_key"`
			Openid     string `json:"openid"`
			Unionid    string `json:"unionid,omitempty"`
		}{base64.StdEncoding.EncodeToString(p.randomBytes(16)), openid, union}
	}
	return struct {
		AccessToken  string `json:"access_token"`
		ExpiresIn    int    `json:"expires_in"`
		RefreshToken string `json:"refresh_token"`
		Openid       string `json:"openid"`
		Scope        string `json:"scope"`
		Unionid      string `json:"unionid,omitempty"`
	}{p.randomText(86), 7200, p.randomText(86), openid, c.scope, union}
}
