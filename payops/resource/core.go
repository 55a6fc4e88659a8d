package resource

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/bill"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Core is the payment API as the caller of one request sees it. Its methods end
// with the request's own deadlines.
type Core interface {
	// Caller is the caller's name, as the ledger's rows have it.
	Caller() string
	// Allows reports whether the caller may use the group.
	Allows(group operation.Group) bool
	// V3 runs one of WeChat Pay's own operations as the caller, through all that
	// its own path goes through. The answer may be WeChat Pay's or a refusal of
	// the gateway's, which is counted.
	V3(call Call) Answer
	// Ask asks WeChat Pay about an order, signed and verified, and records what it
	// says. known is false when its verified answer is that there is none. err is
	// set when there is no verified answer: nothing is known then.
	Ask(key storage.OrderKey, kind storage.OrderKind) (known bool, err error)
	// AskRefund is Ask for a refund; ecommerce says where it was applied for.
	AskRefund(key storage.RefundKey, ecommerce bool) (known bool, err error)
	// Charge is Ask for a parking charge, and returns the body of the verified
	// answer.
	Charge(key storage.OrderKey) (body []byte, known bool, err error)
	// Detach returns a Core for what goes on after the request was answered, until
	// end is called or a call's time has passed. A host of WeChat Pay's has attempt
	// to answer a call of its V3.
	Detach(attempt time.Duration) (detached Core, end func())
	// Bill fetches a bill; it is handed out when it is whole and the one that WeChat
	// Pay signed the digest of. It ends when the caller goes away, and has longer
	// than the request's deadlines. Errors: as of [bill.Client.Fetch].
	Bill(request bill.Request) (*bill.File, error)
	// Register takes in what the request's body says of an order that is, or will
	// be, made elsewhere; created is true when the ledger did not have it. A
	// refusal has a Status.
	Register(number string) (order storage.Order, created bool, refused Response)
	// Lock lets one request at a time go on with a name, of this process. It fails
	// when the caller goes away or the deadline passes first.
	Lock(name string) (unlock func(), err error)
	// Live ends when the caller goes away or the deadline passes; Context when the
	// deadline passes.
	Live() context.Context
	Context() context.Context
}

// Call is one operation of WeChat Pay's.
type Call struct {
	Method string
	Path   string // escaped
	Query  string // raw
	// ContentType of the body; "" stands for JSON.
	ContentType string
	Body        []byte
}

// Answer is what came of a [Call].
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Succeeded reports whether the operation was carried out, as far as its answer
// says. 202 is taken and not yet done.
func (a Answer) Succeeded() bool {
	return a.Status >= 200 && a.Status < 300 && a.Status != http.StatusAccepted && a.Header.Get(headerOutcome) == ""
}

// Response makes the answer to the caller of it, byte for byte.
func (a Answer) Response() Response {
	return Response{Status: a.Status, Header: a.Header, Body: a.Body}
}
