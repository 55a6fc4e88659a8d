package caller

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// Window is how far the timestamp of a request signed with a caller's key may
// be off, either way, inclusive, in whole seconds.
const Window = 300 * time.Second

var (
	// ErrUnknown: no credentials, or none that belong to a caller, or a
	// signature that does not verify. It does not say which.
	ErrUnknown = errors.New("caller: the caller is not known")
	// ErrMchid: the signed request names another merchant.
	ErrMchid = errors.New("caller: the signature names another mchid")
	// ErrTimestamp: the signed request is more than [Window] off.
	ErrTimestamp = errors.New("caller: the signature's timestamp is too far off")
)

// Pending is a caller whose header is in order. A caller with its own key has
// yet to prove itself by the signature over the body.
type Pending struct {
	caller *Caller
	auth   Authorization
}

// Begin looks at the headers alone, before a byte of the body is read: the
// token, or everything of a signed request but its signature. Errors:
// [ErrUnknown], [ErrMchid], [ErrTimestamp]; the answer to each is 401.
func (s *Set) Begin(header http.Header, now time.Time) (*Pending, error) {
	if s.upstream != nil {
		return &Pending{caller: s.upstream}, nil
	}
	values := header.Values("Authorization")
	if len(values) != 1 || len(values[0]) > maxAuthorization {
		return nil, ErrUnknown
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if strings.EqualFold(scheme, "Bearer") {
		if c := s.findToken(token); c != nil {
			return &Pending{caller: c}, nil
		}
		return nil, ErrUnknown
	}
	a, err := ParseAuthorization(values[0])
	if err != nil {
		return nil, ErrUnknown
	}
	c := s.bySerial[normalSerial(a.SerialNo)]
	if c == nil {
		return nil, ErrUnknown
	}
	if a.Mchid != s.mchid {
		return nil, ErrMchid
	}
	// Both are positive: the difference cannot overflow.
	if off := now.Unix() - a.Timestamp; off > int64(Window/time.Second) || off < -int64(Window/time.Second) {
		return nil, ErrTimestamp
	}
	return &Pending{caller: c, auth: a}, nil
}

// findToken compares hashes, all of them, so that the time it takes says
// nothing about any token.
func (s *Set) findToken(token string) *Caller {
	sum := sha256.Sum256([]byte(token))
	var found *Caller
	for _, c := range s.byToken {
		if subtle.ConstantTimeCompare(sum[:], c.token[:]) == 1 {
			found = c
		}
	}
	return found
}

// Finish verifies the signature of a caller with its own key over
// METHOD\nURL\ntimestamp\nnonce\nbody\n, where target is the path and query
// exactly as received, and returns the caller. Errors: [ErrUnknown].
func (p *Pending) Finish(method, target string, body []byte) (*Caller, error) {
	if p.caller.key == nil {
		return p.caller, nil
	}
	signature, err := merchant.DecodeSignature(p.auth.Signature)
	if err != nil || len(signature) != p.caller.key.Size() {
		return nil, ErrUnknown
	}
	digest := sha256.New()
	for _, part := range []string{method, target, strconv.FormatInt(p.auth.Timestamp, 10), p.auth.Nonce} {
		digest.Write([]byte(part))
		digest.Write([]byte{'\n'})
	}
	digest.Write(body)
	digest.Write([]byte{'\n'})
	if rsa.VerifyPKCS1v15(p.caller.key, crypto.SHA256, digest.Sum(nil), signature) != nil {
		return nil, ErrUnknown
	}
	return p.caller, nil
}
