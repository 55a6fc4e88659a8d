package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const own = "1900000001"

func classify(t *testing.T, eventType, plaintext string) *event.Event {
	t.Helper()
	e, err := event.Classify(event.Head{ID: "n1", EventType: eventType}, []byte(plaintext), own)
	if err != nil {
		t.Fatalf("%s: %v", plaintext, err)
	}
	return &e
}

const (
	basicText   = `{"mchid":"1900000001","appid":"wx1","out_trade_no":"N1","transaction_id":"T1","trade_state":"SUCCESS","amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}}`
	partnerText = `{"sp_mchid":"1900000001","sub_mchid":"S1","sp_appid":"wx1","sub_appid":"wx2","out_trade_no":"N1","transaction_id":"T1","trade_state":"SUCCESS","amount":{"total":100,"currency":"CNY"}}`
	combineText = `{"combine_mchid":"1900000001","combine_appid":"wx1","combine_out_trade_no":"C1","sub_orders":[` +
		`{"mchid":"M1","out_trade_no":"A","transaction_id":"TA","trade_state":"SUCCESS","amount":{"total_amount":10,"payer_amount":10,"currency":"CNY"}},` +
		`{"mchid":"M2","sub_mchid":"S2","out_trade_no":"B","transaction_id":"TB","trade_state":"SUCCESS","amount":{"total_amount":20,"payer_amount":20,"currency":"CNY"}}]}`
	parkingText = `{"sp_mchid":"1900000001","appid":"wx1","out_trade_no":"N1","trade_state":"SUCCESS","trade_scene":"PARKING","amount":{"total":100,"currency":"CNY"},` +
		`"parking_info":{"parking_id":"P1","out_parking_no":"O1","plate_number":"粤B88888","plate_color":"BLUE"}}`
	refundText = `{"mchid":"1900000001","transaction_id":"T1","out_trade_no":"N1","refund_id":"F1","out_refund_no":"R1","refund_status":"SUCCESS","amount":{"total":100,"refund":30,"payer_total":100,"payer_refund":30}}`
)

func key(sub, number string) storage.OrderKey {
	return storage.OrderKey{Mchid: own, SubMchid: sub, Number: number}
}

func cny(total storage.Fen) storage.Money { return storage.Money{Total: total, Currency: "CNY"} }

func basicOrder() *storage.Order {
	return &storage.Order{Key: key("", "N1"), Kind: storage.OrderBasic, Origin: storage.OriginGateway, State: storage.OrderCreated, Appid: "wx1", Amount: cny(100)}
}

func partnerOrder() *storage.Order {
	return &storage.Order{Key: key("S1", "N1"), Kind: storage.OrderPartner, Origin: storage.OriginGateway, State: storage.OrderCreated, Appid: "wx1", Amount: cny(100)}
}

func combineOrder() *storage.Order {
	return &storage.Order{
		Key: key("", "C1"), Kind: storage.OrderCombine, Origin: storage.OriginGateway, State: storage.OrderCreated, Appid: "wx1", Amount: cny(30),
		Subs: []storage.SubOrder{
			{Mchid: "M2", SubMchid: "S2", OutTradeNo: "B", Amount: cny(20)},
			{Mchid: "M1", OutTradeNo: "A", Amount: cny(10)},
		},
	}
}

func parkingOrder() *storage.Order {
	return &storage.Order{
		Key: key("", "N1"), Kind: storage.OrderParking, Origin: storage.OriginGateway, State: storage.OrderCreated, Appid: "wx1", Amount: cny(100),
		ParkingID: "P1", OutParkingNo: "O1", Plate: "粤B88888", PlateColor: "BLUE",
	}
}

func theRefund() *storage.Refund {
	return &storage.Refund{
		Key: storage.RefundKey{Mchid: own, OutRefundNo: "R1"}, Order: key("", "N1"), State: storage.RefundProcessing,
		TransactionID: "T1", RefundID: "F1", Amount: 30, Total: 100, Currency: "CNY",
	}
}

