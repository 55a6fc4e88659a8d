package resource

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// WorkClose is the kind of work that closes an order when it is old enough.
const WorkClose = "close"

// CloseWork is the payload of such work.
type CloseWork struct {
	Order  storage.OrderKey `json:"order"`
	Caller string           `json:"caller"` // who asked for it
	At     time.Time        `json:"at"`     // when
}

// closing is the answer to a close whose time has not come.
type closing struct {
	Order
	CloseAt time.Time `json:"close_at"` // when the order is queried, and closed unless it is paid
}

// tooYoung says how long an order may not be closed yet.
func (rs *Resources) tooYoung(o storage.Order) time.Duration {
	if o.Origin != storage.OriginGateway || o.CreatedAt.IsZero() {
		return 0 // a registration says nothing of when WeChat Pay made it
	}
	return max(o.CreatedAt.Add(guard.CloseAfter).Sub(rs.Now()), 0)
}

// closeOrder closes an order after a query; one that is younger than five minutes
// later, when it is no more.
func (rs *Resources) closeOrder(r *Request) Response {
	key, _, refused := rs.orderKey(r)
	if refused.Refused() {
		return refused
	}
	if refused := r.decode(&struct{}{}, true); refused.Refused() {
		return refused
	}
	order, refused := rs.order(r.Core.Live(), key)
	if refused.Refused() {
		return refused
	}
	if order.Key != key {
		return conflict(RuleCombineOnly, "the number is a sub-order's; close its combine order (合单关单)")
	}
	if order.Kind == storage.OrderParking {
		return conflict(RuleBody, "a parking order is not closed")
	}
	if _, response, done := r.Begin(0); done {
		return response
	}
	if order.State == storage.OrderRejected {
		var known bool
		if order, known, refused = rs.asked(r, order); refused.Refused() {
			return refused
		}
		if !known {
			return closed(order)
		}
	}
	if settledState(order.State) {
		return closed(order)
	}
	if rs.tooYoung(order) > 0 {
		return rs.scheduleClose(r, key)
	}
	order, refused = rs.closeNow(r, order)
	if refused.Status != 0 {
		return refused
	}
	return closed(order)
}

// settledState reports whether nobody can pay the order any more, or somebody has.
// A rejected order is not settled by that: another one may have been made under
// its number elsewhere, and WeChat Pay is asked.
func settledState(s storage.OrderState) bool {
	return s == storage.OrderPaid || s == storage.OrderClosed
}

// closed is the answer about an order that is settled.
func closed(order storage.Order) Response {
	if order.State == storage.OrderPaid {
		return paid(RuleClosePaid, "the order is paid; a paid order cannot be closed (已支付成功的订单不能关闭)", order)
	}
	return respond(http.StatusOK, orderView(order))
}

// paid refuses what a paid order stands against, and shows the order.
func paid(rule, message string, order storage.Order) Response {
	return refuseWith(http.StatusConflict, codeOrderPaid, rule, message, struct {
		Order Order `json:"order"`
	}{orderView(order)})
}

// closeKey names the memo that says that an order's close is still wanted.
func closeKey(key storage.OrderKey) string {
	return "close/" + key.Mchid + "/" + key.SubMchid + "/" + key.Number
}

// scheduleClose leaves the close to the agenda, in one step with a look at the
// order.
func (rs *Resources) scheduleClose(r *Request, key storage.OrderKey) Response {
	payload, err := json.Marshal(CloseWork{Order: key, Caller: r.Core.Caller(), At: rs.Now()})
	if err != nil { // texts and a time
		return storeDown()
	}
	var order storage.Order
	var due time.Time
	wanted := closeKey(key)
	err = rs.Ledger.Change(r.Core.Context(), storage.Keys{Order: key, Memos: []string{wanted}}, func(rows *storage.Rows) error {
		if rows.Order == nil {
			return storage.ErrNotFound
		}
		if rows.Memos == nil {
			rows.Memos = map[string]*storage.Memo{}
		}
		rows.Memos[wanted] = &storage.Memo{Key: wanted, Data: payload, Expires: rs.Now().Add(orderLife + 48*time.Hour)}
		order = *rows.Order
		due = order.CreatedAt.Add(guard.CloseAfter)
		rows.Schedule = append(rows.Schedule, storage.Work{
			ID:   rs.Merchant.Name() + "/" + key.Mchid + "/" + key.SubMchid + "/" + key.Number,
			Kind: WorkClose, Merchant: rs.Merchant.Name(), Due: due, Payload: payload,
		})
		return nil
	})
	if err != nil {
		rs.Logger.Error("a close cannot be scheduled", "error", err)
		return storeDown()
	}
	response := respond(http.StatusAccepted, closing{orderView(order), due})
	response.Header.Set("Location", orderPath(key, ""))
	return response
}

