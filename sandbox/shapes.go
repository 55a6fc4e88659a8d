package sandbox

import "time"

// beijing is the zone WeChat Pay writes its times in.
var beijing = time.FixedZone("CST", 8*60*60)

// rfc3339 writes a time as WeChat Pay does: 2026-11-22T18:27:34+08:00.
func rfc3339(t time.Time) string { return stamp(t).Format(time.RFC3339) }

// stamp is t as WeChat Pay records it: in whole seconds of Beijing's time.
func stamp(t time.Time) time.Time { return t.Truncate(time.Second).In(beijing) }

// transaction is a basic order in queries and callbacks.
type transaction struct {
	Mchid         string      `json:"mchid"`
	Appid         string      `json:"appid"`
	OutTradeNo    string      `json:"out_trade_no"`
	TransactionID string      `json:"transaction_id,omitempty"`
	TradeType     string      `json:"trade_type,omitempty"`
	TradeState    TradeState  `json:"trade_state"`
	StateDesc     string      `json:"trade_state_desc"`
	BankType      string      `json:"bank_type,omitempty"`
	Attach        string      `json:"attach,omitempty"`
	SuccessTime   string      `json:"success_time,omitempty"`
	Payer         *payer      `json:"payer,omitempty"`
	Amount        amount      `json:"amount"`
	SceneInfo     *scene      `json:"scene_info,omitempty"`
	Promotions    []promotion `json:"promotion_detail,omitempty"`
}

type payer struct {
	Openid string `json:"openid"`
}

type scene struct {
	DeviceID string `json:"device_id"`
}

type amount struct {
	Total         int64  `json:"total"`
	PayerTotal    *int64 `json:"payer_total,omitempty"`
	Currency      string `json:"currency"`
	PayerCurrency string `json:"payer_currency,omitempty"`
}

type promotion struct {
	CouponID            string `json:"coupon_id"`
	Name                string `json:"name"`
	Scope               string `json:"scope"`
	Type                string `json:"type"`
	Amount              int64  `json:"amount"`
	StockID             string `json:"stock_id"`
	WechatpayContribute int64  `json:"wechatpay_contribute"`
	MerchantContribute  int64  `json:"merchant_contribute"`
	OtherContribute     int64  `json:"other_contribute"`
	Currency            string `json:"currency"`
}

// combineTransaction is a combine order in queries and callbacks; it has no
// state of its own, each sub-order has one, and its amounts have other names.
type combineTransaction struct {
	Appid     string           `json:"combine_appid"`
	Mchid     string           `json:"combine_mchid"`
	Number    string           `json:"combine_out_trade_no"`
	SceneInfo *scene           `json:"scene_info,omitempty"`
	SubOrders []subTransaction `json:"sub_orders"`
	Payer     *payer           `json:"combine_payer_info,omitempty"`
}

type subTransaction struct {
	Mchid         string      `json:"mchid"`
	SubMchid      string      `json:"sub_mchid,omitempty"`
	SubAppid      string      `json:"sub_appid,omitempty"`
	TradeType     string      `json:"trade_type,omitempty"`
	TradeState    TradeState  `json:"trade_state"`
	BankType      string      `json:"bank_type,omitempty"`
	Attach        string      `json:"attach"`
	Amount        subAmount   `json:"amount"`
	SuccessTime   string      `json:"success_time,omitempty"`
	TransactionID string      `json:"transaction_id,omitempty"`
	OutTradeNo    string      `json:"out_trade_no"`
	Promotions    []promotion `json:"promotion_detail,omitempty"`
}

type subAmount struct {
	TotalAmount   int64  `json:"total_amount"`
	Currency      string `json:"currency"`
	PayerAmount   *int64 `json:"payer_amount,omitempty"`
	PayerCurrency string `json:"payer_currency,omitempty"`
}

// bankType is 零钱 or a bank; what the sandbox's payer uses.
const bankType = "OTHERS"

