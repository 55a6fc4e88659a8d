package merchant

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
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
	domainForm      = regexp.MustCompile(`^[0-9a-z](?:[0-9a-z-]{0,61}[0-9a-z])?(?:\.[0-9a-z](?:[0-9a-z-]{0,61}[0-9a-z])?)*$`)
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
	openidBase, openBase string
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
			app.Domains = c.domains(app)
			c.appSecret(app)
			c.out.apps = append(c.out.apps, app)
		}
		seen[app.Appid] = true
	}
}

// maxAppSecret is generous: AppSecrets are 32 characters.
const maxAppSecret = 128

func (c *checker) appSecret(app App) {
	if app.Secret.reveal == nil {
		return
	}
	text := app.Secret.Reveal()
	switch {
	case text == "":
		c.refuse("app %s: the secret is empty; check the variable or file that holds it", app.Appid)
	case unresolved(text):
		c.refuse("app %s: the placeholder of the secret was not resolved; check its spelling and that the variable or file exists", app.Appid)
	case len(text) > maxAppSecret || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		c.refuse("app %s: the secret is not an AppSecret, which is 32 letters and digits; check for spaces and line ends", app.Appid)
	}
}

// domains checks an app's 网页授权域名 and returns them in lower case.
func (c *checker) domains(app App) []string {
	if len(app.Domains) > 0 && app.Type != AppOfficial {
		c.refuse("app %s: domain belongs to an official account; no browser is sent back to a mini program or an app", app.Appid)
		return nil
	}
	var out []string
	for _, domain := range app.Domains {
		lower := strings.ToLower(domain)
		host, port, found := strings.Cut(lower, ":")
		switch {
		case len(domain) > 253 || !domainForm.MatchString(host) || found && (port == "" || !validPort(port)):
			c.refuse("app %s: domain %s is not a host; write shop.example.com, without scheme or path", app.Appid, quote(domain))
		case slices.Contains(out, lower):
			c.refuse("app %s: domain %s stands there twice; remove one", app.Appid, quote(domain))
		default:
			out = append(out, lower)
		}
	}
	return out
}

// openid checks the hosts of the openid exchange. own is the sandbox's base,
// "" for production.
func (c *checker) openid(cfg Config, own string) {
	c.out.openidBase, c.out.openBase = DefaultOpenIDBase, DefaultOpenIDOpenBase
	if own != "" {
		c.out.openidBase, c.out.openBase = own, own
	}
	for _, given := range []struct {
		text string
		into *string
	}{{cfg.OpenIDBase, &c.out.openidBase}, {cfg.OpenIDOpenBase, &c.out.openBase}} {
		if given.text == "" {
			continue
		}
		base, err := parseBase("openid_base", given.text)
		if err != nil {
			c.errs = append(c.errs, err)
			return
		}
		*given.into = base
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
	c.openid(cfg, base)
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
	c.openid(cfg, "")
	c.out.settings = settingsFingerprint(cfg, c.out, key)
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
