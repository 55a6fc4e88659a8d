package caddymodule

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// thenProxy sends results on to the bench's backend, with the placeholders in a
// header.
const thenProxy = `then {
				reverse_proxy {http.vars.backend} {
					header_up X-Seen "{http.wechatpay.operation}|{http.wechatpay.group}|{http.wechatpay.status}|{http.wechatpay.caller}|{http.wechatpay.merchant}|{http.wechatpay.mchid}|{http.wechatpay.out_trade_no}|{http.wechatpay.out_refund_no}"
					header_up X-Request "{http.wechatpay.request_id}"
				}
			}`

func thenBench(t *testing.T, then string) (*bench, *sandbox.Platform) {
	b, platform := newPlay(t, then)
	b.site = "vars backend " + b.backend.addr() + "\n\t" + b.site
	b.start()
	return b, platform
}

// A success goes on to the backend with WeChat Pay's bytes and signature, and
// what the backend says goes to the caller.
func TestThenCarriesTheResult(t *testing.T) {
	b, platform := thenBench(t, thenProxy)
	b.backend.says(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		w.Header().Set("X-Backend", "yes")
		w.Header().Set("Wechatpay-Gateway-Outcome", "failed") // no backend's to say
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"page":"`+gjson.GetBytes(body, "code_url").String()+`"}`)
	})
	b.ready()
	before := len(b.backend.requests())
	got := b.api(http.MethodPost, "/v3/pay/transactions/native", nativeOrder("THEN-ORDER-1", 100), http.Header{
		"Wechatpay-Gateway-Merchant":  {"someone"},
		"wechatpay_gateway_operation": {"forged"},
		"Wechatpay-Signature":         {"forged"},
		"Webhook-Id":                  {"forged"},
		"Cookie":                      {"session=1"},
		"X-Trace":                     {"abc"},
	})
	order, err := platform.Order("THEN-ORDER-1")
	if err != nil {
		t.Fatal(err)
	}
	if got.status != http.StatusCreated || got.body != `{"page":"`+order.CodeURL+`"}` || got.header.Get("X-Backend") != "yes" {
		t.Fatalf("answer %d %s", got.status, got.body)
	}
	if o := got.header.Values("Wechatpay-Gateway-Outcome"); len(o) != 1 || o[0] != "succeeded" {
		t.Errorf("outcome %q", o)
	}
	if got.header.Get("Wechatpay-Signature") != "" {
		t.Error("WeChat Pay's signature stands over the backend's body")
	}
	all := b.backend.requests()
	if len(all) != before+1 {
		t.Fatalf("%d requests", len(all)-before)
	}
	r := all[before]
	if r.path != "/v3/pay/transactions/native" || gjson.GetBytes(r.body, "code_url").String() != order.CodeURL {
		t.Errorf("%s %s", r.path, r.body)
	}
	for name, want := range map[string]string{
		"Content-Type":                "application/json",
		"Content-Length":              strconv.Itoa(len(r.body)),
		"X-Seen":                      "POST /v3/pay/transactions/native|pay|200|erp|play|" + playMchid + "|THEN-ORDER-1|",
		"X-Trace":                     "abc",
		"Cookie":                      "session=1",
		"Authorization":               "",
		"Webhook-Id":                  "",
		"Wechatpay-Gateway-Merchant":  "play",
		"Wechatpay-Gateway-Mchid":     playMchid,
		"Wechatpay-Gateway-Operation": "POST /v3/pay/transactions/native",
		"Wechatpay-Gateway-Caller":    "erp",
	} {
		if g := strings.Join(r.header[name], ","); g != want {
			t.Errorf("%s: %q, want %q", name, g, want)
		}
	}
	for name := range r.header {
		if strings.Contains(name, "_") {
			t.Errorf("the client's %s went on", name)
		}
	}
	for _, name := range []string{"Wechatpay-Signature", "Wechatpay-Serial", "Wechatpay-Nonce", "Wechatpay-Timestamp", "Request-Id", "X-Request"} {
		if v := r.header.Get(name); v == "" || v == "forged" {
			t.Errorf("%s: %q", name, v)
		}
	}
}

// A GET, an answer without a body, and a refund go on, too, as a POST each.
func TestThenOfOtherOperations(t *testing.T) {
	b, platform := thenBench(t, thenProxy)
	b.ready()
	b.place("THEN-ORDER-2", 100)
	if _, err := platform.Pay("THEN-ORDER-2", sandbox.Faults{Lost: true}); err != nil {
		t.Fatal(err)
	}
	b.place("THEN-ORDER-3", 100)
	for _, step := range []struct {
		method, path, body string
		seen               string
		empty              bool
	}{
		{
			http.MethodGet, "/v3/pay/transactions/out-trade-no/THEN-ORDER-2?mchid=" + playMchid, "",
			"GET /v3/pay/transactions/out-trade-no/{out_trade_no}|query|200|erp|play|" + playMchid + "|THEN-ORDER-2|", false,
		},
		{
			http.MethodPost, "/v3/pay/transactions/out-trade-no/THEN-ORDER-3/close", `{"mchid":"` + playMchid + `"}`,
			"POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close|close|204|erp|play|" + playMchid + "|THEN-ORDER-3|", true,
		},
		{
			http.MethodPost, "/v3/refund/domestic/refunds",
			`{"out_trade_no":"THEN-ORDER-2","out_refund_no":"THEN-REFUND-1","amount":{"refund":40,"total":100,"currency":"CNY"}}`,
			"POST /v3/refund/domestic/refunds|refund|200|erp|play|" + playMchid + "|THEN-ORDER-2|THEN-REFUND-1", false,
		},
	} {
		before := len(b.backend.requests())
		got := b.api(step.method, step.path, step.body, nil)
		if got.status != http.StatusOK || got.body != `{"code":"SUCCESS"}` {
			t.Fatalf("%s: %d %s", step.path, got.status, got.body)
		}
		all := b.backend.requests()
		if len(all) != before+1 {
			t.Fatalf("%s: %d requests", step.path, len(all)-before)
		}
		r := all[before]
		path, _, _ := strings.Cut(step.path, "?")
		if r.path != path || r.header.Get("X-Seen") != step.seen || (len(r.body) == 0) != step.empty {
			t.Errorf("%s: %s, %s, %d bytes", step.path, r.path, r.header.Get("X-Seen"), len(r.body))
		}
	}
}

// What is no success of WeChat Pay's is answered as it is, and the backend hears
// nothing.
func TestThenOnlyAfterSuccess(t *testing.T) {
	b, platform := thenBench(t, thenProxy)
	b.ready()
	b.place("THEN-ORDER-4", 100)
	before := len(b.backend.requests())
	unknown := func() apiAnswer {
		if err := platform.FailAPI(sandbox.APIFault{Kind: sandbox.FaultWrongSignature, Path: "/v3/pay/transactions/native"}); err != nil {
			t.Fatal(err)
		}
		return b.place("THEN-ORDER-5", 100)
	}
	for name, test := range map[string]struct {
		got    apiAnswer
		status int
		header string
	}{
		"rejected by WeChat Pay": {b.api(http.MethodGet, "/v3/pay/transactions/out-trade-no/NOSUCHORDER", "", nil), http.StatusNotFound, "Wechatpay-Signature"},
		"refused by the gateway": {b.place("THEN-ORDER-4", 200), http.StatusConflict, "Wechatpay-Gateway-Refused"},
		"unknown":                {unknown(), http.StatusInternalServerError, "Wechatpay-Gateway-Outcome"},
		"the gateway's own": {
			b.api(http.MethodGet, "/gateway/orders/THEN-ORDER-4", "", nil), http.StatusOK, "Cache-Control",
		},
	} {
		if test.got.status != test.status || test.got.header.Get(test.header) == "" || test.got.body == "" {
			t.Errorf("%s: %d %v %s", name, test.got.status, test.got.header, test.got.body)
		}
		if test.got.header.Get("Wechatpay-Gateway-Outcome") == "succeeded" {
			t.Errorf("%s: succeeded", name)
		}
	}
	if n := len(b.backend.requests()) - before; n != 0 {
		t.Errorf("the backend got %d requests", n)
	}
}

// A result that no route answers goes to the caller as WeChat Pay wrote it.
func TestThenFallsThrough(t *testing.T) {
	b, platform := thenBench(t, `then {
				header X-Passed through
				@refunds vars {http.wechatpay.group} refund
				handle @refunds {
					reverse_proxy {http.vars.backend}
				}
			}`)
	b.ready()
	got := b.place("THEN-ORDER-6", 100)
	order, err := platform.Order("THEN-ORDER-6")
	if err != nil {
		t.Fatal(err)
	}
	if got.status != http.StatusOK || gjson.Get(got.body, "code_url").String() != order.CodeURL ||
		got.header.Get("Wechatpay-Signature") == "" || got.header.Get("Wechatpay-Gateway-Outcome") != "" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if n := len(b.backend.requests()); n != 0 {
		t.Errorf("the backend got %d requests", n)
	}
}

// A backend that fails after the money moved does not turn the operation into a
// failure: the caller is told that it succeeded.
func TestThenBackendFails(t *testing.T) {
	refused := freePort(t)
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(cut.Close)
	sad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "database is down", http.StatusInternalServerError)
	}))
	t.Cleanup(sad.Close)
	for name, test := range map[string]struct {
		then   string
		status int
	}{
		"nobody listens":  {"reverse_proxy " + refused, http.StatusBadGateway},
		"cut":             {"reverse_proxy " + strings.TrimPrefix(cut.URL, "http://"), http.StatusBadGateway},
		"500":             {"reverse_proxy " + strings.TrimPrefix(sad.URL, "http://"), http.StatusInternalServerError},
		"a route's error": {"error \"no\" 418", http.StatusTeapot},
	} {
		t.Run(name, func(t *testing.T) {
			b, platform := thenBench(t, fmt.Sprintf("then {\n\t\t\t\t%s\n\t\t\t}", test.then))
			b.ready()
			got := b.place("THEN-ORDER-7", 100)
			if got.status != test.status || got.header.Get("Wechatpay-Gateway-Outcome") != "succeeded" {
				t.Errorf("%d, outcome %q", got.status, got.header.Get("Wechatpay-Gateway-Outcome"))
			}
			if _, err := platform.Order("THEN-ORDER-7"); err != nil {
				t.Error(err)
			}
		})
	}
}

// A caller that goes away does not keep the result from the backend.
func TestThenOutlivesTheCaller(t *testing.T) {
	b, _ := thenBench(t, thenProxy)
	b.ready()
	entered, leave := make(chan struct{}), make(chan struct{})
	finished := make(chan error, 1)
	b.backend.says(func(w http.ResponseWriter, r *http.Request, _ []byte) {
		close(entered)
		select {
		case <-leave:
		case <-r.Context().Done():
		}
		finished <- r.Context().Err()
	})
	req, err := http.NewRequest(http.MethodPost, "http://"+b.listen+"/v3/pay/transactions/native", strings.NewReader(nativeOrder("THEN-ORDER-8", 100)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+playToken)
	req.Header.Set("Content-Type", "application/json")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	gone := make(chan struct{})
	impatient := &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(gone)
		if resp, err := impatient.Do(req.WithContext(ctx)); err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	cancel()
	<-gone
	close(leave)
	select {
	case err := <-finished:
		if err != nil {
			t.Errorf("the backend's request: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the backend's request does not end")
	}
}
