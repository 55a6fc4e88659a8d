//go:build interop

package interop

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver is an example receiver in some language.
type receiver struct {
	// serve runs it on host:port until the test ends.
	serve func(t *testing.T, port int, env []string) *process
	// order creates a combine order and returns its code_url.
	order func(t *testing.T, env []string, number string, fen ...string) (string, error)
	// state reads its order file.
	state func(t *testing.T, dir, number string) orderState
}

// orderState is what a receiver knows of an order.
type orderState struct {
	paid      bool
	shipments int
	events    int // Webhook-Ids
}

var (
	unpaid = orderState{}
	paid   = orderState{paid: true, shipments: 1, events: 1}
)

func receiverEnv(t *testing.T, gatewayURL, ordersDir string) []string {
	t.Helper()
	return environment(
		t, "ORDERS_DIR="+ordersDir, "GATEWAY_WEBHOOK_SECRET="+webhookSecret,
		"GATEWAY_URL="+gatewayURL, "GATEWAY_TOKEN="+token, "MCHID="+mchid, "APPID="+appid,
	)
}

// serveReceiver runs the receiver on a free port and waits for it.
func (r receiver) serveReceiver(t *testing.T, env []string) (url string) {
	t.Helper()
	port := freePorts(t, 1)[0]
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	r.serve(t, port, env).waitReady(t, func() error {
		resp, err := client.Get(url + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			return fmt.Errorf("GET: status %d", resp.StatusCode)
		}
		return nil
	})
	return url
}

// signDelivery signs as Standard Webhooks 1 has it.
func signDelivery(t *testing.T, secret, id, timestamp string, body []byte) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Error(err) // not Fatal: this runs in other goroutines, too
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// combineBody is a delivery's body for an order of 600 and 1234 fen.
func combineBody(number string, first int, currency, state string) []byte {
	sub := func(n, fen int, currency, state string) string {
		return fmt.Sprintf(`{"mchid":"%s","trade_type":"NATIVE","trade_state":"%s","out_trade_no":"%s-%d",`+
			`"attach":"\u9644\u52a0 \"数据\"","amount":{"total_amount":%d,"currency":"%s","payer_amount":%d}}`,
			mchid, state, number, n, fen, currency, fen)
	}
	return []byte(fmt.Sprintf(`{"id":"e-1","event_type":"TRANSACTION.SUCCESS","resource":{"combine_appid":"%s",`+
		`"combine_mchid":"%s","combine_out_trade_no":"%s","sub_orders":[%s,%s]}}`,
		appid, mchid, number, sub(2, 1234, "CNY", "SUCCESS"), sub(1, first, currency, state)))
}

