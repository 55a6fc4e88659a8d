package payops_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"
	"github.com/wechatpay-apiv3/wechatpay-go/services/fileuploader"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	subMchid     = "1900000109"
	partnerPath  = "/v3/pay/partner/transactions/jsapi"
	partnerQuery = "/v3/pay/partner/transactions/out-trade-no/"
)

// keyOf is the key under which the ledger has an order of a kind.
func keyOf(kind storage.OrderKind, number string) storage.OrderKey {
	key := storage.OrderKey{Mchid: mchid, Number: number}
	if kind == storage.OrderPartner {
		key.SubMchid = subMchid
	}
	return key
}

// TestEveryCreate: each way to create an order, of each kind, completes the
// body, keeps the ledger, and knows one content for one number.
func TestEveryCreate(t *testing.T) {
	creates := 0
	for _, o := range operation.All() {
		if o.Act != operation.ActCreate {
			continue
		}
		creates++
		t.Run(strings.TrimPrefix(o.Path, "/v3/"), func(t *testing.T) {
			g := newRig(t, rigOptions{
				answer: func(got) reply { return reply{status: 200, body: `{"prepay_id":"wx20"}`} },
				// a service provider's combine order may have one sub-order
				mutate: func(cfg *merchant.Config) { cfg.ServiceProvider = o.Kind == storage.OrderCombine },
			})
			number, other := "N20261122", `"total":100`
			sent := `{"out_trade_no":"N20261122","amount":{"total":100},"payer":{"openid":"o"}`
			want := `,"mchid":"` + mchid + `","appid":"` + appid + `"`
			switch o.Kind {
			case storage.OrderPartner:
				sent = `{"sub_mchid":"` + subMchid + `",` + sent[1:]
				want = `,"sp_mchid":"` + mchid + `","sp_appid":"` + appid + `"`
			case storage.OrderCombine:
				number, other = "C1", `"total_amount":100`
				sent = `{"combine_out_trade_no":"C1","sub_orders":[{"mchid":"1900000101","out_trade_no":"S1","amount":{"total_amount":100,"currency":"CNY"}}]`
				want = `,"combine_mchid":"` + mchid + `","combine_appid":"` + appid + `"`
			case storage.OrderBasic, storage.OrderParking:
			}
			if !o.CodePay() {
				want += `,"notify_url":"` + notifyURL + `"`
			}
			r := g.do("POST", o.Path, sent+"}")
			if r.StatusCode != 200 || text(t, r) != `{"prepay_id":"wx20"}` {
				t.Fatal(r.StatusCode, r.Header)
			}
			if got := g.wx.requests()[0].body; got != sent+want+"}" {
				t.Errorf("sent %s\nwant %s", got, sent+want+"}")
			}
			key := keyOf(o.Kind, number)
			order, err := g.ledger.Order(context.Background(), key)
			if err != nil || order.Kind != o.Kind || order.Amount.Total != 100 || order.Appid != appid || order.Content == "" ||
				order.State != storage.OrderCreated || (order.NotifyURL == "") != o.CodePay() {
				t.Errorf("%+v %v", order, err)
			}
			if c := g.lastCall(); c.Order != key || c.Operation != o.String() || c.Outcome != storage.CallSucceeded {
				t.Errorf("%+v", c)
			}
			g.refused("another amount", g.do("POST", o.Path, strings.Replace(sent, other, other+"1", 1)+"}"), 409, payops.RuleContent)
			if r := g.do("POST", o.Path, sent+"}"); r.StatusCode != 200 {
				t.Errorf("the same again: %d", r.StatusCode)
			}
		})
	}
	if creates != 20 {
		t.Errorf("%d ways to create", creates)
	}
}

