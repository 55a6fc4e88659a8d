package resource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// The bounds of an exit's deadline.
const (
	DefaultExitDeadline = 800 * time.Millisecond
	minExitDeadline     = 100 * time.Millisecond
	maxExitDeadline     = 10 * time.Second
)

// ParkingExit is the body of POST /gateway/parking/exits: a car stands at the
// barrier.
type ParkingExit struct {
	// OutTradeNo is the charge's number. Default: the parking_id, since a stay has
	// one charge.
	OutTradeNo string `json:"out_trade_no,omitempty"`
	// OutParkingNo or ParkingID name the entry.
	OutParkingNo     string `json:"out_parking_no,omitempty"`
	ParkingID        string `json:"parking_id,omitempty"`
	SubMchid         string `json:"sub_mchid,omitempty"`
	Amount           Amount `json:"amount"`
	Description      string `json:"description,omitempty"` // default: the entry's parking_name
	EndTime          string `json:"end_time"`              // RFC 3339
	ChargingDuration int64  `json:"charging_duration"`     // seconds
	DeviceID         string `json:"device_id"`
	Attach           string `json:"attach,omitempty"`
	GoodsTag         string `json:"goods_tag,omitempty"`
	ProfitSharing    bool   `json:"profit_sharing,omitempty"`
	Appid            string `json:"appid,omitempty"`
	SubAppid         string `json:"sub_appid,omitempty"`
	NotifyURL        string `json:"notify_url,omitempty"` // https; default: the merchant block's
	// ReleaseOn is accepted or success. Default: accepted.
	ReleaseOn parking.ReleaseOn `json:"release_on,omitempty"`
	// DeadlineMS is when the answer is there at the latest, in milliseconds.
	// Default: 800.
	DeadlineMS int64 `json:"deadline_ms,omitempty"`
	// Native wants a QR code when it is known that there is no charge. The caller
	// must be allowed pay, or partner for a sub-merchant.
	Native *ParkingNative `json:"native,omitempty"`
}

// ParkingRelease is the answer to an exit.
type ParkingRelease struct {
	// Release opens the barrier. It is true only by a verified answer of WeChat
	// Pay's about this charge.
	Release bool            `json:"release"`
	Outcome parking.Outcome `json:"outcome"`
	// Source is the answer that Outcome is from: charge, repeat (of the same
	// number) or query; "" when it is none of WeChat Pay's.
	Source       string         `json:"source,omitempty"`
	OutTradeNo   string         `json:"out_trade_no,omitempty"`
	OutParkingNo string         `json:"out_parking_no,omitempty"`
	ParkingID    string         `json:"parking_id,omitempty"`
	Amount       *storage.Money `json:"amount,omitempty"`
	TradeState   string         `json:"trade_state,omitempty"`
	// Code is WeChat Pay's error code of a charge that it has not taken on.
	Code        string            `json:"code,omitempty"`
	BlockReason string            `json:"block_reason,omitempty"`
	OpenPage    *parking.OpenPage `json:"open_page,omitempty"`
	// Native is the order that the driver may pay in place of the charge. While it
	// can be paid the stay is not charged.
	Native *ParkingOffer `json:"native,omitempty"`
}

// Sources of an outcome.
const (
	sourceCharge = "charge"
	sourceRepeat = "repeat"
	sourceQuery  = "query"
)

// check refuses what no exit can be made of.
func (e *ParkingExit) check() Response {
	deadline := time.Duration(e.DeadlineMS) * time.Millisecond
	_, err := time.Parse(time.RFC3339, e.EndTime)
	switch {
	case e.OutTradeNo != "" && !orderNumber(e.OutTradeNo, 1):
		return badNumber("out_trade_no")
	case e.OutParkingNo == "" && e.ParkingID == "":
		return badRequest(RuleNumber, "out_parking_no or parking_id must name the entry")
	case e.OutParkingNo != "" && !parking.ValidID(e.OutParkingNo):
		return badNumber("out_parking_no")
	case e.ParkingID != "" && !parking.ValidID(e.ParkingID):
		return badNumber("parking_id")
	case e.SubMchid != "" && !digits(e.SubMchid):
		return badRequest(RuleMchid, "sub_mchid must be the digits of a sub-merchant's number")
	case e.Amount.Total < 1:
		return badRequest(RuleAmount, "amount.total must be at least 1 fen")
	case err != nil:
		return badRequest(RuleBody, "end_time must be a time like 2026-11-22T09:00:00+08:00")
	case e.DeviceID == "":
		return badRequest(RuleBody, "device_id is needed")
	case utf8.RuneCountInString(e.Description) > 128:
		return badRequest(RuleBody, "description must be at most 128 characters")
	case e.ReleaseOn != "" && e.ReleaseOn != parking.OnAccepted && e.ReleaseOn != parking.OnSuccess:
		return badRequest(RuleBody, "release_on must be accepted or success")
	case e.Native != nil && e.Native.OutTradeNo != "" && (!orderNumber(e.Native.OutTradeNo, 6) || e.Native.OutTradeNo == e.OutTradeNo):
		return badRequest(RuleNumber, "native.out_trade_no must be another number, 6 to 32 of digits, letters and _-|*@")
	case e.Native != nil && utf8.RuneCountInString(e.Native.Description) > 127:
		return badRequest(RuleBody, "native.description is too long")
	case e.DeadlineMS != 0 && (deadline < minExitDeadline || deadline > maxExitDeadline || e.DeadlineMS > maxExitDeadline.Milliseconds()):
		return badRequest(RuleBody, "deadline_ms must be 100 to 10000")
	}
	if e.ReleaseOn == "" {
		e.ReleaseOn = parking.OnAccepted
	}
	if e.DeadlineMS == 0 {
		e.DeadlineMS = DefaultExitDeadline.Milliseconds()
	}
	if e.Amount.Currency == "" {
		e.Amount.Currency = "CNY"
	}
	return Response{}
}