// testAlone drives a receiver with deliveries that the test signs itself.
func (r receiver) testAlone(t *testing.T) {
	var asked []byte // what the receiver's order program sent
	stub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer "+token || req.URL.Path != "/v3/combine-transactions/native" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		asked, _ = io.ReadAll(req.Body) // a short read shows in the check below
		_, _ = io.WriteString(w, `{"code_url":"weixin://wxpay/bizpayurl?pr=Alone"}`)
	}))
	defer stub.Close()
	dir := t.TempDir()
	env := receiverEnv(t, stub.URL, dir)
	url := r.serveReceiver(t, env)

	if got, err := r.order(t, env, "ALONE_1", "600", "1234"); err != nil || got != "weixin://wxpay/bizpayurl?pr=Alone" {
		t.Fatalf("order program: %q %v", got, err)
	}
	for _, want := range []string{`"combine_out_trade_no":"ALONE_1"`, `"total_amount":600`, `"total_amount":1234`, "示例商品"} {
		if !strings.Contains(string(asked), want) {
			t.Errorf("order program did not send %s: %s", want, asked)
		}
	}
	if _, err := r.order(t, env, "ALONE_1", "600", "1"); err == nil {
		t.Error("order program took a number twice, with other amounts")
	}

	const otherSecret = "whsec_YW5vdGhlci1zZWNyZXQtb2YtMzItYnl0ZXMtb25seSE="
	right := combineBody("ALONE_1", 600, "CNY", "SUCCESS")
	now := time.Now().Unix()
	type row struct {
		name   string
		secret string // of the signature; empty: the right one
		age    int64  // of the timestamp, seconds
		signed []byte // what is signed in place of body
		body   []byte // empty: right
		id     string // empty: evt_1
		kind   string // empty: combine
		change func(http.Header)
		method string
		status int
		want   orderState
	}
	rows := []row{
		{name: "another secret", secret: otherSecret, status: 401},
		{name: "another body", signed: []byte("{}"), status: 401},
		{name: "another id", change: func(h http.Header) { h.Set("Webhook-Id", "evt_2") }, status: 401},
		{name: "another timestamp", change: func(h http.Header) { h.Set("Webhook-Timestamp", strconv.FormatInt(now-1, 10)) }, status: 401},
		{name: "310 s old", age: 310, status: 401},
		{name: "310 s ahead", age: -310, status: 401},
		{name: "timestamp no number", change: func(h http.Header) { h.Set("Webhook-Timestamp", "1e9") }, status: 401},
		{name: "no id", change: func(h http.Header) { h.Del("Webhook-Id") }, status: 401},
		{name: "no timestamp", change: func(h http.Header) { h.Del("Webhook-Timestamp") }, status: 401},
		{name: "no signature", change: func(h http.Header) { h.Del("Webhook-Signature") }, status: 401},
		{name: "empty signature", change: func(h http.Header) { h.Set("Webhook-Signature", "v1,") }, status: 401},
		{name: "unknown version", change: func(h http.Header) {
			h.Set("Webhook-Signature", "v2"+strings.TrimPrefix(h.Get("Webhook-Signature"), "v1"))
		}, status: 401},
		{name: "GET", method: http.MethodGet, status: 405},

		{name: "amount too low", body: combineBody("ALONE_1", 599, "CNY", "SUCCESS"), status: 500},
		{name: "other currency", body: combineBody("ALONE_1", 600, "USD", "SUCCESS"), status: 500},
		{name: "not paid", body: combineBody("ALONE_1", 600, "CNY", "NOTPAY"), status: 500},
		{name: "unknown order", body: combineBody("ALONE_2", 600, "CNY", "SUCCESS"), status: 500},
		{name: "a path for a number", body: combineBody("../ALONE_1", 600, "CNY", "SUCCESS"), status: 500},
		{name: "not JSON", body: []byte("{"), status: 500},
		{name: "no resource", body: []byte(`{"resource":null}`), status: 500},
		{name: "kind without a handler", kind: "refund", status: 500},

		{name: "right, two signatures", change: func(h http.Header) {
			h.Set("Webhook-Signature", signDelivery(t, otherSecret, "evt_1", h.Get("Webhook-Timestamp"), right)+" "+h.Get("Webhook-Signature"))
		}, status: 200, want: paid},
		{name: "the same again", status: 200, want: paid},
		{name: "the same again, another attempt", age: 290, status: 200, want: paid},
		{name: "the order again, another id", id: "evt_9", status: 200, want: orderState{paid: true, shipments: 1, events: 2}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			id, kind, secret, body, method := "evt_1", "combine", webhookSecret, right, http.MethodPost
			for _, o := range []struct {
				set   string
				field *string
			}{{row.id, &id}, {row.kind, &kind}, {row.secret, &secret}, {row.method, &method}} {
				if o.set != "" {
					*o.field = o.set
				}
			}
			if row.body != nil {
				body = row.body
			}
			signed := body
			if row.signed != nil {
				signed = row.signed
			}
			timestamp := strconv.FormatInt(time.Now().Unix()-row.age, 10)
			req := signedRequest(t, url, id, body)
			req.Method = method
			req.Header.Set("Webhook-Timestamp", timestamp)
			req.Header.Set("Webhook-Signature", signDelivery(t, secret, id, timestamp, signed))
			req.Header.Set("Wechatpay-Gateway-Kind", kind)
			if row.change != nil {
				row.change(req.Header)
			}
			status, answer, err := do(req)
			if err != nil {
				t.Fatal(err)
			}
			if status != row.status {
				t.Errorf("status %d, want %d: %s", status, row.status, answer)
			}
			if success := string(answer) == `{"code":"SUCCESS"}`; success != (row.status == 200) {
				t.Errorf("answer %s to status %d", answer, status)
			}
			if got := r.state(t, dir, "ALONE_1"); got != row.want {
				t.Errorf("order is %+v, want %+v", got, row.want)
			}
		})
	}
	t.Run("forty at a time, two of each id", func(t *testing.T) {
		if _, err := r.order(t, env, "ALONE_3", "600", "1234"); err != nil {
			t.Fatal(err)
		}
		body := combineBody("ALONE_3", 600, "CNY", "SUCCESS")
		var all sync.WaitGroup
		for i := range 40 {
			all.Add(1)
			go func() {
				defer all.Done()
				req := signedRequest(t, url, fmt.Sprintf("evt_3_%d", i/2), body)
				if status, answer, err := do(req); err != nil || status != http.StatusOK {
					t.Errorf("answered %d %s %v", status, answer, err)
				}
			}()
		}
		all.Wait()
		want := orderState{paid: true, shipments: 1, events: 20}
		if got := r.state(t, dir, "ALONE_3"); got != want {
			t.Errorf("order is %+v, want %+v", got, want)
		}
	})
}

// signedRequest is a right delivery of a combine order.
func signedRequest(t *testing.T, url, id string, body []byte) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url+"/wechatpay/notify/demo", bytes.NewReader(body))
	if err != nil {
		t.Error(err) // not Fatal: this runs in other goroutines, too
		return req
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", signDelivery(t, webhookSecret, id, timestamp, body))
	req.Header.Set("Wechatpay-Gateway-Kind", "combine")
	return req
}

