package caddymodule

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/operate"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// payments sends n payments and waits for their delivery; it returns their ids,
// the oldest first.
func (b *bench) payments(n int) (ids []string) {
	b.t.Helper()
	for i := range n {
		if status, body := b.send(testplatform.Payment(i, 100)); status != http.StatusOK {
			b.t.Fatalf("payment %d: %d %s", i, status, body)
		}
	}
	eventually(b.t, 10*time.Second, "every payment is delivered", func() bool {
		ids = ids[:0]
		for _, v := range b.inbox() {
			if v.State == string(storage.StateDelivered) {
				ids = append([]string{v.ID}, ids...)
			}
		}
		return len(ids) == n
	})
	return ids
}

// ask calls the admin endpoint and returns status and text.
func (b *bench) ask(method, path, body string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequest(method, "http://"+b.admin+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		b.t.Fatalf("admin %s: %v", path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestAdminShowsAnEventWhole(t *testing.T) {
	b := newBench(t)
	b.start()
	id := b.payments(1)[0]
	_, plain := b.ask(http.MethodGet, "/wechatpay/inbox/"+id, "")
	if strings.Contains(plain, `"body"`) || !strings.Contains(plain, `"appid":"`+testplatform.Appid+`"`) {
		t.Errorf("without a body: %s", plain)
	}
	status, whole := b.ask(http.MethodGet, "/wechatpay/inbox/"+id+"?body=1", "")
	if status != http.StatusOK || strings.Contains(whole, "oUpF8uMuAJO") || !strings.Contains(whole, `"payer":{"openid":"***"}`) ||
		!strings.Contains(whole, `"amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}`) ||
		!strings.Contains(whole, `"out_trade_no":"`+testplatform.OutTradeNo(0)+`"`) {
		t.Errorf("%d %s", status, whole)
	}
}

// Every request that makes no sense is told so, and changes nothing.
func TestAdminRefuses(t *testing.T) {
	b := newBench(t)
	b.start()
	id := b.payments(1)[0]
	const who = `"by":"li","reason":"why"`
	for _, row := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/wechatpay/inbox?after=bogus", "", 400, "after"},
		{"GET", "/wechatpay/inbox?limit=0", "", 400, "limit"},
		{"GET", "/wechatpay/inbox?limit=1001", "", 400, "1 to 1000"},
		{"GET", "/wechatpay/inbox?state=lost", "", 400, "state"},
		{"GET", "/wechatpay/inbox/nobody", "", 404, "not found"},
		{"GET", "/wechatpay/inbox/" + id + "?body=all", "", 400, "body"},
		{"POST", "/wechatpay/inbox/" + id + "/release", `{"by":"li"}`, 400, "by and reason"},
		{"POST", "/wechatpay/inbox/" + id + "/release", `{` + who + `,"amount":1}`, 400, "wanted"},
		{"POST", "/wechatpay/inbox/" + id + "/release", `{` + who + `}`, 409, "it is delivered"},
		{"POST", "/wechatpay/inbox/" + id + "/forget", `{` + who + `}`, 404, "release, dismiss and replay"},
		{"POST", "/wechatpay/inbox/nobody/replay", `{` + who + `}`, 404, "not found"},
		{"POST", "/wechatpay/replay", `{"to":"2026-01-01T00:00:00+08:00",` + who + `}`, 400, "from"},
		{"POST", "/wechatpay/replay", `{"from":"2026-01-02","to":"2026-01-01T00:00:00Z",` + who + `}`, 400, "from"},
		{"POST", "/wechatpay/replay", `{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z",` + who + `}`, 400, "before"},
		{"POST", "/wechatpay/replay", `{"from":"2026-01-02T00:00:00Z","to":"yesterday",` + who + `}`, 400, "to:"},
		{"POST", "/wechatpay/replay", `{"from":"2026-01-02T00:00:00Z","state":"pending",` + who + `}`, 400, "state"},
		{"POST", "/wechatpay/replay", `{"from":"2026-01-02T00:00:00Z"}`, 400, "by and reason"},
		{"POST", "/wechatpay/pause", `{"route":"*"}`, 400, "by and reason"},
		{"POST", "/wechatpay/pause", `{` + who + `}`, 400, "which"},
		{"POST", "/wechatpay/pause", `{"route":"elsewhere",` + who + `}`, 404, "there is */"},
		{"POST", "/wechatpay/resume", `{"route":"*",` + who + `}`, 409, "is not paused"},
		{"GET", "/wechatpay/orders/1900000001/NONE", "", 404, "not found"},
		{"GET", "/wechatpay/audit?after=x", "", 400, "seq"},
		{"GET", "/wechatpay/audit?limit=x", "", 400, "limit"},
	} {
		status, text := b.ask(row.method, row.path, row.body)
		if status != row.status || !strings.Contains(text, row.says) {
			t.Errorf("%s %s %s: %d %s", row.method, row.path, row.body, status, text)
		}
	}
	if _, text := b.ask(http.MethodGet, "/wechatpay/audit", ""); text != `{"entries":[]}`+"\n" {
		t.Errorf("audit: %s", text)
	}
}

// lines reads the answer of a long act.
func lines(t *testing.T, text string) (list []replayProgress) {
	t.Helper()
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		var line replayProgress
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, sc.Text())
		}
		list = append(list, line)
	}
	return list
}

