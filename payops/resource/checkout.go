package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/invoke"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Opened is the answer to a checkout: the order, and what opens its payment.
type Opened struct {
	OutTradeNo string             `json:"out_trade_no"`
	Mchid      string             `json:"mchid"`
	SubMchid   string             `json:"sub_mchid,omitempty"`
	Kind       storage.OrderKind  `json:"kind"`
	State      storage.OrderState `json:"state"`
	Way        string             `json:"way"`
	Appid      string             `json:"appid"`
	Amount     storage.Money      `json:"amount"`
	SubOrders  []SubOrder         `json:"sub_orders,omitempty"`
	TimeExpire time.Time          `json:"time_expire,omitzero"`
	CreatedAt  time.Time          `json:"created_at,omitzero"`
	// CodeURL and QR are a Native order's; both open its payment for two hours.
	CodeURL string   `json:"code_url,omitempty"`
	QR      *QRLinks `json:"qr,omitempty"`
	// PrepayID and Invoke are a JSAPI, mini program or App order's: the frontend
	// passes Invoke on as it is.
	PrepayID string            `json:"prepay_id,omitempty"`
	Invoke   invoke.Parameters `json:"invoke,omitempty"`
	// H5URL is where a browser on a phone is sent, within five minutes.
	H5URL string `json:"h5_url,omitempty"`
	// Replaced is the order that this one replaces.
	Replaced *Replaced `json:"replaced,omitempty"`
	// Reused: no order was made. The order to be replaced is not five minutes old and
	// asks for the same money, so it was kept; or, where Replaced is set, an earlier
	// request replaced it by this one, which asks for the same money.
	Reused bool `json:"reused,omitempty"`
}

// QRLinks are the paths of an order's QR code.
type QRLinks struct {
	PNG string `json:"png"`
	SVG string `json:"svg"`
}

// Replaced is an order that another one stands in for.
type Replaced struct {
	OutTradeNo string             `json:"out_trade_no"`
	State      storage.OrderState `json:"state"`
}

// opening is remembered of a checkout as long as what it opened lives.
type opening struct {
	Way   string `json:"way"`
	Payer string `json:"payer,omitempty"` // a digest
	H5URL string `json:"h5_url,omitempty"`
}

// checkout makes an order in one of five ways and answers with what opens it.
func (rs *Resources) checkout(r *Request) Response {
	if _, refused := r.Values(); refused.Refused() {
		return refused
	}
	var body Checkout
	if refused := r.decode(&body, false); refused.Refused() {
		return refused
	}
	if refused := body.check(); refused.Refused() {
		return refused
	}
	kind := body.kind()
	if !r.Core.Allows(groupOf(kind)) {
		return notAllowed(groupOf(kind))
	}
	if body.Replaces != "" && !r.Core.Allows(operation.Close) {
		return notAllowed(operation.Close)
	}
	body.complete(rs.Merchant)
	numbers, response, done := r.Begin(1 + len(body.SubOrders))
	if done {
		return response
	}
	body.number(numbers)
	if body.Replaces != "" {
		return rs.openInstead(r, &body)
	}
	return rs.open(r, &body, nil)
}

// open makes the order at WeChat Pay.
func (rs *Resources) open(r *Request, body *Checkout, replaced *Replaced) Response {
	key := storage.OrderKey{Mchid: rs.Merchant.Mchid(), SubMchid: body.SubMchid, Number: body.OutTradeNo}
	before, err := rs.Ledger.Order(r.Core.Live(), key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return storeDown()
	}
	status := http.StatusOK
	if err != nil || before.State == storage.OrderRejected || before.State == storage.OrderRegistered {
		status = http.StatusCreated
	}
	answer := r.Core.V3(body.call(rs.Merchant.Mchid()))
	location := orderPath(key, "")
	if !answer.Succeeded() {
		return numbered(answer, location)
	}
	order, err := rs.Ledger.Order(r.Core.Context(), key)
	if err != nil {
		rs.Logger.Error("an order that was made cannot be read", "error", err)
		return unknown(location)
	}
	said := gjson.ParseBytes(answer.Body)
	o := opening{Way: body.Way, Payer: body.payerDigest(), H5URL: said.Get("h5_url").String()}
	if code := said.Get("code_url").String(); code != "" {
		order.CodeURL = code
	}
	if id := said.Get("prepay_id").String(); id != "" {
		order.PrepayID = id
	}
	response, ok := rs.opened(r, status, body, order, o, replaced, false)
	if !ok {
		return unknown(location)
	}
	carry(response.Header, answer.Header)
	if err := rs.rememberOpening(r, key, o); err != nil {
		rs.Logger.Warn("how an order was opened is not remembered", "error", err)
	}
	return response
}

// opened shows an order with what opens it in the way that body asks for.
func (rs *Resources) opened(r *Request, status int, body *Checkout, order storage.Order, o opening, replaced *Replaced, reused bool) (Response, bool) {
	view := Opened{
		OutTradeNo: order.Key.Number, Mchid: order.Key.Mchid, SubMchid: order.Key.SubMchid, Kind: order.Kind, State: order.State,
		Way: body.Way, Appid: order.Appid, Amount: order.Amount, SubOrders: subViews(order.Subs), TimeExpire: order.TimeExpire,
		CreatedAt: order.CreatedAt, Replaced: replaced, Reused: reused,
	}
	switch body.Way {
	case wayNative:
		view.CodeURL = order.CodeURL
		view.QR = &QRLinks{orderPath(order.Key, "/qr.png"), orderPath(order.Key, "/qr.svg")}
	case wayH5:
		view.H5URL = o.H5URL
	case wayJSAPI, wayMiniProgram, wayApp:
		view.PrepayID = order.PrepayID
		parameters, err := rs.Invoke(r.Core.Context(), invoke.Way(body.Way), body.invokeAppid(), order.PrepayID)
		if err != nil {
			rs.Logger.Error("a payment cannot be opened; the order is there, and the same request tries again", "error", err)
			return Response{}, false
		}
		view.Invoke = parameters
	}
	response := respond(status, view)
	response.Header.Set("Location", orderPath(order.Key, ""))
	return response, true
}

// openingKey names the memo of an order's opening.
func (rs *Resources) openingKey(key storage.OrderKey) string {
	return "opening/" + key.Mchid + "/" + key.SubMchid + "/" + key.Number
}

func (rs *Resources) rememberOpening(r *Request, key storage.OrderKey, o opening) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	name := rs.openingKey(key)
	return rs.Ledger.Change(r.Core.Context(), storage.Keys{Memos: []string{name}}, func(rows *storage.Rows) error {
		if rows.Memos == nil {
			rows.Memos = map[string]*storage.Memo{}
		}
		rows.Memos[name] = &storage.Memo{Key: name, Data: data, Expires: rs.Now().Add(PrepayLife)}
		return nil
	})
}

// payerDigest stands for who pays: a prepay_id is one payer's.
func (c *Checkout) payerDigest() string {
	if c.Openid == "" && c.SubOpenid == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("payer\x00" + c.Appid + "\x00" + c.Openid + "\x00" + c.SubAppid + "\x00" + c.SubOpenid))
	return hex.EncodeToString(sum[:])
}
