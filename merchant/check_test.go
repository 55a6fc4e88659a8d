package merchant

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// refusals: one row for each way to write a block wrong.
var refusals = []struct {
	name string
	edit func(*Config)
	want []string // in the error: the option, and what to do about it
}{
	{"no name", func(c *Config) { c.Name = "" }, []string{"name"}},
	{"name with a slash", func(c *Config) { c.Name = "a/b" }, []string{"name", "notify URLs"}},
	{"name with a line break", func(c *Config) { c.Name = "a\nb" }, []string{"name"}},

	{"no mchid", func(c *Config) { c.Mchid = "" }, []string{"mchid", "missing"}},
	{"mchid of letters", func(c *Config) { c.Mchid = "19000000o1" }, []string{"mchid", "digits"}},
	{"short mchid", func(c *Config) { c.Mchid = "1900000" }, []string{"mchid"}},
	{"mchid with a space", func(c *Config) { c.Mchid = "1900000001 " }, []string{"mchid"}},
	{"mchid placeholder", func(c *Config) { c.Mchid = "{env.MCHID}" }, []string{"mchid", "placeholder"}},

	{"appid of no kind", func(c *Config) { c.Apps = []App{{Appid: "8888888888888888"}} }, []string{"app", "wx and 16"}},
	{"appid too short", func(c *Config) { c.Apps = []App{{Appid: "wx888888888888888"}} }, []string{"app"}},
	{"appid too long", func(c *Config) { c.Apps = []App{{Appid: "wx88888888888888888"}} }, []string{"app"}},
	{"appid twice", func(c *Config) { c.Apps = append(c.Apps, c.Apps[0]) }, []string{"app", "twice"}},
	{"app of another type", func(c *Config) { c.Apps[0].Type = "h5" }, []string{"app", "official, miniprogram or app"}},

	{"no serial_no", func(c *Config) { c.SerialNo = "" }, []string{"serial_no", "openssl"}},
	{"serial_no with colons", func(c *Config) { c.SerialNo = "51:57:F0" }, []string{"serial_no", "colons"}},
	{"serial_no of a public key", func(c *Config) { c.SerialNo = testKeyID }, []string{"serial_no", "public key id"}},
	{"serial_no placeholder", func(c *Config) { c.SerialNo = "{env.SERIAL}" }, []string{"serial_no", "placeholder"}},

	{"no private_key", func(c *Config) { c.PrivateKey = "" }, []string{"private_key", "apiclient_key.pem"}},
	{"blank private_key", func(c *Config) { c.PrivateKey = " \n" }, []string{"private_key", "missing"}},
	{"private_key placeholder", func(c *Config) { c.PrivateKey = "{file./run/key.pem}" }, []string{"private_key", "placeholder"}},
	{"private_key is no PEM", func(c *Config) { c.PrivateKey = "apiclient_key.pem" }, []string{"private_key", "not PEM"}},
	{"private_key cut short", func(c *Config) {
		block, _ := pem.Decode([]byte(c.PrivateKey))
		c.PrivateKey = pemText("PRIVATE KEY", block.Bytes[:len(block.Bytes)/2])
	}, []string{"private_key", "damaged"}},
	{"private_key damaged", func(c *Config) {
		block, _ := pem.Decode([]byte(c.PrivateKey))
		block.Bytes[len(block.Bytes)/2] ^= 1
		c.PrivateKey = pemText("PRIVATE KEY", block.Bytes)
	}, []string{"private_key", "damaged"}},
	{"private_key with \\n", func(c *Config) { c.PrivateKey = strings.ReplaceAll(c.PrivateKey, "\n", `\n`) }, []string{"private_key", "line breaks"}},
	{"private_key twice", func(c *Config) { c.PrivateKey += c.PrivateKey }, []string{"private_key", "more than one"}},
	{"private_key of 1024 bits", func(c *Config) { c.PrivateKey = pkcs8(smallKey()) }, []string{"private_key", "1024 bits", "2048"}},
	{"private_key with e=3", func(c *Config) { c.PrivateKey = pkcs8(exponent3()) }, []string{"private_key", "exponent is 3", "65537"}},
	{"private_key of a curve", func(c *Config) { c.PrivateKey = pkcs8(curveKey()) }, []string{"private_key", "not an RSA key"}},
	{"private_key is a SEC1 key", func(c *Config) {
		der, _ := x509.MarshalECPrivateKey(curveKey())
		c.PrivateKey = pemText("EC PRIVATE KEY", der)
	}, []string{"private_key", "elliptic"}},
	{"private_key is a certificate", func(c *Config) { c.PrivateKey = certSpec{}.pem() }, []string{"private_key", "certificate", "apiclient_key.pem"}},
	{"private_key is a public key", func(c *Config) { c.PrivateKey = pkix8(&merchantKey().PublicKey) }, []string{"private_key", "public key"}},
	{"private_key encrypted", func(c *Config) { c.PrivateKey = pemText("ENCRYPTED PRIVATE KEY", []byte("x")) }, []string{"private_key", "passphrase"}},
	{"private_key encrypted the old way", func(c *Config) {
		c.PrivateKey = string(pem.EncodeToMemory(&pem.Block{
			Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("x"),
		}))
	}, []string{"private_key", "passphrase"}},
	{"private_key of another kind", func(c *Config) { c.PrivateKey = pemText("OPENSSH PRIVATE KEY", []byte("x")) }, []string{"private_key"}},

	{"no apiv3_key", func(c *Config) { c.APIv3Keys = nil }, []string{"apiv3_key", "missing"}},
	{"empty apiv3_key", func(c *Config) { c.APIv3Keys = []string{""} }, []string{"apiv3_key", "empty"}},
	{"empty second apiv3_key", func(c *Config) { c.APIv3Keys = []string{testAPIv3, ""} }, []string{"apiv3_key", "number 2", "empty"}},
	{"apiv3_key placeholder", func(c *Config) { c.APIv3Keys = []string{"{env.WECHATPAY_APIV3_KEY_123456}"} }, []string{"apiv3_key", "placeholder"}},
	{"apiv3_key of 16 bytes", func(c *Config) { c.APIv3Keys = []string{testAPIv3[:16]} }, []string{"apiv3_key", "16 bytes", "exactly 32"}},
	{"apiv3_key of 31 bytes", func(c *Config) { c.APIv3Keys = []string{testAPIv3[:31]} }, []string{"apiv3_key", "31 bytes"}},
	{"apiv3_key of 33 bytes", func(c *Config) { c.APIv3Keys = []string{testAPIv3 + "x"} }, []string{"apiv3_key", "33 bytes"}},
	{"apiv3_key with a line break", func(c *Config) { c.APIv3Keys = []string{testAPIv3 + "\n"} }, []string{"apiv3_key", "white space"}},
	{"apiv3_key of one byte", func(c *Config) { c.APIv3Keys = []string{strings.Repeat("0", 32)} }, []string{"apiv3_key", "repeated"}},
	{"apiv3_key of NUL", func(c *Config) { c.APIv3Keys = []string{strings.Repeat("\x00", 32)} }, []string{"apiv3_key", "repeated"}},
	{"three apiv3_key", func(c *Config) { c.APIv3Keys = []string{testAPIv3, testAPIv3b, testAPIv3} }, []string{"apiv3_key", "at most 2"}},
	{"the same apiv3_key", func(c *Config) { c.APIv3Keys = []string{testAPIv3, testAPIv3} }, []string{"apiv3_key", "the same"}},

	{"public_key without prefix", func(c *Config) { c.PublicKeys[0].ID = testSerial }, []string{"public_key", "PUB_KEY_ID_"}},
	{"public_key in lower case", func(c *Config) { c.PublicKeys[0].ID = strings.ToLower(testKeyID) }, []string{"public_key", "PUB_KEY_ID_"}},
	{"public_key of the prefix alone", func(c *Config) { c.PublicKeys[0].ID = "PUB_KEY_ID_" }, []string{"public_key"}},
	{"public_key placeholder", func(c *Config) { c.PublicKeys[0].ID = "{env.ID}" }, []string{"public_key", "placeholder"}},
	{"public_key without a key", func(c *Config) { c.PublicKeys[0].PEM = "" }, []string{"public_key", "pub_key.pem"}},
	{"public_key text placeholder", func(c *Config) { c.PublicKeys[0].PEM = "{env.PEM}" }, []string{"public_key", "placeholder"}},
	{"public_key is no PEM", func(c *Config) { c.PublicKeys[0].PEM = "hello" }, []string{"public_key", "not PEM"}},
	{"public_key is a private key", func(c *Config) { c.PublicKeys[0].PEM = c.PrivateKey }, []string{"public_key", "private key", "pub_key.pem"}},
	{"public_key is a certificate", func(c *Config) { c.PublicKeys[0].PEM = certSpec{}.pem() }, []string{"public_key", "platform_certificates"}},
	{"public_key damaged", func(c *Config) { c.PublicKeys[0].PEM = pemText("PUBLIC KEY", []byte("x")) }, []string{"public_key", "damaged"}},
	{"public_key of another kind", func(c *Config) { c.PublicKeys[0].PEM = pemText("X509 CRL", []byte("x")) }, []string{"public_key", "no public key"}},
	{"public_key of a curve", func(c *Config) { c.PublicKeys[0].PEM = pkix8(&curveKey().PublicKey) }, []string{"public_key", "not an RSA key"}},
	{"public_key of 1024 bits", func(c *Config) { c.PublicKeys[0].PEM = pkix8(&smallKey().PublicKey) }, []string{"public_key", "1024 bits"}},
	{"public_key with e=3", func(c *Config) { c.PublicKeys[0].PEM = pkix8(&exponent3().PublicKey) }, []string{"public_key", "exponent is 3"}},
	{"public_key is the merchant's own", func(c *Config) { c.PublicKeys[0].PEM = pkix8(&merchantKey().PublicKey) }, []string{"public_key", "own", "微信支付公钥"}},
	{"public_key twice", func(c *Config) { c.PublicKeys = append(c.PublicKeys, c.PublicKeys[0]) }, []string{"public_key", "twice"}},
	{"public_key of a sandbox", func(c *Config) { c.PublicKeys[0].ID = "PUB_KEY_ID_SANDBOX_1900000001_1" }, []string{"public_key", "sandbox"}},

	{"nothing to verify with", func(c *Config) { c.PublicKeys, c.Certificates = nil, CertificatesOff }, []string{"platform_certificates", "add public_key"}},
	{"certificates of another mode", func(c *Config) { c.Certificates = "on" }, []string{"platform_certificates", "auto, off or files"}},
	{"auto and files", func(c *Config) { c.Certificates, c.CertificatePEMs = CertificatesAuto, []string{certSpec{}.pem()} }, []string{"platform_certificates", "auto"}},
	{"files without files", func(c *Config) { c.Certificates = CertificatesFiles }, []string{"platform_certificates", "no file"}},
	{"certificate is no PEM", func(c *Config) { c.CertificatePEMs = []string{"x"} }, []string{"platform_certificates", "file 1", "BEGIN CERTIFICATE"}},
	{"certificate damaged", func(c *Config) { c.CertificatePEMs = []string{pemText("CERTIFICATE", []byte("x"))} }, []string{"platform_certificates", "damaged"}},
	{"certificate is a private key", func(c *Config) { c.CertificatePEMs = []string{c.PrivateKey} }, []string{"platform_certificates", "private key"}},
	{"certificate is a public key", func(c *Config) { c.CertificatePEMs = []string{c.PublicKeys[0].PEM} }, []string{"platform_certificates", "no certificate"}},
	{"certificate twice", func(c *Config) { c.CertificatePEMs = []string{certSpec{}.pem(), certSpec{}.pem()} }, []string{"platform_certificates", "twice"}},
	{"certificate of a curve", func(c *Config) { c.CertificatePEMs = []string{certSpec{key: curveKey()}.pem()} }, []string{"platform_certificates", "not an RSA key"}},
	{"certificate of 1024 bits", func(c *Config) { c.CertificatePEMs = []string{certSpec{key: smallKey()}.pem()} }, []string{"platform_certificates", "1024 bits"}},
	{"certificate is the merchant's own", func(c *Config) { c.CertificatePEMs = []string{certSpec{key: merchantKey()}.pem()} }, []string{"platform_certificates", "own", "平台证书"}},
	{"every certificate expired", func(c *Config) {
		c.CertificatePEMs = []string{certSpec{notBefore: baseTime.Add(-2 * time.Hour), notAfter: baseTime.Add(-time.Hour)}.pem()}
	}, []string{"platform_certificates", "expired"}},
	{"certificate of a sandbox", func(c *Config) { c.CertificatePEMs = []string{certSpec{organization: SandboxOrganization}.pem()} }, []string{"platform_certificates", "sandbox"}},

	{"relative notify_url", func(c *Config) { c.NotifyURL = "/notify" }, []string{"notify_url", "absolute"}},
	{"notify_url of another scheme", func(c *Config) { c.NotifyURL = "ftp://pay.example.com/n" }, []string{"notify_url", "https"}},
	{"notify_url without a host", func(c *Config) { c.NotifyURL = "https:///n" }, []string{"notify_url"}},
	{"notify_url that does not parse", func(c *Config) { c.NotifyURL = "https://pay.example.com/%zz" }, []string{"notify_url"}},
	{"notify_url with a query", func(c *Config) { c.NotifyURL = "https://pay.example.com/n?a=1" }, []string{"notify_url", "query"}},
	{"notify_url with an empty query", func(c *Config) { c.NotifyURL = "https://pay.example.com/n?" }, []string{"notify_url", "query"}},
	{"notify_url with a password", func(c *Config) { c.NotifyURL = "https://u:p@pay.example.com/n" }, []string{"notify_url", "password"}},
	{"notify_url with a fragment", func(c *Config) { c.NotifyURL = "https://pay.example.com/n#a" }, []string{"notify_url", "fragment"}},
	{"notify_url too long", func(c *Config) { c.NotifyURL = "https://pay.example.com/" + strings.Repeat("a", 255) }, []string{"notify_url", "255"}},
	{"notify_url of an odd port", func(c *Config) { c.NotifyURL = "https://pay.example.com:70000/n" }, []string{"notify_url", "port"}},
	{"force without notify_url", func(c *Config) { c.NotifyURL, c.ForceNotifyURL = "", true }, []string{"notify_url", "force"}},

	{"api_base of http", func(c *Config) { c.APIBases = []string{"http://api.mch.weixin.qq.com"} }, []string{"api_base", "https"}},
	{"api_base of http and a private address", func(c *Config) { c.APIBases = []string{"http://10.0.0.1"} }, []string{"api_base", "loopback"}},
	{"api_base that looks like loopback", func(c *Config) { c.APIBases = []string{"http://127.0.0.1.example.com"} }, []string{"api_base", "loopback"}},
	{"api_base of a decimal address", func(c *Config) { c.APIBases = []string{"http://2130706433"} }, []string{"api_base", "loopback"}},
	{"api_base of localhost.example", func(c *Config) { c.APIBases = []string{"http://localhost.example.com"} }, []string{"api_base", "loopback"}},
	{"api_base with a path", func(c *Config) { c.APIBases = []string{"https://api.mch.weixin.qq.com/v3"} }, []string{"api_base", "path"}},
	{"api_base with a query", func(c *Config) { c.APIBases = []string{"https://api.mch.weixin.qq.com?a=1"} }, []string{"api_base", "query"}},
	{"api_base with a password", func(c *Config) { c.APIBases = []string{"https://u:p@api.mch.weixin.qq.com"} }, []string{"api_base", "password"}},
	{"api_base without a scheme", func(c *Config) { c.APIBases = []string{"api.mch.weixin.qq.com"} }, []string{"api_base"}},
	{"api_base of another scheme", func(c *Config) { c.APIBases = []string{"unix:///run/x"} }, []string{"api_base"}},
	{"api_base of an odd port", func(c *Config) { c.APIBases = []string{"https://api.mch.weixin.qq.com:0"} }, []string{"api_base", "port"}},
	{"api_base twice", func(c *Config) { c.APIBases = []string{"https://a.example.com", "https://A.example.com/"} }, []string{"api_base", "twice"}},

	{"egress_proxy of another scheme", func(c *Config) { c.EgressProxy = "ftp://proxy.example.com" }, []string{"egress_proxy", "socks5"}},
	{"egress_proxy without a scheme", func(c *Config) { c.EgressProxy = "proxy.example.com:3128" }, []string{"egress_proxy"}},
	{"egress_proxy with a path", func(c *Config) { c.EgressProxy = "http://proxy.example.com/x" }, []string{"egress_proxy", "path"}},
	{"egress_proxy of an odd port", func(c *Config) { c.EgressProxy = "http://proxy.example.com:99999" }, []string{"egress_proxy", "port"}},

	{"app with an empty secret", func(c *Config) { c.Apps[0].Secret = NewSecret("") }, []string{"app wx8888888888888888", "secret", "empty"}},
	{"app secret placeholder", func(c *Config) { c.Apps[0].Secret = NewSecret("{env.WX_SECRET}") }, []string{"secret", "placeholder"}},
	{"app secret with a line end", func(c *Config) { c.Apps[0].Secret = NewSecret(testAPIv3 + "\n") }, []string{"secret", "AppSecret"}},
	{"app secret too long", func(c *Config) { c.Apps[0].Secret = NewSecret(strings.Repeat("a", 129)) }, []string{"secret", "AppSecret"}},
	{"domain of a mini program", func(c *Config) { c.Apps[0].Type, c.Apps[0].Domains = AppMiniProgram, []string{"a.example.com"} }, []string{"domain", "official account"}},
	{"domain with a scheme", func(c *Config) { c.Apps[0].Domains = []string{"https://a.example.com"} }, []string{"domain", "without scheme"}},
	{"domain with a path", func(c *Config) { c.Apps[0].Domains = []string{"a.example.com/x"} }, []string{"domain", "without scheme"}},
	{"domain of every host", func(c *Config) { c.Apps[0].Domains = []string{"*.example.com"} }, []string{"domain"}},
	{"domain with an odd port", func(c *Config) { c.Apps[0].Domains = []string{"a.example.com:0"} }, []string{"domain"}},
	{"domain with a colon", func(c *Config) { c.Apps[0].Domains = []string{"a.example.com:"} }, []string{"domain"}},
	{"empty domain", func(c *Config) { c.Apps[0].Domains = []string{""} }, []string{"domain"}},
	{"domain twice", func(c *Config) { c.Apps[0].Domains = []string{"a.example.com", "A.example.com"} }, []string{"domain", "twice"}},

	{"openid_base of http", func(c *Config) { c.OpenIDBase = "http://api.weixin.qq.com" }, []string{"openid_base", "https"}},
	{"openid_base with a path", func(c *Config) { c.OpenIDBase = "https://api.weixin.qq.com/sns" }, []string{"openid_base", "path"}},
	{"authorize page of http", func(c *Config) { c.OpenIDOpenBase = "http://open.weixin.qq.com" }, []string{"openid_base", "https"}},
	{"openid_base with a password", func(c *Config) { c.OpenIDBase = "https://u:p@api.weixin.qq.com" }, []string{"openid_base", "password"}},

	{"sandbox and keys", func(c *Config) { c.Sandbox = "http://127.0.0.1:9080" }, []string{"serial_no", "private_key", "apiv3_key", "public_key", "remove"}},
	{"sandbox and certificates", func(c *Config) {
		*c = Config{Name: "shop", Mchid: testMchid, Sandbox: "http://127.0.0.1:9080", Certificates: CertificatesAuto}
	}, []string{"platform_certificates", "sandbox"}},
	{"sandbox and api_base", func(c *Config) {
		*c = Config{Name: "shop", Mchid: testMchid, Sandbox: "http://127.0.0.1:9080", APIBases: DefaultAPIBases()}
	}, []string{"api_base", "sandbox"}},
	{"sandbox of http elsewhere", func(c *Config) {
		*c = Config{Name: "shop", Mchid: testMchid, Sandbox: "http://sandbox.example.com"}
	}, []string{"sandbox", "https"}},
	{"sandbox with a path", func(c *Config) {
		*c = Config{Name: "shop", Mchid: testMchid, Sandbox: "http://127.0.0.1:9080/x"}
	}, []string{"sandbox", "path"}},
}

