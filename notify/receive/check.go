package receive

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/ledger"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// judgement is what is to become of an event.
type judgement struct {
	check  storage.AmountCheck
	park   storage.ParkReason // empty: deliver
	detail string
	group  string // the order's, where the ledger knows better; else empty
	facts  ledger.Facts
	found  ledger.Finding
}

// parkDetailState is the detail of ParkTradeState.
const parkDetailState = "trade_state"

// judge looks the event's order up and holds the event against it.
func (r *Receiver) judge(ctx context.Context, e *event.Event, m Merchant, mode notify.CheckMode) (judgement, error) {
	j := judgement{check: storage.AmountUnknown, facts: ledger.Facts{Event: e}}
	if mode == notify.CheckOff {
		j.check = storage.AmountOff
	}
	if !e.Kind.IsChecked() {
		return j, nil
	}
	if err := r.lookUp(ctx, &j.facts); err != nil {
		return j, err
	}
	j.found = ledger.Check(j.facts)
	j.group = groupOf(e, j.facts.Order)
	switch {
	case e.NotPaid():
		j.park, j.detail = storage.ParkTradeState, parkDetailState
	case mode == notify.CheckOff:
	case j.found.Verdict == ledger.Contradicts:
		j.park, j.detail = storage.ParkContradiction, j.found.Field
	case j.found.Verdict == ledger.Agrees:
		j.check = storage.AmountMatched
	case mode == notify.CheckStrict && e.Kind.IsPayment() && !j.found.OrderKnown:
		j.park = storage.ParkUnknownOrder
	}
	return j, nil
}

// complete adds to the notification what the ledger tells.
func (j *judgement) complete(n *storage.Notification) {
	n.AmountCheck = j.check
	if j.group != "" {
		n.Group = j.group
	}
	for _, row := range [...]*storage.Order{j.facts.Order, j.facts.Owner} {
		if row != nil {
			addOrder(n, row.Key)
		}
	}
	if j.park != "" && n.SubMchid != "" {
		// The order may come to be registered without its sub-merchant.
		key := j.facts.Event.OrderKey()
		key.SubMchid = ""
		addOrder(n, key)
	}
}

func addOrder(n *storage.Notification, key storage.OrderKey) {
	if !slices.Contains(n.Orders, key) {
		n.Orders = append(slices.Clip(n.Orders), key)
	}
}

// unlisted says whether a payment of an unknown order carries an appid that is
// not one of the merchant's.
func (j *judgement) unlisted(e *event.Event, m Merchant) bool {
	return e.Kind.IsPayment() && !j.found.OrderKnown && e.Appid != "" && !m.HasApp(e.Appid)
}

// groupOf names the delivery group of the event's order where its plaintext
// does not: a refund of a combine order's sub-order, or of a parking charge.
func groupOf(e *event.Event, order *storage.Order) string {
	switch {
	case order == nil:
		return ""
	case order.ParkingID != "" && e.ParkingID == "":
		return event.ParkingGroup(order.Key.Mchid, order.ParkingID)
	case order.Kind == storage.OrderCombine && order.Key.Number != e.OutTradeNo:
		return event.OrderGroup(order.Key.Mchid, order.Key.Number)
	}
	return ""
}

// lookUp reads the rows that the event is held against.
func (r *Receiver) lookUp(ctx context.Context, f *ledger.Facts) (err error) {
	e := f.Event
	key := e.OrderKey()
	if f.Order, err = r.order(ctx, key); err != nil {
		return err
	}
	if f.Order == nil && key.SubMchid != "" {
		// Registered by a backend that did not state the sub-merchant.
		key.SubMchid = ""
		if f.Order, err = r.order(ctx, key); err != nil {
			return err
		}
	}
	if f.Owner, err = r.ownerOf(ctx, e, f.Order); err != nil {
		return err
	}
	if e.Kind != event.Refund {
		return nil
	}
	refund := e.RefundKey()
	if f.Order == nil && f.Owner != nil && numbers(f.Owner, e.OutTradeNo) {
		// A partner's refund does not state its sub-merchant; the order does.
		f.Order = f.Owner
	}
	if refund.SubMchid == "" && f.Order != nil {
		refund.SubMchid = subMchidOf(f.Order, e)
	}
	f.Refund, err = r.refund(ctx, refund)
	if err == nil && f.Refund == nil && refund.SubMchid != e.SubMchid {
		f.Refund, err = r.refund(ctx, e.RefundKey())
	}
	if err != nil || f.Refund == nil || f.Order != nil {
		return err
	}
	f.Order, err = r.order(ctx, f.Refund.Order)
	return err
}

// ownerOf finds the order that carries the event's transaction_id, unless the
// order of the event's number carries it.
func (r *Receiver) ownerOf(ctx context.Context, e *event.Event, order *storage.Order) (*storage.Order, error) {
	if e.Kind != event.Combine {
		if e.TransactionID == "" || carries(order, e.TransactionID) {
			return nil, nil
		}
		return r.orderByTransaction(ctx, e.Mchid, e.TransactionID)
	}
	for i := range e.Subs {
		sub := &e.Subs[i]
		if sub.TransactionID == "" || carries(order, sub.TransactionID) {
			continue
		}
		owner, err := r.orderByTransaction(ctx, cmp.Or(sub.Mchid, e.Mchid), sub.TransactionID)
		if err != nil || owner != nil {
			return owner, err
		}
	}
	return nil, nil
}

// carries says whether the order or one of its sub-orders has the transaction_id.
func carries(order *storage.Order, transactionID string) bool {
	if order == nil {
		return false
	}
	if order.TransactionID == transactionID {
		return true
	}
	for i := range order.Subs {
		if order.Subs[i].TransactionID == transactionID {
			return true
		}
	}
	return false
}

// numbers says whether the order or one of its sub-orders has the number.
func numbers(order *storage.Order, number string) bool {
	return order.Key.Number == number ||
		slices.ContainsFunc(order.Subs, func(sub storage.SubOrder) bool { return sub.OutTradeNo == number })
}

// subMchidOf is the sub-merchant that the refunded order was paid to.
func subMchidOf(order *storage.Order, e *event.Event) string {
	for i := range order.Subs {
		if order.Subs[i].OutTradeNo == e.OutTradeNo {
			return order.Subs[i].SubMchid
		}
	}
	return order.Key.SubMchid
}

func (r *Receiver) order(ctx context.Context, key storage.OrderKey) (*storage.Order, error) {
	if key.Number == "" {
		return nil, nil
	}
	return row(r.store.Order(ctx, key))
}

func (r *Receiver) orderByTransaction(ctx context.Context, mchid, transactionID string) (*storage.Order, error) {
	return row(r.store.OrderByTransaction(ctx, mchid, transactionID))
}

func (r *Receiver) refund(ctx context.Context, key storage.RefundKey) (*storage.Refund, error) {
	if key.OutRefundNo == "" {
		return nil, nil
	}
	return row(r.store.Refund(ctx, key))
}

// row makes a row that is not there nil, without allocating one. Any other
// error stays one: a row that cannot be read is not absent.
func row[T any](value T, err error) (*T, error) {
	if err != nil {
		if errors.Is(err, storage.ErrNotFound) {
			err = nil
		}
		return nil, err
	}
	found := new(T)
	*found = value
	return found, nil
}
