package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

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
//   - `GET /wechatpay/inbox/{id}` one of them; with `?body=1` its body, too, in
//     which personal data is masked;
//   - `POST /wechatpay/inbox/{id}/release`, `…/dismiss`, `…/replay` with
//     `{"by": "who", "reason": "why"}`;
//   - `POST /wechatpay/replay` a range of time, with `from`, `to`, and optionally
//     `merchant`, `kind`, `state` and `dry_run`;
//   - `GET /wechatpay/routes` where deliveries go to, and which are held;
//   - `POST /wechatpay/pause` and `/wechatpay/resume` with `route`;
//   - `GET /wechatpay/orders/{mchid}/{number}` what the ledger knows of an order;
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
		{Pattern: "POST /wechatpay/replay", Handler: caddy.AdminHandlerFunc(adminReplay)},
		{Pattern: "GET /wechatpay/routes", Handler: caddy.AdminHandlerFunc(adminRoutes)},
		{Pattern: "POST /wechatpay/pause", Handler: caddy.AdminHandlerFunc(adminPause)},
		{Pattern: "POST /wechatpay/resume", Handler: caddy.AdminHandlerFunc(adminResume)},
		{Pattern: "GET /wechatpay/orders/{mchid}/{number}", Handler: caddy.AdminHandlerFunc(adminOrder)},
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

func adminAudit(w http.ResponseWriter, r *http.Request) error {
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	q := r.URL.Query()
	var after uint64
	if text := q.Get("after"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return badRequest("after: the seq of an entry")
		}
	}
	limit, err := limitOf(q, maxPage)
	if err != nil {
		return err
	}
	entries, err := g.store.AuditLog(r.Context(), after, limit)
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

// maxPage is how many entries of a list one answer holds at most.
const maxPage = 1000

// limitOf reads a list's limit.
func limitOf(q url.Values, otherwise int) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return otherwise, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, badRequest(fmt.Sprintf("limit: a number from 1 to %d", maxPage))
	}
	return limit, nil
}

// decision is a name and a reason, kept in the audit log.
type decision struct {
	By     string `json:"by"`
	Reason string `json:"reason"`
}

// check returns what is wrong with it.
func (d decision) check() error {
	if strings.TrimSpace(d.By) == "" || strings.TrimSpace(d.Reason) == "" || len(d.By) > 200 || len(d.Reason) > 2000 {
		return badRequest("by and reason: both are wanted, up to 200 and 2000 bytes")
	}
	return nil
}

// readBody decodes a request's JSON; wanted says what it should be.
func readBody(r *http.Request, into any, wanted string) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return badRequest("body: " + wanted + " is wanted")
	}
	return nil
}

func badRequest(text string) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New(text)}
}

// storeError gives a store's refusal its status.
func storeError(err error) error {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, storage.ErrCursor):
		return badRequest("after: not what a page before said")
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
