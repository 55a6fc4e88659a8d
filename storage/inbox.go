package storage

import (
	"context"
	"time"
)

// Accepted says what Accept found under the business key.
type Accepted int

// The findings of Accept.
const (
	// AcceptedFresh: the key was free; the notification is stored and pending.
	AcceptedFresh Accepted = iota + 1
	// AcceptedDuplicate: the key was taken; nothing was stored. The Acceptance
	// tells where the first one stands.
	AcceptedDuplicate
)

// AcceptRequest asks to take in a notification.
type AcceptRequest struct {
	Notification Notification

	// Claim, when its Owner is set, asks for the delivery claim in the same step
	// (delivery mode: the request that brought the callback delivers it). It is
	// given for a fresh notification, and for a duplicate that is pending (due
	// or not) or dead and that nobody holds, provided that no earlier
	// notification of its group is waiting. A dead one goes to the end of its
	// group's queue with this: it is claimed only when nobody else waits there,
	// is pending from then on, and keeps its count of attempts.
	Claim ClaimTerms
}

// ClaimTerms says for whom and for how long a claim is wanted.
type ClaimTerms struct {
	// Owner names the claiming worker pool: one per process and configuration
	// generation. Empty: no claim is wanted.
	Owner string
	// Lease is how long the claim protects the notification from other owners.
	// It must exceed the delivery timeout.
	Lease time.Duration
}

// Acceptance is Accept's answer.
type Acceptance struct {
	Outcome Accepted
	// State, Attempts and Answer are those of the record under the key.
	State    State
	Attempts int
	Answer   []byte
	// Claim is the claim, if one was asked for and given; nil otherwise.
	Claim *Claim
	// Leased is true when somebody else is delivering the notification now.
	Leased bool
	// Behind is true when an earlier notification of the same group waits.
	Behind bool
	// IDConflict is true when WeChat's notification id was seen before under
	// another business key. Both are kept; the caller raises the alarm.
	IDConflict bool
	// Superseded lists the parked notifications that this one replaces.
	Superseded []string
}

// Claim is the right to deliver one notification until LeaseUntil.
type Claim struct {
	// Record is the notification as it stood when it was claimed.
	Record Record
	// Fence grows with every claim of the same notification; only the newest
	// fence may complete it.
	Fence uint64
	// Owner is who holds it.
	Owner string
	// LeaseUntil is when others may take over, by the store's clock.
	LeaseUntil time.Time
	// Replay is true when an operator asked for this delivery.
	Replay bool
}

// Completion is what became of one attempt.
type Completion struct {
	// State is where the notification stands now: StateDelivered, StatePending
	// (try again at NextDue), StateDead or StateParked.
	State   State
	NextDue time.Time
	// ParkReason and ParkDetail are set with StateParked.
	ParkReason ParkReason
	ParkDetail string
	// Status is the backend's HTTP status, 0 when there was none.
	Status int
	// Error is the class of the failure, from a closed set; empty on success.
	Error string
	// Answer is kept for duplicates in delivery mode; nil otherwise.
	Answer []byte
}

// Act is a decision about a notification.
type Act string

// The acts of an operator, or of the gateway itself (By "gateway") when the
// ledger has come to agree with a parked notification.
const (
	ActRelease Act = "release" // parked → pending
	ActDismiss Act = "dismiss" // parked, dead or pending and not leased → dismissed
	ActReplay  Act = "replay"  // delivered, dead or parked for want of a route → pending, Source replay
)

// Decision is an act, who did it and why.
type Decision struct {
	ID     string // of the notification, or of a parked one
	Act    Act
	By     string
	Reason string
	At     time.Time
	// AmountCheck is what a released notification carries from then on:
	// AmountOverridden when an operator overrules, AmountMatched when the
	// ledger agrees now. Ignored for other acts.
	AmountCheck AmountCheck
}

// Filter selects notifications for listing. Zero fields do not filter.
type Filter struct {
	Merchant   string
	State      State
	Kind       string
	OutTradeNo string
	// After continues a listing: the Cursor of the last page.
	After string
	// Limit is at most 1000; zero means 100.
	Limit int
}

// Page is a part of a listing, newest first, without bodies.
type Page struct {
	Records []Record
	// Cursor continues the listing; empty when it is complete.
	Cursor string
}