func TestAdminReplaysARange(t *testing.T) {
	b := newBench(t)
	b.start()
	begin := time.Now().Add(-time.Second)
	ids := b.payments(5)
	rng := fmt.Sprintf(`"from":%q,"to":%q`, begin.Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))

	status, text := b.ask(http.MethodPost, "/wechatpay/replay", "{"+rng+`,"dry_run":true}`)
	if got := lines(t, text); status != http.StatusOK || len(got) != 1 || got[0] != (replayProgress{
		Progress: operate.Progress{Found: 5}, DryRun: true, Finished: true,
	}) {
		t.Fatalf("dry run: %d %s", status, text)
	}
	if events, requests := b.backend.distinct(); events != 5 || requests != 5 {
		t.Fatalf("a dry run sent something: %d, %d", events, requests)
	}
	_, text = b.ask(http.MethodPost, "/wechatpay/replay", "{"+rng+`,"merchant":"shop","kind":"payment","by":"li","reason":"backend restored"}`)
	got := lines(t, text)
	if last := got[len(got)-1]; last.Progress != (operate.Progress{Found: 5, Replayed: 5}) || !last.Finished || last.Error != "" {
		t.Fatalf("%s", text)
	}
	eventually(t, 10*time.Second, "everything is sent again", func() bool {
		_, requests := b.backend.distinct()
		return requests == 10
	})
	again := make(map[string]bool)
	for _, r := range b.backend.requests()[5:] {
		again[r.id] = r.header.Get("Wechatpay-Gateway-Source") == "replay"
	}
	for _, id := range ids {
		if !again[id] {
			t.Errorf("%s did not come again as a replay", id)
		}
	}
	var audit struct{ Entries []storage.AuditEntry }
	b.call(http.MethodGet, "/wechatpay/audit", "", &audit)
	if len(audit.Entries) != 6 || audit.Entries[0].Act != operate.ActReplayRange || audit.Entries[5].Act != "replay" || audit.Entries[5].By != "li" {
		t.Errorf("audit: %+v", audit.Entries)
	}
	if b.call(http.MethodGet, "/wechatpay/audit?after=4&limit=1", "", &audit); len(audit.Entries) != 1 || audit.Entries[0].Seq != 5 {
		t.Errorf("a page of the audit log: %+v", audit.Entries)
	}
}

