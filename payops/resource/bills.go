package resource

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/bill"
)

// Rules that bills are refused by.
const (
	RuleNoBill       = "no_bill"        // 404: WeChat Pay has no bill of that day
	RuleBillNotReady = "bill_not_ready" // 409: it is being made; from ten o'clock of the next day
	RuleBillRefused  = "bill_refused"   // WeChat Pay's own status: it refuses the request
	RuleBillBroken   = "bill_broken"    // 502: the file is not the one that was signed, or cannot be read
	RuleBillTooLarge = "bill_too_large" // 502: the file exceeds what the gateway passes on
	RuleTempFile     = "temp_file"      // 503: the temporary file cannot be written
	contentCSV       = "text/csv; charset=utf-8"
	billRetry        = 30 * time.Minute // as WeChat Pay advises
)

// Stream is an answer that is written as it is read.
type Stream struct {
	// Length is its length in bytes, -1 when it is not known before.
	Length int64
	// Write writes all of it. After an error the answer is broken off, so that no
	// part of it looks like the whole.
	Write func(io.Writer) error
	// Close is called once, whether or not Write was.
	Close func() error
}

// tradeBill serves GET /gateway/bills/trade?date=yyyy-MM-dd&type=ALL&sub_mchid=.
func (rs *Resources) tradeBill(r *Request) Response {
	values, refused := r.Values("date", "type", "sub_mchid")
	if refused.Refused() {
		return refused
	}
	return rs.bill(r, bill.Request{
		Kind: bill.KindTrade, Date: values.Get("date"), Type: bill.Type(values.Get("type")), SubMchid: values.Get("sub_mchid"),
	})
}

// fundFlowBill serves GET /gateway/bills/fundflow?date=yyyy-MM-dd&account=BASIC&sub_mchid=.
func (rs *Resources) fundFlowBill(r *Request) Response {
	values, refused := r.Values("date", "account", "sub_mchid")
	if refused.Refused() {
		return refused
	}
	return rs.bill(r, bill.Request{
		Kind: bill.KindFundFlow, Date: values.Get("date"), Account: bill.Account(values.Get("account")), SubMchid: values.Get("sub_mchid"),
	})
}

// bill fetches a bill and streams it: as WeChat Pay has it, or its records as
// JSON. Either way nothing is streamed before all of it has been checked.
func (rs *Resources) bill(r *Request, request bill.Request) Response {
	if refused := r.noBody(); refused.Refused() {
		return refused
	}
	if _, err := request.Target(); err != nil {
		return badRequest(RulePath, "date must be a day, yyyy-MM-dd; type ALL, SUCCESS, REFUND or a special one; account BASIC, OPERATION or FEES")
	}
	asJSON := prefersJSON(r.Header.Values("Accept"))
	switch request.Type {
	case "", bill.TypeAll, bill.TypeSuccess, bill.TypeRefund:
	case bill.TypeRechargeRefund, bill.TypeAllSpecial, bill.TypeSuccessSpecial, bill.TypeRefundSpecial:
		if asJSON {
			return badRequest(RuleContentType, "bills of this type are to be had as text/csv alone")
		}
	}
	file, err := r.Core.Bill(request)
	if err != nil {
		return rs.billRefusal(err)
	}
	response := Response{Status: http.StatusOK, Header: http.Header{"Cache-Control": {"no-store"}, "Vary": {"Accept"}}}
	if !asJSON {
		response.Header.Set("Content-Type", contentCSV)
		response.Header.Set("Content-Disposition", `attachment; filename="`+rs.billName(request)+`"`)
		response.Stream = &Stream{Length: file.Size(), Close: file.Close, Write: func(w io.Writer) error {
			_, err := io.Copy(w, file.Reader())
			return err
		}}
		return response
	}
	write, err := rs.billJSON(request, file)
	if err != nil {
		return rs.billRefusal(errors.Join(err, file.Close()))
	}
	response.Header.Set("Content-Type", contentJSON)
	response.Stream = &Stream{Length: -1, Close: file.Close, Write: write}
	return response
}

// billName names the file.
func (rs *Resources) billName(r bill.Request) string {
	which := "all"
	switch {
	case r.Type != "":
		which = strings.ToLower(string(r.Type))
	case r.Account != "":
		which = strings.ToLower(string(r.Account))
	case r.Kind == bill.KindFundFlow:
		which = "basic"
	}
	name := rs.Merchant.Mchid()
	if r.SubMchid != "" {
		name += "-" + r.SubMchid
	}
	return string(r.Kind) + "-" + name + "-" + r.Date + "-" + which + ".csv"
}

