package notify

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// AckMode says what must have happened before WeChat gets its 200.
type AckMode string

// The two modes. The zero value is not a mode.
const (
	AckCommit   AckMode = "commit"   // the durable record alone
	AckDelivery AckMode = "delivery" // the backend's success, recorded
)

// CheckMode says how strictly payments are held against the ledger.
type CheckMode string

// The modes of amount_check.
const (
	CheckKnown  CheckMode = "known"  // orders the ledger knows must agree
	CheckStrict CheckMode = "strict" // and payments of unknown orders are parked
	CheckOff    CheckMode = "off"
)

// PayloadForm says what a delivery's body is.
type PayloadForm string

// The forms of a payload.
const (
	PayloadEnvelope PayloadForm = "envelope" // the notification, resource decrypted in place
	PayloadResource PayloadForm = "resource" // the decrypted resource alone
	PayloadRaw      PayloadForm = "raw"      // WeChat's bytes and signature headers
)

// Route is what one wechatpay_notify handler says about receiving and
// delivering. It is immutable once in use.
type Route struct {
	// ID tells routes of one merchant apart; stable across reloads of an
	// unchanged configuration.
	ID string
	// Merchant is the merchant block it serves; empty: every merchant, named by
	// the last path segment.
	Merchant    string
	Ack         AckMode
	AmountCheck CheckMode
	Payload     PayloadForm
	// Retry holds the waits after the n-th failure.
	Retry []time.Duration
	// Timeout bounds one delivery attempt.
	Timeout time.Duration
	// Sign holds the Standard Webhooks secrets, newest first; several while a
	// secret rolls over. Empty: deliveries are not signed.
	Sign []merchant.Secret
	// MaxBody bounds a callback's body, in bytes.
	MaxBody int64
	// Deliverer reaches the backend.
	Deliverer Deliverer
}

// DefaultRetry is the retry schedule of a route that sets none: WeChat's own
// fifteen waits, preceded by two short ones.
var DefaultRetry = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second,
	3 * time.Minute, 10 * time.Minute, 20 * time.Minute,
	30 * time.Minute, 30 * time.Minute, 30 * time.Minute, time.Hour,
	3 * time.Hour, 3 * time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour,
}

// Defaults of a route, as the Caddyfile documents them.
const (
	DefaultTimeout         = 30 * time.Second // ack commit
	DefaultDeliveryTimeout = 3 * time.Second  // ack delivery: must fit into WeChat's own 5 s
	DefaultMaxBody         = 256 << 10        // bytes
	MinMaxBody             = 1 << 10
	MaxMaxBody             = 1 << 20
)

// Delivery is one attempt, ready to be sent.
type Delivery struct {
	Record *storage.Record
	Host   string // of the original request; may be empty
	Path   string // of the original request
	Header http.Header
	Body   []byte
	// Wanted is how many bytes of the answer's body are worth keeping.
	Wanted int64
}

// Response is what a backend answered.
type Response struct {
	// NoRoute is true when no route took the delivery; nothing was sent.
	NoRoute bool
	Status  int
	// RetryAfter is the Retry-After header as received; empty without one.
	RetryAfter string
	// ContentType of the answer.
	ContentType string
	// Body is the beginning of the answer, at most Delivery.Wanted bytes.
	Body []byte
	// Truncated is true when the answer was longer than Body.
	Truncated bool
}

// ErrNotSent is wrapped by a Deliverer's error when no connection to the backend
// came about: it cannot have seen the request, and will not see others.
var ErrNotSent = errors.New("notify: no connection to the backend")

// Deliverer carries a delivery to a backend. Deliver returns an error when no
// complete answer came (refused, timed out, cut off, panicked): whether the
// backend saw the request is then unknown. It must honour ctx's deadline and be
// safe for concurrent use.
type Deliverer interface {
	Deliver(ctx context.Context, d *Delivery) (Response, error)
}
