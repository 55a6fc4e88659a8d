package sandbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	sdknotify "github.com/wechatpay-apiv3/wechatpay-go/core/notify"
	sdkparking "github.com/wechatpay-apiv3/wechatpay-go/services/wexinpayscoreparking"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// field is a text at the top of an object; "" when it is absent.
func field(t testing.TB, object, name string) string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(object), &all); err != nil {
		t.Fatalf("%v: %s", err, object)
	}
	text, _ := all[name].(string)
	return text
}

// TestParkingRefusals: every rule of the four operations, refused as WeChat Pay does.
func TestParkingRefusals(t *testing.T) {
	p := newPlatform(t, nil)
	direct, sp := newClient(t, p, mchid), newClient(t, p, provider)
	open(t, p, plateA, "粤B00001", "粤B00002")
	const sub = `"sub_mchid":"` + subMchid + `",`
	id := direct.enter(entryBody("IN", plateA, ""))
	spID := sp.enter(entryBody("IN", "粤B00001", sub))
	charged := direct.enter(entryBody("IN-2", "粤B00002", ""))
	direct.charge(chargeBody("DONE-1", charged, "粤B00002", 1, ""))
	direct.order(nativeBody("NATIVE-1", 1))

	entry, charge := entryBody("IN-9", plateA, ""), chargeBody("E9", id, plateA, 888, "")
	type refusal struct {
		name   string
		c      *client
		method string
		target string
		body   string
		status int
		code   string
	}
	var cases []refusal
	add := func(name string, c *client, target, body string, status int, code string) {
		cases = append(cases, refusal{name, c, "POST", target, body, status, code})
	}
	change := func(body, from, to string) string {
		t.Helper()
		if strings.Count(body, from) != 1 {
			t.Fatalf("%q is %d times in %s", from, strings.Count(body, from), body)
		}
		return strings.Replace(body, from, to, 1)
	}
	drop := func(body, name string) string {
		return regexp.MustCompile(`"`+name+`":("[^"]*"|[0-9]+|\{[^{}]*\}),?`).ReplaceAllString(body, "")
	}
	tidy := func(body string) string { return strings.ReplaceAll(body, ",}", "}") }

	for _, name := range []string{"out_parking_no", "plate_number", "plate_color", "notify_url", "start_time", "parking_name", "free_duration"} {
		add("entry without "+name, direct, parkings, tidy(drop(entry, name)), 400, "PARAM_ERROR")
	}
	for name, body := range map[string]string{
		"entry number too long":    strings.Replace(entry, "IN-9", strings.Repeat("9", 65), 1),
		"entry number of others":   strings.Replace(entry, "IN-9", "IN 9", 1),
		"plate with a dot":         strings.Replace(entry, plateA, "粤B·88888", 1),
		"plate with a space":       strings.Replace(entry, plateA, "粤B 88888", 1),
		"color":                    strings.Replace(entry, "BLUE", "RED", 1),
		"lower case color":         strings.Replace(entry, "BLUE", "blue", 1),
		"plain http":               strings.Replace(entry, notify, "http://pay.example.com/notify", 1),
		"query in notify_url":      strings.Replace(entry, notify, "https://pay.example.com/notify?x=1", 1),
		"no URL":                   strings.Replace(entry, notify, "notify", 1),
		"start_time":               strings.Replace(entry, parkingStart, "1999-12-31 20:00:00", 1),
		"empty start_time":         strings.Replace(entry, parkingStart, "", 1),
		"negative free_duration":   strings.Replace(entry, ":900}", ":-1}", 1),
		"fractional free_duration": strings.Replace(entry, ":900}", ":900.5}", 1),
		"text as free_duration":    strings.Replace(entry, ":900}", `:"900"}`, 1),
		"huge free_duration":       strings.Replace(entry, ":900}", ":99999999999999999999}", 1),
	} {
		add(name, direct, parkings, body, 400, "PARAM_ERROR")
	}
	add("entry of a provider without sub_mchid", sp, parkings, entry, 400, "PARAM_ERROR")
	add("entry of a provider for nobody", sp, parkings, entryBody("IN-9", plateA, `"sub_mchid":"",`), 403, "NO_AUTH")
	add("entry of a provider for a stranger", sp, parkings, entryBody("IN-9", plateA, `"sub_mchid":"1900000999",`), 403, "NO_AUTH")
	add("entry of a direct merchant with sub_mchid", direct, parkings, entryBody("IN-9", plateA, sub), 403, "NO_AUTH")
	add("entry number again, another plate", direct, parkings, entryBody("IN", "粤B00003", ""), 400, "INVALID_REQUEST")

	for _, name := range []string{"appid", "description", "out_trade_no", "trade_scene", "notify_url", "amount", "total",
		"parking_id", "plate_number", "plate_color", "start_time", "end_time", "parking_name", "charging_duration", "device_id", "parking_info"} {
		add("charge without "+name, direct, charges, tidy(drop(charge, name)), 400, "PARAM_ERROR")
	}
	for name, body := range map[string]string{
		"another scene":         change(charge, "PARKING\"", "HIGHWAY\""),
		"number too long":       change(charge, `"E9"`, `"`+strings.Repeat("9", 33)+`"`),
		"zero fen":              change(charge, `"total":888`, `"total":0`),
		"text as total":         change(charge, `"total":888`, `"total":"888"`),
		"other currency":        change(charge, "CNY", "USD"),
		"profit_sharing":        change(charge, `"N"`, `"n"`),
		"charge to plain http":  change(charge, notify, "http://pay.example.com/n"),
		"leaves as it comes":    change(charge, parkingEnd, parkingStart),
		"leaves before":         change(charge, parkingEnd, "1999-12-31T19:59:59+08:00"),
		"leaves in the future":  change(charge, parkingEnd, time.Now().Add(time.Minute).Format(time.RFC3339)),
		"negative duration":     change(charge, `"charging_duration":3600`, `"charging_duration":-1`),
		"device_id too long":    change(charge, `"12313"`, `"`+strings.Repeat("1", 33)+`"`),
		"end_time without zone": change(charge, parkingEnd, "1999-12-31T21:00:00"),
	} {
		add(name, direct, charges, body, 400, "PARAM_ERROR")
	}
	for name, body := range map[string]string{
		"unknown parking_id": change(charge, id, "5K0"),
		"a stranger's entry": change(change(charge, id, spID), plateA, "粤B00001"),
		"another plate":      change(charge, plateA, "粤B00001"),
		"another color":      change(charge, "BLUE", "GREEN"),
		"another start":      change(charge, parkingStart, "1999-12-31T20:00:01+08:00"),
		"another name":       change(charge, "欢乐海岸停车场", "欢乐海岸"),
		"charged already":    chargeBody("E9", charged, "粤B00002", 1, ""),
	} {
		add(name, direct, charges, body, 400, "INVALID_REQUEST")
	}
	add("number of another charge", direct, charges, change(charge, `"E9"`, `"DONE-1"`), 403, "OUT_TRADE_NO_USED")
	add("number of a basic order", direct, charges, change(charge, `"E9"`, `"NATIVE-1"`), 403, "OUT_TRADE_NO_USED")
	add("appid of another merchant", direct, charges, change(charge, appid, otherApp), 403, "NO_AUTH")
	add("charge of a direct merchant with sub_mchid", direct, charges, chargeBody("E9", id, plateA, 888, sub), 403, "NO_AUTH")
	add("charge of a direct merchant with sub_appid", direct, charges, chargeBody("E9", id, plateA, 888, `"sub_appid":"wx1",`), 403, "NO_AUTH")
	spCharge := chargeBody("E9", spID, "粤B00001", 888, sub)
	add("charge of a provider without sub_mchid", sp, charges, change(spCharge, sub, ""), 400, "PARAM_ERROR")
	add("charge of a provider for another sub", sp, charges, change(spCharge, subMchid, subOther), 400, "INVALID_REQUEST")
	add("charge of a provider for a stranger", sp, charges, change(spCharge, subMchid, "1900000999"), 403, "NO_AUTH")
	add("basic order under a charge's number", direct, "/v3/pay/transactions/native", nativeBody("DONE-1", 1), 403, "OUT_TRADE_NO_USED")

	query := func(name string, c *client, target string, status int, code string) {
		cases = append(cases, refusal{name, c, "GET", target, "", status, code})
	}
	plate := plateQuery + "%E7%B2%A4B888888"
	for _, name := range []string{"appid=" + appid, "plate_color=BLUE", "openid=oOWNER", "plate_number=%E7%B2%A4B888888"} {
		query("find without "+name, direct, change(plate, name, "x=y"), 400, "PARAM_ERROR")
	}
	query("find twice", direct, plate+"&openid=oOWNER", 400, "PARAM_ERROR")
	query("find a dotted plate", direct, plate+"%C2%B7", 400, "PARAM_ERROR")
	query("find a red plate", direct, change(plate, "BLUE", "RED"), 400, "PARAM_ERROR")
	query("find with another's appid", direct, change(plate, appid, otherApp), 400, "APPID_MCHID_NOT_MATCH")
	query("find with sub_mchid", direct, plate+"&sub_mchid="+subMchid, 403, "NO_AUTH")
	query("find without sub_mchid", sp, plate, 400, "PARAM_ERROR")
	query("find for a stranger", sp, plate+"&sub_mchid=1900000999", 403, "NO_AUTH")
	query("query nobody", direct, chargeQuery+"NOBODY", 404, "ORDER_NOT_EXIST")
	query("query a basic order", direct, chargeQuery+"NATIVE-1", 404, "ORDER_NOT_EXIST")
	query("query with sub_mchid", direct, chargeQuery+"DONE-1?sub_mchid="+subMchid, 403, "NO_AUTH")
	query("query of a provider without sub_mchid", sp, chargeQuery+"DONE-1", 400, "PARAM_ERROR")
	query("query another's", sp, chargeQuery+"DONE-1?sub_mchid="+subMchid, 404, "ORDER_NOT_EXIST")
	query("method", direct, charges, 405, "INVALID_REQUEST")

	for _, tc := range cases {
		status, answer := tc.c.call(tc.method, tc.target, tc.body)
		if status != tc.status || codeOf(t, answer) != tc.code {
			t.Errorf("%s: %d %s, want %d %s", tc.name, status, answer, tc.status, tc.code)
		}
	}
	// None of it had an effect: what was to be charged still is.
	if all := p.Parkings(); len(all) != 3 {
		t.Errorf("%d entries", len(all))
	}
	direct.charge(charge)
	if answer := sp.charge(spCharge); field(t, answer, "sub_mchid") != subMchid || field(t, answer, "sp_mchid") != provider {
		t.Error(answer)
	}
	if status, answer := sp.call("GET", chargeQuery+"E9?sub_mchid="+subMchid, ""); status != 200 || field(t, answer, "trade_state") != "ACCEPTED" {
		t.Errorf("%d %s", status, answer)
	}
	if status, _ := sp.call("GET", chargeQuery+"E9?sub_mchid="+subOther, ""); status != 404 {
		t.Errorf("another sub-merchant's: %d", status)
	}
}

