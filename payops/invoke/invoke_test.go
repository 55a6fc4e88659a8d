package invoke_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	. "github.com/caddy-wechatpay/caddy-wechatpay/payops/invoke"
	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

const (
	mchid    = "1900000001"
	appid    = "wx8888888888888888"
	prepayID = "wx201410272009395522657a690389285100"
)

// credential is a merchant's own, with the public half to verify with.
func credential(t *testing.T, key *rsa.PrivateKey, serial ...string) merchant.Credential {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	serialNo := "3775B6A45ACD588826D15E583A95F5DD00000001"
	if len(serial) > 0 {
		serialNo = serial[0]
	}
	m, err := merchant.New(merchant.Config{
		Name: "shop", Mchid: mchid, Apps: []merchant.App{{Appid: appid}},
		SerialNo:   serialNo,
		PrivateKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		APIv3Keys:  []string{"0123456789abcdef0123456789abcdef"},
	}, merchant.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	c, err := m.Credential()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestGolden holds every member of the parameters, and the text that was
// signed, against WeChat's page.
func TestGolden(t *testing.T) {
	key := newKey(t)
	c := credential(t, key)
	s := Signer{
		Now:  func() time.Time { return time.Unix(1414561699, 999_999_999) },
		Rand: bytes.NewReader(bytes.Repeat([]byte{0x5A}, 3*16)),
	}
	nonce := strings.Repeat("5a", 16)
	for _, tc := range []struct {
		way        Way
		want, text string
	}{
		{
			WayJSAPI,
			`{"appId":"wx8888888888888888","timeStamp":"1414561699","nonceStr":"` + nonce + `","package":"prepay_id=wx201410272009395522657a690389285100","signType":"RSA","paySign":"SIGNATURE"}`,
			"wx8888888888888888\n1414561699\n" + nonce + "\nprepay_id=wx201410272009395522657a690389285100\n",
		},
		{
			WayMiniProgram,
			`{"appId":"wx8888888888888888","timeStamp":"1414561699","nonceStr":"` + nonce + `","package":"prepay_id=wx201410272009395522657a690389285100","signType":"RSA","paySign":"SIGNATURE"}`,
			"wx8888888888888888\n1414561699\n" + nonce + "\nprepay_id=wx201410272009395522657a690389285100\n",
		},
		{
			WayApp,
			`{"appid":"wx8888888888888888","partnerid":"1900000001","prepayid":"wx201410272009395522657a690389285100","package":"Sign=WXPay","noncestr":"` + nonce + `","timestamp":"1414561699","sign":"SIGNATURE"}`,
			"wx8888888888888888\n1414561699\n" + nonce + "\nwx201410272009395522657a690389285100\n",
		},
	} {
		p, err := s.Sign(t.Context(), c, tc.way, appid, prepayID)
		if err != nil {
			t.Fatalf("%s: %v", tc.way, err)
		}
		got, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var signature string
		switch p := p.(type) {
		case JSAPI:
			signature = p.PaySign
		case App:
			signature = p.Sign
		default:
			t.Fatalf("%s: parameters of type %T", tc.way, p)
		}
		if shown := strings.Replace(string(got), signature, "SIGNATURE", 1); shown != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.way, shown, tc.want)
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(signature)
		if err != nil {
			t.Fatalf("%s: %v", tc.way, err)
		}
		sum := sha256.Sum256([]byte(tc.text))
		if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], raw); err != nil {
			t.Errorf("%s: the signature is not of %q: %v", tc.way, tc.text, err)
		}
	}
}

