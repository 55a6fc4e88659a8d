package storage

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

// TestTally: a refund is counted in one place for all its life, and a payment's
// sums are those of all places.
func TestTally(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	payment := OrderKey{Mchid: "1", Number: "N1"}
	r := Refund{Key: RefundKey{Mchid: "1", OutRefundNo: "R1"}, Order: payment, TransactionID: "42", Amount: 30, State: RefundIntended}
	tallies := r.Tallies()
	rows := Rows{Refund: &r}
	if len(tallies) != 2 || tallies[0] == tallies[1] || rows.ReserveRefund(tallies, now) != nil || r.Tally != tallies[0] {
		t.Fatal(tallies, r)
	}
	rows.RefundApplied(now)
	m := rows.Memos[r.Tally]
	if m == nil || m.Key != r.Tally || !m.Expires.Equal(now.Add(tallyKept)) {
		t.Fatalf("%+v", m)
	}
	first := r

	// The order is there since, and has the next one.
	second := Refund{Key: RefundKey{Mchid: "1", OutRefundNo: "R2"}, Order: payment, Amount: 20, State: RefundProcessing}
	rows.Order, rows.Refund = &Order{Key: payment}, &second
	if err := rows.ReserveRefund(tallies, now); err != nil || second.Tally != "" {
		t.Fatal(err, second)
	}
	rows.RefundApplied(now.Add(time.Minute))
	want := Refunds{Total: 50, Count: 2, LastNo: "R2", LastAt: now.Add(time.Minute), Open: []string{"R1"}}
	if got, err := rows.RefundsOf(payment, tallies); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}

	// Each goes back where it came from.
	rows.Refund = &first
	if !rows.MoveRefund(RefundRejected, now) || rows.MoveRefund(RefundRejected, now) || rows.Order.RefundTotal != 20 {
		t.Errorf("%+v", rows.Order)
	}
	rows.Refund = &second
	if !rows.MoveRefund(RefundClosed, now) || rows.Order.RefundTotal != 0 {
		t.Errorf("%+v", rows.Order)
	}
	want = Refunds{LastNo: "R2", LastAt: now.Add(time.Minute)}
	if got, err := rows.RefundsOf(payment, tallies); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}

	// One that is gone, or cannot be read, is left alone.
	for _, memos := range []map[string]*Memo{nil, {r.Tally: {Key: r.Tally, Data: []byte("x"), Expires: now}}} {
		lost := r
		rows := Rows{Refund: &lost, Memos: memos}
		if !rows.MoveRefund(RefundSuccess, now) || len(rows.Memos) != len(memos) {
			t.Errorf("%+v", rows)
		}
		rows.RefundApplied(now)
		if _, err := rows.RefundsOf(payment, tallies); memos != nil && !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
		if err := rows.ReserveRefund(tallies, now); memos != nil && !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
	}
}
