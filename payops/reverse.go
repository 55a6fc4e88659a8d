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
// of the two it was.
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

	back, refused := a.givesBack(q, order, known)
	if refused != nil {
		return refused
	}
	limit := a.limits[q.caller.Name]
	counts := newRefundCounts(key.Mchid, q.caller.Name, limit, &guard.Refund{}, a.now())
	keys := storage.Keys{Order: key, Memos: counts.keys()}
	id, refused := a.beginRows(q, keys, key, func(rows *storage.Rows) error {
		within, err := counts.take(rows.Memos, back, limit)
		if err == nil && !within {
			return overLimit(guard.LimitRefundPerDay, "the caller may not refund that much today", guard.Tomorrow(counts.at))
		}
		return err
	})
	if refused != nil {
		return refused
	}
	res := a.send(q, id, q.path, d.body, true)
	done := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	counts.ended(false, done && res.Outcome != send.Succeeded, a.now())
	keys.Memos = counts.keys()
	written := a.finishRows(q, id, keys, res, func(rows *storage.Rows) bool {
		if err := counts.settle(rows.Memos, back); err != nil {
			a.log.Error("what refunds count is not written", "error", err)
		}
		return done && res.Outcome == send.Succeeded && rows.Order != nil && a.reversed(rows.Order)
	})
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, done)
}

// givesBack is how much money a reversal gives back, as far as a caller's limits
// ask for it: WeChat Pay is asked whether an order is paid that the ledger does
// not call paid.
func (a *API) givesBack(q *request, order storage.Order, known bool) (storage.Fen, *refusal) {
	limit := a.limits[q.caller.Name]
	if limit.RefundPerOrder == 0 && limit.RefundPerDay == 0 {
		return 0, nil
	}
	if !known {
		return 0, overLimit(guard.LimitRefundPerOrder, "the caller's refunds are limited, and the ledger does not know the order", 0)
	}
	if order.State != storage.OrderPaid {
		p := guard.Payment{}
		if a.askListed(q.live, &order, &p); p.Paid == guard.PaidNo {
			return 0, nil
		}
	}
	back := max(order.Amount.Total-order.RefundTotal, 0)
	if !limit.WithinOrder(order.RefundTotal, back) {
		return 0, overLimit(guard.LimitRefundPerOrder, "the caller may not refund that much of one order", 0)
	}
	return back, nil
}

// reversed notes that an order was taken back: what was paid of it is refunded,
// and nothing is left to refund; what was not is closed.
func (a *API) reversed(o *storage.Order) (changed bool) {
	if changed = reversed(o); changed {
		o.UpdatedAt = a.now()
	}
	return changed
}

func reversed(o *storage.Order) (changed bool) {
	switch {
	case o.State == storage.OrderClosed:
		return false
	case o.State == storage.OrderPaid:
		if o.RefundTotal >= o.Amount.Total {
			return false
		}
		o.RefundTotal = o.Amount.Total
		return true
	}
	o.State = storage.OrderClosed
	return true
}
