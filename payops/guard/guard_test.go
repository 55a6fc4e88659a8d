package guard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// refunding is a refund of 30 of 100 fen that every rule passes; change says what
// is different.
func refunding(change func(*Refund)) Facts {
	r := &Refund{
		Stated: storage.Refund{
			Key: storage.RefundKey{Mchid: "1", OutRefundNo: "R2"}, Amount: 30, Total: 100, Currency: "CNY",
			Order: storage.OrderKey{Mchid: "1", Number: "N1"}, State: storage.RefundIntended,
		},
		Payment: &Payment{
			Amount: storage.Money{Total: 100, Currency: "CNY"}, Paid: PaidYes, PaidAt: now.Add(-time.Hour), Listed: true,
			Refunds: storage.Refunds{Total: 20, Count: 1, LastNo: "R1", LastAt: now.Add(-time.Hour)},
		},
	}
	if change != nil {
		change(r)
	}
	return Facts{Now: now, Refund: r}
}

func known(state storage.RefundState) func(*Refund) {
	return func(r *Refund) {
		k := r.Stated
		k.State = state
		r.Known = &k
	}
}

func notify(url string, https, sandbox bool) Facts {
	return Facts{Now: now, Notify: &Notify{URL: url, HTTPS: https, Sandbox: sandbox}}
}

func combine(provider bool, n int, appids ...string) Facts {
	all := make([]string, n)
	copy(all, appids)
	return Facts{Now: now, Combine: &Combine{ServiceProvider: provider, Appids: all}}
}

func closing(state storage.OrderState, origin storage.OrderOrigin, age time.Duration) Facts {
	return Facts{Now: now, Close: &Close{Order: &storage.Order{State: state, Origin: origin, CreatedAt: now.Add(-age)}}}
}

func sharing(age time.Duration) Facts {
	return Facts{Now: now, Sharing: &Sharing{PaidAt: now.Add(-age)}}
}

