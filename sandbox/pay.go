package sandbox

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Faults is what shall go wrong around a callback. The bad sends (Probes,
// Forged, Stale, WrongAmount) go out first, one by one, then the right ones.
// The zero value is a payment without a hitch.
type Faults struct {
	Probes       int   `json:"probes"`        // sends with a WECHATPAY/SIGNTEST/ signature
	Forged       int   `json:"forged"`        // sends signed by a stranger's key
	Stale        int   `json:"stale"`         // sends with an old timestamp
	StaleSeconds int64 `json:"stale_seconds"` // how old; zero: 600
	WrongAmount  int64 `json:"wrong_amount"`  // fen added to the amount of one more send; zero: none
	Duplicates   int   `json:"duplicates"`    // further right sends, one after the other
	Concurrent   int   `json:"concurrent"`    // this many right sends at the same time, the first included
	Lost         bool  `json:"lost"`          // no right send until Send says so
	Coupon       int64 `json:"coupon"`        // Pay only: fen of the (first) amount that a coupon pays
}

const maxSends = 1000 // of each kind, at a time

func (f Faults) check() error {
	for name, n := range map[string]int{
		"probes": f.Probes, "forged": f.Forged, "stale": f.Stale,
		"duplicates": f.Duplicates, "concurrent": f.Concurrent,
	} {
		if n < 0 || n > maxSends {
			return fmt.Errorf("sandbox: %s %d: want 0 to %d", name, n, maxSends)
		}
	}
	if f.StaleSeconds < 0 || f.StaleSeconds > 1<<31 {
		return fmt.Errorf("sandbox: stale_seconds %d: want 0 or more", f.StaleSeconds)
	}
	if f.WrongAmount > maxAmount || f.WrongAmount < -maxAmount {
		return fmt.Errorf("sandbox: wrong_amount %d: out of range", f.WrongAmount)
	}
	if f.Lost && (f.Duplicates > 0 || f.Concurrent > 0) {
		return fmt.Errorf("sandbox: a lost callback has no duplicates")
	}
	return nil
}

// Pay pays an order as a user who scans its code_url, or confirms in its mini program, app or page. The state
// is SUCCESS when Pay returns; the callback is sent in the background, wait for
// it with WaitCallback or WaitState. ref is as for Order.
func (p *Platform) Pay(ref string, f Faults) (Callback, error) {
	if err := f.check(); err != nil {
		return Callback{}, err
	}
	day := p.now().In(beijing).Format("20060102")
	openid := "oSANDBOX" + p.randomText(20)
	id := p.randomUUID()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Callback{}, ErrClosed
	}
	o, err := p.findLocked(ref)
	if err != nil {
		return Callback{}, err
	}
	now := p.now()
	if err := o.payable(now); err != nil {
		return Callback{}, err
	}
	if f.Coupon < 0 || f.Coupon >= o.lines[0].total {
		return Callback{}, fmt.Errorf("sandbox: coupon %d: want less than the first amount, %d", f.Coupon, o.lines[0].total)
	}
	if f.WrongAmount != 0 && o.lines[0].total+f.WrongAmount < 0 {
		return Callback{}, fmt.Errorf("sandbox: wrong_amount %d makes the amount negative", f.WrongAmount)
	}
	o.state, o.paidAt = Success, stamp(now)
	if o.payer == (payerID{}) { // of a JSAPI order it is fixed
		o.payer.openid = openid
		if o.kind == Partner && o.lines[0].subAppid != "" {
			o.payer.subOpenid = "oSUBBOX0" + openid[8:]
		}
	}
	for i, l := range o.lines {
		l.payerTotal = l.total
		if i == 0 {
			l.payerTotal -= f.Coupon
		}
		for l.transactionID == "" || p.byTx[l.transactionID] != nil {
			l.transactionID = "4200" + p.randomDigits(6) + day + p.randomDigits(10)
		}
		p.byTx[l.transactionID] = o
	}
	n := PaymentNotification(o.plaintext())
	n.ID, n.CreateTime = id, stamp(now)
	paid := o.copyLocked()
	c := &callback{
		mchid: o.mchid, number: o.number, notification: n, url: o.notifyURL,
		first: o.lines[0].total, wrong: paid.wrongAmount, state: Held, done: make(chan struct{}),
	}
	o.callback = c
	p.callbacks = append(p.callbacks, c)
	p.byCallback[id] = c
	if err := p.startLocked(c, f); err != nil {
		return Callback{}, err
	}
	return c.viewLocked(), nil
}

func (o *order) payable(now time.Time) error {
	if o.kind == ParkingCharge {
		return ErrUnasked
	}
	switch o.state {
	case Success:
		return ErrPaid
	case Closed:
		return ErrShut
	case NotPay, Refunded, Accepted, PayFail:
	}
	if now.Sub(o.prIssued) >= o.payLife() || !o.expires.IsZero() && !now.Before(o.expires) {
		return ErrExpired
	}
	return nil
}