type row struct {
	name   string
	text   string
	from   string // replaced in text
	to     string
	order  *storage.Order
	change func(o *storage.Order)
	owner  *storage.Order
	refund *storage.Refund
	want   Verdict
	field  string
}

func TestCheck(t *testing.T) {
	rejected := func(o *storage.Order) { o.State = storage.OrderRejected }
	rows := []row{
		{name: "basic agrees", text: basicText, order: basicOrder(), want: Agrees},
		{name: "basic unknown", text: basicText, want: Unknown},
		{name: "rejected order", text: basicText, order: basicOrder(), change: rejected, want: Agrees},
		{name: "rejected order, another's transaction", text: basicText, order: basicOrder(), change: rejected, owner: &storage.Order{Key: key("", "N2")}, want: Contradicts, field: "transaction_id"},
		{name: "rejected order, amount absent", text: basicText, from: `"amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}`, to: `"attach":""`, order: basicOrder(), change: rejected, want: Unknown},
		{name: "rejected order, a sub-order's number", text: basicText, from: "N1", to: "A", order: combineOrder(), change: rejected, want: Unknown},
		{name: "rejected combine order", text: combineText, order: combineOrder(), change: rejected, want: Agrees},
		{name: "refund of a rejected order", text: refundText, order: basicOrder(), change: rejected, want: Unknown},
		{name: "rejected order, other amount", text: basicText, from: `"total":100`, to: `"total":1`, order: basicOrder(), change: rejected, want: Unknown},
		{name: "total -1", text: basicText, from: `"total":100`, to: `"total":99`, order: basicOrder(), want: Contradicts, field: "amount.total"},
		{name: "total +1", text: basicText, from: `"total":100`, to: `"total":101`, order: basicOrder(), want: Contradicts, field: "amount.total"},
		{name: "total 0", text: basicText, from: `"total":100`, to: `"total":0`, order: basicOrder(), want: Contradicts, field: "amount.total"},
		{name: "negative total, unknown", text: basicText, from: `"total":100`, to: `"total":-100`, want: Contradicts, field: "amount.total"},
		{name: "coupon", text: basicText, from: `"payer_total":100`, to: `"payer_total":1`, order: basicOrder(), want: Agrees},
		{name: "currency", text: basicText, from: `"currency":"CNY"`, to: `"currency":"USD"`, order: basicOrder(), want: Contradicts, field: "amount.currency"},
		{name: "currency absent", text: basicText, from: `"currency":"CNY",`, to: ``, order: basicOrder(), want: Agrees},
		{name: "payer's currency", text: basicText, from: `"payer_currency":"CNY"`, to: `"payer_currency":"USD"`, order: basicOrder(), want: Agrees},
		{name: "amount absent", text: basicText, from: `"amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}`, to: `"attach":""`, order: basicOrder(), want: Unknown},
		{name: "appid", text: basicText, from: `"wx1"`, to: `"wx9"`, order: basicOrder(), want: Contradicts, field: "appid"},
		{name: "appid absent", text: basicText, from: `"appid":"wx1",`, to: ``, order: basicOrder(), want: Agrees},
		{name: "appid not stated", text: basicText, order: basicOrder(), change: func(o *storage.Order) { o.Appid = "" }, want: Agrees},
		{name: "mchid", text: basicText, from: own, to: "1900000002", want: Contradicts, field: "mchid"},
		{name: "mchid, known", text: basicText, from: own, to: "1900000002", order: basicOrder(), want: Contradicts, field: "mchid"},
		{name: "transaction_id", text: basicText, order: basicOrder(), change: func(o *storage.Order) { o.TransactionID = "T2" }, want: Contradicts, field: "transaction_id"},
		{name: "transaction_id the same", text: basicText, order: basicOrder(), change: func(o *storage.Order) { o.TransactionID = "T1" }, want: Agrees},
		{name: "transaction_id of another order", text: basicText, order: basicOrder(), owner: &storage.Order{Key: key("", "N2")}, want: Contradicts, field: "transaction_id"},
		{name: "transaction_id of another order, unknown", text: basicText, owner: &storage.Order{Key: key("", "N2")}, want: Contradicts, field: "transaction_id"},
		{name: "transaction_id of a rejected order", text: basicText, order: basicOrder(), owner: &storage.Order{Key: key("", "N2"), State: storage.OrderRejected}, want: Agrees},
		{name: "amount not stated", text: basicText, order: basicOrder(), change: func(o *storage.Order) { o.Amount = storage.Money{} }, want: Agrees},
		{name: "a sub-order's number", text: basicText, from: "N1", to: "A", order: combineOrder(), want: Contradicts, field: "out_trade_no"},
		{name: "basic order paid to a sub-merchant", text: partnerText, order: basicOrder(), want: Contradicts, field: "sub_mchid"},
		{name: "registered without its sub-merchant", text: partnerText, order: basicOrder(), change: func(o *storage.Order) { o.Origin = storage.OriginRegistered }, want: Agrees},

		{name: "partner agrees", text: partnerText, order: partnerOrder(), want: Agrees},
		{name: "partner, sub_appid", text: partnerText, order: partnerOrder(), change: func(o *storage.Order) { o.Appid = "wx2" }, want: Agrees},
		{name: "partner, appid", text: partnerText, order: partnerOrder(), change: func(o *storage.Order) { o.Appid = "wx3" }, want: Contradicts, field: "appid"},
		{name: "partner, sub_mchid", text: partnerText, from: `"S1"`, to: `"S9"`, order: partnerOrder(), want: Contradicts, field: "sub_mchid"},
		{name: "partner, sp_mchid", text: partnerText, from: own, to: "1900000002", want: Contradicts, field: "sp_mchid"},
		{name: "partner, another sub-merchant's transaction", text: partnerText, owner: &storage.Order{Key: key("S9", "N1")}, want: Contradicts, field: "transaction_id"},

		{name: "combine agrees", text: combineText, order: combineOrder(), want: Agrees},
		{name: "combine unknown", text: combineText, want: Unknown},
		{name: "combine, coupon", text: combineText, from: `"payer_amount":10`, to: `"payer_amount":1`, order: combineOrder(), want: Agrees},
		{name: "combine, sub amount", text: combineText, from: `"total_amount":10`, to: `"total_amount":11`, order: combineOrder(), want: Contradicts, field: "sub_orders.amount.total_amount"},
		{name: "combine, sub currency", text: combineText, from: `"currency":"CNY"`, to: `"currency":"USD"`, order: combineOrder(), want: Contradicts, field: "sub_orders.amount.currency"},
		{name: "combine, payee", text: combineText, from: `"mchid":"M1"`, to: `"mchid":"M9"`, order: combineOrder(), want: Contradicts, field: "sub_orders.mchid"},
		{name: "combine, sub payee", text: combineText, from: `"S2"`, to: `"S9"`, order: combineOrder(), want: Contradicts, field: "sub_orders.sub_mchid"},
		{name: "combine, a payee more", text: combineText, from: `{"mchid":"M1"`, to: `{"sub_mchid":"S7","mchid":"M1"`, order: combineOrder(), want: Contradicts, field: "sub_orders.sub_mchid"},
		{name: "combine, number", text: combineText, from: `"out_trade_no":"A"`, to: `"out_trade_no":"Z"`, order: combineOrder(), want: Contradicts, field: "sub_orders.out_trade_no"},
		{name: "combine, one missing", text: combineText, order: combineOrder(), change: func(o *storage.Order) {
			o.Subs = append(o.Subs, storage.SubOrder{Mchid: "M3", OutTradeNo: "D", Amount: cny(1)})
		}, want: Contradicts, field: "sub_orders"},
		{name: "combine, one too many", text: combineText, order: combineOrder(), change: func(o *storage.Order) { o.Subs = o.Subs[:1] }, want: Contradicts, field: "sub_orders"},
		{name: "combine, one twice", text: combineText, from: `{"mchid":"M2","sub_mchid":"S2","out_trade_no":"B"`, to: `{"mchid":"M1","out_trade_no":"A"`, order: combineOrder(), want: Contradicts, field: "sub_orders"},
		{name: "combine, swapped amounts", text: combineText, order: combineOrder(), change: func(o *storage.Order) {
			o.Subs[0].Amount, o.Subs[1].Amount = o.Subs[1].Amount, o.Subs[0].Amount
		}, want: Contradicts, field: "sub_orders.amount.total_amount"},
		{name: "combine, transaction", text: combineText, order: combineOrder(), change: func(o *storage.Order) { o.Subs[1].TransactionID = "TX" }, want: Contradicts, field: "sub_orders.transaction_id"},
		{name: "combine, sum", text: combineText, order: combineOrder(), change: func(o *storage.Order) { o.Amount = cny(31) }, want: Contradicts, field: "sub_orders.amount.total_amount"},
		{name: "combine, appid", text: combineText, from: `"wx1"`, to: `"wx9"`, order: combineOrder(), want: Contradicts, field: "appid"},
		{name: "combine, mchid", text: combineText, from: own, to: "1900000002", want: Contradicts, field: "combine_mchid"},
		{name: "combine of a basic order", text: combineText, order: basicOrder(), want: Contradicts, field: "combine_out_trade_no"},
		{name: "combine, negative", text: combineText, from: `"total_amount":10`, to: `"total_amount":-10`, want: Contradicts, field: "sub_orders.amount.total_amount"},
		{name: "combine registered without subs", text: combineText, order: combineOrder(), change: func(o *storage.Order) { o.Subs, o.Amount = nil, cny(30) }, want: Agrees},

		{name: "parking agrees", text: parkingText, order: parkingOrder(), want: Agrees},
		{name: "parking, id", text: parkingText, from: `"P1"`, to: `"P2"`, order: parkingOrder(), want: Contradicts, field: "parking_id"},
		{name: "parking, out_parking_no", text: parkingText, from: `"O1"`, to: `"O2"`, order: parkingOrder(), want: Contradicts, field: "out_parking_no"},
		{name: "parking, plate", text: parkingText, from: `粤B88888`, to: `粤B88889`, order: parkingOrder(), want: Contradicts, field: "plate_number"},
		{name: "parking, colour", text: parkingText, from: `BLUE`, to: `GREEN`, order: parkingOrder(), want: Contradicts, field: "plate_color"},
		{name: "parking, amount", text: parkingText, from: `"total":100`, to: `"total":1`, order: parkingOrder(), want: Contradicts, field: "amount.total"},
		{name: "parking, no plate stated", text: parkingText, from: `,"plate_number":"粤B88888","plate_color":"BLUE"`, to: ``, order: parkingOrder(), want: Agrees},
		{name: "parking, sp_mchid", text: parkingText, from: own, to: "1900000002", want: Contradicts, field: "sp_mchid"},

		{name: "refund agrees", text: refundText, order: basicOrder(), refund: theRefund(), want: Agrees},
		{name: "refund agrees with the order", text: refundText, order: basicOrder(), want: Agrees},
		{name: "refund agrees with the refund", text: refundText, refund: theRefund(), want: Agrees},
		{name: "refund unknown", text: refundText, want: Unknown},
		{name: "refund amount", text: refundText, from: `"refund":30`, to: `"refund":31`, order: basicOrder(), refund: theRefund(), want: Contradicts, field: "amount.refund"},
		{name: "refund above the order", text: refundText, from: `"refund":30`, to: `"refund":101`, order: basicOrder(), want: Contradicts, field: "amount.refund"},
		{name: "refund total", text: refundText, from: `"total":100`, to: `"total":101`, order: basicOrder(), want: Contradicts, field: "amount.total"},
		{name: "refund id", text: refundText, from: `"F1"`, to: `"F2"`, refund: theRefund(), want: Contradicts, field: "refund_id"},
		{name: "refund, transaction", text: refundText, from: `"T1"`, to: `"T2"`, refund: theRefund(), want: Contradicts, field: "transaction_id"},
		{name: "refund, order's transaction", text: refundText, order: basicOrder(), change: func(o *storage.Order) { o.TransactionID = "T9" }, want: Contradicts, field: "transaction_id"},
		{name: "refund, mchid", text: refundText, from: own, to: "1900000002", want: Contradicts, field: "mchid"},
		{name: "refund of a sub-order", text: strings.ReplaceAll(strings.ReplaceAll(refundText, "N1", "A"), `"total":100,"refund":30`, `"total":10,"refund":3`), order: combineOrder(), want: Agrees},
		{name: "refund of a sub-order, the sum's total", text: strings.ReplaceAll(strings.ReplaceAll(refundText, "N1", "A"), `"total":100,"refund":30`, `"total":30,"refund":3`), order: combineOrder(), want: Contradicts, field: "amount.total"},
		{name: "refund of another order", text: refundText, from: "N1", to: "N7", refund: func() *storage.Refund { r := theRefund(); r.TransactionID = ""; return r }(), want: Contradicts, field: "out_trade_no"},
		{name: "rejected refund", text: refundText, from: `"refund":30`, to: `"refund":31`, refund: func() *storage.Refund { r := theRefund(); r.State = storage.RefundRejected; return r }(), want: Unknown},

		{name: "other kinds", text: `{"mchid":"1","out_bill_no":"1","transfer_bill_no":"2","state":"SUCCESS"}`, want: NotChecked},
		{name: "odd amount", text: basicText, from: `"total":100`, to: `"total":"1"`, order: basicOrder(), want: NotChecked},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			text := r.text
			if r.from != "" {
				text = strings.Replace(text, r.from, r.to, 1)
				if text == r.text {
					t.Fatalf("%q is not in the text", r.from)
				}
			}
			if r.change != nil {
				r.change(r.order)
			}
			eventType := "TRANSACTION.SUCCESS"
			if strings.Contains(text, "refund_status") {
				eventType = "REFUND.SUCCESS"
			}
			got := Check(Facts{Event: classify(t, eventType, text), Order: r.order, Owner: r.owner, Refund: r.refund})
			if got.Verdict != r.want || got.Field != r.field {
				t.Errorf("got %d %q, want %d %q", got.Verdict, got.Field, r.want, r.field)
			}
			if want := r.order != nil && (r.order.State != storage.OrderRejected || r.want == Agrees) && r.want != NotChecked; got.OrderKnown != want {
				t.Errorf("order known: %t", got.OrderKnown)
			}
		})
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	f := Facts{Event: classify(t, "TRANSACTION.SUCCESS", combineText), Order: combineOrder()}
	if n := testing.AllocsPerRun(100, func() { Check(f) }); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func ExampleCheck() {
	plaintext := []byte(`{"mchid":"1900000001","out_trade_no":"N1","transaction_id":"T1","trade_state":"SUCCESS","amount":{"total":1,"currency":"CNY"}}`)
	e, err := event.Classify(event.Head{EventType: "TRANSACTION.SUCCESS"}, plaintext, "1900000001")
	if err != nil {
		fmt.Println(err)
		return
	}
	order := storage.Order{Key: e.OrderKey(), Kind: storage.OrderBasic, Amount: storage.Money{Total: 200000, Currency: "CNY"}}
	found := Check(Facts{Event: &e, Order: &order})
	fmt.Println(found.Verdict == Contradicts, found.Field)
	// Output: true amount.total
}
