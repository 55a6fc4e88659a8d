package payops_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// life is a WeChat Pay that knows one order: how it answers creates, queries and
// closes.
type life struct {
	state        string // trade_state of queries; "" means that there is no such order
	close        reply  // default: 204
	query        *reply // instead of one made from state
	afterClose   string // the state after a close was asked for; "" leaves it
	queries      int
	closes       int
	closedBodies []string
}

func (l *life) answer(g got) reply {
	path := strings.Split(g.uri, "?")[0]
	switch {
	case strings.HasSuffix(path, "/close"):
		l.closes++
		l.closedBodies = append(l.closedBodies, path+" "+g.body)
		if l.afterClose != "" {
			l.state = l.afterClose
		}
		if l.close.status == 0 {
			return reply{status: 204}
		}
		return l.close
	case g.method == http.MethodGet:
		l.queries++
		if l.query != nil {
			return *l.query
		}
		number := path[strings.LastIndexByte(path, '/')+1:]
		switch {
		case l.state == "":
			return reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"订单不存在"}`}
		case strings.Contains(path, "/combine-transactions/"):
			return reply{status: 200, body: fmt.Sprintf(`{"combine_appid":%q,"combine_mchid":%q,"combine_out_trade_no":%q,"sub_orders":[{"mchid":%[2]q,"out_trade_no":"S00001","trade_state":%[4]q},{"mchid":%[2]q,"out_trade_no":"S00002","trade_state":%[4]q}]}`,
				appid, mchid, number, l.state)}
		case strings.Contains(path, "/partner/"):
			return reply{status: 200, body: fmt.Sprintf(`{"sp_appid":%q,"sp_mchid":%q,"sub_mchid":"1900000109","out_trade_no":%q,"trade_state":%q}`, appid, mchid, number, l.state)}
		}
		return reply{status: 200, body: fmt.Sprintf(`{"appid":%q,"mchid":%q,"out_trade_no":%q,"trade_state":%q,"transaction_id":"4200000001","success_time":"2026-11-22T18:27:34+08:00","amount":{"total":100,"currency":"CNY"}}`,
			appid, mchid, number, l.state)}
	}
	return openings(g)
}

const (
	oldCheckout = `{"way":"native","description":"x","out_trade_no":"N20261121","amount":{"total":100}}`
	newCheckout = `{"way":"native","description":"y","out_trade_no":"N20261122","amount":{"total":100},"replaces":"N20261121"}`
)

// TestReplaceYoung: an order of less than five minutes is kept for the same
// money, and stands against other money.
func TestReplaceYoung(t *testing.T) {
	for _, tc := range []struct {
		name, old, next string
		kept            string // what the answer holds of the old one; "" for 409
	}{
		{"native", oldCheckout, newCheckout, "code_url"},
		{"other money", oldCheckout, strings.Replace(newCheckout, "100", "101", 1), ""},
		{"other currency", oldCheckout, strings.Replace(newCheckout, "100", `100,"currency":"USD"`, 1), ""},
		{"other way", oldCheckout, strings.Replace(newCheckout, "native", "app", 1), ""},
		{"other appid", oldCheckout, strings.Replace(newCheckout, `"way"`, `"appid":"`+miniAppid+`","way"`, 1), ""},
		{"now combined", oldCheckout, strings.Replace(newCheckout, `"amount":{"total":100}`, `"sub_orders":[{"amount":{"total_amount":50}},{"amount":{"total_amount":50}}]`, 1), ""},
		{"app", strings.Replace(oldCheckout, "native", "app", 1), strings.Replace(newCheckout, "native", "app", 1), "invoke.sign"},
		{"h5", strings.Replace(oldCheckout, `native"`, `h5","payer_client_ip":"1.2.3.4"`, 1), strings.Replace(newCheckout, `native"`, `h5","payer_client_ip":"1.2.3.5"`, 1), "h5_url"},
		{"jsapi", strings.Replace(oldCheckout, `native"`, `jsapi","openid":"o1"`, 1), strings.Replace(newCheckout, `native"`, `jsapi","openid":"o1"`, 1), "invoke.paySign"},
		{"another payer", strings.Replace(oldCheckout, `native"`, `jsapi","openid":"o1"`, 1), strings.Replace(newCheckout, `native"`, `jsapi","openid":"o2"`, 1), ""},
		{
			"combined",
			`{"way":"native","description":"x","out_trade_no":"N20261121","sub_orders":[{"out_trade_no":"S00001","amount":{"total_amount":40}},{"out_trade_no":"S00002","amount":{"total_amount":60}}]}`,
			`{"way":"native","description":"x","out_trade_no":"N20261122","replaces":"N20261121","sub_orders":[{"amount":{"total_amount":60}},{"amount":{"total_amount":40}}]}`,
			"code_url",
		},
		{
			"shared out otherwise",
			`{"way":"native","description":"x","out_trade_no":"N20261121","sub_orders":[{"out_trade_no":"S00001","amount":{"total_amount":40}},{"out_trade_no":"S00002","amount":{"total_amount":60}}]}`,
			`{"way":"native","description":"x","out_trade_no":"N20261122","replaces":"N20261121","sub_orders":[{"amount":{"total_amount":50}},{"amount":{"total_amount":50}}]}`,
			"",
		},
		{
			"partner",
			strings.Replace(oldCheckout, `"way"`, `"sub_mchid":"1900000109","way"`, 1), strings.Replace(newCheckout, `"way"`, `"sub_mchid":"1900000109","way"`, 1), "code_url",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &life{state: "NOTPAY"}
			g := newRig(t, rigOptions{answer: l.answer})
			_, old := g.checkout(tc.old, 201)
			if tc.kept == "" {
				g.offset = 90 * time.Second
				r := g.do("POST", checkoutPath, tc.next, "Idempotency-Key", "k")
				if wait := r.Header.Get("Retry-After"); wait != "210" && wait != "209" {
					t.Error(wait)
				}
				g.refused("", r, 409, "close_too_early")
				// When the time has come, the same request goes on.
				g.offset = 5*time.Minute + time.Second
				h, view := g.checkout(tc.next, 201, "Idempotency-Key", "k")
				if view.Get("replaced.state").String() != "closed" || h.Get("Idempotency-Replayed") != "" || l.closes != 1 {
					t.Error(view, l.closes)
				}
				return
			}
			g.offset = 4*time.Minute + 59*time.Second
			_, view := g.checkout(tc.next, 200)
			if view.Get("out_trade_no").String() != "N20261121" || !view.Get("reused").Bool() || !view.Get(tc.kept).Exists() ||
				tc.kept == "code_url" && view.Get("code_url").String() != old.Get("code_url").String() ||
				view.Get("prepay_id").String() != old.Get("prepay_id").String() || view.Get("h5_url").String() != old.Get("h5_url").String() {
				t.Error(view)
			}
			if l.closes != 0 || l.queries != 1 {
				t.Errorf("%+v", l)
			}
			g.offset = 5*time.Minute + time.Second
			if _, view = g.checkout(tc.next, 201); view.Get("out_trade_no").String() != "N20261122" || view.Get("replaced.out_trade_no").String() != "N20261121" ||
				view.Get("replaced.state").String() != "closed" || l.closes != 1 {
				t.Error(view)
			}
		})
	}
}

// TestReplace: what becomes of an order that may be closed.
func TestReplace(t *testing.T) {
	for _, tc := range []struct {
		name   string
		life   life
		status int
		rule   string
		closes int
		state  storage.OrderState // of the old order
	}{
		{"open", life{state: "NOTPAY"}, 201, "", 1, storage.OrderClosed},
		{"paid", life{state: "SUCCESS"}, 409, "replaced_paid", 0, storage.OrderPaid},
		{"closed", life{state: "CLOSED"}, 201, "", 0, storage.OrderClosed},
		{"paid in between", life{state: "NOTPAY", afterClose: "SUCCESS", close: reply{status: 400, body: `{"code":"ORDERPAID","message":"订单已支付"}`}}, 409, "replaced_paid", 1, storage.OrderPaid},
		{"closed in between", life{state: "NOTPAY", afterClose: "CLOSED", close: reply{status: 400, body: `{"code":"ORDER_CLOSED","message":"订单已关闭"}`}}, 201, "", 1, storage.OrderClosed},
		{"close lost, done", life{state: "NOTPAY", afterClose: "CLOSED", close: reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}}, 201, "", 1, storage.OrderClosed},
		{"close lost, not done", life{state: "NOTPAY", close: reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}}, 500, "", 1, storage.OrderCreated},
		{"close refused", life{state: "NOTPAY", close: reply{status: 429, body: `{"code":"FREQUENCY_LIMITED"}`}}, 429, "", 1, storage.OrderCreated},
		{"no answer", life{query: &reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}}, 502, "unreachable", 0, storage.OrderCreated},
		{"no proof", life{query: &reply{status: 200, body: `{"trade_state":"CLOSED"}`, sign: "bad"}}, 502, "unreachable", 0, storage.OrderCreated},
		{"unknown to WeChat Pay", life{}, 409, "close_too_early", 0, storage.OrderCreated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := tc.life
			g := newRig(t, rigOptions{answer: l.answer})
			g.checkout(oldCheckout, 201)
			g.offset = 5*time.Minute + time.Second
			r := g.do("POST", checkoutPath, newCheckout)
			body := text(t, r)
			if r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Refused") != tc.rule || l.closes != tc.closes {
				t.Errorf("%d %v %s, %d closes", r.StatusCode, r.Header, body, l.closes)
			}
			if o := g.order("N20261121"); o.State != tc.state {
				t.Errorf("%+v", o)
			}
			_, made := g.ledger.orders[storage.OrderKey{Mchid: mchid, Number: "N20261122"}]
			if made != (tc.status == 201) {
				t.Error("the new order", made)
			}
			if tc.rule == "replaced_paid" && (gjson.Get(body, "code").String() != "ORDERPAID" || gjson.Get(body, "detail.order.state").String() != "paid" ||
				gjson.Get(body, "detail.order.transaction_id").String() != "4200000001") {
				t.Error(body)
			}
		})
	}
}

func TestReplaceOthers(t *testing.T) {
	l := &life{state: "NOTPAY"}
	g := newRig(t, rigOptions{answer: l.answer})
	put := func(number string, state storage.OrderState, origin storage.OrderOrigin, subs ...storage.SubOrder) {
		kind := storage.OrderBasic
		if subs != nil {
			kind = storage.OrderCombine
		}
		g.orderIn(storage.Order{Key: storage.OrderKey{Mchid: mchid, Number: number}, Kind: kind, State: state, Origin: origin, Appid: appid, Amount: storage.Money{Total: 100, Currency: "CNY"}, Subs: subs})
	}
	replacing := func(number string) *http.Response {
		return g.do("POST", checkoutPath, `{"way":"native","description":"x","amount":{"total":7},"replaces":"`+number+`"}`)
	}
	put("CLOSED", storage.OrderClosed, "")
	put("REGISTERED", storage.OrderRegistered, storage.OriginRegistered)
	put("PAID00", storage.OrderPaid, "")
	put("COMBINED", storage.OrderCreated, "", storage.SubOrder{Mchid: mchid, OutTradeNo: "S00001"}, storage.SubOrder{Mchid: mchid, OutTradeNo: "S00002"})
	for number, want := range map[string]string{"CLOSED": "closed", "REGISTERED": "closed"} {
		r := replacing(number)
		if body := text(t, r); r.StatusCode != 201 || gjson.Get(body, "replaced.state").String() != want {
			t.Error(number, r.StatusCode, body)
		}
	}
	g.refused("paid", replacing("PAID00"), 409, "replaced_paid")
	g.refused("a sub-order", replacing("S00001"), 409, "combine_only")
	g.refused("combined", replacing("COMBINED"), 409, "close_too_early")
	other := g.ledger.orders[storage.OrderKey{Mchid: mchid, Number: "CLOSED"}]
	other.Merchant, other.Key.Number = "elsewhere", "FOREIGN"
	g.ledger.orders[other.Key] = other
	g.refused("another block's", replacing("FOREIGN"), 404, "order_not_found")
	// Registered, and WeChat Pay has none: there is nothing to close.
	l.state = ""
	put("NOWHERE", storage.OrderRegistered, storage.OriginRegistered)
	if r := replacing("NOWHERE"); r.StatusCode != 201 {
		t.Error(r.StatusCode, text(t, r))
	}
}

const closePath = "N20261121/close"

// TestCloseResource: closing an order that is old enough.
func TestCloseResource(t *testing.T) {
	for _, tc := range []struct {
		name   string
		life   life
		status int
		rule   string
		state  storage.OrderState
	}{
		{"open", life{state: "NOTPAY"}, 200, "", storage.OrderClosed},
		{"paid", life{state: "SUCCESS"}, 409, "close_paid", storage.OrderPaid},
		{"closed", life{state: "CLOSED"}, 200, "", storage.OrderClosed},
		{"paid in between", life{state: "NOTPAY", afterClose: "SUCCESS", close: reply{status: 400, body: `{"code":"ORDERPAID"}`}}, 409, "close_paid", storage.OrderPaid},
		{"lost", life{state: "NOTPAY", close: reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}}, 500, "", storage.OrderCreated},
		{"taken, not done", life{state: "NOTPAY", close: reply{status: 202, body: `{}`}}, 500, "", storage.OrderCreated},
		{"no answer", life{query: &reply{status: 500}}, 502, "unreachable", storage.OrderCreated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := tc.life
			g := newRig(t, rigOptions{answer: l.answer})
			g.checkout(oldCheckout, 201)
			g.offset = 5 * time.Minute
			r := g.do("POST", ordersPath+closePath, "", "Idempotency-Key", "k")
			if body := text(t, r); r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Refused") != tc.rule ||
				tc.status == 200 && gjson.Get(body, "state").String() != "closed" {
				t.Errorf("%d %v %s", r.StatusCode, r.Header, body)
			}
			if o := g.order("N20261121"); o.State != tc.state {
				t.Errorf("%+v", o)
			}
			if l.queries == 0 || len(g.ledger.work) != 0 {
				t.Error("no query, or work is left")
			}
			if again := g.do("POST", ordersPath+closePath, "{}"); tc.status == 200 && (again.StatusCode != 200 || l.closes > 1) {
				t.Error("a repeat", again.StatusCode, l.closes)
			}
		})
	}
}

// TestCloseBodies: every kind is closed at its own path, a combine order whole.
func TestCloseBodies(t *testing.T) {
	for body, want := range map[string]string{
		oldCheckout: `/v3/pay/transactions/out-trade-no/N20261121/close {"mchid":"1900000001"}`,
		strings.Replace(oldCheckout, `"way"`, `"sub_mchid":"1900000109","way"`, 1): `/v3/pay/partner/transactions/out-trade-no/N20261121/close {"sp_mchid":"1900000001","sub_mchid":"1900000109"}`,
		strings.Replace(oldCheckout, `"amount":{"total":100}`, `"sub_orders":[{"out_trade_no":"S00001","amount":{"total_amount":50}},{"out_trade_no":"S00002","amount":{"total_amount":50}}]`, 1): `/v3/combine-transactions/out-trade-no/N20261121/close {"combine_appid":"` + appid +
			`","sub_orders":[{"mchid":"1900000001","out_trade_no":"S00001"},{"mchid":"1900000001","out_trade_no":"S00002"}]}`,
	} {
		l := &life{state: "NOTPAY"}
		g := newRig(t, rigOptions{answer: l.answer})
		_, view := g.checkout(body, 201)
		g.offset = 5 * time.Minute
		target := ordersPath + closePath
		if view.Get("sub_mchid").Exists() {
			target += "?sub_mchid=1900000109"
		}
		r := g.do("POST", target, "")
		if r.StatusCode != 200 || len(l.closedBodies) != 1 || l.closedBodies[0] != want {
			t.Errorf("%d %s\n%v\n%s", r.StatusCode, text(t, r), l.closedBodies, want)
		}
		if view.Get("sub_orders").Exists() {
			g.refused("a sub-order", g.do("POST", ordersPath+"S00001/close", ""), 409, "combine_only")
		}
	}
}

func TestCloseResourceRefuses(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	g.checkout(oldCheckout, 201)
	g.orderIn(storage.Order{Key: storage.OrderKey{Mchid: mchid, Number: "PARKING"}, Kind: storage.OrderParking, State: storage.OrderRegistered, Origin: storage.OriginRegistered})
	for _, tc := range []struct {
		target, body string
		status       int
		rule         string
		header       []string
	}{
		{closePath, `{"reason":"x"}`, 400, "body", nil},
		{closePath, `[]`, 400, "body", nil},
		{closePath + "?fresh=1", ``, 400, "path", nil},
		{closePath + "?sub_mchid=x", ``, 400, "path", nil},
		{closePath + "?sub_mchid=1900000109", ``, 404, "order_not_found", nil},
		{"N20261120/close", ``, 404, "order_not_found", nil},
		{"a%2Fb/close", ``, 400, "number", nil},
		{"../close", ``, 400, "number", nil},
		{"PARKING/close", ``, 409, "body", nil},
		{closePath, ``, 403, "not_allowed", []string{"Authorization", "Bearer pay-token"}},
	} {
		g.refused(tc.target+tc.body, g.do("POST", ordersPath+tc.target, tc.body, tc.header...), tc.status, payops.Rule(tc.rule))
	}
	if n := len(g.wx.requests()); n != 1 {
		t.Errorf("%d requests reached WeChat Pay", n)
	}
}

// TestCloseLater: an order that is too young is closed when it is not any more.
func TestCloseLater(t *testing.T) {
	for _, tc := range []struct {
		name  string
		life  life
		state storage.OrderState
		again bool // it is tried again
		calls int  // closes
	}{
		{"open", life{state: "NOTPAY"}, storage.OrderClosed, false, 1},
		{"paid", life{state: "SUCCESS"}, storage.OrderPaid, false, 0},
		{"closed", life{state: "CLOSED"}, storage.OrderClosed, false, 0},
		{"paid in between", life{state: "NOTPAY", afterClose: "SUCCESS", close: reply{status: 400, body: `{"code":"ORDERPAID"}`}}, storage.OrderPaid, false, 1},
		{"lost", life{state: "NOTPAY", close: reply{status: 500}}, storage.OrderCreated, true, 1},
		{"lost, done", life{state: "NOTPAY", afterClose: "CLOSED", close: reply{status: 500}}, storage.OrderClosed, false, 1},
		{"no answer", life{query: &reply{status: 500}}, storage.OrderCreated, true, 0},
		{"no proof", life{query: &reply{status: 200, body: `{"trade_state":"CLOSED"}`, sign: "bad"}}, storage.OrderCreated, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := tc.life
			g := newRig(t, rigOptions{answer: l.answer})
			g.checkout(oldCheckout, 201)
			r := g.do("POST", ordersPath+closePath, "", "Idempotency-Key", "k")
			body := text(t, r)
			at, err := time.Parse(time.RFC3339, gjson.Get(body, "close_at").String())
			if created := g.order("N20261121").CreatedAt; err != nil || !at.Equal(created.Add(5*time.Minute)) || r.StatusCode != 202 ||
				gjson.Get(body, "state").String() != "created" || r.Header.Get("Location") != ordersPath+"N20261121" {
				t.Fatal(r.StatusCode, body, err)
			}
			if again := g.do("POST", ordersPath+closePath, "", "Idempotency-Key", "k"); again.Header.Get("Idempotency-Replayed") != "true" || text(t, again) != body {
				t.Error(again.StatusCode)
			}
			if r := g.do("POST", ordersPath+closePath, ""); r.StatusCode != 202 {
				t.Error(r.StatusCode)
			}
			if len(g.ledger.work) != 1 || l.queries+l.closes != 0 {
				t.Fatalf("%v %+v", g.ledger.work, l)
			}
			var work storage.Work
			for _, work = range g.ledger.work {
			}
			if work.Kind != resource.WorkClose || work.Merchant != "shop" || !work.Due.Equal(at) {
				t.Errorf("%+v", work)
			}
			// Too early: nothing is asked, and the time is said again.
			if next, err := g.api.CloseDue(t.Context(), work); err != nil || !next.Equal(at) || l.queries != 0 {
				t.Error(next, err)
			}
			g.offset = 5 * time.Minute
			next, err := g.api.CloseDue(t.Context(), work)
			if tc.again != (err != nil) || tc.again == next.IsZero() || tc.again && !errors.Is(err, resource.ErrClose) {
				t.Error(next, err)
			}
			if o := g.order("N20261121"); o.State != tc.state || l.closes != tc.calls || l.queries == 0 {
				t.Errorf("%+v, %+v", o, l)
			}
			if l.closes > 0 && g.lastCall().Caller != "all" {
				t.Errorf("%+v", g.lastCall())
			}
			if !tc.again { // a second worker, or a crash before the work was finished
				queries, closes := l.queries, l.closes
				if next, err := g.api.CloseDue(t.Context(), work); err != nil || !next.IsZero() || l.queries != queries || l.closes != closes {
					t.Error(next, err, l)
				}
				return
			}
			wait := next.Sub(time.Now().Add(g.offset))
			work.Attempt = 3
			if next, _ = g.api.CloseDue(t.Context(), work); next.Sub(time.Now().Add(g.offset)) < 7*wait {
				t.Error("no backoff", next)
			}
			work.Attempt = 1 << 30
			if next, _ = g.api.CloseDue(t.Context(), work); next.Sub(time.Now().Add(g.offset)) > time.Hour {
				t.Error("too long a wait", next)
			}
			g.offset = 8 * 24 * time.Hour
			if next, err := g.api.CloseDue(t.Context(), work); !next.IsZero() || err == nil {
				t.Error("never given up", next, err)
			}
		})
	}
}

