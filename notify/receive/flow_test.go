package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func orderKey(number string) storage.OrderKey {
	return storage.OrderKey{Mchid: testMchid, Number: number}
}

func created(number string, total storage.Fen) storage.Order {
	return storage.Order{
		Key: orderKey(number), Kind: storage.OrderBasic, Merchant: "shop", Origin: storage.OriginGateway,
		State: storage.OrderCreated, Appid: testAppid, Amount: storage.Money{Total: total, Currency: "CNY"},
	}
}

func (b *bench) know(orders ...storage.Order) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	for _, order := range orders {
		b.store.orders[order.Key] = order
	}
}

func (b *bench) order(number string) storage.Order {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return b.store.orders[orderKey(number)]
}

func (b *bench) parkedRecords() (list []storage.Record) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	for _, p := range b.store.parked {
		list = append(list, *p)
	}
	return list
}

// take receives a well-signed notification.
func (b *bench) take(t testing.TB, route *notify.Route, eventType, plaintext string) Answer {
	t.Helper()
	return b.Receive(t.Context(), route, theMerchant(), request(envelope("id-"+eventType, eventType, "", seal(plaintext))))
}

func TestKnownOrderIsMarkedPaid(t *testing.T) {
	b := newBench(t)
	b.know(created("1001", 100))
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1001", 100)); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if got := b.store.only(t); got.AmountCheck != storage.AmountMatched {
		t.Errorf("amount check %s", got.AmountCheck)
	}
	order := b.order("1001")
	if order.State != storage.OrderPaid || order.TransactionID != "42001001" ||
		!order.PaidAt.Equal(time.Date(2026, 3, 1, 11, 59, 58, 0, time.UTC)) {
		t.Errorf("order %+v", order)
	}
	if order.Payer == "" || order.Payer != storage.PayerDigest(order.Appid, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o") {
		t.Errorf("payer %q", order.Payer)
	}
	// A duplicate writes no row again.
	changes := b.store.calls["Change"]
	b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1001", 100))
	if b.store.calls["Change"] != changes {
		t.Error("a duplicate wrote the order again")
	}
}

// An order that was rejected and is paid after all is known to be paid; one that is
// paid otherwise than the row says is another one.
func TestRejectedOrderIsMarkedPaid(t *testing.T) {
	for total, state := range map[int]storage.OrderState{100: storage.OrderPaid, 99: storage.OrderRejected} {
		b := newBench(t)
		rejected := created("1001", 100)
		rejected.State = storage.OrderRejected
		b.know(rejected)
		if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1001", total)); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		if got := b.store.only(t).AmountCheck; (got == storage.AmountMatched) != (total == 100) {
			t.Errorf("amount check %s", got)
		}
		if order := b.order("1001"); order.State != state {
			t.Errorf("order %+v", order)
		}
	}
}

// A process that dies between accepting and marking leaves a duplicate to mark.
func TestDuplicateMarksTheOrder(t *testing.T) {
	b := newBench(t)
	b.know(created("1002", 100))
	b.store.failing["Change"] = storage.ErrClosed
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1002", 100)); a.Status != 503 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	b.store.only(t)
	delete(b.store.failing, "Change")
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1002", 100)); a.Status != 200 || b.seen.last() != notify.OutcomeDuplicate {
		t.Fatalf("%d %s", a.Status, b.seen.last())
	}
	if order := b.order("1002"); order.State != storage.OrderPaid {
		t.Errorf("order is %s", order.State)
	}
}

func TestUnknownOrderChangesNothing(t *testing.T) {
	b := newBench(t)
	b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1003", 100))
	if b.store.calls["Change"] != 0 || len(b.store.orders) != 0 {
		t.Error("the ledger was written")
	}
}