// unscheduleClose takes a close back that is left to the agenda, if any.
func (rs *Resources) unscheduleClose(r *Request, key storage.OrderKey) error {
	wanted := closeKey(key)
	if _, err := rs.Ledger.Memo(r.Core.Context(), wanted); errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return rs.Ledger.Change(r.Core.Context(), storage.Keys{Memos: []string{wanted}}, func(rows *storage.Rows) error {
		delete(rows.Memos, wanted)
		return nil
	})
}

// closeNow queries an order and closes it if it is open. It returns the order,
// settled, or a response with a Status that says why it is not.
func (rs *Resources) closeNow(r *Request, order storage.Order) (storage.Order, Response) {
	known, err := r.Core.Ask(order.Key, order.Kind)
	if err != nil {
		rs.Logger.Warn("an order that is to be closed cannot be asked for", "error", err)
		return order, unreachable("WeChat Pay gave no verified answer about the order; it was not closed")
	}
	now, refused := rs.order(r.Core.Live(), order.Key)
	switch {
	case refused.Refused(), settledState(now.State):
		return now, refused
	case !known && (now.State == storage.OrderRegistered || now.State == storage.OrderRejected):
		now.State = storage.OrderRejected // WeChat Pay has none: there is nothing to close
		return now, Response{}
	case !known:
		return now, later(conflict(RuleCloseTooEarly, "WeChat Pay does not know the order yet, and its creation may be on its way"), time.Minute)
	}
	answer := r.Core.V3(rs.closeCall(now))
	if answer.Succeeded() {
		return rs.order(r.Core.Live(), order.Key)
	}
	// It may have been paid or closed in between, or the close carried out: a
	// query says so.
	if _, err := r.Core.Ask(order.Key, order.Kind); err == nil {
		if now, refused = rs.order(r.Core.Live(), order.Key); refused.Refused() || settledState(now.State) {
			return now, refused
		}
	}
	return now, numbered(answer, orderPath(order.Key, ""))
}

// closeBody is what a close sends; a combine order is closed whole.
type closeBody struct {
	Mchid        string     `json:"mchid,omitempty"`
	SpMchid      string     `json:"sp_mchid,omitempty"`
	SubMchid     string     `json:"sub_mchid,omitempty"`
	CombineAppid string     `json:"combine_appid,omitempty"`
	SubOrders    []closeSub `json:"sub_orders,omitempty"`
}

type closeSub struct {
	Mchid      string `json:"mchid"`
	SubMchid   string `json:"sub_mchid,omitempty"`
	SubAppid   string `json:"sub_appid,omitempty"`
	OutTradeNo string `json:"out_trade_no"`
}

// closeCall is WeChat Pay's close of an order's kind.
func (rs *Resources) closeCall(o storage.Order) Call {
	path, body := "/v3/pay/transactions/out-trade-no/", closeBody{Mchid: o.Key.Mchid}
	switch o.Kind {
	case storage.OrderPartner:
		path, body = "/v3/pay/partner/transactions/out-trade-no/", closeBody{SpMchid: o.Key.Mchid, SubMchid: o.Key.SubMchid}
	case storage.OrderCombine:
		path, body = "/v3/combine-transactions/out-trade-no/", closeBody{CombineAppid: o.Appid}
		for _, s := range o.Subs {
			body.SubOrders = append(body.SubOrders, closeSub{s.Mchid, s.SubMchid, s.Appid, s.OutTradeNo})
		}
	case storage.OrderBasic, storage.OrderParking:
	}
	return Call{Method: http.MethodPost, Path: path + url.PathEscape(o.Key.Number) + "/close", Body: jsonBody(body)}
}
