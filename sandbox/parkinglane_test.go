package sandbox_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

func TestParkingControl(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r}; o.TimeScale = 1000 })
	c := newClient(t, p, mchid)
	do := func(status int, method, target, body string) string {
		t.Helper()
		w := serve(p, local(method, target, body))
		if w.Code != status {
			t.Fatalf("%s %s %s: %d %s, want %d", method, target, body, w.Code, w.Body, status)
		}
		return w.Body.String()
	}
	const control = "/sandbox/control/"
	sameJSON(t, do(200, "POST", control+"plate", `{"plate_number":"粤B888888","plate_color":"BLUE","openid":"oOWNER","service":"PAUSE"}`),
		`{"plate_number":"粤B888888","plate_color":"BLUE","openid":"oOWNER","service":"PAUSE","state":"BLOCKED","block_reason":"PAUSE"}`)
	do(400, "POST", control+"plate", `{"plate_number":"粤B888888","service":"OPEN"}`)
	do(400, "POST", control+"plate", `{"plate":"粤B888888"}`)
	id := c.enter(entryBody("IN-1", plateA, ""))
	do(409, "GET", control+"callbacks?order=parking:"+id, "")
	do(409, "POST", control+"parking-flip", `{"parking":"`+id+`","state":"BLOCKED","block_reason":"OVERDUE"}`)
	do(404, "POST", control+"parking-flip", `{"parking":"x","state":"NORMAL"}`)
	flipped := do(200, "POST", control+"parking-flip", `{"parking":"IN-1","state":"NORMAL","faults":{"probes":1}}`)
	if field(t, flipped, "state") != "NORMAL" || field(t, flipped, "id") != id {
		t.Error(flipped)
	}
	do(200, "GET", control+"wait?order=parking:IN-1&attempts=2&timeout=30", "")
	do(200, "POST", control+"charge-plan", `{"state":"pending","plate_number":"粤B888888","count":1}`)
	do(200, "POST", control+"charge-plan", `{"state":"advanced","plate_number":"粤B888888","after_ms":500,"later_ms":9000,"faults":{"duplicates":1}}`)
	do(400, "POST", control+"charge-plan", `{"state":"paid_back"}`)
	c.charge(chargeBody("E-1", id, plateA, 888, ""))
	do(409, "POST", control+"pay", `{"order":"E-1"}`)
	do(409, "POST", control+"charge", `{"order":"E-1","state":"paid_back"}`)
	do(404, "POST", control+"charge", `{"order":"E-2","state":"success"}`)
	do(200, "POST", control+"charge", `{"order":"E-1","state":"fail"}`)
	do(200, "GET", control+"wait?order=E-1&timeout=30", "")
	c.charge(chargeBody("E-2", c.enter(entryBody("IN-2", plateA, "")), plateA, 888, ""))
	if _, err := p.WaitCharge(bounded(t), "E-2", sandbox.ChargePaidBack); err != nil {
		t.Fatal(err)
	}
	do(200, "GET", control+"wait?order=E-2&timeout=30", "")
	var entries []sandbox.Parking
	if err := json.Unmarshal([]byte(do(200, "GET", control+"parkings", "")), &entries); err != nil || len(entries) != 2 || entries[1].OutTradeNo != "E-2" {
		t.Error(err, entries)
	}
	var plates []sandbox.Plate
	if err := json.Unmarshal([]byte(do(200, "GET", control+"plates", "")), &plates); err != nil || len(plates) != 1 || plates[0].Service != sandbox.PlateNormal || plates[0].Openid != "oOWNER" {
		t.Error(err, plates)
	}
	var orders []sandbox.Order
	if err := json.Unmarshal([]byte(do(200, "GET", control+"orders", "")), &orders); err != nil || len(orders) != 2 || len(orders[1].Parking.Callbacks) != 2 || orders[1].Parking.State != sandbox.ChargePaidBack {
		t.Error(err, orders)
	}
}

