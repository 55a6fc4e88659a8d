package sandbox_test

import (
	"bytes"
	"encoding/json"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// waitOrder yields until the order is there.
func waitOrder(t *testing.T, p *sandbox.Platform, number string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); runtime.Gosched() {
		if _, err := p.Order(number); err == nil {
			return
		}
	}
	t.Fatal("the order did not appear")
}

// local makes a request as from a peer on this machine.
func local(method, target, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:40000"
	if method == "POST" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func TestLoopbackOnly(t *testing.T) {
	p := newPlatform(t, nil)
	for _, tc := range []struct{ method, target string }{
		{"GET", "/sandbox/keys/" + mchid}, {"GET", "/sandbox/control"}, {"GET", "/sandbox/control/orders"},
		{"GET", "/sandbox/control/callbacks"}, {"GET", "/sandbox/control/wait?order=X&timeout=0"},
		{"GET", "/sandbox/control/refunds"}, {"POST", "/sandbox/control/refund"}, {"POST", "/sandbox/control/refund-plan"}, {"POST", "/sandbox/control/invoke"},
		{"GET", "/sandbox/control/plates"}, {"GET", "/sandbox/control/parkings"}, {"POST", "/sandbox/control/plate"},
		{"POST", "/sandbox/control/parking-flip"}, {"POST", "/sandbox/control/charge"}, {"POST", "/sandbox/control/charge-plan"},
		{"POST", "/sandbox/control/pay"}, {"POST", "/sandbox/control/send"}, {"POST", "/sandbox/control/reorder"},
		{"POST", "/sandbox/control/rotate"}, {"POST", "/sandbox/control/share"},
		{"POST", "/sandbox/control/api-faults"}, {"POST", "/sandbox/control/api-faults/clear"},
	} {
		for _, peer := range []string{"203.0.113.9:1000", "[2001:db8::1]:1000", "10.0.0.1:1", "", "localhost:1", "@"} {
			r := local(tc.method, tc.target, "{}")
			r.RemoteAddr = peer
			if w := serve(p, r); w.Code != http.StatusForbidden {
				t.Errorf("%s %s from %q: %d", tc.method, tc.target, peer, w.Code)
			}
		}
		// A proxy on this machine connects from loopback, whoever asked it.
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "via"} {
			r := local(tc.method, tc.target, "{}")
			r.Header.Set(name, "127.0.0.1")
			if w := serve(p, r); w.Code != http.StatusForbidden {
				t.Errorf("%s %s with %s: %d", tc.method, tc.target, name, w.Code)
			}
		}
		for _, peer := range []string{"127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"} {
			r := local(tc.method, tc.target, "{}")
			r.RemoteAddr = peer
			if w := serve(p, r); w.Code == http.StatusForbidden {
				t.Errorf("%s %s from %q is forbidden", tc.method, tc.target, peer)
			}
		}
		if tc.method == "POST" {
			foreign := local(tc.method, tc.target, "{}")
			foreign.Header.Set("Sec-Fetch-Site", "cross-site")
			if w := serve(p, foreign); w.Code != http.StatusForbidden {
				t.Errorf("%s from another site: %d", tc.target, w.Code)
			}
			form := local(tc.method, tc.target, "{}")
			form.Header.Set("Content-Type", "text/plain")
			if w := serve(p, form); w.Code != http.StatusUnsupportedMediaType {
				t.Errorf("%s as a form: %d", tc.target, w.Code)
			}
		}
	}
}

func TestKeysEndpoint(t *testing.T) {
	p := newPlatform(t, nil)
	w := serve(p, local("GET", "/sandbox/keys/"+mchid, ""))
	var have sandbox.Keys
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&have); err != nil {
		t.Fatal(err)
	}
	want, err := p.Keys(mchid)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(have)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		t.Error("the keys served differ from Keys")
	}
	if serve(p, local("GET", "/sandbox/keys/1", "")).Code != http.StatusNotFound {
		t.Error("keys of nobody")
	}
	if _, err := p.Keys("1"); err == nil {
		t.Error("keys of nobody")
	}
}

