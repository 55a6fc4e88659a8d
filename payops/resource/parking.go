package resource

import (
	"net/http"
	"net/url"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
)

// PlateService is what WeChat Pay says of a plate's 支付分停车 service.
type PlateService struct {
	Plate      string `json:"plate_number"`
	PlateColor string `json:"plate_color"`
	State      string `json:"service_state"` // NORMAL, PAUSE or OUT_SERVICE
	OpenTime   string `json:"service_open_time,omitempty"`
	// OpenPage opens the service; there unless State is NORMAL. Ask again when the
	// user comes back from it.
	OpenPage *parking.OpenPage `json:"open_page,omitempty"`
}

// plateService asks for a plate's service as the user with an openid has it.
func (rs *Resources) plateService(r *Request) Response {
	if refused := r.noBody(); refused.Refused() {
		return refused
	}
	values, refused := r.Values("plate_number", "plate_color", "openid", "appid", "sub_mchid")
	if refused.Refused() {
		return refused
	}
	plate, color, openid := values.Get("plate_number"), values.Get("plate_color"), values.Get("openid")
	if refused := checkPlate(plate, color); refused.Refused() {
		return refused
	}
	if openid == "" || len(openid) > 128 {
		return badRequest(RulePath, "openid is needed: the service is one user's")
	}
	names := parking.Names{Mchid: rs.Merchant.Mchid(), SubMchid: values.Get("sub_mchid")}
	if values.Has("sub_mchid") && !digits(names.SubMchid) {
		return badRequest(RulePath, "sub_mchid must be the digits of a sub-merchant's number")
	}
	ask := url.Values{"plate_number": {plate}, "plate_color": {color}, "openid": {openid}, "appid": {values.Get("appid")}}
	if !values.Has("appid") {
		ask.Set("appid", rs.Merchant.DefaultApp().Appid)
	}
	if names.SubMchid != "" {
		ask.Set("sub_mchid", names.SubMchid)
	}
	answer := r.Core.V3(Call{Method: http.MethodGet, Path: "/v3/vehicle/parking/services/find", Query: ask.Encode()})
	if !answer.Succeeded() {
		return answer.Response()
	}
	said := gjson.ParseBytes(answer.Body)
	view := PlateService{
		Plate: said.Get("plate_number").String(), PlateColor: said.Get("plate_color").String(),
		State: said.Get("service_state").String(), OpenTime: said.Get("service_open_time").String(),
	}
	if view.Plate != plate || view.PlateColor != color || view.State == "" {
		return unreachable("WeChat Pay's answer is about another plate; nothing is known of this one")
	}
	if view.State != "NORMAL" {
		view.OpenPage = names.Open(openid, plate, color)
	}
	response := respond(http.StatusOK, view)
	carry(response.Header, answer.Header)
	return response
}

func checkPlate(plate, color string) Response {
	if !parking.ValidPlate(plate) {
		return badRequest(RulePlate, "plate_number must be a plate in capital letters, without separators: 粤B888888")
	}
	if !parking.ValidColor(color) {
		return badRequest(RulePlate, "plate_color must be BLUE, GREEN, YELLOW, BLACK, WHITE or LIMEGREEN")
	}
	return Response{}
}
