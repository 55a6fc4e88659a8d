package sandbox

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The lane's page: a car park to try by hand. Cars that a merchant reported by
// the API are there too. The page drives cars in and out as the merchant's lane
// controller would, past any gateway; the callbacks go where the merchant's last
// entry's or charge's went, and nowhere while it has made none.

// lanePage is what the page shows.
type lanePage struct {
	Payees  []string // "mchid", or "mchid/sub_mchid" of a service provider
	Colors  []string
	Cars    []laneCar
	More    int // cars, not shown
	Problem string
	Busy    bool
}

type laneCar struct {
	Plate
	Entry  *Parking // the newest; nil: it never drove in
	Order  *Order   // the newest entry's charge; nil: it is inside
	Inside bool
	Next   []ChargeState // what the charge may become
}

// laneButton is what a button does to a car's service.
type laneButton struct {
	PlateNumber, PlateColor    string
	Service, BlockReason, Name string
}

func newLaneButton(c laneCar, service, reason, name string) laneButton {
	return laneButton{c.PlateNumber, c.PlateColor, service, reason, name}
}

// laneStay is for how long a car that drives in on the page has been inside.
const laneStay = time.Hour

func (s *pageServer) lane(w http.ResponseWriter, _ *http.Request) {
	s.laneWith(w, http.StatusOK, "")
}

func (s *pageServer) laneWith(w http.ResponseWriter, status int, problem string) {
	page := s.p.lanePage()
	page.Problem = problem
	s.render(w, status, "lane.html", page)
}

func (p *Platform) lanePage() lanePage {
	p.mu.Lock()
	defer p.mu.Unlock()
	page := lanePage{Colors: plateColors}
	for _, mchid := range p.mchids {
		m := p.merchants[mchid]
		if !m.provider {
			page.Payees = append(page.Payees, mchid)
		}
		for _, sub := range m.subMchids {
			page.Payees = append(page.Payees, mchid+"/"+sub)
		}
	}
	for i := len(p.lot.cars) - 1; i >= 0; i-- {
		if len(page.Cars) == maxListed {
			page.More = i + 1
			break
		}
		c := p.lot.cars[i]
		car := laneCar{Plate: c.Plate}
		if e := c.newest; e != nil {
			entry := e.viewLocked()
			car.Entry, car.Inside = &entry, e.charge == nil
			page.Busy = page.Busy || len(entry.Callbacks) > 0 && entry.Callbacks[len(entry.Callbacks)-1].State == Sending
			if e.charge != nil {
				order := e.charge.viewLocked()
				car.Order = &order
				page.Busy = page.Busy || e.charge.charge.left != nil || pageOrder{order}.busy()
				for _, next := range []ChargeState{ChargeSuccess, ChargeFail, ChargeAdvanced, ChargePaidBack} {
					if order.Parking.State.leadsTo(next) {
						car.Next = append(car.Next, next)
					}
				}
			}
		}
		page.Cars = append(page.Cars, car)
	}
	return page
}

// laneAct is every form of the page.
func (s *pageServer) laneAct(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxControlBody)
	if err := r.ParseForm(); err != nil {
		s.laneWith(w, http.StatusBadRequest, "unreadable form 表单无法读取")
		return
	}
	var err error
	f := r.PostForm
	switch f.Get("act") {
	case "plate":
		v := Plate{PlateNumber: strings.TrimSpace(f.Get("plate_number")), PlateColor: f.Get("plate_color"), Service: PlateService(f.Get("service"))}
		v.BlockReason = BlockReason(f.Get("block_reason"))
		v.Openid = s.p.ownerOf(v)
		_, err = s.p.SetPlate(v)
	case "in":
		err = s.p.driveIn(f.Get("payee"), plateKey{f.Get("plate_number"), f.Get("plate_color")})
	case "out":
		var total int64
		if total, err = strconv.ParseInt(f.Get("total"), 10, 64); err != nil {
			err = errors.New("total: want a number of fen")
			break
		}
		err = s.p.driveOut(f.Get("parking"), total, ChargeState(f.Get("state")))
	case "charge":
		_, err = s.p.SettleCharge(f.Get("order"), ChargeState(f.Get("state")), Faults{})
	default:
		err = errors.New("act: want plate, in, out or charge")
	}
	if err != nil {
		s.laneWith(w, http.StatusConflict, strings.TrimPrefix(err.Error(), "sandbox: "))
		return
	}
	http.Redirect(w, r, "/sandbox/lane", http.StatusSeeOther)
}

