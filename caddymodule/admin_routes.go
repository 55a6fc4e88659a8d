package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/operate"
)

// routeView is a place that deliveries go to.
type routeView struct {
	Route     string         `json:"route"`    // what pause and resume name
	Merchant  string         `json:"merchant"` // "*": every merchant
	Ack       string         `json:"ack"`
	Upstreams []string       `json:"upstreams,omitempty"`
	Held      bool           `json:"held"` // nothing is sent: it, or one that it came in place of, is paused
	Down      bool           `json:"down"` // nothing is sent: the backend does not answer
	Paused    *operate.Pause `json:"paused,omitempty"`
}

// routesView lists them, and the pauses of routes that are not configured.
type routesView struct {
	Routes []routeView     `json:"routes"`
	Gone   []operate.Pause `json:"gone"`
}

func adminRoutes(w http.ResponseWriter, r *http.Request) error {
	_, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	pauses, err := g.pauses.List(r.Context())
	if err != nil {
		return storeError(err)
	}
	view := routesView{Routes: []routeView{}, Gone: []operate.Pause{}}
	for _, route := range g.app.routes {
		view.Routes = append(view.Routes, g.routeView(r, route, pauses))
	}
	for _, p := range pauses {
		if !slices.Contains(g.places, p.Place) {
			view.Gone = append(view.Gone, p)
		}
	}
	return writeJSON(w, http.StatusOK, view)
}

func (g *gateway) routeView(r *http.Request, route *notify.Route, pauses []operate.Pause) routeView {
	v := routeView{
		Route: operate.PlaceOf(route.ID), Merchant: route.Merchant, Ack: string(route.Ack),
		Held: g.paused(route.ID), Down: g.dispatcher.Down(route.ID),
	}
	if v.Merchant == "" {
		v.Merchant = "*"
	}
	if d, ok := route.Deliverer.(*routeDeliverer); ok {
		v.Upstreams = d.upstreams
	}
	for _, p := range pauses {
		if p.Place == v.Route {
			v.Paused = &p
		}
	}
	return v
}

// paused reports whether operators hold the queue.
func (g *gateway) paused(queue string) bool {
	return g.pauses.Holds(g.ctx, queue, g.places)
}

// pauseRequest is the body of pause and resume.
type pauseRequest struct {
	Route string `json:"route"`
	decision
}

func adminPause(w http.ResponseWriter, r *http.Request) error  { return adminHold(w, r, true) }
func adminResume(w http.ResponseWriter, r *http.Request) error { return adminHold(w, r, false) }

// adminHold pauses or resumes one route.
func adminHold(w http.ResponseWriter, r *http.Request, pause bool) error {
	var req pauseRequest
	if err := readBody(r, &req, `{"route": "as GET /wechatpay/routes names it", "by": "who", "reason": "why"}`); err != nil {
		return err
	}
	if err := req.check(); err != nil {
		return err
	}
	app, g, err := runningApp()
	if err != nil {
		return err
	}
	defer g.use()()
	pauses, err := g.pauses.List(r.Context())
	if err != nil {
		return storeError(err)
	}
	candidates := slices.Clone(g.places)
	if !pause { // the route of an old pause may be gone
		for _, p := range pauses {
			candidates = append(candidates, p.Place)
		}
	}
	place, err := placeNamed(req.Route, candidates)
	if err != nil {
		return err
	}
	act := operate.ActPause
	if pause {
		err = g.pauses.Pause(r.Context(), operate.Pause{Place: place, By: req.By, Reason: req.Reason})
	} else {
		act = operate.ActResume
		err = g.pauses.Resume(r.Context(), place, req.By, req.Reason)
	}
	switch {
	case errors.Is(err, operate.ErrPaused):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("route " + place + " is paused already")}
	case errors.Is(err, operate.ErrNotPaused):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("route " + place + " is not paused")}
	case err != nil:
		return storeError(err)
	}
	g.dispatcher.Wake()
	app.log.Warn("deliveries", zap.String("act", act), zap.String("route", place), zap.String("by", req.By))
	return adminRoutes(w, r)
}

// placeNamed finds the place that an operator means: named in full, by its
// merchant or by its beginning, when that fits one only.
func placeNamed(name string, places []string) (string, error) {
	places = slices.Compact(slices.Sorted(slices.Values(places)))
	name = operate.PlaceOf(strings.TrimSpace(name))
	if name == "" {
		return "", badRequest("route: which? There is " + strings.Join(places, ", "))
	}
	if slices.Contains(places, name) {
		return name, nil
	}
	var fits []string
	for _, place := range places {
		if strings.HasPrefix(place, name+"/") || strings.Contains(name, "/") && strings.HasPrefix(place, name) {
			fits = append(fits, place)
		}
	}
	switch len(fits) {
	case 1:
		return fits[0], nil
	case 0:
		return "", caddy.APIError{
			HTTPStatus: http.StatusNotFound,
			Err:        errors.New("no route " + name + "; there is " + strings.Join(places, ", ")),
		}
	default:
		return "", badRequest("route " + name + ": several fit: " + strings.Join(fits, ", "))
	}
}

// upstreamsOf lists where the routes of a deliver block lead, for people: what
// reverse_proxy handlers dial. It reads the configuration before it is
// provisioned.
func upstreamsOf(routes any) []string {
	text, err := json.Marshal(routes)
	if err != nil {
		return nil
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil
	}
	var list []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if dial, ok := v["dial"].(string); ok && !slices.Contains(list, dial) {
				list = append(list, dial)
			}
			for _, name := range sortedKeys(v) {
				walk(v[name])
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(v)
	return list
}
