package storage

import (
	"context"
	"time"
)

// OrderKey names an order. A number is unique per mchid and sub_mchid across
// all operations, sub-orders of combine orders included.
type OrderKey struct {
	Mchid    string `json:"mchid"` // mchid, sp_mchid or combine_mchid
	SubMchid string `json:"sub_mchid,omitempty"`
	Number   string `json:"number"` // out_trade_no, combine_out_trade_no
}

// IsZero reports whether the key names nothing.
func (k OrderKey) IsZero() bool { return k == OrderKey{} }

// OrderKind says which product an order belongs to.
type OrderKind string

// The kinds of orders.
const (
	OrderBasic   OrderKind = "basic"   // 直连: mchid
	OrderPartner OrderKind = "partner" // 服务商: sp_mchid and sub_mchid
	OrderCombine OrderKind = "combine" // 合单
	OrderParking OrderKind = "parking" // 停车扣费
)

// OrderState is what the gateway knows of an order.
type OrderState string

// The states of an order in the ledger. Only Paid and Closed come from WeChat's
// own verified word.
const (
	OrderIntended   OrderState = "intended"   // the intent row is written, the call may have been sent
	OrderUnknown    OrderState = "unknown"    // the call's outcome is not known
	OrderCreated    OrderState = "created"    // WeChat's verified answer said so
	OrderRejected   OrderState = "rejected"   // WeChat's verified answer refused it; the number is free again
	OrderRegistered OrderState = "registered" // a backend registered it, created elsewhere
	OrderPaid       OrderState = "paid"       // a verified callback or query said so
	OrderClosed     OrderState = "closed"     // WeChat's verified answer said so
)

// OrderOrigin says who made the order at WeChat.
type OrderOrigin string

// The origins of an order.
const (
	OriginGateway    OrderOrigin = "gateway"
	OriginRegistered OrderOrigin = "registered"
)

// SubOrder is one 商品单 of a combine order.
type SubOrder struct {
	Mchid         string `json:"mchid"`
	SubMchid      string `json:"sub_mchid,omitempty"`
	OutTradeNo    string `json:"out_trade_no"`
	Amount        Money  `json:"amount"`
	Appid         string `json:"appid,omitempty"`
	TransactionID string `json:"transaction_id,omitempty"`

	Refunds Refunds `json:"refunds,omitzero"` // of this sub-order alone
}

// Key names the sub-order among all orders.
func (s SubOrder) Key() OrderKey {
	return OrderKey{Mchid: s.Mchid, SubMchid: s.SubMchid, Number: s.OutTradeNo}
}