// cases are both sides of the edge of every rule. A positive retry is wanted to
// the nanosecond.
var cases = []struct {
	rule  Name
	name  string
	facts Facts
	want  Verdict
	retry time.Duration
}{
	{NotifyURL, "https", notify("https://pay.example.com/wechatpay/notify/shop", false, false), Pass, 0},
	{NotifyURL, "none", notify("", true, false), Pass, 0},
	{NotifyURL, "http", notify("http://pay.example.com/n", false, false), Pass, 0},
	{NotifyURL, "http where https is wanted", notify("http://pay.example.com/n", true, false), Refuse, 0},
	{NotifyURL, "https where https is wanted", notify("https://pay.example.com/n", true, false), Pass, 0},
	{NotifyURL, "port", notify("https://pay.example.com:8443/n", false, false), Pass, 0},
	{NotifyURL, "public address", notify("https://8.8.8.8/n", false, false), Pass, 0},
	{NotifyURL, "public IPv6", notify("https://[2400:3200::1]/n", false, false), Pass, 0},
	{NotifyURL, "query", notify("https://pay.example.com/n?a=b", false, false), Refuse, 0},
	{NotifyURL, "empty query", notify("https://pay.example.com/n?", false, false), Refuse, 0},
	{NotifyURL, "fragment", notify("https://pay.example.com/n#a", false, false), Refuse, 0},
	{NotifyURL, "empty fragment", notify("https://pay.example.com/n#", false, false), Refuse, 0},
	{NotifyURL, "user", notify("https://a:b@pay.example.com/n", false, false), Refuse, 0},
	{NotifyURL, "no host", notify("https:///n", false, false), Refuse, 0},
	{NotifyURL, "no scheme", notify("pay.example.com/n", false, false), Refuse, 0},
	{NotifyURL, "other scheme", notify("ftp://pay.example.com/n", false, false), Refuse, 0},
	{NotifyURL, "unreadable", notify("https://pay.example.com/%zz", false, false), Refuse, 0},
	{NotifyURL, "localhost", notify("http://localhost/n", false, false), Refuse, 0},
	{NotifyURL, "one label", notify("http://shop/n", false, false), Refuse, 0},
	{NotifyURL, "inside name", notify("http://pay.local./n", false, false), Refuse, 0},
	{NotifyURL, "loopback", notify("http://127.0.0.1/n", false, false), Refuse, 0},
	{NotifyURL, "loopback in hex", notify("http://0x7f.0x1/n", false, false), Refuse, 0},
	{NotifyURL, "loopback in short", notify("http://127.1/n", false, false), Refuse, 0},
	{NotifyURL, "private", notify("http://192.168.1.2/n", false, false), Refuse, 0},
	{NotifyURL, "link local", notify("http://169.254.169.254/n", false, false), Refuse, 0},
	{NotifyURL, "carrier", notify("http://100.64.0.1/n", false, false), Refuse, 0},
	{NotifyURL, "unspecified", notify("http://0.0.0.0/n", false, false), Refuse, 0},
	{NotifyURL, "mapped loopback", notify("http://[::ffff:127.0.0.1]/n", false, false), Refuse, 0},
	{NotifyURL, "unique local", notify("http://[fd00::1]/n", false, false), Refuse, 0},
	{NotifyURL, "loopback of a sandbox", notify("http://127.0.0.1/n", false, true), Pass, 0},
	{NotifyURL, "query in a sandbox", notify("http://127.0.0.1/n?a", false, true), Refuse, 0},

	{SubOrderCount, "direct 1", combine(false, 1), Refuse, 0},
	{SubOrderCount, "direct 2", combine(false, 2), Pass, 0},
	{SubOrderCount, "direct 10", combine(false, 10), Pass, 0},
	{SubOrderCount, "direct 11", combine(false, 11), Refuse, 0},
	{SubOrderCount, "provider 0", combine(true, 0), Refuse, 0},
	{SubOrderCount, "provider 1", combine(true, 1), Pass, 0},
	{SubOrderCount, "provider 50", combine(true, 50), Pass, 0},
	{SubOrderCount, "provider 51", combine(true, 51), Refuse, 0},

	{OneAppid, "none", combine(true, 3), Pass, 0},
	{OneAppid, "one", combine(true, 3, "", "wx1", "wx1"), Pass, 0},
	{OneAppid, "two", combine(true, 3, "wx1", "", "wx2"), Refuse, 0},

	{OpenIDAppid, "none", Facts{Now: now}, Pass, 0},
	{OpenIDAppid, "not known", Facts{Now: now, OpenIDs: []OpenID{{Appid: "wx1"}}}, Pass, 0},
	{OpenIDAppid, "its own app", Facts{Now: now, OpenIDs: []OpenID{{Appid: "wx1", Known: "wx1"}}}, Pass, 0},
	{OpenIDAppid, "another app", Facts{Now: now, OpenIDs: []OpenID{{Appid: "wx1", Known: "wx2"}}}, Refuse, 0},
	{OpenIDAppid, "the second of another app", Facts{Now: now, OpenIDs: []OpenID{{Appid: "wx1", Known: "wx1"}, {Appid: "wx3", Known: "wx2"}}}, Refuse, 0},

	{ClosePaid, "created", closing(storage.OrderCreated, storage.OriginGateway, time.Hour), Pass, 0},
	{ClosePaid, "unknown outcome", closing(storage.OrderUnknown, storage.OriginGateway, time.Hour), Pass, 0},
	{ClosePaid, "paid", closing(storage.OrderPaid, storage.OriginGateway, time.Hour), Refuse, 0},
	{ClosePaid, "not known", Facts{Now: now, Close: &Close{}}, Unchecked, 0},

	{CloseTooEarly, "at once", closing(storage.OrderCreated, storage.OriginGateway, 0), Refuse, 5 * time.Minute},
	{CloseTooEarly, "a moment early", closing(storage.OrderCreated, storage.OriginGateway, CloseAfter-1), Refuse, 1},
	{CloseTooEarly, "on time", closing(storage.OrderCreated, storage.OriginGateway, CloseAfter), Pass, 0},
	{CloseTooEarly, "repeat", closing(storage.OrderClosed, storage.OriginGateway, 0), Pass, 0},
	{CloseTooEarly, "registered", closing(storage.OrderRegistered, storage.OriginRegistered, 0), Unchecked, 0},
	{CloseTooEarly, "not known", Facts{Now: now, Close: &Close{}}, Unchecked, 0},

	{RefundContent, "new", refunding(nil), Pass, 0},
	{RefundContent, "repeat", refunding(known(storage.RefundUnknown)), Pass, 0},
	{RefundContent, "other amount", refunding(func(r *Refund) { known(storage.RefundUnknown)(r); r.Known.Amount++ }), Refuse, 0},
	{RefundContent, "other total", refunding(func(r *Refund) { known(storage.RefundSuccess)(r); r.Known.Total++ }), Refuse, 0},
	{RefundContent, "other currency", refunding(func(r *Refund) { known(storage.RefundAbnormal)(r); r.Known.Currency = "USD" }), Refuse, 0},
	{RefundContent, "other order", refunding(func(r *Refund) { known(storage.RefundProcessing)(r); r.Known.Order.Number = "N2" }), Refuse, 0},
	{RefundContent, "other transaction", refunding(func(r *Refund) {
		r.Stated.TransactionID = "42"
		known(storage.RefundProcessing)(r)
		r.Known.TransactionID = "43"
	}), Refuse, 0},
	{RefundContent, "by the other name", refunding(func(r *Refund) {
		known(storage.RefundProcessing)(r)
		r.Known.TransactionID, r.Stated.Order.Number = "42", ""
	}), Pass, 0},
	{RefundContent, "freed by a rejection", refunding(func(r *Refund) { known(storage.RefundRejected)(r); r.Known.Amount++ }), Pass, 0},

	{RefundClosed, "closed", refunding(known(storage.RefundClosed)), Refuse, 0},
	{RefundClosed, "abnormal", refunding(known(storage.RefundAbnormal)), Pass, 0},
	{RefundClosed, "new", refunding(nil), Pass, 0},

	{RefundCombine, "sub-order", refunding(nil), Pass, 0},
	{RefundCombine, "whole", refunding(func(r *Refund) { r.WholeCombine = true }), Refuse, 0},

	{RefundNotPaid, "paid", refunding(nil), Pass, 0},
	{RefundNotPaid, "not paid", refunding(func(r *Refund) { r.Payment.Paid = PaidNo }), Refuse, 0},
	{RefundNotPaid, "nobody knows", refunding(func(r *Refund) { r.Payment.Paid = PaidUnknown }), Unchecked, 0},
	{RefundNotPaid, "no payment known", refunding(func(r *Refund) { r.Payment = nil }), Unchecked, 0},

	{RefundCurrency, "same", refunding(nil), Pass, 0},
	{RefundCurrency, "other", refunding(func(r *Refund) { r.Stated.Currency = "USD" }), Refuse, 0},
	{RefundCurrency, "not known", refunding(func(r *Refund) { r.Payment.Amount = storage.Money{} }), Unchecked, 0},

	{RefundTotal, "all that is left", refunding(func(r *Refund) { r.Stated.Amount = 80 }), Pass, 0},
	{RefundTotal, "a fen more", refunding(func(r *Refund) { r.Stated.Amount = 81 }), Refuse, 0},
	{RefundTotal, "other total", refunding(func(r *Refund) { r.Stated.Total = 101 }), Refuse, 0},
	{RefundTotal, "more than its own total", refunding(func(r *Refund) { r.Stated.Amount = 101; r.Payment = nil }), Refuse, 0},
	{RefundTotal, "no payment known", refunding(func(r *Refund) { r.Payment = nil }), Unchecked, 0},
	{RefundTotal, "amount not known", refunding(func(r *Refund) { r.Payment.Amount.Total = 0 }), Unchecked, 0},
	{RefundTotal, "amount not known, more than its own total", refunding(func(r *Refund) { r.Payment.Amount.Total, r.Stated.Amount = 0, 81 }), Refuse, 0},
	{RefundTotal, "earlier refunds not known", refunding(func(r *Refund) { r.Payment.Listed = false }), Unchecked, 0},
	{RefundTotal, "wrong by WeChat Pay's word", refunding(func(r *Refund) { r.Payment.Listed, r.Payment.Amount.Total = false, 99 }), Refuse, 0},
	{RefundTotal, "repeat of all", refunding(func(r *Refund) { known(storage.RefundUnknown)(r); r.Payment.Refunds.Total = 100 }), Pass, 0},
	{RefundTotal, "rejected and gone since", refunding(func(r *Refund) { known(storage.RefundRejected)(r); r.Payment.Refunds.Total = 100 }), Refuse, 0},

	{RefundTooLate, "a year to the moment", refunding(func(r *Refund) { r.Payment.PaidAt = now.AddDate(-1, 0, 0) }), Pass, 0},
	{RefundTooLate, "a moment more", refunding(func(r *Refund) { r.Payment.PaidAt = now.AddDate(-1, 0, 0).Add(-1) }), Refuse, 0},
	{RefundTooLate, "not known", refunding(func(r *Refund) { r.Payment.PaidAt = time.Time{} }), Unchecked, 0},

	{RefundCount, "the fiftieth", refunding(func(r *Refund) { r.Payment.Refunds.Count = 49 }), Pass, 0},
	{RefundCount, "the fifty-first", refunding(func(r *Refund) { r.Payment.Refunds.Count = 50 }), Refuse, 0},
	{RefundCount, "repeat of the fiftieth", refunding(func(r *Refund) { known(storage.RefundProcessing)(r); r.Payment.Refunds.Count = 50 }), Pass, 0},
	{RefundCount, "not known, the fifty-first", refunding(func(r *Refund) { r.Payment.Listed, r.Payment.Refunds.Count = false, 50 }), Refuse, 0},
	{RefundCount, "not known", refunding(func(r *Refund) { r.Payment.Listed = false }), Unchecked, 0},

	{RefundSameNumber, "nothing open", refunding(nil), Pass, 0},
	{RefundSameNumber, "one is open", refunding(func(r *Refund) { r.Payment.Refunds.Open = []string{"R1"} }), Refuse, 0},
	{RefundSameNumber, "an older one is open", refunding(func(r *Refund) { r.Payment.Refunds.Open = []string{"R0"} }), Refuse, 0},
	{RefundSameNumber, "two are open", refunding(func(r *Refund) { r.Payment.Refunds.Open = []string{"R2", "R1"} }), Refuse, 0},
	{RefundSameNumber, "it is open itself", refunding(func(r *Refund) { r.Payment.Refunds.Open = []string{"R2"} }), Pass, 0},
	{RefundSameNumber, "one is open, its repeat", refunding(func(r *Refund) { known(storage.RefundUnknown)(r); r.Payment.Refunds.Open = []string{"R1"} }), Pass, 0},
	{RefundSameNumber, "after an error", refunding(func(r *Refund) { r.Payment.Refunds.Rejected = 30 }), Refuse, 0},
	{RefundSameNumber, "after an error, another amount", refunding(func(r *Refund) { r.Payment.Refunds.Rejected = 31 }), Pass, 0},
	{RefundSameNumber, "the same number", refunding(func(r *Refund) {
		r.Payment.Refunds.LastNo, r.Payment.Refunds.Rejected = "R2", 30
		known(storage.RefundRejected)(r)
	}), Pass, 0},
	{RefundSameNumber, "the first", refunding(func(r *Refund) { r.Payment.Refunds = storage.Refunds{} }), Pass, 0},
	{RefundSameNumber, "not known", refunding(func(r *Refund) { r.Payment.Listed = false }), Unchecked, 0},
	{RefundSameNumber, "open of one that is not listed", refunding(func(r *Refund) { r.Payment.Listed, r.Payment.Refunds.Open = false, []string{"R1"} }), Refuse, 0},

	{RefundInterval, "a minute", refunding(func(r *Refund) { r.Payment.Refunds.LastAt = now.Add(-RefundEvery) }), Pass, 0},
	{RefundInterval, "a moment less", refunding(func(r *Refund) { r.Payment.Refunds.LastAt = now.Add(1 - RefundEvery) }), Refuse, 1},
	{RefundInterval, "the same number at once", refunding(func(r *Refund) { r.Payment.Refunds.LastNo, r.Payment.Refunds.LastAt = "R2", now }), Pass, 0},
	{RefundInterval, "the first", refunding(func(r *Refund) { r.Payment.Refunds = storage.Refunds{} }), Pass, 0},
	{RefundInterval, "not listed, a moment less", refunding(func(r *Refund) {
		r.Payment.Listed, r.Payment.Refunds.LastAt = false, now.Add(1-RefundEvery)
	}), Refuse, 1},
	{RefundInterval, "not listed, a minute", refunding(func(r *Refund) { r.Payment.Listed = false }), Unchecked, 0},
	{RefundInterval, "not known", refunding(func(r *Refund) { r.Payment = nil }), Unchecked, 0},

	{RefundFailures, "few", refunding(nil), Pass, 0},
	{RefundFailures, "full", refunding(func(r *Refund) { r.FailureWait = time.Second }), Refuse, time.Second},

	{RefundOldOrders, "few", refunding(nil), Pass, 0},
	{RefundOldOrders, "full", refunding(func(r *Refund) { r.OldWait = time.Minute }), Refuse, time.Minute},
	{RefundOldOrders, "age not known", refunding(func(r *Refund) { r.Payment = nil }), Unchecked, 0},

	{SharingTooEarly, "a moment early", sharing(ShareAfter - 1), Refuse, 1},
	{SharingTooEarly, "a minute", sharing(ShareAfter), Pass, 0},
	{SharingTooEarly, "not known", Facts{Now: now, Sharing: &Sharing{}}, Unchecked, 0},
}

