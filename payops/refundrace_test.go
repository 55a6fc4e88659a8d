package payops_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// TestRefundRejectionOfOneCall: two gateways over one ledger send one refund; the
// rejection of one call says nothing about the other, in whatever order they begin
// and end.
func TestRefundRejectionOfOneCall(t *testing.T) {
	for _, endsFirst := range []string{"rejected", "unknown"} {
		t.Run(endsFirst, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			limits := map[string]guard.Limit{"all": {RefundPerDay: 100}}
			g := newRig(t, rigOptions{now: atNoon, limits: limits, answer: func(x got) reply {
				close(arrived)
				<-release
				return refuses(400)(x)
			}})
			hold := make(chan struct{})
			began := make(chan struct{})
			other := newRig(t, rigOptions{now: atNoon, limits: limits, store: g.ledger, answer: func(x got) reply {
				close(began)
				<-hold
				return reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
			}})
			put(t, g.ledger, paidToday("N20261122"))
			body := refundBody("N20261122", "R1", 30)
			first, second := make(chan *http.Response, 1), make(chan *http.Response, 1)
			go func() { first <- g.do("POST", refundPath, body) }()
			<-arrived
			go func() { second <- other.do("POST", refundPath, body) }()
			<-began
			end := func(gate chan struct{}, answer chan *http.Response, status int) {
				close(gate)
				if r := <-answer; r.StatusCode != status {
					t.Error(r.StatusCode, text(t, r))
				}
			}
			if endsFirst == "rejected" {
				end(release, first, 400)
				g.reserved("N20261122", 30, 1)
				end(hold, second, 500)
			} else {
				end(hold, second, 500)
				end(release, first, 400)
			}
			if row := g.refundRow("R1"); row.State != storage.RefundUnknown {
				t.Errorf("%+v", row)
			}
			g.reserved("N20261122", 30, 1)
			if got := sum(t, g.ledger, "all"); got != "30" {
				t.Error("counted:", got)
			}
			g.offset, other.offset = time.Hour, time.Hour
			g.refused("a new number", g.do("POST", refundPath, refundBody("N20261122", "R2", 70)), 409, payops.Rule(guard.RefundSameNumber))
		})
	}
}

// TestRefundUnknownReopens: a call that ends unknown takes back what somebody
// freed meanwhile.
func TestRefundUnknownReopens(t *testing.T) {
	var g *rig
	g = newRig(t, rigOptions{now: atNoon, answer: func(x got) reply {
		row := g.refundRow("R1")
		g.ledger.mu.Lock()
		defer g.ledger.mu.Unlock()
		o := g.ledger.orders[row.Order]
		row.MoveTo(storage.RefundRejected, &o, noon)
		g.ledger.refunds[row.Key], g.ledger.orders[row.Order] = row, o
		return reply{status: 500, body: fmt.Sprintf(`{"code":%q}`, "SYSTEM_ERROR")}
	}})
	put(t, g.ledger, paidToday("N20261122"))
	g.do("POST", refundPath, refundBody("N20261122", "R1", 30))
	if row := g.refundRow("R1"); row.State != storage.RefundUnknown {
		t.Errorf("%+v", row)
	}
	g.reserved("N20261122", 30, 1)
}

// TestOpenRefundStaysInTheWay: repeating an older refund does not make anybody
// forget that a newer one is open.
func TestOpenRefundStaysInTheWay(t *testing.T) {
	answer := takesRefunds("PROCESSING")
	g := newRig(t, rigOptions{now: atNoon, answer: func(x got) reply { return answer(x) }})
	put(t, g.ledger, paidToday("N20261122"))
	apply := func(number string, amount int) *http.Response {
		g.offset += guard.RefundEvery
		return g.do("POST", refundPath, refundBody("N20261122", number, amount))
	}
	if r := apply("L1", 10); r.StatusCode != 200 {
		t.Fatal(r.StatusCode)
	}
	answer = refuses(500)
	apply("L2", 20)
	answer = takesRefunds("PROCESSING")
	g.refused("L2 is open", apply("L3", 30), 409, payops.Rule(guard.RefundSameNumber))
	if r := apply("L1", 10); r.StatusCode != 200 {
		t.Error("a repeat:", r.StatusCode)
	}
	g.refused("L2 is open still", apply("L3", 30), 409, payops.Rule(guard.RefundSameNumber))
	if o := g.order("N20261122"); o.LastRefundNo != "L2" || len(o.OpenRefunds) != 1 {
		t.Errorf("%+v", o)
	}
	g.offset += time.Second
	if r := g.do("POST", refundPath, refundBody("N20261122", "L2", 20)); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	if r := apply("L3", 30); r.StatusCode != 200 {
		t.Error("nothing is open:", r.StatusCode, text(t, r))
	}
	g.reserved("N20261122", 60, 3)
}

// TestRefundAbsentElsewhere: that one product has no such refund frees none of
// the other.
func TestRefundAbsentElsewhere(t *testing.T) {
	const domestic, ecommerce = "/v3/refund/domestic/refunds", "/v3/ecommerce/refunds/out-refund-no"
	for _, tc := range []struct{ apply, here, elsewhere string }{
		{"/v3/ecommerce/refunds/apply", ecommerce, domestic},
		{refundPath, domestic, ecommerce},
	} {
		g := newRig(t, rigOptions{now: atNoon, answer: func(x got) reply {
			if x.method == "GET" {
				return reply{status: 404, body: `{"code":"RESOURCE_NOT_EXISTS","message":"x"}`}
			}
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
		}})
		put(t, g.ledger, paidToday("N20261122"))
		g.do("POST", tc.apply, refundBody("N20261122", "R1", 30))
		g.offset = time.Hour
		for _, sub := range []string{"", "?sub_mchid="} {
			g.do("GET", tc.elsewhere+"/R1"+sub, "")
		}
		key := g.refundRow("R1").Key
		elsewhere := g.api.QueryRefund
		if tc.here == domestic {
			elsewhere = g.api.QueryEcommerceRefund
		}
		if _, err := elsewhere(t.Context(), key); !errors.Is(err, payops.ErrRefundNotExist) {
			t.Error(err)
		}
		if row := g.refundRow("R1"); row.State != storage.RefundUnknown {
			t.Errorf("%s: %+v", tc.apply, row)
		}
		g.reserved("N20261122", 30, 1)
		g.do("GET", tc.here+"/R1", "")
		if row := g.refundRow("R1"); row.State != storage.RefundRejected {
			t.Errorf("%s: %+v", tc.apply, row)
		}
		g.reserved("N20261122", 0, 0)
	}
}