// Send sends a paid order's callback now: first the bad sends f asks for, then
// the right ones. A lost callback begins its series with it, unless f.Lost
// keeps it lost; one that is delivered, retried or exhausted is sent at least
// once more. If f asks for bad sends alone on a callback that has begun, only
// those go out. Coupon is ignored. It returns at once; ref is as for Order, or
// as for SettleRefund, or a notification's id.
func (p *Platform) Send(ref string, f Faults) (Callback, error) {
	if err := f.check(); err != nil {
		return Callback{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c, err := p.callbackLocked(ref)
	if err != nil {
		return Callback{}, err
	}
	if f.WrongAmount != 0 && (c.wrong == nil || c.first+f.WrongAmount < 0) {
		return Callback{}, fmt.Errorf("sandbox: wrong_amount %d: there is no amount, or it would be negative", f.WrongAmount)
	}
	if err := p.startLocked(c, f); err != nil {
		return Callback{}, err
	}
	return c.viewLocked(), nil
}

// callbackLocked finds a callback by its notification's id, by the order, by
// "refund:" and the refund, or by "parking:" and the entry; of several the
// newest is meant.
func (p *Platform) callbackLocked(ref string) (*callback, error) {
	if c := p.byCallback[ref]; c != nil {
		return c, nil
	}
	if strings.HasPrefix(ref, refundPrefix) {
		r, err := p.refundLocked(ref)
		if err != nil {
			return nil, err
		}
		if len(r.callbacks) == 0 {
			return nil, ErrNotPaid
		}
		return r.callbacks[len(r.callbacks)-1], nil
	}
	if strings.HasPrefix(ref, parkingPrefix) {
		e, err := p.parkingLocked(ref)
		if err != nil {
			return nil, err
		}
		if len(e.callbacks) == 0 {
			return nil, ErrNotPaid
		}
		return e.callbacks[len(e.callbacks)-1], nil
	}
	o, err := p.findLocked(ref)
	if err != nil {
		return nil, err
	}
	if o.callback == nil {
		return nil, ErrNotPaid
	}
	return o.callback, nil
}

// startLocked begins the sends in the background. p.mu is held.
func (p *Platform) startLocked(c *callback, f Faults) error {
	begins := !c.begun && !f.Lost
	run := func() {
		p.badSends(c, f)
		if begins {
			p.together(c, f.Concurrent, Regular)
			p.repeat(c, f.Duplicates)
			p.series(c)
			return
		}
		if f.Lost {
			return
		}
		if f.Concurrent > 0 {
			p.together(c, f.Concurrent, Concurrent)
		}
		repeats := f.Duplicates
		if f.Concurrent == 0 && repeats == 0 && f.Probes+f.Forged+f.Stale == 0 && f.WrongAmount == 0 {
			repeats = 1
		}
		p.repeat(c, repeats)
	}
	if err := p.goLocked(run); err != nil {
		return err
	}
	if begins {
		c.begun, c.state = true, Sending
	}
	p.touchLocked()
	return nil
}

func (p *Platform) badSends(c *callback, f Faults) {
	age := f.StaleSeconds
	if age == 0 {
		age = 600
	}
	for _, s := range []struct {
		kind  AttemptKind
		times int
		by    int64
	}{{ProbeSend, f.Probes, 0}, {ForgedSend, f.Forged, 0}, {StaleSend, f.Stale, age}} {
		for range s.times {
			p.attempt(c, s.kind, s.by)
		}
	}
	if f.WrongAmount != 0 {
		p.attempt(c, WrongAmount, f.WrongAmount)
	}
}

// together sends n times (at least once) at the same time; the first send is
// of kind first. It returns when all have ended.
func (p *Platform) together(c *callback, n int, first AttemptKind) {
	ended := make(chan struct{})
	for range n - 1 {
		go func() {
			defer func() { ended <- struct{}{} }()
			p.attempt(c, Concurrent, 0)
		}()
	}
	p.attempt(c, first, 0)
	for range n - 1 {
		<-ended
	}
}

func (p *Platform) repeat(c *callback, n int) {
	for range n {
		p.attempt(c, Duplicate, 0)
	}
}

// SendInOrder sends the callbacks of paid orders in the order given, each one
// after the one before has ended, whatever the order of the payments was: pay
// with Faults.Lost, then release. It returns when the last has been sent, or
// when ctx ends.
func (p *Platform) SendInOrder(ctx context.Context, refs ...string) error {
	for _, ref := range refs {
		p.mu.Lock()
		c, err := p.callbackLocked(ref)
		if err != nil {
			p.mu.Unlock()
			return err
		}
		have := len(c.attempts)
		err = p.startLocked(c, Faults{})
		p.mu.Unlock()
		if err != nil {
			return err
		}
		if _, err := p.WaitCallback(ctx, ref, have+1); err != nil {
			return err
		}
	}
	return nil
}
