package sandbox

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1" // what WeChat Pay digests bills with
	"encoding/hex"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	billLinkLife = 30 * time.Second // newer pages say five minutes; this is the stricter
	maxDownloads = 1000
	billReadyAt  = 10 * time.Hour // of the next day
)

// download is a bill that can be fetched for a short time.
type download struct {
	m       *merchant
	content []byte
	gzip    bool
	expires time.Time
}

// fileAnswer is an answer that is no JSON and is not signed.
type fileAnswer struct {
	contentType string
	content     []byte
}

// billDay reads bill_date and refuses a day whose bill is not to be had.
func (p *Platform) billDay(c *call) (time.Time, *apiError) {
	text, bad := c.one("bill_date")
	if bad != nil {
		return time.Time{}, bad
	}
	day, err := time.ParseInLocation(time.DateOnly, text, beijing)
	if err != nil {
		return time.Time{}, paramError("query", "/bill_date", "want yyyy-MM-dd", "账单日期格式错误，应为yyyy-MM-dd")
	}
	now := p.now().In(beijing)
	next := day.AddDate(0, 0, 1)
	switch {
	case day.Before(now.AddDate(0, -3, -1)):
		return time.Time{}, paramError("query", "/bill_date", "older than three months", "仅支持三个月内的账单下载申请")
	case day.After(now), !p.billsAtOnce && now.Before(next):
		return time.Time{}, errNoStatement()
	case !p.billsAtOnce && now.Before(next.Add(billReadyAt)):
		return time.Time{}, fail(http.StatusBadRequest, "STATEMENT_CREATING", "账单生成中，请在次日上午10点后获取")
	}
	return day, nil
}

// billEvent is a payment, or a refund, of one line.
type billEvent struct {
	at     time.Time
	order  *order
	line   *line
	refund *refund // nil: the payment
}

// billEventsLocked returns what happened to m's orders, in order; sub narrows it
// to one sub-merchant.
func (p *Platform) billEventsLocked(m *merchant, sub string) (out []billEvent) {
	for _, o := range p.orders {
		if o.state != Success {
			continue
		}
		for _, l := range o.lines {
			if l.mchid == m.mchid && (sub == "" || l.subMchid == sub) {
				out = append(out, billEvent{at: o.paidAt, order: o, line: l})
			}
		}
		for _, r := range o.refunds {
			if r.m == m && (sub == "" || r.line.subMchid == sub) {
				out = append(out, billEvent{r.created, o, r.line, r})
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].at.Before(out[j].at) })
	return out
}

func on(day time.Time, e billEvent) bool {
	return !e.at.Before(day) && e.at.Before(day.AddDate(0, 0, 1))
}

// cash writes fen as bills do: in yuan, two decimals, with integers only.
func cash(fen int64) string { return strings.Replace(yuan(fen), "¥", "", 1) }

func row(fields ...string) string {
	for i, f := range fields {
		fields[i] = "`" + strings.NewReplacer("\r", " ", "\n", " ").Replace(f)
	}
	return strings.Join(fields, ",") + "\r\n"
}

const billTime = "2006-01-02 15:04:05"

// The heads of trade bills: https://pay.weixin.qq.com/docs/merchant/products/bill-download/format-trade.html
const (
	billHead        = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,"
	billRefundTimes = "退款申请时间,退款成功时间,"
	billRefundHead  = "微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,"
	billGoods       = "商品名称,商户数据包,手续费,费率,订单金额,"
	billSums        = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n"
	billPaidSums    = "总交易单数,应结订单总金额,手续费总金额,订单总金额\r\n"
)

// tradeBill is GET /v3/bill/tradebill
// (https://pay.weixin.qq.com/doc/v3/merchant/4012556692).
func tradeBill(p *Platform, c *call) (any, *apiError) {
	day, bad := p.billDay(c)
	if bad != nil {
		return nil, bad
	}
	kind, bad := c.option("bill_type", "ALL", "SUCCESS", "REFUND")
	if bad != nil {
		return nil, bad
	}
	sub := c.query.Get("sub_mchid")
	if sub != "" {
		if bad := c.m.mayActFor(sub); bad != nil {
			return nil, bad
		}
	}
	p.mu.Lock()
	content := tradeBillText(p.billEventsLocked(c.m, sub), day, kind)
	p.mu.Unlock()
	return p.offer(c, content)
}

func tradeBillText(events []billEvent, day time.Time, kind string) []byte {
	var b bytes.Buffer
	b.WriteString("\ufeff" + billHead)
	switch kind {
	case "ALL":
		b.WriteString(billRefundHead + billGoods + "申请退款金额,费率备注\r\n")
	case "SUCCESS":
		b.WriteString(billGoods + "费率备注\r\n")
	case "REFUND":
		b.WriteString(billRefundTimes + billRefundHead + billGoods + "申请退款金额,费率备注\r\n")
	}
	var rows, settled, returned, total, asked int64
	for _, e := range events {
		if !on(day, e) || kind == "SUCCESS" && e.refund != nil || kind == "REFUND" && e.refund == nil {
			continue
		}
		rows++
		if r := e.refund; r != nil {
			returned, asked = returned+r.payerAmount, asked+r.amount
		} else {
			settled, total = settled+e.line.payerTotal, total+e.line.total
		}
		b.WriteString(e.row(kind))
	}
	if rows == 0 {
		return nil
	}
	count := strconv.FormatInt(rows, 10)
	if kind == "SUCCESS" {
		b.WriteString(billPaidSums + row(count, cash(settled), "0.00000", cash(total)))
	} else {
		b.WriteString(billSums + row(count, cash(settled), cash(returned), "0.00", "0.00000", cash(total), cash(asked)))
	}
	return b.Bytes()
}

