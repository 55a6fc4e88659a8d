package receive

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// badRow is one callback that must be refused, with nothing stored.
type badRow struct {
	name    string
	in      func() Incoming
	status  int
	outcome notify.Outcome
}

// goodBody is a notification that is right in every way.
func goodBody() []byte { return paid(basic("20260301009999", 100)) }

// with changes a good callback.
func with(change func(in *Incoming)) func() Incoming {
	return func() Incoming {
		in := request(goodBody())
		change(&in)
		return in
	}
}

func set(name string, values ...string) func() Incoming {
	return with(func(in *Incoming) {
		if values == nil {
			delete(in.Header, name)
			return
		}
		in.Header[name] = values
	})
}

// changed applies f to the one value of a header.
func changed(name string, f func(string) string) func() Incoming {
	return with(func(in *Incoming) { in.Header[name] = []string{f(in.Header[name][0])} })
}

// sent is a well-signed callback with another body.
func sent(body []byte) func() Incoming { return func() Incoming { return request(body) } }

// at is a well-signed callback with another timestamp.
func at(timestamp string) func() Incoming {
	return func() Incoming {
		body := goodBody()
		in := request(body)
		in.Header["Wechatpay-Timestamp"] = []string{timestamp}
		return resign(in, body)
	}
}

// nonced is a well-signed callback with another header nonce.
func nonced(nonce string) func() Incoming {
	return func() Incoming {
		body := goodBody()
		in := request(body)
		in.Header["Wechatpay-Nonce"] = []string{nonce}
		return resign(in, body)
	}
}

// sealedAs is a well-signed callback with a changed resource.
func sealedAs(change func(r *resource)) func() Incoming {
	return func() Incoming {
		r := seal(basic("20260301009999", 100))
		change(&r)
		return request(envelope(testID, "TRANSACTION.SUCCESS", "", r))
	}
}

// plain is a well-signed and well-encrypted callback with another plaintext.
func plain(plaintext string) func() Incoming { return sent(paid(plaintext)) }

// noEnd gives bytes without end, and counts them.
type noEnd struct{ read int }

func (n *noEnd) Read(p []byte) (int, error) {
	n.read += len(p)
	return len(p), nil
}

type brokenReader struct{ io.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		return n, errors.New("connection reset by peer")
	}
	return n, err
}

// stuck never reads and never ends.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func gzipped(body []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(body)
	_ = w.Close()
	return out.Bytes()
}

