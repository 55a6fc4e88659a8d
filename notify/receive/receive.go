package receive

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// answerWithin bounds the work for one callback. WeChat Pay waits 5 s.
const answerWithin = 4400 * time.Millisecond

// visit is one callback on its way through.
type visit struct {
	route *notify.Route
	m     Merchant
	in    *Incoming
	began time.Time

	merchant string
	kind     event.Kind
	outcome  notify.Outcome
	signed   signed
	body     int    // length, -1 before it was read
	reason   string // of a refusal, constant
	field    string // that contradicts
	err      error  // of the store or the key set
	id       string
}

// Receive takes one callback in and says what to tell WeChat. m is nil when the
// path names no merchant. A 2xx means that the notification is durably stored
// (and, with ack delivery, that the backend took it). Receive recovers panics,
// keeps nothing of in, and works on to its own deadline when ctx ends after the
// body was read: a sender that gives up does not undo an acceptance.
func (r *Receiver) Receive(ctx context.Context, route *notify.Route, m Merchant, in Incoming) (out Answer) {
	if in.Arrived.IsZero() {
		in.Arrived = time.Now()
	}
	v := visit{route: route, m: m, in: &in, began: r.now(), body: -1}
	defer func() {
		if p := recover(); p != nil {
			r.panicked(v.merchant, p, debug.Stack())
			v.outcome, out = notify.OutcomeInternalError, answerInternal
		}
		r.report(ctx, &v, out)
	}()
	return r.receive(ctx, &v)
}

func (v *visit) refuse(outcome notify.Outcome, a Answer, reason string) Answer {
	v.outcome, v.reason = outcome, reason
	return a
}

func (r *Receiver) receive(ctx context.Context, v *visit) Answer {
	if v.in.Method != http.MethodPost {
		return v.refuse(notify.OutcomeMethod, answerMethod, "method is not POST")
	}
	if v.m == nil {
		return v.refuse(notify.OutcomeNoMerchant, answerNoMerchant, "the path names no merchant")
	}
	v.merchant = v.m.Name()
	limit := v.route.MaxBody
	if limit <= 0 {
		limit = notify.DefaultMaxBody
	}
	if v.in.ContentLength > limit {
		return v.refuse(notify.OutcomeTooLarge, answerTooLarge, "Content-Length is over max_body")
	}
	var bad refusal
	if v.signed, bad = parseHeaders(v.in.Header, v.began); bad.refused() {
		if unsigned(v.in.Header) && looksXML(v.in) {
			return v.refuse(notify.OutcomeXML, answerXML, "an APIv2 notification in XML")
		}
		return v.refuse(bad.outcome, bad.answer, bad.reason)
	}
	if v.err = v.m.Ready(); v.err != nil {
		return v.refuse(notify.OutcomeUnavailable, answerUnavailable, "the merchant's keys are not there yet")
	}
	if bad = v.signed.findKey(v.m, v.began); bad.refused() {
		return v.refuse(bad.outcome, bad.answer, bad.reason)
	}

	size := v.in.ContentLength
	if size < 0 {
		size = limit
	}
	if !r.reserve(size) {
		v.err = errInFlight
		return v.refuse(notify.OutcomeUnavailable, answerUnavailable, "bodies in flight are beyond the budget")
	}
	defer r.held.Add(-size)
	b := r.getBuffers()
	defer r.putBuffers(b)
	message, body, err := b.readMessage(&v.signed, v.in, limit)
	switch {
	case errors.Is(err, errTooLarge):
		return v.refuse(notify.OutcomeTooLarge, answerTooLarge, "body is over max_body")
	case err != nil:
		return v.refuse(notify.OutcomeDisconnected, answerDisconnected, "body broke off")
	}
	v.body = len(body)
	if r.verify(v.signed.key, message, v.signed.signature) != nil {
		return v.refuse(v.signed.failed(), answerSignature, "signature does not verify")
	}
	return r.open(ctx, v, b, body)
}

// reserve takes size bytes of the budget.
func (r *Receiver) reserve(size int64) bool {
	if r.held.Add(size) > r.budget {
		r.held.Add(-size)
		return false
	}
	return true
}

// open decrypts and classifies what WeChat Pay has signed.
func (r *Receiver) open(ctx context.Context, v *visit, b *buffers, body []byte) Answer {
	envelope, err := event.ParseEnvelope(body)
	if err == nil {
		b.ciphertext, err = envelope.Ciphertext(b.ciphertext)
	}
	if err != nil {
		v.err = err
		return v.refuse(notify.OutcomeMalformed, answerMalformed, "envelope is malformed")
	}
	resource, err := v.m.Decrypt(envelope.AssociatedData, envelope.Nonce, b.ciphertext)
	if err != nil {
		return v.refuse(notify.OutcomeDecrypt, answerDecrypt, "resource cannot be decrypted")
	}
	e, err := event.Classify(envelope.Head, resource, v.m.Mchid())
	if err != nil {
		v.err = err
		return v.refuse(notify.OutcomeMalformed, answerMalformed, "plaintext is malformed")
	}
	v.kind, v.id = e.Kind, e.ID

	n := notification(&e, v.route, v.merchant, v.began)
	n.Host, n.Path, n.Source = v.in.Host, v.in.Path, storage.SourceCallback
	n.Body = make([]byte, 0, envelope.ResourceStart+len(resource)+len(body)-envelope.ResourceEnd)
	n.Body = append(n.Body, body[:envelope.ResourceStart]...)
	n.Body = append(n.Body, resource...)
	n.Body = append(n.Body, body[envelope.ResourceEnd:]...)
	n.ResourceStart, n.ResourceEnd = envelope.ResourceStart, envelope.ResourceStart+len(resource)
	if v.route.Payload == notify.PayloadRaw {
		n.Raw, n.RawHeaders = append([]byte(nil), body...), rawHeaders(v.in.Header)
	}

	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), v.in.Arrived.Add(r.within))
	defer cancel()
	return r.take(work, v, &n, &e)
}

