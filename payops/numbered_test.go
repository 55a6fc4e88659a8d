package payops_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

const (
	transferPath        = "/v3/fund-app/mch-transfer/transfer-bills"
	partnerTransferPath = "/v3/fund-app/mch-transfer/partner/transfer-bills"
	sharingPath         = "/v3/profitsharing/orders"
	reversePath         = "/v3/pay/transactions/out-trade-no/N12345/reverse"
)

// transferBody is a transfer, in a spelling of its own.
func transferBody(number, fen string) string {
	return fmt.Sprintf(`{ "appid":"%s","out_bill_no":"%s" , "openid":"o-MYE42l80oelYMDE34nYD456Xoy","transfer_amount":%s,"transfer_scene_id":"1000","notify_url":"%s"}`,
		appid, number, fen, notifyURL)
}

// sharingBody shares 10 fen of a payment.
func sharingBody(number, transactionID string) string {
	return fmt.Sprintf(`{"appid":"%s","transaction_id":"%s","out_order_no":"%s", "receivers":[{"type":"MERCHANT_ID","account":"1900000110","amount":10,"description":"x"}],"unfreeze_unsplit":true}`,
		appid, transactionID, number)
}

// targetOf is the path of a numbered operation; where the number is in it, that
// number.
func targetOf(o *operation.Operation, number string) string {
	segments := strings.Split(o.Path, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = number
		}
	}
	return strings.Join(segments, "/")
}

// TestEveryNumberSaysOneThing walks the whole table of numbers: a repeat that says
// the same is sent again, byte for byte, and a change of any member that the
// number stands for is refused before anything is sent; what it does not stand
// for may change.
func TestEveryNumberSaysOneThing(t *testing.T) {
	g := newRig(t, rigOptions{})
	put(t, g.ledger, paidOrder("N20261122"))
	paths := 0
	for n, o := range operation.All() {
		if o.Act != operation.ActNumbered {
			continue
		}
		number := fmt.Sprintf("T%07d", n)
		target, body := targetOf(o, number), numberedBody(o, number, 100)
		before := len(g.wx.requests())
		for range 2 {
			if r := g.do("POST", target, body); r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != "" {
				t.Fatalf("%s: %d %s", o, r.StatusCode, text(t, r))
			}
		}
		if r := g.do("POST", target, strings.Replace(body, `\u4e00<`, "else", 1)); r.StatusCode != 200 {
			t.Errorf("%s, another remark: %d", o, r.StatusCode)
		}
		sent := g.wx.requests()[before:]
		if len(sent) != 3 || sent[0].body != body || sent[1].body != body || sent[0].uri != target {
			t.Fatalf("%s: %+v", o, sent)
		}
		for _, path := range slices.Concat(o.Number.Amounts, o.Number.Content) {
			paths++
			fen := 99
			if path == "amount.total" {
				fen = 101 // a refund is not above it
			}
			changed, err := sjson.Set(body, strings.ReplaceAll(path, "[]", ".0"), fen)
			if !slices.Contains(o.Number.Amounts, path) {
				changed, err = sjson.Set(body, strings.ReplaceAll(path, "[]", ".0"), "other")
			}
			if err != nil {
				t.Fatal(err)
			}
			g.refused(o.String()+" "+path, g.do("POST", target, changed), 409, payops.RuleContent)
			if without, err := sjson.Delete(body, strings.ReplaceAll(path, "[]", ".0")); err != nil {
				t.Fatal(err)
			} else if !slices.Contains(o.Number.Fill, path) && (o.Number.Space != operation.SpaceRefund || path != "amount.total") {
				g.refused(o.String()+" without "+path, g.do("POST", target, without), 409, payops.RuleContent)
			}
		}
		posts := 0 // beside the queries for payments that the ledger does not know
		for _, x := range g.wx.requests()[before:] {
			if x.method == "POST" {
				posts++
			}
		}
		if posts != 3 {
			t.Errorf("%s: %d sent", o, posts)
		}
	}
	if paths < 250 {
		t.Errorf("%d members held", paths)
	}
	for key, memo := range g.ledger.memos {
		if left := time.Until(memo.Expires); strings.HasPrefix(key, "number/") && left < 399*24*time.Hour {
			t.Errorf("%s is forgotten after %s", key, left)
		}
	}
}

