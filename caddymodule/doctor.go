package caddymodule

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
)

// The levels of a finding.
const (
	findingOK      = "ok"
	findingNote    = "note"    // worth knowing
	findingWarning = "warning" // works, and should not stay so
	findingError   = "error"   // payments or callbacks fail
)

// finding is one line of the doctor's.
type finding struct {
	Level string `json:"level"`
	About string `json:"about"`
	Says  string `json:"says"`
	Do    string `json:"do,omitempty"`
}

// doctor looks at a configuration and notes what it finds. It changes nothing.
type doctor struct {
	now func() time.Time
	// get asks a URL, following no redirect; nil: nothing outside this machine
	// is asked.
	get      func(ctx context.Context, url string) (*http.Response, error)
	findings []finding
}

func (d *doctor) note(level, about, says, do string) {
	d.findings = append(d.findings, finding{level, about, says, do})
}

// examine looks at a configuration in Caddy's JSON.
func (d *doctor) examine(ctx context.Context, config []byte) {
	var parsed struct {
		Admin caddy.AdminConfig          `json:"admin"`
		Apps  map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		d.note(findingError, "configuration", err.Error(), "mend it; caddy adapt and caddy validate tell more")
		return
	}
	app := new(App)
	raw, ok := parsed.Apps["wechatpay"]
	if !ok {
		d.note(findingError, "configuration", "it has no wechatpay app", "add the wechatpay global option with a merchant block")
		return
	}
	if err := caddy.StrictUnmarshalJSON(raw, app); err != nil {
		d.note(findingError, "configuration", err.Error(), "mend it; caddy validate tells more")
		return
	}
	if !parsed.Admin.Disabled && !strings.HasPrefix(parsed.Admin.Listen, "unix/") {
		d.note(findingNote, "admin endpoint", "every program on this machine reaches it, and it has no authentication",
			"put it on a socket: admin unix//run/caddy/admin.sock")
	}
	if len(app.Merchants) == 0 {
		d.note(findingError, "configuration", "it has no merchant block", "add one")
	}
	if err := app.sandboxesApart(); err != nil {
		d.note(findingError, "merchants", err.Error(), "")
	}
	d.store(app.StorageRaw)
	named := d.notifyHandlers(parsed.Apps["http"])
	for _, name := range sortedKeys(app.Merchants) {
		d.merchant(ctx, name, app.Merchants[name], named)
	}
}

// store looks at the place where everything is kept.
func (d *doctor) store(raw json.RawMessage) {
	b := new(BadgerStorage)
	if len(raw) > 0 {
		var options struct {
			Dir string `json:"dir"`
		}
		if err := json.Unmarshal(raw, &options); err != nil {
			d.note(findingError, "storage", err.Error(), "mend it")
			return
		}
		b.Dir = options.Dir
	}
	if err := b.Provision(caddy.Context{}); err != nil {
		d.note(findingError, "storage", err.Error(), "name a directory that the user of Caddy can write to")
		return
	}
	if w := badgerstore.DirWarning(b.dir); w != "" {
		d.note(findingWarning, "storage", w, "use a local disk that survives restarts; in a container, mount a volume")
	}
	switch info, err := os.Stat(b.dir); {
	case errors.Is(err, os.ErrNotExist):
		d.note(findingNote, "storage", b.dir+" does not exist yet", "it is made at the first start")
	case err != nil:
		d.note(findingError, "storage", err.Error(), "let the user of Caddy read and write it")
	case info.Mode().Perm()&0o077 != 0:
		d.note(findingWarning, "storage", b.dir+" is open to other users; it holds orders and notifications", "chmod 700 "+b.dir)
	default:
		d.note(findingOK, "storage", b.dir, "")
	}
}

