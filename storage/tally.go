package storage

import (
	"encoding/json"
	"fmt"
	"time"
)

// tallyKept is how long a tally is kept after its last change: longer than WeChat
// Pay takes refunds of a payment.
const tallyKept = 400 * 24 * time.Hour

// Tallies are the keys of the memos that may sum up the refunds of a payment: of
// one that the ledger has no order for, by the names that it is known under. The
// first is where a new refund is counted.
// https://pay.weixin.qq.com/doc/v3/merchant/4012791862
func (r *Refund) Tallies() (keys []string) {
	if r.TransactionID != "" {
		keys = append(keys, "payment/"+r.Key.Mchid+"/id/"+r.TransactionID)
	}
	if r.Order.Number != "" {
		keys = append(keys, "payment/"+r.Order.Mchid+"/no/"+r.Order.SubMchid+"/"+r.Order.Number)
	}
	return keys
}

// RefundsOf returns what was refunded of one payment by all that the rows know of
// it: the order, if any, and the tallies from before the ledger had the order.
// Errors: ErrCorrupt.
func (rows *Rows) RefundsOf(payment OrderKey, tallies []string) (Refunds, error) {
	var sum Refunds
	if rows.Order != nil {
		sum = rows.Order.RefundsOf(payment)
	}
	for _, key := range tallies {
		s, err := rows.tally(key)
		if err != nil {
			return sum, err
		}
		sum = sum.with(s)
	}
	return sum, nil
}

// with returns the sums of a payment that is counted in two places.
func (s Refunds) with(other Refunds) Refunds {
	if other.LastAt.After(s.LastAt) {
		s, other = other, s
	}
	s.Total, s.Count = add(s.Total, other.Total), s.Count+other.Count
	s.Open = append(s.Open[:len(s.Open):len(s.Open)], other.Open...)
	return s
}

// ReserveRefund counts a new refund against its payment, as [Order.Reserve], and
// says in the refund where: in the order, or in the first of the tallies when the
// ledger has none. Errors: ErrCorrupt.
func (rows *Rows) ReserveRefund(tallies []string, now time.Time) error {
	r := rows.Refund
	if rows.Order != nil {
		r.Tally = ""
		rows.Order.Reserve(r)
		return nil
	}
	r.Tally = tallies[0]
	s, err := rows.tally(r.Tally)
	if err != nil {
		return err
	}
	s.add(r)
	rows.setTally(r.Tally, s, now)
	return nil
}

// RefundApplied is [Order.Applied], wherever the refund is counted.
func (rows *Rows) RefundApplied(now time.Time) {
	r := rows.Refund
	switch {
	case r.Tally == "" && rows.Order != nil:
		rows.Order.Applied(r, now)
	case rows.Memos[r.Tally] != nil:
		if s, err := rows.tally(r.Tally); err == nil {
			s.LastAt = now
			rows.setTally(r.Tally, s, now)
		}
	}
}

// MoveRefund is [Refund.MoveTo], wherever the refund is counted; its Tally must be
// among the memos that the change names. A tally that cannot be read, or is not
// there, stays as it is.
func (rows *Rows) MoveRefund(next RefundState, now time.Time) (changed bool) {
	r := rows.Refund
	if r.Tally == "" {
		return r.MoveTo(next, rows.Order, now)
	}
	was := *r
	if !r.MoveTo(next, nil, now) {
		return false
	}
	if s, err := rows.tally(r.Tally); err == nil && rows.Memos[r.Tally] != nil {
		s.move(&was, next)
		rows.setTally(r.Tally, s, now)
	}
	return true
}

func (rows *Rows) tally(key string) (s Refunds, err error) {
	if m := rows.Memos[key]; m != nil {
		if err := json.Unmarshal(m.Data, &s); err != nil || s.Total < 0 || s.Count < 0 {
			return s, fmt.Errorf("tally of refunds: %w", ErrCorrupt)
		}
	}
	return s, nil
}

func (rows *Rows) setTally(key string, s Refunds, now time.Time) {
	data, err := json.Marshal(s)
	if err != nil { // numbers and texts always marshal; a year beyond 9999 does not
		return
	}
	if rows.Memos == nil {
		rows.Memos = map[string]*Memo{}
	}
	rows.Memos[key] = &Memo{Key: key, Data: data, Expires: now.Add(tallyKept)}
}