// TestParkingSDK: WeChat Pay's own SDK drives a car of a service provider in and
// out and reads the callback.
func TestParkingSDK(t *testing.T) {
	r := &receiver{script: []int{http.StatusOK}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r}; o.TimeScale = 1e6 })
	c := newClient(t, p, provider)
	ctx := bounded(t)
	client := sdkClient(ctx, t, p, c)
	open(t, p, plateA)
	services := sdkparking.ServicesApiService{Client: client}
	service, _, err := services.QueryPlateService(ctx, sdkparking.QueryPlateServiceRequest{
		Appid: core.String(appid), SubMchid: core.String(subMchid), PlateNumber: core.String(plateA),
		PlateColor: sdkparking.PLATECOLOR_BLUE.Ptr(), Openid: core.String("oOWNER"),
	})
	if err != nil || *service.ServiceState != "NORMAL" || service.ServiceOpenTime == nil {
		t.Fatalf("%v %v", service, err)
	}
	start := time.Now().Add(-time.Hour)
	entries := sdkparking.ParkingsApiService{Client: client}
	entry, _, err := entries.CreateParking(ctx, sdkparking.CreateParkingRequest{
		SubMchid: core.String(subMchid), OutParkingNo: core.String("IN-1"), PlateNumber: core.String(plateA), PlateColor: sdkparking.PLATECOLOR_BLUE.Ptr(),
		NotifyUrl: core.String("https://pay.example.com/notify"), StartTime: &start, ParkingName: core.String("欢乐海岸"), FreeDuration: core.Int64(0),
	})
	if err != nil || *entry.State != "NORMAL" || entry.BlockReason != nil {
		t.Fatalf("%v %v", entry, err)
	}
	end := time.Now().Add(-time.Second)
	transactions := sdkparking.TransactionsApiService{Client: client}
	request := sdkparking.CreateTransactionRequest{
		Appid: core.String(appid), SubAppid: core.String(otherApp), SubMchid: core.String(subMchid), Description: core.String("停车"),
		OutTradeNo: core.String("E*1"), TradeScene: core.String("PARKING"), NotifyUrl: core.String("https://pay.example.com/notify"),
		Amount: &sdkparking.OrderAmount{Total: core.Int64(888)},
		ParkingInfo: &sdkparking.ParkingTradeScene{
			ParkingId: entry.Id, PlateNumber: core.String(plateA), PlateColor: sdkparking.PLATECOLOR_BLUE.Ptr(), StartTime: &start, EndTime: &end,
			ParkingName: core.String("欢乐海岸"), ChargingDuration: core.Int64(3600), DeviceId: core.String("1"),
		},
	}
	accepted, _, err := transactions.CreateTransaction(ctx, request)
	if err != nil || *accepted.TradeState != "ACCEPTED" || *accepted.Payer.SubOpenid != sandbox.OpenID(otherApp, plateA) || accepted.TransactionId != nil {
		t.Fatalf("%v %v", accepted, err)
	}
	request.OutTradeNo = core.String("E*2")
	var refused *core.APIError
	if _, _, err := transactions.CreateTransaction(ctx, request); !errors.As(err, &refused) || refused.Code != "INVALID_REQUEST" {
		t.Errorf("charged twice: %v", err)
	}
	if _, err := p.WaitState(ctx, "E*1", sandbox.Delivered); err != nil {
		t.Fatal(err)
	}
	paid, _, err := transactions.QueryTransaction(ctx, sdkparking.QueryTransactionRequest{OutTradeNo: core.String("E*1"), SubMchid: core.String(subMchid)})
	if err != nil || *paid.TradeState != "SUCCESS" || *paid.Amount.PayerTotal != 888 || paid.SuccessTime == nil || *paid.ParkingInfo.ParkingId != *entry.Id {
		t.Errorf("%v %v", paid, err)
	}
	handler, err := sdknotify.NewRSANotifyHandler(c.keys.APIv3Key, sdkVerifier(ctx, t, p, c))
	if err != nil {
		t.Fatal(err)
	}
	got := r.all()
	in := httptest.NewRequest(http.MethodPost, "/notify", bytes.NewReader(got[0].body))
	in.Header = got[0].header
	var told sdkparking.Transaction
	if n, err := handler.ParseNotifyRequest(ctx, in, &told); err != nil || n.EventType != "TRANSACTION.SUCCESS" || *told.TransactionId != *paid.TransactionId || *told.TradeScene != "PARKING" {
		t.Errorf("%v %v %v", n, told, err)
	}
}

