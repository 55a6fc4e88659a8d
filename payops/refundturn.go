package payops

import (
	"context"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// payersTurn waits until no other refund of the same payer is on its way through
// this gateway, for a bounded time: refunds of one user at once make each other
// fail (如果同一个用户有多笔退款，建议分不同批次进行退款，避免并发退款导致退款失败). next is to be called when the refund is over.
// Where nobody knows who has paid there is nothing to wait for.
func (a *API) payersTurn(ctx context.Context, order *storage.Order) (next func(), refused *refusal) {
	if order == nil || order.Payer == "" {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	next, err := a.locks.lock(ctx, storage.OrderKey{Mchid: order.Key.Mchid, Number: "payer " + order.Payer})
	if err != nil {
		return nil, &refusal{
			status: busy().status, code: codeRate, rule: RuleBusy, retryAfter: retryAfterBusy,
			message: "other refunds of the same payer are on their way, which go out one after another; nothing was sent",
		}
	}
	return next, nil
}
