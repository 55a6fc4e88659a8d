package sandbox_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// wayBody is a body that suits a kind of order and a way to pay.
func wayBody(kind, way, number string) string {
	extra := ""
	if way == "h5" {
		extra = `"scene_info":{"payer_client_ip":"127.0.0.1","h5_info":{"type":"Wap"}},`
	}
	payer := map[string]string{"basic": `"payer":{"openid":"oPAYER"},`, "partner": `"payer":{"sp_openid":"oPAYER"},`, "combine": `"combine_payer_info":{"openid":"oPAYER"},`}[kind]
	if way == "jsapi" {
		extra += payer
	}
	switch kind {
	case "partner":
		return fmt.Sprintf(`{%s"sp_appid":%q,"sp_mchid":%q,"sub_mchid":%q,"description":"tea","out_trade_no":%q,"notify_url":%q,"amount":{"total":100}}`,
			extra, appid, provider, subMchid, number, notify)
	case "combine":
		body := combineBody(number, subOrder(mchid, number+"-A", 10), subOrder(other, number+"-B", 20))
		return "{" + extra + body[1:]
	}
	return "{" + extra + nativeBody(number, 100)[1:]
}

func wayPath(kind, way string) string {
	return map[string]string{
		"basic": "/v3/pay/transactions/", "partner": "/v3/pay/partner/transactions/", "combine": "/v3/combine-transactions/",
	}[kind] + way
}

var answers = map[string]*regexp.Regexp{
	"native": regexp.MustCompile(`^\{"code_url":"weixin://wxpay/bizpayurl\?pr=[0-9A-Za-z]{9}"\}$`),
	"jsapi":  regexp.MustCompile(`^\{"prepay_id":"wx\d{14}[0-9a-f]{20}"\}$`),
	"app":    regexp.MustCompile(`^\{"prepay_id":"wx\d{14}[0-9a-f]{20}"\}$`),
	"h5":     regexp.MustCompile(`^\{"h5_url":"https://wx\.tenpay\.com/cgi-bin/mmpayweb-bin/checkmweb\?prepay_id=wx\d{14}[0-9a-f]{20}\\u0026package=\d{10}"\}$`),
}

