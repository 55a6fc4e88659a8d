package receive

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/ledger"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// errMarked ends a change that has nothing to write.
var errMarked = errors.New("receive: nothing to mark")

// mark writes WeChat Pay's verified word into the rows that the event agrees
// with: the order is paid, the refund is where the event says. Rows that the
// ledger does not have are not made, and a row that says so already is not
// written again.
func (r *Receiver) mark(ctx context.Context, e *event.Event, j *judgement) error {
	if j.found.Verdict != ledger.Agrees {
		return nil
	}
	now := r.now()
	var keys storage.Keys
	var change func(*storage.Rows) error
	switch order, refund := j.facts.Order, j.facts.Refund; {
	case e.Kind == event.Refund && refund != nil:
		if !markRefund(&storage.Rows{Refund: new(*refund)}, e, now) {
			return nil
		}
		keys = storage.Keys{Refund: refund.Key}
		if refund.Tally != "" {
			keys.Memos = []string{refund.Tally}
		}
		if order != nil {
			keys.Order = order.Key
		}
		change = func(rows *storage.Rows) error {
			if rows.Refund == nil || !markRefund(rows, e, now) {
				return errMarked
			}
			return nil
		}
	case e.Paid() && order != nil:
		copied := *order
		copied.Subs = append([]storage.SubOrder(nil), order.Subs...)
		if !markPaid(&copied, e, now) {
			return nil
		}
		keys = storage.Keys{Order: order.Key}
		change = func(rows *storage.Rows) error {
			if rows.Order == nil || !markPaid(rows.Order, e, now) {
				return errMarked
			}
			return nil
		}
	default:
		return nil
	}
	switch err := r.store.Change(ctx, keys, change); {
	case errors.Is(err, errMarked):
	case errors.Is(err, storage.ErrNumberTaken): // a rejected order's, which stays one
	default:
		return err
	}
	return nil
}

// markPaid makes an order paid and binds its transaction ids. It reports
// whether it changed anything; ids that are bound stay.
func markPaid(order *storage.Order, e *event.Event, now time.Time) bool {
	changed := false
	if order.State != storage.OrderPaid {
		order.State = storage.OrderPaid
		changed = true
	}
	if order.PaidAt.IsZero() {
		order.PaidAt = e.SuccessAt
		if order.PaidAt.IsZero() {
			order.PaidAt = now
		}
		changed = true
	}
	if order.TransactionID == "" && e.TransactionID != "" {
		order.TransactionID = e.TransactionID
		changed = true
	}
	if e.Payer != "" && e.Payer != order.Payer {
		order.Payer = e.Payer
		changed = true
	}
	for i := range e.Subs {
		got := &e.Subs[i]
		for k := range order.Subs {
			sub := &order.Subs[k]
			if sub.OutTradeNo == got.OutTradeNo && (got.Mchid == "" || sub.Mchid == got.Mchid) &&
				(got.SubMchid == "" || sub.SubMchid == "" || sub.SubMchid == got.SubMchid) &&
				sub.TransactionID == "" && got.TransactionID != "" {
				sub.TransactionID = got.TransactionID
				changed = true
			}
		}
	}
	if changed {
		order.UpdatedAt = now
	}
	return changed
}

// markRefund moves a refund to where the event says, unless it is final. A
// refund that WeChat closed no longer counts against its payment. It reports
// whether it changed anything.
func markRefund(rows *storage.Rows, e *event.Event, now time.Time) bool {
	refund, changed := rows.Refund, false
	if refund.RefundID == "" && e.RefundID != "" {
		refund.RefundID = e.RefundID
		changed = true
	}
	if refund.TransactionID == "" && e.TransactionID != "" {
		refund.TransactionID = e.TransactionID
		changed = true
	}
	if rows.MoveRefund(refundState(e.State), now) {
		changed = true
	}
	if changed {
		refund.UpdatedAt = now
	}
	return changed
}

// refundState is the ledger's word for a refund_status; empty for others.
func refundState(status string) storage.RefundState {
	switch status {
	case "SUCCESS":
		return storage.RefundSuccess
	case "ABNORMAL":
		return storage.RefundAbnormal
	case "CLOSED":
		return storage.RefundClosed
	case "PROCESSING":
		return storage.RefundProcessing
	}
	return ""
}
