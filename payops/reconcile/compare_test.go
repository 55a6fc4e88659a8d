package reconcile_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/bill"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/reconcile"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mchid = "1900000001"
	date  = "2026-11-21"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, bill.Beijing)

// rows makes an iterator that ends with err, if any.
func rows(err error, all ...bill.Trade) iter.Seq2[bill.Trade, error] { return seq(err, all...) }

func seq[T any](err error, all ...T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
		if err != nil {
			var none T
			yield(none, err)
		}
	}
}

// listing is what the ledger lists.
type listing struct {
	orders  []storage.Order
	refunds []reconcile.AcceptedRefund
	err     error
}

func (l listing) PaidOn(_ context.Context, merchant string, from, to time.Time) iter.Seq2[storage.Order, error] {
	if merchant != "shop" || !from.Equal(noon.Add(-12*time.Hour)) || !to.Equal(noon.Add(12*time.Hour)) {
		return seq[storage.Order](fmt.Errorf("asked for %s %s %s", merchant, from, to))
	}
	return seq(l.err, l.orders...)
}

func (l listing) RefundsOn(context.Context, string, time.Time, time.Time) iter.Seq2[reconcile.AcceptedRefund, error] {
	return seq(l.err, l.refunds...)
}

func cny(n storage.Fen) storage.Money { return storage.Money{Total: n, Currency: "CNY"} }

func order(number string, state storage.OrderState, amount storage.Fen) storage.Order {
	o := storage.Order{
		Key: storage.OrderKey{Mchid: mchid, Number: number}, Kind: storage.OrderBasic, Merchant: "shop", State: state,
		Amount: cny(amount), CreatedAt: noon,
	}
	if state == storage.OrderPaid {
		o.TransactionID, o.PaidAt = "42"+number, noon
	}
	return o
}

func refundOf(number string, state storage.RefundState, amount storage.Fen) storage.Refund {
	return storage.Refund{
		Key: storage.RefundKey{Mchid: mchid, OutRefundNo: number}, Order: storage.OrderKey{Mchid: mchid, Number: "N1"}, Merchant: "shop",
		State: state, RefundID: "50" + number, TransactionID: "42N1", Amount: amount, Total: 100, Currency: "CNY", CreatedAt: noon,
	}
}

func paid(number string, amount storage.Fen) bill.Trade {
	return bill.Trade{
		Time: noon, Mchid: mchid, TransactionID: "42" + number, OutTradeNo: number, Openid: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
		State: bill.TradePaid, Currency: "CNY", Total: amount, Settlement: amount, Goods: "private goods",
	}
}

func refunded(number, status string, amount storage.Fen) bill.Trade {
	return bill.Trade{
		Time: noon, Mchid: mchid, TransactionID: "42N1", OutTradeNo: "N1", Openid: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", State: bill.TradeRefund,
		Currency: "CNY", RefundID: "50" + number, OutRefundNo: number, Refund: amount - 1, RefundAsked: amount, RefundStatus: status,
	}
}

// with changes a copy.
func with[T any](v T, change func(*T)) T { change(&v); return v }

