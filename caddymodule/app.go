package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App is the WeChat Pay gateway: the merchants it holds keys of, and the store
// it remembers in. The handlers wechatpay_notify and wechatpay_api work for it.
type App struct {
	// Where the gateway keeps notifications and orders. Default: Badger, in
	// `wechatpay` in Caddy's data directory.
	StorageRaw json.RawMessage `json:"storage,omitempty" caddy:"namespace=wechatpay.storage inline_key=module"`

	// How long finished records are kept.
	Retain *Retain `json:"retain,omitempty"`

	// The merchants, by the name that handlers and paths use for them.
	Merchants map[string]*Merchant `json:"merchants,omitempty"`

	ctx       caddy.Context
	log       *zap.Logger
	storage   StorageModule
	merchants map[string]*merchant.Merchant
	observer  *observer

	mu      sync.Mutex
	routes  []*notify.Route
	apis    []*APIHandler
	running *gateway // set by Start; stays set after Cleanup

	ready    chan struct{} // closed when Start is done
	cleaning sync.Once
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "wechatpay",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision judges the configuration. It opens no store and no connection and
// starts nothing: `caddy validate` runs it beside a live gateway.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.log = ctx.Logger()
	a.ready = make(chan struct{})

	if err := a.loadStorage(ctx); err != nil {
		return err
	}
	if err := a.Retain.validate(); err != nil {
		return err
	}
	if err := a.provisionMerchants(ctx); err != nil {
		return err
	}

	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading events app: %w", err)
	}
	a.observer = newObserver(ctx, events.(*caddyevents.App), a.log)

	own := &inboxCollector{now: time.Now, stats: a.stats}
	if err := registerMetrics(ctx.GetMetricsRegistry(), own); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

func (a *App) loadStorage(ctx caddy.Context) error {
	if a.StorageRaw == nil {
		a.StorageRaw = json.RawMessage(`{"module":"badger"}`)
	}
	mod, err := ctx.LoadModule(a, "StorageRaw")
	if err != nil {
		return fmt.Errorf("loading storage: %w", err)
	}
	st, ok := mod.(StorageModule)
	if !ok {
		return fmt.Errorf("storage: module %T is not a store", mod)
	}
	a.storage = st
	for _, w := range st.Warnings() {
		a.log.Warn("storage", zap.String("warning", w))
	}
	return nil
}

func (a *App) provisionMerchants(ctx caddy.Context) error {
	if err := a.sandboxesApart(); err != nil {
		return err
	}
	a.merchants = make(map[string]*merchant.Merchant, len(a.Merchants))
	for _, name := range sortedKeys(a.Merchants) {
		if err := a.Merchants[name].validate(name); err != nil {
			return err
		}
		cfg, err := a.Merchants[name].resolve(name)
		if err != nil {
			return fmt.Errorf("merchant %s: %w", name, err)
		}
		m, err := merchant.New(cfg, merchant.Deps{
			Logger:  ctx.Slogger(),
			Metrics: merchantMetrics{},
		})
		if err != nil {
			return fmt.Errorf("merchant %s: %w", name, err)
		}
		for _, w := range append(m.Warnings(), a.Merchants[name].warnings()...) {
			a.log.Warn("merchant", zap.String("merchant", name), zap.String("warning", w))
		}
		a.merchants[name] = m
	}
	return nil
}

// sandboxesApart refuses a merchant number that is real in one block and a
// sandbox's in another: orders are kept by it, and play money would settle real
// ones.
func (a *App) sandboxesApart() error {
	real := make(map[string]string)
	for _, name := range sortedKeys(a.Merchants) {
		if m := a.Merchants[name]; m != nil && m.Sandbox == "" {
			real[m.Mchid] = name
		}
	}
	for _, name := range sortedKeys(a.Merchants) {
		m := a.Merchants[name]
		if m == nil || m.Sandbox == "" {
			continue
		}
		if other, ok := real[m.Mchid]; ok {
			return fmt.Errorf("merchant %s: sandbox: has the mchid of merchant %s, whose orders are real; give the sandbox another mchid, or a gateway and a store of its own", name, other)
		}
	}
	return nil
}

