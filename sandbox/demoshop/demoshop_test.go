package demoshop_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox/demoshop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// world is the gateway and the sandbox as the shop sees them.
type world struct {
	mu     sync.Mutex
	status int
	calls  []call
}

type call struct {
	path, token string
	body        map[string]any
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call{r.URL.String(), r.Header.Get("Authorization"), body})
	answer := fmt.Sprintf(`{"code_url":"weixin://wxpay/bizpayurl?pr=P%d","code":"X","message":"no"}`, len(w.calls))
	return &http.Response{StatusCode: w.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

func newShop(t *testing.T, w *world, change func(*demoshop.Options)) *demoshop.Shop {
	t.Helper()
	o := demoshop.Options{
		Gateway: "https://gateway.test/", Token: "tok", WebhookSecret: secret, SandboxPay: "https://sandbox.test",
		Client: &http.Client{Transport: w}, Mchid: "1900000001", Appid: "wx8888888888888888",
		NotifyURL: "https://gateway.test/wechatpay/notify/demo",
	}
	if change != nil {
		change(&o)
	}
	s, err := demoshop.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*demoshop.Options){
		"gateway":       func(o *demoshop.Options) { o.Gateway = "gateway" },
		"notify_url":    func(o *demoshop.Options) { o.NotifyURL = "/notify" },
		"sandbox pay":   func(o *demoshop.Options) { o.SandboxPay = "ftp://x" },
		"mchid":         func(o *demoshop.Options) { o.Mchid = "" },
		"secret prefix": func(o *demoshop.Options) { o.WebhookSecret = strings.TrimPrefix(secret, "whsec_") },
		"secret base64": func(o *demoshop.Options) { o.WebhookSecret = "whsec_%" },
		"secret short":  func(o *demoshop.Options) { o.WebhookSecret = "whsec_AAAA" },
	} {
		o := demoshop.Options{Gateway: "http://g", NotifyURL: "http://n", Mchid: "1", Appid: "wx1", WebhookSecret: secret}
		change(&o)
		if _, err := demoshop.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "MDEyMz") {
			t.Errorf("%s: the error shows the secret", name)
		}
	}
}

func TestPage(t *testing.T) {
	w := &world{status: 200}
	s := newShop(t, w, nil)
	page := do(s, httptest.NewRequest("GET", "/", nil))
	html := page.Body.String()
	if page.Code != 200 || !strings.Contains(html, `<svg class="qr"`) || !strings.Contains(html, "¥29.80") ||
		!strings.Contains(html, "https://sandbox.test/sandbox/pay?code_url=weixin%3A%2F%2Fwxpay%2Fbizpayurl%3Fpr%3DP1") {
		t.Errorf("%d %s", page.Code, html)
	}
	if regexp.MustCompile(`(?i)<script>|\sstyle=|\son[a-z]+=|src="http`).MatchString(html) || strings.Contains(page.Header().Get("Content-Security-Policy"), "unsafe") {
		t.Error("the page does not keep to its policy")
	}
	do(s, httptest.NewRequest("GET", "/", nil))
	if len(w.calls) != 1 {
		t.Fatalf("%d calls: a reload makes another order", len(w.calls))
	}
	c := w.calls[0]
	subs, _ := c.body["sub_orders"].([]any)
	if c.path != "https://gateway.test/v3/combine-transactions/native" || c.token != "Bearer tok" || len(subs) != 2 ||
		c.body["combine_mchid"] != "1900000001" || c.body["notify_url"] != "https://gateway.test/wechatpay/notify/demo" {
		t.Errorf("%+v", c)
	}
	number, _ := c.body["combine_out_trade_no"].(string)
	if !regexp.MustCompile(`^[0-9A-Za-z]{6,32}$`).MatchString(number) {
		t.Errorf("number %q", number)
	}
	if a := do(s, httptest.NewRequest("POST", "/shop/again", nil)); a.Code != http.StatusSeeOther {
		t.Fatalf("again: %d", a.Code)
	}
	again := w.calls[1]
	if again.path != "https://sandbox.test/sandbox/control/send" || again.token != "" || again.body["order"] != "1900000001:"+number {
		t.Errorf("%+v", again)
	}
	if n := do(s, httptest.NewRequest("GET", "/?again=5", nil)).Body.String(); !strings.Contains(n, "5 more times") {
		t.Error("no note")
	}
	if o := do(s, httptest.NewRequest("POST", "/shop/order", nil)); o.Code != http.StatusSeeOther || len(w.calls) != 3 {
		t.Errorf("another order: %d", o.Code)
	}
	foreign := httptest.NewRequest("POST", "/shop/order", nil)
	foreign.Header.Set("Sec-Fetch-Site", "cross-site")
	if o := do(s, foreign); o.Code != http.StatusForbidden {
		t.Errorf("an order from another site: %d", o.Code)
	}
	for _, name := range []string{"/shop.js", "/shop.css"} {
		if a := do(s, httptest.NewRequest("GET", name, nil)); a.Code != 200 {
			t.Errorf("%s: %d", name, a.Code)
		}
	}
	do(newShop(t, w, func(o *demoshop.Options) { o.NotifyURL = "" }), httptest.NewRequest("GET", "/", nil))
	if _, given := w.calls[3].body["notify_url"]; given {
		t.Error("an empty notify_url was sent")
	}
	w.status = 503
	for _, path := range []string{"/shop/order", "/shop/again"} {
		if a := do(s, httptest.NewRequest("POST", path, nil)); a.Code < 400 {
			t.Errorf("%s though the other side fails: %d", path, a.Code)
		}
	}
	if a := do(newShop(t, w, nil), httptest.NewRequest("GET", "/", nil)); a.Code != http.StatusBadGateway || !strings.Contains(a.Body.String(), "HTTP 503") {
		t.Errorf("first page without a gateway: %d", a.Code)
	}
}

