// Package testplatform plays WeChat Pay's side of a callback for tests and
// measurements: it holds a key that a production merchant block can be told to
// trust, and signs and encrypts notifications with it. Unlike the sandbox it
// keeps no state and checks nothing.
package testplatform

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// What the merchant block of this platform is called and holds.
const (
	Mchid    = "1900000001"
	Appid    = "wx8888888888888888"
	SerialNo = "3775B6A45ACD588826D15E583A95F5DD00000001"
	KeyID    = "PUB_KEY_ID_0119000000010000000000000000000001"
	APIv3Key = "testplatform-0123456789-abcdefgh" // 32 bytes
)

// Platform signs callbacks. It is safe for concurrent use.
type Platform struct {
	// Now is the clock that signatures are dated with. Default: time.Now.
	Now func() time.Time

	key  *rsa.PrivateKey
	aead cipher.AEAD
	dir  string
}

// New makes a platform and writes what its merchant needs into dir: the
// platform's public key and the merchant's private key, as PEM files.
func New(dir string) (*Platform, error) {
	p := &Platform{Now: time.Now, dir: dir}
	var err error
	if p.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher([]byte(APIv3Key))
	if err != nil {
		return nil, err
	}
	if p.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		return nil, err
	}
	merchantKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(merchantKey)
	if err != nil {
		return nil, err
	}
	if err := writePEM(p.publicKeyFile(), "PUBLIC KEY", public); err != nil {
		return nil, err
	}
	return p, writePEM(p.privateKeyFile(), "PRIVATE KEY", private)
}

func (p *Platform) publicKeyFile() string  { return filepath.Join(p.dir, "platform.pem") }
func (p *Platform) privateKeyFile() string { return filepath.Join(p.dir, "merchant.pem") }

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// MerchantOptions are the lines of the merchant block that trusts the platform.
func (p *Platform) MerchantOptions() string {
	return fmt.Sprintf("mchid %s\napp %s official\nserial_no %s\nprivate_key %s\napiv3_key %s\npublic_key %s %s\n",
		Mchid, Appid, SerialNo, p.privateKeyFile(), APIv3Key, KeyID, p.publicKeyFile())
}

// Keys are the merchant's private key and the platform's public key, as PEM.
func (p *Platform) Keys() (private, public string, err error) {
	a, err := os.ReadFile(p.privateKeyFile())
	if err != nil {
		return "", "", err
	}
	b, err := os.ReadFile(p.publicKeyFile())
	return string(a), string(b), err
}

// Notification is what a callback says.
type Notification struct {
	ID        string
	EventType string
	Plaintext []byte
}

// Payment is the i-th payment of total fen: the same i, the same order.
func Payment(i int, total int64) Notification {
	return Notification{
		ID:        fmt.Sprintf("00000000-0000-5000-8000-%012d", i),
		EventType: "TRANSACTION.SUCCESS",
		Plaintext: fmt.Appendf(nil, `{"mchid":"%s","appid":"%s","out_trade_no":"%s","transaction_id":"4200000000%018d","trade_type":"NATIVE","trade_state":"SUCCESS","trade_state_desc":"支付成功","bank_type":"OTHERS","attach":"","success_time":"2026-01-01T12:00:00+08:00","payer":{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},"amount":{"total":%d,"payer_total":%d,"currency":"CNY","payer_currency":"CNY"}}`,
			Mchid, Appid, OutTradeNo(i), i, total, total),
	}
}

// OutTradeNo is the order number of the i-th payment.
func OutTradeNo(i int) string { return fmt.Sprintf("TEST%09d", i) }

// Callback encrypts and signs a notification as WeChat sends it: fresh
// timestamp, nonces and ciphertext at each call.
func (p *Platform) Callback(n Notification) (http.Header, []byte) {
	nonce := randomHex(6)
	body, err := json.Marshal(map[string]any{
		"id":            n.ID,
		"create_time":   "2026-01-01T12:00:00+08:00",
		"resource_type": "encrypt-resource",
		"event_type":    n.EventType,
		"summary":       "支付成功",
		"resource": map[string]string{
			"original_type":   "transaction",
			"algorithm":       "AEAD_AES_256_GCM",
			"ciphertext":      base64.StdEncoding.EncodeToString(p.aead.Seal(nil, []byte(nonce), n.Plaintext, []byte("transaction"))),
			"associated_data": "transaction",
			"nonce":           nonce,
		},
	})
	if err != nil {
		panic(err) // strings always marshal
	}
	return p.Sign(body), body
}

// Sign gives the signature headers for a body.
func (p *Platform) Sign(body []byte) http.Header {
	ts := strconv.FormatInt(p.Now().Unix(), 10)
	nonce := randomHex(16)
	sum := sha256.Sum256([]byte(ts + "\n" + nonce + "\n" + string(body) + "\n"))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // a fresh 2048-bit key always signs
	}
	return http.Header{
		"Content-Type":             {"application/json"},
		"User-Agent":               {"Mozilla/4.0"},
		"Wechatpay-Serial":         {KeyID},
		"Wechatpay-Timestamp":      {ts},
		"Wechatpay-Nonce":          {nonce},
		"Wechatpay-Signature":      {base64.StdEncoding.EncodeToString(sig)},
		"Wechatpay-Signature-Type": {"WECHATPAY2-SHA256-RSA2048"},
	}
}

// Wire writes a callback as the bytes of one HTTP/1.1 request.
func Wire(path string, h http.Header, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n", path, len(body))
	_ = h.Write(&b) // a bytes.Buffer takes everything
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// randomHex returns 2n hex digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
