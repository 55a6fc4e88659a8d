package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/ledger"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// decidedBy names the gateway in the audit log.
const decidedBy = "gateway"

// Recheck looks again at what is parked for an order, after the ledger changed:
// notifications that agree with it now are released, with Amount-Check matched.
// Those parked for their trade_state, or for a merchant number that is not the
// block's, stay: no change of the ledger makes them right. The errors of single
// notifications are joined, and the others are looked at all the same.
func (r *Receiver) Recheck(ctx context.Context, key storage.OrderKey) error {
	records, err := r.store.ParkedFor(ctx, key)
	if err == nil && key.SubMchid != "" {
		// Refunds mostly do not state their sub-merchant.
		var more []storage.Record
		key.SubMchid = ""
		more, err = r.store.ParkedFor(ctx, key)
		for i := range more {
			if more[i].SubMchid == "" {
				records = append(records, more[i])
			}
		}
	}
	if err != nil {
		return fmt.Errorf("listing parked notifications: %w", err)
	}
	var failures []error
	for i := range records {
		if err := r.recheck(ctx, &records[i]); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func (r *Receiver) recheck(ctx context.Context, record *storage.Record) error {
	switch record.ParkReason {
	case storage.ParkUnknownOrder, storage.ParkContradiction:
	case storage.ParkTradeState, storage.ParkNoRoute:
		return nil
	default:
		return nil
	}
	if record.BodyExpired {
		return nil
	}
	switch record.ParkDetail {
	case "mchid", "sp_mchid", "combine_mchid":
		return nil
	}
	// Everything that the check reads is in the plaintext and the record.
	head := event.Head{ID: record.NotificationID, EventType: record.EventType}
	e, err := event.Classify(head, record.Resource(), record.Mchid)
	if err != nil {
		return fmt.Errorf("parked notification %s: %w", record.ID, err)
	}
	j := judgement{facts: ledger.Facts{Event: &e}}
	if err := r.lookUp(ctx, &j.facts); err != nil {
		return fmt.Errorf("parked notification %s: reading the ledger: %w", record.ID, err)
	}
	if j.found = ledger.Check(j.facts); j.found.Verdict != ledger.Agrees {
		return nil
	}
	// The order first: were it the other way round, a crash between the two
	// would leave a delivered payment that the ledger does not know of.
	if err := r.mark(ctx, &e, &j); err != nil {
		return fmt.Errorf("parked notification %s: marking its order: %w", record.ID, err)
	}
	released, err := r.store.Decide(ctx, storage.Decision{
		ID: record.ID, Act: storage.ActRelease, By: decidedBy, Reason: "the ledger agrees now",
		At: r.now(), AmountCheck: storage.AmountMatched,
	})
	switch {
	case errors.Is(err, storage.ErrState), errors.Is(err, storage.ErrNotFound):
		return nil // superseded, dismissed or released meanwhile
	case err != nil:
		return fmt.Errorf("releasing parked notification %s: %w", record.ID, err)
	}
	r.observer.Changed(notify.Change{
		Merchant: released.Merchant, ID: released.ID, Kind: released.Kind, EventType: released.EventType,
		State: storage.StatePending,
	})
	r.log.LogAttrs(ctx, slog.LevelInfo, "parked notification released: the ledger agrees now",
		slog.String("merchant", released.Merchant), slog.String("id", released.ID), slog.String("kind", released.Kind))
	return nil
}
