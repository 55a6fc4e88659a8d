package payops

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/tidwall/gjson"
)

// FuzzReadRefund: what is read of an application for a refund is what other
// parsers read of the same bytes, and within its bounds.
func FuzzReadRefund(f *testing.F) {
	for _, seed := range []string{
		`{"out_trade_no":"N1","out_refund_no":"R1","amount":{"refund":1,"total":1,"currency":"CNY"}}`,
		`{"transaction_id":"42","out_refund_no":"R|*@-_","sub_mchid":"19","amount":{"refund":1,"total":9223372036854775807}}`,
		`{"out_trade_no":"N1","Out_refund_no":"R1","amount":{"refund":1,"total":1}}`,
		`{"out_trade_no":"N1","out_refund_no":"R1","amount":{"refund":1e0,"total":1}}`,
		`{"out_trade_no":"N1","out_refund_no":"R1","amount":{"refund":1,"refund":2,"total":2}}`,
		`{"out_trade_no":"N1","out_refund_no":"R1","amount":[1]}`, `{"\u006fut_refund_no":"R1"}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseObject(body)
		if err != nil {
			return
		}
		r, refused := readRefund(o, "1900000001")
		if refused != nil {
			if refused.status != 400 || refused.rule == "" {
				t.Fatalf("%+v", refused)
			}
			return
		}
		var other struct {
			OutRefundNo   string `json:"out_refund_no"`
			OutTradeNo    string `json:"out_trade_no"`
			TransactionID string `json:"transaction_id"`
			SubMchid      string `json:"sub_mchid"`
			Amount        struct {
				Refund, Total int64
				Currency      string
			}
		}
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&other); err != nil {
			t.Fatal(err)
		}
		if other.Amount.Currency == "" {
			other.Amount.Currency = "CNY"
		}
		if r.Key.OutRefundNo != other.OutRefundNo || r.Order.Number != other.OutTradeNo || r.TransactionID != other.TransactionID ||
			r.Key.SubMchid != other.SubMchid || int64(r.Amount) != other.Amount.Refund || int64(r.Total) != other.Amount.Total ||
			r.Currency != other.Amount.Currency {
			t.Fatalf("%q: %+v, encoding/json %+v", body, r, other)
		}
		if r.Key.OutRefundNo != gjson.GetBytes(body, "out_refund_no").String() || int64(r.Amount) != gjson.GetBytes(body, "amount.refund").Int() {
			t.Fatalf("%q: %+v, gjson differs", body, r)
		}
		if r.Amount < 1 || r.Total < 1 || !validRefundNumber(r.Key.OutRefundNo) || r.Order.Number == "" && r.TransactionID == "" {
			t.Fatalf("%q: %+v", body, r)
		}
	})
}