// Inbox keeps verified notifications from acceptance to delivery.
//
// All methods are safe for concurrent use. Every method that returns a nil
// error after a write has made it durable (survives power loss); after an error
// other than those documented the outcome is unknown and the caller must not
// report success.
type Inbox interface {
	// Accept stores the notification unless its business key is taken, in one
	// atomic, durable step: of any number of concurrent Accepts with one key,
	// exactly one gets AcceptedFresh, and the others see its record. Parked
	// notifications with the same key are superseded in the same step.
	// Errors: ErrDiskFloor, ErrClosed, ErrTooLarge, ErrCorrupt.
	Accept(ctx context.Context, req AcceptRequest) (Acceptance, error)

	// Park stores a notification that must not be delivered now, without taking
	// its business key. Parking the same key with the same resource again
	// stores nothing new. It returns the id under which it is parked, and
	// whether it is new. A record of it carries that id as its ID; its id under
	// the business key is given when it is released. What was dismissed or
	// superseded is not parked again. Errors as Accept.
	Park(ctx context.Context, n Notification, reason ParkReason, detail string) (id string, fresh bool, err error)

	// ParkedFor lists the notifications parked before acceptance that speak of
	// the order (Notification.Orders), whole, oldest first, at most 100.
	ParkedFor(ctx context.Context, key OrderKey) ([]Record, error)

	// Claim leases up to limit notifications of the queue that are due, oldest due
	// first, never two of one group at a time, and never one whose group has an
	// earlier notification waiting. An expired lease is claimable again. An
	// empty result is not an error.
	Claim(ctx context.Context, queue string, terms ClaimTerms, limit int) ([]Claim, error)

	// Complete records what became of the claimed attempt, counts it, ends the
	// lease and lets the next notification of the group through (unless State
	// is StatePending). A lease that ran out does not matter while nobody else
	// claimed. Errors: ErrStale, ErrNotFound, ErrDiskFloor, and ErrState when
	// done.State is none of the four.
	Complete(ctx context.Context, id string, fence uint64, done Completion) error

	// Release gives a claim back untouched: not counted, due again at due (zero:
	// at once). Used when a breaker holds the route or the worker stops. The
	// change of due time need not be durable. Errors: ErrStale, ErrNotFound.
	Release(ctx context.Context, id string, fence uint64, due time.Time) error

	// NextDue says when the queue has work next that nobody holds.
	// ok is false when the queue is empty but for held notifications.
	NextDue(ctx context.Context, queue string) (due time.Time, ok bool, err error)

	// Queues lists the queues ([Notification.Queue]) that hold pending notifications.
	Queues(ctx context.Context) ([]string, error)

	// Watch returns a channel that gets a value (without blocking, and possibly
	// more often than needed) when any queue may have got work due now, and a function that
	// ends the watch. A store shared by several gateways signals only what this
	// process did; others are found by polling.
	Watch() (changed <-chan struct{}, stop func())

	// Decide carries out an act and writes its audit entry in one step.
	// Errors: ErrNotFound, ErrState. The returned record is the one that is now
	// pending or dismissed: releasing a notification that was parked before
	// acceptance accepts it under its business key (ErrState when the key is
	// taken; the parked one is then superseded). What becomes pending goes to
	// the end of its group's queue, due at once, its attempts counted anew. A
	// notification whose body retention has removed cannot be replayed
	// (ErrState).
	Decide(ctx context.Context, d Decision) (Record, error)

	// Notification returns one record whole, by its id or by the id it is
	// parked under. Errors: ErrNotFound, ErrCorrupt.
	Notification(ctx context.Context, id string) (Record, error)

	// Notifications lists records, newest first by ReceivedAt, without bodies. A
	// page may be shorter than the limit, even empty, and still have a cursor.
	// Errors: ErrCursor, ErrCorrupt.
	Notifications(ctx context.Context, f Filter) (Page, error)

	// Stats counts what an operator watches. It must not cost more than a few
	// milliseconds however much is stored.
	Stats(ctx context.Context) (Stats, error)
}

// Stats is what an operator watches.
type Stats struct {
	Pending int64 // accepted, not delivered
	Leased  int64 // of those, being delivered now
	Parked  int64
	Dead    int64
	// OldestPending is when the oldest undelivered notification was received;
	// zero when there is none. Stores may be late by a few seconds.
	OldestPending time.Time
}
