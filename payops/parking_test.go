package payops_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	entryPath   = "/v3/vehicle/parking/parkings"
	chargePath  = "/v3/vehicle/transactions/parking"
	chargeQuery = "/v3/vehicle/transactions/out-trade-no/"
	parkedAt    = "2026-11-22T08:00:00+08:00"
	parkedID    = "5K8264ILTKCH16CQ250"
	plateNumber = "粤B888888"
)

// entryBody is an entry that states all there is, in a spelling of its own.
func entryBody(number, plate string) string {
	return fmt.Sprintf(`{ "out_parking_no":"%s","plate_number":"%s","plate_color":"BLUE","notify_url":"%s","start_time":"%s","parking_name":"欢乐海岸停车场","free_duration":3600}`,
		number, plate, notifyURL, parkedAt)
}

func chargeBody(number, parkingID, plate string, fen int) string {
	return fmt.Sprintf(`{ "appid":"%s","description":"停车","out_trade_no":"%s","trade_scene":"PARKING","notify_url":"%s","amount":{"total":%d,"currency":"CNY"},`+
		`"parking_info":{"parking_id":"%s","plate_number":"%s","plate_color":"BLUE","start_time":"%s","end_time":"2026-11-22T09:00:00+08:00","parking_name":"欢乐海岸停车场","charging_duration":3600,"device_id":"1"}}`,
		appid, number, notifyURL, fen, parkingID, plate, parkedAt)
}

// gate answers parking calls like WeChat Pay, until a test says otherwise.
type gate struct {
	entryState, reason string // default: NORMAL
	tradeState         string // default: ACCEPTED
	entry, charge      func(g got) reply
	query              func(g got) reply
}

func (x *gate) answer(g got) reply {
	path, _, _ := strings.Cut(g.uri, "?")
	switch {
	case path == entryPath && x.entry != nil:
		return x.entry(g)
	case path == entryPath:
		return x.entered(g, parkedID)
	case path == chargePath && x.charge != nil:
		return x.charge(g)
	case path == chargePath:
		return reply{status: 200, body: x.charged(gjson.Get(g.body, "out_trade_no").String(), gjson.Get(g.body, "amount.total").Int(), gjson.Get(g.body, "parking_info.parking_id").String())}
	case strings.HasPrefix(path, chargeQuery) && x.query != nil:
		return x.query(g)
	case strings.HasPrefix(path, chargeQuery):
		return reply{status: 200, body: x.charged(strings.TrimPrefix(path, chargeQuery), 800, parkedID)}
	}
	return codeURL(g)
}

func (x *gate) entered(g got, id string) reply {
	state, reason := x.entryState, ""
	if state == "" {
		state = "NORMAL"
	}
	if x.reason != "" {
		reason = `,"block_reason":"` + x.reason + `"`
	}
	b := gjson.Parse(g.body)
	return reply{status: 200, body: fmt.Sprintf(`{"id":"%s","out_parking_no":"%s","plate_number":"%s","plate_color":"BLUE","state":"%s"%s}`,
		id, b.Get("out_parking_no"), b.Get("plate_number"), state, reason)}
}

func (x *gate) charged(number string, fen int64, parkingID string) string {
	state := x.tradeState
	if state == "" {
		state = "ACCEPTED"
	}
	paid := ""
	if state == "SUCCESS" {
		paid = `,"transaction_id":"4200001","success_time":"2026-11-22T09:00:01+08:00"`
	}
	return fmt.Sprintf(`{"appid":"%s","sp_mchid":"%s","out_trade_no":"%s","trade_state":"%s","trade_scene":"PARKING","amount":{"total":%d,"currency":"CNY"},"parking_info":{"parking_id":"%s"}%s}`,
		appid, mchid, number, state, fen, parkingID, paid)
}

func (g *rig) entry(number string) *parking.Entry {
	g.t.Helper()
	e, err := parking.Get[parking.Entry](context.Background(), g.ledger, parking.Names{Mchid: mchid}.Entry(number))
	if err != nil {
		g.t.Fatal(err)
	}
	return e
}

