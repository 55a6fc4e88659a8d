package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// benchEvent is of the size of a usual payment notification with its resource
// decrypted.
func benchEvent(i int64, body []byte) storage.Notification {
	id := fmt.Sprintf("evt_%028d", i)
	return storage.Notification{
		ID: id, Key: "payment/" + mchid + "/" + id, Merchant: shop, Group: "payment/" + id, Mchid: mchid,
		NotificationID: "wx" + id, EventType: "TRANSACTION.SUCCESS", Kind: "payment", OutTradeNo: id,
		TransactionID: "4200" + id, Orders: []storage.OrderKey{{Mchid: mchid, Number: id}}, Money: true,
		Source: storage.SourceCallback, AmountCheck: storage.AmountMatched, ReceivedAt: time.Now(),
		Host: "pay.example.com", Path: "/wechatpay/notify/shop", Body: body, ResourceStart: 200, ResourceEnd: len(body) - 1,
	}
}

// Bench measures a store: acceptance at 1, 16 and 64 writers, the drain of a
// queue, and ledger changes, with memos beside them too. Every operation counted is durable.
func Bench(b *testing.B, h Harness) {
	body := bytes.Repeat([]byte(`{"k":"0123456789"},`), 120)[:2200]
	ctx := context.Background()
	parallel := func(b *testing.B, writers int, fn func(i int64) error) {
		b.ReportAllocs()
		b.ResetTimer()
		var wg sync.WaitGroup
		var next atomic.Int64
		for range writers {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
					if err := fn(i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	}
	accept := func(s storage.Store, i int64) error {
		a, err := s.Accept(ctx, storage.AcceptRequest{Notification: benchEvent(i, body)})
		if err == nil && a.Outcome != storage.AcceptedFresh {
			err = fmt.Errorf("outcome %d", a.Outcome)
		}
		return err
	}
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("Accept/writers=%d", writers), func(b *testing.B) {
			s := h.Open(b, Options{Now: time.Now})
			parallel(b, writers, func(i int64) error { return accept(s, i) })
		})
	}
	b.Run("AcceptDuplicate/writers=64", func(b *testing.B) {
		s := h.Open(b, Options{Now: time.Now})
		if err := accept(s, 0); err != nil {
			b.Fatal(err)
		}
		n := benchEvent(0, body)
		parallel(b, 64, func(int64) error {
			_, err := s.Accept(ctx, storage.AcceptRequest{Notification: n})
			return err
		})
	})
	for _, workers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("ClaimComplete/workers=%d", workers), func(b *testing.B) {
			s := h.Open(b, Options{Now: time.Now})
			var wg sync.WaitGroup
			for w := range 64 {
				wg.Go(func() {
					for i := w; i < b.N; i += 64 {
						if err := accept(s, int64(i)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			terms := storage.ClaimTerms{Owner: "bench", Lease: time.Hour}
			parallel(b, workers, func(int64) error {
				c, err := s.Claim(ctx, shop, terms, 1)
				if err != nil {
					return err
				}
				if len(c) != 1 {
					return fmt.Errorf("%d claims", len(c))
				}
				return s.Complete(ctx, c[0].Record.ID, c[0].Fence, storage.Completion{State: storage.StateDelivered, Status: 200})
			})
		})
	}
	b.Run("Change/writers=64", func(b *testing.B) {
		s := h.Open(b, Options{Now: time.Now})
		parallel(b, 64, func(i int64) error {
			k := storage.OrderKey{Mchid: mchid, Number: fmt.Sprint(i)}
			return s.Change(ctx, storage.Keys{Order: k}, func(r *storage.Rows) error {
				r.Order = &storage.Order{Key: k, Kind: storage.OrderBasic, Merchant: shop, State: storage.OrderIntended, Amount: storage.Money{Total: 100, Currency: "CNY"}, CreatedAt: time.Now()}
				return nil
			})
		})
	})
	for _, tt := range []struct {
		name string
		memo func(i int64) string
	}{
		{"ChangeMemo/shared/writers=64", func(int64) string { return "refunds/1900000001/erp/2026-03-01" }},
		{"ChangeMemo/own/writers=64", func(i int64) string { return fmt.Sprint("idempotency/", i) }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			s := h.Open(b, Options{Now: time.Now})
			parallel(b, 64, func(i int64) error {
				k, name := storage.OrderKey{Mchid: mchid, Number: fmt.Sprint(i)}, tt.memo(i)
				return s.Change(ctx, storage.Keys{Order: k, Memos: []string{name}}, func(r *storage.Rows) error {
					r.Order = &storage.Order{Key: k, Kind: storage.OrderBasic, Merchant: shop, State: storage.OrderIntended, Amount: storage.Money{Total: 100, Currency: "CNY"}, CreatedAt: time.Now()}
					r.Memos[name] = &storage.Memo{Key: name, Data: fmt.Appendf(nil, "%d", i), Expires: time.Now().Add(time.Hour)}
					return nil
				})
			})
		})
	}
}
