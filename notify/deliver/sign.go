package deliver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// Sizes of a Standard Webhooks secret, in bytes after base64 decoding.
const (
	MinSecretSize = 24
	MaxSecretSize = 64
)

// secretPrefix marks a symmetric secret; it may be left out.
const secretPrefix = "whsec_"

// ErrSecret is returned for a Standard Webhooks secret that cannot be used.
var ErrSecret = errors.New("not a Standard Webhooks secret")

// ParseSecret checks a Standard Webhooks secret: standard base64 of 24 to 64
// bytes, "whsec_" in front or not. The errors wrap [ErrSecret], say how to make
// a secret, and never hold it.
//
// See https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
func ParseSecret(text string) (merchant.Secret, error) {
	if _, err := decodeSecret(text); err != nil {
		return merchant.Secret{}, err
	}
	return merchant.NewSecret(text), nil
}

// decodeSecret returns the key bytes.
func decodeSecret(text string) ([]byte, error) {
	const hint = `, make one with: echo "whsec_$(openssl rand -base64 32)"`
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(text, secretPrefix))
	if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		// The decoder's error says where the text is wrong: not repeated.
		return nil, fmt.Errorf("%w: not base64%s", ErrSecret, hint)
	}
	if len(key) < MinSecretSize || len(key) > MaxSecretSize {
		return nil, fmt.Errorf("%w: %d bytes instead of %d to %d%s", ErrSecret, len(key), MinSecretSize, MaxSecretSize, hint)
	}
	return key, nil
}

// signer makes Webhook-Signature values with a route's secrets. It is safe for
// concurrent use; the keyed hashes are kept for the next delivery.
type signer struct{ pools []*sync.Pool }

// newSigner prepares the secrets, newest first.
func newSigner(secrets []merchant.Secret) (*signer, error) {
	s := &signer{pools: make([]*sync.Pool, 0, len(secrets))}
	for i, secret := range secrets {
		key, err := decodeSecret(secret.Reveal())
		if err != nil {
			return nil, fmt.Errorf("sign secret %d: %w", i+1, err)
		}
		s.pools = append(s.pools, &sync.Pool{New: func() any { return &keyed{mac: hmac.New(sha256.New, key)} }})
	}
	return s, nil
}

// sign returns one "v1,<base64>" per secret, separated by spaces, over
// "id.timestamp.body". timestamp is in unix seconds.
func (s *signer) sign(id string, timestamp int64, body []byte) string {
	const entry = len("v1,") + 44 // base64 of 32 bytes
	out := make([]byte, 0, len(s.pools)*(entry+1))
	for i, pool := range s.pools {
		k := pool.Get().(*keyed)
		k.scratch = append(append(k.scratch[:0], id...), '.')
		k.scratch = append(strconv.AppendInt(k.scratch, timestamp, 10), '.')
		k.mac.Reset()
		k.mac.Write(k.scratch)
		k.mac.Write(body)
		k.scratch = k.mac.Sum(k.scratch[:0])
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(out, "v1,"...)
		out = base64.StdEncoding.AppendEncode(out, k.scratch)
		pool.Put(k)
	}
	return string(out)
}

// keyed is a hash that holds a secret, and room for its short inputs.
type keyed struct {
	mac     hash.Hash
	scratch []byte
}
