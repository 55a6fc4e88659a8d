package resource

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// The ways to pay.
const (
	wayNative      = "native"      // a QR code on a screen
	wayJSAPI       = "jsapi"       // a page in WeChat (公众号)
	wayMiniProgram = "miniprogram" // 小程序
	wayApp         = "app"         // an app on the phone
	wayH5          = "h5"          // a browser on the phone
)

// Checkout is the body of POST /gateway/checkout.
type Checkout struct {
	// Way is native, jsapi, miniprogram, app or h5. Required.
	Way string `json:"way"`
	// OutTradeNo is made by the gateway when it is left out.
	OutTradeNo string `json:"out_trade_no,omitempty"`
	// Description is what the payer reads. Of a combine order it stands for those
	// of the sub-orders that have none.
	Description string `json:"description,omitempty"`
	// Amount is a single order's; a combine order has SubOrders instead.
	Amount    *Amount       `json:"amount,omitempty"`
	SubOrders []CheckoutSub `json:"sub_orders,omitempty"`
	// SubMchid makes it a service provider's order (服务商).
	SubMchid string `json:"sub_mchid,omitempty"`
	// Appid is the merchant's own (of a partner order sp_appid). Default: the first
	// of the merchant block that is of the way's type.
	Appid    string `json:"appid,omitempty"`
	SubAppid string `json:"sub_appid,omitempty"`
	// Openid is the payer under Appid, SubOpenid under SubAppid: jsapi and
	// miniprogram need one.
	Openid    string `json:"openid,omitempty"`
	SubOpenid string `json:"sub_openid,omitempty"`
	// PayerClientIP is scene_info.payer_client_ip; h5 needs it.
	PayerClientIP string     `json:"payer_client_ip,omitempty"`
	SceneInfo     *SceneInfo `json:"scene_info,omitempty"`
	TimeExpire    string     `json:"time_expire,omitempty"` // RFC 3339
	Attach        string     `json:"attach,omitempty"`
	NotifyURL     string     `json:"notify_url,omitempty"`
	GoodsTag      string     `json:"goods_tag,omitempty"`
	// ProfitSharing holds the money back until it is shared or released (分账).
	ProfitSharing bool `json:"profit_sharing,omitempty"`
	// Replaces is the out_trade_no of an order that this one stands in for: it is
	// queried and closed first.
	Replaces string `json:"replaces,omitempty"`
}

// CheckoutSub is one 商品单 of a [Checkout].
type CheckoutSub struct {
	// Mchid is who is paid. Default: the merchant.
	Mchid    string `json:"mchid,omitempty"`
	SubMchid string `json:"sub_mchid,omitempty"`
	SubAppid string `json:"sub_appid,omitempty"`
	// OutTradeNo is made by the gateway when it is left out.
	OutTradeNo  string    `json:"out_trade_no,omitempty"`
	Description string    `json:"description,omitempty"` // default: the order's
	Amount      SubAmount `json:"amount"`
	// Attach comes back with the callback. Default: the order's, else out_trade_no,
	// since WeChat Pay wants one.
	Attach        string `json:"attach,omitempty"`
	GoodsTag      string `json:"goods_tag,omitempty"`
	ProfitSharing bool   `json:"profit_sharing,omitempty"`
}

// SceneInfo is where the payer is.
type SceneInfo struct {
	PayerClientIP string     `json:"payer_client_ip,omitempty"`
	DeviceID      string     `json:"device_id,omitempty"`
	StoreInfo     *StoreInfo `json:"store_info,omitempty"`
	H5Info        *H5Info    `json:"h5_info,omitempty"`
}

// StoreInfo is the shop; no member of combine orders.
type StoreInfo struct {
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	AreaCode string `json:"area_code,omitempty"`
	Address  string `json:"address,omitempty"`
}

// H5Info is the page that h5 payments come from.
type H5Info struct {
	Type        string `json:"type"` // Wap, iOS or Android; default: Wap
	AppName     string `json:"app_name,omitempty"`
	AppURL      string `json:"app_url,omitempty"`
	BundleID    string `json:"bundle_id,omitempty"`
	PackageName string `json:"package_name,omitempty"`
}