func TestContradictionIsParked(t *testing.T) {
	asked := make(chan Parked, 10)
	b := newBench(t, func(c *Config) { c.Parked = func(_ context.Context, p Parked) { asked <- p } })
	b.know(created("1004", 101))
	for range 3 {
		a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1004", 100))
		if a.Status != http.StatusConflict || b.seen.last() != notify.OutcomeParked {
			t.Fatalf("%d %s", a.Status, b.seen.last())
		}
		checkAnswer(t, a)
	}
	parked := b.parkedRecords()
	if len(parked) != 1 || len(b.store.records) != 0 {
		t.Fatalf("%d parked, %d accepted", len(parked), len(b.store.records))
	}
	if p := parked[0]; p.ParkReason != storage.ParkContradiction || p.ParkDetail != "amount.total" || p.Orders[0] != orderKey("1004") {
		t.Errorf("parked %+v", p)
	}
	select {
	case p := <-asked:
		if p.Event.OutTradeNo != "1004" || p.Kind != event.Payment || p.Merchant != "shop" || p.ID != parked[0].ID {
			t.Errorf("asked about %+v", p)
		}
	case <-time.After(testBound):
		t.Fatal("nobody was asked")
	}
	b.Close()
	if len(asked) != 0 {
		t.Error("asked again for a repeat")
	}
	if len(b.seen.changes) != 1 || b.seen.changes[0].State != storage.StateParked || b.seen.changes[0].Reason != "contradiction" {
		t.Errorf("changes %+v", b.seen.changes)
	}
	if order := b.order("1004"); order.State != storage.OrderCreated {
		t.Errorf("order is %s", order.State)
	}
}

func TestStrictParksUnknownPayments(t *testing.T) {
	b := newBench(t)
	route := commitRoute()
	route.AmountCheck = notify.CheckStrict
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("1005", 100)); a.Status != 409 {
		t.Fatalf("payment: %d", a.Status)
	}
	if p := b.parkedRecords(); len(p) != 1 || p[0].ParkReason != storage.ParkUnknownOrder {
		t.Fatalf("parked %+v", p)
	}
	// strict does not bind refunds, nor what it does not know.
	for eventType, plaintext := range map[string]string{
		"REFUND.SUCCESS":   refundOf("1005", "R1", "SUCCESS", 100, 100),
		"COMPLAINT.CREATE": `{"complaint_id":"1","action_type":"CREATE_COMPLAINT"}`,
	} {
		if a := b.take(t, route, eventType, plaintext); a.Status != 200 {
			t.Errorf("%s: %d", eventType, a.Status)
		}
	}
	b.know(created("1005", 100))
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("1005", 100)); a.Status != 200 {
		t.Fatalf("known payment: %d", a.Status)
	}
	if p := b.parkedRecords(); p[0].State != storage.StateSuperseded {
		t.Errorf("the parked one is %s", p[0].State)
	}
}

func TestCheckOff(t *testing.T) {
	b := newBench(t)
	b.know(created("1006", 101))
	route := commitRoute()
	route.AmountCheck = notify.CheckOff
	if a := b.take(t, route, "TRANSACTION.SUCCESS", basic("1006", 100)); a.Status != 200 {
		t.Fatalf("%d", a.Status)
	}
	if got := b.store.only(t); got.AmountCheck != storage.AmountOff {
		t.Errorf("amount check %s", got.AmountCheck)
	}
	if order := b.order("1006"); order.State != storage.OrderCreated {
		t.Errorf("a contradicted order became %s", order.State)
	}
}

func TestTradeStateIsParked(t *testing.T) {
	for _, state := range []string{"NOTPAY", "CLOSED", "REFUND", "success", "PAYERROR"} {
		b := newBench(t)
		b.know(created("1007", 100))
		plaintext := strings.Replace(basic("1007", 100), `"trade_state":"SUCCESS"`, `"trade_state":"`+state+`"`, 1)
		if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", plaintext); a.Status != 409 {
			t.Errorf("%s: %d", state, a.Status)
			continue
		}
		if p := b.parkedRecords(); len(p) != 1 || p[0].ParkReason != storage.ParkTradeState {
			t.Errorf("%s: parked %+v", state, p)
		}
		if err := b.Recheck(t.Context(), orderKey("1007")); err != nil {
			t.Error(err)
		}
		if len(b.store.records) != 0 {
			t.Errorf("%s: released by a recheck", state)
		}
	}
}

