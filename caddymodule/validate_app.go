package caddymodule

import "time"

const day = 24 * time.Hour

// minRetainOrders is a year and a day: WeChat Pay refunds for a year.
const minRetainOrders = 366 * day

// validate checks the retention. A nil Retain has the defaults.
func (r *Retain) validate() error {
	if r == nil {
		return nil
	}
	if r.Orders < 0 || r.Bodies < 0 {
		return invalid("wechatpay", "retain", "a duration is below zero")
	}
	if r.Orders != 0 && time.Duration(r.Orders) < minRetainOrders {
		return invalid("wechatpay", "retain", "orders are kept at least 366d, since they can be refunded for a year")
	}
	return nil
}