func badRows() []badRow {
	var rows []badRow
	add := func(name string, status int, outcome notify.Outcome, in func() Incoming) {
		rows = append(rows, badRow{name, in, status, outcome})
	}
	const (
		ts, nonce, sig, serial, kind = "Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Signature", "Wechatpay-Serial", "Wechatpay-Signature-Type"
	)
	required := []string{ts, nonce, sig, serial}

	// Methods and sizes, before any header.
	for _, method := range []string{"GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "post", ""} {
		add("method "+method, 405, notify.OutcomeMethod, with(func(in *Incoming) { in.Method = method }))
	}
	add("content length one over", 413, notify.OutcomeTooLarge, with(func(in *Incoming) { in.ContentLength = notify.DefaultMaxBody + 1 }))
	add("content length max", 413, notify.OutcomeTooLarge, with(func(in *Incoming) { in.ContentLength = math.MaxInt64 }))
	add("10 MiB with no header", 413, notify.OutcomeTooLarge, func() Incoming {
		return Incoming{Method: "POST", ContentLength: 10 << 20, Body: &noEnd{}}
	})
	add("10 MiB of chunks", 413, notify.OutcomeTooLarge, with(func(in *Incoming) {
		in.ContentLength, in.Body = -1, io.LimitReader(&noEnd{}, 10<<20)
	}))
	add("chunks without end", 413, notify.OutcomeTooLarge, with(func(in *Incoming) { in.ContentLength, in.Body = -1, &noEnd{} }))
	add("one byte of chunks over", 413, notify.OutcomeTooLarge, with(func(in *Incoming) {
		in.ContentLength, in.Body = -1, bytes.NewReader(make([]byte, notify.DefaultMaxBody+1))
	}))
	add("longer than its length", 413, notify.OutcomeTooLarge, with(func(in *Incoming) {
		in.ContentLength, in.Body = 10, bytes.NewReader(make([]byte, notify.DefaultMaxBody+1))
	}))
	add("outer handler's limit", 413, notify.OutcomeTooLarge, with(func(in *Incoming) {
		in.ContentLength = -1
		in.Body = http.MaxBytesReader(nil, io.NopCloser(&noEnd{}), 100)
	}))

	// Headers one by one, and in pairs.
	for i, name := range required {
		add(name+" missing", 401, notify.OutcomeHeaders, set(name))
		add(name+" nil", 401, notify.OutcomeHeaders, with(func(in *Incoming) { in.Header[name] = []string{} }))
		add(name+" empty", 401, notify.OutcomeHeaders, set(name, ""))
		add(name+" repeated", 401, notify.OutcomeHeaders, with(func(in *Incoming) {
			in.Header[name] = append(in.Header[name], in.Header[name][0])
		}))
		add(name+" repeated with another", 401, notify.OutcomeHeaders, with(func(in *Incoming) { in.Header[name] = append(in.Header[name], "x") }))
		add(name+" and then empty", 401, notify.OutcomeHeaders, with(func(in *Incoming) { in.Header[name] = append(in.Header[name], "") }))
		for _, other := range required[i+1:] {
			add(name+" and "+other+" missing", 401, notify.OutcomeHeaders, with(func(in *Incoming) {
				delete(in.Header, name)
				delete(in.Header, other)
			}))
			add(name+" and "+other+" empty", 401, notify.OutcomeHeaders, with(func(in *Incoming) {
				in.Header[name], in.Header[other] = []string{""}, []string{""}
			}))
		}
		outcome := map[string]notify.Outcome{
			ts: notify.OutcomeTimestamp, nonce: notify.OutcomeHeaders, sig: notify.OutcomeSignature, serial: notify.OutcomeSerial,
		}[name]
		for _, pad := range []struct{ what, before, after string }{
			{"leading space", " ", ""}, {"trailing space", "", " "}, {"trailing tab", "", "\t"}, {"trailing CRLF", "", "\r\n"},
			{"trailing NUL", "", "\x00"}, {"no-break space", "", "\u00a0"}, {"next line", "", "\u0085"}, {"line separator", "", "\u2028"},
		} {
			add(name+" with "+pad.what, 401, outcome, changed(name, func(v string) string { return pad.before + v + pad.after }))
		}
		for _, word := range []string{"null", "undefined", "[]", "true"} {
			want := outcome
			if name == nonce || name == sig {
				want = notify.OutcomeSignature // a well-formed text, and the wrong one
			}
			if name == sig && word == "[]" || name == sig && word == "undefined" {
				want = notify.OutcomeSignature
			}
			add(name+" is "+word, 401, want, set(name, word))
		}
		add(name+" joined by a proxy", 401, map[string]notify.Outcome{
			ts: notify.OutcomeTimestamp, nonce: notify.OutcomeSignature, sig: notify.OutcomeSignature, serial: notify.OutcomeSerial,
		}[name], changed(name, func(v string) string { return v + "," + v }))
		add(name+" under a lower-case key only", 401, notify.OutcomeHeaders, with(func(in *Incoming) {
			in.Header[strings.ToLower(name)] = in.Header[name]
			delete(in.Header, name)
		}))
		add(name+" under an underscore key only", 401, notify.OutcomeHeaders, with(func(in *Incoming) {
			in.Header[strings.ReplaceAll(name, "-", "_")] = in.Header[name]
			delete(in.Header, name)
		}))
	}
	add("no header at all", 401, notify.OutcomeHeaders, with(func(in *Incoming) { in.Header = nil }))
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "", "localhost:8080"} {
		add("no header, Host "+host, 401, notify.OutcomeHeaders, with(func(in *Incoming) {
			in.Header = http.Header{"X-Forwarded-Host": {host}, "X-Forwarded-For": {"127.0.0.1"}}
			in.Host = host
		}))
		add("forged, Host "+host, 401, notify.OutcomeSignature, with(func(in *Incoming) {
			in.Host = host
			in.Header[sig] = []string{base64.StdEncoding.EncodeToString(make([]byte, 256))}
		}))
	}

	// The signature type.
	for _, value := range []string{"", "NONE", "wechatpay2-sha256-rsa2048", "WECHATPAY2-SM2-WITH-SM3", "WECHATPAY2-SHA256-RSA2048 ", "WECHATPAY2-SHA256-RSA4096", "SHA256-RSA2048"} {
		add("type "+strconv.Quote(value), 401, notify.OutcomeHeaders, set(kind, value))
	}
	add("type twice", 401, notify.OutcomeHeaders, set(kind, signatureType, signatureType))
	add("type twice, other", 401, notify.OutcomeHeaders, set(kind, signatureType, "NONE"))

	// Timestamps, well signed.
	base := baseTime.Unix()
	for _, off := range []int64{-301, -300, 300, 301, -600, 600, -86400, 86400} {
		add(fmt.Sprintf("timestamp %+d", off), 401, notify.OutcomeTimestamp, at(strconv.FormatInt(base+off, 10)))
	}
	now := strconv.FormatInt(base, 10)
	for _, text := range []string{
		"0", "1", "-1", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551616", "99999999999999999999999999",
		"4294967296", "2147483647", "+" + now, "0" + now, "000" + now, now + ".0", now + "e0", "0x" + strconv.FormatInt(base, 16),
		now + "000", now[:9], "１" + now[1:], "NaN", "Infinity", baseTime.Format("2006-01-02T15:04:05Z"), now[:4] + "_" + now[4:], strings.Repeat("1", 10000),
	} {
		add("timestamp "+shorten(text), 401, notify.OutcomeTimestamp, at(text))
	}

	// Nonces of the header, well signed.
	for _, text := range []string{"a b", "a\nb", "中文", strings.Repeat("n", 129), strings.Repeat("n", 1<<20), "\x7f", "\x00", "a\u00a0"} {
		add("nonce "+shorten(text), 401, notify.OutcomeHeaders, nonced(text))
	}

	// Serials.
	for _, text := range []string{
		"0", "00", "1", "FF", strings.ToLower(testKeyID), "PUB_KEY_ID_", testKeyID + "0", testKeyID[:len(testKeyID)-1], "0" + testKeyID,
		strings.ToLower(certSerial), certSerial[1:], "00" + certSerial, "0x" + certSerial, certSerial + "00", certSerial[:2] + ":" + certSerial[2:],
		testSerial, laterSerial, strings.Repeat("A", 40), strings.Repeat("A", 64), strings.Repeat("A", 65), strings.Repeat("A", 10<<10),
		"../../etc/passwd", "..\\..\\", "a\x00b", "%2e%2e", "'; --", "${jndi:ldap://x}", "ＡＢ", "-1", "PUB_KEY_ID_\u202e",
	} {
		add("serial "+shorten(text), 401, notify.OutcomeSerial, set(serial, text))
	}

	// Signatures: lengths and spellings.
	for _, n := range []int{0, 1, 16, 128, 255, 257, 512, 4096} {
		want := notify.OutcomeSignature
		if n == 0 {
			want = notify.OutcomeHeaders // its base64 is empty
		}
		add(fmt.Sprintf("signature of %d bytes", n), 401, want, set(sig, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, n))))
	}
	raw := func(f func([]byte) []byte) func() Incoming {
		return changed(sig, func(v string) string {
			return base64.StdEncoding.EncodeToString(f(must(base64.StdEncoding.DecodeString(v))))
		})
	}
	add("signature all zero", 401, notify.OutcomeSignature, raw(func(b []byte) []byte { return make([]byte, len(b)) }))
	add("signature all ones", 401, notify.OutcomeSignature, raw(func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, len(b)) }))
	add("signature with a leading zero byte", 401, notify.OutcomeSignature, raw(func(b []byte) []byte { return append([]byte{0}, b...) }))
	add("signature cut", 401, notify.OutcomeSignature, raw(func(b []byte) []byte { return b[:len(b)-1] }))
	add("signature of n plus s", 401, notify.OutcomeSignature, raw(plusModulus))
	add("signature in URL base64", 401, notify.OutcomeSignature, set(sig, base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 256))))
	add("signature without padding", 401, notify.OutcomeSignature, changed(sig, func(v string) string { return strings.TrimRight(v, "=") }))
	add("signature with more padding", 401, notify.OutcomeSignature, changed(sig, func(v string) string { return v + "=" }))
	add("signature in hex", 401, notify.OutcomeSignature, changed(sig, func(v string) string {
		return fmt.Sprintf("%x", must(base64.StdEncoding.DecodeString(v)))
	}))
	add("signature with a line break inside", 401, notify.OutcomeSignature, changed(sig, func(v string) string { return v[:76] + "\n" + v[76:] }))
	add("signature with a space inside", 401, notify.OutcomeSignature, changed(sig, func(v string) string { return v[:76] + " " + v[76:] }))
	for i := 1; i < 16; i++ {
		// 256 bytes leave four spare bits in the last character.
		add(fmt.Sprintf("signature with spare bits %d", i), 401, notify.OutcomeSignature, changed(sig, func(v string) string { return respell(v, i) }))
	}
	add("signature by a stranger", 401, notify.OutcomeSignature, with(func(in *Incoming) {
		in.Header[sig] = []string{base64.StdEncoding.EncodeToString(sign(strangerKey(), now, testNonce, goodBody()))}
	}))
	add("signature of another body", 401, notify.OutcomeSignature, with(func(in *Incoming) {
		in.Header[sig] = request([]byte("{}")).Header[sig]
	}))
	add("probe", 401, notify.OutcomeProbe, set(sig, "WECHATPAY/SIGNTEST/"+strings.Repeat("A", 325)))
	add("probe, right length", 401, notify.OutcomeProbe, changed(sig, func(v string) string { return "WECHATPAY/SIGNTEST/" + v[19:] }))
	add("probe, no base64", 401, notify.OutcomeProbe, set(sig, "WECHATPAY/SIGNTEST/!"))

	// APIv2 notifications.
	xml := []byte("<xml><return_code><![CDATA[SUCCESS]]></return_code></xml>")
	v2 := func(body []byte, contentType string) func() Incoming {
		return func() Incoming {
			in := Incoming{Method: "POST", ContentLength: int64(len(body)), Body: bytes.NewReader(body), Header: http.Header{}}
			if contentType != "" {
				in.Header.Set("Content-Type", contentType)
			}
			return in
		}
	}
	add("v2 XML", 401, notify.OutcomeXML, v2(xml, "text/xml"))
	add("v2 XML, charset", 401, notify.OutcomeXML, v2(xml, "application/xml; charset=utf-8"))
	add("v2 XML, no type", 401, notify.OutcomeXML, v2(xml, ""))
	add("v2 XML with a BOM", 401, notify.OutcomeXML, v2(slices.Concat([]byte("\xef\xbb\xbf \n"), xml), ""))
	add("v2 XML with a doctype", 401, notify.OutcomeXML, v2([]byte(`<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:1/">]><a>&x;</a>`), "text/xml"))
	add("JSON without headers", 401, notify.OutcomeHeaders, v2(goodBody(), "application/json"))

	// Bodies that are not what was signed, or that break off.
	add("body with one byte more", 401, notify.OutcomeSignature, with(func(in *Incoming) {
		in.ContentLength, in.Body = -1, bytes.NewReader(append(goodBody(), '\n'))
	}))
	add("body re-encoded", 401, notify.OutcomeSignature, with(func(in *Incoming) {
		var v any
		_ = json.Unmarshal(goodBody(), &v)
		in.ContentLength, in.Body = -1, bytes.NewReader(must(json.Marshal(v)))
	}))
	add("body gzipped on the way", 401, notify.OutcomeSignature, with(func(in *Incoming) {
		in.Header["Content-Encoding"] = []string{"gzip"}
		in.ContentLength, in.Body = -1, bytes.NewReader(gzipped(goodBody()))
	}))
	add("body shorter than its length", 400, notify.OutcomeDisconnected, with(func(in *Incoming) { in.ContentLength++ }))
	add("body longer than its length", 400, notify.OutcomeDisconnected, with(func(in *Incoming) { in.ContentLength-- }))
	add("body breaks off", 400, notify.OutcomeDisconnected, with(func(in *Incoming) { in.Body = brokenReader{in.Body} }))
	add("body that never comes", 400, notify.OutcomeDisconnected, with(func(in *Incoming) { in.Body = stuck{} }))
	add("no body", 400, notify.OutcomeDisconnected, with(func(in *Incoming) { in.Body = nil }))

	// Envelopes, well signed.
	good := string(goodBody())
	for name, body := range map[string]string{
		"empty": "", "space": " ", "null": "null", "true": "true", "number": "1", "string": `"x"`, "array": "[]", "object": "{}",
		"array of envelope": "[" + good + "]", "truncated": good[:len(good)-1], "half": good[:len(good)/2], "two": good + good, "trailing text": good + "x",
		"trailing comma": good[:len(good)-1] + ",}", "BOM": "\ufeff" + good, "NUL": good + "\x00", "comment": "/**/" + good,
		"single quotes": strings.ReplaceAll(good, `"`, `'`), "invalid UTF-8": strings.Replace(good, "支付成功", "\xff\xfe", 1),
		"overlong UTF-8": strings.Replace(good, "支付成功", "\xc0\xaf", 1), "surrogate in UTF-8": strings.Replace(good, "支付成功", "\xed\xa0\x80", 1),
		"control character": strings.Replace(good, "支付成功", "a\x01b", 1), "bad escape": strings.Replace(good, "支付成功", `\x`, 1), "cut escape": strings.Replace(good, "支付成功", `\u12`, 1),
		"deep arrays":          `{"a":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}`,
		"deep objects":         strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33),
		"duplicate id":         strings.Replace(good, `{"id"`, `{"id":"x","id"`, 1),
		"duplicate resource":   strings.Replace(good, `"resource":`, `"resource":{},"resource":`, 1),
		"case-folded resource": strings.Replace(good, `"resource":`, `"Resource":{},"resource":`, 1),
		"escaped duplicate":    strings.Replace(good, `{"id"`, `{"\u0069d":"x","id"`, 1),
		"duplicate in resource": strings.Replace(good, `{"algorithm"`,
			`{"Algorithm":"x","algorithm"`, 1),
		"duplicate elsewhere": strings.Replace(good, `{"id"`, `{"x":{"a":1,"a":2},"id"`, 1),
		"kelvin sign":         strings.Replace(good, `{"id"`, `{"k":1,"`+"\u212a"+`":2,"id"`, 1),
		"no resource":         `{"id":"1","event_type":"TRANSACTION.SUCCESS"}`, "resource null": `{"resource":null}`, "resource string": `{"resource":"x"}`,
		"resource array": `{"resource":[]}`, "resource empty": `{"resource":{}}`, "resource number": `{"resource":0}`,
		"leading zero":  strings.Replace(good, `{"id"`, `{"x":01,"id"`, 1),
		"bare minus":    strings.Replace(good, `{"id"`, `{"x":-,"id"`, 1),
		"plus":          strings.Replace(good, `{"id"`, `{"x":+1,"id"`, 1),
		"bare fraction": strings.Replace(good, `{"id"`, `{"x":1.,"id"`, 1),
		"NaN":           strings.Replace(good, `{"id"`, `{"x":NaN,"id"`, 1),
		"gzip":          string(gzipped([]byte(good))),
		"XML":           "<xml/>",
	} {
		add("envelope: "+name, 400, notify.OutcomeMalformed, sent([]byte(body)))
	}

	// Resources, well signed.
	for _, algorithm := range []string{"", "aead_aes_256_gcm", "AEAD_SM4_GCM", "AEAD_AES_128_GCM", "NONE", "AEAD_AES_256_GCM "} {
		add("algorithm "+strconv.Quote(algorithm), 400, notify.OutcomeMalformed, sealedAs(func(r *resource) { r.Algorithm = algorithm }))
	}
	for n := range 33 {
		if n != 12 {
			add(fmt.Sprintf("resource nonce of %d", n), 400, notify.OutcomeMalformed, sealedAs(func(r *resource) { r.Nonce = strings.Repeat("n", n) }))
		}
	}
	add("resource nonce of 100 KiB", 400, notify.OutcomeMalformed, sealedAs(func(r *resource) { r.Nonce = strings.Repeat("n", 100<<10) }))
	add("resource nonce of 12 characters, 14 bytes", 400, notify.OutcomeMalformed, sealedAs(func(r *resource) { r.Nonce = "nnnnnnnnnn支"[:10] + "éé" }))
	add("another resource nonce", 400, notify.OutcomeDecrypt, sealedAs(func(r *resource) { r.Nonce = "fdasflkja485" }))
	add("another associated_data", 400, notify.OutcomeDecrypt, sealedAs(func(r *resource) { r.AssociatedData = "refund" }))
	add("no associated_data", 400, notify.OutcomeDecrypt, sealedAs(func(r *resource) { r.AssociatedData = "" }))
	for _, text := range []string{"", "A", "AAAA", "!!!!", base64.StdEncoding.EncodeToString(make([]byte, 15))} {
		add("ciphertext "+strconv.Quote(text), 400, notify.OutcomeMalformed, sealedAs(func(r *resource) { r.Ciphertext = text }))
	}
	add("ciphertext of the tag alone", 400, notify.OutcomeDecrypt, sealedAs(func(r *resource) { r.Ciphertext = base64.StdEncoding.EncodeToString(make([]byte, 16)) }))
	add("ciphertext in URL base64", 400, notify.OutcomeMalformed, sealedAs(func(r *resource) { r.Ciphertext = "-_" + r.Ciphertext[2:] }))
	add("ciphertext with a line break", 400, notify.OutcomeMalformed, sealedAs(func(r *resource) { r.Ciphertext = r.Ciphertext[:76] + "\n" + r.Ciphertext[76:] }))
	add("ciphertext cut by a byte", 400, notify.OutcomeDecrypt, sealedAs(func(r *resource) {
		c := must(base64.StdEncoding.DecodeString(r.Ciphertext))
		r.Ciphertext = base64.StdEncoding.EncodeToString(c[:len(c)-1])
	}))
	for i := 1; i <= 16; i++ {
		add(fmt.Sprintf("tag byte %d flipped", i), 400, notify.OutcomeDecrypt, sealedAs(func(r *resource) {
			c := must(base64.StdEncoding.DecodeString(r.Ciphertext))
			c[len(c)-i] ^= 1
			r.Ciphertext = base64.StdEncoding.EncodeToString(c)
		}))
	}
	for name, value := range map[string]any{
		"nonce number":           map[string]any{"algorithm": "AEAD_AES_256_GCM", "nonce": 123456789012, "ciphertext": "AAAA"},
		"ciphertext null":        map[string]any{"algorithm": "AEAD_AES_256_GCM", "nonce": "fdasflkja484", "ciphertext": nil},
		"algorithm array":        map[string]any{"algorithm": []string{"AEAD_AES_256_GCM"}, "nonce": "fdasflkja484", "ciphertext": "AAAA"},
		"associated_data number": map[string]any{"algorithm": "AEAD_AES_256_GCM", "nonce": "fdasflkja484", "ciphertext": strings.Repeat("A", 24), "associated_data": 1},
	} {
		add("resource: "+name, 400, notify.OutcomeMalformed, sent(envelope(testID, "TRANSACTION.SUCCESS", "", value)))
	}

	// Plaintexts, well signed and well encrypted.
	payment := basic("20260301009999", 100)
	for name, text := range map[string]string{
		"empty": "", "null": "null", "array": "[" + payment + "]", "string": `"x"`, "number": "100", "false": "false", "truncated": payment[:len(payment)-1],
		"two": payment + payment, "text behind": payment + " x", "invalid UTF-8": strings.Replace(payment, "支付成功", "\xff", 1), "XML": "<xml/>",
		"duplicate amount":    strings.Replace(payment, `"amount":`, `"amount":{"total":1},"amount":`, 1),
		"case-folded amount":  strings.Replace(payment, `"amount":`, `"Amount":{"total":1},"amount":`, 1),
		"duplicate total":     strings.Replace(payment, `"total":100`, `"total":1,"total":100`, 1),
		"case-folded total":   strings.Replace(payment, `"total":100`, `"total":100,"TOTAL":1`, 1),
		"escaped total":       strings.Replace(payment, `"total":100`, `"total":100,"t\u006ftal":1`, 1),
		"duplicate mchid":     strings.Replace(payment, `"mchid":`, `"mchid":"1","mchid":`, 1),
		"duplicate in payer":  strings.Replace(payment, `"openid":`, `"openid":"a","OpenID":`, 1),
		"deep":                strings.Replace(payment, `"attach":""`, `"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40), 1),
		"very wide":           `{` + wide(600) + `"a":1}`,
		"unclosed string":     `{"mchid":"1900000001`,
		"number without end":  `{"amount":{"total":1`,
		"colon missing":       `{"mchid" "1"}`,
		"comma missing":       `{"a":1 "b":2}`,
		"comma first":         `{,"a":1}`,
		"comma first in list": `{"a":[,1]}`,
		"comma last in list":  `{"a":[1,]}`,
		"name is a number":    `{1:2}`,
		"wrong word":          `{"a":nul}`,
		"upper word":          `{"a":TRUE}`,
	} {
		add("plaintext: "+name, 400, notify.OutcomeMalformed, plain(text))
	}
	return rows
}

func wide(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"n%d":0,`, i)
	}
	return b.String()
}

func shorten(s string) string {
	if len(s) > 48 {
		return strconv.Quote(s[:48]) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return strconv.Quote(s)
}

// respell changes the four bits of a base64 text that decode to nothing.
func respell(text string, bits int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := len(text) - 3 // "X=="
	return text[:at] + string(alphabet[strings.IndexByte(alphabet, text[at])^bits]) + text[at+1:]
}

func TestBadInput(t *testing.T) {
	rows := badRows()
	if len(rows) < 120 {
		t.Fatalf("%d rows, want 120 or more", len(rows))
	}
	t.Logf("%d rows", len(rows))
	b := newBench(t)
	names := map[string]bool{}
	for _, row := range rows {
		if names[row.name] {
			t.Errorf("two rows are called %q", row.name)
		}
		names[row.name] = true
		in := row.in()
		a := b.Receive(t.Context(), commitRoute(), theMerchant(), in)
		if a.Status != row.status || b.seen.last() != row.outcome {
			t.Errorf("%s: %d %s, want %d %s", row.name, a.Status, b.seen.last(), row.status, row.outcome)
		}
		checkAnswer(t, a)
		if n := b.store.touched(); n != 0 {
			t.Fatalf("%s: the store was touched %d times", row.name, n)
		}
		if endless, ok := in.Body.(*noEnd); ok && endless.read > 2*notify.DefaultMaxBody {
			t.Errorf("%s: %d bytes were read", row.name, endless.read)
		}
	}
	if held := b.held.Load(); held != 0 {
		t.Errorf("%d bytes of the budget are still held", held)
	}
	if strings.Contains(b.logs.String(), "panic") {
		t.Errorf("a row made something panic:\n%s", b.logs)
	}
	// The same bench still takes the real thing.
	if a := b.Receive(t.Context(), commitRoute(), theMerchant(), request(goodBody())); a.Status != http.StatusOK {
		t.Errorf("a good callback: %d %s", a.Status, a.Body)
	}
}

// What is at the edge of being refused, and is not.
func TestGoodInput(t *testing.T) {
	base := baseTime.Unix()
	rows := map[string]func() Incoming{
		"timestamp -299":        at(strconv.FormatInt(base-299, 10)),
		"timestamp +299":        at(strconv.FormatInt(base+299, 10)),
		"chunked":               with(func(in *Incoming) { in.ContentLength = -1 }),
		"certificate serial":    set("Wechatpay-Serial", certSerial),
		"no type":               set("Wechatpay-Signature-Type"),
		"nonce of one":          nonced("n"),
		"nonce of 128":          nonced(strings.Repeat("~", 128)),
		"any Content-Type":      set("Content-Type", "text/xml"),
		"no Content-Type":       set("Content-Type"),
		"loopback Host":         with(func(in *Incoming) { in.Host = "localhost" }),
		"Content-Encoding lies": set("Content-Encoding", "gzip"),
		"Request-ID twice":      set("Request-Id", "a", "b"),
		"white space around":    sent([]byte(" \n\t" + string(goodBody()) + " \r\n")),
		"escaped slashes":       sent(bytes.ReplaceAll(goodBody(), []byte("/"), []byte(`\/`))),
		"associated_data absent": func() Incoming {
			return request([]byte(`{"id":"1","event_type":"TRANSACTION.SUCCESS","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"fdasflkja484","ciphertext":"` +
				base64.StdEncoding.EncodeToString(sealRaw(basic("1", 1), "fdasflkja484", "")) + `"}}`))
		},
		"associated_data null": func() Incoming {
			return request([]byte(`{"id":"1","resource":{"associated_data":null,"algorithm":"AEAD_AES_256_GCM","nonce":"fdasflkja484","ciphertext":"` +
				base64.StdEncoding.EncodeToString(sealRaw(basic("1", 1), "fdasflkja484", "")) + `"}}`))
		},
		"create_time is anything": sent(bytes.Replace(goodBody(), []byte(`"2026-03-01T20:00:00+08:00"`), []byte(`{"x":[1.5e3]}`), 1)),
		"id is a number":          sent(bytes.Replace(goodBody(), []byte(`"`+testID+`"`), []byte(`12`), 1)),
		"no id":                   sent(bytes.Replace(goodBody(), []byte(`"id":"`+testID+`",`), nil, 1)),
		"31 levels":               plain(`{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`),
		"an empty plaintext":      plain(`{}`),
		"amount is a string":      plain(strings.Replace(basic("2", 100), `"total":100`, `"total":"100"`, 1)),
		"body at the limit": func() Incoming {
			body := goodBody()
			pad := bytes.Repeat([]byte{' '}, notify.DefaultMaxBody-len(body))
			return request(append(body, pad...))
		},
	}
	for name, in := range rows {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			a := b.Receive(t.Context(), commitRoute(), theMerchant(), in())
			if a.Status != http.StatusOK {
				t.Fatalf("%d %s: %s", a.Status, a.Body, b.logs)
			}
			checkAnswer(t, a)
			b.store.only(t)
		})
	}
}
