package sandbox_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// at signs a request as of the test's clock.
func (c *client) at(now time.Time, method, target, body string) *httptest.ResponseRecorder {
	r := c.request(method, target, body)
	r.Header.Set("Authorization", c.authorization(method, target, body, now))
	return serve(c.p, r)
}

type billLink struct {
	HashType  string `json:"hash_type"`
	HashValue string `json:"hash_value"`
	URL       string `json:"download_url"`
}

// bill asks for a bill and fetches it.
func (c *client) bill(now time.Time, target string) string {
	c.t.Helper()
	w := c.at(now, "GET", target, "")
	c.verify(w.Header(), w.Body.Bytes())
	var link billLink
	if err := json.Unmarshal(w.Body.Bytes(), &link); err != nil || w.Code != 200 || link.HashType != "SHA1" {
		c.t.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	u, err := url.Parse(link.URL)
	if err != nil || u.Host != "example.com" || u.Path != "/v3/billdownload/file" {
		c.t.Fatalf("download_url %s", link.URL)
	}
	w = c.at(now, "GET", u.RequestURI(), "")
	if w.Code != 200 || w.Header().Get("Wechatpay-Signature") != "" {
		c.t.Fatalf("download: %d %v", w.Code, w.Header())
	}
	content := w.Body.Bytes()
	if strings.Contains(target, "GZIP") {
		if w.Header().Get("Content-Type") != "application/x-gzip" {
			c.t.Errorf("type %s", w.Header().Get("Content-Type"))
		}
		z, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			c.t.Fatal(err)
		}
		if content, err = io.ReadAll(z); err != nil {
			c.t.Fatal(err)
		}
	}
	if sum := sha1.Sum(content); hex.EncodeToString(sum[:]) != link.HashValue {
		c.t.Errorf("hash_value %s is not the bill's", link.HashValue)
	}
	return string(content)
}

