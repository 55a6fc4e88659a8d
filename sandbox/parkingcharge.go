package sandbox

import (
	"encoding/json"
	"regexp"
	"time"
)

const (
	tradeScene = "PARKING"
	advancedBy = "BPA" // bank_type of an order that WeChat Pay has advanced (垫资)
)

var parkingTradeNoPattern = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{1,32}$`)

// ChargeState is how far WeChat Pay has come with a charge.
type ChargeState string

// The states of a charge. The query's trade_state is ACCEPTED, SUCCESS,
// PAY_FAIL, SUCCESS (with bank_type BPA and user_repaid N), and SUCCESS
// (user_repaid Y).
const (
	ChargePending  ChargeState = "pending"   // accepted, not carried out
	ChargeSuccess  ChargeState = "success"   // TRANSACTION.SUCCESS
	ChargeFail     ChargeState = "fail"      // TRANSACTION.FAIL; may still become success
	ChargeAdvanced ChargeState = "advanced"  // TRANSACTION.SUCCESS: WeChat Pay paid in advance (垫资)
	ChargePaidBack ChargeState = "paid_back" // TRANSACTION.PAY_BACK: the user has repaid that
)

// charge is what a parking order has beside an order's fields. The platform's mu
// guards it.
type charge struct {
	parking   *parking
	info      parkingInfo
	state     ChargeState
	left      chan struct{} // closed when state changes; nil: nothing is planned
	callbacks []*callback
}

// Charge is a picture of a parking order's own part at one moment.
type Charge struct {
	ParkingID   string      `json:"parking_id"`
	PlateNumber string      `json:"plate_number"`
	PlateColor  string      `json:"plate_color"`
	State       ChargeState `json:"state"`
	Callbacks   []Callback  `json:"callbacks"` // one for each state that was told, the oldest first
}

func (c *charge) viewLocked() *Charge {
	v := &Charge{
		ParkingID: c.info.ParkingID, PlateNumber: c.info.PlateNumber, PlateColor: c.info.PlateColor,
		State: c.state, Callbacks: []Callback{},
	}
	for _, one := range c.callbacks {
		v.Callbacks = append(v.Callbacks, one.viewLocked())
	}
	return v
}

// parkingInfo is the parking_info of a charge.
type parkingInfo struct {
	ParkingID        string `json:"parking_id"`
	PlateNumber      string `json:"plate_number"`
	PlateColor       string `json:"plate_color"`
	StartTime        string `json:"start_time"`
	EndTime          string `json:"end_time"`
	ParkingName      string `json:"parking_name"`
	ChargingDuration int64  `json:"charging_duration"`
	DeviceID         string `json:"device_id"`

	start, end time.Time
}

func readParkingInfo(in *object) (i parkingInfo) {
	i.ParkingID = in.text("parking_id", true, 1, 32)
	i.PlateNumber, i.PlateColor = in.plate()
	i.start, i.end = in.moment("start_time"), in.moment("end_time")
	i.ParkingName = in.text("parking_name", true, 1, 128)
	i.ChargingDuration = in.seconds("charging_duration")
	i.DeviceID = in.text("device_id", true, 1, 32)
	i.StartTime, i.EndTime = rfc3339(i.start), rfc3339(i.end)
	return i
}

// chargeTransaction is a parking order in the answers of the API and, with some
// fields otherwise, in callbacks.
type chargeTransaction struct {
	Appid         string      `json:"appid"`
	SubAppid      string      `json:"sub_appid,omitempty"`
	SpMchid       string      `json:"sp_mchid"` // of a direct merchant too
	SubMchid      string      `json:"sub_mchid,omitempty"`
	Description   string      `json:"description"`
	CreateTime    string      `json:"create_time"`
	OutTradeNo    string      `json:"out_trade_no"`
	TransactionID string      `json:"transaction_id,omitempty"`
	TradeState    string      `json:"trade_state"`
	StateDesc     string      `json:"trade_state_description"`
	SuccessTime   string      `json:"success_time,omitempty"`
	BankType      string      `json:"bank_type,omitempty"`
	UserRepaid    string      `json:"user_repaid,omitempty"` // Y or N, of an advanced order alone
	Attach        string      `json:"attach,omitempty"`
	TradeScene    string      `json:"trade_scene"`
	ParkingInfo   parkingInfo `json:"parking_info"`
	Payer         chargePayer `json:"payer"`
	Amount        chargeSum   `json:"amount"`
	Promotions    []any       `json:"promotion_detail,omitempty"`
}

type chargePayer struct {
	Openid    string `json:"openid"`
	SubOpenid string `json:"sub_openid,omitempty"`
}

type chargeSum struct {
	Total         int64  `json:"total"`
	Currency      string `json:"currency"`
	PayerTotal    *int64 `json:"payer_total,omitempty"`
	DiscountTotal *int64 `json:"discount_total,omitempty"`
}

// bank is the bank_type of a paid order.
func (o *order) bank() string {
	if o.charge != nil && (o.charge.state == ChargeAdvanced || o.charge.state == ChargePaidBack) {
		return advancedBy
	}
	return bankType
}

func (o *order) chargeAnswer() chargeTransaction {
	l, c := o.lines[0], o.charge
	t := chargeTransaction{
		Appid: o.appid, SubAppid: l.subAppid, SpMchid: o.mchid, SubMchid: l.subMchid,
		Description: l.description, CreateTime: rfc3339(o.created), OutTradeNo: o.number,
		TradeState: string(o.tradeState(l)), StateDesc: o.tradeState(l).description(),
		Attach: l.attach, TradeScene: tradeScene, ParkingInfo: c.info,
		Payer:  chargePayer{o.payer.openid, o.payer.subOpenid},
		Amount: chargeSum{Total: l.total, Currency: "CNY"},
	}
	if o.state != Success {
		return t
	}
	paid, off := l.payerTotal, l.total-l.payerTotal
	t.TransactionID, t.SuccessTime, t.BankType = l.transactionID, rfc3339(o.paidAt), o.bank()
	t.Amount.PayerTotal, t.Amount.DiscountTotal = &paid, &off
	for _, one := range l.promotions() {
		t.Promotions = append(t.Promotions, one)
	}
	switch c.state {
	case ChargeAdvanced:
		t.UserRepaid = "N"
	case ChargePaidBack:
		t.UserRepaid = "Y"
	case ChargePending, ChargeSuccess, ChargeFail:
	}
	return t
}

// chargePromotion is a coupon as the callback has it.
type chargePromotion struct {
	PromotionID         string `json:"promotion_id"`
	Name                string `json:"name"`
	Scope               string `json:"scope"`
	Type                string `json:"type"`
	Amount              int64  `json:"amount"`
	ActivityID          string `json:"activity_id"`
	WechatpayContribute int64  `json:"wechatpay_contribute"`
	MerchantContribute  int64  `json:"merchant_contribute"`
	OtherContribute     int64  `json:"other_contribute"`
}

// chargeNotice is the resource of a charge's callback with by fen added to the
// amount. Its trade_state is FAIL and PAY_BACK where the query says PAY_FAIL and
// SUCCESS, and never REFUND.
func (o *order) chargeNotice(by int64) []byte {
	t := o.chargeAnswer()
	t.Amount.Total += by
	switch o.charge.state {
	case ChargeFail:
		t.TradeState, t.StateDesc = "FAIL", "扣款失败"
	case ChargePaidBack:
		t.TradeState, t.StateDesc = "PAY_BACK", "用户还款"
	case ChargeSuccess, ChargeAdvanced, ChargePending:
		t.TradeState, t.StateDesc = string(Success), Success.description()
	}
	if t.Amount.PayerTotal != nil {
		*t.Amount.PayerTotal += by
	}
	for i, one := range t.Promotions {
		c, ok := one.(promotion)
		if !ok {
			continue
		}
		t.Promotions[i] = chargePromotion{
			PromotionID: c.CouponID, Name: c.Name, Scope: c.Scope, Type: "DISCOUNT", Amount: c.Amount,
			ActivityID: c.StockID, WechatpayContribute: c.WechatpayContribute,
		}
	}
	b, err := json.Marshal(t)
	if err != nil { // plain structs: cannot happen
		panic("sandbox: " + err.Error())
	}
	return b
}
