//go:build interop

// Package interop lets others prove the gateway: a Node library that knows
// nothing of this project calls it and signs callbacks for it, and the example
// receivers in PHP and Java stand behind it. The tests need node, npm, php and
// a JDK, so they have a build tag of their own:
//
//	go test -tags interop -count=1 ./interop/...
//
// run.sh installs what is missing first. Everything happens on 127.0.0.1.
package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	buildBound = 10 * time.Minute // of go build with an empty cache
	readyBound = 60 * time.Second // until a process answers
	stopBound  = 20 * time.Second // until a process has ended
	callBound  = 30 * time.Second // of one HTTP call
)

// client makes the tests' own calls. It follows no redirect.
var client = &http.Client{
	Timeout:       callBound,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// binaryDir is where the binary is built, and gone when the tests are over.
var binaryDir string

// caddyBinary builds cmd/caddy once for all tests that need it.
var caddyBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "caddy")
	ctx, cancel := context.WithTimeout(context.Background(), buildBound)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "../cmd/caddy")
	if out, err := build.CombinedOutput(); err != nil {
		return path, fmt.Errorf("go build ./cmd/caddy: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "wechatpay-interop-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(binaryDir) // what is left, the system's own cleaning takes
	os.Exit(code)
}

// tool finds a program or fails the test with what to install.
func tool(t *testing.T, name, packages string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed; on Debian and Ubuntu: apt-get install %s (interop/run.sh does it)", name, packages)
	}
	return path
}

// freePorts returns n ports of 127.0.0.1 that are free now.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// process is a child with its own process group.
type process struct {
	name string
	log  string // the file with its output
	done chan struct{}
	err  error // how it ended; read after done
}

// start runs a program until the test ends. Its output is shown if the test
// fails.
func start(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, log: filepath.Join(t.TempDir(), name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		// The whole group: php -S has workers.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may have ended
		select {
		case <-p.done:
		case <-time.After(stopBound):
			t.Errorf("%s did not stop within %v", name, stopBound)
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
		<-p.done
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.tail())
		}
	})
	return p
}

// tail is the end of the process's output.
func (p *process) tail() string {
	const most = 16 << 10
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

// waitReady polls until ready says so, the process ends, or the bound is over.
func (p *process) waitReady(t *testing.T, ready func() error) {
	t.Helper()
	bound := time.After(readyBound)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended: %v", p.name, p.err)
		case <-bound:
			t.Fatalf("%s is not ready after %v: %v", p.name, readyBound, err)
		case <-tick.C:
		}
	}
}

// sandboxed are the demo merchant and the secrets of every test's gateway.
const (
	mchid         = "1900000001"
	appid         = "wx8888888888888888"
	miniAppid     = "wx9999999999999999" // of a mini program
	token         = "interop-token-for-one-test-only"
	webhookSecret = "whsec_aW50ZXJvcC1zZWNyZXQtb2YtMzItYnl0ZXMtb25seSE="
)

// gateway is a running cmd/caddy: the gateway and its sandbox.
type gateway struct {
	url     string // of the gateway, without a path
	sandbox string // of the sandbox, without a path
	admin   string // the admin endpoint's unix socket
}

// gatewayOptions say what a test's Caddyfile has beside the demo merchant.
type gatewayOptions struct {
	backend   string // host:port that deliveries go to
	merchants string // further merchant blocks
	callers   string // further lines of wechatpay_api
	notify    string // what is handled before wechatpay_notify
	sites     string // further sites
	sandbox   string // base URL of a sandbox elsewhere; empty: one of its own
}

