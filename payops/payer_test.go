package payops_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	openid           = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
	subOpenid        = "oSub8uMuAJO_M2pxb1Q9zNjWeS6o"
	otherAppid       = "wx9999999999999999"
	jsapiPath        = "/v3/pay/transactions/jsapi"
	prepay           = `{"prepay_id":"wx201410272009395522657a690389285100"}`
	openIDRule       = payops.Rule(guard.OpenIDAppid)
	partnerJSAPIPath = "/v3/pay/partner/transactions/jsapi"
)

// jsapi is an order for a payer.
func jsapi(number, appid, openid string) string {
	return strings.Replace(strings.Replace(basicBody(number, "100"), `"description"`, `"payer":{"openid":"`+openid+`"},"description"`, 1),
		`"appid":"`+"wx8888888888888888", `"appid":"`+appid, 1)
}

func partnerJSAPI(number, spAppid, spOpenid, subAppid, subOpenid string) string {
	return fmt.Sprintf(`{"sp_mchid":"%s","sp_appid":"%s","sub_mchid":"1900000109","sub_appid":"%s","out_trade_no":"%s","notify_url":"%s","amount":{"total":100},"payer":{"sp_openid":"%s","sub_openid":"%s"}}`,
		mchid, spAppid, subAppid, number, notifyURL, spOpenid, subOpenid)
}

func combineJSAPI(number, appid, openid string) string {
	return strings.Replace(strings.Replace(combineBody(number), `"sub_orders"`, `"combine_payer_info":{"openid":"`+openid+`"},"sub_orders"`, 1),
		`"combine_appid":"`+"wx8888888888888888", `"combine_appid":"`+appid, 1)
}

// holdsNoOpenID checks that no row and no memo holds an openid.
func (g *rig) holdsNoOpenID() {
	g.t.Helper()
	g.ledger.mu.Lock()
	defer g.ledger.mu.Unlock()
	for _, rows := range []any{mapValues(g.ledger.orders), mapValues(g.ledger.refunds), mapValues(g.ledger.calls), mapValues(g.ledger.memos)} {
		data, err := json.Marshal(rows)
		if err != nil {
			g.t.Fatal(err)
		}
		if strings.Contains(string(data), openid) || strings.Contains(string(data), subOpenid) {
			g.t.Errorf("an openid in the ledger: %s", data)
		}
	}
}

func mapValues[K comparable, V any](m map[K]V) (all []V) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// TestOpenIDOfAnotherAppid: an openid belongs to one app, and is refused in
// another's order once WeChat Pay's word says whose it is.
func TestOpenIDOfAnotherAppid(t *testing.T) {
	answer := func(got) reply { return reply{status: 200, body: prepay} }
	for name, first := range map[string]struct {
		target, body string
		key          storage.OrderKey
		digest       string
	}{
		"basic":   {jsapiPath, jsapi("N20261122", appid, openid), storage.OrderKey{Mchid: mchid, Number: "N20261122"}, storage.PayerDigest(appid, openid)},
		"partner": {partnerJSAPIPath, partnerJSAPI("N20261122", appid, openid, "", ""), storage.OrderKey{Mchid: mchid, SubMchid: "1900000109", Number: "N20261122"}, storage.PayerDigest(appid, openid)},
		"partner, sub": {partnerJSAPIPath, partnerJSAPI("N20261122", otherAppid, "", appid, openid),
			storage.OrderKey{Mchid: mchid, SubMchid: "1900000109", Number: "N20261122"}, storage.PayerDigest(appid, openid)},
		"partner, both": {partnerJSAPIPath, partnerJSAPI("N20261122", appid, openid, otherAppid, subOpenid),
			storage.OrderKey{Mchid: mchid, SubMchid: "1900000109", Number: "N20261122"}, storage.PayerDigest(appid, openid)},
		"combine": {"/v3/combine-transactions/jsapi", combineJSAPI("C1", appid, openid), storage.OrderKey{Mchid: mchid, Number: "C1"}, storage.PayerDigest(appid, openid)},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: answer})
			if r := g.do("POST", first.target, first.body); r.StatusCode != 200 {
				t.Fatal(r.StatusCode, text(t, r))
			}
			if o, err := g.ledger.Order(context.Background(), first.key); err != nil || o.Payer != first.digest {
				t.Errorf("%+v %v", o, err)
			}
			for which, again := range map[string][2]string{
				"basic":        {jsapiPath, jsapi("N20261123", otherAppid, openid)},
				"partner":      {partnerJSAPIPath, partnerJSAPI("N20261123", otherAppid, openid, "", "")},
				"partner, sub": {partnerJSAPIPath, partnerJSAPI("N20261123", "wx7777777777777777", "", otherAppid, openid)},
				"combine":      {"/v3/combine-transactions/jsapi", combineJSAPI("C2", otherAppid, openid)},
			} {
				g.refused(which, g.do("POST", again[0], again[1]), 409, openIDRule)
			}
			if n := len(g.wx.requests()); n != 1 {
				t.Errorf("%d sent", n)
			}
			if r := g.do("POST", jsapiPath, jsapi("N20261124", appid, openid)); r.StatusCode != 200 {
				t.Error("its own app:", r.StatusCode)
			}
			g.holdsNoOpenID()
		})
	}
}

