package merchant

import (
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFailuresKeepTheLastGoodSet: every kind of bad answer, after a good one.
func TestFailuresKeepTheLastGoodSet(t *testing.T) {
	entry := func(change func(e map[string]any)) func([]map[string]any) any {
		return func(entries []map[string]any) any {
			change(entries[0])
			return map[string]any{"data": entries}
		}
	}
	encrypted := func(field string, value any) func(*fakePlatform) {
		return func(p *fakePlatform) {
			p.edit = entry(func(e map[string]any) { e["encrypt_certificate"].(map[string]any)[field] = value })
		}
	}
	answer := func(body string) func(*fakePlatform) {
		return func(p *fakePlatform) { p.edit = func([]map[string]any) any { return []byte(body) } }
	}
	inside := func(text string) func(*fakePlatform) {
		return encrypted("ciphertext", base64.StdEncoding.EncodeToString(seal(testAPIv3, "certificate", "nonce-000000", text)))
	}
	header := func(change func(http.Header)) func(*fakePlatform) {
		return func(p *fakePlatform) { p.after = change }
	}
	instead := func(certs ...certSpec) func(*fakePlatform) {
		return func(p *fakePlatform) {
			p.certs = nil
			for _, spec := range certs {
				p.certs = append(p.certs, spec.make())
			}
		}
	}
	for _, row := range []struct {
		name string
		bend func(*fakePlatform)
		want RefreshOutcome
	}{
		{"empty", answer(""), RefreshMalformed},
		{"null", answer("null"), RefreshMalformed},
		{"not JSON", answer("<xml/>"), RefreshMalformed},
		{"an array", answer("[]"), RefreshMalformed},
		{"no data", answer("{}"), RefreshMalformed},
		{"null data", answer(`{"data":null}`), RefreshMalformed},
		{"empty data", answer(`{"data":[]}`), RefreshMalformed},
		{"null entry", answer(`{"data":[null]}`), RefreshMalformed},
		{"empty entry", answer(`{"data":[{}]}`), RefreshMalformed},
		{"entry of another type", answer(`{"data":["x"]}`), RefreshMalformed},
		{"no encrypt_certificate", answer(`{"data":[{"serial_no":"01"}]}`), RefreshMalformed},
		{"null encrypt_certificate", answer(`{"data":[{"serial_no":"01","encrypt_certificate":null}]}`), RefreshMalformed},
		{"empty encrypt_certificate", answer(`{"data":[{"serial_no":"01","encrypt_certificate":{}}]}`), RefreshMalformed},
		{"33 entries", func(p *fakePlatform) {
			p.edit = func(entries []map[string]any) any {
				for len(entries) < maxCertificates+1 {
					entries = append(entries, entries[0])
				}
				return map[string]any{"data": entries}
			}
		}, RefreshMalformed},
		{"no serial_no", func(p *fakePlatform) { p.edit = entry(func(e map[string]any) { delete(e, "serial_no") }) }, RefreshMalformed},
		{"another serial_no", func(p *fakePlatform) { p.edit = entry(func(e map[string]any) { e["serial_no"] = "LIES" }) }, RefreshMalformed},
		{"a trusted one's serial_no", func(p *fakePlatform) {
			p.certs = []*x509.Certificate{certSpec{key: nextKey(), serial: serialOf(2)}.make()}
			p.edit = entry(func(e map[string]any) { e["serial_no"] = serialOf(1) })
		}, RefreshMalformed},
		{"nonce missing", encrypted("nonce", nil), RefreshMalformed},
		{"nonce of 11 bytes", encrypted("nonce", "nonce-00000"), RefreshMalformed},
		{"nonce of 16 bytes", encrypted("nonce", "nonce-0000000000"), RefreshMalformed},
		{"nonce of another type", encrypted("nonce", 12), RefreshMalformed},
		{"another nonce", encrypted("nonce", "nonce-000001"), RefreshMalformed},
		{"another associated_data", encrypted("associated_data", "transaction"), RefreshMalformed},
		{"another algorithm", encrypted("algorithm", "AEAD_SM4_GCM"), RefreshMalformed},
		{"no algorithm", encrypted("algorithm", nil), RefreshMalformed},
		{"ciphertext missing", encrypted("ciphertext", nil), RefreshMalformed},
		{"ciphertext not base64", encrypted("ciphertext", "***"), RefreshMalformed},
		{"ciphertext short", encrypted("ciphertext", "AAAA"), RefreshMalformed},
		{"plaintext null", inside("null"), RefreshMalformed},
		{"plaintext empty", inside(""), RefreshMalformed},
		{"plaintext a private key", inside(pkcs8(nextKey())), RefreshMalformed},
		{"plaintext two certificates", inside(certSpec{}.pem() + certSpec{serial: "02"}.pem()), RefreshMalformed},
		{"plaintext no certificate", inside(pemText("CERTIFICATE", []byte("x"))), RefreshMalformed},
		{"other APIv3 key", func(p *fakePlatform) { p.apiv3 = testAPIv3b }, RefreshMalformed},
		{"ECDSA", instead(certSpec{key: curveKey()}), RefreshMalformed},
		{"1024 bits", instead(certSpec{key: smallKey()}), RefreshMalformed},
		{"of a sandbox", instead(certSpec{organization: SandboxOrganization}), RefreshMalformed},
		{"of a sandbox, in other case", instead(certSpec{organization: " wechat pay SANDBOX"}), RefreshMalformed},
		{"the merchant's own", instead(certSpec{key: merchantKey()}), RefreshMalformed},
		{"expired", instead(certSpec{notBefore: baseTime.Add(-2 * time.Hour), notAfter: baseTime.Add(-time.Hour)}), RefreshMalformed},
		{"no signature", header(func(h http.Header) { h.Del("Wechatpay-Signature") }), RefreshMalformed},
		{"no timestamp", header(func(h http.Header) { h.Del("Wechatpay-Timestamp") }), RefreshMalformed},
		{"no nonce", header(func(h http.Header) { h.Del("Wechatpay-Nonce") }), RefreshMalformed},
		{"no serial", header(func(h http.Header) { h.Del("Wechatpay-Serial") }), RefreshMalformed},
		{"two signatures", header(func(h http.Header) { h.Add("Wechatpay-Signature", h.Get("Wechatpay-Signature")) }), RefreshMalformed},
		{"padded timestamp", header(func(h http.Header) { h.Set("Wechatpay-Timestamp", "0"+h.Get("Wechatpay-Timestamp")) }), RefreshMalformed},
		{"unknown serial", header(func(h http.Header) { h.Set("Wechatpay-Serial", serialOf(9)) }), RefreshMalformed},
		{"SIGNTEST", header(func(h http.Header) { h.Set("Wechatpay-Signature", "WECHATPAY/SIGNTEST/"+h.Get("Wechatpay-Signature")) }), RefreshMalformed},
		{"another's signature", func(p *fakePlatform) { p.signer = nextKey() }, RefreshMalformed},
		{"signed five minutes ago", header(func(h http.Header) {
			h.Set("Wechatpay-Timestamp", unixText(baseTime.Add(-5*time.Minute)))
		}), RefreshMalformed},
		{"over 1 MiB", answer(strings.Repeat(" ", maxKeyAnswer+1)), RefreshMalformed},
		{"500", status(500, `{"code":"SYSTEM_ERROR"}`), RefreshFailed},
		{"401", status(401, `{"code":"SIGN_ERROR","message":"`+testAPIv3+`"}`), RefreshFailed},
		{"404", status(404, `{"code":"RESOURCE_NOT_EXISTS","message":"无可用的平台证书"}`), RefreshFailed},
		{"204", status(204, ""), RefreshFailed},
		{"a code that is none", status(403, `{"code":"injected\nline"}`), RefreshFailed},
		{"307", func(p *fakePlatform) {
			p.respond = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			}
		}, RefreshFailed},
		{"cut off", func(p *fakePlatform) {
			p.respond = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, `{"data"`)
			}
		}, RefreshFailed},
		{"no answer", func(p *fakePlatform) {
			p.respond = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		}, RefreshFailed},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHarness(t, nil)
			h.Start(h.store)
			d := h.wantTimer(t, hourLeast, hourMost)
			before := h.Keys()
			savedBefore := h.store.data["shop"]
			h.platform.set(row.bend)
			h.clock.advance(d)
			h.wantTimer(t, refreshGap, gapMost)
			if h.Keys() != before {
				t.Error("the set in force was replaced")
			}
			if h.metrics.count(row.want) != 1 {
				t.Errorf("counted %v, want one %s", h.metrics.refreshes, row.want)
			}
			h.wantRequests(t, 2)
			if !strings.Contains(h.log.String(), "not refreshed") || strings.Contains(h.log.String(), "injected") {
				t.Errorf("logged: %s", h.log.String())
			}
			old, err := decodeSaved(testMchid, savedBefore, h.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			now, err := decodeSaved(testMchid, h.store.data["shop"], h.clock.Now())
			if err != nil || !sameCertificates(old.certificates, now.certificates) || !now.fetchedAt.Equal(old.fetchedAt) {
				t.Errorf("the persisted set was replaced: %v", err)
			}
		})
	}
}

func status(code int, body string) func(*fakePlatform) {
	return func(p *fakePlatform) {
		p.respond = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
}
