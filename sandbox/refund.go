package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// RefundStatus is WeChat Pay's status of a refund.
type RefundStatus string

// The statuses of a refund. PROCESSING becomes SUCCESS, ABNORMAL or CLOSED;
// ABNORMAL, by hand or by 发起异常退款, becomes SUCCESS or CLOSED. CLOSED gives
// the amount free; every other status keeps it reserved.
const (
	RefundProcessing RefundStatus = "PROCESSING"
	RefundSuccess    RefundStatus = "SUCCESS"
	RefundAbnormal   RefundStatus = "ABNORMAL"
	RefundClosed     RefundStatus = "CLOSED"
)

func (s RefundStatus) known() bool {
	switch s {
	case RefundProcessing, RefundSuccess, RefundAbnormal, RefundClosed:
		return true
	}
	return false
}

// Errors of the acts on refunds; test with errors.Is.
var (
	ErrNoRefund    = errors.New("sandbox: no such refund")
	ErrRefundState = errors.New("sandbox: the refund's status does not lead there")
)

// refundPrefix begins a reference to a refund where one to an order is usual.
const refundPrefix = "refund:"

// refund is a refund of one line of an order. Its fields are guarded by the
// platform's mu; those above status never change.
type refund struct {
	id, number  string // refund_id and out_refund_no
	m           *merchant
	order       *order
	line        *line
	reason      string
	notifyURL   string
	account     string // funds_account
	amount      int64  // fen
	payerAmount int64  // fen of amount that go to the payer; a coupon has the rest
	created     time.Time
	status      RefundStatus
	received    string // user_received_account
	successTime time.Time
	left        chan struct{} // closed when PROCESSING ends
	callbacks   []*callback
}

// Refund is a picture of a refund at one moment.
type Refund struct {
	RefundID      string       `json:"refund_id"`
	OutRefundNo   string       `json:"out_refund_no"`
	Mchid         string       `json:"mchid"` // who asked for it
	OutTradeNo    string       `json:"out_trade_no"`
	TransactionID string       `json:"transaction_id"`
	Amount        int64        `json:"refund"` // fen
	Total         int64        `json:"total"`  // fen, of the order or sub-order
	Status        RefundStatus `json:"status"`
	Reason        string       `json:"reason,omitempty"`
	NotifyURL     string       `json:"notify_url,omitempty"`
	Created       time.Time    `json:"created"`
	SuccessTime   time.Time    `json:"success_time,omitzero"`
	Callbacks     []Callback   `json:"callbacks"` // one for each status that was told
}

func (r *refund) viewLocked() Refund {
	v := Refund{
		RefundID: r.id, OutRefundNo: r.number, Mchid: r.m.mchid, OutTradeNo: r.line.number,
		TransactionID: r.line.transactionID, Amount: r.amount, Total: r.line.total, Status: r.status,
		Reason: r.reason, NotifyURL: r.notifyURL, Created: r.created, SuccessTime: r.successTime, Callbacks: []Callback{},
	}
	for _, c := range r.callbacks {
		v.Callbacks = append(v.Callbacks, c.viewLocked())
	}
	return v
}

// Refunds returns every refund, the oldest first.
func (p *Platform) Refunds() []Refund {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Refund, 0, len(p.refunds))
	for _, r := range p.refunds {
		out = append(out, r.viewLocked())
	}
	return out
}

// Refund returns one refund by its out_refund_no, "mchid:out_refund_no" or
// refund_id; a leading "refund:" is let pass.
func (p *Platform) Refund(ref string) (Refund, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, err := p.refundLocked(ref)
	if err != nil {
		return Refund{}, err
	}
	return r.viewLocked(), nil
}

func (p *Platform) refundLocked(ref string) (*refund, error) {
	ref = strings.TrimPrefix(ref, refundPrefix)
	if r := p.refundIDs[ref]; r != nil {
		return r, nil
	}
	if mchid, number, ok := strings.Cut(ref, ":"); ok {
		if r := p.refundNos[numberKey{mchid, number}]; r != nil {
			return r, nil
		}
		return nil, ErrNoRefund
	}
	var found *refund
	for _, mchid := range p.mchids {
		r := p.refundNos[numberKey{mchid, ref}]
		if r != nil && found != nil {
			return nil, ErrAmbiguous
		}
		if r != nil {
			found = r
		}
	}
	if found == nil {
		return nil, ErrNoRefund
	}
	return found, nil
}