// TestRefusals: nothing but WeChat's own spellings comes under the key.
func TestRefusals(t *testing.T) {
	c := credential(t, newKey(t))
	long := prepayID + strings.Repeat("0", 64)
	for _, tc := range []struct {
		name            string
		way             Way
		appid, prepayID string
		want            error
	}{
		{"native has no parameters", "native", appid, prepayID, ErrWay},
		{"no way", "", appid, prepayID, ErrWay},
		{"way in capitals", "JSAPI", appid, prepayID, ErrWay},
		{"no appid", WayApp, "", prepayID, ErrAppid},
		{"an appid that adds a line", WayApp, appid[:17] + "\n", prepayID, ErrAppid},
		{"a method for an appid", WayApp, "POST", prepayID, ErrAppid},
		{"no prepay_id", WayJSAPI, appid, "", ErrPrepayID},
		{"too short", WayJSAPI, appid, "wx2014102720", ErrPrepayID},
		{"too long", WayJSAPI, appid, long, ErrPrepayID},
		{"a line of its own", WayApp, appid, prepayID + "\nGET", ErrPrepayID},
		{"a line at the end", WayApp, appid, prepayID + "\n", ErrPrepayID},
		{"a package for a prepay_id", WayApp, appid, "prepay_id=" + prepayID, ErrPrepayID},
		{"a path", WayApp, appid, "/v3/refund/domestic/refunds", ErrPrepayID},
		{"words", WayApp, appid, "attackersOwnChoiceOfText", ErrPrepayID},
		{"wide digits", WayApp, appid, "wx２０１４１０２７2009395522657a", ErrPrepayID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Signer{}.Sign(t.Context(), c, tc.way, tc.appid, tc.prepayID)
			if !errors.Is(err, tc.want) || p != nil {
				t.Fatalf("got %v, %v, want %v", p, err, tc.want)
			}
		})
	}
	for _, id := range []string{
		prepayID, "up_wx21201855730335ac86f8c43d1889123400", "wx261153585405162d4d02642eabe7000000",
		"WX1217752501201407033233368018", "1101000000140415649af9fc314aa427",
	} {
		if _, err := (Signer{}).Sign(t.Context(), c, WayApp, appid, id); err != nil || !ValidPrepayID(id) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestNoKeys: a sandbox merchant before its keys are there.
func TestNoKeys(t *testing.T) {
	if _, err := (Signer{}).Sign(t.Context(), merchant.Credential{}, WayApp, appid, prepayID); !errors.Is(err, merchant.ErrNoKeys) {
		t.Fatalf("got %v", err)
	}
	drained := Signer{Rand: strings.NewReader("short")}
	if _, err := drained.Sign(t.Context(), credential(t, newKey(t)), WayApp, appid, prepayID); err == nil {
		t.Fatal("signed without a nonce")
	}
}

// TestNonces: two calls never share a nonce.
func TestNonces(t *testing.T) {
	c := credential(t, newKey(t))
	seen := make(map[string]bool)
	for range 20 {
		p, err := Signer{}.Sign(t.Context(), c, WayJSAPI, appid, prepayID)
		if err != nil {
			t.Fatal(err)
		}
		params := p.(JSAPI)
		if seen[params.NonceStr] || len(params.NonceStr) != 32 {
			t.Fatalf("nonce %q", params.NonceStr)
		}
		seen[params.NonceStr] = true
	}
}

// TestSandboxPays lets an independent implementation take the parameters.
func TestSandboxPays(t *testing.T) {
	p, err := sandbox.New(sandbox.Options{Merchants: []sandbox.Merchant{{Mchid: mchid, Appid: appid}}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	keys, err := p.Keys(mchid)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(keys.PrivateKey))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c := credential(t, parsed.(*rsa.PrivateKey), keys.SerialNo)
	for _, tc := range []struct {
		way      Way
		path     string
		payer    string
		outTrade string
	}{
		{WayJSAPI, "jsapi", `"payer":{"openid":"oPAYER"},`, "INVOKE-JSAPI"},
		{WayMiniProgram, "jsapi", `"payer":{"openid":"oPAYER"},`, "INVOKE-MINI"},
		{WayApp, "app", "", "INVOKE-APP"},
	} {
		id := placeOrder(t, p, c, tc.path, fmt.Sprintf(
			`{"appid":"%s","mchid":"%s","description":"tea","out_trade_no":"%s","notify_url":"https://shop.example.com/notify",%s"amount":{"total":1}}`,
			appid, mchid, tc.outTrade, tc.payer))
		params, err := Signer{}.Sign(t.Context(), c, tc.way, appid, id)
		if err != nil {
			t.Fatalf("%s: %v", tc.way, err)
		}
		text, err := json.Marshal(params)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]string
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Invoke(members, sandbox.Faults{Lost: true}); err != nil {
			t.Errorf("%s: %v", tc.way, err)
		}
	}
}

// placeOrder orders at the sandbox with the merchant's signature and returns
// the prepay_id.
func placeOrder(t *testing.T, p *sandbox.Platform, c merchant.Credential, way, body string) string {
	t.Helper()
	path := "/v3/pay/transactions/" + way
	authorization, err := c.GenerateAuthorizationHeader(context.Background(), "POST", path, body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "invoke_test")
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	answer := w.Body.Bytes()
	var placed struct {
		PrepayID string `json:"prepay_id"`
	}
	if err := json.Unmarshal(answer, &placed); err != nil || placed.PrepayID == "" {
		t.Fatalf("%s: %s", path, answer)
	}
	return placed.PrepayID
}
