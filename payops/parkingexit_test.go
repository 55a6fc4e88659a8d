package payops_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const exitsPath = "/gateway/parking/exits"

// leaving is the body of an exit of the car that [gate] lets in.
func leaving(number string, fen int, more string) string {
	return fmt.Sprintf(`{"out_parking_no":"IN1","out_trade_no":"%s","amount":{"total":%d},"end_time":"2026-11-22T09:00:00+08:00","charging_duration":3600,"device_id":"exit-1"%s}`,
		number, fen, more)
}

// parked is a gateway with one car inside.
func parked(t *testing.T, x *gate, o rigOptions) *rig {
	t.Helper()
	o.answer = x.answer
	g := newRig(t, o)
	t.Cleanup(func() { g.api.Wait(context.WithoutCancel(t.Context())) })
	g.gateway("POST", entriesPath, car("IN1", plateNumber, ""), 201)
	return g
}

func (g *rig) charges() (n int) {
	for _, r := range g.wx.requests() {
		if r.uri == chargePath {
			n++
		}
	}
	return n
}

// TestExit: the barrier opens on ACCEPTED and SUCCESS, as release_on says, and the
// answer names its source.
func TestExit(t *testing.T) {
	x := &gate{}
	g := parked(t, x, rigOptions{})
	_, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200)
	if !v.Get("release").Bool() || v.Get("outcome").String() != "accepted" || v.Get("source").String() != "charge" || v.Get("trade_state").String() != "ACCEPTED" ||
		v.Get("out_trade_no").String() != "P1" || v.Get("parking_id").String() != parkedID || v.Get("out_parking_no").String() != "IN1" || v.Get("amount.total").Int() != 800 {
		t.Error(v)
	}
	sent := gjson.Parse(g.wx.requests()[1].body)
	for path, want := range map[string]string{
		"appid": appid, "notify_url": notifyURL, "trade_scene": "PARKING", "out_trade_no": "P1", "description": "欢乐海岸停车场", "amount.currency": "CNY",
		"parking_info.parking_id": parkedID, "parking_info.plate_number": plateNumber, "parking_info.plate_color": "BLUE", "parking_info.start_time": parkedAt,
		"parking_info.end_time": "2026-11-22T09:00:00+08:00", "parking_info.parking_name": "欢乐海岸停车场", "parking_info.charging_duration": "3600", "parking_info.device_id": "exit-1",
	} {
		if sent.Get(path).String() != want {
			t.Errorf("%s: %s", path, sent.Get(path))
		}
	}
	if _, v = g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); !v.Get("release").Bool() || v.Get("source").String() != "repeat" {
		t.Error(v)
	}
	if _, v = g.gateway("POST", exitsPath, leaving("P1", 800, `,"release_on":"success"`), 200); v.Get("release").Bool() || v.Get("outcome").String() != "accepted" {
		t.Error(v)
	}
	x.tradeState = "SUCCESS"
	if _, v = g.gateway("POST", exitsPath, leaving("P1", 800, `,"release_on":"success"`), 200); !v.Get("release").Bool() || v.Get("outcome").String() != "paid" {
		t.Error(v)
	}
	if g.order("P1").State != storage.OrderPaid {
		t.Error(g.order("P1").State)
	}
	for state, outcome := range map[string]string{"PAY_FAIL": "failed", "REFUND": "refunded", "X": "unknown"} {
		x.tradeState = state
		if _, v = g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); v.Get("release").Bool() || v.Get("outcome").String() != outcome {
			t.Error(state, v)
		}
	}
	charges := g.charges()
	g.refused("another amount", g.do("POST", exitsPath, leaving("P1", 801, "")), 409, "number_content")
	g.refused("another number", g.do("POST", exitsPath, leaving("P2", 800, "")), 409, payops.RuleParkingCharged)
	g.refused("no entry", g.do("POST", exitsPath, strings.Replace(leaving("P3", 800, ""), "IN1", "IN9", 1)), 404, "parking_not_found")
	g.refused("no right", g.do("POST", exitsPath, leaving("P1", 800, ""), "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)
	for _, tc := range []struct {
		old, new string
		rule     payops.Rule
	}{
		{":800", ":0", "amount"}, {":800", ":8.0", "amount"}, {"P1", "a b", "number"}, {"P1", strings.Repeat("P", 33), "number"}, {"IN1", "a/b", "number"},
		{`"out_parking_no":"IN1",`, "", "number"}, {"2026-11-22T09:00:00+08:00", "yesterday", "body"}, {"exit-1", "", "body"}, {"3600", `"1"`, "amount"},
		{"3600", `3600,"deadline_ms":99`, "body"}, {"3600", `3600,"deadline_ms":10001`, "body"}, {"3600", `3600,"deadline_ms":9223372036854775807`, "body"},
		{"3600", `3600,"release_on":"paid"`, "body"}, {"3600", `3600,"parking_id":"a b"`, "number"}, {"3600", `3600,"sub_mchid":"x"`, "mchid"}, {"3600", `3600,"x":1`, "body"},
	} {
		g.refused(tc.new, g.do("POST", exitsPath, strings.Replace(leaving("P1", 800, ""), tc.old, tc.new, 1)), 400, tc.rule)
	}
	if g.charges() != charges {
		t.Error("something was sent")
	}
}

// TestExitReleasesOnTheLedgersChargeAlone: an answer about another number, stay or
// amount, or one that does not verify, opens nothing.
func TestExitReleasesOnTheLedgersChargeAlone(t *testing.T) {
	for i, tc := range []struct {
		old, new, sign string
	}{
		{`"P1"`, `"P2"`, ""}, {parkedID, "5K01", ""}, {`"parking_id"`, `"id"`, ""}, {":800", ":801", ""}, {`"total"`, `"totals"`, ""}, {"CNY", "USD", ""},
		{`"out_trade_no"`, `"number"`, ""}, {mchid, "1900000002", ""}, {`"appid"`, `"sub_mchid":"1900000109","appid"`, ""}, {":800", `:"800"`, ""},
		{"", "", "bad"}, {"", "", "none"}, {"", "", "stale"}, {"", "", "probe"}, {"", "", "unknown_serial"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			x := &gate{}
			lie := func(got) reply {
				return reply{status: 200, body: strings.Replace(x.charged("P1", 800, parkedID), tc.old, tc.new, 1), sign: tc.sign}
			}
			x.charge, x.query = lie, lie
			g := parked(t, x, rigOptions{})
			h, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200)
			if v.Get("release").Bool() || v.Get("outcome").String() != "unknown" || h.Get("Wechatpay-Gateway-Outcome") != "unknown" {
				t.Error(tc, v)
			}
		})
	}
}