// kind says what the body describes.
func (c *Checkout) kind() storage.OrderKind {
	switch {
	case len(c.SubOrders) > 0:
		return storage.OrderCombine
	case c.SubMchid != "":
		return storage.OrderPartner
	}
	return storage.OrderBasic
}

// check refuses what no order can be made of. What the operation behind it checks
// as well is left to it.
func (c *Checkout) check() Response {
	combined := len(c.SubOrders) > 0
	least := 6
	if combined {
		least = 2
	}
	switch {
	case c.Way != wayNative && c.Way != wayJSAPI && c.Way != wayMiniProgram && c.Way != wayApp && c.Way != wayH5:
		return badRequest(RuleBody, "way must be native, jsapi, miniprogram, app or h5")
	case c.OutTradeNo != "" && !orderNumber(c.OutTradeNo, least):
		return badNumber("out_trade_no")
	case combined && c.Amount != nil:
		return badRequest(RuleAmount, "an order has amount or sub_orders, not both")
	case !combined && c.Amount == nil:
		return badRequest(RuleAmount, "an order has amount, or sub_orders when it is combined")
	case combined && (c.SubMchid != "" || c.SubAppid != "" || c.GoodsTag != "" || c.ProfitSharing):
		return badRequest(RuleSubOrders, "sub_mchid, sub_appid, goods_tag and profit_sharing belong into the sub_orders of a combined order")
	case c.SubMchid != "" && !digits(c.SubMchid):
		return badRequest(RuleMchid, "sub_mchid must be the digits of a sub-merchant's number")
	case c.SubMchid == "" && !combined && (c.SubAppid != "" || c.SubOpenid != ""):
		return badRequest(RuleBody, "sub_appid and sub_openid belong to orders of a sub-merchant")
	case c.SubMchid != "" && c.SubOpenid != "" && c.SubAppid == "":
		return badRequest(RuleBody, "sub_openid needs the sub_appid that it belongs to")
	case !combined && c.Description == "":
		return badRequest(RuleBody, "description is needed")
	case !combined && c.Amount.Total < 1:
		return badRequest(RuleAmount, "amount.total must be at least 1 fen")
	case (c.Way == wayJSAPI || c.Way == wayMiniProgram) && c.Openid == "" && c.SubOpenid == "":
		return badRequest(RuleBody, "openid of the payer is needed to pay by "+c.Way)
	case (c.Way == wayJSAPI || c.Way == wayMiniProgram) && c.Openid == "" && c.SubMchid == "":
		return badRequest(RuleBody, "openid of the payer under appid is needed to pay by "+c.Way)
	case c.Replaces != "" && (!orderNumber(c.Replaces, 1) || c.Replaces == c.OutTradeNo):
		return badRequest(RuleNumber, "replaces must be the out_trade_no of another order")
	}
	if c.TimeExpire != "" {
		if _, err := time.Parse(time.RFC3339, c.TimeExpire); err != nil {
			return badRequest(RuleBody, "time_expire must be a time such as 2026-11-22T18:27:34+08:00")
		}
	}
	if refused := c.checkScene(); refused.Refused() {
		return refused
	}
	for _, s := range c.SubOrders {
		switch {
		case s.Amount.TotalAmount < 1:
			return badRequest(RuleAmount, "amount.total_amount of a sub-order must be at least 1 fen")
		case s.Description == "" && c.Description == "":
			return badRequest(RuleBody, "description is needed, of the order or of each sub-order")
		case s.OutTradeNo != "" && !orderNumber(s.OutTradeNo, 2):
			return badNumber("out_trade_no of a sub-order")
		case s.Mchid != "" && !digits(s.Mchid), s.SubMchid != "" && !digits(s.SubMchid):
			return badRequest(RuleMchid, "mchid and sub_mchid of a sub-order must be digits")
		}
	}
	if len(c.SubOrders) > maxSubOrders {
		return badRequest(RuleSubOrders, "a combined order has at most 50 sub_orders")
	}
	return Response{}
}

// maxSubOrders is the most 商品单 that any merchant may put into one order.
const maxSubOrders = 50

