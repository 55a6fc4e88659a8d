package sandbox

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// authorization is what an Authorization header of API v3 says.
type authorization struct {
	mchid, serialNo, nonce, timestamp, signature string
}

const (
	maxAuthorization = 4096 // bytes
	maxClockSkew     = 300  // of a request's timestamp, either way, in whole seconds
)

// parseAuthorization reads one Authorization header, strictly: the exact
// scheme, the five fields once each in any order, nothing else. The issue is a
// short English reason, empty when the header is well formed.
func parseAuthorization(header string) (a authorization, issue string) {
	if len(header) > maxAuthorization {
		return a, "too long"
	}
	rest, ok := strings.CutPrefix(header, SignatureType+" ")
	if !ok {
		return a, "scheme is not " + SignatureType
	}
	fields := map[string]*string{
		"mchid": &a.mchid, "serial_no": &a.serialNo, "nonce_str": &a.nonce,
		"timestamp": &a.timestamp, "signature": &a.signature,
	}
	for rest != "" {
		name, after, ok := strings.Cut(rest, `="`)
		if !ok {
			return authorization{}, `want name="value"`
		}
		value, next, ok := strings.Cut(after, `"`)
		if !ok {
			return authorization{}, "unterminated value"
		}
		slot := fields[name]
		if slot == nil {
			return authorization{}, "unknown or repeated field"
		}
		if value == "" {
			return authorization{}, "empty " + name
		}
		*slot = value
		delete(fields, name)
		if next == "" {
			rest = ""
			break
		}
		if rest, ok = strings.CutPrefix(next, ","); !ok || rest == "" {
			return authorization{}, "want a comma between fields and none after the last"
		}
	}
	for _, name := range []string{"mchid", "serial_no", "nonce_str", "timestamp", "signature"} {
		if fields[name] != nil {
			return authorization{}, "missing " + name
		}
	}
	if len(a.nonce) > 64 {
		return authorization{}, "nonce_str too long"
	}
	return a, ""
}

// seconds reads a Unix timestamp in its one canonical spelling.
func (a authorization) seconds() (int64, bool) {
	n, err := strconv.ParseInt(a.timestamp, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != a.timestamp {
		return 0, false
	}
	return n, true
}

// signedURL is the path and query exactly as they came over the wire.
func signedURL(r *http.Request) string {
	target := r.RequestURI
	if target == "" {
		return r.URL.RequestURI()
	}
	if !strings.HasPrefix(target, "/") { // absolute form (RFC 9112, 3.2.2)
		if u, err := url.Parse(target); err == nil {
			return u.RequestURI()
		}
	}
	return target
}

// authenticate checks who signed the request. Every refusal is 401 SIGN_ERROR.
func (p *Platform) authenticate(r *http.Request, body []byte) (*merchant, *apiError) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return nil, signError("Authorization", "want the header once", "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》")
	}
	a, issue := parseAuthorization(values[0])
	if issue != "" {
		return nil, signError("Authorization", issue, "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》")
	}
	m := p.merchants[a.mchid]
	if m == nil {
		return nil, signError("mchid", "unknown mchid", "商户号不存在或未设置API证书")
	}
	if a.serialNo != m.serial {
		return nil, signError("serial_no", "not this merchant's serial", "商户API证书序列号serial_no错误，请使用签名私钥匹配的证书序列号")
	}
	at, ok := a.seconds()
	if !ok {
		return nil, signError("timestamp", "not a Unix time in seconds", "Http头Authorization中的timestamp格式错误")
	}
	if skew := p.now().Unix() - at; skew > maxClockSkew || skew < -maxClockSkew {
		return nil, signError("timestamp", "more than 300 s off", "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟")
	}
	target := signedURL(r)
	text := r.Method + "\n" + target + "\n" + a.timestamp + "\n" + a.nonce + "\n" + string(body) + "\n"
	if !verifyText(m.publicKey, text, a.signature) {
		e := signError("signature", "sign not match", "错误的签名，验签失败")
		shown := r.Method + "\n" + target + "\n" + a.timestamp + "\n" + a.nonce + "\n"
		e.Detail.Sign = &signInfo{Method: r.Method, URL: target, Length: len(text), Truncated: shown}
		return nil, e
	}
	return m, nil
}
