package bill

import (
	"io"
	"iter"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// TradeState is what a row of a trade bill is about (交易状态).
type TradeState string

// The states of rows. Others are passed on as they come.
const (
	TradePaid     TradeState = "SUCCESS" // a payment
	TradeRefund   TradeState = "REFUND"  // a refund that was accepted
	TradeRevoked  TradeState = "REVOKED" // a payment that was reversed (撤销)
	refundApplied            = "退款申请时间"
	refundDone               = "退款成功时间"
	settlement               = "应结订单金额"
	oldSettlement            = "总金额"
	refundID                 = "微信退款单号"
	outRefundNo              = "商户退款单号"
	refunded                 = "退款金额"
	couponBack               = "充值券退款金额"
	refundType               = "退款类型"
	refundStatus             = "退款状态"
	fee                      = "手续费"
	orderTotal               = "订单金额"
	refundAsked              = "申请退款金额"
)

// Trade is one row of a trade bill. Amounts are in fen. Openid is personal data.
// https://pay.weixin.qq.com/docs/merchant/products/bill-download/format-trade.html
type Trade struct {
	// Time is when the payment succeeded or the refund was accepted: a refund's
	// success comes later and in no bill.
	Time          time.Time  `json:"trade_time"`
	Appid         string     `json:"appid,omitempty"`
	Mchid         string     `json:"mchid"`
	SubMchid      string     `json:"sub_mchid,omitempty"` // 特约商户号, "" for none
	DeviceID      string     `json:"device_id,omitempty"`
	TransactionID string     `json:"transaction_id"`
	OutTradeNo    string     `json:"out_trade_no"`
	Openid        string     `json:"openid,omitempty"`
	TradeType     string     `json:"trade_type,omitempty"`
	State         TradeState `json:"trade_state"`
	Bank          string     `json:"bank_type,omitempty"`
	Currency      string     `json:"currency"`
	// Settlement is 应结订单金额, Coupon 代金券金额, Total 订单金额: 0 in rows of
	// refunds. In bills of the early form, which have 总金额 alone, Total is
	// Settlement.
	Settlement storage.Fen `json:"settlement_total"`
	Coupon     storage.Fen `json:"coupon"`
	Total      storage.Fen `json:"total"`
	// RefundID and OutRefundNo are "" in rows of payments.
	RefundID    string `json:"refund_id,omitempty"`
	OutRefundNo string `json:"out_refund_no,omitempty"`
	// Refund is 退款金额, what the payer gets; CouponRefund 充值券退款金额;
	// RefundAsked 申请退款金额, what the refund was applied for with. In bills of
	// the early form RefundAsked is Refund.
	Refund       storage.Fen `json:"refund"`
	CouponRefund storage.Fen `json:"coupon_refund"`
	RefundAsked  storage.Fen `json:"refund_asked"`
	RefundType   string      `json:"refund_type,omitempty"`
	RefundStatus string      `json:"refund_status,omitempty"` // when the bill was made
	// RefundApplied and RefundDone are in bills of refunds alone, else zero.
	RefundApplied time.Time `json:"refund_applied,omitzero"`
	RefundDone    time.Time `json:"refund_done,omitzero"`
	Goods         string    `json:"goods,omitempty"`
	Attach        string    `json:"attach,omitempty"`
	// GoodsAndAttach is true when one of both held what separates values: Goods is
	// then both of them as they stand, and Attach is "".
	GoodsAndAttach bool   `json:"goods_and_attach,omitempty"`
	Fee            Fee    `json:"fee"` // negative when it is given back
	Rate           string `json:"rate,omitempty"`
	RateNote       string `json:"rate_note,omitempty"`
}

// TradeTotals sums up a trade bill, as its summary row does.
type TradeTotals struct {
	Rows         int64       `json:"rows"`
	Settlement   storage.Fen `json:"settlement_total"`
	Refund       storage.Fen `json:"refund"`
	CouponRefund storage.Fen `json:"coupon_refund"`
	Fee          Fee         `json:"fee"`
	Total        storage.Fen `json:"total"`
	RefundAsked  storage.Fen `json:"refund_asked"`
}

// Trades reads a trade bill of any of the types ALL, SUCCESS and REFUND, in its
// order. A pair with an error is the last one, and all that came before counts
// for nothing then. Errors: [ParseError] and what the reader gives.
func Trades(r io.Reader) iter.Seq2[Trade, error] { return records(&tradeForm, r) }

// CheckTrades reads a trade bill to its end and returns its totals. Errors: as of
// [Trades].
func CheckTrades(r io.Reader) (TradeTotals, error) {
	s, err := tradeForm.scan(r, func(*Trade) bool { return true })
	if err != nil {
		return TradeTotals{}, err
	}
	fen := func(i int) storage.Fen { return storage.Fen(s[i].total) }
	return TradeTotals{
		Rows: s[0].total, Settlement: fen(1), Refund: fen(2), CouponRefund: fen(3),
		Fee: Fee(s[4].total), Total: fen(5), RefundAsked: fen(6),
	}, nil
}

// records makes an iterator of a form's scan.
func records[T any](f *form[T], r io.Reader) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if _, err := f.scan(r, func(record *T) bool { return yield(*record, nil) }); err != nil {
			var none T
			yield(none, err)
		}
	}
}

