// Package deliver hands accepted notifications (回调通知) to the backend.
//
// A [Dispatcher] watches the delivery queues of a store, one queue per route: what one
// route delivers shares a backend. It claims what is due, sends it through the route's
// [notify.Deliverer], judges the answer, and records what became of it:
//
//	Claim ─▶ breaker ─▶ request ─▶ Deliver ─▶ judge ─▶ Complete
//	             │held                          │failed: due again, dead or parked
//	             └─▶ Release (nothing is burned)
//
// The promises, and where they live:
//
//   - At least once, with a stable Webhook-Id; no new send starts after a success
//     was recorded (the store's claims and fences, complete.go).
//   - Only what this package built reaches the backend (request.go), signed as
//     Standard Webhooks wants it (sign.go).
//   - Success is a 2xx with a complete answer that does not say otherwise
//     (judge.go).
//   - Every notification follows its own retry schedule (schedule.go), except
//     while the backend is down for everybody: then the queue's breaker holds
//     the queue and nothing burns an attempt (breaker.go).
//   - One notification of an order at a time, in order of arrival (the store's
//     Claim).
//
// Timers and the breaker run on package time, so that a testing/synctest bubble
// moves all of it; due times are computed with [Config].Now.
package deliver
