package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

const payment = `{"mchid":"1230000109","appid":"wx1","out_trade_no":"N1","transaction_id":"T1","trade_state":"SUCCESS","success_time":"2018-06-08T10:34:56+08:00","payer":{"openid":"o1"},"promotion_detail":[],"attach":"","amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}}`

func classify(t testing.TB, eventType, plaintext string) Event {
	t.Helper()
	e, err := Classify(Head{ID: "EV-1", EventType: eventType}, []byte(plaintext), own)
	if err != nil {
		t.Fatalf("%s: %v", plaintext, err)
	}
	return e
}

// A field of another type than documented makes the event unknown: kept, keyed
// on the notification id, never taken for a payment.
func TestOddFieldsMakeUnknown(t *testing.T) {
	replaced := func(from, to string) string {
		out := strings.Replace(payment, from, to, 1)
		if out == payment {
			panic(from)
		}
		return out
	}
	rows := map[string]string{}
	for _, value := range []string{`"100"`, "1.0", "1e2", "100.5", "-0", "null", "true", "[]", "{}", "9223372036854775808", "-9223372036854775809", "1E400"} {
		rows["total "+value] = replaced(`"total":100`, `"total":`+value)
	}
	for _, value := range []string{"1", "null", `"100"`, "[]", "true"} {
		rows["amount "+value] = replaced(`"amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}`, `"amount":`+value)
	}
	for _, field := range []string{"mchid", "appid", "out_trade_no", "transaction_id", "trade_state", "success_time", "attach", "currency", "payer_currency"} {
		at := strings.Index(payment, `"`+field+`":`) + len(field) + 3
		end := at + 1 + strings.Index(payment[at+1:], `"`) + 1
		for _, value := range []string{"1", "true", "[]", "{}"} {
			rows[field+" "+value] = payment[:at] + value + payment[end:]
		}
	}
	for _, field := range []string{"payer", "promotion_detail", "scene_info"} {
		rows[field+" is a string"] = replaced(`"payer":{"openid":"o1"},"promotion_detail":[]`, fmt.Sprintf("%q:%q", field, "x"))
	}
	for name, text := range map[string]string{
		"refund_id number":         `"refund_id":5,`,
		"refund_status object":     `"refund_status":{},`,
		"sub_orders object":        `"sub_orders":{},`,
		"sub_orders of strings":    `"sub_orders":["x"],"combine_out_trade_no":"C1",`,
		"sub_orders empty":         `"sub_orders":[],"combine_out_trade_no":"C1",`,
		"sub_orders of no number":  `"sub_orders":[{}],"combine_out_trade_no":"C1",`,
		"sub amount string":        `"sub_orders":[{"out_trade_no":"A","amount":"1"}],"combine_out_trade_no":"C1",`,
		"sub total string":         `"sub_orders":[{"out_trade_no":"A","amount":{"total_amount":"1"}}],"combine_out_trade_no":"C1",`,
		"receiver string":          `"receiver":"x",`,
		"parking_info array":       `"parking_info":[],`,
		"trade_scene number":       `"trade_scene":1,`,
		"mchid twice, differently": `"mch_id":"9",`,
		"collection number":        `"collection":1,`,
		"parking_id of two minds":  `"parking_id":"P1","parking_info":{"parking_id":"P2"},`,
	} {
		rows[name] = replaced(`{"mchid"`, `{`+text+`"mchid"`)
	}
	rows["two totals"] = replaced(`"total":100`, `"total":100,"total_amount":100`)
	rows["control character in a number"] = replaced(`"N1"`, `"N\u0000"`)
	rows["line break in a state"] = replaced(`"SUCCESS"`, `"SUC\nCESS"`)
	rows["space around"] = replaced(`"N1"`, `" N1"`)
	rows["not ASCII"] = replaced(`"N1"`, `"Ｎ1"`)
	rows["too long"] = replaced(`"N1"`, `"`+strings.Repeat("N", 129)+`"`)
	for name, text := range rows {
		e := classify(t, "TRANSACTION.SUCCESS", text)
		if e.Kind != Unknown || e.Key != "unknown|mchid="+own+"|id=EV-1" || !e.Money || e.Paid() || len(e.Orders) != 0 {
			t.Errorf("%s: %s %s", name, e.Kind, e.Key)
		}
	}
	for name, head := range map[string]Head{"odd head": {ID: "EV-1", EventType: "TRANSACTION.SUCCESS", Odd: true}} {
		if e, err := Classify(head, []byte(payment), own); err != nil || e.Kind != Unknown {
			t.Errorf("%s: %s %v", name, e.Kind, err)
		}
	}
}