func (e billEvent) row(kind string) string {
	o, l, r := e.order, e.line, e.refund
	sub := l.subMchid
	if sub == "" {
		sub = "0"
	}
	state, settled, coupon, total, asked := "SUCCESS", l.payerTotal, l.total-l.payerTotal, l.total, int64(0)
	refund := []string{"0", "0", "0.00", "0.00", "", ""}
	var times []string
	if r != nil {
		state, settled, coupon, total, asked = "REFUND", 0, 0, 0, r.amount
		refund = []string{r.id, r.number, cash(r.payerAmount), "0.00", "ORIGINAL", string(r.status)}
		done := ""
		if r.status == RefundSuccess {
			done = r.successTime.Format(billTime)
		}
		times = []string{r.created.Format(billTime), done}
	}
	fields := []string{
		e.at.Format(billTime), o.appid, l.mchid, sub, o.deviceID, l.transactionID, l.number, o.payer.openid,
		string(o.trade), state, o.bank(), "CNY", cash(settled), cash(coupon),
	}
	if kind == "REFUND" {
		fields = append(fields, times...)
	}
	if kind != "SUCCESS" {
		fields = append(fields, refund...)
	}
	fields = append(fields, l.description, l.attach, "0.00000", "0.00%", cash(total))
	if kind != "SUCCESS" {
		fields = append(fields, cash(asked))
	}
	return row(append(fields, "")...)
}

// fundFlowBill is GET /v3/bill/fundflowbill
// (https://pay.weixin.qq.com/doc/v3/merchant/4012556742). Only the basic
// account moves here.
func fundFlowBill(p *Platform, c *call) (any, *apiError) {
	day, bad := p.billDay(c)
	if bad != nil {
		return nil, bad
	}
	account, bad := c.option("account_type", "BASIC", "OPERATION", "FEES")
	if bad != nil {
		return nil, bad
	}
	if account != "BASIC" {
		return nil, errNoStatement()
	}
	p.mu.Lock()
	content := fundFlowText(p.billEventsLocked(c.m, ""), day)
	p.mu.Unlock()
	return p.offer(c, content)
}

func fundFlowText(events []billEvent, day time.Time) []byte {
	var b bytes.Buffer
	b.WriteString("\ufeff记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号\r\n")
	var balance, in, out, inRows, outRows int64
	for _, e := range events {
		id, name, way, amount, voucher := e.line.transactionID, "交易", "收入", e.line.payerTotal, e.line.number
		if r := e.refund; r != nil {
			if r.status == RefundClosed {
				continue // the money came back
			}
			id, name, way, amount, voucher = r.id, "退款", "支出", r.payerAmount, "REF"+r.line.transactionID
			balance -= 2 * amount
		}
		balance += amount
		if !on(day, e) {
			continue
		}
		if e.refund == nil {
			in, inRows = in+amount, inRows+1
		} else {
			out, outRows = out+amount, outRows+1
		}
		b.WriteString(row(e.at.Format(billTime), id, id, name, name, way, cash(amount), cash(balance), "system", "", voucher))
	}
	if inRows+outRows == 0 {
		return nil
	}
	count := func(n int64) string { return strconv.FormatInt(n, 10) + ".0" }
	b.WriteString("资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\r\n" +
		row(count(inRows+outRows), count(inRows), cash(in), count(outRows), cash(out)))
	return b.Bytes()
}

// offer keeps a bill for download and answers where. The digest is of the bill
// itself, not of what gzip makes of it. An empty bill does not exist.
func (p *Platform) offer(c *call, content []byte) (any, *apiError) {
	tar, bad := c.option("tar_type", "", "GZIP")
	if bad != nil {
		return nil, bad
	}
	if content == nil {
		return nil, errNoStatement()
	}
	sum := sha1.Sum(content)
	token := p.randomText(64)
	d := &download{m: c.m, content: content, gzip: tar == "GZIP"}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for t, old := range p.downloads {
		if !now.Before(old.expires) {
			delete(p.downloads, t)
		}
	}
	if len(p.downloads) >= maxDownloads {
		return nil, errSystem()
	}
	d.expires = now.Add(billLinkLife)
	p.downloads[token] = d
	scheme, more := "http://", ""
	if c.r.TLS != nil || strings.HasSuffix(c.r.Host, ".mch.weixin.qq.com") {
		scheme = "https://"
	}
	if d.gzip {
		more = "&tartype=gzip"
	}
	return struct {
		HashType  string `json:"hash_type"`
		HashValue string `json:"hash_value"`
		URL       string `json:"download_url"`
	}{"SHA1", hex.EncodeToString(sum[:]), scheme + c.r.Host + "/v3/billdownload/file?token=" + token + more}, nil
}

// downloadBill is GET /v3/billdownload/file?token=. The answer carries no signature.
func downloadBill(p *Platform, c *call) (any, *apiError) {
	token, bad := c.one("token")
	if bad != nil {
		return nil, bad
	}
	p.mu.Lock()
	d := p.downloads[token]
	now := p.now()
	p.mu.Unlock()
	if d == nil || !now.Before(d.expires) {
		return nil, errInvalid("下载链接不存在或已过期")
	}
	if d.m != c.m {
		return nil, errNoAuth("账单不属于该商户")
	}
	if !d.gzip {
		return fileAnswer{"text/plain", d.content}, nil
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(d.content); err != nil {
		return nil, errSystem()
	}
	if err := z.Close(); err != nil {
		return nil, errSystem()
	}
	return fileAnswer{"application/x-gzip", b.Bytes()}, nil
}
