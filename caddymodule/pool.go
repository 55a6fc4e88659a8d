package caddymodule

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// StorageModule is what a guest in the `wechatpay.storage` namespace offers.
// Provisioning one opens nothing: the store is opened when the app starts.
type StorageModule interface {
	// StoreKey names the physical store, never its options: the canonical
	// directory, or host and schema. Configurations with one key share one
	// open store.
	StoreKey() (string, error)
	// OpenStore opens the store.
	OpenStore(ctx context.Context, log *slog.Logger) (storage.Store, error)
	// Warnings tells what an operator should know about the place, at load.
	Warnings() []string
}

// stores holds the open stores of the process. Badger locks its directory, so
// a reload must hand the open store over from the old configuration to the new
// one instead of opening it twice.
var stores = caddy.NewUsagePool()

// drainBound is how long closing a store waits for requests that still use it.
// It stays below the 5 s after which WeChat gives a callback up, and below the
// 5 s that Caddy's systemd unit grants for stopping.
const drainBound = 4 * time.Second

// pooledStore is an open store, the requests that are using it, and the locks of
// the numbers that calls of all its configurations and handlers are on.
type pooledStore struct {
	storage.Store
	key   string
	users userCount
	locks payops.Locks
}

// storeLocks holds a lock per store key. The pool forgets a store before it is
// closed; the lock makes whoever opens the same place wait for that.
var storeLocks sync.Map // string → *sync.Mutex

func lockStore(key string) (unlock func()) {
	mu, _ := storeLocks.LoadOrStore(key, new(sync.Mutex))
	mu.(*sync.Mutex).Lock()
	return mu.(*sync.Mutex).Unlock
}

// wrapStore lets crash tests stand between the gateway and its store.
var wrapStore = func(st storage.Store) storage.Store { return st }

// acquireStore opens the module's store or takes the one that is open already.
// Each success must be matched by one releaseStore.
func acquireStore(ctx context.Context, m StorageModule, log *slog.Logger) (*pooledStore, error) {
	key, err := m.StoreKey()
	if err != nil {
		return nil, err
	}
	defer lockStore(key)()
	val, _, err := stores.LoadOrNew(key, func() (caddy.Destructor, error) {
		st, err := m.OpenStore(ctx, log)
		if err != nil {
			return nil, err
		}
		return &pooledStore{Store: wrapStore(st), key: key}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	return val.(*pooledStore), nil
}

// releaseStore gives one reference back; the last one closes the store.
func releaseStore(p *pooledStore) error {
	defer lockStore(p.key)()
	_, err := stores.Delete(p.key)
	return err
}

// Destruct closes the store when its last configuration has let go of it and
// the requests that use it have ended, or after drainBound.
func (p *pooledStore) Destruct() error {
	p.users.wait(drainBound)
	return p.Close()
}

// userCount counts users of something that is to be closed later. Unlike a
// WaitGroup it may be waited for with a bound, and users may come and go while
// somebody waits. The zero value is ready.
type userCount struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to zero; nil when nobody waits
}

func (u *userCount) add() (done func()) {
	u.mu.Lock()
	u.n++
	u.mu.Unlock()
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.n--
		if u.n == 0 && u.idle != nil {
			close(u.idle)
			u.idle = nil
		}
	}
}

// wait returns true when there are no users, or false after the bound.
func (u *userCount) wait(bound time.Duration) bool {
	u.mu.Lock()
	if u.n == 0 {
		u.mu.Unlock()
		return true
	}
	if u.idle == nil {
		u.idle = make(chan struct{})
	}
	idle := u.idle
	u.mu.Unlock()
	t := time.NewTimer(bound)
	defer t.Stop()
	select {
	case <-idle:
		return true
	case <-t.C:
		return false
	}
}

var _ caddy.Destructor = (*pooledStore)(nil)
