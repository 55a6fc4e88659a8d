package payops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/fallback"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// askLater leaves the first query of an order or a refund to the agenda, in the
// step that writes its intent. An order or refund that WeChat Pay has answered for
// left its own when it was new. Payment codes have no callback that could be
// missed.
func (a *API) askLater(q *request, rows *storage.Rows) {
	if !a.fallback || q.op.Operation == nil {
		return
	}
	switch q.op.Act {
	case operation.ActCreate:
		if o := rows.Order; o != nil && !q.op.CodePay() && (o.State == storage.OrderIntended || o.State == storage.OrderUnknown) {
			rows.Schedule = append(rows.Schedule, fallback.OrderWork(a.merchant.Name(), o.Key, a.now()))
		}
	case operation.ActRefund:
		if r := rows.Refund; r != nil && (r.State == storage.RefundIntended || r.State == storage.RefundUnknown) {
			rows.Schedule = append(rows.Schedule, fallback.RefundWork(a.merchant.Name(), fallback.Refund{
				Refund: r.Key, Since: a.now(), Foreign: a.foreignNotify(q.body),
				Ecommerce: q.op.Path == "/v3/ecommerce/refunds/apply",
			}))
		}
	default: // no callback is waited for
	}
}

// foreignNotify reports whether a caller's body sends callbacks elsewhere.
func (a *API) foreignNotify(body []byte) bool {
	ours, force := a.merchant.NotifyURL()
	given := gjson.GetBytes(body, "notify_url").String()
	return given != "" && ours != "" && given != ours && !force
}

// fallbackCaller is whom the ledger names for what the query fallback does.
const fallbackCaller = "gateway"

// ErrNotClosed is returned by CloseOrder when WeChat Pay did not say that the order
// is closed: it may be paid.
var ErrNotClosed = errors.New("payops: the order is not closed")

// CloseOrder closes an order of the ledger at WeChat Pay, with an intent row as any
// close has one. Basic, partner and combine orders. Errors: [ErrNotClosed],
// [ErrKind].
func (a *API) CloseOrder(ctx context.Context, key storage.OrderKey, kind storage.OrderKind) error {
	number := url.PathEscape(key.Number)
	body := []byte("{}")
	var path string
	var err error
	switch kind {
	case storage.OrderBasic:
		path = "/v3/pay/transactions/out-trade-no/" + number + "/close"
	case storage.OrderPartner:
		path = "/v3/pay/partner/transactions/out-trade-no/" + number + "/close"
		body, err = sjson.SetBytes(body, "sub_mchid", key.SubMchid)
	case storage.OrderCombine:
		path = "/v3/combine-transactions/out-trade-no/" + number + "/close"
	case storage.OrderParking:
		return ErrKind
	default:
		return ErrKind
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKind, err)
	}
	live, cancelLive := context.WithTimeout(ctx, a.timeout)
	defer cancelLive()
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout) // what has begun is finished
	defer cancel()
	q := &request{
		caller: caller.Internal(fallbackCaller, operation.Close),
		header: http.Header{}, live: live, call: call, client: ctx,
	}
	answer := core{a, q}.V3(resource.Call{Method: http.MethodPost, Path: path, Body: body})
	if answer.Status != http.StatusNoContent && answer.Status != http.StatusOK {
		return fmt.Errorf("%w: status %d %s", ErrNotClosed, answer.Status, errorCode(answer.Body))
	}
	return nil
}