// TestCloseTakenBack: who gets the old code again is not closed under it.
func TestCloseTakenBack(t *testing.T) {
	l := &life{state: "NOTPAY"}
	g := newRig(t, rigOptions{answer: l.answer})
	due := func() storage.Work {
		if len(g.ledger.work) != 1 {
			t.Fatal(g.ledger.work)
		}
		for _, work := range g.ledger.work {
			return work
		}
		return storage.Work{}
	}
	g.checkout(oldCheckout, 201)
	if r := g.do("POST", ordersPath+closePath, ""); r.StatusCode != 202 {
		t.Fatal(r.StatusCode)
	}
	g.ledger.fail = func(storage.Keys) error { return storage.ErrDiskFloor }
	g.refused("it cannot be taken back", g.do("POST", checkoutPath, newCheckout), 503, payops.RuleStore)
	g.ledger.fail = nil
	g.checkout(newCheckout, 200)
	g.offset = 5*time.Minute + time.Second
	if next, err := g.api.CloseDue(t.Context(), due()); err != nil || !next.IsZero() || l.closes != 0 {
		t.Error(next, err, l.closes)
	}
	// Wanted again, it is closed.
	g.offset = 4 * time.Minute
	if r := g.do("POST", ordersPath+closePath, ""); r.StatusCode != 202 {
		t.Fatal(r.StatusCode)
	}
	g.offset = 5*time.Minute + time.Second
	if next, err := g.api.CloseDue(t.Context(), due()); err != nil || !next.IsZero() || l.closes != 1 {
		t.Error(next, err, l.closes)
	}
}

func TestCloseDueOdd(t *testing.T) {
	g := newRig(t, rigOptions{answer: openings})
	if next, err := g.api.CloseDue(t.Context(), storage.Work{Payload: []byte(`{"order":{"mchid":"1900000001","number":"N20261121"}}`)}); err != nil || !next.IsZero() {
		t.Error("a close that nobody wants", next, err)
	}
	for _, payload := range []string{``, `{`, `{}`} {
		if next, err := g.api.CloseDue(t.Context(), storage.Work{Payload: []byte(payload)}); err == nil || !next.IsZero() {
			t.Error(payload, next, err)
		}
	}
	if n := len(g.wx.requests()); n != 0 {
		t.Error(n)
	}
}
