package merchant

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// AppType is the kind of account an appid belongs to.
type AppType string

const (
	AppOfficial    AppType = "official"    // 公众号
	AppMiniProgram AppType = "miniprogram" // 小程序
	AppMobile      AppType = "app"         // 移动应用
)

// App is one appid bound to the merchant.
type App struct {
	// Appid is "wx" and 16 letters or digits.
	Appid string `json:"appid"`
	// Type is what the appid belongs to. Default: official.
	Type AppType `json:"type"`
	// Secret is the app's AppSecret, which exchanges a user's code for an
	// openid. Empty: the app exchanges none; of a sandbox merchant, the
	// sandbox's.
	Secret Secret `json:"secret,omitzero"`
	// Domains are an official account's 网页授权域名: the hosts, with a port
	// unless it is the scheme's own, that WeChat may send users back to with a
	// code. Each stands for itself, not for its subdomains. Empty: none.
	Domains []string `json:"domains,omitempty"`
}

// CertificateMode says where platform certificates come from.
type CertificateMode string

const (
	// CertificatesDefault is off with a public key, else auto.
	CertificatesDefault CertificateMode = ""
	// CertificatesOff trusts no platform certificate.
	CertificatesOff CertificateMode = "off"
	// CertificatesAuto fetches and refreshes them from WeChat Pay.
	CertificatesAuto CertificateMode = "auto"
	// CertificatesFiles trusts those in Config.CertificatePEMs.
	CertificatesFiles CertificateMode = "files"
)

// DefaultAPIBases returns WeChat Pay's main API host and its backup.
func DefaultAPIBases() []string {
	return []string{"https://api.mch.weixin.qq.com", "https://api2.mch.weixin.qq.com"}
}

// The hosts of the openid exchange.
const (
	DefaultOpenIDBase     = "https://api.weixin.qq.com"
	DefaultOpenIDOpenBase = "https://open.weixin.qq.com"
)

// PublicKeyConfig is one WeChat Pay public key (微信支付公钥).
type PublicKeyConfig struct {
	ID  string // PUB_KEY_ID_…
	PEM string // the content of pub_key.pem
}

// Config is what a merchant block says, after its placeholders were resolved.
// Printed, logged or marshalled as JSON it shows no secret; as an unexported
// field of a struct that is printed it would, so nothing keeps it longer than
// [New] needs it.
type Config struct {
	// Name is the block's name: letters, digits, '.', '_' and '-', as it stands
	// in notify URLs. Required.
	Name string
	// Mchid is 商户号, digits. Required.
	Mchid string
	// Apps are the appids bound to it; the first is the default.
	Apps []App

	// SerialNo is the serial of the merchant's API certificate, hex. Required.
	SerialNo string
	// PrivateKey is PEM text, the content of apiclient_key.pem. Required.
	PrivateKey string
	// APIv3Keys are one or two (rotation) of 32 bytes each. Required.
	APIv3Keys []string

	// PublicKeys are WeChat Pay's public keys; the newest last.
	PublicKeys []PublicKeyConfig
	// Certificates says where platform certificates come from. Default: off
	// with a public key, else auto.
	Certificates CertificateMode
	// CertificatePEMs are the certificates of mode files.
	CertificatePEMs []string

	// NotifyURL is filled into orders that carry none. Empty: none is filled in.
	NotifyURL string
	// ForceNotifyURL replaces any notify_url by NotifyURL.
	ForceNotifyURL bool
	// ServiceProvider says that Mchid is a 服务商: sp_mchid and sub_mchid.
	ServiceProvider bool

	// APIBases are the hosts of the API, the main one first. Default:
	// [DefaultAPIBases].
	APIBases []string
	// OpenIDBase is the origin where codes are exchanged for openids. Default:
	// [DefaultOpenIDBase]; of a sandbox merchant, the sandbox.
	OpenIDBase string
	// OpenIDOpenBase is the origin of the authorize page, which a user's
	// browser is sent to. Default: [DefaultOpenIDOpenBase]; of a sandbox
	// merchant, the sandbox.
	OpenIDOpenBase string
	// EgressProxy is an http, https or socks5 URL that calls go through. Empty:
	// none, not even one from the environment.
	EgressProxy string
	// Sandbox is the base URL of a sandbox that gives the keys. It excludes
	// keys and APIBases.
	Sandbox string
}

