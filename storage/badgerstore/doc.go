// Package badgerstore is the embedded [storage.Store]: one directory, one
// process, nothing else to run.
//
// Who writes: one committer. Callers hand it operations; it runs them one after
// the other against an overlay, so each sees what those before it wrote, and
// commits many of them as one Badger transaction, which costs one msync. While a
// batch is being synced the next one is assembled. There is one writer, so there
// are no conflicts to retry, and a precondition checked in an operation still
// holds when it is committed.
//
// What a nil error means: the transaction was synced to the device. After a
// failed commit the store takes no writes until it is opened again, because a
// later success would prove nothing about what the failed sync left behind.
//
// What lives in memory: leases and fences (the process that holds the directory
// lock owns them all; opening the store ends those of its dead owner), the
// earliest due entries of every queue, and counters. Everything else is read from
// Badger when it is needed, so memory does not grow with what is stored.
//
// What is checked: every record carries its version, its length and a CRC-32C
// over its key and payload. A record that does not hold is [storage.ErrCorrupt],
// never absent. Badger truncates a write-ahead log silently at the first damaged
// entry. A small file beside the store (COMMITS) keeps the number of the last
// commit, and every commit leaves its number in the store, so that Open notices
// what is missing at the end or in between, and refuses.
package badgerstore
