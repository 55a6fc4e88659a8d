package guard

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// The rules.
const (
	NotifyURL        Name = "notify_url"
	SubOrderCount    Name = "sub_order_count"
	OneAppid         Name = "one_appid"
	OpenIDAppid      Name = "openid_appid"
	ClosePaid        Name = "close_paid"
	CloseTooEarly    Name = "close_too_early"
	RefundContent    Name = "refund_content"
	RefundClosed     Name = "refund_closed"
	RefundCombine    Name = "refund_combine"
	RefundNotPaid    Name = "refund_not_paid"
	RefundCurrency   Name = "refund_currency"
	RefundTotal      Name = "refund_total"
	RefundTooLate    Name = "refund_too_late"
	RefundCount      Name = "refund_count"
	RefundSameNumber Name = "refund_same_number"
	RefundInterval   Name = "refund_interval"
	RefundFailures   Name = "refund_failures"
	RefundOldOrders  Name = "refund_old_orders"
	SharingTooEarly  Name = "profitsharing_too_early"
)

// Where WeChat Pay says so.
const (
	pageNotify   = "https://pay.weixin.qq.com/doc/v3/merchant/4012075249"
	pageCombine  = "https://pay.weixin.qq.com/doc/v3/merchant/4012556982"
	guideAppid   = "https://pay.weixin.qq.com/doc/v3/merchant/4012079115"
	guideOpenID  = "合单支付开发指引（Native）2024-08-15，OpenID：AppID 不同，则获取到的 OpenID 就不同"
	guideCombine = "合单支付开发指引（Native）2024-08-15，3.2.5 合单关闭订单"
	pageRefund   = "https://pay.weixin.qq.com/doc/v3/merchant/4012791862"
	guideRefund  = "https://pay.weixin.qq.com/wiki/doc/api_external/en/apis/chapter3_3_3.shtml"
	guideSharing = "分账产品文档：支付成功 1 分钟后方可请求分账"
)

// The numbers in the rules.
const (
	// CloseAfter is how long after its creation an order may be closed.
	CloseAfter = 5 * time.Minute
	// MaxRefunds is how many refunds one payment takes.
	MaxRefunds = 50
	// RefundEvery is what lies between two different refunds of one payment.
	RefundEvery = time.Minute
	// MaxFailures is how many refund requests may fail in FailureSpan.
	MaxFailures = 6
	// FailureSpan is the span of MaxFailures.
	FailureSpan = time.Second
	// MaxOldRefunds is how many refund requests for orders that are older than a
	// month go out in OldSpan.
	MaxOldRefunds = 5000
	// OldSpan is the span of MaxOldRefunds.
	OldSpan = time.Minute
	// ShareAfter is how long after its payment money may be shared.
	ShareAfter = time.Minute
)

