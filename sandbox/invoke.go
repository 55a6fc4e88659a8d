package sandbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrInvoke is what parameters that WeChat would not open the payment for lead to.
var ErrInvoke = errors.New("sandbox: these parameters do not invoke a payment")

// Invoke is a user who pays in a mini program, an official account's page or an
// app: params are what the merchant's page hands to WeChat (调起支付), by name.
// Those of JSAPI are appId, timeStamp, nonceStr, package ("prepay_id=…"),
// signType ("RSA") and paySign; those of an app appid, partnerid, prepayid,
// package ("Sign=WXPay"), noncestr, timestamp and sign. The signature must be
// the ordering merchant's, the appid the order's and the way to pay the one it
// was placed for; else the error wraps ErrInvoke. f is as for Pay
// (https://pay.weixin.qq.com/doc/v3/merchant/4012365341).
func (p *Platform) Invoke(params map[string]string, f Faults) (Callback, error) {
	id, issue := p.checkInvoke(params)
	if issue != "" {
		return Callback{}, fmt.Errorf("%w: %s", ErrInvoke, issue)
	}
	return p.Pay(id, f)
}

// checkInvoke returns the prepay_id that params pay for, or what is wrong.
func (p *Platform) checkInvoke(params map[string]string) (prepayID, issue string) {
	trade, names := tradeJSAPI, []string{"appId", "timeStamp", "nonceStr", "package", "signType", "paySign"}
	if params["prepayid"] != "" {
		trade, names = tradeApp, []string{"appid", "timestamp", "noncestr", "prepayid", "package", "partnerid", "sign"}
	}
	if len(params) != len(names) {
		return "", "want " + strings.Join(names, ", ") + " and no other"
	}
	for _, n := range names {
		if params[n] == "" {
			return "", n + " is missing"
		}
	}
	var ok bool
	if trade == tradeApp {
		prepayID, ok = params["prepayid"], params["package"] == "Sign=WXPay"
	} else {
		prepayID, ok = strings.CutPrefix(params["package"], "prepay_id=")
		if params["signType"] != "RSA" {
			return "", "signType is not RSA"
		}
	}
	if !ok {
		return "", "package"
	}
	if _, err := strconv.ParseUint(params[names[1]], 10, 63); err != nil {
		return "", names[1] + " is not in seconds"
	}
	p.mu.Lock()
	o := p.byPrepay[prepayID]
	var order order
	if o != nil {
		order = o.copyLocked()
	}
	p.mu.Unlock()
	switch appid := params[names[0]]; {
	case o == nil:
		return "", "unknown prepay_id"
	case order.trade != trade:
		return "", "the order is not of this way to pay"
	case appid != order.appid && (order.kind != Partner || appid != order.lines[0].subAppid):
		return "", "the appid is not the order's"
	case trade == tradeApp && params["partnerid"] != order.mchid && (order.kind != Partner || params["partnerid"] != order.lines[0].subMchid):
		return "", "partnerid is not the order's"
	}
	text, signature := "", params[names[len(names)-1]]
	for _, n := range names[:4] {
		text += params[n] + "\n"
	}
	if !verifyText(p.merchants[order.mchid].publicKey, text, signature) {
		return "", "the signature is not the merchant's"
	}
	return prepayID, ""
}
