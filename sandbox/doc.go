// Package sandbox is a stateful WeChat Pay (微信支付 APIv3) platform for tests
// and demonstrations. WeChat Pay has no test environment; this stands in for
// one. It shares no code with the gateway: it signs, verifies and encrypts with
// the standard library alone, so that the two can prove each other wrong.
//
// # A tour
//
// A Platform has merchants, keys and orders, all in memory:
//
//	p, err := sandbox.New(sandbox.Options{
//		Merchants: []sandbox.Merchant{{Mchid: "1900000001", Appid: "wx8888888888888888"}},
//	})
//	defer p.Close()
//
// What a merchant holds after registration, p.Keys tells: its serial number and
// private key, its APIv3 key, the platform's public keys and certificates. All
// of a sandbox's public keys begin with PublicKeyIDPrefix, and all of its
// certificates' serials with CertificateSerialPrefix: a production merchant
// refuses them.
//
// A Platform is an http.Handler. Under /v3/ it verifies what merchants sign
// (WECHATPAY2-SHA256-RSA2048), answers with WeChat Pay's codes and statuses, and
// signs every answer with the key that the request's Wechatpay-Serial names:
//
//	GET  /v3/certificates
//	POST /v3/pay/transactions/native
//	GET  /v3/pay/transactions/out-trade-no/{out_trade_no}?mchid=
//	GET  /v3/pay/transactions/id/{transaction_id}?mchid=
//	POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close
//	POST /v3/combine-transactions/native
//	GET  /v3/combine-transactions/out-trade-no/{combine_out_trade_no}
//	POST /v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close
//
// Under /sandbox/ there is what stands in for a user with a phone, for tests in
// other processes and for the merchant platform:
//
//	GET  /sandbox/                     every order and its callback's attempts
//	GET  /sandbox/pay?code_url=…       leads to the page of the order
//	GET  /sandbox/pay/{pr}             "scan and pay"; POST is its button
//	GET  /sandbox/qr?pr=…&format=svg   the code_url as a picture (PNG or SVG)
//	GET  /sandbox/keys/{mchid}         Keys as JSON; loopback peers only
//	GET  /sandbox/control              help on the control endpoints; loopback peers only
//
// # Paying
//
// Pay is what the page's button does. The order is SUCCESS when it returns, and
// the callback goes to the order's notify_url in the background: at once, then
// on WeChat Pay's Schedule until the answer is 200 or 204. Every send is
// encrypted and signed anew; id and create_time stay. Options.TimeScale makes
// the day of retries shorter.
//
// Tests wait for events, not for time:
//
//	p.Pay("ORDER-1", sandbox.Faults{Probes: 1, Concurrent: 20})
//	c, err := p.WaitState(ctx, "ORDER-1", sandbox.Delivered) // or p.WaitCallback(ctx, "ORDER-1", 3)
//
// # Things that go wrong
//
// Faults, given to Pay or to Send (which works on paid orders), adds probes,
// forged signatures, stale timestamps, wrong amounts, duplicates, concurrent
// duplicates, or loses the callback. SendInOrder releases lost callbacks in any
// order. FailAPI spoils API calls: a 500, no answer, a cut connection, a missing
// or wrong signature, before or after the effect. RotateCertificate,
// RotatePublicKey and SetPublicKeyShare play a key's migration.
//
// Callback builds one callback without sending it, for table tests of bad input:
//
//	header, body, err := p.Callback(mchid, sandbox.PaymentNotification(plaintext),
//		sandbox.WithTime(now.Add(-301*time.Second)), sandbox.WithCertificate())
//
// # What it does not do
//
// Refunds, bills and the other products; partner orders other than a combine
// order's sub_mchid; SM2; WeChat Pay's rate limits. An unpaid order closes after
// seven days of the Options.Now clock; a code_url lives two hours. Requests are
// checked as far as the operation's page goes, unknown fields are let pass. A
// number that is used again with other parameters is 403 OUT_TRADE_NO_USED;
// numbers are unique for a mchid over every kind of order.
package sandbox
