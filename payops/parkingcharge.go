package payops

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// chargeDraft is a charge (扣费受理) as a request states it, and what the ledger
// knows of the stay.
type chargeDraft struct {
	draft
	info  parking.Info
	names parking.Names
	// free is a claim on the stay that holds no more: its charge was rejected.
	free parking.Stay
	// native is the order that was offered for the stay and can be paid no more.
	native string
}

// charge has WeChat Pay take on the charge of a stay. The charge is an order of
// the ledger: its number makes a repeat harmless, a stay has one charge, and
// ACCEPTED is not paid.
func (a *API) charge(w http.ResponseWriter, q *request) *refusal {
	if q.query != "" {
		return badRequest(RulePath, "the operation takes no query")
	}
	d, refused := a.chargeDraft(q)
	if refused != nil {
		return refused
	}
	if refused := a.guarded(w, guard.Facts{Notify: a.secureNotify(&d.draft)}); refused != nil {
		return refused
	}
	key, stayKey := d.order.Key, d.names.Stay(d.info.ParkingID)
	unlock, err := a.locks.lock(q.live, key, storage.OrderKey{Number: stayKey})
	if err != nil {
		return busy()
	}
	defer unlock()
	if refused := a.stayOf(q, d); refused != nil {
		return refused
	}
	if refused := a.numbersFree(q, &d.draft); refused != nil {
		return refused
	}

	number := numberMemo(operation.SpaceOrder, key.Mchid, key.SubMchid, key.Number)
	var try attempt
	a.signAhead(q, q.path, d.body)
	id, refused := a.beginRows(q, storage.Keys{Order: key, Memos: []string{number, stayKey}}, key, func(rows *storage.Rows) error {
		try = attempt{}
		if rows.Memos[number] != nil {
			return numberTaken() // by an order that is kept as a number alone
		}
		if known := rows.Order; known == nil || known.State == storage.OrderRejected {
			order := d.order
			order.CreatedAt, order.UpdatedAt = a.now(), a.now()
			rows.Order = &order
		} else {
			if !agrees(*known, d.order) || !either(known.ParkingID, d.order.ParkingID) {
				return conflict(RuleContent, "the number is in use with another amount, payee, appid or parking_id; a new charge needs a new number")
			}
			prior := *known
			try.before = &prior
			switch known.State {
			case storage.OrderRegistered:
				order := d.order
				order.CreatedAt, order.UpdatedAt = known.CreatedAt, a.now()
				rows.Order = &order
			case storage.OrderIntended, storage.OrderUnknown:
				known.UpdatedAt = a.now() // a call is on its way again, see settled
			case storage.OrderCreated, storage.OrderRejected, storage.OrderPaid, storage.OrderClosed:
			}
		}
		try.begins(rows)
		return a.claim(rows, stayKey, d)
	})
	if refused != nil {
		return refused
	}

	res := a.send(q, id, q.path, d.body, true)
	known := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	var said learned
	if known && res.Outcome == send.Succeeded {
		ok := false
		if said, ok = a.learn(storage.OrderParking, res.Body); !ok || said.key != key || said.contradicts(&d.order) {
			known = false // the answer is about another charge: it proves nothing about this one
			a.observer.Contradicted()
			a.log.Error("the answer to a charge contradicts the ledger", "number", key.Number)
		}
	}
	written := a.finishRows(q, id, storage.Keys{Order: key, Memos: []string{stayKey}}, res, func(rows *storage.Rows) bool {
		if rows.Order == nil {
			return false
		}
		changed := try.ended(rows.Order, res, known)
		if known && res.Outcome == send.Succeeded {
			moved, _ := said.apply(rows.Order)
			changed = changed || moved
		}
		if changed {
			rows.Order.UpdatedAt = a.now()
		}
		if rows.Order.State == storage.OrderRejected {
			if err := a.unclaim(rows, stayKey, key.Number); err != nil {
				a.log.Error("a stay's memo cannot be written", "error", err)
			}
		}
		return changed
	})
	if d.order.ForeignNotifyURL {
		w.Header().Add(headerWarning, warningForeign)
	}
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, known)
}

