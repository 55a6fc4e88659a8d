package merchant

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

// FuzzCertificateAnswer: no answer panics, and none yields a certificate unless
// it was encrypted under the APIv3 key.
func FuzzCertificateAnswer(f *testing.F) {
	aead, err := newAEAD(NewSecret(testAPIv3))
	if err != nil {
		f.Fatal(err)
	}
	genuine := certSpec{}.make()
	entry := func(nonce, ciphertext string) string {
		body, err := json.Marshal(map[string]any{"data": []any{map[string]any{
			"serial_no": serialOf(1),
			"encrypt_certificate": map[string]any{
				"algorithm": "AEAD_AES_256_GCM", "nonce": nonce, "associated_data": "certificate", "ciphertext": ciphertext,
			},
		}}})
		if err != nil {
			f.Fatal(err)
		}
		return string(body)
	}
	sealed := base64.StdEncoding.EncodeToString(seal(testAPIv3, "certificate", "nonce-000000", pemText("CERTIFICATE", genuine.Raw)))
	for _, body := range []string{
		entry("nonce-000000", sealed), entry("nonce", sealed), entry("", ""), "", "null", "{}", `{"data":null}`, `{"data":[null]}`,
		`{"data":[{"serial_no":"1","encrypt_certificate":null}]}`, `{"data":{}}`, `[]`, `{"data":[[]]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		certs, err := parseCertificateAnswer(body, []cipher.AEAD{aead})
		if err != nil {
			if len(certs) != 0 {
				t.Error("certificates beside an error")
			}
			return
		}
		for _, c := range certs {
			if c.certificate == nil || !c.certificate.Equal(genuine) {
				t.Error("a certificate that was never encrypted")
			}
		}
	})
}

// FuzzSerial: the canonical spelling is a fixed point, and for hex it is the
// number's.
func FuzzSerial(f *testing.F) {
	for _, serial := range []string{"", "0", "0A0B", "a0b", testKeyID, "PUB_KEY_ID_", strings.Repeat("0", 65), "A0B\n", "\x00", "-1", "0x1"} {
		f.Add(serial)
	}
	f.Fuzz(func(t *testing.T, serial string) {
		var buffer [maxSerial]byte
		spelled, ok := canonicalSerial(buffer[:0], serial)
		if !ok {
			return
		}
		if again := indexSerial(string(spelled)); again != string(spelled) {
			t.Errorf("%q becomes %q, then %q", serial, spelled, again)
		}
		if strings.HasPrefix(serial, publicKeyIDPrefix) {
			if string(spelled) != serial {
				t.Errorf("the id %q becomes %q", serial, spelled)
			}
			return
		}
		n, valid := new(big.Int).SetString(serial, 16)
		if !valid || strings.ContainsAny(serial, "+-_") || strings.ToUpper(n.Text(16)) != string(spelled) {
			t.Errorf("%q becomes %q", serial, spelled)
		}
	})
}

// FuzzSavedCertificates: no record panics, and what is read back is the same.
func FuzzSavedCertificates(f *testing.F) {
	data, err := encodeSaved(testMchid, savedCertificates{fetchedAt: baseTime, attemptedAt: baseTime, settings: "s"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"mchid":"1900000001","certificates":[null,"","AAAA"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		saved, err := decodeSaved(testMchid, data, baseTime)
		if err != nil {
			return
		}
		again, err := encodeSaved(testMchid, saved)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeSaved(testMchid, again, baseTime)
		if err != nil || !back.fetchedAt.Equal(saved.fetchedAt) || !back.attemptedAt.Equal(saved.attemptedAt) || back.settings != saved.settings || len(back.certificates) != len(saved.certificates) {
			t.Errorf("not read back: %v", err)
		}
	})
}
