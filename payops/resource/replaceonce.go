package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// replaceTime is how long a claim on an order holds without the order that it was
// made for: longer than a request lives.
const replaceTime = time.Minute

// replacement is remembered of an order that was replaced: an order is replaced by
// one order, however many ask for it.
type replacement struct {
	key  string // of the memo
	data []byte // as it was read; nil for none
	By   string `json:"by"` // number of the order in its place
	// At is when it was claimed.
	At time.Time `json:"at"`
}

// errReplaced ends a change that finds another's claim.
var errReplaced = errors.New("resource: another request replaces the order")

// replacedBy names, in a refusal, the order that stands in another's place.
type replacedBy struct {
	By    Replaced `json:"replaced_by"`
	Order *Order   `json:"order,omitempty"`
}

func (rs *Resources) replacedKey(body *Checkout) storage.OrderKey {
	return storage.OrderKey{Mchid: rs.Merchant.Mchid(), SubMchid: body.SubMchid, Number: body.Replaces}
}

// openInstead makes an order in the place of another. Requests that replace the same
// one come one after another, in this process by a lock and between processes by
// their claim, which is written down when the old order is settled.
func (rs *Resources) openInstead(r *Request, body *Checkout) Response {
	claim, unlock, refused := rs.claimed(r, rs.replacedKey(body))
	if refused.Refused() {
		return refused
	}
	defer unlock()
	replaced, response, done := rs.replace(r, body, claim)
	if done {
		return response
	}
	if refused := rs.claim(r, body.OutTradeNo, claim); refused.Refused() {
		return refused
	}
	response = rs.open(r, body, replaced)
	if response.Status >= http.StatusBadRequest {
		rs.unclaim(r, body, claim)
	}
	return response
}

// claimed reads the claim on an order, and lets nobody else of this process replace
// the order until unlock is called.
func (rs *Resources) claimed(r *Request, key storage.OrderKey) (claim *replacement, unlock func(), refused Response) {
	claim = &replacement{key: "replaced/" + key.Mchid + "/" + key.SubMchid + "/" + key.Number}
	unlock, err := r.Core.Lock(claim.key)
	if err != nil {
		return nil, nil, busy()
	}
	switch row, err := rs.Ledger.Memo(r.Core.Live(), claim.key); {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil || json.Unmarshal(row.Data, claim) != nil:
		unlock()
		return nil, nil, storeDown()
	default:
		claim.data = row.Data
	}
	return claim, unlock, Response{}
}

// claim writes down which order replaces another.
func (rs *Resources) claim(r *Request, number string, claim *replacement) Response {
	next := replacement{By: number, At: rs.Now()}
	data, err := json.Marshal(next)
	if err != nil { // a text and a time
		return storeDown()
	}
	err = rs.Ledger.Change(r.Core.Context(), storage.Keys{Memos: []string{claim.key}}, func(rows *storage.Rows) error {
		var have []byte
		if row := rows.Memos[claim.key]; row != nil {
			have = row.Data
		}
		if !bytes.Equal(have, claim.data) {
			return errReplaced
		}
		if rows.Memos == nil {
			rows.Memos = map[string]*storage.Memo{}
		}
		rows.Memos[claim.key] = &storage.Memo{Key: claim.key, Data: data, Expires: rs.Now().Add(orderLife + 48*time.Hour)}
		return nil
	})
	switch {
	case errors.Is(err, errReplaced):
		return later(conflict(RuleReplaced, "another request is replacing the order; the same request finds what came of it"), time.Second)
	case err != nil:
		rs.Logger.Error("what replaces an order cannot be written down; nothing was sent", "error", err)
		return storeDown()
	}
	claim.data = data
	return Response{}
}

// unclaim takes the claim back when the order that it was made for was not made.
func (rs *Resources) unclaim(r *Request, body *Checkout, claim *replacement) {
	key := rs.replacedKey(body)
	key.Number = body.OutTradeNo
	if _, err := rs.Ledger.Order(r.Core.Context(), key); !errors.Is(err, storage.ErrNotFound) {
		return
	}
	err := rs.Ledger.Change(r.Core.Context(), storage.Keys{Memos: []string{claim.key}}, func(rows *storage.Rows) error {
		if row := rows.Memos[claim.key]; row == nil || !bytes.Equal(row.Data, claim.data) {
			return errReplaced
		}
		delete(rows.Memos, claim.key)
		return nil
	})
	if err != nil && !errors.Is(err, errReplaced) {
		rs.Logger.Warn("an order stays claimed for another that was not made", "error", err)
	}
}

// replacedBefore answers for an order that another one has replaced. done is false
// when none stands in its place: there is no claim, it is this request's, or nobody
// can pay what it was made for, nor what replaced that. passed are the orders
// that the question came by.
func (rs *Resources) replacedBefore(r *Request, body *Checkout, old storage.Order, claim *replacement, passed ...string) (response Response, done bool) {
	if claim.data == nil || claim.By == body.OutTradeNo || old.State == storage.OrderPaid {
		return Response{}, false
	}
	if passed = append(passed, old.Key.Number); slices.Contains(passed, claim.By) {
		return conflict(RuleReplaced, "the order and another one replaced each other; make an order that replaces none"), true
	}
	key := old.Key
	key.Number = claim.By
	next, unlock, refused := rs.claimed(r, key)
	if refused.Refused() {
		return refused, true
	}
	defer unlock()
	by, refused := rs.order(r.Core.Live(), key)
	switch {
	case refused.Status == http.StatusNotFound, !refused.Refused() && by.Key != key:
		if left := claim.At.Add(replaceTime).Sub(rs.Now()); left > 0 {
			return later(conflict(RuleReplaced, "another request is replacing the order; the same request finds what came of it"), left), true
		}
		return Response{}, false
	case refused.Refused():
		return refused, true
	}
	if !settledState(by.State) {
		var known bool
		if by, known, refused = rs.asked(r, by); refused.Refused() {
			return refused, true
		}
		if !known && by.State == storage.OrderRejected {
			return rs.replacedBefore(r, body, by, next, passed...)
		}
	}
	detail := replacedBy{By: Replaced{by.Key.Number, by.State}}
	if by.Kind != storage.OrderCombine || sameMoney(body, by) {
		view := orderView(by)
		detail.Order = &view
	}
	switch by.State {
	case storage.OrderClosed:
		return rs.replacedBefore(r, body, by, next, passed...)
	case storage.OrderPaid:
		return refuseWith(http.StatusConflict, codeOrderPaid, RuleReplacedPaid,
			"the order was replaced by another one, which is paid; no other order was made, so that nobody pays twice", detail), true
	case storage.OrderCreated:
		if kept, ok := rs.keep(r, body, by, &Replaced{old.Key.Number, old.State}); ok {
			return kept, true
		}
		// A query may tell of it before its maker has written down what opens it.
		if call, err := rs.Ledger.Call(r.Core.Live(), by.LastCall); err == nil && call.Outcome == storage.CallPending && claim.At.Add(replaceTime).After(rs.Now()) {
			return later(conflict(RuleReplaced, "another request is replacing the order; the same request finds what came of it"), time.Second), true
		}
	case storage.OrderIntended, storage.OrderUnknown:
		return later(refuseWith(http.StatusConflict, codeInvalid, RuleReplaced,
			"the order was replaced by another one, of which it is not known whether it was made; repeat that one, or ask again", detail), time.Minute), true
	case storage.OrderRejected, storage.OrderRegistered:
	}
	return refuseWith(http.StatusConflict, codeInvalid, RuleReplaced,
		"the order was replaced by another one, which can be paid and asks for something else; replace that one", detail), true
}
