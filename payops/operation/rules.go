package operation

import "strings"

// rule puts the operations it matches into a group.
type rule struct {
	group   Group
	matches func(o shape) bool
}

// shape is an operation as the rules see it.
type shape struct {
	method    string
	path      string
	segments  []string // without the leading "v3"; parameters as "{name}"
	multipart bool
}

// rules, first match wins; nothing matched is Other. The order matters in four
// places, which the comments name.
var rules = []rule{
	// Before everything else: every close is close, whatever it closes.
	{Close, func(o shape) bool { return o.post() && o.last() == "close" }},

	// Before profitsharing and transfer: their bills are bills.
	{Bill, func(o shape) bool {
		return o.has("bill", "bills", "billdownload", "merchant-bill", "bill-download-url", "bill-type", "statements")
	}},

	// Before query and refund: profit sharing has transactions and refunds of
	// its own in its paths.
	{ProfitSharing, func(o shape) bool { return o.has("profitsharing", "profit-sharing") }},
	{Transfer, func(o shape) bool {
		return o.has("transfer", "transfer-detail", "transferdownload", "mch-transfer", "partner-transfer",
			"bank-transfer", "bank-batch-transfer", "transfer-batches", "brand-redpacket")
	}},

	// Every order and refund query, of whatever product (parking and payscore
	// orders too).
	{Query, func(o shape) bool { return o.method == "GET" && o.has("refunds") }},
	{Query, func(o shape) bool {
		return o.method == "GET" && o.has("transactions", "combine-transactions") && !o.starts("funds-to-oversea")
	}},
	{Query, func(o shape) bool {
		return o.method == "GET" && o.starts("payscore") && o.has("serviceorder", "payafter-orders", "smartretail-orders")
	}},
	{Query, func(o shape) bool {
		return o.method == "GET" && (o.starts("med-ins", "orders") || o.starts("discount-card", "orders") ||
			o.starts("credit-repayment", "partner", "deduct-orders"))
	}},

	// The refund family. A reversal (撤销) gives paid money back as well; the
	// reverse of an invoice is none.
	{Refund, func(o shape) bool { return o.post() && o.has("refunds") }},
	{Refund, func(o shape) bool { return o.post() && o.last() == "reverse" && o.has("transactions") }},

	// Creating orders. Deductions without the payer's consent in the moment
	// (papay, entrusted, payscore) are not among them: they stay other.
	{Partner, func(o shape) bool {
		return o.post() && o.starts("pay", "partner", "transactions") && len(o.segments) == 4 && o.last() != "exposure"
	}},
	{Pay, func(o shape) bool {
		return o.post() && o.starts("pay", "transactions") && len(o.segments) == 3 && o.last() != "exposure"
	}},
	{Pay, func(o shape) bool { return o.post() && o.starts("global", "transactions") && len(o.segments) == 3 }},
	{Pay, func(o shape) bool { return o.post() && o.starts("global", "micropay", "transactions", "pay") }},
	{Combine, func(o shape) bool { return o.post() && o.starts("combine-transactions") && len(o.segments) == 2 }},
	{Combine, func(o shape) bool {
		return o.post() && o.starts("repayment", "combine-transactions") && o.last() == "prepay"
	}},

	{Parking, func(o shape) bool {
		return o.starts("vehicle", "parking") || o.starts("vehicle", "transactions", "parking") || o.starts("parking")
	}},

	{Media, func(o shape) bool { return o.multipart || o.has("images") }},
	{Crypto, func(o shape) bool {
		return o.path == "/v3/certificates" || o.path == "/v3/global/certificates" || o.starts("security")
	}},
}

// groupOf returns the group of the first rule that matches.
func groupOf(o shape) Group {
	for _, r := range rules {
		if r.matches(o) {
			return r.group
		}
	}
	return Other
}

func (o shape) post() bool   { return o.method == "POST" }
func (o shape) last() string { return o.segments[len(o.segments)-1] }

// has reports whether one of the words is a whole segment of the path.
func (o shape) has(words ...string) bool {
	for _, s := range o.segments {
		for _, w := range words {
			if s == w {
				return true
			}
		}
	}
	return false
}

// starts reports whether the path begins with these segments.
func (o shape) starts(words ...string) bool {
	if len(o.segments) < len(words) {
		return false
	}
	for i, w := range words {
		if o.segments[i] != w {
			return false
		}
	}
	return true
}

// newShape takes a template apart.
func newShape(method, path string, multipart bool) shape {
	return shape{
		method: method, path: path, multipart: multipart,
		segments: strings.Split(strings.TrimPrefix(path, "/v3/"), "/"),
	}
}
