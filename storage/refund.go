package storage

import (
	"math"
	"time"
)

// Refunds sums up the refunds of one payment: of an order that is no combine
// order, or of one sub-order. The zero value is none.
type Refunds struct {
	Total  Fen       `json:"total,omitempty"` // fen, of those that succeeded or may yet
	Count  int       `json:"count,omitempty"`
	LastNo string    `json:"last_no,omitempty"` // out_refund_no applied for last
	LastAt time.Time `json:"last_at,omitzero"`
}

// RefundsOf returns what was refunded of one payment: of the sub-order that the
// key names, or of the order itself.
func (o *Order) RefundsOf(payment OrderKey) Refunds {
	if s := o.sub(payment); s != nil {
		return s.Refunds
	}
	return Refunds{Total: o.RefundTotal, Count: o.RefundCount, LastNo: o.LastRefundNo, LastAt: o.LastRefundAt}
}

// Reserve counts a new refund against its payment. It says nothing about
// whether that much is left, which is the caller's to check on the same row in
// the same [Ledger.Change].
func (o *Order) Reserve(r *Refund) {
	o.RefundTotal, o.RefundCount = add(o.RefundTotal, r.Amount), o.RefundCount+1
	if s := o.sub(r.Order); s != nil {
		s.Refunds.Total, s.Refunds.Count = add(s.Refunds.Total, r.Amount), s.Refunds.Count+1
	}
}

// Applied notes that a refund is being applied for.
func (o *Order) Applied(r *Refund, at time.Time) {
	if s := o.sub(r.Order); s != nil {
		s.Refunds.LastNo, s.Refunds.LastAt = r.Key.OutRefundNo, at
		return
	}
	o.LastRefundNo, o.LastRefundAt = r.Key.OutRefundNo, at
}

func (o *Order) release(r *Refund) {
	o.RefundTotal, o.RefundCount = max(o.RefundTotal-r.Amount, 0), max(o.RefundCount-1, 0)
	if s := o.sub(r.Order); s != nil {
		s.Refunds.Total, s.Refunds.Count = max(s.Refunds.Total-r.Amount, 0), max(s.Refunds.Count-1, 0)
	}
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
	if was, will := r.State.Reserves(), next.Reserves(); order != nil && was != will {
		if will {
			order.Reserve(r)
		} else {
			order.release(r)
		}
		order.UpdatedAt = now
	}
	r.State, r.UpdatedAt = next, now
	return true
}
