package storage

import (
	"math"
	"slices"
	"time"
)

// MaxOpenRefunds bounds [Refunds.Open].
const MaxOpenRefunds = 50

// Refunds sums up the refunds of one payment: of an order that is no combine
// order, or of one sub-order. The zero value is none.
type Refunds struct {
	Total  Fen       `json:"total,omitempty"` // fen, of those that succeeded or may yet
	Count  int       `json:"count,omitempty"`
	LastNo string    `json:"last_no,omitempty"` // out_refund_no of the newest refund
	LastAt time.Time `json:"last_at,omitzero"`  // of the last application, repeats included
	// Open are the out_refund_no of refunds that are intended or unknown, at most
	// [MaxOpenRefunds]; more than one only where the rule against it is off.
	Open []string `json:"open,omitempty"`
	// Rejected is the amount, in fen, of the newest refund when it was rejected.
	Rejected Fen `json:"rejected,omitempty"`
}

// Keeps returns the out_refund_no that is to be applied for again before another
// one is: that of a refund that is open, or of the newest.
func (s Refunds) Keeps(another string) string {
	for _, open := range s.Open {
		if open != another {
			return open
		}
	}
	return s.LastNo
}

// reserve counts a refund, or takes it back.
func (s *Refunds) reserve(amount Fen, taken bool) {
	if taken {
		s.Total, s.Count = add(s.Total, amount), s.Count+1
	} else {
		s.Total, s.Count = max(s.Total-amount, 0), max(s.Count-1, 0)
	}
}

// note keeps Open and Rejected in step with a refund's state. It leaves the list
// that others may hold as it is.
func (s *Refunds) note(r *Refund, state RefundState) {
	number := r.Key.OutRefundNo
	open := slices.DeleteFunc(slices.Clone(s.Open), func(n string) bool { return n == number })
	if state.open() && len(open) < MaxOpenRefunds {
		open = append(open, number)
	}
	if s.Open = open; len(open) == 0 {
		s.Open = nil
	}
	if s.LastNo == number {
		s.Rejected = 0
		if state == RefundRejected {
			s.Rejected = r.Amount
		}
	}
}

// add counts a new refund.
func (s *Refunds) add(r *Refund) {
	s.reserve(r.Amount, true)
	s.LastNo = r.Key.OutRefundNo
	s.note(r, r.State)
}

// move follows a refund from its state to the next.
func (s *Refunds) move(r *Refund, next RefundState) {
	if was, will := r.State.Reserves(), next.Reserves(); was != will {
		s.reserve(r.Amount, will)
	}
	s.note(r, next)
}

// RefundsOf returns what was refunded of one payment: of the sub-order that the
// key names, or of the order itself.
func (o *Order) RefundsOf(payment OrderKey) Refunds {
	if s := o.sub(payment); s != nil {
		return s.Refunds
	}
	return Refunds{
		Total: o.RefundTotal, Count: o.RefundCount, LastNo: o.LastRefundNo, LastAt: o.LastRefundAt,
		Open: o.OpenRefunds, Rejected: o.RejectedRefund,
	}
}

// setRefunds writes the sums of one payment, and into the order's those of its
// sub-order.
func (o *Order) setRefunds(payment OrderKey, r Refunds) {
	if s := o.sub(payment); s != nil {
		o.RefundTotal = max(add(o.RefundTotal, r.Total-s.Refunds.Total), 0)
		o.RefundCount = max(o.RefundCount+r.Count-s.Refunds.Count, 0)
		s.Refunds = r
		return
	}
	o.RefundTotal, o.RefundCount, o.LastRefundNo, o.LastRefundAt = r.Total, r.Count, r.LastNo, r.LastAt
	o.OpenRefunds, o.RejectedRefund = r.Open, r.Rejected
}

// Reserve counts a new refund against its payment, of which it is the newest from
// then on. It says nothing about whether that much is left, which is the caller's
// to check on the same row in the same [Ledger.Change].
func (o *Order) Reserve(r *Refund) {
	s := o.RefundsOf(r.Order)
	s.add(r)
	o.setRefunds(r.Order, s)
}

// Applied notes that a refund is being applied for, for the first time or again.
func (o *Order) Applied(r *Refund, at time.Time) {
	s := o.RefundsOf(r.Order)
	s.LastAt = at
	o.setRefunds(r.Order, s)
}

func (o *Order) sub(key OrderKey) *SubOrder {
	for i := range o.Subs {
		if o.Subs[i].Key() == key {
			return &o.Subs[i]
		}
	}
	return nil
}

// add never wraps around.
func add(a, b Fen) Fen {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Reserves reports whether a refund in the state counts against its order.
// ABNORMAL (退款异常) does: the money is on its way until WeChat Pay says success
// or closed. https://pay.weixin.qq.com/doc/v3/merchant/4012791862
func (s RefundState) Reserves() bool {
	switch s {
	case RefundIntended, RefundUnknown, RefundProcessing, RefundSuccess, RefundAbnormal:
		return true
	case RefundRejected, RefundClosed:
	}
	return false
}

// open reports whether nobody knows yet what became of the application.
func (s RefundState) open() bool { return s == RefundIntended || s == RefundUnknown }

// Final reports whether nothing more becomes of a refund in the state.
func (s RefundState) Final() bool { return s == RefundSuccess || s == RefundClosed }

// MoveTo moves a refund to the state that WeChat Pay's verified word gives it,
// and in the same step what its order has reserved for it: closed and rejected
// release the amount, and a refund that was rejected and turns out to exist
// reserves it again. A final state is not left, a refund that WeChat Pay has
// answered for is rejected no more, an apply call whose outcome is unknown opens a
// rejected refund again, and a move to the state that it is in changes
// nothing: callbacks and queries may say the same any number of times, in any
// order. order is nil where the ledger has none.
func (r *Refund) MoveTo(next RefundState, order *Order, now time.Time) (changed bool) {
	switch next {
	case RefundProcessing, RefundSuccess, RefundAbnormal, RefundClosed:
	case RefundUnknown:
		if r.State != RefundIntended && r.State != RefundRejected {
			return false
		}
	case RefundRejected:
		if r.State != RefundIntended && r.State != RefundUnknown {
			return false
		}
	case RefundIntended:
		return false
	default:
		return false
	}
	if next == r.State || r.State.Final() {
		return false
	}
	if order != nil {
		s := order.RefundsOf(r.Order)
		s.move(r, next)
		order.setRefunds(r.Order, s)
		order.UpdatedAt = now
	}
	r.State, r.UpdatedAt = next, now
	return true
}
