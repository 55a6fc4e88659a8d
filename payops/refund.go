package payops

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// refund applies for a refund (申请退款). The intent, the refund and what its order
// has reserved are one change of the ledger, made before the first byte leaves:
// however many refunds of an order are applied for at once, together they never
// exceed what was paid. A repeat with the same content is sent again. The answer
// never makes a refund successful: a verified callback or query does.
// https://pay.weixin.qq.com/doc/v3/merchant/4012791862
func (a *API) refund(w http.ResponseWriter, q *request) *refusal {
	d, refused := a.refundDraft(q)
	if refused != nil {
		return refused
	}
	order, refused := a.orderOf(q.live, &d.refund)
	if refused != nil {
		return refused
	}
	var told *guard.Payment // by WeChat Pay, of what the ledger does not know
	if order == nil {
		if told, order, refused = a.unlisted(q.live, &d.refund); refused != nil {
			return refused
		}
	}
	limit := a.limits[q.caller.Name]
	if order == nil && told == nil && limit.RefundPerOrder != 0 {
		return overLimit(guard.LimitRefundPerOrder, "the caller's refunds are limited, and neither the ledger nor WeChat Pay tells which payment it is", 0)
	}
	d.tallies = d.refund.Tallies()
	next, refused := a.payersTurn(q.live, order)
	if refused != nil {
		return refused
	}
	defer next()
	locked := []storage.OrderKey{{Mchid: d.refund.Key.Mchid, SubMchid: d.refund.Key.SubMchid, Number: "refund " + d.refund.Key.OutRefundNo}}
	if order != nil {
		locked = append(locked, order.Key)
	} else {
		locked = append(locked, storage.OrderKey{Mchid: d.refund.Key.Mchid, Number: d.tallies[0]})
	}
	unlock, err := a.locks.lock(q.live, locked...)
	if err != nil {
		return busy()
	}
	defer unlock()

	facts, refused := a.refundFacts(q.live, d, order, told)
	if refused != nil {
		return refused
	}
	left, refused := a.refundPlace(q.live, d.refund.Key)
	if refused != nil {
		return refused
	}
	defer left()
	keys := storage.Keys{Refund: d.refund.Key}
	if order != nil {
		keys.Order = order.Key
	}
	counts := newRefundCounts(d.refund.Key.Mchid, q.caller.Name, limit, &facts, a.now())
	keys.Memos = append(counts.keys(), d.tallies...)
	var before *storage.Refund // that this call goes on with; nil for a new one
	var result guard.Result
	id, refused := a.beginRows(q, keys, d.refund.Order, func(rows *storage.Rows) error {
		var refused *refusal
		if before, result, refused = a.applying(rows, d, facts, limit, counts); refused != nil {
			return refused
		}
		return nil
	})
	if refused != nil {
		return refused
	}
	a.tell(w, result)

	res := a.send(q, id, q.path, d.body, true)
	known := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	rejected := before == nil && known && res.Outcome != send.Succeeded
	counts.ended(res.Status >= http.StatusBadRequest, rejected, a.now())
	keys.Memos = append(counts.keys(), d.tallies...)
	written := a.finishRows(q, id, keys, res, func(rows *storage.Rows) bool {
		counts := *counts
		if rejected && rows.Refund != nil && rows.Refund.Call != id {
			counts.day = "" // another call may have refunded it
		}
		if err := counts.settle(rows.Memos, d.refund.Amount); err != nil {
			a.log.Error("what refunds count is not written", "error", err)
		}
		return rows.Refund != nil && a.applied(rows, id, before, res, known)
	})
	if d.order.ForeignNotifyURL {
		w.Header().Add(headerWarning, warningForeign)
	}
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, known)
}

