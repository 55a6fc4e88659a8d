package payops

import (
	"bytes"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

// signature is a request's Authorization while it is being made.
type signature struct {
	target string
	body   []byte
	done   chan struct{}
	// authorization is "" when the request could not be signed: its sending will
	// say why. Read after done.
	authorization string
}

// signAhead begins to sign what [API.send] is about to be called with, so that
// the intent row goes to the disk in the meantime: the two take about as long,
// and neither needs the other. It sends nothing. A request that the ledger's
// step refuses has been signed for nothing, so this is for operations whose
// refusals come before that step.
func (a *API) signAhead(q *request, target string, body []byte) {
	s := &signature{target: target, body: body, done: make(chan struct{})}
	q.ahead = s
	r := send.Request{Method: q.method, Target: target, Body: body, Signed: q.signed}
	go func() {
		defer close(s.done)
		s.authorization, _ = a.sender.Authorize(q.call, r)
	}()
}

// of waits for the Authorization if it is the request's; "" if it is not.
func (s *signature) of(target string, body []byte) string {
	if s == nil || s.target != target || !bytes.Equal(s.body, body) {
		return ""
	}
	<-s.done
	return s.authorization
}
