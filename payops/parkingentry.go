package payops

import (
	"net/http"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// entryDraft is an entry (停车入场) as a request states it; its order holds the
// notify_url alone.
type entryDraft struct {
	draft
	entry parking.Entry
	names parking.Names
}

// enterParking reports a car's entry and keeps what WeChat Pay's verified answer
// says of it. One out_parking_no reports one stay: a repeat is sent again, and
// another stay under the number is refused before it is sent.
func (a *API) enterParking(w http.ResponseWriter, q *request) *refusal {
	if q.query != "" {
		return badRequest(RulePath, "the operation takes no query")
	}
	d, refused := a.entryDraft(q)
	if refused != nil {
		return refused
	}
	if refused := a.guarded(w, guard.Facts{Notify: a.secureNotify(&d.draft)}); refused != nil {
		return refused
	}
	entryKey, plateKey := d.names.Entry(d.entry.OutParkingNo), d.names.Plate(d.entry.Plate, d.entry.PlateColor)
	unlock, err := a.locks.lock(q.live, storage.OrderKey{Number: entryKey}, storage.OrderKey{Number: plateKey})
	if err != nil {
		return busy()
	}
	defer unlock()

	keys := storage.Keys{Memos: []string{entryKey, plateKey}}
	first := false // no earlier call can have reported it
	a.signAhead(q, q.path, d.body)
	id, refused := a.beginRows(q, keys, storage.OrderKey{}, func(rows *storage.Rows) error {
		known, err := parking.Read[parking.Entry](rows.Memos[entryKey])
		if err != nil {
			return err
		}
		plate, err := parking.Read[parking.Plate](rows.Memos[plateKey])
		if err != nil {
			return err
		}
		if first = known == nil; !first {
			if !known.Same(&d.entry) {
				return conflict(RuleContent, "the out_parking_no is in use for another stay; a new stay needs a new number")
			}
			known.UpdatedAt = a.now()
			return parking.Write(rows, entryKey, known, a.now())
		}
		entry := d.entry
		entry.State, entry.CreatedAt, entry.UpdatedAt = parking.EntryIntended, a.now(), a.now()
		next := parking.Plate{Newest: entry.OutParkingNo}
		if plate != nil {
			next.Before = plate.Newest
		}
		if err := parking.Write(rows, plateKey, &next, a.now()); err != nil {
			return err
		}
		return parking.Write(rows, entryKey, &entry, a.now())
	})
	if refused != nil {
		return refused
	}

	res := a.send(q, id, q.path, d.body, true)
	known := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	parkingID := ""
	if known && res.Outcome == send.Succeeded {
		if parkingID = enteredAs(&d.entry, res.Body); parkingID == "" {
			known = false
			a.observer.Contradicted()
			a.log.Error("the answer to an entry is about another stay")
		} else {
			keys.Memos = append(keys.Memos, d.names.Stay(parkingID))
		}
	}
	written := a.finishRows(q, id, keys, res, func(rows *storage.Rows) bool {
		if err := a.entered(rows, d, first, known, res, parkingID); err != nil {
			a.log.Error("an entry's memos cannot be written", "error", err)
		}
		return false
	})
	if d.order.ForeignNotifyURL {
		w.Header().Add(headerWarning, warningForeign)
	}
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, known)
}

// enteredAs returns the parking_id of a verified answer, "" when it is about
// another stay or says no state.
func enteredAs(e *parking.Entry, body []byte) string {
	answer := gjson.ParseBytes(body)
	id := answer.Get("id").String()
	if !parking.ValidID(id) || !parking.EntryState(answer.Get("state").String()).Known() ||
		!either(answer.Get("out_parking_no").String(), e.OutParkingNo) ||
		!either(answer.Get("plate_number").String(), e.Plate) || !either(answer.Get("plate_color").String(), e.PlateColor) {
		return ""
	}
	return id
}

