package deliver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Names of the headers that a delivery carries, in the spelling of http.Header.
const (
	headerContentType   = "Content-Type"
	headerContentLength = "Content-Length"

	HeaderID          = "Webhook-Id"
	HeaderTimestamp   = "Webhook-Timestamp" // of the attempt, unix seconds
	HeaderSignature   = "Webhook-Signature" // Standard Webhooks v1
	HeaderMerchant    = "Wechatpay-Gateway-Merchant"
	HeaderMchid       = "Wechatpay-Gateway-Mchid"
	HeaderSubMchid    = "Wechatpay-Gateway-Sub-Mchid" // only when there is one
	HeaderEventType   = "Wechatpay-Gateway-Event-Type"
	HeaderKind        = "Wechatpay-Gateway-Kind"
	HeaderAttempt     = "Wechatpay-Gateway-Attempt" // 1 for the first
	HeaderSource      = "Wechatpay-Gateway-Source"
	HeaderAmountCheck = "Wechatpay-Gateway-Amount-Check"
)

// maxAnswer is how many bytes of an answer are kept and judged.
const maxAnswer = 64 << 10

// maxHeaderValue bounds a header value that stems from a notification, in bytes.
const maxHeaderValue = 256

// headers is a header in the making: one allocation for all values.
type headers struct {
	fields http.Header
	values []string
}

func newHeaders(n int) headers {
	return headers{fields: make(http.Header, n), values: make([]string, 0, n)}
}

// set adds a field; name is in canonical spelling.
func (h *headers) set(name, value string) {
	h.values = append(h.values, value)
	end := len(h.values)
	h.fields[name] = h.values[end-1 : end : end]
}

// newDelivery builds the request of one attempt. Everything in it is made here
// from the record: nothing of what a client sent beyond the verified
// notification can get through, whatever it was called.
func newDelivery(route *notify.Route, sign *signer, claim *storage.Claim, now time.Time) *notify.Delivery {
	rec := &claim.Record
	body, raw := payload(route.Payload, rec)
	h := newHeaders(14 + len(rec.RawHeaders))

	h.set(headerContentType, "application/json")
	h.set(headerContentLength, strconv.Itoa(len(body)))

	id := headerValue(rec.ID)
	timestamp := now.Unix()
	h.set(HeaderID, id)
	h.set(HeaderTimestamp, strconv.FormatInt(timestamp, 10))
	if sign != nil {
		h.set(HeaderSignature, sign.sign(id, timestamp, body))
	}

	h.set(HeaderMerchant, headerValue(rec.Merchant))
	h.set(HeaderMchid, headerValue(rec.Mchid))
	if rec.SubMchid != "" {
		h.set(HeaderSubMchid, headerValue(rec.SubMchid))
	}
	h.set(HeaderEventType, headerValue(rec.EventType))
	h.set(HeaderKind, headerValue(rec.Kind))
	h.set(HeaderAttempt, strconv.Itoa(rec.Attempts+1))
	source := rec.Source
	if claim.Replay {
		source = storage.SourceReplay
	}
	h.set(HeaderSource, headerValue(string(source)))
	h.set(HeaderAmountCheck, headerValue(string(rec.AmountCheck)))

	if raw {
		for _, field := range rec.RawHeaders {
			name := http.CanonicalHeaderKey(field.Name)
			if isWechatpayHeader(name) {
				h.set(name, cleanHeader(field.Value)) // a signature is long
			}
		}
	}
	return &notify.Delivery{
		Record: rec, Host: rec.Host, Path: rec.Path,
		Header: h.fields, Body: body, Wanted: maxAnswer,
	}
}

// payload returns the body in the route's form, and whether it is WeChat's own
// bytes. An event without original bytes (a query found it) goes out as an
// envelope, and then WeChat's signature headers would vouch for other bytes.
func payload(form notify.PayloadForm, rec *storage.Record) (body []byte, raw bool) {
	switch form {
	case notify.PayloadResource:
		return rec.Resource(), false
	case notify.PayloadRaw:
		if rec.Raw != nil {
			return rec.Raw, true
		}
		return rec.Body, false
	case notify.PayloadEnvelope:
		return rec.Body, false
	default:
		return rec.Body, false
	}
}

// deliverable reports whether the record still holds what payload needs:
// retention removes bodies of finished notifications, and replaying one of those
// has nothing to send.
func deliverable(rec *storage.Record) bool {
	return !rec.BodyExpired && len(rec.Body) > 0 &&
		rec.ResourceStart >= 0 && rec.ResourceStart <= rec.ResourceEnd && rec.ResourceEnd <= len(rec.Body)
}

// isWechatpayHeader reports whether a canonical name is one of WeChat's own, and
// not one that speaks for the gateway.
func isWechatpayHeader(name string) bool {
	return strings.HasPrefix(name, "Wechatpay-") && !strings.HasPrefix(name, "Wechatpay-Gateway")
}

// headerValue makes text fit for a header, and short enough.
func headerValue(text string) string {
	return cleanHeader(text[:min(len(text), maxHeaderValue)])
}

// cleanHeader keeps visible ASCII and inner spaces; every other byte becomes
// '_'. The fields come from verified bodies, but WeChat's signature is no
// promise that an event_type holds no line break.
func cleanHeader(text string) string {
	text = strings.Trim(text, " \t\r\n")
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return replaceOdd(text)
		}
	}
	return text
}

func replaceOdd(text string) string {
	out := []byte(text)
	for i, c := range out {
		if c < ' ' || c > '~' {
			out[i] = '_'
		}
	}
	return string(out)
}
