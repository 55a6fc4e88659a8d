package payops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/guard"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// openIDKept is how long it is remembered which app an openid belongs to.
const openIDKept = 400 * 24 * time.Hour

// errNoOpenID is returned by KnowOpenID for half a pair.
var errNoOpenID = errors.New("payops: an appid and an openid are needed")

// identity is a payer's openid and the app that the request or answer pairs it
// with. An openid belongs to one app alone.
type identity struct{ appid, openid string }

// memo is the key of the memo that says which app the openid belongs to.
func (i identity) memo() string {
	sum := sha256.Sum256([]byte(i.openid))
	return "openid/" + hex.EncodeToString(sum[:16])
}

// payerNames are the members that hold a payer, by kind of order: pairs of an
// openid and its app. Of two, the first is who is remembered.
func payerNames(kind storage.OrderKind) (member string, pairs [][2]string) {
	switch kind {
	case storage.OrderPartner:
		return "payer", [][2]string{{"sp_openid", "sp_appid"}, {"sub_openid", "sub_appid"}}
	case storage.OrderCombine:
		return "combine_payer_info", [][2]string{{"openid", "combine_appid"}, {"sub_openid", "sub_appid"}}
	case storage.OrderBasic, storage.OrderParking:
	}
	return "payer", [][2]string{{"openid", "appid"}}
}

// statedPayers reads who a create call is for.
func statedPayers(kind storage.OrderKind, o object, d *draft) ([]identity, *refusal) {
	member, pairs := payerNames(kind)
	payer := o.child(member)
	var all []identity
	for _, pair := range pairs {
		openid, ok := payer.text(pair[0])
		if !ok {
			return nil, badRequest(RuleBody, pair[0]+" of the payer must be a string")
		}
		appid, ok := o.text(pair[1])
		if !ok {
			return nil, badRequest(RuleBody, pair[1]+" must be a string")
		}
		switch {
		case appid != "":
		case pair[1] != "sub_appid":
			appid = d.order.Appid // it was filled in
		default:
			appid = subAppid(d.order.Subs)
		}
		if openid != "" && appid != "" {
			all = append(all, identity{appid, openid})
		}
	}
	return all, nil
}

// subAppid is the app of a combine order's sub-merchants: they all state one.
func subAppid(subs []storage.SubOrder) string {
	for _, s := range subs {
		if s.Appid != "" {
			return s.Appid
		}
	}
	return ""
}

// answeredPayers reads who has paid from a verified answer about an order.
func answeredPayers(kind storage.OrderKind, answer gjson.Result) (all []identity) {
	member, pairs := payerNames(kind)
	for _, pair := range pairs {
		appid := answer.Get(pair[1]).String()
		if kind == storage.OrderCombine && pair[1] == "sub_appid" {
			appid = answer.Get("sub_orders.0.sub_appid").String()
		}
		if openid := answer.Get(member + "." + pair[0]).String(); openid != "" && appid != "" {
			all = append(all, identity{appid, openid})
		}
	}
	return all
}

// digestOf stands for the first of the identities, "" for none.
func digestOf(all []identity) string {
	if len(all) == 0 {
		return ""
	}
	return storage.PayerDigest(all[0].appid, all[0].openid)
}

// openIDMemos are the keys under which it is remembered whose openids they are.
func openIDMemos(all []identity) (keys []string) {
	for _, i := range all {
		keys = append(keys, i.memo())
	}
	return keys
}

// openIDFacts is what is known of the openids, for the rule about them.
func openIDFacts(rows *storage.Rows, all []identity) (facts []guard.OpenID) {
	for _, i := range all {
		fact := guard.OpenID{Appid: i.appid}
		if m := rows.Memos[i.memo()]; m != nil {
			fact.Known = string(m.Data)
		}
		facts = append(facts, fact)
	}
	return facts
}

// noteOpenIDs remembers what WeChat Pay's verified word says of openids, and
// reports whether there was anything to write.
func (a *API) noteOpenIDs(rows *storage.Rows, all []identity) (changed bool) {
	for _, i := range all {
		key, now := i.memo(), a.now()
		if m := rows.Memos[key]; m != nil && string(m.Data) == i.appid && m.Expires.After(now.Add(openIDKept/2)) {
			continue
		}
		rows.Memos[key] = &storage.Memo{Key: key, Data: []byte(i.appid), Expires: now.Add(openIDKept)}
		changed = true
	}
	return changed
}

// KnowOpenID remembers that an openid was issued for an appid, by WeChat's own
// word: the exchange of a code. From then on an order of another appid with the
// openid is refused. The ledger keeps a digest of the openid, for 400 days.
// Errors: those of [storage.Ledger].Change, and one for an empty argument.
func (a *API) KnowOpenID(ctx context.Context, appid, openid string) error {
	if appid == "" || openid == "" {
		return errNoOpenID
	}
	one := []identity{{appid, openid}}
	err := a.ledger.Change(ctx, storage.Keys{Memos: openIDMemos(one)}, func(rows *storage.Rows) error {
		if !a.noteOpenIDs(rows, one) {
			return errNothing
		}
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}
