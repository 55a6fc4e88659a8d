package sandbox_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
		for _, f := range []sandbox.APIFault{{}, {Kind: "x"}, {Kind: sandbox.FaultError, Count: -1}, {Kind: sandbox.FaultError, Count: 1 << 30}} {
			if err := p.FailAPI(f); err == nil {
				t.Errorf("%+v accepted", f)
			}
		}
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
