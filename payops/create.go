package payops

import (
	"errors"
	"net/http"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// create makes an order at WeChat Pay. A repeat with the same content waits for
// the call that is running and then asks WeChat Pay again, which answers a
// repeat like the first; another content is refused before anything is sent.
func (a *API) create(w http.ResponseWriter, q *request) *refusal {
	if q.query != "" {
		return badRequest(RulePath, "the operation takes no query")
	}
	d, refused := a.draft(q)
	if refused != nil {
		return refused
	}
	if refused := a.guarded(w, guard.Facts{Notify: a.notifyFacts(d), Combine: a.combineFacts(d)}); refused != nil {
		return refused
	}
	unlock, err := a.locks.lock(q.live, d.keys()...)
	if err != nil {
		return busy()
	}
	defer unlock()
	if refused := a.numbersFree(q, d); refused != nil {
		return refused
	}

	key := d.order.Key
	number := numberMemo(operation.SpaceOrder, key.Mchid, key.SubMchid, key.Number)
	keys := storage.Keys{Order: key, Memos: append(openIDMemos(d.payers), number)}
	var try attempt
	var result guard.Result
	a.signAhead(q, q.path, d.body)
	id, refused := a.beginRows(q, keys, key, func(rows *storage.Rows) error {
		try = attempt{}
		if rows.Memos[number] != nil {
			return numberTaken() // by an order that is kept as a number alone
		}
		result = guard.Evaluate(a.rules, guard.Facts{Now: a.now(), OpenIDs: openIDFacts(rows, d.payers)})
		if result.Refusal != nil {
			return ruledOut(result.Refusal)
		}
		known := rows.Order
		if known == nil || known.State == storage.OrderRejected {
			order := d.order
			order.CreatedAt, order.UpdatedAt = a.now(), a.now()
			rows.Order = &order
			try.begins(rows)
			return nil
		}
		if !agrees(*known, d.order) {
			return conflict(RuleContent, "the number is in use with another amount, payee, appid or sub-orders; a new order needs a new number")
		}
		prior := *known
		try.before = &prior
		switch known.State {
		case storage.OrderRegistered:
			order := d.order
			order.CreatedAt, order.UpdatedAt = known.CreatedAt, a.now()
			rows.Order = &order
		case storage.OrderIntended, storage.OrderUnknown:
			known.UpdatedAt = a.now() // a call is on its way again, see settled
		case storage.OrderCreated, storage.OrderRejected, storage.OrderPaid, storage.OrderClosed:
		}
		try.begins(rows)
		return nil
	})
	if refused != nil {
		return refused
	}

	a.tell(w, result)

	// A payment code is charged in the call: the same bytes are not sent twice.
	res := a.send(q, id, q.path, d.body, !q.op.CodePay())
	// 202: taken, not yet done; WeChat Pay asks for the same request again.
	known := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	if q.op.CodePay() && res.Outcome == send.Rejected && !notCharged[errorCode(res.Body)] {
		known = false // the payer may be typing the password
	}
	keys.Memos = nil
	if known && res.Outcome == send.Succeeded {
		keys.Memos = openIDMemos(d.payers) // WeChat Pay takes no openid of another app
	}
	written := a.finishRows(q, id, keys, res, func(rows *storage.Rows) bool {
		if len(keys.Memos) > 0 {
			a.noteOpenIDs(rows, d.payers)
		}
		changed := rows.Order != nil && try.ended(rows.Order, res, known)
		if changed {
			rows.Order.UpdatedAt = a.now()
		}
		return changed
	})
	if q.op.CodePay() && res.Outcome == send.Succeeded {
		a.queried(q.call, q.op.Kind, key, res) // the answer is the transaction
	}
	if d.order.ForeignNotifyURL {
		w.Header().Add(headerWarning, warningForeign)
	}
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, known)
}

// notCharged are the error codes of a payment-code charge that say that there is
// no charge and will be none. Every other one, USERPAYING first of all, leaves
// it open: query, and reverse (撤销) what is not paid.
var notCharged = map[string]bool{
	"PARAM_ERROR": true, "SIGN_ERROR": true, "NO_AUTH": true, "APPID_MCHID_NOT_MATCH": true, "MCH_NOT_EXISTS": true,
	"AUTH_CODE_INVALID": true, "AUTH_CODE_EXPIRED": true, "AUTH_CODE_ERROR": true,
}

