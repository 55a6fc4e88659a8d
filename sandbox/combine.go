package sandbox

import "strconv"

// createCombine is POST /v3/combine-transactions/native
// (https://pay.weixin.qq.com/doc/v3/merchant/4012556982).
func (p *Platform) createCombine(m *merchant, body []byte) (any, *apiError) {
	in, bad := parseObject(body)
	if bad != nil {
		return nil, bad
	}
	o := &order{kind: Combine, fingerprint: fingerprint(body)}
	o.appid = in.text("combine_appid", true, 1, 32)
	o.mchid = in.text("combine_mchid", true, 1, 32)
	o.number = in.match("combine_out_trade_no", combineNoPattern)
	o.readCommon(in)
	readTime(in, "time_start")
	subs := in.list("sub_orders")
	provider := len(subs) > 0
	for _, s := range subs {
		l := readSubOrder(s)
		provider = provider && l.subMchid != ""
		o.lines = append(o.lines, l)
	}
	// A direct merchant combines 2 to 10 sub-orders, a service provider, whose
	// every sub-order names its sub_mchid, 1 to 50.
	min, max := 2, 10
	if provider {
		min, max = 1, 50
	}
	if in.problem() == nil && (len(subs) < min || len(subs) > max) {
		in.refuse("sub_orders", "want "+strconv.Itoa(min)+" to "+strconv.Itoa(max)+" sub-orders", "子单个数超出限制")
	}
	if bad := in.problem(); bad != nil {
		return nil, bad
	}
	if o.mchid != m.mchid {
		return nil, errForeignMchid("body", "/combine_mchid")
	}
	if !m.hasAppid(o.appid) {
		return nil, errAppid()
	}
	for _, l := range o.lines {
		payee := p.merchants[l.mchid]
		if payee == nil {
			return nil, errMchid()
		}
		if !payee.hasAppid(o.appid) {
			return nil, errAppid()
		}
	}
	return p.codeURLAnswer(o)
}

func readSubOrder(s *object) *line {
	l := &line{
		mchid:       s.text("mchid", true, 1, 32),
		subMchid:    s.text("sub_mchid", false, 0, 32),
		subAppid:    s.text("sub_appid", false, 0, 32),
		number:      s.match("out_trade_no", outTradeNoPattern),
		description: s.text("description", true, 1, 127),
		attach:      s.text("attach", true, 1, 128),
	}
	amount := s.child("amount", true)
	l.total = amount.fen("total_amount")
	if c := amount.text("currency", true, 1, 16); c != "" && c != "CNY" {
		amount.refuse("currency", "Currency code is invalid", "币种校验失败，仅支持CNY")
	}
	return l
}

// queryCombine is GET /v3/combine-transactions/out-trade-no/{combine_out_trade_no}.
func (p *Platform) queryCombine(m *merchant, number string) (any, *apiError) {
	o, bad := p.ownOrder(m, Combine, number)
	if bad != nil {
		return nil, bad
	}
	return o.combineTransaction(), nil
}

// closeCombine is POST /v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close.
// Its sub-orders must be exactly those of the order: no part of it can be closed.
func (p *Platform) closeCombine(m *merchant, number string, body []byte) *apiError {
	in, bad := parseObject(body)
	if bad != nil {
		return bad
	}
	appid := in.text("combine_appid", true, 1, 32)
	given := map[line]bool{}
	subs := in.list("sub_orders")
	for _, s := range subs {
		given[line{
			mchid:    s.text("mchid", true, 1, 32),
			subMchid: s.text("sub_mchid", false, 0, 32),
			number:   s.text("out_trade_no", true, 1, 32),
		}] = true
	}
	if bad := in.problem(); bad != nil {
		return bad
	}
	o, bad := p.ownOrder(m, Combine, number)
	if bad != nil {
		return bad
	}
	if appid != o.appid {
		return errAppid()
	}
	same := len(subs) == len(o.lines)
	for _, l := range o.lines {
		same = same && given[line{mchid: l.mchid, subMchid: l.subMchid, number: l.number}]
	}
	if !same {
		return paramError("body", "/sub_orders", "differ from the order's sub-orders", "关单的子单个数、子单商户号、子单订单号必须与下单时完全一致")
	}
	return p.closeOrder(m, Combine, number)
}