// claim makes the charge the stay's, which has one.
func (a *API) claim(rows *storage.Rows, stayKey string, d *chargeDraft) error {
	stay, err := parking.Read[parking.Stay](rows.Memos[stayKey])
	if err != nil {
		return err
	}
	if stay == nil {
		stay = &parking.Stay{}
	}
	switch {
	case stay.Charge == d.order.Key.Number:
		return nil
	case stay.Native != d.native:
		return parkingCharged() // another order was offered meanwhile
	case stay.Charge == "", stay.Charge == d.free.Charge && stay.ClaimedAt.Equal(d.free.ClaimedAt):
	default:
		return parkingCharged()
	}
	stay.Charge, stay.ClaimedAt = d.order.Key.Number, a.now()
	return parking.Write(rows, stayKey, stay, a.now())
}

func parkingCharged() *refusal {
	return conflict(RuleParkingCharged, "the stay is charged, or another order for it can be paid, under another number; a parking_id has one charge")
}

// unclaim lets the stay be charged under another number.
func (a *API) unclaim(rows *storage.Rows, stayKey, number string) error {
	stay, err := parking.Read[parking.Stay](rows.Memos[stayKey])
	if err != nil || stay == nil || stay.Charge != number {
		return err
	}
	stay.Charge, stay.ClaimedAt = "", time.Time{}
	return parking.Write(rows, stayKey, stay, a.now())
}

// stayOf holds the charge against the entry, where the ledger knows it, and finds
// out whether another charge's claim on the stay still holds.
func (a *API) stayOf(q *request, d *chargeDraft) *refusal {
	stay, entry, err := parking.Find(q.live, a.ledger, d.names, d.info.ParkingID)
	if err != nil {
		return a.ledgerRefusal(err)
	}
	if entry != nil {
		if !entry.Matches(d.info) {
			return conflict(RuleParkingInfo, "parking_info is not the entry's: plate_number, plate_color, start_time and parking_name must be")
		}
		d.order.OutParkingNo = entry.OutParkingNo
	}
	if stay == nil {
		return nil
	}
	other := d.order.Key
	if stay.Native != "" {
		other.Number = stay.Native
		switch order, err := a.ledger.Order(q.live, other); {
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return a.ledgerRefusal(err)
		case err == nil && order.State != storage.OrderRejected && order.State != storage.OrderClosed:
			return parkingCharged()
		}
		d.native = stay.Native
	}
	if stay.Charge == "" || stay.Charge == d.order.Key.Number {
		return nil
	}
	other.Number = stay.Charge
	order, err := a.ledger.Order(q.live, other)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return a.ledgerRefusal(err)
	case order.State == storage.OrderRejected:
		d.free = *stay
	}
	return nil
}

