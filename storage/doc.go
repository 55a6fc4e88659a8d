// Package storage is what the gateway remembers, and the contract that every
// store keeps.
//
// The contract speaks in WeChat Pay's terms, not in tables or keys:
//
//   - the [Inbox] holds verified notifications, from the moment WeChat is told
//     "SUCCESS" to the moment the backend has said so too;
//   - the [Ledger] holds the orders, refunds and outgoing calls that callbacks
//     are checked against, and each [Memo] that is to change with them;
//   - the [Agenda] holds work that is due later (queries, reconciliation);
//   - the [Audit] log holds who decided what about money, and why.
//
// One rule runs through all of it: when a method that writes returns a nil
// error, what it wrote survives kill -9 and power loss. A caller may tell
// WeChat "SUCCESS" on the strength of that return value alone.
//
// The package imports only the standard library. Implementations live in
// sub-packages (badgerstore); storagetest is the one conformance suite they all
// pass.
package storage