// Table is every rule, in the order in which they are tried.
var Table = []Rule{
	{
		NotifyURL, "notify_url of creates and refunds", pageNotify, malformed,
		"notify_url must be a public http or https URL (https where the operation wants it), without query or fragment",
		Enforce, notifyURL,
	},
	{
		SubOrderCount, "how many sub_orders, by the merchant's role", pageCombine, malformed,
		"a combine order takes 2 to 10 sub-orders of a direct merchant, 1 to 50 of a service provider",
		Enforce, subOrderCount,
	},
	{
		OneAppid, "sub_appid of all sub_orders", guideAppid, malformed,
		"a combine order is paid in one app: its sub-orders must not state different sub_appid",
		Enforce, oneAppid,
	},
	{
		OpenIDAppid, "what the payer's openid was issued for", guideOpenID, conflict,
		"the payer's openid was issued for another appid than the order's (openid和appid不匹配)",
		Enforce, openIDAppid,
	},
	{
		ClosePaid, "the order's state", guideCombine, conflict,
		"the order is paid; a paid order cannot be closed (已支付成功的订单不能关闭)",
		Enforce, closePaid,
	},
	{
		// Another official page knows no limit and advises 5 minutes: on WeChat
		// Pay's own paths the rule only warns.
		CloseTooEarly, "the order's creation", guideCombine, conflict,
		"an order is not closed within 5 minutes of its creation (最短调用时间间隔为5分钟)",
		Warn, closeTooEarly,
	},
	{
		RefundContent, "the ledger's refund of the number", pageRefund, conflict,
		"out_refund_no is in use with another amount, currency or order; the same number says the same",
		Enforce, refundContent,
	},
	{
		RefundClosed, "the ledger's refund of the number", pageRefund, conflict,
		"the refund was closed and its out_refund_no is finished; a further try needs a new number",
		Enforce, refundClosed,
	},
	{
		RefundCombine, "the order that out_trade_no names", guideCombine, conflict,
		"a combine order is refunded by its sub-orders: state a sub-order's out_trade_no or transaction_id",
		Enforce, refundCombine,
	},
	{
		RefundNotPaid, "the payment's state, by a query when the ledger does not say paid", pageRefund, conflict,
		"the order is not paid; there is nothing to refund",
		Enforce, refundNotPaid,
	},
	{
		RefundCurrency, "amount.currency and the payment's", pageRefund, conflict,
		"amount.currency is not the currency of the payment",
		Enforce, refundCurrency,
	},
	{
		RefundTotal, "amount, and all that is reserved of the payment", guideRefund, conflict,
		"amount.total is not the payment's, or the refunds would exceed what was paid (申请退款总金额不能超过订单金额)",
		Enforce, refundTotal,
	},
	{
		RefundTooLate, "the payment's time", guideRefund, conflict,
		"the payment is more than a year old (交易时间超过一年的订单无法提交退款)",
		Enforce, refundTooLate,
	},
	{
		RefundCount, "how many refunds the payment has", guideRefund, conflict,
		"the payment has 50 refunds, which is all it takes (不超50次)",
		Enforce, refundCount,
	},
	{
		RefundSameNumber, "the payment's refunds that are open, and its last when it failed", guideRefund, conflict,
		"another refund of the payment is not settled, or the last one failed: query it, or apply again with its out_refund_no, never with a new one (请不要更换退款单号)",
		Enforce, refundSameNumber,
	},
	{
		RefundInterval, "the time of the payment's last refund", guideRefund, tooSoon,
		"different refunds of one payment lie a minute apart (同一笔订单多次退款的请求需相隔1分钟)",
		Enforce, refundInterval,
	},
	{
		RefundFailures, "refund requests that failed within a second, or began in it and may fail yet", guideRefund, tooSoon,
		"6 refund requests failed within a second, or may fail yet (错误或无效请求频率限制：6qps)",
		Enforce, refundFailures,
	},
	{
		RefundOldOrders, "refund requests within a minute for payments older than a month", guideRefund, tooSoon,
		"5000 refund requests for orders older than a month went out within a minute (5000/min)",
		Enforce, refundOldOrders,
	},
	{
		SharingTooEarly, "the payment's time", guideSharing, tooSoon,
		"money is not shared within a minute of its payment",
		Enforce, sharingTooEarly,
	},
}

func notifyURL(f Facts) Finding {
	if f.Notify == nil || f.Notify.URL == "" {
		return pass()
	}
	u, err := url.Parse(f.Notify.URL)
	if err != nil || u.User != nil || u.Hostname() == "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(f.Notify.URL, "#") ||
		u.Scheme != "https" && (u.Scheme != "http" || f.Notify.HTTPS) {
		return refuse()
	}
	return refuseIf(!f.Notify.Sandbox && !public(u.Hostname()))
}

// public reports whether the internet can mean something by the host: a global
// address, or a name with a dot outside the names that stay inside.
func public(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsGlobalUnicast() && !ip.IsPrivate() && !shared.Contains(ip)
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	dot := strings.LastIndexByte(host, '.')
	if dot <= 0 || allDigits(host[dot+1:]) {
		return false // no dot, or an address in another spelling
	}
	switch host[dot+1:] {
	case "", "localhost", "local", "internal", "lan", "home", "corp", "intranet":
		return false
	}
	return true
}

