package sandbox_test

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/verifiers"
	"github.com/wechatpay-apiv3/wechatpay-go/core/downloader"
	sdknotify "github.com/wechatpay-apiv3/wechatpay-go/core/notify"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/native"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// toPlatform carries the official SDK's calls, whose host is fixed, to the
// platform. The target is what the SDK put on the wire.
func toPlatform(p *sandbox.Platform) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		in := httptest.NewRequest(r.Method, r.URL.RequestURI(), r.Body)
		in.Header = r.Header
		w := serve(p, in)
		resp := w.Result()
		resp.Request = r
		return resp, nil
	})}
}

// TestOfficialSDK is the third party's judgement: WeChat Pay's own SDK signs,
// and verifies and decrypts what the platform answers and calls back, in every
// key mode.
func TestOfficialSDK(t *testing.T) {
	for _, mode := range []sandbox.KeyMode{sandbox.PublicKeyMode, sandbox.CertificatesMode, sandbox.BothMode} {
		t.Run(string(mode), func(t *testing.T) {
			r := &receiver{script: []int{http.StatusOK}}
			p := newPlatform(t, func(o *sandbox.Options) { o.Keys = mode; o.Client = &http.Client{Transport: r} })
			c := newClient(t, p, mchid)
			ctx := bounded(t)
			verifier := sdkVerifier(ctx, t, p, c)
			client, err := core.NewClient(ctx,
				option.WithMerchantCredential(c.keys.Mchid, c.keys.SerialNo, c.key),
				option.WithVerifier(verifier), option.WithHTTPClient(toPlatform(p)))
			if err != nil {
				t.Fatal(err)
			}
			service := native.NativeApiService{Client: client}
			order, _, err := service.Prepay(ctx, native.PrepayRequest{
				Appid: core.String(appid), Mchid: core.String(mchid), Description: core.String("茶 <tea> & cup"),
				OutTradeNo: core.String("SDK-01|*"), NotifyUrl: core.String(notify),
				Amount: &native.Amount{Total: core.Int64(100)},
			})
			if err != nil || !strings.HasPrefix(*order.CodeUrl, "weixin://") {
				t.Fatal(err)
			}
			query := native.QueryOrderByOutTradeNoRequest{OutTradeNo: core.String("SDK-01|*"), Mchid: core.String(mchid)}
			state := func() string {
				t.Helper()
				o, _, err := service.QueryOrderByOutTradeNo(ctx, query)
				if err != nil {
					t.Fatal(err)
				}
				return *o.TradeState
			}
			if have := state(); have != "NOTPAY" {
				t.Errorf("trade_state %s", have)
			}
			if _, err := p.Pay("SDK-01|*", sandbox.Faults{Duplicates: 3}); err != nil {
				t.Fatal(err)
			}
			if _, err := p.WaitCallback(ctx, "SDK-01|*", 4); err != nil {
				t.Fatal(err)
			}
			if have := state(); have != "SUCCESS" {
				t.Errorf("trade_state %s", have)
			}
			handler, err := sdknotify.NewRSANotifyHandler(c.keys.APIv3Key, verifier)
			if err != nil {
				t.Fatal(err)
			}
			serials := map[string]bool{}
			for _, g := range r.all() {
				in := httptest.NewRequest(http.MethodPost, "/notify", strings.NewReader(string(g.body)))
				in.Header = g.header
				serials[g.header.Get("Wechatpay-Serial")] = true
				var paid payments.Transaction
				n, err := handler.ParseNotifyRequest(ctx, in, &paid)
				if err != nil {
					t.Fatal(err)
				}
				if n.EventType != "TRANSACTION.SUCCESS" || *paid.Amount.Total != 100 || *paid.OutTradeNo != "SDK-01|*" || *paid.TradeState != "SUCCESS" {
					t.Errorf("%+v %+v", n, paid)
				}
			}
			if want := map[sandbox.KeyMode]int{sandbox.BothMode: 2}[mode]; want != 0 && len(serials) != want {
				t.Errorf("callbacks signed with %d keys, want %d", len(serials), want)
			}
			_, err = service.CloseOrder(ctx, native.CloseOrderRequest{OutTradeNo: core.String("SDK-01|*"), Mchid: core.String(mchid)})
			var refused *core.APIError
			if !errors.As(err, &refused) || refused.Code != "ORDERPAID" || refused.StatusCode != http.StatusBadRequest {
				t.Errorf("close: %v", err)
			}
			// An operation the SDK has no service for goes through its bare client.
			body := combineBody("SDK-COMB", subOrder(mchid, "SDK-COMB-A", 1), subOrder(other, "SDK-COMB-B", 2))
			result, err := client.Post(ctx, "https://api.mch.weixin.qq.com/v3/combine-transactions/native", json.RawMessage(body))
			if err != nil {
				t.Fatal(err)
			}
			_ = result.Response.Body.Close()
		})
	}
}

// sdkVerifier gets its keys as a merchant does: the certificates by download,
// the public key from the merchant platform.
func sdkVerifier(ctx context.Context, t *testing.T, p *sandbox.Platform, c *client) auth.Verifier {
	t.Helper()
	var public *rsa.PublicKey
	var id string
	if len(c.keys.PublicKeys) > 0 {
		id = c.keys.PublicKeys[0].ID
		public = c.platformKeys()[id]
	}
	if len(c.keys.PlatformCertificates) == 0 {
		return verifiers.NewSHA256WithRSAPubkeyVerifier(id, *public)
	}
	unverified, err := core.NewClient(ctx, option.WithMerchantCredential(c.keys.Mchid, c.keys.SerialNo, c.key),
		option.WithoutValidator(), option.WithHTTPClient(toPlatform(p)))
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := downloader.NewCertificateDownloaderWithClient(ctx, unverified, c.keys.APIv3Key)
	if err != nil {
		t.Fatal(err)
	}
	if public == nil {
		return verifiers.NewSHA256WithRSAVerifier(certificates)
	}
	return verifiers.NewSHA256WithRSACombinedVerifier(certificates, id, *public)
}
