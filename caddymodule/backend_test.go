package caddymodule

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
)

// Whatever the backend does, WeChat is answered in time, and what the backend
// did not take is sent again until it does.
func TestBackendFaults(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	faults := map[string]func(w http.ResponseWriter, r *http.Request){
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"429 with Retry-After": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
		},
		"hang": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		},
		"slow body": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			for range 1000 {
				if _, err := io.WriteString(w, " "); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		},
		"truncated, with a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"code":`)
			panic(http.ErrAbortHandler)
		},
		"truncated, chunked": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"code":"SUCCESS"}`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		},
		"302":       func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/"); w.WriteHeader(302) },
		"fail":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fail") },
		"FAIL code": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"code":"FAIL"}`) },
		"XML FAIL": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `<xml><return_code><![CDATA[FAIL]]></return_code></xml>`)
		},
	}
	for _, ack := range []string{"commit", "delivery"} {
		for name, fault := range faults {
			t.Run(ack+"/"+name, func(t *testing.T) {
				b := newBench(t)
				b.notify = "ack " + ack + "\n\t\t\tretry 50ms 50ms 50ms 100ms\n\t\t\ttimeout 300ms"
				var n atomic.Int64
				b.backend.says(func(w http.ResponseWriter, r *http.Request, _ []byte) {
					if n.Add(1) <= 2 {
						fault(w, r)
						return
					}
					w.WriteHeader(http.StatusOK)
				})
				b.start()
				begin := time.Now()
				status, _ := b.send(testplatform.Payment(1, 100))
				if took := time.Since(begin); took > 4500*time.Millisecond {
					t.Errorf("answered after %v", took)
				}
				want := http.StatusOK
				if ack == "delivery" {
					want = http.StatusInternalServerError
				}
				if status != want {
					t.Errorf("status %d, want %d", status, want)
				}
				eventually(t, 10*time.Second, "delivered", func() bool {
					in := b.inbox()
					return len(in) == 1 && in[0].State == "delivered"
				})
				got := b.backend.requests()
				if len(got) != 3 {
					t.Fatalf("%d requests", len(got))
				}
				for i, r := range got {
					if r.id != got[0].id || r.header.Get("Wechatpay-Gateway-Attempt") != fmt.Sprint(i+1) {
						t.Errorf("request %d: id %s, attempt %s", i, r.id, r.header.Get("Wechatpay-Gateway-Attempt"))
					}
				}
				if name == "429 with Retry-After" && got[1].at.Sub(got[0].at) < 900*time.Millisecond {
					t.Errorf("Retry-After: again after %v", got[1].at.Sub(got[0].at))
				}
				if status, _ := b.send(testplatform.Payment(1, 100)); status != http.StatusOK {
					t.Errorf("a repeat after delivery: status %d", status)
				}
				if n := len(b.backend.requests()); n != 3 {
					t.Errorf("%d requests after a repeat", n)
				}
			})
		}
	}
}

// A backend that is down burns no attempts and loses nothing: when it comes
// back, everything goes out.
func TestBackendDownHolds(t *testing.T) {
	b := newBench(t)
	addr := freePort(t)
	b.deliver = "reverse_proxy " + addr
	b.notify = "retry 20ms 20ms 20ms" // three failures and a notification about others would be dead
	b.start()
	const n = 50
	for i := range n {
		if status, _ := b.send(testplatform.Payment(i, 100)); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	for _, v := range b.inbox() {
		if v.State != "pending" {
			t.Fatalf("%s is %s", v.OutTradeNo, v.State)
		}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(b.backend.serve)}}
	srv.Start()
	t.Cleanup(srv.Close)
	eventually(t, 15*time.Second, "all delivered", func() bool {
		for _, v := range b.inbox() {
			if v.State != "delivered" {
				return false
			}
		}
		return true
	})
	if events, requests := b.backend.distinct(); events != n || requests != n {
		t.Errorf("%d events in %d requests", events, requests)
	}
}

