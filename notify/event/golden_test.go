package event

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/golden.tsv anew")

const own = "1230000109"

// sample is one plaintext and its envelope's head.
type sample struct {
	name, eventType, summary, plaintext string
}

// documented reads testdata/webhooks.json.
func documented(t testing.TB) (list []sample) {
	t.Helper()
	raw, err := os.ReadFile("testdata/webhooks.json")
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		EventType string          `json:"event_type"`
		Title     string          `json:"title"`
		Summary   string          `json:"summary"`
		Plaintext json.RawMessage `json:"resource_plaintext_sample"`
	}
	if err := json.Unmarshal(raw, &entries); err != nil {
		t.Fatal(err)
	}
	for i, entry := range entries {
		plaintext := string(entry.Plaintext)
		if plaintext == "null" {
			plaintext = "{}" // no sample is published
		}
		list = append(list, sample{fmt.Sprintf("webhooks.json %02d", i), entry.EventType, entry.Summary, plaintext})
	}
	return list
}

// shapes are those that live traffic and product pages show beyond the catalogue.
func shapes() []sample {
	const sharing = `{"sp_mchid":"1230000109","sub_mchid":"1900000100","transaction_id":"4200000000000000000000000000","order_id":"1217752501201407033233368018","out_order_no":"P20150806125346","receiver":{"type":"MERCHANT_ID","account":"1900000100","amount":888,"description":"d"},"success_time":"2018-06-08T10:34:56+08:00"}`
	const parking = `{"appid":"wx2421b1c4370ec43b","sp_mchid":"1230000109","out_trade_no":"20150806125346","trade_state":"%s","trade_scene":"PARKING","amount":{"total":528800,"currency":"CNY"},"parking_info":{"parking_id":"5K8264ILTKCH16CQ250","plate_number":"粤B88888","plate_color":"BLUE"}}`
	const score = `{"service_id":"500001","appid":"wxd678efh567hg6787","mchid":"1230000109","out_order_no":"1234323JKHDFE1243252","state":"DONE","order_id":"165461131","collection":{"state":"%s","total_amount":40000,"paid_amount":%d}}`
	return []sample{
		{"sharing, live", "TRANSACTION.SUCCESS", "分账", sharing},
		{"sharing return, live", "TRANSACTION.SUCCESS", "分账回退", sharing},
		{"sharing, openapi", "PROFITSHARING", "", sharing},
		{"sharing return, openapi", "PROFITSHARING_RETURN", "", sharing},
		{"parking direct, no sub_mchid", "TRANSACTION.SUCCESS", "", fmt.Sprintf(parking, "SUCCESS")},
		{"parking paid back", "TRANSACTION.PAY_BACK", "", fmt.Sprintf(parking, "PAY_BACK")},
		{"parking failed", "TRANSACTION.FAIL", "", fmt.Sprintf(parking, "FAIL")},
		{"parking released", "parking.released", "", fmt.Sprintf(parking, "ACCEPTED")},
		{"scan and ride", "TRANSACTION.SUCCESS", "", `{"sp_mchid":"1230000109","sub_mchid":"1900000109","out_trade_no":"BUS1","trade_state":"SUCCESS","trade_scene":"BUS","amount":{"total":200}}`},
		{"entrusted deduction fails", "TRANSACTION.FAIL", "", `{"mchid":"1230000109","out_trade_no":"D1","transaction_id":"4200D1","trade_state":"PAYERROR","contract_id":"C1","amount":{"total":5}}`},
		{"entrusted deduction succeeds", "TRANSACTION.SUCCESS", "", `{"mchid":"1230000109","out_trade_no":"D1","transaction_id":"4200D1","trade_state":"SUCCESS","contract_id":"C1","amount":{"total":5}}`},
		{"partner refund", "REFUND.SUCCESS", "", `{"sp_mchid":"1230000109","sub_mchid":"1900000109","transaction_id":"4200","out_trade_no":"N1","refund_id":"50","out_refund_no":"R1","refund_status":"SUCCESS","amount":{"total":9,"refund":9}}`},
		{"partner refund of no sub_mchid", "REFUND.SUCCESS", "", `{"mchid":"1230000109","transaction_id":"4200","out_trade_no":"N1","refund_id":"50","out_refund_no":"R1","refund_status":"SUCCESS","amount":{"total":9,"refund":9}}`},
		{"refund abnormal", "REFUND.ABNORMAL", "", `{"mchid":"1230000109","transaction_id":"4200","out_trade_no":"N1","refund_id":"50","out_refund_no":"R1","refund_status":"ABNORMAL","amount":{"total":9,"refund":9}}`},
		{"entrance blocked", "VEHICLE.ENTRANCE_STATE_CHANGE", "", `{"sp_mchid":"1230000109","parking_id":"P1","out_parking_no":"O1","plate_number":"粤B888888","plate_color":"BLUE","parking_state":"BLOCKED","blocked_state_description":"PAUSE","state_update_time":"2026-01-01T00:00:00+08:00"}`},
		{"entrance normal again", "VEHICLE.ENTRANCE_STATE_CHANGE", "", `{"sp_mchid":"1230000109","parking_id":"P1","out_parking_no":"O1","plate_number":"粤B888888","plate_color":"BLUE","parking_state":"NORMAL","state_update_time":"2026-01-01T00:01:00+08:00"}`},
		{"plate service", "parking.plate_service", "", `{"plate_number":"粤B888888","plate_color":"BLUE","service_open_time":"2017-08-26T10:43:39+08:00","openid":"oUpF8uMuAJOM2pxb1Q","service_state":"PAUSE"}`},
		{"score paid in part", "PAYSCORE.USER_PAID", "", fmt.Sprintf(score, "USER_PAYING", 100)},
		{"score paid", "PAYSCORE.USER_PAID", "", fmt.Sprintf(score, "USER_PAID", 40000)},
		{"permission", "PAYSCORE.USER_OPEN_SERVICE", "", `{"appid":"wxd","mchid":"1230000109","service_id":"500001","openid":"oUpF8uMuAJOM2pxb1Q","user_service_status":"USER_OPEN_SERVICE","openorclose_time":"20180225112233"}`},
		{"transfer, mch_id", "MCHTRANSFER.BILL.FINISHED", "", `{"mch_id":"1230000109","out_bill_no":"plfk1","transfer_bill_no":"1330","state":"SUCCESS","transfer_amount":2000,"openid":"o1"}`},
		{"transfer cancelled", "MCHTRANSFER.BILL.FINISHED", "", `{"mchid":"1230000109","out_bill_no":"plfk1","transfer_bill_no":"1330","state":"CANCELLED","transfer_amount":2000}`},
		{"combine of partners", "TRANSACTION.SUCCESS", "", `{"combine_appid":"wxd","combine_mchid":"1230000109","combine_out_trade_no":"C1","sub_orders":[{"mchid":"1230000109","sub_mchid":"1900000109","out_trade_no":"S1","transaction_id":"T1","trade_state":"SUCCESS","amount":{"total_amount":1,"currency":"CNY"}},{"mchid":"1230000109","sub_mchid":"1900000110","out_trade_no":"S1","transaction_id":"T2","trade_state":"SUCCESS","amount":{"total_amount":2,"currency":"CNY"}}]}`},
		{"combine of mixed states", "TRANSACTION.SUCCESS", "", `{"combine_mchid":"1230000109","combine_out_trade_no":"C1","sub_orders":[{"mchid":"1","out_trade_no":"S1","trade_state":"SUCCESS"},{"mchid":"1","out_trade_no":"S2","trade_state":"NOTPAY"}]}`},
		{"same number, sub-merchant A", "TRANSACTION.SUCCESS", "", `{"sp_mchid":"1230000109","sub_mchid":"A","out_trade_no":"N9","transaction_id":"T","trade_state":"SUCCESS","amount":{"total":1}}`},
		{"same number, sub-merchant B", "TRANSACTION.SUCCESS", "", `{"sp_mchid":"1230000109","sub_mchid":"B","out_trade_no":"N9","transaction_id":"T","trade_state":"SUCCESS","amount":{"total":1}}`},
		{"number with every character", "TRANSACTION.SUCCESS", "", `{"mchid":"1230000109","out_trade_no":"a_b-c*d|e@f%","transaction_id":"T","trade_state":"SUCCESS","amount":{"total":1}}`},
		{"security echo", "SECURITY_ECHO.SUCCESS", "", `{"mchid":"1230000109","message":"x"}`},
		{"empty", "", "", `{}`},
	}
}

