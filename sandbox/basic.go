package sandbox

// tradeType is WeChat Pay's trade_type: the way to pay.
type tradeType string

// The ways to pay. A mini program's order is a JSAPI order.
const (
	tradeNative tradeType = "NATIVE"
	tradeJSAPI  tradeType = "JSAPI"
	tradeApp    tradeType = "APP"
	tradeH5     tradeType = "MWEB"
	tradePark   tradeType = "PAP" // 委托代扣, what a parking order is charged by; in bills only
)

// createBasic is POST /v3/pay/transactions/{native,jsapi,app,h5}
// (https://pay.weixin.qq.com/doc/v3/merchant/4012791877 and its neighbours).
func createBasic(trade tradeType) operation {
	return func(p *Platform, c *call) (any, *apiError) {
		in, bad := p.parse(c)
		if bad != nil {
			return nil, bad
		}
		o := &order{kind: Basic, trade: trade}
		o.appid = in.text("appid", true, 1, 32)
		o.mchid = in.text("mchid", true, 1, 32)
		o.readLine(in)
		payer := in.child("payer", trade == tradeJSAPI)
		o.payer.openid = payer.text("openid", trade == tradeJSAPI, 1, 128)
		o.fingerprint = fingerprint(c.body, readIdentity(payer)...)
		if bad := in.problem(); bad != nil {
			return nil, bad
		}
		if o.mchid != c.m.mchid {
			return nil, errForeignMchid("body", "/mchid")
		}
		if c.m.provider {
			return nil, errNoAuth("服务商请使用服务商模式的接口")
		}
		if !c.m.hasAppid(o.appid) {
			return nil, errAppid()
		}
		return p.place(o)
	}
}

// createPartner is POST /v3/pay/partner/transactions/{native,jsapi,app,h5}
// (https://pay.weixin.qq.com/doc/v3/partner/4012738519 and its neighbours).
func createPartner(trade tradeType) operation {
	return func(p *Platform, c *call) (any, *apiError) {
		in, bad := p.parse(c)
		if bad != nil {
			return nil, bad
		}
		o := &order{kind: Partner, trade: trade}
		o.appid = in.text("sp_appid", true, 1, 32)
		o.mchid = in.text("sp_mchid", true, 1, 32)
		subMchid := in.match("sub_mchid", mchidPattern)
		subAppid := in.text("sub_appid", false, 1, 32)
		o.readLine(in)
		o.lines[0].subMchid, o.lines[0].subAppid = subMchid, subAppid
		payer := in.child("payer", trade == tradeJSAPI)
		o.payer.openid = payer.text("sp_openid", false, 1, 128)
		o.payer.subOpenid = payer.text("sub_openid", false, 1, 128)
		if trade == tradeJSAPI && o.payer == (payerID{}) {
			payer.refuse("sp_openid", "sp_openid or sub_openid is required", "必填性规则校验失败，sp_openid与sub_openid至少传一个")
		}
		if o.payer.subOpenid != "" && subAppid == "" {
			in.refuse("sub_appid", "required with sub_openid", "必填性规则校验失败，传sub_openid时此字段为必填项")
		}
		o.fingerprint = fingerprint(c.body, readIdentity(payer)...)
		if bad := in.problem(); bad != nil {
			return nil, bad
		}
		if o.mchid != c.m.mchid {
			return nil, errForeignMchid("body", "/sp_mchid")
		}
		if bad := c.m.mayActFor(subMchid); bad != nil {
			return nil, bad
		}
		if !c.m.hasAppid(o.appid) {
			return nil, errAppid()
		}
		return p.place(o)
	}
}

// readLine reads what makes up a basic or partner order, apart from who it is for.
func (o *order) readLine(in *object) {
	o.number = in.match("out_trade_no", outTradeNoPattern)
	l := &line{mchid: o.mchid, number: o.number}
	l.description = in.text("description", true, 1, 127)
	l.attach = in.text("attach", false, 0, 128)
	o.readCommon(in)
	amount := in.child("amount", true)
	l.total = amount.fen("total")
	amount.currency("currency", false)
	o.lines = []*line{l}
}

