package payops_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	uploadPath  = "/v3/merchant/media/upload"
	forwardPath = "/v3/marketing/favor/coupon-stocks"
	uploadType  = `multipart/form-data; boundary="` + boundary + `"`
)

// TestForwardRefusals is the table of what never reaches WeChat Pay on the ways
// that pass operations on. A status of 200 means that it did.
func TestForwardRefusals(t *testing.T) {
	long := strings.Repeat("x", 1025)
	upload := uploadBody(`{"filename":"a.png"}`)
	for _, tc := range []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		rule                       payops.Rule
	}{
		// paths that the table does not know
		{"unlisted", "POST", "/v3/new-product/things", "{}", nil, 200, ""},
		{"unlisted DELETE", "DELETE", "/v3/new-product/things/1", "", nil, 200, ""},
		{"unlisted, caller of one group", "POST", "/v3/new-product/things", "{}", []string{"Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"unlisted, escaped bar and blank", "GET", "/v3/new-product/a%7Cb%20c", "", nil, 200, ""},
		{"unlisted, overlong slash", "GET", "/v3/new-product%c0%afx", "", nil, 400, payops.RulePath},
		{"unlisted, escaped question mark", "GET", "/v3/certificates%3Fx", "", nil, 400, payops.RulePath},
		{"another case", "POST", "/v3/pay/transactions/Native", "{}", nil, 400, payops.RulePath},
		{"another case in front", "POST", "/v3/PAY/transactions/native", "{}", nil, 400, payops.RulePath},
		{"escaped letter", "POST", "/v3/pay/transactions/%6eative", "{}", nil, 400, payops.RulePath},
		{"escaped letter of a refund", "POST", "/v3/%72efund/domestic/refunds", "{}", nil, 400, payops.RulePath},
		{"refund in capitals", "POST", "/v3/REFUND/domestic/REFUNDS", "{}", nil, 400, payops.RulePath},
		{"refund with a path parameter", "POST", "/v3/refund/domestic/refunds;a=b", "{}", nil, 400, payops.RulePath},
		{"refund that is not listed", "POST", "/v3/new-product/refunds", "{}", []string{"Authorization", "Bearer refund-token"}, 403, payops.RuleNotAllowed},
		{"transfer that is not listed", "POST", "/v3/new-product/transfer", "{}", []string{"Authorization", "Bearer refund-token"}, 403, payops.RuleNotAllowed},
		{"transfer that is not listed, capitals", "POST", "/v3/new-product/Transfer", "{}", []string{"Authorization", "Bearer refund-token"}, 403, payops.RuleNotAllowed},
		{"profit sharing that is not listed", "GET", "/v3/profitsharing/new", "", []string{"Authorization", "Bearer refund-token"}, 403, payops.RuleNotAllowed},
		{"transfer that is not listed, every path allowed", "POST", "/v3/new-product/transfer", "{}", nil, 200, ""},
		{"trailing slash", "POST", "/v3/pay/transactions/native/", "{}", nil, 400, payops.RulePath},
		{"doubled slash", "POST", "/v3//pay/transactions/native", "{}", nil, 400, payops.RulePath},
		{"dot", "GET", "/v3/./certificates", "", nil, 400, payops.RulePath},
		{"dot dot", "GET", "/v3/x/../certificates", "", nil, 400, payops.RulePath},
		{"encoded dots", "GET", "/v3/x/%2e%2e/certificates", "", nil, 400, payops.RulePath},
		{"encoded slash", "GET", "/v3/x%2fcertificates", "", nil, 400, payops.RulePath},
		{"encoded backslash", "GET", "/v3/x%5ccertificates", "", nil, 400, payops.RulePath},
		{"doubly encoded", "GET", "/v3/x%252fcertificates", "", nil, 400, payops.RulePath},
		{"encoded line break", "GET", "/v3/x%0d%0aHost:evil", "", nil, 400, payops.RulePath},
		{"encoded NUL", "GET", "/v3/x%00", "", nil, 400, payops.RulePath},
		{"Chinese", "GET", "/v3/账单", "", nil, 400, payops.RulePath},
		{"semicolon", "GET", "/v3/certificates;x", "", nil, 400, payops.RulePath},
		{"at another host", "GET", "/v3/@evil.example.com/x", "", nil, 200, ""}, // a path still
		{"two slashes and a host", "GET", "//evil.example.com/v3/certificates", "", nil, 404, payops.RulePath},
		{"absolute", "GET", "http://evil.example.com/v3/certificates", "", nil, 400, payops.RulePath},
		{"absolute https", "GET", "https://evil.example.com/v3/certificates", "", nil, 400, payops.RulePath},
		{"absolute, capitals", "GET", "HTTP://evil.example.com/v3/certificates", "", nil, 400, payops.RulePath},
		{"absolute, another scheme", "GET", "ftp://evil.example.com/v3/certificates", "", nil, 400, payops.RulePath},
		{"a scheme without a host", "GET", "a:/v3/certificates", "", nil, 400, payops.RulePath},
		{"userinfo", "GET", "http://api.mch.weixin.qq.com@evil.example.com/v3/certificates", "", nil, 400, payops.RulePath},
		{"metadata service", "GET", "http://169.254.169.254/v3/certificates", "", nil, 400, payops.RulePath},
		{"HEAD", "HEAD", "/v3/certificates", "", nil, 400, payops.RulePath},
		{"OPTIONS", "OPTIONS", "/v3/certificates", "", nil, 400, payops.RulePath},
		{"TRACE", "TRACE", "/v3/certificates", "", nil, 400, payops.RulePath},
		{"lower-case method", "get", "/v3/certificates", "", nil, 400, payops.RulePath},
		{"25 segments", "GET", "/v3" + strings.Repeat("/a", 24), "", nil, 400, payops.RulePath},

		// a parameter that would be another path
		{"parameter dot dot", "GET", "/v3/merchant-service/images/..", "", nil, 400, payops.RulePath},
		{"parameter with a slash", "GET", "/v3/merchant-service/images/a%2fb", "", nil, 400, payops.RulePath},
		{"empty parameter", "GET", "/v3/merchant-service/images/", "", nil, 400, payops.RulePath},

		// bodies
		{"no body", "POST", forwardPath, "", nil, 200, ""},
		{"a list", "POST", forwardPath, "[1]", nil, 200, ""},
		{"GET with a body", "GET", "/v3/certificates", "{}", nil, 400, payops.RuleBody},
		{"download with a body", "GET", "/v3/billdownload/file?token=x", "{}", nil, 400, payops.RuleBody},
		{"not JSON", "POST", forwardPath, "a=b", nil, 400, payops.RuleBody},
		{"cut JSON", "POST", forwardPath, `{"a":`, nil, 400, payops.RuleBody},
		{"two values", "POST", forwardPath, `{}{}`, nil, 400, payops.RuleBody},
		{"no UTF-8", "POST", forwardPath, "{\"a\":\"\xff\"}", nil, 400, payops.RuleBody},
		{"XML", "POST", forwardPath, "<xml/>", []string{"Content-Type", "text/xml"}, 400, payops.RuleContentType},
		{"a form", "PATCH", "/v3/marketing/busifavor/stocks/1/budget", "{}", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, payops.RuleContentType},
		{"a type that is none", "POST", forwardPath, "{}", []string{"Content-Type", "json;;"}, 400, payops.RuleContentType},
		{"gzip", "POST", forwardPath, "{}", []string{"Content-Encoding", "gzip"}, 400, payops.RuleContentType},
		{"1 MiB and a byte", "POST", forwardPath, `"` + strings.Repeat("x", 1<<20) + `"`, nil, 413, payops.RuleTooLarge},
		{"multipart for a JSON operation", "POST", forwardPath, upload, []string{"Content-Type", uploadType}, 400, payops.RuleContentType},

		// uploads
		{"upload", "POST", uploadPath, upload, []string{"Content-Type", uploadType}, 200, ""},
		{"upload of 1 MiB and more", "POST", uploadPath, strings.Replace(upload, "PNG", strings.Repeat("P", 1<<20), 1), []string{"Content-Type", uploadType}, 200, ""},
		{"upload of 16 MiB and more", "POST", uploadPath, strings.Replace(upload, "PNG", strings.Repeat("P", 16<<20), 1), []string{"Content-Type", uploadType}, 413, payops.RuleTooLarge},
		{"upload as JSON", "POST", uploadPath, "{}", nil, 400, payops.RuleContentType},
		{"upload without a boundary", "POST", uploadPath, upload, []string{"Content-Type", "multipart/form-data"}, 400, payops.RuleContentType},
		{"upload without meta", "POST", uploadPath, strings.Replace(upload, `"meta"`, `"data"`, 1), []string{"Content-Type", uploadType}, 400, payops.RuleMultipart},
		{"upload with two metas", "POST", uploadPath, strings.Replace(upload, `"file"`, `"meta"`, 1), []string{"Content-Type", uploadType}, 400, payops.RuleMultipart},
		{"upload, meta is text", "POST", uploadPath, uploadBody("x"), []string{"Content-Type", uploadType}, 400, payops.RuleMultipart},
		{"upload, cut", "POST", uploadPath, upload[:len(upload)-8], []string{"Content-Type", uploadType}, 400, payops.RuleMultipart},
		{"upload, gzip", "POST", uploadPath, upload, []string{"Content-Type", uploadType, "Content-Encoding", "gzip"}, 400, payops.RuleContentType},
		{"upload, not allowed", "POST", uploadPath, upload, []string{"Content-Type", uploadType, "Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"upload, unknown caller", "POST", uploadPath, upload, []string{"Content-Type", uploadType, "Authorization", "Bearer x"}, 401, payops.RuleUnknownCaller},
		{"upload to a path not listed", "POST", "/v3/new-product/upload", upload, []string{"Content-Type", uploadType}, 200, ""},

		// headers that would go on
		{"header injection by type", "POST", forwardPath, "", []string{"Content-Type", "application/json\r\nAuthorization: x"}, 400, payops.RuleHeader},
		{"header injection by agent", "GET", "/v3/certificates", "", []string{"User-Agent", "a\r\nWechatpay-Serial: x"}, 400, payops.RuleHeader},
		{"LF in Accept", "GET", "/v3/certificates", "", []string{"Accept", "a\nb"}, 400, payops.RuleHeader},
		{"NUL in Accept-Language", "GET", "/v3/certificates", "", []string{"Accept-Language", "zh\x00"}, 400, payops.RuleHeader},
		{"a long User-Agent", "GET", "/v3/certificates", "", []string{"User-Agent", long}, 400, payops.RuleHeader},
		{"a User-Agent of 1024", "GET", "/v3/certificates", "", []string{"User-Agent", long[1:]}, 200, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t, rigOptions{})
			r := g.do(tc.method, tc.target, tc.body, tc.headers...)
			if tc.status == 200 {
				if sent := g.wx.requests(); r.StatusCode != 200 || len(sent) != 1 || sent[0].uri != tc.target || sent[0].body != tc.body {
					t.Errorf("%d %s %s; %d sent", r.StatusCode, r.Header.Get("Wechatpay-Gateway-Refused"), text(t, r), len(sent))
				}
				return
			}
			g.refused(tc.name, r, tc.status, tc.rule)
			if len(g.wx.requests()) != 0 || len(g.ledger.allCalls()) != 0 {
				t.Errorf("%d requests, %d intent rows", len(g.wx.requests()), len(g.ledger.allCalls()))
			}
		})
	}
}

// TestForwardOutcomes: what is not a query is sent once after an intent row, and
// its outcome is recorded.
func TestForwardOutcomes(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  reply
		status  int
		outcome storage.CallOutcome
		unknown bool
	}{
		"done":             {reply{status: 200, body: `{"a": 1}`}, 200, storage.CallSucceeded, false},
		"done, no content": {reply{status: 204}, 204, storage.CallSucceeded, false},
		"rejected":         {reply{status: 400, body: `{"code":"PARAM_ERROR"}`}, 400, storage.CallRejected, false},
		"rejected, forged": {reply{status: 400, body: `{"code":"PARAM_ERROR"}`, sign: "none"}, 500, storage.CallUnknown, true},
		"failed":           {reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}, 500, storage.CallUnknown, true},
		"done, forged":     {reply{status: 200, body: `{}`, sign: "bad"}, 500, storage.CallUnknown, true},
		"done, probe":      {reply{status: 200, body: `{}`, sign: "probe"}, 500, storage.CallUnknown, true},
		"cut":              {reply{status: 200, body: `{"a":1}`, cut: 3}, 500, storage.CallUnknown, true},
		"moved":            {reply{status: 307, body: `{}`, header: http.Header{"Location": {"http://127.0.0.1:1/v3/x"}}}, 307, storage.CallUnknown, true},
	} {
		t.Run(name, func(t *testing.T) {
			rows := make(chan []storage.Call, 1)
			var g *rig
			g = newRig(t, rigOptions{answer: func(got) reply { rows <- g.ledger.allCalls(); return tc.answer }})
			r := g.do("POST", forwardPath, `{"a" : 1}`)
			during := <-rows
			if r.StatusCode != tc.status || (r.Header.Get("Wechatpay-Gateway-Outcome") == "unknown") != tc.unknown || r.Header.Get("Location") != "" {
				t.Errorf("%d %v", r.StatusCode, r.Header)
			}
			if len(during) != 1 || during[0].Outcome != storage.CallPending || during[0].Caller != "all" || during[0].Path != forwardPath {
				t.Errorf("while it was sent: %+v", during)
			}
			if c := g.lastCall(); c.Outcome != tc.outcome || len(g.wx.requests()) != 1 {
				t.Errorf("%+v, sent %d times", c, len(g.wx.requests()))
			}
		})
	}
}

