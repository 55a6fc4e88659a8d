package sandbox

import (
	"encoding/json"
	"errors"
	"time"
)

// FlipParking changes the state of a car that is inside, and its plate's
// service with it; the callback goes to the entry's notify_url. reason is for
// BLOCKED; zero: PAUSE. f is as for Pay, without amounts. A car that was charged,
// or has a newer entry, flips no more: ErrParkingState, as when the entry is in
// that state already. ref is as for Parking.
func (p *Platform) FlipParking(ref string, state ParkingState, reason BlockReason, f Faults) (Parking, error) {
	if err := f.check(); err != nil {
		return Parking{}, err
	}
	if f.WrongAmount != 0 || f.Coupon != 0 {
		return Parking{}, errors.New("sandbox: an entry has no amount")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Parking{}, ErrClosed
	}
	e, err := p.parkingLocked(ref)
	if err != nil {
		return Parking{}, err
	}
	v := e.plate.Plate
	v.Service, v.State, v.BlockReason = PlateNormal, state, reason
	if state == ParkingBlocked {
		switch reason {
		case "", BlockPause:
			v.Service = PlatePause
		case BlockOutService:
			v.Service = PlateOutOfService
		case BlockOverdue, BlockEvaluation:
		}
	}
	if state == "" {
		return Parking{}, errors.New("sandbox: state: want NORMAL or BLOCKED")
	}
	if err := v.complete(); err != nil {
		return Parking{}, err
	}
	if e.plate.newest != e || e.charge != nil || e.state == v.State {
		return Parking{}, ErrParkingState
	}
	if err := p.setPlateLocked(e.plate, v, f); err != nil {
		return Parking{}, err
	}
	return e.viewLocked(), nil
}

// flipLocked tells of an entry's new state; a new reason alone is no news.
func (p *Platform) flipLocked(e *parking, state ParkingState, reason BlockReason, f Faults) error {
	if e.state == state {
		e.reason = reason
		return nil
	}
	told := e.notifyURL != ""
	if told && len(p.callbacks) >= maxCallbacks {
		return errTooMany
	}
	now := p.now().Truncate(time.Millisecond).In(beijing)
	if !now.After(e.updated) {
		now = e.updated.Add(time.Millisecond)
	}
	e.state, e.reason, e.updated = state, reason, now
	if !told {
		return nil
	}
	n := EntranceNotification(e.notice())
	n.ID, n.CreateTime = p.randomUUID(), stamp(now)
	c := &callback{
		mchid: e.m.mchid, parkingID: e.id, notification: n, url: e.notifyURL, state: Held, done: make(chan struct{}),
	}
	e.callbacks = append(e.callbacks, c)
	p.callbacks = append(p.callbacks, c)
	p.byCallback[n.ID] = c
	return p.startLocked(c, f)
}

// entranceNotice is the resource of an entry's callback; its names differ from
// the API's: parking_id for id, parking_state for state.
type entranceNotice struct {
	SpMchid      string       `json:"sp_mchid"` // of a direct merchant too
	SubMchid     string       `json:"sub_mchid,omitempty"`
	ParkingID    string       `json:"parking_id"`
	OutParkingNo string       `json:"out_parking_no"`
	PlateNumber  string       `json:"plate_number"`
	PlateColor   string       `json:"plate_color"`
	StartTime    string       `json:"start_time"`
	ParkingName  string       `json:"parking_name"`
	FreeDuration int64        `json:"free_duration"`
	State        ParkingState `json:"parking_state"`
	Reason       BlockReason  `json:"blocked_state_description,omitempty"`
	Updated      string       `json:"state_update_time"`
}

func (e *parking) notice() []byte {
	b, err := json.Marshal(entranceNotice{
		SpMchid: e.m.mchid, SubMchid: e.subMchid, ParkingID: e.id, OutParkingNo: e.number,
		PlateNumber: e.plate.PlateNumber, PlateColor: e.plate.PlateColor, StartTime: rfc3339(e.start),
		ParkingName: e.name, FreeDuration: e.freeDuration, State: e.state, Reason: e.reason,
		Updated: e.updated.Format("2006-01-02T15:04:05.000Z07:00"),
	})
	if err != nil { // plain structs: cannot happen
		panic("sandbox: " + err.Error())
	}
	return b
}
