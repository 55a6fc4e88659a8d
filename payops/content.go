package payops

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// contentOf digests what a number is used for: kind, payee, amount, currency,
// appid and sub-orders (in whatever order they are listed). Every field is
// written with its length, so that no two contents share a text.
func contentOf(o storage.Order) string {
	h := sha256.New()
	field := func(values ...any) {
		for _, v := range values {
			text := fmt.Sprint(v)
			fmt.Fprintf(h, "%d:%s,", len(text), text) // a hash never fails
		}
	}
	field(o.Kind, o.Key.Mchid, o.Key.SubMchid, int64(o.Amount.Total), o.Amount.Currency, o.Appid, len(o.Subs))
	for _, s := range sortedSubs(o.Subs) {
		field(s.Mchid, s.SubMchid, s.OutTradeNo, int64(s.Amount.Total), s.Amount.Currency, s.Appid)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sortedSubs returns a copy in one order.
func sortedSubs(subs []storage.SubOrder) []storage.SubOrder {
	subs = slices.Clone(subs)
	slices.SortFunc(subs, func(a, b storage.SubOrder) int {
		return cmp.Or(cmp.Compare(a.Mchid, b.Mchid), cmp.Compare(a.SubMchid, b.SubMchid), cmp.Compare(a.OutTradeNo, b.OutTradeNo))
	})
	return subs
}

// agrees reports whether a stated order contradicts nothing that the ledger
// knows under its number. What either side leaves open is no contradiction.
func agrees(known, stated storage.Order) bool {
	if known.Content != "" && stated.Content != "" {
		return known.Content == stated.Content
	}
	return known.Kind == stated.Kind &&
		(known.Amount.Total == 0 || stated.Amount.Total == 0 || known.Amount == stated.Amount) &&
		either(known.Appid, stated.Appid) &&
		either(known.ParkingID, stated.ParkingID) &&
		either(known.OutParkingNo, stated.OutParkingNo) &&
		either(known.Plate, stated.Plate) &&
		either(known.PlateColor, stated.PlateColor) &&
		(len(known.Subs) == 0 || len(stated.Subs) == 0 || sameSubs(known.Subs, stated.Subs, true))
}

func either(a, b string) bool { return a == "" || b == "" || a == b }

// sameSubs reports whether two lists hold the same sub-orders in any order;
// amounts are compared when wanted.
func sameSubs(a, b []storage.SubOrder, amounts bool) bool {
	if len(a) != len(b) {
		return false
	}
	a, b = sortedSubs(a), sortedSubs(b)
	for i := range a {
		if a[i].Key() != b[i].Key() || amounts && a[i].Amount != b[i].Amount || !either(a[i].Appid, b[i].Appid) {
			return false
		}
	}
	return true
}
