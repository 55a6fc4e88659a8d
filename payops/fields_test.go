package payops_test

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/credentials"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/signers"
	"github.com/wechatpay-apiv3/wechatpay-go/utils"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/sensitive"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	encryptHeader = "Wechatpay-Gateway-Encrypt"
	decryptHeader = "Wechatpay-Gateway-Decrypt"
	guidesPath    = "/v3/smartguide/guides" // request: mobile, name
	guideBody     = "{ \"name\" : \"张三\",\n\"mobile\":\"13800000000\", \"store_id\":1234.0 }"
	complaints    = "/v3/merchant-service/complaints-v2?limit=5&offset=0" // response: data[].payer_phone
)

func toMerchant(t testing.TB, text string) string {
	t.Helper()
	s, err := utils.EncryptOAEPWithPublicKey(text, &keyring().merchant.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func toPlatform(t testing.TB, text string) string {
	t.Helper()
	s, err := utils.EncryptOAEPWithPublicKey(text, &keyring().platform.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEncryptsFields: WeChat Pay can read what the gateway encrypted, is told
// with which key, and gets every other byte as the caller wrote it.
func TestEncryptsFields(t *testing.T) {
	for name, tc := range map[string]struct {
		list   string
		fields []string
		serial string // the caller's Wechatpay-Serial
	}{
		"auto":           {"auto", []string{"name", "mobile"}, ""},
		"Auto":           {"Auto", []string{"name", "mobile"}, ""},
		"one":            {"mobile", []string{"mobile"}, ""},
		"two":            {"mobile, name", []string{"name", "mobile"}, ""},
		"another key":    {"auto", []string{"name", "mobile"}, otherID},
		"an unknown key": {"auto", []string{"name", "mobile"}, "PUB_KEY_ID_9"},
		"the very key":   {"auto", []string{"name", "mobile"}, platformID},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rigOptions{})
			r := g.do("POST", guidesPath, guideBody, encryptHeader, tc.list, "Wechatpay-Serial", tc.serial)
			if r.StatusCode != 200 {
				t.Fatal(r.StatusCode, text(t, r))
			}
			sent := g.wx.requests()[0]
			if sent.header.Get("Wechatpay-Serial") != platformID || sent.header.Get(encryptHeader) != "" {
				t.Error(sent.header)
			}
			restored := sent.body
			for _, field := range tc.fields {
				value := gjson.Get(sent.body, field)
				plain, err := utils.DecryptOAEP(value.Str, keyring().platform)
				if err != nil || plain != gjson.Get(guideBody, field).Str {
					t.Errorf("%s: %q %v", field, plain, err)
				}
				restored = strings.Replace(restored, value.Raw, `"`+plain+`"`, 1)
			}
			if restored != guideBody {
				t.Errorf("%s\nwant\n%s", restored, guideBody)
			}
			if g.lastCall().Outcome != storage.CallSucceeded {
				t.Error(g.lastCall())
			}
		})
	}
}

// TestEncryptsInOrders: fields of an order are encrypted too, beside what the
// gateway fills in; the order is the same whichever cipher text it carries.
func TestEncryptsInOrders(t *testing.T) {
	g := newRig(t, rigOptions{})
	body := `{"out_trade_no":"N20261122","amount":{"total":100},"payer":{"identity":{"type":"IDCARD","number":"11010119900101123X","name":"张三"}}}`
	for range 2 {
		if r := g.do("POST", nativePath, body, encryptHeader, "payer.identity.number,payer.identity.name"); r.StatusCode != 200 {
			t.Fatal(r.StatusCode, text(t, r))
		}
	}
	for _, sent := range g.wx.requests() {
		plain, err := utils.DecryptOAEP(gjson.Get(sent.body, "payer.identity.name").Str, keyring().platform)
		if err != nil || plain != "张三" || gjson.Get(sent.body, "mchid").Str != mchid || gjson.Get(sent.body, "payer.identity.type").Str != "IDCARD" {
			t.Errorf("%s %v", sent.body, err)
		}
	}
	// An encrypted number is no number.
	g.refused("number", g.do("POST", nativePath, body, encryptHeader, "out_trade_no"), 400, payops.RuleNumber)
}

// TestTheTablesFields: every list of the operation table can be used.
func TestTheTablesFields(t *testing.T) {
	request, response := 0, 0
	for _, o := range operation.All() {
		for n, list := range map[*int][]string{&request: o.Request, &response: o.Response} {
			if len(list) == 0 {
				continue
			}
			*n++
			if _, err := sensitive.Parse(list); err != nil {
				t.Errorf("%s: %v %q", o, err, list)
			}
		}
	}
	if request < 100 || response < 40 {
		t.Errorf("%d operations with encrypted requests, %d with encrypted answers", request, response)
	}
}

func TestFieldRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		rule                       payops.Rule
	}{
		{"encrypt, empty", "POST", guidesPath, guideBody, []string{encryptHeader, " "}, 400, payops.RuleSensitive},
		{"encrypt, no list", "POST", guidesPath, guideBody, []string{encryptHeader, "name,,mobile"}, 400, payops.RuleSensitive},
		{"encrypt, a query language", "POST", guidesPath, guideBody, []string{encryptHeader, "@this|@ugly"}, 400, payops.RuleSensitive},
		{"encrypt, a wildcard", "POST", guidesPath, guideBody, []string{encryptHeader, "*"}, 400, payops.RuleSensitive},
		{"encrypt, twice the same", "POST", guidesPath, guideBody, []string{encryptHeader, "name,name"}, 400, payops.RuleSensitive},
		{"encrypt, auto and more", "POST", guidesPath, guideBody, []string{encryptHeader, "auto,name"}, 400, payops.RuleSensitive},
		{"encrypt, absent", "POST", guidesPath, guideBody, []string{encryptHeader, "name,phone"}, 400, payops.RuleSensitive},
		{"encrypt, a number", "POST", guidesPath, guideBody, []string{encryptHeader, "store_id"}, 400, payops.RuleSensitive},
		{"encrypt, too long", "POST", guidesPath, strings.Replace(guideBody, "张三", strings.Repeat("张", 72), 1), []string{encryptHeader, "auto"}, 400, payops.RuleSensitive},
		{"encrypt, encrypted already", "POST", guidesPath, strings.Replace(guideBody, "张三", toPlatform(t, "张三"), 1), []string{encryptHeader, "name"}, 400, payops.RuleSensitive},
		{"encrypt auto, one encrypted already", "POST", guidesPath, strings.Replace(guideBody, "张三", toPlatform(t, "张三"), 1), []string{encryptHeader, "auto"}, 400, payops.RuleSensitive},
		{"encrypt one, the other encrypted with who knows what", "POST", guidesPath, strings.Replace(guideBody, "张三", toPlatform(t, "张三"), 1), []string{encryptHeader, "mobile"}, 400, payops.RuleSensitive},
		{"encrypt one, the other encrypted with another key", "POST", guidesPath, strings.Replace(guideBody, "张三", toPlatform(t, "张三"), 1), []string{encryptHeader, "mobile", "Wechatpay-Serial", otherID}, 400, payops.RuleSensitive},
		{"encrypt one, the other encrypted with the very key", "POST", guidesPath, strings.Replace(guideBody, "张三", toPlatform(t, "张三"), 1), []string{encryptHeader, "mobile", "Wechatpay-Serial", platformID}, 200, ""},
		{"encrypt auto, no known fields", "POST", forwardPath, guideBody, []string{encryptHeader, "auto"}, 400, payops.RuleSensitive},
		{"encrypt auto, unlisted operation", "POST", "/v3/new-product/x", guideBody, []string{encryptHeader, "auto"}, 400, payops.RuleSensitive},
		{"encrypt a list, unlisted operation", "POST", "/v3/new-product/x", guideBody, []string{encryptHeader, "name"}, 200, ""},
		{"encrypt, duplicate key", "POST", guidesPath, `{"name":"x","name":"y"}`, []string{encryptHeader, "name"}, 400, payops.RuleDuplicateKey},
		{"encrypt, two cases of a key", "POST", guidesPath, `{"name":"x","Name":"y"}`, []string{encryptHeader, "name"}, 400, payops.RuleDuplicateKey},
		{"encrypt, a list", "POST", guidesPath, `["x"]`, []string{encryptHeader, "auto"}, 400, payops.RuleBody},
		{"encrypt, no JSON", "POST", guidesPath, `name=x`, []string{encryptHeader, "auto"}, 400, payops.RuleBody},
		{"encrypt, no body", "POST", guidesPath, ``, []string{encryptHeader, "auto"}, 400, payops.RuleSensitive},
		{"encrypt a query", "GET", complaints, ``, []string{encryptHeader, "name"}, 400, payops.RuleSensitive},
		{"encrypt an upload", "POST", uploadPath, uploadBody(`{"filename":"a"}`), []string{encryptHeader, "filename", "Content-Type", uploadType}, 400, payops.RuleSensitive},
		{"encrypt, not allowed", "POST", guidesPath, guideBody, []string{encryptHeader, "auto", "Authorization", "Bearer pay-token"}, 403, payops.RuleNotAllowed},
		{"decrypt, empty", "GET", complaints, "", []string{decryptHeader, ","}, 400, payops.RuleSensitive},
		{"decrypt, an index", "GET", complaints, "", []string{decryptHeader, "data[0].payer_phone"}, 400, payops.RuleSensitive},
		{"decrypt, 33 paths", "GET", complaints, "", []string{decryptHeader, strings.Repeat("a,", 32) + "b"}, 400, payops.RuleSensitive},
		{"decrypt auto, no known fields", "GET", "/v3/bill/tradebill", "", []string{decryptHeader, "auto"}, 400, payops.RuleSensitive},
		{"decrypt a file", "GET", downloadTarget, "", []string{decryptHeader, "a"}, 400, payops.RuleSensitive},
		{"decrypt an order, auto", "POST", nativePath, basicBody("N20261122", "1"), []string{decryptHeader, "auto"}, 400, payops.RuleSensitive},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t, rigOptions{})
			r := g.do(tc.method, tc.target, tc.body, tc.headers...)
			if tc.status == 200 {
				if r.StatusCode != 200 || len(g.wx.requests()) != 1 {
					t.Error(r.StatusCode, text(t, r))
				}
				return
			}
			g.refused(tc.name, r, tc.status, tc.rule)
			if len(g.wx.requests()) != 0 || len(g.ledger.allCalls()) != 0 {
				t.Error("sent, or an intent row")
			}
		})
	}
	g := newRig(t, rigOptions{})
	r := newRequest(t.Context(), "POST", guidesPath, guideBody)
	r.Header[encryptHeader] = []string{"name", "mobile"}
	g.refused("encrypt, two headers", g.serve(r), 400, payops.RuleSensitive)
}

