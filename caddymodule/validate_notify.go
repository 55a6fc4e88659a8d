package caddymodule

import (
	"fmt"
	"slices"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// maxBodyRange tells the bounds of max_body.
const maxBodyRange = "it goes from 1KiB to 1MiB"

// Bounds on one delivery attempt.
const (
	maxTimeout         = 10 * time.Minute // what holds a claim while a backend works
	maxDeliveryTimeout = 4 * time.Second  // with ack delivery: WeChat waits 5 s
)

// validate checks the configuration of a wechatpay_notify handler.
func (c *NotifyConfig) validate() error {
	const block = "wechatpay_notify"
	if c.Merchant != "" {
		if err := validateMerchantName(c.Merchant); err != nil {
			return fmt.Errorf("%s: %w", block, err)
		}
	}
	for _, choice := range []struct {
		option, value string
		allowed       []string
	}{
		{"ack", c.Ack, []string{"commit", "delivery"}},
		{"amount_check", c.AmountCheck, []string{"known", "strict", "off"}},
		{"payload", c.Payload, []string{"envelope", "resource", "raw"}},
	} {
		if choice.value != "" && !slices.Contains(choice.allowed, choice.value) {
			return invalid(block, choice.option, "%w", notOneOf(choice.value, choice.allowed...))
		}
	}
	delivery := c.Ack == "delivery"
	if c.Payload == "raw" && !delivery {
		return invalid(block, "payload", `"raw" goes with "ack delivery" only: later attempts would carry a signature that has grown too old to verify; add ack delivery, or use envelope or resource`)
	}
	for _, wait := range c.Retry {
		if wait <= 0 {
			return invalid(block, "retry", "%s is not above zero", time.Duration(wait))
		}
	}
	switch timeout := time.Duration(c.Timeout); {
	case timeout < 0:
		return invalid(block, "timeout", "%s is not above zero", timeout)
	case delivery && timeout >= maxDeliveryTimeout:
		return invalid(block, "timeout", "%s is too long for ack delivery, where it must stay below %s so that WeChat gets its answer within 5s; shorten it, or use ack commit", timeout, maxDeliveryTimeout)
	case timeout > maxTimeout:
		return invalid(block, "timeout", "%s is over %s", timeout, maxTimeout)
	}
	for i, secret := range c.Sign {
		switch {
		case secret == "":
			return invalid(block, "sign", "it is empty; give it a secret or leave it out")
		case slices.Contains(c.Sign[:i], secret):
			return invalid(block, "sign", "two of its secrets are the same; remove one")
		}
	}
	if c.MaxBody != 0 && (c.MaxBody < notify.MinMaxBody || c.MaxBody > notify.MaxMaxBody) {
		return invalid(block, "max_body", "%d bytes are out of range; %s", c.MaxBody, maxBodyRange)
	}
	if len(c.Deliver) == 0 {
		return missing(block, "deliver", "add the HTTP routes to the backend, such as deliver { reverse_proxy legacy:8080 }")
	}
	return nil
}
