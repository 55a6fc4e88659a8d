package receive

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// WeChat Pay's signature headers, as net/http spells them.
// https://pay.weixin.qq.com/doc/v3/merchant/4012365350
const (
	headerTimestamp = "Wechatpay-Timestamp"
	headerNonce     = "Wechatpay-Nonce"
	headerSignature = "Wechatpay-Signature"
	headerSerial    = "Wechatpay-Serial"
	headerType      = "Wechatpay-Signature-Type"
	headerRequestID = "Request-Id"
)

const (
	// signatureType is the one that RSA merchants get; absent means it.
	signatureType = "WECHATPAY2-SHA256-RSA2048"
	// probePrefix marks 签名探测流量: a signature that is wrong on purpose. It
	// is verified like any other and fails like any other; only the count of it
	// is its own.
	probePrefix = "WECHATPAY/SIGNTEST/"
	// window is how far a timestamp may be off, in seconds, exclusive.
	window = 300
	// maxNonce and maxSerial bound what is looked at, in bytes. WeChat Pay sends
	// nonces of 32 and serials of at most 64.
	maxNonce  = 128
	maxSerial = 64
)

// signed is what the headers say, checked as far as that is cheap.
type signed struct {
	timestamp, nonce string
	serial           string
	signature        []byte // raw
	probe            bool
	skew             int64 // seconds that the sender's clock is behind ours
	key              merchant.Key
}

// refusal is a reason not to take a callback in. The zero value is none.
type refusal struct {
	outcome notify.Outcome
	answer  Answer
	reason  string // for the log, constant
}

func (f refusal) refused() bool { return f.outcome != "" }

func refuse(outcome notify.Outcome, answer Answer, reason string) refusal {
	return refusal{outcome: outcome, answer: answer, reason: reason}
}

// one returns the value of a header that is there exactly once.
func one(h http.Header, name string) (value string, ok bool) {
	values := h[name]
	if len(values) != 1 || values[0] == "" {
		return "", false
	}
	return values[0], true
}

// parseHeaders reads the headers without looking at any key.
func parseHeaders(h http.Header, now time.Time) (s signed, bad refusal) {
	if values, there := h[headerType]; there && (len(values) != 1 || values[0] != signatureType) {
		return s, refuse(notify.OutcomeHeaders, answerSignatureType, "signature type is not WECHATPAY2-SHA256-RSA2048")
	}
	var ok [4]bool
	var timestamp, signature string
	timestamp, ok[0] = one(h, headerTimestamp)
	s.nonce, ok[1] = one(h, headerNonce)
	signature, ok[2] = one(h, headerSignature)
	s.serial, ok[3] = one(h, headerSerial)
	if !ok[0] || !ok[1] || !ok[2] || !ok[3] {
		return s, refuse(notify.OutcomeHeaders, answerHeaders, "a signature header is missing, empty or repeated")
	}
	s.timestamp = timestamp
	seconds, canonical := parseTimestamp(timestamp)
	if !canonical {
		return s, refuse(notify.OutcomeTimestamp, answerTimestamp, "timestamp is not a canonical decimal number")
	}
	// Neither number is negative, so the difference cannot overflow.
	s.skew = max(now.Unix(), 0) - seconds
	if s.skew >= window || s.skew <= -window {
		return s, refuse(notify.OutcomeTimestamp, answerTimestamp, "timestamp is 300 s or more off")
	}
	if !visible(s.nonce, maxNonce) {
		return s, refuse(notify.OutcomeHeaders, answerHeaders, "nonce is not a short visible text")
	}
	if !visible(s.serial, maxSerial) {
		return s, refuse(notify.OutcomeSerial, answerSerial, "serial is not one that WeChat Pay uses")
	}
	s.probe = strings.HasPrefix(signature, probePrefix)
	raw, err := merchant.DecodeSignature(signature)
	if err != nil {
		return s, refuse(s.failed(), answerSignature, "signature is not canonical base64")
	}
	s.signature = raw
	return s, refusal{}
}

// failed classes a wrong signature.
func (s *signed) failed() notify.Outcome {
	if s.probe {
		return notify.OutcomeProbe
	}
	return notify.OutcomeSignature
}

// findKey looks the serial up. It must be spelled as WeChat Pay spells it.
func (s *signed) findKey(m Merchant, now time.Time) refusal {
	key, err := m.Keys().Lookup(s.serial, now)
	switch {
	case err != nil:
		return refuse(notify.OutcomeSerial, answerSerial, "no valid key has this serial")
	case key.Serial != s.serial:
		return refuse(notify.OutcomeSerial, answerSerial, "serial is not spelled canonically")
	case key.PublicKey() == nil || len(s.signature) != key.PublicKey().Size():
		return refuse(s.failed(), answerSignature, "signature has another length than the key")
	}
	s.key = key
	return refusal{}
}

// parseTimestamp reads seconds since 1970 in their one spelling: digits only,
// no leading zero, within int64.
func parseTimestamp(text string) (seconds int64, ok bool) {
	if len(text) > 19 || text[0] == '0' && text != "0" {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	return seconds, err == nil
}

// visible says whether text is at most limit bytes of visible ASCII.
func visible(text string, limit int) bool {
	if len(text) == 0 || len(text) > limit {
		return false
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// unsigned says whether the request carries none of the four headers.
func unsigned(h http.Header) bool {
	return len(h[headerTimestamp]) == 0 && len(h[headerNonce]) == 0 &&
		len(h[headerSignature]) == 0 && len(h[headerSerial]) == 0
}
