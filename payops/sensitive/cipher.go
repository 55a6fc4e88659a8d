package sensitive

import (
	"cmp"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/tidwall/gjson"
	"github.com/wechatpay-apiv3/wechatpay-go/utils"
)

var (
	// ErrAbsent: a path that must be there names nothing in the body. What was
	// meant to be encrypted may be spelled in another way, and would leave in
	// clear.
	ErrAbsent = errors.New("sensitive: a listed path names nothing")
	// ErrNotText: a listed value is no string.
	ErrNotText = errors.New("sensitive: a listed value is no string")
	// ErrEncrypted: a value is encrypted already: base64 of as many bytes as the
	// key has. No plaintext that can be encrypted is that long.
	ErrEncrypted = errors.New("sensitive: a value is encrypted already")
	// ErrTooLong: a value has more bytes than the key can encrypt, 214 with 2048
	// bits.
	ErrTooLong = errors.New("sensitive: a value is too long for the key")
	// ErrTooMany: more than [MaxValues] values.
	ErrTooMany = errors.New("sensitive: too many values")
	// ErrUndecryptable: a value is not one that the key can open.
	ErrUndecryptable = errors.New("sensitive: a value cannot be decrypted")
)

// Encrypt encrypts the strings under the paths for a holder of key, and returns
// the body with nothing else changed; body itself stays as it is. Empty strings
// stay empty, as in the SDK. strict says that somebody listed the paths: each
// must be there and hold strings. Otherwise what is absent or no string is
// passed over.
//
// The body must be valid JSON without duplicate names: of two members of one
// name both would be encrypted. Errors: [ErrAbsent], [ErrNotText],
// [ErrEncrypted], [ErrTooLong], [ErrTooMany].
func Encrypt(body []byte, paths []Path, strict bool, key *rsa.PublicKey) ([]byte, error) {
	var changes []change
	limit := key.Size() - 2*20 - 2 // RFC 8017 7.1.1, SHA-1
	for _, p := range paths {
		found, err := false, error(nil)
		p.find(body, func(v gjson.Result) bool {
			found = true
			switch {
			case v.Type != gjson.String:
				if strict {
					err = ErrNotText
				}
				return err == nil
			case v.Str == "":
				return true
			case looksEncrypted(v.Str, key.Size()):
				err = ErrEncrypted
			case len(v.Str) > limit:
				err = ErrTooLong
			case len(changes) == MaxValues:
				err = ErrTooMany
			}
			if err != nil {
				return false
			}
			text, failed := utils.EncryptOAEPWithPublicKey(v.Str, key)
			if failed != nil {
				err = ErrTooLong
				return false
			}
			changes = append(changes, change{v.Index, len(v.Raw), []byte(`"` + text + `"`)})
			return true
		})
		switch {
		case err != nil:
			return nil, err
		case strict && !found:
			return nil, ErrAbsent
		}
	}
	return splice(body, inOrder(changes)), nil
}

// Encrypted reports whether a value under one of the paths looks encrypted with
// a key of so many bytes.
func Encrypted(body []byte, paths []Path, keySize int) (found bool) {
	for _, p := range paths {
		p.find(body, func(v gjson.Result) bool {
			found = v.Type == gjson.String && looksEncrypted(v.Str, keySize)
			return !found
		})
		if found {
			return true
		}
	}
	return false
}

// Decrypt opens the values under the paths and returns the body with nothing
// else changed, and the paths under which something was opened. It is all or
// nothing: on an error no value is opened. What is absent, or no string, or
// empty, is passed over; strict says that somebody listed the paths: what is
// there must then open. Otherwise what does not look encrypted is passed over,
// too. Errors: [ErrUndecryptable], [ErrTooMany].
func Decrypt(body []byte, paths []Path, strict bool, key *rsa.PrivateKey) (opened []byte, done []string, err error) {
	var changes []change
	for _, p := range paths {
		some := false
		p.find(body, func(v gjson.Result) bool {
			encrypted := v.Type == gjson.String && looksEncrypted(v.Str, key.Size())
			switch {
			case v.Type != gjson.String || v.Str == "":
				return true
			case !encrypted && strict:
				err = ErrUndecryptable
			case !encrypted:
				return true
			case len(changes) == MaxValues:
				err = ErrTooMany
			}
			if err != nil {
				return false
			}
			plain, failed := utils.DecryptOAEP(v.Str, key)
			if failed != nil || !utf8.ValidString(plain) {
				err = ErrUndecryptable
				return false
			}
			text, failed := quote(plain)
			if failed != nil {
				err = ErrUndecryptable
				return false
			}
			some = true
			changes = append(changes, change{v.Index, len(v.Raw), text})
			return true
		})
		if err != nil {
			return nil, nil, err
		}
		if some {
			done = append(done, p.text)
		}
	}
	return splice(body, inOrder(changes)), done, nil
}

// looksEncrypted reports whether text is base64 of a block of the key's size.
func looksEncrypted(text string, keySize int) bool {
	if len(text) != base64.StdEncoding.EncodedLen(keySize) {
		return false
	}
	block, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(block) == keySize
}

// inOrder sorts changes by their places; two paths never name the same place.
func inOrder(changes []change) []change {
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	return changes
}