// TestNumbersOfTwoOperations: what one operation has used, another of the space
// does not take; another space, payee or merchant has its own numbers.
func TestNumbersOfTwoOperations(t *testing.T) {
	g := newRig(t, rigOptions{})
	put(t, g.ledger, paidOrder("N20261122"))
	use := func(name, target, body string, status int) {
		t.Helper()
		if r := g.do("POST", target, body); r.StatusCode != status {
			t.Errorf("%s: %d %s", name, r.StatusCode, text(t, r))
		}
	}
	partner := func(sub string) string {
		return strings.Replace(transferBody("T1", "100"), "{", `{"sub_mchid":"`+sub+`",`, 1)
	}
	use("a transfer", transferPath, transferBody("T1", "100"), 200)
	use("another operation, same number", transferPath+"/pre-transfer-with-authorization", transferBody("T1", "100"), 409)
	for _, elsewhere := range []struct{ name, target, body string }{
		{"a member that the operation has not", transferPath, strings.Replace(transferBody("T1", "200"), "{", `{"sub_mchid":"1",`, 1)},
		{"a parameter that the operation has not", transferPath + "?sub_mchid=2", transferBody("T1", "200")},
		{"a member of a member", transferPath, strings.Replace(transferBody("T1", "200"), "{", `{"scene":{"sub_mchid":"1900000109"},`, 1)},
	} {
		use(elsewhere.name, elsewhere.target, elsewhere.body, 409)
	}
	use("a sub-merchant's", partnerTransferPath, partner("1900000109"), 200)
	use("another sub-merchant's", partnerTransferPath, partner("1900000108"), 200)
	use("a sharing", sharingPath, sharingBody("T1", "42n20261122"), 200)
	use("its end under the same number", sharingPath+"/unfreeze", `{"out_order_no":"T1","transaction_id":"42n20261122"}`, 409)
	use("its end", sharingPath+"/unfreeze", `{"out_order_no":"T2","transaction_id":"42n20261122"}`, 200)

	// A deduction and an order share their numbers.
	deduct := func(number string) string {
		return `{"appid":"` + appid + `","out_trade_no":"` + number + `","contract_id":"C1","amount":{"total":100}}`
	}
	const deductPath = "/v3/papay/pay/transactions/apply"
	use("a deduction", deductPath, deduct("N20261123"), 200)
	use("an order with a deduction's number", nativePath, basicBody("N20261123", "100"), 409)
	use("a deduction with an order's number", deductPath, deduct("N20261122"), 409)
	if r := g.do("PUT", "/gateway/orders/N20261124", `{"amount":{"total":100}}`); r.StatusCode != 201 {
		t.Fatal(r.StatusCode)
	}
	use("a deduction that was registered", deductPath, deduct("N20261124"), 200)
}

// TestNumberOrderOfReceivers: the same receivers in another order are the same.
func TestNumberOrderOfReceivers(t *testing.T) {
	g := newRig(t, rigOptions{rules: policy(t, "off profitsharing_too_early")})
	body := func(receivers ...string) string {
		return `{"appid":"` + appid + `","transaction_id":"42","out_order_no":"S1","receivers":[` + strings.Join(receivers, ",") + `]}`
	}
	a, b := `{"type":"MERCHANT_ID","account":"1","amount":1}`, `{"account":"2", "type":"MERCHANT_ID","amount":2}`
	for name, tc := range map[string]struct {
		body   string
		status int
	}{
		"both": {body(a, b), 200}, "turned": {body(b, a), 200}, "one": {body(a), 409}, "one twice": {body(a, b, b), 409},
		"amounts crossed": {body(strings.Replace(a, `"amount":1`, `"amount":2`, 1), strings.Replace(b, `"amount":2`, `"amount":1`, 1)), 409},
		"none":            {body(), 409},
	} {
		g.do("POST", sharingPath, body(a, b))
		if r := g.do("POST", sharingPath, tc.body); r.StatusCode != tc.status {
			t.Errorf("%s: %d %s", name, r.StatusCode, text(t, r))
		}
	}
}

