package event

import (
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Kind is what an event is, told by the shape of its plaintext: event_type is
// overloaded (TRANSACTION.SUCCESS is a payment, a parking charge or profit
// sharing). A closed set: it is the backend's Wechatpay-Gateway-Kind.
type Kind string

// The kinds of events.
const (
	Payment            Kind = "payment"             // 直连支付
	PartnerPayment     Kind = "partner_payment"     // 服务商支付
	Combine            Kind = "combine"             // 合单支付
	Refund             Kind = "refund"              // 退款
	ParkingPayment     Kind = "parking_payment"     // 停车扣费结果
	ParkingEntrance    Kind = "parking_entrance"    // 停车入场状态变更
	ParkingReleased    Kind = "parking_released"    // the gateway's own: a charge was accepted late
	PlateService       Kind = "plate_service"       // 车牌服务开通信息, found by a query
	Payscore           Kind = "payscore"            // 支付分订单
	PayscorePermission Kind = "payscore_permission" // 支付分授权
	ProfitSharing      Kind = "profitsharing"       // 分账动账
	ProfitSharingBack  Kind = "profitsharing_return"
	Transfer           Kind = "transfer"       // 商家转账单据
	TransferBatch      Kind = "transfer_batch" // 商家转账批次
	Unknown            Kind = "unknown"        // everything else: kept and delivered
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{
		Payment, PartnerPayment, Combine, Refund, ParkingPayment, ParkingEntrance, ParkingReleased,
		PlateService, Payscore, PayscorePermission, ProfitSharing, ProfitSharingBack,
		Transfer, TransferBatch, Unknown,
	}
}

// IsPayment says whether events of the kind tell that an order was paid or not:
// the kinds that amount_check strict binds.
func (k Kind) IsPayment() bool {
	switch k {
	case Payment, PartnerPayment, Combine, ParkingPayment:
		return true
	case Refund, ParkingEntrance, ParkingReleased, PlateService, Payscore, PayscorePermission,
		ProfitSharing, ProfitSharingBack, Transfer, TransferBatch, Unknown:
		return false
	default:
		return false
	}
}

// IsChecked says whether events of the kind are held against the ledger.
func (k Kind) IsChecked() bool { return k.IsPayment() || k == Refund }

// The event types and states that money hangs on.
const (
	TypePaid         = "TRANSACTION.SUCCESS"
	TypePaidIndustry = "TRANSACTION.INDUSTRY_SUCCESS"
	TypePaidBack     = "TRANSACTION.PAY_BACK" // 用户对垫资单还款
	// TypeReleased is the gateway's own event type, see ParkingReleased.
	TypeReleased = "parking.released"

	StateSuccess  = "SUCCESS"
	StateAccepted = "ACCEPTED"
)

// Amount is what an event says about money, in fen. What it does not say is not
// Known, whatever the number. What the payer paid is not here: a coupon makes
// it less than Total, and Total alone is what was ordered.
type Amount struct {
	Total       storage.Fen
	TotalKnown  bool
	Refund      storage.Fen
	RefundKnown bool
	Currency    string // of Total; empty when not stated
}

// Sub is one 商品单 of a combine payment. Empty fields were not stated.
type Sub struct {
	Mchid         string
	SubMchid      string
	OutTradeNo    string
	TransactionID string
	State         string
	Amount        Amount
}

// Event is what a decrypted notification says. Fields that it does not state
// are empty. Nothing in it is personal data but Plate, which is held for the
// ledger check alone and must not be logged.
type Event struct {
	Kind Kind
	// Key is the business key, ID the Webhook-Id derived from it, and Group the
	// order whose deliveries go one at a time; see [storage.Notification].
	Key   string
	ID    string
	Group string

	NotificationID string
	EventType      string

	// Mchid is mchid, sp_mchid or combine_mchid, the merchant block's own when
	// none is stated.
	Mchid string
	// ForeignMchid names the field (mchid, sp_mchid, combine_mchid) that is not
	// the merchant block's; empty when there is none.
	ForeignMchid string
	SubMchid     string
	Appid        string // appid, sp_appid or combine_appid
	SubAppid     string
	// Payer is the [storage.PayerDigest] of who has paid; empty when it is not
	// stated.
	Payer string

	OutTradeNo    string // out_trade_no or combine_out_trade_no
	TransactionID string
	OutRefundNo   string
	RefundID      string
	ParkingID     string
	OutParkingNo  string
	Plate         string
	PlateColor    string
	TradeScene    string
	// State is the trade_state (of a combine payment: what all sub-orders have
	// in common, else "MIXED"), refund_status or what the kind has for it.
	State string
	// SuccessAt is success_time; zero when it is absent or no RFC 3339 time.
	SuccessAt time.Time

	Amount Amount
	Subs   []Sub

	// Orders are the ledger orders that the event speaks of.
	Orders []storage.OrderKey
	// Money is true for events about money that moved or failed to: their retry
	// schedule goes on for days.
	Money bool
}

// StateMixed is the State of a combine payment whose sub-orders differ in it.
const StateMixed = "MIXED"

// Paid says whether the event is WeChat's word that its order is paid.
func (e *Event) Paid() bool {
	if !e.Kind.IsPayment() {
		return false
	}
	switch e.EventType {
	case TypePaid, TypePaidIndustry:
		return e.State == "" || e.State == StateSuccess
	case TypePaidBack:
		return e.Kind == ParkingPayment
	}
	return false
}

// NotPaid says whether the event carries TRANSACTION.SUCCESS and a trade_state
// that denies it.
func (e *Event) NotPaid() bool {
	return e.EventType == TypePaid && e.Kind.IsPayment() && e.State != "" && e.State != StateSuccess
}

// OrderKey names the ledger order of the event; zero when it names none.
func (e *Event) OrderKey() storage.OrderKey {
	if !e.Kind.IsChecked() || e.OutTradeNo == "" {
		return storage.OrderKey{}
	}
	return storage.OrderKey{Mchid: e.Mchid, SubMchid: e.orderSub(), Number: e.OutTradeNo}
}

// orderSub is the sub_mchid of the event's order: a combine order has its
// sub-merchants in its sub-orders.
func (e *Event) orderSub() string {
	if e.Kind == Combine {
		return ""
	}
	return e.SubMchid
}

// RefundKey names the ledger refund of the event; zero when it is no refund.
func (e *Event) RefundKey() storage.RefundKey {
	if e.Kind != Refund {
		return storage.RefundKey{}
	}
	return storage.RefundKey{Mchid: e.Mchid, SubMchid: e.SubMchid, OutRefundNo: e.OutRefundNo}
}