// notifyHandlers looks at every wechatpay_notify. It returns whether one names
// its merchant by the path, and the merchants that others name.
func (d *doctor) notifyHandlers(httpApp json.RawMessage) (served map[string]bool) {
	served = make(map[string]bool)
	var tree any
	if len(httpApp) > 0 && json.Unmarshal(httpApp, &tree) != nil {
		return served
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["handler"] == "wechatpay_notify" {
				d.notifyHandler(v, served)
			}
			for _, name := range sortedKeys(v) {
				walk(v[name])
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(tree)
	if len(served) == 0 {
		d.note(findingError, "wechatpay_notify", "no site has one: callbacks are not received", "add wechatpay_notify with a deliver block to the site of notify_url")
	}
	return served
}

func (d *doctor) notifyHandler(v map[string]any, served map[string]bool) {
	name, _ := v["merchant"].(string)
	about := "wechatpay_notify"
	if name == "" {
		name = "*"
	} else {
		about += " " + name
	}
	served[name] = true
	secrets, _ := v["sign"].([]any)
	if len(secrets) == 0 {
		d.note(findingWarning, about, "deliveries are not signed: whoever reaches the backend can say that an order is paid",
			"set sign {env.GATEWAY_WEBHOOK_SECRET} and check Webhook-Signature in the backend")
	}
	for _, s := range secrets {
		if text, _ := s.(string); !isPlaceholder(text) {
			d.note(findingWarning, about, "sign stands in the configuration in clear", "use {env.NAME} or {file./path}")
		}
	}
	if v["amount_check"] == "off" {
		d.note(findingWarning, about, "amounts are not held against the ledger", "remove amount_check off")
	}
}

// merchant looks at one merchant block.
func (d *doctor) merchant(ctx context.Context, name string, m *Merchant, served map[string]bool) {
	about := "merchant " + name
	if err := m.validate(name); err != nil {
		d.note(findingError, about, err.Error(), "mend the option that it names")
		return
	}
	for _, w := range m.warnings() {
		d.note(findingWarning, about, w, "move it, and change the key: the old one may be in backups of the configuration")
	}
	d.secretFiles(about, m)
	config, err := m.resolve(name)
	if err != nil {
		d.note(findingError, about, err.Error(), "give the file or variable, readable by the user of Caddy")
		return
	}
	built, err := merchant.New(config, merchant.Deps{Now: d.now})
	if err != nil {
		for _, one := range parts(err) {
			d.note(findingError, about, strings.TrimPrefix(one.Error(), "merchant "+name+": "), "mend the option that it names")
		}
		return
	}
	for _, w := range built.Warnings() {
		if !strings.HasPrefix(w, "notify_url: ") { // which is looked at below
			d.note(findingWarning, about, w, "mend the option that it names")
		}
	}
	d.notifyURL(ctx, name, config.NotifyURL, served)
	if built.Sandbox() {
		d.note(findingNote, about, "takes its keys from a sandbox: no real money", "give it keys before it goes live")
		return
	}
	d.certificate(about, m, config)
	d.keyKinds(about, built)
	if config.EgressProxy != "" {
		d.note(findingNote, about, "WeChat Pay is reached through egress_proxy, which is not tried from here", "caddy wechatpay status tells the clock once a call was made")
	} else {
		d.wechat(ctx, about, built.APIBases()[0])
	}
	d.note(findingOK, about, "private key, APIv3 key and WeChat Pay's keys are well-formed", "")
}

// parts takes joined errors apart.
func parts(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

var filePlaceholder = regexp.MustCompile(`\{file\.([^}]+)\}`)

// secretFiles looks at who may read the files that hold secrets.
func (d *doctor) secretFiles(about string, m *Merchant) {
	var files []string
	if m.PrivateKey != "" && !hasPlaceholder(m.PrivateKey) && !strings.Contains(m.PrivateKey, "-----BEGIN") {
		files = append(files, m.PrivateKey)
	}
	for _, value := range append([]string{m.PrivateKey}, m.APIv3Keys...) {
		for _, match := range filePlaceholder.FindAllStringSubmatch(value, -1) {
			files = append(files, match[1])
		}
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			d.note(findingWarning, about, fmt.Sprintf("%s holds a secret and other users may read it (mode %04o)", file, info.Mode().Perm()),
				"chmod 600 "+file+", and give it to the user of Caddy")
		}
	}
}

// certificate holds the merchant API certificate that WeChat Pay's tool writes
// beside the private key against what the block says. The gateway does not need
// the file; when it is there it tells a mistake that else WeChat Pay alone
// would.
func (d *doctor) certificate(about string, m *Merchant, config merchant.Config) {
	if hasPlaceholder(m.PrivateKey) || strings.Contains(m.PrivateKey, "-----BEGIN") {
		return
	}
	file := filepath.Join(filepath.Dir(m.PrivateKey), "apiclient_cert.pem")
	text, err := os.ReadFile(file)
	if err != nil {
		d.note(findingNote, about, "there is no apiclient_cert.pem beside the private key, so nothing here tells that serial_no belongs to it",
			"compare serial_no with the merchant platform (商户平台 > API安全)")
		return
	}
	block, _ := pem.Decode(text)
	if block == nil {
		d.note(findingWarning, about, file+" is no PEM file", "take it anew from the merchant platform")
		return
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		d.note(findingWarning, about, file+" is no certificate", "take it anew from the merchant platform")
		return
	}
	good := true
	fail := func(level, says, do string) {
		good = false
		d.note(level, about, says, do)
	}
	if serial := fmt.Sprintf("%X", cert.SerialNumber); !strings.EqualFold(strings.TrimLeft(config.SerialNo, "0"), strings.TrimLeft(serial, "0")) {
		fail(findingError, "serial_no is not that of "+file+", which is "+serial, "set serial_no "+serial+", or put the right files there")
	}
	if key, ok := cert.PublicKey.(*rsa.PublicKey); !ok || !belongs(config.PrivateKey, key) {
		fail(findingError, "the private key is not that of "+file, "take key and certificate from the same download")
	}
	if cn := cert.Subject.CommonName; cn != config.Mchid {
		fail(findingError, file+" belongs to merchant "+printable(cn)+", not "+config.Mchid, "use the files of this merchant number")
	}
	switch left := int(cert.NotAfter.Sub(d.now()) / dayLength); {
	case d.now().After(cert.NotAfter):
		fail(findingError, file+" expired on "+cert.NotAfter.Format(time.DateOnly), "apply for a new one on the merchant platform, and change serial_no and private_key together")
	case left < 30:
		fail(findingWarning, fmt.Sprintf("%s expires in %d days", file, left), "apply for a new one on the merchant platform, and change serial_no and private_key together")
	}
	if good {
		d.note(findingOK, about, "serial_no, private key and mchid agree with "+file, "")
	}
}

// belongs reports whether a private key in PEM is the public one's.
func belongs(private string, public *rsa.PublicKey) bool {
	block, _ := pem.Decode([]byte(private))
	if block == nil {
		return false
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		signer, ok := key.(*rsa.PrivateKey)
		return ok && signer.PublicKey.Equal(public)
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	return err == nil && key.PublicKey.Equal(public)
}

// keyKinds says which of WeChat Pay's kinds of keys are accepted.
func (d *doctor) keyKinds(about string, m *merchant.Merchant) {
	public := false
	for _, key := range m.Keys().All() {
		public = public || key.Kind == merchant.KindPublicKey
		if !key.NotAfter.IsZero() && key.ValidAt(d.now()) != nil {
			d.note(findingWarning, about, "platform certificate "+key.Serial+" is not valid today", "replace it, or use platform_certificates auto")
		}
	}
	switch mode := m.CertificateMode(); {
	case public && mode != merchant.CertificatesOff:
		d.note(findingOK, about, "both WeChat Pay's public key and its platform certificates are accepted", "")
	case public:
		d.note(findingNote, about, "only WeChat Pay's public key is accepted",
			"while WeChat Pay moves the merchant over from certificates (切换), it signs with either: set platform_certificates auto until it is done")
	default:
		d.note(findingNote, about, "only platform certificates are accepted",
			"when the merchant platform shows a public key (微信支付公钥), add it as public_key, and keep platform_certificates auto beside it")
	}
}

// notifyURL looks at where callbacks are sent to, and whether they would arrive.
func (d *doctor) notifyURL(ctx context.Context, name, text string, served map[string]bool) {
	about := "merchant " + name + " notify_url"
	if !served["*"] && !served[name] && len(served) > 0 {
		d.note(findingError, "merchant "+name, "no wechatpay_notify serves it", "add wechatpay_notify "+name)
	}
	if text == "" {
		d.note(findingNote, about, "there is none: orders must bring their own", "set notify_url https://<host>/wechatpay/notify/"+name)
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		d.note(findingError, about, "is no URL", "set notify_url https://<host>/wechatpay/notify/"+name)
		return
	}
	good := true
	fail := func(says, do string) {
		good = false
		d.note(findingError, about, says, do)
	}
	loopback := u.Hostname() == "localhost"
	if ip := net.ParseIP(u.Hostname()); ip != nil {
		loopback = ip.IsLoopback()
		if ip.IsPrivate() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() {
			fail("WeChat Pay cannot reach "+u.Hostname(), "use a public name")
		}
	}
	if !loopback && u.Scheme != "https" {
		fail("it is not https, so callbacks can be read on the way", "serve the site with TLS, which Caddy does by itself, and write https://")
	}
	if segment := u.Path[strings.LastIndexByte(u.Path, '/')+1:]; !served[name] && served["*"] && segment != name {
		fail(fmt.Sprintf("its path ends in %q, which names no such merchant: callbacks get 404", segment), "end it with /"+name+", or write wechatpay_notify "+name)
	}
	if good && d.get != nil {
		d.reach(ctx, about, text)
	} else if good {
		d.note(findingOK, about, text+" is well-formed", "")
	}
}

// reach asks the notify_url as a browser would: wechatpay_notify says 405.
func (d *doctor) reach(ctx context.Context, about, text string) {
	resp, err := d.get(ctx, text)
	if err != nil {
		d.note(findingError, about, "it cannot be reached from here: "+err.Error(), "check DNS, the firewall and the certificate of the site")
		return
	}
	_ = resp.Body.Close()
	switch status := resp.StatusCode; {
	case status == http.StatusMethodNotAllowed:
		d.note(findingOK, about, text+" is reached, and answered by wechatpay_notify", "")
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		d.note(findingError, about, fmt.Sprintf("something before wechatpay_notify asks who is there (%d)", status), "WeChat Pay does not log in: take authentication and address filters off this path")
	case status >= 300 && status < 400:
		d.note(findingError, about, fmt.Sprintf("it redirects (%d), which WeChat Pay does not follow", status), "write the URL that it leads to")
	default:
		d.note(findingError, about, fmt.Sprintf("it answers %d, so it is not wechatpay_notify that answers", status), "lead its path to wechatpay_notify; a site-wide handler may come first")
	}
}

// wechat asks WeChat Pay for the time of day.
func (d *doctor) wechat(ctx context.Context, about, base string) {
	if d.get == nil {
		return
	}
	sent := d.now()
	resp, err := d.get(ctx, base)
	if err != nil {
		d.note(findingError, about, base+" cannot be reached from here: "+err.Error(), "let this machine out to WeChat Pay, or set egress_proxy")
		return
	}
	_ = resp.Body.Close()
	watch := new(merchant.Merchant)
	watch.SawDate(resp.Header.Get("Date"), sent, d.now())
	switch skew, _, ok := watch.ClockSkew(); {
	case !ok:
		d.note(findingNote, "clock", base+" tells no time", "")
	case skew.Abs() >= skewRefused:
		d.note(findingError, "clock", fmt.Sprintf("it is %s off WeChat Pay's: every signature is refused", skew.Abs().Round(time.Second)), "synchronise it, as with systemd-timesyncd or chrony")
	case skew.Abs() >= skewBound:
		d.note(findingWarning, "clock", fmt.Sprintf("it is %s off WeChat Pay's; at 5m signatures are refused", skew.Abs().Round(time.Second)), "synchronise it, as with systemd-timesyncd or chrony")
	default:
		d.note(findingOK, "clock", "agrees with WeChat Pay's", "")
	}
}

// live takes over what the running gateway says of itself.
func (d *doctor) live(h *healthView) {
	for _, reason := range h.Reasons {
		d.note(findingError, "running gateway", reason, "callbacks or calls are refused until it is mended")
	}
	for _, warning := range h.Warnings {
		d.note(findingWarning, "running gateway", warning, "")
	}
	if len(h.Reasons)+len(h.Warnings) == 0 {
		d.note(findingOK, "running gateway", "is healthy", "")
	}
}

// strictAfter is how long every payment's order must have been known before the
// stricter check is advised.
const strictAfter = 7 * dayLength

// strict advises amount_check strict. Known says whether notifications go back
// that far, and unknown how many payments were of orders that the ledger did not
// know since.
func (d *doctor) strict(config []byte, known bool, unknown int) {
	switch {
	case bytes.Contains(config, []byte(`"amount_check":"strict"`)) || !known:
	case unknown > 0:
		d.note(findingNote, "amount_check", fmt.Sprintf("in the last 7 days %d payments were of orders that the ledger does not know: their amounts were not checked", unknown),
			"create orders through the gateway, or make them known with PUT /gateway/orders/{out_trade_no}")
	default:
		d.note(findingNote, "amount_check", "the ledger has known the order of every payment for 7 days", "set amount_check strict: a payment of an unknown order is then parked")
	}
}
