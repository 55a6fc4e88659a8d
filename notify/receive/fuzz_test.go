package receive

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// FuzzHeaders: whatever the headers say, what passes is canonical.
func FuzzHeaders(f *testing.F) {
	good := request(goodBody()).Header
	f.Add(good.Get("Wechatpay-Timestamp"), testNonce, good.Get("Wechatpay-Signature"), testKeyID, signatureType, true)
	f.Add("9223372036854775807", "n", "WECHATPAY/SIGNTEST/", "00", "", false)
	f.Add("-1", " n", "A===", "PUB_KEY_ID_", "NONE", true)
	f.Fuzz(func(t *testing.T, timestamp, nonce, signature, serial, kind string, hasKind bool) {
		h := http.Header{
			headerTimestamp: {timestamp}, headerNonce: {nonce}, headerSignature: {signature}, headerSerial: {serial},
		}
		if hasKind {
			h[headerType] = []string{kind}
		}
		s, bad := parseHeaders(h, baseTime)
		if bad.refused() {
			if bad.answer.Status != http.StatusUnauthorized || bad.reason == "" {
				t.Fatalf("%+v", bad)
			}
			return
		}
		seconds, ok := parseTimestamp(timestamp)
		if !ok || seconds <= baseTime.Unix()-window || seconds >= baseTime.Unix()+window {
			t.Fatalf("timestamp %q", timestamp)
		}
		if base64.StdEncoding.EncodeToString(s.signature) != signature || hasKind && kind != signatureType {
			t.Fatalf("signature %q, type %q", signature, kind)
		}
		for _, c := range []byte(nonce + serial) {
			if c <= ' ' || c > '~' {
				t.Fatalf("nonce %q, serial %q", nonce, serial)
			}
		}
	})
}

// FuzzReceive lets every body pass for signed: what is behind the signature
// must take anything.
func FuzzReceive(f *testing.F) {
	f.Add(goodBody(), false)
	f.Add([]byte(`null`), true)
	f.Add([]byte(`{"resource":null}`), false)
	f.Add([]byte(`{"resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"fdasflkja484","ciphertext":"AAAA"}}`), false)
	f.Add([]byte(basic("1", 100)), true)
	f.Add([]byte(combinePaid("1")), true)
	f.Add([]byte(refundOf("1", "2", "SUCCESS", 3, 1)), true)
	f.Fuzz(func(t *testing.T, body []byte, encrypt bool) {
		if encrypt {
			body = paid(string(body)) // a plaintext instead of an envelope
		}
		b := newBench(t)
		b.know(created("1", 100), combineOrder("1b"))
		b.verify = func(merchant.Key, []byte, []byte) error { return nil }
		in := Incoming{
			Method: http.MethodPost, ContentLength: int64(len(body)), Body: bytes.NewReader(body),
			Header: http.Header{
				headerTimestamp: {strconv.FormatInt(baseTime.Unix(), 10)}, headerNonce: {testNonce}, headerSerial: {testKeyID},
				headerSignature: {base64.StdEncoding.EncodeToString(make([]byte, 256))},
			},
		}
		a := b.Receive(t.Context(), commitRoute(), theMerchant(), in)
		switch a.Status {
		case 200:
			record := b.store.only(t)
			if r := record.Resource(); len(r) < 2 || !bytes.Contains(record.Body, r) {
				t.Fatalf("resource %q", r)
			}
		case 409:
			if len(b.store.parked) != 1 || len(b.store.records) != 0 {
				t.Fatal("parked and not parked")
			}
		case 400, 413:
			if b.store.touched() != 0 {
				t.Fatal("the store was touched")
			}
		default:
			t.Fatalf("status %d: %s", a.Status, b.logs)
		}
		if strings.Contains(b.logs.String(), "panic") || b.seen.last() == notify.OutcomeInternalError {
			t.Fatalf("panic: %s", b.logs)
		}
	})
}
