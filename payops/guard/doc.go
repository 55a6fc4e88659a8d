// Package guard is WeChat Pay's rules about money as one table: [Table]. A rule
// is a pure function of what is about to be sent, what the ledger knows, and the
// clock; it passes, refuses, or says that it cannot be checked because nobody
// knows enough. Nothing here reads a store, a clock or a network.
//
// What decides about a refund runs inside the ledger's own atomic change, on the
// rows that the change writes: any number of refunds at once see each other.
package guard
