package merchant

import (
	"crypto/rsa"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every secret of this package prints.
const redacted = "[redacted]"

// Secret is text that cannot print itself: through fmt with any verb, through
// encoding/json, encoding.TextMarshaler and log/slog it is "[redacted]". The
// zero value is an empty secret.
//
// The text sits behind a function value, not in a string field: fmt does not
// call methods on unexported fields of an outer struct, it prints what they
// hold, and of a function it can only print an address.
type Secret struct{ reveal func() string }

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret {
	return Secret{reveal: func() string { return text }}
}

// Reveal returns the text. Callers pass it on to what needs it and nowhere else.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// Empty reports whether the secret holds no text.
func (s Secret) Empty() bool { return s.Reveal() == "" }

// Equal compares two secrets in a time that depends on their lengths only.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns the JSON string "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// PrivateKey is an RSA private key that cannot print itself, in the way of
// [Secret]. The zero value holds no key.
type PrivateKey struct{ reveal func() *rsa.PrivateKey }

// NewPrivateKey wraps key, unchecked; [ParsePrivateKey] checks size and exponent.
func NewPrivateKey(key *rsa.PrivateKey) PrivateKey {
	return PrivateKey{reveal: func() *rsa.PrivateKey { return key }}
}

// Reveal returns the key, nil when there is none.
func (k PrivateKey) Reveal() *rsa.PrivateKey {
	if k.reveal == nil {
		return nil
	}
	return k.reveal()
}

// Empty reports whether there is no key.
func (k PrivateKey) Empty() bool { return k.Reveal() == nil }

// String returns "[redacted]".
func (PrivateKey) String() string { return redacted }

// GoString returns "[redacted]".
func (PrivateKey) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb.
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns the JSON string "[redacted]".
func (PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "[redacted]".
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
