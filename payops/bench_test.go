package payops_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// instant is a WeChat Pay without a network: it signs and answers. What is
// measured around it is the caller's side alone.
type instant struct{}

func (instant) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	a := codeURL(got{})
	h := http.Header{}
	signAnswer(h, platformID, a)
	return &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(bytes.NewReader([]byte(a.body))), Request: r}, nil
}

func benchAPI(b *testing.B) *payops.API {
	b.Helper()
	m, err := merchant.New(merchant.Config{
		Name: "shop", Mchid: mchid, SerialNo: serialNo, PrivateKey: privatePEM(keyring().merchant),
		Apps: []merchant.App{{Appid: appid}}, APIv3Keys: []string{"0123456789abcdef0123456789ABCDEF"},
		PublicKeys: []merchant.PublicKeyConfig{{ID: platformID, PEM: publicPEM(keyring().platform)}},
	}, merchant.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	callers, err := caller.New(mchid, []caller.Config{{Name: "all", Token: merchant.NewSecret("all-token"), Allow: []string{"*"}}})
	if err != nil {
		b.Fatal(err)
	}
	api, err := payops.New(payops.Config{
		Merchant: m, Ledger: storagetest.NewModel(nil), Callers: callers, HTTP: &http.Client{Transport: instant{}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return api
}

func BenchmarkCreate(b *testing.B) {
	api := benchAPI(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		w := httptest.NewRecorder()
		api.ServeHTTP(w, newRequest(context.Background(), "POST", nativePath, basicBody(fmt.Sprintf("N%d-20261122", n), "100")))
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}

func BenchmarkQuery(b *testing.B) {
	api := benchAPI(b)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, newRequest(context.Background(), "GET", basicQuery+"N20261122?mchid="+mchid, ""))
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}

func BenchmarkForward(b *testing.B) {
	api := benchAPI(b)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, newRequest(context.Background(), "POST", forwardPath, `{"stock_name":"a","belong_merchant":"1900000001"}`))
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// BenchmarkUpload sends 1 MiB.
func BenchmarkUpload(b *testing.B) {
	api := benchAPI(b)
	body := strings.Replace(uploadBody(`{"filename":"a.png"}`), "PNG", strings.Repeat("\x89PNG", 1<<18), 1)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		r := newRequest(context.Background(), "POST", uploadPath, body)
		r.Header.Set("Content-Type", uploadType)
		api.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}

func BenchmarkEncryptedFields(b *testing.B) {
	api := benchAPI(b)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		r := newRequest(context.Background(), "POST", guidesPath, guideBody)
		r.Header.Set(encryptHeader, "auto")
		api.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// BenchmarkSDK is the SDK's own client against the same upstream.
func BenchmarkSDK(b *testing.B) {
	ctx := context.Background()
	client, err := core.NewClient(ctx,
		option.WithWechatPayPublicKeyAuthCipher(mchid, serialNo, keyring().merchant, platformID, &keyring().platform.PublicKey),
		option.WithHTTPClient(&http.Client{Transport: instant{}}))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := client.Get(ctx, "https://api.mch.weixin.qq.com"+basicQuery+"N20261122?mchid="+mchid)
		if err != nil || r.Response.StatusCode != 200 {
			b.Fatal(err)
		}
	}
}