func (g *rig) stay(id string) parking.Stay {
	g.t.Helper()
	s, err := parking.Get[parking.Stay](context.Background(), g.ledger, parking.Names{Mchid: mchid}.Stay(id))
	if err != nil {
		g.t.Fatal(err)
	}
	if s == nil {
		return parking.Stay{}
	}
	return *s
}

func (g *rig) passes(name string, r *http.Response) string {
	g.t.Helper()
	body := text(g.t, r)
	if r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Outcome") != "" {
		g.t.Fatalf("%s: %d %v %s", name, r.StatusCode, r.Header, body)
	}
	return body
}

// TestParkingEntry: what WeChat Pay's verified answer says of an entry is kept, and
// one number reports one stay.
func TestParkingEntry(t *testing.T) {
	x := &gate{entryState: "BLOCKED", reason: "PAUSE"}
	g := newRig(t, rigOptions{answer: x.answer})
	sent := entryBody("IN1", plateNumber)
	g.passes("an entry", g.do("POST", entryPath, sent))
	if got := g.wx.requests()[0].body; got != sent {
		t.Error("re-encoded:", got)
	}
	if e := g.entry("IN1"); e == nil || e.ParkingID != parkedID || e.State != parking.EntryBlocked || e.BlockReason != "PAUSE" ||
		e.Plate != plateNumber || e.StartTime != parkedAt || e.FreeDuration != 3600 {
		t.Errorf("%+v", e)
	}
	if s := g.stay(parkedID); s.OutParkingNo != "IN1" || s.Charge != "" {
		t.Errorf("%+v", s)
	}
	if c := g.lastCall(); c.Outcome != storage.CallSucceeded || c.Operation != "POST "+entryPath {
		t.Errorf("%+v", c)
	}
	g.passes("the same again", g.do("POST", entryPath, strings.Replace(sent, parkedAt, "2026-11-22T00:00:00Z", 1)))
	for _, change := range [][2]string{{plateNumber, "粤B888889"}, {"BLUE", "GREEN"}, {parkedAt, "2026-11-22T08:00:01+08:00"}, {"3600", "3601"}, {"欢乐海岸", "海岸"}} {
		g.refused(change[1], g.do("POST", entryPath, strings.Replace(sent, change[0], change[1], 1)), 409, payops.RuleContent)
	}
	g.refused("number", g.do("POST", entryPath, entryBody("a b", plateNumber)), 400, payops.RuleNumber)
	g.refused("a long number", g.do("POST", entryPath, entryBody(strings.Repeat("a", 65), plateNumber)), 400, payops.RuleNumber)
	g.refused("case", g.do("POST", entryPath, strings.Replace(sent, "plate_number", "Plate_number", 1)), 400, payops.RuleBody)
	g.refused("http", g.do("POST", entryPath, strings.Replace(entryBody("IN2", plateNumber), notifyURL, "http://pay.example.com/n", 1)), 400, "notify_url")
	g.refused("no entry right", g.do("POST", entryPath, sent, "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)

	// a rejection frees the number, and gives the plate back to the entry before
	x.entry = func(got) reply { return reply{status: 400, body: `{"code":"PARAM_ERROR","message":"x"}`} }
	if r := g.do("POST", entryPath, entryBody("IN3", plateNumber)); r.StatusCode != 400 || g.entry("IN3") != nil {
		t.Error(r.StatusCode, g.entry("IN3"))
	}
	newest := func() string {
		p, err := parking.Get[parking.Plate](context.Background(), g.ledger, parking.Names{Mchid: mchid}.Plate(plateNumber, "BLUE"))
		if err != nil || p == nil {
			t.Fatal(p, err)
		}
		return p.Newest
	}
	if newest() != "IN1" {
		t.Error(newest())
	}
	// an unsigned answer proves nothing, nor one about another stay
	x.entry = func(g got) reply { r := x.entered(g, "5K01"); r.sign = "bad"; return r }
	g.do("POST", entryPath, entryBody("IN4", plateNumber))
	if e := g.entry("IN4"); e.State != parking.EntryUnknown || e.ParkingID != "" || newest() != "IN4" {
		t.Errorf("%+v", e)
	}
	x.entry = func(g got) reply {
		r := x.entered(g, "5K01")
		r.body = strings.Replace(r.body, "IN4", "IN9", 1)
		return r
	}
	if r := g.do("POST", entryPath, entryBody("IN4", plateNumber)); r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" || g.entry("IN4").State != parking.EntryUnknown {
		t.Error(r.Header, g.entry("IN4"))
	}
	x.entry = nil
	g.passes("the same again", g.do("POST", entryPath, entryBody("IN4", plateNumber)))
	if e := g.entry("IN4"); e.State != parking.EntryBlocked {
		t.Errorf("%+v", e)
	}
}

// TestParkingCharge: a charge is an order of the ledger, equal to its entry, one for
// a stay, and ACCEPTED is not paid.
func TestParkingCharge(t *testing.T) {
	x := &gate{}
	g := newRig(t, rigOptions{answer: x.answer})
	g.passes("entry", g.do("POST", entryPath, entryBody("IN1", plateNumber)))
	sent := chargeBody("P1", parkedID, plateNumber, 800)
	for _, change := range [][2]string{{plateNumber, "粤B888889"}, {"BLUE", "GREEN"}, {parkedAt, "2026-11-22T08:00:01+08:00"}, {"欢乐海岸", "海岸"}} {
		g.refused(change[1], g.do("POST", chargePath, strings.Replace(sent, change[0], change[1], 1)), 409, payops.RuleParkingInfo)
	}
	g.refused("http", g.do("POST", chargePath, strings.Replace(sent, notifyURL, "http://pay.example.com/n", 1)), 400, "notify_url")
	g.refused("amount", g.do("POST", chargePath, strings.Replace(sent, ":800", ":0", 1)), 400, payops.RuleAmount)
	g.refused("number", g.do("POST", chargePath, chargeBody(strings.Repeat("P", 33), parkedID, plateNumber, 1)), 400, payops.RuleNumber)
	g.refused("parking_id", g.do("POST", chargePath, chargeBody("P1", "", plateNumber, 1)), 400, payops.RuleNumber)

	g.passes("a charge", g.do("POST", chargePath, sent))
	if got := g.wx.requests()[1].body; got != sent {
		t.Error("re-encoded:", got)
	}
	if o := g.order("P1"); o.Kind != storage.OrderParking || o.State != storage.OrderCreated || o.ParkingID != parkedID || o.OutParkingNo != "IN1" ||
		o.Plate != plateNumber || o.PlateColor != "BLUE" || o.Amount.Total != 800 || o.Appid != appid {
		t.Errorf("%+v", o)
	}
	g.refused("a second charge", g.do("POST", chargePath, chargeBody("P2", parkedID, plateNumber, 800)), 409, payops.RuleParkingCharged)
	g.refused("another amount", g.do("POST", chargePath, chargeBody("P1", parkedID, plateNumber, 801)), 409, payops.RuleContent)
	g.refused("another stay", g.do("POST", chargePath, chargeBody("P1", "5K02", plateNumber, 800)), 409, payops.RuleContent)

	x.tradeState = "SUCCESS"
	g.passes("a repeat", g.do("POST", chargePath, sent))
	if o := g.order("P1"); o.State != storage.OrderPaid || o.TransactionID != "4200001" || o.PaidAt.IsZero() {
		t.Errorf("%+v", o)
	}

	// a rejected charge frees its number and its stay
	x.charge = func(got) reply { return reply{status: 403, body: `{"code":"NO_AUTH","message":"x"}`} }
	if r := g.do("POST", chargePath, chargeBody("P3", "5K03", plateNumber, 800)); r.StatusCode != 403 {
		t.Error(r.StatusCode)
	}
	if o, s := g.order("P3"), g.stay("5K03"); o.State != storage.OrderRejected || s.Charge != "" {
		t.Errorf("%+v %+v", o, s)
	}
	// an unknown one holds both, until a query says that there is none
	x.charge = func(got) reply { return reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`} }
	g.do("POST", chargePath, chargeBody("P4", "5K03", plateNumber, 800))
	if o := g.order("P4"); o.State != storage.OrderUnknown {
		t.Errorf("%+v", o)
	}
	x.charge = nil
	g.refused("an open charge", g.do("POST", chargePath, chargeBody("P5", "5K03", plateNumber, 800)), 409, payops.RuleParkingCharged)
	x.query = func(got) reply { return reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`} }
	g.do("GET", chargeQuery+"P4", "")
	if o := g.order("P4"); o.State != storage.OrderUnknown {
		t.Error("too early:", o.State)
	}
	g.offset = 2 * time.Minute
	g.do("GET", chargeQuery+"P4", "")
	if o := g.order("P4"); o.State != storage.OrderRejected {
		t.Error(o.State)
	}
	g.passes("another number", g.do("POST", chargePath, chargeBody("P5", "5K03", plateNumber, 800)))
	if s := g.stay("5K03"); s.Charge != "P5" {
		t.Errorf("%+v", s)
	}
}

