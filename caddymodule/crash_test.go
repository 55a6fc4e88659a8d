package caddymodule

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
)

// child is a gateway in a process of its own.
type child struct {
	cmd *exec.Cmd
	log *bytes.Buffer
	end chan struct{}
}

// spawn starts the gateway as a child process and waits until it listens, or
// until it is dead already.
func (b *bench) spawn(env ...string) *child {
	b.t.Helper()
	file := filepath.Join(b.dir, "Caddyfile")
	mustWrite(b.t, file, b.caddyfile())
	return b.spawnFile(file, env...)
}

func (b *bench) spawnFile(file string, env ...string) *child {
	b.t.Helper()
	c := &child{cmd: exec.Command(os.Args[0]), log: new(bytes.Buffer), end: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), append(env, childEnv+"="+file, "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer close(c.end)
		_ = c.cmd.Wait()
	}()
	eventually(b.t, 30*time.Second, "the child listens", func() bool {
		if c.dead() {
			return true
		}
		resp, err := http.Get("http://" + b.listen + "/")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		// HTTP may start before the gateway, and both before the admin endpoint
		// knows them.
		health, err := http.Get("http://" + b.admin + "/wechatpay/health")
		if err != nil {
			return false
		}
		_ = health.Body.Close()
		return health.StatusCode != http.StatusNotFound
	})
	return c
}

func (c *child) dead() bool {
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	<-c.end
}

// crashRun sends n callbacks to a gateway that dies again and again, as WeChat
// would: until each has its 200. Then it checks the promises.
type crashRun struct {
	*bench
	n      int
	record string

	mu    sync.Mutex
	acked map[int]bool
	kills int
}

func newCrashRun(t *testing.T, n int) *crashRun {
	r := &crashRun{bench: newBench(t), n: n, acked: make(map[int]bool)}
	r.record = filepath.Join(r.dir, "record")
	return r
}

// sendAll sends callbacks until all are acknowledged or stop is closed.
func (r *crashRun) sendAll(stop <-chan struct{}) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= r.n {
					return
				}
				for {
					select {
					case <-stop:
						return
					default:
					}
					h, body := r.platform.Callback(testplatform.Payment(i, 100))
					status, err := sendOnce(r.listen, testplatform.Wire("/wechatpay/notify/shop", h, body))
					if err == nil && status == http.StatusOK {
						r.mu.Lock()
						r.acked[i] = true
						r.mu.Unlock()
						break
					}
					select { // the gateway is down; WeChat waits longer
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			}
		})
	}
	wg.Wait()
}

// check holds the history against the promises, with the last child running.
func (r *crashRun) check() {
	r.t.Helper()
	if len(r.acked) != r.n {
		r.t.Fatalf("%d of %d callbacks acknowledged", len(r.acked), r.n)
	}
	eventually(r.t, 30*time.Second, "everything acknowledged is delivered and recorded", func() bool {
		events, _ := r.backend.distinct()
		if events < r.n {
			return false
		}
		var health struct{ Inbox inboxCounts }
		r.call(http.MethodGet, "/wechatpay/health", "", &health)
		return health.Inbox.Pending == 0
	})
	recorded := r.recorded()
	var late, duplicates int
	seen := make(map[string]bool)
	for _, req := range r.backend.requests() {
		if seen[req.id] {
			duplicates++
		}
		seen[req.id] = true
		if at, ok := recorded[req.id]; ok && req.at.UnixNano() > at {
			late++
		}
	}
	if late > 0 {
		r.t.Errorf("%d notifications were sent after their success was recorded", late)
	}
	r.t.Logf("%d callbacks, %d kills: lost 0, sent after a recorded success %d, duplicates %d", r.n, r.kills, late, duplicates)
	// Sends under way at a kill may come twice: no more than the workers there are.
	if most := r.kills * 64; duplicates > most {
		r.t.Errorf("%d duplicates for %d kills", duplicates, r.kills)
	}
}

// recorded maps notifications to when their success was recorded.
func (r *crashRun) recorded() map[string]int64 {
	r.t.Helper()
	f, err := os.Open(r.record)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	at := make(map[string]int64)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var id string
		var ns int64
		if _, err := fmt.Sscan(sc.Text(), &id, &ns); err != nil {
			continue // the last line of a killed process
		}
		if _, ok := at[id]; ok {
			r.t.Errorf("%s was recorded as delivered twice", id)
		}
		at[id] = ns
	}
	return at
}

// Killed at each named step in turn, the gateway loses nothing it acknowledged
// and repeats nothing it recorded.
func TestKillAtNamedSteps(t *testing.T) {
	for _, ack := range []string{"commit", "delivery"} {
		for _, step := range []string{stepBeforeAccept, stepAfterAccept, stepAfterClaim, stepBeforeComplete, stepAfterComplete} {
			if ack == "delivery" && step == stepAfterClaim {
				continue // claimed in the same step as accepted
			}
			t.Run(ack+"/"+step, func(t *testing.T) {
				r := newCrashRun(t, 60)
				r.notify = "ack " + ack
				c := r.spawn(recordEnv+"="+r.record, fmt.Sprintf("%s=%s:%d", killEnv, step, 7))
				stop, sent := make(chan struct{}), make(chan struct{})
				go func() { defer close(sent); r.sendAll(stop) }()
				select {
				case <-c.end:
				case <-time.After(30 * time.Second):
					c.kill()
					close(stop)
					t.Fatalf("the step was not reached\n%s", c.log)
				}
				r.kills = 1
				last := r.spawn(recordEnv + "=" + r.record)
				defer last.kill()
				select {
				case <-sent:
				case <-time.After(60 * time.Second):
					close(stop)
					t.Fatal("callbacks are not acknowledged")
				}
				r.check()
			})
		}
	}
}

// Killed at random moments under load.
func TestKillAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	r := newCrashRun(t, 1500)
	stop, sent := make(chan struct{}), make(chan struct{})
	c := r.spawn(recordEnv + "=" + r.record)
	go func() { defer close(sent); r.sendAll(stop) }()
	for r.kills < 12 {
		wait := time.NewTimer(time.Duration(20+rng.IntN(250)) * time.Millisecond)
		select {
		case <-sent:
			wait.Stop()
		case <-wait.C:
		}
		c.kill()
		r.kills++
		c = r.spawn(recordEnv + "=" + r.record)
	}
	defer c.kill()
	select {
	case <-sent:
	case <-time.After(2 * time.Minute):
		close(stop)
		t.Fatal("callbacks are not acknowledged")
	}
	r.check()
}

// SIGTERM: what is under way is answered and delivered, the store is closed, and
// the process ends in time.
func TestExit(t *testing.T) {
	b := newBench(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.backend.says(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		once.Do(func() { close(entered) })
		<-release
		w.WriteHeader(http.StatusNoContent)
	})
	c := b.spawn()
	if status, _ := b.send(testplatform.Payment(1, 100)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	<-entered
	begin := time.Now()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() { close(release) })
	select {
	case <-c.end:
	case <-time.After(15 * time.Second):
		c.kill()
		t.Fatalf("the process does not end\n%s", c.log)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("ended after %v", took)
	}
	if strings.Contains(c.log.String(), "panic") {
		t.Errorf("log: %s", c.log)
	}
	again := b.spawn()
	defer again.kill()
	in := b.inbox()
	if len(in) != 1 || in[0].State != "delivered" {
		t.Errorf("after the restart: %+v", in)
	}
	if n := b.backend.total.Load(); n != 1 {
		t.Errorf("%d deliveries", n)
	}
}
