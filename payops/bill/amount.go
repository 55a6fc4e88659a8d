package bill

import (
	"math"
	"strconv"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Fee is a fee (手续费) in hundred-thousandths of a yuan: bills write fees with
// five decimals. 1000 are a fen. The zero value is no fee.
type Fee int64

// String writes the fee in yuan, as bills do: "0.01000".
func (f Fee) String() string { return yuan(int64(f), feeDecimals) }

// MarshalText writes the fee in yuan, as bills do.
func (f Fee) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what [Fee.MarshalText] writes. Errors: [ErrAmount].
func (f *Fee) UnmarshalText(text []byte) error {
	n, ok := parseYuan(string(text), feeDecimals)
	if !ok {
		return ErrAmount
	}
	*f = Fee(n)
	return nil
}

// The decimals of a yuan that are kept.
const (
	fenDecimals = 2
	feeDecimals = 5
)

const (
	maxWhole    = 13 // digits: with five decimals it is less than an int64 holds
	maxFraction = 16
)

// parseYuan reads an amount in yuan with any number of decimals, as a count of
// the unit that has the given number of them. What does not come out even is
// refused: nothing is rounded.
func parseYuan(text string, decimals int) (int64, bool) {
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, pointed := strings.Cut(digits, ".")
	if whole == "" || len(whole) > maxWhole || pointed && fraction == "" || len(fraction) > maxFraction {
		return 0, false
	}
	var n int64
	for i := range len(whole) {
		c := whole[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	for i := range max(len(fraction), decimals) {
		c := byte('0')
		if i < len(fraction) {
			c = fraction[i]
		}
		switch {
		case c < '0' || c > '9', i >= decimals && c != '0':
			return 0, false
		case i < decimals:
			n = n*10 + int64(c-'0')
		}
	}
	if negative {
		n = -n
	}
	return n, true
}

// sum adds up one column. The zero value is nothing.
type sum struct {
	total int64
	over  bool // it does not fit
}

func (s *sum) add(n int64) {
	if n > 0 && s.total > math.MaxInt64-n || n < 0 && s.total < math.MinInt64-n {
		s.over = true
		return
	}
	s.total += n
}

// Yuan writes an amount in yuan with two decimals, as bills do: "0.01".
func Yuan(f storage.Fen) string { return yuan(int64(f), fenDecimals) }

// yuan writes n units of the given number of decimals.
func yuan(n int64, decimals int) string {
	sign, size := "", uint64(n)
	if n < 0 {
		sign, size = "-", -size
	}
	digits := strconv.FormatUint(size, 10)
	if missing := decimals + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) - decimals
	return sign + digits[:point] + "." + digits[point:]
}
