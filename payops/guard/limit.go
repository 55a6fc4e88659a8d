package guard

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// The limits of a caller, as Wechatpay-Gateway-Refused names them.
const (
	LimitSubMchid       Name = "limit_sub_mchid"
	LimitRefundPerOrder Name = "limit_refund_per_order"
	LimitRefundPerDay   Name = "limit_refund_per_day"
)

// Limit is what a caller may do at most. The zero value limits nothing.
type Limit struct {
	// SubMchids are the sub-merchants that the caller may act for; none: any.
	SubMchids []string `json:"sub_mchid,omitempty"`
	// RefundPerOrder is the most, in fen, that may be refunded of one payment when
	// the caller is done; zero: any. Refunds of others count.
	RefundPerOrder storage.Fen `json:"refund_per_order,omitempty"`
	// RefundPerDay is the most, in fen, that the caller may apply for in one day of
	// China's time; zero: any. A refund that was rejected, or never sent, does not
	// count; one whose outcome is unknown does.
	RefundPerDay storage.Fen `json:"refund_per_day,omitempty"`
}

// ParseLimit reads what follows "limit <caller>" in a Caddyfile: pairs of
// refund_per_order <yuan>, refund_per_day <yuan> and, repeatable, sub_mchid
// <number>. before is what earlier lines for the caller said. Its errors name
// what is wrong.
func ParseLimit(before Limit, args []string) (Limit, error) {
	l := before
	l.SubMchids = slices.Clone(before.SubMchids)
	if len(args) == 0 {
		return Limit{}, errors.New("refund_per_day, refund_per_order or sub_mchid is needed, and its value")
	}
	for len(args) > 0 {
		if len(args) == 1 {
			return Limit{}, fmt.Errorf("%s has no value", args[0])
		}
		option, value := args[0], args[1]
		args = args[2:]
		var err error
		switch option {
		case "sub_mchid":
			l.SubMchids = append(l.SubMchids, value)
		case "refund_per_order":
			err = once(&l.RefundPerOrder, option, value)
		case "refund_per_day":
			err = once(&l.RefundPerDay, option, value)
		default:
			return Limit{}, fmt.Errorf("there is no %q; there are refund_per_day, refund_per_order, sub_mchid", option)
		}
		if err != nil {
			return Limit{}, err
		}
	}
	return l, l.Validate()
}

// Validate returns what is wrong with a limit: one that limits nothing, too.
func (l Limit) Validate() error {
	if len(l.SubMchids) == 0 && l.RefundPerOrder == 0 && l.RefundPerDay == 0 {
		return errors.New("it limits nothing; there are refund_per_day, refund_per_order, sub_mchid")
	}
	if l.RefundPerOrder < 0 || l.RefundPerDay < 0 {
		return errors.New("an amount is below zero")
	}
	for i, sub := range l.SubMchids {
		if sub == "" || len(sub) > 32 || !digits(sub) {
			return fmt.Errorf("sub_mchid %q is not a merchant's number", sub)
		}
		if slices.Contains(l.SubMchids[:i], sub) {
			return fmt.Errorf("sub_mchid %s is named twice", sub)
		}
	}
	return nil
}

func once(to *storage.Fen, option, value string) error {
	if *to != 0 {
		return fmt.Errorf("%s is given twice", option)
	}
	fen, err := ParseYuan(value)
	if err != nil {
		return fmt.Errorf("%s: %w", option, err)
	}
	*to = fen
	return nil
}

// ParseYuan reads an amount in yuan, such as 500 or 0.01, without any float.
// Zero is none.
func ParseYuan(s string) (storage.Fen, error) {
	yuan, cents, point := strings.Cut(s, ".")
	for len(cents) < 2 && (!point || cents != "") {
		cents += "0"
	}
	if yuan == "" || len(cents) != 2 || !digits(yuan) || !digits(cents) {
		return 0, fmt.Errorf("%q is no amount in yuan", s)
	}
	fen, err := strconv.ParseInt(yuan+cents, 10, 64)
	if err != nil || fen == 0 {
		return 0, fmt.Errorf("%q is no amount in yuan above zero", s)
	}
	return storage.Fen(fen), nil
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// Allows reports whether the caller may act for the sub-merchants that a request
// states. A request that states none is not allowed where the limit names some.
func (l Limit) Allows(subMchids []string) bool {
	if len(l.SubMchids) == 0 {
		return true
	}
	for _, sub := range subMchids {
		if !slices.Contains(l.SubMchids, sub) {
			return false
		}
	}
	return len(subMchids) > 0
}

// WithinOrder reports whether amount more may be refunded of a payment of which
// refunded already is.
func (l Limit) WithinOrder(refunded, amount storage.Fen) bool {
	return l.RefundPerOrder == 0 || amount <= l.RefundPerOrder-refunded
}

// WithinDay reports whether the caller may refund amount more on a day on which
// it has applied for spent.
func (l Limit) WithinDay(spent, amount storage.Fen) bool {
	return l.RefundPerDay == 0 || amount <= l.RefundPerDay-spent
}

// china is the time that WeChat Pay's days are in.
var china = time.FixedZone("UTC+8", 8*60*60)

// Day names the day of China's time.
func Day(now time.Time) string { return now.In(china).Format(time.DateOnly) }

// Tomorrow returns how long the day of now lasts.
func Tomorrow(now time.Time) time.Duration {
	local := now.In(china)
	return time.Date(local.Year(), local.Month(), local.Day()+1, 0, 0, 0, 0, china).Sub(now)
}