// chargeDraft reads what a charge rests on and fills in what is missing; everything
// else is WeChat Pay's to judge.
func (a *API) chargeDraft(q *request) (*chargeDraft, *refusal) {
	o, body, refused := jsonBody(q, false)
	if refused != nil {
		return nil, refused
	}
	if maskOf([]string{
		"out_trade_no", "appid", "sub_mchid", "notify_url", "amount.total", "amount.currency", "parking_info.parking_id",
		"parking_info.plate_number", "parking_info.plate_color", "parking_info.start_time", "parking_info.parking_name",
	}).spelledOtherwise(o) {
		return nil, badRequest(RuleBody, "a member's name is spelled in another case than WeChat Pay's")
	}
	d := &chargeDraft{draft: draft{body: body, order: storage.Order{
		Kind: storage.OrderParking, Merchant: a.merchant.Name(), Origin: storage.OriginGateway, State: storage.OrderIntended,
	}}}
	number, ok := o.text("out_trade_no")
	if !ok || !validNumber(number, storage.OrderParking) {
		return nil, badRequest(RuleNumber, "out_trade_no must be 1 to 32 of digits, letters and _-|*@")
	}
	info := o.child("parking_info")
	for name, field := range map[string]*string{
		"parking_id": &d.info.ParkingID, "plate_number": &d.info.Plate, "plate_color": &d.info.PlateColor,
		"start_time": &d.info.StartTime, "parking_name": &d.info.ParkingName,
	} {
		if *field, ok = info.text(name); !ok || len(*field) > 512 {
			return nil, badRequest(RuleBody, "parking_info."+name+" must be a string")
		}
	}
	if !parking.ValidID(d.info.ParkingID) {
		return nil, badRequest(RuleNumber, "parking_info.parking_id must be 1 to 64 of digits, letters and _-|*@")
	}
	sub, refused := subMchidOf(q, o)
	if refused != nil {
		return nil, refused
	}
	if d.order.Amount, ok = money(o.child("amount"), "total"); !ok {
		return nil, badAmount("amount.total")
	}
	if refused := d.fill(o, "appid", a.merchant.DefaultApp().Appid); refused != nil {
		return nil, refused
	}
	if d.order.Appid, _ = o.text("appid"); d.order.Appid == "" {
		d.order.Appid = a.merchant.DefaultApp().Appid
	}
	if refused := a.fillNotifyURL(&d.draft, o); refused != nil {
		return nil, refused
	}
	d.names = parking.Names{Mchid: a.merchant.Mchid(), SubMchid: sub}
	d.order.Key = storage.OrderKey{Mchid: a.merchant.Mchid(), SubMchid: sub, Number: number}
	d.order.ParkingID, d.order.Plate, d.order.PlateColor = d.info.ParkingID, d.info.Plate, d.info.PlateColor
	d.order.Content = contentOf(d.order)
	return d, nil
}

// queryCharge asks WeChat Pay about a charge for a caller.
func (a *API) queryCharge(w http.ResponseWriter, q *request) *refusal {
	if len(q.body) > 0 {
		return badRequest(RuleBody, "a query takes no body")
	}
	sub, refused := subMchidOf(q, nil)
	if refused != nil {
		return refused
	}
	if !validNumber(q.op.Param(), storage.OrderParking) {
		return badRequest(RuleNumber, "out_trade_no must be 1 to 32 of digits, letters and _-|*@")
	}
	key := storage.OrderKey{Mchid: a.merchant.Mchid(), SubMchid: sub, Number: q.op.Param()}
	res := a.send(q, "", join(q.path, q.query), nil, true)
	a.queried(q.call, storage.OrderParking, key, res)
	return a.answer(w, q, res, res.Outcome != send.Unknown || res.Verified && res.Status < http.StatusInternalServerError)
}

// chargeTarget is where a charge is asked for.
func chargeTarget(key storage.OrderKey) string {
	query := ""
	if key.SubMchid != "" {
		query = "sub_mchid=" + key.SubMchid
	}
	return join("/v3/vehicle/transactions/out-trade-no/"+url.PathEscape(key.Number), query)
}

// learnCharge reads an answer about a charge. sp_mchid is a direct merchant's own,
// too; PAY_FAIL settles nothing, since SUCCESS may follow it.
func (a *API) learnCharge(body []byte) (learned, bool) {
	answer := gjson.ParseBytes(body)
	mchid := answer.Get("sp_mchid").String()
	if mchid == "" {
		mchid = answer.Get("mchid").String()
	}
	if mchid == "" {
		mchid = a.merchant.Mchid() // whose signed request it answers
	}
	l := learned{
		key:           storage.OrderKey{Mchid: mchid, SubMchid: answer.Get("sub_mchid").String(), Number: answer.Get("out_trade_no").String()},
		appid:         answer.Get("appid").String(),
		transactionID: answer.Get("transaction_id").String(),
		state:         stateOf(answer.Get("trade_state").String()),
		amount:        moneyOf(answer.Get("amount"), "total"),
		parkingID:     answer.Get("parking_info.parking_id").String(),
	}
	l.paidAt, _ = time.Parse(time.RFC3339, answer.Get("success_time").String())
	return l, mchid == a.merchant.Mchid() && l.key.Number != ""
}
