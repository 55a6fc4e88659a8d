package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// KeepAnswers is how long an Idempotency-Key is remembered, since its first
	// request.
	KeepAnswers = 7 * 24 * time.Hour
	maxKey      = 128 // bytes
)

// memo is what is remembered of a request under its Idempotency-Key.
type memo struct {
	key string // of the ledger's memo
	// Digest is of method, path, query and body: another request under the key is
	// refused.
	Digest string `json:"digest"`
	// Numbers are the merchant numbers that the request uses, written down before
	// anything is sent.
	Numbers []string  `json:"numbers"`
	At      time.Time `json:"at"`
	// Answer is there when the request came to its end.
	Answer *recorded `json:"answer,omitempty"`
}

// recorded is a final answer.
type recorded struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"` // those of [kept]
	Body   []byte      `json:"body"`
}

// kept are the headers that a recorded answer has.
var kept = []string{
	"Content-Type", "Cache-Control", "Location", headerRefused, headerWarning, "Wechatpay-Gateway-Rule-Unchecked", "Request-Id",
}

// What ends a change that finds the key in use: the answer is there, the request
// broke off, or it is another request.
var (
	errReplay = errors.New("resource: the answer is recorded")
	errResume = errors.New("resource: the numbers are written down")
	errOther  = errors.New("resource: the key was used for another request")
)

// once serves a request that may carry an Idempotency-Key.
func (rs *Resources) once(route *Route, r *Request) Response {
	key, refused := idempotencyKey(r.Header)
	if refused.Refused() {
		return refused
	}
	if key != "" {
		sum := sha256.Sum256([]byte(key))
		r.memo = &memo{
			key:    "idem/" + rs.Merchant.Name() + "/" + r.Core.Caller() + "/" + hex.EncodeToString(sum[:]),
			Digest: r.digest(),
		}
		unlock, err := r.Core.Lock(r.memo.key)
		if err != nil {
			return busy()
		}
		defer unlock()
	}
	response := route.Handle(rs, r)
	if r.memo != nil && !r.memo.At.IsZero() && r.memo.Answer == nil && final(response) {
		r.record(rs, &response)
	}
	return response
}

// idempotencyKey reads the header; "" when there is none.
func idempotencyKey(h http.Header) (string, Response) {
	values := h.Values(headerKey)
	if len(values) == 0 {
		return "", Response{}
	}
	key := values[0]
	ok := len(values) == 1 && len(key) >= 1 && len(key) <= maxKey
	for i := range len(key) {
		ok = ok && key[i] > ' ' && key[i] < 0x7f
	}
	if !ok {
		return "", badRequest(RuleIdempotencyKey, "Idempotency-Key must be one value of 1 to 128 visible ASCII characters")
	}
	return key, Response{}
}

// digest tells requests apart.
func (r *Request) digest() string {
	h := sha256.New()
	for _, part := range []string{r.Method, r.Path, r.Query} {
		_, _ = h.Write(append([]byte(part), 0)) // a hash never fails
	}
	_, _ = h.Write(r.Body)
	return hex.EncodeToString(h.Sum(nil))
}

// Begin says which merchant numbers the request uses, as many as wanted: those
// that it used before under its Idempotency-Key, or new ones, durably remembered
// when Begin returns. done is true when there is nothing left to do but to give
// the response: a recorded answer, or a refusal.
func (r *Request) Begin(want int) (numbers []string, response Response, done bool) {
	rs := r.resources
	for range want {
		number, err := rs.number()
		if err != nil {
			return nil, storeDown(), true
		}
		numbers = append(numbers, number)
	}
	r.fresh = true
	if r.memo == nil {
		return numbers, Response{}, false
	}
	fresh := *r.memo
	fresh.Numbers, fresh.At = numbers, rs.Now()
	var known memo
	err := rs.Ledger.Change(r.Core.Context(), storage.Keys{Memos: []string{fresh.key}}, func(rows *storage.Rows) error {
		known = fresh
		r.fresh = true
		if row := rows.Memos[fresh.key]; row != nil {
			var before memo
			if err := json.Unmarshal(row.Data, &before); err != nil {
				return err
			}
			switch {
			case before.Digest != fresh.Digest:
				return errOther
			case before.Answer != nil:
				known = before
				return errReplay
			case len(before.Numbers) >= want:
				known, r.fresh = before, false
				return errResume
			}
		}
		row, err := fresh.row()
		if err != nil {
			return err
		}
		if rows.Memos == nil {
			rows.Memos = map[string]*storage.Memo{}
		}
		rows.Memos[fresh.key] = row
		return nil
	})
	switch {
	case errors.Is(err, errReplay):
		r.memo.Answer = known.Answer
		return nil, known.Answer.response(), true
	case errors.Is(err, errOther):
		return nil, conflict(RuleIdempotencyKey, "the Idempotency-Key was used for another request; a new request needs a new key"), true
	case err != nil && !errors.Is(err, errResume):
		rs.Logger.Error("an Idempotency-Key cannot be written down; nothing was sent", "error", err)
		return nil, storeDown(), true
	}
	key := r.memo.key
	*r.memo = known
	r.memo.key = key
	return r.memo.Numbers[:want], Response{}, false
}

func (m *memo) row() (*storage.Memo, error) {
	data, err := json.Marshal(m)
	return &storage.Memo{Key: m.key, Data: data, Expires: m.At.Add(KeepAnswers)}, err
}

// final reports whether an answer is worth recording: another try would come to
// the same. What is open, what passes by itself, and what somebody may put right
// (a right, the balance) is tried again with the same numbers.
func final(r Response) bool {
	switch {
	case r.Open:
		return false
	case r.Header.Get(headerOutcome) != "", r.Header.Get("Retry-After") != "":
		return false
	case r.Status >= 200 && r.Status < 300:
		return true
	case r.Status == http.StatusBadRequest, r.Status == http.StatusNotFound, r.Status == http.StatusConflict, r.Status == http.StatusGone:
		return true
	}
	return false
}

// record writes the final answer down. When it cannot, a repeat goes on with the
// same numbers, which WeChat Pay answers like the first.
func (r *Request) record(rs *Resources, response *Response) {
	m := *r.memo
	m.Answer = &recorded{Status: response.Status, Header: http.Header{}, Body: response.Body}
	for _, name := range kept {
		if values := response.Header.Values(name); len(values) > 0 {
			m.Answer.Header[name] = values
		}
	}
	err := rs.Ledger.Change(r.Core.Context(), storage.Keys{Memos: []string{m.key}}, func(rows *storage.Rows) error {
		row, err := m.row()
		if err != nil {
			return err
		}
		if rows.Memos == nil {
			rows.Memos = map[string]*storage.Memo{}
		}
		rows.Memos[m.key] = row
		return nil
	})
	if err != nil {
		rs.Logger.Error("an answer is not recorded under its Idempotency-Key", "error", err)
		response.Header.Add(headerWarning, warningLedger)
	}
}

func (a *recorded) response() Response {
	h := a.Header.Clone()
	h.Set(headerReplay, "true")
	return Response{Status: a.Status, Header: h, Body: a.Body}
}
