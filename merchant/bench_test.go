package merchant

import (
	"strings"
	"testing"
)

// benchBody is about as long as a payment's callback.
var benchBody = `{"id":"b4a1b1c4-63b1-5ab1-8f2a-3f1d2f0a4b5c","resource":{"ciphertext":"` + strings.Repeat("A", 900) + `"}}`

func benchMerchant(b *testing.B) *Merchant {
	b.Helper()
	cfg := goodConfig()
	cfg.APIv3Keys = []string{testAPIv3, testAPIv3b}
	cfg.CertificatePEMs = []string{certSpec{key: nextKey()}.pem()}
	m, err := New(cfg, Deps{Now: atBase})
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func BenchmarkLookup(b *testing.B) {
	m := benchMerchant(b)
	for name, serial := range map[string]string{"public_key": testKeyID, "certificate": serialOf(1), "unknown": serialOf(2)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = m.Keys().Lookup(serial, baseTime)
			}
		})
	}
}

func BenchmarkLookupVerify(b *testing.B) {
	m := benchMerchant(b)
	message := []byte(unixText(baseTime) + "\nEVoLSvkp2Yp1FJ2Q\n" + benchBody + "\n")
	signature := sign(platformKey(), string(message))
	b.ReportAllocs()
	for b.Loop() {
		key, err := m.Keys().Lookup(testKeyID, baseTime)
		if err != nil {
			b.Fatal(err)
		}
		if err := key.Verify(message, signature); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	m := benchMerchant(b)
	nonce, data := []byte("fdasflkja484"), []byte("transaction")
	for name, key := range map[string]string{"first_key": testAPIv3, "second_key": testAPIv3b} {
		ciphertext := seal(key, "transaction", "fdasflkja484", benchBody)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(ciphertext)))
			for b.Loop() {
				if _, err := m.Decrypt(data, nonce, ciphertext); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAuthorization(b *testing.B) {
	m := benchMerchant(b)
	c, err := m.Credential()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.GenerateAuthorizationHeader(b.Context(), "POST", "/v3/pay/transactions/native", benchBody); err != nil {
			b.Fatal(err)
		}
	}
}