var tradeForm = form[Trade]{
	fields: []field[Trade]{
		{name: "交易时间", set: when(func(t *Trade) *time.Time { return &t.Time })},
		{name: "公众账号ID", set: text(func(t *Trade) *string { return &t.Appid })},
		{name: "商户号", set: text(func(t *Trade) *string { return &t.Mchid })},
		{name: "特约商户号", older: []string{"子商户号"}, set: number(func(t *Trade) *string { return &t.SubMchid })},
		{name: "设备号", set: text(func(t *Trade) *string { return &t.DeviceID })},
		{name: "微信订单号", set: text(func(t *Trade) *string { return &t.TransactionID })},
		{name: "商户订单号", set: text(func(t *Trade) *string { return &t.OutTradeNo })},
		{name: "用户标识", set: text(func(t *Trade) *string { return &t.Openid })},
		{name: "交易类型", set: text(func(t *Trade) *string { return &t.TradeType })},
		{name: "交易状态", set: func(t *Trade, s string) error { t.State = TradeState(s); return nil }},
		{name: "付款银行", set: text(func(t *Trade) *string { return &t.Bank })},
		{name: "货币种类", set: text(func(t *Trade) *string { return &t.Currency })},
		{name: settlement, older: []string{oldSettlement}, set: fen(func(t *Trade) *storage.Fen { return &t.Settlement })},
		{name: "代金券金额", older: []string{"代金券或立减优惠金额", "企业红包金额"}, set: fen(func(t *Trade) *storage.Fen { return &t.Coupon })},
		{name: refundApplied, set: maybe(func(t *Trade) *time.Time { return &t.RefundApplied })},
		{name: refundDone, set: maybe(func(t *Trade) *time.Time { return &t.RefundDone })},
		{name: refundID, set: number(func(t *Trade) *string { return &t.RefundID })},
		{name: outRefundNo, set: text(func(t *Trade) *string { return &t.OutRefundNo })},
		{name: refunded, set: fen(func(t *Trade) *storage.Fen { return &t.Refund })},
		{name: couponBack, older: []string{"代金券或立减优惠退款金额", "企业红包退款金额"}, set: fen(func(t *Trade) *storage.Fen { return &t.CouponRefund })},
		{name: refundType, set: text(func(t *Trade) *string { return &t.RefundType })},
		{name: refundStatus, set: text(func(t *Trade) *string { return &t.RefundStatus })},
		{name: "商品名称", free: true, set: text(func(t *Trade) *string { return &t.Goods })},
		{name: "商户数据包", free: true, set: text(func(t *Trade) *string { return &t.Attach })},
		{name: fee, set: fees(func(t *Trade) *Fee { return &t.Fee })},
		{name: "费率", set: text(func(t *Trade) *string { return &t.Rate })},
		{name: orderTotal, set: fen(func(t *Trade) *storage.Fen { return &t.Total })},
		{name: refundAsked, set: fen(func(t *Trade) *storage.Fen { return &t.RefundAsked })},
		{name: "费率备注", set: text(func(t *Trade) *string { return &t.RateNote })},
	},
	totals: []total[Trade]{
		{name: "总交易单数", value: func(*Trade) int64 { return 1 }},
		{name: "应结订单总金额", older: []string{"总交易额"}, of: settlement, decimals: fenDecimals, value: func(t *Trade) int64 { return int64(t.Settlement) }},
		{name: "退款总金额", older: []string{"总退款金额"}, of: refunded, decimals: fenDecimals, value: func(t *Trade) int64 { return int64(t.Refund) }},
		{name: "充值券退款总金额", older: []string{"总代金券或立减优惠退款金额", "总企业红包退款金额"}, of: couponBack, decimals: fenDecimals, value: func(t *Trade) int64 { return int64(t.CouponRefund) }},
		{name: "手续费总金额", of: fee, decimals: feeDecimals, value: func(t *Trade) int64 { return int64(t.Fee) }},
		{name: "订单总金额", of: orderTotal, decimals: fenDecimals, value: func(t *Trade) int64 { return int64(t.Total) }},
		{name: "申请退款总金额", of: refundAsked, decimals: fenDecimals, value: func(t *Trade) int64 { return int64(t.RefundAsked) }},
	},
	check:  checkTradeColumns,
	done:   (*Trade).done,
	joined: func(t *Trade) { t.GoodsAndAttach = true },
}

// checkTradeColumns names a column that a trade bill must have and this one has
// not. Columns that only inform may be missing; those of refunds come together.
func checkTradeColumns(has func(string) bool) string {
	early := has(oldSettlement)
	need := []string{"交易时间", "商户号", "微信订单号", "商户订单号", "交易状态", "货币种类", fee}
	refunds := []string{refundID, outRefundNo, refunded, refundStatus}
	switch {
	case early && (has(orderTotal) || has(refundAsked) || has(settlement)):
		return settlement // of two forms at once
	case early && !has("特约商户号"):
		need = append(need, "子商户号")
	case !early:
		need = append(need, "特约商户号", settlement, "代金券金额", orderTotal)
		refunds = append(refunds, couponBack, refundAsked)
	}
	for _, name := range refunds {
		if has(name) {
			need = append(need, refunds...)
			break
		}
	}
	if has(refundApplied) || has(refundDone) {
		need = append(append(need, refundApplied, refundDone), refunds...)
	}
	for _, name := range need {
		if !has(name) {
			return name
		}
	}
	return ""
}

// done completes a row, and refuses one that cannot be told from another.
func (t *Trade) done(has func(string) bool) error {
	if has(oldSettlement) {
		t.Total, t.RefundAsked = t.Settlement, t.Refund
	}
	if t.State != TradeRefund && t.RefundID == "" && t.OutRefundNo == "0" {
		t.OutRefundNo = ""
	}
	if !digits(t.Mchid) || t.SubMchid != "" && !digits(t.SubMchid) || t.TransactionID == "" || t.OutTradeNo == "" ||
		t.State == "" || len(t.Currency) != 3 || t.State == TradeRefund && t.RefundID == "" {
		return ErrRow
	}
	return nil
}