func TestRefusals(t *testing.T) {
	for _, row := range refusals {
		t.Run(row.name, func(t *testing.T) {
			cfg := goodConfig()
			row.edit(&cfg)
			m, err := New(cfg, Deps{Now: func() time.Time { return baseTime }})
			if err == nil || m != nil {
				t.Fatal("it was accepted")
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			wantNoSecret(t, "the error", err.Error())
			for _, secret := range append([]string{cfg.PrivateKey}, cfg.APIv3Keys...) {
				if len(secret) > 8 && !strings.HasPrefix(secret, "{") && strings.Contains(err.Error(), strings.TrimSpace(secret)) {
					t.Error("the error shows a secret")
				}
			}
			if strings.Contains(err.Error(), "u:p@") {
				t.Error("the error shows a password")
			}
		})
	}
}

// TestRefusalsAreComplete: one error tells everything that is wrong.
func TestRefusalsAreComplete(t *testing.T) {
	_, err := New(Config{Name: "shop"}, Deps{})
	if err == nil {
		t.Fatal("an empty block was accepted")
	}
	for _, option := range []string{"mchid", "serial_no", "private_key", "apiv3_key"} {
		if !strings.Contains(err.Error(), "merchant shop: "+option+":") {
			t.Errorf("%s is not named:\n%v", option, err)
		}
	}
}

func TestAccepted(t *testing.T) {
	for _, row := range []struct {
		name string
		edit func(*Config)
		mode CertificateMode
	}{
		{"public key", func(*Config) {}, CertificatesOff},
		{"public key and auto", func(c *Config) { c.Certificates = CertificatesAuto }, CertificatesAuto},
		{"no public key", func(c *Config) { c.PublicKeys = nil }, CertificatesAuto},
		{"two public keys", func(c *Config) {
			c.PublicKeys = append(c.PublicKeys, PublicKeyConfig{ID: testKeyID2, PEM: pkix8(&nextKey().PublicKey)})
		}, CertificatesOff},
		{"two APIv3 keys", func(c *Config) { c.APIv3Keys = []string{testAPIv3, testAPIv3b} }, CertificatesOff},
		{"files", func(c *Config) { c.PublicKeys, c.CertificatePEMs = nil, []string{certSpec{}.pem()} }, CertificatesFiles},
		{"files beside a public key", func(c *Config) { c.CertificatePEMs = []string{certSpec{}.pem()} }, CertificatesFiles},
		{"two certificates in a file", func(c *Config) {
			c.CertificatePEMs = []string{certSpec{}.pem() + "\n" + certSpec{serial: "0A"}.pem() + " \n"}
		}, CertificatesFiles},
		{"PKCS#1", func(c *Config) {
			c.PrivateKey = pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(merchantKey()))
			c.PublicKeys[0].PEM = pemText("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&platformKey().PublicKey))
		}, CertificatesOff},
		{"CRLF", func(c *Config) { c.PrivateKey = strings.ReplaceAll(c.PrivateKey, "\n", "\r\n") }, CertificatesOff},
		{"demo appids", func(c *Config) {
			c.Apps = []App{{Appid: "wxd678efh567hg6786"}, {Appid: "wx2421b1c4370ec43b", Type: AppMobile}}
		}, CertificatesOff},
		{"eight digits", func(c *Config) { c.Mchid = "10000100" }, CertificatesOff},
		{"loopback bases", func(c *Config) {
			c.APIBases = []string{"http://127.8.9.10:9080", "http://[::1]:9080", "http://localhost:9080/", "https://api.example.com"}
		}, CertificatesOff},
		{"app secret and domains", func(c *Config) {
			c.Apps[0].Secret, c.Apps[0].Domains = NewSecret("0123456789abcdef0123456789abcdef"), []string{"a.example.com", "127.0.0.1:8080", "localhost"}
		}, CertificatesOff},
		{"openid bases", func(c *Config) { c.OpenIDBase, c.OpenIDOpenBase = "http://127.0.0.1:9080", "https://open.example.com" }, CertificatesOff},
		{"proxies", func(c *Config) { c.EgressProxy = "socks5://user:pw@127.0.0.1:1080" }, CertificatesOff},
		{"no notify_url", func(c *Config) { c.NotifyURL = "" }, CertificatesOff},
		{"sandbox", func(c *Config) { *c = Config{Name: "demo", Mchid: testMchid, Sandbox: "http://localhost:9080"} }, CertificatesOff},
		{"sandbox over https", func(c *Config) { *c = Config{Name: "demo", Mchid: testMchid, Sandbox: "https://sandbox.example.com"} }, CertificatesOff},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := goodConfig()
			row.edit(&cfg)
			m := wantNew(t, cfg, Deps{})
			if m.CertificateMode() != row.mode {
				t.Errorf("mode %q, want %q", m.CertificateMode(), row.mode)
			}
		})
	}
}