func (s TradeState) description() string {
	switch s {
	case NotPay:
		return "订单未支付"
	case Success:
		return "支付成功"
	case Refunded:
		return "订单发生过退款，退款详情请查询退款单"
	case Closed:
		return "订单已关闭"
	case Accepted:
		return "已接收，等待扣款"
	case PayFail:
		return "支付失败"
	}
	return string(s)
}

func (l *line) promotions() []promotion {
	if l.payerTotal == l.total {
		return nil
	}
	off := l.total - l.payerTotal
	return []promotion{{
		CouponID: "SANDBOX", Name: "沙箱代金券", Scope: "GLOBAL", Type: "NOCASH", Amount: off,
		StockID: "SANDBOX", WechatpayContribute: off, Currency: "CNY",
	}}
}

// tradeState is what a query says of l.
func (o *order) tradeState(l *line) TradeState {
	if o.state == Success && l.refunded {
		return Refunded
	}
	return o.state
}

func (o *order) scene() *scene {
	if o.deviceID == "" {
		return nil
	}
	return &scene{DeviceID: o.deviceID}
}

func (o *order) transaction() transaction {
	l := o.lines[0]
	t := transaction{
		Mchid: o.mchid, Appid: o.appid, OutTradeNo: o.number, TradeState: o.tradeState(l),
		StateDesc: o.tradeState(l).description(), Attach: l.attach, SceneInfo: o.scene(),
		Amount: amount{Total: l.total, Currency: "CNY"},
	}
	if o.state == Success {
		t.TransactionID, t.TradeType, t.BankType = l.transactionID, string(o.trade), bankType
		t.SuccessTime, t.Payer, t.Promotions = rfc3339(o.paidAt), &payer{o.payer.openid}, l.promotions()
		t.Amount.PayerTotal, t.Amount.PayerCurrency = &l.payerTotal, "CNY"
	}
	return t
}

// partnerTransaction is a partner order in queries and callbacks.
type partnerTransaction struct {
	SpAppid  string `json:"sp_appid"`
	SpMchid  string `json:"sp_mchid"`
	SubAppid string `json:"sub_appid,omitempty"`
	SubMchid string `json:"sub_mchid"`
	transaction
	Mchid *string       `json:"mchid,omitempty"` // hides those of transaction
	Appid *string       `json:"appid,omitempty"`
	Payer *partnerPayer `json:"payer,omitempty"`
}

type partnerPayer struct {
	SpOpenid  string `json:"sp_openid,omitempty"`
	SubOpenid string `json:"sub_openid,omitempty"`
}

func (o *order) partnerTransaction() partnerTransaction {
	l := o.lines[0]
	t := partnerTransaction{
		SpAppid: o.appid, SpMchid: o.mchid, SubAppid: l.subAppid, SubMchid: l.subMchid,
		transaction: o.transaction(),
	}
	if o.state == Success {
		t.Payer = &partnerPayer{o.payer.openid, o.payer.subOpenid}
	}
	return t
}

func (o *order) combineTransaction() combineTransaction {
	c := combineTransaction{Appid: o.appid, Mchid: o.mchid, Number: o.number, SceneInfo: o.scene()}
	for _, l := range o.lines {
		s := subTransaction{
			Mchid: l.mchid, SubMchid: l.subMchid, SubAppid: l.subAppid, OutTradeNo: l.number,
			TradeState: o.tradeState(l), Attach: l.attach,
			Amount: subAmount{TotalAmount: l.total, Currency: "CNY"},
		}
		if o.state == Success {
			s.TransactionID, s.TradeType, s.BankType = l.transactionID, string(o.trade), bankType
			s.SuccessTime, s.Promotions = rfc3339(o.paidAt), l.promotions()
			s.Amount.PayerAmount, s.Amount.PayerCurrency = &l.payerTotal, "CNY"
		}
		c.SubOrders = append(c.SubOrders, s)
	}
	if o.state == Success {
		c.Payer = &payer{o.payer.openid}
	}
	return c
}
