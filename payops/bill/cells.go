package bill

import (
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Beijing is the zone of bills: UTC+8, without daylight saving time.
var Beijing = time.FixedZone("CST", 8*60*60)

// timeLayout is how bills write times, in Beijing time.
const timeLayout = "2006-01-02 15:04:05"

// text keeps a value as it is.
func text[T any](of func(*T) *string) func(*T, string) error {
	return func(t *T, s string) error { *of(t) = s; return nil }
}

// number keeps a number of WeChat Pay's; "0" stands for none.
func number[T any](of func(*T) *string) func(*T, string) error {
	return func(t *T, s string) error {
		if s != "0" {
			*of(t) = s
		}
		return nil
	}
}

// when reads a time.
func when[T any](of func(*T) *time.Time) func(*T, string) error {
	return func(t *T, s string) error {
		at, err := time.ParseInLocation(timeLayout, s, Beijing)
		if err != nil || len(s) != len(timeLayout) {
			return ErrRow
		}
		*of(t) = at
		return nil
	}
}

// maybe reads a time that may be missing.
func maybe[T any](of func(*T) *time.Time) func(*T, string) error {
	read := when(of)
	return func(t *T, s string) error {
		if s == "" {
			return nil
		}
		return read(t, s)
	}
}

// fen reads an amount.
func fen[T any](of func(*T) *storage.Fen) func(*T, string) error {
	return func(t *T, s string) error {
		n, ok := parseYuan(s, fenDecimals)
		if !ok {
			return ErrAmount
		}
		*of(t) = storage.Fen(n)
		return nil
	}
}

// fees reads a fee.
func fees[T any](of func(*T) *Fee) func(*T, string) error {
	return func(t *T, s string) error {
		n, ok := parseYuan(s, feeDecimals)
		if !ok {
			return ErrAmount
		}
		*of(t) = Fee(n)
		return nil
	}
}

// digits reports whether text is a number of a merchant.
func digits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != "" && len(text) <= 32
}