func TestAccessors(t *testing.T) {
	cfg := goodConfig()
	cfg.Apps = append(cfg.Apps, App{Appid: "wx2421b1c4370ec43b", Type: AppMiniProgram})
	cfg.ForceNotifyURL, cfg.ServiceProvider = true, true
	cfg.SerialNo = strings.ToLower(testSerial)
	m := wantNew(t, cfg, Deps{})
	if m.Name() != "shop" || m.Mchid() != testMchid || !m.ServiceProvider() || m.Sandbox() {
		t.Error("names and roles")
	}
	if url, force := m.NotifyURL(); url != cfg.NotifyURL || !force {
		t.Error("notify_url")
	}
	if bases := m.APIBases(); len(bases) != 2 || bases[0] != "https://api.mch.weixin.qq.com" || bases[1] != "https://api2.mch.weixin.qq.com" {
		t.Errorf("api_base %v", bases)
	}
	if !reflect.DeepEqual(m.DefaultApp(), cfg.Apps[0]) || !m.HasApp("wx2421b1c4370ec43b") || m.HasApp("wx2421b1c4370ec43c") || m.HasApp("") || len(m.Apps()) != 2 {
		t.Error("apps")
	}
	if app, ok := m.App("wx2421b1c4370ec43b"); !ok || app.Type != AppMiniProgram {
		t.Errorf("App %v, %v", app, ok)
	}
	if _, ok := m.App("wx2421b1c4370ec43c"); ok {
		t.Error("an app that is not listed")
	}
	if exchange, authorize := m.OpenIDBases(); exchange != "https://api.weixin.qq.com" || authorize != "https://open.weixin.qq.com" {
		t.Errorf("openid_base %s, %s", exchange, authorize)
	}
	m.Apps()[0].Appid, m.APIBases()[0] = "changed", "changed"
	if !reflect.DeepEqual(m.DefaultApp(), cfg.Apps[0]) || m.APIBases()[0] != "https://api.mch.weixin.qq.com" {
		t.Error("a caller can change the merchant")
	}
	if err := m.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	credential, err := m.Credential()
	if err != nil || credential.Mchid() != testMchid || credential.SerialNo() != testSerial || credential.Algorithm() != "SHA256-RSA2048" || !credential.PrivateKey().Reveal().Equal(merchantKey()) {
		t.Errorf("credential %v, %v", credential, err)
	}
	if m.HTTPClient() == nil || len(m.Warnings()) != 0 {
		t.Error("client or warnings")
	}
}

func TestWarnings(t *testing.T) {
	cfg := goodConfig()
	cfg.Apps = nil
	cfg.NotifyURL = "http://pay.example.com/n"
	cfg.CertificatePEMs = []string{
		certSpec{}.pem(),
		certSpec{serial: serialOf(2), notBefore: baseTime.Add(-2 * time.Hour), notAfter: baseTime.Add(-time.Hour)}.pem(),
		certSpec{serial: serialOf(3), notBefore: baseTime.Add(time.Hour)}.pem(),
	}
	m := wantNew(t, cfg, Deps{})
	all := strings.Join(m.Warnings(), "\n")
	for _, want := range []string{"app: none", "notify_url: http", serialOf(2) + " expired", serialOf(3) + " is not valid before"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning says %q:\n%s", want, all)
		}
	}
	if len(m.Warnings()) != 4 {
		t.Errorf("%d warnings", len(m.Warnings()))
	}
}

func TestRedirectsAreNeverFollowed(t *testing.T) {
	for name, deps := range map[string]Deps{"own": {}, "given": {HTTP: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}}} {
		m := wantNew(t, goodConfig(), deps)
		if err := m.HTTPClient().CheckRedirect(nil, nil); err != http.ErrUseLastResponse { //nolint:errorlint // the documented sentinel, compared as net/http does
			t.Errorf("%s client: %v", name, err)
		}
	}
}

func TestTransport(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	transport := NewTransport(Config{})
	if transport.Proxy != nil {
		t.Error("a proxy of the environment is asked")
	}
	if transport.TLSClientConfig.MinVersion < 0x0303 || transport.TLSClientConfig.InsecureSkipVerify || transport.MaxIdleConnsPerHost != 64 || !transport.DisableCompression {
		t.Error("transport settings")
	}
	req, err := http.NewRequest(http.MethodGet, "https://api.mch.weixin.qq.com/v3/certificates", nil) //nolint:noctx // never sent
	if err != nil {
		t.Fatal(err)
	}
	proxied := NewTransport(Config{EgressProxy: "socks5://127.0.0.1:1080"})
	if u, err := proxied.Proxy(req); err != nil || u.Host != "127.0.0.1:1080" {
		t.Errorf("proxy %v, %v", u, err)
	}
	if u, err := NewTransport(Config{EgressProxy: "nonsense"}).Proxy(req); err == nil || u != nil {
		t.Error("an egress_proxy that does not parse lets calls out directly")
	}
}
