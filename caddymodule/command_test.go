package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Each command is run by scripts, in a process of its own, against a live gateway
// with a sandbox.
func TestCommands(t *testing.T) {
	scripts, err := filepath.Glob("testdata/command/*.txtar")
	if err != nil || len(scripts) < 9 {
		t.Fatalf("%v %v", scripts, err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) { runScript(t, script) })
	}
}

func runScript(t *testing.T, script string) {
	b, platform := newPlay(t, "")
	b.merchant = "api_base http://127.0.0.1:1" // nobody answers what is asked about a parked event
	b.notify = "retry 1ms"
	dir, err := os.MkdirTemp("", "s") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	api := b.admin
	b.admin = "unix/" + filepath.Join(dir, "admin.sock") + "|0600"
	tcp := strings.HasSuffix(script, "tcp.txtar")
	if tcp {
		b.admin = api
	}
	b.start()
	b.ready()
	testscript.Run(t, testscript.Params{
		Files: []string{script},
		Setup: func(env *testscript.Env) error {
			if err := os.WriteFile(filepath.Join(env.WorkDir, "gateway.caddyfile"), []byte(b.caddyfile()), 0o600); err != nil {
				return err
			}
			env.Setenv("ADMIN", b.admin)
			env.Setenv("TZ", "Asia/Shanghai")
			env.Setenv("XDG_DATA_HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", env.WorkDir)
			return nil
		},
		Cmds: scriptCommands(b, platform),
	})
}

// scriptCommands are what scripts can say beside testscript's own.
func scriptCommands(b *bench, platform *sandbox.Platform) map[string]func(*testscript.TestScript, bool, []string) {
	number := func(ts *testscript.TestScript, text string) int {
		n, err := strconv.Atoi(text)
		ts.Check(err)
		return n
	}
	return map[string]func(*testscript.TestScript, bool, []string){
		// send <i> <fen>: the callback of the shop's i-th order.
		"send": func(ts *testscript.TestScript, _ bool, args []string) {
			h, body := b.platform.Callback(testplatform.Payment(number(ts, args[0]), int64(number(ts, args[1]))))
			_, _, err := b.post("/wechatpay/notify/shop", h, body)
			ts.Check(err)
		},
		// expect <i> <fen>: the ledger knows the shop's i-th order.
		"expect": func(ts *testscript.TestScript, _ bool, args []string) {
			key := storage.OrderKey{Mchid: testplatform.Mchid, Number: testplatform.OutTradeNo(number(ts, args[0]))}
			ts.Check(withStore(func(st storage.Store) error {
				return st.Change(context.Background(), storage.Keys{Order: key}, func(rows *storage.Rows) error {
					rows.Order = &storage.Order{
						Key: key, Kind: storage.OrderBasic, Merchant: "shop", Origin: storage.OriginRegistered, State: storage.OrderRegistered,
						Amount: storage.Money{Total: storage.Fen(number(ts, args[1])), Currency: "CNY"}, CreatedAt: time.Now(),
					}
					return nil
				})
			}))
		},
		// pay <number> <fen>: places an order at the sandbox through the gateway, and pays it.
		"pay": func(ts *testscript.TestScript, _ bool, args []string) {
			if answer := b.place(args[0], int64(number(ts, args[1]))); answer.status != http.StatusOK {
				ts.Fatalf("place: %d %s", answer.status, answer.body)
			}
			_, err := platform.Pay(args[0], sandbox.Faults{})
			ts.Check(err)
		},
		// settled <state> <n>: waits until n notifications are in the state.
		"settled": func(ts *testscript.TestScript, _ bool, args []string) {
			want := number(ts, args[1])
			deadline := time.Now().Add(20 * time.Second)
			for len(inState(ts, args[0])) != want {
				if time.Now().After(deadline) {
					ts.Fatalf("%d are %s, not %d", len(inState(ts, args[0])), args[0], want)
				}
				time.Sleep(5 * time.Millisecond)
			}
		},
		// tried <n>: waits until the newest notification has failed n times.
		"tried": func(ts *testscript.TestScript, _ bool, args []string) {
			deadline := time.Now().Add(20 * time.Second)
			for list := inState(ts, ""); len(list) == 0 || list[0].Attempts != number(ts, args[0]); list = inState(ts, "") {
				if time.Now().After(deadline) {
					ts.Fatalf("not tried so often: %+v", list)
				}
				time.Sleep(5 * time.Millisecond)
			}
		},
		// id <variable> <state>: the id of the newest notification in the state.
		"id": func(ts *testscript.TestScript, _ bool, args []string) {
			list := inState(ts, args[1])
			if len(list) == 0 {
				ts.Fatalf("none is %s", args[1])
			}
			ts.Setenv(args[0], list[0].ID)
		},
		// backend up | down
		"backend": func(_ *testscript.TestScript, _ bool, args []string) {
			if args[0] == "up" {
				b.backend.says(nil)
				return
			}
			b.backend.says(func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusForbidden) })
		},
		// clock <seconds>: so far ahead of WeChat Pay's is this machine's.
		"clock": func(ts *testscript.TestScript, _ bool, args []string) {
			_, g, err := runningApp()
			ts.Check(err)
			now := time.Now().Truncate(time.Second)
			ahead := now.Add(time.Duration(number(ts, args[0])) * time.Second)
			g.app.merchants["shop"].SawDate(now.UTC().Format(http.TimeFormat), ahead, ahead)
		},
		// sent <n>: the backend has had so many requests.
		"sent": func(ts *testscript.TestScript, _ bool, args []string) {
			if n := b.backend.total.Load(); n != int64(number(ts, args[0])) {
				ts.Fatalf("the backend has had %d requests", n)
			}
		},
		// like <golden>: the output of the last command, but for what differs at
		// each run.
		"like": func(ts *testscript.TestScript, _ bool, args []string) {
			got, want := steady(ts.ReadFile("stdout")), ts.ReadFile(args[0])
			if got != want {
				ts.Fatalf("got:\n%s\nwant:\n%s", got, want)
			}
		},
	}
}