// shared is RFC 6598's address space behind carriers.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// allDigits also knows 0x…, which resolvers read as a number.
func allDigits(s string) bool {
	if strings.HasPrefix(s, "0x") {
		return true
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func subOrderCount(f Facts) Finding {
	if f.Combine == nil {
		return pass()
	}
	least, most := 2, 10
	if f.Combine.ServiceProvider {
		least, most = 1, 50
	}
	n := len(f.Combine.Appids)
	return refuseIf(n < least || n > most)
}

func oneAppid(f Facts) Finding {
	if f.Combine == nil {
		return pass()
	}
	one := ""
	for _, appid := range f.Combine.Appids {
		if !either(one, appid) {
			return refuse()
		}
		if appid != "" {
			one = appid
		}
	}
	return pass()
}

func openIDAppid(f Facts) Finding {
	for _, id := range f.OpenIDs {
		if !either(id.Appid, id.Known) {
			return refuse()
		}
	}
	return pass()
}

func closePaid(f Facts) Finding {
	switch {
	case f.Close == nil:
		return pass()
	case f.Close.Order == nil:
		return unchecked()
	}
	return refuseIf(f.Close.Order.State == storage.OrderPaid)
}

func closeTooEarly(f Facts) Finding {
	switch {
	case f.Close == nil:
		return pass()
	case f.Close.Order == nil, f.Close.Order.Origin != storage.OriginGateway, f.Close.Order.CreatedAt.IsZero():
		return unchecked() // a registration says nothing of when WeChat Pay made it
	case f.Close.Order.State == storage.OrderClosed:
		return pass() // a repeat
	}
	return wait(f.Close.Order.CreatedAt.Add(CloseAfter).Sub(f.Now))
}

func refundContent(f Facts) Finding {
	r := f.Refund
	return refuseIf(r != nil && r.Known != nil && r.Known.State != storage.RefundRejected && !Same(r.Known, &r.Stated))
}

func refundClosed(f Facts) Finding {
	r := f.Refund
	return refuseIf(r != nil && r.Known != nil && r.Known.State == storage.RefundClosed)
}

func refundCombine(f Facts) Finding { return refuseIf(f.Refund != nil && f.Refund.WholeCombine) }

// payment returns what is refunded, nil with the finding when there is nothing
// to look at: a repeat passes what its first request passed.
func payment(f Facts) (*Payment, Finding) {
	switch {
	case f.Refund == nil, f.Refund.Reserved():
		return nil, pass()
	case f.Refund.Payment == nil:
		return nil, unchecked()
	}
	return f.Refund.Payment, Finding{}
}

func refundNotPaid(f Facts) Finding {
	p, finding := payment(f)
	switch {
	case p == nil:
		return finding
	case p.Paid == PaidUnknown:
		return unchecked()
	}
	return refuseIf(p.Paid == PaidNo)
}

func refundCurrency(f Facts) Finding {
	p, finding := payment(f)
	switch {
	case p == nil:
		return finding
	case p.Amount.Currency == "":
		return unchecked()
	}
	return refuseIf(p.Amount.Currency != f.Refund.Stated.Currency)
}

func refundTotal(f Facts) Finding {
	if f.Refund != nil && f.Refund.Stated.Amount > f.Refund.Stated.Total {
		return refuse() // by its own word
	}
	p, finding := payment(f)
	switch {
	case p == nil:
		return finding
	case p.Amount.Total == 0 && f.Refund.Stated.Amount > f.Refund.Stated.Total-p.Refunds.Total:
		return refuse()
	case p.Amount.Total == 0:
		return unchecked()
	case f.Refund.Stated.Total != p.Amount.Total, f.Refund.Stated.Amount > p.Amount.Total-p.Refunds.Total:
		return refuse()
	case !p.Listed:
		return unchecked() // earlier refunds are WeChat Pay's to know
	}
	return pass()
}

func refundTooLate(f Facts) Finding {
	p, finding := payment(f)
	switch {
	case p == nil:
		return finding
	case p.PaidAt.IsZero():
		return unchecked()
	}
	return refuseIf(f.Now.After(p.PaidAt.AddDate(1, 0, 0)))
}

func refundCount(f Facts) Finding {
	p, finding := payment(f)
	switch {
	case p == nil:
		return finding
	case p.Refunds.Count >= MaxRefunds:
		return refuse()
	case !p.Listed:
		return unchecked()
	}
	return pass()
}

// refundSameNumber keeps to the number after an error or an unknown outcome: as
// long as one is open, no other number is taken; after a rejection, none with the
// same amount, which would be the same refund under a new number.
func refundSameNumber(f Facts) Finding {
	p, finding := payment(f)
	if p == nil {
		return finding
	}
	number, refunds := f.Refund.Stated.Key.OutRefundNo, p.Refunds
	switch {
	case slices.ContainsFunc(refunds.Open, func(open string) bool { return open != number }),
		refunds.Rejected == f.Refund.Stated.Amount && refunds.LastNo != number:
		return refuse()
	case !p.Listed:
		return unchecked()
	}
	return pass()
}

func refundInterval(f Facts) Finding {
	r := f.Refund
	switch {
	case r == nil:
		return pass()
	case r.Payment == nil:
		return unchecked()
	}
	if refunds := r.Payment.Refunds; refunds.LastNo != "" && refunds.LastNo != r.Stated.Key.OutRefundNo {
		if finding := wait(refunds.LastAt.Add(RefundEvery).Sub(f.Now)); finding.Verdict != Pass {
			return finding
		}
	}
	if !r.Payment.Listed {
		return unchecked()
	}
	return pass()
}

func refundFailures(f Facts) Finding {
	if f.Refund == nil {
		return pass()
	}
	return wait(f.Refund.FailureWait)
}

func refundOldOrders(f Facts) Finding {
	switch r := f.Refund; {
	case r == nil:
		return pass()
	case r.OldWait <= 0 && (r.Payment == nil || r.Payment.PaidAt.IsZero()):
		return unchecked()
	default:
		return wait(r.OldWait)
	}
}

// Old reports whether a payment counts as older than a month.
func Old(paidAt, now time.Time) bool { return !paidAt.IsZero() && now.After(paidAt.AddDate(0, 1, 0)) }

func sharingTooEarly(f Facts) Finding {
	switch {
	case f.Sharing == nil:
		return pass()
	case f.Sharing.PaidAt.IsZero():
		return unchecked()
	}
	return wait(f.Sharing.PaidAt.Add(ShareAfter).Sub(f.Now))
}
