package parking

import "net/url"

// What the page at which a user opens the service (开通页) is called by.
const (
	openAppID    = "wxbcad394b3d99dac9"
	openPath     = "pages/auth-creditpay/auth-creditpay"
	openUsername = "gh_518c42c65952"
	tradeScene   = "PARKING"
)

// OpenPage is what a frontend opens the service's page with
// (调起微信支付分停车服务开通页). Nothing in it is signed. A mini program takes appId,
// path and extraData (wx.navigateToMiniProgram); App and H5 take username, and path
// with query.
type OpenPage struct {
	AppID    string   `json:"appId"`
	Username string   `json:"username"`
	Path     string   `json:"path"`
	Query    string   `json:"query"`
	Extra    OpenData `json:"extraData"`
}

// OpenData says whose service of which plate is to be opened.
type OpenData struct {
	Mchid      string `json:"mchid"`
	SubMchid   string `json:"sub_mchid,omitempty"`
	Openid     string `json:"openid,omitempty"` // "": for the frontend to add
	Plate      string `json:"plate_number"`
	PlateColor string `json:"plate_color"`
	TradeScene string `json:"trade_scene"`
}

// Open makes the parameters of the page. An openid that nobody knows is "".
func (n Names) Open(openid, plate, color string) *OpenPage {
	d := OpenData{n.Mchid, n.SubMchid, openid, plate, color, tradeScene}
	values := url.Values{}
	for name, value := range map[string]string{
		"mchid": d.Mchid, "sub_mchid": d.SubMchid, "openid": d.Openid, "plate_number": d.Plate, "plate_color": d.PlateColor, "trade_scene": d.TradeScene,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return &OpenPage{AppID: openAppID, Username: openUsername, Path: openPath, Query: values.Encode(), Extra: d}
}