func TestForeignMchidIsParked(t *testing.T) {
	b := newBench(t)
	plaintext := strings.Replace(basic("1008", 100), testMchid, "1900000002", 1)
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", plaintext); a.Status != 409 {
		t.Fatalf("%d", a.Status)
	}
	if p := b.parkedRecords(); p[0].ParkDetail != "mchid" {
		t.Errorf("detail %q", p[0].ParkDetail)
	}
	b.know(storage.Order{Key: storage.OrderKey{Mchid: "1900000002", Number: "1008"}, Amount: storage.Money{Total: 100}})
	if err := b.Recheck(t.Context(), storage.OrderKey{Mchid: "1900000002", Number: "1008"}); err != nil {
		t.Fatal(err)
	}
	if len(b.store.records) != 0 {
		t.Error("another merchant's payment was released")
	}
}

func TestTransactionOfAnotherOrder(t *testing.T) {
	b := newBench(t)
	other := created("1009", 100)
	other.State, other.TransactionID = storage.OrderPaid, "42001010"
	b.know(other, created("1010", 100))
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1010", 100)); a.Status != 409 {
		t.Fatalf("known order: %d", a.Status)
	}
	if p := b.parkedRecords(); p[0].ParkDetail != "transaction_id" {
		t.Errorf("detail %q", p[0].ParkDetail)
	}
	plaintext := strings.Replace(basic("1011", 100), "42001011", "42001010", 1)
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", plaintext); a.Status != 409 {
		t.Errorf("unknown order: %d", a.Status)
	}
}

func TestUnlistedAppid(t *testing.T) {
	b := newBench(t)
	plaintext := strings.Replace(basic("1012", 100), testAppid, "wx1111111111111111", 1)
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", plaintext); a.Status != 200 {
		t.Fatalf("%d", a.Status)
	}
	if got := b.store.only(t); got.AmountCheck != storage.AmountUnknown || b.seen.unlisted != 1 {
		t.Errorf("check %s, %d warnings", got.AmountCheck, b.seen.unlisted)
	}
	b.take(t, commitRoute(), "TRANSACTION.SUCCESS", plaintext)
	if b.seen.unlisted != 1 {
		t.Error("a repeat warned again")
	}
}

func refundOf(number, refundNo, status string, total, refund int) string {
	return fmt.Sprintf(`{"mchid":%q,"transaction_id":"4200%s","out_trade_no":%q,"refund_id":"5000%s","out_refund_no":%q,"refund_status":%q,`+
		`"success_time":"2026-03-01T20:34:56+08:00","user_received_account":"招商银行信用卡0403","amount":{"total":%d,"refund":%d,"payer_total":%d,"payer_refund":%d}}`,
		testMchid, number, number, refundNo, refundNo, status, total, refund, total, refund)
}

// TestTalliedRefundsAreMarked: a refund of a payment that the ledger has no order
// for is taken out of the memo that counts it, and not out of an order that came
// later.
func TestTalliedRefundsAreMarked(t *testing.T) {
	b := newBench(t)
	order := created("1015", 100)
	refund := storage.Refund{
		Key: storage.RefundKey{Mchid: testMchid, OutRefundNo: "R15"}, Order: order.Key, State: storage.RefundProcessing, Amount: 30, Total: 100,
	}
	rows := storage.Rows{Refund: &refund}
	if err := rows.ReserveRefund(refund.Tallies(), time.Now()); err != nil {
		t.Fatal(err)
	}
	b.store.refunds[refund.Key], b.store.memos[refund.Tally] = refund, *rows.Memos[refund.Tally]
	order.RefundTotal, order.RefundCount = 70, 2
	b.know(order)
	if a := b.take(t, commitRoute(), "REFUND.CLOSED", refundOf("1015", "R15", "CLOSED", 100, 30)); a.Status != 200 {
		t.Fatal(a.Status)
	}
	memo := b.store.memos[refund.Tally]
	left, err := (&storage.Rows{Memos: map[string]*storage.Memo{refund.Tally: &memo}}).RefundsOf(order.Key, refund.Tallies())
	if got := b.order("1015"); err != nil || left.Total != 0 || left.Count != 0 || got.RefundTotal != 70 || b.store.refunds[refund.Key].State != storage.RefundClosed {
		t.Errorf("%+v %v, order %+v", left, err, got)
	}
}

