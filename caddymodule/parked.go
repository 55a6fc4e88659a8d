package caddymodule

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/receive"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// askBound is how long the question to WeChat may take after a callback was
// parked; the operator is alarmed within 10 s in any case.
const askBound = 8 * time.Second

// askers bounds the questions under way; further ones wait for their turn. A
// flood of parked callbacks must not become a flood of queries.
const askers = 8

// parked asks WeChat at once about an order or refund whose callback contradicts the
// ledger, or that the ledger does not know: a verified answer that agrees with
// the ledger is delivered in the callback's stead. The receiver calls it in a
// goroutine that it waits for.
func (g *gateway) parked(ctx context.Context, p receive.Parked) {
	m, ok := g.app.merchants[p.Merchant]
	if _, asked := queryKind(p.Kind); !ok || !asked && p.Kind != event.Refund {
		return
	}
	select {
	case g.asking <- struct{}{}:
		defer func() { <-g.asking }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	found, err := g.ask(ctx, p)
	if err == nil {
		err = g.receiver.Found(ctx, p.Route, m, receive.Query{
			EventType: found.EventType, Plaintext: found.Plaintext, Host: p.Host, Path: p.Path,
		})
	}
	switch {
	case err == nil:
	case errors.Is(err, payops.ErrOrderNotExist), errors.Is(err, payops.ErrRefundNotExist):
		g.log.Error("WeChat knows no order or refund that a parked notification speaks of", "id", p.ID)
	case errors.Is(err, receive.ErrNotPaid):
		g.log.Error("WeChat says that what a parked notification tells has not happened", "id", p.ID)
	default:
		g.log.Warn("asking WeChat about a parked notification does not settle it", "id", p.ID, "error", err)
	}
}

// queryKind says which query asks about an event's order. Refunds have one of their
// own; parking has none yet: its parked notifications wait for the ledger or an
// operator.
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
