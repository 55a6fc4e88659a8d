package payops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/bill"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/reconcile"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/resource"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

// Bill fetches a bill of the merchant's for the gateway itself: the daily
// reconciliation. The file is for the caller to close. Errors: as of
// [bill.Client.Fetch].
func (a *API) Bill(ctx context.Context, request bill.Request) (*bill.File, error) {
	if err := a.merchant.Ready(); err != nil {
		return nil, fmt.Errorf("%w: %w", bill.ErrUnavailable, err)
	}
	return a.bills.Fetch(ctx, request)
}

// Reconcile fetches the day's trade bill and compares it with the ledger, not
// before the bill can be ready. listing lists what the ledger has of the day; nil:
// what is missing in the bill is not looked for. After an error nothing is known.
// Errors: as of [bill.Client.Fetch] without [bill.ErrNoStatement], and as of
// [reconcile.Compare].
func (a *API) Reconcile(ctx context.Context, date string, listing reconcile.Listing) (*reconcile.Report, error) {
	ready, err := bill.ReadyAt(date)
	if err != nil {
		return nil, err
	}
	if a.now().Before(ready) {
		return nil, bill.ErrNotReady // WeChat Pay would say that there is none
	}
	in := reconcile.Input{Merchant: a.merchant.Name(), Mchid: a.merchant.Mchid(), Date: date, Ledger: a.ledger, Listing: listing}
	file, err := a.Bill(ctx, bill.Request{Kind: bill.KindTrade, Date: date})
	switch {
	case errors.Is(err, bill.ErrNoStatement):
	case err != nil:
		return nil, err
	default:
		defer func() { _ = file.Close() }() // nothing was written to it
		in.Bill = bill.Trades(file.Reader())
	}
	return reconcile.Compare(ctx, in)
}

// newBills makes what fetches bills.
func (a *API) newBills(dir string) (*bill.Client, error) {
	return bill.NewClient(bill.Config{
		Sender: billSender{a}, Bases: a.merchant.APIBases(), Dir: dir,
		MaxSize: a.maxDownload, Timeout: a.downloadTimeout, Now: a.now,
	})
}

// billCaller is the key of the caller's name in a context.
type billCaller struct{}

// billSender sends what a fetch of a bill sends, and counts and logs it.
type billSender struct{ a *API }

// Do implements [bill.Sender].
func (s billSender) Do(ctx context.Context, r send.Request) send.Result {
	path, _, _ := strings.Cut(r.Target, "?") // the rest holds the token of a link
	caller, _ := ctx.Value(billCaller{}).(string)
	started := s.a.now()
	res := s.a.sender.Do(ctx, r)
	took := s.a.now().Sub(started)
	s.a.observer.Called(operation.Bill, res.Outcome, took)
	s.a.observe(res)
	level := slog.LevelInfo
	if res.Outcome == send.Unknown || res.Outcome == send.Unsent {
		level = slog.LevelWarn
	}
	s.a.log.Log(ctx, level, "call to WeChat Pay", "caller", caller, "operation", r.Method+" "+path, "outcome", res.Outcome.String(),
		"status", res.Status, "request_id", res.Header.Get("Request-Id"), "took", took, "error", res.Err)
	return res
}

// Bill implements [resource.Core].
func (c core) Bill(request bill.Request) (*bill.File, error) {
	return c.a.Bill(context.WithValue(c.q.client, billCaller{}, c.q.caller.Name), request)
}

// stream sends an answer that is written as it is read. One that breaks off
// breaks the connection, so that no part of it looks like a whole.
func (a *API) stream(w http.ResponseWriter, response resource.Response) {
	s := response.Stream
	defer func() {
		if err := s.Close(); err != nil {
			a.log.Error("what was streamed cannot be closed", "error", err)
		}
	}()
	if s.Length >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(s.Length, 10))
	}
	// A caller that does not read holds nothing longer than a download may take.
	writer := http.NewResponseController(w)
	if writer.SetWriteDeadline(time.Now().Add(a.downloadTimeout)) == nil {
		defer func() { _ = writer.SetWriteDeadline(time.Time{}) }()
	}
	w.WriteHeader(response.Status)
	if err := s.Write(w); err != nil {
		var where *bill.ParseError
		a.log.Warn("an answer broke off", "of_the_bill", errors.As(err, &where))
		panic(http.ErrAbortHandler)
	}
}
