package payops

import (
	"context"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// paidAt returns when a payment was made: by the ledger, or by a signed query
// where the ledger does not know; zero when neither tells, as for a sub-order
// that is not the ledger's, which can be asked for by its combine order only.
func (a *API) paidAt(ctx context.Context, transactionID, subMchid string) time.Time {
	mchid := a.merchant.Mchid()
	order, err := a.ledger.OrderByTransaction(ctx, mchid, transactionID)
	if err == nil {
		p := guard.Payment{PaidAt: order.PaidAt}
		if order.State != storage.OrderPaid || p.PaidAt.IsZero() {
			a.askListed(ctx, &order, &p)
		}
		return p.PaidAt
	}
	r := storage.Refund{Key: storage.RefundKey{Mchid: mchid, SubMchid: subMchid}, TransactionID: transactionID}
	if p := a.askUnlisted(ctx, &r); p != nil {
		return p.PaidAt
	}
	return time.Time{}
}
