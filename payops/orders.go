package payops

import (
	"errors"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// registerOrder takes in what a backend expects of an order that is, or will
// be, created elsewhere. Saying the same again is harmless; a registration may
// be corrected until the order is paid or closed; an order that the gateway
// made is never changed by it.
func (a *API) registerOrder(q *request, number string) (stored storage.Order, created bool, refused *refusal) {
	order, refused := a.registration(q, number)
	if refused != nil {
		return stored, false, refused
	}
	if !q.caller.Allows(groupOf(order.Kind)) {
		return stored, false, notAllowed("the caller is not allowed " + string(groupOf(order.Kind)))
	}
	d := &draft{order: order}
	unlock, err := a.locks.lock(q.live, d.keys()...)
	if err != nil {
		return stored, false, busy()
	}
	defer unlock()
	if refused := a.numbersFree(q, d); refused != nil {
		return stored, false, refused
	}
	changed := false
	err = a.ledger.Change(q.live, storage.Keys{Order: order.Key}, func(rows *storage.Rows) error {
		created, changed = false, false
		known := rows.Order
		if known != nil && known.State != storage.OrderRejected {
			if same(*known, order) {
				return errNothing
			}
			if known.State != storage.OrderRegistered || known.RefundCount > 0 {
				return immutable(known.State)
			}
		}
		next := order
		next.CreatedAt, next.UpdatedAt = a.now(), a.now()
		if known != nil && known.State == storage.OrderRegistered {
			next.CreatedAt = known.CreatedAt
		} else {
			created = true
		}
		rows.Order, changed = &next, true
		return nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		return stored, false, a.ledgerRefusal(err)
	}
	if changed {
		a.changed(q.call, order.Key)
	}
	if stored, err = a.ledger.Order(q.live, order.Key); err != nil {
		return stored, false, a.ledgerRefusal(err)
	}
	return stored, created, nil
}

// immutable refuses a change of what is settled.
func immutable(state storage.OrderState) *refusal {
	if state == storage.OrderPaid || state == storage.OrderClosed {
		return conflict(RuleImmutable, "the order is "+string(state)+"; what is expected of it is not changed any more")
	}
	return conflict(RuleContent, "the order was made through the gateway with another amount, appid or sub-orders")
}

// same reports whether a registration says nothing new. Of a registered order
// every field counts, so that one that was left open can be added; of an order
// the gateway made, those that are stated.
func same(known, stated storage.Order) bool {
	if known.Origin != storage.OriginRegistered || known.State != storage.OrderRegistered {
		return agrees(known, stated)
	}
	return known.Kind == stated.Kind && known.Amount == stated.Amount && known.Appid == stated.Appid &&
		known.ParkingID == stated.ParkingID && known.OutParkingNo == stated.OutParkingNo &&
		known.Plate == stated.Plate && known.PlateColor == stated.PlateColor &&
		contentOf(known) == contentOf(stated)
}

// groupOf names the group that registering an order of a kind needs: that of
// creating one.
func groupOf(kind storage.OrderKind) operation.Group {
	switch kind {
	case storage.OrderBasic:
		return operation.Pay
	case storage.OrderPartner:
		return operation.Partner
	case storage.OrderCombine:
		return operation.Combine
	case storage.OrderParking:
		return operation.Parking
	}
	return operation.Other
}

// registration reads a resource.Registration, of which every member is known. All
// but the amount may be left out; a combine order's amount is the sum of its
// sub-orders.
func (a *API) registration(q *request, number string) (storage.Order, *refusal) {
	var order storage.Order
	o, _, refused := jsonBody(q, false)
	if refused != nil {
		return order, refused
	}
	var kind, sub string
	for name, field := range map[string]*string{
		"kind": &kind, "appid": &order.Appid, "sub_mchid": &sub, "parking_id": &order.ParkingID,
		"out_parking_no": &order.OutParkingNo, "plate_number": &order.Plate, "plate_color": &order.PlateColor,
	} {
		text, ok := o.text(name)
		if !ok || len(text) > 128 {
			return order, badRequest(RuleBody, name+" must be a string of at most 128 bytes")
		}
		*field = text
	}
	_, hasSubs := o["sub_orders"].([]any)
	if o["sub_orders"] != nil && !hasSubs {
		return order, badRequest(RuleSubOrders, "sub_orders must be a list")
	}
	if order.Kind, refused = registrationKind(kind, hasSubs, sub != ""); refused != nil {
		return order, refused
	}
	if !validNumber(number, order.Kind) {
		return order, badNumber("out_trade_no", order.Kind)
	}
	if sub != "" && !validMchid(sub) {
		return order, badRequest(RuleBody, "sub_mchid must be digits")
	}
	order.Key = storage.OrderKey{Mchid: a.merchant.Mchid(), SubMchid: sub, Number: number}
	order.Merchant = a.merchant.Name()
	order.Origin, order.State = storage.OriginRegistered, storage.OrderRegistered
	amount, stated := o["amount"]
	if stated || !hasSubs {
		child, _ := amount.(object)
		var ok bool
		if order.Amount, ok = money(child, "total"); !ok {
			return order, badAmount("amount.total")
		}
	}
	if hasSubs {
		d := &draft{}
		if refused := d.readSubOrders(o); refused != nil {
			return order, refused
		}
		if stated && order.Amount != d.order.Amount {
			return order, badRequest(RuleAmount, "amount.total is not the sum of the sub-orders")
		}
		order.Subs, order.Amount = d.order.Subs, d.order.Amount
	}
	return order, nil
}

// registrationKind decides the kind of a registered order.
func registrationKind(kind string, hasSubs, hasSubMchid bool) (storage.OrderKind, *refusal) {
	k := storage.OrderKind(kind)
	switch {
	case kind == "" && hasSubs:
		k = storage.OrderCombine
	case kind == "" && hasSubMchid:
		k = storage.OrderPartner
	case kind == "":
		k = storage.OrderBasic
	}
	switch k {
	case storage.OrderBasic, storage.OrderPartner, storage.OrderCombine, storage.OrderParking:
	default:
		return "", badRequest(RuleBody, "kind must be basic, partner, combine or parking")
	}
	if hasSubs != (k == storage.OrderCombine) {
		return "", badRequest(RuleSubOrders, "sub_orders belong to a combine order, and a combine order has some")
	}
	if k == storage.OrderPartner && !hasSubMchid {
		return "", badRequest(RuleBody, "a partner order needs its sub_mchid")
	}
	if hasSubMchid && (k == storage.OrderBasic || k == storage.OrderCombine) {
		return "", badRequest(RuleBody, "sub_mchid belongs to partner and parking orders")
	}
	return k, nil
}