// entered moves an entry on by the outcome of its call.
func (a *API) entered(rows *storage.Rows, d *entryDraft, first, known bool, res send.Result, parkingID string) error {
	entryKey, plateKey := d.names.Entry(d.entry.OutParkingNo), d.names.Plate(d.entry.Plate, d.entry.PlateColor)
	entry, err := parking.Read[parking.Entry](rows.Memos[entryKey])
	if err != nil || entry == nil {
		return err
	}
	switch {
	case parkingID != "":
		answer := gjson.ParseBytes(res.Body)
		entry.ParkingID, entry.UpdatedAt = parkingID, a.now()
		if entry.StateAt.IsZero() { // a callback's word is newer than the first answer's
			entry.State, entry.BlockReason = parking.EntryState(answer.Get("state").String()), answer.Get("block_reason").String()
		}
		stayKey := d.names.Stay(parkingID)
		stay, err := parking.Read[parking.Stay](rows.Memos[stayKey])
		if err != nil {
			return err
		}
		if stay == nil {
			stay = &parking.Stay{}
		}
		stay.OutParkingNo = entry.OutParkingNo
		if err := parking.Write(rows, stayKey, stay, a.now()); err != nil {
			return err
		}
	case known && first && !entry.State.Known():
		// Rejected, or never sent: the number is free, and the entry before this one
		// is the plate's newest again.
		delete(rows.Memos, entryKey)
		plate, err := parking.Read[parking.Plate](rows.Memos[plateKey])
		if err != nil || plate == nil || plate.Newest != entry.OutParkingNo {
			return err
		}
		if plate.Before == "" {
			delete(rows.Memos, plateKey)
			return nil
		}
		return parking.Write(rows, plateKey, &parking.Plate{Newest: plate.Before}, a.now())
	case known:
		return nil // a rejected repeat proves nothing about the call before it
	case !entry.State.Known():
		entry.State, entry.UpdatedAt = parking.EntryUnknown, a.now()
	}
	return parking.Write(rows, entryKey, entry, a.now())
}

// entryDraft reads what an entry rests on; everything else is WeChat Pay's to judge.
func (a *API) entryDraft(q *request) (*entryDraft, *refusal) {
	o, body, refused := jsonBody(q, false)
	if refused != nil {
		return nil, refused
	}
	d := &entryDraft{draft: draft{body: body}}
	fields := map[string]*string{
		"out_parking_no": &d.entry.OutParkingNo, "plate_number": &d.entry.Plate, "plate_color": &d.entry.PlateColor,
		"start_time": &d.entry.StartTime, "parking_name": &d.entry.ParkingName,
	}
	looked := []string{"sub_mchid", "notify_url", "free_duration"}
	for name := range fields {
		looked = append(looked, name)
	}
	if maskOf(looked).spelledOtherwise(o) {
		return nil, badRequest(RuleBody, "a member's name is spelled in another case than WeChat Pay's")
	}
	for name, field := range fields {
		text, ok := o.text(name)
		if !ok || len(text) > 512 {
			return nil, badRequest(RuleBody, name+" must be a string")
		}
		*field = text
	}
	if !parking.ValidID(d.entry.OutParkingNo) {
		return nil, badRequest(RuleNumber, "out_parking_no must be 1 to 64 of digits, letters and _-|*@")
	}
	d.entry.FreeDuration = gjson.GetBytes(body, "free_duration").Int()
	sub, refused := subMchidOf(q, o)
	if refused != nil {
		return nil, refused
	}
	d.names = parking.Names{Mchid: a.merchant.Mchid(), SubMchid: sub}
	return d, a.fillNotifyURL(&d.draft, o)
}

// secureNotify is the notify_url of an operation that takes https alone.
func (a *API) secureNotify(d *draft) *guard.Notify {
	n := a.notifyFacts(d)
	if n != nil {
		n.HTTPS = true
	}
	return n
}
