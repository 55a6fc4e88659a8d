package payops

import (
	"errors"
	"mime"
	"time"

	"github.com/tidwall/sjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// maxSubOrders is the most 商品单 that any merchant may put into one order.
const maxSubOrders = 50

// names are the members of a body, query and answer that the gateway looks at,
// by kind of order; sub is "" where the order itself has no sub-merchant.
type names struct{ mchid, sub, appid, number string }

func namesOf(kind storage.OrderKind) names {
	switch kind {
	case storage.OrderCombine:
		return names{"combine_mchid", "", "combine_appid", "combine_out_trade_no"}
	case storage.OrderPartner:
		return names{"sp_mchid", "sub_mchid", "sp_appid", "out_trade_no"}
	case storage.OrderBasic, storage.OrderParking:
	}
	return names{"mchid", "", "appid", "out_trade_no"}
}

// draft is an order as a create call states it.
type draft struct {
	order storage.Order
	// body is what is sent: the caller's bytes, with what was missing filled in.
	body []byte
	// payers are who the order is for, as far as the request says.
	payers []identity
}

// keys names the order and its sub-orders.
func (d *draft) keys() []storage.OrderKey {
	keys := []storage.OrderKey{d.order.Key}
	for _, s := range d.order.Subs {
		keys = append(keys, s.Key())
	}
	return keys
}

// jsonBody checks that a body is a JSON object, and that its Content-Type does
// not say otherwise. An empty body is an empty object where that is allowed.
func jsonBody(q *request, emptyAllowed bool) (object, []byte, *refusal) {
	if types := q.header.Values("Content-Type"); len(types) > 0 {
		if media, _, err := mime.ParseMediaType(types[0]); err != nil || media != "application/json" || len(types) > 1 {
			return nil, nil, badRequest(RuleContentType, "the Content-Type must be application/json")
		}
	}
	if encodings := q.header.Values("Content-Encoding"); len(encodings) > 0 {
		return nil, nil, badRequest(RuleContentType, "a Content-Encoding is not taken: the bytes are signed as they are")
	}
	body := q.body
	if len(body) == 0 && emptyAllowed {
		body = []byte("{}")
	}
	o, err := parseObject(body)
	switch {
	case errors.Is(err, errDuplicateKey):
		return nil, nil, badRequest(RuleDuplicateKey, "an object of the body has two keys that are the same but for their case")
	case errors.Is(err, errCase):
		return nil, nil, badRequest(RuleBody, "a member's name is spelled in another case than WeChat Pay's")
	case err != nil:
		return nil, nil, badRequest(RuleBody, "the body must be one JSON object in UTF-8")
	}
	return o, body, nil
}

// draft reads the body of a create call, fills in what is missing, and checks
// what the ledger rests on. Everything else is WeChat Pay's to judge.
func (a *API) draft(q *request) (*draft, *refusal) {
	o, body, refused := jsonBody(q, false)
	if refused != nil {
		return nil, refused
	}
	kind, n := q.op.Kind, namesOf(q.op.Kind)
	d := &draft{body: body, order: storage.Order{
		Kind: kind, Merchant: a.merchant.Name(), Origin: storage.OriginGateway, State: storage.OrderIntended,
	}}

	number, ok := o.text(n.number)
	if !ok || !validNumber(number, kind) {
		return nil, badNumber(n.number, kind)
	}
	d.order.Key = storage.OrderKey{Mchid: a.merchant.Mchid(), Number: number}
	if refused := a.payee(d, o, n); refused != nil {
		return nil, refused
	}
	if refused := d.fill(o, n.appid, a.merchant.DefaultApp().Appid); refused != nil {
		return nil, refused
	}
	if d.order.Appid, _ = o.text(n.appid); d.order.Appid == "" {
		d.order.Appid = a.merchant.DefaultApp().Appid
	}
	if !q.op.CodePay() {
		if refused := a.fillNotifyURL(d, o); refused != nil {
			return nil, refused
		}
	}
	if kind == storage.OrderCombine {
		if refused := d.readSubOrders(o); refused != nil {
			return nil, refused
		}
	} else if d.order.Amount, ok = money(o.child("amount"), "total"); !ok {
		return nil, badAmount("amount.total")
	}
	if text, _ := o.text("time_expire"); text != "" {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			d.order.TimeExpire = at
		}
	}
	if d.payers, refused = statedPayers(kind, o, d); refused != nil {
		return nil, refused
	}
	d.order.Payer = digestOf(d.payers)
	d.order.Content = contentOf(d.order)
	return d, nil
}

