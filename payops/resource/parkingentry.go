package resource

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// ParkingEntry is the body of POST /gateway/parking/entries: a car has driven in.
type ParkingEntry struct {
	// OutParkingNo is made by the gateway when it is left out.
	OutParkingNo string `json:"out_parking_no,omitempty"`
	SubMchid     string `json:"sub_mchid,omitempty"`
	Plate        string `json:"plate_number"`
	PlateColor   string `json:"plate_color"`
	StartTime    string `json:"start_time"` // RFC 3339
	ParkingName  string `json:"parking_name"`
	FreeDuration int64  `json:"free_duration,omitempty"` // seconds
	NotifyURL    string `json:"notify_url,omitempty"`    // https; default: the merchant block's
	// Openid goes into the parameters of the open page.
	Openid string `json:"openid,omitempty"`
	// Force takes the entry in although the plate has an open one, which is then
	// not valid any more.
	Force bool `json:"force,omitempty"`
}

// ParkingView is an entry as the ledger knows it.
type ParkingView struct {
	OutParkingNo string             `json:"out_parking_no"`
	ParkingID    string             `json:"parking_id,omitempty"`
	Mchid        string             `json:"mchid"`
	SubMchid     string             `json:"sub_mchid,omitempty"`
	Plate        string             `json:"plate_number"`
	PlateColor   string             `json:"plate_color"`
	StartTime    string             `json:"start_time"`
	ParkingName  string             `json:"parking_name"`
	FreeDuration int64              `json:"free_duration"` // seconds
	State        parking.EntryState `json:"state"`         // NORMAL, BLOCKED, intended or unknown
	BlockReason  string             `json:"block_reason,omitempty"`
	StateAt      time.Time          `json:"state_update_time,omitzero"`
	// OpenPage opens the service of a plate whose entry is BLOCKED.
	OpenPage *parking.OpenPage `json:"open_page,omitempty"`
	// Charge and Native are the orders that the stay is paid by.
	Charge *ParkingOrder `json:"charge,omitempty"`
	Native *ParkingOrder `json:"native,omitempty"`
}

// ParkingOrder is an order that a stay is paid by.
type ParkingOrder struct {
	OutTradeNo string             `json:"out_trade_no"`
	State      storage.OrderState `json:"state"`
	Amount     storage.Money      `json:"amount"`
}

// check refuses what no entry can be made of.
func (e *ParkingEntry) check() Response {
	if refused := checkPlate(e.Plate, e.PlateColor); refused.Refused() {
		return refused
	}
	switch _, err := time.Parse(time.RFC3339, e.StartTime); {
	case err != nil:
		return badRequest(RuleBody, "start_time must be a time like 2026-11-22T08:00:00+08:00")
	case e.OutParkingNo != "" && !parking.ValidID(e.OutParkingNo):
		return badNumber("out_parking_no")
	case e.SubMchid != "" && !digits(e.SubMchid):
		return badRequest(RuleMchid, "sub_mchid must be the digits of a sub-merchant's number")
	case e.ParkingName == "" || utf8.RuneCountInString(e.ParkingName) > 128:
		return badRequest(RuleBody, "parking_name must be 1 to 128 characters")
	case len(e.Openid) > 128:
		return badRequest(RuleBody, "openid is too long")
	}
	return Response{}
}

// enterParking reports a car's entry to WeChat Pay.
func (rs *Resources) enterParking(r *Request) Response {
	if _, refused := r.Values(); refused.Refused() {
		return refused
	}
	var body ParkingEntry
	if refused := r.decode(&body, false); refused.Refused() {
		return refused
	}
	if refused := body.check(); refused.Refused() {
		return refused
	}
	numbers, response, done := r.Begin(1)
	if done {
		return response
	}
	if body.OutParkingNo == "" {
		body.OutParkingNo = numbers[0]
	}
	names := parking.Names{Mchid: rs.Merchant.Mchid(), SubMchid: body.SubMchid}
	unlock, err := r.Core.Lock(names.Plate(body.Plate, body.PlateColor))
	if err != nil {
		return busy()
	}
	defer unlock()
	before, err := parking.Get[parking.Entry](r.Core.Live(), rs.Ledger, names.Entry(body.OutParkingNo))
	if err != nil {
		return rs.parkingDown(err)
	}
	if before == nil && !body.Force {
		if refused := rs.plateFree(r, names, &body); refused.Refused() {
			return refused
		}
	}

	sent := struct {
		SubMchid     string `json:"sub_mchid,omitempty"`
		OutParkingNo string `json:"out_parking_no"`
		Plate        string `json:"plate_number"`
		PlateColor   string `json:"plate_color"`
		NotifyURL    string `json:"notify_url,omitempty"`
		StartTime    string `json:"start_time"`
		ParkingName  string `json:"parking_name"`
		FreeDuration int64  `json:"free_duration"`
	}{body.SubMchid, body.OutParkingNo, body.Plate, body.PlateColor, body.NotifyURL, body.StartTime, body.ParkingName, body.FreeDuration}
	location := parkingPath(names, body.OutParkingNo)
	answer := r.Core.V3(Call{Method: http.MethodPost, Path: "/v3/vehicle/parking/parkings", Body: jsonBody(sent)})
	if !answer.Succeeded() {
		return numbered(answer, location)
	}
	entry, err := parking.Get[parking.Entry](r.Core.Context(), rs.Ledger, names.Entry(body.OutParkingNo))
	if err != nil || entry == nil || !entry.State.Known() {
		rs.Logger.Error("an entry that was made cannot be read", "error", err)
		return unknown(location)
	}
	view, err := rs.parkingView(r.Core.Context(), names, entry, body.Openid)
	if err != nil {
		rs.Logger.Error("an entry that was made cannot be shown", "error", err)
		return unknown(location)
	}
	status := http.StatusOK
	if before == nil {
		status = http.StatusCreated
	}
	response = respond(status, view)
	response.Header.Set("Location", location)
	carry(response.Header, answer.Header)
	return response
}

