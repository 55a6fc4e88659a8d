package payops_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// orders is a WeChat Pay that knows the state of every order.
type orders struct {
	mu     sync.Mutex
	states map[string]string // trade_state by number
	create reply             // default: makes it
	made   int
}

func (o *orders) answer(g got) reply {
	o.mu.Lock()
	defer o.mu.Unlock()
	path := strings.Split(g.uri, "?")[0]
	switch {
	case strings.HasSuffix(path, "/close"):
		parts := strings.Split(path, "/")
		o.states[parts[len(parts)-2]] = "CLOSED"
		return reply{status: 204}
	case g.method == http.MethodGet:
		l := life{state: o.states[path[strings.LastIndexByte(path, '/')+1:]]}
		return l.answer(g)
	case o.create.status != 0:
		return o.create
	}
	o.made++
	o.states[gjson.Get(g.body, "out_trade_no").String()] = "NOTPAY"
	return openings(g)
}

func (o *orders) set(number, state string, create reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states[number], o.create = state, create
}

const replacing = `{"way":"native","description":"y","amount":{"total":100},"replaces":"N20261121"}`

// TestReplaceTogether: any number of requests that replace one order make one new
// order, with and without locks in common.
func TestReplaceTogether(t *testing.T) {
	for _, locks := range []*payops.Locks{nil, {}} {
		t.Run(fmt.Sprint(locks != nil), func(t *testing.T) {
			wx := &orders{states: map[string]string{}}
			a := newRig(t, rigOptions{answer: wx.answer, locks: locks})
			b := newRig(t, rigOptions{answer: wx.answer, locks: locks, store: a.ledger})
			a.checkout(oldCheckout, 201)
			a.offset = 5*time.Minute + time.Second
			b.offset = a.offset
			var wg sync.WaitGroup
			var mu sync.Mutex
			statuses, numbers := map[int]int{}, map[string]bool{}
			for i := range 12 {
				wg.Go(func() {
					r := []*rig{a, b}[i%2].do("POST", checkoutPath, replacing)
					body := text(t, r)
					mu.Lock()
					defer mu.Unlock()
					statuses[r.StatusCode]++
					switch {
					case r.StatusCode == 409 && (r.Header.Get("Wechatpay-Gateway-Refused") != "replaced" || r.Header.Get("Retry-After") == ""):
						t.Error(r.Header, body)
					case r.StatusCode != 409:
						numbers[gjson.Get(body, "out_trade_no").String()] = true
						if gjson.Get(body, "replaced.out_trade_no").String() != "N20261121" || gjson.Get(body, "reused").Bool() != (r.StatusCode == 200) {
							t.Error(body)
						}
					}
				})
			}
			wg.Wait()
			if statuses[201] != 1 || statuses[200]+statuses[409] != 11 || len(numbers) != 1 || wx.made != 2 || locks != nil && statuses[200] != 11 {
				t.Error(statuses, numbers, wx.made)
			}
		})
	}
}

