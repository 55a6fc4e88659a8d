// Package receive is the way in: it verifies a callback (回调通知), opens it,
// tells what it is, holds it against the ledger and stores it durably, and only
// then lets WeChat hear "SUCCESS".
//
// The order of the pipeline is a promise (cheap to expensive, and nothing on a
// stranger's word):
//
//	method 405 → merchant 404 → Content-Length 413 → headers, timestamp, serial,
//	spelling of the signature 401 → budget 503 → body 413 → signature 401 →
//	envelope, decryption, plaintext 400 → trade state, ledger 409 → commit 200
//
// Before the signature is verified nothing is stored, nothing is sent and no
// RSA operation is made for a request whose headers are not in order. Only the
// bytes as received are verified: Content-Encoding, Host, the peer's address
// and every header but WeChat Pay's five mean nothing here.
//
// [Receiver.Receive] answers within 4.5 s of the request's arrival. Its caller
// bounds how long it waits for a body.
package receive
