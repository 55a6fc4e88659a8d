package payops_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// byTransaction is a refund of N20261122 that names it by transaction_id alone.
func byTransaction(number string, amount int) string {
	return strings.Replace(refundBody("N20261122", number, amount), `"out_trade_no":"N20261122"`, `"transaction_id":"42n20261122"`, 1)
}

// TestRefundByTheOtherName: what was refunded by a transaction_id while nobody told
// whose it is counts against the order of the ledger that turns out to have it.
func TestRefundByTheOtherName(t *testing.T) {
	apply := refuses(500)
	g := newRig(t, rigOptions{now: atNoon, limits: map[string]guard.Limit{"all": {}}, answer: func(x got) reply {
		switch {
		case x.method == "POST":
			return apply(x)
		case strings.Contains(x.uri, "/id/"):
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`}
		}
		return reply{status: 200, body: `{"mchid":"` + mchid + `","appid":"` + appid + `","out_trade_no":"N20261122","transaction_id":"42n20261122",` +
			`"trade_state":"SUCCESS","success_time":"2026-11-22T11:00:00+08:00","amount":{"total":100,"currency":"CNY"}}`}
	}})
	o := paidToday("N20261122")
	o.State, o.TransactionID, o.PaidAt = storage.OrderCreated, "", time.Time{}
	put(t, g.ledger, o)
	if r := g.do("POST", refundPath, byTransaction("T1", 40)); r.StatusCode != 500 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	apply = takesRefunds("PROCESSING")
	g.offset = time.Hour
	g.refused("one is open", g.do("POST", refundPath, refundBody("N20261122", "T2", 30)), 409, payops.Rule(guard.RefundSameNumber))
	if r := g.do("POST", refundPath, byTransaction("T1", 40)); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	g.offset = 2 * time.Hour
	g.refused("more than is left", g.do("POST", refundPath, refundBody("N20261122", "T2", 61)), 409, payops.Rule(guard.RefundTotal))
	if r := g.do("POST", refundPath, refundBody("N20261122", "T2", 60)); r.StatusCode != 200 {
		t.Error(r.StatusCode, text(t, r))
	}
}

// TestRefundByTransaction: the rules and limits hold for the refunds of a payment
// that the ledger does not know under its transaction_id: because it has not
// learned it yet, because it does not have the order, and where WeChat Pay tells
// nothing, either.
func TestRefundByTransaction(t *testing.T) {
	for _, tc := range []struct {
		name         string
		listed, told bool
	}{{"not learned", true, true}, {"unlisted", false, true}, {"not told", false, false}} {
		t.Run(tc.name, func(t *testing.T) {
			apply, status := refuses(500), "CLOSED"
			g := newRig(t, rigOptions{
				now: atNoon, limits: map[string]guard.Limit{"refunder": {RefundPerOrder: 50}},
				answer: func(x got) reply {
					switch {
					case x.method == "POST":
						return apply(x)
					case strings.HasPrefix(x.uri, refundPath):
						return refundAnswer("T1", "N20261122", status, 30)
					case !tc.told:
						return reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`}
					}
					return reply{status: 200, body: `{"mchid":"` + mchid + `","appid":"` + appid + `","out_trade_no":"N20261122","transaction_id":"42n20261122",` +
						`"trade_state":"SUCCESS","success_time":"2026-11-22T11:00:00+08:00","amount":{"total":100,"currency":"CNY"}}`}
				},
			})
			if tc.listed {
				o := paidToday("N20261122")
				o.State, o.TransactionID, o.PaidAt = storage.OrderCreated, "", time.Time{}
				put(t, g.ledger, o)
			}
			refund := func(number string, amount int, headers ...string) *http.Response {
				return g.do("POST", refundPath, byTransaction(number, amount), headers...)
			}
			const caller = "Authorization"
			if r := refund("T1", 30); r.StatusCode != 500 {
				t.Fatal(r.StatusCode, text(t, r))
			}
			apply = takesRefunds("PROCESSING")
			g.offset = time.Hour
			g.refused("one is open", refund("T2", 30), 409, payops.Rule(guard.RefundSameNumber))
			if r := refund("T1", 30); r.StatusCode != 200 {
				t.Fatal(r.StatusCode, text(t, r))
			}
			g.refused("within a minute", refund("T2", 30), 429, payops.Rule(guard.RefundInterval))
			g.offset = 2 * time.Hour
			g.refused("more than is left", refund("T2", 71), 409, payops.Rule(guard.RefundTotal))
			g.refused("beyond a limit", refund("T2", 21, caller, "Bearer refund-token"), 403, payops.Rule(guard.LimitRefundPerOrder))
			r := refund("T2", 20, caller, "Bearer refund-token")
			if tc.told && r.StatusCode != 200 {
				t.Error(r.StatusCode, text(t, r))
			} else if !tc.told {
				g.refused("nobody tells which payment it is", r, 403, payops.Rule(guard.LimitRefundPerOrder))
				refund("T2", 20)
			}
			if row := g.refundRow("T2"); (row.Tally == "") != tc.listed || row.State != storage.RefundProcessing {
				t.Errorf("%+v", row)
			}
			if tc.listed {
				g.reserved("N20261122", 50, 2)
				if o := g.order("N20261122"); o.TransactionID != "42n20261122" || o.State != storage.OrderPaid {
					t.Errorf("%+v", o)
				}
			}
			g.do("GET", refundPath+"/T1", "") // closed: its 30 are free
			g.offset = 3 * time.Hour
			g.refused("more than is left after that", refund("T3", 81), 409, payops.Rule(guard.RefundTotal))
			if r := refund("T3", 80); r.StatusCode != 200 {
				t.Error(r.StatusCode, text(t, r))
			}
			if !tc.listed { // what was refunded before counts once the order is listed
				put(t, g.ledger, paidToday("N20261122"))
				g.offset = 4 * time.Hour
				g.refused("listed since", g.do("POST", refundPath, refundBody("N20261122", "T4", 1)), 409, payops.Rule(guard.RefundTotal))
				if r := g.do("POST", refundPath, refundBody("N20261122", "T3", 80)); r.StatusCode != 200 {
					t.Error("a repeat by its other name:", r.StatusCode, text(t, r))
				}
				g.reserved("N20261122", 0, 0)
			}
		})
	}
}

