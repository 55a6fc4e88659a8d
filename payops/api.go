package payops

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

// request is one authenticated request.
type request struct {
	caller *caller.Caller
	method string
	path   string // escaped, as received
	query  string // raw, as received
	header http.Header
	body   []byte
	op     operation.Match // of /v3 requests; its Operation is nil when nothing stands for the path
	// listed is true when the operation table knows the operation.
	listed bool
	// signed is what is signed in place of the body, nil for the body: the meta
	// part of an upload. malformed is true when an upload has none.
	signed    []byte
	malformed *refusal
	// serial names the key that fields of the body were encrypted with, "" for
	// none; decrypt is what the caller wants opened in the answer, nil for nothing.
	serial  string
	decrypt *fields
	// live ends when the caller goes away or the deadline passes; waiting for
	// something before the first byte is sent heeds it.
	live context.Context
	// call goes on when the caller goes away: what has begun is finished.
	call context.Context
	// client is the caller's own context, without a deadline.
	client context.Context
	// attempt is how long one host has to answer; zero: as long as any.
	attempt time.Duration
	// ahead is the request's signature while it is being made; nil without one.
	ahead *signature
	// sending is set just before the first byte may leave.
	sending bool
}

// ServeHTTP serves one request, and returns when its outcome is recorded,
// whether or not the caller still waits.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), a.timeout)
	defer cancel()
	live, cancelLive := context.WithTimeout(r.Context(), a.timeout)
	defer cancelLive()
	q := &request{method: r.Method, header: r.Header, live: live, call: call, client: r.Context()}
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if cause == http.ErrAbortHandler {
			panic(cause)
		}
		a.log.Error("panic in the payment API", "stack", string(debug.Stack()))
		a.refused(w, &refusal{
			status: http.StatusInternalServerError, code: codeSystem, rule: RuleInternal,
			message: "the gateway failed inside", unknown: q.sending,
		})
	}()
	if err := a.serve(w, r, q); err != nil {
		a.refused(w, err)
	}
}

// serve authenticates and routes.
func (a *API) serve(w http.ResponseWriter, r *http.Request, q *request) *refusal {
	var ok bool
	if q.path, q.query, ok = target(r); !ok {
		return badRequest(RulePath, "the request target must be a plain path")
	}
	pending, err := a.callers.Begin(r.Header, a.now())
	if err != nil {
		return unauthorized(err)
	}
	q.match()
	limit := a.maxBody
	if q.large() {
		release, refused := a.uploadSlot(q)
		if refused != nil {
			return refused
		}
		defer release()
		limit = a.maxUpload
	}
	if refused := a.readBody(w, r, q, limit); refused != nil {
		return refused
	}
	signed := q.body
	if q.uploads() {
		if q.signed, q.malformed = uploadMeta(q); q.malformed == nil {
			signed = q.signed // as WeChat Pay has it, so that official SDKs can call
		}
	}
	if q.caller, err = pending.Finish(q.method, join(q.path, q.query), signed); err != nil {
		return unauthorized(err)
	}
	if !cleanHeader(q.header) {
		return badRequest(RuleHeader, "a header that goes on to WeChat Pay is too long or holds a control character")
	}
	switch {
	case strings.HasPrefix(q.path, "/v3/"):
		return a.serveV3(w, q)
	case strings.HasPrefix(q.path, "/gateway/"):
		return a.serveGateway(w, q)
	}
	return refuse(http.StatusNotFound, codeNotFound, RulePath, "the payment API serves /v3/ and /gateway/")
}

// serveV3 serves WeChat Pay's own paths.
func (a *API) serveV3(w http.ResponseWriter, q *request) *refusal {
	switch {
	case !q.listed && !cleanPath(q.path):
		return badRequest(RulePath, "the path holds an empty, dot or doubly encoded segment")
	case !q.listed && !q.caller.AllowsEverything():
		return notAllowed("the operation is not known, and the caller is not allowed every path")
	case q.op.Operation == nil:
		return badRequest(RulePath, "the operation is not known, and its path or method may be another spelling of one that is")
	case q.listed && !q.caller.Allows(q.op.Group):
		return notAllowed("the caller is not allowed " + string(q.op.Group))
	}
	if err := a.merchant.Ready(); err != nil {
		return notReady()
	}
	if refused := a.fields(q); refused != nil {
		return refused
	}
	if refused := a.limitSubMchids(q); refused != nil {
		return refused
	}
	switch q.op.Act {
	case operation.ActCreate:
		return a.create(w, q)
	case operation.ActQuery:
		return a.query(w, q)
	case operation.ActClose:
		return a.close(w, q)
	case operation.ActRefund:
		return a.refund(w, q)
	case operation.ActQueryRefund:
		return a.queryRefund(w, q)
	case operation.ActAbnormalRefund:
		return a.abnormalRefund(w, q)
	case operation.ActReverse:
		return a.reverse(w, q)
	case operation.ActNumbered:
		return a.numbered(w, q)
	case operation.ActQueryNumber:
		return a.queryNumber(w, q)
	case operation.ActEnterParking:
		return a.enterParking(w, q)
	case operation.ActChargeParking:
		return a.charge(w, q)
	case operation.ActDownload:
		return a.download(w, q)
	case operation.ActForward:
	}
	return a.forward(w, q)
}

