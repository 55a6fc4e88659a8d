package caddymodule

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/agenda"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/fallback"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// workLease is how long a piece of work is protected: a query and a close, each
	// with its fail-over, and a margin.
	workLease = 2 * time.Minute
	// workBound is how long work under way may take to end when the configuration
	// does. What is cut off is due again at once.
	workBound = 2 * time.Second
	// absentMerchant is how long work of a merchant that is not configured waits
	// until it is looked at again.
	absentMerchant = 10 * time.Minute
)

// newRunner makes what does the work of the store's agenda.
func (g *gateway) newRunner(owner string) (*agenda.Runner, error) {
	asks, err := fallback.New(fallback.Config{
		Ledger: g.store,
		API: func(merchant string) fallback.API {
			if api := g.ownAPI(merchant); api != nil {
				return asker{api}
			}
			return nil
		},
		Events: queryEvents{g},
		Logger: g.log,
	})
	if err != nil {
		return nil, err
	}
	return agenda.New(agenda.Config{
		Agenda: g.store,
		Owner:  owner,
		Kinds: []agenda.Kind{
			{Name: fallback.KindOrder, Do: asks.Order, Lease: workLease},
			{Name: fallback.KindRefund, Do: asks.Refund, Lease: workLease},
			{Name: resource.WorkClose, Do: g.closer(), Lease: workLease},
		},
		Logger:   g.log,
		Observer: workObserver{g},
	})
}

// ownAPI is the payment API that the gateway itself uses for a merchant; nil when
// there is no such merchant. Nobody can call it from outside.
func (g *gateway) ownAPI(name string) *payops.API {
	m, ok := g.app.merchants[name]
	if !ok {
		return nil
	}
	g.ownMu.Lock()
	defer g.ownMu.Unlock()
	api, ok := g.own[name]
	if !ok {
		var err error
		if api, err = g.newAPI(m, caller.Nobody(), guard.Policy{}, nil); err != nil {
			g.log.Error("making the gateway's own payment API", "merchant", name, "error", err)
			return nil
		}
		g.own[name] = api
	}
	return api
}

// asker is a merchant's API as the query fallback wants it.
type asker struct{ *payops.API }

// QueryRefund asks at the path that the refund was applied for at.
func (a asker) QueryRefund(ctx context.Context, key storage.RefundKey, ecommerce bool) ([]byte, error) {
	if ecommerce {
		return a.QueryEcommerceRefund(ctx, key)
	}
	return a.API.QueryRefund(ctx, key)
}

// closer carries out the closes that had to wait. Those of a merchant that is not
// configured stay, and are logged once.
func (g *gateway) closer() agenda.Handler {
	var absent sync.Map
	return func(ctx context.Context, w storage.Work) (time.Time, error) {
		api := g.ownAPI(w.Merchant)
		if api == nil {
			if _, told := absent.LoadOrStore(w.Merchant, true); !told {
				g.log.Warn("closes wait for a merchant that is not configured", "merchant", w.Merchant)
			}
			return time.Now().Add(absentMerchant), nil
		}
		next, err := api.CloseDue(ctx, w)
		if err != nil && next.IsZero() { // for good
			g.log.Error("an order is not closed", "merchant", w.Merchant, "error", err)
			err = nil
		}
		return next, err
	}
}

// workObserver counts work by merchant, of those that are configured.
type workObserver struct{ g *gateway }

// Worked counts a piece of work.
func (o workObserver) Worked(kind, merchant string, result agenda.Result, _ time.Duration) {
	if _, ok := o.g.app.merchants[merchant]; !ok {
		merchant = ""
	}
	collectors.work.WithLabelValues(merchant, kind, string(result)).Inc()
}

var (
	_ fallback.API    = asker{}
	_ agenda.Observer = workObserver{}
)
