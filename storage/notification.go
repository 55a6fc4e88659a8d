package storage

import "time"

// Source says how the gateway learned of an event.
type Source string

// The sources of an event.
const (
	SourceCallback Source = "callback" // WeChat sent it
	SourceQuery    Source = "query"    // the gateway asked
	SourceReplay   Source = "replay"   // an operator had it sent again
)

// AmountCheck says how an event compared with the ledger when it was taken in.
type AmountCheck string

// The outcomes of the ledger check that let an event through.
const (
	AmountMatched    AmountCheck = "matched"    // agrees with the ledger's order
	AmountUnknown    AmountCheck = "unknown"    // the ledger does not know the order, or the kind is not checked
	AmountOff        AmountCheck = "off"        // the check is switched off
	AmountOverridden AmountCheck = "overridden" // an operator released it although it contradicts
)

// State is where a notification stands.
type State string

// The states of a notification. Pending, Delivered, Dead, Parked (by a route)
// and Dismissed occupy the business key; a notification that was parked before
// it was accepted does not.
const (
	// StatePending: accepted, not yet delivered. It may be leased.
	StatePending State = "pending"
	// StateDelivered: the backend's success is recorded. Final, unless replayed.
	StateDelivered State = "delivered"
	// StateDead: every attempt of the schedule failed. Visible and replayable.
	StateDead State = "dead"
	// StateParked: held for an operator or for the ledger, see ParkReason.
	StateParked State = "parked"
	// StateDismissed: an operator decided that it is not to be delivered. Final.
	StateDismissed State = "dismissed"
	// StateSuperseded: was parked; another callback with its business key, or its
	// own release, took its place. Final.
	StateSuperseded State = "superseded"
)

// ParkReason says why a notification is parked.
type ParkReason string

// The reasons for parking.
const (
	ParkContradiction ParkReason = "contradiction" // a field contradicts the ledger
	ParkUnknownOrder  ParkReason = "unknown_order" // amount_check strict, and the ledger does not know the order
	ParkTradeState    ParkReason = "trade_state"   // TRANSACTION.SUCCESS whose trade_state is not SUCCESS
	ParkNoRoute       ParkReason = "no_route"      // accepted, but no delivery route takes it
)

// Header is one HTTP header field of a callback, spelled as WeChat documents it.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Notification is one verified event: immutable from the moment it is accepted.
type Notification struct {
	// ID is derived from Key alone and is what the backend sees as Webhook-Id:
	// the same for every attempt, replay and query of one event. At most 64 bytes.
	ID string
	// Key is the business key: what makes this event this event (kind, mchid,
	// ids, event_type and state). Canonical text, at most 512 bytes.
	Key string
	// Merchant is the name of the merchant block whose keys verified and
	// decrypted it.
	Merchant string
	// Route is the id of the wechatpay_notify route that took the notification
	// in, and that delivers it.
	Route string
	// Group names the order the event belongs to: deliveries of one group go one
	// at a time, in order of arrival. Empty: the event is a group of its own.
	Group string

	Mchid    string
	SubMchid string
	Appid    string

	// NotificationID is the id WeChat gave the notification: secondary evidence,
	// never the dedupe key. Empty for events that a query found.
	NotificationID string
	EventType      string // such as TRANSACTION.SUCCESS
	Kind           string // payment, combine, refund …
	OutTradeNo     string // out_trade_no or combine_out_trade_no
	OutRefundNo    string
	TransactionID  string
	ParkingID      string
	TradeScene     string

	// Orders are the ledger orders that the event speaks of (a combine payment:
	// the combine order). A parked notification is looked at again when one of
	// them changes.
	Orders []OrderKey

	// Money is true for events that say that money moved: their retry schedule
	// goes on for days after its last step.
	Money bool

	Source      Source
	AmountCheck AmountCheck
	ReceivedAt  time.Time
	Host        string // of the original request
	Path        string // of the original request, never with a query

	// Body is the notification with its resource replaced by the decrypted
	// object, whose bytes are WeChat's own: Body[ResourceStart:ResourceEnd].
	Body          []byte
	ResourceStart int
	ResourceEnd   int

	// Raw and RawHeaders are the original bytes and WeChat's signature headers,
	// kept only for routes that deliver raw. Nil otherwise.
	Raw        []byte
	RawHeaders []Header
}

// Queue names the delivery queue the notification waits in: its route's, since
// what one route delivers shares a backend, and its breaker; the merchant's when
// it came by no route.
func (n *Notification) Queue() string {
	if n.Route != "" {
		return n.Route
	}
	return n.Merchant
}

// Resource returns the decrypted resource, byte for byte as WeChat encrypted it.
func (n *Notification) Resource() []byte { return n.Body[n.ResourceStart:n.ResourceEnd:n.ResourceEnd] }

// Record is a notification and what became of it.
type Record struct {
	Notification

	State      State
	ParkReason ParkReason // set when State is StateParked
	ParkDetail string     // which field contradicts; never a value that is personal data

	// Attempts counts the attempts that failed or succeeded; attempts that a
	// breaker held are not counted.
	Attempts int
	// NextDue is when a pending notification is to be tried next.
	NextDue time.Time
	// LastError is the class of the last failure, from a closed set of words.
	LastError string
	// LastStatus is the backend's last HTTP status, 0 when there was none.
	LastStatus int
	// DeliveredAt is when success was recorded; zero before.
	DeliveredAt time.Time
	// Answer is the JSON body that the backend gave in delivery mode, for
	// WeChat and its duplicates. Nil when it gave none.
	Answer []byte
	// Seen counts how often WeChat sent it (1 for the first). Stores may count
	// repeats in memory only.
	Seen int
	// BodyExpired is true when retention has removed Body, Raw and Answer.
	BodyExpired bool
}