// TestOpenIDIsLearned: from accepted orders, paid answers and the exchange of a
// code, and from nothing else.
func TestOpenIDIsLearned(t *testing.T) {
	for name, tc := range map[string]struct {
		answer reply
		known  bool
	}{
		"accepted":         {reply{status: 200, body: prepay}, true},
		"rejected":         {reply{status: 400, body: `{"code":"PARAM_ERROR","message":"appid和openid不匹配"}`}, false},
		"unsigned":         {reply{status: 200, body: prepay, sign: "none"}, false},
		"rejected, probe":  {reply{status: 400, body: `{"code":"PARAM_ERROR"}`, sign: "probe"}, false},
		"5xx":              {reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}, false},
		"202":              {reply{status: 202, body: `{}`}, false},
		"cut":              {reply{status: 200, body: prepay, cut: 4}, false},
		"2xx badly signed": {reply{status: 200, body: prepay, sign: "bad"}, false},
	} {
		g := newRig(t, rigOptions{answer: func(got) reply { return tc.answer }})
		g.do("POST", jsapiPath, jsapi("N20261122", appid, openid))
		before := len(g.wx.requests())
		g.do("POST", jsapiPath, jsapi("N20261123", otherAppid, openid))
		if sent := len(g.wx.requests()) > before; sent == tc.known {
			t.Errorf("%s: another appid's order sent: %v", name, sent)
		}
	}

	// By a query that finds the order paid.
	paid := func(kind, payer string) string {
		return `{` + kind + `"trade_state":"SUCCESS","transaction_id":"42","success_time":"2026-11-22T10:00:00+08:00",` + payer + `}`
	}
	for name, tc := range map[string]struct {
		create, body, query, answer string
		digest                      string
	}{
		"native": {nativePath, basicBody("N20261122", "100"), basicQuery + "N20261122",
			paid(`"mchid":"`+mchid+`","appid":"`+appid+`","out_trade_no":"N20261122",`, `"payer":{"openid":"`+openid+`"}`), storage.PayerDigest(appid, openid)},
		"partner": {"/v3/pay/partner/transactions/native", partnerJSAPI("N20261122", appid, "", otherAppid, subOpenid), "/v3/pay/partner/transactions/out-trade-no/N20261122?sp_mchid=" + mchid + "&sub_mchid=1900000109",
			paid(`"sp_mchid":"`+mchid+`","sp_appid":"`+appid+`","sub_mchid":"1900000109","sub_appid":"`+otherAppid+`","out_trade_no":"N20261122",`, `"payer":{"sp_openid":"`+openid+`","sub_openid":"`+subOpenid+`"}`), storage.PayerDigest(appid, openid)},
		"combine": {combinePath, combineBody("C1"), "/v3/combine-transactions/out-trade-no/C1",
			`{"combine_mchid":"` + mchid + `","combine_appid":"` + appid + `","combine_out_trade_no":"C1","combine_payer_info":{"openid":"` + openid + `"},"sub_orders":[` +
				`{"mchid":"1900000101","out_trade_no":"C1-S1","trade_state":"SUCCESS","transaction_id":"42"},{"mchid":"1900000102","sub_mchid":"1900000109","out_trade_no":"C1-S2","trade_state":"SUCCESS","transaction_id":"43"}]}`,
			storage.PayerDigest(appid, openid)},
	} {
		g := newRig(t, rigOptions{answer: func(x got) reply {
			if x.method == "GET" {
				return reply{status: 200, body: tc.answer}
			}
			return codeURL(x)
		}})
		g.do("POST", tc.create, tc.body)
		g.do("GET", tc.query, "")
		payer := ""
		for _, o := range mapValues(g.ledger.orders) {
			payer = o.Payer
		}
		if payer != tc.digest {
			t.Errorf("%s: payer %q, want %q", name, payer, tc.digest)
		}
		g.refused(name, g.do("POST", jsapiPath, jsapi("N20261123", otherAppid, openid)), 409, openIDRule)
		g.holdsNoOpenID()
	}
}