func TestEveryRuleAtItsEdge(t *testing.T) {
	seen := map[Name]map[Verdict]bool{}
	for _, tc := range cases {
		rule := find(tc.rule)
		got := rule.Check(tc.facts)
		if got.Verdict != tc.want || got.RetryAfter != tc.retry {
			t.Errorf("%s, %s: %s after %s, want %s after %s", tc.rule, tc.name, got.Verdict, got.RetryAfter, tc.want, tc.retry)
		}
		if seen[tc.rule] == nil {
			seen[tc.rule] = map[Verdict]bool{}
		}
		seen[tc.rule][got.Verdict] = true
	}
	for _, rule := range Table {
		if !seen[rule.Name][Pass] || !seen[rule.Name][Refuse] {
			t.Errorf("%s is not tried on both sides", rule.Name)
		}
		if rule.Check(Facts{Now: now}) != pass() {
			t.Errorf("%s has something to say about nothing", rule.Name)
		}
		if rule.Looks == "" || rule.Source == "" || rule.Message == "" || rule.Status < 400 || rule.Status > 429 {
			t.Errorf("%s is not described", rule.Name)
		}
		if first := slices.Index(Names(), rule.Name); slices.Contains(Names()[first+1:], rule.Name) {
			t.Errorf("%s is there twice", rule.Name)
		}
	}
}

