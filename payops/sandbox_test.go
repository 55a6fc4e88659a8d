package payops_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
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

// inSandbox is a payment API in front of a sandbox, over the reference ledger.
type inSandbox struct {
	t        *testing.T
	api      *payops.API
	platform *sandbox.Platform
	ledger   storage.Ledger
	merchant *merchant.Merchant
}

func newInSandbox(t *testing.T, mode sandbox.KeyMode) *inSandbox {
	t.Helper()
	callbacks := &http.Client{Transport: answerAll{}}
	p, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: appid}}, Keys: mode, Client: callbacks,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	arrived := keysArrived{arrived: make(chan struct{}, 1)}
	m, err := merchant.New(merchant.Config{Name: "demo", Mchid: mchid, Sandbox: server.URL, NotifyURL: notifyURL},
		merchant.Deps{Metrics: arrived})
	if err != nil {
		t.Fatal(err)
	}
	m.Start(nil)
	t.Cleanup(m.Stop)
	<-arrived.arrived
	s := &inSandbox{t: t, platform: p, ledger: storagetest.NewModel(nil), merchant: m}
	s.open()
	return s
}

// open makes the API over the ledger.
func (s *inSandbox) open() {
	s.t.Helper()
	callers, err := caller.New(mchid, []caller.Config{
		{Name: "shop", Token: merchant.NewSecret("all-token"), Allow: []string{"pay", "combine", "query", "close", "refund"}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.api, err = payops.New(payops.Config{Merchant: s.merchant, Ledger: s.ledger, Callers: callers}); err != nil {
		s.t.Fatal(err)
	}
}

// answerAll is a merchant that takes every callback.
type answerAll struct{}

func (answerAll) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
}

func (s *inSandbox) do(method, target, body string, status int) string {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, newRequest(context.Background(), method, target, body))
	if w.Code != status {
		s.t.Fatalf("%s %s: %d %v %s, want %d", method, target, w.Code, w.Header(), w.Body, status)
	}
	return w.Body.String()
}

func (s *inSandbox) state(number string, want storage.OrderState) storage.Order {
	s.t.Helper()
	o, err := s.ledger.Order(context.Background(), storage.OrderKey{Mchid: mchid, Number: number})
	if err != nil || o.State != want {
		s.t.Fatalf("order %s: %+v %v, want %s", number, o, err, want)
	}
	return o
}

// TestSandbox runs the flows of the API against a platform that shares no code
// with it, in every key mode.
func TestSandbox(t *testing.T) {
	for _, mode := range []sandbox.KeyMode{sandbox.PublicKeyMode, sandbox.CertificatesMode, sandbox.BothMode} {
		t.Run(string(mode), func(t *testing.T) {
			s := newInSandbox(t, mode)
			ctx := context.Background()

			// basic: create with everything left out, repeat, pay, query
			body := `{"out_trade_no":"N2026|1122","description":"图书 <1>","amount":{"total":100}}`
			first := s.do("POST", nativePath, body, 200)
			if again := s.do("POST", nativePath, body, 200); gjson.Get(first, "code_url").String() == "" || again == "" {
				t.Error(first, again)
			}
			s.state("N2026|1122", storage.OrderCreated)
			s.do("POST", nativePath, strings.Replace(body, "100", "101", 1), 409)
			if _, err := s.platform.Pay("N2026|1122", sandbox.Faults{}); err != nil {
				t.Fatal(err)
			}
			answer, err := s.api.QueryOrder(ctx, storage.OrderKey{Mchid: mchid, Number: "N2026|1122"}, storage.OrderBasic)
			if err != nil || gjson.GetBytes(answer, "trade_state").String() != "SUCCESS" {
				t.Fatal(string(answer), err)
			}
			if o := s.state("N2026|1122", storage.OrderPaid); o.TransactionID == "" || o.PaidAt.IsZero() {
				t.Errorf("%+v", o)
			}
			id := gjson.GetBytes(answer, "transaction_id").String()
			s.do("GET", "/v3/pay/transactions/id/"+id, "", 200)
			s.do("POST", "/v3/pay/transactions/out-trade-no/N2026|1122/close", "", 409) // the rule says it first
			s.state("N2026|1122", storage.OrderPaid)

			// basic: close
			s.do("POST", nativePath, strings.Replace(body, "N2026|1122", "N20261123", 1), 200)
			s.do("POST", basicQuery+"N20261123/close", "", 204)
			s.state("N20261123", storage.OrderClosed)
			if _, err := s.api.QueryOrder(ctx, storage.OrderKey{Mchid: mchid, Number: "N99999999"}, storage.OrderBasic); !errors.Is(err, payops.ErrOrderNotExist) {
				t.Error(err)
			}

			// a verified rejection frees the number
			s.do("POST", nativePath, `{"out_trade_no":"N20261124","amount":{"total":100}}`, 400)
			s.state("N20261124", storage.OrderRejected)

			// combine: create, close with the list filled in, pay, query
			combine := func(n string) string {
				return fmt.Sprintf(`{"combine_out_trade_no":"%[1]s","sub_orders":[`+
					`{"mchid":"%[2]s","attach":"a","out_trade_no":"%[1]s-SUB1","description":"一","amount":{"total_amount":10,"currency":"CNY"}},`+
					`{"mchid":"%[2]s","attach":"b","out_trade_no":"%[1]s-SUB2","description":"二","amount":{"total_amount":5,"currency":"CNY"}}]}`, n, mchid)
			}
			s.do("POST", combinePath, combine("C1"), 200)
			s.do("POST", "/v3/combine-transactions/out-trade-no/C1/close", "", 204)
			s.state("C1", storage.OrderClosed)
			s.do("POST", combinePath, combine("C2"), 200)
			if _, err := s.platform.Pay("C2", sandbox.Faults{}); err != nil {
				t.Fatal(err)
			}
			s.do("GET", "/v3/combine-transactions/out-trade-no/C2", "", 200)
			if o := s.state("C2", storage.OrderPaid); o.Subs[0].TransactionID == "" || o.Subs[1].TransactionID == "" {
				t.Errorf("%+v", o)
			}
			s.do("POST", nativePath, strings.Replace(body, "N2026|1122", "C2-S1X", 1), 200)
			s.do("PUT", ordersPath+"C2", `{"sub_orders":[{"mchid":"`+mchid+`","out_trade_no":"C2-SUB1","amount":{"total_amount":10}},{"mchid":"`+mchid+`","out_trade_no":"C2-SUB2","amount":{"total_amount":6}}]}`, 409)
		})
	}
}

// TestSandboxRefunds walks the states of refunds against the same platform.
func TestSandboxRefunds(t *testing.T) {
	s := newInSandbox(t, sandbox.PublicKeyMode)
	ctx := context.Background()
	refund := func(number string, want storage.RefundState) storage.Refund {
		t.Helper()
		r, err := s.ledger.Refund(ctx, storage.RefundKey{Mchid: mchid, OutRefundNo: number})
		if err != nil || r.State != want {
			t.Fatalf("refund %s: %+v %v, want %s", number, r, err, want)
		}
		return r
	}
	if err := s.platform.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundProcessing, Count: 100}); err != nil {
		t.Fatal(err)
	}
	body := func(order, number string, amount int) string {
		return fmt.Sprintf(`{"out_trade_no":"%s","out_refund_no":"%s","amount":{"refund":%d,"total":100,"currency":"CNY"}}`, order, number, amount)
	}
	for i, tc := range []struct {
		settles sandbox.RefundStatus
		state   storage.RefundState
		left    storage.Fen // reserved
	}{
		{sandbox.RefundSuccess, storage.RefundSuccess, 60},
		{sandbox.RefundClosed, storage.RefundClosed, 0},
		{sandbox.RefundAbnormal, storage.RefundAbnormal, 60},
	} {
		order, number := fmt.Sprintf("N2026112%d", i), fmt.Sprintf("R%d", i)
		s.do("POST", nativePath, `{"out_trade_no":"`+order+`","description":"书","amount":{"total":100}}`, 200)
		s.do("POST", refundPath, body(order, number, 60), 409) // the gateway asks: not paid
		if _, err := s.platform.Pay(order, sandbox.Faults{}); err != nil {
			t.Fatal(err)
		}
		s.do("POST", refundPath, body(order, number, 101), 409)
		first := s.do("POST", refundPath, body(order, number, 60), 200)
		if again := s.do("POST", refundPath, body(order, number, 60), 200); again != first {
			t.Errorf("%s\n%s", first, again)
		}
		refund(number, storage.RefundProcessing)
		if o := s.state(order, storage.OrderPaid); o.RefundTotal != 60 || o.RefundCount != 1 {
			t.Errorf("%+v", o)
		}
		s.do("POST", refundPath, body(order, number+"b", 40), 429)
		if _, err := s.platform.SettleRefund(number, tc.settles, sandbox.Faults{}); err != nil {
			t.Fatal(err)
		}
		s.do("GET", refundPath+"/"+number, "", 200)
		row := refund(number, tc.state)
		if o := s.state(order, storage.OrderPaid); o.RefundTotal != tc.left {
			t.Errorf("%s: %+v", tc.settles, o)
		}
		abnormal := refundPath + "/" + row.RefundID + "/apply-abnormal-refund"
		if tc.state != storage.RefundAbnormal {
			s.do("POST", abnormal, `{"out_refund_no":"`+number+`","type":"MERCHANT_BANK_CARD"}`, 409)
			continue
		}
		s.do("POST", abnormal, `{"out_refund_no":"`+number+`","type":"MERCHANT_BANK_CARD"}`, 200)
		refund(number, storage.RefundProcessing)
		if _, err := s.platform.SettleRefund(number, sandbox.RefundSuccess, sandbox.Faults{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.api.QueryRefund(ctx, row.Key); err != nil {
			t.Fatal(err)
		}
		refund(number, storage.RefundSuccess)
	}

	// A combine order by its sub-orders.
	s.do("POST", combinePath, `{"combine_out_trade_no":"C1","sub_orders":[`+
		`{"mchid":"`+mchid+`","attach":"a","out_trade_no":"C1-SUB1","description":"一","amount":{"total_amount":100,"currency":"CNY"}},`+
		`{"mchid":"`+mchid+`","attach":"b","out_trade_no":"C1-SUB2","description":"二","amount":{"total_amount":100,"currency":"CNY"}}]}`, 200)
	if _, err := s.platform.Pay("C1", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	s.do("POST", refundPath, body("C1", "RC", 60), 409)
	s.do("POST", refundPath, body("C1-SUB1", "RC1", 100), 200)
	s.do("POST", refundPath, body("C1-SUB2", "RC2", 100), 200)
	if o := s.state("C1", storage.OrderPaid); o.RefundTotal != 200 || o.Subs[0].Refunds.Total != 100 {
		t.Errorf("%+v", o)
	}
}
