package reconcile

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Kind says how bill and ledger differ.
type Kind string

// The kinds of differences. "There" is the bill, "here" the ledger.
const (
	// PaidUnknownHere: paid there, and the ledger knows no such order.
	PaidUnknownHere Kind = "paid_unknown_here"
	// PaidNotPaidHere: paid there; the ledger knows the order, but not that it is
	// paid. Asking WeChat Pay settles it.
	PaidNotPaidHere Kind = "paid_not_paid_here"
	// PaidMissingThere: paid here on that day, and not in the bill.
	PaidMissingThere Kind = "paid_missing_there"
	// PaidAmount: paid on both sides, with different amounts or currencies.
	PaidAmount Kind = "paid_amount"
	// PaidTransaction: paid on both sides, by different transactions.
	PaidTransaction Kind = "paid_transaction"
	// PaidTwice: the bill has a second payment of the same order.
	PaidTwice Kind = "paid_twice"
	// Revoked: a payment was reversed there (撤销), and the order is not closed
	// here.
	Revoked Kind = "revoked"
	// RefundUnknownHere: refunded there, and the ledger knows no such refund: made
	// on WeChat Pay's merchant platform, perhaps.
	RefundUnknownHere Kind = "refund_unknown_here"
	// RefundNotAcceptedHere: refunded there; the ledger knows the refund, but not
	// that it was accepted. Asking WeChat Pay settles it.
	RefundNotAcceptedHere Kind = "refund_not_accepted_here"
	// RefundMissingThere: accepted on that day as far as the ledger knows, and not
	// in the bill.
	RefundMissingThere Kind = "refund_missing_there"
	// RefundAmount: refunded on both sides, with different amounts.
	RefundAmount Kind = "refund_amount"
	// RefundState: successful on one side and failed or closed on the other.
	RefundState Kind = "refund_state"
	// RefundID: the same out_refund_no with two refund_ids.
	RefundID Kind = "refund_id"
	// RefundTwice: the bill has the same refund twice.
	RefundTwice Kind = "refund_twice"
	// OtherDay: a row of the bill is of another day.
	OtherDay Kind = "other_day"
	// OtherState: a row of the bill has a state that the gateway does not know.
	OtherState Kind = "other_state"
)

// Kinds lists the kinds of differences.
func Kinds() []Kind {
	return []Kind{
		PaidUnknownHere, PaidNotPaidHere, PaidMissingThere, PaidAmount, PaidTransaction, PaidTwice, Revoked,
		RefundUnknownHere, RefundNotAcceptedHere, RefundMissingThere, RefundAmount, RefundState, RefundID, RefundTwice,
		OtherDay, OtherState,
	}
}

// Difference is one payment or refund about which bill and ledger differ. Fields
// that one side does not know are empty.
type Difference struct {
	Kind          Kind   `json:"kind"`
	Mchid         string `json:"mchid"`
	SubMchid      string `json:"sub_mchid,omitempty"`
	OutTradeNo    string `json:"out_trade_no,omitempty"`
	TransactionID string `json:"transaction_id,omitempty"`
	OutRefundNo   string `json:"out_refund_no,omitempty"`
	RefundID      string `json:"refund_id,omitempty"`
	// There and Here are the amounts: of the order, or what the refund was applied
	// for with.
	There      storage.Money `json:"there"`
	Here       storage.Money `json:"here"`
	StateThere string        `json:"state_there,omitempty"` // WeChat Pay's word
	StateHere  string        `json:"state_here,omitempty"`  // the ledger's
	Time       time.Time     `json:"time,omitzero"`
}

// Side sums up the payments, or the refunds.
type Side struct {
	There         int64       `json:"there"` // rows of the bill
	ThereAmount   storage.Fen `json:"there_amount"`
	Here          int64       `json:"here"` // of that day in the ledger, where it was listed
	HereAmount    storage.Fen `json:"here_amount"`
	Matched       int64       `json:"matched"`
	MatchedAmount storage.Fen `json:"matched_amount"`
}

// Report is the outcome of one day's comparison. Amounts are in fen.
type Report struct {
	Merchant string `json:"merchant"` // name of the merchant block
	Mchid    string `json:"mchid"`
	Date     string `json:"date"` // yyyy-MM-dd, in Beijing
	// NoBill is true when WeChat Pay has no bill of the day.
	NoBill   bool `json:"no_bill,omitempty"`
	Payments Side `json:"payments"`
	Refunds  Side `json:"refunds"`
	// Revoked counts payments that were reversed.
	Revoked int64 `json:"revoked,omitempty"`
	// Undecided counts what is in the ledger so near to midnight that it may be in
	// the bill of the day before or after.
	Undecided int64 `json:"undecided,omitempty"`
	// Counts says how many differences there are of each kind, all of them.
	Counts map[Kind]int64 `json:"counts"`
	// Differences are the first of them, in the order of the bill, then of the
	// ledger; LeftOut counts the rest.
	Differences []Difference `json:"differences"`
	LeftOut     int64        `json:"left_out,omitempty"`
}

// Clean reports whether bill and ledger agree.
func (r *Report) Clean() bool { return len(r.Counts) == 0 }

// head names the columns of [Report.WriteCSV].
var head = []string{
	"merchant", "date", "kind", "mchid", "sub_mchid", "out_trade_no", "transaction_id", "out_refund_no", "refund_id",
	"there_fen", "there_currency", "here_fen", "here_currency", "state_there", "state_here", "time",
}

// amounts are the columns of numbers, which may be negative.
var amounts = map[string]bool{"there_fen": true, "here_fen": true}

// WriteCSV writes the differences (RFC 4180, UTF-8, amounts in fen, times with
// their offset), one row each below a row of names. A value that a spreadsheet
// would take for a formula begins with an apostrophe. Errors: the writer's.
func (r *Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if err := out.Write(head); err != nil {
		return err
	}
	for _, d := range r.Differences {
		at := ""
		if !d.Time.IsZero() {
			at = d.Time.Format(time.RFC3339)
		}
		row := []string{
			r.Merchant, r.Date, string(d.Kind), d.Mchid, d.SubMchid, d.OutTradeNo, d.TransactionID, d.OutRefundNo, d.RefundID,
			strconv.FormatInt(int64(d.There.Total), 10), d.There.Currency, strconv.FormatInt(int64(d.Here.Total), 10), d.Here.Currency,
			d.StateThere, d.StateHere, at,
		}
		for i, value := range row {
			if !amounts[head[i]] {
				row[i] = harmless(value)
			}
		}
		if err := out.Write(row); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// harmless keeps a value from being a formula.
// https://owasp.org/www-community/attacks/CSV_Injection
func harmless(value string) string {
	if first := strings.TrimLeft(value, " "); first != "" && strings.ContainsAny(first[:1], "=+-@\t\r\n|%'") ||
		strings.HasPrefix(first, "＝") || strings.HasPrefix(first, "＋") || strings.HasPrefix(first, "－") || strings.HasPrefix(first, "＠") {
		return "'" + value
	}
	return value
}
