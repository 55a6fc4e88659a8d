package payops_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/sjson"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/verifiers"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const boundary = "----gateway'Boundary+7"

// uploadBody is an upload as browsers and SDKs build it; the file's name and
// bytes are such as a re-encoding would change.
func uploadBody(meta string) string {
	return "--" + boundary + "\r\nContent-Disposition: form-data; name=\"meta\"\r\nContent-Type: application/json\r\n\r\n" + meta +
		"\r\n--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"门店 a'b;c.png\"\r\nContent-Type: image/png\r\n\r\n" +
		"\x89PNG\r\n\x1a\n\x00\xff--\r\n--x\r\n" + "\r\n--" + boundary + "--\r\n"
}

// example is a request of an operation that the gateway has no reason to
// complete, in a spelling of its own.
type example struct {
	target, body string
	header       []string
}

func exampleOf(o *operation.Operation, n int) example {
	number := fmt.Sprintf("N%07d-|*@", n)
	segments := strings.Split(o.Path, "/")
	for i, s := range segments {
		switch {
		case s == "{empty}":
			segments[i] = ""
		case s == "{transaction_id}":
			segments[i] = "42000"
		case strings.HasPrefix(s, "{"):
			segments[i] = strings.Replace(number, "|", "%7C", 1)
		}
	}
	e := example{target: strings.Join(segments, "/")}
	mchidName, extra := "mchid", ""
	switch o.Kind {
	case storage.OrderPartner:
		mchidName, extra = "sp_mchid", "&sub_mchid=1900000109"
	case storage.OrderBasic, storage.OrderCombine, storage.OrderParking:
	}
	switch o.Act {
	case operation.ActCreate:
		switch o.Kind {
		case storage.OrderCombine:
			e.body = combineBody(number[:8])
		case storage.OrderPartner:
			e.body = partnerBody(number)
		default:
			e.body = basicBody(number, "100")
		}
	case operation.ActClose:
		switch o.Kind {
		case storage.OrderCombine:
			e.body = `{ "combine_appid":"` + appid + `","sub_orders": [{"mchid":"1900000101","out_trade_no":"S1"}]}`
		case storage.OrderPartner:
			e.body = `{"sub_mchid":"1900000109" , "sp_mchid":"` + mchid + `"}`
		default:
			e.body = `{"mchid" : "` + mchid + `"}`
		}
	case operation.ActReverse:
		e.body = strings.Replace(`{"mchid" : "`+mchid+`", "appid":"`+appid+`"}`, "mchid", mchidName, 1)
		if o.Kind == storage.OrderPartner {
			e.body = `{"sub_mchid":"1900000109" , "sp_mchid":"` + mchid + `","sp_appid":"` + appid + `"}`
		}
	case operation.ActNumbered:
		e.body = numberedBody(o, number, 100)
	case operation.ActQueryNumber:
		if e.target += "?z=%20+'&a=%E4%B8%80&z=|"; !o.Number.InPath(o) {
			e.target += "&" + o.Number.Field + "=" + strings.Replace(number, "|", "%7C", 1)
		}
	case operation.ActRefund:
		e.body = refundBody("N20261122", number, 30) // of paidOrder
	case operation.ActAbnormalRefund:
		e.body = `{"out_refund_no": "` + number + `", "type":"MERCHANT_BANK_CARD"}`
	case operation.ActEnterParking:
		e.body = entryBody(number, "粤B888888")
	case operation.ActChargeParking:
		e.body = chargeBody(number, "5K8264ILTKCH16CQ250", "粤B888888", 100)
	case operation.ActQuery:
		e.target += "?z=%20+'&" + mchidName + "=" + mchid + extra + "&a=%E4%B8%80"
	default:
		e.target += "?z=%20+'&a=%E4%B8%80&z=|"
		if o.Method != http.MethodGet {
			e.body = "{\n\t\"b\": 1.0, \"a\":\"\\u4e00<\", \"a\":[1e2] }"
		}
		if o.Multipart {
			e.body = uploadBody(`{ "filename": "门店 a.png","sha256":"0e3d" }`)
			e.header = []string{"Content-Type", `multipart/form-data; charset=utf-8; boundary="` + boundary + `"`}
		}
	}
	return e
}

