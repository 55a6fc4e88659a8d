package payops_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const uncheckedHeader = "Wechatpay-Gateway-Rule-Unchecked"

// TestProfitSharingTooEarly: money is shared a minute after its payment, by what
// the ledger knows or what WeChat Pay says when it is asked.
func TestProfitSharingTooEarly(t *testing.T) {
	tooEarly := payops.Rule(guard.SharingTooEarly)
	order := func(paidFor time.Duration) storage.Order {
		o := paidOrder("N20261122")
		o.PaidAt = time.Now().Add(-paidFor)
		return o
	}
	g := newRig(t, rigOptions{})
	put(t, g.ledger, order(57*time.Second))
	for name, target := range map[string]string{
		"direct": sharingPath, "brand": "/v3/brand/profitsharing/orders", "ecommerce": "/v3/ecommerce/profitsharing/orders", "global": "/v3/global/profit-sharing/orders",
	} {
		r := g.do("POST", target, sharingBody("S1", "42n20261122"))
		retryAfter(t, r, 3)
		g.refused(name, r, 429, tooEarly)
	}
	if len(g.wx.requests()) != 0 || len(g.ledger.allCalls()) != 0 {
		t.Error("something was sent or written")
	}
	// What shares nothing waits for nothing.
	if r := g.do("POST", sharingPath+"/unfreeze", `{"out_order_no":"S2","transaction_id":"42n20261122"}`); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	g.offset = 3 * time.Second
	if r := g.do("POST", sharingPath, sharingBody("S1", "42n20261122")); r.StatusCode != 200 || r.Header.Get(uncheckedHeader) != "" {
		t.Error(r.StatusCode, text(t, r))
	}

	// A sub-order of a combine order.
	g = newRig(t, rigOptions{})
	o := order(30 * time.Second)
	o.Kind, o.TransactionID = storage.OrderCombine, ""
	o.Subs = []storage.SubOrder{{Mchid: "1900000101", OutTradeNo: "S1", TransactionID: "4301"}, {Mchid: "1900000102", OutTradeNo: "S2", TransactionID: "4302"}}
	put(t, g.ledger, o)
	g.refused("a sub-order", g.do("POST", sharingPath, sharingBody("S1", "4302")), 429, tooEarly)

	// Off: nobody looks, and nobody asks.
	g = newRig(t, rigOptions{rules: policy(t, "off profitsharing_too_early")})
	if r := g.do("POST", sharingPath, sharingBody("S1", "77")); r.StatusCode != 200 || len(g.wx.requests()) != 1 || r.Header.Get(uncheckedHeader) != "" {
		t.Error(r.StatusCode, len(g.wx.requests()))
	}
	g = newRig(t, rigOptions{rules: policy(t, "warn profitsharing_too_early")})
	put(t, g.ledger, order(0))
	if r := g.do("POST", sharingPath, sharingBody("S1", "42n20261122")); r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != string(tooEarly) {
		t.Error(r.StatusCode, r.Header)
	}
}

// TestProfitSharingAsks: what the ledger does not know is asked for, signed, and
// named as unchecked when the answer does not tell.
func TestProfitSharingAsks(t *testing.T) {
	at := func(ago time.Duration) string { return time.Now().Add(-ago).Format(time.RFC3339) }
	for name, tc := range map[string]struct {
		sub       string
		target    string
		answer    reply
		status    int
		unchecked string
	}{
		"paid long ago": {"", "/v3/pay/transactions/id/77?mchid=" + mchid, reply{status: 200, body: `{"mchid":"` + mchid + `","out_trade_no":"N20261122","transaction_id":"77","trade_state":"SUCCESS","success_time":"` + at(time.Hour) + `"}`}, 200, ""},
		"paid just now": {"", "/v3/pay/transactions/id/77?mchid=" + mchid, reply{status: 200, body: `{"mchid":"` + mchid + `","out_trade_no":"N20261122","transaction_id":"77","trade_state":"SUCCESS","success_time":"` + at(0) + `"}`}, 429, ""},
		"a partner's": {"1900000109", "/v3/pay/partner/transactions/id/77?sp_mchid=" + mchid + "&sub_mchid=1900000109",
			reply{status: 200, body: `{"sp_mchid":"` + mchid + `","sub_mchid":"1900000109","out_trade_no":"N20261122","transaction_id":"77","trade_state":"SUCCESS","success_time":"` + at(0) + `"}`}, 429, ""},
		"not known":      {"", "", reply{status: 404, body: `{"code":"ORDER_NOT_EXIST"}`}, 200, "profitsharing_too_early"},
		"unsigned":       {"", "", reply{status: 200, body: `{"mchid":"` + mchid + `","out_trade_no":"N20261122","transaction_id":"77","trade_state":"SUCCESS","success_time":"` + at(0) + `"}`, sign: "none"}, 200, "profitsharing_too_early"},
		"another number": {"", "", reply{status: 200, body: `{"mchid":"` + mchid + `","out_trade_no":"N20261122","transaction_id":"78","trade_state":"SUCCESS","success_time":"` + at(0) + `"}`}, 200, "profitsharing_too_early"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: func(x got) reply {
				if x.method == "GET" {
					if tc.target != "" && x.uri != tc.target {
						t.Errorf("asked %s", x.uri)
					}
					return tc.answer
				}
				return reply{status: 200, body: `{}`}
			}})
			body := sharingBody("S1", "77")
			if tc.sub != "" {
				body = strings.Replace(body, "{", `{"sub_mchid":"`+tc.sub+`",`, 1)
			}
			r := g.do("POST", sharingPath, body)
			if r.StatusCode != tc.status || r.Header.Get(uncheckedHeader) != tc.unchecked {
				t.Error(r.StatusCode, r.Header.Get(uncheckedHeader), text(t, r))
			}
		})
	}

	// An order of the ledger that nobody has called paid yet: the answer is kept.
	g := newRig(t, rigOptions{answer: func(x got) reply {
		return reply{status: 200, body: `{"mchid":"` + mchid + `","appid":"` + appid + `","out_trade_no":"N20261122","transaction_id":"42n20261122","trade_state":"SUCCESS","amount":{"total":100,"currency":"CNY"},"payer":{"openid":"o1"},"success_time":"` + at(0) + `"}`}
	}})
	o := paidOrder("N20261122")
	o.State, o.PaidAt, o.Appid = storage.OrderCreated, time.Time{}, appid
	put(t, g.ledger, o)
	g.refused("paid just now", g.do("POST", sharingPath, sharingBody("S1", "42n20261122")), 429, payops.Rule(guard.SharingTooEarly))
	if o := g.order("N20261122"); o.State != storage.OrderPaid || o.PaidAt.IsZero() || o.Payer != storage.PayerDigest(appid, "o1") {
		t.Errorf("%+v", o)
	}
}
