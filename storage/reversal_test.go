package storage

import (
	"testing"
	"time"
)

func TestReversal(t *testing.T) {
	at := time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)
	paid := func() *Order {
		return &Order{State: OrderPaid, Amount: Money{Total: 100, Currency: "CNY"}, RefundTotal: 30}
	}
	o := paid()
	o.Reverse("c1", at)
	o.Reverse("c2", at.Add(time.Second))
	if o.RefundTotal != 100 || o.Reversal != (Reversal{Amount: 70, Call: "c2", At: at.Add(time.Second)}) {
		t.Errorf("%+v", o)
	}
	if !o.NotReversed() || o.NotReversed() || o.RefundTotal != 30 || o.Reversal.Begun() {
		t.Errorf("%+v", o)
	}
	o.Reverse("c3", at)
	if !o.Reversed() || o.Reversed() || o.NotReversed() || o.RefundTotal != 100 || o.State != OrderPaid || !o.Reversal.Done {
		t.Errorf("%+v", o)
	}
	for _, state := range []OrderState{OrderIntended, OrderUnknown, OrderCreated, OrderClosed} {
		o = paid()
		o.State, o.RefundTotal = state, 0
		o.Reverse("c1", at)
		if !o.Reversed() || o.Reversed() || o.State != OrderClosed || o.RefundTotal != 0 || !o.Reversal.Begun() {
			t.Errorf("%+v", o)
		}
	}
	o = paid() // by a query alone
	if o.Reversed(); o.RefundTotal != 100 || !o.Reversal.Done {
		t.Errorf("%+v", o)
	}
}
