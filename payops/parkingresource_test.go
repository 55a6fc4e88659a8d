package payops_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
)

const (
	entriesPath  = "/gateway/parking/entries"
	servicesPath = "/gateway/parking/services"
)

// car is the body of an entry.
func car(number, plate, more string) string {
	return fmt.Sprintf(`{"out_parking_no":"%s","plate_number":"%s","plate_color":"BLUE","start_time":"%s","parking_name":"欢乐海岸停车场","free_duration":3600%s}`,
		number, plate, parkedAt, more)
}

// gateway sends one request to a resource and returns its answer.
func (g *rig) gateway(method, target, body string, status int, headers ...string) (http.Header, gjson.Result) {
	g.t.Helper()
	r := g.do(method, target, body, headers...)
	answer := text(g.t, r)
	if r.StatusCode != status {
		g.t.Fatalf("%s %s %s: %d %v %s, want %d", method, target, body, r.StatusCode, r.Header, answer, status)
	}
	return r.Header, gjson.Parse(answer)
}

// TestPlateService: the service as WeChat Pay says, and what opens it.
func TestPlateService(t *testing.T) {
	state, plate := "NORMAL", plateNumber
	g := newRig(t, rigOptions{answer: func(x got) reply {
		return reply{status: 200, body: fmt.Sprintf(`{"plate_number":"%s","plate_color":"BLUE","openid":"o","service_state":"%s"}`, plate, state)}
	}})
	query := "?plate_number=" + url.QueryEscape(plateNumber) + "&plate_color=BLUE&openid=" + payerOpenid
	if _, v := g.gateway("GET", servicesPath+query, "", 200); v.Get("service_state").String() != "NORMAL" || v.Get("open_page").Exists() {
		t.Error(v)
	}
	if uri := g.wx.requests()[0].uri; uri != "/v3/vehicle/parking/services/find?appid="+appid+"&openid="+payerOpenid+"&plate_color=BLUE&plate_number="+url.QueryEscape(plateNumber) {
		t.Error(uri)
	}
	for _, state = range []string{"PAUSE", "OUT_SERVICE"} {
		_, v := g.gateway("GET", servicesPath+query, "", 200)
		page := v.Get("open_page")
		if v.Get("service_state").String() != state || page.Get("appId").String() != "wxbcad394b3d99dac9" || page.Get("username").String() != "gh_518c42c65952" ||
			page.Get("path").String() != "pages/auth-creditpay/auth-creditpay" || page.Get("extraData.openid").String() != payerOpenid ||
			page.Get("extraData.mchid").String() != mchid || page.Get("extraData.trade_scene").String() != "PARKING" ||
			page.Get("extraData.plate_number").String() != plateNumber || page.Get("extraData.sub_mchid").Exists() {
			t.Error(v)
		}
		if values, err := url.ParseQuery(page.Get("query").String()); err != nil || values.Get("plate_number") != plateNumber || len(values) != 5 {
			t.Error(page)
		}
	}
	plate = "粤B888889"
	g.refused("another plate", g.do("GET", servicesPath+query, ""), 502, "unreachable")
	for name, q := range map[string]string{
		"no openid": strings.Replace(query, "&openid="+payerOpenid, "", 1), "a colour": strings.Replace(query, "BLUE", "PINK", 1),
		"separators": strings.Replace(query, "888888", "-88888", 1), "twice": query + "&openid=x", "more": query + "&x=1", "sub_mchid": query + "&sub_mchid=x",
	} {
		r := g.do("GET", servicesPath+q, "")
		if r.StatusCode != 400 {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
	g.refused("no right", g.do("GET", servicesPath+query, "", "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)
}

// TestParkingEntries: entries as a lane reports them, at the edges of the rules.
func TestParkingEntries(t *testing.T) {
	x := &gate{}
	n := 0
	x.entry = func(g got) reply { n++; return x.entered(g, fmt.Sprintf("5K%02d", n)) }
	g := newRig(t, rigOptions{answer: x.answer})
	h, v := g.gateway("POST", entriesPath, car("IN1", plateNumber, ""), 201)
	if v.Get("state").String() != "NORMAL" || v.Get("parking_id").String() != "5K01" || v.Get("open_page").Exists() || h.Get("Location") != entriesPath+"/IN1" {
		t.Error(h, v)
	}
	if sent := gjson.Parse(g.wx.requests()[0].body); sent.Get("notify_url").String() != notifyURL || sent.Get("free_duration").Int() != 3600 || sent.Get("openid").Exists() {
		t.Error(sent)
	}
	g.gateway("POST", entriesPath, car("IN1", plateNumber, ""), 200)
	g.refused("a second one", g.do("POST", entriesPath, car("IN2", plateNumber, "")), 409, "parking_open")
	if _, e := g.gateway("POST", entriesPath, car("IN2", plateNumber, ""), 409); e.Get("detail.out_parking_no").String() != "IN1" {
		t.Error(e)
	}
	g.gateway("POST", entriesPath, car("IN3", "粤B888889", ""), 201)
	x.entryState, x.reason = "BLOCKED", "OUT_SERVICE"
	_, v = g.gateway("POST", entriesPath, car("IN2", plateNumber, `,"force":true,"openid":"`+payerOpenid+`"`), 201)
	if v.Get("state").String() != "BLOCKED" || v.Get("block_reason").String() != "OUT_SERVICE" || v.Get("open_page.extraData.openid").String() != payerOpenid {
		t.Error(v)
	}
	if _, v = g.gateway("GET", entriesPath+"/IN2", "", 200); v.Get("open_page.path").String() == "" || v.Get("open_page.extraData.openid").Exists() {
		t.Error(v)
	}
	g.refused("none", g.do("GET", entriesPath+"/IN9", ""), 404, "parking_not_found")
	x.entryState, x.reason = "", ""

	// after its charge was taken on a car may come back
	g.passes("charge", g.do("POST", chargePath, chargeBody("P1", "5K03", "粤B888889", 800)))
	if _, v = g.gateway("GET", entriesPath+"/IN3", "", 200); v.Get("charge.out_trade_no").String() != "P1" || v.Get("charge.state").String() != "created" {
		t.Error(v)
	}
	g.gateway("POST", entriesPath, car("IN4", "粤B888889", ""), 201)

	// numbers of the gateway's, once under a key
	body := strings.Replace(car("IN5", "粤B888890", ""), `"out_parking_no":"IN5",`, "", 1)
	_, first := g.gateway("POST", entriesPath, body, 201, "Idempotency-Key", "k1")
	if _, again := g.gateway("POST", entriesPath, body, 201, "Idempotency-Key", "k1"); again.Get("out_parking_no").String() != first.Get("out_parking_no").String() || first.Get("out_parking_no").String() == "" {
		t.Error(first, again)
	}

	// a lost answer is unknown, and the same request finds out
	x.entry = func(got) reply { return reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`} }
	if r := g.do("POST", entriesPath, car("IN6", "粤B888891", "")); r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" {
		t.Error(r.StatusCode, r.Header)
	}
	g.refused("an open one", g.do("POST", entriesPath, car("IN7", "粤B888891", "")), 409, "parking_open")
	x.entry = nil
	g.gateway("POST", entriesPath, car("IN6", "粤B888891", ""), 200)

	sent := len(g.wx.requests())
	good := car("IN8", "粤B888892", "")
	for _, tc := range []struct {
		old, new string
		rule     payops.Rule
	}{
		{"粤B888892", "粤B-88892", "plate"}, {"粤B888892", "粤B·88892", "plate"}, {"粤B888892", "粤B 88892", "plate"}, {"粤B888892", "粤b888892", "plate"},
		{"粤B888892", "", "plate"}, {"粤B888892", "粤B88889200000", "plate"}, {"BLUE", "blue", "plate"}, {"BLUE", "RED", "plate"},
		{parkedAt, "2026-11-22 08:00:00", "body"}, {parkedAt, "", "body"}, {"欢乐海岸停车场", "", "body"}, {"IN8", "a b", "number"}, {"IN8", strings.Repeat("a", 65), "number"},
		{"3600", "-1", "amount"}, {"3600", "1.0", "amount"}, {"3600", `"1"`, "amount"}, {`"free_duration"`, `"free_duration":1,"free_duration"`, "duplicate_key"},
		{`"free_duration"`, `"Free_duration"`, "body"}, {`"free_duration"`, `"free"`, "body"}, {"3600", `3600,"sub_mchid":"x"`, "mchid"},
		{"3600", `3600,"notify_url":"http://pay.example.com/n"`, "notify_url"}, {"3600", `3600,"force":1`, "body"},
	} {
		g.refused(tc.old+" "+tc.new, g.do("POST", entriesPath, strings.Replace(good, tc.old, tc.new, 1)), 400, tc.rule)
	}
	if len(g.wx.requests()) != sent {
		t.Error("something was sent")
	}
	g.refused("no right", g.do("POST", entriesPath, good, "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)
}
