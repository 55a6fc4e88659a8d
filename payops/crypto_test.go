package payops_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
)

// TestCrypto: a caller's own keys are needed nowhere: the gateway verifies,
// encrypts, decrypts and signs what opens a payment.
func TestCrypto(t *testing.T) {
	g := newRig(t, rigOptions{})
	ask := func(what, body string, into any) {
		t.Helper()
		r := g.do("POST", "/gateway/crypto/"+what, body)
		got := text(t, r)
		if r.StatusCode != 200 || json.Unmarshal([]byte(got), into) != nil || r.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: %d %s", what, r.StatusCode, got)
		}
	}
	now := time.Now()
	signed := func(at time.Time, nonce, body string) map[string]string {
		stamp := strconv.FormatInt(at.Unix(), 10)
		return map[string]string{
			"timestamp": stamp, "nonce": nonce, "body": body, "serial": platformID,
			"signature": signText(t, keyring().platform, stamp+"\n"+nonce+"\n"+body+"\n"),
		}
	}
	with := func(of map[string]string, name, value string) map[string]string {
		out := map[string]string{}
		for k, v := range of {
			out[k] = v
		}
		out[name] = value
		return out
	}
	good := signed(now, "n1", `{"id":"支付"}`)
	for _, tc := range []struct {
		name   string
		body   map[string]string
		reason string
	}{
		{"good", good, ""},
		{"an empty body", signed(now, "n1", ""), ""},
		{"another body", with(good, "body", `{"id":"支付 "}`), "signature"},
		{"another nonce", with(good, "nonce", "n2"), "signature"},
		{"no signature", with(good, "signature", ""), "signature"},
		{"another key", with(good, "serial", otherID), "signature"},
		{"an unknown key", with(good, "serial", "PUB_KEY_ID_01"), "serial"},
		{"300 s old", signed(now.Add(-301*time.Second), "n1", ""), "timestamp"},
		{"from the future", signed(now.Add(301*time.Second), "n1", ""), "timestamp"},
		{"another spelling of the time", with(good, "timestamp", "0"+good["timestamp"]), "timestamp"},
		{"the least of times", with(good, "timestamp", "-9223372036854775808"), "timestamp"},
		{"a probe", with(good, "signature", "WECHATPAY/SIGNTEST/"+good["signature"]), "probe"},
	} {
		body, err := json.Marshal(tc.body)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Verified bool
			Reason   string
		}
		ask("verify", string(body), &got)
		if got.Verified != (tc.reason == "") || got.Reason != tc.reason {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}

	var field struct{ Ciphertext, Serial string }
	ask("encrypt", `{"plaintext":"张三"}`, &field)
	if field.Serial != platformID || openField(t, keyring().platform, field.Ciphertext) != "张三" {
		t.Errorf("encrypt: %+v", field)
	}
	var plain struct{ Plaintext string }
	ask("decrypt", `{"ciphertext":"`+sealField(t, &keyring().merchant.PublicKey, "李四")+`"}`, &plain)
	if plain.Plaintext != "李四" {
		t.Errorf("decrypt: %+v", plain)
	}

	var jsapi struct{ AppID, TimeStamp, NonceStr, Package, SignType, PaySign string }
	ask("invoke", `{"way":"miniprogram","prepay_id":"wx201410272009395522657a690389285100"}`, &jsapi)
	verifyText(t, &keyring().merchant.PublicKey, appid+"\n"+jsapi.TimeStamp+"\n"+jsapi.NonceStr+"\nprepay_id=wx201410272009395522657a690389285100\n", jsapi.PaySign)
	var app struct{ Appid, Partnerid, Prepayid, Package, Noncestr, Timestamp, Sign string }
	ask("invoke", `{"way":"app","appid":"`+appid+`","prepay_id":"wx201410272009395522657a690389285100"}`, &app)
	verifyText(t, &keyring().merchant.PublicKey, appid+"\n"+app.Timestamp+"\n"+app.Noncestr+"\nwx201410272009395522657a690389285100\n", app.Sign)
	if app.Partnerid != mchid || app.Package != "Sign=WXPay" {
		t.Errorf("app: %+v", app)
	}

	for _, tc := range []struct {
		name, what, body string
		rule             payops.Rule
	}{
		{"encrypt nothing", "encrypt", `{"plaintext":""}`, payops.RuleBody},
		{"encrypt too much", "encrypt", `{"plaintext":"` + strings.Repeat("x", 215) + `"}`, payops.RuleBody},
		{"encrypt a number", "encrypt", `{"plaintext":7}`, payops.RuleBody},
		{"decrypt text", "decrypt", `{"ciphertext":"hello"}`, "ciphertext"},
		{"decrypt another's", "decrypt", `{"ciphertext":"` + sealField(t, &keyring().other.PublicKey, "x") + `"}`, "ciphertext"},
		{"verify two lines", "verify", `{"timestamp":"1\n2","nonce":"n","body":"","signature":"","serial":""}`, payops.RuleBody},
		{"verify with a member too many", "verify", `{"text":"x"}`, payops.RuleBody},
		{"invoke natively", "invoke", `{"way":"native","prepay_id":"wx201410272009395522657a690389285100"}`, payops.RuleBody},
		{"invoke a text", "invoke", `{"way":"app","prepay_id":"GET\n/v3/certificates\n1\nn\n"}`, "prepay_id"},
		{"invoke for another app", "invoke", `{"way":"app","appid":"wx0000000000000000","prepay_id":"wx201410272009395522657a690389285100"}`, "appid"},
		{"invoke with a nonce", "invoke", `{"way":"app","prepay_id":"wx201410272009395522657a690389285100","nonceStr":"x"}`, payops.RuleBody},
	} {
		g.refused(tc.name, g.do("POST", "/gateway/crypto/"+tc.what, tc.body), 400, tc.rule)
		g.refused(tc.name+", not allowed", g.do("POST", "/gateway/crypto/"+tc.what, tc.body, "Authorization", "Bearer refund-token"), 403, payops.RuleNotAllowed)
	}
	g.refused("sign", g.do("POST", "/gateway/crypto/sign", `{"text":"x"}`), 404, payops.RulePath)
	if len(g.wx.requests()) != 0 {
		t.Error("WeChat Pay was asked")
	}
}

func signText(t *testing.T, key *rsa.PrivateKey, text string) string {
	t.Helper()
	digest := sha256.Sum256([]byte(text))
	raw, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func verifyText(t *testing.T, key *rsa.PublicKey, text, signature string) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(text))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw); err != nil {
		t.Errorf("the signature is not of %q: %v", text, err)
	}
}

func openField(t *testing.T, key *rsa.PrivateKey, text string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func sealField(t *testing.T, key *rsa.PublicKey, text string) string {
	t.Helper()
	raw, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}
