package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// downloads fetches, verifies and decrypts the certificates; by serial.
func (c *client) downloads() map[string]string {
	c.t.Helper()
	status, answer := c.call("GET", "/v3/certificates", "")
	if status != http.StatusOK {
		c.t.Fatalf("%d %s", status, answer)
	}
	var list struct {
		Data []struct {
			SerialNo      string    `json:"serial_no"`
			EffectiveTime time.Time `json:"effective_time"`
			ExpireTime    time.Time `json:"expire_time"`
			Encrypted     struct {
				Algorithm, Nonce, Ciphertext string
				AssociatedData               string `json:"associated_data"`
			} `json:"encrypt_certificate"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil {
		c.t.Fatal(err)
	}
	out := map[string]string{}
	for _, d := range list.Data {
		if d.Encrypted.Algorithm != "AEAD_AES_256_GCM" || d.Encrypted.AssociatedData != "certificate" {
			c.t.Errorf("%+v", d.Encrypted)
		}
		plain, err := c.decrypt(d.Encrypted.Nonce, d.Encrypted.AssociatedData, d.Encrypted.Ciphertext)
		if err != nil {
			c.t.Fatal(err)
		}
		cert := parseCertificate(c.t, string(plain))
		if have := fmt.Sprintf("%X", cert.SerialNumber); have != d.SerialNo {
			c.t.Errorf("serial_no %s of certificate %s", d.SerialNo, have)
		}
		if !cert.NotBefore.Equal(d.EffectiveTime) || !cert.NotAfter.Equal(d.ExpireTime) {
			c.t.Error("times differ from the certificate's")
		}
		out[d.SerialNo] = string(plain)
	}
	return out
}

func TestKeyModes(t *testing.T) {
	for _, tc := range []struct {
		mode          sandbox.KeyMode
		certs, public int
	}{{"", 1, 1}, {sandbox.BothMode, 1, 1}, {sandbox.CertificatesMode, 1, 0}, {sandbox.PublicKeyMode, 0, 1}} {
		t.Run("mode "+string(tc.mode), func(t *testing.T) {
			p := newPlatform(t, func(o *sandbox.Options) { o.Keys = tc.mode })
			c := newClient(t, p, mchid)
			if len(c.keys.PlatformCertificates) != tc.certs || len(c.keys.PublicKeys) != tc.public {
				t.Fatalf("%d certificates, %d public keys", len(c.keys.PlatformCertificates), len(c.keys.PublicKeys))
			}
			if len(c.keys.APIv3Key) != 32 || c.keys.SerialNo == "" || c.key.N.BitLen() != 2048 {
				t.Error("the merchant's own keys are not as WeChat Pay makes them")
			}
			if tc.certs == 0 {
				if status, answer := c.call("GET", "/v3/certificates", ""); status != 404 || codeOf(t, answer) != "RESOURCE_NOT_EXISTS" {
					t.Errorf("%d %s", status, answer)
				}
				if _, err := p.RotateCertificate(sandbox.Rotation{}); err == nil {
					t.Error("rotated a certificate that does not exist")
				}
			} else if len(c.downloads()) != 1 {
				t.Error("want one certificate")
			}
			if tc.public == 0 {
				if _, err := p.RotatePublicKey(sandbox.Rotation{}); err == nil {
					t.Error("rotated a public key that does not exist")
				}
			}
			if err := p.SetPublicKeyShare(10); (err == nil) != (tc.certs+tc.public == 2) {
				t.Errorf("share: %v", err)
			}
			if err := p.SetPublicKeyShare(101); err == nil {
				t.Error("share 101 accepted")
			}
		})
	}
}

func TestMarkers(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	id := c.keys.PublicKeys[0].ID
	if !strings.HasPrefix(id, sandbox.PublicKeyIDPrefix) || len(id) != len("PUB_KEY_ID_0114232134912410000000000000") {
		t.Errorf("id %q", id)
	}
	cert := parseCertificate(t, c.keys.PlatformCertificates[0])
	serial := fmt.Sprintf("%X", cert.SerialNumber)
	if !strings.HasPrefix(serial, sandbox.CertificateSerialPrefix) || len(serial) != 40 {
		t.Errorf("serial %q", serial)
	}
	if cert.Issuer.Organization[0] != sandbox.Organization || cert.Subject.Organization[0] != sandbox.Organization {
		t.Errorf("issuer %v, subject %v", cert.Issuer, cert.Subject)
	}
}

func TestAnswerIsSignedWithTheKeyAskedFor(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	certificate := fmt.Sprintf("%X", parseCertificate(t, c.keys.PlatformCertificates[0]).SerialNumber)
	public := c.keys.PublicKeys[0].ID
	for asked, want := range map[string]string{"": certificate, certificate: certificate, public: public, "PUB_KEY_ID_UNKNOWN": certificate} {
		r := c.request("GET", "/v3/certificates", "")
		r.Header.Set("Wechatpay-Serial", asked)
		w := serve(p, r)
		c.verify(w.Header(), w.Body.Bytes())
		if have := w.Header().Get("Wechatpay-Serial"); have != want {
			t.Errorf("asked %q: have %s, want %s", asked, have, want)
		}
		if w.Header().Get("Request-ID") == "" {
			t.Error("no Request-ID")
		}
	}
}

func TestRotation(t *testing.T) {
	now := time.Now()
	p := newPlatform(t, func(o *sandbox.Options) { o.Keys = sandbox.CertificatesMode; o.Now = func() time.Time { return now } })
	c := newClient(t, p, mchid)
	var old string
	for serial := range c.platformKeys() {
		old = serial
	}
	fresh, err := p.RotateCertificate(sandbox.Rotation{SignAfter: time.Minute, Overlap: 4 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	signer := func() string {
		h, body, err := p.Callback(mchid, sandbox.PaymentNotification([]byte("{}")))
		if err != nil {
			t.Fatal(err)
		}
		c.verify(h, body)
		return h.Get("Wechatpay-Serial")
	}
	steps := []struct {
		after     time.Duration
		published int
		signs     string
	}{{0, 2, old}, {59 * time.Second, 2, old}, {time.Minute, 2, fresh}, {4*time.Minute - 1, 2, fresh}, {4 * time.Minute, 1, fresh}}
	start := now
	for _, s := range steps {
		now = start.Add(s.after)
		if have := len(c.platformKeys()); have != s.published {
			t.Errorf("after %v: %d published, want %d", s.after, have, s.published)
		}
		if have := signer(); have != s.signs {
			t.Errorf("after %v: %s signs, want %s", s.after, have, s.signs)
		}
	}
	now = start
	if have := len(c.downloads()); have != 2 {
		t.Errorf("%d downloaded", have)
	}
	for _, r := range []sandbox.Rotation{{SignAfter: -1}, {Overlap: -1}, {SignAfter: 2, Overlap: 1}} {
		if _, err := p.RotateCertificate(r); err == nil {
			t.Errorf("%+v accepted", r)
		}
	}
	if _, err := p.RotateCertificate(sandbox.Rotation{}); err != nil {
		t.Fatal(err)
	}
	if have := len(c.platformKeys()); have != 1 {
		t.Errorf("a hard rotation leaves %d keys", have)
	}
	signer()
}

func TestPublicKeyShare(t *testing.T) {
	p := newPlatform(t, nil)
	for _, percent := range []int{0, 1, 5, 20, 50, 99, 100} {
		if err := p.SetPublicKeyShare(percent); err != nil {
			t.Fatal(err)
		}
		public := 0
		for range 100 {
			h, _, err := p.Callback(mchid, sandbox.Notification{})
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(h.Get("Wechatpay-Serial"), sandbox.PublicKeyIDPrefix) {
				public++
			}
		}
		if public != percent {
			t.Errorf("%d of 100 callbacks are signed with the public key, want %d", public, percent)
		}
	}
}
