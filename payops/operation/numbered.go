package operation

import "strings"

// Number is what makes a repeat of an operation harmless that moves money: the
// merchant's own number of it. WeChat Pay takes a request with a number that it
// knows for the same request; what the number was used for may not change.
type Number struct {
	// Space names the numbers that this one is one of: numbers of different
	// spaces have nothing to do with each other. One query answers for all of a
	// space.
	Space string
	// Field holds the number: a member of the body, or a parameter of the path
	// (and, where an operation asks for the number, of the query).
	Field string
	// Optional: a request may have none, and is then sent once.
	Optional bool
	// Amounts are the members in fen, as paths like receivers[].amount. One that
	// is there is a whole number of at least 1.
	Amounts []string
	// Content are the other members that say what the number is used for:
	// payee, appid, currency, payment. What WeChat Pay wants encrypted is not
	// among them: its ciphertext differs each time.
	Content []string
	// Fill are members that the gateway fills in with the merchant's own where
	// the caller left them out: appid, sp_appid, notify_url.
	Fill []string
}

// InPath reports whether the number is a parameter of the operation's path.
func (n *Number) InPath(o *Operation) bool { return strings.Contains(o.Path, "{"+n.Field+"}") }

// The spaces of numbers that mean something to the gateway beside their content.
const (
	SpaceOrder  = "order"         // out_trade_no: shared with the ledger's orders
	SpaceRefund = "global_refund" // out_refund_no of products whose orders the ledger does not keep
)

// numberRow is one row of [numbers], its lists divided by blanks.
type numberRow struct {
	operation string
	space     string
	field     string // a trailing ? : optional
	amounts   string
	content   string
	fill      string
}

