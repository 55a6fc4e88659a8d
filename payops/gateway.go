package payops

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/invoke"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// newResources makes what serves /gateway/….
func (a *API) newResources() *resource.Resources {
	signer := invoke.Signer{Now: a.now}
	return resource.New(resource.Config{
		Merchant: a.merchant, Ledger: a.ledger, Now: a.now, NewID: a.ids.next, Logger: a.log,
		Invoke: func(ctx context.Context, way invoke.Way, appid, prepayID string) (invoke.Parameters, error) {
			credential, err := a.merchant.Credential()
			if err != nil {
				return nil, err
			}
			return signer.Sign(ctx, credential, way, appid, prepayID)
		},
		KnowOpenID: a.KnowOpenID,
	})
}

// serveGateway serves the gateway's own resources.
func (a *API) serveGateway(w http.ResponseWriter, q *request) *refusal {
	match := resource.Find(q.method, q.path)
	if refused := a.limitResource(q, match); refused != nil {
		return refused
	}
	response := a.resources.Serve(match, &resource.Request{
		Core: core{a, q}, Method: q.method, Path: q.path, Query: q.query, Header: q.header, Body: q.body,
	})
	if response.Rule != "" {
		a.observer.Refused(Rule(response.Rule))
	}
	h := w.Header()
	for name, values := range response.Header {
		h[name] = values
	}
	if response.Stream != nil {
		a.stream(w, response)
		return nil
	}
	h.Set("Content-Length", strconv.Itoa(len(response.Body)))
	w.WriteHeader(response.Status)
	_, _ = w.Write(response.Body) // the caller is gone when this fails
	return nil
}

// CloseDue closes an order that a caller wanted closed when it was too young
// ([resource.WorkClose]), after a query. next is when to try again, zero when
// there is nothing left to do; err, for the log, says why it is not done.
func (a *API) CloseDue(ctx context.Context, work storage.Work) (next time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	payload, err := resource.ReadCloseWork(work.Payload)
	if err != nil {
		return time.Time{}, err
	}
	q := &request{
		caller: caller.Internal(payload.Caller, operation.Query, operation.Close),
		header: http.Header{}, live: ctx, call: ctx, client: ctx,
	}
	return a.resources.CloseDue(core{a, q}, work)
}

// Wait returns when every parking exit that was answered at its deadline has come
// to its end, which takes a call's time at most, or when ctx ends. No request may be
// served any more.
func (a *API) Wait(ctx context.Context) { a.resources.Wait(ctx) }

// core is the API as the caller of one request sees it.
type core struct {
	a *API
	q *request
}

var _ resource.Core = core{}

func (c core) Caller() string                    { return c.q.caller.Name }
func (c core) Allows(group operation.Group) bool { return c.q.caller.Allows(group) }
func (c core) Live() context.Context             { return c.q.live }
func (c core) Context() context.Context          { return c.q.call }

// V3 serves one of WeChat Pay's own operations to the caller of the request, as
// if it had come at its own path.
func (c core) V3(call resource.Call) resource.Answer {
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	if call.ContentType != "" {
		header.Set("Content-Type", call.ContentType)
	}
	for _, name := range []string{"Accept-Language", "User-Agent"} {
		if values, ok := c.q.header[name]; ok {
			header[name] = values
		}
	}
	q := &request{
		caller: c.q.caller, method: call.Method, path: call.Path, query: call.Query, header: header, body: call.Body,
		live: c.q.live, call: c.q.call, attempt: c.q.attempt,
		client: context.WithValue(c.q.client, reportKey{}, nil), // what the resource answers is not WeChat Pay's answer
	}
	defer func() { c.q.sending = c.q.sending || q.sending }()
	q.match()
	if q.uploads() {
		q.signed, q.malformed = uploadMeta(q)
	}
	w := &recorder{header: http.Header{}}
	if refused := c.a.serveV3(w, q); refused != nil {
		c.a.refused(w, refused)
	}
	w.header.Del("Content-Length")
	return resource.Answer{Status: w.status, Header: w.header, Body: w.body.Bytes()}
}

func (c core) Ask(key storage.OrderKey, kind storage.OrderKind) (known bool, err error) {
	_, err = c.a.QueryOrder(c.q.call, key, kind)
	if errors.Is(err, ErrOrderNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (c core) Charge(key storage.OrderKey) (body []byte, known bool, err error) {
	body, err = c.a.QueryOrder(c.q.call, key, storage.OrderParking)
	if errors.Is(err, ErrOrderNotExist) {
		return nil, false, nil
	}
	return body, err == nil, err
}

func (c core) Detach(attempt time.Duration) (detached resource.Core, end func()) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.q.client), c.a.timeout)
	q := &request{
		caller: c.q.caller, header: c.q.header.Clone(), live: ctx, call: ctx, client: ctx, attempt: attempt,
	}
	return core{c.a, q}, cancel
}

func (c core) AskRefund(key storage.RefundKey, ecommerce bool) (known bool, err error) {
	ask := c.a.QueryRefund
	if ecommerce {
		ask = c.a.QueryEcommerceRefund
	}
	_, err = ask(c.q.call, key)
	if errors.Is(err, ErrRefundNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (c core) Register(number string) (order storage.Order, created bool, refused resource.Response) {
	order, created, why := c.a.registerOrder(c.q, number)
	if why != nil {
		w := &recorder{header: http.Header{}}
		why.write(w)
		return order, false, resource.Response{Status: w.status, Header: w.header, Body: w.body.Bytes(), Rule: string(why.rule)}
	}
	return order, created, resource.Response{}
}

// Lock takes a name that no order's key can be.
func (c core) Lock(name string) (unlock func(), err error) {
	return c.a.locks.lock(c.q.live, storage.OrderKey{Number: "lock " + name})
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}
