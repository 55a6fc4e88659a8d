package payops_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/native"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// toGateway sends what is meant for WeChat Pay to the gateway: all that a
// caller with an official SDK has to change.
type toGateway struct{ base *url.URL }

func (g toGateway) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = g.base.Scheme, g.base.Host, g.base.Host
	return http.DefaultTransport.RoundTrip(r)
}

// TestTheSDKAsACaller: the official SDK with the caller's own key creates,
// queries and closes through the gateway, and verifies WeChat Pay's signature
// on what comes back.
func TestTheSDKAsACaller(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(x got) reply {
		switch {
		case strings.HasSuffix(x.uri, "/close"):
			return reply{status: 204}
		case x.method == "GET":
			return reply{status: 200, body: transaction("N20261122", "SUCCESS", 100, paidExtra)}
		}
		return codeURL(x)
	}})
	server := httptest.NewServer(g.api)
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	newClient := func(mchid, serial string) *core.Client {
		t.Helper()
		c, err := core.NewClient(ctx,
			option.WithWechatPayPublicKeyAuthCipher(mchid, serial, keyring().store, platformID, &keyring().platform.PublicKey),
			option.WithHTTPClient(&http.Client{Transport: toGateway{base}}))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	service := native.NativeApiService{Client: newClient(mchid, "5D3A")}
	prepay, _, err := service.Prepay(ctx, native.PrepayRequest{
		Appid: core.String(appid), Mchid: core.String(mchid), Description: core.String("图书"),
		OutTradeNo: core.String("N20261122"), NotifyUrl: core.String(notifyURL),
		Amount: &native.Amount{Total: core.Int64(100), Currency: core.String("CNY")},
	})
	if err != nil || *prepay.CodeUrl != "weixin://wxpay/bizpayurl?pr=p4lpSuKzz" {
		t.Fatal(prepay, err)
	}
	if _, err := service.CloseOrder(ctx, native.CloseOrderRequest{OutTradeNo: core.String("N20261122"), Mchid: core.String(mchid)}); err != nil {
		t.Fatal(err)
	}
	order, _, err := service.QueryOrderByOutTradeNo(ctx, native.QueryOrderByOutTradeNoRequest{
		OutTradeNo: core.String("N20261122"), Mchid: core.String(mchid),
	})
	if err != nil || *order.TradeState != "SUCCESS" || g.order("N20261122").State != storage.OrderPaid {
		t.Fatal(order, err)
	}
	for _, x := range g.wx.requests() {
		if x.header.Get("Wechatpay-Serial") != platformID {
			t.Errorf("%s asks for %q", x.uri, x.header.Get("Wechatpay-Serial"))
		}
	}
	if c := g.lastCall(); c.Caller != "store" {
		t.Errorf("%+v", c)
	}

	// The SDK reads the gateway's refusals as WeChat Pay's.
	for name, tc := range map[string]struct{ mchid, serial, number, code string }{
		"another amount": {mchid, "5D3A", "N20261122", "INVALID_REQUEST"},
		"other merchant": {"1900000002", "5D3A", "N20261123", "SIGN_ERROR"},
		"unknown serial": {mchid, "5D3B", "N20261123", "SIGN_ERROR"},
	} {
		service := native.NativeApiService{Client: newClient(tc.mchid, tc.serial)}
		_, _, err := service.Prepay(ctx, native.PrepayRequest{
			Appid: core.String(appid), Mchid: core.String(mchid), OutTradeNo: core.String(tc.number),
			Description: core.String("图书"), NotifyUrl: core.String(notifyURL), Amount: &native.Amount{Total: core.Int64(101)},
		})
		var e *core.APIError
		if !errors.As(err, &e) || e.Code != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRawSocketTarget: bytes that Go's own URL type would re-encode are
// verified, signed and sent as they came over the wire.
func TestRawSocketTarget(t *testing.T) {
	g := newRig(t, rigOptions{})
	server := httptest.NewServer(g.api)
	defer server.Close()
	const target = `/v3/pay/transactions/out-trade-no/N|2026*1122?mchid=` + mchid + `&b="<>"&a='|'`
	r := &http.Request{
		Method: "GET", URL: &url.URL{Scheme: "http", Host: strings.TrimPrefix(server.URL, "http://"), Opaque: target},
		Header: http.Header{"Authorization": {"Bearer all-token"}},
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if sent := g.wx.requests(); response.StatusCode != 200 || sent[0].uri != target {
		t.Errorf("%d %+v", response.StatusCode, sent)
	}
}

// TestAnswerSignatureSpellings: of the spellings of one signature that lenient
// base64 would take, one passes.
func TestAnswerSignatureSpellings(t *testing.T) {
	respell := ""
	g := newRig(t, rigOptions{})
	g.wx.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		g.wx.ServeHTTP(rec, r)
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		s := rec.Header().Get("Wechatpay-Signature")
		switch respell {
		case "spare bits": // 256 bytes: 342 digits and two paddings; the last digit has four spare bits
			i := strings.LastIndexFunc(s, func(r rune) bool { return r != '=' })
			const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
			s = s[:i] + string(digits[strings.IndexByte(digits, s[i])|1]) + s[i+1:]
			if _, err := base64.StdEncoding.DecodeString(s); err != nil {
				t.Error(err)
			}
		case "no padding":
			s = strings.TrimRight(s, "=")
		case "url":
			s = strings.NewReplacer("+", "-", "/", "_").Replace(s)
		case "twice":
			w.Header().Add("Wechatpay-Signature", s)
		case "no timestamp":
			w.Header().Del("Wechatpay-Timestamp")
		case "plus":
			w.Header().Set("Wechatpay-Timestamp", "+"+w.Header().Get("Wechatpay-Timestamp"))
		}
		if respell != "twice" {
			w.Header().Set("Wechatpay-Signature", s)
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
	if r := g.do("GET", basicQuery+"N20261122", ""); r.StatusCode != 200 {
		t.Fatal(r.StatusCode)
	}
	for _, respell = range []string{"spare bits", "no padding", "url", "twice", "no timestamp", "plus"} {
		if r := g.do("GET", basicQuery+"N20261122", ""); r.StatusCode != 500 {
			t.Errorf("%s: %d", respell, r.StatusCode)
		}
	}
}
