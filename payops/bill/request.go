package bill

import (
	"net/url"
	"time"
)

// Kind is a kind of bill.
type Kind string

// The kinds of bills.
const (
	KindTrade    Kind = "trade"    // 交易账单
	KindFundFlow Kind = "fundflow" // 资金账单
)

// Type says which trades a trade bill has.
type Type string

// The types of trade bills. [Trades] reads the first three; the others are only
// fetched.
const (
	TypeAll            Type = "ALL"
	TypeSuccess        Type = "SUCCESS"
	TypeRefund         Type = "REFUND"
	TypeRechargeRefund Type = "RECHARGE_REFUND"
	TypeAllSpecial     Type = "ALL_SPECIAL"
	TypeSuccessSpecial Type = "SUC_SPECIAL"
	TypeRefundSpecial  Type = "REF_SPECIAL"
)

// Account is the account that a fund flow bill is about.
type Account string

// The accounts.
const (
	AccountBasic     Account = "BASIC"
	AccountOperation Account = "OPERATION"
	AccountFees      Account = "FEES"
)

// Request says which bill.
type Request struct {
	Kind Kind
	// Date is the day in Beijing, yyyy-MM-dd.
	Date string
	// Type is a trade bill's. Zero: TypeAll.
	Type Type
	// Account is a fund flow bill's. Zero: AccountBasic.
	Account Account
	// SubMchid narrows a bill of a partner (服务商) to one sub-merchant. Zero: all.
	SubMchid string
}

// Day returns the beginning of a Beijing day yyyy-MM-dd and that of the next.
// Errors: [ErrRequest].
func Day(date string) (from, to time.Time, err error) {
	from, err = time.ParseInLocation(time.DateOnly, date, Beijing)
	if err != nil || len(date) != len(time.DateOnly) {
		return time.Time{}, time.Time{}, ErrRequest
	}
	return from, from.AddDate(0, 0, 1), nil
}

// ReadyAt returns when the bills of a day are to be had: ten o'clock (Beijing time)
// of the next day. Errors: [ErrRequest].
// https://pay.weixin.qq.com/doc/v3/merchant/4013071254
func ReadyAt(date string) (time.Time, error) {
	_, to, err := Day(date)
	if err != nil {
		return time.Time{}, err
	}
	return to.Add(10 * time.Hour), nil
}

// Target returns path and query of the call that applies for the bill, gzipped.
// Errors: [ErrRequest].
// https://pay.weixin.qq.com/doc/v3/merchant/4012556692
// https://pay.weixin.qq.com/doc/v3/merchant/4012556742
func (r Request) Target() (string, error) {
	if _, _, err := Day(r.Date); err != nil || r.SubMchid != "" && !digits(r.SubMchid) {
		return "", ErrRequest
	}
	query := url.Values{"bill_date": {r.Date}, "tar_type": {"GZIP"}}
	if r.SubMchid != "" {
		query.Set("sub_mchid", r.SubMchid)
	}
	switch r.Kind {
	case KindTrade:
		switch r.Type {
		case "":
			query.Set("bill_type", string(TypeAll))
		case TypeAll, TypeSuccess, TypeRefund, TypeRechargeRefund, TypeAllSpecial, TypeSuccessSpecial, TypeRefundSpecial:
			query.Set("bill_type", string(r.Type))
		default:
			return "", ErrRequest
		}
		if r.Account != "" {
			return "", ErrRequest
		}
		return "/v3/bill/tradebill?" + query.Encode(), nil
	case KindFundFlow:
		switch r.Account {
		case "":
			query.Set("account_type", string(AccountBasic))
		case AccountBasic, AccountOperation, AccountFees:
			query.Set("account_type", string(r.Account))
		default:
			return "", ErrRequest
		}
		if r.Type != "" {
			return "", ErrRequest
		}
		return "/v3/bill/fundflowbill?" + query.Encode(), nil
	}
	return "", ErrRequest
}
