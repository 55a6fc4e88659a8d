package resource

import (
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Registration is the body of PUT /gateway/orders/{out_trade_no}: what a backend
// expects of an order that is made elsewhere. All but the amount may be left out;
// a combine order's amount is the sum of its sub-orders.
type Registration struct {
	Kind         string          `json:"kind,omitempty"` // basic, partner, combine or parking
	Amount       *Amount         `json:"amount,omitempty"`
	Appid        string          `json:"appid,omitempty"`
	SubMchid     string          `json:"sub_mchid,omitempty"`
	SubOrders    []RegisteredSub `json:"sub_orders,omitempty"`
	ParkingID    string          `json:"parking_id,omitempty"`
	OutParkingNo string          `json:"out_parking_no,omitempty"`
	Plate        string          `json:"plate_number,omitempty"`
	PlateColor   string          `json:"plate_color,omitempty"`
}

// RegisteredSub is one 商品单 of a [Registration].
type RegisteredSub struct {
	Mchid      string    `json:"mchid"`
	SubMchid   string    `json:"sub_mchid,omitempty"`
	OutTradeNo string    `json:"out_trade_no"`
	Amount     SubAmount `json:"amount"`
	SubAppid   string    `json:"sub_appid,omitempty"`
}

// Amount is money as WeChat Pay spells it.
type Amount struct {
	Total    storage.Fen `json:"total"`              // fen
	Currency string      `json:"currency,omitempty"` // default: CNY
}

// SubAmount is money as WeChat Pay spells it in sub-orders.
type SubAmount struct {
	TotalAmount storage.Fen `json:"total_amount"`       // fen
	Currency    string      `json:"currency,omitempty"` // default: CNY
}

// Order is an order as the ledger knows it.
type Order struct {
	OutTradeNo    string              `json:"out_trade_no"`
	Mchid         string              `json:"mchid"`
	SubMchid      string              `json:"sub_mchid,omitempty"`
	Kind          storage.OrderKind   `json:"kind"`
	State         storage.OrderState  `json:"state"`
	Origin        storage.OrderOrigin `json:"origin"`
	Appid         string              `json:"appid,omitempty"`
	Amount        storage.Money       `json:"amount"`
	SubOrders     []SubOrder          `json:"sub_orders,omitempty"`
	TransactionID string              `json:"transaction_id,omitempty"`
	CodeURL       string              `json:"code_url,omitempty"`
	Foreign       bool                `json:"foreign_notify_url,omitempty"`
	ParkingID     string              `json:"parking_id,omitempty"`
	OutParkingNo  string              `json:"out_parking_no,omitempty"`
	Plate         string              `json:"plate_number,omitempty"`
	PlateColor    string              `json:"plate_color,omitempty"`
	RefundTotal   storage.Fen         `json:"refund_total,omitempty"` // fen
	TimeExpire    time.Time           `json:"time_expire,omitzero"`
	CreatedAt     time.Time           `json:"created_at,omitzero"`
	UpdatedAt     time.Time           `json:"updated_at,omitzero"`
	PaidAt        time.Time           `json:"paid_at,omitzero"`
}

// SubOrder is one 商品单 of an [Order].
type SubOrder struct {
	Mchid         string    `json:"mchid"`
	SubMchid      string    `json:"sub_mchid,omitempty"`
	OutTradeNo    string    `json:"out_trade_no"`
	Amount        SubAmount `json:"amount"`
	SubAppid      string    `json:"sub_appid,omitempty"`
	TransactionID string    `json:"transaction_id,omitempty"`
}

// orderView shows an order.
func orderView(o storage.Order) Order {
	return Order{
		OutTradeNo: o.Key.Number, Mchid: o.Key.Mchid, SubMchid: o.Key.SubMchid,
		Kind: o.Kind, State: o.State, Origin: o.Origin, Appid: o.Appid, Amount: o.Amount,
		SubOrders: subViews(o.Subs), TransactionID: o.TransactionID, CodeURL: o.CodeURL, Foreign: o.ForeignNotifyURL,
		ParkingID: o.ParkingID, OutParkingNo: o.OutParkingNo, Plate: o.Plate, PlateColor: o.PlateColor,
		RefundTotal: o.RefundTotal, TimeExpire: o.TimeExpire,
		CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt, PaidAt: o.PaidAt,
	}
}

func subViews(subs []storage.SubOrder) []SubOrder {
	var views []SubOrder
	for _, s := range subs {
		views = append(views, SubOrder{
			Mchid: s.Mchid, SubMchid: s.SubMchid, OutTradeNo: s.OutTradeNo, SubAppid: s.Appid,
			TransactionID: s.TransactionID, Amount: SubAmount{s.Amount.Total, s.Amount.Currency},
		})
	}
	return views
}

// orderPath is where an order is, with what is below it.
func orderPath(key storage.OrderKey, below string) string {
	path := Prefix + "orders/" + url.PathEscape(key.Number) + below
	if key.SubMchid != "" {
		path += "?sub_mchid=" + key.SubMchid
	}
	return path
}

// showOrder answers with an order as the ledger knows it; ?fresh=1 asks WeChat Pay
// first.
func (rs *Resources) showOrder(r *Request) Response {
	if refused := r.noBody(); refused.Refused() {
		return refused
	}
	key, values, refused := rs.orderKey(r, "fresh")
	if refused.Refused() {
		return refused
	}
	ask, refused := fresh(values)
	if refused.Refused() {
		return refused
	}
	order, refused := rs.order(r.Core.Live(), key)
	if !refused.Refused() && ask {
		order, _, refused = rs.asked(r, order)
	}
	if refused.Refused() {
		return refused
	}
	return respond(http.StatusOK, orderView(order))
}

// asked asks WeChat Pay about an order and returns what the ledger then has. known
// is false when WeChat Pay has none.
func (rs *Resources) asked(r *Request, order storage.Order) (now storage.Order, known bool, refused Response) {
	if order.Kind == storage.OrderParking {
		return order, false, badRequest(RulePath, "a parking order is not asked for here")
	}
	known, err := r.Core.Ask(order.Key, order.Kind)
	if err != nil {
		rs.Logger.Warn("an order cannot be asked for", "error", err)
		return order, false, unreachable("WeChat Pay gave no verified answer about the order; nothing was changed")
	}
	now, refused = rs.order(r.Core.Live(), order.Key)
	return now, known, refused
}

// registerOrder takes in what a backend expects of an order that is made
// elsewhere. Saying the same again is harmless; a registration may be corrected
// until the order is paid or closed; an order that the gateway made is never
// changed by it.
func (rs *Resources) registerOrder(r *Request) Response {
	if _, refused := r.Values(); refused.Refused() {
		return refused
	}
	number := r.Param("out_trade_no")
	if !orderNumber(number, 1) {
		return badNumber("out_trade_no")
	}
	var body Registration
	if refused := r.decode(&body, false); refused.Refused() {
		return refused
	}
	order, created, refused := r.Core.Register(number)
	if refused.Status != 0 {
		return refused
	}
	response := respond(http.StatusOK, orderView(order))
	if created {
		response.Status = http.StatusCreated
	}
	return response
}
