package merchant

import (
	"context"
	"crypto/rsa"
	"fmt"
	"io"
	"log/slog"

	"github.com/wechatpay-apiv3/wechatpay-go/core/auth"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/credentials"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/signers"
)

// Credential is what a request to WeChat Pay is signed with: the SDK's signer
// and credential around the merchant's number, certificate serial and private
// key. It implements [auth.Credential] and [auth.Signer], cannot print its key,
// and is safe for concurrent use. The zero value signs nothing.
type Credential struct {
	signer *signers.SHA256WithRSASigner
}

var (
	_ auth.Credential = Credential{}
	_ auth.Signer     = Credential{}
)

// newCredential makes a credential; a nil key makes the zero one.
func newCredential(mchid, serialNo string, key PrivateKey) Credential {
	if key.Empty() {
		return Credential{}
	}
	return Credential{signer: &signers.SHA256WithRSASigner{
		MchID: mchid, CertificateSerialNo: serialNo, PrivateKey: key.Reveal(),
	}}
}

// Mchid returns the merchant number.
func (c Credential) Mchid() string {
	if c.signer == nil {
		return ""
	}
	return c.signer.MchID
}

// SerialNo returns the serial of the merchant's API certificate.
func (c Credential) SerialNo() string {
	if c.signer == nil {
		return ""
	}
	return c.signer.CertificateSerialNo
}

// PrivateKey returns the merchant's key, for invoke parameters (调起支付) and
// for decrypting sensitive fields of answers.
func (c Credential) PrivateKey() PrivateKey {
	if c.signer == nil {
		return PrivateKey{}
	}
	return NewPrivateKey(c.signer.PrivateKey)
}

// Algorithm returns "SHA256-RSA2048".
func (c Credential) Algorithm() string { return (*signers.SHA256WithRSASigner)(nil).Algorithm() }

// Sign signs message, base64 in the result. [ErrNoKeys] for the zero value.
func (c Credential) Sign(ctx context.Context, message string) (*auth.SignatureResult, error) {
	if c.signer == nil {
		return nil, ErrNoKeys
	}
	return c.signer.Sign(ctx, message)
}

// GenerateAuthorizationHeader returns the Authorization of a request: method,
// the path with its query exactly as sent, and the body (the meta JSON of an
// upload). The SDK stamps it with time.Now and a nonce of its own.
// https://pay.weixin.qq.com/doc/v3/merchant/4012365342
func (c Credential) GenerateAuthorizationHeader(ctx context.Context, method, canonicalURL, signBody string) (string, error) {
	if c.signer == nil {
		return "", ErrNoKeys
	}
	return (&credentials.WechatPayCredentials{Signer: c.signer}).GenerateAuthorizationHeader(ctx, method, canonicalURL, signBody)
}

// publicKey returns the public half, nil for the zero value.
func (c Credential) publicKey() *rsa.PublicKey {
	if c.signer == nil {
		return nil
	}
	return &c.signer.PrivateKey.PublicKey
}

// String names mchid and serial.
func (c Credential) String() string {
	return fmt.Sprintf("credential of %s, serial %s, key %s", c.Mchid(), c.SerialNo(), redacted)
}

// GoString is String.
func (c Credential) GoString() string { return c.String() }

// Format writes String whatever the verb.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is String as a log value.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON returns the JSON string "[redacted]".
func (Credential) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "[redacted]".
func (Credential) MarshalText() ([]byte, error) { return []byte(redacted), nil }
