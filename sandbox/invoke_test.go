package sandbox_test

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/app"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/jsapi"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// TestInvoke: what the official SDK signs for a mini program or an app pays;
// what differs in any way does not.
func TestInvoke(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	ctx := bounded(t)
	client := sdkClient(ctx, t, p, c)
	page, _, err := (&jsapi.JsapiApiService{Client: client}).PrepayWithRequestPayment(ctx, jsapi.PrepayRequest{
		Appid: core.String(appid), Mchid: core.String(mchid), Description: core.String("茶"), OutTradeNo: core.String("INVOKE-1"),
		NotifyUrl: core.String(notify), Amount: &jsapi.Amount{Total: core.Int64(1)}, Payer: &jsapi.Payer{Openid: core.String("oPAYER")},
	})
	if err != nil {
		t.Fatal(err)
	}
	phone, _, err := (&app.AppApiService{Client: client}).PrepayWithRequestPayment(ctx, app.PrepayRequest{
		Appid: core.String(appid), Mchid: core.String(mchid), Description: core.String("茶"), OutTradeNo: core.String("INVOKE-2"),
		NotifyUrl: core.String(notify), Amount: &app.Amount{Total: core.Int64(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for number, params := range map[string]map[string]string{
		"INVOKE-1": {"appId": *page.Appid, "timeStamp": *page.TimeStamp, "nonceStr": *page.NonceStr, "package": *page.Package, "signType": *page.SignType, "paySign": *page.PaySign},
		"INVOKE-2": {"appid": appid, "partnerid": *phone.PartnerId, "prepayid": *phone.PrepayId, "package": *phone.Package,
			"noncestr": *phone.NonceStr, "timestamp": *phone.TimeStamp, "sign": *phone.Sign},
	} {
		for name := range params {
			for kind, value := range map[string]string{"missing": "", "another": params[name] + "0"} {
				bad := maps.Clone(params)
				if bad[name] = value; value == "" {
					delete(bad, name)
				}
				if _, err := p.Invoke(bad, sandbox.Faults{}); !errors.Is(err, sandbox.ErrInvoke) {
					t.Errorf("%s with %s %s: %v", number, kind, name, err)
				}
			}
		}
		more := maps.Clone(params)
		more["total_fee"] = "1"
		if _, err := p.Invoke(more, sandbox.Faults{}); !errors.Is(err, sandbox.ErrInvoke) {
			t.Errorf("%s with one parameter more: %v", number, err)
		}
		body, err := json.Marshal(map[string]any{"params": params})
		if err != nil {
			t.Fatal(err)
		}
		if w := serve(p, local("POST", "/sandbox/control/invoke", string(body))); w.Code != 200 {
			t.Errorf("%s: %d %s", number, w.Code, w.Body)
		}
		if o, err := p.Order(number); err != nil || o.State != sandbox.Success {
			t.Errorf("%s: %s %v", number, o.State, err)
		}
	}
	if w := serve(p, local("POST", "/sandbox/control/invoke", `{"params":{"appId":"x"}}`)); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
