package receive

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/verifiers"
	sdk "github.com/wechatpay-apiv3/wechatpay-go/core/notify"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// The tests of this file pin what the official SDK's notification handler
// (wechatpay-go v0.2.21) does with input that this package refuses or keeps, so
// that an upgrade of the SDK which changes it is noticed, and so that the
// reasons for not using that handler stay true. Its clock is the real one.

// sdkRequest is a callback that is right in every way, by the real clock.
func sdkRequest(body []byte) Incoming {
	in := request(body)
	in.Header["Wechatpay-Timestamp"] = []string{strconv.FormatInt(time.Now().Unix(), 10)}
	return resign(in, body)
}

// outcome is what the SDK made of a callback.
type outcome struct {
	request  *sdk.Request
	err      error
	panicked any
}

func bySDK(t *testing.T, verifier auth.Verifier, in Incoming, content any) (out outcome) {
	t.Helper()
	handler := must(sdk.NewRSANotifyHandler(testAPIv3, verifier))
	r := must(http.NewRequest(in.Method, "https://pay.example.com/notify", in.Body))
	r.Header = in.Header
	defer func() { out.panicked = recover() }()
	out.request, out.err = handler.ParseNotifyRequest(context.Background(), r, content)
	return out
}

func keyVerifier() auth.Verifier {
	return verifiers.NewSHA256WithRSAPubkeyVerifier(testKeyID, platformKey().PublicKey)
}

func realTime(c *Config) { c.Now = time.Now }

// ours is what this package makes of it.
func ours(t *testing.T, in Incoming) (*bench, Answer) {
	t.Helper()
	b := newBench(t, realTime)
	return b, b.Receive(t.Context(), commitRoute(), theMerchant(), in)
}

func TestSDKPanicsOnSignedButMalformedBodies(t *testing.T) {
	shortNonce := seal(basic("1", 1))
	shortNonce.Nonce = "short"
	for name, body := range map[string][]byte{
		"no resource":   []byte(`{"id":"1"}`),
		"null resource": []byte(`{"id":"1","resource":null}`),
		"null":          []byte(`null`),
		"nonce":         envelope("1", "TRANSACTION.SUCCESS", "", shortNonce),
	} {
		if out := bySDK(t, keyVerifier(), sdkRequest(body), new(payments.Transaction)); out.panicked == nil {
			t.Errorf("%s: the SDK did not panic: %v", name, out.err)
		}
		if b, a := ours(t, sdkRequest(body)); a.Status != 400 || b.seen.last() != notify.OutcomeMalformed || b.store.touched() != 0 {
			t.Errorf("%s: we say %d %s", name, a.Status, b.seen.last())
		}
	}
}

func TestSDKTakesANullPlaintext(t *testing.T) {
	in := func() Incoming { return sdkRequest(paid("null")) }
	content := new(payments.Transaction)
	if out := bySDK(t, keyVerifier(), in(), content); out.err != nil || content.OutTradeNo != nil {
		t.Errorf("SDK: %v, %v", out.err, content)
	}
	if b, a := ours(t, in()); a.Status != 400 || b.store.touched() != 0 {
		t.Errorf("we say %d", a.Status)
	}
	// Without the numbers of a payment nothing is a payment.
	for _, text := range []string{`{}`, `{"out_trade_no":"","transaction_id":"","mchid":"1900000001","trade_state":"SUCCESS"}`} {
		b, a := ours(t, sdkRequest(paid(text)))
		if a.Status != 200 || b.store.only(t).Kind != "unknown" {
			t.Errorf("%s: %d %s", text, a.Status, b.store.only(t).Kind)
		}
	}
}

func TestSDKReturnsARequestTogetherWithAnError(t *testing.T) {
	r := seal(basic("1", 1))
	r.AssociatedData = "other"
	in := func() Incoming { return sdkRequest(envelope("1", "TRANSACTION.SUCCESS", "", r)) }
	if out := bySDK(t, keyVerifier(), in(), new(payments.Transaction)); out.err == nil || out.request == nil {
		t.Errorf("SDK: %v, %v", out.request, out.err)
	}
	if b, a := ours(t, in()); a.Status != 400 || b.store.touched() != 0 {
		t.Errorf("we say %d", a.Status)
	}
}

func TestSDKRefusesAnOddCreateTime(t *testing.T) {
	body := bytes.Replace(goodBody(), []byte("2026-03-01T20:00:00+08:00"), []byte("example_create_time"), 1)
	if out := bySDK(t, keyVerifier(), sdkRequest(body), new(payments.Transaction)); out.err == nil {
		t.Error("the SDK took it")
	}
	if b, a := ours(t, sdkRequest(body)); a.Status != 200 || b.store.only(t).Kind != "payment" {
		t.Errorf("we say %d", a.Status)
	}
}

