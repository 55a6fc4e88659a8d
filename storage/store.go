package storage

import (
	"context"
	"time"
)

// MaxPayload bounds, in bytes, the payload of one piece of work.
const MaxPayload = 64 << 10

// Work is something to be done later: a query, a reconciliation run.
type Work struct {
	// ID is unique within Kind; scheduling it again replaces it.
	ID       string
	Kind     string
	Merchant string
	Due      time.Time
	// Attempt counts the claims that ended with another due time.
	Attempt int
	// Payload belongs to who scheduled it, at most [MaxPayload].
	Payload []byte
}

// ClaimedWork is work and the right to do it until LeaseUntil.
type ClaimedWork struct {
	Work
	Fence      uint64
	LeaseUntil time.Time
}

// Agenda keeps work that is due later, across restarts and gateways. All
// methods are safe for concurrent use; the durability rule of [Inbox] holds.
type Agenda interface {
	// ScheduleWork stores work, replacing work of the same kind and id that
	// nobody holds. Held work keeps its lease and its count of attempts; the new
	// due time and payload hold when it is finished with another due time or
	// when its lease runs out, and are gone when it is finished for good.
	// Errors: ErrTooLarge, ErrDiskFloor.
	ScheduleWork(ctx context.Context, w Work) error
	// ClaimWork leases due work of the kind, earliest first.
	ClaimWork(ctx context.Context, kind string, terms ClaimTerms, limit int) ([]ClaimedWork, error)
	// FinishWork ends a claim: next zero removes the work, else it is due again
	// at next. Errors: ErrStale, ErrNotFound.
	FinishWork(ctx context.Context, kind, id string, fence uint64, next time.Time) error
}

// AuditEntry is one line of the append-only log of decisions about money.
type AuditEntry struct {
	Seq    uint64    `json:"seq"` // grows by one per entry; set by the store
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Act    string    `json:"act"`
	Object string    `json:"object"` // id of what was decided about
	Reason string    `json:"reason"`
}

// Audit keeps decisions for ever. All methods are safe for concurrent use.
type Audit interface {
	// AppendAudit adds an entry (its Seq is ignored), durably.
	AppendAudit(ctx context.Context, e AuditEntry) error
	// AuditLog lists entries with Seq above after, oldest first, at most limit.
	AuditLog(ctx context.Context, after uint64, limit int) ([]AuditEntry, error)
}

// Retention says how long finished records are kept, in time since they were
// received or created. Business keys and final states stay for ever.
type Retention struct {
	Orders time.Duration // finished orders, refunds and calls; at least 366 days
	Bodies time.Duration // Body, Raw and Answer of finished notifications
}

// Swept counts what a sweep removed.
type Swept struct {
	Bodies int
	Orders int
	Memos  int // expired
	// More is true when the bound was reached and another sweep would find more.
	More bool
}

// Store is everything the gateway remembers.
type Store interface {
	Inbox
	Ledger
	Agenda
	Audit

	// LoadCertificates and SaveCertificates keep each merchant's last good set
	// of platform certificates (public data), opaque to the store. Loading what
	// was never saved returns nil and no error.
	LoadCertificates(ctx context.Context, merchant string) ([]byte, error)
	SaveCertificates(ctx context.Context, merchant string, data []byte) error

	// Sweep removes what retention no longer keeps, a bounded number of records
	// at a time, and memos that have expired. Pending, parked and dead notifications, and orders that are not
	// final, are never swept.
	Sweep(ctx context.Context, keep Retention) (Swept, error)

	// Healthy returns nil when the store takes writes, or why it does not
	// (ErrDiskFloor, ErrClosed, a failed sync).
	Healthy(ctx context.Context) error

	// Close ends the store: writes under way are finished first, and later calls
	// return ErrClosed. Closing twice is no error.
	Close() error
}
