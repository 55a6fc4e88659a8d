package sandbox

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Kind is the kind of an order.
type Kind string

// The kinds of orders the sandbox knows.
const (
	Basic         Kind = "basic"   // 基础支付 of a direct merchant
	Partner       Kind = "partner" // 基础支付 of a service provider
	Combine       Kind = "combine" // 合单支付
	ParkingCharge Kind = "parking" // 支付分停车: an order that 扣费受理 accepted
)

// TradeState is WeChat Pay's trade_state, as far as the sandbox goes.
type TradeState string

// The trade states of the sandbox.
const (
	NotPay   TradeState = "NOTPAY"
	Success  TradeState = "SUCCESS"
	Refunded TradeState = "REFUND" // 转入退款: paid, and a refund, of any part, is not CLOSED; queries only
	Closed   TradeState = "CLOSED"
	Accepted TradeState = "ACCEPTED" // 已接收，等待扣款: of a parking order only
	PayFail  TradeState = "PAY_FAIL" // 支付失败: of a parking order only
)

const (
	codeURLPrefix = "weixin://wxpay/bizpayurl?pr="
	h5URLPrefix   = "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id="
	prepayLife    = 2 * time.Hour // of a code_url and a prepay_id
	h5Life        = 5 * time.Minute
	orderLife     = 7 * 24 * time.Hour // an unpaid order closes by itself
	maxAmount     = int64(1e12)        // fen, of one sub-order; keeps every sum within int64
)

var (
	outTradeNoPattern = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{6,32}$`)
	combineNoPattern  = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{2,32}$`)
)

type numberKey struct{ mchid, number string }

// order is a basic or parking order (one line) or a combine order (its sub-orders).
type order struct {
	kind        Kind
	trade       tradeType
	mchid       string // of who signed; combine_mchid
	appid       string
	number      string // out_trade_no or combine_out_trade_no
	lines       []*line
	notifyURL   string
	deviceID    string
	expires     time.Time // time_expire; zero: none
	created     time.Time
	fingerprint [sha256.Size]byte
	pr          string // of the code_url; names the order's page whatever the trade type
	prepayID    string
	prIssued    time.Time // when pr and prepayID were
	state       TradeState
	payer       payerID // who may pay, of a JSAPI order; who paid, of any
	paidAt      time.Time
	callback    *callback // nil until paid
	refunds     []*refund // in order of creation
	charge      *charge   // of a parking order; nil for any other
}

// line is what one payee gets.
type line struct {
	mchid, subMchid, subAppid, number string
	description, attach               string
	total, payerTotal                 int64 // fen; they differ by a coupon
	transactionID                     string
	refunded                          bool // a refund of it is not CLOSED
}

// payerID is the payer's openid for the order's appid, and for a sub_appid.
type payerID struct{ openid, subOpenid string }

// settle closes an order whose seven days are over.
func (o *order) settle(now time.Time) {
	if o.state == NotPay && now.Sub(o.created) >= orderLife {
		o.state = Closed
	}
}

func (o *order) codeURL() string { return codeURLPrefix + o.pr }

func (o *order) h5URL() string { return h5URLPrefix + o.prepayID + "&package=" + o.packageNo() }

// packageNo is ten digits that stay as long as the prepay_id.
func (o *order) packageNo() string {
	sum := sha256.Sum256([]byte(o.prepayID))
	return strconv.FormatUint(1_000_000_000+binary.BigEndian.Uint64(sum[:])%9_000_000_000, 10)
}

// payLife is how long what a payer pays with stays good.
func (o *order) payLife() time.Duration {
	if o.trade == tradeH5 {
		return h5Life
	}
	return prepayLife
}

func (o *order) total() (sum int64) {
	for _, l := range o.lines {
		sum += l.total
	}
	return sum
}

// Order is a picture of an order at one moment.
type Order struct {
	Kind       Kind       `json:"kind"`
	TradeType  string     `json:"trade_type"` // NATIVE, JSAPI, APP or MWEB (H5); PAP of a parking order
	Mchid      string     `json:"mchid"`
	Appid      string     `json:"appid"`
	OutTradeNo string     `json:"out_trade_no"` // a combine order's combine_out_trade_no
	State      TradeState `json:"trade_state"`
	Total      int64      `json:"total"`               // fen
	CodeURL    string     `json:"code_url,omitempty"`  // of a NATIVE order
	PrepayID   string     `json:"prepay_id,omitempty"` // of a JSAPI or APP order
	H5URL      string     `json:"h5_url,omitempty"`    // of an MWEB order
	PR         string     `json:"pr"`                  // its page is /sandbox/pay/{pr}; a parking order has none
	NotifyURL  string     `json:"notify_url"`
	Created    time.Time  `json:"created"`
	SubOrders  []SubOrder `json:"sub_orders"`         // one for a basic order
	Callback   *Callback  `json:"callback,omitempty"` // a parking order's newest
	Refunds    []Refund   `json:"refunds,omitempty"`  // of any of its sub-orders, the oldest first
	Parking    *Charge    `json:"parking,omitempty"`  // of a parking order
}