// ownerOf returns the openid of a plate that is known, which the page keeps.
func (p *Platform) ownerOf(v Plate) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.PlateColor == "" {
		v.PlateColor = plateColors[0]
	}
	if c := p.lot.plates[plateKey{v.PlateNumber, v.PlateColor}]; c != nil {
		return c.Openid
	}
	return ""
}

// tellLocked is where a merchant's last entry (or charge) is told of.
func (p *Platform) tellLocked(m *merchant, charge bool) string {
	for i := len(p.lot.entries) - 1; i >= 0; i-- {
		e := p.lot.entries[i]
		switch {
		case e.m != m:
		case !charge && e.notifyURL != "":
			return e.notifyURL
		case charge && e.charge != nil && e.charge.notifyURL != "":
			return e.charge.notifyURL
		}
	}
	return ""
}

// driveIn reports an entry for a payee as lanePage names it.
func (p *Platform) driveIn(payee string, k plateKey) error {
	mchid, sub, _ := strings.Cut(payee, "/")
	m := p.merchants[mchid]
	if m == nil {
		return errors.New("unknown mchid")
	}
	if bad := m.payee(sub); bad != nil {
		return errors.New(bad.Message)
	}
	number := "LANE-" + p.randomText(16)
	p.mu.Lock()
	if p.lot.plates[k] == nil {
		p.mu.Unlock()
		return errors.New("unknown plate")
	}
	url := p.tellLocked(m, false)
	p.mu.Unlock()
	e := &parking{
		m: m, subMchid: sub, number: number, notifyURL: url, name: "沙箱停车场", freeDuration: 900,
		start: stamp(p.now().Add(-laneStay)), fingerprint: sha256.Sum256([]byte(number)),
	}
	if _, bad := p.enter(e, k); bad != nil {
		return errors.New(bad.Message)
	}
	return nil
}

// driveOut charges an entry of any merchant, which goes on as state says; "": as planned.
func (p *Platform) driveOut(id string, total int64, state ChargeState) error {
	if total < 1 || total > maxAmount {
		return errors.New("total: out of range")
	}
	var plan *ChargePlan
	switch state {
	case "":
	case ChargePending, ChargeSuccess, ChargeFail, ChargeAdvanced:
		plan = &ChargePlan{State: state}
	default:
		return errors.New("state: want success, fail, advanced or pending")
	}
	number, end := "LANE-"+p.randomText(16), stamp(p.now())
	o := &order{
		kind: ParkingCharge, trade: tradePark, number: number, deviceID: "LANE",
		fingerprint: sha256.Sum256([]byte(number)), charge: &charge{},
	}
	p.mu.Lock()
	e, err := p.parkingLocked(id)
	if err != nil {
		p.mu.Unlock()
		return err
	}
	o.mchid, o.appid, o.notifyURL = e.m.mchid, e.m.appids[0], p.tellLocked(e.m, true)
	if o.notifyURL == "" {
		o.notifyURL = e.notifyURL
	}
	o.lines = []*line{{mchid: o.mchid, subMchid: e.subMchid, number: number, description: "停车场扣费", total: total}}
	said := parkingInfo{
		ParkingID: e.id, PlateNumber: e.plate.PlateNumber, PlateColor: e.plate.PlateColor, StartTime: rfc3339(e.start),
		EndTime: rfc3339(end), ParkingName: e.name, ChargingDuration: int64(end.Sub(e.start) / time.Second), DeviceID: o.deviceID,
		start: e.start, end: end,
	}
	p.mu.Unlock()
	if _, bad := p.acceptCharge(e.m, o, said, plan); bad != nil {
		return errors.New(bad.Message)
	}
	return nil
}