// One notification that finds no connection is probed for, too: it goes out when
// the backend is back, not when its next wait is over, and has burned nothing.
func TestOneRefusedIsProbed(t *testing.T) {
	b := newBench(t)
	addr := freePort(t)
	b.deliver = "reverse_proxy " + addr
	b.notify = "retry 1h"
	b.start()
	b.send(testplatform.Payment(1, 100))
	eventually(t, 5*time.Second, "the breaker opens", func() bool {
		return strings.Contains(get(t, "http://"+b.admin+"/metrics"), "} 1\n") &&
			strings.Contains(get(t, "http://"+b.admin+"/metrics"), "caddy_wechatpay_breaker_open")
	})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(b.backend.serve)}}
	srv.Start()
	t.Cleanup(srv.Close)
	eventually(t, 6*time.Second, "delivered by a probe", func() bool { return b.backend.total.Load() == 1 })
	if got := b.backend.requests()[0].header.Get("Wechatpay-Gateway-Attempt"); got != "1" {
		t.Errorf("attempt %s", got)
	}
}

// Two routes of one merchant: what came by one is delivered by it, and its
// backend's outage does not hold the other's deliveries.
func TestRoutesApart(t *testing.T) {
	b := newBench(t)
	down := freePort(t)
	b.site = fmt.Sprintf("handle /b/* {\n\t\twechatpay_notify shop {\n\t\t\tpayload resource\n\t\t\tdeliver {\n\t\t\t\treverse_proxy %s\n\t\t\t}\n\t\t}\n\t}", b.backend.addr())
	b.deliver = "reverse_proxy " + down
	b.start()
	for i := range 40 {
		b.send(testplatform.Payment(i, 100))
	}
	for i := 100; i < 110; i++ {
		h, body := b.platform.Callback(testplatform.Payment(i, 100))
		if status, _, err := b.post("/b/notify", h, body); status != 200 || err != nil {
			t.Fatalf("status %d, %v", status, err)
		}
	}
	eventually(t, 3*time.Second, "the other route's deliveries", func() bool { return b.backend.total.Load() == 10 })
	for _, r := range b.backend.requests() {
		if r.path != "/b/notify" || strings.Contains(string(r.body), "resource") {
			t.Errorf("%s: %.60s", r.path, r.body)
		}
	}
	// A reload that changes the first route's options finds its notifications.
	b.notify = "timeout 20s"
	l, err := net.Listen("tcp", down)
	if err != nil {
		t.Fatal(err)
	}
	back := newBackend(t)
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(back.serve)}}
	srv.Start()
	t.Cleanup(srv.Close)
	b.load()
	eventually(t, 10*time.Second, "the first route's deliveries", func() bool { return back.total.Load() == 40 })
	if n := b.backend.total.Load(); n != 10 {
		t.Errorf("the other backend got %d", n)
	}
}

// A body that trickles in is answered in time, whatever the backend does.
func TestSlowBodyIsAnsweredInTime(t *testing.T) {
	b := newBench(t)
	b.notify = "ack delivery\n\t\t\ttimeout 3900ms"
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	b.backend.says(func(_ http.ResponseWriter, r *http.Request, _ []byte) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	b.start()
	h, body := b.platform.Callback(testplatform.Payment(1, 100))
	wire := testplatform.Wire("/wechatpay/notify/shop", h, body)
	for name, held := range map[string]time.Duration{"late": 1500 * time.Millisecond, "never": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", b.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			begin := time.Now()
			if _, err := c.Write(wire[:len(wire)-1]); err != nil {
				t.Fatal(err)
			}
			last := time.AfterFunc(held, func() { _, _ = c.Write(wire[len(wire)-1:]) })
			defer last.Stop()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if took := time.Since(begin); took > 4500*time.Millisecond || resp.StatusCode < 400 {
				t.Errorf("status %d after %v", resp.StatusCode, took)
			}
		})
	}
}

