package merchant

import (
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"time"
)

func (c *checker) serialNo(serial string) string {
	switch {
	case serial == "":
		c.refuse("serial_no: missing or empty; add the serial of the merchant API certificate (openssl x509 -in apiclient_cert.pem -noout -serial)")
	case unresolved(serial):
		c.refuse("serial_no: the placeholder was not resolved; check its spelling and that the variable or file exists")
	case strings.HasPrefix(serial, publicKeyIDPrefix):
		c.refuse("serial_no: this is a WeChat Pay public key id; serial_no is the serial of the merchant's own API certificate")
	case !serialForm.MatchString(serial):
		c.refuse("serial_no: must be hex digits without colons or spaces, as openssl x509 -serial prints them")
	}
	return strings.ToUpper(serial)
}

func (c *checker) privateKey(text string) PrivateKey {
	if strings.TrimSpace(text) == "" {
		c.refuse("private_key: missing or empty; name the path of apiclient_key.pem, or a placeholder that holds its content")
		return PrivateKey{}
	}
	if unresolved(text) {
		c.refuse("private_key: the placeholder was not resolved; check its spelling and that the variable or file exists")
		return PrivateKey{}
	}
	key, err := ParsePrivateKey(text)
	if err != nil {
		c.refuse("private_key: %w", err)
	}
	return key
}

func (c *checker) apiv3Keys(keys []string) {
	if len(keys) == 0 {
		c.refuse("apiv3_key: missing; add the APIv3 key (APIv3密钥) set in the merchant console; without one WeChat Pay sends no callback")
	}
	if len(keys) > maxAPIv3Keys {
		c.refuse("apiv3_key: %d keys; at most %d, the new and the old one of a rotation", len(keys), maxAPIv3Keys)
	}
	for i, text := range keys {
		switch {
		case text == "":
			c.refuse("apiv3_key: number %d is empty; check that the variable or file it comes from has a value", i+1)
			continue
		case unresolved(text):
			c.refuse("apiv3_key: the placeholder of number %d was not resolved; check its spelling and that the variable or file exists", i+1)
			continue
		case len(text) != apiv3KeyLength && len(strings.TrimSpace(text)) == apiv3KeyLength:
			c.refuse("apiv3_key: number %d has white space around its %d bytes; remove it", i+1, apiv3KeyLength)
			continue
		case len(text) != apiv3KeyLength:
			c.refuse("apiv3_key: number %d has %d bytes; an APIv3 key has exactly %d", i+1, len(text), apiv3KeyLength)
			continue
		case strings.Count(text, text[:1]) == len(text):
			c.refuse("apiv3_key: number %d is one character repeated; set a random one in the merchant console", i+1)
			continue
		case i > 0 && text == keys[0]:
			c.refuse("apiv3_key: both are the same; remove one")
			continue
		}
		aead, err := newAEAD(NewSecret(text))
		if err != nil {
			c.refuse("apiv3_key: %w", err)
			continue
		}
		c.out.apiv3 = append(c.out.apiv3, aead)
	}
}

func (c *checker) publicKeys(keys []PublicKeyConfig) {
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		switch {
		case unresolved(key.ID):
			c.refuse("public_key: the placeholder of the id was not resolved; check its spelling and that the variable or file exists")
			continue
		case !publicKeyIDForm.MatchString(key.ID):
			c.refuse("public_key: the id must begin with PUB_KEY_ID_, as the merchant console shows it beside the key")
			continue
		case strings.HasPrefix(key.ID, SandboxPublicKeyIDPrefix):
			c.refuse("public_key: %s is a sandbox's key; a production merchant never trusts one; use the console's key, or the sandbox option", key.ID)
			continue
		case seen[key.ID]:
			c.refuse("public_key: %s stands there twice; remove one", key.ID)
			continue
		}
		seen[key.ID] = true
		if strings.TrimSpace(key.PEM) == "" {
			c.refuse("public_key: %s has no key; name the path of its pub_key.pem", key.ID)
			continue
		}
		if unresolved(key.PEM) {
			c.refuse("public_key: the placeholder of %s was not resolved; check its spelling and that the variable or file exists", key.ID)
			continue
		}
		public, err := parsePublicKey(key.PEM)
		if err != nil {
			c.refuse("public_key: %s: %w", key.ID, err)
			continue
		}
		if c.isOwn(public) {
			c.refuse("public_key: %s is the merchant's own public key; download WeChat Pay's (微信支付公钥) from the merchant console", key.ID)
			continue
		}
		c.out.publicKeys = append(c.out.publicKeys, Key{Serial: key.ID, Kind: KindPublicKey, public: public})
	}
}

