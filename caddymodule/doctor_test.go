package caddymodule

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
)

// patient is a set-up in good health that tests make ill.
type patient struct {
	t         *testing.T
	dir       string
	now       time.Time
	key       *rsa.PrivateKey
	caddyfile string
	status    int           // of notify_url
	fails     error         // of notify_url
	skew      time.Duration // of this machine's clock
	silent    bool          // WeChat Pay is not reached
	offline   bool
}

// patientKeys makes the key files once: it is slow.
var patientKeys = sync.OnceValue(func() map[string]string {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if _, err := testplatform.New(dir); err != nil {
		panic(err)
	}
	files := make(map[string]string)
	for _, name := range []string{"merchant.pem", "platform.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			panic(err)
		}
		files[name] = string(text)
	}
	return files
})

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, dir: t.TempDir(), now: time.Now(), status: http.StatusMethodNotAllowed}
	for name, text := range patientKeys() {
		p.write(name, text)
	}
	block, _ := pem.Decode([]byte(patientKeys()["merchant.pem"]))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	p.key = key.(*rsa.PrivateKey)
	p.writeCertificate(&p.key.PublicKey, testplatform.SerialNo, testplatform.Mchid, 365)
	p.write("apiv3", testplatform.APIv3Key)
	if err := os.Mkdir(filepath.Join(p.dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.caddyfile = fmt.Sprintf(`{
	admin unix//run/caddy/admin.sock
	wechatpay {
		storage badger %[1]s/db
		merchant shop {
			mchid %[2]s
			app %[3]s official
			serial_no %[4]s
			private_key %[1]s/merchant.pem
			apiv3_key {file.%[1]s/apiv3}
			public_key %[5]s %[1]s/platform.pem
			platform_certificates auto
			notify_url https://pay.example.com/wechatpay/notify/shop
			api_base https://wechat.example.com
		}
	}
}
pay.example.com {
	handle /wechatpay/notify/* {
		wechatpay_notify {
			sign {env.HOME}
			deliver {
				reverse_proxy legacy:8080
			}
		}
	}
}
`, p.dir, testplatform.Mchid, testplatform.Appid, testplatform.SerialNo, testplatform.KeyID)
	return p
}

func (p *patient) write(name, text string) {
	p.t.Helper()
	mustWrite(p.t, filepath.Join(p.dir, name), text)
}

func (p *patient) writeCertificate(key *rsa.PublicKey, serial, mchid string, days int) {
	p.t.Helper()
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		p.t.Fatal(serial)
	}
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: mchid},
		NotBefore: p.now.AddDate(-5, 0, 0), NotAfter: p.now.AddDate(0, 0, days),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key, p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("apiclient_cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// change replaces a piece of the Caddyfile that must be there.
func (p *patient) change(from, to string) {
	p.t.Helper()
	if !strings.Contains(p.caddyfile, from) {
		p.t.Fatalf("no %q", from)
	}
	p.caddyfile = strings.Replace(p.caddyfile, from, to, 1)
}

// get plays what is outside of this machine.
func (p *patient) get(_ context.Context, url string) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusNotFound, Header: make(http.Header), Body: http.NoBody}
	if strings.Contains(url, "/wechatpay/notify/") {
		resp.StatusCode = p.status
		return resp, p.fails
	}
	if p.silent {
		return nil, errors.New("no route to host")
	}
	resp.Header.Set("Date", p.now.Add(-p.skew).UTC().Format(http.TimeFormat))
	return resp, nil
}

// diagnose returns what the doctor finds beside what is in order.
func (p *patient) diagnose() (ill []finding) {
	p.t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(p.caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		p.t.Fatalf("adapt: %v", err)
	}
	d := &doctor{now: func() time.Time { return p.now }, get: p.get}
	if p.offline {
		d.get = nil
	}
	d.examine(context.Background(), config)
	for _, f := range d.findings {
		if f.Level != findingOK {
			ill = append(ill, f)
		}
	}
	return ill
}

// ignored is what the place of the test's directory may cause.
func ignored(f finding) bool { return f.About == "storage" && strings.Contains(f.Says, "memory") }

