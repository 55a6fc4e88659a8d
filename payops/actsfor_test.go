package payops_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// combineOf is the body of a combine order of two sub-merchants, and subsOf the
// ledger's row of one.
func combineOf(number, one, two string) string {
	body := strings.ReplaceAll(combineBody(number), `"sub_mchid":"1900000109"`, `"sub_mchid":"`+two+`"`)
	return strings.Replace(body, `"mchid":"1900000101"`, `"mchid":"1900000101","sub_mchid":"`+one+`"`, 1)
}

func subsOf(number, one, two string) storage.Order {
	sub := func(sub, number string) storage.SubOrder {
		return storage.SubOrder{Mchid: mchid, SubMchid: sub, OutTradeNo: number, Amount: storage.Money{Total: 50, Currency: "CNY"}}
	}
	return storage.Order{
		Key: storage.OrderKey{Mchid: mchid, Number: number}, Kind: storage.OrderCombine, State: storage.OrderCreated, Origin: storage.OriginGateway,
		Merchant: "shop", Appid: appid, Amount: storage.Money{Total: 100, Currency: "CNY"}, Subs: []storage.SubOrder{sub(one, number+"-S1"), sub(two, number+"-S2")},
	}
}

// TestLimitSubMchid: what stands where the operation has its sub-merchant decides,
// and of combine orders what the ledger has; nothing is sent for others.
func TestLimitSubMchid(t *testing.T) {
	const (
		own, foreign = "1900000109", "1900000110"
		partner      = "/v3/pay/partner/transactions/"
		transfer     = `{"out_bill_no":"T1","transfer_amount":100,"openid":"o","transfer_scene_id":"1000"%s}`
		checkout     = `{"way":"native","description":"x","sub_orders":[` +
			`{"mchid":"` + mchid + `","sub_mchid":"1900000109","amount":{"total_amount":5}},` +
			`{"mchid":"` + mchid + `","sub_mchid":"1900000109","amount":{"total_amount":5}}]%s}`
	)
	const combines = "/v3/combine-transactions/out-trade-no/"
	replaced := func(body, with string) string { return strings.ReplaceAll(body, "%s", with) }
	for _, tc := range []struct {
		method, target, body string
		refused              bool
	}{
		{"POST", partner + "native", partnerBody("N20261122"), false},
		{"POST", partner + "native", strings.ReplaceAll(partnerBody("N20261122"), own, foreign), true},
		{"POST", partner + "native", strings.Replace(partnerBody("N20261122"), `"sub_mchid":"1900000109"`, `"detail":{"sub_mchid":"1900000109"}`, 1), true},
		{"POST", partner + "native?sub_mchid=" + own, strings.ReplaceAll(partnerBody("N20261122"), own, foreign), true},
		{"POST", partner + "native", strings.Replace(partnerBody("N20261122"), `"amount"`, `"detail":{"sub_mchid":"1900000110"},"amount"`, 1), false},
		{"POST", nativePath, basicBody("N20261123", "1"), true},
		{"POST", nativePath, strings.Replace(basicBody("N20261123", "1"), "{", `{"sub_mchid":"1900000109",`, 1), true},
		{"GET", basicQuery + "N20261123?sub_mchid=" + own, "", true},
		{"GET", partner + "out-trade-no/N20261122?sub_mchid=" + own, "", false},
		{"GET", partner + "out-trade-no/N20261122?sub_mchid=" + foreign, "", true},
		{"GET", partner + "out-trade-no/N20261122", "", true},
		{"GET", "/v3/certificates", "", false},

		// each sub-order of a combine order; one without a sub-merchant is the
		// merchant's own
		{"POST", combinePath, combineOf("C1", own, own), false},
		{"POST", combinePath, combineOf("C1", own, foreign), true},
		{"POST", combinePath, combineBody("C1"), true},
		{"POST", combinePath, strings.Replace(combineOf("C1", foreign, foreign), "{", `{"sub_mchid":"1900000109",`, 1), true},

		// the ledger's word about a combine order
		{"GET", combines + "OWNCART", "", false},
		{"GET", combines + "OTHERCART", "", true},
		{"GET", combines + "OTHERCART?sub_mchid=" + own, "", true},
		{"GET", combines + "UNKNOWNCART?sub_mchid=" + own, "", true},
		{"GET", combines + "LIEDCART", "", true}, // the answer names others
		{"POST", combines + "OWNCART/close", "", false},
		{"POST", combines + "OTHERCART/close", `{"sub_mchid":"1900000109"}`, true},
		{"POST", combines + "UNKNOWNCART/close", `{"sub_orders":[{"mchid":"` + mchid + `","sub_mchid":"1900000109","out_trade_no":"U-S1"}]}`, true},

		// the path's own, and operations that have none
		{"GET", "/v3/global/refund/partner/recharge-balance/sub-mchid/1900000108", "", true},
		{"GET", "/v3/global/refund/partner/recharge-balance/sub-mchid/1900000109", "", false},
		{"GET", "/v3/global/refund/partner/recharge-balance/sub-mchid/1900000108?sub_mchid=" + own, "", true},
		{"POST", "/v3/fund-app/mch-transfer/transfer-bills", replaced(transfer, `,"sub_mchid":"1900000109"`), true},
		{"POST", "/v3/fund-app/mch-transfer/transfer-bills", replaced(transfer, `,"scene":{"sub_mchid":"1900000109"}`), true},
		{"POST", "/v3/fund-app/mch-transfer/partner/transfer-bills", replaced(transfer, `,"sub_mchid":"1900000109"`), false},
		{"POST", "/v3/marketing/favor/coupon-stocks", `{"a":[{"sub_mchid":"1900000109"}],"sub_mchid":"1900000109"}`, true},
		{"POST", "/v3/new-product/things", `{"sub_mchid":"1900000109"}`, true},

		// the gateway's own resources
		{"GET", "/gateway/orders/N20261199?sub_mchid=" + own, "", false},
		{"GET", "/gateway/orders/N20261199?sub_mchid=" + foreign, "", true},
		{"GET", "/gateway/orders/OWNCART", "", false},
		{"GET", "/gateway/orders/OTHERCART", "", true},
		{"GET", "/gateway/orders/OTHERCART-S1?sub_mchid=" + own, "", true}, // shows the whole of it
		{"GET", "/gateway/orders/UNKNOWNCART", "", true},
		{"POST", "/gateway/orders/OTHERCART/close", "", true},
		{"POST", "/gateway/orders/OTHERCART/refunds", `{"out_refund_no":"R1","amount":{"refund":1},"sub_mchid":"1900000109"}`, true},
		{"POST", "/gateway/refunds", `{"out_trade_no":"OTHERCART-S2","out_refund_no":"R1","amount":{"refund":1},"x":{"sub_mchid":"1900000109"}}`, true},
		{"POST", "/gateway/checkout", replaced(checkout, ""), false},
		{"POST", "/gateway/checkout", replaced(checkout, `,"replaces":"OTHERCART"`), true},
		{"POST", "/gateway/checkout", replaced(checkout, `,"replaces":"UNKNOWNCART"`), true},
		{"POST", "/gateway/checkout", `{"way":"native","description":"x","amount":{"total":1},"scene_info":{"sub_mchid":"1900000109"}}`, true},
		{"PUT", "/gateway/orders/OTHERCART", `{"sub_orders":[{"mchid":"` + mchid + `","sub_mchid":"1900000109","out_trade_no":"P-S1","amount":{"total_amount":5}}]}`, true},
		{"PUT", "/gateway/orders/NEWCART", `{"sub_orders":[{"mchid":"` + mchid + `","sub_mchid":"1900000109","out_trade_no":"P-S1","amount":{"total_amount":5}}]}`, false},
	} {
		g := newRig(t, rigOptions{
			limits: map[string]guard.Limit{"all": {SubMchids: []string{own}}},
			answer: func(x got) reply {
				if strings.Contains(x.uri, "LIEDCART") {
					return reply{status: 200, body: `{"combine_mchid":"` + mchid + `","combine_out_trade_no":"LIEDCART","sub_orders":[{"sub_mchid":"1900000109"},{"sub_mchid":"1900000110"}]}`}
				}
				if x.method == "GET" && strings.Contains(x.uri, "CART") {
					return reply{status: 200, body: `{"combine_mchid":"` + mchid + `","combine_out_trade_no":"OWNCART","sub_orders":[{"sub_mchid":"1900000109"}]}`}
				}
				return codeURL(x)
			},
		})
		for _, o := range []storage.Order{
			subsOf("OWNCART", own, own), subsOf("OTHERCART", own, foreign), subsOf("LIEDCART", own, own),
			{Key: storage.OrderKey{Mchid: mchid, SubMchid: own, Number: "N20261199"}, Kind: storage.OrderPartner, State: storage.OrderCreated, Merchant: "shop"},
		} {
			put(t, g.ledger, o)
		}
		r := g.do(tc.method, tc.target, tc.body)
		name := tc.method + " " + tc.target + " " + tc.body
		if !tc.refused {
			if r.StatusCode != 200 && r.StatusCode != 201 {
				t.Errorf("%s: %d %s", name, r.StatusCode, text(t, r))
			}
			continue
		}
		g.refused(name, r, 403, payops.Rule(guard.LimitSubMchid))
		if sent := len(g.wx.requests()); sent > 0 && !strings.Contains(tc.target, "LIEDCART") {
			t.Errorf("%s: %d requests were sent", name, sent)
		}
	}
	g := newRig(t, rigOptions{limits: map[string]guard.Limit{"all": {SubMchids: []string{own}}}})
	g.refused("a number", g.do("POST", partner+"native", `{"sub_mchid":1900000109}`), 400, payops.RuleBody)
	g.refused("twice", g.do("GET", partner+"out-trade-no/N20261122?sub_mchid=1900000109&sub_mchid=1900000110", ""), 400, payops.RulePath)
}