// TestParkingChargeAnswers: an answer about another charge proves nothing, and each
// trade_state moves the order as far as it says.
func TestParkingChargeAnswers(t *testing.T) {
	x := &gate{}
	g := newRig(t, rigOptions{answer: x.answer})
	for i, tc := range []struct {
		change [2]string
		sign   string
		want   storage.OrderState
	}{
		{[2]string{}, "", storage.OrderCreated},
		{[2]string{"ACCEPTED", "SUCCESS"}, "", storage.OrderPaid},
		{[2]string{"ACCEPTED", "REFUND"}, "", storage.OrderPaid},
		{[2]string{"ACCEPTED", "PAY_FAIL"}, "", storage.OrderCreated},
		{[2]string{`"total":800`, `"total":801`}, "", storage.OrderUnknown},
		{[2]string{"5K9", "5K8"}, "", storage.OrderUnknown},
		{[2]string{mchid, "1900000002"}, "", storage.OrderUnknown},
		{[2]string{"CNY", "USD"}, "", storage.OrderUnknown},
		{[2]string{}, "bad", storage.OrderUnknown},
		{[2]string{}, "none", storage.OrderUnknown},
		{[2]string{}, "stale", storage.OrderUnknown},
	} {
		number := fmt.Sprintf("P%d", i)
		body := x.charged(number, 800, "5K9"+number)
		if tc.change[0] != "" {
			body = strings.Replace(body, tc.change[0], tc.change[1], 1)
		}
		x.charge = func(got) reply { return reply{status: 200, body: body, sign: tc.sign} }
		r := g.do("POST", chargePath, chargeBody(number, "5K9"+number, plateNumber, 800))
		if unknown := r.Header.Get("Wechatpay-Gateway-Outcome") == "unknown"; g.order(number).State != tc.want || unknown != (tc.want == storage.OrderUnknown) {
			t.Errorf("%v %s: %s, %v", tc.change, tc.sign, g.order(number).State, r.Header)
		}
	}
	// a query finds out
	x.query = func(got) reply { return reply{status: 200, body: x.charged("P8", 800, "5K9P8")} }
	g.passes("query", g.do("GET", chargeQuery+"P8", ""))
	if o := g.order("P8"); o.State != storage.OrderCreated {
		t.Error(o.State)
	}
	body, err := g.api.QueryOrder(context.Background(), storage.OrderKey{Mchid: mchid, Number: "P8"}, storage.OrderParking)
	if err != nil || gjson.GetBytes(body, "trade_state").String() != "ACCEPTED" {
		t.Error(string(body), err)
	}
	if uri := g.wx.requests()[len(g.wx.requests())-1].uri; uri != chargeQuery+"P8" {
		t.Error(uri)
	}
}
