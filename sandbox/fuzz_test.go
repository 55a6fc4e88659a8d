package sandbox_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// FuzzAuthorization: only what this merchant signed gets past 401, and every
// answer is WeChat-shaped and signed.
func FuzzAuthorization(f *testing.F) {
	p := newPlatform(f, nil)
	c := newClient(f, p, mchid)
	const target = "/v3/certificates"
	good := c.authorization("GET", target, "", time.Now())
	f.Add(good)
	f.Add("")
	f.Add(strings.ReplaceAll(good, `"`, `'`))
	f.Add(strings.Replace(good, ",", ",,", 1))
	f.Add(`WECHATPAY2-SHA256-RSA2048 mchid="` + mchid + `",nonce_str="",timestamp="-0",serial_no="",signature=""`)
	f.Fuzz(func(t *testing.T, header string) {
		c := *c
		c.t = t
		r := c.request("GET", target, "")
		r.Header["Authorization"] = []string{header}
		w := serve(p, r)
		c.verify(w.Header(), w.Body.Bytes())
		signed := strings.Contains(header, good[strings.Index(good, `signature="`):len(good)-1])
		if w.Code == 200 && !signed {
			t.Fatalf("let through: %q", header)
		}
		if w.Code != 200 && (w.Code != 401 || codeOf(t, w.Body.String()) != "SIGN_ERROR") {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}

// FuzzControl: the control endpoints and forms survive any body.
func FuzzControl(f *testing.F) {
	p := newPlatform(f, nil)
	f.Add("/sandbox/control/pay", `{"order":"X","faults":{"probes":1}}`)
	f.Add("/sandbox/control/rotate", `{"key":"certificate","overlap":"-1h"}`)
	f.Add("/sandbox/control/share", `{"public_key_percent":1e9}`)
	f.Add("/sandbox/control/api-faults", `{"kind":""}`)
	f.Add("/sandbox/control/plate", `{"plate_number":"粤B888888","service":"PAUSE"}`)
	f.Add("/sandbox/control/parking-flip", `{"parking":"粤B888888","state":"BLOCKED"}`)
	f.Add("/sandbox/control/charge-plan", `{"state":"advanced","later_ms":1}`)
	f.Add("/sandbox/lane", `act=in&payee=1900000001&plate_number=%E7%B2%A4B888888&plate_color=BLUE`)
	f.Add("/sandbox/pay/x", `act=pay&probes=%zz`)
	f.Fuzz(func(t *testing.T, path, body string) {
		if !strings.HasPrefix(path, "/sandbox/") || strings.ContainsAny(path, " \x00\r\n\t?#%") || strings.Contains(path, "rotate") && strings.Contains(body, "_key") {
			return
		}
		for i := range len(path) {
			if path[i] <= ' ' || path[i] > '~' {
				return
			}
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, local("POST", path, body))
		if w.Code >= 500 {
			t.Fatalf("%s %q: %d", path, body, w.Code)
		}
	})
}