func TestSDKReadsTheBodyBeforeAnyHeader(t *testing.T) {
	const size = 8 << 20
	theirs := &noEnd{}
	bySDK(t, keyVerifier(), Incoming{Method: "POST", Header: http.Header{}, Body: io.LimitReader(theirs, size)}, new(payments.Transaction))
	if theirs.read < size {
		t.Errorf("the SDK read %d bytes", theirs.read)
	}
	mine := &noEnd{}
	var before, after runtime.MemStats
	b := newBench(t, realTime)
	runtime.ReadMemStats(&before)
	b.Receive(t.Context(), commitRoute(), theMerchant(), Incoming{Method: "POST", Header: http.Header{}, ContentLength: -1, Body: mine})
	runtime.ReadMemStats(&after)
	if mine.read > 64 || after.TotalAlloc-before.TotalAlloc > 64<<10 {
		t.Errorf("we read %d bytes and allocated %d", mine.read, after.TotalAlloc-before.TotalAlloc)
	}
}

func TestSDKErrorHoldsHeaders(t *testing.T) {
	in := func() Incoming {
		in := sdkRequest(goodBody())
		in.Header["Wechatpay-Signature"] = []string{base64.StdEncoding.EncodeToString(make([]byte, 256))}
		in.Header["Authorization"] = []string{"Bearer a-secret"}
		return in
	}
	if out := bySDK(t, keyVerifier(), in(), nil); out.err == nil || !strings.Contains(out.err.Error(), "a-secret") {
		t.Errorf("SDK: %v", out.err)
	}
	if b, a := ours(t, in()); a.Status != 401 || strings.Contains(b.logs.String(), "a-secret") {
		t.Errorf("we say %d and log %s", a.Status, b.logs)
	}
}

func TestSDKTakesSixteenSpellingsOfASignature(t *testing.T) {
	good := sdkRequest(goodBody())
	theirs, mine := 0, 0
	for bits := range 16 {
		spelled := func() Incoming {
			in := good
			in.Header = good.Header.Clone()
			in.Header["Wechatpay-Signature"] = []string{respell(good.Header.Get("Wechatpay-Signature"), bits)}
			in.Body = bytes.NewReader(goodBody())
			return in
		}
		if out := bySDK(t, keyVerifier(), spelled(), new(payments.Transaction)); out.err == nil {
			theirs++
		}
		if _, a := ours(t, spelled()); a.Status == 200 {
			mine++
		}
	}
	if theirs != 16 || mine != 1 {
		t.Errorf("the SDK takes %d, we take %d", theirs, mine)
	}
}

func TestSDKTakesSpelledTimestampsAndPaddedNonces(t *testing.T) {
	seconds := strconv.FormatInt(time.Now().Unix(), 10)
	for _, change := range []struct{ name, value string }{
		{"Wechatpay-Timestamp", "+" + seconds},
		{"Wechatpay-Timestamp", "000" + seconds},
		{"Wechatpay-Timestamp", seconds + "\u00a0"},
		{"Wechatpay-Nonce", testNonce + "\u00a0"},
		{"Wechatpay-Nonce", testNonce + "\u0085"},
		{"Wechatpay-Nonce", testNonce + "\u2028"},
	} {
		spelled := func() Incoming {
			in := sdkRequest(goodBody())
			if change.name == "Wechatpay-Timestamp" {
				// The SDK signs what it parsed, not what was sent.
				in.Header["Wechatpay-Timestamp"] = []string{seconds}
				in = resign(in, goodBody())
			}
			in.Header[change.name] = []string{change.value}
			return in
		}
		if out := bySDK(t, keyVerifier(), spelled(), new(payments.Transaction)); out.err != nil {
			t.Errorf("%s %q: the SDK refuses it: %v", change.name, change.value, out.err)
		}
		if _, a := ours(t, spelled()); a.Status != 401 {
			t.Errorf("%s %q: we say %d", change.name, change.value, a.Status)
		}
	}
}

func TestSDKTakesTheFirstOfARepeatedHeader(t *testing.T) {
	in := func() Incoming {
		in := sdkRequest(goodBody())
		for _, name := range []string{"Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Serial", "Wechatpay-Signature"} {
			in.Header[name] = append(in.Header[name], "another")
		}
		return in
	}
	if out := bySDK(t, keyVerifier(), in(), new(payments.Transaction)); out.err != nil {
		t.Errorf("SDK: %v", out.err)
	}
	if b, a := ours(t, in()); a.Status != 401 || b.seen.last() != notify.OutcomeHeaders {
		t.Errorf("we say %d %s", a.Status, b.seen.last())
	}
}

func TestSDKCallsAMissingTimestampExpired(t *testing.T) {
	in := func() Incoming {
		in := sdkRequest(goodBody())
		delete(in.Header, "Wechatpay-Timestamp")
		return in
	}
	if out := bySDK(t, keyVerifier(), in(), nil); out.err == nil || !strings.Contains(out.err.Error(), "expires") {
		t.Errorf("SDK: %v", out.err)
	}
	if b, a := ours(t, in()); a.Status != 401 || b.seen.last() != notify.OutcomeHeaders {
		t.Errorf("we say %d %s", a.Status, b.seen.last())
	}
}

