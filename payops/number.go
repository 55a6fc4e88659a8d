package payops

import "github.com/caddy-wechatpay/caddy-wechatpay/storage"

// maxNumber is the longest order number, in bytes.
const maxNumber = 32

// minNumber is the shortest number of a kind of order. Only what every official
// page refuses is refused here.
func minNumber(kind storage.OrderKind) int {
	switch kind {
	case storage.OrderBasic, storage.OrderPartner:
		return 6
	case storage.OrderCombine:
		return 2
	case storage.OrderParking:
		return 1
	}
	return 1
}

// validNumber reports whether s may be an order number of a kind: digits,
// letters and _-|*@ (the union of what the official pages allow), and not too
// short or long. What passes cannot change the path it is put into.
func validNumber(s string, kind storage.OrderKind) bool {
	return len(s) >= minNumber(kind) && len(s) <= maxNumber && numberText(s)
}

// validSubNumber is validNumber for 商品单 of a combine order.
func validSubNumber(s string) bool { return len(s) >= 2 && len(s) <= maxNumber && numberText(s) }

func numberText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
		case c == '_', c == '-', c == '|', c == '*', c == '@':
		default:
			return false
		}
	}
	return true
}

// validMchid reports whether s may be a merchant number: digits.
func validMchid(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= maxNumber
}

// validTransactionID reports whether s may be WeChat Pay's own number.
func validTransactionID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= maxNumber
}