func TestControl(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	codeURL := c.order(nativeBody("ORDER-1", 100))
	c.order(nativeBody("ORDER-2", 100))
	c.order(nativeBody("ORDER-3", 100))
	do := func(status int, method, target, body string) string {
		t.Helper()
		w := serve(p, local(method, target, body))
		if w.Code != status {
			t.Fatalf("%s %s %s: %d %s, want %d", method, target, body, w.Code, w.Body, status)
		}
		return w.Body.String()
	}
	if help := do(200, "GET", "/sandbox/control", ""); !strings.Contains(help, "/sandbox/control/reorder") {
		t.Error(help)
	}
	do(200, "POST", "/sandbox/control/pay", `{"order":"`+codeURL+`","faults":{"probes":1}}`)
	answer := do(200, "GET", "/sandbox/control/wait?order=ORDER-1&attempts=2&timeout=30", "")
	var view sandbox.Callback
	if err := json.Unmarshal([]byte(answer), &view); err != nil || len(view.Attempts) != 2 || view.State != sandbox.Delivered {
		t.Errorf("%s %v", answer, err)
	}
	do(409, "POST", "/sandbox/control/pay", `{"order":"ORDER-1"}`)
	do(404, "POST", "/sandbox/control/pay", `{"order":"NOBODY"}`)
	do(409, "POST", "/sandbox/control/send", `{"order":"ORDER-2"}`)
	do(409, "GET", "/sandbox/control/callbacks?order=ORDER-2", "")
	do(408, "GET", "/sandbox/control/wait?order=ORDER-2&timeout=0", "")
	do(400, "GET", "/sandbox/control/wait?order=ORDER-2&timeout=61", "")
	do(400, "GET", "/sandbox/control/wait?order=ORDER-2&attempts=x", "")
	do(200, "POST", "/sandbox/control/send", `{"order":"ORDER-1","faults":{"duplicates":2}}`)
	do(200, "GET", "/sandbox/control/wait?order=ORDER-1&attempts=4&timeout=30", "")
	for _, n := range []string{"2", "3"} {
		do(200, "POST", "/sandbox/control/pay", `{"order":"ORDER-`+n+`","faults":{"lost":true}}`)
	}
	do(200, "POST", "/sandbox/control/reorder", `{"orders":["ORDER-3","ORDER-2"]}`)
	if got := r.all(); len(got) != 6 {
		t.Errorf("%d callbacks", len(got))
	}
	for _, bad := range []string{``, `[]`, `{"order":1}`, `{"orders":"x"}`, `{"order":"ORDER-1","fault":{}}`, `{"order":"ORDER-1"} x`, `{"order":"ORDER-1","faults":{"probes":-1}}`} {
		do(400, "POST", "/sandbox/control/send", bad)
	}
	var list []sandbox.Callback
	if err := json.Unmarshal([]byte(do(200, "GET", "/sandbox/control/callbacks", "")), &list); err != nil || len(list) != 3 {
		t.Error(err, len(list))
	}
	var orders []sandbox.Order
	if err := json.Unmarshal([]byte(do(200, "GET", "/sandbox/control/orders", "")), &orders); err != nil || len(orders) != 3 {
		t.Error(err, len(orders))
	}
	do(200, "POST", "/sandbox/control/refund-plan", `{"status":"PROCESSING"}`)
	do(400, "POST", "/sandbox/control/refund-plan", `{"status":"LATER"}`)
	c.refund(refundBody("ORDER-1", "R-1", 40, 100))
	do(409, "GET", "/sandbox/control/callbacks?order=refund:R-1", "")
	do(200, "POST", "/sandbox/control/refund", `{"refund":"R-1","status":"ABNORMAL","faults":{"lost":true}}`)
	do(409, "POST", "/sandbox/control/refund", `{"refund":"R-1","status":"PROCESSING"}`)
	do(404, "POST", "/sandbox/control/refund", `{"refund":"R-2","status":"SUCCESS"}`)
	do(200, "POST", "/sandbox/control/refund", `{"refund":"`+mchid+`:R-1","status":"SUCCESS"}`)
	do(200, "GET", "/sandbox/control/wait?order=refund:R-1&timeout=30", "")
	if text := do(200, "GET", "/sandbox/control/callbacks?order=refund:R-1", ""); !strings.Contains(text, "REFUND.SUCCESS") {
		t.Error(text)
	}
	var refunded []sandbox.Refund
	if err := json.Unmarshal([]byte(do(200, "GET", "/sandbox/control/refunds", "")), &refunded); err != nil || len(refunded) != 1 || len(refunded[0].Callbacks) != 2 {
		t.Error(err, refunded)
	}
	if page := do(200, "GET", "/sandbox/pay/"+strings.TrimPrefix(codeURL, "weixin://wxpay/bizpayurl?pr="), ""); !strings.Contains(page, "REFUND.ABNORMAL") || !strings.Contains(page, "¥0.40") {
		t.Error("the refund is not on the order's page")
	}
	do(200, "POST", "/sandbox/control/rotate", `{"key":"certificate","sign_after":"1h","overlap":"1h"}`)
	do(200, "POST", "/sandbox/control/rotate", `{"key":"public_key","overlap":"1h"}`)
	if k, _ := p.Keys(mchid); len(k.PlatformCertificates) != 2 || len(k.PublicKeys) != 2 {
		t.Error("not rotated")
	}
	do(400, "POST", "/sandbox/control/rotate", `{"key":"x"}`)
	do(400, "POST", "/sandbox/control/rotate", `{"key":"certificate","overlap":"soon"}`)
	do(200, "POST", "/sandbox/control/share", `{"public_key_percent":0}`)
	do(400, "POST", "/sandbox/control/share", `{}`)
	do(400, "POST", "/sandbox/control/share", `{"public_key_percent":101}`)
	do(200, "POST", "/sandbox/control/api-faults", `{"kind":"error","method":"GET","path":"/v3/","count":1}`)
	if status, _ := c.call("GET", "/v3/certificates", ""); status != 500 {
		t.Errorf("%d", status)
	}
	do(400, "POST", "/sandbox/control/api-faults", `{"kind":"x"}`)
	do(200, "POST", "/sandbox/control/api-faults/clear", `{}`)
}