func TestWaysToPay(t *testing.T) {
	tradeTypes := map[string]string{"native": "NATIVE", "jsapi": "JSAPI", "app": "APP", "h5": "MWEB"}
	r := &receiver{script: []int{http.StatusOK}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	for _, kind := range []string{"basic", "partner", "combine"} {
		c := newClient(t, p, map[string]string{"basic": mchid, "partner": provider, "combine": mchid}[kind])
		for way, tradeType := range tradeTypes {
			t.Run(kind+" "+way, func(t *testing.T) {
				c := *c
				c.t = t
				number := strings.ToUpper(kind + "-" + way)
				body := wayBody(kind, way, number)
				status, answer := c.call("POST", wayPath(kind, way), body)
				if status != 200 || !answers[way].MatchString(answer) {
					t.Fatalf("%d %s", status, answer)
				}
				if _, again := c.call("POST", wayPath(kind, way), body); again != answer {
					t.Errorf("placed again: %s", again)
				}
				other := map[string]string{"native": "app"}[way]
				if other == "" {
					other = "native"
				}
				if status, refused := c.call("POST", wayPath(kind, other), body); status != 403 || codeOf(t, refused) != "OUT_TRADE_NO_USED" {
					t.Errorf("the number with another way to pay: %d %s", status, refused)
				}
				var link map[string]string
				if err := json.Unmarshal([]byte(answer), &link); err != nil {
					t.Fatal(err)
				}
				for name, ref := range link { // the page and Pay take what the shop was given
					w := serve(p, local("GET", "/sandbox/pay?"+name+"="+url.QueryEscape(ref), ""))
					if w.Code != http.StatusSeeOther {
						t.Errorf("the page by its %s: %d", name, w.Code)
					}
					if page := serve(p, local("GET", w.Header().Get("Location"), "")); page.Code != 200 || strings.Contains(page.Body.String(), "/sandbox/qr") != (way == "native") {
						t.Errorf("the page: %d", page.Code)
					}
					if _, err := p.Pay(ref, sandbox.Faults{}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := p.WaitState(bounded(t), number, sandbox.Delivered); err != nil {
					t.Fatal(err)
				}
				all := r.all()
				_, plain := c.open(all[len(all)-1].header, all[len(all)-1].body)
				if !strings.Contains(plain, `"trade_type":"`+tradeType+`"`) || strings.Contains(plain, "oPAYER") != (way == "jsapi") {
					t.Errorf("callback %s", plain)
				}
				if kind != "partner" {
					return
				}
				want := `{"sp_appid":"` + appid + `","sp_mchid":"` + provider + `","sub_mchid":"` + subMchid + `","out_trade_no":"` + number + `",
					"trade_state":"SUCCESS","trade_state_desc":"支付成功","trade_type":"` + tradeType + `","bank_type":"OTHERS",
					"transaction_id":"*","success_time":"*","payer":{"sp_openid":"*"},"amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}}`
				sameJSON(t, plain, want, "transaction_id", "success_time", "sp_openid")
				const query = "?sp_mchid=" + provider + "&sub_mchid="
				_, answer = c.call("GET", "/v3/pay/partner/transactions/out-trade-no/"+number+query+subMchid, "")
				sameJSON(t, answer, want, "transaction_id", "success_time", "sp_openid")
				o, err := p.Order(number)
				if err != nil {
					t.Fatal(err)
				}
				byID := "/v3/pay/partner/transactions/id/" + o.SubOrders[0].TransactionID + query
				if _, same := c.call("GET", byID+subMchid, ""); same != answer {
					t.Errorf("by id: %s", same)
				}
				if status, _ := c.call("GET", byID+subOther, ""); status != 404 {
					t.Errorf("another sub-merchant sees the order: %d", status)
				}
			})
		}
	}
}

func TestRoles(t *testing.T) {
	p := newPlatform(t, nil)
	direct, sp := newClient(t, p, mchid), newClient(t, p, provider)
	if status, answer := sp.call("POST", wayPath("partner", "native"), wayBody("partner", "native", "OPEN-1")); status != 200 {
		t.Fatal(answer)
	}
	partner := func(old, new string) string {
		return strings.Replace(wayBody("partner", "native", "NEW-01"), old, new, 1)
	}
	spCombine := func(n int, sub string) string {
		var subs []string
		for i := range n {
			subs = append(subs, strings.Replace(subOrder(provider, fmt.Sprintf("SPC-%d-%02d", n, i), 1), "{", "{"+sub, 1))
		}
		return strings.Replace(combineBody(fmt.Sprintf("SPC-%d", n), subs...), mchid, provider, 1)
	}
	const named = `"sub_mchid":"` + subMchid + `",`
	directCombine := func(n int) string {
		var subs []string
		for i := range n {
			subs = append(subs, subOrder(mchid, fmt.Sprintf("DIR-%d-%02d", n, i), 1))
		}
		return combineBody(fmt.Sprintf("DIR-%d", n), subs...)
	}
	cut := func(kind, way, old, new string) string {
		body := wayBody(kind, way, "CUT-01")
		if !strings.Contains(body, old) {
			t.Fatalf("%q not in %s", old, body)
		}
		return strings.Replace(body, old, new, 1)
	}
	const closing = `{"sp_mchid":"` + provider + `","sub_mchid":"` + subMchid + `"}`
	for _, tc := range []struct {
		name   string
		c      *client
		method string
		path   string
		body   string
		status int
		code   string
	}{
		{"direct merchant, 2", direct, "POST", wayPath("combine", "native"), directCombine(2), 200, ""},
		{"direct merchant, 10", direct, "POST", wayPath("combine", "native"), directCombine(10), 200, ""},
		{"direct merchant, 1", direct, "POST", wayPath("combine", "native"), directCombine(1), 400, "PARAM_ERROR"},
		{"direct merchant, 11", direct, "POST", wayPath("combine", "native"), directCombine(11), 400, "PARAM_ERROR"},
		{"direct merchant with sub_mchid", direct, "POST", wayPath("combine", "native"), strings.Replace(directCombine(3), `{"mchid"`, `{`+named+`"mchid"`, 1), 400, "PARAM_ERROR"},
		{"provider, 1", sp, "POST", wayPath("combine", "app"), spCombine(1, named), 200, ""},
		{"provider, 50", sp, "POST", wayPath("combine", "app"), spCombine(50, named), 200, ""},
		{"provider, 0", sp, "POST", wayPath("combine", "app"), spCombine(0, named), 400, "PARAM_ERROR"},
		{"provider, 51", sp, "POST", wayPath("combine", "app"), spCombine(51, named), 400, "PARAM_ERROR"},
		{"provider without sub_mchid", sp, "POST", wayPath("combine", "app"), spCombine(2, ""), 400, "PARAM_ERROR"},
		{"provider with a stranger's sub_mchid", sp, "POST", wayPath("combine", "app"), spCombine(3, `"sub_mchid":"1900000999",`), 403, "NO_AUTH"},
		{"provider on the basic path", sp, "POST", wayPath("basic", "native"), strings.ReplaceAll(nativeBody("NEW-01", 1), mchid, provider), 403, "NO_AUTH"},
		{"direct merchant on the partner path", direct, "POST", wayPath("partner", "native"), partner(provider, mchid), 403, "NO_AUTH"},
		{"partner: no sub_mchid", sp, "POST", wayPath("partner", "native"), partner(`"sub_mchid"`, `"x"`), 400, "PARAM_ERROR"},
		{"partner: a stranger's sub_mchid", sp, "POST", wayPath("partner", "native"), partner(subMchid, "1900000999"), 403, "NO_AUTH"},
		{"partner: foreign sp_mchid", sp, "POST", wayPath("partner", "native"), partner(provider, mchid), 400, "PARAM_ERROR"},
		{"partner: foreign sp_appid", sp, "POST", wayPath("partner", "native"), partner(appid, otherApp), 400, "APPID_MCHID_NOT_MATCH"},
		{"partner jsapi: no openid", sp, "POST", wayPath("partner", "jsapi"), cut("partner", "jsapi", "sp_openid", "x"), 400, "PARAM_ERROR"},
		{"partner jsapi: sub_openid without sub_appid", sp, "POST", wayPath("partner", "jsapi"), cut("partner", "jsapi", "sp_openid", "sub_openid"), 400, "PARAM_ERROR"},
		{"partner jsapi: sub_openid", sp, "POST", wayPath("partner", "jsapi"), strings.Replace(cut("partner", "jsapi", "sp_openid", "sub_openid"), "{", `{"sub_appid":"wxsub",`, 1), 200, ""},
		{"basic jsapi: no payer", direct, "POST", wayPath("basic", "jsapi"), wayBody("basic", "native", "CUT-02"), 400, "PARAM_ERROR"},
		{"basic jsapi: no openid", direct, "POST", wayPath("basic", "jsapi"), cut("basic", "jsapi", "openid", "x"), 400, "PARAM_ERROR"},
		{"combine jsapi: no payer", direct, "POST", wayPath("combine", "jsapi"), wayBody("combine", "native", "CUT-03"), 400, "PARAM_ERROR"},
		{"basic h5: no scene", direct, "POST", wayPath("basic", "h5"), wayBody("basic", "native", "CUT-04"), 400, "PARAM_ERROR"},
		{"basic h5: no ip", direct, "POST", wayPath("basic", "h5"), cut("basic", "h5", "payer_client_ip", "x"), 400, "PARAM_ERROR"},
		{"combine h5: no type", direct, "POST", wayPath("combine", "h5"), cut("combine", "h5", `"type"`, `"x"`), 400, "PARAM_ERROR"},
		{"miniprogram has no path of its own", direct, "POST", wayPath("combine", "miniprogram"), wayBody("combine", "jsapi", "CUT-05"), 404, "RESOURCE_NOT_EXISTS"},
		{"partner: query without sub_mchid", sp, "GET", wayPath("partner", "out-trade-no/OPEN-1?sp_mchid="+provider), "", 400, "PARAM_ERROR"},
		{"partner: query of another sub_mchid", sp, "GET", wayPath("partner", "out-trade-no/OPEN-1?sp_mchid="+provider+"&sub_mchid="+subOther), "", 404, "ORDER_NOT_EXIST"},
		{"partner: query on the basic path", sp, "GET", wayPath("basic", "out-trade-no/OPEN-1?mchid="+provider), "", 404, "ORDER_NOT_EXIST"},
		{"partner: close of another sub_mchid", sp, "POST", wayPath("partner", "out-trade-no/OPEN-1/close"), strings.Replace(closing, subMchid, subOther, 1), 404, "ORDER_NOT_EXIST"},
		{"partner: close without sub_mchid", sp, "POST", wayPath("partner", "out-trade-no/OPEN-1/close"), `{"sp_mchid":"` + provider + `"}`, 400, "PARAM_ERROR"},
		{"partner: close", sp, "POST", wayPath("partner", "out-trade-no/OPEN-1/close"), closing, 204, ""},
		{"partner: close again", sp, "POST", wayPath("partner", "out-trade-no/OPEN-1/close"), closing, 400, "ORDER_CLOSED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := *tc.c
			c.t = t
			status, answer := c.call(tc.method, tc.path, tc.body)
			if status != tc.status || tc.code != "" && codeOf(t, answer) != tc.code {
				t.Errorf("have %d %s, want %d %s", status, answer, tc.status, tc.code)
			}
		})
	}
}

// TestLinksAge: an h5_url lives five minutes, a prepay_id two hours; placing
// the order again gives a fresh one.
func TestLinksAge(t *testing.T) {
	for way, life := range map[string]time.Duration{"h5": 5 * time.Minute, "jsapi": 2 * time.Hour} {
		now := time.Now()
		p := newPlatform(t, func(o *sandbox.Options) { o.Now = func() time.Time { return now } })
		c := newClient(t, p, mchid)
		place := func() string {
			body := wayBody("basic", way, "ORDER-1")
			r := c.request("POST", wayPath("basic", way), body)
			r.Header.Set("Authorization", c.authorization("POST", wayPath("basic", way), body, now))
			return serve(p, r).Body.String()
		}
		first := place()
		now = now.Add(life - time.Second)
		if place() != first {
			t.Errorf("%s: renewed too early", way)
		}
		now = now.Add(time.Second)
		if _, err := p.Pay("ORDER-1", sandbox.Faults{}); !errors.Is(err, sandbox.ErrExpired) {
			t.Errorf("%s: %v", way, err)
		}
		if again := place(); again == first || !answers[way].MatchString(again) {
			t.Errorf("%s: %s", way, again)
		}
		if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
			t.Errorf("%s: %v", way, err)
		}
	}
}

func encrypt(t *testing.T, key *rsa.PublicKey, text string) string {
	t.Helper()
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sealed)
}

