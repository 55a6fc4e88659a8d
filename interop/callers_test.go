//go:build interop

package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// exampleCaller runs an example's pay program in some language.
type exampleCaller func(args ...string) *exec.Cmd

// run returns what the program wrote and its exit status.
func (c exampleCaller) run(t *testing.T, env []string, args ...string) (out string, status int) {
	t.Helper()
	cmd := c(args...)
	cmd.Env = env
	out, err := runTool(t, time.Minute, cmd)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return strings.TrimSpace(out), 0
	case errors.As(err, &exit):
		return err.Error(), exit.ExitCode()
	}
	t.Fatal(err)
	return "", 0
}

// testFlows goes through what a shop does, each step by the example's program.
func (c exampleCaller) testFlows(t *testing.T) {
	sandboxURL := sandboxServer(t)
	g := startGateway(t, gatewayOptions{backend: "127.0.0.1:1", sandbox: sandboxURL})
	env := environment(t, "GATEWAY_URL="+g.url, "GATEWAY_TOKEN="+token, "MCHID="+mchid)
	step := func(want string, args ...string) {
		t.Helper()
		if out, status := c.run(t, env, args...); status != 0 || out != want {
			t.Errorf("%s: exit %d %s, want %s", strings.Join(args, " "), status, out, want)
		}
	}
	refused := func(rule string, args ...string) {
		t.Helper()
		if out, status := c.run(t, env, args...); status != 1 || !strings.Contains(out, rule) {
			t.Errorf("%s: exit %d %s, want %s", strings.Join(args, " "), status, out, rule)
		}
	}
	const number, refund = "FLOW_*|-1", "FLOW_*|-R1"
	code, status := c.run(t, env, "native", number, "100")
	if status != 0 || !strings.HasPrefix(code, "weixin://") {
		t.Fatalf("native: exit %d %s", status, code)
	}
	step(code, "native", number, "100")
	refused("number_content", "native", number, "101")
	step("NOTPAY", "query", number)
	refused("refund_not_paid", "refund", number, refund, "100", "100")

	g.pay(t, number, nil)
	step("SUCCESS", "query", number)
	refused("close_paid", "close", number)
	refused("refund_total", "refund", number, refund, "101", "100")
	step("PROCESSING", "refund", number, refund, "30", "100")
	refused("retry after", "refund", number, refund+"2", "30", "100")
	g.waitCallback(t, "refund:"+refund, 1)
	step("SUCCESS", "refund-query", refund)
	step("REFUND", "query", number)

	// The user's phone takes the parameters only with the merchant's signature.
	text, status := c.run(t, env, "jsapi", "FLOW-JSAPI", "7", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o")
	if status != 0 || !json.Valid([]byte(text)) {
		t.Fatalf("jsapi: exit %d %s", status, text)
	}
	g.control(t, "invoke", map[string]any{"params": json.RawMessage(text)})
	step("SUCCESS", "query", "FLOW-JSAPI")

	if code, status := c.run(t, env, "native", "FLOW-2", "5"); status != 0 {
		t.Fatalf("native: exit %d %s", status, code)
	}
	step("CLOSED", "close", "FLOW-2")
	step("CLOSED", "query", "FLOW-2")
}

// testOutcomes plays a gateway that answers in every way a program can get wrong.
func (c exampleCaller) testOutcomes(t *testing.T) {
	type answer func(w http.ResponseWriter)
	say := func(status int, body string, headers ...string) answer {
		return func(w http.ResponseWriter) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const code = "weixin://wxpay/bizpayurl?pr=Stub"
	made := say(200, `{"code_url":"`+code+`"}`)
	unknown := say(500, `{"code":"SYSTEM_ERROR","message":"query, or retry with the same number"}`, "Wechatpay-Gateway-Outcome", "unknown")
	cut := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, `{"code_url":"`)
		panic(http.ErrAbortHandler)
	}
	gone := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	for _, row := range []struct {
		name     string
		answers  []answer // the last is repeated
		requests int
		status   int
		want     string
	}{
		{"made", []answer{made}, 1, 0, code},
		{"unknown, then made", []answer{unknown, made}, 2, 0, code},
		{"a cut answer, then made", []answer{cut, made}, 2, 0, code},
		{"no answer, then made", []answer{gone, made}, 2, 0, code},
		{"a proxy's 502, then made", []answer{say(502, "<html>"), made}, 2, 0, code},
		{"an answer of unknown standing, then made", []answer{say(202, "{}", "Wechatpay-Gateway-Outcome", "unknown"), made}, 2, 0, code},
		{"unknown for good", []answer{unknown}, 3, 3, "SYSTEM_ERROR"},
		{"never an answer", []answer{gone}, 3, 3, "unknown"},
		{"refused by WeChat Pay", []answer{say(403, `{"code":"OUT_TRADE_NO_USED","message":"商户订单号重复"}`)}, 1, 1, "OUT_TRADE_NO_USED"},
		{"refused by the gateway", []answer{say(409, `{"code":"INVALID_REQUEST","message":"x"}`, "Wechatpay-Gateway-Refused", "number_content")}, 1, 1, "number_content"},
		{"nothing was sent", []answer{say(502, `{"code":"SYSTEM_ERROR","message":"x"}`, "Wechatpay-Gateway-Refused", "unreachable")}, 1, 1, "unreachable"},
		{"too early", []answer{say(429, `{"code":"RATE_LIMITED","message":"x"}`, "Wechatpay-Gateway-Refused", "busy", "Retry-After", "17")}, 1, 1, "17"},
		{"a redirect", []answer{say(302, "", "Location", "/elsewhere")}, 1, 1, "302"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var mu sync.Mutex
			var bodies []string
			stub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body) // a short one shows below
				mu.Lock()
				n := len(bodies)
				bodies = append(bodies, r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization")+" "+string(body))
				mu.Unlock()
				row.answers[min(n, len(row.answers)-1)](w)
			}))
			defer stub.Close()
			env := environment(t, "GATEWAY_URL="+stub.URL, "GATEWAY_TOKEN="+token, "MCHID="+mchid)
			out, status := c.run(t, env, "native", "STUB_1", "100")
			if status != row.status || !strings.Contains(out, row.want) {
				t.Errorf("exit %d %s, want %d %s", status, out, row.status, row.want)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(bodies) != row.requests || len(slices.Compact(slices.Clone(bodies))) != 1 {
				t.Errorf("%d requests, want %d, all the same: %q", len(bodies), row.requests, bodies)
			}
			if want := fmt.Sprintf("POST /v3/pay/transactions/native Bearer %s {", token); len(bodies) > 0 && !strings.HasPrefix(bodies[0], want) {
				t.Errorf("the request is %s", bodies[0])
			}
		})
	}
	for _, args := range [][]string{
		nil, {"native", "STUB_1"}, {"native", "STUB_1", "1.5"}, {"native", "STUB_1", "-1"}, {"native", "STUB_1", "1e2"}, {"what", "STUB_1"},
	} {
		if out, status := c.run(t, environment(t, "GATEWAY_URL=http://127.0.0.1:1", "GATEWAY_TOKEN="+token), args...); status != 2 {
			t.Errorf("%q: exit %d %s, want 2", args, status, out)
		}
	}
}
