package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object reads a JSON object field by field: names match exactly, types are
// not converted, unknown fields are let pass as WeChat Pay does. The first
// problem of the whole document is kept and ends the reading.
type object struct {
	fields  map[string]json.RawMessage
	pointer string // of this object
	doc     *document
}

// document is what the objects of one body share.
type document struct {
	err  *apiError                                     // the first problem
	open func(text string) (plain string, _ *apiError) // decrypts a field; nil: none is encrypted
}

func parseObject(body []byte) (*object, *apiError) {
	o := &object{doc: &document{}}
	if !utf8.Valid(body) || json.Unmarshal(body, &o.fields) != nil || o.fields == nil {
		return nil, paramError("body", "", "not a JSON object", "请求体不是合法的JSON对象")
	}
	return o, nil
}

func (o *object) problem() *apiError { return o.doc.err }

func (o *object) refuse(name, issue, message string) {
	if o.doc.err == nil {
		o.doc.err = paramError("body", o.pointer+"/"+name, issue, "输入源“/body"+o.pointer+"/"+name+"”"+message)
	}
}

// raw returns a field that is present and not null.
func (o *object) raw(name string, required bool) (json.RawMessage, bool) {
	if o.fields == nil || o.doc.err != nil {
		return nil, false
	}
	v, ok := o.fields[name]
	if !ok || string(v) == "null" {
		if required {
			o.refuse(name, "required", "必填性规则校验失败，此字段为必填项")
		}
		return nil, false
	}
	return v, true
}

// text reads a string of min to max characters.
func (o *object) text(name string, required bool, min, max int) string {
	v, ok := o.raw(name, required)
	if !ok {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		o.refuse(name, "not a string", "类型校验失败，应为字符串")
		return ""
	}
	if n := utf8.RuneCountInString(s); n < min || n > max {
		o.refuse(name, "want "+strconv.Itoa(min)+" to "+strconv.Itoa(max)+" characters", "字符串规则校验失败，长度超出限制")
		return ""
	}
	return s
}

// match reads a required string that pattern describes.
func (o *object) match(name string, pattern *regexp.Regexp) string {
	s := o.text(name, true, 0, 4096)
	if o.doc.err == nil && !pattern.MatchString(s) {
		o.refuse(name, "want "+pattern.String(), "字符串规则校验失败，格式不正确")
		return ""
	}
	return s
}

var integerPattern = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,17})$`)

// fen reads a required amount: an integer from 1 to maxAmount.
func (o *object) fen(name string) int64 {
	v, ok := o.raw(name, true)
	if !ok {
		return 0
	}
	if !integerPattern.Match(v) {
		o.refuse(name, "not an integer", "类型校验失败，应为整数")
		return 0
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 1 || n > maxAmount {
		o.refuse(name, "want 1 to "+strconv.FormatInt(maxAmount, 10), "数值规则校验失败，超出取值范围")
		return 0
	}
	return n
}

// child reads an object; where it is absent, an empty one that yields nothing.
func (o *object) child(name string, required bool) *object {
	c := &object{pointer: o.pointer + "/" + name, doc: o.doc}
	v, ok := o.raw(name, required)
	if ok && json.Unmarshal(v, &c.fields) != nil {
		o.refuse(name, "not an object", "类型校验失败，应为对象")
		c.fields = nil
	}
	return c
}

// list reads a required array of objects.
func (o *object) list(name string) []*object {
	v, ok := o.raw(name, true)
	if !ok {
		return nil
	}
	var raws []json.RawMessage
	if json.Unmarshal(v, &raws) != nil {
		o.refuse(name, "not an array", "类型校验失败，应为数组")
		return nil
	}
	out := make([]*object, 0, len(raws))
	for i, raw := range raws {
		c := &object{pointer: o.pointer + "/" + name + "/" + strconv.Itoa(i), doc: o.doc}
		if json.Unmarshal(raw, &c.fields) != nil || c.fields == nil {
			o.refuse(name+"/"+strconv.Itoa(i), "not an object", "类型校验失败，应为对象")
			return nil
		}
		out = append(out, c)
	}
	return out
}

// currency reads a currency, which is CNY.
func (o *object) currency(name string, required bool) {
	if c := o.text(name, required, 1, 16); c != "" && c != "CNY" {
		o.refuse(name, "Currency code is invalid", "币种校验失败，仅支持CNY")
	}
}

// oneOf reads one of the texts listed.
func (o *object) oneOf(name string, required bool, values ...string) string {
	s := o.text(name, required, 1, 128)
	if s == "" || slices.Contains(values, s) {
		return s
	}
	o.refuse(name, "want one of "+strings.Join(values, ", "), "枚举值校验失败")
	return ""
}

// secret reads a field that comes encrypted and returns it in the clear.
func (o *object) secret(name string, required bool) string {
	text := o.text(name, required, 1, 4096)
	if text == "" || o.doc.open == nil || o.doc.err != nil {
		return ""
	}
	plain, bad := o.doc.open(text)
	if bad != nil {
		if bad.Detail.Field == "" {
			bad.Detail.Field, bad.Detail.Location = o.pointer+"/"+name, "body"
		}
		o.doc.err = bad
		return ""
	}
	return plain
}

// fingerprint is equal for two bodies that mean the same JSON. What came
// encrypted differs from one request to the next: the ciphertexts of identity
// are left out, and what they said, secrets, is put in.
func fingerprint(body []byte, secrets ...string) [sha256.Size]byte {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v map[string]any
	if d.Decode(&v) == nil {
		for _, payer := range []string{"payer", "combine_payer_info"} {
			if o, ok := v[payer].(map[string]any); ok {
				delete(o, "identity")
			}
		}
		if canonical, err := json.Marshal([]any{v, secrets}); err == nil {
			return sha256.Sum256(canonical)
		}
	}
	return sha256.Sum256(body)
}
