package payops_test

import (
	"context"
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

// world is a WeChat Pay that carries out each number once and counts what it has
// done; a fault meets the first request.
type world struct {
	mu      sync.Mutex
	fault   fault
	calls   int
	effects map[string]string // what was done, by number
	hold    chan struct{}     // ends the requests that hang
	met     chan struct{}     // closed when the fault is met
}

// fault is what happens to the first request that moves money.
type fault struct {
	name  string
	after bool // the effect comes first
	how   string
}

// faults are the ways in which a call ends without a word to rely on.
var faults = []fault{
	{"cut before the effect", false, "cut"}, {"cut after the effect", true, "cut"},
	{"cut within the answer", true, "half"},
	{"timeout before the effect", false, "hang"}, {"timeout after the effect", true, "hang"},
	{"5xx before the effect", false, "5xx"}, {"5xx after the effect", true, "5xx"},
	{"unsigned 4xx after the effect", true, "unsigned"}, {"badly signed after the effect", true, "bad"},
	{"202 before the effect", false, "202"},
}

// money is one way to move it.
type money struct {
	name, target string
	body         func(number, fen string) string
	numbers      string // the member that holds the number
	query        func(number string) string
	answer       func(body string) string
}

var monies = []money{
	{"create", nativePath, basicBody, "out_trade_no",
		func(n string) string { return basicQuery + n },
		func(string) string { return `{"code_url":"weixin://wxpay/bizpayurl?pr=x"}` }},
	{"refund", refundPath, func(n, fen string) string {
		return strings.Replace(refundBody("N20261100", n, 30), "30", fen, 1)
	}, "out_refund_no", func(n string) string { return refundPath + "/" + n },
		func(body string) string {
			return refundAnswer(gjson.Get(body, "out_refund_no").String(), "N20261100", "PROCESSING", int(gjson.Get(body, "amount.refund").Int())).body
		}},
	{"transfer", transferPath, transferBody, "out_bill_no",
		func(n string) string { return transferPath + "/out-bill-no/" + n },
		func(string) string { return `{"state":"ACCEPTED"}` }},
	{"profit sharing", sharingPath, func(n, fen string) string {
		return strings.Replace(sharingBody(n, "42n20261100"), `"amount":10`, `"amount":`+fen, 1)
	}, "out_order_no", func(n string) string { return sharingPath + "/" + n + "?transaction_id=42n20261100" },
		func(string) string { return `{"state":"PROCESSING"}` }},
}

func (x *world) answer(m money) func(got) reply {
	return func(r got) reply {
		x.mu.Lock()
		defer x.mu.Unlock()
		if r.method == http.MethodGet {
			for number, body := range x.effects {
				if !strings.Contains(r.uri, "/"+number) {
					continue
				}
				if m.name == "create" {
					return reply{status: 200, body: `{"mchid":"` + mchid + `","appid":"` + appid + `","out_trade_no":"` + number + `","trade_state":"NOTPAY","amount":{"total":30,"currency":"CNY"}}`}
				}
				return reply{status: 200, body: m.answer(body)}
			}
			return reply{status: 404, body: `{"code":"RESOURCE_NOT_EXISTS","message":"x"}`}
		}
		x.calls++
		number := gjson.Get(r.body, m.numbers).String()
		fault := fault{}
		if x.calls == 1 {
			fault = x.fault
			close(x.met)
		}
		if done, known := x.effects[number]; known && done != r.body {
			return reply{status: 400, body: `{"code":"INVALID_REQUEST","message":"another content"}`}
		}
		if fault.how == "" || fault.after {
			x.effects[number] = r.body
		}
		good := reply{status: 200, body: m.answer(r.body)}
		switch fault.how {
		case "cut":
			panic(http.ErrAbortHandler)
		case "half":
			good.cut = 4
		case "hang":
			x.mu.Unlock()
			<-x.hold
			x.mu.Lock()
		case "5xx":
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
		case "unsigned":
			return reply{status: 400, body: `{"code":"PARAM_ERROR"}`, sign: "none"}
		case "bad":
			good.sign = "bad"
		case "202":
			return reply{status: 202, body: `{}`}
		}
		return good
	}
}

// newWorld makes a gateway in front of a world with a fault; again makes a second
// gateway over the same ledger, as after a restart.
func newWorld(t *testing.T, m money, f fault) (x *world, g *rig, again func() *rig) {
	x = &world{fault: f, effects: map[string]string{}, hold: make(chan struct{}), met: make(chan struct{})}
	o := rigOptions{answer: x.answer(m)}
	if f.how == "hang" {
		o.attempt, o.timeout = 150*time.Millisecond, 5*time.Second
	}
	g = newRig(t, o)
	put(t, g.ledger, paidOrder("N20261100"))
	t.Cleanup(sync.OnceFunc(func() { close(x.hold) })) // before the fake's own
	return x, g, func() *rig {
		next := newRig(t, rigOptions{store: g.ledger, bases: []string{g.wx.server.URL}})
		next.ledger = g.ledger
		return next
	}
}

// counts says how many requests came, and how many numbers have an effect.
func (x *world) counts() (sent, done int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.calls, len(x.effects)
}

// once checks that the world has done one thing, under one number.
func (x *world) once(t *testing.T, number, body string) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.effects) != 1 || x.effects[number] != body {
		t.Errorf("done: %v", x.effects)
	}
}