// Order is what the ledger knows of one order. Fields that nobody stated are
// empty and contradict nothing.
type Order struct {
	Key      OrderKey    `json:"key"`
	Kind     OrderKind   `json:"kind"`
	Merchant string      `json:"merchant"` // name of the merchant block
	Origin   OrderOrigin `json:"origin"`
	State    OrderState  `json:"state"`

	Appid         string     `json:"appid,omitempty"`
	Amount        Money      `json:"amount"` // a combine order: the sum
	Subs          []SubOrder `json:"subs,omitempty"`
	TransactionID string     `json:"transaction_id,omitempty"`

	// Payer is the [PayerDigest] of who pays or has paid, "" while nobody knows.
	Payer string `json:"payer,omitempty"`

	ParkingID    string `json:"parking_id,omitempty"`
	OutParkingNo string `json:"out_parking_no,omitempty"`
	Plate        string `json:"plate,omitempty"`
	PlateColor   string `json:"plate_color,omitempty"`

	// Content is a digest of what the number was used for (amount, currency,
	// payee, appid, sub-orders): one number, one content.
	Content   string `json:"content,omitempty"`
	NotifyURL string `json:"notify_url,omitempty"`
	// ForeignNotifyURL is true when callbacks of the order go elsewhere.
	ForeignNotifyURL bool   `json:"foreign_notify_url,omitempty"`
	CodeURL          string `json:"code_url,omitempty"`
	// LastCall is the id of the call that was the last to set out to make the order:
	// only its rejection can free the number.
	LastCall string `json:"last_call,omitempty"`
	// PrepayID is what opens the payment of a JSAPI, mini program or App order.
	PrepayID string `json:"prepay_id,omitempty"`

	// RefundTotal and RefundCount sum up the refunds that succeeded or may yet.
	RefundTotal Fen `json:"refund_total,omitempty"`
	RefundCount int `json:"refund_count,omitempty"`
	// LastRefundNo and LastRefundAt name the refund that was applied for last,
	// and when; of a combine order its sub-orders say so.
	LastRefundNo string    `json:"last_refund_no,omitempty"`
	LastRefundAt time.Time `json:"last_refund_at,omitzero"`
	// OpenRefunds and RejectedRefund are [Refunds.Open] and [Refunds.Rejected] of
	// an order that is no combine order.
	OpenRefunds    []string `json:"open_refunds,omitempty"`
	RejectedRefund Fen      `json:"rejected_refund,omitempty"`
	// Reversal is what taking the order back has reserved; of payment-code orders.
	Reversal Reversal `json:"reversal,omitzero"`

	TimeExpire time.Time `json:"time_expire,omitzero"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	UpdatedAt  time.Time `json:"updated_at,omitzero"`
	PaidAt     time.Time `json:"paid_at,omitzero"`
}

// RefundKey names a refund: out_refund_no is unique per mchid and sub_mchid.
type RefundKey struct {
	Mchid       string `json:"mchid"`
	SubMchid    string `json:"sub_mchid,omitempty"`
	OutRefundNo string `json:"out_refund_no"`
}

// IsZero reports whether the key names nothing.
func (k RefundKey) IsZero() bool { return k == RefundKey{} }

// RefundState is what the gateway knows of a refund.
type RefundState string

// The states of a refund. A refund is successful only by a verified callback or
// query, never by the answer of the apply call.
const (
	RefundIntended   RefundState = "intended"
	RefundUnknown    RefundState = "unknown"
	RefundProcessing RefundState = "processing"
	RefundRejected   RefundState = "rejected"
	RefundSuccess    RefundState = "success"
	RefundAbnormal   RefundState = "abnormal" // not final: the amount stays reserved
	RefundClosed     RefundState = "closed"   // final: a further try needs a new number
)

// Refund is what the ledger knows of one refund.
type Refund struct {
	Key      RefundKey   `json:"key"`
	Order    OrderKey    `json:"order"`
	Merchant string      `json:"merchant"`
	State    RefundState `json:"state"`

	RefundID      string `json:"refund_id,omitempty"`
	TransactionID string `json:"transaction_id,omitempty"`
	Amount        Fen    `json:"amount"`
	Total         Fen    `json:"total"`
	Currency      string `json:"currency,omitempty"`
	Content       string `json:"content,omitempty"`
	// Ecommerce is true when it was applied for at /v3/ecommerce/refunds/apply
	// (收付通), whose own query knows it.
	Ecommerce bool `json:"ecommerce,omitempty"`
	// Call is the id of the apply call that began last, or ended last with an
	// unknown outcome: no earlier call's rejection frees the number.
	Call string `json:"call,omitempty"`
	// Tally is the key of the memo that counts it, see [Refund.Tallies]; "" when its
	// order does.
	Tally string `json:"tally,omitempty"`

	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// CallOutcome is what became of an outgoing call.
type CallOutcome string

// The outcomes of a call. A row that stays CallPending after its process died
// is as good as CallUnknown.
const (
	CallPending   CallOutcome = "pending"
	CallSucceeded CallOutcome = "succeeded"
	CallRejected  CallOutcome = "rejected"
	CallUnknown   CallOutcome = "unknown"
)

// Call is the intent row of one outgoing call, and later its outcome.
type Call struct {
	ID        string      `json:"id"` // chosen by the caller, unique (UUIDv7)
	Merchant  string      `json:"merchant"`
	Caller    string      `json:"caller"`
	Operation string      `json:"operation"`
	Method    string      `json:"method"`
	Path      string      `json:"path"` // as signed, without the query
	Order     OrderKey    `json:"order,omitzero"`
	Outcome   CallOutcome `json:"outcome"`
	Status    int         `json:"status,omitempty"`
	Code      string      `json:"code,omitempty"`       // WeChat's error code
	RequestID string      `json:"request_id,omitempty"` // WeChat's Request-ID
	StartedAt time.Time   `json:"started_at"`
	EndedAt   time.Time   `json:"ended_at,omitzero"`
}

// Keys names the rows that one ledger change reads and writes. Zero keys name
// no row.
type Keys struct {
	Order  OrderKey
	Refund RefundKey
	Call   string
	// Memos are keys of memos, at most [MaxChangeMemos].
	Memos []string
}

// Rows are the named rows as they stand: nil where a row does not exist. A
// change function sets a pointer to create a row and edits what it points to;
// it must not set an existing order, refund or call to nil, since the ledger
// forgets nothing but by retention.
type Rows struct {
	Order  *Order
	Refund *Refund
	Call   *Call
	// Memos holds, by key, the named memos that exist and have not expired; it is
	// nil when none was named. A change function adds, edits and deletes entries
	// under the keys that were named; a deleted entry removes the memo. It is an
	// error to leave a memo under a key that was not named, one whose Key is not
	// the key it is under, and one without Expires.
	Memos map[string]*Memo
	// Schedule is empty before the change. What a change function adds, at most
	// [MaxChangeWork], is scheduled in the same step, as by Agenda.ScheduleWork: a
	// query that an intent calls for is never forgotten by a crash between the two.
	Schedule []Work
}

// Ledger keeps orders, refunds and calls, and memos beside them. All methods are safe for concurrent
// use; the durability rule of [Inbox] holds.
type Ledger interface {
	// Change reads the named rows, lets change edit them, and writes all of them
	// in one atomic, durable step: no other Change of any of the rows falls
	// between. change may be run more than once and must depend on nothing but
	// its argument; it must be quick and must not call the store. An error from
	// change is returned as it is, and nothing is written. Writing an order also
	// binds its number and those of its sub-orders to it (ErrNumberTaken when one
	// belongs to another order that is not rejected); a rejected order claims
	// none. Memos and work are part of the step. Above their bounds it returns
	// ErrTooLarge.
	// Errors: ErrNumberTaken, ErrDiskFloor, ErrClosed, ErrTooLarge, ErrCorrupt.
	Change(ctx context.Context, keys Keys, change func(*Rows) error) error

	// Order returns the order under the key, or the combine order that has a
	// sub-order under it. Errors: ErrNotFound, ErrCorrupt.
	Order(ctx context.Context, key OrderKey) (Order, error)

	// OrderByTransaction returns the order (or the combine order of the
	// sub-order) that carries WeChat's transaction_id. Errors: ErrNotFound.
	OrderByTransaction(ctx context.Context, mchid, transactionID string) (Order, error)

	// Refund returns one refund. Errors: ErrNotFound, ErrCorrupt.
	Refund(ctx context.Context, key RefundKey) (Refund, error)

	// Call returns one call. Errors: ErrNotFound, ErrCorrupt.
	Call(ctx context.Context, id string) (Call, error)

	// Memo returns one memo. Errors: ErrNotFound when there is none or it has
	// expired, ErrCorrupt.
	Memo(ctx context.Context, key string) (Memo, error)

	// OpenCalls lists calls that are CallPending and were started before the
	// given time, oldest first, at most limit.
	OpenCalls(ctx context.Context, before time.Time, limit int) ([]Call, error)
}
