package resource

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Refund is the body of POST /gateway/refunds.
type Refund struct {
	// OutTradeNo names the payment: an order, or one sub-order of a combine order.
	OutTradeNo string `json:"out_trade_no,omitempty"`
	SubMchid   string `json:"sub_mchid,omitempty"`
	// OutRefundNo is made by the gateway when it is left out, which needs an
	// Idempotency-Key.
	OutRefundNo string       `json:"out_refund_no,omitempty"`
	Amount      RefundAmount `json:"amount"`
	Reason      string       `json:"reason,omitempty"`
	NotifyURL   string       `json:"notify_url,omitempty"`
	// Via is domestic (/v3/refund/domestic/refunds) or ecommerce
	// (/v3/ecommerce/refunds/apply, 收付通). Default: ecommerce for a sub-order of a
	// sub-merchant, domestic for everything else.
	Via string `json:"via,omitempty"`
}

// RefundAmount is what is refunded. Total and Currency are the payment's, and
// filled in where the ledger knows it.
type RefundAmount struct {
	Refund   storage.Fen `json:"refund"`          // fen
	Total    storage.Fen `json:"total,omitempty"` // fen
	Currency string      `json:"currency,omitempty"`
}

// RefundView is a refund as the ledger knows it. State is success by WeChat Pay's
// callback or a query alone.
type RefundView struct {
	OutRefundNo   string              `json:"out_refund_no"`
	OutTradeNo    string              `json:"out_trade_no,omitempty"`
	Mchid         string              `json:"mchid"`
	SubMchid      string              `json:"sub_mchid,omitempty"`
	State         storage.RefundState `json:"state"`
	Amount        RefundAmount        `json:"amount"`
	RefundID      string              `json:"refund_id,omitempty"`
	TransactionID string              `json:"transaction_id,omitempty"`
	CreatedAt     time.Time           `json:"created_at,omitzero"`
	UpdatedAt     time.Time           `json:"updated_at,omitzero"`
}