// readIdentity reads the identity of 实名支付, whose number and name come
// encrypted, and returns them in the clear.
func readIdentity(payer *object) []string {
	if _, given := payer.raw("identity", false); !given {
		return nil
	}
	identity := payer.child("identity", true)
	return []string{
		identity.oneOf("type", true, "IDCARD", "HONGKONG_MACAO", "HONGKONG_MACAO_RESIDENT", "TAIWAN_RESIDENT",
			"FOREIGN_RESIDENT", "OVERSEA_PASSPORT", "PHONE_NUMBER"),
		identity.secret("number", true),
		identity.secret("name", true),
	}
}

// prepayAnswer has the one field that the way to pay needs.
type prepayAnswer struct {
	CodeURL  string `json:"code_url,omitempty"`
	PrepayID string `json:"prepay_id,omitempty"`
	H5URL    string `json:"h5_url,omitempty"`
}

func (o *order) prepay() prepayAnswer {
	switch o.trade {
	case tradeNative:
		return prepayAnswer{CodeURL: o.codeURL()}
	case tradeH5:
		return prepayAnswer{H5URL: o.h5URL()}
	case tradeJSAPI, tradeApp, tradePark:
	}
	return prepayAnswer{PrepayID: o.prepayID}
}

// queryBasic is GET /v3/pay/transactions/out-trade-no/{out_trade_no}?mchid=.
func queryBasic(p *Platform, c *call) (any, *apiError) {
	if bad := c.wantMchid("mchid"); bad != nil {
		return nil, bad
	}
	o, bad := p.ownOrder(c.m, Basic, c.args[0], "")
	if bad != nil {
		return nil, bad
	}
	return o.transaction(), nil
}

// queryPartner is GET /v3/pay/partner/transactions/out-trade-no/{out_trade_no}?sp_mchid=&sub_mchid=.
func queryPartner(p *Platform, c *call) (any, *apiError) {
	sub, bad := c.wantPartner()
	if bad != nil {
		return nil, bad
	}
	o, bad := p.ownOrder(c.m, Partner, c.args[0], sub)
	if bad != nil {
		return nil, bad
	}
	return o.partnerTransaction(), nil
}

// queryTransaction is GET /v3/pay/transactions/id/{transaction_id}?mchid=. It
// knows basic orders only: a combine order is queried by its number.
func queryTransaction(p *Platform, c *call) (any, *apiError) {
	if bad := c.wantMchid("mchid"); bad != nil {
		return nil, bad
	}
	o, bad := p.orderByTransaction(c.m, Basic, c.args[0], "")
	if bad != nil {
		return nil, bad
	}
	return o.transaction(), nil
}

// queryPartnerTransaction is GET /v3/pay/partner/transactions/id/{transaction_id}?sp_mchid=&sub_mchid=.
func queryPartnerTransaction(p *Platform, c *call) (any, *apiError) {
	sub, bad := c.wantPartner()
	if bad != nil {
		return nil, bad
	}
	o, bad := p.orderByTransaction(c.m, Partner, c.args[0], sub)
	if bad != nil {
		return nil, bad
	}
	return o.partnerTransaction(), nil
}

// closeBasic is POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close.
func closeBasic(p *Platform, c *call) (any, *apiError) {
	in, bad := p.parse(c)
	if bad != nil {
		return nil, bad
	}
	mchid := in.text("mchid", true, 1, 32)
	if bad := in.problem(); bad != nil {
		return nil, bad
	}
	if mchid != c.m.mchid {
		return nil, errForeignMchid("body", "/mchid")
	}
	return nil, p.closeOrder(c.m, Basic, c.args[0], "")
}

// closePartner is POST /v3/pay/partner/transactions/out-trade-no/{out_trade_no}/close.
func closePartner(p *Platform, c *call) (any, *apiError) {
	in, bad := p.parse(c)
	if bad != nil {
		return nil, bad
	}
	mchid := in.text("sp_mchid", true, 1, 32)
	sub := in.text("sub_mchid", true, 1, 32)
	if bad := in.problem(); bad != nil {
		return nil, bad
	}
	if mchid != c.m.mchid {
		return nil, errForeignMchid("body", "/sp_mchid")
	}
	if bad := c.m.mayActFor(sub); bad != nil {
		return nil, bad
	}
	return nil, p.closeOrder(c.m, Partner, c.args[0], sub)
}