func TestGolden(t *testing.T) {
	var out strings.Builder
	out.WriteString("name\tevent_type\tkind\tmoney\tgroup\torders\tid\tkey\n")
	ids := map[string]string{}
	for _, s := range append(documented(t), shapes()...) {
		head := Head{ID: "EV-" + s.name, EventType: s.eventType, Summary: s.summary}
		e, err := Classify(head, []byte(s.plaintext), own)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		var orders []string
		for _, o := range e.Orders {
			orders = append(orders, o.Mchid+"/"+o.SubMchid+"/"+o.Number)
		}
		fmt.Fprintf(&out, "%s\t%s\t%s\t%t\t%s\t%s\t%s\t%s\n", s.name, s.eventType, e.Kind, e.Money, e.Group, strings.Join(orders, ","), e.ID, e.Key)
		if len(e.Key) > maxKey || len(e.ID) != 36 {
			t.Errorf("%s: key of %d bytes, id of %d", s.name, len(e.Key), len(e.ID))
		}
		if other, ok := ids[e.ID]; ok && !sameEvent[s.name] {
			t.Errorf("%s and %s are one event", s.name, other)
		}
		ids[e.ID] = s.name
	}
	if *update {
		if err := os.WriteFile("testdata/golden.tsv", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/golden.tsv")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(out.String(), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(got) || got[i] != line {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, got[min(i, len(got)-1)], line)
		}
	}
}

// sameEvent names the samples that are the event of an earlier one: a refund
// means the same with and without its sub_mchid.
var sameEvent = map[string]bool{"partner refund of no sub_mchid": true}