// TestRefundOfASubOrderByTransaction: neither the ledger nor a query tells whose
// transaction_id it is; its refunds are counted all the same, and go on to count
// when the callback has told.
func TestRefundOfASubOrderByTransaction(t *testing.T) {
	g := newRig(t, rigOptions{now: atNoon, answer: takesRefunds("PROCESSING")})
	o := paidToday("C1")
	o.Kind, o.TransactionID, o.Amount.Total = storage.OrderCombine, "", 200
	for _, n := range []string{"N20261122", "S2"} {
		o.Subs = append(o.Subs, storage.SubOrder{Mchid: mchid, OutTradeNo: n, Amount: storage.Money{Total: 100, Currency: "CNY"}})
	}
	put(t, g.ledger, o)
	if r := g.do("POST", refundPath, byTransaction("T1", 60)); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	g.offset = time.Hour
	g.refused("more than is left", g.do("POST", refundPath, byTransaction("T2", 60)), 409, payops.Rule(guard.RefundTotal))
	o = g.order("C1")
	o.Subs[0].TransactionID = "42n20261122"
	put(t, g.ledger, o)
	g.refused("more than is left, by its number", g.do("POST", refundPath, refundBody("N20261122", "T2", 60)), 409, payops.Rule(guard.RefundTotal))
	if r := g.do("POST", refundPath, refundBody("N20261122", "T2", 40)); r.StatusCode != 200 {
		t.Error(r.StatusCode, text(t, r))
	}
	g.reserved("C1", 40, 1)
}

// TestDamagedTally: who cannot count refunds nothing.
func TestDamagedTally(t *testing.T) {
	g := newRig(t, rigOptions{now: atNoon, answer: takesRefunds("PROCESSING")})
	put(t, g.ledger, paidToday("N20261122"))
	key := (&storage.Refund{Key: storage.RefundKey{Mchid: mchid}, TransactionID: "42n20261122"}).Tallies()[0]
	g.ledger.memos[key] = storage.Memo{Key: key, Data: []byte("-1"), Expires: noon.Add(time.Minute)}
	g.refused(key, g.do("POST", refundPath, refundBody("N20261122", "R1", 30)), 503, payops.RuleStore)
	if len(g.wx.requests()) != 0 || len(g.ledger.allCalls()) != 0 {
		t.Error("something was sent or written")
	}
}