func TestRefundsAreMarked(t *testing.T) {
	b := newBench(t)
	order := created("1013", 100)
	order.RefundTotal, order.RefundCount = 30, 1
	b.know(order)
	key := storage.RefundKey{Mchid: testMchid, OutRefundNo: "R13"}
	b.store.refunds[key] = storage.Refund{Key: key, Order: order.Key, State: storage.RefundProcessing, Amount: 30, Total: 100}
	for _, step := range []struct {
		eventType, status string
		want              storage.RefundState
	}{
		{"REFUND.ABNORMAL", "ABNORMAL", storage.RefundAbnormal},
		{"REFUND.SUCCESS", "SUCCESS", storage.RefundSuccess},
		{"REFUND.CLOSED", "CLOSED", storage.RefundSuccess}, // final already
	} {
		if a := b.take(t, commitRoute(), step.eventType, refundOf("1013", "R13", step.status, 100, 30)); a.Status != 200 {
			t.Fatalf("%s: %d", step.status, a.Status)
		}
		if got := b.store.refunds[key]; got.State != step.want || got.RefundID != "5000R13" {
			t.Errorf("%s: %+v", step.status, got)
		}
	}
	if got := b.order("1013"); got.RefundTotal != 30 || got.RefundCount != 1 {
		t.Errorf("order %+v", got)
	}
	if a := b.take(t, commitRoute(), "REFUND.SUCCESS", refundOf("1013", "R14", "SUCCESS", 100, 101)); a.Status != 409 {
		t.Errorf("more than the order: %d", a.Status)
	}
	if a := b.take(t, commitRoute(), "REFUND.SUCCESS", refundOf("1013", "R13", "SUCCESS", 100, 31)); a.Status != 409 {
		t.Errorf("another amount: %d", a.Status)
	}
}

func TestClosedRefundFreesItsOrder(t *testing.T) {
	b := newBench(t)
	order := created("1014", 100)
	order.RefundTotal, order.RefundCount = 70, 2
	b.know(order)
	key := storage.RefundKey{Mchid: testMchid, OutRefundNo: "R15"}
	b.store.refunds[key] = storage.Refund{Key: key, Order: order.Key, State: storage.RefundUnknown, Amount: 30, Total: 100}
	for range 2 {
		b.take(t, commitRoute(), "REFUND.CLOSED", refundOf("1014", "R15", "CLOSED", 100, 30))
	}
	if got := b.order("1014"); got.RefundTotal != 40 || got.RefundCount != 1 || b.store.refunds[key].State != storage.RefundClosed {
		t.Errorf("order %+v, refund %+v", got, b.store.refunds[key])
	}
}

func combineOrder(number string) storage.Order {
	return storage.Order{
		Key: orderKey(number), Kind: storage.OrderCombine, Merchant: "shop", Origin: storage.OriginGateway,
		State: storage.OrderCreated, Appid: testAppid, Amount: storage.Money{Total: 30, Currency: "CNY"},
		Subs: []storage.SubOrder{
			{Mchid: testMchid, OutTradeNo: number + "a", Amount: storage.Money{Total: 10, Currency: "CNY"}},
			{Mchid: "1900000179", OutTradeNo: number + "b", Amount: storage.Money{Total: 20, Currency: "CNY"}},
		},
	}
}