// match finds the operation of a /v3 request.
func (q *request) match() {
	if !strings.HasPrefix(q.path, "/v3/") {
		return
	}
	if q.op, q.listed = operation.Find(q.method, q.path); !q.listed {
		q.op, _ = operation.Unlisted(q.method, q.path, isMultipart(q.header))
	}
}

// readBody reads the body up to the limit. Of an upload the memory is taken at
// once, since there is a place for it, and the time is bounded, since the place
// is.
func (a *API) readBody(w http.ResponseWriter, r *http.Request, q *request, limit int64) *refusal {
	if r.ContentLength > limit {
		return tooLarge()
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	var buffer bytes.Buffer
	if q.large() {
		buffer.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
		connection := http.NewResponseController(w)
		if connection.SetReadDeadline(time.Now().Add(a.timeout)) == nil {
			defer func() { _ = connection.SetReadDeadline(time.Time{}) }()
		}
	}
	_, err := buffer.ReadFrom(io.LimitReader(r.Body, limit+1))
	var overLimit *http.MaxBytesError
	switch {
	case errors.As(err, &overLimit):
		return tooLarge()
	case err != nil:
		return badRequest(RuleBody, "the body cannot be read to its end")
	case int64(buffer.Len()) > limit:
		return tooLarge()
	}
	q.body = buffer.Bytes()
	return nil
}

func tooLarge() *refusal {
	return refuse(http.StatusRequestEntityTooLarge, codeParam, RuleTooLarge, "the body is too large")
}

func notAllowed(message string) *refusal {
	return refuse(http.StatusForbidden, codeNoAuth, RuleNotAllowed, message)
}

func notReady() *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, code: codeSystem, rule: RuleNotReady, retryAfter: retryAfterNotReady,
		message: "the merchant's keys are not there yet; nothing was sent",
	}
}

// unauthorized says as little as an honest caller needs.
func unauthorized(err error) *refusal {
	switch {
	case errors.Is(err, caller.ErrMchid):
		return refuse(http.StatusUnauthorized, codeSign, RuleCallerMchid, "the signature names another mchid")
	case errors.Is(err, caller.ErrTimestamp):
		return refuse(http.StatusUnauthorized, codeSign, RuleCallerTime, "the signature's timestamp is more than 300 seconds off")
	}
	return refuse(http.StatusUnauthorized, codeSign, RuleUnknownCaller, "the caller is not known, or its signature does not verify")
}

// refused answers with a refusal and counts it.
func (a *API) refused(w http.ResponseWriter, r *refusal) {
	if r.rule != ruleNone { // an unknown outcome is no refusal
		a.observer.Refused(r.rule)
	}
	r.write(w)
}

// answer gives the caller what became of the call: WeChat Pay's verified answer as
// it is, or a refusal where there is none to give; of files, which WeChat Pay does
// not sign, also its unsigned errors. known is false when the outcome
// row says unknown although an answer is there.
func (a *API) answer(w http.ResponseWriter, q *request, res send.Result, known bool) *refusal {
	switch {
	case res.Outcome == send.Unsent && errors.Is(res.Err, send.ErrSign):
		return notReady()
	case res.Outcome == send.Unsent && errors.Is(res.Err, send.ErrDialTimeout):
		return refuse(http.StatusGatewayTimeout, codeSystem, RuleUnreachable, "WeChat Pay could not be reached in time; nothing was sent")
	case res.Outcome == send.Unsent:
		return refuse(http.StatusBadGateway, codeSystem, RuleUnreachable, "WeChat Pay could not be reached; nothing was sent")
	case res.Status == 0, !res.Verified && (res.Status < http.StatusBadRequest || q.op.Act != operation.ActDownload):
		// What does not verify proves nothing, an error no more than a success.
		return &refusal{status: http.StatusInternalServerError, code: codeSystem, message: unknownMessage, unknown: true}
	}
	h := w.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	if !known {
		h.Set(headerOutcome, outcomeUnknown)
	}
	body := a.open(h, q, res)
	if len(body) > 0 {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	a.report(q, res, known)
	w.WriteHeader(res.Status)
	_, _ = w.Write(body) // the caller is gone when this fails
	return nil
}
