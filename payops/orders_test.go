package payops_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const ordersPath = "/gateway/orders/"

func (g *rig) setState(number string, state storage.OrderState) {
	g.t.Helper()
	key := storage.OrderKey{Mchid: mchid, Number: number}
	if err := g.ledger.Change(context.Background(), storage.Keys{Order: key}, func(r *storage.Rows) error {
		r.Order.State = state
		return nil
	}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) put(number, body string, status int, rule payops.Rule) {
	g.t.Helper()
	r := g.do("PUT", ordersPath+number, body)
	if rule != "" {
		g.refused(body, r, status, rule)
		return
	}
	if r.StatusCode != status {
		g.t.Errorf("PUT %s %s: %d %s, want %d", number, body, r.StatusCode, text(g.t, r), status)
	}
}

func TestRegister(t *testing.T) {
	g := newRig(t, rigOptions{})
	g.put("N20261122", `{"amount":{"total":100,"currency":"CNY"},"appid":"`+appid+`"}`, 201, "")
	g.put("N20261122", ` {"appid":"`+appid+`", "amount":{"total":100}}`, 200, "")
	if n := g.ledger.changes; n != 1 || len(g.changed) != 1 {
		t.Errorf("%d writes, LedgerChanged %v", n, g.changed)
	}
	g.put("N20261122", `{"amount":{"total":90}}`, 200, "") // corrected
	o := g.order("N20261122")
	if o.State != storage.OrderRegistered || o.Origin != storage.OriginRegistered || o.Amount.Total != 90 || o.Appid != "" || o.Kind != storage.OrderBasic {
		t.Errorf("%+v", o)
	}
	g.setState("N20261122", storage.OrderPaid)
	g.put("N20261122", `{"amount":{"total":90}}`, 200, "")
	g.put("N20261122", `{"amount":{"total":91}}`, 409, payops.RuleImmutable)
	g.setState("N20261122", storage.OrderClosed)
	g.put("N20261122", `{"amount":{"total":91}}`, 409, payops.RuleImmutable)

	r := g.do("GET", ordersPath+"N20261122", "", "Authorization", "Bearer query-token")
	var view struct {
		OutTradeNo string `json:"out_trade_no"`
		Mchid      string
		State      string
		Amount     struct {
			Total    int
			Currency string
		}
	}
	if err := json.Unmarshal([]byte(text(t, r)), &view); err != nil || r.StatusCode != 200 ||
		view.OutTradeNo != "N20261122" || view.Mchid != mchid || view.State != "closed" || view.Amount.Total != 90 || view.Amount.Currency != "CNY" {
		t.Errorf("%+v %v", view, err)
	}
	if n := len(g.wx.requests()); n != 0 {
		t.Errorf("%d requests reached WeChat Pay", n)
	}
}

func TestRegisterCombine(t *testing.T) {
	g := newRig(t, rigOptions{})
	const subs = `"sub_orders":[{"mchid":"1900000101","out_trade_no":"S1","amount":{"total_amount":10,"currency":"CNY"}},{"mchid":"1900000102","sub_mchid":"1900000109","out_trade_no":"S2","amount":{"total_amount":5}}]`
	g.put("C1", `{`+subs+`}`, 201, "")
	g.put("C1", `{"amount":{"total":15},`+subs+`}`, 200, "")
	if o := g.order("C1"); o.Kind != storage.OrderCombine || o.Amount.Total != 15 || len(o.Subs) != 2 {
		t.Errorf("%+v", o)
	}
	g.put("C2", `{`+subs+`}`, 409, payops.RuleNumberTaken)
	r := g.do("GET", ordersPath+"C1", "")
	if body := text(t, r); !strings.Contains(body, `{"mchid":"1900000102","sub_mchid":"1900000109","out_trade_no":"S2","amount":{"total_amount":5,"currency":"CNY"}}`) {
		t.Error(body)
	}
}

func TestRegisterPartnerAndParking(t *testing.T) {
	g := newRig(t, rigOptions{})
	g.put("N20261122", `{"amount":{"total":1},"sub_mchid":"1900000109"}`, 201, "")
	if r := g.do("GET", ordersPath+"N20261122", ""); r.StatusCode != 404 {
		t.Error("another sub_mchid's number:", r.StatusCode)
	}
	r := g.do("GET", ordersPath+"N20261122?sub_mchid=1900000109", "")
	if body := text(t, r); r.StatusCode != 200 || !strings.Contains(body, `"kind":"partner"`) {
		t.Error(r.StatusCode, body)
	}
	for _, query := range []string{"?sub_mchid=", "?sub_mchid=1&sub_mchid=2", "?fresh=2", "?%zz"} {
		if r := g.do("GET", ordersPath+"N20261122"+query, ""); r.StatusCode != 400 {
			t.Error(query, r.StatusCode)
		}
	}
	g.put("P", `{"kind":"parking","amount":{"total":1},"parking_id":"5K82","plate_number":"粤B888888","plate_color":"BLUE"}`, 201, "")
	if o := g.order("P"); o.Kind != storage.OrderParking || o.ParkingID != "5K82" || o.Plate != "粤B888888" {
		t.Errorf("%+v", o)
	}
}

// TestRegisterAndCreate: what a backend registered binds what is created.
func TestRegisterAndCreate(t *testing.T) {
	answer := reply{status: 400, body: `{"code":"PARAM_ERROR"}`}
	g := newRig(t, rigOptions{answer: func(got) reply { return answer }})
	g.put("N20261122", `{"amount":{"total":100}}`, 201, "")
	g.refused("another amount", g.do("POST", nativePath, basicBody("N20261122", "1")), 409, payops.RuleContent)
	before := g.order("N20261122")
	if r := g.do("POST", nativePath, basicBody("N20261122", "100")); r.StatusCode != 400 {
		t.Error(r.StatusCode)
	}
	if o := g.order("N20261122"); o.State != storage.OrderRegistered || o.Origin != storage.OriginRegistered || o.Content != before.Content || o.Appid != "" {
		t.Errorf("a rejection must leave what was registered: %+v", o)
	}
	answer = codeURL(got{})
	if r := g.do("POST", nativePath, basicBody("N20261122", "100")); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	if o := g.order("N20261122"); o.State != storage.OrderCreated || o.Origin != storage.OriginGateway || o.Appid != appid {
		t.Errorf("%+v", o)
	}
	g.put("N20261122", `{"amount":{"total":100}}`, 200, "")
	g.put("N20261122", `{"amount":{"total":99}}`, 409, payops.RuleContent)
	g.put("N20261122", `{"amount":{"total":100},"appid":"wx8888888888888889"}`, 409, payops.RuleContent)
	if r := g.do("GET", ordersPath+"N20261122", ""); r.StatusCode != http.StatusOK || !strings.Contains(text(t, r), `"code_url":"weixin://`) {
		t.Error(r.StatusCode)
	}
}

func TestRejectedNumberCanBeRegistered(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(got) reply { return reply{status: 400, body: `{"code":"PARAM_ERROR"}`} }})
	g.do("POST", nativePath, basicBody("N20261122", "100"))
	g.put("N20261122", `{"amount":{"total":7}}`, 201, "")
	if o := g.order("N20261122"); o.State != storage.OrderRegistered || o.Amount.Total != 7 || o.Content != "" {
		t.Errorf("%+v", o)
	}
}
