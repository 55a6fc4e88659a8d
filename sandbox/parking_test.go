package sandbox_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

const (
	parkings     = "/v3/vehicle/parking/parkings"
	charges      = "/v3/vehicle/transactions/parking"
	chargeQuery  = "/v3/vehicle/transactions/out-trade-no/"
	plateQuery   = "/v3/vehicle/parking/services/find?appid=" + appid + "&plate_color=BLUE&openid=oOWNER&plate_number="
	plateA       = "粤B888888"
	parkingStart = "1999-12-31T20:00:00+08:00" // before the clock of synctest begins, and before any other
	parkingEnd   = "1999-12-31T21:00:00+08:00"
)

// entryBody reports an entry; more is put at the front of the object.
func entryBody(number, plate, more string) string {
	return fmt.Sprintf(`{%s"out_parking_no":%q,"plate_number":%q,"plate_color":"BLUE","notify_url":%q,"start_time":%q,"parking_name":"欢乐海岸停车场","free_duration":900}`,
		more, number, plate, notify, parkingStart)
}

func chargeBody(number, id, plate string, total int64, more string) string {
	return fmt.Sprintf(`{%s"appid":%q,"description":"停车场扣费","attach":"a","out_trade_no":%q,"trade_scene":"PARKING","notify_url":%q,"profit_sharing":"N",
		"amount":{"total":%d,"currency":"CNY"},"parking_info":%s}`, more, appid, number, notify, total, infoBody(id, plate))
}

func infoBody(id, plate string) string {
	return fmt.Sprintf(`{"parking_id":%q,"plate_number":%q,"plate_color":"BLUE","start_time":%q,"end_time":%q,"parking_name":"欢乐海岸停车场","charging_duration":3600,"device_id":"12313"}`,
		id, plate, parkingStart, parkingEnd)
}

// enter reports an entry and returns its parking_id.
func (c *client) enter(body string) string {
	c.t.Helper()
	status, answer := c.call("POST", parkings, body)
	if status != 200 {
		c.t.Fatalf("entry: %d %s", status, answer)
	}
	return field(c.t, answer, "id")
}

func (c *client) charge(body string) string {
	c.t.Helper()
	status, answer := c.call("POST", charges, body)
	if status != 200 {
		c.t.Fatalf("charge: %d %s", status, answer)
	}
	return answer
}