func TestForwardIsSentOnce(t *testing.T) {
	main := newWechat(t, func(got) reply { panic(http.ErrAbortHandler) })
	backup := newWechat(t, codeURL)
	g := newRig(t, rigOptions{bases: []string{main.server.URL, backup.server.URL}})
	r := g.do("POST", forwardPath, `{}`)
	if r.StatusCode != 500 || len(backup.requests()) != 0 || g.lastCall().Outcome != storage.CallUnknown {
		t.Error(r.StatusCode, len(backup.requests()))
	}
	// A query is repeated; and what was never sent goes to the backup.
	if r := g.do("GET", "/v3/certificates", ""); r.StatusCode != 200 || len(backup.requests()) != 1 {
		t.Error(r.StatusCode, len(backup.requests()))
	}
	g = newRig(t, rigOptions{bases: []string{closedPort(t), backup.server.URL}})
	if r := g.do("POST", forwardPath, `{}`); r.StatusCode != 200 || len(backup.requests()) != 2 {
		t.Error(r.StatusCode, len(backup.requests()))
	}
	g = newRig(t, rigOptions{bases: []string{closedPort(t)}})
	g.refused("nobody there", g.do("POST", forwardPath, `{}`), 502, payops.RuleUnreachable)
	if c := g.lastCall(); c.Outcome != storage.CallRejected {
		t.Errorf("%+v", c)
	}
}

