package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/bill"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/reconcile"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// keysArrived signals when a merchant holds keys.
type keysArrived struct {
	merchant.NopMetrics
	arrived chan struct{}
}

func (k keysArrived) KeySetChanged(_ string, keys *merchant.KeySet) {
	if keys.Len() > 0 {
		select {
		case k.arrived <- struct{}{}:
		default:
		}
	}
}

// answerAll is a backend that takes every callback.
type answerAll struct{}

func (answerAll) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
}

// shop is a payment API and a client of bills in front of a sandbox.
type shop struct {
	t        *testing.T
	platform *sandbox.Platform
	sender   *send.Sender
	api      *payops.API
	ledger   storage.Ledger
	bills    *bill.Client
	dir      string
	keys     []storage.OrderKey
	refunds  []storage.RefundKey
}

func newShop(t *testing.T) *shop {
	t.Helper()
	p, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: "wxd678efh567hg6787"}}, Keys: sandbox.PublicKeyMode,
		Client: &http.Client{Transport: answerAll{}}, BillsAtOnce: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	arrived := keysArrived{arrived: make(chan struct{}, 1)}
	m, err := merchant.New(merchant.Config{Name: "shop", Mchid: mchid, Sandbox: server.URL, NotifyURL: "https://shop.example.com/n"},
		merchant.Deps{Metrics: arrived})
	if err != nil {
		t.Fatal(err)
	}
	m.Start(nil)
	t.Cleanup(m.Stop)
	<-arrived.arrived
	t.Cleanup(m.HTTPClient().CloseIdleConnections)
	s := &shop{t: t, platform: p, ledger: storagetest.NewModel(nil), dir: t.TempDir()}
	callers, err := caller.New(mchid, []caller.Config{{Name: "erp", Token: merchant.NewSecret("token"), Allow: []string{"*"}}})
	if err != nil {
		t.Fatal(err)
	}
	if s.api, err = payops.New(payops.Config{Merchant: m, Ledger: s.ledger, Callers: callers}); err != nil {
		t.Fatal(err)
	}
	s.sender = send.New(send.Config{Merchant: m})
	if s.bills, err = bill.NewClient(bill.Config{Sender: s.sender, Bases: m.APIBases(), Dir: s.dir}); err != nil {
		t.Fatal(err)
	}
	return s
}

// call makes one call through the payment API.
func (s *shop) call(method, target, body string) {
	s.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	if w.Code >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
}

func orderBody(number string, amount int) string {
	return fmt.Sprintf(`{"out_trade_no":%q,"description":"茶, \"明前\"","attach":"a,b","amount":{"total":%d}}`, number, amount)
}

// order makes an order and pays it.
func (s *shop) order(number string, amount int, f sandbox.Faults) storage.OrderKey {
	s.t.Helper()
	s.call("POST", "/v3/pay/transactions/native", orderBody(number, amount))
	if _, err := s.platform.Pay(number, f); err != nil {
		s.t.Fatal(err)
	}
	key := storage.OrderKey{Mchid: mchid, Number: number}
	s.keys = append(s.keys, key)
	return key
}

// learn asks what became of an order.
func (s *shop) learn(key storage.OrderKey) {
	s.t.Helper()
	if _, err := s.api.QueryOrder(context.Background(), key, storage.OrderBasic); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) refund(order, number string, amount, total int) {
	s.t.Helper()
	s.call("POST", "/v3/refund/domestic/refunds", fmt.Sprintf(
		`{"out_trade_no":%q,"out_refund_no":%q,"amount":{"refund":%d,"total":%d,"currency":"CNY"}}`, order, number, amount, total))
	s.refunds = append(s.refunds, storage.RefundKey{Mchid: mchid, OutRefundNo: number})
}

// PaidOn and RefundsOn list what this test made.
func (s *shop) PaidOn(ctx context.Context, _ string, _, _ time.Time) iter.Seq2[storage.Order, error] {
	return func(yield func(storage.Order, error) bool) {
		for _, key := range s.keys {
			if o, err := s.ledger.Order(ctx, key); !yield(o, err) || err != nil {
				return
			}
		}
	}
}