// TestModes: enforce refuses, warn tells, off does not look.
func TestModes(t *testing.T) {
	for _, tc := range cases {
		for _, mode := range []Mode{Enforce, Warn, Off} {
			p, err := NewPolicy([]Setting{{Mode: Off}, {Mode: mode, Rules: []Name{tc.rule}}})
			if err != nil {
				t.Fatal(err)
			}
			got := Evaluate(p, tc.facts)
			refused := got.Refusal != nil && got.Refusal.Rule.Name == tc.rule && got.Refusal.RetryAfter == tc.retry
			if refused != (tc.want == Refuse && mode == Enforce) ||
				slices.Contains(got.Warnings, tc.rule) != (tc.want == Refuse && mode == Warn) ||
				slices.Contains(got.Unchecked, tc.rule) != (tc.want == Unchecked && mode != Off) {
				t.Errorf("%s, %s, %s: %+v", tc.rule, tc.name, mode, got)
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	for _, tc := range []struct {
		lines   []string
		refund  Mode // of refund_total
		closing Mode // of close_too_early
		err     string
	}{
		{nil, Enforce, Warn, ""},
		{[]string{"enforce"}, Enforce, Warn, ""},
		{[]string{"enforce close_too_early"}, Enforce, Enforce, ""},
		{[]string{"warn"}, Warn, Warn, ""},
		{[]string{"off"}, Off, Off, ""},
		{[]string{"off refund_total", "warn"}, Off, Warn, ""},
		{[]string{"warn", "enforce refund_total"}, Enforce, Warn, ""},
		{[]string{"off close_too_early refund_total"}, Off, Off, ""},
		{[]string{"sometimes"}, "", "", `"sometimes" is no mode`},
		{[]string{"off refund"}, "", "", `no rule "refund"; there are close_paid, `},
		{[]string{"off refund_total refund_total"}, "", "", "named twice"},
		{[]string{"off refund_total", "warn refund_total"}, "", "", "named twice"},
		{[]string{"off", "warn"}, "", "", "two lines"},
		{[]string{""}, "", "", "needs enforce, warn or off"},
	} {
		var settings []Setting
		var err error
		for _, line := range tc.lines {
			s, failed := ParseSetting(strings.Fields(line))
			if failed != nil {
				err = failed
			}
			settings = append(settings, s)
		}
		p, failed := NewPolicy(settings)
		if err == nil {
			err = failed
		}
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: %v, want %s", tc.lines, err, tc.err)
			}
			continue
		}
		if err != nil || p.Mode(RefundTotal) != tc.refund || p.Mode(CloseTooEarly) != tc.closing {
			t.Errorf("%q: %s %s %v", tc.lines, p.Mode(RefundTotal), p.Mode(CloseTooEarly), err)
		}
	}
}

func TestParseLimit(t *testing.T) {
	for _, tc := range []struct {
		args string
		want string
	}{
		{"refund_per_day 5000 refund_per_order 500 sub_mchid 1900000109", "{[1900000109] 500.00 5000.00}"},
		{"sub_mchid 1 sub_mchid 2", "{[1 2] 0.00 0.00}"},
		{"refund_per_order 0.01", "{[] 0.01 0.00}"},
		{"refund_per_order 1.5", "{[] 1.50 0.00}"},
		{"refund_per_order 92233720368547758.07", "{[] 92233720368547758.07 0.00}"},
		{"refund_per_order 92233720368547758.08", "error"},
		{"refund_per_order 0", "error"}, {"refund_per_order -1", "error"}, {"refund_per_order 1.", "error"},
		{"refund_per_order .5", "error"}, {"refund_per_order 1.234", "error"}, {"refund_per_order 1e3", "error"},
		{"refund_per_order +1", "error"}, {"refund_per_order 1,000", "error"}, {"refund_per_order", "error"},
		{"", "error"}, {"refunds 5", "error"}, {"refund_per_day 5 refund_per_day 6", "error"},
		{"sub_mchid 1 sub_mchid 1", "error"}, {"sub_mchid x", "error"}, {"sub_mchid 0x1", "error"},
	} {
		l, err := ParseLimit(Limit{}, strings.Fields(tc.args))
		yuan := func(f storage.Fen) string { return fmt.Sprintf("%d.%02d", f/100, f%100) }
		got := fmt.Sprintf("{%v %s %s}", l.SubMchids, yuan(l.RefundPerOrder), yuan(l.RefundPerDay))
		if err != nil {
			got = "error"
		}
		if got != tc.want {
			t.Errorf("%q: %s %v, want %s", tc.args, got, err, tc.want)
		}
	}
	first, err := ParseLimit(Limit{}, []string{"sub_mchid", "1"})
	if err != nil {
		t.Fatal(err)
	}
	if second, err := ParseLimit(first, []string{"refund_per_day", "1"}); err != nil || len(second.SubMchids) != 1 || second.RefundPerDay != 100 {
		t.Error(second, err)
	}
}

func TestLimitEdges(t *testing.T) {
	l := Limit{SubMchids: []string{"1", "2"}, RefundPerOrder: 100}
	for _, tc := range []struct {
		subs []string
		want bool
	}{{[]string{"1"}, true}, {[]string{"2", "1"}, true}, {[]string{"1", "3"}, false}, {nil, false}, {[]string{""}, false}} {
		if l.Allows(tc.subs) != tc.want {
			t.Error(tc.subs)
		}
	}
	if !(Limit{}).Allows(nil) || !(Limit{}).WithinOrder(1<<62, 1<<62) {
		t.Error("no limit limits")
	}
	if !l.WithinOrder(60, 40) || l.WithinOrder(60, 41) || l.WithinOrder(101, 1) {
		t.Error("per order")
	}
}

func TestDay(t *testing.T) {
	l := Limit{RefundPerDay: 100}
	if !l.WithinDay(60, 40) || l.WithinDay(60, 41) || l.WithinDay(101, 1) || !(Limit{}).WithinDay(1<<62, 1<<62) {
		t.Error("per day")
	}
	late := time.Date(2026, 11, 22, 23, 59, 59, 0, china)
	if Tomorrow(late) != time.Second || Tomorrow(late.Add(time.Second)) != 24*time.Hour {
		t.Error(Tomorrow(late))
	}
	if Day(late.UTC()) != "2026-11-22" || Day(late.Add(time.Second).UTC()) != "2026-11-23" {
		t.Error(Day(late))
	}
}

func TestWindow(t *testing.T) {
	w := FailureWindow
	var e Events
	for i := range MaxFailures {
		at := now.Add(time.Duration(i))
		if wait := w.Wait(e, at); wait != 0 {
			t.Fatal(i, wait)
		}
		e = w.Add(e, at)
	}
	if wait := w.Wait(e, now.Add(FailureSpan-1)); wait != 1 {
		t.Error(wait)
	}
	if wait := w.Wait(e, now.Add(FailureSpan)); wait != 0 {
		t.Error(wait)
	}
	again := w.Add(e, now.Add(FailureSpan))
	if wait := w.Wait(again, now.Add(FailureSpan)); wait != 1 {
		t.Error("one place only:", wait)
	}
	if len(e) != MaxFailures || len(again) != MaxFailures {
		t.Error(len(e), len(again))
	}
	if until := w.Until(again); !until.Equal(now.Add(2*FailureSpan)) || !w.Until(nil).IsZero() {
		t.Error(until)
	}
	// More than fit, as when several were on their way at once: the newest count.
	for range 3 * MaxFailures {
		e = w.Add(e, now.Add(FailureSpan/2))
	}
	if wait := w.Wait(e, now.Add(FailureSpan)); wait != FailureSpan/2 || len(e) != 1 {
		t.Error(wait, len(e))
	}
	// A clock that is set back does not shut the gate for as long.
	if wait := w.Wait(e, now.Add(-time.Hour)); wait != 0 {
		t.Error(wait)
	}
	if e = w.Add(e, now.Add(-time.Hour)); len(e) != 1 || w.Wait(e, now.Add(-time.Hour)) != 0 {
		t.Error(e)
	}
}

// TestOldWindow: no minute sees more than it may, and what tells so stays small.
func TestOldWindow(t *testing.T) {
	w := OldWindow
	var e Events
	var sent []time.Time
	at := now
	waited := time.Duration(0)
	for range 3 * MaxOldRefunds {
		if wait := w.Wait(e, at); wait > 0 {
			at, waited = at.Add(wait), waited+wait
			if w.Wait(e, at) > 0 {
				t.Fatal("who waits as long as is said still waits")
			}
		}
		var err error
		if e, err = ParseEvents(w.Add(e, at).Encode()); err != nil {
			t.Fatal(err)
		}
		if len(e) > 62 || len(e.Encode()) > 4<<10 {
			t.Fatal(len(e), "pairs")
		}
		sent = append(sent, at)
		if n := len(sent); n > MaxOldRefunds && at.Sub(sent[n-1-MaxOldRefunds]) < OldSpan {
			t.Fatal("one too many within", at.Sub(sent[n-1-MaxOldRefunds]))
		}
		at = at.Add(7 * time.Millisecond)
	}
	if waited == 0 {
		t.Error("never full")
	}
	if whole := at.Sub(now); whole > 3*(OldSpan+time.Second) {
		t.Error("much stricter than the rule:", whole)
	}
}

func TestParseEvents(t *testing.T) {
	for text, ok := range map[string]bool{
		"": false, "{}": false, "[]": true, "null": true, "[[1,2]]": true, "[[1,0]]": false, "[[1]]": false,
		"[[2,1],[1,1]]": false, "[[1,1],[1,1]]": true, `[["1",1]]`: false,
	} {
		if _, err := ParseEvents([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestOld(t *testing.T) {
	if Old(time.Time{}, now) || Old(now.AddDate(0, -1, 0), now) || !Old(now.AddDate(0, -1, 0).Add(-1), now) {
		t.Error("a month")
	}
}

// TestWindowRemove: what was added and goes leaves the rest as it would be
// without it, and nothing that does not count any more takes another's place.
func TestWindowRemove(t *testing.T) {
	w := FailureWindow
	var e Events
	for i := range 4 {
		e = w.Add(e, now.Add(time.Duration(i)*time.Millisecond))
	}
	e = w.Add(e, now) // of a clock that is behind: it counts with the last
	full := w.Add(e, now.Add(4*time.Millisecond))
	if w.Wait(full, now) <= 0 || w.Wait(w.Remove(full, now, now.Add(time.Second/2)), now) != 0 {
		t.Error("one that goes makes no room")
	}
	if got := w.Remove(full, now, now.Add(FailureSpan)); len(got) != len(full) || got[0] != full[0] {
		t.Errorf("one that is over takes another with it: %v", got)
	}
	left := full
	for range MaxFailures {
		left = w.Remove(left, now, now)
	}
	if len(left) != 0 || len(w.Remove(left, now, now)) != 0 || w.Wait(full, now) <= 0 {
		t.Errorf("%v %v", left, full)
	}
}
