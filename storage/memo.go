package storage

import "time"

// The bounds of memos, and of what one change may carry beside its rows.
const (
	// MaxMemo bounds, in bytes, the data of one memo.
	MaxMemo = 1 << 20
	// MaxMemoKey bounds, in bytes, the key of one memo.
	MaxMemoKey = 512
	// MaxChangeMemos bounds how many memos one change may name.
	MaxChangeMemos = 16
	// MaxChangeWork bounds how much work one change may schedule.
	MaxChangeWork = 16
)

// Memo is a small thing to remember for a while beside the ledger, changed in
// the same atomic step as its rows: what a caller has refunded today, the answer
// that was given under an Idempotency-Key, what a transfer's number was used
// for.
type Memo struct {
	// Key names it: a kind, a slash, and what it is about ("refunds/1900000001/erp/2026-11-22").
	// At most [MaxMemoKey]; personal data appears in it as a digest only.
	Key string `json:"key"`
	// Data belongs to who wrote it. At most [MaxMemo].
	Data []byte `json:"data"`
	// Expires is when it is as good as absent, by the store's clock; the sweeper
	// removes it some time later. It must be set.
	Expires time.Time `json:"expires"`
}
