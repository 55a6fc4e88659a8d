package receive

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func partnerPaid(sub, number string, total int) string {
	return fmt.Sprintf(`{"sp_appid":%q,"sp_mchid":%q,"sub_mchid":%q,"out_trade_no":%q,"transaction_id":"4200%s%s","trade_state":"SUCCESS","amount":{"total":%d,"currency":"CNY"},"payer":{"sp_openid":"o1"}}`,
		testAppid, testMchid, sub, number, sub, number, total)
}

func partnerOrder(sub, number string, total storage.Fen) storage.Order {
	order := created(number, total)
	order.Key.SubMchid, order.Kind = sub, storage.OrderPartner
	return order
}

// One number under two sub-merchants is two orders and two events.
func TestSubMerchantsAreApart(t *testing.T) {
	b := newBench(t)
	b.know(partnerOrder("A", "4001", 100), partnerOrder("B", "4001", 200))
	for sub, total := range map[string]int{"A": 100, "B": 200} {
		if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", partnerPaid(sub, "4001", total)); a.Status != 200 {
			t.Errorf("%s: %d %s", sub, a.Status, b.logs)
		}
	}
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", strings.Replace(partnerPaid("A", "4001", 200), "4200A", "4200X", 1)); a.Status != 409 {
		t.Errorf("A paid B's amount: %d", a.Status)
	}
	// The transaction of A's order under B's name.
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", strings.Replace(partnerPaid("B", "4001", 200), "4200B", "4200A", 1)); a.Status != 409 {
		t.Errorf("B with A's transaction: %d", a.Status)
	}
	if len(b.store.records) != 2 {
		t.Errorf("%d stored", len(b.store.records))
	}
	for key, order := range b.store.orders {
		if order.State != storage.OrderPaid || order.TransactionID != "4200"+key.SubMchid+"4001" {
			t.Errorf("%+v", order)
		}
	}
}

// A refund that does not state its sub-merchant is found by its transaction_id.
func TestPartnerRefundWithoutSubMchid(t *testing.T) {
	b := newBench(t)
	order := partnerOrder("A", "4002", 100)
	order.State, order.TransactionID = storage.OrderPaid, "42004002"
	b.know(order)
	key := storage.RefundKey{Mchid: testMchid, SubMchid: "A", OutRefundNo: "R1"}
	b.store.refunds[key] = storage.Refund{Key: key, Order: order.Key, State: storage.RefundProcessing, Amount: 40, Total: 100}
	if a := b.take(t, commitRoute(), "REFUND.SUCCESS", refundOf("4002", "R1", "SUCCESS", 100, 41)); a.Status != 409 {
		t.Errorf("another amount: %d", a.Status)
	}
	if a := b.take(t, commitRoute(), "REFUND.SUCCESS", refundOf("4002", "R1", "SUCCESS", 100, 40)); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, b.logs)
	}
	if got := b.store.only(t); got.AmountCheck != storage.AmountMatched {
		t.Errorf("amount check %s", got.AmountCheck)
	}
	if got := b.store.refunds[key].State; got != storage.RefundSuccess {
		t.Errorf("refund is %s", got)
	}
}

// Parked for want of an order, released when it is registered, whether or not
// the registration states the sub-merchant.
func TestRecheckOfUnknownOrders(t *testing.T) {
	for _, sub := range []string{"A", ""} {
		b := newBench(t)
		route := commitRoute()
		route.AmountCheck = notify.CheckStrict
		if a := b.take(t, route, "TRANSACTION.SUCCESS", partnerPaid("A", "4003", 100)); a.Status != 409 {
			t.Fatalf("%d", a.Status)
		}
		order := partnerOrder(sub, "4003", 100)
		order.Origin, order.State = storage.OriginRegistered, storage.OrderRegistered
		b.know(order)
		if err := b.Recheck(t.Context(), order.Key); err != nil {
			t.Fatal(err)
		}
		if got := b.store.only(t); got.State != storage.StatePending || got.AmountCheck != storage.AmountMatched {
			t.Errorf("sub_mchid %q: %+v", sub, got)
		}
		if got := b.store.orders[order.Key].State; got != storage.OrderPaid {
			t.Errorf("sub_mchid %q: order is %s", sub, got)
		}
	}
}

// A failure for one parked notification does not keep the others.
func TestRecheckJoinsErrors(t *testing.T) {
	b := newBench(t)
	route := commitRoute()
	route.AmountCheck = notify.CheckStrict
	b.take(t, route, "TRANSACTION.SUCCESS", basic("4004", 100))
	b.know(created("4004", 100))
	b.store.failing["Decide"] = storage.ErrDiskFloor
	if err := b.Recheck(t.Context(), orderKey("4004")); err == nil {
		t.Error("no error")
	}
	b.store.failing["Decide"] = storage.ErrState
	if err := b.Recheck(t.Context(), orderKey("4004")); err != nil {
		t.Errorf("a decision that came first is no error: %v", err)
	}
	b.store.failing["ParkedFor"] = storage.ErrClosed
	if err := b.Recheck(t.Context(), orderKey("4004")); err == nil {
		t.Error("no error from the listing")
	}
}

// The parking group holds a charge's refund where the ledger knows the parking.
func TestRefundOfAParkingCharge(t *testing.T) {
	b := newBench(t)
	order := created("4005", 100)
	order.Kind, order.ParkingID, order.Plate, order.PlateColor = storage.OrderParking, "P1", "粤B88888", "BLUE"
	b.know(order)
	charge := fmt.Sprintf(`{"sp_mchid":%q,"appid":%q,"out_trade_no":"4005","trade_state":"SUCCESS","trade_scene":"PARKING","amount":{"total":100},"parking_info":{"parking_id":"P1","plate_number":"粤B88888","plate_color":"BLUE"}}`, testMchid, testAppid)
	b.take(t, commitRoute(), "TRANSACTION.SUCCESS", charge)
	b.take(t, commitRoute(), "REFUND.SUCCESS", refundOf("4005", "R1", "SUCCESS", 100, 40))
	groups := map[string]int{}
	for _, record := range b.store.records {
		groups[record.Group]++
		if record.AmountCheck != storage.AmountMatched {
			t.Errorf("%s: %s", record.Kind, record.AmountCheck)
		}
	}
	if len(groups) != 1 || len(b.store.records) != 2 {
		t.Errorf("groups %v", groups)
	}
	wrong := strings.Replace(charge, "88888", "88889", 1)
	if a := b.take(t, commitRoute(), "TRANSACTION.SUCCESS", wrong); a.Status != 409 || strings.Contains(b.logs.String(), "粤B") {
		t.Errorf("another plate: %d", a.Status)
	}
}
