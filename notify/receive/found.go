package receive

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// ErrUnclassified is returned by Found for a plaintext that is no known kind of
// event: without an id of WeChat's it could not be told from the next one.
var ErrUnclassified = errors.New("receive: what the query found is no known kind of event")

// ErrNotPaid is returned by Found when the query says that the order is not
// paid, although the event asked about says so. Nothing is stored: a query's
// denial is no event.
var ErrNotPaid = errors.New("receive: the query says that the order is not paid")

// Query is what a signed query found, in the form of the callback that should
// have told it.
type Query struct {
	// EventType is the callback's, such as TRANSACTION.SUCCESS.
	EventType string
	// Summary is the callback's, where it tells kinds apart; may be empty.
	Summary string
	// Plaintext is the event with the callback's field names.
	Plaintext []byte
	// Host and Path are those of the notify_url, for the delivery.
	Host, Path string
}

// Found takes in an event that a signed query found, as if its callback had
// come: same business key, same checks, Source query. A later callback is then
// a duplicate, and after a callback this is one. Returning nil it has stored
// the event, found it stored, or parked it because it contradicts the ledger;
// [Config.Parked] is not called for it. With ack delivery, too, the delivery
// worker delivers it. Errors: event.ErrMalformed, ErrUnclassified, ErrNotPaid, and those of
// the store.
func (r *Receiver) Found(ctx context.Context, route *notify.Route, m Merchant, q Query) error {
	e, err := event.Classify(event.Head{EventType: q.EventType, Summary: q.Summary}, q.Plaintext, m.Mchid())
	if err != nil {
		return err
	}
	if e.Kind == event.Unknown {
		return ErrUnclassified
	}
	if e.NotPaid() {
		return ErrNotPaid
	}
	now := r.now()
	n := notification(&e, route, m.Name(), now)
	n.Source, n.Host, n.Path = storage.SourceQuery, q.Host, q.Path
	n.Body = append(n.Body, `{"id":"`...)
	n.Body = append(n.Body, e.ID...)
	n.Body = append(n.Body, `","event_type":`...)
	n.Body = strconv.AppendQuote(n.Body, e.EventType) // visible ASCII: Go's quoting is JSON's
	n.Body = append(n.Body, `,"resource":`...)
	n.ResourceStart = len(n.Body)
	n.Body = append(n.Body, q.Plaintext...)
	n.ResourceEnd = len(n.Body)
	n.Body = append(n.Body, '}')

	j, err := r.judge(ctx, &e, m, route.AmountCheck)
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	j.complete(&n)
	if j.park != "" {
		id, fresh, err := r.store.Park(ctx, n, j.park, j.detail)
		if err != nil {
			return fmt.Errorf("parking what a query found: %w", err)
		}
		if fresh {
			r.observer.Changed(notify.Change{
				Merchant: n.Merchant, ID: id, Kind: n.Kind, EventType: n.EventType,
				State: storage.StateParked, Reason: string(j.park),
			})
		}
		return nil
	}
	if _, err := r.accept(ctx, storage.AcceptRequest{Notification: n}, &e, &j, m); err != nil {
		return fmt.Errorf("accepting what a query found: %w", err)
	}
	return nil
}