// numbers lists the operations that move money under a number of the merchant's:
// what the number is called, and what it stands for.
//
// What is charged by a payment code is not here, since it is never sent twice,
// nor what WeChat Pay knows by another name alone (after-sales profit sharing,
// payscore).
var numbers = []numberRow{
	// 商家转账
	{"POST /v3/fund-app/mch-transfer/transfer-bills", "transfer", "out_bill_no", "transfer_amount", "appid openid transfer_scene_id", "appid notify_url"},
	{"POST /v3/fund-app/mch-transfer/transfer-bills/pre-transfer-with-authorization", "transfer", "out_bill_no", "transfer_amount", "appid openid sponsor_mchid transfer_scene_id authorization_info.out_authorization_no", "appid notify_url"},
	{"POST /v3/fund-app/mch-transfer/transfer-bills/transfer", "transfer", "out_bill_no", "transfer_amount", "appid sponsor_mchid transfer_scene_id authorization_id out_authorization_no", "appid notify_url"},
	{"POST /v3/fund-app/mch-transfer/transfer-to-qq-wallet-bills", "transfer_qq", "out_bill_no", "transfer_amount", "appid openid transfer_scene_id", "appid notify_url"},
	{"POST /v3/fund-app/mch-transfer/partner/transfer-bills", "partner_transfer", "out_bill_no", "transfer_amount", "appid openid transfer_scene_id", "appid notify_url"},
	{"POST /v3/fund-app/mch-transfer/partner/transfer-bills/pre-transfer-with-authorization", "partner_transfer", "out_bill_no", "transfer_amount", "appid openid transfer_scene_id authorization_info.out_authorization_no", "appid notify_url"},
	{"POST /v3/fund-app/mch-transfer/partner/transfer-bills/transfer", "partner_transfer", "out_bill_no", "transfer_amount", "appid transfer_scene_id authorization_id", "appid notify_url"},
	{"POST /v3/ecommerce/mch-transfer/transfer-bills", "ecommerce_transfer", "out_bill_no", "transfer_amount", "appid openid transfer_scene_id", "appid notify_url"},

	// 批量转账
	{"POST /v3/transfer/batches", "transfer_batch", "out_batch_no", "total_amount transfer_detail_list[].transfer_amount", "appid total_num transfer_detail_list[].out_detail_no transfer_detail_list[].openid", "appid notify_url"},
	{"POST /v3/partner-transfer/batches", "partner_batch", "out_batch_no", "total_amount transfer_detail_list[].transfer_amount", "sp_appid sub_appid total_num transfer_detail_list[].out_detail_no transfer_detail_list[].openid", "sp_appid"},
	{"POST /v3/payroll-card/transfer-batches", "payroll_batch", "out_batch_no", "total_amount transfer_detail_list[].transfer_amount", "sp_appid sub_appid total_num transfer_detail_list[].out_detail_no transfer_detail_list[].openid", "sp_appid"},
	{"POST /v3/bank-transfer/batches", "bank_batch", "out_batch_no", "total_amount transfer_detail_list[].transfer_amount", "platform_mchid specialized_payment_mchid sponsor_mchid user_authorized_mchid user_authorized_appid total_count transfer_detail_list[].out_detail_no transfer_detail_list[].openid", ""},
	{"POST /v3/platsolution/mch-transfer/batches/apply", "plat_batch", "out_batch_no", "total_amount transfer_detail_list[].transfer_amount", "sp_appid sub_appid total_num transfer_detail_list[].out_detail_no transfer_detail_list[].openid transfer_detail_list[].reservation_id", "sp_appid"},
	{"POST /v3/platsolution/mch-transfer/reservation/apply", "plat_reservation", "out_reservation_no", "estimated_max_amount exact_amount", "sp_appid sub_appid openid", "sp_appid"},
	{"POST /v3/platsolution/insurance/mch-transfer/batches/apply", "insurance_batch", "out_batch_no", "total_amount transfer_detail_list[].transfer_amount", "sp_appid sub_appid total_num transfer_detail_list[].out_detail_no transfer_detail_list[].openid transfer_detail_list[].reservation_id", "sp_appid"},
	{"POST /v3/platsolution/insurance/mch-transfer/reservation/apply", "insurance_reservation", "out_reservation_no", "estimated_max_amount exact_amount", "sp_appid sub_appid openid", "sp_appid"},

	// 红包，公益捐赠
	{"POST /v3/fund-app/brand-redpacket/brand-merchant-batches", "redpacket_batch", "out_batch_no", "total_amount detail_list[].amount", "brand_id brand_appid total_num detail_list[].out_detail_no detail_list[].openid", ""},
	{"POST /v3/fund-app/mch-transfer/partner/charity-budget", "charity_budget", "out_budget_no", "amount", "sponsor_mchid", "notify_url"},
	{"POST /v3/fund-app/mch-transfer/partner/charity-transfer-bills", "charity_transfer", "out_transfer_no", "amount", "out_budget_no sponsor_mchid receive_mchid transaction_info.transaction_id", ""},

	// 赔付
	{"POST /v3/platsolution/ecommerce/mch-transfer/compensate-bills", "compensate", "out_bill_no", "amount", "sponsor_mchid receiver.type receiver.transaction_info.transaction_id", ""},
	{"POST /v3/platsolution/ecommerce/mch-transfer/compensate-bills/pre-transfer", "compensate", "out_bill_no", "amount", "sponsor_mchid sp_appid receiver.type receiver.transaction_info.transaction_id", "sp_appid notify_url"},
	{"POST /v3/platsolution/ecommerce/mch-transfer/deposit-after-sales-compensation-bills", "after_sales_compensation", "out_bill_no", "amount", "sp_appid sub_appid receiver.type receiver.transaction_info.transaction_id receiver.user_info.sp_openid", "sp_appid"},
	{"POST /v3/platsolution/ecommerce/mch-transfer/deposit-insurance-premiums-compensation-bills", "premiums_compensation", "out_bill_no", "amount", "sp_appid receiver.type receiver.mch_info.mchid receiver.transaction_info.transaction_id", "sp_appid"},
	{"POST /v3/platsolution/ecommerce/mch-transfer/deposit-shipping-cost-compensation-bills", "shipping_compensation", "out_bill_no", "amount", "sp_appid receiver.transaction_info.transaction_id receiver.user_info.sp_openid", "sp_appid"},
	{"POST /v3/platsolution/ecommerce/mch-transfer/insurance-claim-bills", "insurance_claim", "out_bill_no", "amount", "receiver.type receiver.transaction_info.transaction_id", ""},
	{"POST /v3/platsolution/ecommerce/mch-transfer/insurance-claim-bills/pre-transfer", "insurance_claim", "out_bill_no", "amount", "receiver.type receiver.transaction_info.transaction_id", "notify_url"},
	{"POST /v3/platsolution/ecommerce/mch-transfer/sub-mch-compensation-bills", "sub_mch_compensation", "out_bill_no", "amount", "sponsor_mchid receiver.type receiver.mch_info.mchid", ""},
	{"POST /v3/platsolution/ecommerce/mch-transfer/transfer-bills", "deposit_transfer", "out_bill_no", "amount", "sp_appid business_type receiver.type receiver.mch_info.mchid receiver.mch_info.mch_id", "sp_appid"},

	// 分账
	{"POST /v3/profitsharing/orders", "profitsharing", "out_order_no", "receivers[].amount", "appid sub_appid transaction_id receivers[].type receivers[].account unfreeze_unsplit", "appid"},
	{"POST /v3/profitsharing/orders/unfreeze", "profitsharing", "out_order_no", "", "transaction_id", ""},
	{"POST /v3/profitsharing/return-orders", "profitsharing_return", "out_return_no", "amount", "order_id out_order_no return_mchid", ""},
	{"POST /v3/brand/profitsharing/orders", "brand_profitsharing", "out_order_no", "receivers[].amount", "brand_mchid appid sub_appid transaction_id receivers[].type receivers[].account finish", "appid"},
	{"POST /v3/brand/profitsharing/finish-order", "brand_profitsharing", "out_order_no", "", "transaction_id", ""},
	{"POST /v3/brand/profitsharing/returnorders", "brand_profitsharing_return", "out_return_no", "amount", "order_id out_order_no return_mchid", ""},
	{"POST /v3/ecommerce/profitsharing/orders", "ecommerce_profitsharing", "out_order_no", "receivers[].amount", "appid transaction_id receivers[].type receivers[].receiver_account finish", "appid"},
	{"POST /v3/ecommerce/profitsharing/finish-order", "ecommerce_profitsharing", "out_order_no", "", "transaction_id", ""},
	{"POST /v3/ecommerce/profitsharing/returnorders", "ecommerce_profitsharing_return", "out_return_no", "amount", "order_id out_order_no transaction_id return_mchid", ""},
	{"POST /v3/global/profit-sharing/orders", "global_profitsharing", "out_order_no", "receivers[].amount", "appid sub_appid transaction_id receivers[].type receivers[].account receivers[].currency unfreeze_unsplit", "appid"},
	{"POST /v3/global/profit-sharing/orders/unfreeze", "global_profitsharing", "out_order_no", "", "transaction_id", ""},

	// Refunds and reversals of orders that the ledger does not keep.
	{"POST /v3/global/refunds", SpaceRefund, "out_refund_no", "amount.refund amount.total", "transaction_id out_trade_no amount.currency", "notify_url"},
	{"POST /v3/global/micropay/transactions/out-trade-no/{out_trade_no}/reverse", "reverse", "out_trade_no", "", "mchid sp_mchid", ""},
	{"POST /v3/global/micropay/transactions/id/{transaction_id}/reverse", "reverse_id", "transaction_id", "", "mchid sp_mchid", ""},
	{"POST /v3/global/papay/transactions/out-trade-no/{out_trade_no}/reverse", "reverse", "out_trade_no", "", "", ""},
	{"POST /v3/ecommerce/combine-papay/transactions/{combine_out_trade_no}/reverse", "reverse", "combine_out_trade_no", "", "combine_appid sub_orders[].mchid sub_orders[].out_trade_no sub_orders[].sub_mchid", ""},

	// Orders that the ledger does not keep, and deductions (扣款) by contract.
	{"POST /v3/global/transactions/app", SpaceOrder, "out_trade_no", "amount.total", "appid sp_appid amount.currency", "notify_url"},
	{"POST /v3/global/transactions/jsapi", SpaceOrder, "out_trade_no", "amount.total", "appid sp_appid amount.currency payer.openid payer.sp_openid payer.sub_openid", "notify_url"},
	{"POST /v3/global/transactions/mweb", SpaceOrder, "out_trade_no", "amount.total", "appid sp_appid amount.currency", "notify_url"},
	{"POST /v3/global/transactions/native", SpaceOrder, "out_trade_no", "amount.total", "appid sp_appid amount.currency", "notify_url"},
	{"POST /v3/global/papay/transactions", SpaceOrder, "out_trade_no", "amount.total", "appid sp_appid amount.currency contract_id", "notify_url"},
	{"POST /v3/combine-transactions/miniprogram", SpaceOrder, "combine_out_trade_no", "sub_orders[].amount.total_amount", "combine_appid combine_payer_info.openid sub_orders[].mchid sub_orders[].out_trade_no sub_orders[].amount.currency sub_orders[].individual_auth_id", "notify_url"},
	{"POST /v3/repayment/combine-transactions/partner/prepay", SpaceOrder, "combine_out_trade_no", "sub_orders[].amount.total_amount", "sub_orders[].mchid sub_orders[].sub_mchid sub_orders[].out_trade_no sub_orders[].amount.currency", "notify_url"},
	{"POST /v3/ecommerce/combine-papay/transactions", SpaceOrder, "combine_out_trade_no", "sub_orders[].amount.total_amount", "combine_appid contract_id sub_orders[].mchid sub_orders[].sub_mchid sub_orders[].out_trade_no sub_orders[].amount.currency", ""},
	{"POST /v3/credit-repayment/partner/deduct-orders", SpaceOrder, "out_trade_no", "deduct_amount", "contract_id out_record_id", "notify_url"},
	{"POST /v3/ebike/charge/transactions", SpaceOrder, "out_trade_no", "amount.total", "appid amount.currency charging_token", "appid notify_url"},
	{"POST /v3/edu-papay/transactions", SpaceOrder, "out_trade_no", "amount.total", "appid amount.currency contract_id", "appid notify_url"},
	{"POST /v3/eduschoolpay/transactions", SpaceOrder, "out_trade_no", "amount.total", "appid amount.currency contract_id user_id", "appid notify_url"},
	{"POST /v3/papay/pay/transactions/apply", SpaceOrder, "out_trade_no", "amount.total", "appid amount.currency contract_id", "appid"},
	{"POST /v3/papay/pay/partner/transactions/apply", SpaceOrder, "out_trade_no", "amount.total", "sp_appid sub_appid amount.currency contract_id", "sp_appid"},
	{"POST /v3/papay/pay/harmony/transactions/apply", SpaceOrder, "out_trade_no", "amount.total", "appid amount.currency contract_id", "appid"},
	{"POST /v3/papay/insurance-pay/transactions/apply", SpaceOrder, "out_trade_no", "amount.total", "appid amount.currency contract_id policy_period_id", "appid"},
	{"POST /v3/qrcode/transactions", SpaceOrder, "out_trade_no", "amount.total", "appid sub_appid amount.currency contract_id trade_scene", "appid"},
	{"POST /v3/vehicle/etc/transactions/highway", SpaceOrder, "out_trade_no", "amount.total", "appid sub_appid amount.currency contract_id highway_info.plate_number", "appid"},

	// 提现，补差，资金出境，结算
	{"POST /v3/merchant/fund/withdraw", "withdraw", "out_request_no", "amount", "account_type", ""},
	{"POST /v3/ecommerce/fund/withdraw", "ecommerce_withdraw", "out_request_no", "amount", "account_type", ""},
	{"POST /v3/platsolution/ecommerce/withdraw/day-end-balance-withdraw", "withdraw_day_end", "out_request_no", "", "calculate_amount_type reserve_amount", ""},
	{"POST /v3/ecommerce/subsidies/create", "subsidy", "out_subsidy_no?", "amount", "transaction_id refund_id", ""},
	{"POST /v3/ecommerce/subsidies/return", "subsidy_return", "out_order_no", "amount from[].amount", "transaction_id refund_id subsidy_id from[].account", ""},
	{"POST /v3/marketing/busifavor/subsidy/pay-receipts", "favor_subsidy", "out_subsidy_no", "amount", "stock_id coupon_code transaction_id payer_merchant payee_merchant", ""},
	{"POST /v3/marketing/busifavor/subsidy/return-receipts", "favor_subsidy_return", "out_subsidy_return_no", "amount", "stock_id coupon_code transaction_id refund_id payer_merchant payee_merchant", ""},
	{"POST /v3/funds-to-oversea/orders", "oversea", "out_order_id", "amount", "transaction_id foreign_currency payee_info.payee_id", ""},
	{"POST /v3/funds-to-oversea/return/return-orders", "oversea_return", "out_return_no", "amount", "out_order_id transaction_id", ""},
	{"POST /v3/platsolution/ecommerce/settle/prepay-settle-orders", "settle", "out_settle_batch_no", "settle_info_list[].settle_detail_info_list[].amount.amount", "appid individual_auth_id settle_info_list[].out_settle_no settle_info_list[].transaction_id settle_info_list[].settle_detail_info_list[].out_settle_detail_no settle_info_list[].settle_detail_info_list[].receiver_type settle_info_list[].settle_detail_info_list[].receiver_account", "appid"},
	{"POST /v3/abnormal-fund-processing/receipts/{receipt_id}/transfer-instructions", "instruction", "out_instruction_no", "", "transfer_mode receiver.openid receiver.appid receiver.mchid", ""},
}