// platformCertificates settles the mode and reads the files of mode files.
func (c *checker) platformCertificates(cfg Config) {
	mode := cfg.Certificates
	if mode == CertificatesDefault {
		switch {
		case len(cfg.CertificatePEMs) > 0:
			mode = CertificatesFiles
		case len(cfg.PublicKeys) > 0:
			mode = CertificatesOff
		default:
			mode = CertificatesAuto
		}
	}
	c.out.certificates = mode
	if mode != CertificatesFiles && len(cfg.CertificatePEMs) > 0 {
		c.refuse("platform_certificates: files do not go with %s; keep one of the two", quote(string(mode)))
		return
	}
	switch mode {
	case CertificatesAuto:
	case CertificatesOff:
		if len(cfg.PublicKeys) == 0 {
			c.refuse("platform_certificates: off without a public_key leaves nothing to verify callbacks with; add public_key PUB_KEY_ID_… <pub_key.pem>, or platform_certificates auto")
		}
	case CertificatesFiles:
		c.certificateFiles(cfg.CertificatePEMs)
	default:
		c.refuse("platform_certificates: must be auto, off or files")
	}
}

func (c *checker) certificateFiles(texts []string) {
	if len(texts) == 0 {
		c.refuse("platform_certificates: names no file; name one, or say auto or off")
		return
	}
	seen := make(map[string]bool)
	expired, refused := 0, len(c.errs)
	for i, text := range texts {
		certs, err := parseCertificates(text)
		if err != nil {
			c.refuse("platform_certificates: file %d: %w", i+1, err)
			continue
		}
		for _, cert := range certs {
			serial := certificateSerial(cert)
			if isSandboxCertificate(cert) {
				c.refuse("platform_certificates: %s is a sandbox's certificate; a production merchant never trusts one; use WeChat Pay's, or the sandbox option", serial)
				continue
			}
			key, err := certificateKey(cert)
			if err != nil {
				c.refuse("platform_certificates: file %d: %w", i+1, err)
				continue
			}
			if c.isOwn(key.public) {
				c.refuse("platform_certificates: %s is the merchant's own API certificate; WeChat Pay's are wanted here (微信支付平台证书)", serial)
				continue
			}
			if seen[indexSerial(serial)] {
				c.refuse("platform_certificates: %s stands there twice; remove one", serial)
				continue
			}
			seen[indexSerial(serial)] = true
			switch {
			case c.now.After(key.NotAfter):
				expired++
				c.warn("platform_certificates: %s expired on %s; remove it", serial, key.NotAfter.UTC().Format(time.DateOnly))
			case c.now.Before(key.NotBefore):
				c.warn("platform_certificates: %s is not valid before %s", serial, key.NotBefore.UTC().Format(time.RFC3339))
			}
			c.out.platformCertificates = append(c.out.platformCertificates, key)
		}
	}
	if len(c.errs) == refused && expired == len(c.out.platformCertificates) {
		c.refuse("platform_certificates: every certificate has expired; download the current ones, or say auto")
	}
}

// isOwn reports whether public is the merchant's own key, which whoever holds
// apiclient_key.pem could sign callbacks with.
func (c *checker) isOwn(public *rsa.PublicKey) bool {
	own := c.out.credential.publicKey()
	return own != nil && own.Equal(public)
}

// isSandboxCertificate reports whether a certificate carries a sandbox's mark.
func isSandboxCertificate(cert *x509.Certificate) bool {
	for _, names := range [][]string{cert.Subject.Organization, cert.Issuer.Organization} {
		for _, name := range names {
			if strings.EqualFold(strings.TrimSpace(name), SandboxOrganization) {
				return true
			}
		}
	}
	return false
}