// RefundPlan says how refunds end. The usual, without a plan, is SUCCESS.
type RefundPlan struct {
	// Status is SUCCESS, ABNORMAL or CLOSED; PROCESSING keeps the refund there
	// until SettleRefund. Zero: SUCCESS.
	Status RefundStatus `json:"status"`
	Count  int          `json:"count"`  // refunds; zero: 1
	Faults Faults       `json:"faults"` // of the callback; Coupon is ignored
}

// PlanRefunds says how the next Count refunds end, of any merchant and order;
// plans apply in the order they were made. 发起异常退款 uses up one too.
func (p *Platform) PlanRefunds(plan RefundPlan) error {
	if plan.Status == "" {
		plan.Status = RefundSuccess
	}
	if !plan.Status.known() {
		return fmt.Errorf("sandbox: unknown refund status %q", plan.Status)
	}
	if err := plan.Faults.check(); err != nil {
		return err
	}
	if plan.Count < 0 || plan.Count > maxFaultCount {
		return fmt.Errorf("sandbox: refund plan count %d: want 1 to %d", plan.Count, maxFaultCount)
	}
	if plan.Count == 0 {
		plan.Count = 1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.refundPlans) >= 1000 {
		return fmt.Errorf("sandbox: 1000 refund plans are made already")
	}
	p.refundPlans = append(p.refundPlans, plan)
	return nil
}

func (p *Platform) takePlanLocked() RefundPlan {
	if len(p.refundPlans) == 0 {
		return RefundPlan{Status: RefundSuccess}
	}
	plan := p.refundPlans[0]
	if p.refundPlans[0].Count--; p.refundPlans[0].Count == 0 {
		p.refundPlans = p.refundPlans[1:]
	}
	return plan
}

// processLocked puts r into PROCESSING and, unless the plan keeps it there, out
// of it again when the platform's refund time has passed. p.mu is held.
func (p *Platform) processLocked(r *refund) error {
	plan := p.takePlanLocked()
	left := make(chan struct{})
	run := func() {
		if plan.Status == RefundProcessing {
			return
		}
		timer := time.NewTimer(p.refundTime / p.scale)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-left:
			return
		case <-p.ctx.Done():
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if r.left == left { // nobody was faster
			if err := p.settleLocked(r, plan.Status, plan.Faults); err != nil {
				p.log.Info("refund not settled", "error", err)
			}
		}
	}
	if err := p.goLocked(run); err != nil {
		return err
	}
	r.status, r.left = RefundProcessing, left
	p.touchLocked()
	return nil
}