// startGateway runs cmd/caddy with a merchant demo, whose keys come from the
// sandbox in the same process, and waits until it takes orders.
func startGateway(t *testing.T, o gatewayOptions) gateway {
	t.Helper()
	binary, err := caddyBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ports := freePorts(t, 2)
	g := gateway{
		url:     fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		sandbox: fmt.Sprintf("http://127.0.0.1:%d", ports[1]),
		admin:   filepath.Join(dir, "admin.sock"),
	}
	own := fmt.Sprintf(`%s {
	bind 127.0.0.1
	wechatpay_sandbox {
		merchant %s %s
		keys both
		time_scale 100
	}
}`, g.sandbox, mchid, appid)
	if o.sandbox != "" {
		g.sandbox, own = o.sandbox, ""
	}
	caddyfile := fmt.Sprintf(`{
	admin unix/%[11]s
	auto_https off
	grace_period 4s
	wechatpay {
		storage badger %[1]s/store
		merchant demo {
			mchid %[2]s
			app %[3]s official
			app %[14]s miniprogram
			notify_url %[4]s/wechatpay/notify/demo
			sandbox %[5]s
		}
		%[6]s
	}
}
%[4]s {
	bind 127.0.0.1
	%[12]s
	handle /wechatpay/notify/* {
		wechatpay_notify {
			retry 100ms 200ms 400ms 800ms 1s 1s 1s 1s 1s 1s
			sign %[7]s
			deliver {
				reverse_proxy %[8]s
			}
		}
	}
	handle {
		wechatpay_api demo {
			caller erp token %[9]s
			allow erp pay combine query close refund
			%[10]s
		}
	}
}
%[13]s
%[15]s
`, dir, mchid, appid, g.url, g.sandbox, o.merchants, webhookSecret, o.backend, token, o.callers, g.admin,
		o.notify, own, miniAppid, o.sites)
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", config, "--adapter", "caddyfile")
	cmd.Env = environment(t, "XDG_DATA_HOME="+dir+"/data", "XDG_CONFIG_HOME="+dir+"/config")
	p := start(t, "caddy", cmd)
	p.waitReady(t, func() error {
		// 503 until the keys have come from the sandbox, then 404: no such order.
		status, body, err := g.call(http.MethodGet, "/v3/pay/transactions/out-trade-no/READY-0001?mchid="+mchid, nil)
		if err != nil {
			return err
		}
		if status != http.StatusNotFound {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	return g
}

// environment is a child's: a path, a home of its own, and no proxy.
func environment(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}, more...)
}

// call is a call of the payment API with the bearer token.
func (g gateway) call(method, path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequest(method, g.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	return do(req)
}

func do(req *http.Request) (int, []byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

// callback is what the sandbox says of a callback.
type callback struct {
	State    string `json:"state"`
	Attempts []struct {
		Kind   string `json:"kind"`
		Status int    `json:"status"`
		Error  string `json:"error"`
	} `json:"attempts"`
}

// pay pays an order at the sandbox, with faults, and returns at once.
func (g gateway) pay(t *testing.T, number string, faults map[string]any) {
	t.Helper()
	g.control(t, "pay", map[string]any{"order": number, "faults": faults})
}

// control has the sandbox act.
func (g gateway) control(t *testing.T, act string, command any) {
	t.Helper()
	body, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, g.sandbox+"/sandbox/control/"+act, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if status, answer, err := do(req); err != nil || status != http.StatusOK {
		t.Fatalf("%s: status %d %s %v", act, status, answer, err)
	}
}

// waitCallback waits until so many attempts of an order's callback have ended.
func (g gateway) waitCallback(t *testing.T, number string, attempts int) callback {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("%s/sandbox/control/wait?order=%s&attempts=%d&timeout=%d",
		g.sandbox, number, attempts, int(callBound.Seconds())-1), nil)
	if err != nil {
		t.Fatal(err)
	}
	status, answer, err := do(req)
	if err != nil || status != http.StatusOK {
		t.Fatalf("waiting for the callback of %s: status %d %s %v", number, status, answer, err)
	}
	var c callback
	if err := json.Unmarshal(answer, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// runTool runs a program to its end and returns what it wrote to stdout.
func runTool(t *testing.T, bound time.Duration, cmd *exec.Cmd) (string, error) {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	timer := time.AfterFunc(bound, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err := cmd.Wait()
	if !timer.Stop() {
		err = errors.Join(err, fmt.Errorf("killed after %v", bound))
	}
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s%s", filepath.Base(cmd.Path), err, stdout.String(), stderr.String())
	}
	return stdout.String(), err
}
