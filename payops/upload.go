package payops

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/upload"
)

// uploads reports whether the request is a multipart upload.
func (q *request) uploads() bool { return q.op.Operation != nil && q.op.Multipart }

// large reports whether the request's body is a file or holds one.
func (q *request) large() bool {
	if !strings.HasPrefix(q.path, resource.Prefix) {
		return q.uploads()
	}
	match := resource.Find(q.method, q.path)
	return match.Route != nil && match.Upload
}

// isMultipart reports whether a header announces multipart/form-data.
func isMultipart(h http.Header) bool {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && media == "multipart/form-data"
}

// uploadSlot waits for room to hold one upload in memory: its bytes are needed
// whole, since meta may stand after the file and the signature goes first.
func (a *API) uploadSlot(q *request) (release func(), refused *refusal) {
	select {
	case a.uploads <- struct{}{}:
		return func() { <-a.uploads }, nil
	case <-q.live.Done():
		return nil, &refusal{
			status: http.StatusTooManyRequests, code: codeRate, rule: RuleBusy, retryAfter: retryAfterBusy,
			message: "too many uploads are running; nothing was sent",
		}
	}
}

// uploadMeta returns what of an upload is signed. The body itself goes on as it
// came; WeChat Pay checks the file against the digest in meta.
func uploadMeta(q *request) ([]byte, *refusal) {
	types := q.header.Values("Content-Type")
	if len(types) != 1 {
		return nil, badRequest(RuleContentType, "the Content-Type must be multipart/form-data with a boundary")
	}
	meta, err := upload.Meta(types[0], q.body)
	switch {
	case err == nil:
		return meta, nil
	case errors.Is(err, upload.ErrContentType):
		return nil, badRequest(RuleContentType, "the Content-Type must be multipart/form-data with a boundary")
	case errors.Is(err, upload.ErrMeta):
		return nil, badRequest(RuleMultipart, "the upload needs exactly one part meta, and it must be a JSON object")
	}
	return nil, badRequest(RuleMultipart, "the body is not strict multipart/form-data")
}
