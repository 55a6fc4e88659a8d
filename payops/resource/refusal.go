package resource

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Rules that the resources refuse by: values of Wechatpay-Gateway-Refused. Those
// of the operations behind them come on top.
const (
	RulePath            = "path"               // 400, 404
	RuleMethod          = "method"             // 405
	RuleBody            = "body"               // 400
	RuleDuplicateKey    = "duplicate_key"      // 400
	RuleContentType     = "content_type"       // 400
	RuleNumber          = "number"             // 400
	RuleAmount          = "amount"             // 400
	RuleSubOrders       = "sub_orders"         // 400
	RuleMchid           = "mchid"              // 400
	RuleNotAllowed      = "not_allowed"        // 403
	RuleOrderNotFound   = "order_not_found"    // 404
	RuleRefundNotFound  = "refund_not_found"   // 404
	RuleIdempotencyKey  = "idempotency_key"    // 400: not a key; 409: used for another request
	RuleReplacedPaid    = "replaced_paid"      // 409: the order to be replaced is paid
	RuleReplaced        = "replaced"           // 409: the order to be replaced was replaced by another one
	RuleClosePaid       = "close_paid"         // 409: the order to be closed is paid
	RuleCloseTooEarly   = "close_too_early"    // 409: the order to be replaced is too young to be closed
	RuleCombineOnly     = "combine_only"       // 409: a sub-order is closed by its combine order
	RuleQRAbsent        = "qr_absent"          // 404: the order has no code_url
	RuleQRGone          = "qr_gone"            // 410: the code_url opens nothing any more
	RuleAppid           = "appid"              // 400
	RulePrepayID        = "prepay_id"          // 400
	RuleCiphertext      = "ciphertext"         // 400
	RuleFilename        = "filename"           // 400
	RulePlate           = "plate"              // 400: no plate, or a colour that no plate has
	RuleParkingOpen     = "parking_open"       // 409: the plate has an open entry
	RuleParkingNotFound = "parking_not_found"  // 404
	RuleParkingUnknown  = "parking_unknown"    // 409: nobody knows whether WeChat Pay has the entry
	RuleNumberContent   = "number_content"     // 409: one number, one content
	RuleNotReady        = "merchant_not_ready" // 503
	RuleBusy            = "busy"               // 429
	RuleStore           = "store_unavailable"  // 503
	RuleUnreachable     = "unreachable"        // 502: no verified answer, and nothing was changed
	RuleInternal        = "internal"           // 500
)

// WeChat Pay's error codes, as far as the resources say them themselves.
const (
	codeParam     = "PARAM_ERROR"
	codeNoAuth    = "NO_AUTH"
	codeInvalid   = "INVALID_REQUEST"
	codeOrderPaid = "ORDERPAID"
	codeNotFound  = "RESOURCE_NOT_EXISTS"
	codeSystem    = "SYSTEM_ERROR"
	codeRate      = "RATELIMIT_EXCEEDED"
)

const (
	headerRefused = "Wechatpay-Gateway-Refused"
	headerOutcome = "Wechatpay-Gateway-Outcome"
	headerWarning = "Wechatpay-Gateway-Warning"
	headerReplay  = "Idempotency-Replayed"
	headerKey     = "Idempotency-Key"

	warningLedger = "ledger_not_updated"

	contentJSON = "application/json; charset=utf-8"
)

// Response is an answer to the caller.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	// Stream is sent in place of Body; nil for none.
	Stream *Stream
	// Rule is set when the resource itself refuses, "" for everything else.
	Rule string
	// Open: the same request may come to another end, and is not answered from what
	// is recorded under its Idempotency-Key.
	Open bool
}

// Refused reports whether the response is a refusal of the resource's own.
func (r Response) Refused() bool { return r.Rule != "" }

// problem is WeChat Pay's shape of an error.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

// refuse makes a refusal. Its message never holds a value of the caller's but the
// name of a member.
func refuse(status int, code, rule, message string) Response {
	return refuseWith(status, code, rule, message, nil)
}

// refuseWith is refuse with a detail, which is shown as JSON.
func refuseWith(status int, code, rule, message string, detail any) Response {
	r := respond(status, problem{code, message, detail})
	r.Rule = rule
	r.Header.Set(headerRefused, rule)
	return r
}

func badRequest(rule, message string) Response {
	return refuse(http.StatusBadRequest, codeParam, rule, message)
}

func conflict(rule, message string) Response {
	return refuse(http.StatusConflict, codeInvalid, rule, message)
}

func notAllowed(group operation.Group) Response {
	return refuse(http.StatusForbidden, codeNoAuth, RuleNotAllowed, "the caller is not allowed "+string(group))
}

func busy() Response {
	return later(refuse(http.StatusTooManyRequests, codeRate, RuleBusy, "another request with the same key or number is running; nothing was sent"), time.Second)
}

func storeDown() Response {
	return later(refuse(http.StatusServiceUnavailable, codeSystem, RuleStore, "the gateway's store does not answer now; nothing was sent"), 5*time.Second)
}

func unreachable(message string) Response {
	return later(refuse(http.StatusBadGateway, codeSystem, RuleUnreachable, message), 5*time.Second)
}

// later says when to try again, in whole seconds, rounded up.
func later(r Response, after time.Duration) Response {
	r.Header.Set("Retry-After", strconv.Itoa(int(max((after+time.Second-1)/time.Second, 1))))
	return r
}

// respond makes an answer of a value that marshals.
func respond(status int, value any) Response {
	// URLs are shown as they are: & and not \u0026.
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if err != nil { // the values are structs of texts and numbers
		status, body = http.StatusInternalServerError, []byte(`{"code":"SYSTEM_ERROR","message":"the answer cannot be shown"}`)
	}
	return Response{
		Status: status, Body: body,
		Header: http.Header{"Content-Type": {contentJSON}, "Cache-Control": {"no-store"}},
	}
}

// groupOf is what a caller needs to make an order of a kind.
func groupOf(kind storage.OrderKind) operation.Group {
	switch kind {
	case storage.OrderBasic:
		return operation.Pay
	case storage.OrderPartner:
		return operation.Partner
	case storage.OrderCombine:
		return operation.Combine
	case storage.OrderParking:
		return operation.Parking
	}
	return operation.Other
}
