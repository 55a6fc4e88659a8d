package payops

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// askListed asks WeChat Pay whether an order of the ledger is paid, and notes
// what it says. Without a verified answer the payment stays as it is.
func (a *API) askListed(ctx context.Context, order *storage.Order, p *guard.Payment) {
	answer, err := a.QueryOrder(ctx, order.Key, order.Kind)
	if err != nil {
		return
	}
	if found, ok := a.learn(order.Kind, answer); ok && !found.contradicts(order) {
		paid(p, found)
	}
}

func paid(p *guard.Payment, found learned) {
	switch found.state {
	case storage.OrderPaid:
		p.Paid, p.PaidAt = guard.PaidYes, found.paidAt
	case storage.OrderCreated, storage.OrderClosed:
		p.Paid = guard.PaidNo
	case storage.OrderIntended, storage.OrderUnknown, storage.OrderRejected, storage.OrderRegistered:
	}
}

// askUnlisted asks WeChat Pay about a payment that the ledger does not know; nil
// when there is no verified answer, as for sub-orders of combine orders, which
// can be asked for by their combine order only. It completes the refund by what
// the answer says, and notes in the ledger what that says of an order that it
// knows under another name.
func (a *API) askUnlisted(ctx context.Context, r *storage.Refund) *guard.Payment {
	kind, target := storage.OrderBasic, "/v3/pay/transactions/"
	query := "?mchid=" + r.Key.Mchid
	if r.Key.SubMchid != "" {
		kind, target = storage.OrderPartner, "/v3/pay/partner/transactions/"
		query = "?sp_mchid=" + r.Key.Mchid + "&sub_mchid=" + r.Key.SubMchid
	}
	if r.TransactionID != "" {
		target += "id/" + r.TransactionID
	} else {
		target += "out-trade-no/" + url.PathEscape(r.Order.Number)
	}
	res := a.ask(ctx, target+query)
	if !res.Verified || res.Status != http.StatusOK {
		return nil
	}
	a.queried(context.WithoutCancel(ctx), kind, storage.OrderKey{}, res)
	found, ok := a.learn(kind, res.Body)
	if !ok || found.key.SubMchid != r.Key.SubMchid || !either(found.transactionID, r.TransactionID) ||
		r.Order.Number != "" && found.key != r.Order {
		return nil
	}
	r.Order = found.key
	if r.TransactionID == "" && validTransactionID(found.transactionID) {
		r.TransactionID = found.transactionID
	}
	p := &guard.Payment{Amount: found.amount}
	paid(p, found)
	return p
}

// unlisted asks WeChat Pay about the payment of a refund that the ledger has no
// order for, and looks the order up again by what it says. told is nil when it
// says nothing. A repeat is not asked for: it is completed by what its first
// application stated.
func (a *API) unlisted(ctx context.Context, r *storage.Refund) (told *guard.Payment, order *storage.Order, refused *refusal) {
	known, err := a.ledger.Refund(ctx, r.Key)
	switch {
	case err == nil && known.State.Reserves():
		if guard.Same(&known, r) {
			r.Order, r.TransactionID = cmp.Or(r.Order, known.Order), cmp.Or(r.TransactionID, known.TransactionID)
		}
		return &guard.Payment{}, nil, nil
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return nil, nil, a.ledgerRefusal(err)
	}
	if told = a.askUnlisted(ctx, r); told != nil {
		order, refused = a.orderOf(ctx, r)
	}
	return told, order, refused
}

// ask sends a query of the gateway's own.
func (a *API) ask(ctx context.Context, target string) send.Result {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	started := a.now()
	res := a.sender.Do(ctx, send.Request{Method: http.MethodGet, Target: target, Repeatable: true})
	a.observer.Called(operation.Query, res.Outcome, a.now().Sub(started))
	a.observe(res)
	return res
}
