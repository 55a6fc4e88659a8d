package payops

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

// mask is which members of a body are looked at: a tree of names. Below a leaf
// everything is; a list is looked at item by item.
type mask map[string]mask

// maskOf makes a tree of paths such as amount.total and receivers[].amount.
func maskOf(paths ...[]string) mask {
	root := mask{}
	for _, path := range slices.Concat(paths...) {
		at := root
		for name := range strings.SplitSeq(path, ".") {
			name = strings.TrimSuffix(name, "[]")
			if at[name] == nil {
				at[name] = mask{}
			}
			at = at[name]
		}
	}
	return root
}

// project returns what a mask shows of a value. The items of a list are in an
// order of their own: that of their JSON.
func (m mask) project(value any) any {
	if len(m) == 0 {
		return value
	}
	switch v := value.(type) {
	case object:
		seen := map[string]any{}
		for name, below := range m {
			if member := v[name]; member != nil {
				seen[name] = below.project(member)
			}
		}
		return seen
	case []any:
		items := make([]json.RawMessage, 0, len(v))
		for _, item := range v {
			items = append(items, marshal(m.project(item)))
		}
		slices.SortFunc(items, func(a, b json.RawMessage) int { return cmp.Compare(string(a), string(b)) })
		return items
	}
	return value
}

// marshal is json.Marshal of what a JSON decoder has made, which always succeeds.
func marshal(value any) json.RawMessage {
	data, err := json.Marshal(value)
	if err != nil {
		return json.RawMessage("null")
	}
	return data
}

// spelledOtherwise reports whether a member that the mask shows is there in
// another case: read in one way here, perhaps in another at WeChat Pay.
func (m mask) spelledOtherwise(value any) bool {
	switch v := value.(type) {
	case object:
		folded := make(map[string]string, len(m))
		for name := range m {
			folded[foldKey(name)] = name
		}
		for key, member := range v {
			name, known := folded[foldKey(key)]
			if known && (name != key || m[name].spelledOtherwise(member)) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, m.spelledOtherwise)
	}
	return false
}

// amounts reports whether every amount that the mask shows is a whole number of
// fen, at least 1. One that is absent or null is WeChat Pay's to judge.
func (m mask) amounts(value any) bool {
	if len(m) == 0 {
		_, ok := fen(value)
		return ok
	}
	switch v := value.(type) {
	case object:
		for name, below := range m {
			if member := v[name]; member != nil && !below.amounts(member) {
				return false
			}
		}
		return true
	case []any:
		return !slices.ContainsFunc(v, func(item any) bool { return !m.amounts(item) })
	}
	return false
}

// contentOfNumber digests what a number stands for: the operation, and the
// members that the table of numbers lists. Personal data among them leaves no
// other trace.
func contentOfNumber(o *operation.Operation, body object) string {
	h := sha256.New()
	_, _ = h.Write([]byte(o.String() + "\n")) // a hash never fails
	if m := maskOf(o.Number.Amounts, o.Number.Content); len(m) > 0 {
		_, _ = h.Write(marshal(m.project(body)))
	}
	return hex.EncodeToString(h.Sum(nil))
}
