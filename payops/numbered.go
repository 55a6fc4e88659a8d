package payops

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	// numberKept is how long it is remembered what a number was used for: longer
	// than WeChat Pay answers for it.
	numberKept = 400 * 24 * time.Hour
	// maxOwnNumber is the longest number of a numbered operation, in bytes.
	maxOwnNumber = 128
)

// numberUse is what a number was used for: the data of its memo, under
// number/<space>/<mchid>/<sub_mchid>/<number>.
type numberUse struct {
	Content string `json:"content"` // digest, see contentOfNumber
	// Done: WeChat Pay's verified word said that it has the number. Otherwise the
	// call's outcome is open.
	Done bool `json:"done,omitempty"`
	// At is when the last call began.
	At time.Time `json:"at"`
	// Names are the numbers beside it that a query must state to mean the same.
	Names map[string]string `json:"names,omitempty"`
}

// beside are the members that queries of a number state too.
var beside = []string{"transaction_id", "out_order_no", "order_id"}

// unrelated are the parameters of a query that choose what is told, not of what.
var unrelated = []string{"sub_mchid", "need_query_detail", "offset", "limit", "detail_status"}

// numberedDraft is a numbered operation as a request states it; order holds its
// notify_url alone.
type numberedDraft struct {
	draft
	members object
	number  string // "": an optional one that is absent
	sub     string
	memo    string
	use     numberUse
}

// numbered carries out an operation that moves money under a number of the
// merchant's: a transfer, a profit sharing, a deduction. One number says one
// thing: a repeat that says the same is sent again, anything else is refused
// before it is sent. Only a verified rejection of the first call frees the
// number.
func (a *API) numbered(w http.ResponseWriter, q *request) *refusal {
	d, refused := a.numberedDraft(q)
	if refused != nil {
		return refused
	}
	about := storage.OrderKey{Mchid: a.merchant.Mchid(), SubMchid: d.sub, Number: d.number}
	if d.number == "" {
		return a.forward(w, q)
	}
	lock := about
	lock.Number = d.memo
	unlock, err := a.locks.lock(q.live, lock)
	if err != nil {
		return busy()
	}
	defer unlock()
	if q.op.Number.Space == operation.SpaceOrder {
		if refused := a.orderNumberFree(q, about); refused != nil {
			return refused
		}
	}
	if limit := a.limits[q.caller.Name]; q.op.Number.Space == operation.SpaceRefund && (limit.RefundPerOrder != 0 || limit.RefundPerDay != 0) {
		return overLimit(guard.LimitRefundPerOrder, "the caller's refunds are limited in yuan, and those of this product are not counted", 0)
	}
	if refused := a.guarded(w, a.numberedFacts(q, d)); refused != nil {
		return refused
	}

	keys := storage.Keys{Memos: []string{d.memo}}
	first := false // no earlier call can have carried it out
	var at time.Time
	a.signAhead(q, join(q.path, q.query), d.body)
	id, refused := a.beginRows(q, keys, storage.OrderKey{}, func(rows *storage.Rows) error {
		known, err := useOf(rows.Memos[d.memo])
		if err != nil {
			return err
		}
		first = known == nil
		use := d.use
		if known != nil {
			if known.Content != use.Content {
				return conflict(RuleContent, "the number is in use with another amount, payee or payment; the same number says the same")
			}
			use = *known
		}
		at = a.now()
		use.At = at
		a.setUse(rows, d.memo, use)
		return nil
	})
	if refused != nil {
		return refused
	}

	res := a.send(q, id, join(q.path, q.query), d.body, true)
	known := res.Outcome != send.Unknown && res.Status != http.StatusAccepted
	written := a.finishRows(q, id, keys, res, func(rows *storage.Rows) bool {
		use, err := useOf(rows.Memos[d.memo])
		switch {
		case err != nil:
		case known && res.Outcome != send.Succeeded:
			// Rejected, or never sent. A rejection of a repeat proves nothing about
			// the call before it, nor that of a first call about one that another
			// gateway has begun since.
			if first && use != nil && !use.Done && use.At.Equal(at) {
				delete(rows.Memos, d.memo)
			}
		case use == nil: // freed by another gateway's rejection meanwhile
			d.use.At, d.use.Done = at, known
			a.setUse(rows, d.memo, d.use)
		case known && !use.Done:
			use.Done = true
			a.setUse(rows, d.memo, *use)
		}
		return false
	})
	if d.order.ForeignNotifyURL {
		w.Header().Add(headerWarning, warningForeign)
	}
	if !written {
		w.Header().Add(headerWarning, warningLedger)
	}
	return a.answer(w, q, res, known)
}

