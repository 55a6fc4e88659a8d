package payops_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// slowDisk takes the first change up only when the clock shows a later second.
type slowDisk struct {
	storage.Ledger
	changes atomic.Int64
	sent    func() int // requests that WeChat Pay has seen
	early   atomic.Bool
	from    atomic.Int64 // the second in which the first change began
}

func (d *slowDisk) Change(ctx context.Context, keys storage.Keys, change func(*storage.Rows) error) error {
	if d.changes.Add(1) == 1 {
		d.from.Store(time.Now().Unix())
		for tick := time.NewTicker(10 * time.Millisecond); time.Now().Unix() < d.from.Load()+2; <-tick.C {
			d.early.Store(d.early.Load() || d.sent() != 0)
		}
	}
	return d.Ledger.Change(ctx, keys, change)
}

// TestSignedWhileTheIntentIsWritten: the signature is made while the intent row
// is on its way to the disk, and nothing is sent before it is there.
func TestSignedWhileTheIntentIsWritten(t *testing.T) {
	disk := &slowDisk{Ledger: newMemLedger()}
	g := newRig(t, rigOptions{store: disk})
	disk.sent = func() int { return len(g.wx.requests()) }
	if r := g.do("POST", nativePath, basicBody("N20261122", "100")); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	sent := g.wx.requests()
	if disk.early.Load() || len(sent) != 1 {
		t.Fatalf("sent before the intent was written; %d requests", len(sent))
	}
	a, err := caller.ParseAuthorization(sent[0].header.Get("Authorization"))
	if err != nil {
		t.Fatal(err)
	}
	if from := disk.from.Load(); a.Timestamp > from+1 {
		t.Errorf("signed %d seconds after the intent row was begun", a.Timestamp-from)
	}
}
