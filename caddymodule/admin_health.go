package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/operate"
)

// When an operator should look.
const (
	oldestBound  = 5 * time.Minute  // how long an event may wait for its backend
	keyDaysBound = 14               // days that a platform certificate is still good for
	skewBound    = 30 * time.Second // of this machine's clock
	skewRefused  = 5 * time.Minute  // from here on signatures are refused
	spaceFactor  = 2                // times the floor that should be free
	dayLength    = 24 * time.Hour   // of a certificate's days
)

// healthView says whether the gateway takes callbacks. Reasons tell why it does
// not; warnings tell what an operator should look at while it does.
type healthView struct {
	Healthy   bool                 `json:"healthy"`
	Reasons   []string             `json:"reasons"`
	Warnings  []string             `json:"warnings"`
	Store     string               `json:"store"` // "ok", or why it takes no writes
	Space     *spaceView           `json:"free_space,omitempty"`
	Merchants map[string]string    `json:"merchants"` // "ok", or why it cannot verify or sign
	Keys      map[string][]keyView `json:"keys"`      // what is trusted, by merchant
	Clock     map[string]clockView `json:"clock"`     // by merchant, once WeChat Pay has answered
	Inbox     *inboxCounts         `json:"inbox,omitempty"`
	Paused    []operate.Pause      `json:"paused"`
}

// spaceView is the free space of the store's volume, in bytes.
type spaceView struct {
	Free  int64 `json:"free_bytes"`
	Floor int64 `json:"floor_bytes"` // below it writes are refused
}

// keyView is a key of WeChat Pay's that is trusted.
type keyView struct {
	Serial   string     `json:"serial"`
	Kind     string     `json:"kind"` // public_key or certificate
	NotAfter *time.Time `json:"not_after,omitempty"`
	DaysLeft *int       `json:"days_left,omitempty"` // of a certificate; public keys do not expire
}

// clockView is by how much at least this machine's clock is ahead of WeChat
// Pay's; behind it when negative.
type clockView struct {
	Skew float64   `json:"skew_seconds"`
	At   time.Time `json:"at"`
}

type inboxCounts struct {
	Pending       int64  `json:"pending"`
	Leased        int64  `json:"leased"`
	Parked        int64  `json:"parked"`
	Dead          int64  `json:"dead"`
	OldestPending string `json:"oldest_pending,omitempty"`
}

// volumed is a store that knows how full its volume is.
type volumed interface {
	FreeSpace() (free, floor int64, err error)
}

func adminHealth(w http.ResponseWriter, r *http.Request) error {
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	health := g.health(r.Context(), time.Now())
	status := http.StatusOK
	if !health.Healthy {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, health)
}

// health looks at everything once.
func (g *gateway) health(ctx context.Context, now time.Time) *healthView {
	h := &healthView{
		Reasons: []string{}, Warnings: []string{}, Store: "ok",
		Merchants: make(map[string]string), Keys: make(map[string][]keyView), Clock: make(map[string]clockView),
		Paused: []operate.Pause{},
	}
	if err := g.store.Healthy(ctx); err != nil {
		h.Store = err.Error()
		h.refuse("store: %v", err)
	}
	h.space(g.store.Store)
	for _, name := range sortedKeys(g.app.merchants) {
		h.merchant(name, g.app.merchants[name], now)
	}
	h.inbox(ctx, g, now)
	for _, route := range g.app.routes {
		if g.dispatcher.Down(route.ID) {
			h.warn("route %s: deliveries are held because the backend does not answer", operate.PlaceOf(route.ID))
		}
	}
	if list, err := g.pauses.List(ctx); err != nil {
		h.warn("pauses: %v", err)
	} else if len(list) > 0 {
		h.Paused = list
		for _, p := range list {
			h.warn("route %s: paused by %s since %s: %s", p.Place, p.By, p.At.UTC().Format(time.RFC3339), p.Reason)
		}
	}
	h.Healthy = len(h.Reasons) == 0
	return h
}

// refuse notes why callbacks or calls are refused.
func (h *healthView) refuse(format string, args ...any) {
	h.Reasons = append(h.Reasons, fmt.Sprintf(format, args...))
}

// warn notes what an operator should look at.
func (h *healthView) warn(format string, args ...any) {
	h.Warnings = append(h.Warnings, fmt.Sprintf(format, args...))
}

func (h *healthView) space(store any) {
	v, ok := store.(volumed)
	if !ok {
		return
	}
	free, floor, err := v.FreeSpace()
	if err != nil {
		h.warn("free space: %v", err)
		return
	}
	h.Space = &spaceView{Free: free, Floor: floor}
	if floor > 0 && free >= floor && free < spaceFactor*floor {
		h.warn("free space: %s, and below %s nothing is taken in", humanize.IBytes(uint64(free)), humanize.IBytes(uint64(floor)))
	}
}

func (h *healthView) merchant(name string, m *merchant.Merchant, now time.Time) {
	h.Merchants[name] = "ok"
	if err := m.Ready(); err != nil {
		h.Merchants[name] = err.Error()
		h.refuse("merchant %s: %v", name, err)
	}
	h.keys(name, m.Keys().All(), now)
	skew, at, ok := m.ClockSkew()
	if !ok {
		return
	}
	h.Clock[name] = clockView{Skew: skew.Round(time.Second / 10).Seconds(), At: at.UTC()}
	switch off := skew.Abs(); {
	case off >= skewRefused:
		h.refuse("clock: %s off WeChat Pay's as merchant %s sees it, so signatures are refused; synchronise it", off.Round(time.Second), name)
	case off >= skewBound:
		h.warn("clock: %s off WeChat Pay's as merchant %s sees it; at 5m signatures are refused; synchronise it", off.Round(time.Second), name)
	}
}

// keys shows what a merchant trusts, and warns when only certificates that end
// soon are left.
func (h *healthView) keys(name string, keys []merchant.Key, now time.Time) {
	h.Keys[name] = make([]keyView, 0, len(keys))
	lasting, best := false, 0
	for _, key := range keys {
		v := keyView{Serial: key.Serial, Kind: key.Kind.String()}
		if key.NotAfter.IsZero() {
			lasting = true
		} else {
			end, days := key.NotAfter.UTC(), int(key.NotAfter.Sub(now)/dayLength)
			v.NotAfter, v.DaysLeft = &end, &days
			best = max(best, days)
		}
		h.Keys[name] = append(h.Keys[name], v)
	}
	if len(keys) > 0 && !lasting && best < keyDaysBound {
		h.warn("merchant %s: the newest platform certificate is good for %d days; is it refreshed?", name, best)
	}
}

func (h *healthView) inbox(ctx context.Context, g *gateway, now time.Time) {
	st, err := g.store.Stats(ctx)
	if err != nil {
		h.warn("inbox: %v", err)
		return
	}
	h.Inbox = &inboxCounts{Pending: st.Pending, Leased: st.Leased, Parked: st.Parked, Dead: st.Dead}
	if !st.OldestPending.IsZero() {
		h.Inbox.OldestPending = st.OldestPending.UTC().Format(time.RFC3339)
		if age := now.Sub(st.OldestPending); age > oldestBound {
			h.warn("inbox: the oldest undelivered event waits since %s (%s); is the backend up?",
				h.Inbox.OldestPending, age.Round(time.Second))
		}
	}
	if st.Parked > 0 {
		h.warn("inbox: %d parked; look at them (state parked), then release or dismiss them", st.Parked)
	}
	if st.Dead > 0 {
		h.warn("inbox: %d dead, the backend never took them; mend it, then replay or dismiss them", st.Dead)
	}
}