func TestPages(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	get := func(target string, status int) *httptest.ResponseRecorder {
		t.Helper()
		w := serve(p, httptest.NewRequest("GET", target, nil))
		if w.Code != status {
			t.Fatalf("%s: %d", target, w.Code)
		}
		return w
	}
	if w := get("/sandbox/", 200); !strings.Contains(w.Body.String(), "No order yet") {
		t.Error(w.Body)
	}
	codeURL := c.order(strings.Replace(combineBody("COMB-1", subOrder(mchid, "SUB--A", 1990), subOrder(other, "SUB--B", 5)), "cup", `<script>x</script>`, 1))
	pr := strings.TrimPrefix(codeURL, "weixin://wxpay/bizpayurl?pr=")
	page := get("/sandbox/pay?code_url="+url.QueryEscape(codeURL), 303).Header().Get("Location")
	if page != "/sandbox/pay/"+pr {
		t.Fatalf("leads to %q", page)
	}
	get("/sandbox/pay?code_url=https://evil.example/", 404)
	get("/sandbox/pay?code_url=COMB-1", 404)
	get("/sandbox/pay/none", 404)
	get("/sandbox", 303)
	get("/sandbox/nothing", 404)
	get("/", 404)
	w := get(page, 200)
	html := w.Body.String()
	for _, want := range []string{"¥19.95", "¥19.90", "¥0.05", "&lt;script&gt;", "COMB-1", "支付 Pay"} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(html, "<script") || regexp.MustCompile(`(?i)\sstyle=|\son[a-z]+=|https?://[^1]`).MatchString(html) {
		t.Error("the page has a script, an inline style or an outside asset")
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	if w := get("/sandbox/style.css", 200); !strings.HasPrefix(w.Header().Get("Content-Type"), "text/css") {
		t.Error(w.Header())
	}
	if w := get("/sandbox/qr?pr="+pr+"&format=svg", 200); w.Header().Get("Content-Type") != "image/svg+xml" || !strings.HasPrefix(w.Body.String(), "<svg") {
		t.Error("no SVG")
	}
	if _, err := png.Decode(get("/sandbox/qr?code_url="+url.QueryEscape(codeURL), 200).Body); err != nil {
		t.Error(err)
	}
	get("/sandbox/qr?pr=none", 404)
	get("/sandbox/qr?code_url=COMB-1", 404)

	post := func(form string, site string, status int) string {
		t.Helper()
		r := httptest.NewRequest("POST", page, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", site)
		w := serve(p, r)
		if w.Code != status {
			t.Fatalf("%s: %d %s", form, w.Code, w.Body)
		}
		return w.Body.String()
	}
	post("act=pay", "cross-site", 403)
	post("act=send", "same-origin", 409)
	post("act=pay&probes=many", "same-origin", 409)
	post("act=pay&wrong_amount=1.5", "same-origin", 409)
	post("act=pay&probes=1&forged=0&stale=&wrong_amount=0", "same-origin", 303)
	if _, err := p.WaitCallback(bounded(t), "COMB-1", 2); err != nil {
		t.Fatal(err)
	}
	if problem := post("act=pay", "same-origin", 409); !strings.Contains(problem, "paid already") {
		t.Error("no reason on the page")
	}
	post("act=send&duplicates=1", "same-origin", 303)
	if _, err := p.WaitCallback(bounded(t), "COMB-1", 3); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{page, "/sandbox/"} {
		html := get(target, 200).Body.String()
		if !strings.Contains(html, "probe") || !strings.Contains(html, "duplicate") || !strings.Contains(html, "delivered") {
			t.Errorf("%s does not show the attempts", target)
		}
	}
	missing := httptest.NewRequest("POST", "/sandbox/pay/none", strings.NewReader("act=pay"))
	missing.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if w := serve(p, missing); w.Code != 404 {
		t.Error(w.Code)
	}
}
