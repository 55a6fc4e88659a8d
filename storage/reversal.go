package storage

import "time"

// Reversal is what taking back a payment-code order (撤销) has reserved of it. The
// zero value: nobody has tried.
type Reversal struct {
	Amount Fen       `json:"amount,omitempty"` // fen, a part of [Order.RefundTotal] until it is settled
	Call   string    `json:"call,omitempty"`   // the last call
	At     time.Time `json:"at,omitzero"`      // when that began
	// Done: WeChat Pay's verified word says that the order is taken back. Otherwise
	// it may have been.
	Done bool `json:"done,omitempty"`
}

// Begun reports whether the order is, or may have been, taken back.
func (r Reversal) Begun() bool { return r.Call != "" || r.Done }

// Reverse reserves what is left of an order, which a call is about to take back; of
// one that a call before may have taken back it is reserved already. It does not
// check whether that may be, which is the caller's to do on the same row in the same
// [Ledger.Change].
func (o *Order) Reverse(call string, at time.Time) {
	if !o.Reversal.Begun() {
		o.Reversal.Amount = max(o.Amount.Total-o.RefundTotal, 0)
		o.RefundTotal = add(o.RefundTotal, o.Reversal.Amount)
	}
	o.Reversal.Call, o.Reversal.At = call, at
}

// NotReversed gives back what was reserved for a reversal that did not happen.
func (o *Order) NotReversed() (changed bool) {
	if !o.Reversal.Begun() || o.Reversal.Done {
		return false
	}
	o.RefundTotal = max(o.RefundTotal-o.Reversal.Amount, 0)
	o.Reversal = Reversal{}
	return true
}

// Reversed notes that an order was taken back, by WeChat Pay's verified word: what
// was paid of it is refunded, and nothing is left to refund; what was not is closed.
func (o *Order) Reversed() (changed bool) {
	if o.State != OrderPaid {
		changed = o.NotReversed() // there is nothing to give back
	}
	if changed = changed || !o.Reversal.Done; changed {
		o.Reversal.Done = true
	}
	switch {
	case o.State == OrderClosed:
	case o.State == OrderPaid:
		if o.RefundTotal < o.Amount.Total {
			o.RefundTotal, changed = o.Amount.Total, true
		}
	default:
		o.State, changed = OrderClosed, true
	}
	return changed
}