func TestForwardWithoutAStore(t *testing.T) {
	g := newRig(t, rigOptions{})
	g.ledger.fail = func(storage.Keys) error { return storage.ErrDiskFloor }
	g.refused("intent", g.do("POST", forwardPath, `{}`), 503, payops.RuleStore)
	if len(g.wx.requests()) != 0 {
		t.Error("sent without an intent row")
	}
	n := 0
	g.ledger.fail = func(storage.Keys) error {
		if n++; n == 2 {
			return storage.ErrDiskFloor
		}
		return nil
	}
	if r := g.do("POST", forwardPath, `{}`); r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != "ledger_not_updated" {
		t.Error(r.StatusCode, r.Header)
	}
	if g.lastCall().Outcome != storage.CallPending {
		t.Errorf("%+v", g.lastCall())
	}
}

// TestACallerThatGoesAway changes nothing: what has begun is finished and
// recorded, and what has not begun is not.
func TestACallerThatGoesAway(t *testing.T) {
	for name, tc := range map[string]struct{ target, body, contentType string }{
		"forward": {forwardPath, `{}`, "application/json"},
		"upload":  {uploadPath, uploadBody("{}"), uploadType},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		g := newRig(t, rigOptions{answer: func(x got) reply { cancel(); return codeURL(x) }})
		for range 2 { // the second time the caller is gone before it begins
			r := newRequest(ctx, "POST", tc.target, tc.body)
			r.Header.Set("Content-Type", tc.contentType)
			g.serve(r)
		}
		if calls := g.ledger.allCalls(); len(calls) != 1 || calls[0].Outcome != storage.CallSucceeded || len(g.wx.requests()) != 1 {
			t.Errorf("%s: %+v, %d sent", name, calls, len(g.wx.requests()))
		}
	}
}