// printable is Config without secrets, in the order of the options.
func (c Config) printable() any {
	type publicKey struct {
		ID string `json:"id"`
	}
	hide := func(s string) string {
		if s == "" {
			return ""
		}
		return redacted
	}
	shown := struct {
		Name            string          `json:"name"`
		Mchid           string          `json:"mchid"`
		Apps            []App           `json:"apps,omitempty"`
		SerialNo        string          `json:"serial_no,omitempty"`
		PrivateKey      string          `json:"private_key,omitempty"`
		APIv3Keys       []string        `json:"apiv3_key,omitempty"`
		PublicKeys      []publicKey     `json:"public_key,omitempty"`
		Certificates    CertificateMode `json:"platform_certificates,omitempty"`
		CertificateText int             `json:"platform_certificate_files,omitempty"`
		NotifyURL       string          `json:"notify_url,omitempty"`
		ForceNotifyURL  bool            `json:"force_notify_url,omitempty"`
		ServiceProvider bool            `json:"service_provider,omitempty"`
		APIBases        []string        `json:"api_base,omitempty"`
		OpenIDBases     []string        `json:"openid_base,omitempty"`
		EgressProxy     string          `json:"egress_proxy,omitempty"`
		Sandbox         string          `json:"sandbox,omitempty"`
	}{
		Name: c.Name, Mchid: c.Mchid, Apps: c.Apps,
		SerialNo: c.SerialNo, PrivateKey: hide(c.PrivateKey),
		Certificates: c.Certificates, CertificateText: len(c.CertificatePEMs),
		NotifyURL: redactURL(c.NotifyURL), ForceNotifyURL: c.ForceNotifyURL, ServiceProvider: c.ServiceProvider,
		EgressProxy: redactURL(c.EgressProxy), Sandbox: redactURL(c.Sandbox),
	}
	for _, key := range c.APIv3Keys {
		shown.APIv3Keys = append(shown.APIv3Keys, hide(key))
	}
	for _, key := range c.PublicKeys {
		shown.PublicKeys = append(shown.PublicKeys, publicKey{ID: key.ID})
	}
	for _, base := range []string{c.OpenIDBase, c.OpenIDOpenBase} {
		if base != "" {
			shown.OpenIDBases = append(shown.OpenIDBases, redactURL(base))
		}
	}
	for _, base := range c.APIBases {
		shown.APIBases = append(shown.APIBases, redactURL(base))
	}
	return shown
}

// String describes the block without its secrets.
func (c Config) String() string { return fmt.Sprintf("%+v", c.printable()) }

// GoString is String.
func (c Config) GoString() string { return c.String() }

// Format writes String whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is String as a log value.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON writes the block without its secrets.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.printable()) }

// MarshalText is String, for encoders such as XML's that ask for text.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// redactURL hides the user part of a URL, and all of what is none.
func redactURL(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" {
		return redacted
	}
	if u.User != nil {
		u.User = url.User(redacted)
	}
	u.RawQuery, u.Fragment = "", ""
	return u.String()
}

// CertificateStore keeps the last good set of platform certificates of each
// merchant. The bytes are opaque to it. Both methods honour ctx: Stop waits
// for a call in progress.
type CertificateStore interface {
	// LoadCertificates returns what was saved last, (nil, nil) when nothing was.
	LoadCertificates(ctx context.Context, merchant string) ([]byte, error)
	// SaveCertificates replaces what was saved.
	SaveCertificates(ctx context.Context, merchant string, data []byte) error
}

// TimerFunc starts a timer: c receives once after d; stop releases the timer.
type TimerFunc func(d time.Duration) (c <-chan time.Time, stop func())

// Deps are the outside world. Every field may be zero.
type Deps struct {
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Rand gives randomness for jitter. Default: crypto/rand.
	Rand io.Reader
	// Logger. Default: discards.
	Logger *slog.Logger
	// HTTP makes this merchant's calls; redirects are not followed whatever it
	// says. Default: [NewClient] of the Config, whose idle connections Stop
	// closes.
	HTTP *http.Client
	// Certificates keeps the last good set; Start may give it instead. Nil:
	// nothing is kept.
	Certificates CertificateStore
	// Metrics counts. Default: [NopMetrics].
	Metrics Metrics
	// Timer starts the timers of the refresh. Default: time.NewTimer.
	Timer TimerFunc
}