// A pause holds across a reload, a restart and a change of the backend, and
// nothing that came meanwhile is lost.
func TestAdminPausesARoute(t *testing.T) {
	b := newBench(t)
	b.load()
	running := true
	t.Cleanup(func() {
		if running {
			b.stop()
		}
	})
	hold := func(act string, want int) routesView {
		t.Helper()
		var view routesView
		if status := b.call(http.MethodPost, "/wechatpay/"+act, `{"route":"*","by":"li","reason":"stock-taking"}`, &view); status != want {
			t.Fatalf("%s: %d", act, status)
		}
		return view
	}
	view := hold("pause", http.StatusOK)
	if len(view.Routes) != 1 || view.Routes[0].Paused == nil || !view.Routes[0].Held || view.Routes[0].Merchant != "*" ||
		len(view.Routes[0].Upstreams) != 1 || view.Routes[0].Upstreams[0] != b.backend.addr() {
		t.Fatalf("%+v", view)
	}
	if status, _ := b.ask(http.MethodPost, "/wechatpay/pause", `{"route":"`+view.Routes[0].Route+`","by":"li","reason":"why"}`); status != http.StatusConflict {
		t.Errorf("paused twice: %d", status)
	}
	silent := func(when string, i int) {
		t.Helper()
		client.CloseIdleConnections() // those of the server before
		if status, body := b.send(testplatform.Payment(i, 100)); status != http.StatusOK {
			t.Fatalf("%s: %d %s", when, status, body)
		}
		// An event of a route that is not held would be there within this.
		time.Sleep(300 * time.Millisecond)
		if n := b.backend.total.Load(); n != 0 {
			t.Fatalf("%s: %d deliveries", when, n)
		}
	}
	silent("paused", 0)
	b.load()
	silent("after a reload", 1)
	b.stop()
	b.load()
	silent("after a restart", 2)
	b.deliver = "reverse_proxy " + b.backend.addr() + " {\n\t\tlb_retries 1\n\t}"
	b.load()
	silent("with another way to the backend", 3)
	var health healthView
	b.call(http.MethodGet, "/wechatpay/health", "", &health)
	if len(health.Paused) != 1 || !strings.Contains(strings.Join(health.Warnings, "\n"), "paused by li") || !health.Healthy {
		t.Errorf("health: %+v", health)
	}
	var now routesView
	b.call(http.MethodGet, "/wechatpay/routes", "", &now)
	if len(now.Gone) != 1 || now.Gone[0].Place != view.Routes[0].Route || !now.Routes[0].Held || now.Routes[0].Paused != nil {
		t.Errorf("routes: %+v", now)
	}
	if status, text := b.ask(http.MethodPost, "/wechatpay/resume", `{"route":"`+view.Routes[0].Route+`","by":"wang","reason":"done"}`); status != http.StatusOK {
		t.Fatalf("resume: %d %s", status, text)
	}
	eventually(t, 5*time.Second, "what waited is delivered", func() bool {
		events, requests := b.backend.distinct()
		return events == 4 && requests == 4
	})
	var audit struct{ Entries []storage.AuditEntry }
	b.call(http.MethodGet, "/wechatpay/audit", "", &audit)
	if len(audit.Entries) != 2 || audit.Entries[0].Act != "pause" || audit.Entries[1].Act != "resume" || audit.Entries[1].By != "wang" {
		t.Errorf("audit: %+v", audit.Entries)
	}
	b.stop()
	running = false
}

