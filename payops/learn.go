package payops

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// settled is how long after the last change of an order WeChat Pay's word that
// it does not exist is final: no create call that was on its way can arrive any
// more.
const settled = time.Minute

// errNothing ends a change that changes nothing.
var errNothing = errors.New("payops: nothing to write")

// learned is what a verified query answer says about an order.
type learned struct {
	key           storage.OrderKey
	state         storage.OrderState // Paid, Closed, Created (waits to be paid), or "" for nothing
	appid         string
	transactionID string
	paidAt        time.Time
	reversed      bool          // 已撤销: what was paid went back to the payer
	stands        bool          // it was not taken back
	at            time.Time     // when the answer was read
	amount        storage.Money // zero when the answer carries none
	parkingID     string
	subs          []storage.SubOrder
	payers        []identity // who has paid; nil unless it is paid
}

// learn reads a verified 200 of a query. ok is false when it names no order of
// the merchant.
func (a *API) learn(kind storage.OrderKind, body []byte) (learned, bool) {
	switch kind {
	case storage.OrderCombine:
		return a.learnCombine(body)
	case storage.OrderParking:
		return a.learnCharge(body)
	case storage.OrderBasic, storage.OrderPartner:
	}
	answer, n := gjson.ParseBytes(body), namesOf(kind)
	mchid, sub := answer.Get(n.mchid).String(), ""
	if n.sub != "" {
		sub = answer.Get(n.sub).String()
	}
	l := learned{
		key:           storage.OrderKey{Mchid: mchid, SubMchid: sub, Number: answer.Get(n.number).String()},
		appid:         answer.Get(n.appid).String(),
		transactionID: answer.Get("transaction_id").String(),
		state:         stateOf(answer.Get("trade_state").String()),
		amount:        moneyOf(answer.Get("amount"), "total"),
		reversed:      answer.Get("trade_state").String() == "REVOKED",
		stands:        stands[answer.Get("trade_state").String()],
		at:            a.now(),
	}
	l.paidAt, _ = time.Parse(time.RFC3339, answer.Get("success_time").String())
	if l.state == storage.OrderPaid {
		l.payers = answeredPayers(kind, answer)
	}
	return l, mchid == a.merchant.Mchid() && l.key.Number != ""
}

// learnCombine reads the answer about a combine order: it is what all of its
// sub-orders are, and nothing when they differ.
func (a *API) learnCombine(body []byte) (learned, bool) {
	answer := gjson.ParseBytes(body)
	l := learned{appid: answer.Get("combine_appid").String(), key: storage.OrderKey{
		Mchid: answer.Get("combine_mchid").String(), Number: answer.Get("combine_out_trade_no").String(),
	}}
	agree := true
	for i, s := range answer.Get("sub_orders").Array() {
		state := stateOf(s.Get("trade_state").String())
		if i == 0 {
			l.state = state
		}
		agree = agree && state == l.state
		l.subs = append(l.subs, storage.SubOrder{
			Mchid: s.Get("mchid").String(), SubMchid: s.Get("sub_mchid").String(),
			OutTradeNo: s.Get("out_trade_no").String(), TransactionID: s.Get("transaction_id").String(),
			Amount: moneyOf(s.Get("amount"), "total_amount"),
		})
		if at, err := time.Parse(time.RFC3339, s.Get("success_time").String()); err == nil && at.After(l.paidAt) {
			l.paidAt = at
		}
	}
	if !agree {
		l.state = ""
	}
	if l.state == storage.OrderPaid {
		l.payers = answeredPayers(storage.OrderCombine, answer)
	}
	return l, l.key.Mchid == a.merchant.Mchid() && l.key.Number != ""
}

// stands are the values of trade_state that say that nothing was given back.
var stands = map[string]bool{"SUCCESS": true, "NOTPAY": true, "USERPAYING": true}

// stateOf maps trade_state. A refunded order was paid; a revoked one is closed.
func stateOf(tradeState string) storage.OrderState {
	switch tradeState {
	case "SUCCESS", "REFUND":
		return storage.OrderPaid
	case "CLOSED", "REVOKED":
		return storage.OrderClosed
	case "NOTPAY", "USERPAYING", "ACCEPTED": // 扣费受理: taken on, not paid
		return storage.OrderCreated
	}
	return ""
}

// moneyOf reads an amount of an answer, zero when it is not one.
func moneyOf(amount gjson.Result, totalName string) storage.Money {
	total, err := strconv.ParseInt(amount.Get(totalName).Raw, 10, 64)
	if err != nil || total < 0 || total == math.MaxInt64 {
		return storage.Money{}
	}
	m := storage.Money{Total: storage.Fen(total), Currency: amount.Get("currency").String()}
	if m.Currency == "" {
		m.Currency = "CNY"
	}
	return m
}

