package operate

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

const personal = `{
 "id": "EV-2018022511223320873", "create_time": "2018-06-08T10:34:56+08:00", "event_type": "TRANSACTION.SUCCESS",
 "resource_type": "encrypt-resource", "summary": "支付成功", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "mobile": 13800138000,
 "resource": {
  "mchid": "1900000001", "appid": "wx8888888888888888", "out_trade_no": "20260101000001", "transaction_id": "4200000000000000000000000001",
  "trade_state": "SUCCESS", "success_time": "2018-06-08T10:34:56+08:00", "attach": "张三 13800138000",
  "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "sp_openid": "oA", "sub_openid": "oB", "identity": {"type": "IDCARD", "number": "11010519491231002X", "name": "张三"}},
  "amount": {"total": 100000000000000000001, "payer_total": 1.50, "currency": "CNY", "extra": 7},
  "parking_info": {"parking_id": "5K8264ILTKCH16CQ250", "plate_number": "粤B88888", "plate_color": "BLUE", "vip": true, "nothing": null},
  "receivers": [{"type": "PERSONAL_OPENID", "account": "oC", "amount": 5, "description": "给李四"}, "loose"],
  "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o": {"phone": "13800138000"},
  "trade_state_desc": "` + "a very long text that is no code, no number and no time, so that nobody knows what may be in it, not even when it stands under a member that is shown" + `"
 }
}`

func TestMask(t *testing.T) {
	got, err := Mask([]byte(personal))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"EV-2018022511223320873","create_time":"2018-06-08T10:34:56+08:00","event_type":"TRANSACTION.SUCCESS",` +
		`"resource_type":"encrypt-resource","summary":"支付成功","openid":"***","mobile":"***",` +
		`"resource":{"mchid":"1900000001","appid":"wx8888888888888888","out_trade_no":"20260101000001","transaction_id":"4200000000000000000000000001",` +
		`"trade_state":"SUCCESS","success_time":"2018-06-08T10:34:56+08:00","attach":"***",` +
		`"payer":{"openid":"***","sp_openid":"***","sub_openid":"***","identity":{"type":"IDCARD","number":"***","name":"***"}},` +
		`"amount":{"total":100000000000000000001,"payer_total":1.50,"currency":"CNY","extra":"***"},` +
		`"parking_info":{"parking_id":"5K8264ILTKCH16CQ250","plate_number":"***","plate_color":"BLUE","vip":"***","nothing":null},` +
		`"receivers":[{"type":"PERSONAL_OPENID","account":"***","amount":5,"description":"***"},"***"],` +
		`"***":{"phone":"***"},"trade_state_desc":"***"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestMaskDocumented masks every payload that WeChat Pay documents and looks for
// what must not be there.
func TestMaskDocumented(t *testing.T) {
	raw, err := os.ReadFile("../event/testdata/webhooks.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Plaintext json.RawMessage `json:"resource_plaintext_sample"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	looked := 0
	for i, entry := range list {
		if string(entry.Plaintext) == "null" {
			continue
		}
		got, err := Mask([]byte(`{"id":"x","resource":` + string(entry.Plaintext) + `}`))
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		var plain any
		if err := json.Unmarshal(entry.Plaintext, &plain); err != nil {
			t.Fatal(err)
		}
		walk("", plain, func(name, value string) {
			secret := strings.Contains(name, "openid") || strings.Contains(name, "unionid") || strings.Contains(name, "account") && name != "account_type" ||
				strings.HasSuffix(name, "name") || strings.HasSuffix(name, "location") || strings.Contains(name, "phone") ||
				name == "plate_number" || name == "attach" || name == "out_user_code" || name == "authorization_code" || name == "coupon_code"
			if !secret || value == "" {
				return
			}
			looked++
			if bytes.Contains(got, []byte(`"`+name+`":"`+value+`"`)) {
				t.Errorf("%d: %s shows", i, name)
			}
		})
	}
	if looked < 50 {
		t.Errorf("only %d values looked for", looked)
	}
}

func walk(name string, v any, visit func(name, value string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			walk(k, inner, visit)
		}
	case []any:
		for _, inner := range v {
			walk(name, inner, visit)
		}
	case string:
		visit(name, v)
	}
}

func TestMaskRefuses(t *testing.T) {
	for _, body := range []string{
		"", "{", `{"resource":{"openid":"oUpF"`, `{} {}`, `{"a":1}x`, "\xff", `{"openid":"oUpF"]`,
		strings.Repeat(`{"resource":`, 40) + "1" + strings.Repeat("}", 40),
		strings.Repeat("[", 1<<20),
	} {
		got, err := Mask([]byte(body))
		if err == nil {
			t.Errorf("%.20q gave %s", body, got)
		} else if strings.Contains(err.Error(), "oUpF") {
			t.Errorf("the error quotes the body: %v", err)
		}
	}
}

// FuzzMask: what comes out is JSON, and nothing that stands under an unlisted
// name is in it.
func FuzzMask(f *testing.F) {
	f.Add([]byte(personal))
	f.Add([]byte(`{"resource":[[{"phone":["1"]}]],"id":{"id":null}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := Mask(body)
		if err != nil {
			return
		}
		var v any
		if err := json.Unmarshal(got, &v); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		walk("", v, func(name, value string) {
			if value != Masked && !resourceShown[name] && !envelopeShown[name] {
				t.Fatalf("%q shows %q", name, value)
			}
		})
	})
}