// TestNumberOutcomes: a verified rejection of the first call frees the number,
// anything else keeps what it stands for.
func TestNumberOutcomes(t *testing.T) {
	rejected := `{"code":"NOT_ENOUGH","message":"资金不足"}`
	for name, tc := range map[string]struct {
		answer reply
		free   bool
	}{
		"accepted":          {reply{status: 200, body: `{"state":"ACCEPTED"}`}, false},
		"rejected":          {reply{status: 403, body: rejected}, true},
		"rejected unsigned": {reply{status: 403, body: rejected, sign: "none"}, false},
		"rejected by probe": {reply{status: 403, body: rejected, sign: "probe"}, false},
		"5xx":               {reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}, false},
		"202":               {reply{status: 202, body: `{}`}, false},
		"2xx badly signed":  {reply{status: 200, body: `{}`, sign: "bad"}, false},
		"cut":               {reply{status: 200, body: `{"state":"ACCEPTED"}`, cut: 4}, false},
	} {
		t.Run(name, func(t *testing.T) {
			answer := tc.answer
			g := newRig(t, rigOptions{answer: func(got) reply { return answer }})
			g.do("POST", transferPath, transferBody("T1", "100"))
			r := g.do("POST", transferPath, transferBody("T1", "200"))
			if tc.free {
				if r.StatusCode != 403 || r.Header.Get("Wechatpay-Gateway-Refused") != "" || len(g.wx.requests()) != 2 {
					t.Error("the number is not free:", r.StatusCode, text(t, r))
				}
				return
			}
			g.refused("other content", r, 409, payops.RuleContent)
			// The rejection of a repeat proves nothing about the call before it.
			answer = reply{status: 403, body: rejected}
			if r := g.do("POST", transferPath, transferBody("T1", "100")); r.StatusCode != 403 {
				t.Error(r.StatusCode)
			}
			g.refused("other content, later", g.do("POST", transferPath, transferBody("T1", "200")), 409, payops.RuleContent)
			answer = reply{status: 200, body: `{}`}
			if r := g.do("POST", transferPath, transferBody("T1", "100")); r.StatusCode != 200 {
				t.Error(r.StatusCode)
			}
		})
	}
	g := newRig(t, rigOptions{bases: []string{closedPort(t)}})
	g.refused("never sent", g.do("POST", transferPath, transferBody("T1", "100")), 502, payops.RuleUnreachable)
	g.refused("never sent, so free", g.do("POST", transferPath, transferBody("T1", "200")), 502, payops.RuleUnreachable)
}

// TestNumberQuery: the verified word that there is no such number frees it, when
// no call can be on its way any more, and if the query meant the same.
func TestNumberQuery(t *testing.T) {
	const sharingQuery = sharingPath + "/S1?transaction_id=42"
	for name, tc := range map[string]struct {
		query  string
		answer reply
		offset time.Duration
		free   bool
	}{
		"none":                  {sharingQuery, reply{status: 404, body: `{"code":"RESOURCE_NOT_EXISTS"}`}, time.Minute, true},
		"none, in other words":  {sharingQuery, reply{status: 404, body: `{"code":"NOT_FOUND"}`}, time.Minute, true},
		"none, with more":       {sharingQuery + "&offset=0&limit=20", reply{status: 404, body: `{"code":"NOT_FOUND"}`}, time.Minute, true},
		"none, too soon":        {sharingQuery, reply{status: 404, body: `{"code":"NOT_FOUND"}`}, 59 * time.Second, false},
		"none, unsigned":        {sharingQuery, reply{status: 404, body: `{"code":"NOT_FOUND"}`, sign: "none"}, time.Minute, false},
		"none of other payment": {sharingPath + "/S1?transaction_id=43", reply{status: 404, body: `{"code":"NOT_FOUND"}`}, time.Minute, false},
		"none of a sub-mchid":   {sharingQuery + "&sub_mchid=1900000109", reply{status: 404, body: `{"code":"NOT_FOUND"}`}, time.Minute, false},
		"none of two payments":  {sharingQuery + "&transaction_id=43", reply{status: 404, body: `{"code":"NOT_FOUND"}`}, time.Minute, false},
		"an unknown parameter":  {sharingQuery + "&x=1", reply{status: 404, body: `{"code":"NOT_FOUND"}`}, time.Minute, false},
		"another number":        {sharingPath + "/S2?transaction_id=42", reply{status: 404, body: `{"code":"NOT_FOUND"}`}, time.Minute, false},
		"no such path":          {sharingQuery, reply{status: 404, body: `{"code":"PARAM_ERROR"}`}, time.Minute, false},
		"taken":                 {sharingQuery, reply{status: 200, body: `{"out_order_no":"S1"}`}, time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			answer := reply{status: 500, body: `{"code":"SYSTEM_ERROR"}`}
			g := newRig(t, rigOptions{rules: policy(t, "off profitsharing_too_early"), answer: func(got) reply { return answer }})
			g.do("POST", sharingPath, sharingBody("S1", "42"))
			g.offset = tc.offset
			answer = tc.answer
			want := tc.answer.status
			if tc.answer.sign == "none" {
				want = 500 // what does not verify does not go back
			}
			if r := g.do("GET", tc.query, ""); r.StatusCode != want {
				t.Fatal(r.StatusCode, text(t, r))
			}
			answer = reply{status: 200, body: `{}`}
			r := g.do("POST", sharingPath, strings.Replace(sharingBody("S1", "42"), `"amount":10`, `"amount":11`, 1))
			if tc.free != (r.StatusCode == 200) {
				t.Error(r.StatusCode, text(t, r))
			}
		})
	}

	// What is known to be there is not freed by a later "none".
	answer := reply{status: 200, body: `{}`}
	g := newRig(t, rigOptions{answer: func(got) reply { return answer }})
	g.do("POST", transferPath, transferBody("T1", "100"))
	g.offset, answer = time.Hour, reply{status: 404, body: `{"code":"NOT_FOUND"}`}
	g.do("GET", transferPath+"/out-bill-no/T1", "")
	g.refused("known", g.do("POST", transferPath, transferBody("T1", "200")), 409, payops.RuleContent)
}

