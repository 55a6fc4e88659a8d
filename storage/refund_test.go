package storage

import (
	"math"
	"testing"
	"time"
)

var refundStates = []RefundState{
	RefundIntended, RefundUnknown, RefundProcessing, RefundRejected, RefundSuccess, RefundAbnormal, RefundClosed,
}

// TestMoveTo walks every pair of states twice: what an order has reserved is
// always what its refund's state says, and saying it again changes nothing.
func TestMoveTo(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, from := range refundStates {
		for _, to := range append(refundStates, "", "other") {
			r := Refund{State: from, Amount: 30, Order: OrderKey{Mchid: "1", Number: "S1"}}
			o := Order{Subs: []SubOrder{{Mchid: "1", OutTradeNo: "S0"}, {Mchid: "1", OutTradeNo: "S1"}}}
			if from.Reserves() {
				o.Reserve(&r)
			}
			changed := r.MoveTo(to, &o, now)
			if changed != (r.State != from) || changed && r.State != to {
				t.Errorf("%s to %s: %v %s", from, to, changed, r.State)
			}
			if from.Final() && changed {
				t.Errorf("%s is left", from)
			}
			if r.MoveTo(to, &o, now) {
				t.Errorf("%s to %s changes twice", from, to)
			}
			want := Refunds{}
			if r.State.Reserves() {
				want = Refunds{Total: 30, Count: 1}
			}
			if o.RefundTotal != want.Total || o.RefundCount != want.Count || o.Subs[1].Refunds != want || o.Subs[0].Refunds != (Refunds{}) {
				t.Errorf("%s to %s: %+v", from, to, o)
			}
			alone := Refund{State: from}
			if alone.MoveTo(to, nil, now) != changed {
				t.Errorf("%s to %s without an order", from, to)
			}
		}
	}
}

// TestRejectedNeedsNoAnswer: a rejection proves nothing about a refund that
// WeChat Pay has taken.
func TestRejectedNeedsNoAnswer(t *testing.T) {
	for state, moves := range map[RefundState]bool{
		RefundIntended: true, RefundUnknown: true, RefundProcessing: false, RefundAbnormal: false, RefundSuccess: false, RefundClosed: false,
	} {
		r := Refund{State: state}
		if r.MoveTo(RefundRejected, nil, time.Time{}) != moves {
			t.Error(state)
		}
	}
}

func TestReserveNeverWraps(t *testing.T) {
	o := Order{RefundTotal: math.MaxInt64 - 1}
	o.Reserve(&Refund{Amount: 5})
	if o.RefundTotal != math.MaxInt64 {
		t.Error(o.RefundTotal)
	}
	o.Applied(&Refund{Key: RefundKey{OutRefundNo: "R"}}, time.Unix(1, 0))
	if got := o.RefundsOf(OrderKey{}); got.LastNo != "R" || got.Count != 1 || got.LastAt.IsZero() {
		t.Errorf("%+v", got)
	}
}