// TestReplacedBefore: what becomes of a request that replaces an order that another
// one has replaced.
func TestReplacedBefore(t *testing.T) {
	for _, tc := range []struct {
		name   string
		create reply  // of the first replacement
		state  string // of it since, "" for as it is
		body   string
		status int
		rule   string
		number string // of the order in the answer; "" for a new one
	}{
		{"the same", reply{}, "", replacing, 200, "", "N20261122"},
		{"the same number", reply{}, "", newCheckout, 200, "", "N20261122"},
		{"other money", reply{}, "", strings.Replace(replacing, "100", "101", 1), 409, "replaced", "N20261122"},
		{"another way", reply{}, "", strings.Replace(replacing, "native", "app", 1), 409, "replaced", "N20261122"},
		{"paid", reply{}, "SUCCESS", replacing, 409, "replaced_paid", "N20261122"},
		{"closed", reply{}, "CLOSED", replacing, 201, "", ""},
		{"rejected", reply{status: 400, body: `{"code":"PARAM_ERROR","message":"x"}`}, "", replacing, 201, "", ""},
		{"unknown", reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`}, "", replacing, 409, "replaced", "N20261122"},
		{"unknown, the same number", reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`}, "", newCheckout, 200, "", "N20261122"},
		{"unknown, and made", reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`}, "NOTPAY", strings.Replace(replacing, "100", "101", 1), 409, "replaced", "N20261122"},
		{"refused by a rule", reply{status: -1}, "", replacing, 201, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wx := &orders{states: map[string]string{}}
			g := newRig(t, rigOptions{answer: wx.answer})
			g.checkout(oldCheckout, 201)
			g.offset = 5*time.Minute + time.Second
			first, next := newCheckout, tc.create
			if tc.create.status == -1 {
				first, next = strings.Replace(first, `"way"`, `"notify_url":"http://127.0.0.1/x?a=b","way"`, 1), reply{}
			}
			wx.set("", "", next)
			text(t, g.do("POST", checkoutPath, first))
			wx.set("", "", reply{})
			if tc.state != "" {
				wx.set("N20261122", tc.state, reply{})
			}
			r := g.do("POST", checkoutPath, tc.body)
			body := text(t, r)
			if r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Refused") != tc.rule {
				t.Fatal(r.StatusCode, r.Header, body)
			}
			number := gjson.Get(body, "out_trade_no").String()
			if r.StatusCode == 409 {
				number = gjson.Get(body, "detail.replaced_by.out_trade_no").String()
			}
			if tc.number != "" && number != tc.number || tc.number == "" && (number == "" || number == "N20261122") {
				t.Error(number, body)
			}
			if tc.name == "unknown" && r.Header.Get("Retry-After") == "" {
				t.Error(r.Header)
			}
		})
	}
}

// TestReplaceChain: what replaced the replacement is found, too.
func TestReplaceChain(t *testing.T) {
	for name, create := range map[string]reply{"closed": {}, "rejected": {status: 400, body: `{"code":"PARAM_ERROR","message":"x"}`}} {
		t.Run(name, func(t *testing.T) {
			wx := &orders{states: map[string]string{}}
			g := newRig(t, rigOptions{answer: wx.answer})
			g.checkout(oldCheckout, 201)
			g.offset = 5*time.Minute + time.Second
			wx.set("", "", create)
			text(t, g.do("POST", checkoutPath, newCheckout))
			wx.set("", "", reply{})
			g.offset *= 2
			_, last := g.checkout(strings.Replace(replacing, "N20261121", "N20261122", 1), 201)
			if _, view := g.checkout(replacing, 200); view.Get("out_trade_no").String() != last.Get("out_trade_no").String() || !view.Get("reused").Bool() {
				t.Error(view)
			}
		})
	}
}

// TestReplaceEachOther: orders that claim to have replaced each other are no riddle.
func TestReplaceEachOther(t *testing.T) {
	wx := &orders{states: map[string]string{}}
	g := newRig(t, rigOptions{answer: wx.answer})
	g.checkout(oldCheckout, 201)
	g.offset = 5*time.Minute + time.Second
	g.checkout(newCheckout, 201)
	g.offset *= 2
	g.checkout(`{"way":"native","description":"x","out_trade_no":"N20261121","amount":{"total":100},"replaces":"N20261122"}`, 200)
	g.offset *= 2
	wx.set("N20261121", "CLOSED", reply{})
	g.refused("", g.do("POST", checkoutPath, replacing), 409, "replaced")
}

// TestReplaceCutOff: who died between the claim on an order and its new one stands in
// nobody's way for long.
func TestReplaceCutOff(t *testing.T) {
	wx := &orders{states: map[string]string{}}
	g := newRig(t, rigOptions{answer: wx.answer})
	g.checkout(oldCheckout, 201)
	g.offset = 5*time.Minute + time.Second
	g.ledger.fail = func(keys storage.Keys) error {
		if keys.Call != "" && keys.Order.Number == "N20261122" {
			return storage.ErrClosed
		}
		return nil
	}
	r := g.do("POST", checkoutPath, newCheckout)
	if r.StatusCode != 503 || len(g.ledger.memos) == 0 {
		t.Fatal(r.StatusCode)
	}
	g.ledger.fail = nil
	if r := g.do("POST", checkoutPath, replacing); r.StatusCode != 201 {
		t.Error(r.StatusCode, text(t, r))
	}
}