// TestDecryptsFields: what was opened is named, and what the caller gets does
// not pretend to be what WeChat Pay signed.
func TestDecryptsFields(t *testing.T) {
	phone, another := toMerchant(t, "13800000000"), toMerchant(t, "一<&>\"二")
	answer := "{ \"data\":[ {\"complaint_id\":\"1\",\"payer_phone\" : \"" + phone + "\"},{\"payer_phone\":\"" + another + "\"},{\"payer_phone\":null}],\"total\" : 2.0 }"
	opened := strings.NewReplacer(phone, "13800000000", another, `一<&>\"二`).Replace(answer)
	foreign := strings.Replace(answer, another, toPlatform(t, "x"), 1) // not for the merchant
	plain := `{"data":[{"payer_phone":"138****0000"}]}`
	for name, tc := range map[string]struct {
		header string
		answer reply
		want   string
		done   string // Wechatpay-Gateway-Decrypted
		warns  bool
	}{
		"not asked":           {"", reply{status: 200, body: answer}, answer, "", false},
		"auto":                {"auto", reply{status: 200, body: answer}, opened, "data[].payer_phone", false},
		"listed":              {"data[].payer_phone", reply{status: 200, body: answer}, opened, "data[].payer_phone", false},
		"listed, one absent":  {"data[].payer_phone,nobody", reply{status: 200, body: answer}, opened, "data[].payer_phone", false},
		"listed, absent":      {"nobody", reply{status: 200, body: answer}, answer, "", true},
		"auto, nothing there": {"auto", reply{status: 200, body: `{"data":[]}`}, `{"data":[]}`, "", false},
		"auto, plain":         {"auto", reply{status: 200, body: plain}, plain, "", false},
		"listed, plain":       {"data[].payer_phone", reply{status: 200, body: plain}, plain, "", true},
		"one is not for us":   {"auto", reply{status: 200, body: foreign}, foreign, "", true},
		"not JSON":            {"auto", reply{status: 200, body: "x"}, "x", "", false},
		"rejected":            {"auto", reply{status: 400, body: answer}, answer, "", false},
		"failed":              {"auto", reply{status: 500, body: answer}, answer, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rigOptions{answer: func(got) reply { return tc.answer }})
			r := g.do("GET", complaints, "", decryptHeader, tc.header)
			body := text(t, r)
			if r.StatusCode != tc.answer.status || body != tc.want {
				t.Errorf("%d %s\nwant %s", r.StatusCode, body, tc.want)
			}
			if r.Header.Get("Wechatpay-Gateway-Decrypted") != tc.done || (r.Header.Get("Wechatpay-Gateway-Warning") == "not_decrypted") != tc.warns {
				t.Error(r.Header)
			}
			if r.Header.Get("Content-Length") == "" {
				t.Error("no length")
			}
			for _, name := range []string{"Signature", "Timestamp", "Nonce", "Serial", "Signature-Type"} {
				ours, theirs := r.Header.Get("Wechatpay-Gateway-Original-"+name), r.Header.Get("Wechatpay-"+name)
				if tc.done != "" && (ours == "" || theirs != "") || tc.done == "" && ours != "" || tc.done == "" && tc.answer.sign == "" && theirs == "" {
					t.Errorf("%s: %q %q", name, ours, theirs)
				}
			}
			if sent := g.wx.requests()[0].header; sent.Get(decryptHeader) != "" {
				t.Error(sent)
			}
		})
	}
	g := newRig(t, rigOptions{answer: func(got) reply { return reply{status: 200, body: answer, sign: "bad"} }})
	if r := g.do("GET", complaints, "", decryptHeader, "auto"); r.StatusCode != 500 || strings.Contains(text(t, r), "13800000000") {
		t.Error("a forged answer is opened:", r.StatusCode)
	}
}