func combinePaid(number string) string {
	sub := func(mchid, tail string, total int) string {
		return fmt.Sprintf(`{"mchid":%q,"trade_type":"NATIVE","trade_state":"SUCCESS","bank_type":"CMC","attach":"","amount":{"total_amount":%d,"currency":"CNY","payer_amount":%d,"payer_currency":"CNY"},`+
			`"success_time":"2026-03-01T19:59:58+08:00","transaction_id":"4200%s%s","out_trade_no":"%s%s"}`, mchid, total, total, number, tail, number, tail)
	}
	return fmt.Sprintf(`{"combine_appid":%q,"combine_mchid":%q,"combine_out_trade_no":%q,"scene_info":{"device_id":"POS1:1"},"sub_orders":[%s,%s],"combine_payer_info":{"openid":"o1"}}`,
		testAppid, testMchid, number, sub("1900000179", "b", 20), sub(testMchid, "a", 10))
}

func TestCombine(t *testing.T) {
	b := newBench(t)
	b.know(combineOrder("2001"))
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", combinePaid("2001")); a.Status != 200 {
		t.Fatalf("%d %s\n%s", a.Status, a.Body, b.logs)
	}
	got := b.store.only(t)
	if got.AmountCheck != storage.AmountMatched || got.Kind != "combine" || got.OutTradeNo != "2001" {
		t.Errorf("record %+v", got.Notification)
	}
	order := b.order("2001")
	if order.State != storage.OrderPaid || order.Subs[0].TransactionID != "42002001a" || order.Subs[1].TransactionID != "42002001b" {
		t.Errorf("order %+v", order)
	}
	// A refund of a sub-order waits in its combine order's line.
	if a := b.take(t, commitRoute(), "REFUND.SUCCESS", refundOf("2001a", "R2", "SUCCESS", 10, 10)); a.Status != 200 {
		t.Fatalf("refund: %d %s", a.Status, b.logs)
	}
	for _, record := range b.store.records {
		if record.Group != got.Group {
			t.Errorf("%s is in group %q, want %q", record.Kind, record.Group, got.Group)
		}
	}
	if a := b.take(t, commitRoute(), "REFUND.SUCCESS", refundOf("2001a", "R3", "SUCCESS", 30, 10)); a.Status != 409 {
		t.Errorf("a refund with the combine order's total: %d", a.Status)
	}
}

func TestRecheckReleases(t *testing.T) {
	b := newBench(t)
	b.know(created("1015", 101))
	b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1015", 100))
	if err := b.Recheck(t.Context(), orderKey("1015")); err != nil || len(b.store.records) != 0 {
		t.Fatalf("released although it contradicts: %v", err)
	}
	b.know(created("1015", 100)) // registered anew, with the right amount
	if err := b.Recheck(t.Context(), orderKey("1015")); err != nil {
		t.Fatal(err)
	}
	if got := b.store.only(t); got.State != storage.StatePending || got.AmountCheck != storage.AmountMatched {
		t.Errorf("record %+v", got)
	}
	if order := b.order("1015"); order.State != storage.OrderPaid {
		t.Errorf("order is %s", order.State)
	}
	if err := b.Recheck(t.Context(), orderKey("1015")); err != nil {
		t.Error(err)
	}
}

