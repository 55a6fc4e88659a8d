package sandbox

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// PlateService is what WeChat Pay says of a plate's 支付分停车 service.
type PlateService string

// The services of a plate. A plate that nobody told the platform of is out of service.
const (
	PlateNormal       PlateService = "NORMAL"      // open
	PlatePause        PlateService = "PAUSE"       // the user has paused it
	PlateOutOfService PlateService = "OUT_SERVICE" // not opened, or closed
)

// ParkingState says whether a car that is inside can be charged.
type ParkingState string

// The states of an entry.
const (
	ParkingNormal  ParkingState = "NORMAL"
	ParkingBlocked ParkingState = "BLOCKED"
)

// BlockReason says why an entry is BLOCKED.
type BlockReason string

// The reasons. The first two go with the plate's service of that name.
const (
	BlockPause      BlockReason = "PAUSE"
	BlockOutService BlockReason = "OUT_SERVICE"
	BlockOverdue    BlockReason = "OVERDUE"           // the user owes money
	BlockEvaluation BlockReason = "EVALUATION_FAILED" // the user's payscore does not do
)

// Plate is a car as its owner has it at WeChat Pay.
type Plate struct {
	PlateNumber string `json:"plate_number"` // 粤B888888: no separators
	// PlateColor is BLUE, GREEN, YELLOW, BLACK, WHITE or LIMEGREEN. Zero: BLUE.
	PlateColor string `json:"plate_color"`
	// Openid is of the owner, who alone has the service. Zero: whoever asks has
	// it, and the payer's openid is made up from the plate.
	Openid  string       `json:"openid,omitempty"`
	Service PlateService `json:"service"` // zero: NORMAL
	// State is what an entry of the car is: BLOCKED of any service but NORMAL.
	// Zero: what Service and BlockReason make it.
	State ParkingState `json:"state,omitempty"`
	// BlockReason is why State is BLOCKED. Zero: PAUSE or OUT_SERVICE as the
	// service is, else EVALUATION_FAILED.
	BlockReason BlockReason `json:"block_reason,omitempty"`
}

