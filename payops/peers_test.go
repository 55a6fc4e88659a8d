package payops_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// heldBack is a WeChat Pay that shows when a request is there, and answers when it
// is let.
type heldBack struct {
	there, let chan struct{}
	reply      reply
}

func holdBack(r reply) *heldBack {
	return &heldBack{there: make(chan struct{}), let: make(chan struct{}), reply: r}
}

func (h *heldBack) answer(got) reply {
	h.there <- struct{}{}
	<-h.let
	return h.reply
}

var (
	refusing = reply{status: 400, body: `{"code":"PARAM_ERROR","message":"x"}`}
	failing  = reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`}
)

// TestRejectionOfOneCallOnly: a verified rejection of one call frees no number that
// another gateway's call is on, whichever of the two ends first.
func TestRejectionOfOneCallOnly(t *testing.T) {
	for _, tc := range []struct {
		path, body string
	}{
		{nativePath, basicBody("N20261122", "100")},
		{combinePath, combineBody("N20261122")},
	} {
		for _, firstEnds := range []bool{true, false} {
			t.Run(fmt.Sprint(tc.path, firstEnds), func(t *testing.T) {
				one, two := holdBack(refusing), holdBack(failing)
				a := newRig(t, rigOptions{answer: one.answer})
				b := newRig(t, rigOptions{answer: two.answer, store: a.ledger})
				ended := [2]chan int{make(chan int, 1), make(chan int, 1)}
				go func() { ended[0] <- a.do("POST", tc.path, tc.body).StatusCode }()
				<-one.there
				go func() { ended[1] <- b.do("POST", tc.path, tc.body).StatusCode }()
				<-two.there
				if firstEnds {
					close(one.let)
					if got := <-ended[0]; got != 400 {
						t.Error(got)
					}
					if o := a.order("N20261122"); o.State != storage.OrderIntended {
						t.Errorf("%+v", o)
					}
				}
				close(two.let)
				if got := <-ended[1]; got != 500 {
					t.Error(got)
				}
				if !firstEnds {
					close(one.let)
					if got := <-ended[0]; got != 400 {
						t.Error(got)
					}
				}
				if o := a.order("N20261122"); o.State != storage.OrderUnknown {
					t.Errorf("%+v", o)
				}
			})
		}
	}
}

// TestUnknownReopensRejected: a number that was freed while a call for it was on its
// way is free no more when nobody knows what became of the call, and says what the
// call said.
func TestUnknownReopensRejected(t *testing.T) {
	for name, tc := range map[string]struct {
		total  storage.Fen // of the freed row
		answer reply
		state  storage.OrderState
	}{
		"unknown":                {100, failing, storage.OrderUnknown},
		"unknown, other content": {7, failing, storage.OrderUnknown},
		"made, other content":    {7, reply{status: 200, body: `{"code_url":"weixin://wxpay/bizpayurl?pr=a"}`}, storage.OrderCreated},
		"rejected":               {100, refusing, storage.OrderRejected},
	} {
		t.Run(name, func(t *testing.T) {
			h := holdBack(tc.answer)
			g := newRig(t, rigOptions{answer: h.answer})
			ended := make(chan int)
			go func() { ended <- g.do("POST", nativePath, basicBody("N20261122", "100")).StatusCode }()
			<-h.there
			freed := g.order("N20261122")
			freed.State, freed.Amount.Total = storage.OrderRejected, tc.total
			if tc.total != 100 {
				freed.Content = "another"
			}
			g.orderIn(freed)
			close(h.let)
			if got := <-ended; got != tc.answer.status {
				t.Error(got)
			}
			if o := g.order("N20261122"); o.State != tc.state || o.Amount.Total != 100 || o.Content == "another" {
				t.Errorf("%+v", o)
			}
		})
	}
}

// TestSharedLocks: a repeat that comes in at another API of the process waits for
// the call that is running.
func TestSharedLocks(t *testing.T) {
	var locks payops.Locks
	h := holdBack(codeURL(got{}))
	a := newRig(t, rigOptions{answer: h.answer, locks: &locks})
	b := newRig(t, rigOptions{store: a.ledger, locks: &locks})
	ended := make(chan int)
	go func() { ended <- a.do("POST", nativePath, basicBody("N20261122", "100")).StatusCode }()
	<-h.there
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	b.refused("waits", b.serve(newRequest(ctx, "POST", nativePath, basicBody("N20261122", "100"))), 429, payops.RuleBusy)
	close(h.let)
	if got := <-ended; got != 200 || len(b.wx.requests()) != 0 {
		t.Error(got, b.wx.requests())
	}
	if r := b.do("POST", nativePath, basicBody("N20261122", "100")); r.StatusCode != 200 || len(b.wx.requests()) != 1 {
		t.Error(r.StatusCode)
	}
}