// TestFaults: whatever becomes of the connection, the first answer says unknown,
// the intent stays, another content is refused, and the same number settles it
// with one effect; so does a query where there was one.
func TestFaults(t *testing.T) {
	for _, m := range monies {
		for _, f := range faults {
			t.Run(m.name+", "+f.name, func(t *testing.T) {
				x, g, again := newWorld(t, m, f)
				body := m.body("N20261101", "30")
				r := g.do("POST", m.target, body)
				if r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" {
					t.Fatalf("%d %v", r.StatusCode, r.Header)
				}
				if c := g.lastCall(); c.Outcome != storage.CallUnknown && (f.how != "202" || c.Outcome != storage.CallSucceeded) {
					t.Errorf("%+v", c)
				}
				g = again() // a restart forgets nothing
				_, before := x.counts()
				r = g.do("POST", m.target, m.body("N20261101", "40"))
				if _, after := x.counts(); r.StatusCode != 409 || after != before {
					t.Errorf("another content: %d %s", r.StatusCode, text(t, r))
				}
				if m.name == "refund" {
					g.offset = time.Hour
					if r := g.do("POST", m.target, m.body("N20261102", "30")); r.StatusCode != 409 {
						t.Errorf("the refund under another number: %d", r.StatusCode)
					}
					g.offset = 0
				}
				if f.after {
					if r := g.do("GET", m.query("N20261101"), ""); r.StatusCode != 200 {
						t.Errorf("query: %d", r.StatusCode)
					}
					g.settled(m, "N20261101")
				}
				if r := g.do("POST", m.target, body); r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Outcome") != "" {
					t.Fatalf("the same again: %d %s", r.StatusCode, text(t, r))
				}
				g.settled(m, "N20261101")
				x.once(t, "N20261101", body)
				if m.name == "refund" {
					g.reserved("N20261100", 30, 1)
				}
			})
		}
	}
}

// settled checks that the ledger takes the number for used at WeChat Pay.
func (g *rig) settled(m money, number string) {
	g.t.Helper()
	switch m.name {
	case "create":
		if o := g.order(number); o.State != storage.OrderCreated {
			g.t.Errorf("order %s", o.State)
		}
	case "refund":
		if r := g.refundRow(number); r.State != storage.RefundProcessing {
			g.t.Errorf("refund %s", r.State)
		}
	default:
		for _, memo := range mapValues(g.ledger.memos) {
			if strings.HasSuffix(memo.Key, "/"+number) && !gjson.GetBytes(memo.Data, "done").Bool() {
				g.t.Errorf("%s %s", memo.Key, memo.Data)
			}
		}
	}
}