// What an event may leave out, or say in a way that is not documented, without
// being anything else.
func TestStillAPayment(t *testing.T) {
	for name, change := range map[string][2]string{
		"as it is":         {`{`, `{`},
		"null appid":       {`"wx1"`, `null`},
		"no amount":        {`,"amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}`, ``},
		"null payer":       {`{"openid":"o1"}`, `null`},
		"null refund_id":   {`{`, `{"refund_id":null,`},
		"new fields":       {`{`, `{"new":{"deep":[1.5,{"x":null}]},`},
		"escaped name":     {`"total"`, `"t\u006ftal"`},
		"escaped value":    {`"N1"`, `"\u004e1"`},
		"odd success_time": {`2018-06-08T10:34:56+08:00`, `example_update_time`},
		"biggest total":    {`"total":100`, `"total":9223372036854775807`},
		"smallest total":   {`"total":100`, `"total":-9223372036854775808`},
		"no trade_state":   {`"trade_state":"SUCCESS",`, ``},
	} {
		e := classify(t, "TRANSACTION.SUCCESS", strings.Replace(payment, change[0], change[1], 1))
		if e.Kind != Payment || e.OutTradeNo != "N1" {
			t.Errorf("%s: %s", name, e.Kind)
		}
	}
	e := classify(t, "TRANSACTION.SUCCESS", strings.Replace(payment, `"total":100`, `"total":9223372036854775807`, 1))
	if e.Amount.Total != math.MaxInt64 || !e.Amount.TotalKnown {
		t.Errorf("total %d", e.Amount.Total)
	}
	e = classify(t, "TRANSACTION.SUCCESS", strings.Replace(payment, `"total":100`, `"total":-9223372036854775808`, 1))
	if e.Amount.Total != math.MinInt64 || !e.Amount.TotalKnown {
		t.Errorf("total %d", e.Amount.Total)
	}
}

func TestPaid(t *testing.T) {
	for _, row := range []struct {
		eventType, state string
		paid, notPaid    bool
	}{
		{"TRANSACTION.SUCCESS", "SUCCESS", true, false},
		{"TRANSACTION.SUCCESS", "NOTPAY", false, true},
		{"TRANSACTION.SUCCESS", "success", false, true},
		{"TRANSACTION.FAIL", "SUCCESS", false, false},
		{"TRANSACTION.FAIL", "PAYERROR", false, false},
		{"REFUND.SUCCESS", "SUCCESS", false, false},
		{"TRANSACTION.PAY_BACK", "PAY_BACK", false, false},
	} {
		e := classify(t, row.eventType, strings.Replace(payment, `"SUCCESS"`, `"`+row.state+`"`, 1))
		if e.Paid() != row.paid || e.NotPaid() != row.notPaid {
			t.Errorf("%+v: %t %t", row, e.Paid(), e.NotPaid())
		}
	}
}

func TestLongKeysAreDigested(t *testing.T) {
	long := func(n int) string { return strings.Repeat("%", n) } // three bytes each in a key
	text := fmt.Sprintf(`{"sp_mchid":%q,"sub_mchid":%q,"out_trade_no":%q,"transaction_id":%q,"trade_state":"SUCCESS"}`, long(128), long(128), long(128), long(128))
	e := classify(t, "TRANSACTION.SUCCESS", text)
	if len(e.Key) > maxKey || !strings.HasPrefix(e.Key, "partner_payment|sha256=") {
		t.Errorf("key %q", e.Key)
	}
}

// No two values can make one key by where they are divided.
func TestKeysAreUnambiguous(t *testing.T) {
	a := classify(t, "TRANSACTION.SUCCESS", `{"mchid":"1","out_trade_no":"A|transaction_id=B","transaction_id":"C","trade_state":"SUCCESS"}`)
	b := classify(t, "TRANSACTION.SUCCESS", `{"mchid":"1","out_trade_no":"A","transaction_id":"B|transaction_id=C","trade_state":"SUCCESS"}`)
	if a.Key == b.Key {
		t.Error(a.Key)
	}
}