// spoil changes the first character of a base64 text.
func spoil(text string) string {
	if text[0] == 'A' {
		return "B" + text[1:]
	}
	return "A" + text[1:]
}

func TestSensitiveFields(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	keys := c.platformKeys()
	place := func(serial, number, name string) (int, string) {
		body := strings.Replace(nativeBody("ORDER-1", 100), "{", `{"payer":{"identity":{"type":"IDCARD","number":"`+number+`","name":"`+name+`"}},`, 1)
		r := c.request("POST", "/v3/pay/transactions/native", body)
		r.Header.Set("Wechatpay-Serial", serial)
		w := serve(p, r)
		c.verify(w.Header(), w.Body.Bytes())
		return w.Code, w.Body.String()
	}
	var first string
	for serial, key := range keys { // a public key's id and a certificate's serial
		status, answer := place(serial, encrypt(t, key, "110101199003070003"), encrypt(t, key, "王小明"))
		if first == "" {
			first = answer
		}
		if status != 200 || answer != first {
			t.Errorf("the same content encrypted anew: %d %s", status, answer)
		}
	}
	for serial, key := range keys {
		good := encrypt(t, key, "110101199003070003")
		for name, tc := range map[string]struct {
			serial, number, message string
			status                  int
		}{
			"other content":      {serial, encrypt(t, key, "110101199003070011"), "商户订单号重复", 403},
			"no serial":          {"", good, "平台证书序列号Wechatpay-Serial错误", 400},
			"unknown serial":     {serial + "0", good, "平台证书序列号Wechatpay-Serial错误", 400},
			"merchant's key":     {serial, encrypt(t, &c.key.PublicKey, "1"), "平台私钥解密失败", 400},
			"plaintext":          {serial, "110101199003070003", "请确认待处理的消息是否为加密后的密文", 400},
			"ciphertext changed": {serial, spoil(good), "平台私钥解密失败", 400},
		} {
			status, answer := place(tc.serial, tc.number, encrypt(t, key, "王小明"))
			if status != tc.status || !strings.Contains(answer, tc.message) {
				t.Errorf("%s: %d %s", name, status, answer)
			}
			if strings.Contains(answer, "1101") {
				t.Errorf("%s: the answer repeats the field", name)
			}
		}
	}
}
