package payops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// ErrEntrance is returned by NoteEntrance for a resource that is about no entry of
// the merchant's, or contradicts the ledger's.
var ErrEntrance = errors.New("payops: the entrance state is about another entry")

// NoteEntrance keeps what a verified callback says of an entry's state
// (VEHICLE.ENTRANCE_STATE_CHANGE): resource is what it decrypts to. A state with an
// older state_update_time than the one that is kept is no news. changed is true when
// the change is durable; an entry that the ledger does not know is passed over.
// Errors: [ErrEntrance], and those of [storage.Ledger.Change].
func (a *API) NoteEntrance(ctx context.Context, resource []byte) (changed bool, err error) {
	said := gjson.ParseBytes(resource)
	text := func(name string) string { return said.Get(name).String() }
	mchid := text("sp_mchid")
	if mchid == "" {
		mchid = text("mchid")
	}
	id, state := text("parking_id"), parking.EntryState(text("parking_state"))
	at, err := time.Parse(time.RFC3339, text("state_update_time"))
	if err != nil || mchid != "" && mchid != a.merchant.Mchid() || !parking.ValidID(id) || !state.Known() {
		return false, fmt.Errorf("%w: a member is missing or another's", ErrEntrance)
	}
	names := parking.Names{Mchid: a.merchant.Mchid(), SubMchid: text("sub_mchid")}
	_, entry, err := parking.Find(ctx, a.ledger, names, id)
	if err != nil || entry == nil {
		return false, err
	}
	if !either(text("out_parking_no"), entry.OutParkingNo) || !either(text("plate_number"), entry.Plate) || !either(text("plate_color"), entry.PlateColor) {
		a.observer.Contradicted()
		return false, fmt.Errorf("%w: number, plate or colour", ErrEntrance)
	}
	key := names.Entry(entry.OutParkingNo)
	err = a.ledger.Change(ctx, storage.Keys{Memos: []string{key}}, func(rows *storage.Rows) error {
		known, err := parking.Read[parking.Entry](rows.Memos[key])
		if err != nil {
			return err
		}
		if known == nil || known.ParkingID != id || !known.Update(state, text("blocked_state_description"), at, a.now()) {
			return errNothing
		}
		return parking.Write(rows, key, known, a.now())
	})
	if errors.Is(err, errNothing) {
		return false, nil
	}
	return err == nil, err
}
