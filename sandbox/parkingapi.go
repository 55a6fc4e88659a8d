package sandbox

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// payee reads whom a parking call is for: a service provider names a sub_mchid,
// a direct merchant none.
func (m *merchant) payee(sub string) *apiError {
	if sub == "" && !m.provider {
		return nil
	}
	return m.mayActFor(sub)
}

// queryPayee is payee of the query's sub_mchid.
func (c *call) queryPayee() (sub string, _ *apiError) {
	if _, given := c.query["sub_mchid"]; given || c.m.provider {
		var bad *apiError
		if sub, bad = c.one("sub_mchid"); bad != nil {
			return "", bad
		}
	}
	return sub, c.m.payee(sub)
}

// queryPlateService is GET /v3/vehicle/parking/services/find?appid=&plate_number=&plate_color=&openid=
// (https://pay.weixin.qq.com/wiki/doc/apiv3/apis/chapter8_8_1.shtml): the
// service of a plate as the owner with this openid has it.
func queryPlateService(p *Platform, c *call) (any, *apiError) {
	_, bad := c.queryPayee()
	if bad != nil {
		return nil, bad
	}
	given := map[string]string{}
	for _, name := range []string{"appid", "plate_number", "plate_color", "openid"} {
		if given[name], bad = c.one(name); bad != nil {
			return nil, bad
		}
	}
	if !plateNumberPattern.MatchString(given["plate_number"]) {
		return nil, paramError("query", "/plate_number", "want letters and digits without separators", "车牌号格式错误，不能包含特殊字符")
	}
	if !slices.Contains(plateColors, given["plate_color"]) {
		return nil, paramError("query", "/plate_color", "want one of "+strings.Join(plateColors, ", "), "输入源“/query/plate_color”枚举值校验失败")
	}
	if !c.m.hasAppid(given["appid"]) {
		return nil, errAppid()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.foreignOpenidLocked(given["appid"], given["openid"]) {
		return nil, errInvalid("appid和openid不匹配")
	}
	answer := struct {
		PlateNumber string       `json:"plate_number"`
		PlateColor  string       `json:"plate_color"`
		OpenTime    string       `json:"service_open_time,omitempty"`
		Openid      string       `json:"openid"`
		State       PlateService `json:"service_state"`
	}{given["plate_number"], given["plate_color"], "", given["openid"], PlateOutOfService}
	car := p.lot.plates[plateKey{answer.PlateNumber, answer.PlateColor}]
	if car != nil && (car.Openid == "" || car.Openid == answer.Openid) && car.Service != PlateOutOfService {
		answer.State, answer.OpenTime = car.Service, rfc3339(car.opened)
	}
	return answer, nil
}

// parkingAnswer is an entry in the answers of the API.
type parkingAnswer struct {
	ID           string       `json:"id"`
	OutParkingNo string       `json:"out_parking_no"`
	PlateNumber  string       `json:"plate_number"`
	PlateColor   string       `json:"plate_color"`
	StartTime    string       `json:"start_time"`
	ParkingName  string       `json:"parking_name"`
	FreeDuration int64        `json:"free_duration"`
	State        ParkingState `json:"state"`
	Reason       BlockReason  `json:"block_reason,omitempty"`
}

func (e *parking) answer() parkingAnswer {
	return parkingAnswer{
		ID: e.id, OutParkingNo: e.number, PlateNumber: e.plate.PlateNumber, PlateColor: e.plate.PlateColor,
		StartTime: rfc3339(e.start), ParkingName: e.name, FreeDuration: e.freeDuration, State: e.state, Reason: e.reason,
	}
}

// createParking is POST /v3/vehicle/parking/parkings
// (https://pay.weixin.qq.com/wiki/doc/apiv3/apis/chapter8_8_2.shtml). An
// out_parking_no is good for one stay, of the same content however often it is
// sent; a plate may have many, of which the newest alone is valid.
func createParking(p *Platform, c *call) (any, *apiError) {
	in, bad := p.parse(c)
	if bad != nil {
		return nil, bad
	}
	e := &parking{m: c.m, fingerprint: fingerprint(c.body)}
	e.subMchid = in.text("sub_mchid", c.m.provider, 0, 32)
	e.number = in.match("out_parking_no", outParkingNoPattern)
	number, color := in.plate()
	e.notifyURL = in.secureURL("notify_url")
	e.start = in.moment("start_time")
	e.name = in.text("parking_name", true, 1, 128)
	e.freeDuration = in.seconds("free_duration")
	if bad := in.problem(); bad != nil {
		return nil, bad
	}
	if bad := c.m.payee(e.subMchid); bad != nil {
		return nil, bad
	}
	return p.enter(e, plateKey{number, color})
}

// enter records a new entry, or finds that it was recorded before.
func (p *Platform) enter(e *parking, k plateKey) (any, *apiError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.lot.byNumber[numberKey{e.m.mchid, e.number}]; old != nil {
		if old.fingerprint != e.fingerprint {
			return nil, errInvalid("商户入场id重复，且与之前的请求参数不一致")
		}
		return old.answer(), nil
	}
	if len(p.lot.entries) >= maxOrders {
		return nil, errSystem()
	}
	car := p.plateLocked(k)
	if car == nil {
		return nil, errSystem()
	}
	for e.id == "" || p.lot.byID[e.id] != nil {
		e.id = "5K" + p.randomFrom("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", 22)
	}
	e.plate, e.state, e.reason, e.created = car, car.State, car.BlockReason, stamp(p.now())
	e.updated = p.now().Truncate(time.Millisecond).In(beijing)
	car.newest = e
	p.lot.entries = append(p.lot.entries, e)
	p.lot.byID[e.id] = e
	p.lot.byNumber[numberKey{e.m.mchid, e.number}] = e
	p.touchLocked()
	return e.answer(), nil
}

// plate reads plate_number and plate_color.
func (o *object) plate() (number, color string) {
	return o.match("plate_number", plateNumberPattern), o.oneOf("plate_color", true, plateColors...)
}

// moment reads a required time.
func (o *object) moment(name string) time.Time {
	if _, ok := o.raw(name, true); !ok {
		return time.Time{}
	}
	t := readTime(o, name)
	if t.IsZero() {
		o.refuse(name, "required", "必填性规则校验失败，此字段为必填项")
	}
	return stamp(t)
}

// seconds reads a required duration: an integer from 0.
func (o *object) seconds(name string) int64 {
	v, ok := o.raw(name, true)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || !integerPattern.Match(v) {
		o.refuse(name, "not an integer", "类型校验失败，应为整数")
		return 0
	}
	if n < 0 {
		o.refuse(name, "want 0 or more", "数值规则校验失败，超出取值范围")
		return 0
	}
	return n
}

// secureURL reads a required notify_url that is https, or http to this machine:
// 回调URL只接受HTTPS.
func (o *object) secureURL(name string) string {
	s := o.text(name, true, 1, 256)
	if o.problem() != nil {
		return ""
	}
	issue := badNotifyURL(s)
	if issue == "" {
		if u, err := url.Parse(s); err != nil || u.Scheme != "https" && !isThisMachine(u.Hostname()) {
			issue = "want https"
		}
	}
	if issue != "" {
		o.refuse(name, issue, "不是合法的通知地址，只接受https完整地址且不允许携带查询串")
		return ""
	}
	return s
}

func isThisMachine(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// chargeParking is POST /v3/vehicle/transactions/parking, 扣费受理
// (https://pay.weixin.qq.com/doc/v3/merchant/4012534352): WeChat Pay takes on
// the charge and carries it out later.
func chargeParking(p *Platform, c *call) (any, *apiError) {
	in, bad := p.parse(c)
	if bad != nil {
		return nil, bad
	}
	o := &order{kind: ParkingCharge, trade: tradePark, mchid: c.m.mchid, fingerprint: fingerprint(c.body), charge: &charge{}}
	o.appid = in.text("appid", true, 1, 32)
	l := &line{mchid: c.m.mchid}
	o.lines = []*line{l}
	l.subAppid = in.text("sub_appid", false, 0, 32)
	l.subMchid = in.text("sub_mchid", c.m.provider, 0, 32)
	l.description = in.text("description", true, 1, 128)
	l.attach = in.text("attach", false, 0, 128)
	o.number = in.match("out_trade_no", parkingTradeNoPattern)
	l.number = o.number
	in.oneOf("trade_scene", true, tradeScene)
	in.text("goods_tag", false, 0, 32)
	o.notifyURL = in.secureURL("notify_url")
	in.oneOf("profit_sharing", false, "Y", "N")
	amount := in.child("amount", true)
	l.total = amount.fen("total")
	amount.currency("currency", false)
	said := readParkingInfo(in.child("parking_info", true))
	o.deviceID = said.DeviceID
	if bad := in.problem(); bad != nil {
		return nil, bad
	}
	if !c.m.provider && l.subAppid != "" {
		return nil, errNoAuth("商户号不是服务商，无权使用服务商模式的接口")
	}
	if bad := c.m.payee(l.subMchid); bad != nil {
		return nil, bad
	}
	if !c.m.hasAppid(o.appid) {
		return nil, errNoAuth("当前商户无法扣款")
	}
	return p.acceptCharge(c.m, o, said, nil)
}

// queryCharge is GET /v3/vehicle/transactions/out-trade-no/{out_trade_no}?sub_mchid=
// (https://pay.weixin.qq.com/wiki/doc/apiv3/apis/chapter8_8_4.shtml).
func queryCharge(p *Platform, c *call) (any, *apiError) {
	sub, bad := c.queryPayee()
	if bad != nil {
		return nil, bad
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.numbers[numberKey{c.m.mchid, c.args[0]}]
	if o == nil || o.kind != ParkingCharge || o.lines[0].subMchid != sub {
		return nil, errNoOrder()
	}
	return o.chargeAnswer(), nil
}

// entryOfLocked finds the entry that a charge names and refuses what WeChat Pay
// refuses: an unknown or superseded parking_id, one that was charged already, a
// parking_info that differs from the entry, and an entry that is BLOCKED.
func (p *Platform) entryOfLocked(m *merchant, sub string, said parkingInfo) (*parking, *apiError) {
	e := p.lot.byID[said.ParkingID]
	switch {
	case e == nil || e.m != m || e.plate.newest != e:
		return nil, errNoParking()
	case e.charge != nil, e.subMchid != sub, said.PlateNumber != e.plate.PlateNumber, said.PlateColor != e.plate.PlateColor,
		said.ParkingName != e.name, !said.start.Equal(e.start):
		return nil, errParkingInfo()
	case e.state == ParkingBlocked:
		return nil, errInvalid("停车入场状态不可用，无法扣费")
	}
	return e, nil
}

// acceptCharge records a new charge, or finds that it was accepted before. A nil
// plan is the next that was made.
func (p *Platform) acceptCharge(m *merchant, o *order, said parkingInfo, plan *ChargePlan) (any, *apiError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.numbers[numberKey{m.mchid, o.number}]; old != nil {
		if old.kind != ParkingCharge || old.fingerprint != o.fingerprint {
			return nil, errNumberUsed()
		}
		return old.chargeAnswer(), nil
	}
	now := p.now()
	if !said.end.After(said.start) || said.end.After(now) {
		return nil, paramError("body", "/parking_info/end_time", "want a time after start_time and not in the future", "参数错误，出场时间须晚于入场时间，且不晚于当前时间")
	}
	e, bad := p.entryOfLocked(m, o.lines[0].subMchid, said)
	if bad != nil {
		return nil, bad
	}
	if len(p.orders) >= maxOrders || len(p.callbacks) >= maxCallbacks {
		return nil, errSystem()
	}
	o.created, o.state = now, Accepted
	o.payer.openid = e.plate.Openid
	if o.payer.openid == "" {
		o.payer.openid = OpenID(o.appid, e.plate.PlateNumber)
	}
	if sub := o.lines[0].subAppid; sub != "" {
		o.payer.subOpenid = OpenID(sub, e.plate.PlateNumber)
	}
	o.charge.parking, o.charge.info, o.charge.state = e, said, ChargePending
	if plan == nil {
		next := p.takeChargePlanLocked(e.plate.PlateNumber)
		plan = &next
	}
	if err := p.pendLocked(o, *plan); err != nil {
		return nil, errSystem()
	}
	e.charge = o
	p.numbers[numberKey{m.mchid, o.number}] = o
	p.orders = append(p.orders, o)
	p.touchLocked()
	return o.chargeAnswer(), nil
}