// applying decides about an apply call on the rows that it is about to write, and
// writes them. before is the refund as it stood, where its amount is reserved
// already.
func (a *API) applying(rows *storage.Rows, d *refundDraft, facts guard.Refund, limit guard.Limit, counts *refundCounts) (before *storage.Refund, result guard.Result, refused *refusal) {
	facts.Known = rows.Refund
	payment := *facts.Payment
	var err error
	if payment.Refunds, err = rows.RefundsOf(d.refund.Order, d.tallies); err != nil {
		return nil, result, a.ledgerRefusal(err)
	}
	facts.Payment = &payment
	now := counts.at
	if facts.FailureWait, facts.OldWait, err = counts.waits(rows.Memos); err != nil {
		return nil, result, a.ledgerRefusal(err)
	}
	result = guard.Evaluate(a.rules, guard.Facts{Now: now, Refund: &facts, Notify: a.notifyFacts(&d.draft)})
	if result.Refusal != nil {
		refused = ruledOut(result.Refusal)
		if result.Refusal.Rule.Name == guard.RefundSameNumber {
			refused.message += ": " + payment.Refunds.Keeps(d.refund.Key.OutRefundNo)
		}
		return nil, result, refused
	}
	if !facts.Reserved() && !limit.WithinOrder(payment.Refunds.Total, d.refund.Amount) {
		return nil, result, overLimit(guard.LimitRefundPerOrder, "the caller may not refund that much of one order", 0)
	}
	fresh := rows.Refund == nil || rows.Refund.State == storage.RefundRejected
	spend := storage.Fen(0)
	if fresh {
		spend = d.refund.Amount
	}
	switch within, err := counts.take(rows.Memos, spend, limit); {
	case err != nil:
		return nil, result, a.ledgerRefusal(err)
	case !within:
		return nil, result, overLimit(guard.LimitRefundPerDay, "the caller may not refund that much today", guard.Tomorrow(now))
	}
	switch {
	case fresh:
		refund := d.refund
		refund.CreatedAt, refund.UpdatedAt, refund.Call = now, now, rows.Call.ID
		rows.Refund = &refund
		if err := rows.ReserveRefund(d.tallies, now); err != nil {
			return nil, result, a.ledgerRefusal(err)
		}
	default:
		prior := *rows.Refund
		before = &prior
		rows.Refund.Call = rows.Call.ID
		if prior.State == storage.RefundIntended || prior.State == storage.RefundUnknown {
			rows.Refund.UpdatedAt = now // a call is on its way again, see settled
		}
	}
	rows.RefundApplied(now)
	if rows.Order != nil {
		rows.Order.UpdatedAt = now
	}
	return before, result, nil
}

// applied moves a refund on by the outcome of an apply call. One that has moved
// on in the meantime (a callback, a query) stays where it is. Only a rejection of
// the first and only call for it frees the number: one that began before call, or
// since, may have made the refund, whichever gateway sent it.
func (a *API) applied(rows *storage.Rows, call string, before *storage.Refund, res send.Result, known bool) (changed bool) {
	r := rows.Refund
	switch {
	case known && res.Outcome == send.Succeeded:
		answer := gjson.ParseBytes(res.Body)
		if answer.Get("out_refund_no").String() == r.Key.OutRefundNo {
			if id := answer.Get("refund_id").String(); r.RefundID == "" && validRefundNumber(id) {
				r.RefundID, changed = id, true
			}
			if id := answer.Get("transaction_id").String(); r.TransactionID == "" && validTransactionID(id) {
				r.TransactionID, changed = id, true
			}
		}
		switch r.State {
		case storage.RefundIntended, storage.RefundUnknown, storage.RefundRejected:
			return rows.MoveRefund(storage.RefundProcessing, a.now()) || changed
		case storage.RefundProcessing, storage.RefundSuccess, storage.RefundAbnormal, storage.RefundClosed:
		}
		return changed
	case known && before == nil && r.Call == call:
		return rows.MoveRefund(storage.RefundRejected, a.now())
	case known:
		return false // another call is open still; this rejection proves nothing about it
	}
	if r.Call != call {
		r.Call, r.UpdatedAt, changed = call, a.now(), true
	}
	return rows.MoveRefund(storage.RefundUnknown, a.now()) || changed
}

