package parking

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Outcome is what became of an exit.
type Outcome string

// The outcomes. Only Accepted and Paid open a barrier.
const (
	Accepted    Outcome = "accepted"    // WeChat Pay has taken the charge on (ACCEPTED)
	Paid        Outcome = "paid"        // it is paid (SUCCESS)
	Failed      Outcome = "failed"      // it was taken on and has failed (PAY_FAIL); it may be paid later
	Refunded    Outcome = "refunded"    // it was paid and given back (REFUND)
	Rejected    Outcome = "rejected"    // WeChat Pay has not taken it on
	Unreachable Outcome = "unreachable" // nothing was sent
	Blocked     Outcome = "blocked"     // the entry is BLOCKED; nothing was sent
	OtherOrder  Outcome = "native"      // another order was offered for the stay; nothing was sent
	Unknown     Outcome = "unknown"     // nobody knows yet
)

// NotAccepted reports whether it is known that there is no charge and that none is
// on its way.
func (o Outcome) NotAccepted() bool {
	switch o {
	case Rejected, Unreachable, Blocked:
		return true
	case Accepted, Paid, Failed, Refunded, OtherOrder, Unknown:
	}
	return false
}

// ReleaseOn says which word of WeChat Pay's opens the barrier.
type ReleaseOn string

// The words. The guide (开发指引 4.1) has a car released on ACCEPTED.
const (
	OnAccepted ReleaseOn = "accepted" // ACCEPTED or SUCCESS
	OnSuccess  ReleaseOn = "success"  // SUCCESS alone
)

// Opens reports whether an outcome opens the barrier.
func (on ReleaseOn) Opens(o Outcome) bool {
	return o == Paid || o == Accepted && on == OnAccepted
}

// Judge reads a verified answer about a charge. It says nothing unless
// out_trade_no, parking_id, amount and payee are all there and the ledger's.
func Judge(body []byte, order storage.Order) (outcome Outcome, tradeState string) {
	answer := gjson.ParseBytes(body)
	total, currency := answer.Get("amount.total"), answer.Get("amount.currency").String()
	if currency == "" {
		currency = "CNY"
	}
	if order.Kind != storage.OrderParking || order.ParkingID == "" ||
		answer.Get("out_trade_no").String() != order.Key.Number ||
		answer.Get("sub_mchid").String() != order.Key.SubMchid ||
		answer.Get("parking_info.parking_id").String() != order.ParkingID ||
		total.Type != gjson.Number || total.Raw != strconv.FormatInt(int64(order.Amount.Total), 10) || currency != order.Amount.Currency {
		return Unknown, ""
	}
	switch tradeState = answer.Get("trade_state").String(); tradeState {
	case "ACCEPTED":
		return Accepted, tradeState
	case "SUCCESS":
		return Paid, tradeState
	case "PAY_FAIL":
		return Failed, tradeState
	case "REFUND":
		return Refunded, tradeState
	}
	return Unknown, ""
}