// TestLanePage: a car drives in and out by hand, and everything is shown.
func TestLanePage(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	get := func() string {
		t.Helper()
		w := serve(p, httptest.NewRequest("GET", "/sandbox/lane", nil))
		html := w.Body.String()
		if w.Code != 200 || strings.Contains(html, "<script") || regexp.MustCompile(`(?i)\sstyle=|\son[a-z]+=`).MatchString(html) || !strings.HasSuffix(html, "</main></body></html>\n") {
			t.Fatalf("%d %s", w.Code, html)
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("policy %q", csp)
		}
		return html
	}
	post := func(status int, form ...string) string {
		t.Helper()
		values := url.Values{}
		for i := 0; i < len(form); i += 2 {
			values.Set(form[i], form[i+1])
		}
		r := httptest.NewRequest("POST", "/sandbox/lane", strings.NewReader(values.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		w := serve(p, r)
		if w.Code != status {
			t.Fatalf("%v: %d %s", form, w.Code, w.Body)
		}
		return w.Body.String()
	}
	shows := func(texts ...string) {
		t.Helper()
		html := get()
		for _, text := range texts {
			if !strings.Contains(html, text) {
				t.Errorf("%q is not on the page: %s", text, html)
			}
		}
	}
	shows("No car yet", "LIMEGREEN")
	post(303, "act", "plate", "plate_number", " "+plateA+" ", "plate_color", "BLUE", "service", "NORMAL")
	shows(plateA, "入场 Drive in", mchid, provider+"/"+subOther)
	if html := get(); strings.Contains(html, "<option>"+provider+"</option>") {
		t.Error("a service provider parks for nobody")
	}
	// Nobody was ever told: neither is anybody of this one.
	post(303, "act", "in", "payee", mchid, "plate_number", plateA, "plate_color", "BLUE")
	post(303, "act", "plate", "plate_number", plateA, "plate_color", "BLUE", "service", "PAUSE")
	entry, err := p.Parking(plateA)
	if err != nil || entry.NotifyURL != "" || len(entry.Callbacks) != 0 || entry.BlockReason != sandbox.BlockPause {
		t.Fatalf("%+v %v", entry, err)
	}
	shows(entry.ID, "离场 Drive out", "不可用 blocked")
	if html := post(409, "act", "out", "parking", entry.ID, "total", "888"); !strings.Contains(html, "停车入场状态不可用") {
		t.Error("no reason on the page")
	}
	post(303, "act", "plate", "plate_number", plateA, "plate_color", "BLUE", "service", "NORMAL")
	post(409, "act", "out", "parking", entry.ID, "total", "8.88")
	post(409, "act", "out", "parking", entry.ID, "total", "0")
	post(409, "act", "out", "parking", entry.ID, "total", "1", "state", "paid_back")
	post(409, "act", "out", "parking", "x", "total", "1")
	post(303, "act", "out", "parking", entry.ID, "total", "888", "state", "pending")
	shows("已受理 accepted", "¥8.88", "入场 Drive in")
	number := p.Parkings()[0].OutTradeNo
	post(303, "act", "charge", "order", number, "state", "advanced")
	post(409, "act", "charge", "order", number, "state", "fail")
	shows("已支付 paid", `value="paid_back"`)
	if all := r.all(); len(all) != 0 {
		t.Errorf("%d callbacks to nobody", len(all))
	}

	// The merchant's own come first; then the page tells where it told.
	c.charge(chargeBody("E-1", c.enter(entryBody("IN-1", plateA, "")), plateA, 1, ""))
	post(303, "act", "in", "payee", mchid, "plate_number", plateA, "plate_color", "BLUE")
	post(303, "act", "plate", "plate_number", plateA, "plate_color", "BLUE", "service", "NORMAL", "block_reason", "OVERDUE")
	if _, err := p.WaitState(bounded(t), "parking:"+plateA, sandbox.Delivered); err != nil {
		t.Fatal(err)
	}
	post(303, "act", "plate", "plate_number", plateA, "plate_color", "BLUE", "service", "NORMAL")
	entry, _ = p.Parking(plateA)
	post(303, "act", "out", "parking", entry.ID, "total", "500", "state", "pending")
	entry, _ = p.Parking(plateA)
	post(303, "act", "charge", "order", mchid+":"+entry.OutTradeNo, "state", "fail")
	if v, err := p.WaitState(bounded(t), entry.OutTradeNo, sandbox.Delivered); err != nil || v.URL != notify || v.EventType != "TRANSACTION.FAIL" {
		t.Errorf("%+v %v", v, err)
	}
	shows("VEHICLE.ENTRANCE_STATE_CHANGE", "TRANSACTION.FAIL", "扣款失败 failed")
	if w := serve(p, httptest.NewRequest("GET", "/sandbox/", nil)); !strings.Contains(w.Body.String(), `<a href="/sandbox/lane">`+entry.OutTradeNo) || !strings.Contains(w.Body.String(), "TRANSACTION.FAIL") {
		t.Error("the charge is not among the orders")
	}
	// A service provider parks for its sub-merchant.
	post(303, "act", "in", "payee", provider+"/"+subOther, "plate_number", plateA, "plate_color", "BLUE")
	if entry, _ := p.Parking(plateA); entry.SubMchid != subOther || entry.Mchid != provider {
		t.Errorf("%+v", entry)
	}
	post(409, "act", "in", "payee", provider, "plate_number", plateA, "plate_color", "BLUE")
	post(409, "act", "in", "payee", "1", "plate_number", plateA, "plate_color", "BLUE")
	post(409, "act", "in", "payee", mchid, "plate_number", "粤B00009", "plate_color", "BLUE")
	post(409, "act", "fly")
}
