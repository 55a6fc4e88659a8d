package parking

import (
	"context"
	"errors"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Find returns what the ledger knows of a parking_id; nil for what it does not.
// Errors: those of [storage.Ledger.Memo] but ErrNotFound, and [ErrMemo].
func Find(ctx context.Context, ledger storage.Ledger, names Names, parkingID string) (*Stay, *Entry, error) {
	stay, err := Get[Stay](ctx, ledger, names.Stay(parkingID))
	if err != nil || stay == nil || stay.OutParkingNo == "" {
		return stay, nil, err
	}
	entry, err := Get[Entry](ctx, ledger, names.Entry(stay.OutParkingNo))
	return stay, entry, err
}

// Get reads one memo; nil when there is none. Errors: as of [Find].
func Get[T Entry | Stay | Plate](ctx context.Context, ledger storage.Ledger, key string) (*T, error) {
	m, err := ledger.Memo(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return Read[T](&m)
}
