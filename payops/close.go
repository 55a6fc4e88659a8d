package payops

import (
	"errors"
	"net/http"

	"github.com/tidwall/sjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// close closes an order at WeChat Pay.
func (a *API) close(w http.ResponseWriter, q *request) *refusal {
	if q.query != "" {
		return badRequest(RulePath, "the operation takes no query")
	}
	number := q.op.Param()
	if !validNumber(number, q.op.Kind) {
		return badNumber(namesOf(q.op.Kind).number, q.op.Kind)
	}
	o, body, refused := jsonBody(q, true)
	if refused != nil {
		return refused
	}
	d := &draft{body: body, order: storage.Order{Key: storage.OrderKey{Mchid: a.merchant.Mchid(), Number: number}}}
	if q.op.Kind != storage.OrderCombine { // a combine close names no combine_mchid
		if refused := a.payee(d, o, namesOf(q.op.Kind)); refused != nil {
			return refused
		}
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
		return conflict(RuleCombineOnly, "the number is a sub-order's; close its combine order (合单关单)")
	}
	facts := guard.Close{}
	if known {
		facts.Order = &order
	}
	if refused := a.guarded(w, guard.Facts{Close: &facts}); refused != nil {
		return refused
	}
	if q.op.Kind == storage.OrderCombine {
		if refused := a.closeCombine(w, d, o, order, known); refused != nil {
			return refused
		}
	}

	a.signAhead(q, q.path, d.body)
	id, refused := a.begin(q, key, func(*storage.Rows) error { return nil })
	if refused != nil {
		return refused
	}
	res := a.send(q, id, q.path, d.body, true)
	done := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	written := a.finish(q, id, key, res, func(o *storage.Order) bool {
		if res.Outcome != send.Succeeded || !done || o.State == storage.OrderPaid || o.State == storage.OrderClosed {
			return false
		}
		o.State = storage.OrderClosed
		return true
	})
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, done)
}

// closeCombine completes and checks the list of sub-orders: a combine order is
// closed whole, with the list it was created with.
func (a *API) closeCombine(w http.ResponseWriter, d *draft, o object, order storage.Order, known bool) *refusal {
	appid := a.merchant.DefaultApp().Appid
	if known && order.Appid != "" {
		appid = order.Appid
	}
	if refused := d.fill(o, "combine_appid", appid); refused != nil {
		return refused
	}
	known = known && len(order.Subs) > 0
	switch list := o["sub_orders"].(type) {
	case nil:
		if !known {
			return badRequest(RuleCloseList, "the ledger does not know the order's sub-orders; list them in sub_orders")
		}
		body, err := sjson.SetBytes(d.body, "sub_orders", closeList(order.Subs))
		if err != nil {
			return badRequest(RuleBody, "the body cannot be completed")
		}
		d.body = body
	case []any:
		subs, _, refused := subOrders(list, false)
		if refused != nil {
			return refused
		}
		if known && !sameSubs(order.Subs, subs, false) {
			return conflict(RuleCloseList, "sub_orders must be exactly those that the order was created with")
		}
		if !known {
			w.Header().Add(headerUnchecked, string(RuleCloseList))
		}
	default:
		return badRequest(RuleSubOrders, "sub_orders must be a list")
	}
	return nil
}

// closing is one sub-order in the body of a combine close.
type closing struct {
	Mchid      string `json:"mchid"`
	SubMchid   string `json:"sub_mchid,omitempty"`
	SubAppid   string `json:"sub_appid,omitempty"`
	OutTradeNo string `json:"out_trade_no"`
}

func closeList(subs []storage.SubOrder) []closing {
	list := make([]closing, len(subs))
	for i, s := range subs {
		list[i] = closing{Mchid: s.Mchid, SubMchid: s.SubMchid, SubAppid: s.Appid, OutTradeNo: s.OutTradeNo}
	}
	return list
}
