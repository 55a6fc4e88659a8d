package caddymodule

import (
	"net/http"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify/operate"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// adminOrder shows the ledger's row of an order, or of the combine order that
// has a sub-order under the number. mchid is mchid, sp_mchid or combine_mchid;
// the sub-merchant of a partner order stands in `sub_mchid`.
func adminOrder(w http.ResponseWriter, r *http.Request) error {
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	order, err := g.store.Order(r.Context(), storage.OrderKey{
		Mchid: r.PathValue("mchid"), SubMchid: r.URL.Query().Get("sub_mchid"), Number: r.PathValue("number"),
	})
	if err != nil {
		return storeError(err)
	}
	if order.Plate != "" {
		order.Plate = operate.Masked
	}
	order.Payer = "" // who paid is nobody's business, not even as a digest
	return writeJSON(w, http.StatusOK, order)
}
