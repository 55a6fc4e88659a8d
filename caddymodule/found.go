package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/receive"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/fallback"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// queryEvents is where the query fallback takes what it finds: the inbox, as if
// the callback had come.
type queryEvents struct{ g *gateway }

// Serves reports whether one notify handler takes the merchant's events.
func (q queryEvents) Serves(merchant string) bool { return q.g.routeOf(merchant) != nil }

// Told reports whether the inbox has the event.
func (q queryEvents) Told(ctx context.Context, merchant string, e fallback.Event) (bool, error) {
	m, ok := q.g.app.merchants[merchant]
	if !ok {
		return false, errNoMerchant
	}
	seen, err := event.Classify(event.Head{EventType: e.EventType}, e.Plaintext, m.Mchid())
	if err != nil {
		return false, err
	}
	_, err = q.g.store.Notification(ctx, seen.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Tell takes the event in.
func (q queryEvents) Tell(ctx context.Context, merchant, notifyURL string, e fallback.Event) error {
	m, ok := q.g.app.merchants[merchant]
	route := q.g.routeOf(merchant)
	if !ok || route == nil {
		return errNoMerchant
	}
	if notifyURL == "" {
		notifyURL, _ = m.NotifyURL()
	}
	found := receive.Query{EventType: e.EventType, Plaintext: e.Plaintext}
	if u, err := url.Parse(notifyURL); err == nil {
		found.Host, found.Path = u.Host, u.Path
	}
	return q.g.receiver.Found(ctx, route, m, found)
}

var errNoMerchant = errors.New("no such merchant, or no notify handler of its own")

// routeOf finds the route that delivers a merchant's events that came by no
// route: the only handler that names the merchant, or else the only one that
// names none. Where several could, none is guessed.
func (g *gateway) routeOf(merchant string) *notify.Route {
	var named, unnamed []*notify.Route
	for _, r := range g.app.routes {
		switch r.Merchant {
		case merchant:
			named = append(named, r)
		case "":
			unnamed = append(unnamed, r)
		}
	}
	for _, candidates := range [][]*notify.Route{named, unnamed} {
		switch len(candidates) {
		case 0:
		case 1:
			return candidates[0]
		default:
			return nil
		}
	}
	return nil
}

// warnUnserved tells whose callbacks nobody would ask for.
func (g *gateway) warnUnserved() {
	for _, h := range g.app.apis {
		if name := h.merchant.Name(); g.routeOf(name) == nil {
			g.log.Warn("the query fallback tells nothing of this merchant: it needs exactly one wechatpay_notify that serves it", "merchant", name)
		}
	}
}

var _ fallback.Events = queryEvents{}

// ask asks WeChat Pay about what a parked notification speaks of, and returns the
// callback that its answer would have been.
func (g *gateway) ask(ctx context.Context, p receive.Parked) (fallback.Event, error) {
	api := g.ownAPI(p.Merchant)
	if api == nil {
		return fallback.Event{}, errNoMerchant
	}
	if p.Kind == event.Refund {
		answer, err := api.QueryRefund(ctx, p.Event.RefundKey())
		if err != nil {
			return fallback.Event{}, err
		}
		e, ok := fallback.RefundEvent(p.Event.Mchid, answer)
		if !ok {
			return e, fmt.Errorf("%w: the refund is being processed", receive.ErrNotPaid)
		}
		return e, nil
	}
	kind, ok := queryKind(p.Kind)
	if !ok {
		return fallback.Event{}, errNoQuery
	}
	answer, err := api.QueryOrder(ctx, p.Event.OrderKey(), kind)
	if err != nil {
		return fallback.Event{}, err
	}
	e, ok := fallback.PaidEvent(kind, answer)
	if !ok {
		return e, receive.ErrNotPaid
	}
	e.EventType = p.Event.EventType
	return e, nil
}

var errNoQuery = errors.New("there is no query for events of this kind")