// offers is what a caller needs to have a native order offered.
func (e *ParkingExit) offers() operation.Group {
	if e.SubMchid != "" {
		return operation.Partner
	}
	return operation.Pay
}

// name is what requests for the same exit have in common.
func (e *ParkingExit) name(mchid string) string {
	by := "trade " + e.OutTradeNo
	switch {
	case e.OutTradeNo != "":
	case e.ParkingID != "":
		by = "id " + e.ParkingID
	default:
		by = "parking " + e.OutParkingNo
	}
	return mchid + " " + e.SubMchid + " " + by
}

// content tells requests apart that are for the same exit.
func (e ParkingExit) content(caller string) string {
	e.DeadlineMS = 0
	sum := sha256.Sum256(append([]byte(caller+"\x00"), jsonBody(e)...))
	return hex.EncodeToString(sum[:])
}

// exitParking has a stay charged and says whether the barrier opens. The answer is
// there when the deadline passes; what has begun is finished after it.
func (rs *Resources) exitParking(r *Request) Response {
	began := time.Now()
	if _, refused := r.Values(); refused.Refused() {
		return refused
	}
	var body ParkingExit
	if refused := r.decode(&body, false); refused.Refused() {
		return refused
	}
	if refused := body.check(); refused.Refused() {
		return refused
	}
	if group := body.offers(); body.Native != nil && !r.Core.Allows(group) {
		return notAllowed(group)
	}
	deadline := time.Duration(body.DeadlineMS) * time.Millisecond
	core, end := r.Core.Detach(deadline * 9 / 20) // two of them, and the gateway's own time
	flight, started, same := rs.exits.Join(body.name(rs.Merchant.Mchid()), body.content(r.Core.Caller()), func() Response {
		defer end()
		return rs.exit(core, &body)
	})
	if !started {
		end()
	}
	if !same {
		return busy()
	}
	// The answer has to get out, too.
	timer := time.NewTimer(deadline - deadline/40 - time.Since(began))
	defer timer.Stop()
	select {
	case <-flight.Done():
	case <-timer.C:
		select {
		case <-flight.Done():
		default:
			return released(&ParkingRelease{Outcome: parking.Unknown, OutTradeNo: body.OutTradeNo, OutParkingNo: body.OutParkingNo, ParkingID: body.ParkingID})
		}
	}
	response := flight.Value()
	response.Header = response.Header.Clone()
	return response
}

// released makes the answer to an exit.
func released(view *ParkingRelease) Response {
	response := respond(http.StatusOK, view)
	if view.Outcome == parking.Unknown {
		response.Header.Set(headerOutcome, "unknown")
	}
	return response
}