// numberedBody is a request of a numbered operation that states all that its
// number stands for, in a spelling of its own; payments are that of paidOrder.
func numberedBody(o *operation.Operation, number string, fen int) string {
	body := []byte(`{ "a":"\u4e00<" }`)
	set := func(path string, value any) {
		var err error
		if body, err = sjson.SetBytes(body, strings.ReplaceAll(path, "[]", ".0"), value); err != nil {
			panic(err)
		}
	}
	for _, path := range o.Number.Amounts {
		set(path, fen)
	}
	for _, path := range o.Number.Content {
		set(path, "x")
	}
	for path, value := range map[string]string{"appid": appid, "sp_appid": appid, "notify_url": notifyURL, "transaction_id": "42n20261122"} {
		if slices.Contains(slices.Concat(o.Number.Content, o.Number.Fill), path) {
			set(path, value)
		}
	}
	if !o.Number.InPath(o) {
		set(o.Number.Field, number)
	}
	return string(body)
}

func partnerBody(number string) string {
	return `{"sp_mchid":"` + mchid + `","sp_appid":"` + appid + `","sub_mchid":"1900000109","sub_appid":"wxsub","out_trade_no":"` + number +
		`","notify_url":"` + notifyURL + `", "amount":{"total":100}}`
}

// arrives checks that a request came to WeChat Pay with the caller's URL and
// body bytes, and that the SDK's own verifier takes its signature.
func arrives(t *testing.T, g *rig, o *operation.Operation, e example) {
	t.Helper()
	before := len(g.wx.requests())
	if o.Act == operation.ActRefund || o.Shares() {
		put(t, g.ledger, paidOrder("N20261122"))
	}
	r := g.do(o.Method, e.target, e.body, e.header...)
	body := text(t, r)
	sent := g.wx.requests()[before:]
	if r.StatusCode != 200 || len(sent) != 1 {
		t.Errorf("%s: %d %s %s, %d sent", o, r.StatusCode, r.Header.Get("Wechatpay-Gateway-Refused"), body, len(sent))
		return
	}
	if want := codeURL(got{}).body; body != want || r.Header.Get("Request-Id") == "" || r.Header.Get("Wechatpay-Signature") == "" {
		t.Errorf("%s: the answer is %q %v", o, body, r.Header)
	}
	s := sent[0]
	if s.method != o.Method || s.uri != e.target || s.body != e.body {
		t.Errorf("%s: arrived as %s\n%s\nwant\n%s\n%q\nwant\n%q", o, s.method, s.uri, e.target, s.body, e.body)
	}
	a, err := caller.ParseAuthorization(s.header.Get("Authorization"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signedBody(s)
	if err != nil {
		t.Fatal(err)
	}
	verifier := verifiers.NewSHA256WithRSAPubkeyVerifier(serialNo, keyring().merchant.PublicKey)
	message := fmt.Sprintf("%s\n%s\n%d\n%s\n%s\n", o.Method, e.target, a.Timestamp, a.Nonce, signed)
	if err := verifier.Verify(context.Background(), a.SerialNo, message, a.Signature); err != nil {
		t.Errorf("%s: %v", o, err)
	}
	calls := g.ledger.allCalls()
	switch {
	case o.Method == http.MethodGet:
		if len(calls) != 0 {
			t.Errorf("%s: a query left a row", o)
		}
	case len(calls) == 0:
		t.Errorf("%s: no intent row", o)
	default:
		c := calls[len(calls)-1]
		path, _, _ := strings.Cut(e.target, "?")
		found, _ := operation.Find(o.Method, path) // of two templates of one shape, the first
		if c.Outcome != storage.CallSucceeded || c.Operation != found.String() || c.Method != o.Method || c.Status != 200 || c.EndedAt.IsZero() {
			t.Errorf("%s: %+v", o, c)
		}
	}
}

// TestEveryOperation sends one request of each of the 992 operations.
func TestEveryOperation(t *testing.T) {
	g := newRig(t, rigOptions{})
	for i, o := range operation.All() {
		g.ledger.forget()
		arrives(t, g, o, exampleOf(o, i))
	}
}

// TestARandomOperationOfEachKind sends one request of each group, method and
// body type, each through a gateway of its own.
func TestARandomOperationOfEachKind(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	type kind struct {
		group     operation.Group
		method    string
		multipart bool
	}
	kinds := map[kind][]*operation.Operation{}
	for _, o := range operation.All() {
		k := kind{o.Group, o.Method, o.Multipart}
		kinds[k] = append(kinds[k], o)
	}
	if len(kinds) < 20 {
		t.Fatalf("%d kinds", len(kinds))
	}
	for k, all := range kinds {
		slices.SortFunc(all, func(a, b *operation.Operation) int { return cmp.Compare(a.String(), b.String()) })
		o := all[random.IntN(len(all))]
		t.Run(fmt.Sprintf("%s %s", k.group, k.method), func(t *testing.T) {
			arrives(t, newRig(t, rigOptions{}), o, exampleOf(o, random.IntN(1e6)))
		})
	}
}
