package resource

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/invoke"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Config is what the resources of one API share. Every field is required but
// KnowOpenID and Logger.
type Config struct {
	Merchant *merchant.Merchant
	Ledger   storage.Ledger
	Now      func() time.Time
	// NewID makes ids that do not repeat: UUIDs, version 7.
	NewID func() (string, error)
	// Invoke signs what opens a payment with a prepay_id.
	Invoke func(ctx context.Context, way invoke.Way, appid, prepayID string) (invoke.Parameters, error)
	// KnowOpenID is told which app an openid belongs to. Nil: nobody is.
	KnowOpenID func(ctx context.Context, appid, openid string) error
	// Logger gets no body, key or openid. Default: discards.
	Logger *slog.Logger
}

// Resources serves /gateway/…. It starts no goroutine but one for each parking exit,
// which [Resources.Wait] waits for, and is safe for concurrent use.
type Resources struct {
	Config
	exits parking.Flights[Response]
}

// New makes resources. It is pure.
func New(cfg Config) *Resources {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Resources{Config: cfg}
}

// Request is one authenticated request.
type Request struct {
	Core   Core
	Method string
	Path   string // escaped
	Query  string // raw
	Header http.Header
	Body   []byte

	params    map[string]string
	route     *Route
	resources *Resources
	memo      *memo // set by Begin
	fresh     bool  // the numbers were made in this request
}

// Param returns the decoded value of a part of the path.
func (r *Request) Param(name string) string { return r.params[name] }

// Values reads the query, of which every name must be one of those given and
// appear once. A refusal has a Status.
func (r *Request) Values(names ...string) (url.Values, Response) {
	values, err := url.ParseQuery(r.Query)
	if err != nil {
		return nil, badRequest(RulePath, "the query cannot be read")
	}
	for name, given := range values {
		if !slices.Contains(names, name) || len(given) > 1 {
			return nil, badRequest(RulePath, "the query holds a name that the resource does not take, or one twice")
		}
	}
	return values, Response{}
}

// orderKey reads the order that the path names; a partner's order is named by
// ?sub_mchid=. extra are further names that the query may have.
func (rs *Resources) orderKey(r *Request, extra ...string) (storage.OrderKey, url.Values, Response) {
	values, refused := r.Values(append(extra, "sub_mchid")...)
	if refused.Refused() {
		return storage.OrderKey{}, nil, refused
	}
	key := storage.OrderKey{Mchid: rs.Merchant.Mchid(), SubMchid: values.Get("sub_mchid"), Number: r.Param("out_trade_no")}
	if values.Has("sub_mchid") && !digits(key.SubMchid) {
		return key, nil, badRequest(RulePath, "sub_mchid must be the digits of a sub-merchant's number")
	}
	if !orderNumber(key.Number, 1) {
		return key, nil, badNumber("out_trade_no")
	}
	return key, values, Response{}
}

// order looks an order up. A refusal has a Status. Of a sub-order's number the
// order is the combine order.
func (rs *Resources) order(ctx context.Context, key storage.OrderKey) (storage.Order, Response) {
	order, err := rs.Ledger.Order(ctx, key)
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && order.Merchant != "" && order.Merchant != rs.Merchant.Name():
		return order, refuse(http.StatusNotFound, codeNotFound, RuleOrderNotFound, "the ledger does not know the order")
	case err != nil:
		rs.Logger.Error("the ledger cannot be read", "error", err)
		return order, storeDown()
	}
	return order, Response{}
}

func badNumber(name string) Response {
	return badRequest(RuleNumber, name+" is too short or too long, or holds something else than digits, letters and _-|*@")
}

// orderNumber reports whether s may be an order's number of at least so many
// bytes, and at most 32.
func orderNumber(s string, least int) bool { return len(s) >= least && len(s) <= 32 && numberText(s) }

// refundNumber reports whether s may be an out_refund_no.
func refundNumber(s string) bool { return len(s) >= 1 && len(s) <= 64 && numberText(s) }

func numberText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
		case c == '_', c == '-', c == '|', c == '*', c == '@':
		default:
			return false
		}
	}
	return true
}

// digits reports whether s may be a merchant's number.
func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// Truth of ?fresh=1.
func fresh(values url.Values) (ask bool, refused Response) {
	switch {
	case !values.Has("fresh"):
		return false, Response{}
	case values.Get("fresh") == "1":
		return true, Response{}
	}
	return false, badRequest(RulePath, "fresh takes 1 and nothing else")
}

// beijing is the zone that merchant numbers are dated in.
var beijing = time.FixedZone("CST", 8*60*60)

// number makes a merchant number: the time to the second, and 62 random bits.
func (rs *Resources) number() (string, error) {
	id, err := rs.NewID()
	if err != nil || len(id) != 36 {
		return "", errors.Join(errors.New("resource: no number can be made"), err)
	}
	return rs.Now().In(beijing).Format("20060102150405") + id[19:23] + id[24:], nil
}
