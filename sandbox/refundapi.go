package sandbox

import (
	"regexp"
	"time"
)

var outRefundNoPattern = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{1,64}$`)

const (
	maxRefunds = 50       // of one order or sub-order
	toBalance  = "支付用户零钱" // where refunds go
)

// refundRequest is what an application for a refund says.
type refundRequest struct {
	sub, transactionID, outTradeNo string
	refund                         refund
	total                          int64
}

func readRefund(in *object, c *call, ecommerce bool) (q refundRequest) {
	q.sub = in.text("sub_mchid", c.m.provider, 1, 32)
	if ecommerce {
		if appid := in.text("sp_appid", true, 1, 32); in.problem() == nil && !c.m.hasAppid(appid) {
			in.doc.err = errAppid()
		}
	}
	q.transactionID = in.text("transaction_id", false, 1, 32)
	q.outTradeNo = in.text("out_trade_no", false, 1, 32)
	if q.transactionID == "" && q.outTradeNo == "" {
		in.refuse("transaction_id", "transaction_id or out_trade_no is required", "必填性规则校验失败，transaction_id与out_trade_no二选一")
	}
	q.refund.number = in.match("out_refund_no", outRefundNoPattern)
	q.refund.reason = in.text("reason", false, 1, 80)
	q.refund.notifyURL = in.text("notify_url", false, 8, 256)
	if q.refund.notifyURL != "" && in.problem() == nil {
		if issue := badNotifyURL(q.refund.notifyURL); issue != "" {
			in.refuse("notify_url", issue, "不是合法的通知地址，须为http(s)完整地址且不允许携带查询串")
		}
	}
	if ecommerce {
		q.refund.account = in.oneOf("refund_account", false, "REFUND_SOURCE_SUB_MERCHANT", "REFUND_SOURCE_PARTNER_ADVANCE")
	} else {
		q.refund.account = in.oneOf("funds_account", false, "AVAILABLE", "UNSETTLED")
	}
	amount := in.child("amount", true)
	q.refund.amount = amount.fen("refund")
	q.total = amount.fen("total")
	amount.currency("currency", !ecommerce)
	return q
}

// applyRefund is POST /v3/refund/domestic/refunds
// (https://pay.weixin.qq.com/doc/v3/merchant/4012791862).
func applyRefund(p *Platform, c *call) (any, *apiError) {
	r, bad := p.acceptRefund(c, false)
	if bad != nil {
		return nil, bad
	}
	return r.answer(), nil
}

// applyEcommerceRefund is POST /v3/ecommerce/refunds/apply
// (https://pay.weixin.qq.com/doc/v3/partner/4012476892).
func applyEcommerceRefund(p *Platform, c *call) (any, *apiError) {
	r, bad := p.acceptRefund(c, true)
	if bad != nil {
		return nil, bad
	}
	return r.ecommerceReceipt(), nil
}

func (p *Platform) acceptRefund(c *call, ecommerce bool) (refund, *apiError) {
	if bad := p.refundGate(c.m); bad != nil {
		return refund{}, bad
	}
	r, bad := p.tryRefund(c, ecommerce)
	if bad != nil {
		p.countRefusal(c.m)
	}
	return r, bad
}

func (p *Platform) tryRefund(c *call, ecommerce bool) (refund, *apiError) {
	in, bad := p.parse(c)
	if bad != nil {
		return refund{}, bad
	}
	q := readRefund(in, c, ecommerce)
	if bad := in.problem(); bad != nil {
		return refund{}, bad
	}
	if q.sub != "" || ecommerce {
		if bad := c.m.mayActFor(q.sub); bad != nil {
			return refund{}, bad
		}
	}
	r := &q.refund
	r.m = c.m
	id := "503" + p.randomDigits(8) + p.now().In(beijing).Format("20060102") + p.randomDigits(10)
	p.mu.Lock()
	defer p.mu.Unlock()
	o, l, bad := p.refundableLocked(c.m, q)
	if bad != nil {
		return refund{}, bad
	}
	if old := p.refundNos[numberKey{c.m.mchid, r.number}]; old != nil {
		if old.line != l || old.amount != r.amount || q.total != l.total {
			return refund{}, errInvalid("订单金额或退款金额与之前请求不一致，请核实后再试")
		}
		return *old, nil
	}
	if bad := p.checkRefundLocked(o, l, q); bad != nil {
		return refund{}, bad
	}
	r.id, r.order, r.line, r.created, r.received = id, o, l, stamp(p.now()), toBalance
	r.payerAmount = o.payerShareLocked(l, r.amount)
	if r.account == "" {
		r.account = "AVAILABLE"
		if ecommerce {
			r.account = "REFUND_SOURCE_SUB_MERCHANT"
		}
	}
	if err := p.processLocked(r); err != nil {
		return refund{}, errSystem()
	}
	l.refunded = true
	o.refunds = append(o.refunds, r)
	p.refunds = append(p.refunds, r)
	p.refundIDs[id] = r
	p.refundNos[numberKey{c.m.mchid, r.number}] = r
	return *r, nil
}

// refundableLocked finds the line that is to be refunded: of a combine order
// that is a sub-order, and its mchid is the one that may refund it.
func (p *Platform) refundableLocked(m *merchant, q refundRequest) (*order, *line, *apiError) {
	o := p.byTx[q.transactionID]
	if q.transactionID == "" {
		o = p.numbers[numberKey{m.mchid, q.outTradeNo}]
	}
	if o == nil {
		return nil, nil, errNoRefundable()
	}
	for _, l := range o.lines {
		if l.mchid != m.mchid || l.subMchid != q.sub ||
			q.transactionID != "" && l.transactionID != q.transactionID ||
			q.outTradeNo != "" && l.number != q.outTradeNo {
			continue
		}
		if o.state != Success {
			return nil, nil, errInvalid("订单未支付，不允许退款")
		}
		return o, l, nil
	}
	return nil, nil, errNoRefundable()
}

// checkRefundLocked checks a refund that is new against the order's.
func (p *Platform) checkRefundLocked(o *order, l *line, q refundRequest) *apiError {
	now := p.now()
	if q.total != l.total {
		return errInvalid("订单金额与原订单不一致")
	}
	if !now.Before(o.paidAt.Add(365 * 24 * time.Hour)) {
		return errInvalid("订单已超过一年，不允许退款")
	}
	count := 0
	for _, r := range o.refunds {
		if r.line == l {
			count++
		}
	}
	reserved := o.reservedLocked(l)
	switch {
	case reserved == l.total:
		return errInvalid("订单已全额退款")
	case q.refund.amount > l.total-reserved:
		return errInvalid("申请退款金额大于订单可退金额")
	case count >= maxRefunds:
		return errInvalid("订单退款次数已达上限")
	case len(p.refunds) >= maxOrders:
		return errSystem()
	}
	return p.paceLocked(o, l, now)
}

// queryRefund is GET /v3/refund/domestic/refunds/{out_refund_no}?sub_mchid=,
// and GET /v3/ecommerce/refunds/out-refund-no/{out_refund_no}?sub_mchid=.
func queryRefund(p *Platform, c *call) (any, *apiError) {
	return p.findRefund(c, func() *refund { return p.refundNos[numberKey{c.m.mchid, c.args[0]}] })
}

// queryRefundID is GET /v3/ecommerce/refunds/id/{refund_id}?sub_mchid=.
func queryRefundID(p *Platform, c *call) (any, *apiError) {
	return p.findRefund(c, func() *refund { return p.refundIDs[c.args[0]] })
}

func (p *Platform) findRefund(c *call, find func() *refund) (any, *apiError) {
	sub := ""
	if c.m.provider {
		var bad *apiError
		if sub, bad = c.one("sub_mchid"); bad != nil {
			return nil, bad
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := find()
	if r == nil || r.m != c.m || r.line.subMchid != sub {
		return nil, errNoRefundNo()
	}
	return r.answer(), nil
}

// applyAbnormalRefund is POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund
// (https://pay.weixin.qq.com/doc/v3/merchant/4013071193): an ABNORMAL refund is
// tried again, to the user's bank card or to the merchant's.
func applyAbnormalRefund(p *Platform, c *call) (any, *apiError) {
	in, bad := p.parse(c)
	if bad != nil {
		return nil, bad
	}
	sub := in.text("sub_mchid", c.m.provider, 1, 32)
	number := in.match("out_refund_no", outRefundNoPattern)
	kind := in.oneOf("type", true, "USER_BANK_CARD", "MERCHANT_BANK_CARD")
	toUser := kind == "USER_BANK_CARD"
	in.text("bank_type", toUser, 1, 16)
	in.secret("bank_account", toUser)
	in.secret("real_name", toUser)
	if bad := in.problem(); bad != nil {
		return nil, bad
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.refundIDs[c.args[0]]
	if r == nil || r.m != c.m || r.number != number || r.line.subMchid != sub {
		return nil, errNoRefundNo()
	}
	if r.status != RefundAbnormal {
		return nil, errInvalid("退款单状态不是退款异常，不允许发起异常退款")
	}
	if len(p.callbacks) >= maxCallbacks {
		return nil, errSystem()
	}
	if err := p.processLocked(r); err != nil {
		return nil, errSystem()
	}
	r.received = "商户银行账户"
	if toUser {
		r.received = "用户银行卡"
	}
	return r.answer(), nil
}

// refundAnswer is a refund in the answers of the API.
type refundAnswer struct {
	RefundID      string       `json:"refund_id"`
	OutRefundNo   string       `json:"out_refund_no"`
	TransactionID string       `json:"transaction_id"`
	OutTradeNo    string       `json:"out_trade_no"`
	Channel       string       `json:"channel"`
	Received      string       `json:"user_received_account"`
	SuccessTime   string       `json:"success_time,omitempty"`
	CreateTime    string       `json:"create_time"`
	Status        RefundStatus `json:"status"`
	FundsAccount  string       `json:"funds_account"`
	Amount        refundAmount `json:"amount"`
	Promotions    []any        `json:"promotion_detail"`
}

type refundAmount struct {
	Total            int64  `json:"total"`
	Refund           int64  `json:"refund"`
	From             []any  `json:"from"`
	PayerTotal       int64  `json:"payer_total"`
	PayerRefund      int64  `json:"payer_refund"`
	SettlementRefund int64  `json:"settlement_refund"`
	SettlementTotal  int64  `json:"settlement_total"`
	DiscountRefund   int64  `json:"discount_refund"`
	Currency         string `json:"currency"`
	RefundFee        int64  `json:"refund_fee"`
}

func (r *refund) answer() refundAnswer {
	a := refundAnswer{
		RefundID: r.id, OutRefundNo: r.number, TransactionID: r.line.transactionID, OutTradeNo: r.line.number,
		Channel: "ORIGINAL", Received: r.received, CreateTime: rfc3339(r.created), Status: r.status,
		FundsAccount: r.account, Promotions: []any{},
		Amount: refundAmount{
			Total: r.line.total, Refund: r.amount, From: []any{}, PayerTotal: r.line.payerTotal, PayerRefund: r.payerAmount,
			SettlementRefund: r.payerAmount, SettlementTotal: r.line.payerTotal,
			DiscountRefund: r.amount - r.payerAmount, Currency: "CNY",
		},
	}
	if r.status == RefundSuccess {
		a.SuccessTime = rfc3339(r.successTime)
	}
	return a
}

type ecommerceReceipt struct {
	RefundID    string `json:"refund_id"`
	OutRefundNo string `json:"out_refund_no"`
	CreateTime  string `json:"create_time"`
	Amount      struct {
		Refund         int64  `json:"refund"`
		PayerRefund    int64  `json:"payer_refund"`
		DiscountRefund int64  `json:"discount_refund"`
		Currency       string `json:"currency"`
	} `json:"amount"`
	Account string `json:"refund_account"`
}

func (r *refund) ecommerceReceipt() ecommerceReceipt {
	a := ecommerceReceipt{RefundID: r.id, OutRefundNo: r.number, CreateTime: rfc3339(r.created), Account: r.account}
	a.Amount.Refund, a.Amount.PayerRefund, a.Amount.DiscountRefund, a.Amount.Currency = r.amount, r.payerAmount, r.amount-r.payerAmount, "CNY"
	return a
}
