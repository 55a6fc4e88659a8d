package payops

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const subMchid = "sub_mchid"

// limitSubMchids refuses a caller that is limited to some sub-merchants unless the
// operation acts for these alone: what stands at the operation's own place decides,
// a sub_mchid elsewhere means nothing to WeChat Pay. An operation that has no such
// place acts for the merchant itself, and is refused. Uploads and key material belong
// to no sub-merchant.
func (a *API) limitSubMchids(q *request) *refusal {
	limit := a.limits[q.caller.Name]
	if len(limit.SubMchids) == 0 || q.op.Group == operation.Media || q.op.Group == operation.Crypto {
		return nil
	}
	stated, refused := a.actsFor(q, q.op.SubMchid, q.op.Named(subMchid))
	if refused == nil && q.op.Kind == storage.OrderCombine && (q.op.Act == operation.ActQuery || q.op.Act == operation.ActClose) {
		// WeChat Pay asks nobody but the merchant about these: the ledger knows whose
		// the order is.
		var subs []string
		subs, refused = a.subMchidsOf(q, storage.OrderKey{Mchid: a.merchant.Mchid(), Number: q.op.Param()})
		if len(subs) == 0 {
			stated = nil
		}
		stated = append(stated, subs...)
	}
	switch {
	case refused != nil:
		return refused
	case !limit.Allows(stated):
		return otherSubMchid()
	}
	return nil
}

func otherSubMchid() *refusal {
	return overLimit(guard.LimitSubMchid, "the caller is limited to other sub-merchants, and the operation must act for one of its own", 0)
}

// actsFor returns the sub-merchants that a request states at one place; inPath are
// those of its path. Of sub-orders that state none "" is among them.
func (a *API) actsFor(q *request, place operation.SubMchidPlace, inPath []string) (stated []string, refused *refusal) {
	switch place {
	case operation.SubMchidInPath:
		return inPath, nil
	case operation.SubMchidInQuery:
		values, err := url.ParseQuery(q.query)
		if err != nil || len(values[subMchid]) > 1 {
			return nil, badRequest(RulePath, "the query cannot be read, or states sub_mchid twice")
		}
		return values[subMchid], nil
	case operation.SubMchidInBody:
		o, _, refused := jsonBody(q, true)
		if refused != nil {
			return nil, refused
		}
		return subMchidIn(nil, o)
	case operation.SubMchidInOrders:
		o, _, refused := jsonBody(q, true)
		if refused != nil {
			return nil, refused
		}
		list, _ := o["sub_orders"].([]any)
		for _, item := range list {
			sub, ok := item.(object)
			if !ok {
				return nil, badRequest(RuleSubOrders, "a sub-order must be an object")
			}
			before := len(stated)
			if stated, refused = subMchidIn(stated, sub); refused != nil {
				return nil, refused
			}
			if len(stated) == before {
				stated = append(stated, "") // the merchant's own
			}
		}
		return stated, nil
	case operation.SubMchidNowhere:
	}
	return nil, nil
}

// subMchidIn adds an object's own sub_mchid.
func subMchidIn(to []string, o object) ([]string, *refusal) {
	text, ok := o.text(subMchid)
	if !ok {
		return nil, badRequest(RuleBody, subMchid+" must be a string")
	}
	if text != "" {
		to = append(to, text)
	}
	return to, nil
}

// subMchidsOf returns the sub-merchants of a whole order of the ledger, of a
// sub-order's number those of its combine order; "" stands for the merchant itself.
// None: the ledger does not know the order.
func (a *API) subMchidsOf(q *request, key storage.OrderKey) ([]string, *refusal) {
	order, err := a.ledger.Order(q.live, key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, a.ledgerRefusal(err)
	case order.Kind != storage.OrderCombine:
		return []string{order.Key.SubMchid}, nil
	}
	var subs []string
	for _, s := range order.Subs {
		subs = append(subs, s.SubMchid)
	}
	return subs, nil
}

// limitAnswer refuses a caller that is limited to some sub-merchants the answer about
// a combine order of others: what the ledger has of an order that is made elsewhere
// is what some caller says of it.
func (a *API) limitAnswer(q *request, res send.Result) *refusal {
	limit := a.limits[q.caller.Name]
	if len(limit.SubMchids) == 0 || q.op.Kind != storage.OrderCombine || !res.Verified || res.Status != http.StatusOK {
		return nil
	}
	var subs []string
	for _, s := range gjson.GetBytes(res.Body, "sub_orders").Array() {
		subs = append(subs, s.Get(subMchid).String())
	}
	if !limit.Allows(subs) {
		return otherSubMchid()
	}
	return nil
}

// limitResource is limitSubMchids for the gateway's own resources. Where a number
// alone names an order, the ledger says for whom it is.
func (a *API) limitResource(q *request, match resource.Match) *refusal {
	limit := a.limits[q.caller.Name]
	if len(limit.SubMchids) == 0 || match.Route == nil || match.NoSubMchid {
		return nil
	}
	place, inQuery := operation.SubMchidInQuery, q.method == http.MethodGet || match.Param("out_trade_no") != "" && q.method != http.MethodPut
	var o object
	if !inQuery {
		var refused *refusal
		if o, _, refused = jsonBody(q, false); refused != nil {
			return refused
		}
		place = operation.SubMchidInBody
		if list, _ := o["sub_orders"].([]any); len(list) > 0 {
			place = operation.SubMchidInOrders
		}
	}
	stated, refused := a.actsFor(q, place, nil)
	if refused != nil {
		return refused
	}
	key := storage.OrderKey{Mchid: a.merchant.Mchid()}
	if len(stated) == 1 && place != operation.SubMchidInOrders {
		key.SubMchid = stated[0]
	}
	replaces, _ := o.text("replaces")
	if key.Number = match.Param("out_trade_no"); key.Number == "" {
		key.Number = replaces
	}
	if key.Number != "" && !(key.SubMchid != "" && strings.HasSuffix(match.Pattern, "/refunds")) { // a refund is of the sub-order alone
		subs, refused := a.subMchidsOf(q, key)
		switch {
		case refused != nil:
			return refused
		case replaces != "" && len(subs) == 0 && key.SubMchid == "":
			return otherSubMchid() // whoever's it is
		}
		stated = append(slices.Clip(stated), subs...)
	}
	if !limit.Allows(stated) {
		return otherSubMchid()
	}
	return nil
}
