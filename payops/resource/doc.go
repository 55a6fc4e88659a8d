// Package resource is the /gateway/… half of the payment API: what a plain
// backend wants without knowing WeChat Pay. A checkout is one request and gives
// what the frontend needs; orders and refunds are looked up, closed and refunded
// by their own numbers.
//
// # A tour
//
//   - [Resources] serves requests by [Table]: adding a resource is one line there
//     and its description in openapi.json, which a test holds against the table
//     and the structs.
//   - [Core] is what a resource stands on: the payment API as the authenticated
//     caller sees it. Whatever reaches WeChat Pay goes through Core.V3, which is
//     WeChat Pay's own operation with every check of its own path: what the caller
//     is allowed, its limits, the rules that protect money, the ledger, the
//     signature and its verification. Nothing here moves money by another way.
//   - Answers are JSON. Refusals have WeChat Pay's shape and name their rule in
//     Wechatpay-Gateway-Refused; what WeChat Pay refuses comes back as it said it.
//   - A body holds what its struct names and nothing else: a misspelled member is
//     refused by name instead of being left out of a payment.
//   - With an Idempotency-Key a request is carried out once. The numbers it uses
//     are written down before anything is sent, and its answer after: a repeat
//     gets the answer, or goes on with the same numbers where it broke off.
package resource