// testBehindGateway plays the whole loop: an order through the gateway, paid at
// the sandbox, and its callback delivered to the receiver.
func (r receiver) testBehindGateway(t *testing.T) {
	dir := t.TempDir()
	backend := r.serveReceiver(t, receiverEnv(t, "unused", dir))
	rec := newRecorder(t, backend)
	g := startGateway(t, gatewayOptions{backend: rec.address()})
	env := receiverEnv(t, g.url, dir)

	t.Run("five callbacks, one delivery", func(t *testing.T) {
		const number = "LOOP_FIVE"
		code, err := r.order(t, env, number, "600", "1234")
		if err != nil || !strings.HasPrefix(code, "weixin://") {
			t.Fatalf("order: %q %v", code, err)
		}
		if got := r.state(t, dir, number); got != unpaid {
			t.Fatalf("before the payment the order is %+v", got)
		}
		// Three at a time and two more are right, one is forged, one a probe.
		g.pay(t, number, map[string]any{"concurrent": 3, "duplicates": 2, "forged": 1, "probes": 1})
		right := 0
		for _, a := range g.waitCallback(t, number, 7).Attempts {
			want := http.StatusOK
			if a.Kind == "forged" || a.Kind == "probe" {
				want = http.StatusUnauthorized
			} else {
				right++
			}
			if a.Status != want {
				t.Errorf("%s callback answered %d %s, want %d", a.Kind, a.Status, a.Error, want)
			}
		}
		if right != 5 {
			t.Errorf("the sandbox sent %d right callbacks, want 5", right)
		}
		d := rec.wait(t, number, 1)[0]
		if d.status != http.StatusOK || d.path != "/wechatpay/notify/demo" {
			t.Errorf("delivered to %s, answered %d", d.path, d.status)
		}
		for name, want := range map[string]string{
			"Wechatpay-Gateway-Merchant": "demo", "Wechatpay-Gateway-Mchid": mchid,
			"Wechatpay-Gateway-Event-Type": "TRANSACTION.SUCCESS", "Wechatpay-Gateway-Kind": "combine",
			"Wechatpay-Gateway-Source": "callback", "Wechatpay-Gateway-Amount-Check": "matched",
			"Wechatpay-Gateway-Attempt": "1",
		} {
			if got := d.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if got := r.state(t, dir, number); got != paid {
			t.Errorf("the order is %+v, want %+v", got, paid)
		}
	})

	t.Run("an answer that was lost", func(t *testing.T) {
		const number = "LOOP_LOST"
		if _, err := r.order(t, env, number, "1", "2", "3"); err != nil {
			t.Fatal(err)
		}
		rec.loseAnswers(2)
		g.pay(t, number, nil)
		got := rec.wait(t, number, 3)
		for i, d := range got {
			if d.status != http.StatusOK {
				t.Errorf("attempt %d: the receiver answered %d", i+1, d.status)
			}
			if d.header.Get("Webhook-Id") != got[0].header.Get("Webhook-Id") {
				t.Errorf("attempt %d has another Webhook-Id", i+1)
			}
			if attempt := d.header.Get("Wechatpay-Gateway-Attempt"); attempt != strconv.Itoa(i+1) {
				t.Errorf("attempt %d calls itself %s", i+1, attempt)
			}
		}
		if got := r.state(t, dir, number); got != paid {
			t.Errorf("the order is %+v, want %+v", got, paid)
		}
	})

	t.Run("twenty copies at a time past the gateway", func(t *testing.T) {
		const number = "LOOP_COPIES"
		if _, err := r.order(t, env, number, "5", "6"); err != nil {
			t.Fatal(err)
		}
		g.pay(t, number, nil)
		d := rec.wait(t, number, 1)[0]
		var all sync.WaitGroup
		for range 20 {
			all.Add(1)
			go func() {
				defer all.Done()
				if status, answer, err := rec.forward(d); err != nil || status != http.StatusOK {
					t.Errorf("copy answered %d %s %v", status, answer, err)
				}
			}()
		}
		all.Wait()
		if got := r.state(t, dir, number); got != paid {
			t.Errorf("the order is %+v, want %+v", got, paid)
		}
	})

	t.Run("a delivery that somebody changed", func(t *testing.T) {
		const number = "LOOP_CHANGED"
		if _, err := r.order(t, env, number, "7", "8"); err != nil {
			t.Fatal(err)
		}
		g.pay(t, number, nil)
		d := rec.wait(t, number, 1)[0]
		d.body = []byte(strings.Replace(string(d.body), number, "LOOP_FORGED", 1))
		if status, answer, err := rec.forward(d); err != nil || status != http.StatusUnauthorized {
			t.Errorf("answered %d %s %v, want 401", status, answer, err)
		}
	})

	// Whatever came after it, the first order was delivered once.
	if got := rec.with("LOOP_FIVE"); len(got) != 1 {
		t.Errorf("LOOP_FIVE was delivered %d times, want once", len(got))
	}
	if got := rec.with("LOOP_LOST"); len(got) != 3 {
		t.Errorf("LOOP_LOST was sent %d times, want 3", len(got))
	}
}