// checkScene checks where the payer is said to be.
func (c *Checkout) checkScene() Response {
	ip := c.PayerClientIP
	if c.SceneInfo != nil {
		if c.SceneInfo.PayerClientIP != "" && ip != "" && ip != c.SceneInfo.PayerClientIP {
			return badRequest(RuleBody, "payer_client_ip and scene_info.payer_client_ip differ")
		}
		if ip == "" {
			ip = c.SceneInfo.PayerClientIP
		}
		if len(c.SubOrders) > 0 && c.SceneInfo.StoreInfo != nil {
			return badRequest(RuleBody, "scene_info.store_info is no member of combined orders")
		}
		if c.SceneInfo.H5Info != nil && c.Way != wayH5 {
			return badRequest(RuleBody, "scene_info.h5_info belongs to h5")
		}
	}
	if ip == "" && c.Way == wayH5 {
		return badRequest(RuleBody, "payer_client_ip is needed to pay by h5")
	}
	if ip != "" {
		if address, err := netip.ParseAddr(ip); err != nil || address.Zone() != "" {
			return badRequest(RuleBody, "payer_client_ip must be an IPv4 or IPv6 address")
		}
	}
	return Response{}
}

// complete fills in what the merchant block knows.
func (c *Checkout) complete(m *merchant.Merchant) {
	if c.Appid == "" {
		c.Appid = m.DefaultApp().Appid
		wanted := map[string]merchant.AppType{
			wayJSAPI: merchant.AppOfficial, wayMiniProgram: merchant.AppMiniProgram, wayApp: merchant.AppMobile,
		}[c.Way]
		for _, app := range m.Apps() {
			if app.Type == wanted {
				c.Appid = app.Appid
				break
			}
		}
	}
	if c.Amount != nil && c.Amount.Currency == "" {
		c.Amount.Currency = "CNY"
	}
	if c.PayerClientIP != "" && c.SceneInfo == nil {
		c.SceneInfo = &SceneInfo{}
	}
	if c.SceneInfo != nil {
		if c.SceneInfo.PayerClientIP == "" {
			c.SceneInfo.PayerClientIP = c.PayerClientIP
		}
		if c.Way == wayH5 && c.SceneInfo.H5Info == nil {
			c.SceneInfo.H5Info = &H5Info{}
		}
		if h := c.SceneInfo.H5Info; h != nil && h.Type == "" {
			h.Type = "Wap"
		}
	}
	for i := range c.SubOrders {
		s := &c.SubOrders[i]
		if s.Mchid == "" {
			s.Mchid = m.Mchid()
		}
		if s.Description == "" {
			s.Description = c.Description
		}
		if s.Amount.Currency == "" {
			s.Amount.Currency = "CNY"
		}
		if s.Attach == "" {
			s.Attach = c.Attach
		}
	}
}

// number gives numbers to what has none: the order the first, the sub-orders the
// others.
func (c *Checkout) number(numbers []string) {
	if c.OutTradeNo == "" {
		c.OutTradeNo = numbers[0]
	}
	for i := range c.SubOrders {
		s := &c.SubOrders[i]
		if s.OutTradeNo == "" {
			s.OutTradeNo = numbers[1+i]
		}
		if s.Attach == "" {
			s.Attach = s.OutTradeNo
		}
	}
}

// invokeAppid is the appid that opens the payment: the sub-merchant's own where
// the payer is known under it.
func (c *Checkout) invokeAppid() string {
	if c.SubAppid != "" && (c.SubOpenid != "" || c.Way == wayApp) {
		return c.SubAppid
	}
	return c.Appid
}

