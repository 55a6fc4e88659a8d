package deliver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// TestOnTheReferenceModel runs dispatchers on the model that every store is held
// against: a backend that fails at random, callbacks that keep coming, and a
// reload every now and then. Everything is delivered, nothing is sent again after
// its success was recorded, and each order's notifications come in order.
func TestOnTheReferenceModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		const total, orders, merchants, generations = 400, 60, 3, 8
		rng := rand.New(rand.NewPCG(seed, 7))
		var mu sync.Mutex // of rng, too
		random := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return rng.IntN(n)
		}
		store := storagetest.NewModel(nil)
		ctx := context.Background()

		delivered := map[string]bool{} // the backend said so
		last := map[string]string{}    // per order
		under := map[string]int{}
		route := &notify.Route{Ack: notify.AckCommit, Payload: notify.PayloadEnvelope, Retry: notify.DefaultRetry, Timeout: 10 * time.Second}
		route.Deliverer = deliverFunc(func(ctx context.Context, d *notify.Delivery) (notify.Response, error) {
			id, group := d.Record.ID, d.Record.Group
			mu.Lock()
			if delivered[id] {
				t.Errorf("%s was sent after its success", id)
			}
			if id < last[group] {
				t.Errorf("%s came after %s", id, last[group])
			}
			if under[group]++; under[group] > 1 {
				t.Errorf("two of %s at a time", group)
			}
			last[group] = id
			mu.Unlock()
			defer func() {
				mu.Lock()
				under[group]--
				mu.Unlock()
			}()
			time.Sleep(time.Duration(random(300)) * time.Millisecond)
			switch random(12) {
			case 0:
				return notify.Response{Status: 500 + random(5)}, nil
			case 1:
				return notify.Response{}, errConnection
			case 2:
				return notify.Response{Status: 200, Body: []byte("fail")}, nil
			case 3:
				<-ctx.Done()
				return notify.Response{}, ctx.Err()
			case 4:
				panic(http.ErrAbortHandler)
			}
			mu.Lock()
			delivered[id] = true
			mu.Unlock()
			return notify.Response{Status: 200}, nil
		})

		for generation := range generations {
			d := New(Config{
				Store: store, Owner: fmt.Sprint("generation ", generation),
				Route: func(*storage.Record) *notify.Route { return route },
			})
			d.Start()
			for n := generation * total / generations; n < (generation+1)*total/generations; n++ {
				p := payment(n)
				p.Merchant, p.Group = fmt.Sprint("m", n%merchants), fmt.Sprint("order", n%orders)
				if _, err := store.Accept(ctx, storage.AcceptRequest{Notification: p}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(random(100)) * time.Millisecond)
			}
			if generation == generations-1 {
				time.Sleep(8 * time.Hour)
			}
			if err := d.Stop(ctx); err != nil {
				t.Errorf("Stop: %v", err)
			}
		}
		stats, err := store.Stats(ctx)
		if err != nil || stats.Pending != 0 || stats.Leased != 0 || stats.Dead != 0 || stats.Parked != 0 || len(delivered) != total {
			t.Errorf("%d of %d delivered, %+v, %v", len(delivered), total, stats, err)
		}
	})
}

type deliverFunc func(context.Context, *notify.Delivery) (notify.Response, error)

func (f deliverFunc) Deliver(ctx context.Context, d *notify.Delivery) (notify.Response, error) {
	return f(ctx, d)
}
