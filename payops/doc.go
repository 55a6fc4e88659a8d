// Package payops is the outgoing half of the gateway: WeChat Pay's own API at
// WeChat Pay's own paths, with the rules that protect money in between.
//
// # A tour
//
//   - [API] is an http.Handler for /v3/… and /gateway/….
//   - resource serves /gateway/…, what a backend wants without knowing WeChat Pay:
//     every step of it that reaches WeChat Pay is one of the operations of /v3/,
//     served to the same caller.
//   - caller.Set knows who may call, and what each may do.
//   - operation knows every operation of APIv3, its group, and what the gateway
//     does for it beyond passing it on: operation.Number says which number makes a
//     repeat of a transfer or a profit sharing harmless, and what it stands for.
//   - guard is WeChat Pay's rules about money as one table, and what callers may
//     refund at most.
//   - upload finds the part of a multipart upload that is signed, sensitive
//     encrypts and decrypts single members of a body.
//   - invoke signs what opens a payment, qrcode draws a code_url, and openid finds
//     out who a user is to an app.
//   - send signs the caller's bytes, sends them to the merchant's API hosts and
//     to no other, verifies the answer and says what it proves.
//   - bill fetches bills and reads them to the fen, reconcile compares a day's
//     trade bill with the ledger ([API.Bill], [API.Reconcile]).
//
// A call goes: authenticate, allowed, rules, intent row, sign and send, verify,
// outcome row, answer. The intent row is durable before the first byte leaves:
// a crash leaves a row that says so. An answer that does not prove anything is
// unknown, never failed: the caller queries or repeats with the same number.
//
// Orders (basic, partner, combine; by Native, JSAPI, App, H5, payment code) are
// kept in the ledger: their bodies are completed, their numbers checked, and
// queries recorded. Every other operation is passed on as it came: the caller's
// URL and body bytes are what is signed and sent, an upload with the signature
// over its meta part. What is no query leaves an intent row, and goes to a backup
// host only when the first was never reached, unless a merchant number makes a
// repeat harmless.
//
// Refunds are kept in the ledger with what they reserve of their order, in one
// change that the rules decide about; a refund is successful by a verified
// callback or query, never by the answer of the apply call. One payer's refunds go
// out one after another. A reversal (撤销) closes an order, or refunds it whole.
//
// Everything else that moves money under a number of the merchant's (transfers,
// profit sharing, deductions, withdrawals) is remembered by that number: one number
// says one thing. A repeat that says the same goes out again; another amount, payee
// or payment is refused; a verified rejection of the first call frees the number,
// and so does a query that finds none.
//
// An openid is remembered, as a digest, with the app that it belongs to
// ([API.KnowOpenID], accepted orders, paid answers), and refused in another app's
// order.
//
// What WeChat Pay answered goes back byte for byte with its signature headers,
// so that an official SDK pointed at the gateway still verifies it. The
// gateway's own refusals look like WeChat Pay's ({"code","message"}) and name
// their [Rule] in Wechatpay-Gateway-Refused.
package payops