// TestOneNumberAcrossOperations: a number is one order, whichever way it is
// asked to be paid.
func TestOneNumberAcrossOperations(t *testing.T) {
	g := newRig(t, rigOptions{})
	if r := g.do("POST", nativePath, basicBody("N20261122", "100")); r.StatusCode != 200 {
		t.Fatal(r.StatusCode)
	}
	if r := g.do("POST", "/v3/pay/transactions/h5", basicBody("N20261122", "100")); r.StatusCode != 200 {
		t.Errorf("another way to pay the same: %d", r.StatusCode)
	}
	g.refused("h5, another amount", g.do("POST", "/v3/pay/transactions/h5", basicBody("N20261122", "101")), 409, payops.RuleContent)
	g.refused("combine", g.do("POST", "/v3/combine-transactions/app", combineBody("N20261122")), 409, payops.RuleContent)
	if o := g.order("N20261122"); o.CodeURL == "" || o.Amount.Total != 100 {
		t.Errorf("%+v", o)
	}
}

func TestPartnerRefusals(t *testing.T) {
	body := func(old, replacement string) string {
		return strings.Replace(partnerBody("N20261122"), old, replacement, 1)
	}
	closeTarget := partnerQuery + "N20261122/close"
	for _, tc := range []struct {
		name, method, target, body string
		status                     int
		rule                       payops.Rule
	}{
		{"no sub-merchant", "POST", partnerPath, body(`"sub_mchid":"1900000109",`, ""), 400, payops.RuleMchid},
		{"empty sub-merchant", "POST", partnerPath, body(`"1900000109"`, `""`), 400, payops.RuleMchid},
		{"sub-merchant is a number", "POST", partnerPath, body(`"1900000109"`, `1900000109`), 400, payops.RuleMchid},
		{"sub-merchant of letters", "POST", partnerPath, body(`1900000109`, `19000o0109`), 400, payops.RuleMchid},
		{"another sp_mchid", "POST", partnerPath, body(mchid, "1900000002"), 409, payops.RuleMchid},
		{"sp_mchid is a list", "POST", partnerPath, body(`"`+mchid+`"`, `[]`), 400, payops.RuleBody},
		{"Sp_mchid", "POST", partnerPath, body(`"sp_mchid"`, `"Sp_mchid"`), 400, payops.RuleBody},
		{"SUB_MCHID twice", "POST", partnerPath, body(`"sub_appid"`, `"SUB_MCHID"`), 400, payops.RuleDuplicateKey},
		{"0 fen", "POST", partnerPath, body(`100`, `0`), 400, payops.RuleAmount},
		{"number too short", "POST", partnerPath, body(`N20261122`, `N1`), 400, payops.RuleNumber},
		{"query on create", "POST", partnerPath + "?a", partnerBody("N20261122"), 400, payops.RulePath},
		{"query, another sp_mchid", "GET", partnerQuery + "N20261122?sp_mchid=1900000002", "", 409, payops.RuleMchid},
		{"query, two sub-merchants", "GET", partnerQuery + "N20261122?sub_mchid=1&sub_mchid=2", "", 400, payops.RulePath},
		{"query, sub-merchant of letters", "GET", partnerQuery + "N20261122?sub_mchid=x", "", 400, payops.RuleMchid},
		{"query, two sp_mchid", "GET", partnerQuery + "N20261122?sp_mchid=" + mchid + "&sp_mchid=" + mchid, "", 400, payops.RulePath},
		{"close without a sub-merchant", "POST", closeTarget, `{}`, 400, payops.RuleMchid},
		{"close without a body", "POST", closeTarget, ``, 400, payops.RuleMchid},
		{"close of another sp_mchid", "POST", closeTarget, `{"sp_mchid":"1900000002","sub_mchid":"1900000109"}`, 409, payops.RuleMchid},
		{"close with a query", "POST", closeTarget + "?a=b", `{"sub_mchid":"1900000109"}`, 400, payops.RulePath},
		{"close, list", "POST", closeTarget, `[]`, 400, payops.RuleBody},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t, rigOptions{})
			g.refused(tc.name, g.do(tc.method, tc.target, tc.body), tc.status, tc.rule)
			if len(g.wx.requests()) != 0 || len(g.ledger.allCalls()) != 0 {
				t.Error("sent, or an intent row")
			}
		})
	}
}