// payee completes and checks who the order is for: the merchant's own mchid, and
// of a partner's order its sub_mchid, which becomes part of the order's key.
func (a *API) payee(d *draft, o object, n names) *refusal {
	if refused := d.fill(o, n.mchid, a.merchant.Mchid()); refused != nil {
		return refused
	}
	if mchid, _ := o.text(n.mchid); mchid != "" && mchid != a.merchant.Mchid() {
		return conflict(RuleMchid, n.mchid+" is not the mchid that this gateway signs for")
	}
	if n.sub == "" {
		return nil
	}
	sub, ok := o.text(n.sub)
	if !ok || !validMchid(sub) {
		return badRequest(RuleMchid, n.sub+" must be the digits of a sub-merchant's number")
	}
	d.order.Key.SubMchid = sub
	return nil
}

// fill writes a member that is absent, null or empty. Every other byte of the
// body stays.
func (d *draft) fill(o object, name, value string) *refusal {
	present, ok := o.text(name)
	if !ok {
		return badRequest(RuleBody, name+" must be a string")
	}
	if present != "" || value == "" {
		return nil
	}
	return d.set(name, value)
}

func (d *draft) set(name, value string) *refusal {
	body, err := sjson.SetBytes(d.body, name, value)
	if err != nil {
		return badRequest(RuleBody, "the body cannot be completed")
	}
	d.body = body
	return nil
}

// fillNotifyURL fills in, replaces or notes the order's notify_url.
func (a *API) fillNotifyURL(d *draft, o object) *refusal {
	const name = "notify_url"
	given, ok := o.text(name)
	if !ok {
		return badRequest(RuleBody, name+" must be a string")
	}
	ours, force := a.merchant.NotifyURL()
	switch {
	case ours == "" || given == ours:
		d.order.NotifyURL = given
	case given == "" || force:
		d.order.NotifyURL = ours
		return d.set(name, ours)
	default:
		d.order.NotifyURL, d.order.ForeignNotifyURL = given, true
	}
	return nil
}

// readSubOrders reads the 商品单 of a combine order and sums them up.
func (d *draft) readSubOrders(o object) *refusal {
	list, ok := o["sub_orders"].([]any)
	if !ok || len(list) == 0 || len(list) > maxSubOrders {
		return badRequest(RuleSubOrders, "sub_orders must be a list of 1 to 50 sub-orders")
	}
	subs, sum, refused := subOrders(list, true)
	if refused != nil {
		return refused
	}
	d.order.Subs, d.order.Amount = subs, sum
	return nil
}

// subOrders reads a list of sub-orders. Amounts are read when wanted.
func subOrders(list []any, amounts bool) (subs []storage.SubOrder, sum storage.Money, refused *refusal) {
	seen := map[storage.OrderKey]bool{}
	for _, item := range list {
		o, ok := item.(object)
		if !ok {
			return nil, sum, badRequest(RuleSubOrders, "a sub-order must be an object")
		}
		var s storage.SubOrder
		var okMchid, okSub, okNumber, okAppid bool
		s.Mchid, okMchid = o.text("mchid")
		s.SubMchid, okSub = o.text("sub_mchid")
		s.OutTradeNo, okNumber = o.text("out_trade_no")
		s.Appid, okAppid = o.text("sub_appid")
		switch {
		case !okMchid || !validMchid(s.Mchid):
			return nil, sum, badRequest(RuleSubOrders, "a sub-order needs the mchid that it pays")
		case !okSub || s.SubMchid != "" && !validMchid(s.SubMchid) || !okAppid:
			return nil, sum, badRequest(RuleSubOrders, "sub_mchid and sub_appid of a sub-order must be strings")
		case !okNumber || !validSubNumber(s.OutTradeNo):
			return nil, sum, badRequest(RuleNumber, "out_trade_no of a sub-order must be 2 to 32 of digits, letters and _-|*@")
		case seen[s.Key()]:
			return nil, sum, badRequest(RuleSubOrders, "two sub-orders have the same number")
		}
		seen[s.Key()] = true
		if amounts {
			if s.Amount, ok = money(o.child("amount"), "total_amount"); !ok {
				return nil, sum, badAmount("amount.total_amount")
			}
			if sum.Currency == "" {
				sum.Currency = s.Amount.Currency
			}
			if sum.Currency != s.Amount.Currency {
				return nil, sum, badRequest(RuleAmount, "all sub-orders must be in one currency")
			}
			if sum.Total, ok = addFen(sum.Total, s.Amount.Total); !ok {
				return nil, sum, badRequest(RuleAmount, "the sum of the sub-orders is too large")
			}
		}
		subs = append(subs, s)
	}
	return subs, sum, nil
}

func badNumber(name string, kind storage.OrderKind) *refusal {
	length := "6 to 32"
	if kind == storage.OrderCombine {
		length = "2 to 32"
	}
	return badRequest(RuleNumber, name+" must be "+length+" of digits, letters and _-|*@")
}

func badAmount(name string) *refusal {
	return badRequest(RuleAmount, name+" must be a whole number of fen, at least 1, and currency three capital letters")
}
