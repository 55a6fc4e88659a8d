package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrChargeState is what a change of a charge leads to that WeChat Pay never makes.
var ErrChargeState = errors.New("sandbox: the charge's state does not lead there")

// maxChargePlans is enough for a day of a car park.
const maxChargePlans = 10_000

// maxPlanMS bounds the waits of a plan: a year.
const maxPlanMS = int64(365 * 24 * time.Hour / time.Millisecond)

// ChargePlan says how charges go on after they are accepted. The usual, without
// a plan, is success after Options.ChargeTime.
type ChargePlan struct {
	// State is success, fail, advanced, or pending, which stays until
	// SettleCharge. Zero: success.
	State ChargeState `json:"state"`
	// PlateNumber is whose charges are meant. Zero: any plate's.
	PlateNumber string `json:"plate_number"`
	Count       int    `json:"count"` // charges; zero: 1
	// AfterMS is how long the charge is ACCEPTED, in milliseconds, divided by the
	// time scale. Zero: Options.ChargeTime.
	AfterMS int64 `json:"after_ms"`
	// LaterMS is when what comes later comes, in milliseconds after State,
	// divided by the time scale: an advanced order is paid back, one that failed
	// succeeds after all. Zero: not by itself.
	LaterMS int64  `json:"later_ms"`
	Faults  Faults `json:"faults"` // of State's callback
}

// PlanCharges says how the next Count charges go on, of any merchant; plans
// apply in the order they were made, those for a plate to its charges alone.
func (p *Platform) PlanCharges(plan ChargePlan) error {
	switch plan.State {
	case "":
		plan.State = ChargeSuccess
	case ChargePending, ChargeSuccess, ChargeFail, ChargeAdvanced:
	case ChargePaidBack:
		return errors.New("sandbox: a charge is advanced before it is paid back: plan advanced with later_ms")
	default:
		return fmt.Errorf("sandbox: unknown charge state %q", plan.State)
	}
	if err := plan.Faults.check(); err != nil {
		return err
	}
	for name, ms := range map[string]int64{"after_ms": plan.AfterMS, "later_ms": plan.LaterMS} {
		if ms < 0 || ms > maxPlanMS {
			return fmt.Errorf("sandbox: charge plan %s %d: want 0 to %d", name, ms, maxPlanMS)
		}
	}
	if plan.LaterMS > 0 && plan.State != ChargeFail && plan.State != ChargeAdvanced {
		return fmt.Errorf("sandbox: charge plan later_ms: nothing comes after %s", plan.State)
	}
	if plan.Count < 0 || plan.Count > maxFaultCount {
		return fmt.Errorf("sandbox: charge plan count %d: want 1 to %d", plan.Count, maxFaultCount)
	}
	if plan.Count == 0 {
		plan.Count = 1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lot.plans) >= maxChargePlans {
		return fmt.Errorf("sandbox: %d charge plans are made already", maxChargePlans)
	}
	p.lot.plans = append(p.lot.plans, plan)
	return nil
}

func (p *Platform) takeChargePlanLocked(plateNumber string) ChargePlan {
	for i, plan := range p.lot.plans {
		if plan.PlateNumber != "" && plan.PlateNumber != plateNumber {
			continue
		}
		if p.lot.plans[i].Count--; p.lot.plans[i].Count == 0 {
			p.lot.plans = append(p.lot.plans[:i:i], p.lot.plans[i+1:]...)
		}
		return plan
	}
	return ChargePlan{State: ChargeSuccess}
}

// pendLocked carries out a plan: what it says comes after its wait, and what
// comes later after that. p.mu is held.
func (p *Platform) pendLocked(o *order, plan ChargePlan) error {
	if plan.State == ChargePending {
		return nil
	}
	wait := p.chargeTime
	if plan.AfterMS > 0 {
		wait = time.Duration(plan.AfterMS) * time.Millisecond
	}
	return p.afterLocked(o, wait, func() error {
		if err := p.settleChargeLocked(o, plan.State, plan.Faults); err != nil || plan.LaterMS == 0 {
			return err
		}
		next := ChargeSuccess
		if plan.State == ChargeAdvanced {
			next = ChargePaidBack
		}
		return p.afterLocked(o, time.Duration(plan.LaterMS)*time.Millisecond, func() error {
			return p.settleChargeLocked(o, next, Faults{})
		})
	})
}