func refundView(r storage.Refund) RefundView {
	return RefundView{
		OutRefundNo: r.Key.OutRefundNo, OutTradeNo: r.Order.Number, Mchid: r.Key.Mchid, SubMchid: r.Key.SubMchid,
		State: r.State, Amount: RefundAmount{r.Amount, r.Total, r.Currency},
		RefundID: r.RefundID, TransactionID: r.TransactionID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

// What a refund's application is sent as.
type refundBody struct {
	SubMchid    string       `json:"sub_mchid,omitempty"`
	OutTradeNo  string       `json:"out_trade_no"`
	OutRefundNo string       `json:"out_refund_no"`
	Reason      string       `json:"reason,omitempty"`
	NotifyURL   string       `json:"notify_url,omitempty"`
	Amount      RefundAmount `json:"amount"`
}

const (
	viaDomestic  = "domestic"
	viaEcommerce = "ecommerce"
)

// refund applies for a refund.
func (rs *Resources) refund(r *Request) Response {
	var body Refund
	if _, refused := r.Values(); refused.Refused() {
		return refused
	}
	if refused := r.decode(&body, false); refused.Refused() {
		return refused
	}
	return rs.apply(r, body)
}

// refundOrder is refund for the order that the path names.
func (rs *Resources) refundOrder(r *Request) Response {
	var body Refund
	key, _, refused := rs.orderKey(r)
	if refused.Refused() {
		return refused
	}
	if refused := r.decode(&body, false); refused.Refused() {
		return refused
	}
	if body.OutTradeNo != "" && body.OutTradeNo != key.Number || body.SubMchid != "" && body.SubMchid != key.SubMchid {
		return badRequest(RuleNumber, "out_trade_no and sub_mchid are the path's; leave them out of the body")
	}
	body.OutTradeNo, body.SubMchid = key.Number, key.SubMchid
	return rs.apply(r, body)
}

// apply sends an application for a refund and shows what the ledger then has.
func (rs *Resources) apply(r *Request, body Refund) Response {
	payment := storage.OrderKey{Mchid: rs.Merchant.Mchid(), SubMchid: body.SubMchid, Number: body.OutTradeNo}
	switch {
	case !orderNumber(body.OutTradeNo, 1):
		return badNumber("out_trade_no")
	case body.SubMchid != "" && !digits(body.SubMchid):
		return badRequest(RuleMchid, "sub_mchid must be the digits of a sub-merchant's number")
	case body.OutRefundNo != "" && !refundNumber(body.OutRefundNo):
		return badNumber("out_refund_no")
	case body.OutRefundNo == "" && r.memo == nil:
		return badRequest(RuleIdempotencyKey, "state out_refund_no or an Idempotency-Key: repeated without either, the request would be a second refund")
	case body.Amount.Refund < 1:
		return badRequest(RuleAmount, "amount.refund must be at least 1 fen")
	case body.Via != "" && body.Via != viaDomestic && body.Via != viaEcommerce:
		return badRequest(RuleBody, "via must be domestic or ecommerce")
	}
	order, refused := rs.order(r.Core.Live(), payment)
	switch {
	case refused.Status == http.StatusNotFound && body.Amount.Total == 0:
		return refuse(http.StatusNotFound, codeNotFound, RuleOrderNotFound,
			"the ledger does not know the order: state amount.total too, and WeChat Pay is asked for the rest")
	case refused.Status == http.StatusNotFound:
		order = storage.Order{}
	case refused.Refused():
		return refused
	}
	via := refundTerms(&body, payment, order)
	numbers, response, done := r.Begin(1)
	if done {
		return response
	}
	if body.OutRefundNo == "" {
		body.OutRefundNo = numbers[0]
	}
	key := storage.RefundKey{Mchid: payment.Mchid, SubMchid: payment.SubMchid, OutRefundNo: body.OutRefundNo}
	before, err := rs.Ledger.Refund(r.Core.Live(), key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return storeDown()
	}
	status := http.StatusOK
	if err != nil || before.State == storage.RefundRejected {
		status = http.StatusCreated
	}
	path := "/v3/refund/domestic/refunds"
	if via == viaEcommerce {
		path = "/v3/ecommerce/refunds/apply"
	}
	answer := r.Core.V3(Call{Method: http.MethodPost, Path: path, Body: jsonBody(refundBody{
		SubMchid: body.SubMchid, OutTradeNo: body.OutTradeNo, OutRefundNo: body.OutRefundNo,
		Reason: body.Reason, NotifyURL: body.NotifyURL, Amount: body.Amount,
	})})
	location := refundPath(key)
	if !answer.Succeeded() {
		// A refund that failed is applied for again with its number: under the same
		// key, that is the number that the gateway made.
		failed := numbered(answer, location)
		failed.Open = true
		return failed
	}
	row, err := rs.Ledger.Refund(r.Core.Context(), key)
	if err != nil {
		rs.Logger.Error("a refund that was applied for cannot be read", "error", err)
		return unknown(location)
	}
	response = respond(status, refundView(row))
	response.Header.Set("Location", location)
	carry(response.Header, answer.Header)
	return response
}

// refundTerms fills in what the ledger knows of the payment, and says by which
// operation it is refunded.
func refundTerms(body *Refund, payment storage.OrderKey, order storage.Order) (via string) {
	amount, combined := order.Amount, false
	for _, s := range order.Subs {
		if s.Key() == payment {
			amount, combined = s.Amount, true
		}
	}
	if body.Amount.Total == 0 {
		body.Amount.Total = amount.Total
	}
	if body.Amount.Currency == "" {
		body.Amount.Currency = amount.Currency
	}
	if body.Amount.Currency == "" {
		body.Amount.Currency = "CNY"
	}
	switch {
	case body.Via != "":
		return body.Via
	case combined && payment.SubMchid != "":
		return viaEcommerce
	}
	return viaDomestic
}

// refundPath is where a refund is.
func refundPath(key storage.RefundKey) string {
	path := Prefix + "refunds/" + url.PathEscape(key.OutRefundNo)
	if key.SubMchid != "" {
		path += "?sub_mchid=" + key.SubMchid
	}
	return path
}

// showRefund answers with a refund as the ledger knows it; ?fresh=1 asks WeChat
// Pay first.
func (rs *Resources) showRefund(r *Request) Response {
	if refused := r.noBody(); refused.Refused() {
		return refused
	}
	values, refused := r.Values("sub_mchid", "fresh")
	if refused.Refused() {
		return refused
	}
	ask, refused := fresh(values)
	if refused.Refused() {
		return refused
	}
	key := storage.RefundKey{Mchid: rs.Merchant.Mchid(), SubMchid: values.Get("sub_mchid"), OutRefundNo: r.Param("out_refund_no")}
	switch {
	case values.Has("sub_mchid") && !digits(key.SubMchid):
		return badRequest(RulePath, "sub_mchid must be the digits of a sub-merchant's number")
	case !refundNumber(key.OutRefundNo):
		return badNumber("out_refund_no")
	}
	row, err := rs.Ledger.Refund(r.Core.Live(), key)
	if err == nil && ask {
		if _, err := r.Core.AskRefund(key, row.Ecommerce); err != nil {
			rs.Logger.Warn("a refund cannot be asked for", "error", err)
			return unreachable("WeChat Pay gave no verified answer about the refund; nothing was changed")
		}
		row, err = rs.Ledger.Refund(r.Core.Live(), key)
	}
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && row.Merchant != "" && row.Merchant != rs.Merchant.Name():
		return refuse(http.StatusNotFound, codeNotFound, RuleRefundNotFound, "the ledger does not know the refund")
	case err != nil:
		rs.Logger.Error("the ledger cannot be read", "error", err)
		return storeDown()
	}
	return respond(http.StatusOK, refundView(row))
}