func TestFound(t *testing.T) {
	b := newBench(t)
	b.know(created("1016", 100))
	plaintext := basic("1016", 100)
	q := Query{EventType: "TRANSACTION.SUCCESS", Plaintext: []byte(plaintext), Host: "pay.example.com", Path: "/n"}
	for range 2 {
		if err := b.Found(t.Context(), commitRoute(), theMerchant(), q); err != nil {
			t.Fatal(err)
		}
	}
	got := b.store.only(t)
	want := `{"id":"` + got.ID + `","event_type":"TRANSACTION.SUCCESS","resource":` + plaintext + `}`
	if string(got.Body) != want || string(got.Resource()) != plaintext || got.Source != storage.SourceQuery || got.NotificationID != "" {
		t.Errorf("body %s", got.Body)
	}
	if order := b.order("1016"); order.State != storage.OrderPaid {
		t.Errorf("order is %s", order.State)
	}
	// The callback comes late.
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", plaintext); a.Status != 200 || b.seen.last() != notify.OutcomeDuplicate {
		t.Errorf("late callback: %d %s", a.Status, b.seen.last())
	}
	if err := b.Found(t.Context(), commitRoute(), theMerchant(), Query{EventType: "X", Plaintext: []byte(`{}`)}); !errors.Is(err, ErrUnclassified) {
		t.Errorf("unknown: %v", err)
	}
	if err := b.Found(t.Context(), commitRoute(), theMerchant(), Query{EventType: "X", Plaintext: []byte(`null`)}); !errors.Is(err, event.ErrMalformed) {
		t.Errorf("malformed: %v", err)
	}
}

// A query after parking closes what was parked.
func TestFoundSupersedesParked(t *testing.T) {
	b := newBench(t)
	b.know(created("1017", 100))
	forged := strings.Replace(basic("1017", 100), `"total":100`, `"total":1`, 1)
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", forged); a.Status != 409 {
		t.Fatalf("%d", a.Status)
	}
	if err := b.Found(t.Context(), commitRoute(), theMerchant(), Query{EventType: "TRANSACTION.SUCCESS", Plaintext: []byte(basic("1017", 100))}); err != nil {
		t.Fatal(err)
	}
	if p := b.parkedRecords(); p[0].State != storage.StateSuperseded {
		t.Errorf("parked is %s", p[0].State)
	}
	b.store.only(t)
}

func TestUnavailable(t *testing.T) {
	for name, change := range map[string]func(b *bench){
		"store down":       func(b *bench) { b.store.fail = storage.ErrClosed },
		"disk floor":       func(b *bench) { b.store.failing["Accept"] = storage.ErrDiskFloor },
		"corrupt order":    func(b *bench) { b.store.failing["Order"] = storage.ErrCorrupt },
		"corrupt index":    func(b *bench) { b.store.failing["OrderByTransaction"] = storage.ErrCorrupt },
		"receiver closed":  func(b *bench) { b.Close() },
		"budget exhausted": func(b *bench) { b.held.Store(b.budget) },
	} {
		b := newBench(t)
		change(b)
		a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1018", 100))
		if a.Status != 503 || b.seen.last() != notify.OutcomeUnavailable {
			t.Errorf("%s: %d %s", name, a.Status, b.seen.last())
		}
		checkAnswer(t, a)
		if len(b.store.records) != 0 {
			t.Errorf("%s: stored", name)
		}
	}
	b := newBench(t)
	if a := b.Receive(t.Context(), commitRoute(), unready{theMerchant()}, request(goodBody())); a.Status != 503 {
		t.Errorf("merchant not ready: %d", a.Status)
	}
	b.know(created("1019", 101))
	b.store.failing["Park"] = storage.ErrDiskFloor
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic("1019", 100)); a.Status != 503 {
		t.Errorf("parking on a full disk: %d", a.Status)
	}
}

func TestNoMerchant(t *testing.T) {
	b := newBench(t)
	a := b.Receive(t.Context(), commitRoute(), nil, request(goodBody()))
	if a.Status != 404 || b.seen.last() != notify.OutcomeNoMerchant {
		t.Errorf("%d %s", a.Status, b.seen.last())
	}
	checkAnswer(t, a)
	in := request(goodBody())
	in.Method = "GET"
	if a := b.Receive(t.Context(), commitRoute(), nil, in); a.Status != 405 {
		t.Errorf("405 comes first: %d", a.Status)
	}
}

// panicky panics where it is asked to.
type panicky struct{ *fakeStore }

func (panicky) Accept(context.Context, storage.AcceptRequest) (storage.Acceptance, error) {
	panic("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o is in this text")
}

