package sandbox

import "strings"

// byLinkLocked finds an order by what to pay with; ok says that ref is such a thing.
func (p *Platform) byLinkLocked(ref string) (o *order, ok bool) {
	if pr, ok := strings.CutPrefix(ref, codeURLPrefix); ok {
		return p.byPR[pr], true
	}
	if h5, ok := strings.CutPrefix(ref, h5URLPrefix); ok {
		ref, _, _ = strings.Cut(h5, "&")
		return p.byPrepay[ref], true
	}
	o, ok = p.byPrepay[ref]
	return o, ok
}

// place records a new order, or finds that it was placed before. The answer is
// what to pay with.
func (p *Platform) place(o *order) (any, *apiError) {
	pr, prepayID := p.randomText(9), "wx"+p.now().In(beijing).Format("20060102150405")+p.randomFrom("0123456789abcdef", 20)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if bad := p.checkPayerLocked(o); bad != nil {
		return nil, bad
	}
	if old := p.numbers[numberKey{o.mchid, o.number}]; old != nil {
		old.settle(now)
		switch {
		case old.kind != o.kind || old.trade != o.trade || old.number != o.number || old.mchid != o.mchid || old.fingerprint != o.fingerprint:
			return nil, errNumberUsed()
		case old.state == Success:
			return nil, errOrderPaid()
		case old.state == Closed:
			return nil, errOrderClosed()
		}
		if now.Sub(old.prIssued) >= old.payLife() {
			p.issueLocked(old, pr, prepayID)
		}
		return old.prepay(), nil
	}
	if len(p.orders) >= maxOrders {
		return nil, errSystem()
	}
	keys := map[numberKey]bool{{o.mchid, o.number}: true}
	if o.kind == Combine {
		for _, l := range o.lines {
			k := numberKey{l.mchid, l.number}
			if p.numbers[k] != nil || keys[k] {
				return nil, errNumberUsed()
			}
			keys[k] = true
		}
	}
	o.created, o.state = now, NotPay
	for k := range keys {
		p.numbers[k] = o
	}
	p.issueLocked(o, pr, prepayID)
	p.orders = append(p.orders, o)
	return o.prepay(), nil
}

// issueLocked gives o something new to pay with; the old is gone. p.mu is held.
func (p *Platform) issueLocked(o *order, pr, prepayID string) {
	delete(p.byPR, o.pr)
	delete(p.byPrepay, o.prepayID)
	o.pr, o.prepayID, o.prIssued = pr, prepayID, p.now()
	p.byPR[pr], p.byPrepay[prepayID] = o, o
}

// ownOrder returns an order placed by m under exactly this number, as a copy;
// a partner order only for its sub_mchid.
func (p *Platform) ownOrder(m *merchant, kind Kind, number, subMchid string) (order, *apiError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, bad := p.ownLocked(m, kind, number, subMchid)
	if bad != nil {
		return order{}, bad
	}
	return o.copyLocked(), nil
}

func (p *Platform) ownLocked(m *merchant, kind Kind, number, subMchid string) (*order, *apiError) {
	o := p.numbers[numberKey{m.mchid, number}]
	if o == nil || o.kind != kind || o.mchid != m.mchid || o.number != number ||
		kind == Partner && o.lines[0].subMchid != subMchid {
		return nil, errNoOrder()
	}
	o.settle(p.now())
	return o, nil
}

// orderByTransaction is ownOrder by transaction_id.
func (p *Platform) orderByTransaction(m *merchant, kind Kind, id, subMchid string) (order, *apiError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.byTx[id]
	if o == nil {
		return order{}, errNoOrder()
	}
	o, bad := p.ownLocked(m, kind, o.number, subMchid)
	if bad != nil || o.lines[0].transactionID != id {
		return order{}, errNoOrder()
	}
	return o.copyLocked(), nil
}

func (o *order) copyLocked() order {
	c := *o
	c.lines = make([]*line, len(o.lines))
	for i, l := range o.lines {
		l := *l
		c.lines[i] = &l
	}
	return c
}

// closeOrder closes an unpaid order.
func (p *Platform) closeOrder(m *merchant, kind Kind, number, subMchid string) *apiError {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, bad := p.ownLocked(m, kind, number, subMchid)
	if bad != nil {
		return bad
	}
	switch o.state {
	case Success:
		return errOrderPaid()
	case Closed:
		return errOrderClosed()
	case Refunded, Accepted, PayFail: // of queries, and of parking orders
	case NotPay:
		o.state = Closed
	}
	return nil
}
