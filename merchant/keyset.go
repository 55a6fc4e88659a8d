package merchant

import (
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

var (
	// ErrUnknownSerial is returned for a serial that names no key of the set,
	// however it is spelled.
	ErrUnknownSerial = errors.New("merchant: no key has this serial")
	// ErrKeyExpired is returned for a platform certificate past its NotAfter.
	ErrKeyExpired = errors.New("merchant: the platform certificate has expired")
	// ErrKeyNotYetValid is returned for a platform certificate before its NotBefore.
	ErrKeyNotYetValid = errors.New("merchant: the platform certificate is not valid yet")
	// ErrSignature is returned for a signature that does not verify, or that is
	// not base64 in its one canonical spelling.
	ErrSignature = errors.New("merchant: signature does not verify")
)

// publicKeyIDPrefix begins every WeChat Pay public key id.
// https://pay.weixin.qq.com/doc/v3/merchant/4013038816
const publicKeyIDPrefix = "PUB_KEY_ID_"

// maxSerial bounds the serials that are looked at, in bytes. RFC 5280 4.1.2.2
// allows certificate serials of 20 octets, 40 hex digits.
const maxSerial = 64

// KeyKind tells what a [Key] was made from.
type KeyKind uint8

const (
	// KindPublicKey is a WeChat Pay public key (微信支付公钥): no validity dates.
	KindPublicKey KeyKind = iota + 1
	// KindCertificate is a WeChat Pay platform certificate (微信支付平台证书).
	KindCertificate
)

// String returns "public_key" or "certificate".
func (k KeyKind) String() string {
	switch k {
	case KindPublicKey:
		return "public_key"
	case KindCertificate:
		return "certificate"
	default:
		return "none"
	}
}

// Key is one key that WeChat Pay signs with. The zero value verifies nothing.
type Key struct {
	// Serial is the spelling for a Wechatpay-Serial header: the public key id,
	// or the certificate's serial in upper-case hex with an even digit count.
	Serial string
	// Kind tells where the key comes from.
	Kind KeyKind
	// NotBefore and NotAfter bound a certificate's validity, both inclusive;
	// zero for public keys, which do not expire.
	NotBefore, NotAfter time.Time

	public *rsa.PublicKey
	der    []byte // the certificate, as it is persisted; nil for public keys
}

// PublicKey returns the RSA key, for encrypting sensitive fields to WeChat Pay.
// It is shared and must not be changed; nil for the zero Key.
func (k Key) PublicKey() *rsa.PublicKey { return k.public }

// ValidAt returns nil, [ErrKeyExpired] or [ErrKeyNotYetValid].
func (k Key) ValidAt(now time.Time) error {
	if k.Kind != KindCertificate {
		return nil
	}
	if now.After(k.NotAfter) {
		return ErrKeyExpired
	}
	if now.Before(k.NotBefore) {
		return ErrKeyNotYetValid
	}
	return nil
}

// Verify checks a raw (already base64-decoded) WECHATPAY2-SHA256-RSA2048
// signature: RSASSA-PKCS1-v1_5 with SHA-256, RFC 8017 8.2.2, exactly as long as
// the modulus. It returns nil or [ErrSignature]. It does not look at validity
// dates: [KeySet.Lookup] does.
func (k Key) Verify(message, signature []byte) error {
	if k.public == nil || len(signature) != k.public.Size() {
		return ErrSignature
	}
	digest := sha256.Sum256(message)
	if rsa.VerifyPKCS1v15(k.public, crypto.SHA256, digest[:], signature) != nil {
		return ErrSignature
	}
	return nil
}

// DecodeSignature decodes the base64 of a Wechatpay-Signature in its one
// canonical spelling and returns [ErrSignature] for every other. Go's decoder
// skips line breaks even when strict, and ignores spare bits when not: sixteen
// spellings of one signature would pass.
func DecodeSignature(text string) ([]byte, error) {
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return nil, ErrSignature
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, ErrSignature
	}
	return raw, nil
}

// KeySet is an immutable snapshot of the keys a merchant trusts, safe for
// concurrent use without locks. The zero value and nil hold none.
type KeySet struct {
	bySerial     map[string]Key // by indexSerial's spelling
	publicKeys   []Key          // in the order of configuration
	certificates []Key          // newest NotBefore first
	now          func() time.Time
}