// exit is one exit, however many wait for it.
func (rs *Resources) exit(core Core, body *ParkingExit) (response Response) {
	defer func() {
		if cause := recover(); cause != nil {
			rs.Logger.Error("panic in a parking exit", "stack", string(debug.Stack()))
			response = released(&ParkingRelease{Outcome: parking.Unknown})
		}
	}()
	names := parking.Names{Mchid: rs.Merchant.Mchid(), SubMchid: body.SubMchid}
	_, entry, refused := rs.parked(core, names, body)
	if refused.Refused() {
		return refused
	}
	unlock, err := core.Lock(names.Stay(entry.ParkingID)) // a stay has one exit at a time, whatever its number
	if err != nil {
		return busy()
	}
	defer unlock()
	stay, err := parking.Get[parking.Stay](core.Live(), rs.Ledger, names.Stay(entry.ParkingID))
	if err != nil {
		return rs.parkingDown(err)
	}
	x := &exiting{
		rs: rs, core: core, body: body, names: names, entry: entry, stay: stay,
		key: storage.OrderKey{Mchid: names.Mchid, SubMchid: names.SubMchid, Number: body.OutTradeNo},
	}
	if x.key.Number == "" {
		x.key.Number = entry.ParkingID
	}
	if !orderNumber(x.key.Number, 1) {
		return badNumber("out_trade_no")
	}
	x.view = ParkingRelease{
		Outcome: parking.Unknown, OutTradeNo: x.key.Number, OutParkingNo: entry.OutParkingNo, ParkingID: entry.ParkingID,
		Amount: &storage.Money{Total: body.Amount.Total, Currency: body.Amount.Currency},
	}
	if refused := x.run(); refused.Status != 0 {
		return refused
	}
	x.offer()
	x.view.Release = body.ReleaseOn.Opens(x.view.Outcome)
	return released(&x.view)
}

// parked finds the entry that an exit names. A refusal has a Status.
func (rs *Resources) parked(core Core, names parking.Names, body *ParkingExit) (*parking.Stay, *parking.Entry, Response) {
	id := body.ParkingID
	if id == "" {
		entry, err := parking.Get[parking.Entry](core.Live(), rs.Ledger, names.Entry(body.OutParkingNo))
		switch {
		case err != nil:
			return nil, nil, rs.parkingDown(err)
		case entry == nil:
			return nil, nil, noParking()
		case entry.ParkingID == "":
			return nil, nil, conflict(RuleParkingUnknown, "it is not known whether WeChat Pay has the entry; repeat the entry with the same number first")
		}
		id = entry.ParkingID
	}
	stay, entry, err := parking.Find(core.Live(), rs.Ledger, names, id)
	switch {
	case err != nil:
		return nil, nil, rs.parkingDown(err)
	case entry == nil:
		return nil, nil, noParking()
	case body.OutParkingNo != "" && body.OutParkingNo != entry.OutParkingNo:
		return nil, nil, conflict(RuleBody, "out_parking_no and parking_id name two entries")
	}
	return stay, entry, Response{}
}

// exiting is an exit on its way.
type exiting struct {
	rs    *Resources
	core  Core
	body  *ParkingExit
	names parking.Names
	stay  *parking.Stay
	entry *parking.Entry
	key   storage.OrderKey
	view  ParkingRelease
}

// run comes to an outcome. A response with a Status is the answer in its place.
func (x *exiting) run() Response {
	before, err := x.order()
	if err != nil {
		return x.rs.parkingDown(err)
	}
	charged := before != nil && before.State != storage.OrderRejected && before.State != storage.OrderRegistered
	if charged && (before.Kind != storage.OrderParking || before.ParkingID != x.entry.ParkingID || before.Amount != *x.view.Amount) {
		return conflict(RuleNumberContent, "the number is in use with another amount or parking_id; a new charge needs a new number")
	}
	if !charged {
		native, err := x.offered()
		if err != nil {
			return x.rs.parkingDown(err)
		}
		if native != nil {
			x.view.Outcome = parking.OtherOrder
			if x.show(native); x.body.Native != nil && native.CodeURL == "" && native.State != storage.OrderPaid {
				x.native(native.Key.Number)
			}
			return Response{}
		}
	}
	if x.entry.State == parking.EntryBlocked {
		x.view.BlockReason, x.view.OpenPage = x.entry.BlockReason, x.names.Open("", x.entry.Plate, x.entry.PlateColor)
		if !charged {
			x.view.Outcome = parking.Blocked
			return Response{}
		}
		x.query() // what was sent while it was not
		return Response{}
	}

	x.view.Source = sourceCharge
	if charged {
		x.view.Source = sourceRepeat
	}
	answer := x.charge()
	if open(answer) {
		charged = true
		x.view.Source = sourceRepeat
		answer = x.charge()
	}
	switch {
	case answer.Succeeded():
		x.judge(answer.Body)
	case !open(answer) && answer.Header.Get(headerRefused) != "" && answer.Header.Get(headerRefused) != RuleUnreachable:
		return answer.Response() // a rule of the gateway's: nothing was sent
	case !charged && x.freed():
		x.view.Outcome, x.view.Code = parking.Rejected, gjson.GetBytes(answer.Body, "code").String()
	default:
		x.settle(answer)
	}
	if x.view.Outcome == parking.Unknown {
		x.view.Source = ""
	}
	return Response{}
}

