package payops_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
)

// TestRulesOutliveTheProcess: what the rules count is in the store on disk.
func TestRulesOutliveTheProcess(t *testing.T) {
	options := badgerstore.Options{Dir: t.TempDir(), FreeFloor: -1}
	open := func() (*rig, *badgerstore.Store) {
		store, err := badgerstore.Open(context.Background(), options)
		if err != nil {
			t.Fatal(err)
		}
		return newRig(t, rigOptions{store: store, answer: takesRefunds("PROCESSING"), limits: map[string]guard.Limit{"all": {RefundPerOrder: 90}}}), store
	}
	g, store := open()
	put(t, store, paidOrder("N20261122"))
	if r := g.do("POST", refundPath, refundBody("N20261122", "R1", 60)); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	g, store = open()
	t.Cleanup(func() { _ = store.Close() })
	g.refused("the minute", g.do("POST", refundPath, refundBody("N20261122", "R2", 10)), 429, payops.Rule(guard.RefundInterval))
	g.refused("the content", g.do("POST", refundPath, refundBody("N20261122", "R1", 10)), 409, payops.Rule(guard.RefundContent))
	g.offset = time.Minute
	g.refused("the sum", g.do("POST", refundPath, refundBody("N20261122", "R2", 41)), 409, payops.Rule(guard.RefundTotal))
	g.refused("the caller's limit", g.do("POST", refundPath, refundBody("N20261122", "R2", 31)), 403, payops.Rule(guard.LimitRefundPerOrder))
	if r := g.do("POST", refundPath, refundBody("N20261122", "R2", 30)); r.StatusCode != 200 {
		t.Error(r.StatusCode, text(t, r))
	}
}

// TestRefundOfAPartnerOrder: by both paths; the sub-merchant is part of the key,
// and sp_appid and notify_url are filled in where they are missing.
func TestRefundOfAPartnerOrder(t *testing.T) {
	const sub = "1900000109"
	g := newRig(t, rigOptions{
		answer: takesRefunds("PROCESSING"),
		mutate: func(cfg *merchant.Config) { cfg.ServiceProvider = true },
	})
	o := paidOrder("N20261122")
	o.Key.SubMchid, o.Kind = sub, storage.OrderPartner
	put(t, g.ledger, o)
	const body = `{"sub_mchid":"` + sub + `","transaction_id":"42n20261122","out_refund_no":"R1","amount":{"refund":30,"total":100,"currency":"CNY"}`
	if r := g.do("POST", "/v3/ecommerce/refunds/apply", body+"}"); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	if sent := g.wx.requests()[0].body; sent != body+`,"sp_appid":"`+appid+`","notify_url":"`+notifyURL+`"}` {
		t.Error(sent)
	}
	row, err := g.ledger.Refund(context.Background(), storage.RefundKey{Mchid: mchid, SubMchid: sub, OutRefundNo: "R1"})
	if err != nil || row.Order != o.Key || row.State != storage.RefundProcessing {
		t.Errorf("%+v %v", row, err)
	}
	g.refused("the same payment by the other path", g.do("POST", refundPath, strings.Replace(body, "R1", "R2", 1)+"}"), 429, payops.Rule(guard.RefundInterval))
	for _, target := range []string{"/v3/ecommerce/refunds/id/5R1", "/v3/ecommerce/refunds/out-refund-no/R1"} {
		g.wx.answer = func(got) reply { return refundAnswer("R1", "N20261122", "SUCCESS", 30) }
		if r := g.do("GET", target+"?sub_mchid="+sub, ""); r.StatusCode != 200 {
			t.Error(target, r.StatusCode)
		}
	}
	if row, _ := g.ledger.Refund(context.Background(), row.Key); row.State != storage.RefundSuccess || row.RefundID != "5R1" {
		t.Errorf("%+v", row)
	}
}

// TestRefundNotifyURL: another's notify_url is told of.
func TestRefundNotifyURL(t *testing.T) {
	g := newRig(t, rigOptions{answer: takesRefunds("PROCESSING")})
	put(t, g.ledger, paidOrder("N20261122"))
	r := g.do("POST", refundPath, strings.Replace(refundBody("N20261122", "R1", 30), notifyURL, "https://elsewhere.example.com/cb", 1))
	if r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != "foreign_notify_url" {
		t.Error(r.StatusCode, r.Header)
	}
}

// TestRefundWithAStrangersSubMchid: a sub_mchid that the order does not have is no
// way around what the ledger knows of it.
func TestRefundWithAStrangersSubMchid(t *testing.T) {
	g := newRig(t, rigOptions{answer: takesRefunds("PROCESSING")})
	put(t, g.ledger, paidOrder("N20261122"))
	body := strings.TrimSuffix(refundBody("N20261122", "R1", 30), "}") + `,"sub_mchid":"1900000109"}`
	g.refused("a direct merchant's order", g.do("POST", refundPath, body), 409, payops.RuleMchid)
	if len(g.wx.requests()) != 0 {
		t.Error("it was sent")
	}
}
