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
//	POST /v3/pay/transactions/{native,jsapi,app,h5}
//	GET  /v3/pay/transactions/out-trade-no/{out_trade_no}?mchid=
//	GET  /v3/pay/transactions/id/{transaction_id}?mchid=
//	POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close
//	POST /v3/pay/partner/transactions/{native,jsapi,app,h5}
//	GET  /v3/pay/partner/transactions/out-trade-no/{out_trade_no}?sp_mchid=&sub_mchid=
//	GET  /v3/pay/partner/transactions/id/{transaction_id}?sp_mchid=&sub_mchid=
//	POST /v3/pay/partner/transactions/out-trade-no/{out_trade_no}/close
//	POST /v3/combine-transactions/{native,jsapi,app,h5}
//	GET  /v3/combine-transactions/out-trade-no/{combine_out_trade_no}
//	POST /v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close
//	POST /v3/refund/domestic/refunds
//	GET  /v3/refund/domestic/refunds/{out_refund_no}
//	POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund
//	POST /v3/ecommerce/refunds/apply
//	GET  /v3/ecommerce/refunds/id/{refund_id}?sub_mchid=
//	GET  /v3/ecommerce/refunds/out-refund-no/{out_refund_no}?sub_mchid=
//	POST /v3/ecommerce/refunds/{refund_id}/apply-abnormal-refund
//	GET  /v3/bill/tradebill?bill_date=
//	GET  /v3/bill/fundflowbill?bill_date=
//	GET  /v3/billdownload/file?token=
//	POST /v3/merchant/media/upload
//	POST /v3/merchant/media/video_upload
//	POST /v3/marketing/favor/media/image-upload
//	POST /v3/merchant-service/images/upload
//	POST /v3/security/echo
//	GET  /v3/vehicle/parking/services/find?appid=&sub_mchid=&plate_number=&plate_color=&openid=
//	POST /v3/vehicle/parking/parkings
//	POST /v3/vehicle/transactions/parking
//	GET  /v3/vehicle/transactions/out-trade-no/{out_trade_no}?sub_mchid=
//
// A mini program orders through the jsapi paths. A merchant is a direct merchant
// (直连商户), or with Merchant.ServiceProvider a service provider (服务商): the one
// never names a sub_mchid, the other does wherever money is concerned.
//
// Sensitive fields (the payer's identity, the bank card of 发起异常退款, the echo)
// come encrypted with the platform key that Wechatpay-Serial names, RSAES-OAEP.
// An upload signs its meta alone; a bill's download is signed by the caller and
// not by the platform.
//
// The open platform's part, at the same origin:
//
//	GET  /connect/oauth2/authorize?appid=&redirect_uri=&response_type=code&scope=&state=
//	GET  /sns/oauth2/access_token?appid=&secret=&code=&grant_type=authorization_code
//	GET  /sns/jscode2session?appid=&secret=&js_code=&grant_type=authorization_code
//
// A user has one openid per appid, the same on every platform (OpenID); an
// order that names one which was issued for another appid is refused. Codes are
// good once, for five minutes; Login makes those of mini programs and apps.
//
// Under /sandbox/ there is what stands in for a user with a phone, for tests in
// other processes and for the merchant platform:
//
//	GET  /sandbox/                     every order and its callback's attempts
//	GET  /sandbox/pay?code_url=…       leads to the page of the order; so do prepay_id=, h5_url=
//	GET  /sandbox/pay/{pr}             "scan and pay"; POST is its button
//	GET  /sandbox/lane                 a car park: open services, drive in and out
//	GET  /sandbox/qr?pr=…&format=svg   the code_url as a picture (PNG or SVG)
//	GET  /sandbox/keys/{mchid}         Keys as JSON; loopback peers only
//	GET  /sandbox/control              help on the control endpoints; loopback peers only
//
// A loopback peer is one that connects from this machine itself: a request that a
// proxy has marked as passed on (Forwarded, X-Forwarded-…, X-Real-IP, Via) is none.
//
// # Paying
//
// Pay is what the page's button does. The order is SUCCESS when it returns, and
// the callback goes to the order's notify_url in the background: at once, then
// on WeChat Pay's Schedule until the answer is 200 or 204. Every send is
// encrypted and signed anew; id and create_time stay. Options.TimeScale makes
// the day of retries shorter. Invoke pays with what a mini program, page or app
// hands to WeChat, and holds its signature against the merchant's key.
//
// Tests wait for events, not for time:
//
//	p.Pay("ORDER-1", sandbox.Faults{Probes: 1, Concurrent: 20})
//	c, err := p.WaitState(ctx, "ORDER-1", sandbox.Delivered) // or p.WaitCallback(ctx, "ORDER-1", 3)
//
// # Refunds
//
// An accepted refund is PROCESSING; Options.RefundTime later it is SUCCESS, or
// what PlanRefunds said: ABNORMAL, CLOSED, or PROCESSING until SettleRefund. The
// result goes to the refund's notify_url as a payment's does, on the same
// Schedule. "refund:" and the out_refund_no name its callback:
//
//	p.PlanRefunds(sandbox.RefundPlan{Status: sandbox.RefundAbnormal})
//	r, err := p.WaitRefund(ctx, "REFUND-1", sandbox.RefundAbnormal)
//	c, err := p.WaitState(ctx, "refund:REFUND-1", sandbox.Delivered)
//
// A number is good for one refund, of the same order and amounts however often
// it is sent; the refunds that are not CLOSED never exceed what was paid, nor 50,
// nor come after 365 days. A combine order is refunded by its sub-orders, each
// by its own mchid. While a refund is not CLOSED queries say trade_state REFUND.
//
// # Parking
//
// 支付分停车: SetPlate says whether a car's service is open, a merchant reports the
// car's entry, which is NORMAL or BLOCKED, and charges it at the exit. While the
// car is inside SetPlate and FlipParking flip its entry, and the entry's
// notify_url is told; "parking:" and the parking_id, the out_parking_no or the
// plate name that callback. An accepted charge is ACCEPTED; Options.ChargeTime
// later it is SUCCESS, or what PlanCharges said: it fails, is advanced by WeChat
// Pay (垫资) and paid back later, or stays until SettleCharge:
//
//	_, err := p.SetPlate(sandbox.Plate{PlateNumber: "粤B888888"})
//	err = p.PlanCharges(sandbox.ChargePlan{State: sandbox.ChargeAdvanced, LaterMS: 60_000})
//	o, err := p.WaitCharge(ctx, "EXIT-1", sandbox.ChargePaidBack)
//	c, err := p.WaitState(ctx, "EXIT-1", sandbox.Delivered) // of the newest callback
//
// Of a plate's entries the newest alone is valid, over all merchants; it is
// charged once, with the parking_info it was reported with, and not while it is
// BLOCKED. A charge that is sent again with the same content is answered with
// what has become of it. Entries and charges take an https notify_url, or one of
// this machine. Refunds are as of any order.
//
// # Things that go wrong
//
// Faults, given to Pay or to Send (which works on paid orders), adds probes,
// forged signatures, stale timestamps, wrong amounts, duplicates, concurrent
// duplicates, or loses the callback. SendInOrder releases lost callbacks in any
// order. FailAPI spoils API calls, before or after the effect: a 500, any of WeChat
// Pay's refusals (NOT_ENOUGH, FREQUENCY_LIMITED …), no answer, a late one, a cut
// connection, a signature that is missing, wrong, a probe, stale or of an expired
// certificate, an answer changed after signing. RotateCertificate,
// RotatePublicKey and SetPublicKeyShare play a key's migration.
//
// Callback builds one callback without sending it, for table tests of bad input:
//
//	header, body, err := p.Callback(mchid, sandbox.PaymentNotification(plaintext),
//		sandbox.WithTime(now.Add(-301*time.Second)), sandbox.WithCertificate())
//
// # What it does not do
//
// The other products (profit sharing, transfers …); 付款码; SM2; WeChat
// Pay's rate limits, apart from Options.RefundPace; fees. A merchant's balance is
// never short by itself: arm FaultRefuse with NOT_ENOUGH. A refund without a
// notify_url has no callback, for there is no console to set one in. An unpaid
// order closes after seven days of the Options.Now clock; a code_url and a
// prepay_id live two hours, an h5_url five minutes, a bill's link thirty seconds.
// Requests are checked as far as the operation's page goes, unknown fields are let
// pass. A number that is used again with other parameters is 403
// OUT_TRADE_NO_USED; numbers are unique for a mchid over every kind of order.
package sandbox
