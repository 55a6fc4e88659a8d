package event

import (
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// bytes returns the decoded string of a span; it aliases the data when nothing
// is escaped.
func (s *scanner) bytes(at span) []byte {
	raw := s.data[at.start:at.end]
	if !at.escaped {
		return raw
	}
	return unescape(raw)
}

// unescape decodes the escapes of a string that str has checked. A surrogate
// without its other half becomes U+FFFD, as everywhere in Go.
func unescape(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := rune(unicode.ReplacementChar)
				if i+6 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
					pair = utf16.DecodeRune(r, hex4(raw[i+3:]))
				}
				if pair != unicode.ReplacementChar {
					i += 6
				}
				r = pair
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, raw[i])
		}
	}
	return out
}

// hex4 reads four hex digits, -1 when there are none.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return r
}

// foldHash is FNV-1a over the folded name.
func foldHash(name []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	hash := uint64(offset)
	for i := 0; i < len(name); {
		c := name[i]
		if c < utf8.RuneSelf {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			hash = (hash ^ uint64(c)) * prime
			i++
			continue
		}
		r, size := utf8.DecodeRune(name[i:])
		hash = (hash ^ uint64(fold(r))) * prime
		i += size
	}
	return hash
}

// foldedEqual says whether two names are the same but for case.
func foldedEqual(a, b []byte) bool {
	for len(a) > 0 && len(b) > 0 {
		ra, na := utf8.DecodeRune(a)
		rb, nb := utf8.DecodeRune(b)
		if fold(ra) != fold(rb) {
			return false
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) == 0 && len(b) == 0
}

// fold maps all runes that encoding/json takes for one another to one of them:
// U+212A (the kelvin sign) to k, U+017F (the long s) to s.
func fold(r rune) rune {
	if r >= utf8.RuneSelf {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		r = least
	}
	if r >= 'A' && r <= 'Z' {
		r += 'a' - 'A'
	}
	return r
}