func open(t testing.TB, p *sandbox.Platform, plates ...string) {
	t.Helper()
	for _, n := range plates {
		if _, err := p.SetPlate(sandbox.Plate{PlateNumber: n}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParkingLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{script: []int{200, 500, 200}}
		p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r}; o.TimeScale = 2 })
		c := newClient(t, p, mchid)
		open(t, p, plateA)
		status, answer := c.call("GET", plateQuery+"%E7%B2%A4B888888", "")
		if status != 200 {
			t.Fatal(status, answer)
		}
		sameJSON(t, answer, `{"plate_number":"粤B888888","plate_color":"BLUE","service_open_time":"2000-01-01T08:00:00+08:00","openid":"oOWNER","service_state":"NORMAL"}`)

		status, answer = c.call("POST", parkings, entryBody("IN-1", plateA, ""))
		if status != 200 {
			t.Fatal(status, answer)
		}
		sameJSON(t, answer, `{"id":"*","out_parking_no":"IN-1","plate_number":"粤B888888","plate_color":"BLUE","start_time":"`+parkingStart+`",
			"parking_name":"欢乐海岸停车场","free_duration":900,"state":"NORMAL"}`, "id")
		id := field(t, answer, "id")
		if again := c.enter(entryBody("IN-1", plateA, "")); again != id {
			t.Errorf("the same report is another entry: %s, %s", again, id)
		}

		shape := func(state, description, more, amount string) string {
			return `{"appid":"` + appid + `","sp_mchid":"` + mchid + `","description":"停车场扣费","create_time":"2000-01-01T08:00:00+08:00","out_trade_no":"E",
				"trade_state":"` + state + `","trade_state_description":"` + description + `",` + more + `"attach":"a","trade_scene":"PARKING",
				"parking_info":` + infoBody(id, plateA) + `,"payer":{"openid":"` + sandbox.OpenID(appid, plateA) + `"},"amount":{"total":888,"currency":"CNY"` + amount + `}}`
		}
		accepted := shape("ACCEPTED", "已接收，等待扣款", "", "")
		sameJSON(t, c.charge(chargeBody("E", id, plateA, 888, "")), accepted)
		sameJSON(t, c.charge(chargeBody("E", id, plateA, 888, "")), accepted)
		_, answer = c.call("GET", chargeQuery+"E", "")
		sameJSON(t, answer, accepted)

		asked := time.Now()
		o, err := p.WaitCharge(t.Context(), "E", sandbox.ChargeSuccess)
		if err != nil || time.Since(asked) != time.Second {
			t.Errorf("charged after %v: %v", time.Since(asked), err)
		}
		if _, err := p.WaitState(t.Context(), "E", sandbox.Delivered); err != nil {
			t.Fatal(err)
		}
		paid := func(state, description string) string {
			return shape(state, description, `"transaction_id":"`+o.SubOrders[0].TransactionID+`","success_time":"2000-01-01T08:00:01+08:00","bank_type":"OTHERS",`,
				`,"payer_total":888,"discount_total":0`)
		}
		_, answer = c.call("GET", chargeQuery+"E", "")
		sameJSON(t, answer, paid("SUCCESS", "支付成功"))
		got := r.all()
		if len(got) != 1 {
			t.Fatalf("%d callbacks", len(got))
		}
		n, plain := c.open(got[0].header, got[0].body)
		if n.EventType != "TRANSACTION.SUCCESS" || n.Resource.OriginalType != "transaction" || n.Summary != "支付成功" {
			t.Errorf("%+v", n)
		}
		sameJSON(t, plain, paid("SUCCESS", "支付成功"))

		// A parking order is refunded as any other, and lasts.
		c.refund(refundBody("E", "R-1", 100, 888))
		if _, err := p.WaitState(t.Context(), "refund:R-1", sandbox.Delivered); err != nil {
			t.Fatal(err)
		}
		_, answer = c.call("GET", chargeQuery+"E", "")
		sameJSON(t, answer, paid("REFUND", "订单发生过退款，退款详情请查询退款单"))
		sameJSON(t, c.charge(chargeBody("E", id, plateA, 888, "")), paid("REFUND", "订单发生过退款，退款详情请查询退款单"))
		if status, answer := c.call("POST", refunds, refundBody("E", "R-2", 789, 888)); status != 400 || codeOf(t, answer) != "INVALID_REQUEST" {
			t.Errorf("beyond what was paid: %d %s", status, answer)
		}
		// And it is no basic order.
		for _, target := range []string{"/v3/pay/transactions/out-trade-no/E", "/v3/pay/transactions/id/" + o.SubOrders[0].TransactionID} {
			if status, answer := c.call("GET", target+"?mchid="+mchid, ""); status != 404 || codeOf(t, answer) != "ORDER_NOT_EXIST" {
				t.Errorf("%s: %d %s", target, status, answer)
			}
		}
		if _, err := p.Pay("E", sandbox.Faults{}); !errors.Is(err, sandbox.ErrUnasked) {
			t.Errorf("paid by hand: %v", err)
		}
	})
}

