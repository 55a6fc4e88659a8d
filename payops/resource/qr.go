package resource

import (
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/qrcode"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// PrepayLife is how long a code_url and a prepay_id open anything, since the
// order was made. https://pay.weixin.qq.com/doc/v3/merchant/4012791877
const PrepayLife = 2 * time.Hour

func (rs *Resources) qrPNG(r *Request) Response { return rs.qr(r, qrcode.PNG, "image/png") }
func (rs *Resources) qrSVG(r *Request) Response { return rs.qr(r, qrcode.SVG, "image/svg+xml") }

// qr draws an order's code_url for who may see the order or could have made it.
func (rs *Resources) qr(r *Request, format qrcode.Format, contentType string) Response {
	if refused := r.noBody(); refused.Refused() {
		return refused
	}
	key, values, refused := rs.orderKey(r, "size")
	if refused.Refused() {
		return refused
	}
	size, err := qrcode.ParseSize(values.Get("size"))
	if err != nil {
		return badRequest(RulePath, "size is a number of pixels, 120 to 1200")
	}
	order, refused := rs.order(r.Core.Live(), key)
	if !r.Core.Allows(operation.Query) && (refused.Refused() || !r.Core.Allows(groupOf(order.Kind))) {
		return notAllowed(operation.Query)
	}
	if refused.Refused() {
		return refused
	}
	switch order.State {
	case storage.OrderPaid, storage.OrderClosed, storage.OrderRejected:
		return refuse(http.StatusGone, codeInvalid, RuleQRGone, "the order is "+string(order.State)+"; its code opens nothing any more")
	case storage.OrderIntended, storage.OrderUnknown, storage.OrderCreated, storage.OrderRegistered:
	}
	now := rs.Now()
	switch {
	case order.CodeURL == "":
		return refuse(http.StatusNotFound, codeNotFound, RuleQRAbsent, "the order has no code_url; only Native orders have one")
	case now.Sub(order.CreatedAt) >= PrepayLife, !order.TimeExpire.IsZero() && !now.Before(order.TimeExpire):
		return refuse(http.StatusGone, codeInvalid, RuleQRGone, "the code_url has expired (two hours, or the order's time_expire); make a new order")
	}
	code, err := qrcode.New(order.CodeURL)
	if err != nil {
		return refuse(http.StatusNotFound, codeNotFound, RuleQRAbsent, "the order's code_url cannot be drawn")
	}
	picture, err := code.Draw(format, size)
	if err != nil {
		return badRequest(RulePath, "size is a number of pixels, 120 to 1200")
	}
	return Response{Status: http.StatusOK, Body: picture, Header: http.Header{
		"Content-Type": {contentType}, "Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"},
	}}
}
