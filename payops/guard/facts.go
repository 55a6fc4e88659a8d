package guard

import (
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Facts is all that rules look at. A nil part means that the request is about
// something else. Amounts are fen.
type Facts struct {
	Now     time.Time
	Notify  *Notify
	Combine *Combine
	Close   *Close
	Refund  *Refund
	Sharing *Sharing
	// OpenIDs are those of the payer that an order is made for.
	OpenIDs []OpenID
}

// OpenID is an openid as an order states it. The openid itself is no rule's
// business.
type OpenID struct {
	Appid string // of the order
	Known string // that the openid was issued for; "": nobody knows
}

// Notify is a notify_url as it would be sent.
type Notify struct {
	URL string // "": the request states none
	// HTTPS: the operation takes https only (停车 entry and charge).
	HTTPS bool
	// Sandbox: a sandbox calls back to wherever it is told.
	Sandbox bool
}

// Combine is the list of 商品单 of a combine order that is about to be made.
type Combine struct {
	// ServiceProvider is the merchant's role, which decides the counts.
	ServiceProvider bool
	// Appids holds one value for each sub-order: its sub_appid, "" for none.
	Appids []string
}

// Close is an order that is about to be closed.
type Close struct {
	// Order is the ledger's; nil: it does not know the order.
	Order *storage.Order
}

// Sharing is a profit sharing (分账) of one payment.
type Sharing struct {
	// PaidAt is when the payment was made, zero when nobody knows.
	PaidAt time.Time
}

// Refund is a refund that is about to be applied for.
type Refund struct {
	// Stated is the refund as the request states it.
	Stated storage.Refund
	// Known is the ledger's refund of the number, nil for none.
	Known *storage.Refund
	// Payment is what is refunded; nil: neither the ledger nor WeChat Pay told.
	Payment *Payment
	// WholeCombine: the request names a combine order instead of a sub-order.
	WholeCombine bool
	// FailureWait and OldWait say how long the limits of failing requests, and of
	// requests for old orders, still hold this one back.
	FailureWait, OldWait time.Duration
}

// Payment is one payment: an order, or one sub-order of a combine order.
type Payment struct {
	Amount storage.Money // zero Total: not known
	Paid   Paid
	PaidAt time.Time // zero: not known
	// Listed: the ledger has the order. Refunds are all that went through the
	// gateway under a name of the payment that is known now: of a payment that is
	// not listed, there may be others.
	Listed  bool
	Refunds storage.Refunds
}

// Paid says whether a payment was made.
type Paid uint8

// The values of Paid.
const (
	PaidUnknown Paid = iota
	PaidYes          // by the verified word of WeChat Pay
	PaidNo           // by the verified word of WeChat Pay, just now
)

// Reserved reports whether the number's amount is reserved already: the request
// repeats one that may have been carried out.
func (r *Refund) Reserved() bool { return r.Known != nil && r.Known.State.Reserves() }

// Same reports whether two refunds under one number state the same. What one of
// them leaves open (out_trade_no or transaction_id) is no difference.
func Same(a, b *storage.Refund) bool {
	return a.Amount == b.Amount && a.Total == b.Total && a.Currency == b.Currency &&
		either(a.Order.Number, b.Order.Number) && either(a.TransactionID, b.TransactionID)
}

func either(a, b string) bool { return a == "" || b == "" || a == b }
