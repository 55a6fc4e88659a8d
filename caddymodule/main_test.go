package caddymodule

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// What a child process is told in its environment.
const (
	childEnv  = "WECHATPAY_TEST_CHILD"  // the Caddyfile to run: the test binary is Caddy then
	killEnv   = "WECHATPAY_TEST_KILL"   // "step:n": kill -9 oneself when the step is reached the n-th time
	recordEnv = "WECHATPAY_TEST_RECORD" // file that gets a line per recorded success
)

// TestMain is the tests, or, in a child process, Caddy itself: so the processes
// that tests kill run the very code that is tested, race detector and all.
func TestMain(m *testing.M) {
	if config := os.Getenv(childEnv); config != "" {
		wrapStore = func(st storage.Store) storage.Store { return newFatalStore(st) }
		os.Args = []string{"caddy", "run", "--config", config, "--adapter", "caddyfile"}
		caddycmd.Main()
		return
	}
	// Scripts run commands in processes of their own, of this very binary.
	testscript.Main(m, map[string]func(){"caddy": caddycmd.Main})
}

// fatalStore kills its process at a named step, and writes down the deliveries
// whose success it has recorded.
type fatalStore struct {
	storage.Store
	step   string
	at     int64
	n      atomic.Int64
	record *os.File
}

// Steps at which a fatalStore can kill.
const (
	stepBeforeAccept   = "before-accept"   // verified and decrypted, nothing stored
	stepAfterAccept    = "after-accept"    // stored, WeChat not yet answered
	stepAfterClaim     = "after-claim"     // claimed, not sent
	stepBeforeComplete = "before-complete" // the backend has answered, not recorded
	stepAfterComplete  = "after-complete"  // recorded
)

func newFatalStore(st storage.Store) *fatalStore {
	f := &fatalStore{Store: st}
	if step, n, ok := strings.Cut(os.Getenv(killEnv), ":"); ok {
		f.step = step
		f.at, _ = strconv.ParseInt(n, 10, 64)
	}
	if path := os.Getenv(recordEnv); path != "" {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		f.record = file
	}
	return f
}

func (f *fatalStore) reach(step string) {
	if f.step == step && f.n.Add(1) == f.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing runs on
	}
}

func (f *fatalStore) Accept(ctx context.Context, req storage.AcceptRequest) (storage.Acceptance, error) {
	f.reach(stepBeforeAccept)
	acc, err := f.Store.Accept(ctx, req)
	f.reach(stepAfterAccept)
	return acc, err
}

func (f *fatalStore) Claim(ctx context.Context, merchant string, terms storage.ClaimTerms, limit int) ([]storage.Claim, error) {
	claims, err := f.Store.Claim(ctx, merchant, terms, limit)
	for range claims {
		f.reach(stepAfterClaim)
	}
	return claims, err
}

func (f *fatalStore) Complete(ctx context.Context, id string, fence uint64, done storage.Completion) error {
	f.reach(stepBeforeComplete)
	err := f.Store.Complete(ctx, id, fence, done)
	if err == nil && done.State == storage.StateDelivered && f.record != nil {
		if _, err := fmt.Fprintf(f.record, "%s %d\n", id, time.Now().UnixNano()); err != nil {
			panic(err)
		}
	}
	f.reach(stepAfterComplete)
	return err
}
