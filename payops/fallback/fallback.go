package fallback

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// API asks WeChat Pay, signed and verified, for one merchant, and writes what it
// says into the ledger before it returns.
type API interface {
	// QueryOrder returns WeChat Pay's verified answer about an order.
	QueryOrder(ctx context.Context, key storage.OrderKey, kind storage.OrderKind) ([]byte, error)
	// QueryRefund returns WeChat Pay's verified answer about a refund; ecommerce
	// names the API it was applied for at.
	QueryRefund(ctx context.Context, key storage.RefundKey, ecommerce bool) ([]byte, error)
	// CloseOrder closes an order that is not paid. It fails when WeChat Pay did not
	// say that it is closed.
	CloseOrder(ctx context.Context, key storage.OrderKey, kind storage.OrderKind) error
}

// Events is where callbacks go, and what a query finds in their stead.
type Events interface {
	// Serves reports whether somebody takes events of the merchant.
	Serves(merchant string) bool
	// Told reports whether the event is there already.
	Told(ctx context.Context, merchant string, e Event) (bool, error)
	// Tell takes the event in as if its callback had come. Telling what is there
	// changes nothing. notifyURL is the order's, "" for the merchant's own.
	Tell(ctx context.Context, merchant, notifyURL string, e Event) error
}

const (
	// DefaultRate is how many questions a second one merchant asks at most.
	DefaultRate = 10
	// unconfigured is how long work of a merchant that is not there waits.
	unconfigured = 10 * time.Minute
)

// Config is what a [Fallback] needs.
type Config struct {
	// Ledger knows what is settled. Required.
	Ledger storage.Ledger
	// API gives a merchant's; nil when there is no such merchant. Required.
	API func(merchant string) API
	// Events takes what is found. Required.
	Events Events
	// Rate is how many questions a second one merchant asks at most, in bursts of
	// as many. Default: [DefaultRate].
	Rate int
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Jitter returns a random number in [0,1). Default: math/rand/v2.
	Jitter func() float64
	// Logger gets no body and no openid. Default: discards.
	Logger *slog.Logger
}

// Fallback does the work of [KindOrder] and [KindRefund]. It starts no goroutine
// and is safe for concurrent use.
type Fallback struct {
	cfg Config

	mu       sync.Mutex
	limiters map[string]*rate.Limiter // by merchant
	missing  map[string]bool          // merchants whose absence is logged
}

// New makes a Fallback.
func New(cfg Config) (*Fallback, error) {
	if cfg.Ledger == nil || cfg.API == nil || cfg.Events == nil {
		return nil, errors.New("fallback: a ledger, an API and a place for events are needed")
	}
	if cfg.Rate <= 0 {
		cfg.Rate = DefaultRate
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Fallback{cfg: cfg, limiters: make(map[string]*rate.Limiter), missing: make(map[string]bool)}, nil
}

// api finds the merchant's API. Work of a merchant that is not configured stays,
// and is looked at again later: wait is when.
func (f *Fallback) api(merchant string) (api API, wait time.Time) {
	api = f.cfg.API(merchant)
	f.mu.Lock()
	defer f.mu.Unlock()
	if api != nil {
		delete(f.missing, merchant)
		return api, time.Time{}
	}
	if !f.missing[merchant] {
		f.missing[merchant] = true
		f.cfg.Logger.Warn("queries wait for a merchant that is not configured", "merchant", merchant)
	}
	return nil, f.cfg.Now().Add(unconfigured)
}

// turn waits until the merchant may ask again.
func (f *Fallback) turn(ctx context.Context, merchant string) error {
	f.mu.Lock()
	limiter := f.limiters[merchant]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Limit(f.cfg.Rate), f.cfg.Rate)
		f.limiters[merchant] = limiter
	}
	f.mu.Unlock()
	return limiter.Wait(ctx)
}

// Order does one step of an order's schedule; it is an agenda.Handler.
func (f *Fallback) Order(ctx context.Context, w storage.Work) (next time.Time, err error) {
	p, err := readOrder(w.Payload)
	if err != nil {
		f.cfg.Logger.Error("an order's query is dropped", "error", err)
		return time.Time{}, nil
	}
	api, wait := f.api(w.Merchant)
	if api == nil {
		return wait, nil
	}
	o, err := f.cfg.Ledger.Order(ctx, p.Order)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return again(p.Since, f.cfg.Now()), err
	case o.Key != p.Order || o.Origin != storage.OriginGateway:
		return time.Time{}, nil
	}
	now := f.cfg.Now()
	s := step{
		since:   p.Since,
		next:    late(nextOrder(p.Since, o.TimeExpire, now), p.Since, f.cfg.Jitter()),
		expired: !o.TimeExpire.IsZero() && !now.Before(o.TimeExpire.Add(afterExpiry)),
		tells:   !o.ForeignNotifyURL && f.cfg.Events.Serves(w.Merchant),
	}
	switch o.State {
	case storage.OrderRejected, storage.OrderClosed, storage.OrderRegistered:
		return time.Time{}, nil
	case storage.OrderPaid:
		if o.ForeignNotifyURL {
			return time.Time{}, nil
		}
		if !s.tells {
			return f.untold(w, s.next)
		}
		if e, ok := PaidRow(&o); ok {
			switch told, err := f.cfg.Events.Told(ctx, w.Merchant, e); {
			case err != nil:
				return f.retry(s, err)
			case told:
				return time.Time{}, nil
			}
		}
	case storage.OrderIntended, storage.OrderUnknown, storage.OrderCreated:
		if o.ForeignNotifyURL && o.TimeExpire.IsZero() {
			return time.Time{}, nil // nothing to tell and nothing to close
		}
		if !s.tells && !s.expired {
			return s.next, nil
		}
	}
	return f.askOrder(ctx, w, api, &o, s)
}

