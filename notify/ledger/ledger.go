// Package ledger holds an event against what the ledger knows of its order and
// refund. It reads nothing: [Check] is a function of facts that its caller
// looked up, so that every rule can be tried at its edge.
//
// Two rules run through it. What an event does not state contradicts nothing:
// refund callbacks carry no currency, appid or sub_mchid, parking charges may
// carry no transaction_id. And what the ledger does not know contradicts
// nothing, either. The amount that is compared is amount.total, what was
// ordered: payer_total is less when a coupon (优惠券) was used, and that is
// legitimate.
package ledger

import (
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Verdict is the outcome of a check, a closed set.
type Verdict uint8

// The verdicts.
const (
	// NotChecked: events of this kind are not held against the ledger.
	NotChecked Verdict = iota + 1
	// Unknown: the ledger does not know the order, or the event states no
	// amount to compare.
	Unknown
	// Agrees: the event agrees with the ledger.
	Agrees
	// Contradicts: Finding.Field says in what.
	Contradicts
)

// Finding is what Check found.
type Finding struct {
	Verdict Verdict
	// Field is the field that contradicts, spelled as WeChat Pay does. It never
	// holds a value.
	Field string
	// OrderKnown is true when the ledger knows the order, whatever the verdict.
	OrderKnown bool
}

// Facts is what the caller looked up. A nil row is one that the ledger does not
// have.
type Facts struct {
	Event *event.Event
	// Order is the order of the event's number: its own row, or the combine
	// order that has it as a sub-order.
	Order *storage.Order
	// Owner is the order that carries the event's transaction_id, where the
	// caller looked for it. Nil: none does.
	Owner *storage.Order
	// Refund is the refund of the event's out_refund_no.
	Refund *storage.Refund
}

// Check compares. It allocates nothing and changes nothing.
func Check(f Facts) Finding {
	e := f.Event
	if !e.Kind.IsChecked() {
		return Finding{Verdict: NotChecked}
	}
	order := f.Order
	if order != nil && order.State == storage.OrderRejected && !revives(e, order, f.Owner) {
		// WeChat refused this order, and its number is free again: whoever used
		// it since, it was not what the row says.
		order = nil
	}
	refund := f.Refund
	if refund != nil && refund.State == storage.RefundRejected {
		refund = nil
	}
	finding := Finding{Verdict: Unknown, OrderKnown: order != nil}
	if field := contradiction(e, order, f.Owner, refund); field != "" {
		finding.Verdict, finding.Field = Contradicts, field
		return finding
	}
	if (order != nil || refund != nil) && statesAmount(e, order, refund) {
		finding.Verdict = Agrees
	}
	return finding
}

// revives says whether the event is the payment of exactly what a rejected order
// asked for: somebody made it after all.
func revives(e *event.Event, order, owner *storage.Order) bool {
	return e.Kind.IsPayment() && statesAmount(e, order, nil) && contradiction(e, order, owner, nil) == ""
}

// contradiction names the first field that contradicts, "" when none does.
func contradiction(e *event.Event, order, owner *storage.Order, refund *storage.Refund) string {
	if e.ForeignMchid != "" {
		return e.ForeignMchid
	}
	if field := impossible(e); field != "" {
		return field
	}
	if owner != nil && owner.State != storage.OrderRejected && !owns(e, order, owner) {
		return "transaction_id"
	}
	if e.Kind == event.Refund {
		return first(againstRefund(e, refund), againstRefundedOrder(e, order))
	}
	if order == nil {
		return ""
	}
	if field := againstOwner(e, order); field != "" {
		return field
	}
	if e.Kind == event.Combine {
		return againstCombine(e, order)
	}
	return againstOrder(e, order)
}

// impossible finds amounts that no payment has, known order or not.
func impossible(e *event.Event) string {
	if e.Amount.TotalKnown && e.Amount.Total < 0 {
		return "amount.total"
	}
	if e.Amount.RefundKnown && e.Amount.Refund < 0 {
		return "amount.refund"
	}
	for i := range e.Subs {
		if e.Subs[i].Amount.TotalKnown && e.Subs[i].Amount.Total < 0 {
			return "sub_orders.amount.total_amount"
		}
	}
	return ""
}

// owns says whether the order that carries the transaction_id is the event's.
func owns(e *event.Event, order, owner *storage.Order) bool {
	if order != nil {
		return order.Key == owner.Key
	}
	// The event's number found nothing, yet its transaction_id did. A refund
	// that states no sub_mchid may still mean that order.
	if e.OutTradeNo == "" || e.OutTradeNo == owner.Key.Number {
		return e.SubMchid == "" || owner.Key.SubMchid == "" || e.SubMchid == owner.Key.SubMchid
	}
	for i := range owner.Subs {
		if owner.Subs[i].OutTradeNo == e.OutTradeNo {
			return true
		}
	}
	return false
}

// againstOwner compares what all orders have: payee, appid and product.
func againstOwner(e *event.Event, order *storage.Order) string {
	if order.Key.Mchid != "" && e.Mchid != "" && order.Key.Mchid != e.Mchid {
		return "mchid"
	}
	if (e.Kind == event.Combine) != (order.Kind == storage.OrderCombine) {
		// A sub-order's number in a payment of its own, or a combine payment of
		// an order that is none.
		if e.Kind == event.Combine {
			return "combine_out_trade_no"
		}
		return "out_trade_no"
	}
	if e.Kind != event.Combine && e.SubMchid != "" {
		if order.Key.SubMchid != "" && order.Key.SubMchid != e.SubMchid {
			return "sub_mchid"
		}
		// The gateway made the order and knows that it has no sub-merchant; a
		// registered row may just not state it.
		if order.Key.SubMchid == "" && order.Origin == storage.OriginGateway {
			return "sub_mchid"
		}
	}
	if order.Appid != "" && e.Appid != "" && e.Appid != order.Appid && e.SubAppid != order.Appid {
		return "appid"
	}
	return ""
}

// againstOrder compares a basic, partner or parking payment.
func againstOrder(e *event.Event, order *storage.Order) string {
	switch {
	case differs(order.Amount, e.Amount.Total, e.Amount.TotalKnown):
		return "amount.total"
	case stated(order.Amount.Currency, e.Amount.Currency):
		return "amount.currency"
	case stated(order.TransactionID, e.TransactionID):
		return "transaction_id"
	case stated(order.ParkingID, e.ParkingID):
		return "parking_id"
	case stated(order.OutParkingNo, e.OutParkingNo):
		return "out_parking_no"
	case stated(order.Plate, e.Plate):
		return "plate_number"
	case stated(order.PlateColor, e.PlateColor):
		return "plate_color"
	}
	return ""
}

// againstCombine compares the sets of sub-orders, in any order.
func againstCombine(e *event.Event, order *storage.Order) string {
	if len(order.Subs) == 0 {
		return "" // registered without its sub-orders
	}
	if len(order.Subs) != len(e.Subs) {
		return "sub_orders"
	}
	var sum storage.Fen
	complete := true
	for i := range e.Subs {
		got := &e.Subs[i]
		for j := range i {
			if e.Subs[j].OutTradeNo == got.OutTradeNo && e.Subs[j].Mchid == got.Mchid && e.Subs[j].SubMchid == got.SubMchid {
				return "sub_orders" // one twice means that another is missing
			}
		}
		want, field := subOf(order, got)
		if want == nil {
			return field
		}
		switch {
		case differs(want.Amount, got.Amount.Total, got.Amount.TotalKnown):
			return "sub_orders.amount.total_amount"
		case stated(want.Amount.Currency, got.Amount.Currency):
			return "sub_orders.amount.currency"
		case stated(want.TransactionID, got.TransactionID):
			return "sub_orders.transaction_id"
		}
		sum += got.Amount.Total
		complete = complete && got.Amount.TotalKnown
	}
	if complete && differs(order.Amount, sum, true) {
		return "sub_orders.amount.total_amount"
	}
	return ""
}

// subOf finds the ledger's sub-order of the number: with the same payee, or
// else it names what differs.
func subOf(order *storage.Order, got *event.Sub) (want *storage.SubOrder, field string) {
	field = "sub_orders.out_trade_no"
	for i := range order.Subs {
		sub := &order.Subs[i]
		if sub.OutTradeNo != got.OutTradeNo {
			continue
		}
		switch {
		case stated(sub.Mchid, got.Mchid):
			field = "sub_orders.mchid"
		case stated(sub.SubMchid, got.SubMchid), sub.SubMchid == "" && got.SubMchid != "" && order.Origin == storage.OriginGateway:
			field = "sub_orders.sub_mchid"
		default:
			return sub, ""
		}
	}
	return nil, field
}

// againstRefund compares with the refund of the number.
func againstRefund(e *event.Event, refund *storage.Refund) string {
	if refund == nil {
		return ""
	}
	switch {
	case stated(refund.Key.OutRefundNo, e.OutRefundNo):
		return "out_refund_no"
	case e.Amount.RefundKnown && refund.Amount != 0 && e.Amount.Refund != refund.Amount:
		return "amount.refund"
	case e.Amount.TotalKnown && refund.Total != 0 && e.Amount.Total != refund.Total:
		return "amount.total"
	case stated(refund.Currency, e.Amount.Currency):
		return "amount.currency"
	case stated(refund.RefundID, e.RefundID):
		return "refund_id"
	case stated(refund.TransactionID, e.TransactionID):
		return "transaction_id"
	case stated(refund.Order.SubMchid, e.SubMchid):
		return "sub_mchid"
	case refundedNumber(e, refund):
		return "out_trade_no"
	}
	return ""
}

// refundedNumber says whether the refund is of another order. A refund by
// transaction_id may have been recorded under its combine order's number.
func refundedNumber(e *event.Event, refund *storage.Refund) bool {
	return stated(refund.Order.Number, e.OutTradeNo) && refund.TransactionID == ""
}

// againstRefundedOrder compares a refund with the order that it is of: the
// order itself, or the sub-order of a combine order.
func againstRefundedOrder(e *event.Event, order *storage.Order) string {
	if order == nil {
		return ""
	}
	amount, transaction, sub := order.Amount, order.TransactionID, order.Key.SubMchid
	if order.Kind == storage.OrderCombine && order.Key.Number != e.OutTradeNo {
		for i := range order.Subs {
			if order.Subs[i].OutTradeNo == e.OutTradeNo || e.OutTradeNo == "" && order.Subs[i].TransactionID == e.TransactionID {
				amount, transaction, sub = order.Subs[i].Amount, order.Subs[i].TransactionID, order.Subs[i].SubMchid
				break
			}
		}
	}
	switch {
	case differs(amount, e.Amount.Total, e.Amount.TotalKnown):
		return "amount.total"
	case stated(amount.Currency, e.Amount.Currency):
		return "amount.currency"
	case e.Amount.RefundKnown && amount.Total != 0 && e.Amount.Refund > amount.Total:
		return "amount.refund"
	case stated(transaction, e.TransactionID):
		return "transaction_id"
	case stated(sub, e.SubMchid):
		return "sub_mchid"
	}
	return ""
}

// statesAmount says whether the event stated the amount that makes it a match. An
// event without any agrees with everything, which is not the same.
func statesAmount(e *event.Event, order *storage.Order, refund *storage.Refund) bool {
	switch e.Kind {
	case event.Refund:
		return e.Amount.RefundKnown && (refund != nil || e.Amount.TotalKnown)
	case event.Combine:
		for i := range e.Subs {
			if !e.Subs[i].Amount.TotalKnown {
				return false
			}
		}
		return true
	default:
		return order != nil && e.Amount.TotalKnown
	}
}

// differs says whether a stated amount is another than the ledger's; an order
// of 0 fen is one whose amount nobody stated.
func differs(want storage.Money, got storage.Fen, known bool) bool {
	return known && want.Total != 0 && want.Total != got
}

// stated says whether both state a value and the values differ.
func stated(want, got string) bool { return want != "" && got != "" && want != got }

func first(fields ...string) string {
	for _, field := range fields {
		if field != "" {
			return field
		}
	}
	return ""
}