// contradicts reports whether the answer is about other money than the
// ledger's order. What either leaves out is no contradiction.
func (l learned) contradicts(o *storage.Order) bool {
	if l.amount.Total != 0 && o.Amount.Total != 0 && l.amount != o.Amount ||
		!either(l.transactionID, o.TransactionID) || !either(l.appid, o.Appid) || !either(l.parkingID, o.ParkingID) {
		return true
	}
	for _, s := range l.subs {
		known := findSub(o.Subs, s.Key())
		switch {
		case known == nil && len(o.Subs) > 0:
			return true
		case known == nil:
		case s.Amount.Total != 0 && known.Amount.Total != 0 && s.Amount != known.Amount,
			!either(s.TransactionID, known.TransactionID):
			return true
		}
	}
	return false
}

// apply moves an order on by what was learned, unless the answer contradicts
// it: then nothing is changed.
func (l learned) apply(o *storage.Order) (changed, contradicts bool) {
	if l.contradicts(o) {
		return false, true
	}
	switch l.state {
	case storage.OrderPaid:
		changed = l.notReversed(o)
		if o.State != storage.OrderPaid {
			o.State, o.PaidAt, changed = storage.OrderPaid, l.paidAt, true
		}
		if payer := digestOf(l.payers); payer != "" && payer != o.Payer {
			o.Payer, changed = payer, true
		}
		if o.TransactionID == "" && l.transactionID != "" {
			o.TransactionID, changed = l.transactionID, true
		}
		for _, s := range l.subs {
			if known := findSub(o.Subs, s.Key()); known != nil && known.TransactionID == "" && s.TransactionID != "" {
				known.TransactionID, changed = s.TransactionID, true
			}
		}
	case storage.OrderClosed:
		switch {
		case l.reversed:
			changed = o.Reversed()
		case o.State != storage.OrderPaid:
			changed = o.NotReversed()
			if o.State != storage.OrderClosed {
				o.State, changed = storage.OrderClosed, true
			}
		}
	case storage.OrderCreated:
		changed = l.notReversed(o)
		if o.State == storage.OrderIntended || o.State == storage.OrderUnknown || o.State == storage.OrderRejected {
			o.State, changed = storage.OrderCreated, true
		}
	case storage.OrderIntended, storage.OrderUnknown, storage.OrderRejected, storage.OrderRegistered:
	}
	return changed, false
}

// notReversed gives back what is reserved for a reversal when the order stands
// although no such call can be on its way any more.
func (l learned) notReversed(o *storage.Order) bool {
	return l.stands && l.at.Sub(o.Reversal.At) >= settled && o.NotReversed()
}

func findSub(subs []storage.SubOrder, key storage.OrderKey) *storage.SubOrder {
	for i := range subs {
		if subs[i].Key() == key {
			return &subs[i]
		}
	}
	return nil
}

// record writes what a query found into the ledger, where the ledger knows the
// order and it is news. It never fails the query.
func (a *API) record(ctx context.Context, kind storage.OrderKind, key storage.OrderKey, payers []identity, apply func(*storage.Order) (changed, contradicts bool)) {
	order, err := a.ledger.Order(ctx, key)
	if errors.Is(err, storage.ErrNotFound) || err == nil && (order.Key != key || order.Kind != kind) {
		return // an order of another kind is asked for elsewhere: "no such order" is no word about it
	}
	if err == nil {
		probe := order
		probe.Subs = append([]storage.SubOrder(nil), order.Subs...)
		changed, contradicts := apply(&probe)
		if contradicts {
			a.observer.Contradicted()
			a.log.Error("a query's answer contradicts the ledger", "number", key.Number)
			return
		}
		if !changed {
			return
		}
		err = a.ledger.Change(ctx, storage.Keys{Order: key, Memos: openIDMemos(payers)}, func(rows *storage.Rows) error {
			if rows.Order == nil || rows.Order.Kind != kind {
				return errNothing
			}
			if changed, contradicts := apply(rows.Order); !changed || contradicts {
				return errNothing
			}
			rows.Order.UpdatedAt = a.now()
			a.noteOpenIDs(rows, payers)
			return nil
		})
	}
	switch {
	case errors.Is(err, errNothing):
	case err != nil:
		a.log.Error("what a query found is not recorded", "error", err)
	default:
		a.changed(ctx, key)
	}
}

// notExisting is what a verified "no such order" changes: a create call whose
// outcome is unknown, and that cannot be on its way any more, made nothing.
func (a *API) notExisting(o *storage.Order) (changed, contradicts bool) {
	if o.State != storage.OrderUnknown && o.State != storage.OrderIntended || a.now().Sub(o.UpdatedAt) < settled {
		return false, false
	}
	o.NotReversed()
	o.State = storage.OrderRejected
	return true, false
}