// TestDoctor plants one mistake at a time; each is found, named, and nothing else
// is.
func TestDoctor(t *testing.T) {
	for _, row := range []struct {
		name  string
		plant func(p *patient)
		level string
		about string
		says  string
	}{
		{"nothing", func(*patient) {}, "", "", ""},
		{"nothing, offline", func(p *patient) { p.offline, p.silent, p.status = true, true, 500 }, "", "", ""},
		{"another merchant's certificate", func(p *patient) {
			p.writeCertificate(&p.key.PublicKey, testplatform.SerialNo, "1900000999", 365)
		}, findingError, "merchant shop", "belongs to merchant 1900000999"},
		{"an old serial_no", func(p *patient) { p.change("serial_no 3775", "serial_no 4775") }, findingError, "merchant shop", "serial_no is not that of"},
		{"a key that is not the certificate's", func(p *patient) {
			other, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			p.writeCertificate(&other.PublicKey, testplatform.SerialNo, testplatform.Mchid, 365)
		}, findingError, "merchant shop", "the private key is not that of"},
		{"an expired certificate", func(p *patient) {
			p.writeCertificate(&p.key.PublicKey, testplatform.SerialNo, testplatform.Mchid, -1)
		}, findingError, "merchant shop", "expired on"},
		{"a certificate that ends soon", func(p *patient) {
			p.writeCertificate(&p.key.PublicKey, testplatform.SerialNo, testplatform.Mchid, 10)
		}, findingWarning, "merchant shop", "expires in"},
		{"no certificate to compare with", func(p *patient) {
			if err := os.Remove(filepath.Join(p.dir, "apiclient_cert.pem")); err != nil {
				t.Fatal(err)
			}
		}, findingNote, "merchant shop", "no apiclient_cert.pem"},
		{"a certificate that is none", func(p *patient) { p.write("apiclient_cert.pem", "x") }, findingWarning, "merchant shop", "no PEM file"},
		{"a short APIv3 key", func(p *patient) { p.write("apiv3", "0123456789") }, findingError, "merchant shop", "apiv3_key"},
		{"an APIv3 key in clear", func(p *patient) { p.change("{file."+p.dir+"/apiv3}", testplatform.APIv3Key) }, findingWarning, "merchant shop", "in clear"},
		{"a missing variable", func(p *patient) { p.change("{file."+p.dir+"/apiv3}", "{env.NO_SUCH_VARIABLE}") }, findingError, "merchant shop", "apiv3_key"},
		{"a missing private key", func(p *patient) { p.change("/merchant.pem", "/nowhere.pem") }, findingError, "merchant shop", "private_key"},
		{"a private key that is none", func(p *patient) { p.write("merchant.pem", "not a key") }, findingError, "merchant shop", "private_key"},
		{"a private key that others read", func(p *patient) {
			if err := os.Chmod(filepath.Join(p.dir, "merchant.pem"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, findingWarning, "merchant shop", "other users may read it (mode 0644)"},
		{"an APIv3 key that others read", func(p *patient) {
			if err := os.Chmod(filepath.Join(p.dir, "apiv3"), 0o640); err != nil {
				t.Fatal(err)
			}
		}, findingWarning, "merchant shop", "apiv3 holds a secret"},
		{"a private key in place of WeChat Pay's", func(p *patient) { p.change("/platform.pem", "/merchant.pem") }, findingError, "merchant shop", "public_key"},
		{"one kind of keys", func(p *patient) { p.change("platform_certificates auto", "platform_certificates off") }, findingNote, "merchant shop", "only WeChat Pay's public key"},
		{"no notify_url", func(p *patient) { p.change("notify_url https://pay.example.com/wechatpay/notify/shop", "") }, findingNote, "merchant shop notify_url", "there is none"},
		{"notify_url of nobody", func(p *patient) { p.change("notify/shop", "notify/shpo") }, findingError, "merchant shop notify_url", `"shpo"`},
		{"notify_url without TLS", func(p *patient) { p.change("https://pay.example.com/wechatpay", "http://pay.example.com/wechatpay") }, findingError, "merchant shop notify_url", "not https"},
		{"notify_url in the house", func(p *patient) {
			p.change("https://pay.example.com/wechatpay", "https://192.168.1.20/wechatpay")
		}, findingError, "merchant shop notify_url", "cannot reach 192.168.1.20"},
		{"notify_url behind a login", func(p *patient) { p.status = 401 }, findingError, "merchant shop notify_url", "asks who is there (401)"},
		{"notify_url that redirects", func(p *patient) { p.status = 301 }, findingError, "merchant shop notify_url", "redirects (301)"},
		{"notify_url of another handler", func(p *patient) { p.status = 200 }, findingError, "merchant shop notify_url", "answers 200"},
		{"notify_url that nobody answers", func(p *patient) { p.fails = errors.New("no such host") }, findingError, "merchant shop notify_url", "no such host"},
		{"no way to WeChat Pay", func(p *patient) { p.silent = true }, findingError, "merchant shop", "wechat.example.com cannot be reached"},
		{"a clock that runs ahead", func(p *patient) { p.skew = 10 * time.Minute }, findingError, "clock", "every signature is refused"},
		{"a clock that drifts", func(p *patient) { p.skew = -time.Minute }, findingWarning, "clock", "off WeChat Pay's"},
		{"no signature for the backend", func(p *patient) { p.change("sign {env.HOME}", "") }, findingWarning, "wechatpay_notify", "not signed"},
		{"a secret in clear", func(p *patient) {
			p.change("sign {env.HOME}", "sign whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
		}, findingWarning, "wechatpay_notify", "in clear"},
		{"no amount check", func(p *patient) { p.change("sign {env.HOME}", "sign {env.HOME}\n\t\t\tamount_check off") }, findingWarning, "wechatpay_notify", "not held against the ledger"},
		{"no handler", func(p *patient) {
			p.caddyfile = p.caddyfile[:strings.Index(p.caddyfile, "pay.example.com {")]
		}, findingError, "wechatpay_notify", "no site has one"},
		{"another merchant's handler", func(p *patient) {
			p.change("wechatpay_notify {", "wechatpay_notify other {")
		}, findingError, "merchant shop", "no wechatpay_notify serves it"},
		{"an open store", func(p *patient) {
			if err := os.Chmod(filepath.Join(p.dir, "db"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, findingWarning, "storage", "open to other users"},
		{"a store that is no directory", func(p *patient) { p.change("/db\n", "/apiv3\n") }, findingError, "storage", "is not a directory"},
		{"an open admin endpoint", func(p *patient) { p.change("admin unix//run/caddy/admin.sock", "admin localhost:2019") }, findingNote, "admin endpoint", "no authentication"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPatient(t)
			row.plant(p)
			found := false
			for _, f := range p.diagnose() {
				switch {
				case f.Level == row.level && f.About == row.about && strings.Contains(f.Says, row.says):
					found = true
					if f.Do == "" && !strings.HasPrefix(f.About, "storage") {
						t.Errorf("says nothing to do: %+v", f)
					}
				case !ignored(f):
					t.Errorf("found, too: %+v", f)
				}
			}
			if !found && row.level != "" {
				t.Errorf("not found")
			}
		})
	}
}

// The doctor prints no secret.
func TestDoctorKeepsSecrets(t *testing.T) {
	p := newPatient(t)
	p.write("apiv3", testplatform.APIv3Key[:31])
	p.write("merchant.pem", "-----BEGIN PRIVATE KEY-----\nMDEyMzQ1Njc4OWFiY2RlZg==\n-----END PRIVATE KEY-----\n")
	p.change("sign {env.HOME}", "sign whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	text := fmt.Sprint(p.diagnose())
	for _, secret := range []string{testplatform.APIv3Key[:20], "whsec_MDEy", "MDEyMzQ1"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in %s", secret, text)
		}
	}
}

func TestDoctorAdvisesStrict(t *testing.T) {
	for _, row := range []struct {
		name    string
		config  string
		known   bool
		unknown int
		says    string
	}{
		{"a week without", `{}`, true, 0, "for 7 days"},
		{"some unknown", `{}`, true, 3, "3 payments"},
		{"strict already", `{"amount_check":"strict"}`, true, 3, ""},
		{"too young", `{}`, false, 0, ""},
	} {
		d := new(doctor)
		d.strict([]byte(row.config), row.known, row.unknown)
		if got := fmt.Sprint(d.findings); row.says == "" && len(d.findings) > 0 || !strings.Contains(got, row.says) {
			t.Errorf("%s: %s", row.name, got)
		}
	}
}