// ledger holds orders and refunds.
func ledger(t *testing.T, orders []storage.Order, refunds []storage.Refund) *storagetest.Model {
	t.Helper()
	m := storagetest.NewModel(nil)
	for _, o := range orders {
		if err := m.Change(context.Background(), storage.Keys{Order: o.Key}, func(r *storage.Rows) error { r.Order = &o; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range refunds {
		if err := m.Change(context.Background(), storage.Keys{Refund: o.Key}, func(r *storage.Rows) error { r.Refund = &o; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestCompare(t *testing.T) {
	combine := storage.Order{
		Key: storage.OrderKey{Mchid: mchid, Number: "C1"}, Kind: storage.OrderCombine, Merchant: "shop", State: storage.OrderPaid,
		Amount: cny(150), PaidAt: noon, CreatedAt: noon,
		Subs: []storage.SubOrder{
			{Mchid: mchid, OutTradeNo: "C1-A", Amount: cny(100), TransactionID: "42C1-A"},
			{Mchid: "1900000002", OutTradeNo: "C1-B", Amount: cny(50), TransactionID: "42C1-B"},
		},
	}
	partner := with(order("P1", storage.OrderPaid, 100), func(o *storage.Order) { o.Key.SubMchid, o.Kind = "1900000109", storage.OrderPartner })
	at := func(h, m, s int) time.Time { return noon.Add(-12*time.Hour + time.Duration(h*3600+m*60+s)*time.Second) }
	for _, tc := range []struct {
		name    string
		orders  []storage.Order
		refunds []storage.Refund
		rows    []bill.Trade
		listed  bool // the orders and refunds are listed, too
		want    map[reconcile.Kind]int64
		matched int64
		undec   int64
	}{
		{name: "nothing"},
		{name: "agrees", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{paid("N1", 100)}, listed: true, matched: 1},
		{name: "unknown here", rows: []bill.Trade{paid("N1", 100)}, want: map[reconcile.Kind]int64{reconcile.PaidUnknownHere: 1}},
		{name: "created here", orders: []storage.Order{order("N1", storage.OrderCreated, 100)}, rows: []bill.Trade{paid("N1", 100)}, want: map[reconcile.Kind]int64{reconcile.PaidNotPaidHere: 1}},
		{name: "closed here", orders: []storage.Order{order("N1", storage.OrderClosed, 100)}, rows: []bill.Trade{paid("N1", 100)}, want: map[reconcile.Kind]int64{reconcile.PaidNotPaidHere: 1}},
		{name: "rejected here", orders: []storage.Order{order("N1", storage.OrderRejected, 100)}, rows: []bill.Trade{paid("N1", 100)}, want: map[reconcile.Kind]int64{reconcile.PaidNotPaidHere: 1}},
		{name: "missing there", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, listed: true, want: map[reconcile.Kind]int64{reconcile.PaidMissingThere: 1}},
		{name: "a fen more", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{paid("N1", 101)}, listed: true, want: map[reconcile.Kind]int64{reconcile.PaidAmount: 1}},
		{name: "another currency", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{with(paid("N1", 100), func(r *bill.Trade) { r.Currency = "HKD" })}, want: map[reconcile.Kind]int64{reconcile.PaidAmount: 1}},
		{name: "an amount nobody stated", orders: []storage.Order{with(order("N1", storage.OrderPaid, 100), func(o *storage.Order) { o.Amount = storage.Money{} })}, rows: []bill.Trade{paid("N1", 101)}, matched: 1},
		{name: "another transaction", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{with(paid("N1", 100), func(r *bill.Trade) { r.TransactionID = "43" })}, want: map[reconcile.Kind]int64{reconcile.PaidTransaction: 1}},
		{name: "paid twice", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{paid("N1", 100), with(paid("N1", 100), func(r *bill.Trade) { r.TransactionID = "43" })}, listed: true, want: map[reconcile.Kind]int64{reconcile.PaidTwice: 1}, matched: 1},
		{name: "found by its transaction", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{with(paid("N1", 100), func(r *bill.Trade) { r.OutTradeNo = "other" })}, listed: true, matched: 1},
		{name: "another sub-merchant's", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{with(paid("N1", 100), func(r *bill.Trade) { r.SubMchid, r.TransactionID = "1900000109", "43" })}, want: map[reconcile.Kind]int64{reconcile.PaidUnknownHere: 1}},
		{name: "a partner's", orders: []storage.Order{partner}, rows: []bill.Trade{with(paid("P1", 100), func(r *bill.Trade) { r.SubMchid = "1900000109" })}, listed: true, matched: 1},
		{name: "a combine order's own part", orders: []storage.Order{combine}, rows: []bill.Trade{paid("C1-A", 100)}, listed: true, matched: 1},
		{name: "a combine order, missing", orders: []storage.Order{combine}, listed: true, want: map[reconcile.Kind]int64{reconcile.PaidMissingThere: 1}},
		{name: "a sub-order of another amount", orders: []storage.Order{combine}, rows: []bill.Trade{paid("C1-A", 150)}, listed: true, want: map[reconcile.Kind]int64{reconcile.PaidAmount: 1}},
		{name: "a combine order as such", orders: []storage.Order{combine}, rows: []bill.Trade{paid("C1", 150)}, want: map[reconcile.Kind]int64{reconcile.PaidUnknownHere: 1}},
		{name: "reversed", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{paid("N1", 100), with(refunded("0", "SUCCESS", 100), func(r *bill.Trade) { r.State = bill.TradeRevoked })}, want: map[reconcile.Kind]int64{reconcile.Revoked: 1}, matched: 1},
		{name: "reversed and closed", orders: []storage.Order{order("N1", storage.OrderClosed, 100)}, rows: []bill.Trade{with(refunded("0", "SUCCESS", 100), func(r *bill.Trade) { r.State = bill.TradeRevoked })}},
		{name: "another state", rows: []bill.Trade{with(paid("N1", 100), func(r *bill.Trade) { r.State = "NEW" })}, want: map[reconcile.Kind]int64{reconcile.OtherState: 1}},
		{name: "another day", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{with(paid("N1", 100), func(r *bill.Trade) { r.Time = at(24, 0, 0) })}, want: map[reconcile.Kind]int64{reconcile.OtherDay: 1}, matched: 1},
		{name: "the day before", orders: []storage.Order{order("N1", storage.OrderPaid, 100)}, rows: []bill.Trade{with(paid("N1", 100), func(r *bill.Trade) { r.Time = at(0, 0, -1) })}, want: map[reconcile.Kind]int64{reconcile.OtherDay: 1}, matched: 1},
		{name: "near midnight", orders: []storage.Order{
			with(order("N1", storage.OrderPaid, 100), func(o *storage.Order) { o.PaidAt = at(0, 4, 59) }),
			with(order("N2", storage.OrderPaid, 100), func(o *storage.Order) { o.PaidAt = at(23, 55, 0) }),
			with(order("N3", storage.OrderPaid, 100), func(o *storage.Order) { o.PaidAt = at(0, 5, 0) }),
			with(order("N4", storage.OrderPaid, 100), func(o *storage.Order) { o.PaidAt = at(23, 54, 59) }),
			with(order("N5", storage.OrderPaid, 100), func(o *storage.Order) { o.PaidAt = at(24, 0, 0) }), // not asked for
			order("N6", storage.OrderCreated, 100),                                                        // not asked for
		}, listed: true, want: map[reconcile.Kind]int64{reconcile.PaidMissingThere: 2}, undec: 2},

		{name: "refund agrees", refunds: []storage.Refund{refundOf("R1", storage.RefundSuccess, 60)}, rows: []bill.Trade{refunded("R1", "PROCESSING", 60)}, listed: true, matched: 1},
		{name: "refund under way", refunds: []storage.Refund{refundOf("R1", storage.RefundProcessing, 60)}, rows: []bill.Trade{refunded("R1", "SUCCESS", 60)}, listed: true, matched: 1},
		{name: "refund unknown here", rows: []bill.Trade{refunded("R1", "SUCCESS", 60)}, want: map[reconcile.Kind]int64{reconcile.RefundUnknownHere: 1}},
		{name: "refund intended here", refunds: []storage.Refund{refundOf("R1", storage.RefundIntended, 60)}, rows: []bill.Trade{refunded("R1", "SUCCESS", 60)}, listed: true, want: map[reconcile.Kind]int64{reconcile.RefundNotAcceptedHere: 1}},
		{name: "refund rejected here", refunds: []storage.Refund{refundOf("R1", storage.RefundRejected, 60)}, rows: []bill.Trade{refunded("R1", "SUCCESS", 60)}, listed: true, want: map[reconcile.Kind]int64{reconcile.RefundNotAcceptedHere: 1}},
		{name: "refund missing there", refunds: []storage.Refund{refundOf("R1", storage.RefundSuccess, 60)}, listed: true, want: map[reconcile.Kind]int64{reconcile.RefundMissingThere: 1}},
		{name: "refund not accepted", refunds: []storage.Refund{refundOf("R1", storage.RefundUnknown, 60)}, listed: true},
		{name: "refund of another amount", refunds: []storage.Refund{refundOf("R1", storage.RefundSuccess, 60)}, rows: []bill.Trade{refunded("R1", "SUCCESS", 61)}, listed: true, want: map[reconcile.Kind]int64{reconcile.RefundAmount: 1}},
		{name: "refund failed there", refunds: []storage.Refund{refundOf("R1", storage.RefundSuccess, 60)}, rows: []bill.Trade{refunded("R1", "FAIL", 60)}, listed: true, want: map[reconcile.Kind]int64{reconcile.RefundState: 1}},
		{name: "refund closed here", refunds: []storage.Refund{refundOf("R1", storage.RefundClosed, 60)}, rows: []bill.Trade{refunded("R1", "SUCCESS", 60)}, listed: true, want: map[reconcile.Kind]int64{reconcile.RefundState: 1}},
		{name: "refund of another id", refunds: []storage.Refund{refundOf("R1", storage.RefundSuccess, 60)}, rows: []bill.Trade{with(refunded("R1", "SUCCESS", 60), func(r *bill.Trade) { r.RefundID = "51" })}, listed: true, want: map[reconcile.Kind]int64{reconcile.RefundID: 1}},
		{name: "refund twice", refunds: []storage.Refund{refundOf("R1", storage.RefundSuccess, 60)}, rows: []bill.Trade{refunded("R1", "SUCCESS", 60), refunded("R1", "SUCCESS", 60)}, listed: true, want: map[reconcile.Kind]int64{reconcile.RefundTwice: 1}, matched: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := reconcile.Input{Merchant: "shop", Mchid: mchid, Date: date, Bill: rows(nil, tc.rows...), Ledger: ledger(t, tc.orders, tc.refunds)}
			if tc.listed {
				l := listing{orders: tc.orders}
				for _, r := range tc.refunds {
					l.refunds = append(l.refunds, reconcile.AcceptedRefund{Refund: r, AcceptedAt: noon})
				}
				in.Listing = l
			}
			r, err := reconcile.Compare(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == nil {
				tc.want = map[reconcile.Kind]int64{}
			}
			if !reflect.DeepEqual(r.Counts, tc.want) || r.Clean() != (len(tc.want) == 0) || r.Payments.Matched+r.Refunds.Matched != tc.matched || r.Undecided != tc.undec {
				t.Errorf("%+v", r)
			}
			total := int64(0)
			for _, n := range r.Counts {
				total += n
			}
			if int64(len(r.Differences)) != total || r.LeftOut != 0 || r.Merchant != "shop" || r.Mchid != mchid || r.Date != date || r.NoBill {
				t.Errorf("%+v", r)
			}
			for _, d := range r.Differences {
				if !slices.Contains(reconcile.Kinds(), d.Kind) || d.Mchid == "" || d.OutTradeNo == "" || d.Time.IsZero() {
					t.Errorf("%+v", d)
				}
			}
		})
	}
}

func TestNoBill(t *testing.T) {
	in := reconcile.Input{
		Merchant: "shop", Mchid: mchid, Date: date, Ledger: ledger(t, nil, nil),
		Listing: listing{orders: []storage.Order{order("N1", storage.OrderPaid, 100)}},
	}
	r, err := reconcile.Compare(context.Background(), in)
	if err != nil || !r.NoBill || r.Counts[reconcile.PaidMissingThere] != 1 || r.Payments.Here != 1 || r.Payments.HereAmount != 100 {
		t.Errorf("%+v %v", r, err)
	}
}

// brokenLedger fails.
type brokenLedger struct{ reconcile.Ledger }

func (brokenLedger) Order(context.Context, storage.OrderKey) (storage.Order, error) {
	return storage.Order{}, storage.ErrCorrupt
}

func (brokenLedger) Refund(context.Context, storage.RefundKey) (storage.Refund, error) {
	return storage.Refund{}, storage.ErrCorrupt
}

// TestNothingHalf: after an error there is no report.
func TestNothingHalf(t *testing.T) {
	broken := errors.New("broken")
	good := reconcile.Input{Merchant: "shop", Mchid: mchid, Date: date, Bill: rows(nil, paid("N1", 100)), Ledger: ledger(t, nil, nil), Listing: listing{}}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tc := range map[string]struct {
		ctx    context.Context
		change func(*reconcile.Input)
		want   error
	}{
		"the bill":   {nil, func(in *reconcile.Input) { in.Bill = rows(bill.ErrTotals, paid("N1", 100)) }, bill.ErrTotals},
		"the ledger": {nil, func(in *reconcile.Input) { in.Ledger = brokenLedger{} }, storage.ErrCorrupt},
		"a refund's ledger": {nil, func(in *reconcile.Input) {
			in.Ledger, in.Bill = brokenLedger{}, rows(nil, refunded("R1", "SUCCESS", 1))
		}, storage.ErrCorrupt},
		"a reversal": {nil, func(in *reconcile.Input) {
			in.Ledger, in.Bill = brokenLedger{}, rows(nil, with(paid("N1", 1), func(r *bill.Trade) { r.State = bill.TradeRevoked }))
		}, storage.ErrCorrupt},
		"the listing":        {nil, func(in *reconcile.Input) { in.Listing = listing{err: broken} }, broken},
		"the caller is gone": {gone, func(*reconcile.Input) {}, context.Canceled},
		"the date":           {nil, func(in *reconcile.Input) { in.Date = "20261121" }, bill.ErrRequest},
	} {
		in, ctx := good, tc.ctx
		tc.change(&in)
		if ctx == nil {
			ctx = context.Background()
		}
		if r, err := reconcile.Compare(ctx, in); r != nil || !errors.Is(err, tc.want) {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}

func TestLeftOut(t *testing.T) {
	in := reconcile.Input{Merchant: "shop", Mchid: mchid, Date: date, Ledger: ledger(t, nil, nil), MaxDifferences: 3}
	var all []bill.Trade
	for i := range 10 {
		all = append(all, paid(fmt.Sprint("N", i), 1))
	}
	in.Bill = rows(nil, all...)
	r, err := reconcile.Compare(context.Background(), in)
	if err != nil || len(r.Differences) != 3 || r.LeftOut != 7 || r.Counts[reconcile.PaidUnknownHere] != 10 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestWriters: both forms say the same, are no formulas, and hold no personal
// data.
func TestWriters(t *testing.T) {
	var all []bill.Trade
	for _, number := range []string{"=1+1", "+1", "-1", "@SUM(1)", "\tx", "  =1", "＝1", "a,b\"c\nd", "'x", "plain-1"} {
		all = append(all, paid(number, 100))
	}
	r, err := reconcile.Compare(context.Background(), reconcile.Input{
		Merchant: "=shop", Mchid: mchid, Date: date, Ledger: ledger(t, nil, nil), Bill: rows(nil, append(all, with(paid("N", -5), func(r *bill.Trade) { r.State = "-x" }))...),
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	table, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(table) != 12 {
		t.Fatal(table, err)
	}
	for i, row := range table[1:] {
		d := r.Differences[i]
		for at, value := range row {
			if value != "" && strings.ContainsAny(strings.TrimLeft(value, " ")[:1], "=+-@\t\r\n") && value != "-5" || strings.HasPrefix(value, "＝") {
				t.Errorf("%s: %q", table[0][at], value)
			}
		}
		if row[5] != d.OutTradeNo && row[5] != "'"+d.OutTradeNo || row[9] != fmt.Sprint(int64(d.There.Total)) || row[15] != "2026-11-21T12:00:00+08:00" {
			t.Errorf("%q", row)
		}
	}
	if table[10][5] != "plain-1" {
		t.Errorf("%q", table[10])
	}
	content, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back reconcile.Report
	if err := json.Unmarshal(content, &back); err != nil {
		t.Fatal(err)
	}
	for i := range back.Differences {
		back.Differences[i].Time = back.Differences[i].Time.In(bill.Beijing)
	}
	if !reflect.DeepEqual(&back, r) {
		t.Errorf("%+v\n%+v", back, r)
	}
	for _, private := range []string{"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "private goods"} {
		if strings.Contains(text, private) || strings.Contains(string(content), private) {
			t.Errorf("the report holds %q", private)
		}
	}
	if err := r.WriteCSV(brokenWriter{}); err == nil {
		t.Error("a broken writer goes unnoticed")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }
