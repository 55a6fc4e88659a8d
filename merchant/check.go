package merchant

import (
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Marks of everything a sandbox makes. No production merchant accepts them and
// no sandbox merchant accepts anything without.
const (
	SandboxPublicKeyIDPrefix = "PUB_KEY_ID_SANDBOX"
	SandboxOrganization      = "WeChat Pay Sandbox"
)

var (
	nameForm        = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$`)
	mchidForm       = regexp.MustCompile(`^[0-9]{8,32}$`)
	appidForm       = regexp.MustCompile(`^wx[0-9a-zA-Z]{16}$`)
	serialForm      = regexp.MustCompile(`^[0-9A-Fa-f]{1,64}$`)
	publicKeyIDForm = regexp.MustCompile(`^PUB_KEY_ID_[0-9A-Za-z_-]{1,53}$`)
)

// maxNotifyURL is WeChat Pay's bound on notify_url, in characters.
const maxNotifyURL = 255

// maxAPIv3Keys is the number of APIv3 keys during a rotation.
const maxAPIv3Keys = 2

// checkedConfig is what a valid Config comes down to.
type checkedConfig struct {
	apps                 []App
	credential           Credential
	apiv3                []cipher.AEAD
	publicKeys           []Key
	platformCertificates []Key
	certificates         CertificateMode
	bases                []string
	settings             string
	warnings             []string
}

// checker collects what is wrong with a block.
type checker struct {
	now  time.Time
	out  checkedConfig
	errs []error
}

func (c *checker) refuse(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *checker) warn(format string, args ...any) {
	c.out.warnings = append(c.out.warnings, fmt.Sprintf(format, args...))
}

// check applies the rules of a merchant block.
func check(cfg Config, now time.Time) (checkedConfig, error) {
	if !nameForm.MatchString(cfg.Name) {
		return checkedConfig{}, errors.New("merchant: the name must be 1 to 64 letters, digits, '.', '_' or '-', as it stands in notify URLs")
	}
	c := &checker{now: now}
	c.mchid(cfg.Mchid)
	c.apps(cfg.Apps)
	c.notifyURL(cfg.NotifyURL, cfg.ForceNotifyURL)
	if cfg.EgressProxy != "" {
		if _, err := parseEgressProxy(cfg.EgressProxy); err != nil {
			c.errs = append(c.errs, err)
		}
	}
	if cfg.Sandbox != "" {
		c.sandbox(cfg)
	} else {
		c.production(cfg)
	}
	for i := range c.errs {
		c.errs[i] = fmt.Errorf("merchant %s: %w", cfg.Name, c.errs[i])
	}
	if len(c.errs) > 0 {
		return checkedConfig{}, errors.Join(c.errs...)
	}
	return c.out, nil
}

func (c *checker) mchid(mchid string) {
	switch {
	case mchid == "":
		c.refuse("mchid: missing or empty; add the merchant number (商户号)")
	case unresolved(mchid):
		c.refuse("mchid: the placeholder was not resolved; check its spelling and that the variable or file exists")
	case !mchidForm.MatchString(mchid):
		c.refuse("mchid: not a merchant number (商户号), which is digits only, ten as a rule")
	}
}

func (c *checker) apps(apps []App) {
	seen := make(map[string]bool, len(apps))
	for _, app := range apps {
		if app.Type == "" {
			app.Type = AppOfficial
		}
		switch {
		case !appidForm.MatchString(app.Appid):
			c.refuse("app: %s is not an appid, which is wx and 16 letters or digits", quote(app.Appid))
		case seen[app.Appid]:
			c.refuse("app: %s stands there twice; remove one", app.Appid)
		case app.Type != AppOfficial && app.Type != AppMiniProgram && app.Type != AppMobile:
			c.refuse("app: the type of %s must be official, miniprogram or app", app.Appid)
		default:
			c.out.apps = append(c.out.apps, app)
		}
		seen[app.Appid] = true
	}
}

func (c *checker) notifyURL(text string, force bool) {
	if text == "" {
		if force {
			c.refuse("notify_url: force needs a URL to force; add it or remove force")
		}
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		c.refuse("notify_url: must be an absolute https URL, such as https://pay.example.com/wechatpay/notify/shop")
	case u.User != nil:
		c.refuse("notify_url: a user name or password in the URL is not allowed; callbacks are authenticated by their signature")
	case u.RawQuery != "" || u.ForceQuery:
		c.refuse("notify_url: WeChat Pay allows no query string; put what you need into the path")
	case u.Fragment != "":
		c.refuse("notify_url: a fragment never reaches a server; remove it")
	case len(text) > maxNotifyURL:
		c.refuse("notify_url: %d characters; WeChat Pay allows %d", len(text), maxNotifyURL)
	case !validPort(u.Port()):
		c.refuse("notify_url: the port must be 1 to 65535")
	case u.Scheme == "http":
		c.warn("notify_url: http; WeChat Pay's products expect https, and parking accepts nothing else")
	}
}

// sandbox checks a block that takes its keys from a sandbox.
func (c *checker) sandbox(cfg Config) {
	c.out.certificates = CertificatesOff
	base, err := parseBase("sandbox", cfg.Sandbox)
	if err != nil {
		c.errs = append(c.errs, err)
	}
	c.out.bases = []string{base}
	for _, option := range []struct {
		name string
		set  bool
	}{
		{"serial_no", cfg.SerialNo != ""},
		{"private_key", cfg.PrivateKey != ""},
		{"apiv3_key", len(cfg.APIv3Keys) > 0},
		{"public_key", len(cfg.PublicKeys) > 0},
		{"platform_certificates", cfg.Certificates != CertificatesDefault || len(cfg.CertificatePEMs) > 0},
		{"api_base", len(cfg.APIBases) > 0},
	} {
		if option.set {
			c.refuse("%s: does not go with sandbox, which gives the keys and is the API; remove %s, or sandbox for production", option.name, option.name)
		}
	}
}

// production checks a block with keys of its own.
func (c *checker) production(cfg Config) {
	if len(cfg.Apps) == 0 {
		c.warn("app: none is listed; no appid is filled into orders, and every callback's appid counts as foreign")
	}
	key := c.privateKey(cfg.PrivateKey)
	serial := c.serialNo(cfg.SerialNo)
	c.out.credential = newCredential(cfg.Mchid, serial, key)
	c.apiv3Keys(cfg.APIv3Keys)
	c.publicKeys(cfg.PublicKeys)
	c.platformCertificates(cfg)
	c.apiBases(cfg.APIBases)
	c.out.settings = settingsFingerprint(cfg, c.out, key)
}

func (c *checker) serialNo(serial string) string {
	switch {
	case serial == "":
		c.refuse("serial_no: missing or empty; add the serial of the merchant API certificate (openssl x509 -in apiclient_cert.pem -noout -serial)")
	case unresolved(serial):
		c.refuse("serial_no: the placeholder was not resolved; check its spelling and that the variable or file exists")
	case strings.HasPrefix(serial, publicKeyIDPrefix):
		c.refuse("serial_no: this is a WeChat Pay public key id; serial_no is the serial of the merchant's own API certificate")
	case !serialForm.MatchString(serial):
		c.refuse("serial_no: must be hex digits without colons or spaces, as openssl x509 -serial prints them")
	}
	return strings.ToUpper(serial)
}

func (c *checker) privateKey(text string) PrivateKey {
	if strings.TrimSpace(text) == "" {
		c.refuse("private_key: missing or empty; name the path of apiclient_key.pem, or a placeholder that holds its content")
		return PrivateKey{}
	}
	if unresolved(text) {
		c.refuse("private_key: the placeholder was not resolved; check its spelling and that the variable or file exists")
		return PrivateKey{}
	}
	key, err := ParsePrivateKey(text)
	if err != nil {
		c.refuse("private_key: %w", err)
	}
	return key
}

func (c *checker) apiv3Keys(keys []string) {
	if len(keys) == 0 {
		c.refuse("apiv3_key: missing; add the APIv3 key (APIv3密钥) set in the merchant console; without one WeChat Pay sends no callback")
	}
	if len(keys) > maxAPIv3Keys {
		c.refuse("apiv3_key: %d keys; at most %d, the new and the old one of a rotation", len(keys), maxAPIv3Keys)
	}
	for i, text := range keys {
		switch {
		case text == "":
			c.refuse("apiv3_key: number %d is empty; check that the variable or file it comes from has a value", i+1)
			continue
		case unresolved(text):
			c.refuse("apiv3_key: the placeholder of number %d was not resolved; check its spelling and that the variable or file exists", i+1)
			continue
		case len(text) != apiv3KeyLength && len(strings.TrimSpace(text)) == apiv3KeyLength:
			c.refuse("apiv3_key: number %d has white space around its %d bytes; remove it", i+1, apiv3KeyLength)
			continue
		case len(text) != apiv3KeyLength:
			c.refuse("apiv3_key: number %d has %d bytes; an APIv3 key has exactly %d", i+1, len(text), apiv3KeyLength)
			continue
		case strings.Count(text, text[:1]) == len(text):
			c.refuse("apiv3_key: number %d is one character repeated; set a random one in the merchant console", i+1)
			continue
		case i > 0 && text == keys[0]:
			c.refuse("apiv3_key: both are the same; remove one")
			continue
		}
		aead, err := newAEAD(NewSecret(text))
		if err != nil {
			c.refuse("apiv3_key: %w", err)
			continue
		}
		c.out.apiv3 = append(c.out.apiv3, aead)
	}
}

func (c *checker) publicKeys(keys []PublicKeyConfig) {
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		switch {
		case unresolved(key.ID):
			c.refuse("public_key: the placeholder of the id was not resolved; check its spelling and that the variable or file exists")
			continue
		case !publicKeyIDForm.MatchString(key.ID):
			c.refuse("public_key: the id must begin with PUB_KEY_ID_, as the merchant console shows it beside the key")
			continue
		case strings.HasPrefix(key.ID, SandboxPublicKeyIDPrefix):
			c.refuse("public_key: %s is a sandbox's key; a production merchant never trusts one; use the console's key, or the sandbox option", key.ID)
			continue
		case seen[key.ID]:
			c.refuse("public_key: %s stands there twice; remove one", key.ID)
			continue
		}
		seen[key.ID] = true
		if strings.TrimSpace(key.PEM) == "" {
			c.refuse("public_key: %s has no key; name the path of its pub_key.pem", key.ID)
			continue
		}
		if unresolved(key.PEM) {
			c.refuse("public_key: the placeholder of %s was not resolved; check its spelling and that the variable or file exists", key.ID)
			continue
		}
		public, err := parsePublicKey(key.PEM)
		if err != nil {
			c.refuse("public_key: %s: %w", key.ID, err)
			continue
		}
		if c.isOwn(public) {
			c.refuse("public_key: %s is the merchant's own public key; download WeChat Pay's (微信支付公钥) from the merchant console", key.ID)
			continue
		}
		c.out.publicKeys = append(c.out.publicKeys, Key{Serial: key.ID, Kind: KindPublicKey, public: public})
	}
}

// platformCertificates settles the mode and reads the files of mode files.
func (c *checker) platformCertificates(cfg Config) {
	mode := cfg.Certificates
	if mode == CertificatesDefault {
		switch {
		case len(cfg.CertificatePEMs) > 0:
			mode = CertificatesFiles
		case len(cfg.PublicKeys) > 0:
			mode = CertificatesOff
		default:
			mode = CertificatesAuto
		}
	}
	c.out.certificates = mode
	if mode != CertificatesFiles && len(cfg.CertificatePEMs) > 0 {
		c.refuse("platform_certificates: files do not go with %s; keep one of the two", quote(string(mode)))
		return
	}
	switch mode {
	case CertificatesAuto:
	case CertificatesOff:
		if len(cfg.PublicKeys) == 0 {
			c.refuse("platform_certificates: off without a public_key leaves nothing to verify callbacks with; add public_key PUB_KEY_ID_… <pub_key.pem>, or platform_certificates auto")
		}
	case CertificatesFiles:
		c.certificateFiles(cfg.CertificatePEMs)
	default:
		c.refuse("platform_certificates: must be auto, off or files")
	}
}

func (c *checker) certificateFiles(texts []string) {
	if len(texts) == 0 {
		c.refuse("platform_certificates: names no file; name one, or say auto or off")
		return
	}
	seen := make(map[string]bool)
	expired, refused := 0, len(c.errs)
	for i, text := range texts {
		certs, err := parseCertificates(text)
		if err != nil {
			c.refuse("platform_certificates: file %d: %w", i+1, err)
			continue
		}
		for _, cert := range certs {
			serial := certificateSerial(cert)
			if isSandboxCertificate(cert) {
				c.refuse("platform_certificates: %s is a sandbox's certificate; a production merchant never trusts one; use WeChat Pay's, or the sandbox option", serial)
				continue
			}
			key, err := certificateKey(cert)
			if err != nil {
				c.refuse("platform_certificates: file %d: %w", i+1, err)
				continue
			}
			if c.isOwn(key.public) {
				c.refuse("platform_certificates: %s is the merchant's own API certificate; WeChat Pay's are wanted here (微信支付平台证书)", serial)
				continue
			}
			if seen[indexSerial(serial)] {
				c.refuse("platform_certificates: %s stands there twice; remove one", serial)
				continue
			}
			seen[indexSerial(serial)] = true
			switch {
			case c.now.After(key.NotAfter):
				expired++
				c.warn("platform_certificates: %s expired on %s; remove it", serial, key.NotAfter.UTC().Format(time.DateOnly))
			case c.now.Before(key.NotBefore):
				c.warn("platform_certificates: %s is not valid before %s", serial, key.NotBefore.UTC().Format(time.RFC3339))
			}
			c.out.platformCertificates = append(c.out.platformCertificates, key)
		}
	}
	if len(c.errs) == refused && expired == len(c.out.platformCertificates) {
		c.refuse("platform_certificates: every certificate has expired; download the current ones, or say auto")
	}
}

func (c *checker) apiBases(bases []string) {
	if len(bases) == 0 {
		c.out.bases = DefaultAPIBases()
		return
	}
	seen := make(map[string]bool, len(bases))
	for _, text := range bases {
		base, err := parseBase("api_base", text)
		switch {
		case err != nil:
			c.errs = append(c.errs, err)
		case seen[base]:
			c.refuse("api_base: %s stands there twice; remove one", base)
		default:
			seen[base] = true
			c.out.bases = append(c.out.bases, base)
		}
	}
}

// isOwn reports whether public is the merchant's own key, which whoever holds
// apiclient_key.pem could sign callbacks with.
func (c *checker) isOwn(public *rsa.PublicKey) bool {
	own := c.out.credential.publicKey()
	return own != nil && own.Equal(public)
}

// isSandboxCertificate reports whether a certificate carries a sandbox's mark.
func isSandboxCertificate(cert *x509.Certificate) bool {
	for _, names := range [][]string{cert.Subject.Organization, cert.Issuer.Organization} {
		for _, name := range names {
			if strings.EqualFold(strings.TrimSpace(name), SandboxOrganization) {
				return true
			}
		}
	}
	return false
}

// unresolved reports whether a placeholder stands where its value should.
func unresolved(text string) bool {
	text = strings.TrimSpace(text)
	return strings.HasPrefix(text, "{env.") || strings.HasPrefix(text, "{file.")
}

// quote shows a value that is no secret, short and on one line.
func quote(text string) string {
	if len(text) > 32 {
		return fmt.Sprintf("%q…", text[:32])
	}
	return fmt.Sprintf("%q", text)
}

// settingsFingerprint tells whether two configurations would download the same
// certificates in the same way. It is kept in the store, so it takes in the
// private key: without that nobody can try APIv3 keys against it.
func settingsFingerprint(cfg Config, checked checkedConfig, key PrivateKey) string {
	if key.Empty() {
		return ""
	}
	h := sha256.New()
	write := func(parts ...string) {
		for _, part := range parts {
			fmt.Fprintf(h, "%d:%s", len(part), part)
		}
	}
	write("caddy-wechatpay settings 1", cfg.Mchid, strings.ToUpper(cfg.SerialNo), cfg.EgressProxy, key.Reveal().D.Text(16))
	write(cfg.APIv3Keys...)
	write(checked.bases...)
	return hex.EncodeToString(h.Sum(nil))
}
