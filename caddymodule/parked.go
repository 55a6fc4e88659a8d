package caddymodule

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/receive"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// askBound is how long the question to WeChat may take after a callback was
// parked; the operator is alarmed within 10 s in any case.
const askBound = 8 * time.Second

// askers bounds the questions under way; further ones wait for their turn. A
// flood of parked callbacks must not become a flood of queries.
const askers = 8

// parked asks WeChat at once about an order whose callback contradicts the
// ledger, or that the ledger does not know: a verified answer that agrees with
// the ledger is delivered in the callback's stead. The receiver calls it in a
// goroutine that it waits for.
func (g *gateway) parked(ctx context.Context, p receive.Parked) {
	kind, ok := queryKind(p.Kind)
	if !ok {
		return
	}
	select {
	case g.asking <- struct{}{}:
		defer func() { <-g.asking }()
	case <-ctx.Done():
		return
	}
	m, ok := g.app.merchants[p.Merchant]
	if !ok {
		return
	}
	api, err := g.newAPI(m, caller.Nobody(), guard.Policy{}, nil)
	if err != nil {
		g.log.Error("asking WeChat about a parked notification", "id", p.ID, "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	answer, err := api.QueryOrder(ctx, p.Event.OrderKey(), kind)
	if errors.Is(err, payops.ErrOrderNotExist) {
		g.log.Error("WeChat knows no order that a parked notification speaks of", "id", p.ID)
		return
	}
	if err != nil {
		g.log.Warn("asking WeChat about a parked notification", "id", p.ID, "error", err)
		return
	}
	err = g.receiver.Found(ctx, p.Route, m, receive.Query{
		EventType: p.Event.EventType, Plaintext: answer, Host: p.Host, Path: p.Path,
	})
	if errors.Is(err, receive.ErrNotPaid) {
		g.log.Error("WeChat says that the order of a parked notification is not paid", "id", p.ID)
		return
	}
	if err != nil {
		g.log.Warn("WeChat's answer about a parked notification does not settle it", "id", p.ID, "error", err)
	}
}

// queryKind says which query asks about an event's order. Refunds and parking
// have none yet: their parked notifications wait for the ledger or an operator.
func queryKind(k event.Kind) (storage.OrderKind, bool) {
	switch k {
	case event.Payment:
		return storage.OrderBasic, true
	case event.PartnerPayment:
		return storage.OrderPartner, true
	case event.Combine:
		return storage.OrderCombine, true
	case event.Refund, event.ParkingPayment, event.ParkingEntrance, event.ParkingReleased,
		event.PlateService, event.Payscore, event.PayscorePermission, event.ProfitSharing,
		event.ProfitSharingBack, event.Transfer, event.TransferBatch, event.Unknown:
		return "", false
	}
	return "", false
}

// recheck looks at an order's parked notifications again, since the ledger has
// changed. It returns at once.
func (g *gateway) recheck(key storage.OrderKey) {
	done := g.use() // finish waits for it
	go func() {
		defer done()
		ctx, cancel := context.WithTimeout(context.Background(), askBound)
		defer cancel()
		if err := g.receiver.Recheck(ctx, key); err != nil && !errors.Is(err, storage.ErrClosed) {
			g.log.Error("rechecking parked notifications", "error", err)
		}
	}()
}
