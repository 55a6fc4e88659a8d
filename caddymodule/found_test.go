package caddymodule

import (
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/fallback"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// A callback, the answer of a query, and the ledger's row are one event: the same
// Webhook-Id, so that none of them is told twice.
func TestOneEventHoweverItIsLearned(t *testing.T) {
	const mchid = "1900000001"
	paid := func(kind storage.OrderKind, answer string) fallback.Event {
		e, ok := fallback.PaidEvent(kind, []byte(answer))
		if !ok {
			t.Fatalf("not paid: %s", answer)
		}
		return e
	}
	row := func(o storage.Order) fallback.Event {
		e, ok := fallback.PaidRow(&o)
		if !ok {
			t.Fatalf("the row does not tell: %+v", o)
		}
		return e
	}
	refund := func(answer string) fallback.Event {
		e, ok := fallback.RefundEvent(mchid, []byte(answer))
		if !ok {
			t.Fatalf("nothing to tell: %s", answer)
		}
		return e
	}
	refundRow := func(r storage.Refund) fallback.Event {
		e, ok := fallback.RefundRow(&r)
		if !ok {
			t.Fatalf("the row does not tell: %+v", r)
		}
		return e
	}
	for name, test := range map[string]struct {
		kind     event.Kind
		callback fallback.Event
		same     []fallback.Event
	}{
		"basic": {
			event.Payment,
			fallback.Event{EventType: "TRANSACTION.SUCCESS", Plaintext: []byte(`{"mchid":"1900000001","appid":"wx8888888888888888","out_trade_no":"ORDER-1","transaction_id":"42000","trade_state":"SUCCESS","amount":{"total":100,"payer_total":90,"currency":"CNY","payer_currency":"CNY"}}`)},
			[]fallback.Event{
				paid(storage.OrderBasic, `{"mchid":"1900000001","appid":"wx8888888888888888","out_trade_no":"ORDER-1","transaction_id":"42000","trade_state":"SUCCESS","amount":{"total":100}}`),
				paid(storage.OrderBasic, `{"mchid":"1900000001","out_trade_no":"ORDER-1","transaction_id":"42000","trade_state":"REFUND","amount":{"total":100}}`),
				row(storage.Order{Kind: storage.OrderBasic, Key: storage.OrderKey{Mchid: mchid, Number: "ORDER-1"}, TransactionID: "42000"}),
			},
		},
		"partner": {
			event.PartnerPayment,
			fallback.Event{EventType: "TRANSACTION.SUCCESS", Plaintext: []byte(`{"sp_mchid":"1900000001","sub_mchid":"1900000109","out_trade_no":"ORDER-2","transaction_id":"42001","trade_state":"SUCCESS","amount":{"total":100}}`)},
			[]fallback.Event{
				paid(storage.OrderPartner, `{"sp_mchid":"1900000001","sub_mchid":"1900000109","sp_appid":"wx8888888888888888","out_trade_no":"ORDER-2","transaction_id":"42001","trade_state":"REFUND"}`),
				row(storage.Order{Kind: storage.OrderPartner, Key: storage.OrderKey{Mchid: mchid, SubMchid: "1900000109", Number: "ORDER-2"}, TransactionID: "42001"}),
			},
		},
		"combine": {
			event.Combine,
			fallback.Event{EventType: "TRANSACTION.SUCCESS", Plaintext: []byte(`{"combine_mchid":"1900000001","combine_out_trade_no":"COMBINE-3","sub_orders":[{"mchid":"1900000001","out_trade_no":"SUB-1","transaction_id":"1","trade_state":"SUCCESS"},{"mchid":"1900000001","out_trade_no":"SUB-2","transaction_id":"2","trade_state":"SUCCESS"}]}`)},
			[]fallback.Event{
				paid(storage.OrderCombine, `{"combine_mchid":"1900000001","combine_out_trade_no":"COMBINE-3","sub_orders":[{"mchid":"1900000001","out_trade_no":"SUB-1","transaction_id":"1","trade_state":"REFUND"},{"mchid":"1900000001","out_trade_no":"SUB-2","transaction_id":"2","trade_state":"SUCCESS"}]}`),
				row(storage.Order{Kind: storage.OrderCombine, Key: storage.OrderKey{Mchid: mchid, Number: "COMBINE-3"}, Subs: []storage.SubOrder{
					{Mchid: mchid, OutTradeNo: "SUB-1", TransactionID: "1"}, {Mchid: mchid, OutTradeNo: "SUB-2"},
				}}),
			},
		},
		"refund": {
			event.Refund,
			fallback.Event{EventType: "REFUND.SUCCESS", Plaintext: []byte(`{"mchid":"1900000001","out_trade_no":"ORDER-1","transaction_id":"42000","out_refund_no":"REFUND-1","refund_id":"5030","refund_status":"SUCCESS","amount":{"total":100,"refund":40,"payer_total":100,"payer_refund":40}}`)},
			[]fallback.Event{
				refund(`{"out_trade_no":"ORDER-1","transaction_id":"42000","out_refund_no":"REFUND-1","refund_id":"5030","status":"SUCCESS","channel":"ORIGINAL","amount":{"total":100,"refund":40,"currency":"CNY"}}`),
				refundRow(storage.Refund{Key: storage.RefundKey{Mchid: mchid, SubMchid: "1900000109", OutRefundNo: "REFUND-1"}, RefundID: "5030", State: storage.RefundSuccess}),
			},
		},
		"refund gone wrong": {
			event.Refund,
			fallback.Event{EventType: "REFUND.ABNORMAL", Plaintext: []byte(`{"mchid":"1900000001","out_trade_no":"ORDER-1","transaction_id":"42000","out_refund_no":"REFUND-1","refund_id":"5030","refund_status":"ABNORMAL","amount":{"total":100,"refund":40}}`)},
			[]fallback.Event{
				refund(`{"out_trade_no":"ORDER-1","out_refund_no":"REFUND-1","refund_id":"5030","status":"ABNORMAL"}`),
				refundRow(storage.Refund{Key: storage.RefundKey{Mchid: mchid, OutRefundNo: "REFUND-1"}, RefundID: "5030", State: storage.RefundAbnormal}),
			},
		},
	} {
		classify := func(e fallback.Event) event.Event {
			got, err := event.Classify(event.Head{EventType: e.EventType}, e.Plaintext, mchid)
			if err != nil || got.Kind != test.kind {
				t.Fatalf("%s: %v, %s: %s", name, err, got.Kind, e.Plaintext)
			}
			return got
		}
		want := classify(test.callback)
		for i, e := range test.same {
			if got := classify(e); got.Key != want.Key || got.ID != want.ID {
				t.Errorf("%s, %d: %s, want %s", name, i, got.Key, want.Key)
			}
		}
	}
}

// An event that came by no route goes to the only handler of its merchant, and to
// nobody when there are several.
func TestRouteOfMerchant(t *testing.T) {
	shop, other, any1, any2 := &notify.Route{ID: "1", Merchant: "shop"}, &notify.Route{ID: "2", Merchant: "shop"}, &notify.Route{ID: "3"}, &notify.Route{ID: "4"}
	for name, test := range map[string]struct {
		routes []*notify.Route
		want   *notify.Route
	}{
		"none":                         {nil, nil},
		"its own":                      {[]*notify.Route{shop}, shop},
		"its own before all's":         {[]*notify.Route{any1, shop}, shop},
		"all's":                        {[]*notify.Route{any1, {ID: "5", Merchant: "store"}}, any1},
		"two of its own":               {[]*notify.Route{shop, other}, nil},
		"two of all's":                 {[]*notify.Route{any1, any2}, nil},
		"two of its own, one of all's": {[]*notify.Route{shop, other, any1}, nil},
		"another's":                    {[]*notify.Route{{ID: "5", Merchant: "store"}}, nil},
	} {
		g := &gateway{app: &App{routes: test.routes}}
		if got := g.routeOf("shop"); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