// orderOf finds the ledger's order that a refund is of, and completes the refund
// with the payment: the order, or the sub-order. nil: the ledger does not know it.
func (a *API) orderOf(ctx context.Context, r *storage.Refund) (*storage.Order, *refusal) {
	var order *storage.Order
	if r.Order.Number != "" {
		found, err := a.ledger.Order(ctx, r.Order)
		switch {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return nil, a.ledgerRefusal(err)
		case found.State != storage.OrderRejected:
			order = &found
		}
		if direct := (storage.OrderKey{Mchid: r.Order.Mchid, Number: r.Order.Number}); order == nil && direct != r.Order {
			switch found, err := a.ledger.Order(ctx, direct); {
			case errors.Is(err, storage.ErrNotFound):
			case err != nil:
				return nil, a.ledgerRefusal(err)
			case found.Kind == storage.OrderBasic && found.State != storage.OrderRejected:
				return nil, conflict(RuleMchid, "the order was made without a sub_mchid, and is refunded without one")
			}
		}
	}
	if r.TransactionID != "" {
		found, err := a.ledger.OrderByTransaction(ctx, r.Key.Mchid, r.TransactionID)
		switch {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return nil, a.ledgerRefusal(err)
		default:
			payment := found.Key
			for _, s := range found.Subs {
				if s.TransactionID == r.TransactionID {
					payment = s.Key()
				}
			}
			switch {
			case payment.SubMchid != r.Key.SubMchid:
				return nil, conflict(RuleMchid, "transaction_id is a payment to another sub_mchid")
			case r.Order.Number != "" && r.Order.Number != payment.Number:
				return nil, conflict(RuleRefundOrder, "transaction_id and out_trade_no name two payments")
			}
			r.Order, order = payment, &found
		}
	}
	if order == nil {
		return nil, nil
	}
	id := order.TransactionID
	if sub := findSub(order.Subs, r.Order); sub != nil {
		id = sub.TransactionID
	}
	switch {
	case r.TransactionID == "":
		r.TransactionID = id
	case !either(id, r.TransactionID):
		return nil, conflict(RuleRefundOrder, "transaction_id and out_trade_no name two payments")
	}
	return order, nil
}

// refundFacts gathers what the rules look at, and asks WeChat Pay for what the
// ledger does not know. told is what it said of a payment without an order. The
// caller holds the order's lock.
func (a *API) refundFacts(ctx context.Context, d *refundDraft, order *storage.Order, told *guard.Payment) (guard.Refund, *refusal) {
	facts := guard.Refund{Stated: d.refund, Payment: cmp.Or(told, &guard.Payment{})}
	known, err := a.ledger.Refund(ctx, d.refund.Key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return facts, a.ledgerRefusal(err)
	default:
		facts.Known = &known
		if known.Tally != "" && !slices.Contains(d.tallies, known.Tally) {
			d.tallies = append(d.tallies, known.Tally) // the payment had another name then
		}
	}
	if order != nil {
		fresh, err := a.ledger.Order(ctx, order.Key)
		if err != nil {
			return facts, a.ledgerRefusal(err)
		}
		facts.WholeCombine = fresh.Kind == storage.OrderCombine && fresh.Key == d.refund.Order
		facts.Payment = paymentOf(&fresh, d.refund.Order)
		if !facts.Reserved() && !facts.WholeCombine && facts.Payment.Paid == guard.PaidUnknown {
			a.askListed(ctx, &fresh, facts.Payment)
			if fresh, err = a.ledger.Order(ctx, order.Key); err != nil {
				return facts, a.ledgerRefusal(err)
			}
		}
		// What was refunded by the transaction_id before the ledger had it counts.
		named := d.refund
		named.TransactionID = cmp.Or(named.TransactionID, transactionOf(&fresh, d.refund.Order))
		for _, tally := range named.Tallies() {
			if !slices.Contains(d.tallies, tally) {
				d.tallies = append(d.tallies, tally)
			}
		}
	}
	return facts, nil
}

// transactionOf is WeChat Pay's number of one payment: of the order, or of the
// sub-order that the key names; "" when the ledger does not know it.
func transactionOf(o *storage.Order, payment storage.OrderKey) string {
	for _, s := range o.Subs {
		if s.Key() == payment {
			return s.TransactionID
		}
	}
	return o.TransactionID
}

// paymentOf is what the ledger knows of a payment.
func paymentOf(order *storage.Order, key storage.OrderKey) *guard.Payment {
	p := &guard.Payment{Amount: order.Amount, PaidAt: order.PaidAt, Listed: true, Refunds: order.RefundsOf(key)}
	if sub := findSub(order.Subs, key); sub != nil {
		p.Amount = sub.Amount
	}
	if order.State == storage.OrderPaid {
		p.Paid = guard.PaidYes
	}
	return p
}
