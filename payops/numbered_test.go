package payops_test

import (
	"fmt"
)

const (
	transferPath        = "/v3/fund-app/mch-transfer/transfer-bills"
	partnerTransferPath = "/v3/fund-app/mch-transfer/partner/transfer-bills"
	sharingPath         = "/v3/profitsharing/orders"
)

// transferBody is a transfer, in a spelling of its own.
func transferBody(number, fen string) string {
	return fmt.Sprintf(`{ "appid":"%s","out_bill_no":"%s" , "openid":"o-MYE42l80oelYMDE34nYD456Xoy","transfer_amount":%s,"transfer_scene_id":"1000","notify_url":"%s"}`,
		appid, number, fen, notifyURL)
}

// sharingBody shares 10 fen of a payment.
func sharingBody(number, transactionID string) string {
	return fmt.Sprintf(`{"appid":"%s","transaction_id":"%s","out_order_no":"%s", "receivers":[{"type":"MERCHANT_ID","account":"1900000110","amount":10,"description":"x"}],"unfreeze_unsplit":true}`,
		appid, transactionID, number)
}
