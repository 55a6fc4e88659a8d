package invoke

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// Way says who opens the payment.
type Way string

// The ways that need signed parameters. Native and H5 orders need none: their
// code_url and h5_url are all that a frontend gets.
const (
	WayJSAPI       Way = "jsapi"       // a page in WeChat (公众号)
	WayMiniProgram Way = "miniprogram" // 小程序
	WayApp         Way = "app"         // an app on the phone
)

// Ways lists every way. The slice is the caller's.
func Ways() []Way { return slices.Clone(ways) }

var ways = []Way{WayJSAPI, WayMiniProgram, WayApp}

// Errors of [Signer.Sign]; what the caller gave is not repeated in them.
var (
	// ErrWay: the way is none of [Ways].
	ErrWay = errors.New("invoke: the way is not jsapi, miniprogram or app")
	// ErrAppid: the appid is not spelled as WeChat spells them.
	ErrAppid = errors.New("invoke: the appid is not wx and 16 letters or digits")
	// ErrPrepayID: the prepay_id is not spelled as WeChat spells them.
	ErrPrepayID = errors.New("invoke: the prepay_id is not one of WeChat's: letters and digits that begin with wx and a date")
)

// How WeChat spells what is signed. A prepay_id is string(64); those of today
// are "wx", day and time, and letters or digits, some with "up_" before; older
// ones leave out "wx" or write it in capitals.
// https://pay.weixin.qq.com/doc/v3/merchant/4012791897
var (
	appidForm    = regexp.MustCompile(`^wx[0-9a-zA-Z]{16}$`)
	prepayIDForm = regexp.MustCompile(`^(?:up_)?(?:wx|WX)?[0-9]{8}[0-9A-Za-z]{8,50}$`)
)

// ValidPrepayID reports whether text is spelled as WeChat spells prepay ids.
func ValidPrepayID(text string) bool { return prepayIDForm.MatchString(text) }

// Parameters are what the frontend passes on, of the type that belongs to the
// way: [JSAPI] or [App]. Their JSON is what WeChat's clients take.
type Parameters interface{ parameters() }

// JSAPI are the parameters of WeixinJSBridge's getBrandWCPayRequest and of
// wx.requestPayment; the latter ignores appId.
// https://pay.weixin.qq.com/doc/v3/merchant/4012791898
type JSAPI struct {
	AppID     string `json:"appId"`
	TimeStamp string `json:"timeStamp"` // seconds since 1970, as text
	NonceStr  string `json:"nonceStr"`
	Package   string `json:"package"`  // "prepay_id=" and the id
	SignType  string `json:"signType"` // "RSA"
	PaySign   string `json:"paySign"`
}

// App are the parameters of the app SDK's PayReq.
// https://pay.weixin.qq.com/doc/v3/merchant/4013070351
type App struct {
	Appid string `json:"appid"`
	// Partnerid is the mchid that placed the order: mchid, combine_mchid, and
	// sp_mchid of a partner order. The page says 商户号mchid for all of them;
	// that a partner order's is sp_mchid, and never sub_mchid, is what the
	// official SDK does, and whose key signs.
	// https://github.com/wechatpay-apiv3/wechatpay-java (partnerpayments/app)
	Partnerid string `json:"partnerid"`
	Prepayid  string `json:"prepayid"`
	Package   string `json:"package"` // "Sign=WXPay"
	Noncestr  string `json:"noncestr"`
	Timestamp string `json:"timestamp"` // seconds since 1970, as text
	Sign      string `json:"sign"`
}

func (JSAPI) parameters() {}
func (App) parameters()   {}

// Signer makes parameters. The zero value is ready and safe for concurrent use.
type Signer struct {
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Rand gives the nonces. Default: crypto/rand.
	Rand io.Reader
}

// Sign returns the parameters that open the payment of prepayID in the way
// named. appid is the one the order was placed for (of a partner order sp_appid
// or sub_appid), credential the merchant's that placed it. WeChat takes them as
// long as the prepay_id lives: two hours from the order. The error matches
// [ErrWay], [ErrAppid], [ErrPrepayID] or merchant.ErrNoKeys.
func (s Signer) Sign(ctx context.Context, credential merchant.Credential, way Way, appid, prepayID string) (Parameters, error) {
	switch {
	case !slices.Contains(ways, way):
		return nil, ErrWay
	case !appidForm.MatchString(appid):
		return nil, ErrAppid
	case !prepayIDForm.MatchString(prepayID):
		return nil, ErrPrepayID
	}
	nonce, err := s.nonce()
	if err != nil {
		return nil, err
	}
	stamp := strconv.FormatInt(s.now().Unix(), 10)
	last := prepayID
	if way != WayApp {
		last = "prepay_id=" + prepayID
	}
	// Four lines: appid, time, nonce, and what is called package in a page and
	// prepayid in an app. https://pay.weixin.qq.com/doc/v3/merchant/4012365341
	signed, err := credential.Sign(ctx, appid+"\n"+stamp+"\n"+nonce+"\n"+last+"\n")
	if err != nil {
		return nil, fmt.Errorf("invoke: sign: %w", err)
	}
	if way == WayApp {
		return App{
			Appid: appid, Partnerid: credential.Mchid(), Prepayid: prepayID, Package: "Sign=WXPay",
			Noncestr: nonce, Timestamp: stamp, Sign: signed.Signature,
		}, nil
	}
	return JSAPI{
		AppID: appid, TimeStamp: stamp, NonceStr: nonce, Package: last,
		SignType: "RSA", PaySign: signed.Signature,
	}, nil
}

func (s Signer) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// nonce returns 32 characters, the most WeChat takes.
func (s Signer) nonce() (string, error) {
	source := s.Rand
	if source == nil {
		source = rand.Reader
	}
	var b [16]byte
	if _, err := io.ReadFull(source, b[:]); err != nil {
		return "", fmt.Errorf("invoke: no randomness for a nonce: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
