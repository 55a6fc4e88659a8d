package payops

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// maxDepth bounds the nesting of a request body.
const maxDepth = 32

// object is a JSON object of which every key is unique, also without regard to
// case: what is checked here is what WeChat Pay reads, whichever of two keys
// its parser would take. Values are object, []any, json.Number, string, bool
// and nil.
type object map[string]any

var (
	errNotObject    = errors.New("payops: not a JSON object")
	errDuplicateKey = errors.New("payops: a key appears twice")
	errCase         = errors.New("payops: a known key is spelled in another case")
)

// checkedKeys are the keys that the checks rest on, by their folded spelling. A
// body that spells one of them in another case would be read in one way here
// and perhaps in another at WeChat Pay.
var checkedKeys = func() map[string]string {
	m := map[string]string{}
	for _, key := range []string{
		"mchid", "appid", "out_trade_no", "notify_url", "time_expire", "amount", "total", "currency",
		"sp_mchid", "sp_appid", "combine_mchid", "combine_appid", "combine_out_trade_no", "sub_orders", "sub_mchid", "sub_appid", "total_amount",
		"out_refund_no", "transaction_id", "refund",
	} {
		m[foldKey(key)] = key
	}
	return m
}()

// parseObject reads a body that must be exactly one JSON object in UTF-8.
func parseObject(body []byte) (object, error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, errNotObject
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	value, err := readValue(d, 0)
	if err != nil {
		return nil, err
	}
	o, ok := value.(object)
	if !ok {
		return nil, errNotObject
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return o, nil
}

func readValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errNotObject
	}
	token, err := d.Token()
	if err != nil {
		return nil, errNotObject
	}
	switch token {
	case json.Delim('{'):
		return readObject(d, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := d.Token(); err != nil {
			return nil, errNotObject
		}
		return list, nil
	}
	return token, nil
}

func readObject(d *json.Decoder, depth int) (any, error) {
	o, folded := object{}, map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, errNotObject
		}
		key, ok := token.(string)
		if !ok {
			return nil, errNotObject
		}
		fold := foldKey(key)
		if folded[fold] {
			return nil, errDuplicateKey
		}
		folded[fold] = true
		if exact, checked := checkedKeys[fold]; checked && exact != key {
			return nil, errCase
		}
		if o[key], err = readValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errNotObject
	}
	return o, nil
}

// foldKey spells a key so that two keys that differ in case only, Kelvin sign
// and long s included, are equal.
func foldKey(key string) string {
	folded := make([]rune, 0, len(key))
	for _, r := range key {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		folded = append(folded, least)
	}
	return string(folded)
}

// text returns a string member; "" when it is absent, null or empty. ok is
// false when it is something else than a string.
func (o object) text(name string) (value string, ok bool) {
	switch v := o[name].(type) {
	case nil:
		return "", true
	case string:
		return v, true
	}
	return "", false
}

// child returns an object member, nil when it is absent or something else.
func (o object) child(name string) object {
	c, _ := o[name].(object)
	return c
}

// fen reads an amount: a JSON integer of at least 1, spelled with digits only.
// 1.0, 1e2, "1", 0 and -1 are none.
func fen(value any) (storage.Fen, bool) {
	n, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	text := n.String()
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v < 1 {
		return 0, false
	}
	return storage.Fen(v), true
}

// addFen adds two amounts that are not negative; false when the sum overflows.
func addFen(a, b storage.Fen) (storage.Fen, bool) {
	if a > math.MaxInt64-b {
		return 0, false
	}
	return a + b, true
}

// money reads {total: …, currency: …}; a currency that is left out is CNY.
func money(amount object, totalName string) (storage.Money, bool) {
	if amount == nil {
		return storage.Money{}, false
	}
	total, ok := fen(amount[totalName])
	if !ok {
		return storage.Money{}, false
	}
	currency, ok := amount.text("currency")
	if !ok {
		return storage.Money{}, false
	}
	if currency == "" {
		currency = "CNY"
	}
	if len(currency) != 3 {
		return storage.Money{}, false
	}
	for i := range len(currency) {
		if currency[i] < 'A' || currency[i] > 'Z' {
			return storage.Money{}, false
		}
	}
	return storage.Money{Total: total, Currency: currency}, true
}
