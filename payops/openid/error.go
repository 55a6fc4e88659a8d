package openid

import "strconv"

// Reason says why there is no openid or no URL.
type Reason string

// The reasons.
const (
	ReasonRedirect    Reason = "openid_redirect"    // the redirect_uri is refused
	ReasonScope       Reason = "openid_scope"       // the scope, or that there is one at all
	ReasonState       Reason = "openid_state"       // the state is not WeChat's spelling
	ReasonCode        Reason = "openid_code"        // the code is wrong, used or too old: get another one
	ReasonUser        Reason = "openid_user"        // WeChat gives no usable openid of this user
	ReasonSecret      Reason = "openid_secret"      // the app's AppSecret or rights: an operator's business
	ReasonRate        Reason = "openid_rate"        // too many exchanges
	ReasonBusy        Reason = "openid_busy"        // WeChat says to try again
	ReasonUnreachable Reason = "openid_unreachable" // no answer, or none that can be read
)

// Error says why there is no openid or no URL. It holds no secret, code, openid
// or URL.
type Error struct {
	Reason Reason
	// Errcode is WeChat's number, 0 when it said none.
	Errcode int
	// Timeout is set when it is unreachable because time ran out.
	Timeout bool
	// Message says what to do about it.
	Message string
}

// Error is the message, with WeChat's number.
func (e *Error) Error() string {
	if e.Errcode == 0 {
		return "openid: " + e.Message
	}
	return "openid: " + e.Message + " (errcode " + strconv.Itoa(e.Errcode) + ")"
}

func refuse(reason Reason, message string) *Error { return &Error{Reason: reason, Message: message} }

// explained are WeChat's numbers that have a cause one can do something about.
// https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
var explained = map[int]struct {
	reason  Reason
	message string
}{
	40029: {ReasonCode, "the code is not valid: it was made up, cut short, or belongs to another appid; have the user authorize (or call wx.login) again"},
	40163: {ReasonCode, "the code has been used: each is good for one exchange; have the user authorize (or call wx.login) again"},
	41008: {ReasonCode, "the code is missing"},
	42003: {ReasonCode, "the code is older than five minutes; have the user authorize (or call wx.login) again"},
	40226: {ReasonUser, "WeChat has blocked the login of this user as a high risk"},
	40013: {ReasonSecret, "WeChat does not know the appid for this exchange: check the app's line, official, miniprogram or app"},
	40125: {ReasonSecret, "the AppSecret is wrong: it was reset in the platform's console, or belongs to another appid; correct the secret of the app's line"},
	40001: {ReasonSecret, "the AppSecret is wrong: it was reset in the platform's console, or belongs to another appid; correct the secret of the app's line"},
	41002: {ReasonSecret, "the appid is missing"},
	41004: {ReasonSecret, "the AppSecret is missing"},
	40164: {ReasonSecret, "the gateway's address is not on the app's IP whitelist in the platform's console"},
	48001: {ReasonSecret, "the account has no right to this interface: a subscription account (订阅号) or one that is not verified (未认证)"},
	50002: {ReasonSecret, "the account is frozen"},
	45009: {ReasonRate, "the app's exchanges of the day are used up"},
	45011: {ReasonRate, "too many exchanges within a minute"},
	10003: {ReasonRedirect, "redirect_uri域名与后台配置不一致: its domain is not configured for the app in " + consoleDomain},
	10005: {ReasonScope, "此公众号并没有这些scope的权限: a subscription account (订阅号) or one that is not verified (未认证), or a wrong appid"},
	-1:    {ReasonBusy, "WeChat is busy; try again with the same code"},
}

// refusal is what WeChat's number comes down to. Its text is not repeated: it
// may hold what was sent.
func refusal(errcode int) *Error {
	if e, ok := explained[errcode]; ok {
		return &Error{Reason: e.reason, Errcode: errcode, Message: e.message}
	}
	return &Error{Reason: ReasonUnreachable, Errcode: errcode, Message: "WeChat refuses the exchange for a reason that this gateway does not know"}
}
