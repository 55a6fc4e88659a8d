package resource

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

// Prefix is what all paths of this package begin with.
const Prefix = "/gateway/"

// Route is one resource and one method.
type Route struct {
	Method string
	// Pattern is a path such as /gateway/orders/{out_trade_no}: a segment in
	// braces stands for any one, decoded; what [operation.DecodeSegment] refuses
	// is "" to the handler.
	Pattern string
	// Group is what the caller must be allowed; "" leaves it to the handler.
	Group operation.Group
	// Upload takes bodies up to the size of uploads.
	Upload bool
	// NoSubMchid: the resource belongs to no sub-merchant, and callers that are
	// limited to some may use it.
	NoSubMchid bool
	// Once honours Idempotency-Key; the handler calls [Request.Begin] before
	// anything is sent.
	Once   bool
	Handle func(rs *Resources, r *Request) Response
}

// Table is every resource of the gateway.
func Table() []Route { return slices.Clone(table) }

var table []Route

// The table refers to handlers that look into it.
func init() {
	table = []Route{
		{Method: "GET", Pattern: "/gateway/openapi.json", NoSubMchid: true, Handle: (*Resources).describe},
		{Method: "POST", Pattern: "/gateway/checkout", Once: true, Handle: (*Resources).checkout},
		{Method: "GET", Pattern: "/gateway/orders/{out_trade_no}", Group: operation.Query, Handle: (*Resources).showOrder},
		{Method: "PUT", Pattern: "/gateway/orders/{out_trade_no}", Handle: (*Resources).registerOrder},
		{Method: "POST", Pattern: "/gateway/orders/{out_trade_no}/close", Group: operation.Close, Once: true, Handle: (*Resources).closeOrder},
		{Method: "GET", Pattern: "/gateway/orders/{out_trade_no}/qr.png", Handle: (*Resources).qrPNG},
		{Method: "GET", Pattern: "/gateway/orders/{out_trade_no}/qr.svg", Handle: (*Resources).qrSVG},
		{Method: "POST", Pattern: "/gateway/orders/{out_trade_no}/refunds", Group: operation.Refund, Once: true, Handle: (*Resources).refundOrder},
		{Method: "POST", Pattern: "/gateway/refunds", Group: operation.Refund, Once: true, Handle: (*Resources).refund},
		{Method: "GET", Pattern: "/gateway/refunds/{out_refund_no}", Group: operation.Query, Handle: (*Resources).showRefund},
		{Method: "GET", Pattern: "/gateway/bills/trade", Group: operation.Bill, Handle: (*Resources).tradeBill},
		{Method: "GET", Pattern: "/gateway/bills/fundflow", Group: operation.Bill, Handle: (*Resources).fundFlowBill},
		{Method: "GET", Pattern: "/gateway/parking/services", Group: operation.Parking, Handle: (*Resources).plateService},
		{Method: "POST", Pattern: "/gateway/parking/entries", Group: operation.Parking, Once: true, Handle: (*Resources).enterParking},
		{Method: "GET", Pattern: "/gateway/parking/entries/{out_parking_no}", Group: operation.Parking, Handle: (*Resources).showParking},
		{Method: "POST", Pattern: "/gateway/parking/exits", Group: operation.Parking, Handle: (*Resources).exitParking},
		{Method: "GET", Pattern: "/gateway/openid/authorize", Group: operation.OpenID, NoSubMchid: true, Handle: (*Resources).authorize},
		{Method: "POST", Pattern: "/gateway/openid", Group: operation.OpenID, NoSubMchid: true, Handle: (*Resources).exchangeCode},
		{Method: "POST", Pattern: "/gateway/crypto/verify", Group: operation.Crypto, NoSubMchid: true, Handle: (*Resources).verify},
		{Method: "POST", Pattern: "/gateway/crypto/encrypt", Group: operation.Crypto, NoSubMchid: true, Handle: (*Resources).encrypt},
		{Method: "POST", Pattern: "/gateway/crypto/decrypt", Group: operation.Crypto, NoSubMchid: true, Handle: (*Resources).decrypt},
		{Method: "POST", Pattern: "/gateway/crypto/invoke", Group: operation.Crypto, NoSubMchid: true, Handle: (*Resources).invoke},
		{Method: "POST", Pattern: "/gateway/media/images", Group: operation.Media, Upload: true, NoSubMchid: true, Handle: (*Resources).uploadImage},
		{Method: "POST", Pattern: "/gateway/media/videos", Group: operation.Media, Upload: true, NoSubMchid: true, Handle: (*Resources).uploadVideo},
	}
}

// Match is the route of a request.
type Match struct {
	*Route
	// Allow lists the methods that the path takes; empty: there is no such path.
	Allow  []string
	params map[string]string
}

// Param returns the decoded value of a part of the path, "" when there is none.
func (m Match) Param(name string) string { return m.params[name] }

// Find returns the route of a method and an escaped path; Route is nil when there
// is none.
func Find(method, path string) Match {
	var m Match
	for i := range table {
		params, ok := table[i].match(path)
		if !ok {
			continue
		}
		m.Allow = append(m.Allow, table[i].Method)
		if table[i].Method == method {
			m.Route, m.params = &table[i], params
		}
	}
	slices.Sort(m.Allow)
	return m
}

// match takes a path apart. Literal segments are compared byte for byte.
func (t *Route) match(path string) (params map[string]string, ok bool) {
	pattern, segments := strings.Split(t.Pattern, "/"), strings.Split(path, "/")
	if len(pattern) != len(segments) {
		return nil, false
	}
	for i, want := range pattern {
		if !strings.HasPrefix(want, "{") {
			if want != segments[i] {
				return nil, false
			}
			continue
		}
		value, ok := operation.DecodeSegment(segments[i])
		if !ok {
			value = ""
		}
		if params == nil {
			params = map[string]string{}
		}
		params[strings.Trim(want, "{}")] = value
	}
	return params, true
}

// Serve answers one request.
func (rs *Resources) Serve(m Match, r *Request) Response {
	switch {
	case len(m.Allow) == 0:
		return refuse(http.StatusNotFound, codeNotFound, RulePath, "there is no such resource; GET /gateway/openapi.json lists all")
	case m.Route == nil:
		allow := strings.Join(m.Allow, ", ")
		refused := refuse(http.StatusMethodNotAllowed, codeParam, RuleMethod, "the resource takes "+allow)
		refused.Header.Set("Allow", allow)
		return refused
	case m.Group != "" && !r.Core.Allows(m.Group):
		return notAllowed(m.Group)
	}
	r.params, r.resources, r.route = m.params, rs, m.Route
	if m.Once {
		return rs.once(m.Route, r)
	}
	return m.Handle(rs, r)
}