// TestAnOwnKeyCallerEncrypts: a caller signs what it sends, the gateway what it
// makes of it.
func TestAnOwnKeyCallerEncrypts(t *testing.T) {
	g := newRig(t, rigOptions{})
	body := `{"out_trade_no":"N20261122","amount":{"total":100},"payer":{"identity":{"name":"张三"}}}`
	signer := credentials.WechatPayCredentials{Signer: &signers.SHA256WithRSASigner{
		MchID: mchid, CertificateSerialNo: "5D3A", PrivateKey: keyring().store,
	}}
	authorization, err := signer.GenerateAuthorizationHeader(t.Context(), "POST", nativePath, body)
	if err != nil {
		t.Fatal(err)
	}
	if r := g.do("POST", nativePath, body, "Authorization", authorization, encryptHeader, "payer.identity.name"); r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	plain, err := utils.DecryptOAEP(gjson.Get(g.wx.requests()[0].body, "payer.identity.name").Str, keyring().platform)
	if err != nil || plain != "张三" {
		t.Error(plain, err)
	}
	r := g.do("POST", nativePath, strings.Replace(body, "张三", "李四", 1), "Authorization", authorization, encryptHeader, "payer.identity.name")
	g.refused("another body", r, 401, payops.RuleUnknownCaller)
}

