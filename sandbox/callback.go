package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// callbackTimeout is how long WeChat Pay waits for an answer to a callback.
const callbackTimeout = 5 * time.Second

// maxAnswer is how much of a merchant's answer is read, in bytes. The status
// alone decides; the rest only lets the connection be used again.
const maxAnswer = 64 << 10

// Schedule is WeChat Pay's: the wait after the n-th send that failed. The first
// send is at once, so a callback is sent at most 16 times in 24 h 4 min.
func Schedule() []time.Duration {
	return []time.Duration{
		15 * time.Second, 15 * time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute,
		20 * time.Minute, 30 * time.Minute, 30 * time.Minute, 30 * time.Minute, time.Hour,
		3 * time.Hour, 3 * time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour,
	}
}

// CallbackState is where a callback stands.
type CallbackState string

// The states of a callback.
const (
	Held      CallbackState = "held"      // lost until somebody sends it
	Sending   CallbackState = "sending"   // being sent, or waiting for its next retry
	Delivered CallbackState = "delivered" // answered 200 or 204
	Exhausted CallbackState = "exhausted" // every retry failed
)

// AttemptKind says why a callback was sent.
type AttemptKind string

// The kinds of attempts. Regular ones follow the schedule; the others were asked for.
const (
	Regular     AttemptKind = "regular"
	ProbeSend   AttemptKind = "probe"        // WECHATPAY/SIGNTEST/ signature
	ForgedSend  AttemptKind = "forged"       // signed by a stranger
	StaleSend   AttemptKind = "stale"        // an old timestamp, rightly signed
	WrongAmount AttemptKind = "wrong_amount" // rightly signed, another amount
	Duplicate   AttemptKind = "duplicate"    // once more
	Concurrent  AttemptKind = "concurrent"   // once more, at the same time
)

// genuine attempts are right in every way: one answer of success settles the callback.
func (k AttemptKind) genuine() bool { return k == Regular || k == Duplicate || k == Concurrent }

// Attempt is one send of a callback that has ended.
type Attempt struct {
	Kind     AttemptKind   `json:"kind"`
	At       time.Time     `json:"at"`                 // when it began
	Duration time.Duration `json:"duration_ns"`        // until the answer
	Serial   string        `json:"wechatpay_serial"`   // of the key it names
	Status   int           `json:"status"`             // HTTP; 0 when there was no answer
	Error    string        `json:"error,omitempty"`    // why there was no answer
	Location string        `json:"location,omitempty"` // of a redirect; never followed
}

// Succeeded says whether WeChat Pay takes the answer for success: 200 or 204.
func (a Attempt) Succeeded() bool {
	return a.Status == http.StatusOK || a.Status == http.StatusNoContent
}

// Callback is a picture of a callback at one moment.
type Callback struct {
	ID         string        `json:"id"` // of the notification
	Mchid      string        `json:"mchid"`
	OutTradeNo string        `json:"out_trade_no"` // a combine order's combine_out_trade_no; of a refund, the sub-order's
	RefundNo   string        `json:"out_refund_no,omitempty"`
	ParkingID  string        `json:"parking_id,omitempty"` // of an entry's callback, which has no out_trade_no
	URL        string        `json:"url"`
	EventType  string        `json:"event_type"`
	CreateTime time.Time     `json:"create_time"` // whole seconds, +08:00, as the callback says it
	State      CallbackState `json:"state"`
	Next       time.Time     `json:"next,omitzero"` // of the next retry; zero: none planned
	Attempts   []Attempt     `json:"attempts"`      // ended ones, in the order they ended
}

// callback is a payment's, refund's or entry's callback and its sender. The fields of the
// second group are guarded by the platform's mu.
type callback struct {
	mchid        string // whose APIv3 key encrypts it
	number       string
	refundNo     string // of a refund's callback
	parkingID    string // of an entry's callback
	notification Notification
	url          string
	first        int64                 // fen, what wrong changes
	wrong        func(by int64) []byte // the resource with by fen added to its (first) amount; nil: it has none

	state    CallbackState
	next     time.Time
	attempts []Attempt
	begun    bool          // the regular series has begun
	done     chan struct{} // closed when delivered
}

func (c *callback) viewLocked() Callback {
	return Callback{
		ID: c.notification.ID, Mchid: c.mchid, OutTradeNo: c.number, RefundNo: c.refundNo, ParkingID: c.parkingID, URL: c.url,
		EventType: c.notification.EventType, CreateTime: c.notification.CreateTime,
		State: c.state, Next: c.next, Attempts: append([]Attempt{}, c.attempts...),
	}
}

// Callbacks returns every callback, the oldest first.
func (p *Platform) Callbacks() []Callback {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []Callback{}
	for _, c := range p.callbacks {
		out = append(out, c.viewLocked())
	}
	return out
}

