package sandbox

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// What marks a key as a sandbox's. A gateway refuses them for production
// merchants, so nothing a sandbox signed ever passes one.
const (
	// PublicKeyIDPrefix begins every public key's id.
	PublicKeyIDPrefix = "PUB_KEY_ID_SANDBOX"
	// CertificateSerialPrefix begins every platform certificate's serial, in
	// upper-case hexadecimal digits.
	CertificateSerialPrefix = "5A4D"
	// Organization is the organisation of every platform certificate's issuer and subject.
	Organization = "WeChat Pay Sandbox"
)

// Keys is what a merchant holds after registration: its own credentials and
// the platform's keys. It holds secrets; they are worth nothing outside the
// sandbox that made them.
type Keys struct {
	Mchid                string      `json:"mchid"`
	Appids               []string    `json:"appids"`
	Apps                 []App       `json:"apps"` // one for each of Appids, with its AppSecret
	SerialNo             string      `json:"serial_no"`
	PrivateKey           string      `json:"private_key"` // PKCS#8 PEM of the merchant API key
	APIv3Key             string      `json:"apiv3_key"`
	PublicKeys           []PublicKey `json:"public_keys"`           // empty in certificates mode
	PlatformCertificates []string    `json:"platform_certificates"` // PEM; empty in public_key mode
}

// PublicKey is one WeChat Pay public key (微信支付公钥).
type PublicKey struct {
	ID  string `json:"id"`
	PEM string `json:"pem"` // PKIX, "PUBLIC KEY"
}

// platformKey is a key the platform signs with: a public key or a certificate.
type platformKey struct {
	id         string // Wechatpay-Serial
	key        *rsa.PrivateKey
	pem        string
	effective  time.Time
	expires    time.Time // of a certificate, its NotAfter
	signFrom   time.Time // used for signing from here on
	validUntil time.Time // zero: until replaced
}

func (k *platformKey) validAt(t time.Time) bool {
	return k.validUntil.IsZero() || t.Before(k.validUntil)
}

func (p *Platform) makeKeys() error {
	var err error
	for _, mchid := range p.mchids {
		m := p.merchants[mchid]
		if m.key, err = newKey(); err != nil {
			return err
		}
		m.publicKey = &m.key.PublicKey
		m.serial = "3" + p.randomFrom("0123456789ABCDEF", 39)
		m.apiV3Key = p.randomText(32)
	}
	now := p.now()
	if p.keyMode != PublicKeyMode {
		k, err := p.newCertificate(now)
		if err != nil {
			return err
		}
		p.certificates = []*platformKey{k}
	}
	if p.keyMode != CertificatesMode {
		k, err := p.newPublicKey(now)
		if err != nil {
			return err
		}
		p.publicKeys = []*platformKey{k}
	}
	return nil
}

func newKey() (*rsa.PrivateKey, error) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("sandbox: generate key: %w", err)
	}
	return k, nil
}

// newCertificate makes a self-signed platform certificate, valid five years as
// WeChat Pay's are.
func (p *Platform) newCertificate(now time.Time) (*platformKey, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial := CertificateSerialPrefix + p.randomFrom("0123456789ABCDEF", 36)
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		return nil, fmt.Errorf("sandbox: serial %s is no number", serial)
	}
	name := pkix.Name{CommonName: "WeChat Pay Sandbox platform", Organization: []string{Organization}}
	effective := now.Add(-time.Minute).UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber:          number,
		Subject:               name,
		Issuer:                name,
		NotBefore:             effective,
		NotAfter:              effective.AddDate(5, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sandbox: make certificate: %w", err)
	}
	return &platformKey{
		id: serial, key: key, pem: encodePEM("CERTIFICATE", der),
		effective: template.NotBefore, expires: template.NotAfter, signFrom: now,
	}, nil
}