// step is where a schedule stands.
type step struct {
	since, next    time.Time
	expired, tells bool
}

// askOrder asks about an order, tells what is found, and closes what has expired.
func (f *Fallback) askOrder(ctx context.Context, w storage.Work, api API, o *storage.Order, s step) (next time.Time, err error) {
	if err := f.turn(ctx, w.Merchant); err != nil {
		return f.retry(s, err)
	}
	answer, err := api.QueryOrder(ctx, o.Key, o.Kind)
	if err != nil {
		return f.retry(s, err)
	}
	switch orderState(o.Kind, answer) {
	case storage.OrderPaid:
		if o.ForeignNotifyURL {
			return time.Time{}, nil
		}
		if !s.tells {
			return f.untold(w, s.next)
		}
		e, _ := PaidEvent(o.Kind, answer)
		if err := f.cfg.Events.Tell(ctx, w.Merchant, o.NotifyURL, e); err != nil {
			return f.retry(s, err)
		}
		return time.Time{}, nil
	case storage.OrderClosed:
		return time.Time{}, nil
	case storage.OrderIntended, storage.OrderUnknown, storage.OrderCreated, storage.OrderRejected, storage.OrderRegistered:
	}
	if !s.expired {
		return s.next, nil
	}
	// Whoever pays now is too late for WeChat Pay, too; whoever was faster makes
	// the close fail, and the next question finds the payment.
	if err := api.CloseOrder(ctx, o.Key, o.Kind); err != nil {
		return f.retry(s, err)
	}
	return time.Time{}, nil
}

// retry asks again soon, and no later than the next step.
func (f *Fallback) retry(s step, err error) (time.Time, error) {
	soon := again(s.since, f.cfg.Now())
	if !s.next.IsZero() && s.next.Before(soon) {
		soon = s.next
	}
	if f.cfg.Now().Sub(s.since) > refundLife {
		soon = time.Time{} // never answered in a year
	}
	return soon, err
}

// untold leaves what nobody takes yet to the next step.
func (f *Fallback) untold(w storage.Work, next time.Time) (time.Time, error) {
	if next.IsZero() {
		f.cfg.Logger.Warn("a payment or refund was never told, since no notify handler serves its merchant", "merchant", w.Merchant)
	}
	return next, nil
}

// Refund does one step of a refund's schedule; it is an agenda.Handler.
func (f *Fallback) Refund(ctx context.Context, w storage.Work) (next time.Time, err error) {
	p, err := readRefund(w.Payload)
	if err != nil {
		f.cfg.Logger.Error("a refund's query is dropped", "error", err)
		return time.Time{}, nil
	}
	api, wait := f.api(w.Merchant)
	if api == nil {
		return wait, nil
	}
	r, err := f.cfg.Ledger.Refund(ctx, p.Refund)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return again(p.Since, f.cfg.Now()), err
	}
	now := f.cfg.Now()
	s := step{since: p.Since, next: late(nextRefund(p.Since, now), p.Since, f.cfg.Jitter())}
	s.tells = !p.Foreign && f.cfg.Events.Serves(w.Merchant)
	if r.State == storage.RefundRejected || r.State.Final() && p.Foreign {
		return time.Time{}, nil
	}
	if r.State.Final() {
		if !s.tells {
			return f.untold(w, s.next)
		}
		if e, ok := RefundRow(&r); ok {
			switch told, err := f.cfg.Events.Told(ctx, w.Merchant, e); {
			case err != nil:
				return f.retry(s, err)
			case told:
				return time.Time{}, nil
			}
		}
	}
	if !s.tells && !p.Foreign {
		return s.next, nil
	}
	if err := f.turn(ctx, w.Merchant); err != nil {
		return f.retry(s, err)
	}
	answer, err := api.QueryRefund(ctx, p.Refund, p.Ecommerce)
	if err != nil {
		return f.retry(s, err)
	}
	e, found := RefundEvent(p.Refund.Mchid, answer)
	if found && s.tells {
		if err := f.cfg.Events.Tell(ctx, w.Merchant, "", e); err != nil {
			return f.retry(s, err)
		}
	}
	if found && e.EventType != refundTypes["ABNORMAL"] {
		return time.Time{}, nil
	}
	return s.next, nil
}
