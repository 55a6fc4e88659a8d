package event

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strconv"
	"strings"
)

// maxKey is what a store holds of a business key, in bytes.
const maxKey = 512

// keyBuilder writes a business key: the kind, then name=value pairs, separated
// by '|'. Values are percent-escaped, so that no value can look like two.
type keyBuilder struct {
	buffer []byte
}

func (k *keyBuilder) add(name, value string) {
	if value == "" {
		return
	}
	k.buffer = append(k.buffer, '|')
	k.buffer = append(k.buffer, name...)
	k.buffer = append(k.buffer, '=')
	k.buffer = escape(k.buffer, value)
}

// private adds what may be personal data as a digest.
func (k *keyBuilder) private(name, value string) {
	if value != "" {
		k.add(name, digest(value))
	}
}

// digest is the first 128 bits of SHA-256 in hex.
func digest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:16])
}

// escape appends value with every byte but letters, digits and "-_.*@:+" as %XX.
func escape(dst []byte, value string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(value) {
		switch c := value[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z',
			c == '-', c == '_', c == '.', c == '*', c == '@', c == ':', c == '+':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

// businessKey derives what makes this event this event. Backends remember the
// id that hangs on it, so its form must never change for a kind that exists.
//
// Numbers that a callback and a query both carry are in it, and event_type and
// state always are: a charge of one number can fail and later succeed, or be
// advanced by WeChat and later paid back. A refund's sub_mchid is in it only
// where refund_id is not, since callbacks mostly leave it out; a parking
// charge's transaction_id never is, for the same reason.
func businessKey(e *Event, p *plaintext, resource []byte, mchid string) string {
	var space [256]byte
	k := keyBuilder{buffer: append(space[:0], e.Kind...)}
	if e.Kind == Unknown {
		// What an unknown event means is unknown: it is told from others by the
		// id that WeChat gave it, under the merchant that it was sent to.
		k.add("mchid", mchid)
		if e.NotificationID != "" {
			k.add("id", e.NotificationID)
		} else {
			k.add("event", e.EventType)
			k.add("sha256", digest(string(resource)))
		}
		return k.key(e.Kind)
	}
	k.add("mchid", e.Mchid)
	switch e.Kind {
	case Payment, PartnerPayment:
		k.add("sub_mchid", e.SubMchid)
		k.add("out_trade_no", e.OutTradeNo)
		k.add("transaction_id", e.TransactionID)
	case Combine:
		k.add("combine_out_trade_no", e.OutTradeNo)
	case Refund:
		if e.RefundID == "" {
			k.add("sub_mchid", e.SubMchid)
		}
		k.add("out_refund_no", e.OutRefundNo)
		k.add("refund_id", e.RefundID)
	case ParkingPayment, ParkingReleased:
		k.add("sub_mchid", e.SubMchid)
		k.add("out_trade_no", e.OutTradeNo)
		k.add("parking_id", e.ParkingID)
	case ParkingEntrance:
		k.add("sub_mchid", e.SubMchid)
		k.add("parking_id", e.ParkingID)
		k.add("updated", p.text[fStateUpdateTime])
	case PlateService:
		k.add("sub_mchid", e.SubMchid)
		k.private("openid", p.text[fOpenid])
		k.private("plate", e.Plate)
		k.add("color", e.PlateColor)
		k.add("opened", p.text[fServiceOpenTime])
	case Payscore:
		k.add("sub_mchid", e.SubMchid)
		k.add("service_id", p.text[fServiceID])
		k.add("out_order_no", p.text[fOutOrderNo])
		k.add("order_id", p.text[fOrderID])
		if e.EventType == "PAYSCORE.USER_PAID" && p.collection {
			k.add("collection", p.text[fCollectionState])
			k.add("paid", strconv.FormatInt(p.paidAmount, 10))
		}
	case PayscorePermission:
		k.add("sub_mchid", e.SubMchid)
		k.add("service_id", p.text[fServiceID])
		if code := p.text[fAuthorizationCode]; code != "" {
			k.add("authorization_code", code)
		} else {
			k.private("openid", p.text[fOpenid])
		}
		k.add("at", p.text[fOpenOrCloseTime])
	case ProfitSharing, ProfitSharingBack:
		k.add("sub_mchid", e.SubMchid)
		k.add("order_id", p.text[fOrderID])
		k.add("out_order_no", p.text[fOutOrderNo])
		k.add("receiver", p.text[fReceiverType])
		k.private("account", p.text[fReceiverAccount])
		if e.Kind == ProfitSharingBack {
			// One sharing may be returned in several parts, which no number of
			// the notification tells apart.
			k.add("amount", strconv.FormatInt(p.received, 10))
			k.add("at", p.text[fSuccessTime])
		}
	case Transfer:
		k.add("out_bill_no", p.text[fOutBillNo])
		k.add("transfer_bill_no", p.text[fTransferBillNo])
	case TransferBatch:
		k.add("out_batch_no", p.text[fOutBatchNo])
		k.add("batch_id", p.text[fBatchID])
	case Unknown:
	}
	k.add("event", e.EventType)
	k.add("state", e.State)
	if e.State == StateMixed {
		var states strings.Builder
		for i := range e.Subs {
			states.WriteString(e.Subs[i].OutTradeNo + "=" + e.Subs[i].State + ";")
		}
		k.add("states", digest(states.String()))
	}
	return k.key(e.Kind)
}

// key returns the text, or a digest of it when it is longer than a store holds.
func (k *keyBuilder) key(kind Kind) string {
	if len(k.buffer) <= maxKey {
		return string(k.buffer)
	}
	sum := sha256.Sum256(k.buffer)
	return string(kind) + "|sha256=" + hex.EncodeToString(sum[:])
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NotificationID derives the Webhook-Id from a business key: "evt_" and 160
// bits of the key's SHA-256 in lower-case base32 (RFC 4648), 36 bytes in all.
// It is stable for ever.
func NotificationID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "evt_" + idEncoding.EncodeToString(sum[:20])
}

// OrderGroup names the delivery group of an order.
func OrderGroup(mchid, number string) string {
	buffer := escape(append(make([]byte, 0, 96), "order|"...), mchid)
	return string(escape(append(buffer, '|'), number))
}

// ParkingGroup names the delivery group of a parking.
func ParkingGroup(mchid, parkingID string) string {
	buffer := escape(append(make([]byte, 0, 96), "parking|"...), mchid)
	return string(escape(append(buffer, '|'), parkingID))
}

// group names what the event is delivered in order with, as far as its
// plaintext tells: a parking, or an order and its refunds. sub_mchid is left
// out, since a refund does not state its own.
func group(e *Event, p *plaintext) string {
	switch {
	case e.ParkingID != "":
		return ParkingGroup(e.Mchid, e.ParkingID)
	case e.OutTradeNo != "":
		return OrderGroup(e.Mchid, e.OutTradeNo)
	case e.Kind == Payscore:
		return "payscore|" + string(escape(nil, e.Mchid)) + "|" + string(escape(nil, p.text[fOutOrderNo]))
	}
	return ""
}
