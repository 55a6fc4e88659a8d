package main

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
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// platform plays WeChat's side: it signs and encrypts callbacks.
type platform struct {
	key      *rsa.PrivateKey
	apiv3Key string
	aead     cipher.AEAD
	dir      string
	serial   string

	mu   sync.Mutex
	next int
}

const platformKeyID = "PUB_KEY_ID_0119000000010000000000000000000001"

func newPlatform(dir string) (*platform, error) {
	p := &platform{dir: dir, serial: platformKeyID, apiv3Key: "compare0123456789abcdefghijklmno"}
	var err error
	if p.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher([]byte(p.apiv3Key))
	if err != nil {
		return nil, err
	}
	if p.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	pub, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		return nil, err
	}
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	priv, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, "platform.pem"), "PUBLIC KEY", pub); err != nil {
		return nil, err
	}
	return p, writePEM(filepath.Join(dir, "merchant.pem"), "PRIVATE KEY", priv)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// merchantBlock is the inside of the merchant block that trusts this platform.
func (p *platform) merchantBlock() string {
	return fmt.Sprintf(`			mchid 1900000001
			app wx8888888888888888 official
			serial_no 3775B6A45ACD588826D15E583A95F5DD00000001
			private_key %s
			apiv3_key %s
			public_key %s %s`,
		filepath.Join(p.dir, "merchant.pem"), p.apiv3Key, p.serial, filepath.Join(p.dir, "platform.pem"))
}

// callbacks signs n different payment callbacks, each as the bytes of a whole
// HTTP/1.1 request. Both processors sign: it takes most of a run's time.
func (p *platform) callbacks(n int) [][]byte {
	p.mu.Lock()
	first := p.next
	p.next += n
	p.mu.Unlock()
	reqs := make([][]byte, n)
	var wg sync.WaitGroup
	const parts = 2
	for part := range parts {
		wg.Go(func() {
			for i := part; i < n; i += parts {
				reqs[i] = p.callback(first + i)
			}
		})
	}
	wg.Wait()
	return reqs
}

func (p *platform) callback(i int) []byte {
	plain := fmt.Appendf(nil, `{"mchid":"1900000001","appid":"wx8888888888888888","out_trade_no":"CMP%09d","transaction_id":"4200000000%018d","trade_type":"NATIVE","trade_state":"SUCCESS","trade_state_desc":"支付成功","bank_type":"OTHERS","attach":"","success_time":"2026-01-01T12:00:00+08:00","payer":{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},"amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}}`, i, i)
	nonce := fmt.Sprintf("%012d", i)
	body, err := json.Marshal(map[string]any{
		"id":          fmt.Sprintf("00000000-0000-5000-8000-%012d", i),
		"create_time": "2026-01-01T12:00:00+08:00", "resource_type": "encrypt-resource",
		"event_type": "TRANSACTION.SUCCESS", "summary": "支付成功",
		"resource": map[string]string{
			"original_type": "transaction", "algorithm": "AEAD_AES_256_GCM",
			"ciphertext":      base64.StdEncoding.EncodeToString(p.aead.Seal(nil, []byte(nonce), plain, []byte("transaction"))),
			"associated_data": "transaction", "nonce": nonce,
		},
	})
	if err != nil {
		panic(err) // a map of strings always marshals
	}
	ts := strconv.FormatInt(time.Now().Unix(), 10)
	hnonce := make([]byte, 16)
	_, _ = rand.Read(hnonce)
	hn := hex.EncodeToString(hnonce)
	sum := sha256.Sum256([]byte(ts + "\n" + hn + "\n" + string(body) + "\n"))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // a fresh 2048-bit key always signs
	}
	var req bytes.Buffer
	fmt.Fprintf(&req, "POST /wechatpay/notify/shop HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Mozilla/4.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\nWechatpay-Serial: %s\r\nWechatpay-Timestamp: %s\r\nWechatpay-Nonce: %s\r\nWechatpay-Signature: %s\r\nWechatpay-Signature-Type: WECHATPAY2-SHA256-RSA2048\r\n\r\n",
		len(body), p.serial, ts, hn, base64.StdEncoding.EncodeToString(sig))
	req.Write(body)
	return req.Bytes()
}
