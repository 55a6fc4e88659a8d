package merchant

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Bounds on every RSA key, ours and WeChat Pay's. The upper one keeps a
// misconfigured key from making each signature take seconds.
const (
	minRSABits     = 2048
	maxRSABits     = 16384
	minRSAExponent = 65537
)

// ParsePrivateKey reads a merchant's API private key (apiclient_key.pem): PEM,
// PKCS#8 or PKCS#1, RSA of 2048 bits or more with an exponent of 65537 or
// more. Its errors say what was found and what is wanted; none holds any of
// the text, nor wraps an error that might.
func ParsePrivateKey(text string) (PrivateKey, error) {
	block, err := onePEMBlock(text)
	if err != nil {
		return PrivateKey{}, err
	}
	var parsed any
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return PrivateKey{}, errors.New("the key is encrypted with a passphrase; use the file as WeChat Pay issued it, without one")
		}
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return PrivateKey{}, errors.New("the key is encrypted with a passphrase; use the file as WeChat Pay issued it, without one")
	case "CERTIFICATE":
		return PrivateKey{}, errors.New("this is a certificate; the private key is in apiclient_key.pem")
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return PrivateKey{}, errors.New("this is a public key; the private key is in apiclient_key.pem")
	case "EC PRIVATE KEY":
		return PrivateKey{}, errors.New("this is an elliptic curve key; WeChat Pay uses RSA")
	default:
		return PrivateKey{}, errors.New("the PEM block is no private key; the file wanted is apiclient_key.pem")
	}
	if err != nil {
		// The cause is left out: it describes the inside of a private key.
		return PrivateKey{}, errors.New("the PEM block does not parse as an RSA private key; the file is damaged or cut short")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return PrivateKey{}, errors.New("the key is not an RSA key; WeChat Pay uses RSA")
	}
	if err := checkRSA(&key.PublicKey); err != nil {
		return PrivateKey{}, err
	}
	if err := key.Validate(); err != nil {
		return PrivateKey{}, errors.New("the key's numbers do not belong together; the file is damaged")
	}
	return NewPrivateKey(key), nil
}

// parsePublicKey reads a WeChat Pay public key (pub_key.pem): PEM, PKIX or
// PKCS#1. The SDK's LoadPublicKey puts the text it was given into one of its
// errors; a private key pasted by mistake would end in a log that way.
func parsePublicKey(text string) (*rsa.PublicKey, error) {
	block, err := onePEMBlock(text)
	if err != nil {
		return nil, err
	}
	var parsed any
	switch {
	case block.Type == "PUBLIC KEY":
		parsed, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		parsed, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		return nil, errors.New("this is a certificate; name it in platform_certificates, or use pub_key.pem here")
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("this is a private key; the file wanted is pub_key.pem (微信支付公钥)")
	default:
		return nil, errors.New("the PEM block is no public key; the file wanted is pub_key.pem (微信支付公钥)")
	}
	if err != nil {
		return nil, errors.New("the PEM block does not parse as an RSA public key; the file is damaged or cut short")
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the key is not an RSA key; WeChat Pay uses RSA")
	}
	if err := checkRSA(key); err != nil {
		return nil, err
	}
	return key, nil
}

// parseCertificates reads one or more PEM certificates. Text around them, such
// as openssl x509 -text prints, is skipped; PEM of another kind is refused.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	rest := []byte(text)
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil, errors.New("it holds a private key; platform certificates come without one")
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("it holds a PEM block that is no certificate")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("it holds a certificate that does not parse; the file is damaged or cut short")
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("it holds no PEM certificate (-----BEGIN CERTIFICATE-----)")
	}
	return certs, nil
}

// onePEMBlock returns the only PEM block of text.
func onePEMBlock(text string) (*pem.Block, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("it is empty")
	}
	if strings.Contains(text, `\n`) && !strings.Contains(strings.TrimSpace(text), "\n") {
		return nil, errors.New(`its line breaks are spelled \n; PEM needs real line breaks`)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("it is not PEM text (-----BEGIN …-----)")
	}
	if second, _ := pem.Decode(rest); second != nil {
		return nil, errors.New("it holds more than one PEM block; keep only the one wanted")
	}
	return block, nil
}

// checkRSA refuses keys that are weak or not workable.
func checkRSA(key *rsa.PublicKey) error {
	switch bits := key.N.BitLen(); {
	case bits < minRSABits:
		return fmt.Errorf("the RSA key has %d bits; at least %d are wanted", bits, minRSABits)
	case bits > maxRSABits:
		return fmt.Errorf("the RSA key has %d bits; at most %d are workable", bits, maxRSABits)
	case key.E < minRSAExponent || key.E%2 == 0:
		return fmt.Errorf("the RSA key's exponent is %d; an odd one of %d or more is wanted", key.E, minRSAExponent)
	}
	return nil
}