// TestChargeStates walks every way through the states, and what is told of each.
func TestChargeStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{script: []int{200}}
		p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
		c := newClient(t, p, mchid)
		for i, tc := range []struct {
			plan   *sandbox.ChargePlan
			settle sandbox.ChargeState // by hand, after the plan
			ends   sandbox.ChargeState
			took   time.Duration
			events []string // event_type trade_state bank_type user_repaid
			query  string
		}{
			{nil, "", sandbox.ChargeSuccess, 2 * time.Second, []string{"TRANSACTION.SUCCESS SUCCESS OTHERS "}, "SUCCESS OTHERS "},
			{&sandbox.ChargePlan{AfterMS: 300, Faults: sandbox.Faults{Coupon: 88}}, "", sandbox.ChargeSuccess, 300 * time.Millisecond,
				[]string{"TRANSACTION.SUCCESS SUCCESS OTHERS "}, "SUCCESS OTHERS "},
			{&sandbox.ChargePlan{State: sandbox.ChargeFail}, "", sandbox.ChargeFail, 2 * time.Second,
				[]string{"TRANSACTION.FAIL FAIL  "}, "PAY_FAIL  "},
			{&sandbox.ChargePlan{State: sandbox.ChargeFail, AfterMS: 1000, LaterMS: 9000}, "", sandbox.ChargeSuccess, 10 * time.Second,
				[]string{"TRANSACTION.FAIL FAIL  ", "TRANSACTION.SUCCESS SUCCESS OTHERS "}, "SUCCESS OTHERS "},
			{&sandbox.ChargePlan{State: sandbox.ChargeAdvanced}, "", sandbox.ChargeAdvanced, 2 * time.Second,
				[]string{"TRANSACTION.SUCCESS SUCCESS BPA N"}, "SUCCESS BPA N"},
			{&sandbox.ChargePlan{State: sandbox.ChargeAdvanced, LaterMS: 7 * 24 * 3600_000}, "", sandbox.ChargePaidBack, 7*24*time.Hour + 2*time.Second,
				[]string{"TRANSACTION.SUCCESS SUCCESS BPA N", "TRANSACTION.PAY_BACK PAY_BACK BPA Y"}, "SUCCESS BPA Y"},
			{&sandbox.ChargePlan{State: sandbox.ChargePending}, sandbox.ChargeAdvanced, sandbox.ChargeAdvanced, 0,
				[]string{"TRANSACTION.SUCCESS SUCCESS BPA N"}, "SUCCESS BPA N"},
			{&sandbox.ChargePlan{State: sandbox.ChargeAdvanced, AfterMS: 60_000, LaterMS: 60_000}, sandbox.ChargeSuccess, sandbox.ChargeSuccess, 0,
				[]string{"TRANSACTION.SUCCESS SUCCESS OTHERS "}, "SUCCESS OTHERS "},
		} {
			number, plate := fmt.Sprintf("E%d", i), fmt.Sprintf("粤B%05d", i)
			if tc.plan != nil {
				// A plan for another plate waits for it.
				tc.plan.PlateNumber = plate
				if err := p.PlanCharges(sandbox.ChargePlan{State: sandbox.ChargeFail, PlateNumber: plate + "9"}); err != nil {
					t.Fatal(err)
				}
				if err := p.PlanCharges(*tc.plan); err != nil {
					t.Fatal(err)
				}
			}
			open(t, p, plate)
			before, asked := len(r.all()), time.Now()
			c.charge(chargeBody(number, c.enter(entryBody(number, plate, "")), plate, 888, ""))
			if tc.settle != "" {
				if _, err := p.SettleCharge(number, tc.settle, sandbox.Faults{}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.WaitCharge(t.Context(), number, tc.ends); err != nil || time.Since(asked) != tc.took {
				t.Errorf("%d: after %v: %v", i, time.Since(asked), err)
			}
			if _, err := p.WaitState(t.Context(), number, sandbox.Delivered); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Minute) // what was planned and is off must not come
			var events []string
			for _, g := range r.all()[before:] {
				n, plain := c.open(g.header, g.body)
				events = append(events, strings.Join([]string{n.EventType, field(t, plain, "trade_state"), field(t, plain, "bank_type"), field(t, plain, "user_repaid")}, " "))
				if field(t, plain, "out_trade_no") != number || (n.EventType == "TRANSACTION.SUCCESS") != (n.Resource.OriginalType == "transaction") {
					t.Errorf("%d: %+v %s", i, n, plain)
				}
				if tc.plan != nil && tc.plan.Faults.Coupon > 0 && (!strings.Contains(plain, `"payer_total":800,"discount_total":88`) || !strings.Contains(plain, `"activity_id"`)) {
					t.Errorf("%d: no coupon: %s", i, plain)
				}
			}
			if !slices.Equal(events, tc.events) {
				t.Errorf("%d: told %q, want %q", i, events, tc.events)
			}
			_, answer := c.call("GET", chargeQuery+number, "")
			if have := field(t, answer, "trade_state") + " " + field(t, answer, "bank_type") + " " + field(t, answer, "user_repaid"); have != tc.query {
				t.Errorf("%d: query %q, want %q", i, have, tc.query)
			}
			o, err := p.Order(number)
			if err != nil || o.Kind != sandbox.ParkingCharge || o.Parking.State != tc.ends || len(o.Parking.Callbacks) != len(tc.events) {
				t.Errorf("%d: %+v %v", i, o, err)
			}
		}
		// What WeChat Pay never does.
		for ref, states := range map[string][]sandbox.ChargeState{
			"E0": {sandbox.ChargePending, sandbox.ChargeSuccess, sandbox.ChargeFail, sandbox.ChargeAdvanced, sandbox.ChargePaidBack, "x"},
			"E2": {sandbox.ChargePending, sandbox.ChargeFail, sandbox.ChargePaidBack},
			"E4": {sandbox.ChargePending, sandbox.ChargeSuccess, sandbox.ChargeFail, sandbox.ChargeAdvanced},
			"E5": {sandbox.ChargePending, sandbox.ChargeSuccess, sandbox.ChargeFail, sandbox.ChargeAdvanced, sandbox.ChargePaidBack},
		} {
			for _, state := range states {
				if _, err := p.SettleCharge(ref, state, sandbox.Faults{}); !errors.Is(err, sandbox.ErrChargeState) {
					t.Errorf("%s to %s: %v", ref, state, err)
				}
			}
		}
		for _, f := range []sandbox.Faults{{Coupon: 888}, {Coupon: -1}, {WrongAmount: -889}, {Probes: -1}} {
			if _, err := p.SettleCharge("E2", sandbox.ChargeSuccess, f); err == nil {
				t.Errorf("settled with %+v", f)
			}
		}
		if _, err := p.SettleCharge(mchid+":E2", sandbox.ChargeAdvanced, sandbox.Faults{WrongAmount: 1}); err != nil {
			t.Errorf("a failed charge is advanced after all: %v", err)
		}
		if _, err := p.WaitState(t.Context(), "E2", sandbox.Delivered); err != nil {
			t.Fatal(err)
		}
		all := r.all()
		if _, plain := c.open(all[len(all)-2].header, all[len(all)-2].body); !strings.Contains(plain, `"total":889`) || !strings.Contains(plain, `"payer_total":889`) {
			t.Errorf("no wrong amount: %s", plain)
		}
		c.order(nativeBody("BASIC-1", 1))
		if _, err := p.SettleCharge("BASIC-1", sandbox.ChargeSuccess, sandbox.Faults{}); !errors.Is(err, sandbox.ErrNoOrder) {
			t.Errorf("a basic order was charged: %v", err)
		}
	})
}

