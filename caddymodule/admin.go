package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func init() {
	caddy.RegisterModule(AdminAPI{})
}

// AdminAPI shows operators what the gateway holds and lets them decide about
// it, under `/wechatpay/` of Caddy's admin endpoint:
//
//   - `GET /wechatpay/health` whether the gateway takes callbacks, and why not;
//   - `GET /wechatpay/inbox` notifications, newest first, by `merchant`,
//     `state`, `kind`, `out_trade_no`, `limit` and `after`;
//   - `GET /wechatpay/inbox/{id}` one of them, without its body;
//   - `POST /wechatpay/inbox/{id}/release`, `…/dismiss`, `…/replay` with
//     `{"by": "who", "reason": "why"}`;
//   - `GET /wechatpay/audit` the decisions so far.
//
// Caddy makes admin routers before any app and keeps them after a failed
// reload, so this one holds nothing: it asks for the running app each time.
type AdminAPI struct{}

// CaddyModule returns the Caddy module information.
func (AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.wechatpay",
		New: func() caddy.Module { return new(AdminAPI) },
	}
}

// Routes returns the routes under /wechatpay/.
func (AdminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "GET /wechatpay/health", Handler: caddy.AdminHandlerFunc(adminHealth)},
		{Pattern: "GET /wechatpay/inbox", Handler: caddy.AdminHandlerFunc(adminInbox)},
		{Pattern: "GET /wechatpay/inbox/{id}", Handler: caddy.AdminHandlerFunc(adminNotification)},
		{Pattern: "POST /wechatpay/inbox/{id}/{act}", Handler: caddy.AdminHandlerFunc(adminDecide)},
		{Pattern: "GET /wechatpay/audit", Handler: caddy.AdminHandlerFunc(adminAudit)},
	}
}

// runningApp finds the app of the configuration that is live now.
func runningApp() (*App, *gateway, error) {
	mod, err := caddy.ActiveContext().AppIfConfigured("wechatpay")
	if err != nil {
		return nil, nil, caddy.APIError{
			HTTPStatus: http.StatusNotFound,
			Err:        errors.New("the running configuration has no wechatpay app"),
		}
	}
	app := mod.(*App)
	g := app.gateway()
	if g == nil {
		return nil, nil, caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: errNotReady}
	}
	return app, g, nil
}

func adminHealth(w http.ResponseWriter, r *http.Request) error {
	app, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	health := struct {
		Healthy   bool              `json:"healthy"`
		Store     string            `json:"store"`
		Merchants map[string]string `json:"merchants"`
		Inbox     *inboxCounts      `json:"inbox,omitempty"`
	}{Healthy: true, Store: "ok", Merchants: make(map[string]string)}
	if err := g.store.Healthy(r.Context()); err != nil {
		health.Healthy, health.Store = false, err.Error()
	}
	for name, m := range app.merchants {
		health.Merchants[name] = "ok"
		if err := m.Ready(); err != nil {
			health.Healthy, health.Merchants[name] = false, err.Error()
		}
	}
	if st, err := g.store.Stats(r.Context()); err == nil {
		health.Inbox = &inboxCounts{Pending: st.Pending, Leased: st.Leased, Parked: st.Parked, Dead: st.Dead}
		if !st.OldestPending.IsZero() {
			health.Inbox.OldestPending = st.OldestPending.UTC().Format(time.RFC3339)
		}
	}
	status := http.StatusOK
	if !health.Healthy {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, health)
}

type inboxCounts struct {
	Pending       int64  `json:"pending"`
	Leased        int64  `json:"leased"`
	Parked        int64  `json:"parked"`
	Dead          int64  `json:"dead"`
	OldestPending string `json:"oldest_pending,omitempty"`
}

// notificationView is what the admin API shows of a notification: numbers and
// states, never the body, which may hold personal data.
type notificationView struct {
	ID             string     `json:"id"`
	Merchant       string     `json:"merchant"`
	Mchid          string     `json:"mchid,omitempty"`
	SubMchid       string     `json:"sub_mchid,omitempty"`
	NotificationID string     `json:"notification_id,omitempty"`
	EventType      string     `json:"event_type"`
	Kind           string     `json:"kind"`
	OutTradeNo     string     `json:"out_trade_no,omitempty"`
	OutRefundNo    string     `json:"out_refund_no,omitempty"`
	TransactionID  string     `json:"transaction_id,omitempty"`
	ParkingID      string     `json:"parking_id,omitempty"`
	Source         string     `json:"source"`
	AmountCheck    string     `json:"amount_check"`
	State          string     `json:"state"`
	ParkReason     string     `json:"park_reason,omitempty"`
	ParkDetail     string     `json:"park_detail,omitempty"`
	ReceivedAt     time.Time  `json:"received_at"`
	Attempts       int        `json:"attempts"`
	NextDue        *time.Time `json:"next_due,omitempty"`
	LastError      string     `json:"last_error,omitempty"`
	LastStatus     int        `json:"last_status,omitempty"`
	DeliveredAt    *time.Time `json:"delivered_at,omitempty"`
}

