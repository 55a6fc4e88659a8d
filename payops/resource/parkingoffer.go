package resource

import (
	"errors"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// ParkingNative wants a Native order when there is no charge.
type ParkingNative struct {
	// OutTradeNo is another number than the charge's. Default: the charge's with
	// "-N" behind it.
	OutTradeNo  string `json:"out_trade_no,omitempty"`
	Description string `json:"description,omitempty"` // default: as of the charge
}

// ParkingOffer is a Native order that the driver may pay in place of a charge.
type ParkingOffer struct {
	OutTradeNo string             `json:"out_trade_no"`
	State      storage.OrderState `json:"state"`
	Amount     storage.Money      `json:"amount"`
	CodeURL    string             `json:"code_url,omitempty"`
	QR         *QRLinks           `json:"qr,omitempty"`
}

// errCharged ends a change that finds the stay charged.
var errCharged = errors.New("resource: the stay is charged")

// offered finds the order that was offered for the stay; nil when there is none, or
// none that can be paid.
func (x *exiting) offered() (*storage.Order, error) {
	if x.stay == nil || x.stay.Native == "" {
		return nil, nil
	}
	order, err := x.orderOf(x.stay.Native)
	if err != nil || order == nil || order.State == storage.OrderRejected || order.State == storage.OrderClosed {
		return nil, err
	}
	return order, nil
}

// offer makes a Native order under another number, when it is wanted, and known
// that the stay is not charged. From then on the stay is not charged while the
// order can be paid: its number is written down first.
func (x *exiting) offer() {
	if x.body.Native == nil || !x.view.Outcome.NotAccepted() {
		return
	}
	number, stayKey := x.body.Native.OutTradeNo, x.names.Stay(x.entry.ParkingID)
	if number == "" {
		number = x.key.Number + "-N"
	}
	if !orderNumber(number, 6) {
		x.rs.Logger.Warn("no native order is offered: its number is too short or too long")
		return
	}
	err := x.rs.Ledger.Change(x.core.Context(), storage.Keys{Memos: []string{stayKey}}, func(rows *storage.Rows) error {
		stay, err := parking.Read[parking.Stay](rows.Memos[stayKey])
		switch {
		case err != nil:
			return err
		case stay == nil:
			stay = &parking.Stay{OutParkingNo: x.entry.OutParkingNo}
		case stay.Charge == x.key.Number:
			stay.Charge = "" // which was rejected
		case stay.Charge != "":
			return errCharged
		}
		stay.Native = number
		return parking.Write(rows, stayKey, stay, x.rs.Now())
	})
	if err != nil {
		if !errors.Is(err, errCharged) {
			x.rs.Logger.Error("no native order is offered: it cannot be written down", "error", err)
		}
		return
	}
	x.native(number)
}

// native makes the order, or finds its code again.
func (x *exiting) native(number string) {
	description := x.body.Native.Description
	if description == "" {
		description = x.body.Description
	}
	if description == "" {
		description = x.entry.ParkingName
	}
	amount := x.body.Amount
	body := Checkout{
		Way: wayNative, OutTradeNo: number, SubMchid: x.names.SubMchid, Description: description, Amount: &amount,
		Appid: x.body.Appid, SubAppid: x.body.SubAppid,
	}
	body.complete(x.rs.Merchant)
	answer := x.core.V3(body.call(x.rs.Merchant.Mchid()))
	order, err := x.orderOf(number)
	if err != nil || order == nil || !answer.Succeeded() && order.State == storage.OrderRejected {
		x.rs.Logger.Warn("no native order is offered", "status", answer.Status, "error", err)
		return
	}
	x.show(order)
}

// show puts an offered order into the answer.
func (x *exiting) show(order *storage.Order) {
	x.view.Native = &ParkingOffer{OutTradeNo: order.Key.Number, State: order.State, Amount: order.Amount}
	if order.State == storage.OrderCreated && order.CodeURL != "" {
		x.view.Native.CodeURL = order.CodeURL
		x.view.Native.QR = &QRLinks{orderPath(order.Key, "/qr.png"), orderPath(order.Key, "/qr.svg")}
	}
}