func TestChargePlans(t *testing.T) {
	p := newPlatform(t, nil)
	for _, plan := range []sandbox.ChargePlan{
		{State: "later"}, {State: sandbox.ChargePaidBack}, {Count: -1}, {Count: 1e6}, {AfterMS: -1}, {LaterMS: 1}, {State: sandbox.ChargePending, LaterMS: 1},
		{State: sandbox.ChargeFail, LaterMS: 1e12}, {Faults: sandbox.Faults{Forged: -1}},
	} {
		if err := p.PlanCharges(plan); err == nil {
			t.Errorf("planned %+v", plan)
		}
	}
	if _, err := sandbox.New(sandbox.Options{Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: appid}}, ChargeTime: -1}); err == nil {
		t.Error("a negative charge time")
	}
}

// TestParkingFlips: an entry's state follows its plate, each flip is told, and
// state_update_time never stands still.
func TestParkingFlips(t *testing.T) {
	r := &receiver{script: []int{200}}
	at := newClock(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC))
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r}; o.Now = at.now })
	c := newClient(t, p, mchid)
	signed := func(method, target, body string) (int, string) {
		t.Helper()
		req := c.request(method, target, body)
		req.Header.Set("Authorization", c.authorization(method, target, body, at.now()))
		w := serve(p, req)
		c.verify(w.Header(), w.Body.Bytes())
		return w.Code, w.Body.String()
	}
	_, answer := signed("POST", parkings, entryBody("IN-1", plateA, ""))
	id := field(t, answer, "id")
	if field(t, answer, "state") != "BLOCKED" || field(t, answer, "block_reason") != "OUT_SERVICE" {
		t.Errorf("an unknown plate: %s", answer)
	}
	refused := func() {
		t.Helper()
		if status, answer := signed("POST", charges, chargeBody("E", id, plateA, 888, "")); status != 400 || codeOf(t, answer) != "INVALID_REQUEST" {
			t.Errorf("a BLOCKED entry was charged: %d %s", status, answer)
		}
	}
	refused()
	// The user opens the service, pauses it, owes and pays, all in one moment.
	open(t, p, plateA)
	if _, err := p.SetPlate(sandbox.Plate{PlateNumber: plateA, Service: sandbox.PlateNormal}); err != nil { // no news
		t.Fatal(err)
	}
	flip := func(state sandbox.ParkingState, reason sandbox.BlockReason, f sandbox.Faults) sandbox.Parking {
		t.Helper()
		v, err := p.FlipParking(id, state, reason, f)
		if err != nil || v.State != state || state == sandbox.ParkingBlocked && v.BlockReason == "" {
			t.Fatalf("%+v %v", v, err)
		}
		return v
	}
	if _, err := p.WaitState(bounded(t), "parking:"+id, sandbox.Delivered); err != nil {
		t.Fatal(err)
	}
	flip(sandbox.ParkingBlocked, "", sandbox.Faults{Lost: true})
	refused()
	flip(sandbox.ParkingNormal, "", sandbox.Faults{Lost: true})
	flip(sandbox.ParkingBlocked, sandbox.BlockOverdue, sandbox.Faults{Lost: true})
	v := flip(sandbox.ParkingNormal, "", sandbox.Faults{Lost: true})
	var refs []string
	for i := len(v.Callbacks) - 1; i > 0; i-- { // the newest first
		if v.Callbacks[i].ParkingID != id || v.Callbacks[i].OutTradeNo != "" {
			t.Errorf("%+v", v.Callbacks[i])
		}
		refs = append(refs, v.Callbacks[i].ID)
	}
	if err := p.SendInOrder(bounded(t), refs...); err != nil {
		t.Fatal(err)
	}
	got := r.all()
	slices.Reverse(got[1:])
	states, last := []string{}, ""
	for _, g := range got {
		n, plain := c.open(g.header, g.body)
		if n.EventType != "VEHICLE.ENTRANCE_STATE_CHANGE" || n.Summary != "停车入场状态通知" || n.Resource.OriginalType != "" || n.Resource.AssociatedData != "" {
			t.Errorf("%+v", n)
		}
		updated := field(t, plain, "state_update_time")
		if parsed, err := time.Parse(time.RFC3339, updated); err != nil || updated <= last || len(updated) != len("2015-05-20T13:29:35.120+08:00") || parsed.Sub(at.now()) > time.Second {
			t.Errorf("state_update_time %q after %q: %v", updated, last, err)
		}
		last = updated
		state := field(t, plain, "parking_state")
		reason := field(t, plain, "blocked_state_description")
		states = append(states, strings.TrimSpace(state+" "+reason))
		if reason != "" {
			reason = `"blocked_state_description":"` + reason + `",`
		}
		sameJSON(t, plain, `{"sp_mchid":"`+mchid+`","parking_id":"`+id+`","out_parking_no":"IN-1","plate_number":"粤B888888","plate_color":"BLUE",
			"start_time":"`+parkingStart+`","parking_name":"欢乐海岸停车场","free_duration":900,"parking_state":"`+state+`",`+reason+`"state_update_time":"`+updated+`"}`)
	}
	if want := []string{"NORMAL", "BLOCKED PAUSE", "NORMAL", "BLOCKED OVERDUE", "NORMAL"}; !slices.Equal(states, want) {
		t.Errorf("told %q, want %q", states, want)
	}
	// A reason alone is no flip.
	flip(sandbox.ParkingBlocked, sandbox.BlockOutService, sandbox.Faults{Probes: 1, Duplicates: 1})
	if _, err := p.WaitCallback(bounded(t), "parking:"+plateA, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SetPlate(sandbox.Plate{PlateNumber: plateA, Service: sandbox.PlatePause}); err != nil {
		t.Fatal(err)
	}
	if v, err := p.Parking("parking:" + mchid + ":IN-1"); err != nil || v.BlockReason != sandbox.BlockPause || len(v.Callbacks) != 6 {
		t.Errorf("%+v %v", v, err)
	}
	for ref, want := range map[string]error{"nobody": sandbox.ErrNoParking, other + ":IN-1": sandbox.ErrNoParking, "IN-1": sandbox.ErrParkingState} {
		if _, err := p.FlipParking(ref, sandbox.ParkingBlocked, sandbox.BlockPause, sandbox.Faults{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, bad := range []struct {
		state  sandbox.ParkingState
		reason sandbox.BlockReason
		f      sandbox.Faults
	}{
		{"", "", sandbox.Faults{}}, {"OPEN", "", sandbox.Faults{}}, {sandbox.ParkingNormal, sandbox.BlockOverdue, sandbox.Faults{}},
		{sandbox.ParkingNormal, "", sandbox.Faults{WrongAmount: 1}}, {sandbox.ParkingNormal, "", sandbox.Faults{Stale: -1}},
	} {
		if _, err := p.FlipParking(id, bad.state, bad.reason, bad.f); err == nil {
			t.Errorf("flipped: %+v", bad)
		}
	}
	// With another entry, or a charge, it flips no more.
	flip(sandbox.ParkingNormal, "", sandbox.Faults{})
	_, answer = signed("POST", parkings, entryBody("IN-2", plateA, ""))
	if status, answer := signed("POST", charges, chargeBody("E", id, plateA, 888, "")); status != 400 || !strings.Contains(answer, "停车入场id不存在") {
		t.Errorf("an entry that is not the newest was charged: %d %s", status, answer)
	}
	newest := field(t, answer, "id")
	if status, answer := signed("POST", charges, chargeBody("E", newest, plateA, 888, "")); status != 200 {
		t.Fatal(status, answer)
	}
	for _, ref := range []string{id, newest} {
		if _, err := p.FlipParking(ref, sandbox.ParkingBlocked, "", sandbox.Faults{}); !errors.Is(err, sandbox.ErrParkingState) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := p.SetPlate(sandbox.Plate{PlateNumber: plateA, Service: sandbox.PlateOutOfService}); err != nil {
		t.Fatal(err)
	}
	if all := p.Parkings(); len(all) != 2 || all[0].State != sandbox.ParkingNormal || all[0].Newest || !all[1].Newest || all[1].State != sandbox.ParkingNormal || all[1].OutTradeNo != "E" {
		t.Errorf("%+v", all)
	}
}

func TestPlates(t *testing.T) {
	p := newPlatform(t, nil)
	for _, tc := range []struct{ set, want sandbox.Plate }{
		{sandbox.Plate{}, sandbox.Plate{Service: "NORMAL", State: "NORMAL"}},
		{sandbox.Plate{Service: "PAUSE"}, sandbox.Plate{Service: "PAUSE", State: "BLOCKED", BlockReason: "PAUSE"}},
		{sandbox.Plate{Service: "OUT_SERVICE", State: "BLOCKED"}, sandbox.Plate{Service: "OUT_SERVICE", State: "BLOCKED", BlockReason: "OUT_SERVICE"}},
		{sandbox.Plate{State: "BLOCKED"}, sandbox.Plate{Service: "NORMAL", State: "BLOCKED", BlockReason: "EVALUATION_FAILED"}},
		{sandbox.Plate{BlockReason: "OVERDUE"}, sandbox.Plate{Service: "NORMAL", State: "BLOCKED", BlockReason: "OVERDUE"}},
	} {
		tc.set.PlateNumber, tc.want.PlateNumber, tc.want.PlateColor = plateA, plateA, "BLUE"
		if have, err := p.SetPlate(tc.set); err != nil || have != tc.want {
			t.Errorf("%+v makes %+v, %v", tc.set, have, err)
		}
		if all := p.Plates(); len(all) != 1 || all[0] != tc.want {
			t.Errorf("%+v", all)
		}
	}
	for _, bad := range []sandbox.Plate{
		{PlateNumber: ""}, {PlateNumber: "粤B·88888"}, {PlateNumber: "粤 B88888"}, {PlateNumber: "粤B-88888"}, {PlateNumber: strings.Repeat("A", 33)},
		{PlateNumber: plateA, PlateColor: "RED"}, {PlateNumber: plateA, Service: "OPEN"}, {PlateNumber: plateA, Service: "PAUSE", State: "NORMAL"},
		{PlateNumber: plateA, Service: "PAUSE", BlockReason: "OVERDUE"}, {PlateNumber: plateA, BlockReason: "PAUSE"}, {PlateNumber: plateA, State: "x"},
		{PlateNumber: plateA, Openid: strings.Repeat("o", 129)},
	} {
		if _, err := p.SetPlate(bad); err == nil {
			t.Errorf("set %+v", bad)
		}
	}
	// The service is its owner's; who the owner is to another appid is nobody here.
	c := newClient(t, p, mchid)
	if _, err := p.SetPlate(sandbox.Plate{PlateNumber: "粤B00001", Openid: "oOWNER", Service: "PAUSE"}); err != nil {
		t.Fatal(err)
	}
	for openid, want := range map[string]string{"oOWNER": "PAUSE", "oSTRANGER": "OUT_SERVICE"} {
		_, answer := c.call("GET", strings.Replace(plateQuery, "oOWNER", openid, 1)+"%E7%B2%A4B00001", "")
		if have := field(t, answer, "service_state"); have != want || field(t, answer, "openid") != openid || (field(t, answer, "service_open_time") == "") != (want == "OUT_SERVICE") {
			t.Errorf("%s: %s", openid, answer)
		}
	}
	if _, err := p.SetPlate(sandbox.Plate{PlateNumber: "粤B00001", Openid: "oOWNER"}); err != nil {
		t.Fatal(err)
	}
	if answer := c.charge(chargeBody("E", c.enter(entryBody("IN", "粤B00001", "")), "粤B00001", 1, "")); !strings.Contains(answer, `"payer":{"openid":"oOWNER"}`) {
		t.Errorf("another payer: %s", answer)
	}
}