// TestExitRejected: WeChat Pay's verified refusal of the first call is an end, and
// frees the stay; of a repeat it is none.
func TestExitRejected(t *testing.T) {
	x := &gate{charge: func(got) reply { return reply{status: 403, body: `{"code":"NO_AUTH","message":"x"}`} }}
	g := parked(t, x, rigOptions{})
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); v.Get("release").Bool() || v.Get("outcome").String() != "rejected" || v.Get("code").String() != "NO_AUTH" || g.charges() != 1 {
		t.Error(v, g.charges())
	}
	// A number that WeChat Pay has is no end: the charge may be there.
	x.charge = func(got) reply { return reply{status: 403, body: `{"code":"OUT_TRADE_NO_USED","message":"x"}`} }
	x.query = func(got) reply { return reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`} }
	if _, v := g.gateway("POST", exitsPath, leaving("P2", 800, ""), 200); v.Get("release").Bool() || v.Get("outcome").String() != "unknown" {
		t.Error(v)
	}
	x.charge, x.query = nil, nil
	if _, v := g.gateway("POST", exitsPath, leaving("P2", 800, ""), 200); !v.Get("release").Bool() {
		t.Error(v)
	}
	// The lane repeats with another end_time: WeChat Pay refuses, the query finds it.
	x.charge = func(got) reply { return reply{status: 400, body: `{"code":"OUT_TRADE_NO_USED","message":"x"}`} }
	if _, v := g.gateway("POST", exitsPath, strings.Replace(leaving("P2", 800, ""), "09:00:00", "09:00:05", 1), 200); !v.Get("release").Bool() || v.Get("source").String() != "query" {
		t.Error(v)
	}
	x.query = func(got) reply { return reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`} }
	if _, v := g.gateway("POST", exitsPath, leaving("P2", 800, ""), 200); v.Get("release").Bool() || v.Get("outcome").String() != "unknown" {
		t.Error(v)
	}
}

