package operation

import "github.com/caddy-wechatpay/caddy-wechatpay/storage"

// Act says what a served operation does to an order.
type Act uint8

// The acts.
const (
	// ActNone: the operation is not served by this version.
	ActNone Act = iota
	// ActCreate makes an order; its number makes a repeat harmless.
	ActCreate
	// ActQuery asks; it changes nothing at WeChat.
	ActQuery
	// ActClose closes an order; a repeat is harmless.
	ActClose
)

// String returns none, create, query or close.
func (a Act) String() string {
	switch a {
	case ActNone:
		return "none"
	case ActCreate:
		return "create"
	case ActQuery:
		return "query"
	case ActClose:
		return "close"
	}
	return "none"
}

// service is what the gateway does for one operation.
type service struct {
	act  Act
	kind storage.OrderKind
}

// served lists what this version serves. A later version adds lines here; an
// operation that is not listed is known, has its group, and is refused with a
// message that says so.
var served = map[string]service{
	"POST /v3/pay/transactions/native":                            {ActCreate, storage.OrderBasic},
	"GET /v3/pay/transactions/id/{transaction_id}":                {ActQuery, storage.OrderBasic},
	"GET /v3/pay/transactions/out-trade-no/{out_trade_no}":        {ActQuery, storage.OrderBasic},
	"POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close": {ActClose, storage.OrderBasic},

	"POST /v3/combine-transactions/native":                                    {ActCreate, storage.OrderCombine},
	"GET /v3/combine-transactions/out-trade-no/{combine_out_trade_no}":        {ActQuery, storage.OrderCombine},
	"POST /v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close": {ActClose, storage.OrderCombine},
}
