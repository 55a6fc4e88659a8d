package storagetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func harness() storagetest.Harness {
	return storagetest.Harness{
		Seeds: 5,
		Open:  func(_ testing.TB, o storagetest.Options) storage.Store { return storagetest.NewModel(o.Now) },
		Reopen: func(_ testing.TB, s storage.Store, _ storagetest.Options) storage.Store {
			s.(*storagetest.Model).Restart()
			return s
		},
	}
}

func TestModel(t *testing.T) { storagetest.Run(t, harness()) }
