package storage

import (
	"fmt"
	"math"
	"reflect"
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
			r := Refund{State: from, Amount: 30, Key: RefundKey{OutRefundNo: "R"}, Order: OrderKey{Mchid: "1", Number: "S1"}}
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
			if from.Reserves() {
				want.LastNo = "R"
				if r.State == RefundRejected {
					want.Rejected = 30
				}
			}
			if r.State == RefundIntended && from.Reserves() || r.State == RefundUnknown {
				want.Open = []string{"R"}
			}
			if o.RefundTotal != want.Total || o.RefundCount != want.Count || !reflect.DeepEqual(o.Subs[1].Refunds, want) || !reflect.DeepEqual(o.Subs[0].Refunds, Refunds{}) {
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
	r := &Refund{Key: RefundKey{OutRefundNo: "R"}, Amount: 5}
	o.Reserve(r)
	if o.RefundTotal != math.MaxInt64 {
		t.Error(o.RefundTotal)
	}
	o.Applied(r, time.Unix(1, 0))
	if got := o.RefundsOf(OrderKey{}); got.LastNo != "R" || got.Count != 1 || got.LastAt.IsZero() {
		t.Errorf("%+v", got)
	}
}

// TestOpenRefunds: what is open is a list of its own, whichever refund was the
// newest or was applied for last, and it is bounded.
func TestOpenRefunds(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var o Order
	refunds := make([]Refund, MaxOpenRefunds+1)
	for i := range refunds {
		refunds[i] = Refund{Key: RefundKey{OutRefundNo: fmt.Sprint(i)}, Amount: 1, State: RefundIntended}
		o.Reserve(&refunds[i])
	}
	o.Applied(&refunds[0], now)
	held := o.RefundsOf(OrderKey{})
	if held.Keeps("0") != "1" || held.Keeps("1") != "0" || (Refunds{LastNo: "R"}).Keeps("0") != "R" {
		t.Error("which number is to be kept to")
	}
	if len(held.Open) != MaxOpenRefunds || held.LastNo != fmt.Sprint(MaxOpenRefunds) || !held.LastAt.Equal(now) {
		t.Errorf("%+v", held)
	}
	for i := range refunds {
		refunds[i].MoveTo([]RefundState{RefundRejected, RefundProcessing}[i%2], &o, now)
	}
	if got := o.RefundsOf(OrderKey{}); got.Open != nil || got.Rejected != 1 || got.Count != MaxOpenRefunds/2 || held.Open[0] != "0" {
		t.Errorf("%+v", got)
	}
	refunds[0].MoveTo(RefundUnknown, &o, now)
	if got := o.RefundsOf(OrderKey{}); len(got.Open) != 1 || got.Open[0] != "0" {
		t.Errorf("%+v", got)
	}
}
