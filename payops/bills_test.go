package payops_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/bill"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/reconcile"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// billShop is a payment API in front of a sandbox, with a caller that may have
// bills, one that may not, and one that is limited to a sub-merchant. change
// alters the sandbox's answers.
type billShop struct {
	t        *testing.T
	platform *sandbox.Platform
	api      *payops.API
	url, dir string
	ahead    time.Duration // of the gateway's clock
	client   *http.Client
	change   func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

func newBillShop(t *testing.T) *billShop {
	t.Helper()
	p, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: appid}}, Keys: sandbox.PublicKeyMode,
		Client: &http.Client{Transport: answerAll{}}, BillsAtOnce: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	s := &billShop{t: t, platform: p, dir: t.TempDir(), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	wechat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.change != nil {
			s.change(w, r, p)
			return
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(wechat.Close)
	arrived := keysArrived{arrived: make(chan struct{}, 1)}
	m, err := merchant.New(merchant.Config{Name: "demo", Mchid: mchid, Sandbox: wechat.URL, NotifyURL: notifyURL}, merchant.Deps{Metrics: arrived})
	if err != nil {
		t.Fatal(err)
	}
	m.Start(nil)
	t.Cleanup(m.Stop)
	<-arrived.arrived
	callers, err := caller.New(mchid, []caller.Config{
		{Name: "books", Token: merchant.NewSecret("books-token"), Allow: []string{"bill", "pay"}},
		{Name: "shop", Token: merchant.NewSecret("shop-token"), Allow: []string{"pay", "query"}},
		{Name: "branch", Token: merchant.NewSecret("branch-token"), Allow: []string{"bill"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.api, err = payops.New(payops.Config{
		Merchant: m, Ledger: storagetest.NewModel(nil), Callers: callers, TempDir: s.dir, MaxDownload: 1 << 20,
		Now:    func() time.Time { return time.Now().Add(s.ahead) },
		Limits: map[string]guard.Limit{"branch": {SubMchids: []string{"1900000109"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.api)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// get asks over a real connection and checks that nothing is left behind. The
// error is that of the body.
func (s *billShop) get(token, target, accept string) (*http.Response, string, error) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), "GET", s.url+target, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	response, err := s.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if left, dirErr := os.ReadDir(s.dir); dirErr != nil || len(left) > 0 {
		s.t.Error("left behind:", left, dirErr)
	}
	return response, string(body), err
}

func (s *billShop) pay(number string) {
	s.t.Helper()
	body := strings.NewReader(`{"out_trade_no":"` + number + `","description":"茶, \"明前\"","amount":{"total":100}}`)
	r, err := http.NewRequestWithContext(context.Background(), "POST", s.url+nativePath, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer books-token")
	r.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(r)
	if err != nil || response.StatusCode != 200 {
		s.t.Fatal(response, err)
	}
	_ = response.Body.Close()
	if _, err := s.platform.Pay(number, sandbox.Faults{}); err != nil {
		s.t.Fatal(err)
	}
}

// beijingDay gives the day, and waits when it is about to end.
func beijingDay() string {
	now := time.Now().In(bill.Beijing)
	if midnight := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, bill.Beijing); midnight.Sub(now) < 20*time.Second {
		<-time.After(time.Until(midnight))
	}
	return time.Now().In(bill.Beijing).Format(time.DateOnly)
}

func TestGatewayBills(t *testing.T) {
	date := beijingDay()
	s := newBillShop(t)
	trade, flow := "/gateway/bills/trade?date="+date, "/gateway/bills/fundflow?date="+date
	if r, body, _ := s.get("books-token", trade, ""); r.StatusCode != 404 || gjson.Get(body, "code").String() != "NO_STATEMENT_EXIST" || r.Header.Get("Wechatpay-Gateway-Refused") != "no_bill" {
		t.Errorf("an empty day: %d %s", r.StatusCode, body)
	}
	s.pay("N20261122-1")
	s.pay("N20261122-2")

	for _, accept := range []string{"", "*/*", "text/csv", "text/csv, application/json;q=0.5", "text/*", "image/png"} {
		r, body, err := s.get("books-token", trade, accept)
		if err != nil || r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/csv; charset=utf-8" || r.ContentLength != int64(len(body)) || r.Header.Get("Cache-Control") != "no-store" ||
			r.Header.Get("Content-Disposition") != `attachment; filename="trade-`+mchid+"-"+date+`-all.csv"` {
			t.Fatalf("%q: %d %v %v", accept, r.StatusCode, r.Header, err)
		}
		totals, err := bill.CheckTrades(strings.NewReader(body))
		if err != nil || totals.Rows != 2 || totals.Total != 200 {
			t.Errorf("%+v %v", totals, err)
		}
	}
	for _, accept := range []string{"application/json", "application/json, text/csv;q=0.9", "application/*, */*;q=0.1", "text/csv;q=0, application/json"} {
		r, body, err := s.get("books-token", trade+"&type=SUCCESS", accept)
		if err != nil || r.StatusCode != 200 || !json.Valid([]byte(body)) || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") || r.Header.Get("Vary") != "Accept" {
			t.Fatalf("%q: %d %v %v %s", accept, r.StatusCode, r.Header, err, body)
		}
		v := gjson.Parse(body)
		if v.Get("kind").String() != "trade" || v.Get("type").String() != "SUCCESS" || v.Get("date").String() != date || v.Get("mchid").String() != mchid ||
			v.Get("totals.rows").Int() != 2 || v.Get("records.#").Int() != 2 || v.Get("records.1.total").Int() != 100 || v.Get("records.0.goods").String() != `茶, "明前"` {
			t.Error(body)
		}
	}
	r, body, err := s.get("books-token", flow, "application/json")
	if err != nil || r.StatusCode != 200 || gjson.Get(body, "account").String() != "BASIC" || gjson.Get(body, "totals.income").Int() != 200 || gjson.Get(body, "records.#").Int() != 2 {
		t.Errorf("%d %s %v", r.StatusCode, body, err)
	}
	if r, body, err = s.get("books-token", flow, ""); err != nil || r.StatusCode != 200 || !strings.Contains(body, "资金流水总笔数") || !strings.Contains(r.Header.Get("Content-Disposition"), "fundflow-"+mchid+"-"+date+"-basic.csv") {
		t.Errorf("%d %v %v", r.StatusCode, r.Header, err)
	}

	for _, tc := range []struct {
		name, token, target, accept string
		status                      int
		rule                        string
	}{
		{"not allowed", "shop-token", trade, "", 403, "not_allowed"},
		{"nobody", "x", trade, "", 401, "unknown_caller"},
		{"another sub-merchant", "branch-token", trade, "", 403, "limit_sub_mchid"},
		{"no date", "books-token", "/gateway/bills/trade", "", 400, "path"},
		{"no such day", "books-token", "/gateway/bills/trade?date=2026-02-30", "", 400, "path"},
		{"type", "books-token", trade + "&type=all", "", 400, "path"},
		{"account", "books-token", flow + "&account=X", "", 400, "path"},
		{"a name too many", "books-token", trade + "&tar_type=GZIP", "", 400, "path"},
		{"twice", "books-token", trade + "&type=ALL&type=REFUND", "", 400, "path"},
		{"a special one as JSON", "books-token", trade + "&type=ALL_SPECIAL", "application/json", 400, "content_type"},
		{"WeChat Pay refuses", "books-token", trade + "&sub_mchid=1900000109", "", 403, "bill_refused"},
		{"another account", "books-token", flow + "&account=FEES", "", 404, "no_bill"},
		{"no such kind", "books-token", "/gateway/bills/x?date=" + date, "", 404, "path"},
	} {
		if r, body, err := s.get(tc.token, tc.target, tc.accept); err != nil || r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Refused") != tc.rule || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %v %s", tc.name, r.StatusCode, r.Header, body)
		}
	}
}

// TestGatewayBillsBroken: what is wrong with a file is found before its first byte
// is passed on.
func TestGatewayBillsBroken(t *testing.T) {
	date := beijingDay()
	s := newBillShop(t)
	s.pay("N20261122-1")
	file := func(content string) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.URL.Path != "/v3/billdownload/file" {
				next.ServeHTTP(w, r)
				return
			}
			_, _ = io.WriteString(w, content)
		}
	}
	for _, tc := range []struct {
		name   string
		change func(http.ResponseWriter, *http.Request, http.Handler)
		status int
		rule   string
	}{
		{"another file", file("交易时间\r\n"), 502, "bill_broken"},
		{"no file", file(""), 502, "bill_broken"},
		{"half a file", file("\x1f\x8b\x08\x00\x00"), 502, "unreachable"},
		{"too large", file(strings.Repeat("`", 2<<20)), 502, "bill_too_large"},
		{"the link is gone", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.URL.Path != "/v3/billdownload/file" {
				next.ServeHTTP(w, r)
				return
			}
			w.WriteHeader(http.StatusNotFound)
		}, 502, "unreachable"},
		{"unsigned", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			sum := sha1.Sum(nil)
			_, _ = io.WriteString(w, `{"hash_type":"SHA1","hash_value":"`+hex.EncodeToString(sum[:])+`","download_url":"`+s.url+`/v3/x"}`)
		}, 502, "unreachable"},
	} {
		for _, accept := range []string{"text/csv", "application/json"} {
			s.change = tc.change
			r, body, err := s.get("books-token", "/gateway/bills/trade?date="+date, accept)
			if err != nil || r.StatusCode != tc.status || r.Header.Get("Wechatpay-Gateway-Refused") != tc.rule || !json.Valid([]byte(body)) {
				t.Errorf("%s: %d %v %s %v", tc.name, r.StatusCode, r.Header, body, err)
			}
		}
	}
	s.change = nil
	if r, _, err := s.get("books-token", "/gateway/bills/trade?date="+date, ""); err != nil || r.StatusCode != 200 {
		t.Error(r.StatusCode, err)
	}
}

// TestReconcile: the day is compared when its bill can be ready, also when there
// is none.
func TestReconcile(t *testing.T) {
	date, ctx := beijingDay(), context.Background()
	s := newBillShop(t)
	from, to, err := bill.Day(date)
	if err != nil {
		t.Fatal(err)
	}
	ready, err := bill.ReadyAt(date)
	if err != nil || !ready.Equal(to.Add(10*time.Hour)) || to.Sub(from) != 24*time.Hour {
		t.Fatal(from, to, ready, err)
	}
	if _, err := s.api.Reconcile(ctx, date, nil); !errors.Is(err, bill.ErrNotReady) {
		t.Errorf("today: %v", err)
	}
	if _, err := s.api.Reconcile(ctx, "20261122", nil); !errors.Is(err, bill.ErrRequest) {
		t.Error(err)
	}
	s.ahead = time.Until(ready) + time.Second
	if r, err := s.api.Reconcile(ctx, date, nil); err != nil || !r.NoBill || !r.Clean() {
		t.Errorf("an empty day: %+v %v", r, err)
	}
	s.pay("N20261122-1")
	r, err := s.api.Reconcile(ctx, date, nil)
	if err != nil || r.NoBill || r.Merchant != "demo" || r.Mchid != mchid || r.Counts[reconcile.PaidNotPaidHere] != 1 || r.Payments.ThereAmount != 100 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := s.api.QueryOrder(ctx, storage.OrderKey{Mchid: mchid, Number: "N20261122-1"}, storage.OrderBasic); err != nil {
		t.Fatal(err)
	}
	if r, err := s.api.Reconcile(ctx, date, nil); err != nil || !r.Clean() || r.Payments.Matched != 1 {
		t.Errorf("%+v %v", r, err)
	}
	s.change = func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusBadGateway) }
	if r, err := s.api.Reconcile(ctx, date, nil); r != nil || !errors.Is(err, bill.ErrUnavailable) {
		t.Errorf("%+v %v", r, err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// TestBillRequest: what names no bill is not asked for.
func TestBillRequest(t *testing.T) {
	g := newRig(t, rigOptions{})
	if _, err := g.api.Bill(context.Background(), bill.Request{Kind: "x"}); !errors.Is(err, bill.ErrRequest) {
		t.Error(err)
	}
}