// Start opens the store, or takes it over from the configuration before, and
// begins to deliver. The HTTP app may have started already: its requests wait
// for this in acquire.
func (a *App) Start() error {
	store, err := acquireStore(a.ctx, a.storage, a.ctx.Slogger())
	if err != nil {
		return err
	}
	g, err := newGateway(a, store)
	if err != nil {
		return errors.Join(err, releaseStore(store))
	}
	a.observer.start()
	reload := a.adoptKeys()
	a.mu.Lock()
	a.running = g
	apis := slices.Clone(a.apis)
	a.mu.Unlock()
	for _, h := range apis {
		if err := h.bind(g); err != nil {
			return err // Cleanup gives the store back
		}
	}
	g.start()
	close(a.ready)
	if reload {
		time.Sleep(handOver)
	}
	return nil
}

// handOver is a breath that a reload takes before Caddy closes the listeners of
// the old configuration. What waits in their queues is reset when they close;
// loading a configuration keeps a processor busy for some milliseconds, and
// under load connections gather there meanwhile. With the breath, callbacks are
// reset about as often as requests to a bare respond (TestCallbacksDuringReloads:
// 16 to 24 in 160 reloads on an idle machine; without it about one each reload).
const handOver = 10 * time.Millisecond

// adoptKeys takes over the keys that sandbox merchants of the configuration
// before have fetched already, so that a reload refuses no callback. It reports
// whether there is a configuration before.
func (a *App) adoptKeys() (reload bool) {
	before, _, err := runningApp()
	if err != nil || before == a {
		return false
	}
	for name, m := range a.merchants {
		if prev, ok := before.merchants[name]; ok {
			m.Adopt(prev)
		}
	}
	return true
}

// Stop ends the claiming of new deliveries. Requests that are still under way
// keep their store, because Caddy does not wait for them.
func (a *App) Stop() error {
	if g := a.gateway(); g != nil {
		g.stop()
	}
	return nil
}

// Cleanup gives back what Start took, and only that: it is called, too, when
// Provision or another app's Start failed. When the process exits it waits for
// deliveries under way; on a reload they end in the background, since the new
// configuration shares the store and leases keep the two apart.
func (a *App) Cleanup() error {
	g := a.gateway()
	if g == nil {
		return nil
	}
	a.cleaning.Do(func() {
		g.stop()
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			g.finish()
		}()
		if caddy.Exiting() {
			<-finished
		}
	})
	return nil
}

func (a *App) gateway() *gateway {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

// errNotReady is why a request finds no store yet.
var errNotReady = errors.New("the gateway is still starting")

// readyBound is how long a request waits for the store during a start. WeChat
// waits 5 s for an answer.
const readyBound = 2 * time.Second

// acquire waits for the store and takes a lease on it. done must be called when
// the request is through.
func (a *App) acquire(ctx context.Context) (g *gateway, done func(), err error) {
	select {
	case <-a.ready:
	default:
		t := time.NewTimer(readyBound)
		defer t.Stop()
		select {
		case <-a.ready:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-t.C:
			return nil, nil, errNotReady
		}
	}
	g = a.gateway()
	return g, g.use(), nil
}

// addRoute makes a notify handler's route known for background deliveries, and
// returns the one to use: handlers that say the same, as a site with several
// addresses has them, are one route. Handlers are provisioned before any app
// starts.
func (a *App) addRoute(r *notify.Route) *notify.Route {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range a.routes {
		if other.ID == r.ID {
			return other
		}
	}
	a.routes = append(a.routes, r)
	return r
}

func (a *App) addAPI(h *APIHandler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.apis = append(a.apis, h)
}

// merchant returns the merchant block of that name, or an error that lists
// those there are.
func (a *App) merchant(name string) (*merchant.Merchant, error) {
	if m, ok := a.merchants[name]; ok {
		return m, nil
	}
	if len(a.merchants) == 0 {
		return nil, fmt.Errorf("merchant %q: there is no merchant block in the wechatpay global option", name)
	}
	return nil, fmt.Errorf("merchant %q: no such merchant block; there is %s",
		name, strings.Join(sortedKeys(a.merchants), ", "))
}

func (a *App) stats(ctx context.Context) (storage.Stats, error) {
	g := a.gateway()
	if g == nil {
		return storage.Stats{}, errNotReady
	}
	defer g.use()()
	return g.store.Stats(ctx)
}

// appOf returns the configured app for a handler that is being provisioned.
func appOf(ctx caddy.Context, directive string) (*App, error) {
	mod, err := ctx.AppIfConfigured("wechatpay")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, fmt.Errorf("%s: add a wechatpay global option with a merchant block: %w", directive, err)
	}
	if err != nil {
		return nil, err
	}
	return mod.(*App), nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
