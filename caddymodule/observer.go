package caddymodule

import (
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// observer turns what happens in the domain into metrics and Caddy events. One
// lives as long as its configuration.
type observer struct {
	ctx    caddy.Context
	events *caddyevents.App
	log    *zap.Logger

	queue chan emission
	done  chan struct{}
	once  sync.Once
	quit  chan struct{}
}

// emission is an event on its way to its handlers.
type emission struct {
	name string
	data map[string]any
}

// eventBacklog bounds the events that wait for slow handlers. Beyond it events
// are dropped and counted: an event handler must never hold up a callback.
const eventBacklog = 1024

func newObserver(ctx caddy.Context, events *caddyevents.App, log *zap.Logger) *observer {
	return &observer{
		ctx: ctx, events: events, log: log,
		queue: make(chan emission, eventBacklog),
		done:  make(chan struct{}), quit: make(chan struct{}),
	}
}

// start begins to hand events to their handlers.
func (o *observer) start() {
	go func() {
		defer close(o.done)
		for {
			select {
			case e := <-o.queue:
				o.events.Emit(o.ctx, e.name, e.data)
			case <-o.quit:
				return
			}
		}
	}()
}

// stop ends the hand-over; events still waiting are dropped.
func (o *observer) stop() {
	o.once.Do(func() { close(o.quit) })
	<-o.done
}

// emit queues an event. Names are lower case: Caddy looks handlers up by the
// name as it was given.
func (o *observer) emit(name string, data func() map[string]any) {
	if o.events == nil || !o.events.ShouldEmit(name) {
		return
	}
	select {
	case o.queue <- emission{name, data()}:
	default:
		collectors.eventsDropped.Inc()
	}
}

// CallbackAnswered counts a callback.
func (o *observer) CallbackAnswered(merchant, kind string, out notify.Outcome, _ int, took time.Duration) {
	collectors.notifications.WithLabelValues(merchant, kind, string(out)).Inc()
	collectors.notificationDuration.WithLabelValues(merchant, string(out)).Observe(took.Seconds())
}

// DeliveryAttempted counts an attempt.
func (o *observer) DeliveryAttempted(merchant, kind string, r notify.Result, took time.Duration) {
	collectors.deliveries.WithLabelValues(merchant, kind, string(r)).Inc()
	collectors.deliveryDuration.WithLabelValues(merchant, string(r)).Observe(took.Seconds())
}

// Changed emits wechatpay.notification_accepted, _delivered, _parked, _dead or
// _dismissed. Parked and dead ones are the alarm an operator waits for, and are
// logged as errors, too.
func (o *observer) Changed(c notify.Change) {
	var name string
	switch c.State {
	case storage.StatePending:
		name = "wechatpay.notification_accepted"
	case storage.StateDelivered:
		name = "wechatpay.notification_delivered"
	case storage.StateParked:
		name = "wechatpay.notification_parked"
	case storage.StateDead:
		name = "wechatpay.notification_dead"
	case storage.StateDismissed:
		name = "wechatpay.notification_dismissed"
	case storage.StateSuperseded:
		name = "wechatpay.notification_superseded"
	}
	if c.State == storage.StateParked || c.State == storage.StateDead {
		o.log.Error("notification needs an operator",
			zap.String("merchant", c.Merchant), zap.String("id", c.ID), zap.String("kind", c.Kind),
			zap.String("state", string(c.State)), zap.String("reason", c.Reason))
	}
	o.emit(name, func() map[string]any {
		return map[string]any{
			"merchant": c.Merchant, "id": c.ID, "kind": c.Kind, "event_type": c.EventType,
			"state": string(c.State), "reason": c.Reason, "attempt": c.Attempt,
		}
	})
}

// IDConflict raises wechatpay.id_conflict.
func (o *observer) IDConflict(merchant, kind string) {
	collectors.idConflicts.WithLabelValues(merchant, kind).Inc()
	o.log.Error("one notification id came with two business keys; both are kept",
		zap.String("merchant", merchant), zap.String("kind", kind))
	o.emit("wechatpay.id_conflict", func() map[string]any {
		return map[string]any{"merchant": merchant, "kind": kind}
	})
}

// AppidUnlisted raises wechatpay.appid_unlisted.
func (o *observer) AppidUnlisted(merchant, kind string) {
	collectors.appidUnlisted.WithLabelValues(merchant, kind).Inc()
	o.log.Warn("appid is not among the merchant's apps; add it with the app option if it is yours",
		zap.String("merchant", merchant), zap.String("kind", kind))
	o.emit("wechatpay.appid_unlisted", func() map[string]any {
		return map[string]any{"merchant": merchant, "kind": kind}
	})
}

// BreakerChanged raises wechatpay.breaker_open or wechatpay.breaker_closed.
func (o *observer) BreakerChanged(route string, open bool) {
	name, value := "wechatpay.breaker_closed", 0.0
	if open {
		name, value = "wechatpay.breaker_open", 1
	}
	collectors.breakerOpen.WithLabelValues(route).Set(value)
	o.emit(name, func() map[string]any { return map[string]any{"route": route} })
}

var _ notify.Observer = (*observer)(nil)
