package sandbox

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // RSAES-OAEP as WeChat Pay uses it
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// SignatureType is the only Wechatpay-Signature-Type, and the only
// Authorization scheme, the sandbox speaks.
const SignatureType = "WECHATPAY2-SHA256-RSA2048"

// ProbePrefix begins the signatures with which WeChat Pay tests whether a
// merchant really verifies (签名探测流量). They never verify.
const ProbePrefix = "WECHATPAY/SIGNTEST/"

// signText signs with RSA PKCS#1 v1.5 and SHA-256, as WeChat Pay API v3 does.
func signText(key *rsa.PrivateKey, text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sandbox: sign: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sig), nil
}

// verifyText is signText's other half; base64 is taken in its one canonical spelling.
func verifyText(key *rsa.PublicKey, text, signature string) bool {
	if strings.ContainsAny(signature, "\r\n") {
		return false
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(signature)
	if err != nil {
		return false
	}
	sum := sha256.Sum256([]byte(text))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) == nil
}

// seal encrypts with AEAD_AES_256_GCM (RFC 5116); the tag is the last 16 bytes.
func seal(key string, nonce, associatedData string, plaintext []byte) (string, error) {
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return "", fmt.Errorf("sandbox: encrypt: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", fmt.Errorf("sandbox: encrypt: %w", err)
	}
	if len(nonce) != aead.NonceSize() {
		return "", fmt.Errorf("sandbox: encrypt: nonce of %d bytes, want %d", len(nonce), aead.NonceSize())
	}
	sealed := aead.Seal(nil, []byte(nonce), plaintext, []byte(associatedData))
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// openField decrypts a sensitive field (RSAES-OAEP with SHA-1 and MGF1) with
// the private half of the platform key that the caller's Wechatpay-Serial names.
func (p *Platform) openField(serial, text string) (string, *apiError) {
	k := p.validKey(serial)
	if k == nil {
		return "", errSerial()
	}
	sealed, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(sealed) != k.key.Size() {
		return "", paramError("", "", "not base64 of a ciphertext", "请确认待处理的消息是否为加密后的密文")
	}
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, k.key, sealed, nil)
	if err != nil || !utf8.Valid(plain) {
		return "", paramError("", "", "decryption failed", "平台私钥解密失败")
	}
	return string(plain), nil
}

// sealField encrypts an answer's sensitive field for the merchant m.
func sealField(m *merchant, plain string) (string, error) {
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, m.publicKey, []byte(plain), nil)
	if err != nil {
		return "", fmt.Errorf("sandbox: encrypt a field: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sealed), nil
}

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// randomText returns n letters and digits.
func (p *Platform) randomText(n int) string { return p.randomFrom(alphanumeric, n) }

func (p *Platform) randomDigits(n int) string { return p.randomFrom(alphanumeric[:10], n) }

// randomFrom draws without bias: bytes past the last whole multiple are drawn again.
func (p *Platform) randomFrom(alphabet string, n int) string {
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	for len(out) < n {
		for _, b := range p.randomBytes(n - len(out)) {
			if int(b) < limit {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// randomBytes panics if the source of randomness fails: with the default
// source that cannot happen, and a test's source is to be endless.
func (p *Platform) randomBytes(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(p.rand, b); err != nil {
		panic("sandbox: source of randomness failed: " + err.Error())
	}
	return b
}

// randomUUID has the shape of the ids seen on live callbacks: a UUID of version 5.
func (p *Platform) randomUUID() string {
	b := p.randomBytes(16)
	b[6] = b[6]&0x0f | 0x50
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