// SettleRefund ends a refund that is PROCESSING, or ABNORMAL, now: as SUCCESS,
// ABNORMAL or CLOSED. Its callback goes to the refund's notify_url, if it has
// one, as a payment's does; f is as for Pay. Send, WaitCallback, WaitState and
// SendInOrder take "refund:" and a reference as for Refund, which means the
// refund's newest callback.
func (p *Platform) SettleRefund(ref string, status RefundStatus, f Faults) (Refund, error) {
	if err := f.check(); err != nil {
		return Refund{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r, err := p.refundLocked(ref)
	if err != nil {
		return Refund{}, err
	}
	if err := p.settleLocked(r, status, f); err != nil {
		return Refund{}, err
	}
	return r.viewLocked(), nil
}

func (p *Platform) settleLocked(r *refund, status RefundStatus, f Faults) error {
	allowed := false
	switch r.status {
	case RefundProcessing:
		allowed = status == RefundSuccess || status == RefundAbnormal || status == RefundClosed
	case RefundAbnormal:
		allowed = status == RefundSuccess || status == RefundClosed
	case RefundSuccess, RefundClosed:
	}
	if !allowed {
		return fmt.Errorf("%w: from %s to %q", ErrRefundState, r.status, status)
	}
	if f.WrongAmount != 0 && r.amount+f.WrongAmount < 0 {
		return fmt.Errorf("sandbox: wrong_amount %d makes the amount negative", f.WrongAmount)
	}
	if p.closed {
		return ErrClosed
	}
	if r.status == RefundProcessing {
		close(r.left)
		r.left = nil
	}
	r.status = status
	now := stamp(p.now())
	if status == RefundSuccess {
		r.successTime = now
	}
	r.line.refunded = r.order.reservedLocked(r.line) > 0
	p.touchLocked()
	if r.notifyURL == "" {
		return nil
	}
	n := RefundNotification(status, r.plaintext(0))
	n.ID, n.CreateTime = p.randomUUID(), now
	told := *r // what this callback tells, whatever becomes of the refund
	c := &callback{
		mchid: r.m.mchid, number: r.line.number, refundNo: r.number, notification: n, url: r.notifyURL,
		first: r.amount, wrong: told.plaintext, state: Held, done: make(chan struct{}),
	}
	r.callbacks = append(r.callbacks, c)
	p.callbacks = append(p.callbacks, c)
	p.byCallback[n.ID] = c
	return p.startLocked(c, f)
}

// WaitRefund waits until the refund is in the given status. It may be called
// before the refund exists.
func (p *Platform) WaitRefund(ctx context.Context, ref string, status RefundStatus) (Refund, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		r, err := p.refundLocked(ref)
		if err == nil && r.status == status {
			view := r.viewLocked()
			p.mu.Unlock()
			return view, nil
		}
		p.mu.Unlock()
		if errors.Is(err, ErrAmbiguous) {
			return Refund{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Refund{}, fmt.Errorf("sandbox: waiting for the refund %s: %w", ref, ctx.Err())
		case <-p.ctx.Done():
			return Refund{}, ErrClosed
		}
	}
}

// reservedLocked is how much of l is refunded or may be, in fen.
func (o *order) reservedLocked(l *line) (sum int64) {
	for _, r := range o.refunds {
		if r.line == l && r.status != RefundClosed {
			sum += r.amount
		}
	}
	return sum
}

// payerShareLocked is how much of a refund of amount the payer gets, where a
// coupon paid a part: pro rata, and over all refunds what the payer paid.
func (o *order) payerShareLocked(l *line, amount int64) int64 {
	before, given := int64(0), int64(0)
	for _, r := range o.refunds {
		if r.line == l && r.status != RefundClosed {
			before, given = before+r.amount, given+r.payerAmount
		}
	}
	due := share(l.payerTotal, before+amount, l.total) - given
	return max(0, min(due, amount))
}

// share is part*whole/of, rounded down, for 0 <= part <= of and of > 0.
func share(part, whole, of int64) int64 {
	hi, lo := bits.Mul64(uint64(part), uint64(whole))
	q, _ := bits.Div64(hi, lo, uint64(of))
	return int64(q)
}

// refundNotice is the resource of a refund's callback: no currency, no appid,
// no sub_mchid, and refund_status where the query says status.
type refundNotice struct {
	Mchid         string             `json:"mchid"`
	OutTradeNo    string             `json:"out_trade_no"`
	TransactionID string             `json:"transaction_id"`
	OutRefundNo   string             `json:"out_refund_no"`
	RefundID      string             `json:"refund_id"`
	Status        RefundStatus       `json:"refund_status"`
	SuccessTime   string             `json:"success_time,omitempty"`
	Received      string             `json:"user_received_account"`
	Amount        refundNoticeAmount `json:"amount"`
}

type refundNoticeAmount struct {
	Total       int64 `json:"total"`
	Refund      int64 `json:"refund"`
	PayerTotal  int64 `json:"payer_total"`
	PayerRefund int64 `json:"payer_refund"`
}

// plaintext is the resource of the refund's callback with by fen added to what
// is refunded.
func (r *refund) plaintext(by int64) []byte {
	n := refundNotice{
		Mchid: r.m.mchid, OutTradeNo: r.line.number, TransactionID: r.line.transactionID,
		OutRefundNo: r.number, RefundID: r.id, Status: r.status, Received: r.received,
		Amount: refundNoticeAmount{r.line.total, r.amount + by, r.line.payerTotal, r.payerAmount + by},
	}
	if r.status == RefundSuccess {
		n.SuccessTime = rfc3339(r.successTime)
	}
	b, err := json.Marshal(n)
	if err != nil { // plain structs: cannot happen
		panic("sandbox: " + err.Error())
	}
	return b
}