// afterLocked does what comes next with o after a wait, unless something else
// came first. p.mu is held, here and in do.
func (p *Platform) afterLocked(o *order, wait time.Duration, do func() error) error {
	left := make(chan struct{})
	o.charge.left = left
	return p.goLocked(func() {
		timer := time.NewTimer(wait / p.scale)
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
		if o.charge.left == left { // nobody was faster
			if err := do(); err != nil {
				p.log.Info("charge not settled", "error", err)
			}
		}
	})
}

// SettleCharge takes a charge on, now: from pending to success, fail or
// advanced, from fail to success or advanced (the user paid after all), from
// advanced to paid_back. What was planned for it is off. Its callback goes to
// the charge's notify_url; f is as for Pay. ref is as for Order, whose newest
// callback Send, WaitCallback, WaitState and SendInOrder mean.
func (p *Platform) SettleCharge(ref string, state ChargeState, f Faults) (Order, error) {
	if err := f.check(); err != nil {
		return Order{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	o, err := p.findLocked(ref)
	if err != nil {
		return Order{}, err
	}
	if o.charge == nil {
		return Order{}, ErrNoOrder
	}
	if err := p.settleChargeLocked(o, state, f); err != nil {
		return Order{}, err
	}
	return o.viewLocked(), nil
}

// leadsTo reports whether WeChat Pay takes a charge from s to next.
func (s ChargeState) leadsTo(next ChargeState) bool {
	switch s {
	case ChargePending:
		return next == ChargeSuccess || next == ChargeFail || next == ChargeAdvanced
	case ChargeFail:
		return next == ChargeSuccess || next == ChargeAdvanced
	case ChargeAdvanced:
		return next == ChargePaidBack
	case ChargeSuccess, ChargePaidBack:
	}
	return false
}

func (p *Platform) settleChargeLocked(o *order, state ChargeState, f Faults) error {
	l, c := o.lines[0], o.charge
	if !c.state.leadsTo(state) {
		return fmt.Errorf("%w: from %s to %q", ErrChargeState, c.state, state)
	}
	if p.closed {
		return ErrClosed
	}
	pays := state == ChargeSuccess || state == ChargeAdvanced
	if f.Coupon < 0 || f.Coupon >= l.total || f.Coupon > 0 && !pays {
		return fmt.Errorf("sandbox: coupon %d: want less than the amount, %d, of a charge that succeeds", f.Coupon, l.total)
	}
	if f.WrongAmount != 0 && l.total+f.WrongAmount < 0 {
		return fmt.Errorf("sandbox: wrong_amount %d makes the amount negative", f.WrongAmount)
	}
	if o.notifyURL != "" && len(p.callbacks) >= maxCallbacks {
		return errTooMany
	}
	if c.left != nil {
		close(c.left)
		c.left = nil
	}
	now := stamp(p.now())
	c.state = state
	if pays {
		o.state, o.paidAt, l.payerTotal = Success, now, l.total-f.Coupon
		for l.transactionID == "" || p.byTx[l.transactionID] != nil {
			l.transactionID = "4200" + p.randomDigits(6) + now.Format("20060102") + p.randomDigits(10)
		}
		p.byTx[l.transactionID] = o
	}
	if state == ChargeFail {
		o.state = PayFail
	}
	p.touchLocked()
	if o.notifyURL == "" {
		return nil
	}
	told := o.copyLocked() // what this callback tells, whatever becomes of the charge
	own := *c
	told.charge = &own
	n := ChargeNotification(state, told.chargeNotice(0))
	n.ID, n.CreateTime = p.randomUUID(), now
	one := &callback{
		mchid: o.mchid, number: o.number, notification: n, url: o.notifyURL,
		first: l.total, wrong: told.chargeNotice, state: Held, done: make(chan struct{}),
	}
	o.callback = one
	c.callbacks = append(c.callbacks, one)
	p.callbacks = append(p.callbacks, one)
	p.byCallback[n.ID] = one
	return p.startLocked(one, f)
}

// WaitCharge waits until the charge is in the given state. It may be called
// before the charge exists.
func (p *Platform) WaitCharge(ctx context.Context, ref string, state ChargeState) (Order, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		o, err := p.findLocked(ref)
		if err == nil && o.charge != nil && o.charge.state == state {
			view := o.viewLocked()
			p.mu.Unlock()
			return view, nil
		}
		p.mu.Unlock()
		if errors.Is(err, ErrAmbiguous) {
			return Order{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Order{}, fmt.Errorf("sandbox: waiting for the charge %s: %w", ref, ctx.Err())
		case <-p.ctx.Done():
			return Order{}, ErrClosed
		}
	}
}
