package payops_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/storagetest"
)

// A caller may do what it is allowed, and a number stands for one content.
func Example() {
	shop, err := merchant.New(merchant.Config{
		Name: "shop", Mchid: mchid, SerialNo: serialNo, PrivateKey: privatePEM(keyring().merchant),
		Apps: []merchant.App{{Appid: appid}}, APIv3Keys: []string{"0123456789abcdef0123456789ABCDEF"},
		PublicKeys: []merchant.PublicKeyConfig{{ID: platformID, PEM: publicPEM(keyring().platform)}},
	}, merchant.Deps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	callers, err := caller.New(shop.Mchid(), []caller.Config{
		{Name: "erp", Token: merchant.NewSecret("erp-token"), Allow: []string{"pay", "query"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	api, err := payops.New(payops.Config{Merchant: shop, Ledger: storagetest.NewModel(nil), Callers: callers})
	if err != nil {
		fmt.Println(err)
		return
	}
	call := func(method, target, token, body string) {
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		rule := w.Header().Get("Wechatpay-Gateway-Refused")
		if rule == "" {
			rule = "done"
		}
		fmt.Println(method, target, w.Code, rule)
	}
	call(http.MethodPut, "/gateway/orders/ORDER-2026", "erp-token", `{"amount":{"total":100,"currency":"CNY"}}`)
	call(http.MethodPost, "/v3/pay/transactions/native", "erp-token", `{"out_trade_no":"ORDER-2026","amount":{"total":1}}`)
	call(http.MethodPost, "/v3/refund/domestic/refunds", "erp-token", `{}`)
	call(http.MethodPost, "/v3/pay/transactions/native", "somebody", `{}`)
	// Output:
	// PUT /gateway/orders/ORDER-2026 201 done
	// POST /v3/pay/transactions/native 409 number_content
	// POST /v3/refund/domestic/refunds 403 not_allowed
	// POST /v3/pay/transactions/native 401 unknown_caller
}
