package sandbox_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

const (
	refunds      = "/v3/refund/domestic/refunds"
	refundNotify = "http://127.0.0.1:1/wechatpay/notify/refund"
)

func refundBody(of, number string, amount, total int64) string {
	field := "out_trade_no"
	if strings.HasPrefix(of, "4200") {
		field = "transaction_id"
	}
	return fmt.Sprintf(`{%q:%q,"out_refund_no":%q,"reason":"sold out","notify_url":%q,"amount":{"refund":%d,"total":%d,"currency":"CNY"}}`,
		field, of, number, refundNotify, amount, total)
}

func (c *client) paid(body, number string, f sandbox.Faults) sandbox.Order {
	c.t.Helper()
	c.order(body)
	if _, err := c.p.Pay(number, f); err != nil {
		c.t.Fatal(err)
	}
	o, err := c.p.Order(number)
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

func (c *client) refund(body string) string {
	c.t.Helper()
	status, answer := c.call("POST", refunds, body)
	if status != 200 {
		c.t.Fatalf("%d %s", status, answer)
	}
	return answer
}

func TestRefundLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{script: []int{200, 500, 200}}
		p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r}; o.TimeScale = 5 })
		c := newClient(t, p, mchid)
		o := c.paid(nativeBody("ORDER-1", 100), "ORDER-1", sandbox.Faults{Coupon: 30})
		if _, err := p.WaitState(t.Context(), "ORDER-1", sandbox.Delivered); err != nil {
			t.Fatal(err)
		}
		shape := func(status, success string) string {
			return `{"refund_id":"*","out_refund_no":"R-1","transaction_id":"` + o.SubOrders[0].TransactionID + `","out_trade_no":"ORDER-1",
				"channel":"ORIGINAL","user_received_account":"支付用户零钱",` + success + `"create_time":"*","status":"` + status + `","funds_account":"AVAILABLE",
				"amount":{"total":100,"refund":50,"from":[],"payer_total":70,"payer_refund":35,"settlement_refund":35,"settlement_total":70,
				"discount_refund":15,"currency":"CNY","refund_fee":0},"promotion_detail":[]}`
		}
		answer := c.refund(refundBody("ORDER-1", "R-1", 50, 100))
		sameJSON(t, answer, shape("PROCESSING", ""), "refund_id", "create_time")
		asked := time.Now()
		settled, err := p.WaitRefund(t.Context(), "R-1", sandbox.RefundSuccess)
		if err != nil || time.Since(asked) != time.Second {
			t.Errorf("settled after %v: %v", time.Since(asked), err)
		}
		if _, err := p.WaitState(t.Context(), "refund:R-1", sandbox.Delivered); err != nil {
			t.Fatal(err)
		}
		_, answer = c.call("GET", refunds+"/R-1", "")
		sameJSON(t, answer, shape("SUCCESS", `"success_time":"*",`), "refund_id", "create_time", "success_time")
		_, answer = c.call("GET", "/v3/pay/transactions/out-trade-no/ORDER-1?mchid="+mchid, "")
		if !strings.Contains(answer, `"trade_state":"REFUND"`) {
			t.Errorf("the order after a refund: %s", answer)
		}
		got := r.all()
		if len(got) != 3 {
			t.Fatalf("%d callbacks", len(got))
		}
		first, _ := c.open(got[1].header, got[1].body)
		for _, g := range got[1:] {
			n, plain := c.open(g.header, g.body)
			if n.EventType != "REFUND.SUCCESS" || n.Resource.OriginalType != "refund" || n.Summary != "退款成功" || n.ID != first.ID || n.CreateTime != first.CreateTime {
				t.Errorf("%+v", n)
			}
			sameJSON(t, plain, `{"mchid":"`+mchid+`","out_trade_no":"ORDER-1","transaction_id":"`+o.SubOrders[0].TransactionID+`","out_refund_no":"R-1",
				"refund_id":"`+settled.RefundID+`","refund_status":"SUCCESS","success_time":"`+n.CreateTime+`","user_received_account":"支付用户零钱",
				"amount":{"total":100,"refund":50,"payer_total":70,"payer_refund":35}}`)
		}
		// The payment's callback says what it said before the refund.
		if _, err := p.Send("ORDER-1", sandbox.Faults{WrongAmount: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.WaitCallback(t.Context(), "ORDER-1", 2); err != nil {
			t.Fatal(err)
		}
		all := r.all()
		if _, plain := c.open(all[3].header, all[3].body); !strings.Contains(plain, `"trade_state":"SUCCESS"`) || !strings.Contains(plain, `"total":101`) {
			t.Errorf("payment told after the refund: %s", plain)
		}
		// The rest goes to the payer to the last fen.
		if answer := c.refund(refundBody("ORDER-1", "R-2", 50, 100)); !strings.Contains(answer, `"payer_refund":35`) {
			t.Error(answer)
		}
	})
}

