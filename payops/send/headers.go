package send

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core/consts"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// userAgent is sent when the caller names none: WeChat Pay refuses requests
// without one.
const userAgent = "caddy-wechatpay"

// forwarded lists the headers of a caller that go on to WeChat Pay.
var forwarded = []string{"Accept", "Accept-Language", "Content-Type", "User-Agent"}

// Forwarded lists the headers of a caller that go on to WeChat Pay. The slice is
// the caller's.
func Forwarded() []string { return slices.Clone(forwarded) }

// requestHeader builds the header of a request from the caller's, the
// authorization and the keys the gateway holds.
func requestHeader(from http.Header, authorization string, keys *merchant.KeySet, now time.Time) http.Header {
	h := make(http.Header, 6)
	for _, name := range forwarded {
		if values := from.Values(name); len(values) > 0 {
			h[name] = slices.Clone(values)
		}
	}
	if h.Get("Accept") == "" {
		h.Set("Accept", "application/json")
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", userAgent)
	}
	h.Set("Authorization", authorization)
	if serial := acceptSerial(from.Values(consts.WechatPaySerial), keys, now); serial != "" {
		h.Set(consts.WechatPaySerial, serial)
	}
	return h
}

// acceptSerial chooses which of WeChat Pay's keys signs the answer: the one
// the caller asks for when the gateway can verify it, else its own preferred.
func acceptSerial(asked []string, keys *merchant.KeySet, now time.Time) string {
	if len(asked) == 1 {
		if _, err := keys.Lookup(asked[0], now); err == nil {
			return asked[0]
		}
	}
	if key, ok := keys.Preferred(); ok {
		return key.Serial
	}
	return ""
}

// returned lists the headers of an answer that go back to the caller, beside
// every Wechatpay-*.
var returned = []string{
	"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition",
	"Request-Id", "Retry-After", "Date",
}

// answerHeader keeps what is meant for the caller, value for value. Headers in
// the gateway's own name are not WeChat Pay's to set.
func answerHeader(from http.Header) http.Header {
	h := make(http.Header, 8)
	for name, values := range from {
		ours := strings.HasPrefix(name, "Wechatpay-Gateway-")
		if slices.Contains(returned, name) || strings.HasPrefix(name, "Wechatpay-") && !ours {
			h[name] = slices.Clone(values)
		}
	}
	return h
}