func viewOf(r *storage.Record) notificationView {
	v := notificationView{
		ID: r.ID, Merchant: r.Merchant, Mchid: r.Mchid, SubMchid: r.SubMchid,
		NotificationID: r.NotificationID, EventType: r.EventType, Kind: r.Kind,
		OutTradeNo: r.OutTradeNo, OutRefundNo: r.OutRefundNo, TransactionID: r.TransactionID,
		ParkingID: r.ParkingID, Source: string(r.Source), AmountCheck: string(r.AmountCheck),
		State: string(r.State), ParkReason: string(r.ParkReason), ParkDetail: r.ParkDetail,
		ReceivedAt: r.ReceivedAt.UTC(), Attempts: r.Attempts,
		LastError: r.LastError, LastStatus: r.LastStatus,
	}
	if r.State == storage.StatePending && !r.NextDue.IsZero() {
		due := r.NextDue.UTC()
		v.NextDue = &due
	}
	if !r.DeliveredAt.IsZero() {
		at := r.DeliveredAt.UTC()
		v.DeliveredAt = &at
	}
	return v
}

func adminInbox(w http.ResponseWriter, r *http.Request) error {
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	q := r.URL.Query()
	f := storage.Filter{
		Merchant: q.Get("merchant"), State: storage.State(q.Get("state")), Kind: q.Get("kind"),
		OutTradeNo: q.Get("out_trade_no"), After: q.Get("after"),
	}
	if text := q.Get("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 || f.Limit > 1000 {
			return badRequest("limit: a number from 1 to 1000")
		}
	}
	switch f.State {
	case "", storage.StatePending, storage.StateDelivered, storage.StateDead, storage.StateParked,
		storage.StateDismissed, storage.StateSuperseded:
	default:
		return badRequest("state: pending, delivered, dead, parked, dismissed or superseded")
	}
	page, err := g.store.Notifications(r.Context(), f)
	if err != nil {
		return storeError(err)
	}
	list := struct {
		Notifications []notificationView `json:"notifications"`
		After         string             `json:"after,omitempty"`
	}{Notifications: make([]notificationView, 0, len(page.Records)), After: page.Cursor}
	for i := range page.Records {
		list.Notifications = append(list.Notifications, viewOf(&page.Records[i]))
	}
	return writeJSON(w, http.StatusOK, list)
}

func adminNotification(w http.ResponseWriter, r *http.Request) error {
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	rec, err := g.store.Notification(r.Context(), r.PathValue("id"))
	if err != nil {
		return storeError(err)
	}
	return writeJSON(w, http.StatusOK, viewOf(&rec))
}

// decision is the body of an act: a name and a reason, kept in the audit log.
type decision struct {
	By     string `json:"by"`
	Reason string `json:"reason"`
}

func adminDecide(w http.ResponseWriter, r *http.Request) error {
	act := storage.Act(r.PathValue("act"))
	switch act {
	case storage.ActRelease, storage.ActDismiss, storage.ActReplay:
	default:
		return caddy.APIError{
			HTTPStatus: http.StatusNotFound,
			Err:        fmt.Errorf("no act %q; there is release, dismiss and replay", act),
		}
	}
	var why decision
	dec := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&why); err != nil {
		return badRequest(`body: {"by": "who decides", "reason": "why"} is wanted`)
	}
	if strings.TrimSpace(why.By) == "" || strings.TrimSpace(why.Reason) == "" || len(why.By) > 200 || len(why.Reason) > 2000 {
		return badRequest("by and reason: both are wanted, up to 200 and 2000 bytes")
	}
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	rec, err := g.store.Decide(r.Context(), storage.Decision{
		ID: r.PathValue("id"), Act: act, By: why.By, Reason: why.Reason,
		At: time.Now(), AmountCheck: storage.AmountOverridden,
	})
	if errors.Is(err, storage.ErrState) {
		err = fmt.Errorf("cannot %s: it is %s: %w", act, g.stateOf(r.Context(), r.PathValue("id")), err)
	}
	if err != nil {
		return storeError(err)
	}
	g.app.observer.Changed(notify.Change{
		Merchant: rec.Merchant, ID: rec.ID, Kind: rec.Kind, EventType: rec.EventType,
		State: rec.State, Reason: string(act), Attempt: rec.Attempts,
	})
	return writeJSON(w, http.StatusOK, viewOf(&rec))
}

// stateOf tells the state of a notification for a message.
func (g *gateway) stateOf(ctx context.Context, id string) string {
	rec, err := g.store.Notification(ctx, id)
	if err != nil {
		return "not readable"
	}
	if rec.ParkReason != "" {
		return string(rec.State) + " (" + string(rec.ParkReason) + ")"
	}
	return string(rec.State)
}

func adminAudit(w http.ResponseWriter, r *http.Request) error {
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	var after uint64
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return badRequest("after: the seq of an entry")
		}
	}
	entries, err := g.store.AuditLog(r.Context(), after, 1000)
	if err != nil {
		return storeError(err)
	}
	if entries == nil {
		entries = []storage.AuditEntry{}
	}
	return writeJSON(w, http.StatusOK, struct {
		Entries []storage.AuditEntry `json:"entries"`
	}{entries})
}

func badRequest(text string) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New(text)}
}

// storeError gives a store's refusal its status.
func storeError(err error) error {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, storage.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, storage.ErrState):
		status = http.StatusConflict
	case errors.Is(err, storage.ErrClosed), errors.Is(err, storage.ErrDiskFloor):
		status = http.StatusServiceUnavailable
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

var _ caddy.AdminRouter = AdminAPI{}
