package payops_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// TestNumberInUse: a rejection that says that WeChat Pay has the number frees it for
// nobody; every other one does.
func TestNumberInUse(t *testing.T) {
	for _, tc := range []struct {
		status        int
		code, message string
		state         storage.OrderState
	}{
		{403, "OUT_TRADE_NO_USED", "商户订单号重复", storage.OrderUnknown},
		{400, "ORDERPAID", "该订单已支付", storage.OrderUnknown},
		{400, "ORDER_CLOSED", "订单已关闭", storage.OrderUnknown},
		{400, "INVALID_REQUEST", "201 商户订单号重复", storage.OrderUnknown},
		{400, "INVALID_REQUEST", "该订单已支付", storage.OrderUnknown},
		{400, "INVALID_REQUEST", "此商家的收款功能已被限制", storage.OrderRejected},
		{400, "PARAM_ERROR", "商户订单号重复", storage.OrderRejected},
		{403, "NO_AUTH", "x", storage.OrderRejected},
	} {
		answer := reply{status: tc.status, body: fmt.Sprintf(`{"code":%q,"message":%q}`, tc.code, tc.message)}
		for path, body := range map[string]string{nativePath: basicBody("N20261122", "100"), combinePath: combineBody("N20261122")} {
			g := newRig(t, rigOptions{answer: func(got) reply { return answer }})
			r := g.do("POST", path, body)
			if r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Outcome") != "" {
				t.Error(tc, path, r.StatusCode, r.Header)
			}
			if o := g.order("N20261122"); o.State != tc.state {
				t.Error(tc, path, o.State)
			}
		}
		// What a backend registered was made elsewhere, and stands.
		g := newRig(t, rigOptions{answer: func(got) reply { return answer }})
		g.do("PUT", ordersPath+"N20261122", `{"amount":{"total":100}}`)
		g.do("POST", nativePath, basicBody("N20261122", "100"))
		if o := g.order("N20261122"); o.State != storage.OrderRegistered {
			t.Error(tc, o.State)
		}
	}
}

// TestReplaceRejected: a rejected order is replaced when WeChat Pay has none under its
// number, and not because the ledger says so.
func TestReplaceRejected(t *testing.T) {
	for _, tc := range []struct {
		name   string
		life   life
		total  int // of the ledger's order
		status int
		rule   string
		state  storage.OrderState
		closes int
	}{
		{"absent", life{}, 100, 201, "", storage.OrderRejected, 0},
		{"paid", life{state: "SUCCESS"}, 100, 409, "replaced_paid", storage.OrderPaid, 0},
		{"open", life{state: "NOTPAY"}, 100, 201, "", storage.OrderClosed, 1},
		{"closed", life{state: "CLOSED"}, 100, 201, "", storage.OrderClosed, 0},
		{"no answer", life{query: &reply{status: 500}}, 100, 502, "unreachable", storage.OrderRejected, 0},
		{"another one, open", life{state: "NOTPAY"}, 7, 201, "", storage.OrderClosed, 1},
		{"another one, paid", life{state: "SUCCESS", close: reply{status: 400, body: `{"code":"ORDERPAID","message":"x"}`}}, 7, 400, "", storage.OrderRejected, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := tc.life
			g := newRig(t, rigOptions{answer: l.answer})
			order := storage.Order{
				Key: storage.OrderKey{Mchid: mchid, Number: "N20261121"}, Kind: storage.OrderBasic, State: storage.OrderRejected, Appid: appid,
				Amount: storage.Money{Total: storage.Fen(tc.total), Currency: "CNY"}, CreatedAt: time.Now().Add(-6 * time.Minute),
			}
			g.orderIn(order)
			r := g.do("POST", checkoutPath, newCheckout)
			if r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Refused") != tc.rule || l.closes != tc.closes || l.queries == 0 {
				t.Errorf("%d %v %s, %+v", r.StatusCode, r.Header, text(t, r), l)
			}
			if o := g.order("N20261121"); o.State != tc.state {
				t.Errorf("%+v", o)
			}
			_, made := g.ledger.orders[storage.OrderKey{Mchid: mchid, Number: "N20261122"}]
			if made != (tc.status == 201) {
				t.Error("the new order", made)
			}

			// The close of one asks as well.
			l = tc.life
			g.orderIn(order)
			r = g.do("POST", ordersPath+closePath, "")
			want := map[string]int{"replaced_paid": 409, "unreachable": 502}[tc.rule]
			switch {
			case tc.status == 201:
				want = 200
			case tc.status == 400:
				want = 400
			}
			if state := gjson.Get(text(t, r), "state").String(); r.StatusCode != want || want == 200 && state != string(tc.state) || l.queries == 0 {
				t.Error("close", r.StatusCode, state, l)
			}
		})
	}
}

// TestSandboxForgotten: an order that WeChat Pay has and the ledger does not is not
// paid for twice.
func TestSandboxForgotten(t *testing.T) {
	s := newInSandbox(t, sandbox.PublicKeyMode)
	s.do("POST", checkoutPath, oldCheckout, http.StatusCreated)
	s.ledger = storagetest.NewModel(nil)
	s.open()
	s.do("POST", checkoutPath, strings.Replace(oldCheckout, "100", "101", 1), http.StatusForbidden)
	s.state("N20261121", storage.OrderUnknown)
	if _, err := s.platform.Pay("N20261121", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	s.do("POST", checkoutPath, newCheckout, http.StatusConflict)
	s.do("GET", "/v3/pay/transactions/out-trade-no/N20261122?mchid="+mchid, "", http.StatusNotFound)
}
