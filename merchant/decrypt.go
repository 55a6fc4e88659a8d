package merchant

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

// ErrDecrypt is returned for a ciphertext that none of the APIv3 keys opens,
// and for a nonce or ciphertext of an impossible length.
var ErrDecrypt = errors.New("merchant: the ciphertext does not open with any of the APIv3 keys")

const (
	apiv3KeyLength = 32 // bytes; AEAD_AES_256_GCM
	nonceLength    = 12 // bytes; RFC 5116 5.1
	tagLength      = 16 // bytes, at the end of the ciphertext
)

// Decrypt opens AEAD_AES_256_GCM (RFC 5116 5.2) with each APIv3 key in the
// order of configuration. ciphertext is raw, with the tag as its last 16 bytes;
// associatedData may be empty. It returns [ErrDecrypt], or [ErrNoKeys] for a
// sandbox merchant before its fetch, and never panics: Go's GCM does on a nonce
// that is not 12 bytes, so that is looked at first.
// https://pay.weixin.qq.com/doc/v3/merchant/4012071382
func (m *Merchant) Decrypt(associatedData, nonce, ciphertext []byte) ([]byte, error) {
	s := m.state.Load()
	if len(s.apiv3) == 0 {
		return nil, fmt.Errorf("%w: merchant %s waits for its sandbox", ErrNoKeys, m.name)
	}
	return openWith(s.apiv3, associatedData, nonce, ciphertext)
}

func openWith(keys []cipher.AEAD, associatedData, nonce, ciphertext []byte) ([]byte, error) {
	if len(nonce) != nonceLength || len(ciphertext) < tagLength {
		return nil, ErrDecrypt
	}
	for _, key := range keys {
		if plaintext, err := key.Open(nil, nonce, ciphertext, associatedData); err == nil {
			return plaintext, nil
		}
	}
	return nil, ErrDecrypt
}

// newAEAD makes the cipher of one APIv3 key. The SDK would take 16 bytes, too.
func newAEAD(key Secret) (cipher.AEAD, error) {
	text := key.Reveal()
	if len(text) != apiv3KeyLength {
		return nil, fmt.Errorf("an APIv3 key has exactly %d bytes, this one has %d", apiv3KeyLength, len(text))
	}
	block, err := aes.NewCipher([]byte(text))
	if err != nil {
		return nil, errors.New("the APIv3 key does not make an AES-256 cipher")
	}
	return cipher.NewGCM(block)
}