func withStore(f func(storage.Store) error) error {
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	return f(g.store)
}

func inState(ts *testscript.TestScript, state string) (list []storage.Record) {
	ts.Check(withStore(func(st storage.Store) error {
		page, err := st.Notifications(context.Background(), storage.Filter{State: storage.State(state)})
		list = page.Records
		return err
	}))
	return list
}

// What differs at each run, in the order in which it is looked for.
var unsteady = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\b(evt|parked)_[0-9A-Za-z_-]+`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`), "TIME"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`[*]/[0-9a-f]{12}`), "*/ROUTE"},
	{regexp.MustCompile(`[0-9.]+ [KMGT]iB`), "SIZE"},
	{regexp.MustCompile(`/[0-9a-f]{12}\b`), "/OPTIONS"},
	{regexp.MustCompile(`(certificate|public key) [0-9A-Z_]+( \(\d+ days left\))?`), "$1 SERIAL"},
	{regexp.MustCompile(`clock [+-]0\.0 s`), "clock +0.0 s"},
	{regexp.MustCompile(` +(\n|$)`), "$1"},
	{regexp.MustCompile(`(\S) {3,}`), "$1  "},
}

func steady(text string) string {
	for _, u := range unsteady {
		text = u.what.ReplaceAllString(text, u.by)
	}
	return text
}

// Times are read as people write them.
func TestInstant(t *testing.T) {
	zone := time.Local
	time.Local = time.FixedZone("Beijing", 8*3600)
	t.Cleanup(func() { time.Local = zone })
	for text, want := range map[string]string{
		"2026-01-01":                "2026-01-01T00:00:00+08:00",
		"2026-01-01 08:30":          "2026-01-01T08:30:00+08:00",
		"2026-01-01 08:30:15":       "2026-01-01T08:30:15+08:00",
		"2026-01-01T08:30:15Z":      "2026-01-01T08:30:15Z",
		"2026-01-01T08:30:15-03:00": "2026-01-01T08:30:15-03:00",
		"":                          "", "yesterday": "", "2026-13-01": "", "2026-01-01T08:30": "",
	} {
		got, err := instant(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// What others wrote does not speak to the terminal.
func TestTableIsPlain(t *testing.T) {
	var out strings.Builder
	table := newTable(&out, "A", "B")
	table.row("x\x1b[31m\ty", "")
	if err := table.end(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", out.String()); strings.Contains(got, `\x1b`) || !strings.HasSuffix(got, ` -\n"`) {
		t.Error(got)
	}
}
