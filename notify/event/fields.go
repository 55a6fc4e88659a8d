package event

// field is one string of the plaintext that decides something.
type field uint8

const (
	fMchid field = iota
	fSpMchid
	fSubMchid
	fCombineMchid
	fAppid
	fSpAppid
	fSubAppid
	fCombineAppid
	fTransactionID
	fOutTradeNo
	fCombineOutTradeNo
	fTradeState
	fTradeScene
	fRefundID
	fOutRefundNo
	fRefundStatus
	fParkingID
	fOutParkingNo
	fPlateNumber
	fPlateColor
	fParkingState
	fStateUpdateTime
	fOrderID
	fOutOrderNo
	fServiceID
	fState
	fAuthorizationCode
	fOpenOrCloseTime
	fUserServiceStatus
	fServiceState
	fServiceOpenTime
	fOpenid
	fSuccessTime
	fTransferBillNo
	fOutBillNo
	fBatchID
	fOutBatchNo
	fBatchStatus
	fReceiverType
	fReceiverAccount
	fCollectionState
	fields // how many
)

// fieldOf names the fields of the plaintext's top level. ok is false for names
// that decide nothing.
func fieldOf(name []byte) (f field, ok bool) {
	switch string(name) {
	case "mchid", "mch_id": // product pages spell it both ways
		return fMchid, true
	case "sp_mchid":
		return fSpMchid, true
	case "sub_mchid", "sub_mch_id":
		return fSubMchid, true
	case "combine_mchid":
		return fCombineMchid, true
	case "appid":
		return fAppid, true
	case "sp_appid":
		return fSpAppid, true
	case "sub_appid":
		return fSubAppid, true
	case "combine_appid":
		return fCombineAppid, true
	case "transaction_id":
		return fTransactionID, true
	case "out_trade_no":
		return fOutTradeNo, true
	case "combine_out_trade_no":
		return fCombineOutTradeNo, true
	case "trade_state":
		return fTradeState, true
	case "trade_scene":
		return fTradeScene, true
	case "refund_id":
		return fRefundID, true
	case "out_refund_no":
		return fOutRefundNo, true
	case "refund_status":
		return fRefundStatus, true
	case "parking_id":
		return fParkingID, true
	case "out_parking_no":
		return fOutParkingNo, true
	case "plate_number":
		return fPlateNumber, true
	case "plate_color":
		return fPlateColor, true
	case "parking_state":
		return fParkingState, true
	case "state_update_time":
		return fStateUpdateTime, true
	case "order_id":
		return fOrderID, true
	case "out_order_no":
		return fOutOrderNo, true
	case "service_id":
		return fServiceID, true
	case "state":
		return fState, true
	case "authorization_code":
		return fAuthorizationCode, true
	case "openorclose_time":
		return fOpenOrCloseTime, true
	case "user_service_status":
		return fUserServiceStatus, true
	case "service_state":
		return fServiceState, true
	case "service_open_time":
		return fServiceOpenTime, true
	case "openid":
		return fOpenid, true
	case "success_time":
		return fSuccessTime, true
	case "transfer_bill_no":
		return fTransferBillNo, true
	case "out_bill_no":
		return fOutBillNo, true
	case "batch_id":
		return fBatchID, true
	case "out_batch_no":
		return fOutBatchNo, true
	case "batch_status":
		return fBatchStatus, true
	}
	return 0, false
}
