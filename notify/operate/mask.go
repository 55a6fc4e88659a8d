package operate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Masked stands in a shown body where a value is not shown.
const Masked = "***"

const (
	// maskDepth bounds how deep a body may be nested to be shown.
	maskDepth = 32
	// maskedAbove is the length, in bytes, above which no value is shown: what
	// may be shown are numbers, codes and times.
	maskedAbove = 128
)

// Mask returns a notification's body ([storage.Notification.Body]) for people's
// eyes: the same members in the same order, with amounts, numbers of orders,
// states and times as they are, and every other value replaced by [Masked]. What
// may be shown is a closed list, so that a member that WeChat Pay adds tomorrow
// is masked until somebody has looked at it. Names of members that are no plain
// words are masked as well, since a name may be an openid. The error holds
// nothing of the body.
func Mask(body []byte) (json.RawMessage, error) {
	m := masker{dec: json.NewDecoder(bytes.NewReader(body))}
	m.dec.UseNumber()
	if err := m.value("", envelopeShown, 0); err != nil {
		return nil, err
	}
	if _, err := m.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotShown
	}
	return m.out.Bytes(), nil
}

// errNotShown says no more than that: a decoder's own error may quote the body.
var errNotShown = errors.New("the body is not JSON that can be shown")

// masker copies JSON token by token.
type masker struct {
	dec *json.Decoder
	out bytes.Buffer
}

// value copies one value, which stands under name.
func (m *masker) value(name string, shown map[string]bool, depth int) error {
	token, err := m.dec.Token()
	if err != nil {
		return errNotShown
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return m.scalar(token, shown[name])
	}
	if depth == maskDepth {
		return fmt.Errorf("%w: nested too deep", errNotShown)
	}
	if delim == '[' {
		return m.array(name, shown, depth)
	}
	return m.object(shown, depth)
}

func (m *masker) scalar(token json.Token, shown bool) error {
	if text, ok := token.(string); token != nil && (!shown || ok && len(text) > maskedAbove) {
		token = Masked
	}
	return m.write(token)
}

// array copies a list, whose values stand under the list's own name.
func (m *masker) array(name string, shown map[string]bool, depth int) error {
	m.out.WriteByte('[')
	for first := true; m.dec.More(); first = false {
		if !first {
			m.out.WriteByte(',')
		}
		if err := m.value(name, shown, depth+1); err != nil {
			return err
		}
	}
	return m.close(']')
}

func (m *masker) object(shown map[string]bool, depth int) error {
	m.out.WriteByte('{')
	for first := true; m.dec.More(); first = false {
		if !first {
			m.out.WriteByte(',')
		}
		token, err := m.dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return errNotShown
		}
		label := name
		if !isWord(name) {
			label = Masked
		}
		if err := m.write(label); err != nil {
			return err
		}
		m.out.WriteByte(':')
		inner := shown
		if depth == 0 {
			inner = envelopeShown
			if name == "resource" {
				inner = resourceShown
			}
		}
		if err := m.value(name, inner, depth+1); err != nil {
			return err
		}
	}
	return m.close('}')
}

func (m *masker) close(with byte) error {
	if _, err := m.dec.Token(); err != nil {
		return errNotShown
	}
	m.out.WriteByte(with)
	return nil
}

func (m *masker) write(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return errNotShown
	}
	m.out.Write(text)
	return nil
}

// isWord reports whether a member's name is one that an interface would have.
func isWord(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// envelopeShown are the members of the notification itself that are shown.
var envelopeShown = setOf("id", "create_time", "event_type", "resource_type", "summary")

// resourceShown are the members of the decrypted resource, at any depth, that
// are shown. Not among them, on purpose: every openid, unionid and account,
// names, plates, phones, free text of merchants and users (attach, description,
// remark), places, and tokens.
var resourceShown = setOf(
	// who
	"mchid", "mch_id", "sp_mchid", "sub_mchid", "sub_mch_id", "combine_mchid",
	"appid", "sp_appid", "sub_appid", "combine_appid", "service_id", "device_id",
	// which
	"out_trade_no", "combine_out_trade_no", "transaction_id", "out_refund_no", "refund_id",
	"out_order_no", "order_id", "out_bill_no", "transfer_bill_no", "out_batch_no", "batch_id",
	"out_detail_no", "detail_id", "out_return_no", "return_id", "parking_id", "out_parking_no",
	"coupon_id", "stock_id", "activity_id", "promotion_id", "goods_id", "complaint_id",
	// how much
	"amount", "total", "payer_total", "refund", "payer_refund", "settlement_total", "settlement_refund",
	"discount_total", "discount_refund", "discount_amount", "refund_amount", "total_amount",
	"success_amount", "fail_amount", "transfer_amount", "payer_amount", "pay_amount", "paid_amount",
	"wechatpay_contribute", "merchant_contribute", "other_contribute", "unit_price", "quantity",
	"refund_quantity", "count", "total_num", "success_num", "fail_num", "currency", "payer_currency",
	"charging_duration", "free_duration",
	// what of it
	"trade_type", "trade_state", "trade_state_desc", "trade_scene", "refund_status", "status", "state",
	"batch_status", "parking_state", "plate_color", "bank_type", "type", "scope", "result",
	"fail_reason", "account_type", "user_repaid", "user_service_status", "paid_type", "action_type",
	// when
	"success_time", "create_time", "update_time", "start_time", "end_time", "event_time", "close_time",
	"complete_time", "finish_time", "cancel_time", "paid_time", "refund_time", "openorclose_time",
)
