package sandbox

import (
	"net/http"
	"net/url"
	"strings"
)

// call is one API call whose signature is right.
type call struct {
	m      *merchant
	r      *http.Request
	serial string     // Wechatpay-Serial: the key the caller encrypts with
	query  url.Values // of the URL
	body   []byte     // what was signed: the body, or an upload's meta
	args   []string   // the parts of the path that vary
	file   *upload    // of an upload
}

// operation carries out one call. A nil answer without an error is 204.
type operation func(*Platform, *call) (any, *apiError)

type route struct {
	method  string
	pattern []string // of the path after /v3/; a star is any one part
	do      operation
}

var routes = makeRoutes()

func makeRoutes() []route {
	var all []route
	add := func(method, pattern string, do operation) {
		all = append(all, route{method, strings.Split(pattern, "/"), do})
	}
	add("GET", "certificates", listCertificates)
	for path := range uploads {
		add("POST", strings.TrimPrefix(path, "/v3/"), acceptUpload)
	}
	for name, trade := range map[string]tradeType{"native": tradeNative, "jsapi": tradeJSAPI, "app": tradeApp, "h5": tradeH5} {
		add("POST", "pay/transactions/"+name, createBasic(trade))
		add("POST", "pay/partner/transactions/"+name, createPartner(trade))
		add("POST", "combine-transactions/"+name, createCombine(trade))
	}
	add("GET", "pay/transactions/out-trade-no/*", queryBasic)
	add("GET", "pay/transactions/id/*", queryTransaction)
	add("POST", "pay/transactions/out-trade-no/*/close", closeBasic)
	add("GET", "pay/partner/transactions/out-trade-no/*", queryPartner)
	add("GET", "pay/partner/transactions/id/*", queryPartnerTransaction)
	add("POST", "pay/partner/transactions/out-trade-no/*/close", closePartner)
	add("GET", "combine-transactions/out-trade-no/*", queryCombine)
	add("POST", "combine-transactions/out-trade-no/*/close", closeCombine)
	add("POST", "refund/domestic/refunds", applyRefund)
	add("GET", "refund/domestic/refunds/*", queryRefund)
	add("POST", "refund/domestic/refunds/*/apply-abnormal-refund", applyAbnormalRefund)
	add("POST", "ecommerce/refunds/apply", applyEcommerceRefund)
	add("GET", "ecommerce/refunds/id/*", queryRefundID)
	add("GET", "ecommerce/refunds/out-refund-no/*", queryRefund)
	add("POST", "ecommerce/refunds/*/apply-abnormal-refund", applyAbnormalRefund)
	add("GET", "vehicle/parking/services/find", queryPlateService)
	add("POST", "vehicle/parking/parkings", createParking)
	add("POST", "vehicle/transactions/parking", chargeParking)
	add("GET", "vehicle/transactions/out-trade-no/*", queryCharge)
	add("POST", "security/echo", echo)
	add("GET", "bill/tradebill", tradeBill)
	add("GET", "bill/fundflowbill", fundFlowBill)
	add("GET", "billdownload/file", downloadBill)
	return all
}

// match returns the variable parts when path has the pattern's shape.
func (r route) match(path []string) (args []string, ok bool) {
	if len(path) != len(r.pattern) {
		return nil, false
	}
	for i, want := range r.pattern {
		switch want {
		case "*":
			args = append(args, path[i])
		case path[i]:
		default:
			return nil, false
		}
	}
	return args, true
}

// dispatch finds the operation and carries it out.
func (p *Platform) dispatch(c *call) (any, *apiError) {
	path, ok := segments(c.r.URL.EscapedPath())
	if !ok {
		return nil, errResource()
	}
	known := false
	for _, r := range routes {
		args, ok := r.match(path)
		if !ok {
			continue
		}
		if r.method == c.r.Method {
			c.args = args
			return r.do(p, c)
		}
		known = true
	}
	if known {
		return nil, errMethod()
	}
	return nil, errResource()
}

// segments splits the path after /v3/ and undoes its escapes part by part, so
// that an escaped slash never adds a part.
func segments(escaped string) ([]string, bool) {
	rest, ok := strings.CutPrefix(escaped, "/v3/")
	if !ok {
		return nil, false
	}
	parts := strings.Split(rest, "/")
	for i, s := range parts {
		plain, err := url.PathUnescape(s)
		if err != nil || plain == "" {
			return nil, false
		}
		parts[i] = plain
	}
	return parts, true
}

// parse reads the body as a JSON object whose encrypted fields this call's
// Wechatpay-Serial opens.
func (p *Platform) parse(c *call) (*object, *apiError) {
	in, bad := parseObject(c.body)
	if bad == nil {
		in.doc.open = func(text string) (string, *apiError) { return p.openField(c.serial, text) }
	}
	return in, bad
}

// wantMchid checks that the query names the mchid that signed, once.
func (c *call) wantMchid(name string) *apiError {
	given, bad := c.one(name)
	if bad == nil && given != c.m.mchid {
		bad = errForeignMchid("query", "/"+name)
	}
	return bad
}

// wantPartner checks the query's sp_mchid and returns its sub_mchid.
func (c *call) wantPartner() (string, *apiError) {
	if bad := c.wantMchid("sp_mchid"); bad != nil {
		return "", bad
	}
	sub, bad := c.one("sub_mchid")
	if bad != nil {
		return "", bad
	}
	return sub, c.m.mayActFor(sub)
}

// one returns a required parameter of the query.
func (c *call) one(name string) (string, *apiError) {
	given := c.query[name]
	if len(given) != 1 || given[0] == "" {
		return "", paramError("query", "/"+name, "required once", "输入源“/query/"+name+"”必填性规则校验失败，此字段为必填项")
	}
	return given[0], nil
}

// option returns an optional parameter of the query: one of the values listed,
// the first of which is meant when it is absent.
func (c *call) option(name string, values ...string) (string, *apiError) {
	given := c.query[name]
	if len(given) == 0 {
		return values[0], nil
	}
	for _, v := range values {
		if len(given) == 1 && given[0] == v {
			return v, nil
		}
	}
	return "", paramError("query", "/"+name, "want one of "+strings.Trim(strings.Join(values, ", "), ", "), "输入源“/query/"+name+"”枚举值校验失败")
}