// SubOrder is one payee's part of an order.
type SubOrder struct {
	Mchid         string `json:"mchid"`
	SubMchid      string `json:"sub_mchid,omitempty"`
	OutTradeNo    string `json:"out_trade_no"`
	Description   string `json:"description"`
	Total         int64  `json:"total"`                    // fen
	TransactionID string `json:"transaction_id,omitempty"` // once paid
	Refunded      int64  `json:"refunded,omitempty"`       // fen, refunded or reserved by a refund that is not CLOSED
}

// viewLocked copies o. p.mu is held.
func (o *order) viewLocked() Order {
	v := Order{
		Kind: o.kind, Mchid: o.mchid, Appid: o.appid, OutTradeNo: o.number, State: o.state,
		TradeType: string(o.trade), Total: o.total(), PR: o.pr, NotifyURL: o.notifyURL, Created: stamp(o.created),
	}
	prepay := o.prepay()
	v.CodeURL, v.PrepayID, v.H5URL = prepay.CodeURL, prepay.PrepayID, prepay.H5URL
	for _, l := range o.lines {
		v.SubOrders = append(v.SubOrders, SubOrder{
			Mchid: l.mchid, SubMchid: l.subMchid, OutTradeNo: l.number,
			Description: l.description, Total: l.total, TransactionID: l.transactionID,
			Refunded: o.reservedLocked(l),
		})
	}
	if o.callback != nil {
		c := o.callback.viewLocked()
		v.Callback = &c
	}
	for _, r := range o.refunds {
		v.Refunds = append(v.Refunds, r.viewLocked())
	}
	if o.charge != nil {
		v.Parking = o.charge.viewLocked()
	}
	return v
}

// Errors of the acts on orders; test with errors.Is.
var (
	ErrNoOrder   = errors.New("sandbox: no such order")
	ErrAmbiguous = errors.New("sandbox: several merchants have this number: write mchid:number")
	ErrNotPaid   = errors.New("sandbox: order is not paid")
	ErrPaid      = errors.New("sandbox: order is paid already")
	ErrShut      = errors.New("sandbox: order is closed")
	ErrUnasked   = errors.New("sandbox: nobody pays a parking order by hand: it is charged")
	ErrExpired   = errors.New("sandbox: what to pay with is too old (code_url and prepay_id two hours, h5_url five minutes) or time_expire has passed")
)

// Orders returns every order, the oldest first.
func (p *Platform) Orders() []Order {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	out := make([]Order, 0, len(p.orders))
	for _, o := range p.orders {
		o.settle(now)
		out = append(out, o.viewLocked())
	}
	return out
}

// Order returns one order by its out_trade_no, combine_out_trade_no, the number
// of one of its sub-orders, "mchid:number", its code_url, prepay_id or h5_url.
func (p *Platform) Order(ref string) (Order, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, err := p.findLocked(ref)
	if err != nil {
		return Order{}, err
	}
	return o.viewLocked(), nil
}

func (p *Platform) findLocked(ref string) (*order, error) {
	var found *order
	if o, ok := p.byLinkLocked(ref); ok {
		found = o
	} else if mchid, number, ok := strings.Cut(ref, ":"); ok {
		found = p.numbers[numberKey{mchid, number}]
	} else {
		for _, mchid := range p.mchids {
			o := p.numbers[numberKey{mchid, ref}]
			if o == nil || o == found {
				continue
			}
			if found != nil {
				return nil, ErrAmbiguous
			}
			found = o
		}
	}
	if found == nil {
		return nil, ErrNoOrder
	}
	found.settle(p.now())
	return found, nil
}

// readCommon reads what basic and combine orders share.
func (o *order) readCommon(body *object) {
	o.notifyURL = body.text("notify_url", true, 1, 255)
	if body.problem() == nil {
		if issue := badNotifyURL(o.notifyURL); issue != "" {
			body.refuse("notify_url", issue, "不是合法的通知地址，须为http(s)完整地址且不允许携带查询串")
		}
	}
	o.expires = readTime(body, "time_expire")
	h5 := o.trade == tradeH5
	scene := body.child("scene_info", h5)
	o.deviceID = scene.text("device_id", false, 0, 32)
	scene.text("payer_client_ip", h5, 1, 45)
	scene.child("h5_info", h5).text("type", h5, 1, 32)
}

func readTime(body *object, name string) time.Time {
	s := body.text(name, false, 0, 64)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		body.refuse(name, "not an RFC 3339 time", "时间格式校验失败，应遵循rfc3339标准格式")
	}
	return t
}

func badNotifyURL(s string) (issue string) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "not a URL"
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "want an absolute http or https URL"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return "no query string and no fragment allowed"
	case u.User != nil:
		return "no user in the URL allowed"
	}
	return ""
}