// newKeySet builds a snapshot. Serials are unique: the callers see to it.
func newKeySet(now func() time.Time, publicKeys, certificates []Key) *KeySet {
	k := &KeySet{
		bySerial:     make(map[string]Key, len(publicKeys)+len(certificates)),
		publicKeys:   slices.Clone(publicKeys),
		certificates: slices.Clone(certificates),
		now:          now,
	}
	slices.SortStableFunc(k.certificates, func(a, b Key) int {
		return cmp.Or(b.NotBefore.Compare(a.NotBefore), b.NotAfter.Compare(a.NotAfter), cmp.Compare(a.Serial, b.Serial))
	})
	for _, key := range k.publicKeys {
		k.bySerial[key.Serial] = key
	}
	for _, key := range k.certificates {
		k.bySerial[indexSerial(key.Serial)] = key
	}
	return k
}

// Lookup returns the key that a Wechatpay-Serial names. A certificate's serial
// is a number: case and leading zeros do not matter. A public key id is
// compared exactly. It returns [ErrUnknownSerial], [ErrKeyExpired] or
// [ErrKeyNotYetValid], allocates nothing and never causes a request.
func (k *KeySet) Lookup(serial string, now time.Time) (Key, error) {
	if k == nil {
		return Key{}, ErrUnknownSerial
	}
	var buffer [maxSerial]byte
	spelled, ok := canonicalSerial(buffer[:0], serial)
	if !ok {
		return Key{}, ErrUnknownSerial
	}
	key, ok := k.bySerial[string(spelled)] // does not allocate
	if !ok {
		return Key{}, ErrUnknownSerial
	}
	if err := key.ValidAt(now); err != nil {
		return Key{}, err
	}
	return key, nil
}

// Preferred returns the key for the Wechatpay-Serial of requests and for
// encrypting sensitive fields: the public key listed last (a new one is added
// below the old one), else the newest certificate that is valid now. False when
// there is none.
func (k *KeySet) Preferred() (Key, bool) {
	if k == nil {
		return Key{}, false
	}
	if n := len(k.publicKeys); n > 0 {
		return k.publicKeys[n-1], true
	}
	if len(k.certificates) == 0 {
		return Key{}, false
	}
	now := k.now()
	for _, key := range k.certificates {
		if key.ValidAt(now) == nil {
			return key, true
		}
	}
	return Key{}, false
}

// All returns every key: public keys in their order, then certificates, newest
// first, expired ones included. The slice is the caller's.
func (k *KeySet) All() []Key {
	if k == nil {
		return nil
	}
	return slices.Concat(k.publicKeys, k.certificates)
}

// Len returns the number of keys, expired certificates included.
func (k *KeySet) Len() int {
	if k == nil {
		return 0
	}
	return len(k.bySerial)
}

// canonicalSerial appends the one spelling under which serial is indexed to
// dst: a public key id as it is, a hex number in upper case without leading
// zeros. False for what can be neither.
func canonicalSerial(dst []byte, serial string) ([]byte, bool) {
	if len(serial) == 0 || len(serial) > maxSerial {
		return dst, false
	}
	if strings.HasPrefix(serial, publicKeyIDPrefix) {
		return append(dst, serial...), true
	}
	digits := strings.TrimLeft(serial, "0")
	if digits == "" {
		return dst, false // no certificate has serial 0
	}
	for i := range len(digits) {
		switch c := digits[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'F':
			dst = append(dst, c)
		case c >= 'a' && c <= 'f':
			dst = append(dst, c-'a'+'A')
		default:
			return dst, false
		}
	}
	return dst, true
}

// indexSerial is canonicalSerial as a string, "" for what is no serial.
func indexSerial(serial string) string {
	spelled, ok := canonicalSerial(nil, serial)
	if !ok {
		return ""
	}
	return string(spelled)
}

// certificateSerial spells a certificate's serial as WeChat Pay does.
func certificateSerial(cert *x509.Certificate) string {
	return fmt.Sprintf("%X", cert.SerialNumber.Bytes())
}

// certificateKey makes a Key of a platform certificate. The serial is the
// certificate's own, never what a message around it claims.
func certificateKey(cert *x509.Certificate) (Key, error) {
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return Key{}, errors.New("the certificate's key is not an RSA key; WeChat Pay's platform certificates are RSA")
	}
	if err := checkRSA(public); err != nil {
		return Key{}, err
	}
	serial := certificateSerial(cert)
	if cert.SerialNumber.Sign() <= 0 || len(serial) > maxSerial {
		return Key{}, errors.New("the certificate's serial number is not one that WeChat Pay issues")
	}
	if cert.NotAfter.Before(cert.NotBefore) {
		return Key{}, errors.New("the certificate ends before it begins")
	}
	return Key{
		Serial: serial, Kind: KindCertificate,
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		public: public, der: cert.Raw,
	}, nil
}