func TestSDKTakesAnEmptySignatureType(t *testing.T) {
	in := func() Incoming {
		in := sdkRequest(goodBody())
		in.Header["Wechatpay-Signature-Type"] = []string{"", "NONE"}
		return in
	}
	if out := bySDK(t, keyVerifier(), in(), new(payments.Transaction)); out.err != nil {
		t.Errorf("SDK: %v", out.err)
	}
	if _, a := ours(t, in()); a.Status != 401 {
		t.Errorf("we say %d", a.Status)
	}
}

func TestSDKVerifiesWithAnExpiredCertificate(t *testing.T) {
	block, _ := pem.Decode([]byte(platformCertificate("3A0B5157", baseTime.AddDate(-6, 0, 0), baseTime.AddDate(-1, 0, 0))))
	certificate := must(x509.ParseCertificate(block.Bytes))
	verifier := verifiers.NewSHA256WithRSAVerifier(core.NewCertificateMapWithList([]*x509.Certificate{certificate}))
	in := sdkRequest(goodBody())
	in.Header["Wechatpay-Serial"] = []string{"3A0B5157"}
	if out := bySDK(t, verifier, in, new(payments.Transaction)); out.err != nil {
		t.Errorf("SDK: %v", out.err)
	}
	// One that is not valid yet, by our clock, in our key set.
	b := newBench(t)
	in = request(goodBody())
	in.Header["Wechatpay-Serial"] = []string{laterSerial}
	if a := b.Receive(t.Context(), commitRoute(), theMerchant(), in); a.Status != 401 || b.seen.last() != notify.OutcomeSerial {
		t.Errorf("not valid yet: %d %s", a.Status, b.seen.last())
	}
	// And an expired one: our clock two years on.
	later := baseTime.AddDate(2, 0, 0)
	b = newBench(t, func(c *Config) { c.Now = func() time.Time { return later } })
	body := goodBody()
	in = request(body)
	in.Header["Wechatpay-Timestamp"] = []string{strconv.FormatInt(later.Unix(), 10)}
	in.Header["Wechatpay-Serial"] = []string{certSerial}
	if a := b.Receive(t.Context(), commitRoute(), theMerchant(), resign(in, body)); a.Status != 401 || b.seen.last() != notify.OutcomeSerial {
		t.Errorf("expired: %d %s", a.Status, b.seen.last())
	}
}

func TestSDKTakesTheLastOfCaseFoldedNames(t *testing.T) {
	text := strings.Replace(basic("1", 100), `"total":100`, `"total":100,"TOTAL":2`, 1)
	content := new(payments.Transaction)
	if out := bySDK(t, keyVerifier(), sdkRequest(paid(text)), content); out.err != nil || *content.Amount.Total != 2 {
		t.Errorf("SDK: %v, %v", out.err, content.Amount)
	}
	if b, a := ours(t, sdkRequest(paid(text))); a.Status != 400 || b.store.touched() != 0 {
		t.Errorf("we say %d", a.Status)
	}
}

func TestSDKAmounts(t *testing.T) {
	for total, taken := range map[string]bool{"-1": true, "1.0": false, "1e2": false, `"100"`: false, "9223372036854775808": false} {
		text := strings.Replace(basic("1", 100), `"total":100`, `"total":`+total, 1)
		out := bySDK(t, keyVerifier(), sdkRequest(paid(text)), new(payments.Transaction))
		if (out.err == nil) != taken {
			t.Errorf("%s: SDK: %v", total, out.err)
		}
		b, a := ours(t, sdkRequest(paid(text)))
		switch {
		case total == "-1":
			if a.Status != 409 {
				t.Errorf("%s: we say %d", total, a.Status)
			}
		case a.Status != 200 || b.store.only(t).Kind != "unknown":
			t.Errorf("%s: we say %d", total, a.Status)
		}
	}
}

// Typed models drop what they do not know; what we keep is byte for byte
// WeChat's.
func TestSDKModelsDropFields(t *testing.T) {
	text := strings.Replace(basic("1", 100), `"attach":""`, `"attach":"","a_new_field":{"z":1.50,"a":2}`, 1)
	content := new(payments.Transaction)
	bySDK(t, keyVerifier(), sdkRequest(paid(text)), content)
	if again := must(json.Marshal(content)); bytes.Contains(again, []byte("a_new_field")) {
		t.Error("the SDK kept it")
	}
	b, _ := ours(t, sdkRequest(paid(text)))
	if got := b.store.only(t); string(got.Resource()) != text {
		t.Errorf("we keep %s", got.Resource())
	}
}

// The SDK cannot be given a clock: what is in time for the clock of these tests
// has expired for it.
func TestSDKHasNoClock(t *testing.T) {
	if out := bySDK(t, keyVerifier(), request(goodBody()), nil); out.err == nil {
		t.Error("the SDK took a timestamp of the test clock")
	}
	b := newBench(t)
	if a := b.Receive(t.Context(), commitRoute(), theMerchant(), request(goodBody())); a.Status != 200 {
		t.Errorf("we say %d", a.Status)
	}
}