// open reports whether an answer leaves open what became of the charge, or came
// from nowhere: the same number may be sent again.
func open(a Answer) bool {
	return !a.Succeeded() && (a.Status < 400 || a.Header.Get(headerOutcome) != "" ||
		a.Status >= 500 && (a.Header.Get(headerRefused) == "" || a.Header.Get(headerRefused) == RuleUnreachable))
}

// freed reports whether the ledger has it that a rejection left no charge behind. It
// has not when WeChat Pay says that the number is in use.
func (x *exiting) freed() bool {
	order, err := x.order()
	return err == nil && (order == nil || order.State == storage.OrderRejected || order.State == storage.OrderRegistered)
}

// settle finds out about a charge of which more than one call was on its way, the
// last of them without success.
func (x *exiting) settle(answer Answer) {
	if order, err := x.order(); err == nil && order != nil && order.State == storage.OrderRejected {
		x.view.Outcome, x.view.Code = parking.Rejected, gjson.GetBytes(answer.Body, "code").String()
		if answer.Header.Get(headerRefused) == RuleUnreachable {
			x.view.Outcome, x.view.Source, x.view.Code = parking.Unreachable, "", ""
		}
		return
	}
	x.query()
}

// charge sends the charge: the same bytes for the same request, so that a repeat is
// one to WeChat Pay, too.
func (x *exiting) charge() Answer {
	type info struct {
		ParkingID        string `json:"parking_id"`
		Plate            string `json:"plate_number"`
		PlateColor       string `json:"plate_color"`
		StartTime        string `json:"start_time"`
		EndTime          string `json:"end_time"`
		ParkingName      string `json:"parking_name"`
		ChargingDuration int64  `json:"charging_duration"`
		DeviceID         string `json:"device_id"`
	}
	b, e := x.body, x.entry
	sent := struct {
		Appid         string `json:"appid,omitempty"`
		SubAppid      string `json:"sub_appid,omitempty"`
		SubMchid      string `json:"sub_mchid,omitempty"`
		Description   string `json:"description"`
		Attach        string `json:"attach,omitempty"`
		OutTradeNo    string `json:"out_trade_no"`
		TradeScene    string `json:"trade_scene"`
		GoodsTag      string `json:"goods_tag,omitempty"`
		NotifyURL     string `json:"notify_url,omitempty"`
		ProfitSharing string `json:"profit_sharing,omitempty"`
		Amount        Amount `json:"amount"`
		ParkingInfo   info   `json:"parking_info"`
	}{
		Appid: b.Appid, SubAppid: b.SubAppid, SubMchid: b.SubMchid, Description: b.Description, Attach: b.Attach,
		OutTradeNo: x.key.Number, TradeScene: "PARKING", GoodsTag: b.GoodsTag, NotifyURL: b.NotifyURL, Amount: b.Amount,
		ParkingInfo: info{e.ParkingID, e.Plate, e.PlateColor, e.StartTime, b.EndTime, e.ParkingName, b.ChargingDuration, b.DeviceID},
	}
	if sent.Description == "" {
		sent.Description = e.ParkingName
	}
	if b.ProfitSharing {
		sent.ProfitSharing = "Y"
	}
	return x.core.V3(Call{Method: http.MethodPost, Path: "/v3/vehicle/transactions/parking", Body: jsonBody(sent)})
}

// query asks WeChat Pay for the charge. That it knows none is final only when the
// ledger says so: a call may be on its way yet.
func (x *exiting) query() {
	body, known, err := x.core.Charge(x.key)
	switch {
	case err != nil:
		x.rs.Logger.Warn("a charge cannot be asked for", "error", err)
	case known:
		x.view.Source = sourceQuery
		x.judge(body)
	default:
		if order, err := x.order(); err == nil && order != nil && order.State == storage.OrderRejected {
			x.view.Source, x.view.Outcome = sourceQuery, parking.Rejected
		}
	}
}

// judge takes a verified answer's word, if it is about the ledger's charge.
func (x *exiting) judge(body []byte) {
	order, err := x.order()
	if err != nil || order == nil {
		x.rs.Logger.Error("a charge cannot be read", "error", err)
		return
	}
	x.view.Outcome, x.view.TradeState = parking.Judge(body, *order)
}

// order is the charge as the ledger has it; nil when it has none.
func (x *exiting) order() (*storage.Order, error) { return x.orderOf(x.key.Number) }

func (x *exiting) orderOf(number string) (*storage.Order, error) {
	key := x.key
	key.Number = number
	order, err := x.rs.Ledger.Order(x.core.Context(), key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	return &order, err
}

// Wait returns when every exit that was answered at its deadline has come to its
// end, or ctx has.
func (rs *Resources) Wait(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		rs.exits.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
