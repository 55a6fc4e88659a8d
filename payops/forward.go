package payops

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"unicode/utf8"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// maxHeaderValue is the longest header value of a caller that goes on, in bytes.
const maxHeaderValue = 1024

// forward passes an operation on that the ledger has no rows for: the caller's
// URL and body bytes are signed and sent. What is not a GET leaves an intent row
// first and is sent once: no number is known that would make a repeat harmless.
func (a *API) forward(w http.ResponseWriter, q *request) *refusal {
	if q.method == http.MethodGet {
		if len(q.body) > 0 {
			return badRequest(RuleBody, "a GET takes no body")
		}
		res := a.send(q, "", join(q.path, q.query), nil, true)
		return a.answer(w, q, res, res.Outcome != send.Unknown || res.Verified && res.Status < http.StatusInternalServerError)
	}
	if refused := checkForwarded(q); refused != nil {
		return refused
	}
	if q.uploads() {
		// How long the caller took to bring the file is not WeChat Pay's time.
		var endCall, endLive context.CancelFunc
		q.call, endCall = context.WithTimeout(context.WithoutCancel(q.client), a.timeout)
		defer endCall()
		q.live, endLive = context.WithTimeout(q.client, a.timeout)
		defer endLive()
	}
	a.signAhead(q, join(q.path, q.query), q.body)
	id, refused := a.begin(q, storage.OrderKey{}, func(*storage.Rows) error { return nil })
	if refused != nil {
		return refused
	}
	res := a.send(q, id, join(q.path, q.query), q.body, false)
	if !a.finish(q, id, storage.OrderKey{}, res, nil) {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, res.Outcome != send.Unknown)
}

// checkForwarded checks what no operation of WeChat Pay takes: its own checks
// are its own.
func checkForwarded(q *request) *refusal {
	if len(q.header.Values("Content-Encoding")) > 0 {
		return badRequest(RuleContentType, "a Content-Encoding is not taken: the bytes are signed as they are")
	}
	if q.uploads() {
		return q.malformed
	}
	if types := q.header.Values("Content-Type"); len(types) > 0 && len(q.body) > 0 {
		if media, _, err := mime.ParseMediaType(types[0]); err != nil || media != "application/json" || len(types) > 1 {
			return badRequest(RuleContentType, "the Content-Type must be application/json")
		}
	}
	if len(q.body) > 0 && (!utf8.Valid(q.body) || !json.Valid(q.body)) {
		return badRequest(RuleBody, "the body must be JSON in UTF-8")
	}
	return nil
}

// cleanHeader reports whether the headers that go on to WeChat Pay can be sent
// as they are.
func cleanHeader(h http.Header) bool {
	for _, name := range send.Forwarded() {
		for _, value := range h.Values(name) {
			if len(value) > maxHeaderValue {
				return false
			}
			for i := range len(value) {
				if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
					return false
				}
			}
		}
	}
	return true
}
