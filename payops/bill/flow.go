package bill

import (
	"io"
	"iter"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Flow is one row of a fund flow bill. Amounts are in fen.
// https://pay.weixin.qq.com/docs/merchant/products/bill-download/structure/fund-bill.html
type Flow struct {
	Time time.Time `json:"time"` // 记账时间
	// BusinessID is 微信支付业务单号: the transaction_id of a payment, the refund_id
	// of a refund.
	BusinessID string `json:"business_id"`
	FlowID     string `json:"flow_id"`       // 资金流水单号
	Name       string `json:"name"`          // 业务名称
	Type       string `json:"business_type"` // 业务类型
	// Income is true of 收入, false of 支出. Amount has no sign of its own.
	Income   bool        `json:"income"`
	Amount   storage.Fen `json:"amount"`
	Balance  storage.Fen `json:"balance"` // of the account, afterwards
	Operator string      `json:"operator,omitempty"`
	Remark   string      `json:"remark,omitempty"`
	Voucher  string      `json:"voucher,omitempty"` // 业务凭证号
	side     string
}

// FlowTotals sums up a fund flow bill, as its summary row does.
type FlowTotals struct {
	Rows        int64       `json:"rows"`
	IncomeRows  int64       `json:"income_rows"`
	Income      storage.Fen `json:"income"`
	ExpenseRows int64       `json:"expense_rows"`
	Expense     storage.Fen `json:"expense"`
}

// Flows reads a fund flow bill, as [Trades] reads a trade bill.
func Flows(r io.Reader) iter.Seq2[Flow, error] { return records(&flowForm, r) }

// CheckFlows reads a fund flow bill to its end and returns its totals. Errors: as
// of [Trades].
func CheckFlows(r io.Reader) (FlowTotals, error) {
	s, err := flowForm.scan(r, func(*Flow) bool { return true })
	if err != nil {
		return FlowTotals{}, err
	}
	return FlowTotals{
		Rows: s[0].total, IncomeRows: s[1].total, Income: storage.Fen(s[2].total),
		ExpenseRows: s[3].total, Expense: storage.Fen(s[4].total),
	}, nil
}

const (
	income  = "收入"
	expense = "支出"
)

// of counts what is on one side.
func (f *Flow) of(side bool, n int64) int64 {
	if f.Income == side {
		return n
	}
	return 0
}

var flowForm = form[Flow]{
	fields: []field[Flow]{
		{name: "记账时间", set: when(func(f *Flow) *time.Time { return &f.Time })},
		{name: "微信支付业务单号", set: text(func(f *Flow) *string { return &f.BusinessID })},
		{name: "资金流水单号", set: text(func(f *Flow) *string { return &f.FlowID })},
		{name: "业务名称", set: text(func(f *Flow) *string { return &f.Name })},
		{name: "业务类型", set: text(func(f *Flow) *string { return &f.Type })},
		{name: "收支类型", set: text(func(f *Flow) *string { return &f.side })},
		{name: "收支金额(元)", older: []string{"收支金额（元）"}, set: fen(func(f *Flow) *storage.Fen { return &f.Amount })},
		{name: "账户结余(元)", older: []string{"账户结余（元）"}, set: fen(func(f *Flow) *storage.Fen { return &f.Balance })},
		{name: "资金变更提交申请人", set: text(func(f *Flow) *string { return &f.Operator })},
		{name: "备注", free: true, set: text(func(f *Flow) *string { return &f.Remark })},
		{name: "业务凭证号", set: text(func(f *Flow) *string { return &f.Voucher })},
	},
	totals: []total[Flow]{
		{name: "资金流水总笔数", value: func(*Flow) int64 { return 1 }},
		{name: "收入笔数", value: func(f *Flow) int64 { return f.of(true, 1) }},
		{name: "收入金额", decimals: fenDecimals, value: func(f *Flow) int64 { return f.of(true, int64(f.Amount)) }},
		{name: "支出笔数", value: func(f *Flow) int64 { return f.of(false, 1) }},
		{name: "支出金额", decimals: fenDecimals, value: func(f *Flow) int64 { return f.of(false, int64(f.Amount)) }},
	},
	check: func(has func(string) bool) string {
		for _, name := range []string{"记账时间", "微信支付业务单号", "资金流水单号", "业务类型", "收支类型"} {
			if !has(name) {
				return name
			}
		}
		for _, name := range []string{"收支金额", "账户结余"} {
			if !has(name+"(元)") && !has(name+"（元）") {
				return name + "(元)"
			}
		}
		return ""
	},
	done: func(f *Flow, _ func(string) bool) error {
		f.Income = f.side == income
		if f.side != income && f.side != expense || f.Amount < 0 || f.FlowID == "" {
			return ErrRow
		}
		f.side = ""
		return nil
	},
	joined: func(*Flow) {}, // one free column alone is certain
}
