package payops

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

// download streams a file that WeChat Pay does not sign. Its bytes, and its
// encoding, are passed on as they come; a file that is longer than allowed, or
// breaks off, breaks the connection to the caller, so that no part of a file
// looks like a whole one.
func (a *API) download(w http.ResponseWriter, q *request) *refusal {
	if len(q.body) > 0 {
		return badRequest(RuleBody, "a download takes no body")
	}
	// A download changes nothing: it ends when the caller goes away.
	ctx, cancel := context.WithTimeout(q.client, a.downloadTimeout)
	defer cancel()
	q.call = ctx
	res := a.send(q, "", join(q.path, q.query), nil, true)
	if res.Stream == nil {
		return a.answer(w, q, res, res.Outcome != send.Unknown || res.Verified && res.Status < http.StatusInternalServerError)
	}
	defer func() { _ = res.Stream.Close() }()
	if res.Length > a.maxDownload {
		return refuse(http.StatusBadGateway, codeSystem, RuleTooLarge, "the file is larger than the gateway passes on")
	}
	h := w.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	if res.Length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(res.Length, 10))
	}
	// A caller that does not read holds nothing longer than the download may take.
	writer := http.NewResponseController(w)
	if writer.SetWriteDeadline(time.Now().Add(a.downloadTimeout)) == nil {
		defer func() { _ = writer.SetWriteDeadline(time.Time{}) }()
	}
	w.WriteHeader(res.Status)
	n, err := io.Copy(w, io.LimitReader(res.Stream, a.maxDownload))
	if err == nil && n == a.maxDownload {
		if extra, _ := io.CopyN(io.Discard, res.Stream, 1); extra > 0 {
			err = errors.New("payops: the file is larger than the gateway passes on")
		}
	}
	if err != nil {
		a.log.Warn("a download broke off", "operation", q.op.String(), "bytes", n)
		panic(http.ErrAbortHandler)
	}
	return nil
}
