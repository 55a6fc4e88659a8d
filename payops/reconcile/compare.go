package reconcile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/bill"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// DefaultDifferences is how many differences a report holds.
	DefaultDifferences = 10_000
	// DefaultSlack is how near to midnight a payment or refund of the ledger's is
	// when it may be in another day's bill.
	DefaultSlack = 5 * time.Minute
)

// Ledger looks up what the bill names: a [storage.Ledger].
type Ledger interface {
	Order(ctx context.Context, key storage.OrderKey) (storage.Order, error)
	OrderByTransaction(ctx context.Context, mchid, transactionID string) (storage.Order, error)
	Refund(ctx context.Context, key storage.RefundKey) (storage.Refund, error)
}

// Listing lists what the ledger has of a day.
type Listing interface {
	// PaidOn lists the orders of a merchant block that are paid and whose PaidAt is
	// from from (inclusive) to to (exclusive), in any order. A pair with an error is
	// the last one.
	PaidOn(ctx context.Context, merchant string, from, to time.Time) iter.Seq2[storage.Order, error]
	// RefundsOn lists the refunds of a merchant block that WeChat Pay accepted from
	// from (inclusive) to to (exclusive), whatever became of them, in any order. A
	// pair with an error is the last one.
	RefundsOn(ctx context.Context, merchant string, from, to time.Time) iter.Seq2[AcceptedRefund, error]
}

// AcceptedRefund is a refund, and when WeChat Pay accepted it (its create_time):
// that is the day in whose bill it is, not the day on which it succeeds.
type AcceptedRefund struct {
	storage.Refund
	AcceptedAt time.Time
}

// Input is what a comparison needs.
type Input struct {
	Merchant string // name of the merchant block
	Mchid    string
	Date     string // yyyy-MM-dd, in Beijing
	// Bill is the day's trade bill of the type ALL, of all sub-merchants. Nil: there
	// is none, which says that nothing was paid or refunded.
	Bill iter.Seq2[bill.Trade, error]
	// Ledger is required.
	Ledger Ledger
	// Listing finds what is missing in the bill. Nil: it is not looked for.
	Listing Listing
	// MaxDifferences bounds Report.Differences. Zero: [DefaultDifferences].
	MaxDifferences int
	// Slack is how near to midnight something may be in another day's bill. Zero:
	// [DefaultSlack].
	Slack time.Duration
}

