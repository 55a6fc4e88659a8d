package caddymodule

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/deliver"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/operate"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/receive"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/agenda"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// gateway is one configuration at work: its receiver, its dispatcher and the
// store they share with the configurations before and after it.
type gateway struct {
	app        *App
	store      *pooledStore
	receiver   *receive.Receiver
	dispatcher *deliver.Dispatcher
	runner     *agenda.Runner
	log        *slog.Logger
	pauses     *operate.Pauses
	places     []string // of the routes, see operate.PlaceOf

	users  userCount     // requests that were let in under this configuration
	asking chan struct{} // tokens of questions to WeChat under way

	ownMu sync.Mutex
	own   map[string]*payops.API // by merchant, see ownAPI

	ctx     context.Context // ends when the configuration stops
	cancel  context.CancelFunc
	workers sync.WaitGroup
}

// newGateway wires a configuration to its store. Nothing runs yet.
func newGateway(a *App, store *pooledStore) (*gateway, error) {
	g := &gateway{
		app: a, store: store, log: a.ctx.Slogger(), asking: make(chan struct{}, askers),
		own: make(map[string]*payops.API),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	// One owner per process and configuration: leases keep two of them apart.
	owner := uuid.Must(uuid.NewV7()).String()
	g.pauses = operate.NewPauses(store, time.Now, g.log)
	for _, r := range a.routes {
		g.places = append(g.places, operate.PlaceOf(r.ID))
	}
	g.dispatcher = deliver.New(deliver.Config{
		Store:    store,
		Route:    g.route,
		Paused:   g.paused,
		Owner:    owner,
		Logger:   g.log,
		Observer: a.observer,
	})
	g.receiver = receive.New(receive.Config{
		Store:    store,
		Logger:   g.log,
		Observer: a.observer,
		Sync:     syncDeliverer{g.dispatcher},
		Owner:    owner,
		Parked:   g.parked,
	})
	var err error
	g.runner, err = g.newRunner(owner)
	return g, err
}

// syncDeliverer lets the receiver deliver within a callback's own request.
type syncDeliverer struct{ *deliver.Dispatcher }

// Lease is how long an attempt on the route may take.
func (syncDeliverer) Lease(r *notify.Route) time.Duration { return deliver.Lease(r) }

// Attempt delivers once.
func (d syncDeliverer) Attempt(ctx context.Context, c storage.Claim, r *notify.Route) receive.SyncResult {
	a := d.Dispatcher.Attempt(ctx, c, r)
	return receive.SyncResult{Success: a.Success, Answer: a.Answer}
}

// start begins to deliver, to ask, to refresh keys and to sweep.
func (g *gateway) start() {
	for _, name := range sortedKeys(g.app.merchants) {
		g.app.merchants[name].Start(g.store)
	}
	g.warnUnserved()
	g.dispatcher.Start()
	g.runner.Start()
	g.workers.Go(g.sweep)
}

// stop ends the claiming of deliveries. It returns at once: a reload holds
// Caddy's configuration lock, and requests of this configuration that are under
// way may still deliver.
func (g *gateway) stop() {
	g.cancel()
	g.dispatcher.Halt()
	g.runner.Halt()
}

// finish waits for everything that uses the store and gives the store back.
func (g *gateway) finish() {
	bound := deliveryBound
	if caddy.Exiting() {
		bound = drainBound
	}
	deadline := time.Now().Add(bound)
	if !g.users.wait(bound) {
		g.log.Warn("requests are still using the store")
	}
	work, cancelWork := context.WithTimeout(context.Background(), workBound)
	defer cancelWork()
	if err := g.runner.Stop(work); err != nil {
		g.log.Debug("queries under way were cut off; they will be asked again", "error", err)
	}
	for _, h := range g.app.apis {
		if api := h.api.Load(); api != nil {
			api.Wait(work) // parking exits that were answered at their deadline
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if err := g.dispatcher.Stop(ctx); err != nil {
		g.log.Warn("deliveries under way were cut off; they will be sent again", "error", err)
	}
	g.receiver.Close()
	g.workers.Wait()
	for _, m := range g.app.merchants {
		m.Stop()
	}
	g.app.observer.stop()
	if err := releaseStore(g.store); err != nil {
		g.log.Error("closing the store", "error", err)
	}
}

// deliveryBound is how long deliveries of a configuration that was replaced may
// go on: the longest timeout a route may set, and a margin.
const deliveryBound = maxTimeout + 5*time.Second

// use lets a request use the gateway until done is called.
func (g *gateway) use() (done func()) {
	mine, stores := g.users.add(), g.store.users.add()
	return func() { stores(); mine() }
}

// route finds the route that delivers a notification: the one that took it in,
// or, when the configuration has changed since, the only one that delivers to
// the same place, or the only one that serves its merchant. Where several do,
// none is guessed and the notification waits: it must not be sent to somebody
// else.
func (g *gateway) route(rec *storage.Record) *notify.Route {
	place := rec.Route[:max(0, strings.LastIndexByte(rec.Route, '/'))]
	var samePlace, named, all []*notify.Route
	for _, r := range g.app.routes {
		if r.Merchant != "" && r.Merchant != rec.Merchant {
			continue
		}
		if r.ID == rec.Route {
			return r
		}
		if place != "" && strings.HasPrefix(r.ID, place+"/") {
			samePlace = append(samePlace, r)
		}
		if r.Merchant != "" {
			named = append(named, r)
		}
		all = append(all, r)
	}
	for _, candidates := range [][]*notify.Route{samePlace, named, all} {
		if len(candidates) == 1 {
			return candidates[0]
		}
		if len(candidates) > 1 {
			return nil
		}
	}
	return nil
}

// sweepInterval is how often retention is applied.
const sweepInterval = time.Hour

// sweep applies retention now and every hour.
func (g *gateway) sweep() {
	orders, bodies := g.app.Retain.retention()
	keep := storage.Retention{Orders: time.Duration(orders), Bodies: time.Duration(bodies)}
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		for more := true; more && g.ctx.Err() == nil; {
			swept, err := g.store.Sweep(g.ctx, keep)
			more = swept.More && err == nil
			if err != nil && !errors.Is(err, storage.ErrClosed) && g.ctx.Err() == nil {
				g.log.Error("sweeping the store", "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
	}
}
