package payops

import (
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// ruledOut is the answer to a request that a rule refuses.
func ruledOut(r *guard.Refusal) *refusal {
	code := codeInvalid
	switch r.Rule.Status {
	case http.StatusBadRequest:
		code = codeParam
	case http.StatusTooManyRequests:
		code = codeRate
	}
	return &refusal{
		status: r.Rule.Status, code: code, rule: Rule(r.Rule.Name), message: r.Rule.Message, retryAfter: seconds(r.RetryAfter),
	}
}

// overLimit is the answer to a caller that has come to its limit.
func overLimit(name guard.Name, message string, retryAfter time.Duration) *refusal {
	r := refuse(http.StatusForbidden, codeNoAuth, Rule(name), message)
	r.retryAfter = seconds(retryAfter)
	return r
}

// seconds rounds up, so that who waits as long as is said has waited long enough.
func seconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// tell says which rules only warned, and which could not be checked.
func (a *API) tell(w http.ResponseWriter, result guard.Result) {
	for _, name := range result.Warnings {
		w.Header().Add(headerWarning, string(name))
	}
	for _, name := range result.Unchecked {
		w.Header().Add(headerUnchecked, string(name))
	}
}

// guarded holds a request against the rules.
func (a *API) guarded(w http.ResponseWriter, facts guard.Facts) *refusal {
	facts.Now = a.now()
	result := guard.Evaluate(a.rules, facts)
	if result.Refusal != nil {
		return ruledOut(result.Refusal)
	}
	a.tell(w, result)
	return nil
}

// notifyFacts is the notify_url that a caller states; the configured one is not
// the caller's to answer for.
func (a *API) notifyFacts(d *draft) *guard.Notify {
	ours, _ := a.merchant.NotifyURL()
	if d.order.NotifyURL == "" || d.order.NotifyURL == ours {
		return nil
	}
	return &guard.Notify{URL: d.order.NotifyURL, Sandbox: a.merchant.Sandbox()}
}

// combineFacts is the list of sub-orders that is about to be created; nil for
// other orders.
func (a *API) combineFacts(d *draft) *guard.Combine {
	if d.order.Kind != storage.OrderCombine {
		return nil
	}
	c := &guard.Combine{ServiceProvider: a.merchant.ServiceProvider()}
	for _, s := range d.order.Subs {
		c.Appids = append(c.Appids, s.Appid)
	}
	return c
}