func TestKnowOpenID(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(got) reply { return reply{status: 200, body: prepay} }})
	ctx := context.Background()
	for range 2 { // the second writes nothing
		if err := g.api.KnowOpenID(ctx, otherAppid, openid); err != nil {
			t.Fatal(err)
		}
	}
	if g.ledger.changes != 1 || len(g.ledger.memos) != 1 {
		t.Errorf("%d changes, %d memos", g.ledger.changes, len(g.ledger.memos))
	}
	g.refused("issued for another app", g.do("POST", jsapiPath, jsapi("N20261122", appid, openid)), 409, openIDRule)
	if g.api.KnowOpenID(ctx, "", openid) == nil || g.api.KnowOpenID(ctx, appid, "") == nil {
		t.Error("half a pair is taken")
	}
	g.ledger.fail = func(storage.Keys) error { return storage.ErrClosed }
	if err := g.api.KnowOpenID(ctx, appid, openid); !errors.Is(err, storage.ErrClosed) {
		t.Error(err)
	}
	g.holdsNoOpenID()

	for mode, warning := range map[string]string{"warn": "openid_appid", "off": ""} {
		g := newRig(t, rigOptions{answer: func(got) reply { return reply{status: 200, body: prepay} }, rules: policy(t, mode+" openid_appid")})
		if err := g.api.KnowOpenID(ctx, otherAppid, openid); err != nil {
			t.Fatal(err)
		}
		if r := g.do("POST", jsapiPath, jsapi("N20261122", appid, openid)); r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != warning {
			t.Error(mode, r.StatusCode, r.Header)
		}
	}
	g = newRig(t, rigOptions{})
	g.refused("openid is a number", g.do("POST", jsapiPath, strings.Replace(jsapi("N20261122", appid, "x"), `"openid":"x"`, `"openid":1`, 1)), 400, payops.RuleBody)
}

// TestRefundsOfOnePayer: one user's refunds go out one after another, others'
// beside them.
func TestRefundsOfOnePayer(t *testing.T) {
	var mu sync.Mutex
	running, most := map[string]int{}, map[string]int{}
	g := newRig(t, rigOptions{answer: func(x got) reply {
		payer := gjson.Get(x.body, "out_trade_no").String()[:2]
		mu.Lock()
		running[payer]++
		most[payer] = max(most[payer], running[payer])
		mu.Unlock()
		time.Sleep(5 * time.Millisecond) // so that two that are at once meet
		mu.Lock()
		running[payer]--
		mu.Unlock()
		return takesRefunds("PROCESSING")(x)
	}})
	var wg sync.WaitGroup
	for i := range 30 {
		number := fmt.Sprintf("P%d%06d", i%2, i)
		o := paidOrder(number)
		if i%2 == 0 {
			o.Payer = storage.PayerDigest(appid, openid)
		}
		put(t, g.ledger, o)
		wg.Go(func() {
			if r := g.do("POST", refundPath, refundBody(number, "R"+number, 30)); r.StatusCode != 200 {
				t.Errorf("%s: %d %s", number, r.StatusCode, text(t, r))
			}
		})
	}
	wg.Wait()
	if most["P0"] != 1 {
		t.Errorf("at once: %v", most)
	}
}

// TestRefundWaitsSoLong: the wait is bounded, and leaves nothing behind.
func TestRefundWaitsSoLong(t *testing.T) {
	hold, arrived := make(chan struct{}), make(chan struct{}, 4)
	g := newRig(t, rigOptions{wait: 50 * time.Millisecond, answer: func(x got) reply {
		arrived <- struct{}{}
		<-hold
		return takesRefunds("PROCESSING")(x)
	}})
	for _, number := range []string{"N20261121", "N20261122", "N20261123"} {
		o := paidOrder(number)
		if o.Payer = storage.PayerDigest(appid, openid); number == "N20261123" {
			o.Payer = storage.PayerDigest(appid, subOpenid)
		}
		put(t, g.ledger, o)
	}
	first := make(chan int, 2)
	go func() { first <- g.do("POST", refundPath, refundBody("N20261121", "R1", 30)).StatusCode }()
	<-arrived
	r := g.do("POST", refundPath, refundBody("N20261122", "R2", 30))
	retryAfter(t, r, 1)
	g.refused("the payer's other refund is running", r, 429, payops.RuleBusy)
	if n := len(g.ledger.allCalls()); n != 1 {
		t.Errorf("%d calls", n)
	}
	go func() { first <- g.do("POST", refundPath, refundBody("N20261123", "R3", 30)).StatusCode }()
	<-arrived // another payer does not wait
	close(hold)
	if a, b := <-first, <-first; a != 200 || b != 200 {
		t.Error(a, b)
	}
	if r := g.do("POST", refundPath, refundBody("N20261122", "R2", 30)); r.StatusCode != 200 {
		t.Error(r.StatusCode, text(t, r))
	}
}
