package payops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// ErrRefundNotExist is returned by QueryRefund when WeChat Pay's verified answer
// says that there is no such refund.
var ErrRefundNotExist = errors.New("payops: WeChat Pay knows no such refund")

// ecommerceRefunds is where the refunds of 电商收付通 are, which no other path knows.
const ecommerceRefunds = "/v3/ecommerce/refunds/"

// queryRefund asks WeChat Pay about a refund for a caller. It opens no intent
// row.
func (a *API) queryRefund(w http.ResponseWriter, q *request) *refusal {
	if len(q.body) > 0 {
		return badRequest(RuleBody, "a query takes no body")
	}
	if !validRefundNumber(q.op.Param()) {
		return badRequest(RuleNumber, "the number of a refund must be 1 to 64 of digits, letters and _-|*@")
	}
	values, err := url.ParseQuery(q.query)
	if err != nil || len(values["sub_mchid"]) > 1 {
		return badRequest(RulePath, "the query cannot be read, or states sub_mchid twice")
	}
	key := storage.RefundKey{Mchid: a.merchant.Mchid(), SubMchid: values.Get("sub_mchid")}
	if key.SubMchid != "" && !validMchid(key.SubMchid) {
		return badRequest(RuleMchid, "sub_mchid must be the digits of a sub-merchant's number")
	}
	if strings.HasSuffix(q.op.Path, "{out_refund_no}") {
		key.OutRefundNo = q.op.Param()
	}
	res := a.send(q, "", join(q.path, q.query), nil, true)
	a.refundQueried(q.call, key, strings.HasPrefix(q.op.Path, ecommerceRefunds), res)
	return a.answer(w, q, res, res.Outcome != send.Unknown || res.Verified && res.Status < http.StatusInternalServerError)
}

// QueryRefund asks WeChat Pay about one refund of the merchant
// (/v3/refund/domestic/refunds/), signed and verified, and returns the answer's
// body as WeChat Pay wrote it. What it says is recorded in the ledger first.
// Errors: [ErrRefundNotExist], [ErrQuery], [ErrKind].
func (a *API) QueryRefund(ctx context.Context, key storage.RefundKey) ([]byte, error) {
	return a.queryRefundAt(ctx, key, "/v3/refund/domestic/refunds/")
}

// QueryEcommerceRefund is QueryRefund for a refund that was applied for at
// /v3/ecommerce/refunds/apply (电商收付通).
func (a *API) QueryEcommerceRefund(ctx context.Context, key storage.RefundKey) ([]byte, error) {
	return a.queryRefundAt(ctx, key, ecommerceRefunds+"out-refund-no/")
}

func (a *API) queryRefundAt(ctx context.Context, key storage.RefundKey, target string) ([]byte, error) {
	if key.Mchid != a.merchant.Mchid() || !validRefundNumber(key.OutRefundNo) || key.SubMchid != "" && !validMchid(key.SubMchid) {
		return nil, fmt.Errorf("%w: not a refund number of this merchant", ErrKind)
	}
	ecommerce := strings.HasPrefix(target, ecommerceRefunds)
	target += url.PathEscape(key.OutRefundNo)
	if key.SubMchid != "" {
		target += "?sub_mchid=" + key.SubMchid
	}
	res := a.ask(ctx, target)
	a.refundQueried(context.WithoutCancel(ctx), key, ecommerce, res)
	switch {
	case res.Verified && res.Status == http.StatusOK:
		if gjson.GetBytes(res.Body, "out_refund_no").String() != key.OutRefundNo {
			return nil, fmt.Errorf("%w: it is about another refund", ErrQuery)
		}
		return res.Body, nil
	case notExist(res):
		return nil, ErrRefundNotExist
	case res.Err != nil:
		return nil, fmt.Errorf("%w: %w", ErrQuery, res.Err)
	}
	return nil, fmt.Errorf("%w: status %d %s", ErrQuery, res.Status, errorCode(res.Body))
}

// refundState is the ledger's word for the status of a refund; "" for none.
func refundState(status string) storage.RefundState {
	switch status {
	case "SUCCESS":
		return storage.RefundSuccess
	case "PROCESSING":
		return storage.RefundProcessing
	case "ABNORMAL":
		return storage.RefundAbnormal
	case "CLOSED":
		return storage.RefundClosed
	}
	return ""
}

// refundQueried records what a query's verified answer says about a refund of the
// ledger. key has no number when it was asked by WeChat Pay's own. ecommerce says
// which of the two products was asked: that one of them has no such refund proves
// nothing about one that was applied for at the other.
func (a *API) refundQueried(ctx context.Context, key storage.RefundKey, ecommerce bool, res send.Result) {
	if !res.Verified || res.Status != http.StatusOK && !notExist(res) {
		return
	}
	answer := gjson.ParseBytes(res.Body)
	exists := res.Status == http.StatusOK
	if exists {
		number := answer.Get("out_refund_no").String()
		if key.OutRefundNo != "" && key.OutRefundNo != number {
			a.log.Warn("a query's answer is about another refund")
			return
		}
		key.OutRefundNo = number
	}
	row, err := a.ledger.Refund(ctx, key)
	if err == nil && !exists && row.Ecommerce != ecommerce {
		return
	}
	if errors.Is(err, storage.ErrNotFound) || err == nil && exists && refundContradicted(&row, answer) {
		if err == nil {
			a.observer.Contradicted()
			a.log.Error("a query's answer contradicts the ledger", "out_refund_no", key.OutRefundNo)
		}
		return
	}
	keys := storage.Keys{Refund: key, Memos: talliesOf(row)}
	if err == nil {
		keys.Order, err = a.ownerOf(ctx, row.Order)
	}
	if err == nil {
		err = a.ledger.Change(ctx, keys, func(rows *storage.Rows) error {
			if rows.Refund == nil || !exists && rows.Refund.Ecommerce != ecommerce || exists && refundContradicted(rows.Refund, answer) || !a.refundLearned(rows, answer, exists) {
				return errNothing
			}
			return nil
		})
	}
	switch {
	case errors.Is(err, errNothing):
	case err != nil:
		a.log.Error("what a query found is not recorded", "error", err)
	case !keys.Order.IsZero():
		a.changed(ctx, keys.Order)
	}
}

