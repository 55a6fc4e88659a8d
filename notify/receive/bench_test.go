package receive

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// instantStore takes everything and keeps nothing: what is left is the cost of
// receiving.
type instantStore struct{ *fakeStore }

func (instantStore) Accept(context.Context, storage.AcceptRequest) (storage.Acceptance, error) {
	return storage.Acceptance{Outcome: storage.AcceptedFresh, State: storage.StatePending}, nil
}

func (instantStore) Order(context.Context, storage.OrderKey) (storage.Order, error) {
	return storage.Order{}, storage.ErrNotFound
}

func (instantStore) OrderByTransaction(context.Context, string, string) (storage.Order, error) {
	return storage.Order{}, storage.ErrNotFound
}

// benchmarkReceive runs the whole path from headers to answer.
func benchmarkReceive(b *testing.B, store Store) {
	r := New(Config{Store: store, Now: now, Logger: slog.New(slog.DiscardHandler)})
	b.Cleanup(r.Close)
	m, route := theMerchant(), commitRoute()
	body := goodBody()
	in := request(body)
	reader := bytes.NewReader(body)
	in.Body = reader
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		reader.Reset(body)
		if a := r.Receive(context.Background(), route, m, in); a.Status != 200 {
			b.Fatal(a.Status)
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	b.Run("no store", func(b *testing.B) { benchmarkReceive(b, instantStore{newFakeStore()}) })
	b.Run("duplicate", func(b *testing.B) { benchmarkReceive(b, newFakeStore()) })
}

// BenchmarkReceiveFresh is the path of callbacks of different orders, on the
// reference model.
func BenchmarkReceiveFresh(b *testing.B) {
	m, route := theMerchant(), commitRoute()
	var requests []Incoming
	var bodies [][]byte
	for i := range 1000 {
		body := envelope(fmt.Sprintf("id-%d", i), "TRANSACTION.SUCCESS", "", seal(basic(fmt.Sprintf("n%06d", i), 100)))
		bodies = append(bodies, body)
		requests = append(requests, request(body))
	}
	var r *Receiver
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			r = New(Config{Store: storagetest.NewModel(now), Now: now})
		}
		in := requests[i%1000]
		in.Body = bytes.NewReader(bodies[i%1000])
		if a := r.Receive(context.Background(), route, m, in); a.Status != 200 {
			b.Fatal(a.Status)
		}
	}
}

// BenchmarkRefuse is what a stranger's request costs.
func BenchmarkRefuse(b *testing.B) {
	r := New(Config{Store: newFakeStore(), Now: now})
	b.Cleanup(r.Close)
	m, route := theMerchant(), commitRoute()
	body := goodBody()
	for name, in := range map[string]Incoming{
		"headers":   set("Wechatpay-Nonce")(),
		"timestamp": at("1")(),
		"serial":    set("Wechatpay-Serial", "FFFF")(),
		"spelling":  set("Wechatpay-Signature", "AAAA")(),
		"signature": set("Wechatpay-Signature", base64.StdEncoding.EncodeToString(make([]byte, 256)))(),
	} {
		b.Run(name, func(b *testing.B) {
			reader := bytes.NewReader(body)
			in.Body = reader
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(body)
				if a := r.Receive(context.Background(), route, m, in); a.Status != 401 {
					b.Fatal(a.Status)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	body := goodBody()
	in := request(body)
	s, bad := parseHeaders(in.Header, baseTime)
	if bad.refused() {
		b.Fatal(bad.reason)
	}
	if bad := s.findKey(theMerchant(), baseTime); bad.refused() {
		b.Fatal(bad.reason)
	}
	var buffers buffers
	message, _, err := buffers.readMessage(&s, &in, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.key.Verify(message, s.signature); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeaders(b *testing.B) {
	in := request(goodBody())
	m := theMerchant()
	b.ReportAllocs()
	for b.Loop() {
		s, bad := parseHeaders(in.Header, baseTime)
		if bad.refused() {
			b.Fatal(bad.reason)
		}
		if bad := s.findKey(m, baseTime); bad.refused() {
			b.Fatal(bad.reason)
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	m := theMerchant()
	plaintext := basic("1", 100)
	sealed := sealRaw(plaintext, "fdasflkja484", "transaction")
	nonce, associated := []byte("fdasflkja484"), []byte("transaction")
	b.ReportAllocs()
	b.SetBytes(int64(len(plaintext)))
	for b.Loop() {
		if _, err := m.Decrypt(associated, nonce, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