// TestRefundStates walks every way through the states.
func TestRefundStates(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r}; o.RefundTime = time.Nanosecond })
	c := newClient(t, p, mchid)
	c.paid(nativeBody("ORDER-1", 100), "ORDER-1", sandbox.Faults{})
	ctx := bounded(t)
	if err := p.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundClosed}); err != nil {
		t.Fatal(err)
	}
	if err := p.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundAbnormal}); err != nil {
		t.Fatal(err)
	}
	// CLOSED frees the amount; the number is used up.
	c.refund(refundBody("ORDER-1", "R-CLOSED", 100, 100))
	if _, err := p.WaitRefund(ctx, "R-CLOSED", sandbox.RefundClosed); err != nil {
		t.Fatal(err)
	}
	if again := c.refund(refundBody("ORDER-1", "R-CLOSED", 100, 100)); !strings.Contains(again, `"status":"CLOSED"`) {
		t.Errorf("the closed number again: %s", again)
	}
	_, answer := c.call("GET", "/v3/pay/transactions/out-trade-no/ORDER-1?mchid="+mchid, "")
	if !strings.Contains(answer, `"trade_state":"SUCCESS"`) {
		t.Errorf("the order after a closed refund: %s", answer)
	}
	// ABNORMAL keeps it, until 发起异常退款.
	c.refund(refundBody("ORDER-1", "R-ABN", 100, 100))
	abnormal, err := p.WaitRefund(ctx, "R-ABN", sandbox.RefundAbnormal)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := c.call("POST", refunds, refundBody("ORDER-1", "R-MORE", 1, 100)); status != 400 || codeOf(t, answer) != "INVALID_REQUEST" {
		t.Errorf("beyond an abnormal refund: %d %s", status, answer)
	}
	again := refunds + "/" + abnormal.RefundID + "/apply-abnormal-refund"
	secret := func(text string) string { return encrypt(t, c.platformKeys()[c.keys.PublicKeys[0].ID], text) }
	for _, tc := range []struct {
		name, path, body string
		status           int
		code             string
	}{
		{"no card", again, `{"out_refund_no":"R-ABN","type":"USER_BANK_CARD"}`, 400, "PARAM_ERROR"},
		{"card in the clear", again, `{"out_refund_no":"R-ABN","type":"USER_BANK_CARD","bank_type":"CMB_DEBIT","bank_account":"6225","real_name":"x"}`, 400, "PARAM_ERROR"},
		{"unknown type", again, `{"out_refund_no":"R-ABN","type":"CASH"}`, 400, "PARAM_ERROR"},
		{"another number", again, `{"out_refund_no":"R-CLOSED","type":"MERCHANT_BANK_CARD"}`, 404, "RESOURCE_NOT_EXISTS"},
		{"unknown refund", refunds + "/503/apply-abnormal-refund", `{"out_refund_no":"R-ABN","type":"MERCHANT_BANK_CARD"}`, 404, "RESOURCE_NOT_EXISTS"},
		{"right", again, `{"out_refund_no":"R-ABN","type":"USER_BANK_CARD","bank_type":"CMB_DEBIT","bank_account":"` + secret("6225") + `","real_name":"` + secret("王小明") + `"}`, 200, ""},
	} {
		q := c.request("POST", tc.path, tc.body)
		q.Header.Set("Wechatpay-Serial", c.keys.PublicKeys[0].ID)
		w := serve(p, q)
		if w.Code != tc.status || tc.code != "" && codeOf(t, w.Body.String()) != tc.code {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
		}
	}
	done, err := p.WaitRefund(ctx, abnormal.RefundID, sandbox.RefundSuccess)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := c.call("POST", again, `{"out_refund_no":"R-ABN","type":"MERCHANT_BANK_CARD"}`); status != 400 || codeOf(t, answer) != "INVALID_REQUEST" {
		t.Errorf("a refund that is done: %d %s", status, answer)
	}
	var events []string
	for _, cb := range done.Callbacks {
		if _, err := p.WaitState(ctx, cb.ID, sandbox.Delivered); err != nil {
			t.Fatal(err)
		}
		events = append(events, cb.EventType)
	}
	if strings.Join(events, " ") != "REFUND.ABNORMAL REFUND.SUCCESS" {
		t.Errorf("told %v", events)
	}
	for _, g := range r.all() {
		if n, plain := c.open(g.header, g.body); strings.HasPrefix(n.EventType, "REFUND.") &&
			strings.Contains(plain, "success_time") != (n.EventType == "REFUND.SUCCESS") {
			t.Errorf("%s: %s", n.EventType, plain)
		}
	}
	for _, s := range []sandbox.RefundStatus{sandbox.RefundSuccess, sandbox.RefundAbnormal, sandbox.RefundClosed, sandbox.RefundProcessing, "X"} {
		if _, err := p.SettleRefund("R-ABN", s, sandbox.Faults{}); !errors.Is(err, sandbox.ErrRefundState) {
			t.Errorf("SUCCESS to %s: %v", s, err)
		}
	}
	if _, err := p.SettleRefund("NOBODY", sandbox.RefundSuccess, sandbox.Faults{}); !errors.Is(err, sandbox.ErrNoRefund) {
		t.Error(err)
	}
	for _, plan := range []sandbox.RefundPlan{{Status: "X"}, {Count: -1}, {Faults: sandbox.Faults{Probes: -1}}} {
		if err := p.PlanRefunds(plan); err == nil {
			t.Errorf("%+v accepted", plan)
		}
	}
}