// TestPartnerOrder: created, found paid by a query, and closed, under the key
// of its sub-merchant.
func TestPartnerOrder(t *testing.T) {
	state := "NOTPAY"
	g := newRig(t, rigOptions{answer: func(x got) reply {
		switch {
		case strings.HasSuffix(x.uri, "/close"):
			return reply{status: 204}
		case x.method == "GET":
			return reply{status: 200, body: `{"sp_mchid":"` + mchid + `","sub_mchid":"` + subMchid + `","sp_appid":"` + appid +
				`","out_trade_no":"N20261122","trade_state":"` + state + `","amount":{"total":100,"currency":"CNY"}` + paidExtra + `}`}
		}
		return codeURL(x)
	}})
	ledgered := func() storage.Order {
		t.Helper()
		o, err := g.ledger.Order(context.Background(), keyOf(storage.OrderPartner, "N20261122"))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if r := g.do("POST", partnerPath, partnerBody("N20261122")); r.StatusCode != 200 || ledgered().State != storage.OrderCreated {
		t.Fatal(r.StatusCode)
	}
	// Another sub-merchant's order of the same number is another order.
	if r := g.do("POST", partnerPath, strings.Replace(partnerBody("N20261122"), subMchid, "1900000110", 1)); r.StatusCode != 200 {
		t.Error(r.StatusCode)
	}
	for _, tc := range []struct{ query, sent string }{
		{"?sub_mchid=" + subMchid, "?sub_mchid=" + subMchid + "&sp_mchid=" + mchid},
		{"", "?sp_mchid=" + mchid}, // WeChat Pay refuses it, not the gateway
		{"?sp_mchid=" + mchid + "&sub_mchid=" + subMchid, ""},
	} {
		if tc.sent == "" {
			tc.sent = tc.query
		}
		if r := g.do("GET", partnerQuery+"N20261122"+tc.query, ""); r.StatusCode != 200 {
			t.Error(r.StatusCode)
		}
		if sent := g.wx.requests(); sent[len(sent)-1].uri != partnerQuery+"N20261122"+tc.sent {
			t.Error(sent[len(sent)-1].uri)
		}
	}
	if r := g.do("POST", partnerQuery+"N20261122/close", `{"sub_mchid":"`+subMchid+`"}`); r.StatusCode != 204 || ledgered().State != storage.OrderClosed {
		t.Error(r.StatusCode, ledgered().State)
	}
	if sent := g.wx.requests(); sent[len(sent)-1].body != `{"sub_mchid":"`+subMchid+`","sp_mchid":"`+mchid+`"}` {
		t.Error(sent[len(sent)-1].body)
	}
	state = "SUCCESS" // paid all the same
	if r := g.do("GET", "/v3/pay/partner/transactions/id/4200000001", ""); r.StatusCode != 200 || ledgered().State != storage.OrderPaid {
		t.Error(r.StatusCode, ledgered().State)
	}
}

// TestCodePay: a payment code is charged once, a rejection that leaves the
// charge open does not free the number, and the answer may say paid.
func TestCodePay(t *testing.T) {
	const path = "/v3/pay/transactions/codepay"
	answer := reply{}
	main := newWechat(t, func(x got) reply {
		if answer.status == 0 {
			panic(http.ErrAbortHandler)
		}
		return answer
	})
	backup := newWechat(t, codeURL)
	g := newRig(t, rigOptions{bases: []string{main.server.URL, backup.server.URL}})
	body := func(number string) string {
		return `{"out_trade_no":"` + number + `","amount":{"total":100},"payer":{"auth_code":"130061098828009406"}}`
	}
	for _, tc := range []struct {
		number string
		answer reply
		state  storage.OrderState
		status int
	}{
		{"PAID01", reply{status: 200, body: transaction("PAID01", "SUCCESS", 100, paidExtra)}, storage.OrderPaid, 200},
		{"TYPING", reply{status: 400, body: `{"code":"USERPAYING","message":"x"}`}, storage.OrderUnknown, 400},
		{"STRANGE", reply{status: 400, body: `{"code":"SOMETHING_NEW","message":"x"}`}, storage.OrderUnknown, 400},
		{"WRONG1", reply{status: 400, body: `{"code":"AUTH_CODE_INVALID","message":"x"}`}, storage.OrderRejected, 400},
		{"WRONG2", reply{status: 400, body: `{"code":"AUTH_CODE_INVALID","message":"x"}`, sign: "none"}, storage.OrderUnknown, 500},
		{"WAITS1", reply{status: 202, body: `{}`}, storage.OrderUnknown, 202},
		{"LOST01", reply{}, storage.OrderUnknown, 500},
	} {
		answer = tc.answer
		r := g.do("POST", path, body(tc.number))
		if o := g.order(tc.number); r.StatusCode != tc.status || o.State != tc.state || o.NotifyURL != "" {
			t.Errorf("%s: %d %+v", tc.number, r.StatusCode, o)
		}
		if unknown := tc.state == storage.OrderUnknown; (r.Header.Get("Wechatpay-Gateway-Outcome") == "unknown") != unknown {
			t.Errorf("%s: %v", tc.number, r.Header)
		}
	}
	if len(backup.requests()) != 0 {
		t.Error("a charge was sent twice")
	}
}

// TestTheSDKUploads: the official SDK's uploader signs meta alone, with the
// caller's own key, and so does the gateway with the merchant's.
func TestTheSDKUploads(t *testing.T) {
	set, err := caller.New(mchid, []caller.Config{
		{Name: "store", Serial: "5D3A", Key: &keyring().store.PublicKey, Allow: []string{"media"}},
		{Name: "erp", Token: merchant.NewSecret("erp-token"), Allow: []string{"pay"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, rigOptions{callers: set, answer: func(got) reply { return reply{status: 200, body: `{"media_id":"M1"}`} }})
	server := httptest.NewServer(g.api)
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	client := func(serial string) *core.Client {
		t.Helper()
		c, err := core.NewClient(ctx,
			option.WithWechatPayPublicKeyAuthCipher(mchid, serial, keyring().store, platformID, &keyring().platform.PublicKey),
			option.WithHTTPClient(&http.Client{Transport: toGateway{base}}))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	uploader := fileuploader.ImageUploader{Client: client("5D3A")}
	answer, _, err := uploader.Upload(ctx, strings.NewReader("\x89PNG\r\n--x\r\n"), "门店.png", "image/png")
	if err != nil || *answer.MediaId != "M1" {
		t.Fatal(answer, err)
	}
	if body := g.wx.requests()[0].body; !strings.Contains(body, "\x89PNG\r\n--x\r\n") || !strings.Contains(body, `filename="门店.png"`) {
		t.Errorf("%q", body)
	}
	// A signature over another meta is none.
	signed := g.wx.requests()[0]
	r := httptest.NewRequest("POST", uploadPath, strings.NewReader(strings.Replace(signed.body, "门店.png", "别的.png", 1)))
	r.Header = signed.header.Clone() // the merchant's signature, at that
	g.refused("another meta", g.serve(r), 401, payops.RuleUnknownCaller)
	uploader = fileuploader.ImageUploader{Client: client("5D3B")}
	if _, _, err := uploader.Upload(ctx, strings.NewReader("x"), "a.png", "image/png"); err == nil {
		t.Error("an unknown caller uploads")
	}
	if len(g.wx.requests()) != 1 {
		t.Error(len(g.wx.requests()))
	}
}
