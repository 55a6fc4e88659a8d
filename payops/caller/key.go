package caller

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// minKeyBits is the least an RSA key may have.
const minKeyBits = 2048

// ParseKey reads the public key of a caller from PEM text: a PUBLIC KEY, an RSA
// PUBLIC KEY or a CERTIFICATE. Its errors say what is wrong and hold none of
// the text.
func ParseKey(text string) (*rsa.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("caller: the key is not PEM text (-----BEGIN PUBLIC KEY-----)")
	}
	if second, _ := pem.Decode(rest); second != nil {
		return nil, errors.New("caller: the file holds more than one PEM block; keep only the caller's public key")
	}
	var parsed any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		parsed, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		parsed, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			parsed = cert.PublicKey
		}
	case "PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("caller: this is a private key, which stays with the caller; the gateway needs the public key")
	default:
		return nil, errors.New("caller: the PEM block is no public key")
	}
	if err != nil {
		return nil, errors.New("caller: the public key does not parse; the file is damaged or cut short")
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("caller: the key is not an RSA key; WECHATPAY2-SHA256-RSA2048 needs one")
	}
	if key.N.BitLen() < minKeyBits {
		return nil, errors.New("caller: the RSA key is shorter than 2048 bits")
	}
	return key, nil
}
