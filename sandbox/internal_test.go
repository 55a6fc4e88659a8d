package sandbox

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"
)

// FuzzParseAuthorization: what is accepted has exactly the five fields, and
// writing them again in another order means the same.
func FuzzParseAuthorization(f *testing.F) {
	f.Add(SignatureType + ` mchid="1",nonce_str="n",timestamp="2",serial_no="S",signature="c2ln"`)
	f.Add(SignatureType + ` mchid="1",mchid="1",nonce_str="n",timestamp="2",serial_no="S",signature="c2ln"`)
	f.Add(SignatureType + ` mchid="1", nonce_str="n"`)
	f.Add(SignatureType + ` ="",`)
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, header string) {
		a, issue := parseAuthorization(header)
		if issue != "" {
			return
		}
		if a.mchid == "" || a.serialNo == "" || a.nonce == "" || a.timestamp == "" || a.signature == "" {
			t.Fatalf("accepted with an empty field: %q", header)
		}
		again := fmt.Sprintf(`%s signature="%s",serial_no="%s",timestamp="%s",nonce_str="%s",mchid="%s"`,
			SignatureType, a.signature, a.serialNo, a.timestamp, a.nonce, a.mchid)
		if len(again) != len(header) {
			t.Fatalf("something beside the fields was accepted: %q", header)
		}
		if b, issue := parseAuthorization(again); issue != "" || a != b {
			t.Fatalf("%q reads as %+v, %q as %+v (%s)", header, a, again, b, issue)
		}
	})
}

// FuzzBodies: every body leads to an order that is sound, or to a refusal.
func FuzzBodies(f *testing.F) {
	const native = `{"appid":"wx1","mchid":"19","description":"d","out_trade_no":"ORDER-1","notify_url":"https://m/n","amount":{"total":1}}`
	sub := func(n string) string {
		return `{"mchid":"19","out_trade_no":"` + n + `","description":"d","attach":"a","amount":{"total_amount":1,"currency":"CNY"}}`
	}
	f.Add(native)
	f.Add(`{"combine_appid":"wx1","combine_mchid":"19","combine_out_trade_no":"C1","notify_url":"https://m/n","sub_orders":[` + sub("SUB--1") + "," + sub("SUB--2") + `]}`)
	f.Add(strings.Replace(native, "1}", "1e0}", 1))
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, body string) {
		m := &merchant{mchid: "19", appids: []string{"wx1"}}
		p := &Platform{
			now: time.Now, rand: rand.Reader, merchants: map[string]*merchant{"19": m}, mchids: []string{"19"},
			numbers: map[numberKey]*order{}, byPR: map[string]*order{}, byPrepay: map[string]*order{}, byTx: map[string]*order{},
		}
		for name, create := range map[string]operation{"native": createBasic(tradeNative), "combine": createCombine(tradeNative)} {
			before := len(p.orders)
			_, bad := create(p, &call{m: m, body: []byte(body)})
			if (bad == nil) != (len(p.orders) == before+1) {
				t.Fatalf("%s %q: refused %v, %d orders", name, body, bad, len(p.orders))
			}
			if bad != nil && (bad.status < 400 || bad.status > 499 || bad.Code == "" || bad.Message == "") {
				t.Fatalf("%s %q: %+v", name, body, bad)
			}
		}
		for _, o := range p.orders {
			for _, l := range o.lines {
				if l.total < 1 || l.total > maxAmount || !outTradeNoPattern.MatchString(l.number) {
					t.Fatalf("%q makes %+v", body, *l)
				}
			}
			if badNotifyURL(o.notifyURL) != "" || o.kind == Combine && len(o.lines) < 2 && o.lines[0].subMchid == "" {
				t.Fatalf("%q makes %+v", body, *o)
			}
		}
	})
}
