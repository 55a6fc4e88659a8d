package payops

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
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

// refundPlace waits until fewer refunds begin at once through this gateway than may
// fail within a second, for a bounded time: those that come in a bunch and do not
// fail go out one after another, and are not refused for what might become of the
// others. left is to be called when the refund is over; a second later its place is
// free whatever became of it.
func (a *API) refundPlace(ctx context.Context, key storage.RefundKey) (left func(), refused *refusal) {
	if a.rules.Mode(guard.RefundFailures) != guard.Enforce {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	h := fnv.New32a()
	_, _ = h.Write([]byte(key.OutRefundNo)) // a hash never fails
	place := fmt.Sprintf("refund place %d", h.Sum32()%guard.MaxFailures)
	unlock, err := a.locks.lock(ctx, storage.OrderKey{Mchid: key.Mchid, Number: place})
	if err != nil {
		return nil, busy()
	}
	unlock = sync.OnceFunc(unlock)
	timer := time.AfterFunc(guard.FailureSpan, unlock)
	return func() {
		timer.Stop()
		unlock()
	}, nil
}
