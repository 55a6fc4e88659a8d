package operation

import (
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Act says what an operation does to the ledger.
type Act uint8

// The acts.
const (
	// ActForward passes on what the ledger has no rows for: the caller's bytes
	// are signed and sent as they are.
	ActForward Act = iota
	// ActCreate makes an order; its number makes a repeat harmless.
	ActCreate
	// ActQuery asks for an order; it changes nothing at WeChat.
	ActQuery
	// ActClose closes an order; a repeat is harmless.
	ActClose
	// ActRefund applies for a refund; its number makes a repeat harmless.
	ActRefund
	// ActQueryRefund asks for a refund; it changes nothing at WeChat.
	ActQueryRefund
	// ActAbnormalRefund sends a refund that went wrong (退款异常) another way.
	ActAbnormalRefund
	// ActReverse (撤销) closes an order that is not paid and gives back the money of
	// one that is; a repeat is harmless.
	ActReverse
	// ActNumbered moves money under a number of the merchant's that makes a
	// repeat harmless: see [Number].
	ActNumbered
	// ActQueryNumber asks for such a number; it changes nothing at WeChat.
	ActQueryNumber
	// ActEnterParking reports a car's entry (停车入场); its number makes a repeat
	// harmless.
	ActEnterParking
	// ActChargeParking has a stay charged (扣费受理); its number makes a repeat
	// harmless.
	ActChargeParking
	// ActDownload streams a file whose answer WeChat Pay does not sign.
	ActDownload
)

// String returns the act as one word.
func (a Act) String() string {
	switch a {
	case ActForward:
		return "forward"
	case ActCreate:
		return "create"
	case ActQuery:
		return "query"
	case ActClose:
		return "close"
	case ActRefund:
		return "refund"
	case ActQueryRefund:
		return "query_refund"
	case ActAbnormalRefund:
		return "abnormal_refund"
	case ActReverse:
		return "reverse"
	case ActNumbered:
		return "numbered"
	case ActQueryNumber:
		return "query_number"
	case ActEnterParking:
		return "enter_parking"
	case ActChargeParking:
		return "charge_parking"
	case ActDownload:
		return "download"
	}
	return "unknown"
}

// service is what the gateway does for one operation beyond passing it on.
type service struct {
	act  Act
	kind storage.OrderKind
}

// served lists the operations that mean more to the ledger than their number.
// Everything else is numbered by the tables of numbered.go, or passed on.
//
// Mini-program orders use the jsapi paths; /v3/combine-transactions/miniprogram
// belongs to 个人收款 and is passed on.
var served = map[string]service{
	"POST /v3/pay/transactions/app":                                 {ActCreate, storage.OrderBasic},
	"POST /v3/pay/transactions/app-with-contract":                   {ActCreate, storage.OrderBasic},
	"POST /v3/pay/transactions/codepay":                             {ActCreate, storage.OrderBasic},
	"POST /v3/pay/transactions/h5":                                  {ActCreate, storage.OrderBasic},
	"POST /v3/pay/transactions/jsapi":                               {ActCreate, storage.OrderBasic},
	"POST /v3/pay/transactions/jsapi-with-contract":                 {ActCreate, storage.OrderBasic},
	"POST /v3/pay/transactions/native":                              {ActCreate, storage.OrderBasic},
	"GET /v3/pay/transactions/id/{transaction_id}":                  {ActQuery, storage.OrderBasic},
	"GET /v3/pay/transactions/out-trade-no/{out_trade_no}":          {ActQuery, storage.OrderBasic},
	"POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close":   {ActClose, storage.OrderBasic},
	"POST /v3/pay/transactions/out-trade-no/{out_trade_no}/reverse": {ActReverse, storage.OrderBasic},

	"POST /v3/pay/partner/transactions/app":                                 {ActCreate, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/app-with-contract":                   {ActCreate, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/codepay":                             {ActCreate, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/h5":                                  {ActCreate, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/jsapi":                               {ActCreate, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/jsapi-with-contract":                 {ActCreate, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/miniprogram":                         {ActCreate, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/native":                              {ActCreate, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/scannedpos":                          {ActCreate, storage.OrderPartner},
	"GET /v3/pay/partner/transactions/id/{transaction_id}":                  {ActQuery, storage.OrderPartner},
	"GET /v3/pay/partner/transactions/out-trade-no/{out_trade_no}":          {ActQuery, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/out-trade-no/{out_trade_no}/close":   {ActClose, storage.OrderPartner},
	"POST /v3/pay/partner/transactions/out-trade-no/{out_trade_no}/reverse": {ActReverse, storage.OrderPartner},

	"POST /v3/combine-transactions/app":                                       {ActCreate, storage.OrderCombine},
	"POST /v3/combine-transactions/h5":                                        {ActCreate, storage.OrderCombine},
	"POST /v3/combine-transactions/jsapi":                                     {ActCreate, storage.OrderCombine},
	"POST /v3/combine-transactions/native":                                    {ActCreate, storage.OrderCombine},
	"GET /v3/combine-transactions/out-trade-no/{combine_out_trade_no}":        {ActQuery, storage.OrderCombine},
	"POST /v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close": {ActClose, storage.OrderCombine},

	"POST /v3/vehicle/parking/parkings":                        {ActEnterParking, ""},
	"POST /v3/vehicle/transactions/parking":                    {ActChargeParking, storage.OrderParking},
	"GET /v3/vehicle/transactions/out-trade-no/{out_trade_no}": {ActQuery, storage.OrderParking},

	"POST /v3/refund/domestic/refunds":                                   {ActRefund, ""},
	"GET /v3/refund/domestic/refunds/{out_refund_no}":                    {ActQueryRefund, ""},
	"POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund": {ActAbnormalRefund, ""},
	"POST /v3/ecommerce/refunds/apply":                                   {ActRefund, ""},
	"GET /v3/ecommerce/refunds/out-refund-no/{out_refund_no}":            {ActQueryRefund, ""},
	"GET /v3/ecommerce/refunds/id/{refund_id}":                           {ActQueryRefund, ""},
	"POST /v3/ecommerce/refunds/{refund_id}/apply-abnormal-refund":       {ActAbnormalRefund, ""},

	// The answer is the file itself and carries no signature; the hash in the
	// signed answer that named the file, where there is one, is what the caller
	// checks it against.
	"GET /v3/billdownload/file":                         {ActDownload, ""},
	"GET /v3/merchant-service/images/{media_id}":        {ActDownload, ""},
	"GET /v3/global/merchant-service/images/{media_id}": {ActDownload, ""},
	"GET /v3/transferdownload/elecvoucherfile":          {ActDownload, ""},
	"GET /v3/transferdownload/signfile":                 {ActDownload, ""},
}

// CodePay reports whether the operation charges a payment code (付款码支付): the
// money may move within the call, no callback follows, and there is no
// notify_url.
func (o *Operation) CodePay() bool {
	return o.Path == "/v3/pay/transactions/codepay" || o.Path == "/v3/pay/partner/transactions/codepay"
}

// Shares reports whether the operation shares the money of a payment (分账):
// WeChat Pay wants a minute between the two.
func (o *Operation) Shares() bool {
	return o.Act == ActNumbered && o.Group == ProfitSharing && strings.HasSuffix(o.Path, "/orders")
}