// TestUploadSlots: uploads in memory are bounded; one too many waits, and gives
// up with its caller.
func TestUploadSlots(t *testing.T) {
	arrived, hold := make(chan struct{}, 64), make(chan struct{})
	g := newRig(t, rigOptions{answer: func(x got) reply { arrived <- struct{}{}; <-hold; return codeURL(x) }})
	send := func(ctx context.Context) <-chan int {
		done := make(chan int, 1)
		r := newRequest(ctx, "POST", uploadPath, uploadBody("{}"))
		r.Header.Set("Content-Type", uploadType)
		go func() {
			w := httptest.NewRecorder()
			g.api.ServeHTTP(w, r)
			done <- w.Code
		}()
		return done
	}
	var running []<-chan int
	for range 8 {
		running = append(running, send(context.Background()))
		<-arrived
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if code := <-send(ctx); code != 429 {
		t.Error(code)
	}
	waits := send(context.Background())
	close(hold)
	for _, done := range append(running, waits) {
		if code := <-done; code != 200 {
			t.Error(code)
		}
	}
}

// TestAnUploadHasItsTime: neither the time the caller takes to bring a file nor
// that of one attempt is the time of WeChat Pay's answer; a caller that stalls is
// let go.
func TestAnUploadHasItsTime(t *testing.T) {
	g := newRig(t, rigOptions{timeout: 400 * time.Millisecond, attempt: 50 * time.Millisecond, answer: func(x got) reply {
		time.Sleep(150 * time.Millisecond) // longer than an attempt
		return codeURL(x)
	}})
	body := uploadBody("{}")
	late := io.MultiReader(strings.NewReader(body[:100]), readFunc(func([]byte) (int, error) {
		time.Sleep(450 * time.Millisecond) // longer than a call
		return 0, io.EOF
	}), strings.NewReader(body[100:]))
	r := httptest.NewRequest("POST", uploadPath, late)
	r.Header.Set("Authorization", "Bearer all-token")
	r.Header.Set("Content-Type", uploadType)
	if w := g.serve(r); w.StatusCode != 200 {
		t.Error(w.StatusCode, text(t, w))
	}

	server := httptest.NewServer(g.api)
	defer server.Close()
	stalls, stop := io.Pipe()
	defer func() { _ = stop.Close() }()
	r, err := http.NewRequest("POST", server.URL+uploadPath, stalls)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer all-token")
	r.Header.Set("Content-Type", uploadType)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	g.refused("stalls", answer, 400, payops.RuleBody)
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestTheCallersHeadersStayHere: what a caller says to the gateway, and who it
// is, does not go on.
func TestTheCallersHeadersStayHere(t *testing.T) {
	g := newRig(t, rigOptions{})
	g.do("POST", forwardPath, `{}`, "Wechatpay-Gateway-Anything", "x", "Cookie", "a=b", "X-Forwarded-For", "10.0.0.1",
		"Host", "evil.example.com", "Accept-Encoding", "gzip", "Accept-Language", "zh-CN", "User-Agent", "erp/1")
	sent := g.wx.requests()[0].header
	for name := range sent {
		switch name {
		case "Accept", "Accept-Language", "User-Agent", "Content-Type", "Content-Length", "Authorization", "Wechatpay-Serial":
		default:
			t.Errorf("%s: %v", name, sent[name])
		}
	}
	if strings.Contains(sent.Get("Authorization"), "all-token") || sent.Get("User-Agent") != "erp/1" || sent.Get("Accept-Language") != "zh-CN" {
		t.Error(sent)
	}
}
