package badgerstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

func TestMain(m *testing.M) {
	if childMode() {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// open opens a store and closes it with the test.
func open(t testing.TB, o badgerstore.Options) *badgerstore.Store {
	t.Helper()
	s, err := badgerstore.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func harness(inMemory bool) storagetest.Harness {
	dirs := map[storage.Store]string{}
	h := storagetest.Harness{
		Open: func(t testing.TB, o storagetest.Options) storage.Store {
			if inMemory {
				return open(t, badgerstore.Options{InMemory: true, Now: o.Now})
			}
			dir := t.TempDir()
			s := open(t, badgerstore.Options{Dir: dir, Now: o.Now, FreeFloor: -1})
			dirs[s] = dir
			return s
		},
	}
	if !inMemory {
		h.Reopen = func(t testing.TB, old storage.Store, o storagetest.Options) storage.Store {
			t.Helper()
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			s := open(t, badgerstore.Options{Dir: dirs[old], Now: o.Now, FreeFloor: -1})
			dirs[s] = dirs[old]
			return s
		}
	}
	return h
}

func TestConformance(t *testing.T) {
	h := harness(false)
	h.Seeds = 3
	storagetest.Run(t, h)
}

func TestConformanceInMemory(t *testing.T) {
	h := harness(true)
	h.Seeds = 3
	storagetest.Run(t, h)
}

func BenchmarkStore(b *testing.B) { storagetest.Bench(b, harness(false)) }
