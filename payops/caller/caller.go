package caller

import (
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

// Everything in an allow list stands for every path, known or not.
const Everything = "*"

// Upstream is the name of the caller when an outer handler authenticates.
const Upstream = "upstream"

// Config is one caller of a wechatpay_api block: either Token, or Serial and
// Key.
type Config struct {
	// Name identifies the caller in logs and in the ledger. Required, unique.
	Name string
	// Token is the bearer token.
	Token merchant.Secret
	// Serial is the serial_no that the caller signs with. Hex serials are
	// compared without regard to case and leading zeros. Unique.
	Serial string
	// Key is the public half of the caller's key, 2048 bits or more.
	Key *rsa.PublicKey
	// Allow lists operation groups, or [Everything]. Required.
	Allow []string
}

// Caller is a caller that has proved itself. The zero value is allowed nothing.
type Caller struct {
	// Name is the configured name.
	Name string

	all    bool
	groups map[operation.Group]bool
	token  [sha256.Size]byte
	byKey  bool
	key    *rsa.PublicKey
}

// Internal returns a caller that no request can be: the gateway itself, when it
// goes on with what the caller of that name asked for.
func Internal(name string, groups ...operation.Group) *Caller {
	c := &Caller{Name: name, groups: map[operation.Group]bool{}}
	for _, g := range groups {
		c.groups[g] = true
	}
	return c
}

// Allows reports whether the caller may use the group.
func (c *Caller) Allows(g operation.Group) bool { return c != nil && (c.all || c.groups[g]) }

// AllowsEverything reports whether the caller may use paths that the operation
// table does not know.
func (c *Caller) AllowsEverything() bool { return c != nil && c.all }

// Set is the callers of one wechatpay_api block, immutable and safe for
// concurrent use.
type Set struct {
	mchid    string
	upstream *Caller
	byToken  []*Caller
	bySerial map[string]*Caller
}

// TrustUpstream returns a set without callers: whoever reaches the handler has
// been authenticated by an outer one, and is allowed what allow lists (see
// [Config]). Its errors name what is wrong.
func TrustUpstream(allow []string) (*Set, error) {
	c := &Caller{Name: Upstream, groups: map[operation.Group]bool{}}
	if err := c.allow(allow); err != nil {
		return nil, err
	}
	return &Set{upstream: c}, nil
}

// Nobody returns a set that lets no request in: for an API that only asks for
// the gateway itself.
func Nobody() *Set { return &Set{bySerial: map[string]*Caller{}} }

// New checks the callers of a block. mchid is the merchant's: a request signed
// with a caller's key must name it. Its errors name the caller and what is
// wrong, and hold no token.
func New(mchid string, callers []Config) (*Set, error) {
	if len(callers) == 0 {
		return nil, errors.New("caller: no caller is configured; add one, or say trust_upstream_auth when an outer handler authenticates")
	}
	s := &Set{mchid: mchid, bySerial: map[string]*Caller{}}
	names := map[string]bool{}
	for _, cfg := range callers {
		c, err := newCaller(cfg)
		if err != nil {
			return nil, err
		}
		if names[c.Name] {
			return nil, fmt.Errorf("caller %s: the name is used twice", c.Name)
		}
		names[c.Name] = true
		if !c.byKey {
			for _, other := range s.byToken {
				if other.token == c.token {
					return nil, fmt.Errorf("caller %s: has the same token as caller %s", c.Name, other.Name)
				}
			}
			s.byToken = append(s.byToken, c)
			continue
		}
		serial := normalSerial(cfg.Serial)
		if other := s.bySerial[serial]; other != nil {
			return nil, fmt.Errorf("caller %s: has the same serial as caller %s", c.Name, other.Name)
		}
		s.bySerial[serial] = c
	}
	return s, nil
}

// newCaller checks one caller.
func newCaller(cfg Config) (*Caller, error) {
	if cfg.Name == "" {
		return nil, errors.New("caller: a caller needs a name")
	}
	c := &Caller{Name: cfg.Name, groups: map[operation.Group]bool{}}
	switch hasToken, hasKey := !cfg.Token.Empty(), cfg.Key != nil || cfg.Serial != ""; {
	case hasToken && hasKey:
		return nil, fmt.Errorf("caller %s: has a token and a key; one is enough", cfg.Name)
	case hasToken:
		if !tokenText(cfg.Token.Reveal()) {
			return nil, fmt.Errorf("caller %s: the token holds a blank or a character that no Authorization header can carry", cfg.Name)
		}
		c.token = sha256.Sum256([]byte(cfg.Token.Reveal()))
	case hasKey:
		if cfg.Key == nil {
			return nil, fmt.Errorf("caller %s: has a serial but no key", cfg.Name)
		}
		if !serialText(cfg.Serial) || normalSerial(cfg.Serial) == "" {
			return nil, fmt.Errorf("caller %s: the serial must be 1 to 64 letters, digits, '_' or '-', and not zero", cfg.Name)
		}
		if cfg.Key.N.BitLen() < minKeyBits {
			return nil, fmt.Errorf("caller %s: the key has %d bits; at least %d are wanted", cfg.Name, cfg.Key.N.BitLen(), minKeyBits)
		}
		c.byKey, c.key = true, cfg.Key
	default:
		return nil, fmt.Errorf("caller %s: has neither a token nor a key; is its placeholder empty?", cfg.Name)
	}
	if err := c.allow(cfg.Allow); err != nil {
		return nil, err
	}
	return c, nil
}

// allow reads an allow list into a caller.
func (c *Caller) allow(names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("caller %s: nothing is allowed to it; add allow %s with operation groups, or * for every path", c.Name, c.Name)
	}
	for _, name := range names {
		if name == Everything {
			c.all = true
			continue
		}
		g, err := operation.ParseGroup(name)
		if err != nil {
			return fmt.Errorf("caller %s: %w", c.Name, err)
		}
		c.groups[g] = true
	}
	return nil
}

// tokenText reports whether a bearer token can be sent as it is.
func tokenText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// serialText bounds what a serial_no may look like.
func serialText(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// normalSerial is the spelling under which serials are compared: a certificate
// serial is a number.
func normalSerial(s string) string { return strings.TrimLeft(strings.ToUpper(s), "0") }
