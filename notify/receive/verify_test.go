package receive

import (
	"bytes"
	"math/big"
	"net/http"
	"strings"
	"testing"
)

// plusModulus adds the modulus to a signature: the same number modulo n, longer
// by a byte or out of range.
func plusModulus(raw []byte) []byte {
	s := new(big.Int).SetBytes(raw)
	return s.Add(s, platformKey().N).Bytes()
}

// Every single byte of what is signed counts.
func TestEveryByteCounts(t *testing.T) {
	b := newBench(t)
	body := goodBody()
	good := request(body)
	try := func(what string, at int, in Incoming) {
		t.Helper()
		if a := b.Receive(t.Context(), commitRoute(), theMerchant(), in); a.Status != http.StatusUnauthorized {
			t.Errorf("%s with byte %d changed: %d %s", what, at, a.Status, a.Body)
		}
	}
	fresh := func(body []byte) Incoming {
		in := good
		in.Header = good.Header.Clone()
		in.Body, in.ContentLength = bytes.NewReader(body), int64(len(body))
		return in
	}
	for i := range body {
		changed := bytes.Clone(body)
		changed[i] ^= 1
		try("body", i, fresh(changed))
	}
	for _, name := range []string{"Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Serial", "Wechatpay-Signature"} {
		value := good.Header.Get(name)
		for i := range value {
			for _, bit := range []byte{1, 2, 16, 32} {
				in := fresh(body)
				changed := []byte(value)
				changed[i] ^= bit
				in.Header[name] = []string{string(changed)}
				try(name, i, in)
			}
			in := fresh(body)
			in.Header[name] = []string{value[:i] + value[i+1:]}
			try(name+" without a byte", i, in)
		}
	}
	if n := b.store.touched(); n != 0 {
		t.Errorf("the store was touched %d times", n)
	}
	if strings.Contains(b.logs.String(), "panic") {
		t.Error("something panicked")
	}
	if a := b.Receive(t.Context(), commitRoute(), theMerchant(), fresh(body)); a.Status != http.StatusOK {
		t.Errorf("unchanged: %d", a.Status)
	}
}
