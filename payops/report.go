package payops

import (
	"context"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

// Report says what an operation of WeChat Pay's did, for whoever serves an [API]
// and goes on from its answer. It is filled before the first byte of the answer
// is written, and only by a success: a verified 2xx whose outcome is known. The
// zero value is everything else: a refusal, a rejection, an unknown outcome, a
// streamed file, a resource of the gateway's own.
type Report struct {
	// Operation is "METHOD path-template", "" when there was no success.
	Operation string
	// Group is the operation's.
	Group operation.Group
	// Status is WeChat Pay's.
	Status int
	// Caller is who asked.
	Caller string
	// RequestID is WeChat Pay's Request-ID, which its support asks for.
	RequestID string

	named map[string]string
}

// reported are the members that Named knows, with the spellings that stand for
// them.
var reported = map[string][]string{
	"appid":          {"appid", "sp_appid", "combine_appid"},
	"sub_mchid":      {"sub_mchid"},
	"out_trade_no":   {"out_trade_no", "combine_out_trade_no"},
	"transaction_id": {"transaction_id"},
	"out_refund_no":  {"out_refund_no"},
	"refund_id":      {"refund_id"},
	"out_order_no":   {"out_order_no"},
	"out_bill_no":    {"out_bill_no"},
	"parking_id":     {"parking_id"},
}

// Named returns what the operation was about, as its path, its body or WeChat
// Pay's answer states it, in this order: appid, sub_mchid, out_trade_no (of a
// combine order combine_out_trade_no), transaction_id, out_refund_no, refund_id,
// out_order_no, out_bill_no, parking_id. It is "" where nothing states it.
func (r *Report) Named(name string) string { return r.named[name] }

// reportKey is where a request's context carries its report.
type reportKey struct{}

// WithReport returns a context whose request, served by an [API], fills the report.
func WithReport(ctx context.Context, r *Report) context.Context {
	return context.WithValue(ctx, reportKey{}, r)
}

// report fills the report that was asked for, if any, with a success.
func (a *API) report(q *request, res send.Result, known bool) {
	if q.client == nil {
		return
	}
	r, ok := q.client.Value(reportKey{}).(*Report)
	if !ok || !known || res.Outcome != send.Succeeded || q.op.Operation == nil {
		return
	}
	*r = Report{
		Operation: q.op.String(), Group: q.op.Group, Status: res.Status, Caller: q.caller.Name,
		RequestID: res.Header.Get("Request-Id"), named: make(map[string]string),
	}
	body := q.body
	if q.uploads() {
		body = q.signed
	}
	asked, answered := gjson.ParseBytes(body), gjson.ParseBytes(res.Body)
	for name, spellings := range reported {
		for _, spelling := range spellings {
			for _, text := range append(q.op.Named(spelling), textOf(asked, spelling), textOf(answered, spelling)) {
				if r.named[name] == "" {
					r.named[name] = text
				}
			}
		}
	}
}

// textOf returns a string member of an object, "" for anything else.
func textOf(o gjson.Result, name string) string {
	if member := o.Get(name); member.Type == gjson.String {
		return member.Str
	}
	return ""
}