// billJSON reads a bill to its end and returns what writes it as JSON.
func (rs *Resources) billJSON(r bill.Request, file *bill.File) (write func(io.Writer) error, err error) {
	head := struct {
		Kind     bill.Kind    `json:"kind"`
		Mchid    string       `json:"mchid"`
		SubMchid string       `json:"sub_mchid,omitempty"`
		Date     string       `json:"date"`
		Type     bill.Type    `json:"type,omitempty"`
		Account  bill.Account `json:"account,omitempty"`
		Totals   any          `json:"totals"`
	}{r.Kind, rs.Merchant.Mchid(), r.SubMchid, r.Date, r.Type, r.Account, nil}
	if r.Kind == bill.KindFundFlow {
		if head.Account == "" {
			head.Account = bill.AccountBasic
		}
		if head.Totals, err = bill.CheckFlows(file.Reader()); err != nil {
			return nil, err
		}
		return func(w io.Writer) error { return writeRecords(w, head, bill.Flows(file.Reader())) }, nil
	}
	if head.Type == "" {
		head.Type = bill.TypeAll
	}
	if head.Totals, err = bill.CheckTrades(file.Reader()); err != nil {
		return nil, err
	}
	return func(w io.Writer) error { return writeRecords(w, head, bill.Trades(file.Reader())) }, nil
}

// writeRecords writes an object with one more member, records, one line each.
func writeRecords[T any](w io.Writer, head any, records iter.Seq2[T, error]) error {
	out := bufio.NewWriterSize(w, 32<<10)
	begin, err := json.Marshal(head)
	if err != nil {
		return err
	}
	_, _ = out.Write(begin[:len(begin)-1]) // an error stays with out
	_, _ = out.WriteString(`,"records":[`)
	between := "\n"
	for record, err := range records {
		if err != nil {
			return err
		}
		line, err := json.Marshal(record)
		if err != nil {
			return err
		}
		_, _ = out.WriteString(between)
		if _, err := out.Write(line); err != nil {
			return err
		}
		between = ",\n"
	}
	_, _ = out.WriteString("\n]}\n")
	return out.Flush()
}

// billRefusal turns what ended a fetch into an answer.
func (rs *Resources) billRefusal(err error) Response {
	var rejected *bill.RejectedError
	switch {
	case errors.Is(err, bill.ErrNoStatement):
		return refuse(http.StatusNotFound, "NO_STATEMENT_EXIST", RuleNoBill, "WeChat Pay has no bill of that day: nothing was paid, refunded or moved")
	case errors.Is(err, bill.ErrNotReady):
		return later(refuse(http.StatusConflict, "STATEMENT_CREATING", RuleBillNotReady, "the bill is not ready: ask again after ten o'clock (Beijing time) of the next day"), billRetry)
	case errors.As(err, &rejected):
		code := rejected.Code
		if code == "" {
			code = codeInvalid
		}
		return refuse(rejected.Status, code, RuleBillRefused, "WeChat Pay refuses the request for the bill")
	case errors.Is(err, bill.ErrUnavailable), errors.Is(err, bill.ErrLinkExpired), errors.Is(err, bill.ErrIncomplete):
		rs.Logger.Warn("a bill could not be fetched", "error", err)
		return unreachable("the bill could not be fetched whole; nothing of it was passed on, and asking again is harmless")
	case errors.Is(err, bill.ErrTooLarge):
		rs.Logger.Error("a bill is too large", "error", err)
		return refuse(http.StatusBadGateway, codeSystem, RuleBillTooLarge, "the bill is larger than the gateway passes on")
	case errors.Is(err, bill.ErrDisk):
		rs.Logger.Error("a bill could not be kept", "error", err)
		return later(refuse(http.StatusServiceUnavailable, codeSystem, RuleTempFile, "the gateway cannot write a temporary file"), 5*time.Second)
	}
	rs.Logger.Error("a bill is not what it should be", "error", err)
	message := "the bill is not the file that WeChat Pay signed; nothing of it was passed on"
	var where *bill.ParseError
	if errors.As(err, &where) {
		message = fmt.Sprintf("the bill cannot be read exactly (line %d); it is to be had as text/csv", where.Line)
	}
	return refuse(http.StatusBadGateway, codeSystem, RuleBillBroken, message)
}

// prefersJSON reports whether a caller wants JSON rather than CSV (RFC 9110,
// section 12.5.1); without a wish it gets CSV.
func prefersJSON(accept []string) bool {
	quality := func(offer, group string) float64 {
		best, exact := 0.0, -1
		for _, item := range strings.Split(strings.Join(accept, ","), ",") {
			media, params, err := mime.ParseMediaType(item)
			if err != nil {
				continue
			}
			rank := -1
			switch media {
			case offer:
				rank = 2
			case group:
				rank = 1
			case "*/*":
				rank = 0
			}
			if rank <= exact {
				continue
			}
			exact, best = rank, 1
			if q, err := strconv.ParseFloat(params["q"], 64); err == nil && q >= 0 && q <= 1 {
				best = q
			}
		}
		return best
	}
	return quality("application/json", "application/*") > quality("text/csv", "text/*")
}
