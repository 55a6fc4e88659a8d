package payops

import (
	"fmt"
	"strconv"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// refundCounts is what rate rules and limits count of the refunds of a merchant
// number: requests that failed within a second or may fail yet, requests for old orders within a
// minute, and what a caller refunds in a day. It is kept in memos, which change in
// the same step of the ledger as the refund: no two refunds take one place, and a
// restart or a second gateway forgets nothing. A process that dies between the
// intent and the outcome leaves the day's sum as the intent made it.
//
// The keys are what a change is to name; "" is not looked at.
type refundCounts struct {
	at                 time.Time
	failures, old, day string

	began  time.Time // when the request took its place among the failing ones
	failed bool
}

// dayGrace keeps a day's sum a little longer than the day, whatever the store's
// clock says.
const dayGrace = time.Hour

// newRefundCounts says what an application for a refund is to be counted with.
func newRefundCounts(mchid, caller string, limit guard.Limit, facts *guard.Refund, now time.Time) *refundCounts {
	c := &refundCounts{at: now, failures: "refund_failures/" + mchid}
	if facts.Payment != nil && guard.Old(facts.Payment.PaidAt, now) {
		c.old = "refund_old_orders/" + mchid
	}
	if limit.RefundPerDay != 0 {
		c.day = "refunds/" + mchid + "/" + caller + "/" + guard.Day(now)
	}
	return c
}

// keys are the memos to name in a change.
func (c *refundCounts) keys() (keys []string) {
	for _, key := range []string{c.failures, c.old, c.day} {
		if key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// waits returns how long the rate rules still hold a request back.
func (c *refundCounts) waits(memos map[string]*storage.Memo) (failures, old time.Duration, err error) {
	failed, err := readEvents(memos, c.failures)
	if err != nil {
		return 0, 0, err
	}
	sent, err := readEvents(memos, c.old)
	if err != nil {
		return 0, 0, err
	}
	return guard.FailureWindow.Wait(failed, c.at), guard.OldWindow.Wait(sent, c.at), nil
}

// take counts a request that is about to be sent: its amount, zero for a repeat,
// and its places among those for old orders and among those that fail, which it
// gives back when it does not: however many are on their way at once, no more
// than the rule allows can fail. within is false, and nothing counted,
// when the day's limit does not have room for the amount.
func (c *refundCounts) take(memos map[string]*storage.Memo, amount storage.Fen, limit guard.Limit) (within bool, err error) {
	if c.day != "" && amount > 0 {
		spent, err := readSum(memos, c.day)
		if err != nil || !limit.WithinDay(spent, amount) {
			return false, err
		}
		c.writeSum(memos, spent+amount)
	}
	failing, err := readEvents(memos, c.failures)
	if err != nil {
		return false, err
	}
	c.began = c.at
	writeEvents(memos, c.failures, guard.FailureWindow, guard.FailureWindow.Add(failing, c.at))
	if c.old != "" {
		sent, err := readEvents(memos, c.old)
		if err != nil {
			return false, err
		}
		writeEvents(memos, c.old, guard.OldWindow, guard.OldWindow.Add(sent, c.at))
	}
	return true, nil
}

// ended says what settle is to count of a call that is over: whether it failed,
// and an amount that nobody refunds. now is when the answer came; the day is
// still the one of the intent.
func (c *refundCounts) ended(failed, giveBack bool, now time.Time) {
	c.old, c.failed = "", failed
	if !giveBack {
		c.day = ""
	}
	c.at = now
}

// settle counts what has ended.
func (c *refundCounts) settle(memos map[string]*storage.Memo, amount storage.Fen) error {
	events, err := readEvents(memos, c.failures)
	if err != nil {
		return err
	}
	events = guard.FailureWindow.Remove(events, c.began, c.at)
	if c.failed {
		events = guard.FailureWindow.Add(events, c.at)
	}
	writeEvents(memos, c.failures, guard.FailureWindow, events)
	if memos[c.day] != nil { // else the day is over
		spent, err := readSum(memos, c.day)
		if err != nil {
			return err
		}
		memos[c.day].Data = encodeSum(max(spent-amount, 0))
	}
	return nil
}

func readEvents(memos map[string]*storage.Memo, key string) (guard.Events, error) {
	m := memos[key]
	if m == nil {
		return nil, nil
	}
	events, err := guard.ParseEvents(m.Data)
	if err != nil {
		return nil, fmt.Errorf("memo of refunds: %w: %w", storage.ErrCorrupt, err)
	}
	return events, nil
}

func writeEvents(memos map[string]*storage.Memo, key string, w guard.Window, events guard.Events) {
	if len(events) == 0 {
		delete(memos, key)
		return
	}
	memos[key] = &storage.Memo{Key: key, Data: events.Encode(), Expires: w.Until(events)}
}

func readSum(memos map[string]*storage.Memo, key string) (storage.Fen, error) {
	m := memos[key]
	if m == nil {
		return 0, nil
	}
	fen, err := strconv.ParseInt(string(m.Data), 10, 64)
	if err != nil || fen < 0 {
		return 0, fmt.Errorf("memo of refunds: %w: not an amount", storage.ErrCorrupt)
	}
	return storage.Fen(fen), nil
}

func (c *refundCounts) writeSum(memos map[string]*storage.Memo, sum storage.Fen) {
	ends := c.at.Add(guard.Tomorrow(c.at) + dayGrace)
	memos[c.day] = &storage.Memo{Key: c.day, Data: encodeSum(sum), Expires: ends}
}

func encodeSum(sum storage.Fen) []byte { return strconv.AppendInt(nil, int64(sum), 10) }