// plateFree refuses an entry of a plate whose newest entry is open: it has no
// charge that WeChat Pay took on, and no other order that was paid.
func (rs *Resources) plateFree(r *Request, names parking.Names, body *ParkingEntry) Response {
	plate, err := parking.Get[parking.Plate](r.Core.Live(), rs.Ledger, names.Plate(body.Plate, body.PlateColor))
	if err != nil {
		return rs.parkingDown(err)
	}
	if plate == nil {
		return Response{}
	}
	entry, err := parking.Get[parking.Entry](r.Core.Live(), rs.Ledger, names.Entry(plate.Newest))
	if err != nil {
		return rs.parkingDown(err)
	}
	if entry == nil {
		return Response{}
	}
	view, err := rs.parkingView(r.Core.Live(), names, entry, "")
	switch {
	case err != nil:
		return rs.parkingDown(err)
	case view.Charge != nil && (view.Charge.State == storage.OrderCreated || view.Charge.State == storage.OrderPaid),
		view.Native != nil && view.Native.State == storage.OrderPaid:
		return Response{} // the car has left
	}
	return refuseWith(http.StatusConflict, codeInvalid, RuleParkingOpen,
		"the plate has an open entry; only its newest entry can be charged, so that another one is made with force alone", view)
}

// showParking answers with an entry as the ledger knows it.
func (rs *Resources) showParking(r *Request) Response {
	if refused := r.noBody(); refused.Refused() {
		return refused
	}
	values, refused := r.Values("sub_mchid")
	if refused.Refused() {
		return refused
	}
	names := parking.Names{Mchid: rs.Merchant.Mchid(), SubMchid: values.Get("sub_mchid")}
	if values.Has("sub_mchid") && !digits(names.SubMchid) {
		return badRequest(RulePath, "sub_mchid must be the digits of a sub-merchant's number")
	}
	number := r.Param("out_parking_no")
	if !parking.ValidID(number) {
		return badNumber("out_parking_no")
	}
	entry, err := parking.Get[parking.Entry](r.Core.Live(), rs.Ledger, names.Entry(number))
	if err != nil {
		return rs.parkingDown(err)
	}
	if entry == nil {
		return noParking()
	}
	view, err := rs.parkingView(r.Core.Live(), names, entry, "")
	if err != nil {
		return rs.parkingDown(err)
	}
	return respond(http.StatusOK, view)
}

// parkingView shows an entry with the orders of its stay.
func (rs *Resources) parkingView(ctx context.Context, names parking.Names, e *parking.Entry, openid string) (*ParkingView, error) {
	view := &ParkingView{
		OutParkingNo: e.OutParkingNo, ParkingID: e.ParkingID, Mchid: names.Mchid, SubMchid: names.SubMchid,
		Plate: e.Plate, PlateColor: e.PlateColor, StartTime: e.StartTime, ParkingName: e.ParkingName, FreeDuration: e.FreeDuration,
		State: e.State, BlockReason: e.BlockReason, StateAt: e.StateAt,
	}
	if e.State == parking.EntryBlocked {
		view.OpenPage = names.Open(openid, e.Plate, e.PlateColor)
	}
	if e.ParkingID == "" {
		return view, nil
	}
	stay, err := parking.Get[parking.Stay](ctx, rs.Ledger, names.Stay(e.ParkingID))
	if err != nil || stay == nil {
		return view, err
	}
	if view.Charge, err = rs.parkingOrder(ctx, names, stay.Charge); err != nil {
		return nil, err
	}
	view.Native, err = rs.parkingOrder(ctx, names, stay.Native)
	return view, err
}

// parkingOrder shows an order of a stay; nil where there is none.
func (rs *Resources) parkingOrder(ctx context.Context, names parking.Names, number string) (*ParkingOrder, error) {
	if number == "" {
		return nil, nil
	}
	order, err := rs.Ledger.Order(ctx, storage.OrderKey{Mchid: names.Mchid, SubMchid: names.SubMchid, Number: number})
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &ParkingOrder{order.Key.Number, order.State, order.Amount}, nil
}

// parkingPath is where an entry is.
func parkingPath(names parking.Names, number string) string {
	path := Prefix + "parking/entries/" + url.PathEscape(number)
	if names.SubMchid != "" {
		path += "?sub_mchid=" + names.SubMchid
	}
	return path
}

func noParking() Response {
	return refuse(http.StatusNotFound, codeNotFound, RuleParkingNotFound, "the ledger does not know the parking entry")
}

// parkingDown is the answer when what the ledger has of a stay cannot be read.
func (rs *Resources) parkingDown(err error) Response {
	rs.Logger.Error("a parking entry cannot be read", "error", err)
	return storeDown()
}
