package sandbox

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
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
	var source []byte
	for _, name := range []string{"control.go", "parkingcontrol.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	endpoints := regexp.MustCompile(`mux\.HandleFunc\("(GET|POST) (/sandbox/control/[^"]+)"`).FindAllSubmatch(source, -1)
	if len(endpoints) != 21 {
		t.Fatalf("%d endpoints found, want 21", len(endpoints))
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
	for _, v := range []any{Faults{}, APIFault{}, RefundPlan{}, ChargePlan{}, Plate{}} {
		for i := range reflect.TypeOf(v).NumField() {
			if name, _, _ := strings.Cut(reflect.TypeOf(v).Field(i).Tag.Get("json"), ","); !strings.Contains(controlHelp, name) {
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
	f.Add(`{"sp_appid":"wx1","sp_mchid":"19","sub_mchid":"20","payer":{"sp_openid":"o","identity":{"type":"IDCARD","number":"eA==","name":"eA=="}},` + native[1:])
	f.Add(`{"scene_info":{"payer_client_ip":"1","h5_info":{"type":"Wap"}},"payer":{"openid":"o"},` + native[1:])
	f.Fuzz(func(t *testing.T, body string) {
		m := &merchant{mchid: "19", appids: []string{"wx1"}}
		p := &Platform{
			now: time.Now, rand: rand.Reader, merchants: map[string]*merchant{"19": m}, mchids: []string{"19"},
			numbers: map[numberKey]*order{}, byPR: map[string]*order{}, byPrepay: map[string]*order{}, byTx: map[string]*order{},
		}
		sp := &merchant{mchid: "19", appids: []string{"wx1"}, provider: true}
		for name, try := range map[string]struct {
			m      *merchant
			create operation
		}{
			"native": {m, createBasic(tradeNative)}, "jsapi": {m, createBasic(tradeJSAPI)}, "h5": {m, createBasic(tradeH5)},
			"partner": {sp, createPartner(tradeApp)}, "combine": {m, createCombine(tradeNative)},
		} {
			before := len(p.orders)
			_, bad := try.create(p, &call{m: try.m, body: []byte(body)})
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

// FuzzRefunds: whatever is applied for, what is reserved stays within what was paid.
func FuzzRefunds(f *testing.F) {
	const body = `{"out_trade_no":"ORDER-1","out_refund_no":"R1","amount":{"refund":60,"total":100,"currency":"CNY"}}`
	f.Add(body, strings.Replace(body, "R1", "R2", 1))
	f.Add(body, strings.Replace(body, "60", "40", 1))
	f.Add(strings.Replace(body, "60", "1e1", 1), `{}`)
	f.Add(strings.Replace(body, `"out_trade_no":"ORDER-1"`, `"transaction_id":"4200"`, 1), body)
	f.Fuzz(func(t *testing.T, first, second string) {
		m := &merchant{mchid: "19", appids: []string{"wx1"}}
		l := &line{mchid: "19", number: "ORDER-1", total: 100, payerTotal: 70, transactionID: "4200"}
		o := &order{kind: Basic, mchid: "19", number: "ORDER-1", lines: []*line{l}, state: Success, paidAt: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		p := &Platform{
			now: time.Now, rand: rand.Reader, scale: 1, refundTime: time.Hour, ctx: ctx, changed: make(chan struct{}),
			merchants: map[string]*merchant{"19": m}, mchids: []string{"19"}, numbers: map[numberKey]*order{{"19", "ORDER-1"}: o},
			byTx: map[string]*order{"4200": o}, refundIDs: map[string]*refund{}, refundNos: map[numberKey]*refund{},
		}
		defer p.wg.Wait()
		defer cancel()
		for _, body := range []string{first, second, first} {
			before := len(p.refunds)
			_, bad := applyRefund(p, &call{m: m, body: []byte(body)})
			if bad != nil && (bad.status < 400 || bad.status > 499 || bad.Code == "" || bad.Message == "" || len(p.refunds) != before) {
				t.Fatalf("%q: %+v, %d refunds", body, bad, len(p.refunds))
			}
		}
		var sum, payer int64
		for _, r := range o.refunds {
			sum, payer = sum+r.amount, payer+r.payerAmount
			if r.amount < 1 || r.payerAmount < 0 || r.payerAmount > r.amount || !outRefundNoPattern.MatchString(r.number) {
				t.Fatalf("%q, %q make %+v", first, second, *r)
			}
		}
		if sum > 100 || payer > 70 || sum == 100 && payer != 70 {
			t.Fatalf("%q, %q: %d fen, %d to the payer", first, second, sum, payer)
		}
	})
}

// FuzzParking: whatever is reported and charged, an entry is charged once, and
// with the information it was reported with.
func FuzzParking(f *testing.F) {
	const entry = `{"out_parking_no":"IN-1","plate_number":"粤B888888","plate_color":"BLUE","notify_url":"https://m/n","start_time":"2026-11-22T10:00:00+08:00","parking_name":"p","free_duration":0}`
	const pay = `{"appid":"wx1","description":"d","out_trade_no":"E","trade_scene":"PARKING","notify_url":"https://m/n","amount":{"total":1},"parking_info":{"parking_id":"5K","plate_number":"粤B888888",` +
		`"plate_color":"BLUE","start_time":"2026-11-22T10:00:00+08:00","end_time":"2026-11-22T11:00:00+08:00","parking_name":"p","charging_duration":0,"device_id":"1"}}`
	f.Add(entry, pay)
	f.Add(entry, strings.Replace(pay, "10:00:00+08:00", "02:00:00Z", 1))
	f.Add(strings.Replace(entry, ":0}", ":0.0}", 1), strings.Replace(pay, `"E"`, `"E 1"`, 1))
	f.Add(strings.Replace(entry, "https", "http", 1), `{"parking_info":null}`)
	f.Fuzz(func(t *testing.T, reported, charged string) {
		m := &merchant{mchid: "19", appids: []string{"wx1"}}
		ctx, cancel := context.WithCancel(t.Context())
		now := time.Date(2026, 11, 22, 12, 0, 0, 0, beijing)
		p := &Platform{
			now: func() time.Time { return now }, rand: rand.Reader, scale: 1, chargeTime: time.Hour, ctx: ctx, changed: make(chan struct{}),
			merchants: map[string]*merchant{"19": m}, mchids: []string{"19"}, numbers: map[numberKey]*order{}, byTx: map[string]*order{}, lot: newLot(),
		}
		defer p.wg.Wait()
		defer cancel()
		if _, bad := createParking(p, &call{m: m, body: []byte(reported)}); bad != nil {
			if bad.status < 400 || bad.status > 499 || bad.Code == "" || bad.Message == "" || len(p.lot.entries) != 0 {
				t.Fatalf("%q: %+v, %d entries", reported, bad, len(p.lot.entries))
			}
			return
		}
		e := p.lot.entries[0]
		if !plateNumberPattern.MatchString(e.plate.PlateNumber) || e.freeDuration < 0 || badNotifyURL(e.notifyURL) != "" || e.state != ParkingBlocked {
			t.Fatalf("%q makes %+v", reported, *e)
		}
		e.state = ParkingNormal
		p.lot.byID["5K"] = e
		for _, body := range []string{charged, strings.Replace(charged, `"E"`, `"F"`, 1), charged} {
			_, bad := chargeParking(p, &call{m: m, body: []byte(body)})
			if bad != nil && (bad.status < 400 || bad.status > 499 || bad.Code == "" || bad.Message == "") {
				t.Fatalf("%q: %+v", body, bad)
			}
		}
		if len(p.orders) > 1 || (e.charge != nil) != (len(p.orders) == 1) {
			t.Fatalf("%q, %q make %d charges", reported, charged, len(p.orders))
		}
		if o := e.charge; o != nil && (o.lines[0].total < 1 || o.charge.info.PlateNumber != e.plate.PlateNumber || !o.charge.info.start.Equal(e.start) || o.charge.info.end.After(now)) {
			t.Fatalf("%q, %q make %+v", reported, charged, *o.charge)
		}
	})
}

// FuzzUploads: a form is read to one meta and one file, or refused.
func FuzzUploads(f *testing.F) {
	const good = "--b\r\nContent-Disposition: form-data; name=\"meta\"\r\n\r\n{}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\nx\r\n--b--\r\n"
	f.Add("multipart/form-data; boundary=b", good)
	f.Add("multipart/form-data; boundary=b", strings.Replace(good, "meta", "file", 1))
	f.Add("multipart/form-data", good)
	f.Add("multipart/form-data; boundary=b", good[:60])
	f.Fuzz(func(t *testing.T, kind, body string) {
		r := &http.Request{Header: http.Header{"Content-Type": {kind}}}
		meta, file, bad := readUpload(r, []byte(body))
		if (bad == nil) != (meta != nil && file != nil) {
			t.Fatalf("%q %q: %v %v %v", kind, body, meta, file, bad)
		}
		if bad == nil && (!strings.Contains(body, string(meta)) || !strings.Contains(body, string(file.content))) {
			t.Fatalf("%q: meta %q, file %q", body, meta, file.content)
		}
	})
}