// numberQueries lists the operations that ask for a number of a space: their
// verified "no such number" frees it.
var numberQueries = []struct{ operation, space, field string }{
	{"GET /v3/fund-app/mch-transfer/transfer-bills/out-bill-no/{out_bill_no}", "transfer", "out_bill_no"},
	{"GET /v3/fund-app/mch-transfer/partner/transfer-bills/out-bill-no/{out_bill_no}", "partner_transfer", "out_bill_no"},
	{"GET /v3/fund-app/mch-transfer/transfer-to-qq-wallet-bills/{out_bill_no}", "transfer_qq", "out_bill_no"},
	{"GET /v3/ecommerce/mch-transfer/transfer-bills/out-bill-no/{out_bill_no}", "ecommerce_transfer", "out_bill_no"},
	{"GET /v3/transfer/batches/out-batch-no/{out_batch_no}", "transfer_batch", "out_batch_no"},
	{"GET /v3/partner-transfer/batches/out-batch-no/{out_batch_no}", "partner_batch", "out_batch_no"},
	{"GET /v3/bank-transfer/batches/out-batch-no/{out_batch_no}", "bank_batch", "out_batch_no"},
	{"GET /v3/platsolution/mch-transfer/batches/out-batch-no/{out_batch_no}", "plat_batch", "out_batch_no"},
	{"GET /v3/platsolution/mch-transfer/reservation/out-reservation-no/{out_reservation_no}", "plat_reservation", "out_reservation_no"},
	{"GET /v3/platsolution/insurance/mch-transfer/batches/out-batch-no/{out_batch_no}", "insurance_batch", "out_batch_no"},
	{"GET /v3/platsolution/insurance/mch-transfer/reservation/out-reservation-no/{out_reservation_no}", "insurance_reservation", "out_reservation_no"},
	{"GET /v3/fund-app/brand-redpacket/brand-merchant-out-batches/{out_batch_no}", "redpacket_batch", "out_batch_no"},
	{"GET /v3/fund-app/mch-transfer/partner/charity-budget/{out_budget_no}", "charity_budget", "out_budget_no"},
	{"GET /v3/fund-app/mch-transfer/partner/charity-transfer-bills/out-transfer-no/{out_transfer_no}", "charity_transfer", "out_transfer_no"},
	{"GET /v3/platsolution/ecommerce/mch-transfer/compensate-bills/out-bill-no/{out_bill_no}", "compensate", "out_bill_no"},
	{"GET /v3/platsolution/ecommerce/mch-transfer/insurance-claim-bills/out-bill-no/{out_bill_no}", "insurance_claim", "out_bill_no"},
	{"GET /v3/platsolution/ecommerce/mch-transfer/transfer-bills/out-bill-no/{out_bill_no}", "deposit_transfer", "out_bill_no"},
	{"GET /v3/profitsharing/orders/{out_order_no}", "profitsharing", "out_order_no"},
	{"GET /v3/profitsharing/return-orders/{out_return_no}", "profitsharing_return", "out_return_no"},
	{"GET /v3/brand/profitsharing/orders", "brand_profitsharing", "out_order_no"},
	{"GET /v3/brand/profitsharing/returnorders", "brand_profitsharing_return", "out_return_no"},
	{"GET /v3/ecommerce/profitsharing/orders", "ecommerce_profitsharing", "out_order_no"},
	{"GET /v3/ecommerce/profitsharing/returnorders", "ecommerce_profitsharing_return", "out_return_no"},
	{"GET /v3/global/profit-sharing/orders/{out_order_no}", "global_profitsharing", "out_order_no"},
	{"GET /v3/merchant/fund/withdraw/out-request-no/{out_request_no}", "withdraw", "out_request_no"},
	{"GET /v3/ecommerce/fund/withdraw/out-request-no/{out_request_no}", "ecommerce_withdraw", "out_request_no"},
}

// numberOf reads the tables: numbers by operation.
func numberOf() map[string]*Number {
	all := make(map[string]*Number, len(numbers)+len(numberQueries))
	for _, row := range numbers {
		field, optional := strings.CutSuffix(row.field, "?")
		all[row.operation] = &Number{
			Space: row.space, Field: field, Optional: optional,
			Amounts: strings.Fields(row.amounts), Content: strings.Fields(row.content), Fill: strings.Fields(row.fill),
		}
	}
	for _, row := range numberQueries {
		all[row.operation] = &Number{Space: row.space, Field: row.field}
	}
	return all
}
