package payops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var (
	// ErrOrderNotExist is returned by QueryOrder when WeChat Pay's verified
	// answer says that there is no such order.
	ErrOrderNotExist = errors.New("payops: WeChat Pay knows no such order")
	// ErrQuery is returned by QueryOrder when there is no verified answer: the
	// query may be repeated.
	ErrQuery = errors.New("payops: the query found no verified answer")
	// ErrKind is returned by QueryOrder for orders that it cannot ask for.
	ErrKind = errors.New("payops: orders of this kind cannot be queried")
)

// query asks WeChat Pay about an order for a caller. It opens no intent row.
func (a *API) query(w http.ResponseWriter, q *request) *refusal {
	if q.op.Kind == storage.OrderParking {
		return a.queryCharge(w, q)
	}
	if len(q.body) > 0 {
		return badRequest(RuleBody, "a query takes no body")
	}
	byTransaction := strings.Contains(q.op.Path, "{transaction_id}")
	var key storage.OrderKey
	switch {
	case byTransaction && !validTransactionID(q.op.Param()):
		return badRequest(RuleNumber, "transaction_id must be up to 32 digits and letters")
	case !byTransaction && !validNumber(q.op.Param(), q.op.Kind):
		return badNumber(namesOf(q.op.Kind).number, q.op.Kind)
	case !byTransaction:
		key = storage.OrderKey{Mchid: a.merchant.Mchid(), Number: q.op.Param()}
	}
	query := q.query
	if q.op.Kind != storage.OrderCombine { // a combine order is asked for without mchid
		var refused *refusal
		if query, key.SubMchid, refused = a.queryMchid(q.query, namesOf(q.op.Kind)); refused != nil {
			return refused
		}
		if byTransaction || q.op.Kind == storage.OrderPartner && key.SubMchid == "" {
			key = storage.OrderKey{} // WeChat Pay says whose order it is
		}
	}
	res := a.send(q, "", join(q.path, query), nil, true)
	a.queried(q.call, q.op.Kind, key, res)
	if refused := a.limitAnswer(q, res); refused != nil {
		return refused
	}
	return a.answer(w, q, res, res.Outcome != send.Unknown || res.Verified && res.Status < http.StatusInternalServerError)
}

// queryMchid completes and checks the mchid of a query, and returns its
// sub_mchid where the kind of order has one.
func (a *API) queryMchid(query string, n names) (completed, sub string, refused *refusal) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", "", badRequest(RulePath, "the query cannot be read")
	}
	if n.sub != "" {
		switch given := values[n.sub]; {
		case len(given) > 1:
			return "", "", badRequest(RulePath, n.sub+" appears twice in the query")
		case len(given) == 1 && !validMchid(given[0]):
			return "", "", badRequest(RuleMchid, n.sub+" must be the digits of a sub-merchant's number")
		case len(given) == 1:
			sub = given[0]
		}
	}
	switch given := values[n.mchid]; {
	case len(given) == 0 && query == "":
		return n.mchid + "=" + a.merchant.Mchid(), sub, nil
	case len(given) == 0:
		return query + "&" + n.mchid + "=" + a.merchant.Mchid(), sub, nil
	case len(given) > 1:
		return "", "", badRequest(RulePath, n.mchid+" appears twice in the query")
	case given[0] != a.merchant.Mchid():
		return "", "", conflict(RuleMchid, n.mchid+" is not the mchid that this gateway signs for")
	}
	return query, sub, nil
}

// queried records what a query's verified answer says. key is zero when it was
// asked by WeChat Pay's own number.
func (a *API) queried(ctx context.Context, kind storage.OrderKind, key storage.OrderKey, res send.Result) {
	if !res.Verified {
		return
	}
	switch {
	case res.Status == http.StatusOK:
		found, ok := a.learn(kind, res.Body)
		if !ok || !key.IsZero() && found.key != key {
			a.log.Warn("a query's answer is about another order")
			return
		}
		a.record(ctx, kind, found.key, found.payers, found.apply)
	case notExist(res) && !key.IsZero():
		a.record(ctx, kind, key, nil, a.notExisting)
	}
}

// notExist reports whether an answer says that there is no such order.
func notExist(res send.Result) bool {
	if !res.Verified || res.Status != http.StatusNotFound {
		return false
	}
	switch errorCode(res.Body) {
	case "ORDER_NOT_EXIST", "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS":
		return true
	}
	return false
}

// QueryOrder asks WeChat Pay about one order of the merchant, signed and
// verified, and returns the answer's body as WeChat Pay wrote it. What it says
// is recorded in the ledger first. Basic, partner and parking orders are asked by
// out_trade_no, combine orders by combine_out_trade_no.
// Errors: [ErrOrderNotExist], [ErrQuery], [ErrKind].
func (a *API) QueryOrder(ctx context.Context, key storage.OrderKey, kind storage.OrderKind) ([]byte, error) {
	if key.Mchid != a.merchant.Mchid() || !validNumber(key.Number, kind) {
		return nil, fmt.Errorf("%w: not an order number of this merchant", ErrKind)
	}
	number := url.PathEscape(key.Number)
	var target string
	switch kind {
	case storage.OrderBasic:
		target = "/v3/pay/transactions/out-trade-no/" + number + "?mchid=" + key.Mchid
	case storage.OrderPartner:
		if !validMchid(key.SubMchid) {
			return nil, fmt.Errorf("%w: a partner order has a sub_mchid", ErrKind)
		}
		target = "/v3/pay/partner/transactions/out-trade-no/" + number + "?sp_mchid=" + key.Mchid + "&sub_mchid=" + key.SubMchid
	case storage.OrderCombine:
		target = "/v3/combine-transactions/out-trade-no/" + number
	case storage.OrderParking:
		if key.SubMchid != "" && !validMchid(key.SubMchid) {
			return nil, fmt.Errorf("%w: sub_mchid is digits", ErrKind)
		}
		target = chargeTarget(key)
	default:
		return nil, ErrKind
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	started := a.now()
	res := a.sender.Do(ctx, send.Request{Method: http.MethodGet, Target: target, Repeatable: true})
	a.observer.Called(operation.Query, res.Outcome, a.now().Sub(started))
	a.observe(res)
	a.queried(context.WithoutCancel(ctx), kind, key, res)
	switch {
	case res.Verified && res.Status == http.StatusOK:
		if found, ok := a.learn(kind, res.Body); !ok || found.key != key {
			return nil, fmt.Errorf("%w: it is about another order", ErrQuery)
		}
		return res.Body, nil
	case notExist(res):
		return nil, ErrOrderNotExist
	case res.Err != nil:
		return nil, fmt.Errorf("%w: %w", ErrQuery, res.Err)
	}
	return nil, fmt.Errorf("%w: status %d %s", ErrQuery, res.Status, errorCode(res.Body))
}
