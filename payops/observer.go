package payops

import (
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

// Observer counts what happens. Its labels come from closed sets. All methods
// are called concurrently and must not block.
type Observer interface {
	// Called is told of every call that was to be sent to WeChat Pay.
	Called(group operation.Group, outcome send.Outcome, took time.Duration)
	// Refused is told of every refusal of the gateway's own.
	Refused(rule Rule)
	// Unverified is told of every answer whose signature does not verify; probe
	// is true for WECHATPAY/SIGNTEST/ signatures.
	Unverified(probe bool)
	// FailedOver is told when a host other than the first had to be tried.
	FailedOver()
	// Contradicted is told when WeChat Pay's verified word contradicts the
	// ledger about an order's money.
	Contradicted()
}

// NopObserver counts nothing. Embed it to implement a part of [Observer].
type NopObserver struct{}

var _ Observer = NopObserver{}

// Called does nothing.
func (NopObserver) Called(operation.Group, send.Outcome, time.Duration) {}

// Refused does nothing.
func (NopObserver) Refused(Rule) {}

// Unverified does nothing.
func (NopObserver) Unverified(bool) {}

// FailedOver does nothing.
func (NopObserver) FailedOver() {}

// Contradicted does nothing.
func (NopObserver) Contradicted() {}
