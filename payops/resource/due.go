package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	closeRetry    = 30 * time.Second   // after the first failure; doubled each time
	closeRetryMax = time.Hour          //
	orderLife     = 7 * 24 * time.Hour // WeChat Pay closes what is not paid by then
)

// ErrClose is matched by errors of [Resources.CloseDue].
var ErrClose = errors.New("resource: the order is not closed yet")

// ReadCloseWork reads the payload of [WorkClose].
func ReadCloseWork(payload []byte) (CloseWork, error) {
	var w CloseWork
	if err := json.Unmarshal(payload, &w); err != nil || w.Order.IsZero() {
		return w, errors.New("resource: the payload of a close cannot be read")
	}
	return w, nil
}

// CloseDue closes an order whose time has come, as core's caller, after a query:
// one that is paid, closed or was never made is left alone, and so is one whose
// close was taken back, since its code was handed out again. next is when to try
// again, zero when there is nothing left to do; err says why it is not done, for
// the log. The work is given up after WeChat Pay has closed the order by itself.
func (rs *Resources) CloseDue(core Core, work storage.Work) (next time.Time, err error) {
	payload, err := ReadCloseWork(work.Payload)
	if err != nil {
		return time.Time{}, err
	}
	again := func(why string) (time.Time, error) {
		now := rs.Now()
		if now.Sub(payload.At) > orderLife {
			return time.Time{}, fmt.Errorf("%w, and given up: %s", ErrClose, why)
		}
		return now.Add(backoff(work.Attempt)), fmt.Errorf("%w: %s", ErrClose, why)
	}
	switch _, err := rs.Ledger.Memo(core.Context(), closeKey(payload.Order)); {
	case errors.Is(err, storage.ErrNotFound):
		return time.Time{}, nil // taken back
	case err != nil:
		return again("the ledger cannot be read")
	}
	order, err := rs.Ledger.Order(core.Context(), payload.Order)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return time.Time{}, fmt.Errorf("%w: the ledger does not know it any more", ErrClose)
	case err != nil:
		return again("the ledger cannot be read")
	case order.Key != payload.Order, settledState(order.State):
		return time.Time{}, nil
	}
	if young := rs.tooYoung(order); young > 0 {
		return order.CreatedAt.Add(guard.CloseAfter), nil
	}
	order, refused := rs.closeNow(&Request{Core: core, resources: rs}, order)
	switch {
	case refused.Status == 0:
		return time.Time{}, nil
	case refused.Refused():
		return again(refused.Rule)
	}
	return again("the close was answered with " + http.StatusText(refused.Status))
}

// backoff is the wait after so many failures.
func backoff(failures int) time.Duration {
	return min(closeRetry<<min(max(failures, 0), 10), closeRetryMax)
}
