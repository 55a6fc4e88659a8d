package payops

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// idSource makes the ids of calls: UUIDv7, in order of time.
type idSource struct {
	mu   sync.Mutex
	rand io.Reader
}

func (s *idSource) next() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := uuid.NewV7FromReader(s.rand)
	return id.String(), err
}

// begin writes the intent row, and in the same step what change does to the
// order. Nothing has been sent when it fails.
func (a *API) begin(q *request, key storage.OrderKey, change func(*storage.Rows) error) (string, *refusal) {
	return a.beginRows(q, storage.Keys{Order: key}, key, change)
}

// beginRows is begin for the rows that keys name; about is the order or
// sub-order that the call is about. change finds the intent row in place.
func (a *API) beginRows(q *request, keys storage.Keys, about storage.OrderKey, change func(*storage.Rows) error) (string, *refusal) {
	if q.live.Err() != nil {
		return "", busy() // the caller is gone, and nothing has begun
	}
	id, err := a.ids.next()
	if err != nil {
		return "", storeDown()
	}
	call := storage.Call{
		ID: id, Merchant: a.merchant.Name(), Caller: q.caller.Name,
		Operation: q.op.String(), Method: q.method, Path: q.path, Order: about,
		Outcome: storage.CallPending, StartedAt: a.now(),
	}
	keys.Call = id
	err = a.ledger.Change(q.call, keys, func(rows *storage.Rows) error {
		row := call
		rows.Call = &row
		if err := change(rows); err != nil {
			return err
		}
		a.askLater(q, rows)
		return nil
	})
	return id, a.ledgerRefusal(err)
}

// ledgerRefusal turns an error of Ledger.Change into an answer.
func (a *API) ledgerRefusal(err error) *refusal {
	var refused *refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, storage.ErrNumberTaken):
		return numberTaken()
	case errors.Is(err, storage.ErrTooLarge):
		return badRequest(RuleBody, "the order is larger than the ledger takes")
	}
	a.log.Error("the ledger fails; nothing was sent", "error", err)
	return storeDown()
}

// send signs and sends. id is the intent row's, "" for a query.
func (a *API) send(q *request, id, target string, body []byte, repeatable bool) send.Result {
	q.sending = true
	header := q.header
	if len(body) > 0 && header.Get("Content-Type") == "" {
		header = header.Clone()
		header.Set("Content-Type", "application/json")
	}
	attempt := q.attempt
	if q.uploads() {
		attempt = a.timeout // its bytes take their time, and go to one host only
	}
	started := a.now()
	res := a.sender.Do(q.call, send.Request{
		Method: q.method, Target: target, Header: header, Body: body, Signed: q.signed, Serial: q.serial, Repeatable: repeatable,
		Attempt: attempt, Authorization: q.ahead.of(target, body),
		Stream: q.op.Act == operation.ActDownload,
	})
	took := a.now().Sub(started)
	a.observer.Called(q.op.Group, res.Outcome, took)
	a.observe(res)
	level := slog.LevelInfo
	switch res.Outcome {
	case send.Unknown, send.Unsent:
		level = slog.LevelWarn
	case send.Succeeded, send.Rejected:
	}
	a.log.Log(q.call, level, "call to WeChat Pay",
		"call", id, "caller", q.caller.Name, "operation", q.op.String(), "outcome", res.Outcome.String(),
		"status", res.Status, "request_id", res.Header.Get("Request-Id"), "took", took, "error", res.Err)
	return res
}

// observe counts what is notable about a result.
func (a *API) observe(res send.Result) {
	if res.Attempts > 1 {
		a.observer.FailedOver()
	}
	if probe := errors.Is(res.Err, send.ErrProbe); probe || errors.Is(res.Err, send.ErrUnverified) {
		a.observer.Unverified(probe)
	}
}

// finish writes the outcome row, and in the same step what change, if any, does
// to the order. It does not fail the call: WeChat Pay has answered, and the intent row
// stays pending, which is as good as unknown. Reports whether it is written.
func (a *API) finish(q *request, id string, key storage.OrderKey, res send.Result, change func(*storage.Order) (changed bool)) bool {
	return a.finishRows(q, id, storage.Keys{Order: key}, res, func(rows *storage.Rows) bool {
		if change == nil || rows.Order == nil || !change(rows.Order) {
			return false
		}
		rows.Order.UpdatedAt = a.now()
		return true
	})
}

// finishRows is finish for the rows that keys name.
func (a *API) finishRows(q *request, id string, keys storage.Keys, res send.Result, change func(*storage.Rows) (changed bool)) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.call), outcomeTimeout)
	defer cancel()
	changed := false
	keys.Call = id
	err := a.ledger.Change(ctx, keys, func(rows *storage.Rows) error {
		if rows.Call == nil {
			return storage.ErrNotFound
		}
		rows.Call.Outcome = callOutcome(res.Outcome)
		rows.Call.Status = res.Status
		rows.Call.EndedAt = a.now()
		rows.Call.RequestID = res.Header.Get("Request-Id")
		if res.Status >= http.StatusBadRequest {
			rows.Call.Code = errorCode(res.Body)
		}
		changed = change(rows)
		return nil
	})
	if err != nil {
		a.log.Error("outcome of a call is not recorded; its intent stays", "call", id, "outcome", res.Outcome.String(), "error", err)
		return false
	}
	if changed && !keys.Order.IsZero() {
		a.changed(ctx, keys.Order)
	}
	return true
}

// callOutcome is an outcome as the ledger spells it. What was never sent is as
// good as rejected: WeChat Pay did nothing.
func callOutcome(o send.Outcome) storage.CallOutcome {
	switch o {
	case send.Succeeded:
		return storage.CallSucceeded
	case send.Rejected, send.Unsent:
		return storage.CallRejected
	case send.Unknown:
		return storage.CallUnknown
	}
	return storage.CallUnknown
}

// errorCode reads WeChat Pay's error code; "" when there is none that looks
// like one.
func errorCode(body []byte) string {
	code := gjson.GetBytes(body, "code")
	if code.Type != gjson.String || len(code.Str) > 64 {
		return ""
	}
	for i := range len(code.Str) {
		if c := code.Str[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return ""
		}
	}
	return code.Str
}

func numberTaken() *refusal {
	return refuse(http.StatusConflict, codeNumberUsed, RuleNumberTaken,
		"the number belongs to another order of this merchant; a number is unique across operations")
}