// TestParkingAPIFaults: the faults of API calls apply, before the effect and after.
func TestParkingAPIFaults(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	for i, tc := range []struct {
		kind             sandbox.APIFaultKind
		status           int
		verifies, effect bool
	}{
		{sandbox.FaultError, 500, true, false}, {sandbox.FaultErrorAfter, 500, true, true},
		{sandbox.FaultWrongSignature, 200, false, true}, {sandbox.FaultUnsigned, 200, false, true}, {sandbox.FaultTampered, 200, false, true},
	} {
		plate, number := fmt.Sprintf("粤B%05d", i), fmt.Sprintf("E%d", i)
		open(t, p, plate)
		body := chargeBody(number, c.enter(entryBody(number, plate, "")), plate, 888, "")
		if err := p.FailAPI(sandbox.APIFault{Kind: tc.kind, Path: "/v3/vehicle/transactions/"}); err != nil {
			t.Fatal(err)
		}
		w := serve(p, c.request("POST", charges, body))
		if w.Code != tc.status || (c.check(w.Header(), w.Body.Bytes()) == nil) != tc.verifies {
			t.Errorf("%s: %d %s", tc.kind, w.Code, w.Body)
		}
		_, err := p.Order(number)
		if (err == nil) != tc.effect {
			t.Errorf("%s: effect %v, want %v", tc.kind, err == nil, tc.effect)
		}
		if answer := c.charge(body); field(t, answer, "trade_state") != "ACCEPTED" {
			t.Errorf("%s: the repeat: %s", tc.kind, answer)
		}
	}
}
