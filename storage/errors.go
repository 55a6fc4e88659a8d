package storage

import "errors"

var (
	// ErrNotFound is returned when the named record does not exist. Deleting or
	// completing something that is not there is never a silent success.
	ErrNotFound = errors.New("storage: not found")

	// ErrStale is returned by Complete, Release and FinishWork when the claim is
	// no longer the caller's: its lease ran out and somebody else holds a newer
	// fence, or the record has moved on. Nothing was written.
	ErrStale = errors.New("storage: claim is stale")

	// ErrState is returned when the record is not in a state that allows the
	// act, such as releasing a notification that was delivered. Nothing was
	// written.
	ErrState = errors.New("storage: not possible in this state")

	// ErrNumberTaken is returned by Ledger.Change when a sub-order's number
	// belongs to another order already (numbers are unique per mchid and
	// sub_mchid). Nothing was written.
	ErrNumberTaken = errors.New("storage: number belongs to another order")

	// ErrDiskFloor is returned by every method that writes when the volume has
	// less free space than the configured floor. Nothing was written; reading
	// still works, and writing resumes by itself when space is freed.
	ErrDiskFloor = errors.New("storage: free space is below the floor")

	// ErrCursor is returned by Inbox.Notifications when Filter.After is no Cursor
	// of a listing.
	ErrCursor = errors.New("storage: not a cursor of a listing")

	// ErrClosed is returned after Close began.
	ErrClosed = errors.New("storage: closed")

	// ErrCorrupt is returned when a record's own checksum, length or version
	// does not hold. The record is reported, never taken for absent.
	ErrCorrupt = errors.New("storage: record is corrupt")

	// ErrTooLarge is returned when a record exceeds MaxRecord. Nothing was
	// written.
	ErrTooLarge = errors.New("storage: record is too large")
)

// MaxRecord bounds, in bytes, what one notification or one ledger row may take
// in a store. It is above the largest permitted max_body with its plaintext.
const MaxRecord = 4 << 20
