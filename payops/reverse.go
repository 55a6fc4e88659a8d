package payops

import (
	"errors"
	"net/http"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// reverse takes back a payment-code order (撤销): one that is not paid is closed,
// the money of one that is goes back to the payer. The answer does not say which
// of the two it was. So the rules of refunds hold, and what is left of the order is
// reserved before the first byte leaves; WeChat Pay's verified word settles it.
// https://pay.weixin.qq.com/docs/merchant/apis/code-payment-v3/direct/reverse.html
func (a *API) reverse(w http.ResponseWriter, q *request) *refusal {
	if q.query != "" {
		return badRequest(RulePath, "the operation takes no query")
	}
	number, n := q.op.Param(), namesOf(q.op.Kind)
	if !validNumber(number, q.op.Kind) {
		return badNumber(n.number, q.op.Kind)
	}
	o, body, refused := jsonBody(q, true)
	if refused != nil {
		return refused
	}
	d := &draft{body: body, order: storage.Order{Key: storage.OrderKey{Mchid: a.merchant.Mchid(), Number: number}}}
	if refused := a.payee(d, o, n); refused != nil {
		return refused
	}
	key := d.order.Key
	unlock, err := a.locks.lock(q.live, key)
	if err != nil {
		return busy()
	}
	defer unlock()

	order, err := a.ledger.Order(q.live, key)
	known := err == nil
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return a.ledgerRefusal(err)
	}
	if known && order.Key != key {
		return conflict(RuleCombineOnly, "the number is a sub-order's, which is not reversed; refund it")
	}
	appid := a.merchant.DefaultApp().Appid
	if known && order.Appid != "" {
		appid = order.Appid
	}
	if refused := d.fill(o, n.appid, appid); refused != nil {
		return refused
	}

	facts, refused := a.reverseFacts(q, key, order, known)
	if refused != nil {
		return refused
	}
	limit := a.limits[q.caller.Name]
	looked := guard.Refund{}
	if facts != nil {
		looked = *facts
	}
	counts := newRefundCounts(key.Mchid, q.caller.Name, limit, &looked, a.now())
	keys := storage.Keys{Order: key, Memos: counts.keys()}
	first := false // no earlier call can have taken the order back
	var back storage.Fen
	var result guard.Result
	id, refused := a.beginRows(q, keys, key, func(rows *storage.Rows) error {
		first = rows.Order != nil && !rows.Order.Reversal.Begun() && rows.Order.State != storage.OrderClosed
		var refused *refusal
		if back, result, refused = a.reversing(rows, facts, first, limit, counts); refused != nil {
			return refused
		}
		if rows.Order != nil && rows.Order.State != storage.OrderClosed {
			rows.Order.Reverse(rows.Call.ID, counts.at)
			rows.Order.UpdatedAt = counts.at
		}
		return nil
	})
	if refused != nil {
		return refused
	}
	a.tell(w, result)
	res := a.send(q, id, q.path, d.body, true)
	done := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	rejected := done && res.Outcome != send.Succeeded
	counts.ended(res.Status >= http.StatusBadRequest, rejected && first, a.now())
	keys.Memos = counts.keys()
	written := a.finishRows(q, id, keys, res, func(rows *storage.Rows) (changed bool) {
		counts := *counts
		o := rows.Order
		switch {
		case o == nil:
		case !done:
			if !o.Reversal.Begun() && o.State != storage.OrderClosed { // given back by another gateway's rejection meanwhile
				o.Reverse(id, counts.at)
				changed = true
			}
		case !rejected:
			changed = o.Reversed()
		case first && o.Reversal.Call == id:
			changed = o.NotReversed()
		default: // the rejection proves nothing about another call
			counts.day = ""
		}
		if changed {
			o.UpdatedAt = a.now()
		}
		if err := counts.settle(rows.Memos, back); err != nil {
			a.log.Error("what refunds count is not written", "error", err)
		}
		return changed
	})
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, done)
}

// reverseFacts is what the rules of refunds look at: a reversal gives back all that
// was paid. Nil where it gives nothing back: a repeat, an order that is closed, or
// one that is not paid by WeChat Pay's word. The caller holds the order's lock.
func (a *API) reverseFacts(q *request, key storage.OrderKey, order storage.Order, known bool) (*guard.Refund, *refusal) {
	facts := &guard.Refund{Payment: &guard.Payment{}}
	facts.Stated.Key = storage.RefundKey{Mchid: key.Mchid, SubMchid: key.SubMchid}
	facts.Stated.Order = key
	if known {
		if order.Reversal.Begun() || order.State == storage.OrderClosed {
			return nil, nil
		}
		if facts.Payment = paymentOf(&order, key); facts.Payment.Paid == guard.PaidUnknown {
			a.askListed(q.live, &order, facts.Payment)
		}
	} else if limit := a.limits[q.caller.Name]; limit.RefundPerOrder != 0 || limit.RefundPerDay != 0 {
		return nil, overLimit(guard.LimitRefundPerOrder, "the caller's refunds are limited, and the ledger does not know the order", 0)
	}
	if facts.Payment.Paid == guard.PaidNo {
		return nil, nil
	}
	total := facts.Payment.Amount
	facts.Stated.Amount, facts.Stated.Total, facts.Stated.Currency = total.Total, total.Total, total.Currency
	return facts, nil
}

// reversing decides about a reversal on the rows that it is about to write. back is
// how much money it gives back that no call before it does.
func (a *API) reversing(rows *storage.Rows, facts *guard.Refund, first bool, limit guard.Limit, counts *refundCounts) (back storage.Fen, result guard.Result, refused *refusal) {
	if facts != nil && (first || rows.Order == nil) {
		looked, payment := *facts, *facts.Payment
		if looked.Payment = &payment; rows.Order != nil {
			payment.Refunds = rows.Order.RefundsOf(rows.Order.Key)
			// Taking an order back is no application under another number.
			payment.Refunds.Rejected = 0
			back = max(rows.Order.Amount.Total-payment.Refunds.Total, 0)
		}
		var err error
		if looked.FailureWait, looked.OldWait, err = counts.waits(rows.Memos); err != nil {
			return 0, result, a.ledgerRefusal(err)
		}
		if result = guard.Evaluate(a.rules, guard.Facts{Now: counts.at, Refund: &looked}); result.Refusal != nil {
			return 0, result, ruledOut(result.Refusal)
		}
		if !limit.WithinOrder(payment.Refunds.Total, back) {
			return 0, result, overLimit(guard.LimitRefundPerOrder, "the caller may not refund that much of one order", 0)
		}
	}
	switch within, err := counts.take(rows.Memos, back, limit); {
	case err != nil:
		return 0, result, a.ledgerRefusal(err)
	case !within:
		return 0, result, overLimit(guard.LimitRefundPerDay, "the caller may not refund that much today", guard.Tomorrow(counts.at))
	}
	return back, result, nil
}
