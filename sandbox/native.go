package sandbox

import (
	"net/url"
)

// createNative is POST /v3/pay/transactions/native
// (https://pay.weixin.qq.com/doc/v3/merchant/4012791877).
func (p *Platform) createNative(m *merchant, body []byte) (any, *apiError) {
	in, bad := parseObject(body)
	if bad != nil {
		return nil, bad
	}
	o := &order{kind: Native, fingerprint: fingerprint(body)}
	o.appid = in.text("appid", true, 1, 32)
	o.mchid = in.text("mchid", true, 1, 32)
	o.number = in.match("out_trade_no", outTradeNoPattern)
	l := &line{mchid: o.mchid, number: o.number}
	l.description = in.text("description", true, 1, 127)
	l.attach = in.text("attach", false, 0, 128)
	o.readCommon(in)
	amount := in.child("amount", true)
	l.total = amount.fen("total")
	if c := amount.text("currency", false, 0, 16); c != "" && c != "CNY" {
		amount.refuse("currency", "Currency code is invalid", "币种校验失败，仅支持CNY")
	}
	o.lines = []*line{l}
	if bad := in.problem(); bad != nil {
		return nil, bad
	}
	if o.mchid != m.mchid {
		return nil, errForeignMchid("body", "/mchid")
	}
	if !m.hasAppid(o.appid) {
		return nil, errAppid()
	}
	return p.codeURLAnswer(o)
}

func (p *Platform) codeURLAnswer(o *order) (any, *apiError) {
	codeURL, bad := p.place(o)
	if bad != nil {
		return nil, bad
	}
	return struct {
		CodeURL string `json:"code_url"`
	}{codeURL}, nil
}

// queryNative is GET /v3/pay/transactions/out-trade-no/{out_trade_no}?mchid=.
func (p *Platform) queryNative(m *merchant, number string, query url.Values) (any, *apiError) {
	if bad := checkQueryMchid(m, query); bad != nil {
		return nil, bad
	}
	o, bad := p.ownOrder(m, Native, number)
	if bad != nil {
		return nil, bad
	}
	return o.transaction(), nil
}

// queryTransaction is GET /v3/pay/transactions/id/{transaction_id}?mchid=. It
// knows basic orders only: a combine order is queried by its number.
func (p *Platform) queryTransaction(m *merchant, id string, query url.Values) (any, *apiError) {
	if bad := checkQueryMchid(m, query); bad != nil {
		return nil, bad
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.byTx[id]
	if o == nil || o.kind != Native || o.mchid != m.mchid {
		return nil, errNoOrder()
	}
	c := o.copyLocked()
	return c.transaction(), nil
}

func checkQueryMchid(m *merchant, query url.Values) *apiError {
	given := query["mchid"]
	if len(given) != 1 || given[0] == "" {
		return paramError("query", "/mchid", "required once", "输入源“/query/mchid”必填性规则校验失败，此字段为必填项")
	}
	if given[0] != m.mchid {
		return errForeignMchid("query", "/mchid")
	}
	return nil
}

// closeNative is POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close.
func (p *Platform) closeNative(m *merchant, number string, body []byte) *apiError {
	in, bad := parseObject(body)
	if bad != nil {
		return bad
	}
	mchid := in.text("mchid", true, 1, 32)
	if bad := in.problem(); bad != nil {
		return bad
	}
	if mchid != m.mchid {
		return errForeignMchid("body", "/mchid")
	}
	return p.closeOrder(m, Native, number)
}
