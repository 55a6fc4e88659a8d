package payops

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Rule names why the gateway itself refused: the value of
// Wechatpay-Gateway-Refused. The set is closed, fit for a metric's label: these,
// the names in guard.Table, those of guard.Limit, and those of the resources.
type Rule string

// The rules.
const (
	RuleUnknownCaller  Rule = "unknown_caller"      // 401
	RuleCallerMchid    Rule = "caller_mchid"        // 401: signed for another merchant
	RuleCallerTime     Rule = "caller_timestamp"    // 401: more than 300 s off
	RuleNotAllowed     Rule = "not_allowed"         // 403: the caller lacks the group
	RulePath           Rule = "path"                // 400, 404
	RuleMethod         Rule = "method"              // 405
	RuleBody           Rule = "body"                // 400: not the JSON object that is wanted
	RuleDuplicateKey   Rule = "duplicate_key"       // 400: a JSON object says something twice
	RuleContentType    Rule = "content_type"        // 400
	RuleTooLarge       Rule = "too_large"           // 413; 502: a file over the limit
	RuleHeader         Rule = "header"              // 400: a header that cannot go on
	RuleSensitive      Rule = "sensitive_fields"    // 400: fields that cannot be encrypted as asked
	RuleMultipart      Rule = "multipart"           // 400: an upload without exactly one meta part
	RuleNumber         Rule = "number"              // 400: characters or length of a merchant number
	RuleAmount         Rule = "amount"              // 400: integral, at least 1 fen, one currency
	RuleSubOrders      Rule = "sub_orders"          // 400: the list of a combine order
	RuleMchid          Rule = "mchid"               // 409: not the merchant's; 400: no sub-merchant's number
	RuleContent        Rule = "number_content"      // 409: one number, one content
	RuleNumberTaken    Rule = "number_taken"        // 409: the number belongs to another order
	RuleCloseList      Rule = "close_list"          // 409: not the sub-orders of the order
	RuleCombineOnly    Rule = "combine_only"        // 409: a sub-order is closed by its combine order
	RuleRefundOrder    Rule = "refund_order"        // 409: the names of a refund's payment are at odds
	RuleNotAbnormal    Rule = "refund_not_abnormal" // 409: only an ABNORMAL refund is sent another way
	RuleImmutable      Rule = "immutable"           // 409: the order is not changed any more
	RuleParkingInfo    Rule = "parking_info"        // 409: a charge's parking_info is not its entry's
	RuleParkingCharged Rule = "parking_charged"     // 409: a parking_id has one charge
	RuleBusy           Rule = "busy"                // 429: another call for the number is running
	RuleNotReady       Rule = "merchant_not_ready"  // 503
	RuleStore          Rule = "store_unavailable"   // 503
	RuleUnreachable    Rule = "unreachable"         // 502, 504: nothing was sent
	RuleOrderNotFound  Rule = "order_not_found"     // 404
	RuleInternal       Rule = "internal"            // 500
)

// ruleNone stands for an answer that is no refusal: an unknown outcome.
const ruleNone Rule = ""

// What the gateway says of its own beside WeChat Pay's answer.
const (
	headerRefused   = "Wechatpay-Gateway-Refused"
	headerOutcome   = "Wechatpay-Gateway-Outcome"
	headerWarning   = "Wechatpay-Gateway-Warning"
	headerUnchecked = "Wechatpay-Gateway-Rule-Unchecked"

	warningForeign = "foreign_notify_url" // callbacks of the order go elsewhere
	warningLedger  = "ledger_not_updated" // the outcome row could not be written
	outcomeUnknown = "unknown"

	unknownMessage = "结果未知：请用原单号查询或以原参数重试，切勿更换单号。Outcome unknown: query, or retry with the same number, never a new one."
)

// WeChat Pay's error codes, as far as the gateway says them itself.

const (
	codeParam      = "PARAM_ERROR"
	codeSign       = "SIGN_ERROR"
	codeNoAuth     = "NO_AUTH"
	codeInvalid    = "INVALID_REQUEST"
	codeNumberUsed = "OUT_TRADE_NO_USED"
	codeSystem     = "SYSTEM_ERROR"
	codeNotFound   = "RESOURCE_NOT_EXISTS"
	codeRate       = "RATELIMIT_EXCEEDED"
)

const (
	jsonContentType    = "application/json; charset=utf-8"
	retryAfterNotReady = 5 * time.Second
	retryAfterBusy     = 1 * time.Second
)

// refusal is an answer of the gateway's own, and an error on its way there. Its
// message never holds a value that a caller sent.
type refusal struct {
	status     int
	code       string
	rule       Rule
	message    string
	retryAfter time.Duration
	// unknown: the call may have been carried out.
	unknown bool
}

func (r *refusal) Error() string { return "payops: refused: " + string(r.rule) }

func refuse(status int, code string, rule Rule, message string) *refusal {
	return &refusal{status: status, code: code, rule: rule, message: message}
}

func badRequest(rule Rule, message string) *refusal {
	return refuse(http.StatusBadRequest, codeParam, rule, message)
}

func conflict(rule Rule, message string) *refusal {
	return refuse(http.StatusConflict, codeInvalid, rule, message)
}

func storeDown() *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, code: codeSystem, rule: RuleStore, retryAfter: retryAfterNotReady,
		message: "the gateway's store takes no writes now; nothing was sent",
	}
}

// write answers with the refusal, in the shape of WeChat Pay's errors.
func (r *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", jsonContentType)
	h.Set("Cache-Control", "no-store")
	if r.rule != ruleNone {
		h.Set(headerRefused, string(r.rule))
	}
	if r.unknown {
		h.Set(headerOutcome, outcomeUnknown)
	}
	if r.status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{"Bearer", "WECHATPAY2-SHA256-RSA2048"}
	}
	if r.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(r.retryAfter/time.Second)))
	}
	body, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{r.code, r.message})
	if err != nil { // two strings always marshal
		body = []byte(`{"code":"SYSTEM_ERROR","message":""}`)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // the caller is gone when this fails
}