func TestPanicsAreRecovered(t *testing.T) {
	for _, ack := range []notify.AckMode{notify.AckCommit, notify.AckDelivery} {
		b := newBench(t, func(c *Config) { c.Store = panicky{newFakeStore()} })
		route := commitRoute()
		route.Ack = ack
		a := b.take(t, route, "TRANSACTION.SUCCESS", basic("1020", 100))
		if a.Status != 500 || b.seen.last() != notify.OutcomeInternalError {
			t.Errorf("%s: %d %s", ack, a.Status, b.seen.last())
		}
		if logs := b.logs.String(); strings.Contains(logs, "oUpF8") || !strings.Contains(logs, "panic") {
			t.Errorf("logs: %s", logs)
		}
		if b.held.Load() != 0 {
			t.Error("the budget is still held")
		}
	}
}

func TestSenderThatGivesUp(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a := b.Receive(ctx, commitRoute(), theMerchant(), request(goodBody())); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	b.store.only(t)
}

func TestIDConflict(t *testing.T) {
	b := newBench(t)
	for _, number := range []string{"1021", "1022"} {
		if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", basic(number, 100)); a.Status != 200 {
			t.Fatalf("%d", a.Status)
		}
	}
	if len(b.store.records) != 2 || b.seen.conflict != 1 {
		t.Errorf("%d stored, %d alarms", len(b.store.records), b.seen.conflict)
	}
}

func TestRawIsKeptForRawRoutesOnly(t *testing.T) {
	b := newBench(t)
	route := commitRoute()
	route.Payload = notify.PayloadRaw
	in := request(goodBody())
	in.Header["Request-Id"] = []string{"req-1"}
	in.Header["Authorization"] = []string{"Bearer x"}
	b.Receive(t.Context(), route, theMerchant(), in)
	got := b.store.only(t)
	if !bytes.Equal(got.Raw, goodBody()) || len(got.RawHeaders) != 6 {
		t.Errorf("raw %d bytes, headers %v", len(got.Raw), got.RawHeaders)
	}
	for _, h := range got.RawHeaders {
		if !strings.HasPrefix(h.Name, "Wechatpay-") && h.Name != "Request-ID" {
			t.Errorf("header %s", h.Name)
		}
	}
}

func TestParallelDuplicates(t *testing.T) {
	b := newBench(t)
	body := goodBody()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 200 {
		in := request(body)
		wg.Go(func() {
			<-start
			if a := b.Receive(context.Background(), commitRoute(), theMerchant(), in); a.Status != 200 {
				t.Errorf("%d %s", a.Status, a.Body)
			}
		})
	}
	close(start)
	wg.Wait()
	b.store.only(t)
	if c, d := b.seen.count(notify.OutcomeCommitted), b.seen.count(notify.OutcomeDuplicate); c != 1 || d != 199 {
		t.Errorf("%d committed, %d duplicates", c, d)
	}
}

// hung is a store whose disk does not answer.
type hung struct{ *fakeStore }

func (hung) Accept(ctx context.Context, _ storage.AcceptRequest) (storage.Acceptance, error) {
	<-ctx.Done()
	return storage.Acceptance{}, ctx.Err()
}

func TestHungStoreIsAnsweredInTime(t *testing.T) {
	if answerWithin > 4500*time.Millisecond {
		t.Errorf("answers may take %s", answerWithin)
	}
	for _, ack := range []notify.AckMode{notify.AckCommit, notify.AckDelivery} {
		b := newBench(t, func(c *Config) { c.Store = hung{newFakeStore()} })
		b.within = 20 * time.Millisecond
		route := commitRoute()
		route.Ack = ack
		a := b.take(t, route, "TRANSACTION.SUCCESS", basic("1023", 100))
		if a.Status != 503 && (ack == notify.AckCommit || a.Status != 500) {
			t.Errorf("%s: %d %s", ack, a.Status, b.seen.last())
		}
	}
}
