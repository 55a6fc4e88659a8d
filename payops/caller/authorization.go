package caller

import (
	"errors"
	"strconv"
	"strings"
)

// Schema is the authentication scheme of requests to WeChat Pay APIv3.
// https://pay.weixin.qq.com/doc/v3/merchant/4012365342
const Schema = "WECHATPAY2-SHA256-RSA2048"

// maxAuthorization bounds an Authorization header, in bytes: an RSA-4096
// signature with everything around it has less than 1,000.
const maxAuthorization = 4096

// errAuthorization is returned for whatever is not exactly a signed
// Authorization.
var errAuthorization = errors.New("caller: the Authorization header is malformed")

// Authorization is a WECHATPAY2-SHA256-RSA2048 Authorization, taken apart and
// not verified.
type Authorization struct {
	Mchid     string
	Nonce     string
	Timestamp int64 // seconds since 1970
	SerialNo  string
	Signature string // base64
}

// ParseAuthorization reads the value of an Authorization header: the scheme,
// one blank, and the five parameters mchid, nonce_str, timestamp, serial_no and
// signature in any order, each exactly once, quoted, separated by a comma and
// at most one blank. Nothing else passes: what two parsers could read in two
// ways is refused.
func ParseAuthorization(value string) (Authorization, error) {
	if len(value) > maxAuthorization {
		return Authorization{}, errAuthorization
	}
	rest, ok := strings.CutPrefix(value, Schema+" ")
	if !ok {
		return Authorization{}, errAuthorization
	}
	var a Authorization
	var timestamp string
	for i := range 5 {
		if i > 0 {
			if rest, ok = strings.CutPrefix(rest, ","); !ok {
				return Authorization{}, errAuthorization
			}
			rest = strings.TrimPrefix(rest, " ")
		}
		name, after, found := strings.Cut(rest, `="`)
		if !found {
			return Authorization{}, errAuthorization
		}
		text, after, found := strings.Cut(after, `"`)
		if !found || !plain(text) {
			return Authorization{}, errAuthorization
		}
		var field *string
		switch name {
		case "mchid":
			field = &a.Mchid
		case "nonce_str":
			field = &a.Nonce
		case "timestamp":
			field = &timestamp
		case "serial_no":
			field = &a.SerialNo
		case "signature":
			field = &a.Signature
		default:
			return Authorization{}, errAuthorization
		}
		if *field != "" {
			return Authorization{}, errAuthorization
		}
		*field, rest = text, after
	}
	if rest != "" || len(a.Nonce) > 128 || !serialText(a.SerialNo) {
		return Authorization{}, errAuthorization
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || seconds <= 0 || strconv.FormatInt(seconds, 10) != timestamp {
		return Authorization{}, errAuthorization
	}
	a.Timestamp = seconds
	return a, nil
}

// plain reports whether s is not empty and of printable ASCII without quote
// and backslash.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return s != ""
}