// What a checkout is sent as. The members' order is WeChat Pay's.
type (
	createBody struct {
		Appid       string      `json:"appid,omitempty"`
		Mchid       string      `json:"mchid,omitempty"`
		SpAppid     string      `json:"sp_appid,omitempty"`
		SpMchid     string      `json:"sp_mchid,omitempty"`
		SubAppid    string      `json:"sub_appid,omitempty"`
		SubMchid    string      `json:"sub_mchid,omitempty"`
		Description string      `json:"description"`
		OutTradeNo  string      `json:"out_trade_no"`
		TimeExpire  string      `json:"time_expire,omitempty"`
		Attach      string      `json:"attach,omitempty"`
		NotifyURL   string      `json:"notify_url,omitempty"`
		GoodsTag    string      `json:"goods_tag,omitempty"`
		SettleInfo  *settleInfo `json:"settle_info,omitempty"`
		Amount      *Amount     `json:"amount"`
		Payer       *payer      `json:"payer,omitempty"`
		SceneInfo   *SceneInfo  `json:"scene_info,omitempty"`
	}
	combineBody struct {
		CombineAppid string       `json:"combine_appid,omitempty"`
		CombineMchid string       `json:"combine_mchid"`
		OutTradeNo   string       `json:"combine_out_trade_no"`
		TimeExpire   string       `json:"time_expire,omitempty"`
		NotifyURL    string       `json:"notify_url,omitempty"`
		SceneInfo    *SceneInfo   `json:"scene_info,omitempty"`
		SubOrders    []combineSub `json:"sub_orders"`
		Payer        *payer       `json:"combine_payer_info,omitempty"`
	}
	combineSub struct {
		Mchid       string      `json:"mchid"`
		SubMchid    string      `json:"sub_mchid,omitempty"`
		SubAppid    string      `json:"sub_appid,omitempty"`
		OutTradeNo  string      `json:"out_trade_no"`
		Description string      `json:"description"`
		Attach      string      `json:"attach"`
		GoodsTag    string      `json:"goods_tag,omitempty"`
		SettleInfo  *settleInfo `json:"settle_info,omitempty"`
		Amount      SubAmount   `json:"amount"`
	}
	settleInfo struct {
		ProfitSharing bool `json:"profit_sharing"`
	}
	payer struct {
		Openid    string `json:"openid,omitempty"`
		SpOpenid  string `json:"sp_openid,omitempty"`
		SubOpenid string `json:"sub_openid,omitempty"`
	}
)

// settle is settle_info where money is held back.
func settle(share bool) *settleInfo {
	if !share {
		return nil
	}
	return &settleInfo{ProfitSharing: true}
}

// call is the create operation of the order's kind and way. A mini program's
// order is made at the jsapi path with its own appid.
func (c *Checkout) call(mchid string) Call {
	way := c.Way
	if way == wayMiniProgram {
		way = wayJSAPI
	}
	var p *payer
	if c.Openid != "" || c.SubOpenid != "" {
		p = &payer{Openid: c.Openid, SubOpenid: c.SubOpenid}
	}
	var path strings.Builder
	var body any
	switch c.kind() {
	case storage.OrderCombine:
		path.WriteString("/v3/combine-transactions/")
		b := combineBody{
			CombineAppid: c.Appid, CombineMchid: mchid, OutTradeNo: c.OutTradeNo, TimeExpire: c.TimeExpire,
			NotifyURL: c.NotifyURL, SceneInfo: c.SceneInfo, Payer: p,
		}
		for _, s := range c.SubOrders {
			b.SubOrders = append(b.SubOrders, combineSub{
				Mchid: s.Mchid, SubMchid: s.SubMchid, SubAppid: s.SubAppid, OutTradeNo: s.OutTradeNo,
				Description: s.Description, Attach: s.Attach, GoodsTag: s.GoodsTag, SettleInfo: settle(s.ProfitSharing), Amount: s.Amount,
			})
		}
		body = b
	default:
		b := createBody{
			Description: c.Description, OutTradeNo: c.OutTradeNo, TimeExpire: c.TimeExpire, Attach: c.Attach,
			NotifyURL: c.NotifyURL, GoodsTag: c.GoodsTag, SettleInfo: settle(c.ProfitSharing), Amount: c.Amount,
			SceneInfo: c.SceneInfo, Payer: p,
		}
		if c.SubMchid == "" {
			path.WriteString("/v3/pay/transactions/")
			b.Appid, b.Mchid = c.Appid, mchid
		} else {
			path.WriteString("/v3/pay/partner/transactions/")
			b.SpAppid, b.SpMchid, b.SubAppid, b.SubMchid = c.Appid, mchid, c.SubAppid, c.SubMchid
			if p != nil {
				p.SpOpenid, p.Openid = p.Openid, ""
			}
		}
		body = b
	}
	path.WriteString(way)
	return Call{Method: http.MethodPost, Path: path.String(), Body: jsonBody(body)}
}