// In delivery mode WeChat is told to come again while the route is paused.
func TestAdminPausesDeliveryMode(t *testing.T) {
	b := newBench(t)
	b.notify = "ack delivery"
	b.start()
	if status, text := b.ask(http.MethodPost, "/wechatpay/pause", `{"route":"*","by":"li","reason":"why"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	if status, text := b.send(testplatform.Payment(0, 100)); status != http.StatusInternalServerError || b.backend.total.Load() != 0 {
		t.Fatalf("%d %s", status, text)
	}
	if status, text := b.ask(http.MethodPost, "/wechatpay/resume", `{"route":"*","by":"li","reason":"why"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	if status, text := b.send(testplatform.Payment(0, 100)); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	if events, requests := b.backend.distinct(); events != 1 || requests != 1 {
		t.Errorf("%d events in %d requests", events, requests)
	}
}

func TestAdminHealthSaysWhy(t *testing.T) {
	b := newBench(t)
	b.notify = "retry 1ms"
	b.deliver = "@none path /nowhere\n\t\t\t\treverse_proxy @none " + b.backend.addr()
	b.start()
	if status, _ := b.send(testplatform.Payment(0, 100)); status != http.StatusOK {
		t.Fatal(status)
	}
	eventually(t, 5*time.Second, "it is parked", func() bool { return b.inbox()[0].State == "parked" })
	_, g, err := runningApp()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	g.app.merchants["shop"].SawDate(now.UTC().Format(http.TimeFormat), now.Add(40*time.Second), now.Add(41*time.Second))
	var h healthView
	if status := b.call(http.MethodGet, "/wechatpay/health", "", &h); status != http.StatusOK || !h.Healthy || len(h.Reasons) != 0 {
		t.Fatalf("%d %+v", status, h)
	}
	if h.Store != "ok" || h.Merchants["shop"] != "ok" || h.Inbox.Parked != 1 || h.Space == nil || h.Space.Free <= h.Space.Floor || h.Space.Floor == 0 ||
		len(h.Keys["shop"]) != 1 || h.Keys["shop"][0].Serial != testplatform.KeyID || h.Keys["shop"][0].DaysLeft != nil || h.Clock["shop"].Skew < 38 {
		t.Errorf("%+v", h)
	}
	warnings := strings.Join(h.Warnings, "\n")
	if !strings.Contains(warnings, "1 parked") || !strings.Contains(warnings, "clock: ") {
		t.Errorf("warnings: %s", warnings)
	}
	g.app.merchants["shop"].SawDate(now.UTC().Format(http.TimeFormat), now.Add(-400*time.Second), now.Add(-400*time.Second))
	if status := b.call(http.MethodGet, "/wechatpay/health", "", &h); status != http.StatusServiceUnavailable || h.Healthy || !strings.Contains(h.Reasons[0], "clock") {
		t.Errorf("400 s off: %d %+v", status, h)
	}
}

// How full the volume is.
func TestHealthWarnings(t *testing.T) {
	for _, row := range []struct {
		name string
		fill func(h *healthView)
		says string
	}{
		{"space left", func(h *healthView) { h.space(volume{10 << 30, 256 << 20, nil}) }, ""},
		{"little space left", func(h *healthView) { h.space(volume{300 << 20, 256 << 20, nil}) }, "300 MiB"},
		{"space unknown", func(h *healthView) { h.space(volume{err: io.ErrUnexpectedEOF}) }, "unexpected EOF"},
		{"no volume", func(h *healthView) { h.space(struct{}{}) }, ""},
		{"no floor", func(h *healthView) { h.space(volume{1, -1, nil}) }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := new(healthView)
			row.fill(h)
			got := strings.Join(h.Warnings, "\n")
			if row.says == "" && got != "" || !strings.Contains(got, row.says) {
				t.Errorf("%q", got)
			}
		})
	}
}

type volume struct {
	free, floor int64
	err         error
}

func (v volume) FreeSpace() (free, floor int64, err error) { return v.free, v.floor, v.err }

func TestAdminShowsAnOrder(t *testing.T) {
	b := newBench(t)
	b.start()
	_, g, err := runningApp()
	if err != nil {
		t.Fatal(err)
	}
	key := storage.OrderKey{Mchid: testplatform.Mchid, SubMchid: "1900000109", Number: "P/1"}
	err = g.store.Change(context.Background(), storage.Keys{Order: key}, func(rows *storage.Rows) error {
		rows.Order = &storage.Order{
			Key: key, Kind: storage.OrderParking, Merchant: "shop", Origin: storage.OriginGateway, State: storage.OrderPaid,
			Amount: storage.Money{Total: 500, Currency: "CNY"}, Plate: "粤B88888", PlateColor: "BLUE", CreatedAt: time.Now(),
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	status, text := b.ask(http.MethodGet, "/wechatpay/orders/"+testplatform.Mchid+"/P%2F1?sub_mchid=1900000109", "")
	if status != http.StatusOK || strings.Contains(text, "B88888") || !strings.Contains(text, `"plate":"***"`) || !strings.Contains(text, `"total":500`) {
		t.Errorf("%d %s", status, text)
	}
}
