package sandbox

import (
	"crypto/rand"
	"fmt"
	"os"
	"reflect"
	"regexp"
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

// TestHelpIsTrue: the help names every control endpoint, fault and api fault.
func TestHelpIsTrue(t *testing.T) {
	source, err := os.ReadFile("control.go")
	if err != nil {
		t.Fatal(err)
	}
	endpoints := regexp.MustCompile(`mux\.HandleFunc\("(GET|POST) (/sandbox/control/[^"]+)"`).FindAllSubmatch(source, -1)
	if len(endpoints) != 13 {
		t.Fatalf("%d endpoints found, want 13", len(endpoints))
	}
	for _, e := range endpoints {
		if want := fmt.Sprintf("\n%-4s %s", e[1], e[2]); !strings.Contains(controlHelp, want) {
			t.Errorf("the help lacks %q", want)
		}
	}
	for _, kind := range apiFaultKinds {
		if !strings.Contains(controlHelp, string(kind)) {
			t.Errorf("the help lacks the api fault %s", kind)
		}
	}
	for _, v := range []any{Faults{}, APIFault{}, RefundPlan{}} {
		for i := range reflect.TypeOf(v).NumField() {
			if name := reflect.TypeOf(v).Field(i).Tag.Get("json"); !strings.Contains(controlHelp, name) {
				t.Errorf("the help lacks %T's %s", v, name)
			}
		}
	}
}

// TestToursRoutes: the package comment names every operation, and no other.
func TestToursRoutes(t *testing.T) {
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	parameter := regexp.MustCompile(`\{[a-z0-9_]+\}`)
	choice := regexp.MustCompile(`\{([a-z0-9]+(?:,[a-z0-9]+)+)\}`)
	for _, m := range regexp.MustCompile(`(?m)^//\t(GET|POST) +/v3/([^?\s]+)`).FindAllSubmatch(source, -1) {
		paths := []string{string(m[2])}
		if c := choice.FindStringSubmatch(paths[0]); c != nil {
			whole := paths[0]
			paths = nil
			for _, way := range strings.Split(c[1], ",") {
				paths = append(paths, strings.Replace(whole, c[0], way, 1))
			}
		}
		for _, path := range paths {
			named[string(m[1])+" "+parameter.ReplaceAllString(path, "*")] = true
		}
	}
	for _, r := range routes {
		operation := r.method + " " + strings.Join(r.pattern, "/")
		if !named[operation] {
			t.Errorf("doc.go lacks %s", operation)
		}
		delete(named, operation)
	}
	for left := range named {
		t.Errorf("doc.go names %s", left)
	}
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