func TestBills(t *testing.T) {
	beijing := time.FixedZone("", 8*3600)
	now := time.Date(2026, 3, 9, 10, 0, 0, 0, beijing)
	clk := newClock(now)
	p := newPlatform(t, func(o *sandbox.Options) { o.Now = clk.now })
	c := newClient(t, p, mchid)
	place := func(path, body string) {
		t.Helper()
		if w := c.at(now, "POST", path, body); w.Code != 200 {
			t.Fatal(w.Body)
		}
	}
	pay := func(number string, f sandbox.Faults) sandbox.Order {
		t.Helper()
		if _, err := p.Pay(number, f); err != nil {
			t.Fatal(err)
		}
		o, err := p.Order(number)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	place("/v3/pay/transactions/jsapi", wayBody("basic", "jsapi", "ORDER-1"))
	one := pay("ORDER-1", sandbox.Faults{Coupon: 30}).SubOrders[0]
	now = now.Add(time.Hour)
	clk.set(now)
	place("/v3/combine-transactions/native", combineBody("COMB-1", subOrder(mchid, "SUB--A", 250), subOrder(other, "SUB--B", 20)))
	two := pay("COMB-1", sandbox.Faults{}).SubOrders[0]
	place("/v3/pay/transactions/native", nativeBody("UNPAID", 7))
	now = now.Add(time.Hour)
	clk.set(now)
	place(refunds, refundBody("ORDER-1", "R-1", 50, 100))
	if _, err := p.SettleRefund("R-1", sandbox.RefundSuccess, sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	refund, err := p.Refund("R-1")
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(24 * time.Hour) // the next day at noon
	clk.set(now)
	place(refunds, refundBody("SUB--A", "R-2", 1, 250))

	const day = "?bill_date=2026-03-09"
	openid := func(number string) string {
		answer := c.at(now, "GET", "/v3/combine-transactions/out-trade-no/"+number, "").Body.String()
		var v struct {
			Payer struct {
				Openid string `json:"openid"`
			} `json:"combine_payer_info"`
		}
		if err := json.Unmarshal([]byte(answer), &v); err != nil {
			t.Fatal(err)
		}
		return v.Payer.Openid
	}("COMB-1")
	cell := func(fields ...string) string { return "`" + strings.Join(fields, ",`") + "\r\n" }
	paid1 := []string{"2026-03-09 10:00:00", appid, mchid, "0", "", one.TransactionID, "ORDER-1", "oPAYER", "JSAPI", "SUCCESS", "OTHERS", "CNY", "0.70", "0.30"}
	paid2 := []string{"2026-03-09 11:00:00", appid, mchid, "0", "", two.TransactionID, "SUB--A", openid, "NATIVE", "SUCCESS", "OTHERS", "CNY", "2.50", "0.00"}
	back1 := []string{"2026-03-09 12:00:00", appid, mchid, "0", "", one.TransactionID, "ORDER-1", "oPAYER", "JSAPI", "REFUND", "OTHERS", "CNY", "0.00", "0.00"}
	none := []string{"0", "0", "0.00", "0.00", "", ""}
	some := []string{refund.RefundID, "R-1", "0.35", "0.00", "ORIGINAL", "SUCCESS"}
	join := func(parts ...[]string) string {
		var all []string
		for _, p := range parts {
			all = append(all, p...)
		}
		return cell(all...)
	}
	const head = "\ufeff交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,"
	const refundHead, goods = "微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,", "商品名称,商户数据包,手续费,费率,订单金额,"
	const sums = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n"
	want := map[string]string{
		day: head + refundHead + goods + "申请退款金额,费率备注\r\n" +
			join(paid1, none, []string{"tea", "a", "0.00000", "0.00%", "1.00", "0.00", ""}) +
			join(paid2, none, []string{"cup", "x", "0.00000", "0.00%", "2.50", "0.00", ""}) +
			join(back1, some, []string{"tea", "a", "0.00000", "0.00%", "0.00", "0.50", ""}) +
			sums + cell("3", "3.20", "0.35", "0.00", "0.00000", "3.50", "0.50"),
		day + "&bill_type=SUCCESS": head + goods + "费率备注\r\n" +
			join(paid1, []string{"tea", "a", "0.00000", "0.00%", "1.00", ""}) +
			join(paid2, []string{"cup", "x", "0.00000", "0.00%", "2.50", ""}) +
			"总交易单数,应结订单总金额,手续费总金额,订单总金额\r\n" + cell("2", "3.20", "0.00000", "3.50"),
		day + "&bill_type=REFUND": head + "退款申请时间,退款成功时间," + refundHead + goods + "申请退款金额,费率备注\r\n" +
			join(back1, []string{"2026-03-09 12:00:00", "2026-03-09 12:00:00"}, some, []string{"tea", "a", "0.00000", "0.00%", "0.00", "0.50", ""}) +
			sums + cell("1", "0.00", "0.35", "0.00", "0.00000", "0.00", "0.50"),
	}
	for query, text := range want {
		for _, tar := range []string{"", "&tar_type=GZIP"} {
			if have := c.bill(now, "/v3/bill/tradebill"+query+tar); have != text {
				t.Errorf("%s%s: have\n%s\nwant\n%s", query, tar, have, text)
			}
		}
	}
	flow := "\ufeff记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号\r\n" +
		cell("2026-03-09 10:00:00", one.TransactionID, one.TransactionID, "交易", "交易", "收入", "0.70", "0.70", "system", "", "ORDER-1") +
		cell("2026-03-09 11:00:00", two.TransactionID, two.TransactionID, "交易", "交易", "收入", "2.50", "3.20", "system", "", "SUB--A") +
		cell("2026-03-09 12:00:00", refund.RefundID, refund.RefundID, "退款", "退款", "支出", "0.35", "2.85", "system", "", "REF"+one.TransactionID) +
		"资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\r\n" + cell("3.0", "2.0", "3.20", "1.0", "0.35")
	if have := c.bill(now, "/v3/bill/fundflowbill"+day); have != flow {
		t.Errorf("have\n%s\nwant\n%s", have, flow)
	}

	for _, tc := range []struct {
		name, path string
		at         time.Duration // from now
		status     int
		code       string
	}{
		{"no date", "/v3/bill/tradebill", 0, 400, "PARAM_ERROR"},
		{"date", "/v3/bill/tradebill?bill_date=20260309", 0, 400, "PARAM_ERROR"},
		{"no such day", "/v3/bill/tradebill?bill_date=2026-02-30", 0, 400, "PARAM_ERROR"},
		{"type", "/v3/bill/tradebill" + day + "&bill_type=SOME", 0, 400, "PARAM_ERROR"},
		{"tar_type", "/v3/bill/tradebill" + day + "&tar_type=ZIP", 0, 400, "PARAM_ERROR"},
		{"a day without orders", "/v3/bill/tradebill?bill_date=2026-03-08", 0, 400, "NO_STATEMENT_EXIST"},
		{"today", "/v3/bill/tradebill?bill_date=2026-03-10", 0, 400, "NO_STATEMENT_EXIST"},
		{"before ten o'clock", "/v3/bill/tradebill?bill_date=2026-03-10", 22*time.Hour - time.Second, 400, "STATEMENT_CREATING"},
		{"at ten o'clock", "/v3/bill/tradebill?bill_date=2026-03-10", 22 * time.Hour, 200, ""},
		{"after three months", "/v3/bill/tradebill" + day, 95 * 24 * time.Hour, 400, "PARAM_ERROR"},
		{"sub_mchid of a direct merchant", "/v3/bill/tradebill" + day + "&sub_mchid=" + subMchid, 0, 403, "NO_AUTH"},
		{"another account", "/v3/bill/fundflowbill" + day + "&account_type=FEES", 0, 400, "NO_STATEMENT_EXIST"},
		{"unknown account", "/v3/bill/fundflowbill" + day + "&account_type=X", 0, 400, "PARAM_ERROR"},
		{"no token", "/v3/billdownload/file", 0, 400, "PARAM_ERROR"},
		{"unknown token", "/v3/billdownload/file?token=x", 0, 400, "INVALID_REQUEST"},
	} {
		start := now
		now = now.Add(tc.at)
		clk.set(now)
		w := c.at(now, "GET", tc.path, "")
		now = start
		clk.set(now)
		if w.Code != tc.status || tc.code != "" && codeOf(t, w.Body.String()) != tc.code {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
		}
	}

	w := c.at(now, "GET", "/v3/bill/tradebill"+day, "")
	var link billLink
	if err := json.Unmarshal(w.Body.Bytes(), &link); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link.URL)
	if err != nil {
		t.Fatal(err)
	}
	if w := newClient(t, p, other).at(now, "GET", u.RequestURI(), ""); w.Code != 403 {
		t.Errorf("another merchant fetches it: %d", w.Code)
	}
	unsigned := httptest.NewRequest("GET", u.RequestURI(), nil)
	unsigned.Header.Set("Accept", "*/*")
	unsigned.Header.Set("User-Agent", "test")
	if w := serve(p, unsigned); w.Code != 401 {
		t.Errorf("without a signature: %d", w.Code)
	}
	now = now.Add(30*time.Second - time.Nanosecond)
	clk.set(now)
	if w := c.at(now, "GET", u.RequestURI(), ""); w.Code != 200 {
		t.Errorf("within 30 s: %d", w.Code)
	}
	now = now.Add(time.Nanosecond)
	clk.set(now)
	if w := c.at(now, "GET", u.RequestURI(), ""); w.Code != 400 {
		t.Errorf("after 30 s: %d", w.Code)
	}
}

func TestBillsAtOnce(t *testing.T) {
	p := newPlatform(t, func(o *sandbox.Options) { o.BillsAtOnce = true })
	c := newClient(t, p, mchid)
	c.paid(nativeBody("ORDER-1", 100), "ORDER-1", sandbox.Faults{})
	o, err := p.Order("ORDER-1")
	if err != nil {
		t.Fatal(err)
	}
	if have := c.bill(time.Now(), "/v3/bill/tradebill?bill_date="+o.Created.Format(time.DateOnly)); !strings.Contains(have, "`ORDER-1") {
		t.Error(have)
	}
}