// delivery is what the gateway sends.
func delivery(t *testing.T, key, id string, at time.Time, body string) *http.Request {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	ts := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte(id + "." + ts + "." + body))
	r := httptest.NewRequest("POST", "/wechatpay/notify/demo", strings.NewReader(body))
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", ts)
	r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	r.Header.Set("Wechatpay-Gateway-Kind", "combine")
	r.Header.Set("Wechatpay-Gateway-Attempt", "1")
	r.Header.Set("Wechatpay-Gateway-Amount-Check", "matched")
	return r
}

func TestReceive(t *testing.T) {
	now := time.Unix(1700000000, 0)
	const wrong = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, tc := range []struct {
		name   string
		key    string
		off    time.Duration
		change func(*http.Request)
		status int
	}{
		{"right", secret, 0, nil, 200},
		{"300 s old", secret, -300 * time.Second, nil, 200},
		{"301 s old", secret, -301 * time.Second, nil, 401},
		{"300 s early", secret, 300 * time.Second, nil, 200},
		{"301 s early", secret, 301 * time.Second, nil, 401},
		{"wrong key", wrong, 0, nil, 401},
		{"other id", secret, 0, header("Webhook-Id", "b"), 401},
		{"no id", secret, 0, func(r *http.Request) { r.Header.Del("Webhook-Id") }, 401},
		{"two ids", secret, 0, func(r *http.Request) { r.Header.Add("Webhook-Id", "a") }, 401},
		{"no timestamp", secret, 0, header("Webhook-Timestamp", ""), 401},
		{"odd timestamp", secret, 0, header("Webhook-Timestamp", "1e9"), 401},
		{"least timestamp", secret, 0, header("Webhook-Timestamp", "-9223372036854775808"), 401},
		{"no signature", secret, 0, header("Webhook-Signature", ""), 401},
		{"empty v1", secret, 0, header("Webhook-Signature", "v1,"), 401},
		{"v1a only", secret, 0, func(r *http.Request) {
			r.Header.Set("Webhook-Signature", strings.Replace(r.Header.Get("Webhook-Signature"), "v1,", "v1a,", 1))
		}, 401},
		{"rolling", secret, 0, func(r *http.Request) {
			r.Header.Set("Webhook-Signature", "v1,AAAA "+r.Header.Get("Webhook-Signature"))
		}, 200},
		{"other body", secret, 0, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{}")) }, 401},
		{"huge body", secret, 0, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", 2<<20))) }, 413},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newShop(t, &world{status: 200}, func(o *demoshop.Options) { o.Now = func() time.Time { return now } })
			r := delivery(t, tc.key, "a", now.Add(tc.off), `{"id":1}`)
			if tc.change != nil {
				tc.change(r)
			}
			w := do(s, r)
			if w.Code != tc.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tc.status)
			}
			want := 0
			if tc.status == 200 {
				want = 1
				if w.Body.String() != `{"code":"SUCCESS"}` {
					t.Errorf("%s", w.Body)
				}
			}
			if have := s.Received("a"); have != want {
				t.Errorf("received %d times, want %d", have, want)
			}
		})
	}
	t.Run("without a secret", func(t *testing.T) {
		s := newShop(t, &world{status: 200}, func(o *demoshop.Options) { o.WebhookSecret = "" })
		if w := do(s, delivery(t, secret, "a", time.Now(), "{}")); w.Code != 401 {
			t.Errorf("%d", w.Code)
		}
	})
}

func TestRepeatsAreCounted(t *testing.T) {
	s := newShop(t, &world{status: 200}, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if w := do(s, delivery(t, secret, "evt_1", time.Now(), "{}")); w.Code != 200 {
				t.Errorf("%d", w.Code)
			}
		})
	}
	wg.Wait()
	do(s, delivery(t, strings.Replace(secret, "MDE", "AAA", 1), "forged", time.Now(), "{}"))
	var out struct {
		Events []struct {
			WebhookID   string `json:"webhook_id"`
			Kind        string `json:"kind"`
			Attempt     string `json:"attempt"`
			AmountCheck string `json:"amount_check"`
			Verified    bool   `json:"verified"`
			Times       int    `json:"times"`
		} `json:"events"`
	}
	if err := json.Unmarshal(do(s, httptest.NewRequest("GET", "/events", nil)).Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Events) != 2 || out.Events[0].Times != 20 || !out.Events[0].Verified || out.Events[0].Kind != "combine" ||
		out.Events[0].AmountCheck != "matched" || out.Events[0].Attempt != "1" || out.Events[1].Verified {
		t.Errorf("%+v", out.Events)
	}
	for i := range 300 {
		do(s, delivery(t, secret, "evt_"+strconv.Itoa(i), time.Now(), "{}"))
		do(s, delivery(t, strings.Replace(secret, "MDE", "AAA", 1), "forged"+strconv.Itoa(i), time.Now(), "{}"))
	}
	if err := json.Unmarshal(do(s, httptest.NewRequest("GET", "/events", nil)).Body.Bytes(), &out); err != nil || len(out.Events) > 210 {
		t.Errorf("%d events kept, %v", len(out.Events), err)
	}
}
