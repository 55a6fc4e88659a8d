package fallback_test

import (
	"encoding/json"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/fallback"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Whatever an answer says, what it is turned into is JSON, and a payment says
// SUCCESS wherever it says anything.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		`{"mchid":"1","out_trade_no":"A","trade_state":"SUCCESS","amount":{"total":1}}`,
		`{"trade_state":"REFUND"}`, `{"trade_state":"NOTPAY"}`, `{"trade_state":7}`, `[]`, ``, `{"trade_state":"REFUND","trade_state":"X"}`,
		`{"combine_out_trade_no":"C","sub_orders":[{"trade_state":"SUCCESS"},{"trade_state":"REFUND"}]}`,
		`{"sub_orders":{"trade_state":"SUCCESS"}}`, `{"sub_orders":[]}`,
		`{"status":"SUCCESS","out_refund_no":"R","refund_id":"5","amount":{"refund":1,"total":"2","payer_total":1.5}}`,
		`{"status":"ABNORMAL","out_refund_no":"\u0000"}`, `{"status":"PROCESSING"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if !json.Valid(answer) {
			return // what verifies is WeChat Pay's own
		}
		for _, kind := range []storage.OrderKind{storage.OrderBasic, storage.OrderPartner, storage.OrderCombine} {
			e, ok := fallback.PaidEvent(kind, answer)
			if !ok {
				continue
			}
			path := "trade_state"
			if kind == storage.OrderCombine {
				path = "sub_orders.0.trade_state"
			}
			if !json.Valid(e.Plaintext) || e.EventType != "TRANSACTION.SUCCESS" || gjson.GetBytes(e.Plaintext, path).String() != "SUCCESS" {
				t.Errorf("%s: %s", kind, e.Plaintext)
			}
		}
		if e, ok := fallback.RefundEvent("1900000001", answer); ok {
			if !json.Valid(e.Plaintext) || "REFUND."+gjson.GetBytes(e.Plaintext, "refund_status").String() != e.EventType {
				t.Errorf("%s %s", e.EventType, e.Plaintext)
			}
		}
	})
}