// TestExitLost: an answer that is lost is asked for once more in the call, with the
// same number and bytes, and by a query when that is lost as well.
func TestExitLost(t *testing.T) {
	var calls atomic.Int32
	x := &gate{}
	fail := int32(1)
	x.charge = func(g got) reply {
		if calls.Add(1) <= fail {
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`}
		}
		return reply{status: 200, body: x.charged("P1", 800, parkedID)}
	}
	g := parked(t, x, rigOptions{})
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); !v.Get("release").Bool() || v.Get("source").String() != "repeat" {
		t.Error(v)
	}
	if r := g.wx.requests(); len(r) != 3 || r[1].body != r[2].body {
		t.Error(len(r))
	}
	fail = 100
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); !v.Get("release").Bool() || v.Get("source").String() != "query" {
		t.Error(v)
	}
	x.query = func(got) reply { return reply{status: 500, body: `{}`} }
	if h, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); v.Get("release").Bool() || v.Get("outcome").String() != "unknown" || v.Get("source").Exists() || h.Get("Wechatpay-Gateway-Outcome") == "" {
		t.Error(h, v)
	}
}

// TestExitUnreachable: nothing was sent, and that is known.
func TestExitUnreachable(t *testing.T) {
	ledger := parked(t, &gate{}, rigOptions{}).ledger
	g := newRig(t, rigOptions{bases: []string{closedPort(t)}, store: ledger})
	g.ledger = ledger
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); v.Get("release").Bool() || v.Get("outcome").String() != "unreachable" {
		t.Error(v)
	}
	if o := g.order("P1"); o.State != storage.OrderRejected {
		t.Error(o.State)
	}
}

// TestExitBlocked: of a BLOCKED entry nothing is sent, and what was accepted before
// is only asked for.
func TestExitBlocked(t *testing.T) {
	x := &gate{entryState: "BLOCKED", reason: "PAUSE"}
	g := parked(t, x, rigOptions{})
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); v.Get("release").Bool() || v.Get("outcome").String() != "blocked" ||
		v.Get("block_reason").String() != "PAUSE" || v.Get("open_page.appId").String() == "" || g.charges() != 0 {
		t.Error(v, g.charges())
	}
	g.passes("elsewhere", g.do("POST", chargePath, chargeBody("P1", parkedID, plateNumber, 800)))
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); !v.Get("release").Bool() || v.Get("source").String() != "query" || g.charges() != 1 {
		t.Error(v, g.charges())
	}
}

// TestExitDeadline: the answer is there in time, a repeat joins the call that runs,
// and what has begun is finished.
func TestExitDeadline(t *testing.T) {
	hold, arrived := make(chan struct{}), make(chan struct{}, 10)
	x := &gate{}
	x.charge = func(g got) reply {
		arrived <- struct{}{}
		<-hold
		return reply{status: 200, body: x.charged("P1", 800, parkedID)}
	}
	g := parked(t, x, rigOptions{})
	body := leaving("P1", 800, `,"deadline_ms":2000`)
	joined := strings.Replace(body, "2000", "100", 1)
	var wait sync.WaitGroup
	wait.Go(func() {
		r := g.do("POST", exitsPath, body)
		if v := gjson.Parse(text(t, r)); !v.Get("release").Bool() {
			t.Error(v)
		}
	})
	<-arrived
	began := time.Now()
	_, v := g.gateway("POST", exitsPath, joined, 200)
	if took := time.Since(began); took > time.Second || v.Get("release").Bool() || v.Get("outcome").String() != "unknown" || v.Get("out_trade_no").String() != "P1" {
		t.Error(took, v)
	}
	g.refused("another amount", g.do("POST", exitsPath, strings.Replace(joined, ":800", ":801", 1)), 429, payops.RuleBusy)
	wait.Go(func() {
		r := g.do("POST", exitsPath, strings.Replace(body, "2000", "3000", 1))
		if v := gjson.Parse(text(t, r)); !v.Get("release").Bool() {
			t.Error(v)
		}
	})
	close(hold)
	wait.Wait()
	if g.order("P1").State != storage.OrderCreated {
		t.Error(g.order("P1").State)
	}
}

// TestExitGoesOn: a call that outlasts the deadline and its own attempts is asked
// for, and the same request then releases.
func TestExitGoesOn(t *testing.T) {
	x := &gate{}
	hold := make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(hold) }) }
	x.charge = func(g got) reply { <-hold; return reply{status: 200, body: x.charged("P1", 800, parkedID)} }
	answered := make(chan struct{})
	x.query = func(got) reply { <-answered; return reply{status: 200, body: x.charged("P1", 800, parkedID)} }
	g := parked(t, x, rigOptions{})
	t.Cleanup(release)
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, `,"deadline_ms":100`), 200); v.Get("release").Bool() || v.Get("outcome").String() != "unknown" {
		t.Error(v)
	}
	close(answered)
	g.api.Wait(t.Context())
	release()
	if o := g.order("P1"); o.State != storage.OrderCreated {
		t.Error("the query has not found it:", o.State)
	}
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); !v.Get("release").Bool() || v.Get("source").String() != "repeat" {
		t.Error(v)
	}
}

// TestParkingInSandbox drives a car through a platform that shares no code with the
// gateway: blocked, opened, lost before and after effect, charged once.
func TestParkingInSandbox(t *testing.T) {
	for _, provider := range []bool{false, true} {
		t.Run(fmt.Sprint("provider ", provider), func(t *testing.T) {
			s := newGateway(t, provider)
			t.Cleanup(func() { s.api.Wait(context.WithoutCancel(t.Context())) })
			sub, query := "", ""
			if provider {
				sub, query = `,"sub_mchid":"`+subMchid+`"`, "&sub_mchid="+subMchid
			}
			now := time.Now()
			at := func(d time.Duration) string { return now.Add(d).Truncate(time.Second).Format(time.RFC3339) }
			ask := func(method, target, body string, status int) gjson.Result {
				t.Helper()
				r := s.ask(method, target, body)
				answer := text(t, r)
				if r.StatusCode != status {
					t.Fatalf("%s %s: %d %s", method, target, r.StatusCode, answer)
				}
				return gjson.Parse(answer)
			}
			enter := func(number, plate string, status int) gjson.Result {
				t.Helper()
				return ask("POST", entriesPath, fmt.Sprintf(`{"out_parking_no":"%s","plate_number":"%s","plate_color":"BLUE","start_time":"%s","parking_name":"P"%s}`,
					number, plate, at(-time.Hour), sub), status)
			}
			leave := func(number, parking string) gjson.Result {
				t.Helper()
				return ask("POST", exitsPath, fmt.Sprintf(`{"out_trade_no":"%s","out_parking_no":"%s","amount":{"total":800},"end_time":"%s","charging_duration":3000,"device_id":"d","deadline_ms":3000%s}`,
					number, parking, at(-time.Minute), sub), 200)
			}
			if v := ask("GET", servicesPath+"?plate_number="+url.QueryEscape("粤B00001")+"&plate_color=BLUE&openid="+payerOpenid+query, "", 200); v.Get("service_state").String() != "OUT_SERVICE" || v.Get("open_page.extraData.sub_mchid").Exists() != provider {
				t.Error(v)
			}
			if v := enter("A1", "粤B00001", 201); v.Get("state").String() != "BLOCKED" || v.Get("block_reason").String() != "OUT_SERVICE" {
				t.Error(v)
			}
			if v := leave("OUT1", "A1"); v.Get("outcome").String() != "blocked" {
				t.Error(v)
			}
			for i, kind := range []sandbox.APIFaultKind{"", sandbox.FaultDropBefore, sandbox.FaultDropAfter, sandbox.FaultErrorAfter, sandbox.FaultTampered} {
				plate, in, out := fmt.Sprintf("粤B1000%d", i), fmt.Sprintf("B%d", i), fmt.Sprintf("OUT-B%d", i)
				if _, err := s.platform.SetPlate(sandbox.Plate{PlateNumber: plate}); err != nil {
					t.Fatal(err)
				}
				if v := enter(in, plate, 201); v.Get("state").String() != "NORMAL" {
					t.Fatal(v)
				}
				if kind != "" {
					if err := s.platform.FailAPI(sandbox.APIFault{Kind: kind, Method: http.MethodPost, Path: chargePath}); err != nil {
						t.Fatal(err)
					}
				}
				v := leave(out, in)
				if want := map[bool]string{true: "charge", false: "repeat"}[kind == ""]; !v.Get("release").Bool() || v.Get("source").String() != want {
					t.Errorf("%s: %s", kind, v)
				}
				if e, err := s.platform.Parking(in); err != nil || e.OutTradeNo != out {
					t.Errorf("%+v %v", e, err)
				}
				if v := ask("GET", entriesPath+"/"+in+"?"+strings.TrimPrefix(query, "&"), "", 200); v.Get("charge.out_trade_no").String() != out {
					t.Error(v)
				}
			}
		})
	}
}

// TestNoteEntrance: a callback flips an entry, and no older one flips it back.
func TestNoteEntrance(t *testing.T) {
	x := &gate{entryState: "BLOCKED", reason: "PAUSE"}
	g := parked(t, x, rigOptions{})
	note := func(state, at, more string) (bool, error) {
		return g.api.NoteEntrance(t.Context(), fmt.Appendf(nil,
			`{"sp_mchid":"%s","parking_id":"%s","out_parking_no":"IN1","plate_number":"%s","plate_color":"BLUE","parking_state":"%s","state_update_time":"%s"%s}`,
			mchid, parkedID, plateNumber, state, at, more))
	}
	for _, tc := range []struct {
		state, at string
		changed   bool
		want      string
	}{
		{"NORMAL", "2026-11-22T08:10:00.002+08:00", true, "NORMAL"},
		{"BLOCKED", "2026-11-22T08:10:00.001+08:00", false, "NORMAL"},
		{"BLOCKED", "2026-11-22T08:10:00.002+08:00", false, "NORMAL"},
		{"BLOCKED", "2026-11-22T00:10:00.003Z", true, "BLOCKED"},
		{"NORMAL", "2026-11-22T08:20:00+08:00", true, "NORMAL"},
	} {
		if changed, err := note(tc.state, tc.at, `,"blocked_state_description":"OVERDUE"`); err != nil || changed != tc.changed {
			t.Error(tc, changed, err)
		}
		if e := g.entry("IN1"); string(e.State) != tc.want || (e.BlockReason == "OVERDUE") != (tc.want == "BLOCKED") {
			t.Errorf("%+v %+v", tc, e)
		}
	}
	x.reason = "PAUSE"
	g.gateway("POST", entriesPath, car("IN1", plateNumber, ""), 200) // the first answer is no news any more
	if _, v := g.gateway("POST", exitsPath, leaving("P1", 800, ""), 200); !v.Get("release").Bool() {
		t.Error(v)
	}
	for name, resource := range map[string]string{
		"nothing": `{}`, "no time": `{"parking_id":"` + parkedID + `","parking_state":"NORMAL"}`,
		"another merchant": `{"sp_mchid":"1900000002","parking_id":"` + parkedID + `","parking_state":"NORMAL","state_update_time":"2026-11-22T09:20:00+08:00"}`,
		"another plate":    `{"parking_id":"` + parkedID + `","plate_number":"粤B1","parking_state":"NORMAL","state_update_time":"2026-11-22T09:20:00+08:00"}`,
		"a state":          `{"parking_id":"` + parkedID + `","parking_state":"OPEN","state_update_time":"2026-11-22T09:20:00+08:00"}`,
	} {
		if changed, err := g.api.NoteEntrance(t.Context(), []byte(resource)); !errors.Is(err, payops.ErrEntrance) || changed {
			t.Error(name, changed, err)
		}
	}
	if changed, err := g.api.NoteEntrance(t.Context(), []byte(`{"parking_id":"5K99","parking_state":"NORMAL","state_update_time":"2026-11-22T09:20:00+08:00"}`)); err != nil || changed {
		t.Error("an entry made elsewhere:", changed, err)
	}
}
