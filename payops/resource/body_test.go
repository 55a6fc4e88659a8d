package resource

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzDecode: whatever is taken means the same to the struct and to a reader that
// knows no struct: nothing is dropped, doubled or read in another case.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"way":"native","description":"x","amount":{"total":1}}`,
		`{"way":"h5","amount":{"total":9223372036854775807,"currency":"CNY"},"scene_info":{"payer_client_ip":"1.2.3.4","h5_info":{"type":"Wap"}}}`,
		`{"sub_orders":[{"amount":{"total_amount":1},"profit_sharing":true},null]}`,
		`{"way":null,"Way":"x"}`, `{"way":"a","way":"b"}`, `{"w\u0061y":"a"}`, `{"amount":{"total":1e2}}`, `{"amount":{"total":-0}}`, `{"amount":{"total":01}}`,
		`[]`, `{}{}`, `{"amount":[]}`, `{"sub_orders":[[]]}`, "\xff", `{"way":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var c Checkout
		refused := decode(body, &c)
		if refused.Refused() {
			if refused.Status != 400 || !json.Valid(refused.Body) || refused.Header.Get(headerRefused) != refused.Rule {
				t.Errorf("%s: %+v", body, refused)
			}
			return
		}
		var plain map[string]any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&plain); err != nil {
			t.Fatalf("%s is taken and no object: %v", body, err)
		}
		var again map[string]any
		d = json.NewDecoder(bytes.NewReader(jsonBody(c)))
		d.UseNumber()
		if err := d.Decode(&again); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(pruned(plain), pruned(again)) {
			t.Errorf("%s was read as %s", body, jsonBody(c))
		}
		// What is taken, and passes the checks, makes bodies that hold the same
		// money.
		if c.check().Refused() {
			return
		}
		c.number([]string{"20261122204600aaaa000000000000"})
		if c.Amount != nil {
			var sent struct{ Amount Amount }
			if err := json.Unmarshal(c.call("1900000001").Body, &sent); err != nil || sent.Amount.Total != c.Amount.Total || c.Amount.Total < 1 {
				t.Errorf("%s: %s", body, c.call("1900000001").Body)
			}
		}
	})
}

// pruned is a value without what is empty: null, "", false, 0, and objects of
// nothing else. -0 is no amount that is taken.
func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, member := range v {
			if member = pruned(member); member != nil {
				out[name] = member
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = pruned(v[i])
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case string:
		if v == "" {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	case json.Number:
		if strings.Trim(v.String(), "0") == "" {
			return nil
		}
	}
	return v
}

// TestRouteMatches: paths are compared byte for byte, and a part that could turn
// into another path is none.
func TestRouteMatches(t *testing.T) {
	for path, want := range map[string]string{
		"/gateway/orders/N1":      "N1",
		"/gateway/orders/N%7C1":   "N|1",
		"/gateway/orders/%2e%2e":  "",
		"/gateway/orders/a%2Fb":   "",
		"/gateway/orders/a%252Fb": "",
		"/gateway/orders/":        "",
		"/gateway/orders/a%00":    "",
		"/gateway/orders/%zz":     "",
		"/gateway/orders/N1/":     "none",
		"/gateway/orders/N1/x":    "none",
		"/gateway//orders/N1":     "none",
		"/gateway/Orders/N1":      "none",
		"/gateway/%6frders/N1":    "none",
		"//gateway/orders/N1":     "none",
		"/gateway/orders/../x":    "none",
		"/v3/orders/N1":           "none",
	} {
		m := Find("GET", path)
		if (m.Route == nil) != (want == "none") {
			t.Errorf("%s: %+v", path, m)
			continue
		}
		if m.Route != nil && m.params["out_trade_no"] != want {
			t.Errorf("%s: %q", path, m.params["out_trade_no"])
		}
	}
}

func TestOpeningsOfOneKey(t *testing.T) {
	rs := &Resources{}
	seen := map[string]bool{}
	for _, key := range []storage.OrderKey{
		{Mchid: "1", Number: "2"}, {Mchid: "1", SubMchid: "2", Number: "2"}, {Mchid: "1", SubMchid: "2", Number: "3"},
	} {
		if name := rs.openingKey(key); seen[name] || len(name) > storage.MaxMemoKey {
			t.Error(name)
		} else {
			seen[name] = true
		}
	}
}
