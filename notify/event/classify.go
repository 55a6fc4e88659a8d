package event

import (
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Classify tells what a decrypted resource is. mchid is the merchant block's
// own, the owner of events that name none. Errors wrap [ErrMalformed]; a field
// of an unexpected type is no error but makes the kind [Unknown].
func Classify(head Head, resource []byte, mchid string) (Event, error) {
	var p plaintext
	if err := parsePlaintext(&p, resource); err != nil {
		return Event{}, err
	}
	e := Event{
		Kind:           kindOf(&head, &p),
		NotificationID: head.ID,
		EventType:      head.EventType,
		Mchid:          or(p.text[fSpMchid], p.text[fMchid], p.text[fCombineMchid], mchid),
		SubMchid:       p.text[fSubMchid],
		Appid:          or(p.text[fSpAppid], p.text[fAppid], p.text[fCombineAppid]),
		SubAppid:       p.text[fSubAppid],
		OutTradeNo:     or(p.text[fOutTradeNo], p.text[fCombineOutTradeNo]),
		TransactionID:  p.text[fTransactionID],
		OutRefundNo:    p.text[fOutRefundNo],
		RefundID:       p.text[fRefundID],
		ParkingID:      p.text[fParkingID],
		OutParkingNo:   p.text[fOutParkingNo],
		Plate:          p.text[fPlateNumber],
		PlateColor:     p.text[fPlateColor],
		TradeScene:     p.text[fTradeScene],
		Amount:         p.amount,
	}
	if t, err := time.Parse(time.RFC3339, p.text[fSuccessTime]); err == nil {
		e.SuccessAt = t
	}
	switch e.Kind {
	case Combine:
		e.Mchid = or(p.text[fCombineMchid], mchid)
		e.Appid = p.text[fCombineAppid]
		e.OutTradeNo = p.text[fCombineOutTradeNo]
		e.SubMchid, e.SubAppid, e.TransactionID = "", "", ""
		e.Subs = p.subs
		e.State = subState(p.subs)
	case Payment, PartnerPayment, ParkingPayment, ParkingReleased:
		e.State = p.text[fTradeState]
	case Refund:
		e.State = p.text[fRefundStatus]
	case ParkingEntrance:
		e.State = p.text[fParkingState]
	case PlateService:
		e.State = p.text[fServiceState]
	case Payscore, Transfer:
		e.State = p.text[fState]
	case PayscorePermission:
		e.State = p.text[fUserServiceStatus]
	case TransferBatch:
		e.State = p.text[fBatchStatus]
	case ProfitSharing, ProfitSharingBack, Unknown:
	}
	if e.Kind.IsChecked() || e.Kind == ParkingReleased {
		e.ForeignMchid = foreign(&p, mchid)
	}
	if e.Kind.IsPayment() {
		e.Payer = storage.PayerDigest(e.Appid, p.openid)
	}
	e.Money = money(&e)
	if key := e.OrderKey(); !key.IsZero() {
		e.Orders = []storage.OrderKey{key}
	}
	e.Key = businessKey(&e, &p, resource, mchid)
	e.ID = NotificationID(e.Key)
	e.Group = group(&e, &p)
	return e, nil
}

// kindOf tells the kind. Each discriminator is a field that the other products'
// plaintexts do not have; a field of an odd type is never overlooked in favour
// of the others.
func kindOf(head *Head, p *plaintext) Kind {
	has := func(f field) bool { return p.text[f] != "" }
	switch {
	case head.Odd, p.odd:
		return Unknown

	// A refund speaks of a payment's numbers, too, so it comes first. 商圈退款
	// has a refund_id but no out_refund_no: it is about points, not money.
	case has(fOutRefundNo), has(fRefundID), has(fRefundStatus):
		if has(fOutRefundNo) && (has(fRefundID) || has(fRefundStatus)) && !p.receiver && !p.hasSubs {
			return Refund
		}
		return Unknown

	// 分账 comes as TRANSACTION.SUCCESS with the payment's transaction_id.
	case p.receiver:
		if !has(fOrderID) && !has(fOutOrderNo) {
			return Unknown
		}
		if strings.HasSuffix(head.EventType, "RETURN") || strings.Contains(head.Summary, "回退") {
			return ProfitSharingBack
		}
		return ProfitSharing

	case p.hasSubs, has(fCombineOutTradeNo):
		if has(fCombineOutTradeNo) && subsComplete(p.subs) {
			return Combine
		}
		return Unknown

	case p.parking, p.text[fTradeScene] == "PARKING":
		switch {
		case !has(fOutTradeNo):
			return Unknown
		case head.EventType == TypeReleased, p.text[fTradeState] == StateAccepted:
			return ParkingReleased
		default:
			return ParkingPayment
		}
	case has(fParkingID) && has(fParkingState):
		return ParkingEntrance
	case has(fServiceState) && has(fPlateNumber):
		return PlateService

	case has(fTransferBillNo), has(fOutBillNo):
		return Transfer
	case has(fBatchID) && has(fOutBatchNo):
		return TransferBatch

	case has(fServiceID) && (has(fOpenOrCloseTime) || has(fUserServiceStatus)):
		return PayscorePermission
	case has(fServiceID):
		// 先享卡 has service_id and out_order_no, but no mchid.
		if has(fOutOrderNo) && has(fMchid) {
			return Payscore
		}
		return Unknown

	case has(fOutTradeNo) && (has(fTransactionID) || has(fTradeState)):
		switch {
		case has(fSpMchid) && has(fSubMchid):
			return PartnerPayment
		case has(fSpMchid), has(fMchid):
			return Payment
		}
	}
	return Unknown
}

// subsComplete says whether every sub-order has a number. Fifty is the most
// that a service provider may combine; a longer list is kept, too.
func subsComplete(subs []Sub) bool {
	for i := range subs {
		if subs[i].OutTradeNo == "" {
			return false
		}
	}
	return len(subs) > 0
}

// subState is the trade_state that all sub-orders state.
func subState(subs []Sub) string {
	state := subs[0].State
	for i := range subs {
		if subs[i].State != state {
			return StateMixed
		}
	}
	return state
}

// foreign names the first owner that is not the merchant block.
func foreign(p *plaintext, mchid string) string {
	for _, owner := range [...]struct {
		field field
		name  string
	}{{fSpMchid, "sp_mchid"}, {fCombineMchid, "combine_mchid"}, {fMchid, "mchid"}} {
		if stated := p.text[owner.field]; stated != "" && stated != mchid {
			return owner.name
		}
	}
	return ""
}

// money says whether the event is about money that moved or failed to. An
// unknown event that calls itself one is given the same care.
func money(e *Event) bool {
	switch e.Kind {
	case Payment, PartnerPayment, Combine, Refund, ParkingPayment,
		ProfitSharing, ProfitSharingBack, Transfer, TransferBatch:
		return true
	case Payscore:
		return e.EventType == "PAYSCORE.USER_PAID"
	case Unknown:
		return strings.HasPrefix(e.EventType, "TRANSACTION.") || strings.HasPrefix(e.EventType, "REFUND.")
	case ParkingEntrance, ParkingReleased, PlateService, PayscorePermission:
		return false
	default:
		return false
	}
}

// or returns the first value that is not empty.
func or(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
