package payops

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// ordersPrefix is where the ledger's orders are.
const ordersPrefix = "/gateway/orders/"

// serveGateway serves the gateway's own resources.
func (a *API) serveGateway(w http.ResponseWriter, q *request) *refusal {
	number, ok := strings.CutPrefix(q.path, ordersPrefix)
	if !ok || strings.Contains(number, "/") {
		return refuse(http.StatusNotFound, codeNotFound, RulePath, "of /gateway/ this version serves /gateway/orders/{out_trade_no}")
	}
	number, ok = operation.DecodeSegment(number)
	if !ok || !numberText(number) || len(number) > maxNumber {
		return badRequest(RuleNumber, "out_trade_no must be up to 32 of digits, letters and _-|*@")
	}
	if refused := a.limitSubMchids(q, operation.Other); refused != nil {
		return refused
	}
	switch q.method {
	case http.MethodGet:
		return a.showOrder(w, q, number)
	case http.MethodPut:
		return a.registerOrder(w, q, number)
	}
	w.Header().Set("Allow", "GET, PUT")
	return refuse(http.StatusMethodNotAllowed, codeParam, RuleMethod, "the resource takes GET and PUT")
}

// showOrder answers with an order as the ledger knows it. A partner's order is
// named by ?sub_mchid=.
func (a *API) showOrder(w http.ResponseWriter, q *request, number string) *refusal {
	if !q.caller.Allows(operation.Query) {
		return notAllowed("the caller is not allowed query")
	}
	values, err := url.ParseQuery(q.query)
	if err != nil {
		return badRequest(RulePath, "the query cannot be read")
	}
	sub := values.Get("sub_mchid")
	for name := range values {
		if name != "sub_mchid" || len(values[name]) > 1 || !validMchid(sub) {
			return badRequest(RulePath, "the query may hold one sub_mchid and nothing else")
		}
	}
	order, err := a.ledger.Order(q.live, storage.OrderKey{Mchid: a.merchant.Mchid(), SubMchid: sub, Number: number})
	if errors.Is(err, storage.ErrNotFound) || err == nil && order.Merchant != "" && order.Merchant != a.merchant.Name() {
		return refuse(http.StatusNotFound, codeNotFound, RuleOrderNotFound, "the ledger does not know the order")
	}
	if err != nil {
		return a.ledgerRefusal(err)
	}
	return writeOrder(w, http.StatusOK, order)
}

