// Package invoke signs what a page, a mini program or an app hands to WeChat to
// open a payment (调起支付): the parameters made from an order's prepay_id, with
// the merchant's own key. The frontend never sees the key and passes the
// parameters on as they are.
//
// It signs appids and prepay ids of WeChat's own spelling and nothing else: no
// text of a caller's choosing ever comes under the merchant's key, so nobody
// can have a request to the API signed here.
package invoke
