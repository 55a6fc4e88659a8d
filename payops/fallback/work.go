package fallback

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// The kinds of work on the agenda.
const (
	KindOrder  = "ask_order"
	KindRefund = "ask_refund"
)

// order is the payload of [KindOrder].
type order struct {
	Order storage.OrderKey `json:"order"`
	Since time.Time        `json:"since"` // of the create call
}

// Refund is what [RefundWork] needs to know of a refund beside its row.
type Refund struct {
	Refund storage.RefundKey `json:"refund"`
	// Ecommerce is true for refunds of the ecommerce API (电商收付通), which are
	// asked for at its own path.
	Ecommerce bool `json:"ecommerce,omitempty"`
	// Foreign is true when the refund's callbacks go elsewhere.
	Foreign bool `json:"foreign,omitempty"`
	// Since is when it was applied for.
	Since time.Time `json:"since"`
}

// OrderWork is the work that an order being created leaves: its first query.
func OrderWork(merchant string, key storage.OrderKey, now time.Time) storage.Work {
	return work(KindOrder, merchant, id(key.Mchid, key.SubMchid, key.Number), now.Add(orderSteps[0]), order{key, now})
}

// RefundWork is the work that a refund being applied for leaves: its first query.
func RefundWork(merchant string, r Refund) storage.Work {
	key := r.Refund
	return work(KindRefund, merchant, id(key.Mchid, key.SubMchid, key.OutRefundNo), r.Since.Add(refundSteps[0]), r)
}

func id(mchid, subMchid, number string) string { return mchid + "/" + subMchid + "/" + number }

func work(kind, merchant, id string, due time.Time, payload any) storage.Work {
	text, err := json.Marshal(payload)
	if err != nil { // texts and times that were just made
		text = nil
	}
	return storage.Work{ID: id, Kind: kind, Merchant: merchant, Due: due, Payload: text}
}

// errPayload is why work of another version, or of nobody, is dropped.
var errPayload = errors.New("fallback: the work's payload cannot be read")

func readOrder(payload []byte) (p order, err error) {
	if json.Unmarshal(payload, &p) != nil || p.Order.IsZero() || p.Since.IsZero() {
		return p, errPayload
	}
	return p, nil
}

func readRefund(payload []byte) (p Refund, err error) {
	if json.Unmarshal(payload, &p) != nil || p.Refund.IsZero() || p.Since.IsZero() {
		return p, errPayload
	}
	return p, nil
}
