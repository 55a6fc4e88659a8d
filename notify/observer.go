package notify

import (
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Outcome classes what WeChat was told, from a closed set (a metric label).
type Outcome string

// The outcomes of a callback.
const (
	OutcomeCommitted     Outcome = "committed"    // 200, fresh, ack commit
	OutcomeDelivered     Outcome = "delivered"    // 200, fresh, ack delivery
	OutcomeDuplicate     Outcome = "duplicate"    // 200, seen before
	OutcomeMethod        Outcome = "method"       // 405
	OutcomeNoMerchant    Outcome = "no_merchant"  // 404
	OutcomeHeaders       Outcome = "headers"      // 401, a signature header is missing or odd
	OutcomeTimestamp     Outcome = "timestamp"    // 401, 300 s or more off
	OutcomeSerial        Outcome = "serial"       // 401, unknown or expired serial
	OutcomeSignature     Outcome = "signature"    // 401, does not verify
	OutcomeProbe         Outcome = "probe"        // 401, WECHATPAY/SIGNTEST/ (签名探测流量)
	OutcomeXML           Outcome = "v2_xml"       // 401, an APIv2 XML callback
	OutcomeTooLarge      Outcome = "too_large"    // 413
	OutcomeDecrypt       Outcome = "decrypt"      // 400
	OutcomeMalformed     Outcome = "malformed"    // 400
	OutcomeParked        Outcome = "parked"       // 409
	OutcomeUnavailable   Outcome = "unavailable"  // 503
	OutcomeUndelivered   Outcome = "undelivered"  // 500, ack delivery
	OutcomeInternalError Outcome = "internal"     // 500, recovered panic
	OutcomeDisconnected  Outcome = "disconnected" // the sender went away while sending its body
)

// Result classes one delivery attempt, from a closed set (a metric label).
type Result string

// The results of an attempt.
const (
	ResultSuccess     Result = "success"
	ResultStatus      Result = "status"      // a status that is not 2xx
	ResultRefused     Result = "refused"     // 2xx whose body says otherwise
	ResultTimeout     Result = "timeout"     // no complete answer in time
	ResultNotSent     Result = "not_sent"    // no connection: nothing was sent
	ResultUnreachable Result = "unreachable" // no answer at all
	ResultIncomplete  Result = "incomplete"  // the answer broke off
	ResultNoRoute     Result = "no_route"
	ResultPanic       Result = "panic"
	ResultStale       Result = "stale" // somebody else took the claim over meanwhile
)

// Change says that a notification came to a state worth an event or an alarm.
type Change struct {
	Merchant string
	ID       string
	Kind     string
	// EventType is WeChat's; it comes from a verified notification.
	EventType string
	State     storage.State
	Reason    string // park reason or error class, closed set
	Attempt   int
}

// Observer hears what happens. Methods are called from many goroutines, must
// not block, and get no secret and no personal data.
type Observer interface {
	// CallbackAnswered: WeChat was told something. kind is empty before
	// classification, and merchant before the merchant is known.
	CallbackAnswered(merchant, kind string, o Outcome, status int, took time.Duration)
	// DeliveryAttempted: one attempt ended.
	DeliveryAttempted(merchant, kind string, r Result, took time.Duration)
	// Changed: accepted, delivered, dead, parked.
	Changed(c Change)
	// IDConflict: one notification id came with two business keys.
	IDConflict(merchant, kind string)
	// AppidUnlisted: an unknown order's appid is not among the merchant's apps.
	AppidUnlisted(merchant, kind string)
	// BreakerChanged: a queue's deliveries are held (open) or go on. The queue is
	// named by its route.
	BreakerChanged(queue string, open bool)
}

// NopObserver hears nothing. The zero value is ready.
type NopObserver struct{}

// CallbackAnswered does nothing.
func (NopObserver) CallbackAnswered(string, string, Outcome, int, time.Duration) {}

// DeliveryAttempted does nothing.
func (NopObserver) DeliveryAttempted(string, string, Result, time.Duration) {}

// Changed does nothing.
func (NopObserver) Changed(Change) {}

// IDConflict does nothing.
func (NopObserver) IDConflict(string, string) {}

// AppidUnlisted does nothing.
func (NopObserver) AppidUnlisted(string, string) {}

// BreakerChanged does nothing.
func (NopObserver) BreakerChanged(string, bool) {}

var _ Observer = NopObserver{}