// TestRefundByHand: a refund that stays in PROCESSING until told, with faults
// around its callback.
func TestRefundByHand(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	c.paid(nativeBody("ORDER-1", 100), "ORDER-1", sandbox.Faults{Lost: true})
	if err := p.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundProcessing}); err != nil {
		t.Fatal(err)
	}
	c.refund(refundBody("ORDER-1", "R-1", 40, 100))
	if _, err := p.Send("refund:R-1", sandbox.Faults{}); !errors.Is(err, sandbox.ErrNotPaid) {
		t.Errorf("a callback before the result: %v", err)
	}
	if _, err := p.SettleRefund("R-1", sandbox.RefundSuccess, sandbox.Faults{WrongAmount: -41}); err == nil {
		t.Error("a negative amount was accepted")
	}
	if _, err := p.SettleRefund(mchid+":R-1", sandbox.RefundSuccess, sandbox.Faults{Probes: 1, WrongAmount: 5, Lost: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.WaitCallback(bounded(t), "refund:R-1", 2); err != nil {
		t.Fatal(err)
	}
	if _, plain := c.open(r.all()[1].header, r.all()[1].body); !strings.Contains(plain, `"refund":45`) {
		t.Errorf("wrong amount: %s", plain)
	}
	// The refund's callback before the payment's.
	if err := p.SendInOrder(bounded(t), "refund:R-1", "ORDER-1"); err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, g := range r.all()[2:] {
		n, _ := c.open(g.header, g.body)
		events = append(events, n.EventType)
	}
	if strings.Join(events, " ") != "REFUND.SUCCESS TRANSACTION.SUCCESS" {
		t.Errorf("order %v", events)
	}
}

func TestRefundRules(t *testing.T) {
	now := time.Now()
	clk := newClock(now)
	p := newPlatform(t, func(o *sandbox.Options) { o.Now = clk.now })
	c := newClient(t, p, mchid)
	post := func(path, body string) (int, string) {
		r := c.request("POST", path, body)
		r.Header.Set("Authorization", c.authorization("POST", path, body, now))
		w := serve(p, r)
		return w.Code, w.Body.String()
	}
	c.paid(nativeBody("OLD-01", 100), "OLD-01", sandbox.Faults{})
	paidAt := now.Truncate(time.Second) // as the platform records it
	now = paidAt.Add(365*24*time.Hour - time.Nanosecond)
	clk.set(now)
	if status, answer := post(refunds, refundBody("OLD-01", "R-OLD-1", 1, 100)); status != 200 {
		t.Errorf("in the year's last moment: %s", answer)
	}
	now = paidAt.Add(365 * 24 * time.Hour)
	clk.set(now)
	if status, answer := post("/v3/pay/transactions/native", nativeBody("PAID-1", 100)); status != 200 {
		t.Fatal(answer)
	}
	if _, err := p.Pay("PAID-1", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	if status, answer := post("/v3/pay/transactions/native", nativeBody("OPEN-1", 100)); status != 200 {
		t.Fatal(answer)
	}
	if status, answer := post("/v3/combine-transactions/native", combineBody("COMB-1", subOrder(mchid, "COMB-1-A", 10), subOrder(other, "COMB-1-B", 20))); status != 200 {
		t.Fatal(answer)
	}
	if _, err := p.Pay("COMB-1", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	good := refundBody("PAID-1", "R-1", 60, 100)
	if status, answer := post(refunds, good); status != 200 {
		t.Fatal(answer)
	}
	with := func(old, new string) string {
		body := refundBody("PAID-1", "R-2", 10, 100)
		if !strings.Contains(body, old) {
			t.Fatalf("%q not in %s", old, body)
		}
		return strings.Replace(body, old, new, 1)
	}
	for _, tc := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"the same again", good, 200, ""},
		{"the same with another reason", strings.Replace(good, "sold out", "late", 1), 200, ""},
		{"number used with another amount", refundBody("PAID-1", "R-1", 61, 100), 400, "INVALID_REQUEST"},
		{"number used for another order", refundBody("COMB-1-A", "R-1", 10, 10), 400, "INVALID_REQUEST"},
		{"number used with another total", refundBody("PAID-1", "R-1", 60, 101), 400, "INVALID_REQUEST"},
		{"beyond what is left", refundBody("PAID-1", "R-2", 41, 100), 400, "INVALID_REQUEST"},
		{"beyond the total", refundBody("PAID-1", "R-2", 101, 100), 400, "INVALID_REQUEST"},
		{"another total", refundBody("PAID-1", "R-2", 1, 99), 400, "INVALID_REQUEST"},
		{"after a year", refundBody("OLD-01", "R-OLD-2", 1, 100), 400, "INVALID_REQUEST"},
		{"not paid", refundBody("OPEN-1", "R-2", 1, 100), 400, "INVALID_REQUEST"},
		{"unknown order", refundBody("NOBODY", "R-2", 1, 100), 404, "RESOURCE_NOT_EXISTS"},
		{"unknown transaction", refundBody("4200000000202601010000000000", "R-2", 1, 100), 404, "RESOURCE_NOT_EXISTS"},
		{"a combine order as a whole", refundBody("COMB-1", "R-2", 1, 30), 404, "RESOURCE_NOT_EXISTS"},
		{"another merchant's sub-order", refundBody("COMB-1-B", "R-2", 1, 20), 404, "RESOURCE_NOT_EXISTS"},
		{"order and transaction differ", with(`"out_trade_no":"PAID-1"`, `"out_trade_no":"PAID-1","transaction_id":"4200000000202601010000000000"`), 404, "RESOURCE_NOT_EXISTS"},
		{"no order", with(`"out_trade_no"`, `"x"`), 400, "PARAM_ERROR"},
		{"no number", with(`"out_refund_no"`, `"x"`), 400, "PARAM_ERROR"},
		{"number of 65", with(`"R-2"`, `"`+strings.Repeat("R", 65)+`"`), 400, "PARAM_ERROR"},
		{"number with a slash", with(`"R-2"`, `"R/2"`), 400, "PARAM_ERROR"},
		{"number empty", with(`"R-2"`, `""`), 400, "PARAM_ERROR"},
		{"no amount", with(`"amount"`, `"x"`), 400, "PARAM_ERROR"},
		{"refund 0", with(`"refund":10`, `"refund":0`), 400, "PARAM_ERROR"},
		{"refund a fraction", with(`"refund":10`, `"refund":1.5`), 400, "PARAM_ERROR"},
		{"refund a string", with(`"refund":10`, `"refund":"10"`), 400, "PARAM_ERROR"},
		{"no total", with(`"total"`, `"x"`), 400, "PARAM_ERROR"},
		{"no currency", with(`"currency"`, `"x"`), 400, "PARAM_ERROR"},
		{"currency", with(`CNY`, `USD`), 400, "PARAM_ERROR"},
		{"long reason", with(`sold out`, strings.Repeat("货", 81)), 400, "PARAM_ERROR"},
		{"notify_url with a query", with(refundNotify, refundNotify+"?a=1"), 400, "PARAM_ERROR"},
		{"funds_account", with(`"reason"`, `"funds_account":"SAVINGS","reason"`), 400, "PARAM_ERROR"},
		{"sub_mchid of a direct merchant", with(`"reason"`, `"sub_mchid":"1900000109","reason"`), 403, "NO_AUTH"},
		{"not JSON", `{`, 400, "PARAM_ERROR"},
		{"a sub-order", refundBody("COMB-1-A", "R-3", 10, 10), 200, ""},
		{"a sub-order refunded already", refundBody("COMB-1-A", "R-4", 1, 10), 400, "INVALID_REQUEST"},
		{"what is left", refundBody("PAID-1", "R-5", 40, 100), 200, ""},
	} {
		status, answer := post(refunds, tc.body)
		if status != tc.status || tc.code != "" && codeOf(t, answer) != tc.code {
			t.Errorf("%s: have %d %s, want %d %s", tc.name, status, answer, tc.status, tc.code)
		}
	}
	if have := len(p.Refunds()); have != 4 {
		t.Errorf("%d refunds, want 4", have)
	}
}

func TestRefundByTransaction(t *testing.T) {
	p := newPlatform(t, nil)
	c, payee := newClient(t, p, mchid), newClient(t, p, other)
	o := c.paid(combineBody("COMB-1", subOrder(mchid, "SUB--A", 10), subOrder(other, "SUB--B", 20)), "COMB-1", sandbox.Faults{})
	id := o.SubOrders[1].TransactionID
	if status, _ := c.call("POST", refunds, refundBody(id, "R-1", 20, 20)); status != 404 {
		t.Errorf("the combine merchant refunds another's sub-order: %d", status)
	}
	if answer := payee.refund(refundBody(id, "R-1", 5, 20)); !strings.Contains(answer, `"out_trade_no":"SUB--B"`) {
		t.Error(answer)
	}
	if status, _ := c.call("GET", refunds+"/R-1", ""); status != 404 {
		t.Errorf("another merchant's refund is shown: %d", status)
	}
	_, answer := c.call("GET", "/v3/combine-transactions/out-trade-no/COMB-1", "")
	if strings.Count(answer, `"trade_state":"REFUND"`) != 1 || strings.Count(answer, `"trade_state":"SUCCESS"`) != 1 {
		t.Errorf("each sub-order has its own state: %s", answer)
	}
	c.refund(refundBody("SUB--A", "R-1", 10, 10)) // the number is the other merchant's too
	if _, err := p.Refund("R-1"); !errors.Is(err, sandbox.ErrAmbiguous) {
		t.Error(err)
	}
	if r, err := p.Refund("refund:" + other + ":R-1"); err != nil || r.Amount != 5 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestPartnerRefunds(t *testing.T) {
	p := newPlatform(t, nil)
	sp, direct := newClient(t, p, provider), newClient(t, p, mchid)
	if status, answer := sp.call("POST", wayPath("partner", "native"), wayBody("partner", "native", "ORDER-1")); status != 200 {
		t.Fatal(answer)
	}
	if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	sub := func(id, body string) string { return `{"sub_mchid":"` + id + `",` + body[1:] }
	domestic := refundBody("ORDER-1", "R-1", 10, 100)
	ecommerce := strings.Replace(sub(subMchid, refundBody("ORDER-1", "R-2", 20, 100)), "{", `{"sp_appid":"`+appid+`",`, 1)
	const apply, byNo = "/v3/ecommerce/refunds/apply", "/v3/ecommerce/refunds/out-refund-no/"
	for _, tc := range []struct {
		name         string
		c            *client
		method, path string
		body         string
		status       int
		code         string
	}{
		{"no sub_mchid", sp, "POST", refunds, domestic, 400, "PARAM_ERROR"},
		{"another sub_mchid", sp, "POST", refunds, sub(subOther, domestic), 404, "RESOURCE_NOT_EXISTS"},
		{"a stranger's sub_mchid", sp, "POST", refunds, sub("1900000999", domestic), 403, "NO_AUTH"},
		{"right", sp, "POST", refunds, sub(subMchid, domestic), 200, ""},
		{"query without sub_mchid", sp, "GET", refunds + "/R-1", "", 400, "PARAM_ERROR"},
		{"query for another sub_mchid", sp, "GET", refunds + "/R-1?sub_mchid=" + subOther, "", 404, "RESOURCE_NOT_EXISTS"},
		{"query", sp, "GET", refunds + "/R-1?sub_mchid=" + subMchid, "", 200, ""},
		{"ecommerce by a direct merchant", direct, "POST", apply, ecommerce, 403, "NO_AUTH"},
		{"ecommerce without sp_appid", sp, "POST", apply, strings.Replace(ecommerce, "sp_appid", "x", 1), 400, "PARAM_ERROR"},
		{"ecommerce with a foreign sp_appid", sp, "POST", apply, strings.Replace(ecommerce, appid, otherApp, 1), 400, "APPID_MCHID_NOT_MATCH"},
		{"ecommerce", sp, "POST", apply, ecommerce, 200, ""},
		{"ecommerce query", sp, "GET", byNo + "R-2?sub_mchid=" + subMchid, "", 200, ""},
		{"ecommerce query without sub_mchid", sp, "GET", byNo + "R-2", "", 400, "PARAM_ERROR"},
		{"ecommerce query of an unknown id", sp, "GET", "/v3/ecommerce/refunds/id/503?sub_mchid=" + subMchid, "", 404, "RESOURCE_NOT_EXISTS"},
	} {
		status, answer := tc.c.call(tc.method, tc.path, tc.body)
		if status != tc.status || tc.code != "" && codeOf(t, answer) != tc.code {
			t.Errorf("%s: %d %s", tc.name, status, answer)
		}
	}
	r, err := p.Refund("R-2")
	if err != nil {
		t.Fatal(err)
	}
	status, answer := sp.call("GET", "/v3/ecommerce/refunds/id/"+r.RefundID+"?sub_mchid="+subMchid, "")
	if status != 200 || !strings.Contains(answer, `"out_refund_no":"R-2"`) {
		t.Errorf("by id: %d %s", status, answer)
	}
}

// TestRefundsTogether: whatever comes at the same time, the sum stays within
// what was paid and the 51st is refused.
func TestRefundsTogether(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	c.paid(nativeBody("ORDER-1", 100), "ORDER-1", sandbox.Faults{})
	c.paid(nativeBody("ORDER-2", 1000), "ORDER-2", sandbox.Faults{})
	var wg sync.WaitGroup
	var accepted atomic.Int64
	for i := range 50 {
		r := c.request("POST", refunds, refundBody("ORDER-1", fmt.Sprintf("R-%d", i), 7, 100))
		wg.Go(func() {
			if serve(p, r).Code == 200 {
				accepted.Add(7)
			}
		})
	}
	wg.Wait()
	o, err := p.Order("ORDER-1")
	if err != nil || accepted.Load() != 98 || o.SubOrders[0].Refunded != 98 {
		t.Errorf("accepted %d fen, the order says %d (%v)", accepted.Load(), o.SubOrders[0].Refunded, err)
	}
	for i := range 51 {
		status, answer := c.call("POST", refunds, refundBody("ORDER-2", fmt.Sprintf("S-%d", i), 1, 1000))
		if (status == 200) != (i < 50) || i == 50 && codeOf(t, answer) != "INVALID_REQUEST" {
			t.Errorf("refund %d: %d %s", i+1, status, answer)
		}
	}
}

func TestRefundPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t, func(o *sandbox.Options) { o.RefundPace = true; o.TimeScale = 10 })
		c := newClient(t, p, mchid)
		c.paid(nativeBody("ORDER-1", 100), "ORDER-1", sandbox.Faults{})
		c.refund(refundBody("ORDER-1", "R-1", 1, 100))
		c.refund(refundBody("ORDER-1", "R-1", 1, 100)) // the same again is no other refund
		want := func(name, number string, status int, code string) {
			t.Helper()
			have, answer := c.call("POST", refunds, refundBody("ORDER-1", number, 1, 100))
			if have != status || code != "" && codeOf(t, answer) != code {
				t.Errorf("%s: %d %s", name, have, answer)
			}
		}
		want("at once", "R-2", 429, "FREQUENCY_LIMITED")
		time.Sleep(6 * time.Second) // of the fake clock
		want("a minute later", "R-2", 200, "")
		for range 6 {
			if status, _ := c.call("POST", refunds, refundBody("NOBODY", "R-3", 1, 100)); status != 404 {
				t.Errorf("%d", status)
			}
		}
		want("after six refusals in a second", "R-2", 429, "FREQUENCY_LIMITED")
		time.Sleep(time.Second)
		want("a second later", "R-2", 200, "")
	})
}
