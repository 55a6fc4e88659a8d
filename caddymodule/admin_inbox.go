package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify/operate"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

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
	if f.Limit, err = limitOf(q, 0); err != nil {
		return err
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
	view := wholeView{
		notificationView: viewOf(&rec), Appid: rec.Appid, TradeScene: rec.TradeScene, Route: rec.Route,
		Path: rec.Path, Seen: rec.Seen, BodyExpired: rec.BodyExpired,
	}
	switch r.URL.Query().Get("body") {
	case "", "0":
	case "1":
		if rec.BodyExpired {
			break
		}
		if view.Body, err = operate.Mask(rec.Body); err != nil {
			view.BodyError = err.Error()
		}
	default:
		return badRequest("body: 1 to show it, personal data masked")
	}
	return writeJSON(w, http.StatusOK, view)
}

// wholeView is one notification with all that may be shown of it.
type wholeView struct {
	notificationView
	Appid       string          `json:"appid,omitempty"`
	TradeScene  string          `json:"trade_scene,omitempty"`
	Route       string          `json:"route,omitempty"`
	Path        string          `json:"path,omitempty"`
	Seen        int             `json:"seen,omitempty"`
	BodyExpired bool            `json:"body_expired,omitempty"`
	BodyError   string          `json:"body_error,omitempty"`
	Body        json.RawMessage `json:"body,omitempty"`
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
	if err := readBody(r, &why, `{"by": "who decides", "reason": "why"}`); err != nil {
		return err
	}
	if err := why.check(); err != nil {
		return err
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
	g.app.changed(&rec, act)
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