// registerOrder takes in what a backend expects of an order that is, or will
// be, created elsewhere. Saying the same again is harmless; a registration may
// be corrected until the order is paid or closed; an order that the gateway
// made is never changed by it.
func (a *API) registerOrder(w http.ResponseWriter, q *request, number string) *refusal {
	order, refused := a.registration(q, number)
	if refused != nil {
		return refused
	}
	if !q.caller.Allows(groupOf(order.Kind)) {
		return notAllowed("the caller is not allowed " + string(groupOf(order.Kind)))
	}
	d := &draft{order: order}
	unlock, err := a.locks.lock(q.live, d.keys()...)
	if err != nil {
		return busy()
	}
	defer unlock()
	if refused := a.numbersFree(q, d); refused != nil {
		return refused
	}
	status, changed := http.StatusOK, false
	err = a.ledger.Change(q.live, storage.Keys{Order: order.Key}, func(rows *storage.Rows) error {
		status, changed = http.StatusOK, false
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
			status = http.StatusCreated
		}
		rows.Order, changed = &next, true
		return nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		return a.ledgerRefusal(err)
	}
	if changed {
		a.changed(q.call, order.Key)
	}
	stored, err := a.ledger.Order(q.live, order.Key)
	if err != nil {
		return a.ledgerRefusal(err)
	}
	return writeOrder(w, status, stored)
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

// registrable are the members of a registration.
var registrable = map[string]bool{
	"kind": true, "amount": true, "appid": true, "sub_mchid": true, "sub_orders": true,
	"parking_id": true, "out_parking_no": true, "plate_number": true, "plate_color": true,
}

// registration reads {"amount":{"total","currency"}, "appid", "kind",
// "sub_mchid", "sub_orders":[{"mchid","sub_mchid","out_trade_no","amount":
// {"total_amount","currency"}}], "parking_id", "out_parking_no",
// "plate_number", "plate_color"}. All but the amount may be left out; a combine
// order's amount is the sum of its sub-orders.
func (a *API) registration(q *request, number string) (storage.Order, *refusal) {
	var order storage.Order
	if q.query != "" {
		return order, badRequest(RulePath, "the resource takes no query here")
	}
	o, _, refused := jsonBody(q, false)
	if refused != nil {
		return order, refused
	}
	for name := range o {
		if !registrable[name] {
			return order, badRequest(RuleBody, "the body holds a member that a registration does not have")
		}
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

// orderView is an order as /gateway/orders/ shows it.
type orderView struct {
	OutTradeNo    string              `json:"out_trade_no"`
	Mchid         string              `json:"mchid"`
	SubMchid      string              `json:"sub_mchid,omitempty"`
	Kind          storage.OrderKind   `json:"kind"`
	State         storage.OrderState  `json:"state"`
	Origin        storage.OrderOrigin `json:"origin"`
	Appid         string              `json:"appid,omitempty"`
	Amount        storage.Money       `json:"amount"`
	SubOrders     []subOrderView      `json:"sub_orders,omitempty"`
	TransactionID string              `json:"transaction_id,omitempty"`
	CodeURL       string              `json:"code_url,omitempty"`
	Foreign       bool                `json:"foreign_notify_url,omitempty"`
	ParkingID     string              `json:"parking_id,omitempty"`
	OutParkingNo  string              `json:"out_parking_no,omitempty"`
	Plate         string              `json:"plate_number,omitempty"`
	PlateColor    string              `json:"plate_color,omitempty"`
	RefundTotal   storage.Fen         `json:"refund_total,omitempty"` // fen
	TimeExpire    time.Time           `json:"time_expire,omitzero"`
	CreatedAt     time.Time           `json:"created_at,omitzero"`
	UpdatedAt     time.Time           `json:"updated_at,omitzero"`
	PaidAt        time.Time           `json:"paid_at,omitzero"`
}

type subOrderView struct {
	Mchid         string        `json:"mchid"`
	SubMchid      string        `json:"sub_mchid,omitempty"`
	OutTradeNo    string        `json:"out_trade_no"`
	Amount        subAmountView `json:"amount"`
	SubAppid      string        `json:"sub_appid,omitempty"`
	TransactionID string        `json:"transaction_id,omitempty"`
}

// subAmountView spells the total as WeChat Pay does in sub-orders.
type subAmountView struct {
	TotalAmount storage.Fen `json:"total_amount"` // fen
	Currency    string      `json:"currency"`
}

// writeOrder answers with an order.
func writeOrder(w http.ResponseWriter, status int, o storage.Order) *refusal {
	view := orderView{
		OutTradeNo: o.Key.Number, Mchid: o.Key.Mchid, SubMchid: o.Key.SubMchid,
		Kind: o.Kind, State: o.State, Origin: o.Origin, Appid: o.Appid, Amount: o.Amount,
		TransactionID: o.TransactionID, CodeURL: o.CodeURL, Foreign: o.ForeignNotifyURL,
		ParkingID: o.ParkingID, OutParkingNo: o.OutParkingNo, Plate: o.Plate, PlateColor: o.PlateColor,
		RefundTotal: o.RefundTotal, TimeExpire: o.TimeExpire,
		CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt, PaidAt: o.PaidAt,
	}
	for _, s := range o.Subs {
		view.SubOrders = append(view.SubOrders, subOrderView{
			Mchid: s.Mchid, SubMchid: s.SubMchid, OutTradeNo: s.OutTradeNo, SubAppid: s.Appid,
			TransactionID: s.TransactionID, Amount: subAmountView{s.Amount.Total, s.Amount.Currency},
		})
	}
	body, err := json.Marshal(view)
	if err != nil {
		return refuse(http.StatusInternalServerError, codeSystem, RuleInternal, "the order cannot be shown")
	}
	h := w.Header()
	h.Set("Content-Type", jsonContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller is gone when this fails
	return nil
}
