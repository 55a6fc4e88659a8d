package payops

import (
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

// FuzzContentOfNumber reads any body as every numbered operation would: what is
// the same but for spaces and the order of its members has the same content, and
// an amount that passes is a whole number of fen.
func FuzzContentOfNumber(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"out_batch_no":"B1","total_amount":3,"transfer_detail_list":[{"out_detail_no":"1","transfer_amount":1,"openid":"o"},{"transfer_amount":2}]}`,
		`{"receivers":[{"amount":1},2,null,[{"amount":"x"}]],"amount":{"total":1}}`, `{"amount":[1,{"total":0}],"receivers":{"amount":1}}`,
		`{"Amount":1,"AMOUNT":2}`, `{"amount":1.0}`, `{"amount":{"refund":9223372036854775808}}`,
	} {
		f.Add([]byte(body))
	}
	var numbered []*operation.Operation
	for _, o := range operation.All() {
		if o.Act == operation.ActNumbered {
			numbered = append(numbered, o)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseObject(body)
		if err != nil {
			return
		}
		again, err := parseObject(marshal(o))
		if err != nil {
			return // text that JSON writes in another way
		}
		for _, op := range numbered {
			if a, b := contentOfNumber(op, o), contentOfNumber(op, again); a != b {
				t.Fatalf("%s: %s and %s", op, a, b)
			}
			amounts := maskOf(op.Number.Amounts)
			amounts.spelledOtherwise(o)
			if total, ok := o["amount"]; ok && len(amounts) == 1 && amounts["amount"] != nil && len(amounts["amount"]) == 0 && total != nil {
				if _, whole := fen(total); whole != amounts.amounts(o) {
					// a list of amounts is no amount either
					t.Fatalf("%s: %v", op, total)
				}
			}
		}
	})
}