// take judges the event, stores it, and answers.
func (r *Receiver) take(ctx context.Context, v *visit, n *storage.Notification, e *event.Event) Answer {
	j, err := r.judge(ctx, e, v.m, v.route.AmountCheck)
	if err != nil {
		v.err = err
		return v.refuse(notify.OutcomeUnavailable, answerUnavailable, "the ledger cannot be read")
	}
	j.complete(n)
	if j.park != "" {
		return r.park(ctx, v, n, e, &j)
	}
	if v.route.Ack == notify.AckDelivery {
		return r.deliver(ctx, v, n, e, &j)
	}
	a, err := r.accept(ctx, storage.AcceptRequest{Notification: *n}, e, &j, v.m)
	if err != nil {
		v.err = err
		return v.refuse(notify.OutcomeUnavailable, answerUnavailable, "the store did not take the notification")
	}
	if a.Outcome == storage.AcceptedDuplicate {
		v.outcome = notify.OutcomeDuplicate
	} else {
		v.outcome = notify.OutcomeCommitted
	}
	return answerSuccess
}

// park stores an event that must not be delivered.
func (r *Receiver) park(ctx context.Context, v *visit, n *storage.Notification, e *event.Event, j *judgement) Answer {
	id, fresh, err := r.store.Park(ctx, *n, j.park, j.detail)
	if err != nil {
		v.err = err
		return v.refuse(notify.OutcomeUnavailable, answerUnavailable, "the store did not take the notification")
	}
	v.id, v.field = id, j.detail
	if fresh {
		r.observer.Changed(notify.Change{
			Merchant: v.merchant, ID: id, Kind: string(e.Kind), EventType: e.EventType,
			State: storage.StateParked, Reason: string(j.park),
		})
		if r.parked != nil && e.Kind.IsChecked() {
			r.ask(v, id, e, j)
		}
	}
	return v.refuse(notify.OutcomeParked, answerParked, string(j.park))
}

// ask calls Config.Parked without waiting for it.
func (r *Receiver) ask(v *visit, id string, e *event.Event, j *judgement) {
	p := Parked{
		Merchant: v.merchant, Route: v.route, ID: id, Kind: e.Kind, Reason: j.park,
		Event: e, Host: v.in.Host, Path: v.in.Path,
	}
	r.start(func() {
		defer func() {
			if value := recover(); value != nil {
				r.panicked(p.Merchant, value, debug.Stack())
			}
		}()
		r.parked(r.ctx, p)
	})
}

// accept stores an event under its business key and, before anybody hears of
// success, marks what the ledger knows of its order.
func (r *Receiver) accept(ctx context.Context, request storage.AcceptRequest, e *event.Event, j *judgement, m Merchant) (storage.Acceptance, error) {
	n := &request.Notification
	if r.closed.Load() {
		return storage.Acceptance{}, errClosed
	}
	a, err := r.store.Accept(ctx, request)
	if err != nil {
		return a, err
	}
	if a.IDConflict {
		r.observer.IDConflict(n.Merchant, n.Kind)
		r.log.LogAttrs(ctx, slog.LevelWarn, "one notification id came with two business keys",
			slog.String("merchant", n.Merchant), slog.String("id", n.ID),
			slog.String("notification_id", n.NotificationID), slog.String("event_type", n.EventType))
	}
	if a.Outcome == storage.AcceptedFresh {
		r.observer.Changed(notify.Change{
			Merchant: n.Merchant, ID: n.ID, Kind: n.Kind, EventType: n.EventType, State: storage.StatePending,
		})
		if j.unlisted(e, m) {
			r.observer.AppidUnlisted(n.Merchant, n.Kind)
			r.log.LogAttrs(ctx, slog.LevelWarn, "the appid of an unknown order is not one of the merchant's apps",
				slog.String("merchant", n.Merchant), slog.String("id", n.ID), slog.String("appid", e.Appid))
		}
	}
	// On a duplicate, too: the process may have died between the two.
	if err := r.mark(ctx, e, j); err != nil {
		if a.Claim != nil {
			// Whoever comes next may deliver it at once.
			err = errors.Join(err, r.store.Release(ctx, n.ID, a.Claim.Fence, r.now()))
		}
		return a, err
	}
	return a, nil
}

// notification fills what the event tells.
func notification(e *event.Event, route *notify.Route, merchantName string, now time.Time) storage.Notification {
	return storage.Notification{
		ID: e.ID, Key: e.Key, Merchant: merchantName, Route: route.ID, Group: e.Group,
		Mchid: e.Mchid, SubMchid: e.SubMchid, Appid: e.Appid,
		NotificationID: e.NotificationID, EventType: e.EventType, Kind: string(e.Kind),
		OutTradeNo: e.OutTradeNo, OutRefundNo: e.OutRefundNo, TransactionID: e.TransactionID,
		ParkingID: e.ParkingID, TradeScene: e.TradeScene,
		Orders: e.Orders, Money: e.Money, ReceivedAt: now,
	}
}

// rawHeaders are the headers that belong to the raw bytes.
func rawHeaders(h http.Header) []storage.Header {
	var out []storage.Header
	for _, name := range [...]string{headerTimestamp, headerNonce, headerSignature, headerSerial, headerType, headerRequestID} {
		spelled := name
		if name == headerRequestID {
			spelled = "Request-ID"
		}
		if values := h[name]; len(values) == 1 {
			out = append(out, storage.Header{Name: spelled, Value: values[0]})
		}
	}
	return out
}
