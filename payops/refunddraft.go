package payops

import (
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// maxRefundNumber is the longest out_refund_no, in bytes.
const maxRefundNumber = 64

// validRefundNumber reports whether s may be an out_refund_no, or WeChat Pay's
// refund_id.
func validRefundNumber(s string) bool {
	return s != "" && len(s) <= maxRefundNumber && numberText(s)
}

// readRefund reads what an application for a refund rests on; everything else of
// the body is WeChat Pay's to judge.
// https://pay.weixin.qq.com/doc/v3/merchant/4012791862
func readRefund(o object, mchid string) (storage.Refund, *refusal) {
	var r storage.Refund
	var number, outTradeNo, sub string
	for name, field := range map[string]*string{
		"out_refund_no": &number, "transaction_id": &r.TransactionID, "out_trade_no": &outTradeNo, "sub_mchid": &sub,
	} {
		text, ok := o.text(name)
		if !ok {
			return r, badRequest(RuleBody, name+" must be a string")
		}
		*field = text
	}
	switch {
	case !validRefundNumber(number):
		return r, badRequest(RuleNumber, "out_refund_no must be 1 to 64 of digits, letters and _-|*@")
	case outTradeNo != "" && (len(outTradeNo) > maxNumber || !numberText(outTradeNo)):
		return r, badRequest(RuleNumber, "out_trade_no must be up to 32 of digits, letters and _-|*@")
	case r.TransactionID != "" && !validTransactionID(r.TransactionID):
		return r, badRequest(RuleNumber, "transaction_id must be up to 32 digits and letters")
	case outTradeNo == "" && r.TransactionID == "":
		return r, badRequest(RuleNumber, "a refund names its payment by transaction_id or out_trade_no")
	case sub != "" && !validMchid(sub):
		return r, badRequest(RuleMchid, "sub_mchid must be the digits of a sub-merchant's number")
	}
	amount := o.child("amount")
	total, ok := money(amount, "total")
	if !ok {
		return r, badAmount("amount.total")
	}
	if r.Amount, ok = fen(amount["refund"]); !ok {
		return r, badAmount("amount.refund")
	}
	r.Total, r.Currency = total.Total, total.Currency
	r.Key = storage.RefundKey{Mchid: mchid, SubMchid: sub, OutRefundNo: number}
	if outTradeNo != "" {
		r.Order = storage.OrderKey{Mchid: mchid, SubMchid: sub, Number: outTradeNo}
	}
	r.State = storage.RefundIntended
	return r, nil
}

// refundDraft is a refund as an apply call states it; order holds its
// notify_url alone.
type refundDraft struct {
	draft
	refund storage.Refund
	// tallies are the memos that may count refunds of the payment, see
	// [storage.Refund.Tallies].
	tallies []string
}

// refundDraft reads the body of an apply call and fills in what is missing.
func (a *API) refundDraft(q *request) (*refundDraft, *refusal) {
	if q.query != "" {
		return nil, badRequest(RulePath, "the operation takes no query")
	}
	o, body, refused := jsonBody(q, false)
	if refused != nil {
		return nil, refused
	}
	d := &refundDraft{draft: draft{body: body}}
	if d.refund, refused = readRefund(o, a.merchant.Mchid()); refused != nil {
		return nil, refused
	}
	d.refund.Merchant = a.merchant.Name()
	if d.refund.Ecommerce = q.op.Path == "/v3/ecommerce/refunds/apply"; d.refund.Ecommerce {
		if refused := d.fill(o, "sp_appid", a.merchant.DefaultApp().Appid); refused != nil {
			return nil, refused
		}
	}
	if refused := a.fillNotifyURL(&d.draft, o); refused != nil {
		return nil, refused
	}
	return d, nil
}
