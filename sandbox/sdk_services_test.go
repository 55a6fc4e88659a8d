package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	sdknotify "github.com/wechatpay-apiv3/wechatpay-go/core/notify"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"
	"github.com/wechatpay-apiv3/wechatpay-go/services/fileuploader"
	partnerjsapi "github.com/wechatpay-apiv3/wechatpay-go/services/partnerpayments/jsapi"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/jsapi"
	"github.com/wechatpay-apiv3/wechatpay-go/services/refunddomestic"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// sdkClient is WeChat Pay's SDK as the merchant c would set it up.
func sdkClient(ctx context.Context, t *testing.T, p *sandbox.Platform, c *client) *core.Client {
	t.Helper()
	built, err := core.NewClient(ctx,
		option.WithMerchantCredential(c.keys.Mchid, c.keys.SerialNo, c.key),
		option.WithVerifier(sdkVerifier(ctx, t, p, c)), option.WithHTTPClient(toPlatform(p)))
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// TestOfficialSDKServices: the SDK's own JSAPI, refund and upload services, and
// its reader of refund callbacks.
func TestOfficialSDKServices(t *testing.T) {
	r := &receiver{script: []int{http.StatusOK}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r}; o.TimeScale = 1e6 })
	c := newClient(t, p, mchid)
	ctx := bounded(t)
	client := sdkClient(ctx, t, p, c)

	pay := jsapi.JsapiApiService{Client: client}
	order, _, err := pay.PrepayWithRequestPayment(ctx, jsapi.PrepayRequest{
		Appid: core.String(appid), Mchid: core.String(mchid), Description: core.String("茶"),
		OutTradeNo: core.String("SDK-01"), NotifyUrl: core.String(notify),
		Amount: &jsapi.Amount{Total: core.Int64(100)}, Payer: &jsapi.Payer{Openid: core.String("oPAYER")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Pay(*order.PrepayId, sandbox.Faults{Lost: true}); err != nil {
		t.Fatal(err)
	}
	paid, _, err := pay.QueryOrderByOutTradeNo(ctx, jsapi.QueryOrderByOutTradeNoRequest{OutTradeNo: core.String("SDK-01"), Mchid: core.String(mchid)})
	if err != nil || *paid.TradeType != "JSAPI" || *paid.Payer.Openid != "oPAYER" {
		t.Fatalf("%v %v", paid, err)
	}

	service := refunddomestic.RefundsApiService{Client: client}
	request := refunddomestic.CreateRequest{
		OutTradeNo: core.String("SDK-01"), OutRefundNo: core.String("SDK-R-1"), NotifyUrl: core.String(refundNotify),
		Amount: &refunddomestic.AmountReq{Refund: core.Int64(60), Total: core.Int64(100), Currency: core.String("CNY")},
	}
	refund, _, err := service.Create(ctx, request)
	if err != nil || *refund.Status != refunddomestic.STATUS_PROCESSING || *refund.Amount.PayerRefund != 60 {
		t.Fatalf("%v %v", refund, err)
	}
	request.OutRefundNo = core.String("SDK-R-2")
	var refused *core.APIError
	if _, _, err := service.Create(ctx, request); !errors.As(err, &refused) || refused.Code != "INVALID_REQUEST" {
		t.Errorf("beyond what was paid: %v", err)
	}
	if _, err := p.WaitState(ctx, "refund:SDK-R-1", sandbox.Delivered); err != nil {
		t.Fatal(err)
	}
	refund, _, err = service.QueryByOutRefundNo(ctx, refunddomestic.QueryByOutRefundNoRequest{OutRefundNo: core.String("SDK-R-1")})
	if err != nil || *refund.Status != refunddomestic.STATUS_SUCCESS || refund.SuccessTime == nil {
		t.Errorf("%v %v", refund, err)
	}
	handler, err := sdknotify.NewRSANotifyHandler(c.keys.APIv3Key, sdkVerifier(ctx, t, p, c))
	if err != nil {
		t.Fatal(err)
	}
	got := r.all()
	in := httptest.NewRequest(http.MethodPost, "/notify", bytes.NewReader(got[0].body))
	in.Header = got[0].header
	told := map[string]any{} // the SDK has no type for it
	if n, err := handler.ParseNotifyRequest(ctx, in, &told); err != nil || n.EventType != "REFUND.SUCCESS" || told["refund_id"] != *refund.RefundId || told["refund_status"] != "SUCCESS" {
		t.Errorf("%v %v %v", n, told, err)
	}

	uploader := fileuploader.ImageUploader{Client: client}
	image, _, err := uploader.Upload(ctx, strings.NewReader("\x89PNG"), "a.png", "image/png")
	if err != nil || *image.MediaId == "" {
		t.Errorf("upload: %v", err)
	}

	sp := newClient(t, p, provider)
	partner := partnerjsapi.JsapiApiService{Client: sdkClient(ctx, t, p, sp)}
	_, _, err = partner.Prepay(ctx, partnerjsapi.PrepayRequest{
		SpAppid: core.String(appid), SpMchid: core.String(provider), SubMchid: core.String(subMchid), Description: core.String("茶"),
		OutTradeNo: core.String("SDK-02"), NotifyUrl: core.String(notify),
		Amount: &partnerjsapi.Amount{Total: core.Int64(100)}, Payer: &partnerjsapi.Payer{SpOpenid: core.String("oPAYER")},
	})
	if err != nil {
		t.Error(err)
	}
	state, _, err := partner.QueryOrderByOutTradeNo(ctx, partnerjsapi.QueryOrderByOutTradeNoRequest{
		OutTradeNo: core.String("SDK-02"), SpMchid: core.String(provider), SubMchid: core.String(subMchid)})
	if err != nil || *state.TradeState != "NOTPAY" || *state.SubMchid != subMchid {
		t.Errorf("%v %v", state, err)
	}
}