// TestNothingSensitiveIsSaid: neither a refusal, a log line nor the ledger holds
// a value.
func TestNothingSensitiveIsSaid(t *testing.T) {
	var log bytes.Buffer
	secret := "11010119900101123X"
	g := newRig(t, rigOptions{log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		answer: func(got) reply { return reply{status: 200, body: `{"name":"` + toMerchant(t, secret) + `"}`} }})
	said := ""
	for _, body := range []string{
		`{"name":"` + secret + `","mobile":1}`, `{"name":"` + secret + strings.Repeat(secret, 20) + `"}`, `{"name":"` + secret + `","name":1}`,
		`{"name":"` + secret, `{"name":"` + secret + `"}`,
	} {
		for _, list := range []string{"auto", "name", "mobile", secret, "name," + secret} {
			r := g.do("POST", guidesPath, body, encryptHeader, list, decryptHeader, "nobody")
			said += text(t, r)
			for _, values := range r.Header {
				said += strings.Join(values, " ")
			}
		}
	}
	for _, c := range g.ledger.allCalls() {
		said += c.Path + c.Operation + c.Code
	}
	if len(g.wx.requests()) == 0 {
		t.Error("nothing was sent")
	}
	for _, sent := range g.wx.requests() {
		said += sent.body
	}
	said += log.String()
	if strings.Contains(said, secret) || strings.Contains(said, base64.StdEncoding.EncodeToString([]byte(secret))) {
		t.Error("a value is said")
	}
	if log.Len() == 0 {
		t.Error("nothing was logged")
	}
}