func (s *shop) RefundsOn(ctx context.Context, _ string, _, _ time.Time) iter.Seq2[reconcile.AcceptedRefund, error] {
	return func(yield func(reconcile.AcceptedRefund, error) bool) {
		for _, key := range s.refunds {
			r, err := s.ledger.Refund(ctx, key)
			if !yield(reconcile.AcceptedRefund{Refund: r, AcceptedAt: r.CreatedAt}, err) || err != nil {
				return
			}
		}
	}
}

// compare fetches the day's bill and compares.
func (s *shop) compare(date string) *reconcile.Report {
	s.t.Helper()
	ctx := context.Background()
	file, err := s.bills.Fetch(ctx, bill.Request{Kind: bill.KindTrade, Date: date})
	if err != nil {
		s.t.Fatal(err)
	}
	totals, err := bill.CheckTrades(file.Reader())
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := reconcile.Compare(ctx, reconcile.Input{
		Merchant: "shop", Mchid: mchid, Date: date, Bill: bill.Trades(file.Reader()), Ledger: s.ledger, Listing: s, Slack: time.Nanosecond,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if r.Payments.There+r.Refunds.There != totals.Rows || r.Payments.ThereAmount != totals.Total || r.Refunds.ThereAmount != totals.RefundAsked {
		s.t.Errorf("%+v\n%+v", r, totals)
	}
	if err := file.Close(); err != nil {
		s.t.Error(err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		s.t.Error(left, err)
	}
	return r
}

// today runs a test within one Beijing day.
func today(t *testing.T, run func(t *testing.T, date string)) {
	date := func() string { return time.Now().In(bill.Beijing).Format(time.DateOnly) }
	start := time.Now().In(bill.Beijing)
	if midnight := time.Date(start.Year(), start.Month(), start.Day()+1, 0, 0, 0, 0, bill.Beijing); midnight.Sub(start) < 20*time.Second {
		<-time.After(time.Until(midnight))
	}
	run(t, date())
}

// TestSandbox compares what a platform that shares no code with the gateway says
// with the ledger of a payment API in front of it.
func TestSandbox(t *testing.T) { today(t, testSandbox) }

func testSandbox(t *testing.T, date string) {
	s, ctx := newShop(t), context.Background()
	if _, err := s.bills.Fetch(ctx, bill.Request{Kind: bill.KindTrade, Date: date}); !errors.Is(err, bill.ErrNoStatement) {
		t.Errorf("an empty day: %v", err)
	}
	if _, err := s.bills.Fetch(ctx, bill.Request{Kind: bill.KindFundFlow, Date: date, Account: bill.AccountFees}); !errors.Is(err, bill.ErrNoStatement) {
		t.Errorf("an empty account: %v", err)
	}
	var rejected *bill.RejectedError
	if _, err := s.bills.Fetch(ctx, bill.Request{Kind: bill.KindTrade, Date: date, SubMchid: "1900000109"}); !errors.As(err, &rejected) || rejected.Code != "NO_AUTH" {
		t.Errorf("a sub-merchant of nobody: %v", err)
	}

	one := s.order("N2026-1", 100, sandbox.Faults{})
	two := s.order("N2026-2", 250, sandbox.Faults{Coupon: 30})
	s.learn(one)
	s.learn(two)
	s.refund("N2026-2", "R1", 60, 250)
	if r := s.compare(date); !r.Clean() || r.Payments.Matched != 2 || r.Payments.MatchedAmount != 350 || r.Refunds.Matched != 1 || r.Refunds.MatchedAmount != 60 {
		t.Errorf("%+v", r)
	}

	// Paid, and nobody was told.
	three := s.order("N2026-3", 7, sandbox.Faults{})
	// Made and paid elsewhere.
	res := s.sender.Do(ctx, send.Request{Method: "POST", Target: "/v3/pay/transactions/native", Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(
		`{"appid":"wxd678efh567hg6787","mchid":"` + mchid + `","out_trade_no":"N2026-4","description":"x","notify_url":"https://shop.example.com/n","amount":{"total":9,"currency":"CNY"}}`)})
	if res.Outcome != send.Succeeded {
		t.Fatalf("%s %s", res.Outcome, res.Body)
	}
	if _, err := s.platform.Pay("N2026-4", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	// Unpaid, and the ledger has it as paid.
	s.call("POST", "/v3/pay/transactions/native", orderBody("N2026-5", 11))
	five := storage.OrderKey{Mchid: mchid, Number: "N2026-5"}
	s.keys = append(s.keys, five)
	s.edit(five, func(o *storage.Order) { o.State, o.PaidAt, o.TransactionID = storage.OrderPaid, time.Now(), "43" })
	// Of another amount.
	s.edit(two, func(o *storage.Order) { o.Amount.Total = 251 })
	r := s.compare(date)
	want := map[reconcile.Kind]int64{reconcile.PaidNotPaidHere: 1, reconcile.PaidUnknownHere: 1, reconcile.PaidMissingThere: 1, reconcile.PaidAmount: 1}
	if !reflect.DeepEqual(r.Counts, want) || r.Payments.Matched != 1 {
		t.Errorf("%+v", r)
	}
	s.learn(three)
	if r := s.compare(date); r.Counts[reconcile.PaidNotPaidHere] != 0 || r.Payments.Matched != 2 {
		t.Errorf("%+v", r)
	}

	for _, kind := range []bill.Type{bill.TypeSuccess, bill.TypeRefund} {
		file, err := s.bills.Fetch(ctx, bill.Request{Kind: bill.KindTrade, Date: date, Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		totals, err := bill.CheckTrades(file.Reader())
		if want := map[bill.Type]int64{bill.TypeSuccess: 4, bill.TypeRefund: 1}[kind]; err != nil || totals.Rows != want {
			t.Errorf("%s: %+v %v", kind, totals, err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	file, err := s.bills.Fetch(ctx, bill.Request{Kind: bill.KindFundFlow, Date: date})
	if err != nil {
		t.Fatal(err)
	}
	totals, err := bill.CheckFlows(file.Reader())
	if err != nil || totals.IncomeRows != 4 || totals.Income != 100+220+7+9 || totals.ExpenseRows != 1 || totals.Expense == 0 {
		t.Errorf("%+v %v", totals, err)
	}
	if _, err := io.Copy(io.Discard, file.Reader()); err != nil {
		t.Error(err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}

// edit changes an order behind the gateway's back.
func (s *shop) edit(key storage.OrderKey, change func(*storage.Order)) {
	s.t.Helper()
	if err := s.ledger.Change(context.Background(), storage.Keys{Order: key}, func(r *storage.Rows) error { change(r.Order); return nil }); err != nil {
		s.t.Fatal(err)
	}
}

// TestRandomDay: of a day of orders that are paid, refunded, told and not told,
// exactly those that nobody was told of differ, and asking settles them.
func TestRandomDay(t *testing.T) { today(t, testRandomDay) }

func testRandomDay(t *testing.T, date string) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	s := newShop(t)
	var untold []storage.OrderKey
	var total storage.Fen
	for i := range 120 {
		number, amount := fmt.Sprintf("N20261122-%d", i), 2+dice.IntN(1_000_000)
		if dice.IntN(5) == 0 { // never paid
			s.call("POST", "/v3/pay/transactions/native", orderBody(number, amount))
			continue
		}
		total += storage.Fen(amount)
		key := s.order(number, amount, sandbox.Faults{Coupon: int64(dice.IntN(amount))})
		if dice.IntN(4) == 0 {
			untold = append(untold, key)
			continue
		}
		s.learn(key)
		if dice.IntN(3) == 0 {
			s.refund(number, fmt.Sprintf("R%d", i), 1+dice.IntN(amount), amount)
		}
	}
	r := s.compare(date)
	if r.Counts[reconcile.PaidNotPaidHere] != int64(len(untold)) || len(r.Differences) != len(untold) || r.Payments.ThereAmount != total {
		t.Errorf("%d untold: %+v", len(untold), r)
	}
	for _, d := range r.Differences {
		s.learn(storage.OrderKey{Mchid: d.Mchid, Number: d.OutTradeNo})
	}
	if r := s.compare(date); !r.Clean() || r.Payments.MatchedAmount != total || r.Payments.Here != r.Payments.There || r.Refunds.Here != r.Refunds.There || r.Refunds.Matched != r.Refunds.There {
		t.Errorf("%+v", r)
	}
}