// The id of a key must never change: backends remember it.
func TestNotificationIDIsStable(t *testing.T) {
	const key = "payment|mchid=1900000001|out_trade_no=N1|transaction_id=T1|event=TRANSACTION.SUCCESS|state=SUCCESS"
	if got, want := NotificationID(key), "evt_mbefs2h5ncz6ugi5aoiqlhapzpb2nlud"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFold(t *testing.T) {
	for _, pair := range [][2]string{{"total", "TOTAL"}, {"k", "\u212a"}, {"s", "\u017f"}, {"é", "É"}, {"σ", "ς"}} {
		if !foldedEqual([]byte(pair[0]), []byte(pair[1])) || foldHash([]byte(pair[0])) != foldHash([]byte(pair[1])) {
			t.Errorf("%q and %q differ", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"total", "totals"}, {"a", "b"}, {"", "a"}, {"ı", "i"}} {
		if foldedEqual([]byte(pair[0]), []byte(pair[1])) {
			t.Errorf("%q and %q are one", pair[0], pair[1])
		}
	}
}

func TestParseEnvelopeErrorsHoldNoContent(t *testing.T) {
	for _, body := range []string{`{"secret":`, `secret`, `{"resource":"secret"}`, `{"secret":1,"SECRET":2}`, ""} {
		_, err := ParseEnvelope([]byte(body))
		if !errors.Is(err, ErrMalformed) || strings.Contains(strings.ToLower(err.Error()), "secret") {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestClassifyAllocations(t *testing.T) {
	text := []byte(payment)
	head := Head{ID: "EV-1", EventType: "TRANSACTION.SUCCESS"}
	n := testing.AllocsPerRun(200, func() {
		if _, err := Classify(head, text, own); err != nil {
			t.Fatal(err)
		}
	})
	if n > 9 { // one is the payer's digest
		t.Errorf("%.0f allocations", n)
	}
}

func ExampleClassify() {
	// Profit sharing comes as TRANSACTION.SUCCESS, with the payment's own
	// transaction_id: only the shape tells them apart.
	head := Head{ID: "EV-2", EventType: "TRANSACTION.SUCCESS", Summary: "分账"}
	sharing := `{"mchid":"1900000001","transaction_id":"T1","order_id":"O1","out_order_no":"P1","receiver":{"type":"MERCHANT_ID","account":"1900000100","amount":888}}`
	paid := `{"mchid":"1900000001","transaction_id":"T1","out_trade_no":"N1","trade_state":"SUCCESS","amount":{"total":100}}`
	for _, plaintext := range []string{sharing, paid} {
		e, err := Classify(head, []byte(plaintext), "1900000001")
		fmt.Println(e.Kind, e.OutTradeNo, e.Amount.Total, err)
	}
	// Output:
	// profitsharing  0 fen <nil>
	// payment N1 100 fen <nil>
}

func ExampleParseEnvelope() {
	body := []byte(`{"id":"EV-1","event_type":"REFUND.SUCCESS","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"fdasflkja484","ciphertext":"c2l4dGVlbiBieXRlcyBhbmQ="}}`)
	envelope, err := ParseEnvelope(body)
	fmt.Println(envelope.ID, envelope.EventType, string(envelope.Nonce), err)
	_, err = ParseEnvelope([]byte(`{"id":"EV-1","resource":null}`))
	fmt.Println(err)
	// Output:
	// EV-1 REFUND.SUCCESS fdasflkja484 <nil>
	// event: malformed: no resource object
}

var sinkEvent Event

func BenchmarkClassify(b *testing.B) {
	for _, s := range documented(b) {
		if !strings.HasPrefix(s.name, "webhooks.json 3") {
			continue
		}
		switch s.name[len("webhooks.json "):] {
		case "32", "35", "37", "39":
		default:
			continue
		}
		text := []byte(s.plaintext)
		head := Head{ID: "EV-1", EventType: s.eventType}
		e, err := Classify(head, text, own)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(e.Kind), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				sinkEvent, _ = Classify(head, text, own)
			}
		})
	}
}

func BenchmarkParseEnvelope(b *testing.B) {
	body, _ := json.Marshal(map[string]any{
		"id": "EV-1", "create_time": "2018-06-08T10:34:56+08:00", "resource_type": "encrypt-resource", "event_type": "TRANSACTION.SUCCESS", "summary": "支付成功",
		"resource": map[string]string{"algorithm": Algorithm, "nonce": "fdasflkja484", "associated_data": "transaction", "original_type": "transaction", "ciphertext": strings.Repeat("QUFB", 300)},
	})
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	var dst []byte
	for b.Loop() {
		e, err := ParseEnvelope(body)
		if err != nil {
			b.Fatal(err)
		}
		if dst, err = e.Ciphertext(dst); err != nil {
			b.Fatal(err)
		}
	}
}