// TestCrashAtEachStep: a store that fails from the n-th change on, as a process
// that dies does, sends nothing without an intent, and leaves one that the same
// number settles after the restart.
func TestCrashAtEachStep(t *testing.T) {
	for _, m := range monies {
		for step := range 3 {
			t.Run(fmt.Sprintf("%s, %d changes", m.name, step), func(t *testing.T) {
				x, g, again := newWorld(t, m, fault{})
				body := m.body("N20261101", "30")
				g.ledger.fail = failAfter(step)
				r := g.do("POST", m.target, body)
				sent, _ := x.counts()
				switch step {
				case 0:
					g.refused("no intent", r, 503, payops.RuleStore)
					if sent != 0 {
						t.Fatal("sent without an intent")
					}
				default:
					if r.StatusCode != 200 || sent != 1 || (r.Header.Get("Wechatpay-Gateway-Warning") != "") != (step == 1) {
						t.Fatalf("%d %v, %d sent", r.StatusCode, r.Header, sent)
					}
					if c := g.lastCall(); (c.Outcome == storage.CallPending) != (step == 1) {
						t.Errorf("%+v", c)
					}
				}
				g.ledger.fail = nil
				g = again()
				if r := g.do("POST", m.target, m.body("N20261101", "40")); step > 0 && r.StatusCode != 409 {
					t.Errorf("another content: %d", r.StatusCode)
				} else if step == 0 && r.StatusCode == 200 {
					return // nothing had begun: the number was free
				}
				if r := g.do("POST", m.target, body); r.StatusCode != 200 {
					t.Errorf("the same again: %d %s", r.StatusCode, text(t, r))
				}
				g.settled(m, "N20261101")
				x.once(t, "N20261101", body)
			})
		}
	}
}

// TestCallersThatDisconnect: what has begun is finished, whoever still listens.
func TestCallersThatDisconnect(t *testing.T) {
	for _, m := range monies {
		t.Run(m.name, func(t *testing.T) {
			x, g, _ := newWorld(t, m, fault{})
			ctx, cancel := context.WithCancel(context.Background())
			go func() { <-x.met; cancel() }()
			body := m.body("N20261101", "30")
			g.serve(newRequest(ctx, "POST", m.target, body))
			<-ctx.Done()
			g.settled(m, "N20261101")
			x.once(t, "N20261101", body)
			if c := g.lastCall(); c.Outcome != storage.CallSucceeded {
				t.Errorf("%+v", c)
			}
			g.serve(newRequest(ctx, "POST", m.target, m.body("N20261102", "30")))
			if sent, _ := x.counts(); sent != 1 || len(g.ledger.allCalls()) != 1 {
				t.Error("a caller that was gone before it began")
			}
		})
	}
}

// TestTwentyAtOnceUnderFaults: the same number twenty times at once, while the
// first call meets a fault: one effect.
func TestTwentyAtOnceUnderFaults(t *testing.T) {
	for _, m := range monies {
		for _, f := range faults {
			if f.how == "hang" {
				continue // the others would wait their turn for seconds
			}
			x, g, _ := newWorld(t, m, f)
			body := m.body("N20261101", "30")
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if i%4 == 3 {
						g.do("POST", m.target, m.body("N20261101", "40"))
						return
					}
					g.do("POST", m.target, body)
				})
			}
			wg.Wait()
			if _, done := x.counts(); done != 1 {
				t.Errorf("%s, %s: %d done", m.name, f.name, done)
			}
			if m.name == "refund" && g.order("N20261100").RefundCount != 1 {
				t.Errorf("%s, %s: %+v", m.name, f.name, g.order("N20261100"))
			}
		}
	}
}
