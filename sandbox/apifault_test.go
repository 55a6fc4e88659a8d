package sandbox_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

func TestAPIFaults(t *testing.T) {
	p := newPlatform(t, nil)
	server := httptest.NewServer(p)
	defer server.Close()
	c := newClient(t, p, mchid)
	// place calls over a real connection; ok is whether an answer came.
	place := func(ctx context.Context, number string) (status int, verifies, ok bool) {
		t.Helper()
		r := c.request("POST", "/v3/pay/transactions/native", nativeBody(number, 1))
		out, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/v3/pay/transactions/native", strings.NewReader(nativeBody(number, 1)))
		if err != nil {
			t.Fatal(err)
		}
		out.Header = r.Header
		resp, err := server.Client().Do(out)
		if err != nil {
			return 0, false, false
		}
		defer func() { _ = resp.Body.Close() }()
		var body strings.Builder
		if _, err := io.Copy(&body, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, c.check(resp.Header, []byte(body.String())) == nil, true
	}
	for _, tc := range []struct {
		kind         sandbox.APIFaultKind
		status       int
		verifies, ok bool
		effect       bool
	}{
		{sandbox.FaultError, 500, true, true, false},
		{sandbox.FaultDropBefore, 0, false, false, false},
		{sandbox.FaultErrorAfter, 500, true, true, true},
		{sandbox.FaultDropAfter, 0, false, false, true},
		{sandbox.FaultUnsigned, 200, false, true, true},
		{sandbox.FaultWrongSignature, 200, false, true, true},
		{sandbox.FaultSigntest, 200, false, true, true},
		{sandbox.FaultTampered, 200, false, true, true},
		{sandbox.FaultStaleCertificate, 200, false, true, true},
		{sandbox.FaultStaleTimestamp, 200, true, true, true},
	} {
		t.Run(string(tc.kind), func(t *testing.T) {
			number := "F-" + string(tc.kind)
			if err := p.FailAPI(sandbox.APIFault{Kind: tc.kind, Method: "POST", Path: "/v3/pay/"}); err != nil {
				t.Fatal(err)
			}
			if status, _ := c.call("GET", "/v3/certificates", ""); status != 200 {
				t.Errorf("a call that does not match got %d", status)
			}
			status, verifies, ok := place(bounded(t), number)
			if status != tc.status || verifies != tc.verifies || ok != tc.ok {
				t.Errorf("status %d, verifies %v, answered %v", status, verifies, ok)
			}
			if _, err := p.Order(number); (err == nil) != tc.effect {
				t.Errorf("effect: %v", err)
			}
			if status, verifies, _ := place(bounded(t), number); status != 200 || !verifies {
				t.Errorf("the next call: %d %v", status, verifies)
			}
		})
	}
	for kind, effect := range map[sandbox.APIFaultKind]bool{sandbox.FaultTimeoutBefore: false, sandbox.FaultTimeoutAfter: true} {
		t.Run(string(kind), func(t *testing.T) {
			number := "F-" + string(kind)
			ended := make(chan struct{})
			watched := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				defer func() { _ = recover() }() // the connection would be cut
				p.ServeHTTP(w, r)
			})
			if err := p.FailAPI(sandbox.APIFault{Kind: kind, Count: 1}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			r := c.request("POST", "/v3/pay/transactions/native", nativeBody(number, 1)).WithContext(ctx)
			w := httptest.NewRecorder()
			go watched.ServeHTTP(w, r)
			if effect {
				waitOrder(t, p, number)
			}
			cancel()
			<-ended
			if _, err := p.Order(number); (err == nil) != effect {
				t.Errorf("effect: %v", err)
			}
			if w.Body.Len() != 0 || len(w.Header()) != 0 {
				t.Errorf("it was answered: %s", w.Body)
			}
		})
	}
	t.Run("count and clear", func(t *testing.T) {
		if err := p.FailAPI(sandbox.APIFault{Kind: sandbox.FaultError, Count: 2}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{500, 500, 200} {
			if status, _ := c.call("GET", "/v3/certificates", ""); status != want {
				t.Errorf("%d, want %d", status, want)
			}
		}
		if err := p.FailAPI(sandbox.APIFault{Kind: sandbox.FaultError, Count: 2}); err != nil {
			t.Fatal(err)
		}
		p.ClearAPIFaults()
		if status, _ := c.call("GET", "/v3/certificates", ""); status != 200 {
			t.Errorf("%d after clearing", status)
		}
		for _, f := range []sandbox.APIFault{
			{Kind: sandbox.FaultRefuse}, {Kind: sandbox.FaultRefuse, Code: "NO_SUCH_CODE"}, {Kind: sandbox.FaultError, Code: "NOT_ENOUGH"},
			{Kind: sandbox.FaultError, DelayMS: 1}, {Kind: sandbox.FaultSlow, DelayMS: -1}, {Kind: sandbox.FaultSlow, DelayMS: 60_001},
			{}, {Kind: "x"}, {Kind: sandbox.FaultError, Count: -1}, {Kind: sandbox.FaultError, Count: 1 << 30}} {
			if err := p.FailAPI(f); err == nil {
				t.Errorf("%+v accepted", f)
			}
		}
	})
	t.Run("refuse", func(t *testing.T) {
		for code, want := range map[string]int{"NOT_ENOUGH": 403, "USER_ACCOUNT_ABNORMAL": 403, "FREQUENCY_LIMITED": 429, "MCH_NOT_EXISTS": 404} {
			if err := p.FailAPI(sandbox.APIFault{Kind: sandbox.FaultRefuse, Code: code, Path: refunds}); err != nil {
				t.Fatal(err)
			}
			c.order(nativeBody("F-"+code, 1))
			if status, answer := c.call("POST", refunds, refundBody("F-"+code, "R", 1, 1)); status != want || codeOf(t, answer) != code {
				t.Errorf("%s: %d %s", code, status, answer)
			}
		}
		if len(p.Refunds()) != 0 {
			t.Error("a refused refund was recorded")
		}
	})
	t.Run("stale timestamp and certificate", func(t *testing.T) {
		for _, kind := range []sandbox.APIFaultKind{sandbox.FaultStaleTimestamp, sandbox.FaultStaleCertificate} {
			if err := p.FailAPI(sandbox.APIFault{Kind: kind}); err != nil {
				t.Fatal(err)
			}
			h := serve(p, c.request("GET", "/v3/certificates", "")).Header()
			age := time.Now().Unix() - atoi(t, h.Get("Wechatpay-Timestamp"))
			stale := c.platformKeys()[h.Get("Wechatpay-Serial")] == nil
			if (age > 590) != (kind == sandbox.FaultStaleTimestamp) || stale != (kind == sandbox.FaultStaleCertificate) ||
				stale && !strings.HasPrefix(h.Get("Wechatpay-Serial"), sandbox.CertificateSerialPrefix) {
				t.Errorf("%s: %d s old, %s", kind, age, h.Get("Wechatpay-Serial"))
			}
		}
	})
	t.Run("slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPlatform(t, nil)
			c := newClient(t, p, mchid)
			for delay, want := range map[int64]time.Duration{0: 3 * time.Second, 60_000: time.Minute} {
				if err := p.FailAPI(sandbox.APIFault{Kind: sandbox.FaultSlow, DelayMS: delay}); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if status, _ := c.call("GET", "/v3/certificates", ""); status != 200 || time.Since(start) != want {
					t.Errorf("%d after %v", status, time.Since(start))
				}
			}
			if err := p.FailAPI(sandbox.APIFault{Kind: sandbox.FaultSlow}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			defer func() {
				if v := recover(); v != http.ErrAbortHandler {
					t.Errorf("the caller hung up: %v", v)
				}
				if _, err := p.Order("F-SLOW"); err != nil {
					t.Errorf("no effect: %v", err)
				}
			}()
			p.ServeHTTP(httptest.NewRecorder(), c.request("POST", "/v3/pay/transactions/native", nativeBody("F-SLOW", 1)).WithContext(ctx))
		})
	})
	t.Run("a hanging call ends with the platform", func(t *testing.T) {
		p := newPlatform(t, nil)
		c := newClient(t, p, mchid)
		if err := p.FailAPI(sandbox.APIFault{Kind: sandbox.FaultTimeoutBefore}); err != nil {
			t.Fatal(err)
		}
		ended := make(chan any)
		go func() {
			defer func() { ended <- recover() }()
			p.ServeHTTP(httptest.NewRecorder(), c.request("GET", "/v3/certificates", ""))
		}()
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if v := <-ended; v != http.ErrAbortHandler {
			t.Errorf("%v", v)
		}
	})
}
