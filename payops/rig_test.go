package payops_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a payment API in front of a fake WeChat Pay.
type rig struct {
	t        *testing.T
	api      *payops.API
	wx       *wechat
	ledger   *memLedger
	merchant *merchant.Merchant
	observer *observer

	mu      sync.Mutex
	changed []storage.OrderKey
	offset  time.Duration // of the gateway's clock
}

type rigOptions struct {
	answer   func(got) reply
	bases    []string // default: the fake
	timeout  time.Duration
	attempt  time.Duration
	wait     time.Duration // of refunds for others of the payer
	noNotify bool

	maxDownload     int64
	downloadTimeout time.Duration
	log             *slog.Logger

	force   bool
	callers *caller.Set
	mutate  func(*merchant.Config)

	store  storage.Ledger // default: the rig's memLedger
	locks  *payops.Locks  // default: the API's own
	rules  guard.Policy
	limits map[string]guard.Limit
	now    func() time.Time // default: time.Now
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	if o.answer == nil {
		o.answer = codeURL
	}
	g := &rig{t: t, ledger: newMemLedger(), observer: &observer{}}
	if o.now == nil {
		o.now = time.Now
	}
	now := func() time.Time { return o.now().Add(g.offset) }
	g.ledger.now = now
	g.wx = newWechat(t, o.answer)
	if o.bases == nil {
		o.bases = []string{g.wx.server.URL}
	}
	cfg := merchant.Config{
		Name: "shop", Mchid: mchid, Apps: []merchant.App{{Appid: appid}},
		SerialNo: serialNo, PrivateKey: privatePEM(keyring().merchant),
		APIv3Keys: []string{"0123456789abcdef0123456789ABCDEF"},
		PublicKeys: []merchant.PublicKeyConfig{
			{ID: otherID, PEM: publicPEM(keyring().other)},
			{ID: platformID, PEM: publicPEM(keyring().platform)},
		},
		NotifyURL: notifyURL, ForceNotifyURL: o.force, APIBases: o.bases,
	}
	if o.noNotify {
		cfg.NotifyURL = ""
	}
	if o.mutate != nil {
		o.mutate(&cfg)
	}
	m, err := merchant.New(cfg, merchant.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	g.merchant = m
	client := merchant.NewClient(cfg)
	t.Cleanup(client.CloseIdleConnections)
	if o.callers == nil {
		o.callers = testCallers(t)
	}
	if o.store == nil {
		o.store = g.ledger
	}
	g.api, err = payops.New(payops.Config{
		Rules: o.rules, Limits: o.limits,
		Merchant: m, Ledger: o.store, Callers: o.callers, HTTP: client, Observer: g.observer, Logger: o.log,
		Now:     now,
		Locks:   o.locks,
		Timeout: o.timeout, Attempt: o.attempt, RefundWait: o.wait, MaxDownload: o.maxDownload, DownloadTimeout: o.downloadTimeout,
		LedgerChanged: func(_ context.Context, key storage.OrderKey) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.changed = append(g.changed, key)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func testCallers(t *testing.T) *caller.Set {
	t.Helper()
	s, err := caller.New(mchid, []caller.Config{
		{Name: "all", Token: merchant.NewSecret("all-token"), Allow: []string{"*"}},
		{Name: "payer", Token: merchant.NewSecret("pay-token"), Allow: []string{"pay"}},
		{Name: "asker", Token: merchant.NewSecret("query-token"), Allow: []string{"query"}},
		{Name: "refunder", Token: merchant.NewSecret("refund-token"), Allow: []string{"refund"}},
		{Name: "store", Serial: "5D3A", Key: &keyring().store.PublicKey, Allow: []string{"pay", "query", "close", "combine"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// do sends a request as the caller "all", unless a header says otherwise.
func (g *rig) do(method, target, body string, headers ...string) *http.Response {
	g.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	r.Header.Set("Authorization", "Bearer all-token")
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	g.api.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// refused checks a refusal of the gateway's own: status, rule, shape, and that
// WeChat Pay saw nothing.
func (g *rig) refused(name string, r *http.Response, status int, rule payops.Rule) {
	g.t.Helper()
	body := text(g.t, r)
	if r.StatusCode != status || r.Header.Get("Wechatpay-Gateway-Refused") != string(rule) {
		g.t.Errorf("%s: %d %s %s, want %d %s", name, r.StatusCode, r.Header.Get("Wechatpay-Gateway-Refused"), body, status, rule)
	}
	var e struct{ Code, Message string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Code == "" || e.Message == "" {
		g.t.Errorf("%s: not WeChat-shaped: %s", name, body)
	}
}

func (g *rig) order(number string) storage.Order {
	g.t.Helper()
	o, err := g.ledger.Order(context.Background(), storage.OrderKey{Mchid: mchid, Number: number})
	if err != nil {
		g.t.Fatalf("order %s: %v", number, err)
	}
	return o
}

func (g *rig) lastCall() storage.Call {
	g.t.Helper()
	calls := g.ledger.allCalls()
	if len(calls) == 0 {
		g.t.Fatal("no call in the ledger")
	}
	return calls[len(calls)-1]
}

// closedPort is an address at which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return "http://" + l.Addr().String()
}

// observer remembers what it is told.
type observer struct {
	payops.NopObserver
	mu         sync.Mutex
	refused    map[payops.Rule]int
	outcomes   map[send.Outcome]int
	probes     int
	unverified int
	failovers  int
	contra     int
}

func (o *observer) Refused(rule payops.Rule) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused == nil {
		o.refused = map[payops.Rule]int{}
	}
	o.refused[rule]++
}

func (o *observer) Called(_ operation.Group, outcome send.Outcome, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.outcomes == nil {
		o.outcomes = map[send.Outcome]int{}
	}
	o.outcomes[outcome]++
}

func (o *observer) Unverified(probe bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unverified++
	if probe {
		o.probes++
	}
}

func (o *observer) FailedOver() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failovers++
}

func (o *observer) Contradicted() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.contra++
}

const (
	nativePath  = "/v3/pay/transactions/native"
	combinePath = "/v3/combine-transactions/native"
)

func basicBody(number string, total string) string {
	return `{"mchid":"` + mchid + `","appid":"` + appid + `","description":"x","out_trade_no":"` + number +
		`","notify_url":"` + notifyURL + `","amount":{"total":` + total + `,"currency":"CNY"}}`
}

func combineBody(number string) string {
	return `{"combine_mchid":"` + mchid + `","combine_appid":"` + appid + `","combine_out_trade_no":"` + number +
		`","notify_url":"` + notifyURL + `","sub_orders":[` +
		`{"mchid":"1900000101","attach":"a","amount":{"total_amount":10,"currency":"CNY"},"out_trade_no":"` + number + `-S1","description":"d"},` +
		`{"mchid":"1900000102","sub_mchid":"1900000109","attach":"b","amount":{"total_amount":5,"currency":"CNY"},"out_trade_no":"` + number + `-S2","description":"d"}]}`
}

// newRequest makes a request of the caller "all".
func newRequest(ctx context.Context, method, target, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer all-token")
	return r
}

func (g *rig) serve(r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	g.api.ServeHTTP(w, r)
	return w.Result()
}
