package payops_test

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// TestExitOffersNative: a Native order under another number when it is known that
// there is no charge, and no charge while it can be paid.
func TestExitOffersNative(t *testing.T) {
	x := &gate{charge: func(got) reply { return reply{status: 403, body: `{"code":"RULE_LIMIT","message":"x"}`} }}
	g := parked(t, x, rigOptions{})
	_, v := g.gateway("POST", exitsPath, leaving("P00001", 800, `,"native":{}`), 200)
	if v.Get("release").Bool() || v.Get("outcome").String() != "rejected" || v.Get("native.out_trade_no").String() != "P00001-N" ||
		!strings.HasPrefix(v.Get("native.code_url").String(), "weixin://") || v.Get("native.qr.png").String() != "/gateway/orders/P00001-N/qr.png" ||
		v.Get("native.amount.total").Int() != 800 || v.Get("native.state").String() != "created" {
		t.Error(v)
	}
	requests := g.wx.requests()
	if last := requests[len(requests)-1]; last.uri != nativePath || gjson.Get(last.body, "amount.total").Int() != 800 || gjson.Get(last.body, "out_trade_no").String() != "P00001-N" {
		t.Error(last.uri, last.body)
	}
	if o := g.order("P00001-N"); o.Kind != storage.OrderBasic || o.State != storage.OrderCreated {
		t.Errorf("%+v", o)
	}
	if s := g.stay(parkedID); s.Native != "P00001-N" || s.Charge != "" {
		t.Errorf("%+v", s)
	}

	// while it can be paid nothing is charged, under no number and on no path
	x.charge = nil
	charges := g.charges()
	for _, number := range []string{"P00001", "P00002"} {
		if _, v := g.gateway("POST", exitsPath, leaving(number, 800, ""), 200); v.Get("release").Bool() || v.Get("outcome").String() != "native" || v.Get("native.code_url").String() == "" {
			t.Error(number, v)
		}
	}
	g.refused("elsewhere", g.do("POST", chargePath, chargeBody("P00003", parkedID, plateNumber, 800)), 409, payops.RuleParkingCharged)
	if g.charges() != charges {
		t.Error("charged twice over")
	}
	g.setState("P00001-N", storage.OrderPaid)
	if _, v := g.gateway("POST", exitsPath, leaving("P00001", 800, ""), 200); v.Get("outcome").String() != "native" || v.Get("native.state").String() != "paid" || v.Get("native.code_url").Exists() {
		t.Error(v)
	}
	if _, v := g.gateway("GET", entriesPath+"/IN1", "", 200); v.Get("native.state").String() != "paid" {
		t.Error(v)
	}
	g.setState("P00001-N", storage.OrderClosed)
	if _, v := g.gateway("POST", exitsPath, leaving("P00002", 800, `,"native":{}`), 200); !v.Get("release").Bool() || v.Get("native").Exists() {
		t.Error(v)
	}
}

// TestExitOffersNothingUnlessItIsKnown: an unknown, failed or accepted charge gets no
// second order, nor a caller that may not make one.
func TestExitOffersNothingUnlessItIsKnown(t *testing.T) {
	callers, err := caller.New(mchid, []caller.Config{
		{Name: "lane", Token: merchant.NewSecret("all-token"), Allow: []string{"parking"}},
		{Name: "all", Token: merchant.NewSecret("every-token"), Allow: []string{"*"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	x := &gate{}
	g := parked(t, x, rigOptions{callers: callers})
	wanted := leaving("P00001", 800, `,"native":{"out_trade_no":"N00001"}`)
	g.refused("a lane", g.do("POST", exitsPath, wanted), 403, payops.RuleNotAllowed)
	g.refused("the same number", g.do("POST", exitsPath, strings.Replace(wanted, "N00001", "P00001", 1), "Authorization", "Bearer every-token"), 400, payops.RuleNumber)
	g.refused("a short number", g.do("POST", exitsPath, strings.Replace(wanted, "N00001", "N1", 1), "Authorization", "Bearer every-token"), 400, payops.RuleNumber)
	lost := func(got) reply { return reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`} }
	x.charge, x.query = lost, lost
	for _, outcome := range []string{"unknown", "failed", "accepted"} {
		if outcome != "unknown" {
			x.charge = nil
		}
		x.tradeState = map[string]string{"failed": "PAY_FAIL"}[outcome]
		if _, v := g.gateway("POST", exitsPath, wanted, 200, "Authorization", "Bearer every-token"); v.Get("outcome").String() != outcome || v.Get("native").Exists() {
			t.Error(v)
		}
	}
	for _, r := range g.wx.requests() {
		if r.uri == nativePath {
			t.Error("a native order was made")
		}
	}
	if _, v := g.gateway("POST", exitsPath, leaving("P00001", 800, ""), 200); !v.Get("release").Bool() {
		t.Error("a lane that is allowed parking alone:", v)
	}
}
