// Package fallback asks WeChat Pay about orders and refunds whose callback has
// not come (查单): callbacks are not promised, and both of WeChat Pay's guides say
// to ask.
//
// The intent row of an order or a refund leaves its work on the store's agenda in
// the same atomic step ([OrderWork], [RefundWork]), so no crash loses it and
// whichever gateway is there goes on. A [Fallback] does the work when it is due,
// on the schedule of WeChat Pay's documents: what the gateway knows to be settled
// and told is not asked for; what a verified answer says is told as the callback
// would have told it, so that a late callback is a duplicate.
// https://pay.weixin.qq.com/doc/v3/merchant/4012075249
//
// It tells nothing of orders and refunds whose callbacks go elsewhere (a foreign
// notify_url), and asks nothing while no notify handler serves the merchant: its
// steps pass until one does. Orders by payment code (付款码) have no callback and
// none of this: their caller asks, and reverses what is not paid.
package fallback