// refundLearned moves a refund by what a query's answer says. "No such refund" is
// final once no apply call can be on its way any more.
func (a *API) refundLearned(rows *storage.Rows, answer gjson.Result, exists bool) (changed bool) {
	r, now := rows.Refund, a.now()
	if !exists {
		return now.Sub(r.UpdatedAt) >= settled && rows.MoveRefund(storage.RefundRejected, now)
	}
	if id := answer.Get("refund_id").String(); r.RefundID == "" && validRefundNumber(id) {
		r.RefundID, changed = id, true
	}
	if id := answer.Get("transaction_id").String(); r.TransactionID == "" && validTransactionID(id) {
		r.TransactionID, changed = id, true
	}
	return rows.MoveRefund(refundState(answer.Get("status").String()), now) || changed
}

// refundContradicted reports whether an answer is about another refund than the
// ledger's. What either leaves out is no contradiction.
func refundContradicted(r *storage.Refund, answer gjson.Result) bool {
	if r.State == storage.RefundRejected {
		return false // the number was free again: whoever used it since
	}
	amount := answer.Get("amount")
	differs := func(name string, known storage.Fen) bool {
		value := amount.Get(name)
		return value.Exists() && value.Int() != int64(known)
	}
	return differs("refund", r.Amount) || differs("total", r.Total) ||
		!either(amount.Get("currency").String(), r.Currency) ||
		!either(answer.Get("refund_id").String(), r.RefundID) ||
		!either(answer.Get("transaction_id").String(), r.TransactionID)
}

// talliesOf names the memo that counts a refund; none where its order does.
func talliesOf(r storage.Refund) []string {
	if r.Tally == "" {
		return nil
	}
	return []string{r.Tally}
}

// ownerOf names the order that has the payment; zero when the ledger has none.
func (a *API) ownerOf(ctx context.Context, payment storage.OrderKey) (storage.OrderKey, error) {
	if payment.Number == "" {
		return storage.OrderKey{}, nil
	}
	order, err := a.ledger.Order(ctx, payment)
	if errors.Is(err, storage.ErrNotFound) {
		return storage.OrderKey{}, nil
	}
	return order.Key, err
}

// abnormalRefund sends a refund that went wrong another way (发起异常退款). The
// amount stays reserved all the while.
// https://pay.weixin.qq.com/doc/v3/merchant/4013071193
func (a *API) abnormalRefund(w http.ResponseWriter, q *request) *refusal {
	if q.query != "" {
		return badRequest(RulePath, "the operation takes no query")
	}
	o, body, refused := jsonBody(q, false)
	if refused != nil {
		return refused
	}
	number, okNumber := o.text("out_refund_no")
	sub, okSub := o.text("sub_mchid")
	if !okNumber || !validRefundNumber(number) || !validRefundNumber(q.op.Param()) {
		return badRequest(RuleNumber, "out_refund_no and refund_id must be 1 to 64 of digits, letters and _-|*@")
	}
	if !okSub || sub != "" && !validMchid(sub) {
		return badRequest(RuleMchid, "sub_mchid must be the digits of a sub-merchant's number")
	}
	key := storage.RefundKey{Mchid: a.merchant.Mchid(), SubMchid: sub, OutRefundNo: number}
	unlock, err := a.locks.lock(q.live, storage.OrderKey{Mchid: key.Mchid, SubMchid: key.SubMchid, Number: "refund " + number})
	if err != nil {
		return busy()
	}
	defer unlock()
	row, err := a.ledger.Refund(q.live, key)
	known := err == nil
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return a.ledgerRefusal(err)
	}
	if known && row.State != storage.RefundAbnormal && q.op.Path == "/v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund" {
		_, _ = a.QueryRefund(q.live, key) // its callback may be late; what is found is in the ledger
		if row, err = a.ledger.Refund(q.live, key); err != nil {
			return a.ledgerRefusal(err)
		}
	}
	switch {
	case known && !either(row.RefundID, q.op.Param()):
		return conflict(RuleRefundOrder, "refund_id and out_refund_no name two refunds")
	case known && row.State.Final():
		return conflict(RuleNotAbnormal, "the refund is "+string(row.State)+"; nothing is left to send another way")
	case known && row.State != storage.RefundAbnormal, !known:
		w.Header().Add(headerUnchecked, string(RuleNotAbnormal))
	}
	keys := storage.Keys{Refund: key, Memos: talliesOf(row)}
	if keys.Order, err = a.ownerOf(q.live, row.Order); err != nil {
		return a.ledgerRefusal(err)
	}
	id, refused := a.beginRows(q, keys, row.Order, func(*storage.Rows) error { return nil })
	if refused != nil {
		return refused
	}
	// Which way the money goes is in the body: the same bytes are not sent twice.
	res := a.send(q, id, q.path, body, false)
	done := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	written := a.finishRows(q, id, keys, res, func(rows *storage.Rows) bool {
		return done && res.Outcome == send.Succeeded && rows.Refund != nil &&
			rows.MoveRefund(storage.RefundProcessing, a.now())
	})
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, done)
}