// TestNumberedFailOver: what a number makes harmless goes to the backup with the
// same signed bytes once the main host had them; what has no number does not.
func TestNumberedFailOver(t *testing.T) {
	for target, tc := range map[string]struct {
		body     string
		repeated bool
	}{
		transferPath:                             {transferBody("T1", "100"), true},
		sharingPath + "/unfreeze":                {`{"out_order_no":"S1","transaction_id":"42"}`, true},
		reversePath:                              {`{"mchid":"` + mchid + `","appid":"` + appid + `"}`, true},
		"/v3/global/refunds":                     {`{"out_refund_no":"R1","notify_url":"` + notifyURL + `","amount":{"refund":1,"total":1,"currency":"HKD"}}`, true},
		"/v3/ecommerce/subsidies/create":         {`{"amount":1,"transaction_id":"42"}`, false},
		"/v3/profitsharing/receivers/add":        {`{"account":"1"}`, false},
		transferPath + "/out-bill-no/T1/cancel":  {``, false},
		"/v3/ecommerce/refunds/5/return-advance": {`{"sub_mchid":"1900000109"}`, false},
	} {
		main := newWechat(t, func(got) reply { panic(http.ErrAbortHandler) })
		backup := newWechat(t, codeURL)
		g := newRig(t, rigOptions{bases: []string{main.server.URL, backup.server.URL}})
		r := g.do("POST", target, tc.body)
		if len(main.requests()) != 1 || (len(backup.requests()) == 1) != tc.repeated || (r.StatusCode == 200) != tc.repeated {
			t.Errorf("%s: %d, %d at the main host, %d at the backup", target, r.StatusCode, len(main.requests()), len(backup.requests()))
			continue
		}
		if tc.repeated {
			a, b := main.requests()[0], backup.requests()[0]
			if a.body != b.body || a.header.Get("Authorization") != b.header.Get("Authorization") {
				t.Errorf("%s: not the same signed bytes", target)
			}
		}
	}
}

// TestNumberedFills: what the gateway fills in where the caller left it out.
func TestNumberedFills(t *testing.T) {
	g := newRig(t, rigOptions{})
	r := g.do("POST", transferPath, `{"out_bill_no":"T1","openid":"o1","transfer_amount":100 }`)
	if r.StatusCode != 200 {
		t.Fatal(r.StatusCode, text(t, r))
	}
	sent := gjson.Parse(g.wx.requests()[0].body)
	if sent.Get("appid").String() != appid || sent.Get("notify_url").String() != notifyURL || sent.Get("transfer_amount").Raw != "100" {
		t.Error(sent.Raw)
	}
	// Said or filled in, it is the same content.
	if r := g.do("POST", transferPath, `{"appid":"`+appid+`","out_bill_no":"T1","openid":"o1","transfer_amount":100}`); r.StatusCode != 200 {
		t.Error(r.StatusCode, text(t, r))
	}
	r = g.do("POST", transferPath, strings.Replace(transferBody("T2", "1"), notifyURL, "https://elsewhere.example.com/n", 1))
	if r.StatusCode != 200 || r.Header.Get("Wechatpay-Gateway-Warning") != "foreign_notify_url" {
		t.Error(r.StatusCode, r.Header)
	}
}

// TestNumberMemoHoldsNoPersonalData: of openids and names a digest is left.
func TestNumberMemoHoldsNoPersonalData(t *testing.T) {
	g := newRig(t, rigOptions{})
	g.do("POST", transferPath, transferBody("T1", "100"))
	if len(g.ledger.memos) != 1 {
		t.Fatalf("%d memos", len(g.ledger.memos))
	}
	for key, memo := range g.ledger.memos {
		if key != "number/transfer/"+mchid+"//T1" || strings.Contains(string(memo.Data), "o-MYE42l80oelYMDE34nYD456Xoy") {
			t.Errorf("%s %s", key, memo.Data)
		}
	}
}
