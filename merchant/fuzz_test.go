package merchant

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

// fuzzCertificate is a fixed one (serial 7132D72A…01): each worker of a
// fuzz run is a process of its own and makes its own keys.
const fuzzCertificate = `-----BEGIN CERTIFICATE-----
MIIC6jCCAdKgAwIBAgIUcTLXKgPpPN34wDu9Hzfu3wAAAAEwDQYJKoZIhvcNAQEL
BQAwLzETMBEGA1UEChMKVGVucGF5LmNvbTEYMBYGA1UEAxMPVGVucGF5LmNvbSBz
aWduMB4XDTI2MDIyODEyMDAwMFoXDTMxMDIyODEyMDAwMFowLzETMBEGA1UEChMK
VGVucGF5LmNvbTEYMBYGA1UEAxMPVGVucGF5LmNvbSBzaWduMIIBIjANBgkqhkiG
9w0BAQEFAAOCAQ8AMIIBCgKCAQEAsGXkDe8YvYCkKe9yhX2oXOs4Zh2MBPe4wOiI
EpGhAQexu+pEwbhg6VJJPI+0dDuffM3BeMO3SCiisfs7wFxoOgZEdAshWrfaxAoH
9EvNRE7WeZ2okGSUJf1f+sYZcrbnkugte7l0QWjBt3r40PBBhr1IDsThk4/wuBtp
u2m8M1ZXAVSPAM4RMZtoJTkEUYhL7ccm0fNsFMAvuPslq5vq1b+oEfYmtkO34xo0
D+VZ8ZewmQfc1cqntF582opfqCN5roiORMRdP1PeB2FkWHGNo2x5aWLfLQG6936j
CaV/wq67N2+LUusSyswPjkieogO7AcJQRBCyMQfVMNK8Qg2PZQIDAQABMA0GCSqG
SIb3DQEBCwUAA4IBAQBitlJsWaAbA8CVUhM136oeNPi51YJi7RHBATXkHFpqkN2w
qc7nts+PNuXc7bixkP3H/SCGrM3HV7r1c6Sjot5YOcokGJmdexrsmgC6Ye8ju6aM
zpCiWAhV8JR4wDYadF19SYoBMfMShXqxbPklDPztJrABVcec4Bknj6ndyGSzu7Uz
TkPebKsVs9z4ko0GpgP/PBFjLD85y813LdcOOEGrn1ueqFyt17J/AkTKqPZDcfGE
KDUiDuDFuJqIgicufzy2QQ27flCgr4CrdeAh2SidJ7+aOHITL5HtWp9gmUK06Ruq
TZgZZxZrJbRyOWmABeON+TVezg96gN37ZZtZYD2V
-----END CERTIFICATE-----
`

// FuzzCertificateAnswer: no answer panics, and none yields a certificate unless
// it was encrypted under the APIv3 key.
func FuzzCertificateAnswer(f *testing.F) {
	aead, err := newAEAD(NewSecret(testAPIv3))
	if err != nil {
		f.Fatal(err)
	}
	parsed, err := parseCertificates(fuzzCertificate)
	if err != nil {
		f.Fatal(err)
	}
	genuine := parsed[0]
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
	sealed := base64.StdEncoding.EncodeToString(seal(testAPIv3, "certificate", "nonce-000000", fuzzCertificate))
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

// FuzzSandboxKeys: no answer of a sandbox panics, and every key it yields
// carries the sandbox's mark.
func FuzzSandboxKeys(f *testing.F) {
	whole, err := json.Marshal(map[string]any{
		"mchid": testMchid, "appids": []string{"wx8888888888888888"}, "serial_no": testSerial,
		"private_key": pkcs8(merchantKey()), "apiv3_key": testAPIv3,
		"public_keys":           []any{map[string]any{"id": sandboxKeyID, "pem": pkix8(&platformKey().PublicKey)}},
		"platform_certificates": []any{certSpec{organization: SandboxOrganization}.pem()},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(strings.ReplaceAll(string(whole), "SANDBOX", "0119")))
	f.Add([]byte(`{"mchid":"1900000001","public_keys":[null],"platform_certificates":[null]}`))
	f.Add([]byte("null"))
	m, err := New(Config{Name: "demo", Mchid: testMchid, Sandbox: "http://127.0.0.1:1"}, Deps{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := m.parseSandboxKeys(body)
		if err != nil {
			wantNoSecret(t, "the error", err.Error())
			return
		}
		if s.keys.Len() == 0 || len(s.apiv3) != 1 || s.credential.signer == nil {
			t.Error("half a set of keys")
		}
		for _, key := range s.keys.All() {
			if key.Kind == KindPublicKey && !strings.HasPrefix(key.Serial, SandboxPublicKeyIDPrefix) {
				t.Errorf("%s has no mark", key.Serial)
			}
		}
	})
}
