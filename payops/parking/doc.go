// Package parking is 支付分停车 as the gateway keeps it: what a car's stay is, which
// charge belongs to it, and when a barrier may open.
//
// Orders are the ledger's; entries are memos beside them, which change in the same
// atomic step.
package parking
