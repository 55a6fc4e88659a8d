package payops

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// queryNumber asks WeChat Pay for a number of a numbered operation, as the
// caller does, and notes what the verified answer says about it: that it is
// taken, or that there is none, which frees it once no call can be on its way
// any more.
func (a *API) queryNumber(w http.ResponseWriter, q *request) *refusal {
	if len(q.body) > 0 {
		return badRequest(RuleBody, "a query takes no body")
	}
	values, err := url.ParseQuery(q.query)
	if err != nil {
		return badRequest(RulePath, "the query cannot be read")
	}
	sub, refused := subMchidOf(q, nil)
	if refused != nil {
		return refused
	}
	n := q.op.Number
	numbers := slices.Concat(q.op.Named(n.Field), values[n.Field])
	if len(numbers) != 1 || !validOwnNumber(numbers[0]) {
		return badRequest(RuleNumber, n.Field+" must be stated once, as 1 to 128 of digits, letters and _-|*@")
	}
	res := a.send(q, "", join(q.path, q.query), nil, true)
	a.numberQueried(q, numberMemo(n.Space, a.merchant.Mchid(), sub, numbers[0]), values, res)
	return a.answer(w, q, res, res.Outcome != send.Unknown || res.Verified && res.Status < http.StatusInternalServerError)
}

// numberQueried records what a query's verified answer says about a number. It
// never fails the query.
func (a *API) numberQueried(q *request, key string, values url.Values, res send.Result) {
	taken := res.Verified && res.Status == http.StatusOK
	if !taken && !noSuchNumber(res) {
		return
	}
	err := a.ledger.Change(q.call, storage.Keys{Memos: []string{key}}, func(rows *storage.Rows) error {
		use, err := useOf(rows.Memos[key])
		switch {
		case err != nil:
			return err
		case use == nil, use.Done:
			return errNothing
		case taken:
			use.Done = true
			a.setUse(rows, key, *use)
		case a.now().Sub(use.At) < settled, !use.asked(values, q.op.Number.Field):
			return errNothing
		default:
			delete(rows.Memos, key)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		a.log.Error("what a query found is not recorded", "error", err)
	}
}

// asked reports whether a query that stated these values, the number itself
// aside, asked for what the number was used for: "none" about another payment's
// number says nothing about this one.
func (u *numberUse) asked(values url.Values, field string) bool {
	for name, stated := range values {
		if name == field || slices.Contains(unrelated, name) {
			continue
		}
		if len(stated) != 1 || u.Names[name] != stated[0] {
			return false
		}
	}
	return true
}

// noSuchNumber reports whether an answer says that there is no such number.
func noSuchNumber(res send.Result) bool {
	return notExist(res) || res.Verified && res.Status == http.StatusNotFound && errorCode(res.Body) == "NOT_FOUND"
}
