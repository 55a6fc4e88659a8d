package fallback

import (
	"encoding/json"
	"strconv"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Event is what WeChat Pay's callback would have said: its event_type, and its
// resource with the callback's field names.
type Event struct {
	EventType string
	Plaintext []byte
}

// typePaid is the callback's event_type for every payment.
const typePaid = "TRANSACTION.SUCCESS"

// PaidEvent turns the verified answer of an order query into the payment's
// callback; ok is false when the order is not paid. The two have the same fields.
// A query of an order that was refunded since says REFUND (转入退款): the callback
// of its payment said SUCCESS, and so does the event.
func PaidEvent(kind storage.OrderKind, answer []byte) (e Event, ok bool) {
	if orderState(kind, answer) != storage.OrderPaid {
		return e, false
	}
	if kind != storage.OrderCombine {
		return Event{typePaid, success(answer, "trade_state")}, true
	}
	for i := range int(gjson.GetBytes(answer, "sub_orders.#").Int()) {
		answer = success(answer, "sub_orders."+strconv.Itoa(i)+".trade_state")
	}
	return Event{typePaid, answer}, true
}

// success makes one trade_state SUCCESS. Bytes that say so already stay.
func success(answer []byte, path string) []byte {
	if gjson.GetBytes(answer, path).String() == "SUCCESS" {
		return answer
	}
	changed, err := sjson.SetBytes(answer, path, "SUCCESS")
	if err != nil { // the path was found in it
		return answer
	}
	return changed
}

// orderState is what an answer says of an order: Paid, Closed, Created while it
// waits to be paid, "" for anything else. A combine order is what all of its
// sub-orders are.
func orderState(kind storage.OrderKind, answer []byte) storage.OrderState {
	if kind != storage.OrderCombine {
		return tradeState(gjson.GetBytes(answer, "trade_state").String())
	}
	subs := gjson.GetBytes(answer, "sub_orders")
	if !subs.IsArray() {
		return ""
	}
	var state storage.OrderState
	for i, sub := range subs.Array() {
		one := tradeState(sub.Get("trade_state").String())
		if i > 0 && one != state {
			return ""
		}
		state = one
	}
	return state
}

func tradeState(text string) storage.OrderState {
	switch text {
	case "SUCCESS", "REFUND":
		return storage.OrderPaid
	case "CLOSED", "REVOKED":
		return storage.OrderClosed
	case "NOTPAY", "USERPAYING":
		return storage.OrderCreated
	}
	return ""
}

// PaidRow is the callback of a payment as far as the ledger's row tells it: enough
// to know which event it is. ok is false when the row does not tell.
func PaidRow(o *storage.Order) (e Event, ok bool) {
	var fields map[string]any
	switch o.Kind {
	case storage.OrderBasic:
		fields = map[string]any{"mchid": o.Key.Mchid}
	case storage.OrderPartner:
		fields = map[string]any{"sp_mchid": o.Key.Mchid, "sub_mchid": o.Key.SubMchid}
	case storage.OrderCombine:
		subs := make([]map[string]any, len(o.Subs))
		for i, s := range o.Subs {
			subs[i] = map[string]any{
				"mchid": s.Mchid, "out_trade_no": s.OutTradeNo, "transaction_id": s.TransactionID, "trade_state": "SUCCESS",
			}
			if s.SubMchid != "" {
				subs[i]["sub_mchid"] = s.SubMchid
			}
		}
		fields = map[string]any{"combine_mchid": o.Key.Mchid, "combine_out_trade_no": o.Key.Number, "sub_orders": subs}
		return event(typePaid, fields), len(subs) > 0
	case storage.OrderParking:
		return e, false
	default:
		return e, false
	}
	fields["out_trade_no"], fields["transaction_id"], fields["trade_state"] = o.Key.Number, o.TransactionID, "SUCCESS"
	return event(typePaid, fields), o.TransactionID != ""
}

// refundTypes are the callbacks' event_types, by status.
var refundTypes = map[string]string{
	"SUCCESS": "REFUND.SUCCESS", "ABNORMAL": "REFUND.ABNORMAL", "CLOSED": "REFUND.CLOSED",
}

// RefundEvent turns the verified answer of a refund query into the refund's
// callback; ok is false while there is nothing to tell (PROCESSING). The callback
// says refund_status where the query says status, names the mchid, and has fewer
// fields. https://pay.weixin.qq.com/doc/v3/merchant/4012791865
func RefundEvent(mchid string, answer []byte) (e Event, ok bool) {
	found := gjson.ParseBytes(answer)
	status := found.Get("status").String()
	eventType, ok := refundTypes[status]
	if !ok {
		return e, false
	}
	fields := map[string]any{"mchid": mchid, "refund_status": status}
	for _, name := range []string{"out_trade_no", "transaction_id", "out_refund_no", "refund_id", "success_time", "user_received_account"} {
		if member := found.Get(name); member.Type == gjson.String {
			fields[name] = member.Str
		}
	}
	amount := make(map[string]json.RawMessage)
	for _, name := range []string{"total", "refund", "payer_total", "payer_refund"} {
		if member := found.Get("amount." + name); member.Type == gjson.Number {
			amount[name] = json.RawMessage(member.Raw)
		}
	}
	fields["amount"] = amount
	return event(eventType, fields), true
}

// RefundRow is PaidRow for a refund.
func RefundRow(r *storage.Refund) (e Event, ok bool) {
	status := map[storage.RefundState]string{
		storage.RefundSuccess: "SUCCESS", storage.RefundAbnormal: "ABNORMAL", storage.RefundClosed: "CLOSED",
	}[r.State]
	return event(refundTypes[status], map[string]any{
		"mchid": r.Key.Mchid, "refund_status": status, "out_refund_no": r.Key.OutRefundNo,
		"refund_id": r.RefundID, "out_trade_no": r.Order.Number, "transaction_id": r.TransactionID,
	}), status != "" && r.RefundID != ""
}

func event(eventType string, fields map[string]any) Event {
	text, err := json.Marshal(fields)
	if err != nil { // texts and numbers that were read from JSON
		text = nil
	}
	return Event{eventType, text}
}