// attempt is one call that sets out to make an order.
type attempt struct {
	id string // of its intent row
	// before is the order that the call goes on with, nil for a new one; row is the
	// order as the intent left it.
	before *storage.Order
	row    storage.Order
}

// begins notes the attempt in its order.
func (t *attempt) begins(rows *storage.Rows) {
	t.id = rows.Call.ID
	if o := rows.Order; o.State == storage.OrderIntended || o.State == storage.OrderUnknown {
		o.LastCall = t.id
	}
	t.row = *rows.Order
}

// ended moves an order on by the outcome of the attempt. An order that has moved
// on in the meantime (a callback, a query) stays where it is.
func (t *attempt) ended(o *storage.Order, res send.Result, known bool) bool {
	made := known && res.Outcome == send.Succeeded
	if o.State == storage.OrderRejected && (made || !known) {
		// Freed while this call was on its way: it is what the call made, or may
		// have made.
		if !agrees(*o, t.row) {
			*o = t.row
		}
		o.State, o.LastCall = storage.OrderUnknown, t.id
		if !made {
			return true
		}
	}
	if made {
		return exists(o, gjson.GetBytes(res.Body, "code_url").String(), gjson.GetBytes(res.Body, "prepay_id").String())
	}
	if o.State != storage.OrderIntended && o.State != storage.OrderUnknown {
		return false
	}
	switch {
	case known && o.LastCall != t.id:
		return false // another call has begun since; this rejection proves nothing about it
	case known && t.before != nil && t.before.State == storage.OrderRegistered:
		*o = *t.before // what was registered stands
		return true
	case known && t.before != nil:
		return false // an earlier call is unknown still; this rejection proves nothing about it
	case known && !numberInUse(res):
		// Rejected, or never sent, and no other call could have made it: the
		// number is free again.
		o.State = storage.OrderRejected
		return true
	}
	o.State = storage.OrderUnknown // the agenda, or who asks first, finds out what is there
	return true
}

// numberInUse reports whether a rejection says that WeChat Pay has an order under
// the number: another one than the ledger knows of, which somebody may pay, or has.
func numberInUse(res send.Result) bool {
	if res.Outcome != send.Rejected {
		return false
	}
	switch errorCode(res.Body) {
	case "OUT_TRADE_NO_USED", "ORDERPAID", "ORDER_PAID", "ORDER_CLOSED", "ORDERCLOSED", "ORDER_REVERSED", "ORDERREVERSED", "ALREADY_EXISTS":
		return true
	case "INVALID_REQUEST":
		message := gjson.GetBytes(res.Body, "message").String()
		return strings.Contains(message, "订单号重复") || strings.Contains(message, "订单已")
	}
	return false
}

// exists notes that WeChat Pay has the order, and its newest code_url or
// prepay_id.
func exists(o *storage.Order, codeURL, prepayID string) (changed bool) {
	switch o.State {
	case storage.OrderIntended, storage.OrderUnknown, storage.OrderRejected:
		o.State, o.CodeURL, o.PrepayID = storage.OrderCreated, codeURL, prepayID
		return true
	case storage.OrderCreated:
		if codeURL != "" && codeURL != o.CodeURL {
			o.CodeURL, changed = codeURL, true
		}
		if prepayID != "" && prepayID != o.PrepayID {
			o.PrepayID, changed = prepayID, true
		}
		return changed
	case storage.OrderRegistered, storage.OrderPaid, storage.OrderClosed:
	}
	return false
}

// numbersFree refuses a number that another order of the ledger has, as its own
// or as a sub-order's. The caller holds the locks of all of them.
func (a *API) numbersFree(q *request, d *draft) *refusal {
	for _, key := range d.keys() {
		order, err := a.ledger.Order(q.live, key)
		switch {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return a.ledgerRefusal(err)
		case order.Key != d.order.Key && order.State != storage.OrderRejected:
			return numberTaken()
		}
	}
	return nil
}

func busy() *refusal {
	return &refusal{
		status: http.StatusTooManyRequests, code: codeRate, rule: RuleBusy, retryAfter: retryAfterBusy,
		message: "another call for this number is running; nothing was sent",
	}
}