func (p *Platform) newPublicKey(now time.Time) (*platformKey, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("sandbox: encode public key: %w", err)
	}
	return &platformKey{
		id: PublicKeyIDPrefix + p.randomDigits(21), key: key,
		pem: encodePEM("PUBLIC KEY", der), effective: now, signFrom: now,
	}, nil
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// Keys returns what the merchant mchid holds at this moment: during a rotation
// that is the old and the new platform keys.
func (p *Platform) Keys(mchid string) (Keys, error) {
	m := p.merchants[mchid]
	if m == nil {
		return Keys{}, fmt.Errorf("sandbox: unknown mchid %q", mchid)
	}
	der, err := x509.MarshalPKCS8PrivateKey(m.key)
	if err != nil {
		return Keys{}, fmt.Errorf("sandbox: encode private key: %w", err)
	}
	k := Keys{
		Mchid: m.mchid, Appids: append([]string(nil), m.appids...), SerialNo: m.serial,
		PrivateKey: encodePEM("PRIVATE KEY", der), APIv3Key: m.apiV3Key,
		PublicKeys: []PublicKey{}, PlatformCertificates: []string{},
	}
	for _, appid := range m.appids {
		app := *p.accounts.apps[appid]
		app.Domains = slices.Clone(app.Domains)
		k.Apps = append(k.Apps, app)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, pk := range valid(p.publicKeys, now) {
		k.PublicKeys = append(k.PublicKeys, PublicKey{ID: pk.id, PEM: pk.pem})
	}
	for _, c := range valid(p.certificates, now) {
		k.PlatformCertificates = append(k.PlatformCertificates, c.pem)
	}
	return k, nil
}

// Rotation says how a new platform key takes over. The zero value is the
// hardest case: the new one signs at once and the old one is gone at once.
type Rotation struct {
	// SignAfter is how long the new key is published before it signs.
	SignAfter time.Duration
	// Overlap is how long, from now, the old keys stay published and valid.
	Overlap time.Duration
}

func (r Rotation) check() error {
	if r.SignAfter < 0 || r.Overlap < 0 || r.SignAfter > r.Overlap {
		return fmt.Errorf("sandbox: rotation: want 0 <= sign_after <= overlap, have %v and %v", r.SignAfter, r.Overlap)
	}
	return nil
}

// RotateCertificate adds a platform certificate and returns its serial. It
// appears on GET /v3/certificates at once. It fails in public_key mode.
func (p *Platform) RotateCertificate(r Rotation) (serial string, err error) {
	if p.keyMode == PublicKeyMode {
		return "", fmt.Errorf("sandbox: no certificates in %s mode", p.keyMode)
	}
	return p.rotate(&p.certificates, p.newCertificate, r)
}

// RotatePublicKey adds a public key and returns its id. It fails in
// certificates mode.
func (p *Platform) RotatePublicKey(r Rotation) (id string, err error) {
	if p.keyMode == CertificatesMode {
		return "", fmt.Errorf("sandbox: no public keys in %s mode", p.keyMode)
	}
	return p.rotate(&p.publicKeys, p.newPublicKey, r)
}

func (p *Platform) rotate(list *[]*platformKey, create func(time.Time) (*platformKey, error), r Rotation) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	now := p.now()
	k, err := create(now)
	if err != nil {
		return "", err
	}
	k.signFrom = now.Add(r.SignAfter)
	p.mu.Lock()
	defer p.mu.Unlock()
	until := now.Add(r.Overlap)
	kept := valid(*list, now)
	for _, old := range kept {
		if old.validUntil.IsZero() || until.Before(old.validUntil) {
			old.validUntil = until
		}
	}
	*list = append(valid(kept, now), k)
	return k.id, nil
}

// SetPublicKeyShare sets which share of the callbacks, 0 to 100 percent, is
// signed with the public key in both mode; the rest is signed with the
// certificate. It starts at 50. The share is exact over any 100 callbacks.
func (p *Platform) SetPublicKeyShare(percent int) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("sandbox: public key share %d: want 0 to 100 percent", percent)
	}
	if p.keyMode != BothMode {
		return fmt.Errorf("sandbox: public key share: fixed in %s mode", p.keyMode)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.share, p.shareCarry = percent, 0
	return nil
}

func valid(list []*platformKey, now time.Time) []*platformKey {
	var out []*platformKey
	for _, k := range list {
		if k.validAt(now) {
			out = append(out, k)
		}
	}
	return out
}

// signing returns the newest key that already signs, or nil.
func signing(list []*platformKey, now time.Time) *platformKey {
	var best *platformKey
	for _, k := range list {
		if k.validAt(now) && !now.Before(k.signFrom) {
			best = k
		}
	}
	return best
}

// responseKey picks the key that signs an API response: the one the request's
// Wechatpay-Serial names, else the certificate (the public key where there is none).
func (p *Platform) responseKey(serial string) *platformKey {
	if k := p.validKey(strings.TrimSpace(serial)); k != nil {
		return k
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if k := signing(p.certificates, now); k != nil {
		return k
	}
	return signing(p.publicKeys, now)
}

// validKey is the platform key of this id that is valid now, or nil.
func (p *Platform) validKey(id string) *platformKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, list := range [][]*platformKey{p.publicKeys, p.certificates} {
		for _, k := range list {
			if k.id == id && k.validAt(now) {
				return k
			}
		}
	}
	return nil
}

// callbackKey picks the key that signs the next callback, by the share.
func (p *Platform) callbackKey() *platformKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	certificate, public := signing(p.certificates, now), signing(p.publicKeys, now)
	if certificate == nil {
		return public
	}
	if public == nil {
		return certificate
	}
	p.shareCarry += p.share
	if p.shareCarry >= 100 {
		p.shareCarry -= 100
		return public
	}
	return certificate
}

func (p *Platform) currentKey(public bool) *platformKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	if public {
		return signing(p.publicKeys, p.now())
	}
	return signing(p.certificates, p.now())
}
