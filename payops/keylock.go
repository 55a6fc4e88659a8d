package payops

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Locks lets one call at a time at each number. The ledger alone decides between
// processes; the locks make a repeat wait for the running call instead of racing
// it, and close the gap between looking up whose number it is and taking it. Those
// that write into one ledger in one process share one Locks. It is safe for
// concurrent use; the zero value is ready, and it must not be copied.
type Locks struct {
	mu    sync.Mutex
	locks map[storage.OrderKey]*keyLock
}

type keyLock struct {
	held chan struct{} // holds one value while locked
	refs int
}

// lock takes all keys, in an order of its own, or none when ctx ends first.
func (l *Locks) lock(ctx context.Context, keys ...storage.OrderKey) (unlock func(), err error) {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b storage.OrderKey) int {
		return cmp.Or(cmp.Compare(a.Mchid, b.Mchid), cmp.Compare(a.SubMchid, b.SubMchid), cmp.Compare(a.Number, b.Number))
	})
	keys = slices.Compact(keys)
	taken := 0
	unlock = func() {
		for _, key := range keys[:taken] {
			l.release(key, true)
		}
	}
	for _, key := range keys {
		held := l.acquire(key)
		select {
		case held <- struct{}{}:
			taken++
		case <-ctx.Done():
			l.release(key, false)
			unlock()
			return nil, ctx.Err()
		}
	}
	return unlock, nil
}

func (l *Locks) acquire(key storage.OrderKey) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locks == nil {
		l.locks = map[storage.OrderKey]*keyLock{}
	}
	k := l.locks[key]
	if k == nil {
		k = &keyLock{held: make(chan struct{}, 1)}
		l.locks[key] = k
	}
	k.refs++
	return k.held
}

func (l *Locks) release(key storage.OrderKey, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.locks[key]
	if held {
		<-k.held
	}
	if k.refs--; k.refs == 0 {
		delete(l.locks, key)
	}
}
