package operation

import (
	"slices"
	"strings"
	"testing"
)

// TestSubMchidPlaces holds the list of places against the operations.
func TestSubMchidPlaces(t *testing.T) {
	for line := range strings.Lines(placesText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		place, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		method, path, _ := strings.Cut(name, " ")
		found := false
		for _, o := range All() {
			found = found || o.String() == name
		}
		switch {
		case !found:
			t.Errorf("%s is no operation", name)
		case strings.Contains(path, "{sub_mchid}"):
			t.Errorf("%s has it in its path", name)
		case method == "GET" && place != "query":
			t.Errorf("%s has no body", name)
		}
	}
	for name, want := range map[string]SubMchidPlace{
		"POST /v3/pay/transactions/native":                                        SubMchidNowhere,
		"POST /v3/pay/partner/transactions/native":                                SubMchidInBody,
		"GET /v3/pay/partner/transactions/id/{transaction_id}":                    SubMchidInQuery,
		"POST /v3/combine-transactions/native":                                    SubMchidInOrders,
		"GET /v3/combine-transactions/out-trade-no/{combine_out_trade_no}":        SubMchidNowhere,
		"POST /v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close": SubMchidInOrders,
		"POST /v3/refund/domestic/refunds":                                        SubMchidInBody,
		"POST /v3/ecommerce/refunds/apply":                                        SubMchidInBody,
		"GET /v3/refund/domestic/refunds/{out_refund_no}":                         SubMchidInQuery,
		"POST /v3/fund-app/mch-transfer/transfer-bills":                           SubMchidNowhere,
		"POST /v3/fund-app/mch-transfer/partner/transfer-bills":                   SubMchidInBody,
		"POST /v3/vehicle/transactions/parking":                                   SubMchidInBody,
		"GET /v3/profitsharing/merchant-configs/{sub_mchid}":                      SubMchidInPath,
		"GET /v3/billdownload/file":                                               SubMchidNowhere,
		"POST /v3/merchant/fund/withdraw":                                         SubMchidNowhere,
		"GET /v3/ecommerce/fund/withdraw/out-request-no/{out_request_no}":         SubMchidInQuery,
	} {
		for _, o := range All() {
			if o.String() == name && o.SubMchid != want {
				t.Errorf("%s: %d, want %d", name, o.SubMchid, want)
			}
		}
	}
	// A query of a number states the sub-merchant where the call itself does: the
	// two mean the same number. Two queries have no such parameter: what they say of
	// a number frees none.
	without := []string{"partner_batch", "deposit_transfer"}
	spaces := map[string]bool{}
	for _, o := range All() {
		if o.Act == ActNumbered && (o.SubMchid == SubMchidInBody || o.SubMchid == SubMchidInQuery) {
			spaces[o.Number.Space] = true
		}
	}
	for _, o := range All() {
		if o.Act == ActQueryNumber && !slices.Contains(without, o.Number.Space) && (o.SubMchid != SubMchidNowhere) != spaces[o.Number.Space] {
			t.Errorf("%s: of a space whose calls have a sub-merchant: %t", o, spaces[o.Number.Space])
		}
	}
}