// numberedDraft reads what a numbered operation rests on and fills in what is
// missing; everything else of the body is WeChat Pay's to judge.
func (a *API) numberedDraft(q *request) (*numberedDraft, *refusal) {
	n := q.op.Number
	inPath := n.InPath(q.op.Operation)
	o, _, refused := jsonBody(q, inPath)
	if refused != nil {
		return nil, refused
	}
	d := &numberedDraft{draft: draft{body: q.body}, members: o}
	if inPath {
		d.number = q.op.Named(n.Field)[0]
	} else {
		var ok bool
		if d.number, ok = o.text(n.Field); !ok {
			return nil, badRequest(RuleNumber, n.Field+" must be a string")
		}
	}
	if d.number == "" && n.Optional {
		return d, nil
	}
	if !validOwnNumber(d.number) {
		return nil, badRequest(RuleNumber, n.Field+" must be 1 to 128 of digits, letters and _-|*@")
	}
	looked := maskOf(n.Amounts, n.Content, []string{n.Field, "sub_mchid", "notify_url"})
	if looked.spelledOtherwise(o) {
		return nil, badRequest(RuleBody, "a member's name is spelled in another case than WeChat Pay's")
	}
	if !maskOf(n.Amounts).amounts(o) && len(n.Amounts) > 0 {
		return nil, badRequest(RuleAmount, "every amount must be a whole number of fen, at least 1")
	}
	if d.sub, refused = subMchidOf(q, o); refused != nil {
		return nil, refused
	}
	for _, name := range n.Fill {
		if refused := a.fillMember(d, o, name); refused != nil {
			return nil, refused
		}
	}
	d.memo = numberMemo(n.Space, a.merchant.Mchid(), d.sub, d.number)
	d.use = numberUse{Content: contentOfNumber(q.op.Operation, o)}
	for _, name := range beside {
		if text, _ := o.text(name); text != "" && name != n.Field {
			if d.use.Names == nil {
				d.use.Names = map[string]string{}
			}
			d.use.Names[name] = text
		}
	}
	return d, nil
}

// fillMember completes one member of a body, and of its reading.
func (a *API) fillMember(d *numberedDraft, o object, name string) *refusal {
	if name == "notify_url" {
		return a.fillNotifyURL(&d.draft, o)
	}
	value := a.merchant.DefaultApp().Appid
	if refused := d.fill(o, name, value); refused != nil {
		return refused
	}
	if text, _ := o.text(name); text == "" && value != "" {
		o[name] = value
	}
	return nil
}

// subMchidOf returns the sub-merchant that a request states where its operation has
// it; "" for none. A sub_mchid elsewhere is no part of the number's name: WeChat Pay
// does not look at it, and takes the number for the same. Two different ones are
// refused.
func subMchidOf(q *request, o object) (string, *refusal) {
	values, err := url.ParseQuery(q.query)
	if err != nil {
		return "", badRequest(RulePath, "the query cannot be read")
	}
	body, ok := o.text(subMchid)
	if !ok {
		return "", badRequest(RuleMchid, subMchid+" must be a string")
	}
	stated := map[operation.SubMchidPlace]string{}
	one := ""
	for place, texts := range map[operation.SubMchidPlace][]string{
		operation.SubMchidInBody: {body}, operation.SubMchidInQuery: values[subMchid], operation.SubMchidInPath: q.op.Named(subMchid),
	} {
		for _, text := range texts {
			if text != "" && !either(one, text) {
				return "", badRequest(RuleMchid, subMchid+" is stated twice, and not the same")
			}
			if text != "" {
				one, stated[place] = text, text
			}
		}
	}
	sub := stated[q.op.SubMchid]
	if sub != "" && !validMchid(sub) {
		return "", badRequest(RuleMchid, subMchid+" must be the digits of a sub-merchant's number")
	}
	return sub, nil
}

// validOwnNumber reports whether s may be a number of a numbered operation: the
// union of what the official pages allow.
func validOwnNumber(s string) bool { return s != "" && len(s) <= maxOwnNumber && numberText(s) }

// numberMemo is the key of a number's memo.
func numberMemo(space, mchid, sub, number string) string {
	return "number/" + space + "/" + mchid + "/" + sub + "/" + number
}

// useOf reads a number's memo; nil when there is none.
func useOf(m *storage.Memo) (*numberUse, error) {
	if m == nil {
		return nil, nil
	}
	var use numberUse
	if err := json.Unmarshal(m.Data, &use); err != nil {
		return nil, errors.New("payops: a number's memo cannot be read")
	}
	return &use, nil
}

// setUse writes a number's memo.
func (a *API) setUse(rows *storage.Rows, key string, use numberUse) {
	rows.Memos[key] = &storage.Memo{Key: key, Data: marshal(use), Expires: a.now().Add(numberKept)}
}

// orderNumberFree refuses a number that an order of the ledger has.
func (a *API) orderNumberFree(q *request, key storage.OrderKey) *refusal {
	order, err := a.ledger.Order(q.live, key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil
	case err != nil:
		return a.ledgerRefusal(err)
	case order.State == storage.OrderRejected, order.State == storage.OrderRegistered:
		return nil // registered: what a backend expects of this very charge
	}
	return numberTaken()
}

// numberedFacts gathers what the rules look at, and asks WeChat Pay for what the
// ledger does not know.
func (a *API) numberedFacts(q *request, d *numberedDraft) guard.Facts {
	facts := guard.Facts{}
	if slices.Contains(q.op.Number.Fill, "notify_url") {
		if facts.Notify = a.notifyFacts(&d.draft); facts.Notify != nil {
			facts.Notify.HTTPS = q.op.Group == operation.Parking
		}
	}
	if q.op.Shares() && a.rules.Mode(guard.SharingTooEarly) != guard.Off {
		facts.Sharing = &guard.Sharing{}
		if id, _ := d.members.text("transaction_id"); validTransactionID(id) {
			facts.Sharing.PaidAt = a.paidAt(q.live, id, d.sub)
		}
	}
	if q.op.Number.Space == operation.SpaceRefund {
		// Neither the ledger nor a query of these paths knows the order: what the
		// request says of itself is held against the rules, and the rest is named
		// as unchecked.
		r := storage.Refund{}
		amount := d.members.child("amount")
		r.Amount, _ = fen(amount["refund"])
		r.Total, _ = fen(amount["total"])
		facts.Refund = &guard.Refund{Stated: r}
	}
	return facts
}