var (
	plateNumberPattern  = regexp.MustCompile(`^[\p{Han}0-9A-Za-z]{1,32}$`)
	outParkingNoPattern = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{1,64}$`)
	plateColors         = []string{"BLUE", "GREEN", "YELLOW", "BLACK", "WHITE", "LIMEGREEN"}
)

// complete fills in what follows from the rest and refuses what contradicts itself.
func (v *Plate) complete() error {
	if !plateNumberPattern.MatchString(v.PlateNumber) {
		return fmt.Errorf("sandbox: plate_number: want 1 to 32 characters, letters and digits without separators")
	}
	if v.PlateColor == "" {
		v.PlateColor = plateColors[0]
	}
	if !slices.Contains(plateColors, v.PlateColor) {
		return fmt.Errorf("sandbox: plate_color %q: want one of %s", v.PlateColor, strings.Join(plateColors, ", "))
	}
	if len(v.Openid) > 128 {
		return errors.New("sandbox: openid: want at most 128 bytes")
	}
	if v.Service == "" {
		v.Service = PlateNormal
	}
	reasons := []BlockReason{"", BlockOverdue, BlockEvaluation}
	switch v.Service {
	case PlateNormal:
		if v.State == ParkingBlocked && v.BlockReason == "" {
			v.BlockReason = BlockEvaluation
		}
	case PlatePause:
		reasons = []BlockReason{BlockPause}
	case PlateOutOfService:
		reasons = []BlockReason{BlockOutService}
	default:
		return fmt.Errorf("sandbox: service %q: want NORMAL, PAUSE or OUT_SERVICE", v.Service)
	}
	if v.BlockReason == "" {
		v.BlockReason = reasons[0]
	}
	state := ParkingNormal
	if v.BlockReason != "" {
		state = ParkingBlocked
	}
	if !slices.Contains(reasons, v.BlockReason) || v.State != "" && v.State != state {
		return fmt.Errorf("sandbox: plate: service %s, state %q and block_reason %q contradict each other", v.Service, v.State, v.BlockReason)
	}
	v.State = state
	return nil
}

type plateKey struct{ number, color string }

// plate is a car and what is inside of it.
type plate struct {
	Plate
	opened time.Time // when the service was; zero while it is OUT_SERVICE
	newest *parking  // nil until it drove in; the only entry that is valid
}

// parking is one car's stay (停车入场). Its fields are guarded by the platform's
// mu; those above state never change.
type parking struct {
	id, number   string // parking_id and out_parking_no
	m            *merchant
	subMchid     string
	plate        *plate
	notifyURL    string // empty: made on the lane's page, nobody is told
	name         string
	start        time.Time
	freeDuration int64 // seconds
	fingerprint  [32]byte
	created      time.Time

	state     ParkingState
	reason    BlockReason
	updated   time.Time // when state changed, in milliseconds, never twice the same
	charge    *order    // nil until 扣费受理
	callbacks []*callback
}

// lot is what the platform knows of parking; the platform's mu guards it.
type lot struct {
	plates   map[plateKey]*plate
	cars     []*plate // in order of appearance
	entries  []*parking
	byID     map[string]*parking
	byNumber map[numberKey]*parking
	plans    []ChargePlan
}

func newLot() lot {
	return lot{plates: map[plateKey]*plate{}, byID: map[string]*parking{}, byNumber: map[numberKey]*parking{}}
}

// parkingPrefix begins a reference to an entry where one to an order is usual.
const parkingPrefix = "parking:"

// Errors of the acts on parking; test with errors.Is.
var (
	ErrNoParking    = errors.New("sandbox: no such parking entry")
	ErrParkingState = errors.New("sandbox: the parking entry's state does not lead there")
)

// Parking is a picture of an entry at one moment.
type Parking struct {
	ID           string       `json:"id"` // parking_id
	OutParkingNo string       `json:"out_parking_no"`
	Mchid        string       `json:"mchid"` // who reported it
	SubMchid     string       `json:"sub_mchid,omitempty"`
	PlateNumber  string       `json:"plate_number"`
	PlateColor   string       `json:"plate_color"`
	ParkingName  string       `json:"parking_name"`
	StartTime    time.Time    `json:"start_time"`
	FreeDuration int64        `json:"free_duration"` // seconds
	NotifyURL    string       `json:"notify_url,omitempty"`
	State        ParkingState `json:"state"`
	BlockReason  BlockReason  `json:"block_reason,omitempty"`
	Updated      time.Time    `json:"state_update_time"`
	Newest       bool         `json:"newest"`                 // of its plate: the only one that can be charged
	OutTradeNo   string       `json:"out_trade_no,omitempty"` // of the charge
	Callbacks    []Callback   `json:"callbacks"`              // one for each flip, the oldest first
}

func (e *parking) viewLocked() Parking {
	v := Parking{
		ID: e.id, OutParkingNo: e.number, Mchid: e.m.mchid, SubMchid: e.subMchid,
		PlateNumber: e.plate.PlateNumber, PlateColor: e.plate.PlateColor, ParkingName: e.name, StartTime: e.start,
		FreeDuration: e.freeDuration, NotifyURL: e.notifyURL, State: e.state, BlockReason: e.reason,
		Updated: e.updated, Newest: e.plate.newest == e, Callbacks: []Callback{},
	}
	if e.charge != nil {
		v.OutTradeNo = e.charge.number
	}
	for _, c := range e.callbacks {
		v.Callbacks = append(v.Callbacks, c.viewLocked())
	}
	return v
}

// Plates returns every plate that was set or drove in, in that order.
func (p *Platform) Plates() []Plate {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Plate, 0, len(p.lot.cars))
	for _, c := range p.lot.cars {
		out = append(out, c.Plate)
	}
	return out
}

// Parkings returns every entry, the oldest first.
func (p *Platform) Parkings() []Parking {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Parking, 0, len(p.lot.entries))
	for _, e := range p.lot.entries {
		out = append(out, e.viewLocked())
	}
	return out
}

// Parking returns one entry by its parking_id, out_parking_no,
// "mchid:out_parking_no", or plate number, whose newest entry is meant; a
// leading "parking:" is let pass.
func (p *Platform) Parking(ref string) (Parking, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := p.parkingLocked(ref)
	if err != nil {
		return Parking{}, err
	}
	return e.viewLocked(), nil
}

func (p *Platform) parkingLocked(ref string) (*parking, error) {
	ref = strings.TrimPrefix(ref, parkingPrefix)
	if e := p.lot.byID[ref]; e != nil {
		return e, nil
	}
	if mchid, number, ok := strings.Cut(ref, ":"); ok {
		if e := p.lot.byNumber[numberKey{mchid, number}]; e != nil {
			return e, nil
		}
		return nil, ErrNoParking
	}
	var found []*parking
	for _, mchid := range p.mchids {
		if e := p.lot.byNumber[numberKey{mchid, ref}]; e != nil {
			found = append(found, e)
		}
	}
	for _, color := range plateColors {
		if c := p.lot.plates[plateKey{ref, color}]; c != nil && c.newest != nil && !slices.Contains(found, c.newest) {
			found = append(found, c.newest)
		}
	}
	switch len(found) {
	case 0:
		return nil, ErrNoParking
	case 1:
		return found[0], nil
	}
	return nil, ErrAmbiguous
}

// SetPlate says what a car's service is from now on. When the car is inside and
// its entry's state changes with it, the entry flips and its notify_url is told
// (VEHICLE.ENTRANCE_STATE_CHANGE). It returns the plate with its zero fields
// filled in.
func (p *Platform) SetPlate(v Plate) (Plate, error) {
	if err := v.complete(); err != nil {
		return Plate{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Plate{}, ErrClosed
	}
	c := p.plateLocked(plateKey{v.PlateNumber, v.PlateColor})
	if c == nil {
		return Plate{}, errors.New("sandbox: too many plates")
	}
	return v, p.setPlateLocked(c, v, Faults{})
}

// plateLocked finds a plate, or makes one that is out of service; nil when
// there are too many.
func (p *Platform) plateLocked(k plateKey) *plate {
	if c := p.lot.plates[k]; c != nil {
		return c
	}
	if len(p.lot.cars) >= maxOrders {
		return nil
	}
	c := &plate{Plate: Plate{
		PlateNumber: k.number, PlateColor: k.color, Service: PlateOutOfService,
		State: ParkingBlocked, BlockReason: BlockOutService,
	}}
	p.lot.plates[k] = c
	p.lot.cars = append(p.lot.cars, c)
	return c
}

// setPlateLocked changes c to v, which is complete.
func (p *Platform) setPlateLocked(c *plate, v Plate, f Faults) error {
	if e := c.newest; e != nil && e.charge == nil {
		if err := p.flipLocked(e, v.State, v.BlockReason, f); err != nil {
			return err
		}
	}
	switch {
	case v.Service == PlateOutOfService:
		c.opened = time.Time{}
	case c.opened.IsZero():
		c.opened = stamp(p.now())
	}
	c.Plate = v
	p.touchLocked()
	return nil
}
