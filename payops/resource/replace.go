package resource

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// replace queries and closes the order that a checkout replaces. done is true
// when no order is to be made: the old one is paid, is kept, or cannot be closed.
func (rs *Resources) replace(r *Request, body *Checkout, claim *replacement) (replaced *Replaced, response Response, done bool) {
	key := rs.replacedKey(body)
	order, refused := rs.order(r.Core.Live(), key)
	switch {
	case refused.Status == http.StatusNotFound:
		return nil, refuse(http.StatusNotFound, codeNotFound, RuleOrderNotFound, "the ledger does not know the order that is to be replaced"), true
	case refused.Refused():
		return nil, refused, true
	case order.Key != key:
		return nil, conflict(RuleCombineOnly, "replaces names a sub-order; name its combine order"), true
	}
	if response, done := rs.replacedBefore(r, body, order, claim); done {
		return nil, response, true
	}
	if !settledState(order.State) {
		var known bool
		if order, known, refused = rs.asked(r, order); refused.Refused() {
			return nil, refused, true
		}
		if !known && order.State == storage.OrderRejected {
			return &Replaced{order.Key.Number, order.State}, Response{}, false
		}
	}
	if !settledState(order.State) {
		if young := rs.tooYoung(order); young > 0 {
			if kept, ok := rs.keep(r, body, order, nil); ok {
				return nil, kept, true
			}
			return nil, later(conflict(RuleCloseTooEarly,
				"the order that is to be replaced is not five minutes old and asks for something else: it cannot be closed yet (最短调用时间间隔为5分钟)"), young), true
		}
		if order, refused = rs.closeNow(r, order); refused.Status != 0 {
			return nil, refused, true
		}
	}
	if order.State == storage.OrderPaid {
		return nil, paid(RuleReplacedPaid, "the order that is to be replaced is paid; no other order was made, so that nobody pays twice", order), true
	}
	return &Replaced{order.Key.Number, order.State}, Response{}, false
}

// keep answers with an order that is there when it asks for the same money of the same
// payer in the same way, and still opens.
func (rs *Resources) keep(r *Request, body *Checkout, order storage.Order, replaced *Replaced) (Response, bool) {
	if !sameMoney(body, order) || order.State != storage.OrderCreated {
		return Response{}, false
	}
	if !order.TimeExpire.IsZero() && !rs.Now().Before(order.TimeExpire) {
		return Response{}, false
	}
	var o opening
	row, err := rs.Ledger.Memo(r.Core.Live(), rs.openingKey(order.Key))
	remembered := err == nil && json.Unmarshal(row.Data, &o) == nil
	switch {
	case remembered && (o.Way != body.Way || o.Payer != body.payerDigest()):
		return Response{}, false
	case body.Way == wayNative && order.CodeURL != "":
	case remembered && body.Way == wayH5 && o.H5URL != "":
	case remembered && order.PrepayID != "" && body.Way != wayNative && body.Way != wayH5:
	default:
		return Response{}, false
	}
	if err := rs.unscheduleClose(r, order.Key); err != nil {
		rs.Logger.Error("a close cannot be taken back; the old code is not handed out again", "error", err)
		return storeDown(), true
	}
	return rs.opened(r, http.StatusOK, body, order, o, replaced, true)
}

// sameMoney reports whether a checkout asks for what an order asks for: kind,
// payees, amounts and appid. Numbers do not matter.
func sameMoney(c *Checkout, o storage.Order) bool {
	if c.kind() != o.Kind || c.SubMchid != o.Key.SubMchid || c.Appid != o.Appid {
		return false
	}
	if o.Kind != storage.OrderCombine {
		return c.Amount.Total == o.Amount.Total && c.Amount.Currency == o.Amount.Currency
	}
	type share struct {
		mchid, sub, appid, currency string
		total                       storage.Fen
	}
	var wanted, had []share
	for _, s := range c.SubOrders {
		wanted = append(wanted, share{s.Mchid, s.SubMchid, s.SubAppid, s.Amount.Currency, s.Amount.TotalAmount})
	}
	for _, s := range o.Subs {
		had = append(had, share{s.Mchid, s.SubMchid, s.Appid, s.Amount.Currency, s.Amount.Total})
	}
	order := func(a, b share) int {
		return cmp.Or(cmp.Compare(a.mchid, b.mchid), cmp.Compare(a.sub, b.sub), cmp.Compare(a.appid, b.appid),
			cmp.Compare(a.currency, b.currency), cmp.Compare(a.total, b.total))
	}
	slices.SortFunc(wanted, order)
	slices.SortFunc(had, order)
	return slices.Equal(wanted, had)
}
