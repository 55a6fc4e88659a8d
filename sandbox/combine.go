package sandbox

import "strconv"

// createCombine is POST /v3/combine-transactions/{native,jsapi,app,h5}
// (https://pay.weixin.qq.com/doc/v3/merchant/4012556982 and its neighbours).
func createCombine(trade tradeType) operation {
	return func(p *Platform, c *call) (any, *apiError) {
		in, bad := p.parse(c)
		if bad != nil {
			return nil, bad
		}
		o := &order{kind: Combine, trade: trade}
		o.appid = in.text("combine_appid", true, 1, 32)
		o.mchid = in.text("combine_mchid", true, 1, 32)
		o.number = in.match("combine_out_trade_no", combineNoPattern)
		o.readCommon(in)
		readTime(in, "time_start")
		payer := in.child("combine_payer_info", trade == tradeJSAPI)
		o.payer.openid = payer.text("openid", trade == tradeJSAPI, 1, 128)
		o.fingerprint = fingerprint(c.body, readIdentity(payer)...)
		subs := in.list("sub_orders")
		for _, s := range subs {
			o.lines = append(o.lines, readSubOrder(s, c.m))
		}
		// A direct merchant combines 2 to 10 sub-orders, a service provider 1 to 50.
		min, max := 2, 10
		if c.m.provider {
			min, max = 1, 50
		}
		if in.problem() == nil && (len(subs) < min || len(subs) > max) {
			in.refuse("sub_orders", "want "+strconv.Itoa(min)+" to "+strconv.Itoa(max)+" sub-orders", "子单个数超出限制")
		}
		if bad := in.problem(); bad != nil {
			return nil, bad
		}
		if o.mchid != c.m.mchid {
			return nil, errForeignMchid("body", "/combine_mchid")
		}
		if !c.m.hasAppid(o.appid) {
			return nil, errAppid()
		}
		if bad := p.checkPayees(o); bad != nil {
			return nil, bad
		}
		return p.place(o)
	}
}

// checkPayees checks that every sub-order's mchid is bound to the appid, and
// may act for the sub_mchid it names.
func (p *Platform) checkPayees(o *order) *apiError {
	for _, l := range o.lines {
		payee := p.merchants[l.mchid]
		if payee == nil {
			return errMchid()
		}
		if !payee.hasAppid(o.appid) {
			return errAppid()
		}
		if l.subMchid == "" {
			continue
		}
		if bad := payee.mayActFor(l.subMchid); bad != nil {
			return bad
		}
	}
	return nil
}

// readSubOrder reads a sub-order. A service provider's names its sub_mchid, a
// direct merchant's has none.
func readSubOrder(s *object, m *merchant) *line {
	l := &line{
		mchid:       s.text("mchid", true, 1, 32),
		subMchid:    s.text("sub_mchid", m.provider, 0, 32),
		subAppid:    s.text("sub_appid", false, 0, 32),
		number:      s.match("out_trade_no", outTradeNoPattern),
		description: s.text("description", true, 1, 127),
		attach:      s.text("attach", true, 1, 128),
	}
	if m.provider && l.subMchid == "" {
		s.refuse("sub_mchid", "required of a service provider", "必填性规则校验失败，服务商须填写此字段")
	}
	if !m.provider && l.subMchid != "" {
		s.refuse("sub_mchid", "only for service providers", "直连商户不支持此字段")
	}
	amount := s.child("amount", true)
	l.total = amount.fen("total_amount")
	amount.currency("currency", true)
	return l
}

// queryCombine is GET /v3/combine-transactions/out-trade-no/{combine_out_trade_no}.
func queryCombine(p *Platform, c *call) (any, *apiError) {
	o, bad := p.ownOrder(c.m, Combine, c.args[0], "")
	if bad != nil {
		return nil, bad
	}
	return o.combineTransaction(), nil
}

// closeCombine is POST /v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close.
// Its sub-orders must be exactly those of the order: no part of it can be closed.
func closeCombine(p *Platform, c *call) (any, *apiError) {
	in, bad := p.parse(c)
	if bad != nil {
		return nil, bad
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
		return nil, bad
	}
	o, bad := p.ownOrder(c.m, Combine, c.args[0], "")
	if bad != nil {
		return nil, bad
	}
	if appid != o.appid {
		return nil, errAppid()
	}
	same := len(subs) == len(o.lines)
	for _, l := range o.lines {
		same = same && given[line{mchid: l.mchid, subMchid: l.subMchid, number: l.number}]
	}
	if !same {
		return nil, paramError("body", "/sub_orders", "differ from the order's sub-orders", "关单的子单个数、子单商户号、子单订单号必须与下单时完全一致")
	}
	return nil, p.closeOrder(c.m, Combine, c.args[0], "")
}
