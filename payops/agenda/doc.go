// Package agenda does the work that a store's agenda holds when it is due:
// queries that nobody waits for, closes that had to wait.
//
// A [Runner] claims due work by kind, runs its handler with a bounded number at
// a time, and finishes it: for good, or until the next time that the handler
// names. Claims are leases, so several runners, of one process or of several
// gateways, share an agenda without doing the same work at once; a handler must
// still bear that its work is done twice, when a process dies between the act and
// its record. A handler that panics or fails is tried again later. Polling is
// jittered, so that gateways do not ask in step.
package agenda
