package sandbox

import "time"

// The paces of refunds that WeChat Pay's page names; Options.RefundPace turns them on.
const (
	refusalsPerSecond = 6           // refused applications of one mchid
	refundInterval    = time.Minute // between two refunds of one order
	oldOrder          = 30 * 24 * time.Hour
	oldPerMinute      = 5000 // refunds of orders older than oldOrder, of one mchid
)

// pace remembers when a merchant did what is limited.
type pace struct {
	refusals, old []time.Time
}

// recent drops what is older than the window and returns the rest.
func recent(times []time.Time, now time.Time, window time.Duration) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) >= window {
		times = times[1:]
	}
	return times
}

// refundGate refuses who was refused too often in this second.
func (p *Platform) refundGate(m *merchant) *apiError {
	if !p.pacing {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.pace.refusals = recent(m.pace.refusals, p.now(), time.Second)
	if len(m.pace.refusals) >= refusalsPerSecond {
		return errFrequency()
	}
	return nil
}

func (p *Platform) countRefusal(m *merchant) {
	if !p.pacing {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.pace.refusals = append(m.pace.refusals, p.now())
}

// paceLocked refuses a refund that comes too soon after another. p.mu is held.
func (p *Platform) paceLocked(o *order, l *line, now time.Time) *apiError {
	if !p.pacing {
		return nil
	}
	for _, r := range o.refunds {
		if r.line == l && now.Sub(r.created) < refundInterval/p.scale {
			return errFrequency()
		}
	}
	if now.Sub(o.paidAt) < oldOrder {
		return nil
	}
	m := p.merchants[l.mchid]
	m.pace.old = recent(m.pace.old, now, time.Minute)
	if len(m.pace.old) >= oldPerMinute {
		return errFrequency()
	}
	m.pace.old = append(m.pace.old, now)
	return nil
}
