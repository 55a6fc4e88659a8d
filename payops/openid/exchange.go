package openid

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

const (
	// exchangeTimeout bounds one exchange, unless the context ends before.
	exchangeTimeout = 10 * time.Second
	// maxAnswer bounds WeChat's answer, in bytes; it is about 300.
	maxAnswer = 16 << 10
)

// Identity is who a user is to one app.
type Identity struct {
	Openid string
	// Unionid is the same in all apps of one open platform account; "" when
	// WeChat does not say.
	Unionid string
}

// Client exchanges codes. It is safe for concurrent use.
type Client struct {
	// Base is the origin that codes are exchanged at, such as
	// https://api.weixin.qq.com; nothing else is ever asked.
	Base string
	// HTTP makes the calls; it must follow no redirect, as
	// merchant.Merchant.HTTPClient does not.
	HTTP *http.Client
}

// codeForm is generous: codes are 32 letters and digits.
var codeForm = regexp.MustCompile(`^[0-9A-Za-z._~-]{1,512}$`)

// Exchange exchanges a code of app's for the user's identity, once: WeChat takes
// no code twice, so an exchange that timed out needs another code. The error is
// an *[Error].
func (c Client) Exchange(ctx context.Context, app merchant.App, code string) (Identity, error) {
	if !codeForm.MatchString(code) {
		return Identity{}, refuse(ReasonCode, "code must be the code that WeChat gave: up to 512 letters and digits")
	}
	if app.Secret.Empty() {
		return Identity{}, refuse(ReasonSecret, "the app has no AppSecret; add secret to its line")
	}
	path, codeName := "/sns/oauth2/access_token", "code"
	if app.Type == merchant.AppMiniProgram {
		// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html
		path, codeName = "/sns/jscode2session", "js_code"
	}
	query := "?appid=" + url.QueryEscape(app.Appid) + "&secret=" + url.QueryEscape(app.Secret.Reveal()) +
		"&" + codeName + "=" + url.QueryEscape(code) + "&grant_type=authorization_code"
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	body, err := c.get(ctx, c.Base+path+query)
	if err != nil {
		return Identity{}, err
	}
	return ParseAnswer(body)
}

// get asks once. The URL holds the AppSecret, and net/http repeats URLs in its
// errors: none of them leaves this function.
func (c Client) get(ctx context.Context, target string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, refuse(ReasonUnreachable, "openid_base makes no URL")
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "caddy-wechatpay")
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, failed(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, refuse(ReasonUnreachable, "the host of openid_base answers with another status than 200")
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, failed(ctx, err)
	}
	if len(body) > maxAnswer {
		return nil, refuse(ReasonUnreachable, "the host of openid_base answers with more than an answer")
	}
	return body, nil
}

// failed classifies an error of net/http without repeating it.
func failed(ctx context.Context, err error) *Error {
	var timeout interface{ Timeout() bool }
	if ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return &Error{Reason: ReasonUnreachable, Timeout: true, Message: "the host of openid_base gave no answer in time; the code may be used up, get another one"}
	}
	return refuse(ReasonUnreachable, "the host of openid_base cannot be reached, or broke the connection")
}

// idForm is openids and unionids: 28 characters as a rule.
var idForm = regexp.MustCompile(`^[0-9A-Za-z_-]{1,128}$`)

// ParseAnswer reads WeChat's answer to either exchange. Members that nobody here
// may have, access_token and session_key among them, are not even looked at. The
// error is an *[Error].
func ParseAnswer(body []byte) (Identity, error) {
	var answer struct {
		Errcode  int    `json:"errcode"`
		Openid   string `json:"openid"`
		Unionid  string `json:"unionid"`
		Snapshot int    `json:"is_snapshotuser"`
	}
	switch {
	case json.Unmarshal(body, &answer) != nil:
		return Identity{}, refuse(ReasonUnreachable, "the host of openid_base gives an answer that is not WeChat's")
	case answer.Errcode != 0:
		return Identity{}, refusal(answer.Errcode)
	case answer.Snapshot != 0:
		// 快照页模式: nobody can pay with what is an openid in form only.
		return Identity{}, refuse(ReasonUser, "the page was opened as a snapshot (快照页), whose user is not a real one; the user must open the full page (使用完整服务)")
	case !idForm.MatchString(answer.Openid), answer.Unionid != "" && !idForm.MatchString(answer.Unionid):
		return Identity{}, refuse(ReasonUnreachable, "the host of openid_base gives an answer without a readable openid")
	}
	return Identity{Openid: answer.Openid, Unionid: answer.Unionid}, nil
}