// In delivery mode the backend's JSON is WeChat's answer, and a repeat's.
func TestDeliveryModeAnswer(t *testing.T) {
	b := newBench(t)
	b.notify = "ack delivery"
	b.backend.says(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"code":"SUCCESS","retention":"offer"}`)
	})
	b.start()
	for range 3 {
		status, answer := b.send(testplatform.Payment(1, 100))
		if status != http.StatusOK || answer != `{"code":"SUCCESS","retention":"offer"}` {
			t.Fatalf("answer %d %s", status, answer)
		}
	}
	if n := b.backend.total.Load(); n != 1 {
		t.Errorf("%d deliveries", n)
	}
}

// raw gives the backend WeChat's own bytes and headers.
func TestRawPayload(t *testing.T) {
	b := newBench(t)
	b.notify = "ack delivery\n\t\t\tpayload raw"
	b.start()
	h, body := b.platform.Callback(testplatform.Payment(1, 100))
	if status, _, err := b.post("/wechatpay/notify/shop", h.Clone(), body); status != 200 || err != nil {
		t.Fatalf("status %d, %v", status, err)
	}
	got := b.backend.requests()[0]
	if string(got.body) != string(body) {
		t.Error("the body is not WeChat's")
	}
	for _, name := range []string{"Wechatpay-Serial", "Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Signature"} {
		if got.header.Get(name) != h.Get(name) {
			t.Errorf("%s: %q", name, got.header.Get(name))
		}
	}
}

// Routes of the deliver block choose by placeholder; what none takes is parked.
func TestDeliverRoutes(t *testing.T) {
	b := newBench(t)
	b.deliver = fmt.Sprintf("@pay vars {http.wechatpay.kind} payment\n\t\t\t\treverse_proxy @pay %s", b.backend.addr())
	b.start()
	b.send(testplatform.Payment(1, 100))
	refund := testplatform.Notification{
		ID: "r1", EventType: "REFUND.SUCCESS",
		Plaintext: fmt.Appendf(nil, `{"mchid":"%s","transaction_id":"42","out_trade_no":"TEST000000009","refund_id":"50","out_refund_no":"R1","refund_status":"SUCCESS","success_time":"2026-01-01T12:00:00+08:00","user_received_account":"x","amount":{"total":100,"refund":100,"payer_total":100,"payer_refund":100}}`, testplatform.Mchid),
	}
	if status, _ := b.send(refund); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	eventually(t, 5*time.Second, "one delivered, one parked", func() bool {
		states := map[string]string{}
		for _, v := range b.inbox() {
			states[v.Kind] = v.State + v.ParkReason
		}
		return states["payment"] == "delivered" && states["refund"] == "parkedno_route"
	})
	if n := b.backend.total.Load(); n != 1 {
		t.Errorf("%d deliveries", n)
	}
}

// A client's headers under the gateway's names never reach the backend.
func TestSpoofedHeaders(t *testing.T) {
	b := newBench(t)
	b.start()
	h, body := b.platform.Callback(testplatform.Payment(1, 100))
	for _, name := range []string{"Webhook-Id", "webhook_id", "Webhook-Signature", "Wechatpay-Gateway-Amount-Check", "wechatpay_gateway_kind", "Wechatpay-Gateway-Evil"} {
		h[name] = []string{"forged"}
	}
	if status, _, err := b.post("/wechatpay/notify/shop?x=1", h, body); status != 200 || err != nil {
		t.Fatalf("status %d, %v", status, err)
	}
	eventually(t, 5*time.Second, "delivered", func() bool { return b.backend.total.Load() == 1 })
	got := b.backend.requests()[0]
	for name, values := range got.header {
		if strings.Contains(strings.Join(values, ""), "forged") {
			t.Errorf("%s: %q", name, values)
		}
	}
}