// Compare compares a bill with the ledger. It changes nothing, and takes memory
// for the number of the bill's rows (some 50 bytes each) and for the differences.
// On an error nothing is known. Errors: those of the bill ([bill.ParseError] and
// others), of the ledger, of the listing, and of the context.
func Compare(ctx context.Context, in Input) (*Report, error) {
	from, to, err := bill.Day(in.Date)
	if err != nil {
		return nil, err
	}
	if in.MaxDifferences <= 0 {
		in.MaxDifferences = DefaultDifferences
	}
	if in.Slack <= 0 {
		in.Slack = DefaultSlack
	}
	c := &comparison{
		Input: in, from: from, to: to, paid: map[digest]struct{}{}, refunded: map[digest]struct{}{},
		report: &Report{
			Merchant: in.Merchant, Mchid: in.Mchid, Date: in.Date, NoBill: in.Bill == nil,
			Counts: map[Kind]int64{}, Differences: []Difference{},
		},
	}
	if in.Bill != nil {
		for row, err := range in.Bill {
			if err == nil {
				err = c.row(ctx, row)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if in.Listing != nil {
		if err := errors.Join(c.missingPayments(ctx), c.missingRefunds(ctx)); err != nil {
			return nil, err
		}
	}
	return c.report, nil
}

// digest stands for a key: 128 bits of SHA-256.
type digest [16]byte

func digestOf(mchid, subMchid, number string) digest {
	sum := sha256.Sum256([]byte(mchid + "\x00" + subMchid + "\x00" + number))
	return digest(sum[:16])
}

// comparison is one run of Compare.
type comparison struct {
	Input
	from, to       time.Time
	paid, refunded map[digest]struct{} // what the bill has
	report         *Report
}

// differ notes a difference.
func (c *comparison) differ(kind Kind, d Difference) {
	d.Kind = kind
	c.report.Counts[kind]++
	if len(c.report.Differences) >= c.MaxDifferences {
		c.report.LeftOut++
		return
	}
	c.report.Differences = append(c.report.Differences, d)
}

// row looks one row of the bill up in the ledger.
func (c *comparison) row(ctx context.Context, row bill.Trade) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d := Difference{
		Mchid: row.Mchid, SubMchid: row.SubMchid, OutTradeNo: row.OutTradeNo, TransactionID: row.TransactionID,
		OutRefundNo: row.OutRefundNo, RefundID: row.RefundID,
		There: storage.Money{Total: row.Total, Currency: row.Currency}, StateThere: string(row.State), Time: row.Time,
	}
	if row.Time.Before(c.from) || !row.Time.Before(c.to) {
		c.differ(OtherDay, d)
	}
	switch row.State {
	case bill.TradePaid:
		return c.payment(ctx, row, d)
	case bill.TradeRefund:
		d.There.Total, d.StateThere = row.RefundAsked, row.RefundStatus
		return c.refund(ctx, row, d)
	case bill.TradeRevoked:
		d.There.Total = row.RefundAsked
		return c.revoked(ctx, row, d)
	default:
		c.differ(OtherState, d)
		return nil
	}
}

// payment is what the ledger knows of one payment: of an order that is no combine
// order, or of one sub-order.
type payment struct {
	key           storage.OrderKey
	amount        storage.Money
	transactionID string
	state         storage.OrderState
}

// payments takes an order apart.
func payments(o *storage.Order) []payment {
	if len(o.Subs) == 0 {
		return []payment{{o.Key, o.Amount, o.TransactionID, o.State}}
	}
	out := make([]payment, 0, len(o.Subs))
	for _, s := range o.Subs {
		out = append(out, payment{s.Key(), s.Amount, s.TransactionID, o.State})
	}
	return out
}

// lookup finds the payment that a row names, by its number or by its transaction.
func (c *comparison) lookup(ctx context.Context, row bill.Trade) (payment, bool, error) {
	key := storage.OrderKey{Mchid: row.Mchid, SubMchid: row.SubMchid, Number: row.OutTradeNo}
	order, err := c.Ledger.Order(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		order, err = c.Ledger.OrderByTransaction(ctx, c.Mchid, row.TransactionID)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return payment{}, false, nil
	}
	if err != nil {
		return payment{}, false, fmt.Errorf("reconcile: the ledger cannot be read: %w", err)
	}
	all := payments(&order)
	for _, p := range all {
		if p.key == key {
			return p, true, nil
		}
	}
	for _, p := range all {
		if p.transactionID == row.TransactionID {
			return p, true, nil
		}
	}
	// The number is a combine order's own, which is no payment.
	return payment{}, false, nil
}

func (c *comparison) payment(ctx context.Context, row bill.Trade, d Difference) error {
	c.report.Payments.There++
	c.report.Payments.ThereAmount += row.Total
	p, known, err := c.lookup(ctx, row)
	if err != nil {
		return err
	}
	if !known {
		c.differ(PaidUnknownHere, d)
		return nil
	}
	d.Here, d.StateHere = p.amount, string(p.state)
	seen := digestOf(p.key.Mchid, p.key.SubMchid, p.key.Number)
	if _, twice := c.paid[seen]; twice {
		c.differ(PaidTwice, d)
		return nil
	}
	c.paid[seen] = struct{}{}
	switch {
	case p.state != storage.OrderPaid:
		c.differ(PaidNotPaidHere, d)
	case p.transactionID != "" && p.transactionID != row.TransactionID:
		c.differ(PaidTransaction, d)
	case contradicts(p.amount, d.There):
		c.differ(PaidAmount, d)
	default:
		c.report.Payments.Matched++
		c.report.Payments.MatchedAmount += row.Total
	}
	return nil
}

// contradicts reports whether amounts differ. What nobody stated contradicts
// nothing.
func contradicts(here, there storage.Money) bool {
	if here == (storage.Money{}) {
		return false
	}
	return here.Total != there.Total || here.Currency != "" && here.Currency != there.Currency
}

func (c *comparison) revoked(ctx context.Context, row bill.Trade, d Difference) error {
	c.report.Revoked++
	p, known, err := c.lookup(ctx, row)
	if err != nil {
		return err
	}
	if known {
		d.Here, d.StateHere = p.amount, string(p.state)
	}
	if !known || p.state != storage.OrderClosed {
		c.differ(Revoked, d)
	}
	return nil
}

func (c *comparison) refund(ctx context.Context, row bill.Trade, d Difference) error {
	c.report.Refunds.There++
	c.report.Refunds.ThereAmount += row.RefundAsked
	key := storage.RefundKey{Mchid: row.Mchid, SubMchid: row.SubMchid, OutRefundNo: row.OutRefundNo}
	r, err := c.Ledger.Refund(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		c.differ(RefundUnknownHere, d)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reconcile: the ledger cannot be read: %w", err)
	}
	d.Here, d.StateHere = storage.Money{Total: r.Amount, Currency: r.Currency}, string(r.State)
	seen := digestOf(key.Mchid, key.SubMchid, key.OutRefundNo)
	if _, twice := c.refunded[seen]; twice {
		c.differ(RefundTwice, d)
		return nil
	}
	c.refunded[seen] = struct{}{}
	switch {
	case !accepted(r.State):
		c.differ(RefundNotAcceptedHere, d)
	case contradicts(d.Here, d.There):
		c.differ(RefundAmount, d)
	case r.RefundID != "" && r.RefundID != row.RefundID:
		c.differ(RefundID, d)
	case row.RefundStatus == "SUCCESS" && r.State == storage.RefundClosed, failed[row.RefundStatus] && r.State == storage.RefundSuccess:
		c.differ(RefundState, d)
	default:
		c.report.Refunds.Matched++
		c.report.Refunds.MatchedAmount += row.RefundAsked
	}
	return nil
}

// failed are the states of refunds in bills that come to nothing.
var failed = map[string]bool{"FAIL": true, "CLOSED": true, "REFUNDCLOSE": true}

// accepted reports whether WeChat Pay has taken the refund, whatever becomes of it.
func accepted(s storage.RefundState) bool {
	switch s {
	case storage.RefundProcessing, storage.RefundSuccess, storage.RefundAbnormal, storage.RefundClosed:
		return true
	case storage.RefundIntended, storage.RefundUnknown, storage.RefundRejected:
	}
	return false
}

// nearMidnight reports whether a time may be in another day's bill.
func (c *comparison) nearMidnight(at time.Time) bool {
	return at.Sub(c.from) < c.Slack || c.to.Sub(at) <= c.Slack
}

// within reports whether a time is of the day.
func (c *comparison) within(at time.Time) bool { return !at.Before(c.from) && at.Before(c.to) }

// missingPayments finds what is paid here and not in the bill.
func (c *comparison) missingPayments(ctx context.Context) error {
	for o, err := range c.Listing.PaidOn(ctx, c.Merchant, c.from, c.to) {
		if err != nil {
			return fmt.Errorf("reconcile: the ledger cannot be listed: %w", err)
		}
		if o.State != storage.OrderPaid || !c.within(o.PaidAt) {
			continue
		}
		for _, p := range payments(&o) {
			if p.key.Mchid != c.Mchid {
				continue // in the bill of the sub-order's own merchant
			}
			c.report.Payments.Here++
			c.report.Payments.HereAmount += p.amount.Total
			if _, there := c.paid[digestOf(p.key.Mchid, p.key.SubMchid, p.key.Number)]; there {
				continue
			}
			if c.nearMidnight(o.PaidAt) {
				c.report.Undecided++
				continue
			}
			c.differ(PaidMissingThere, Difference{
				Mchid: p.key.Mchid, SubMchid: p.key.SubMchid, OutTradeNo: p.key.Number, TransactionID: p.transactionID,
				Here: p.amount, StateHere: string(p.state), Time: o.PaidAt,
			})
		}
	}
	return nil
}

// missingRefunds finds what is accepted here and not in the bill.
func (c *comparison) missingRefunds(ctx context.Context) error {
	for r, err := range c.Listing.RefundsOn(ctx, c.Merchant, c.from, c.to) {
		if err != nil {
			return fmt.Errorf("reconcile: the ledger cannot be listed: %w", err)
		}
		if !accepted(r.State) || !c.within(r.AcceptedAt) || r.Key.Mchid != c.Mchid {
			continue
		}
		c.report.Refunds.Here++
		c.report.Refunds.HereAmount += r.Amount
		if _, there := c.refunded[digestOf(r.Key.Mchid, r.Key.SubMchid, r.Key.OutRefundNo)]; there {
			continue
		}
		if c.nearMidnight(r.AcceptedAt) {
			c.report.Undecided++
			continue
		}
		c.differ(RefundMissingThere, Difference{
			Mchid: r.Key.Mchid, SubMchid: r.Key.SubMchid, OutTradeNo: r.Order.Number, TransactionID: r.TransactionID,
			OutRefundNo: r.Key.OutRefundNo, RefundID: r.RefundID, Here: storage.Money{Total: r.Amount, Currency: r.Currency},
			StateHere: string(r.State), Time: r.AcceptedAt,
		})
	}
	return nil
}