// WaitCallback waits until the order's callback has at least so many ended
// attempts of any kind and returns it. It may be called before the payment.
// When ctx ends first, or the platform is closed, that is the error.
func (p *Platform) WaitCallback(ctx context.Context, outTradeNo string, attempts int) (Callback, error) {
	return p.wait(ctx, outTradeNo, func(c Callback) bool { return len(c.Attempts) >= attempts })
}

// WaitState waits until the order's callback is in the given state.
func (p *Platform) WaitState(ctx context.Context, outTradeNo string, state CallbackState) (Callback, error) {
	return p.wait(ctx, outTradeNo, func(c Callback) bool { return c.State == state })
}

func (p *Platform) wait(ctx context.Context, ref string, enough func(Callback) bool) (Callback, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		c, err := p.callbackLocked(ref)
		if err == nil {
			if view := c.viewLocked(); enough(view) {
				p.mu.Unlock()
				return view, nil
			}
		}
		p.mu.Unlock()
		if errors.Is(err, ErrAmbiguous) {
			return Callback{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Callback{}, fmt.Errorf("sandbox: waiting for the callback of %s: %w", ref, ctx.Err())
		case <-p.ctx.Done():
			return Callback{}, ErrClosed
		}
	}
}

// series sends by the schedule until an answer of success, the end of the
// schedule, or Close. The first sends are the caller's.
func (p *Platform) series(c *callback) {
	for _, wait := range Schedule() {
		wait /= p.scale
		p.mu.Lock()
		if c.state != Sending {
			p.mu.Unlock()
			return
		}
		c.next = p.now().Add(wait)
		p.touchLocked()
		p.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.done:
			timer.Stop()
			return
		case <-p.ctx.Done():
			timer.Stop()
			return
		}
		p.attempt(c, Regular, 0)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state == Sending {
		c.state, c.next = Exhausted, time.Time{}
		p.touchLocked()
	}
}

// attempt sends once and records how it ended. by is the age of a stale
// timestamp in seconds, or the fen to add to a wrong amount.
func (p *Platform) attempt(c *callback, kind AttemptKind, by int64) {
	if p.ctx.Err() != nil {
		return
	}
	a := Attempt{Kind: kind, At: p.now()}
	n := c.notification
	var opt []CallbackOption
	switch kind {
	case ProbeSend:
		opt = append(opt, Probe())
	case ForgedSend:
		opt = append(opt, Forged())
	case StaleSend:
		opt = append(opt, WithTime(a.At.Add(-time.Duration(by)*time.Second)))
	case WrongAmount:
		n.Plaintext = c.wrong(by)
	case Regular, Duplicate, Concurrent:
	}
	p.send(c, n, opt, &a)
	a.Duration = p.now().Sub(a.At)
	p.log.Info("callback sent", "id", n.ID, "kind", string(kind), "status", a.Status, "error", a.Error)
	p.mu.Lock()
	defer p.mu.Unlock()
	c.attempts = append(c.attempts, a)
	if kind.genuine() && a.Succeeded() && c.state != Delivered {
		c.state, c.next = Delivered, time.Time{}
		close(c.done)
	}
	p.touchLocked()
}

// send does the HTTP part of an attempt. What goes wrong is recorded in short,
// without the URL, which may be private.
func (p *Platform) send(c *callback, n Notification, opt []CallbackOption, a *Attempt) {
	header, body, err := p.Callback(c.mchid, n, opt...)
	if err != nil {
		a.Error = err.Error()
		return
	}
	a.Serial = header.Get("Wechatpay-Serial")
	ctx, cancel := context.WithTimeout(p.ctx, callbackTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		a.Error = "notify_url is not usable"
		return
	}
	req.Header = header
	resp, err := p.client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		a.Error = err.Error()
		return
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // ends early on EOF; the status decides
	a.Status = resp.StatusCode
	a.Location = resp.Header.Get("Location")
}

// wrongAmount is the resource of o with by fen added to its (first) amount.
func (o *order) wrongAmount(by int64) []byte {
	c := o.copyLocked()
	c.lines[0].total += by
	c.lines[0].payerTotal += by
	return c.plaintext()
}

// plaintext is the resource of the order's callback.
func (o *order) plaintext() []byte {
	var v any
	switch o.kind {
	case Basic:
		v = o.transaction()
	case Partner:
		v = o.partnerTransaction()
	case Combine:
		v = o.combineTransaction()
	case ParkingCharge:
		return o.chargeNotice(0)
	}
	b, err := json.Marshal(v)
	if err != nil { // plain structs: cannot happen
		panic("sandbox: " + err.Error())
	}
	return b
}
