package event

import (
	"bytes"
	"errors"
	"sync"
	"unicode/utf8"
)

// ErrMalformed is what every error of this package wraps: the bytes are not
// what WeChat Pay sends. The text says what is wrong and never holds content.
var ErrMalformed = errors.New("event: malformed")

// malformed is a reason, wrapping ErrMalformed.
type malformed string

func (m malformed) Error() string { return "event: malformed: " + string(m) }
func (m malformed) Unwrap() error { return ErrMalformed }

// The reasons. They are constants so that they may be logged.
const (
	errNotObject  = malformed("not a JSON object")
	errSyntax     = malformed("broken JSON")
	errUTF8       = malformed("invalid UTF-8")
	errDepth      = malformed("nested too deep")
	errDuplicate  = malformed("duplicate name in an object")
	errNames      = malformed("too many names in an object")
	errTrailing   = malformed("bytes after the object")
	errResource   = malformed("no resource object")
	errAlgorithm  = malformed("resource.algorithm is not AEAD_AES_256_GCM")
	errNonce      = malformed("resource.nonce is not 12 bytes")
	errAAD        = malformed("resource.associated_data is not a string")
	errCiphertext = malformed("resource.ciphertext is not canonical base64 of 16 bytes or more")
)

// Bounds of what is parsed. WeChat Pay's deepest plaintext nests 6 levels and
// its widest object has fewer than 50 names.
const (
	maxDepth = 32
	maxNames = 512
)

// valueKind is the JSON type of a value.
type valueKind uint8

const (
	isNull valueKind = iota + 1
	isBool
	isNumber
	isString
	isObject
	isArray
)

// span is a part of the scanned bytes. Of a string it is what stands between
// the quotes.
type span struct {
	start, end int
	escaped    bool // holds backslashes
}

// seenName is one name of an object that is being read.
type seenName struct {
	hash uint64 // of the folded name
	at   span
}

// scanner reads JSON strictly (RFC 8259, with the duplicate rule of RFC 7493).
// The first error sticks, and every later call does nothing.
type scanner struct {
	data  []byte
	pos   int
	depth int
	err   error
	names []seenName // of all open objects, innermost last
}

var scanners = sync.Pool{New: func() any { return &scanner{names: make([]seenName, 0, 64)} }}

// scan starts on data. It refuses invalid UTF-8 once, for all of it. The caller
// gives the scanner back with done.
func scan(data []byte) *scanner {
	s := scanners.Get().(*scanner)
	s.data, s.pos, s.depth, s.err = data, 0, 0, nil
	s.names = s.names[:0]
	if !utf8.Valid(data) {
		s.err = errUTF8
	}
	return s
}

func (s *scanner) done() {
	s.data, s.err = nil, nil
	scanners.Put(s)
}

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// next skips white space and returns the byte that follows, 0 at the end.
func (s *scanner) next() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// finish demands that nothing but white space follows.
func (s *scanner) finish() {
	if s.err == nil {
		s.next()
		if s.pos != len(s.data) {
			s.fail(errTrailing)
		}
	}
}

// peek tells the type of the value that follows.
func (s *scanner) peek() valueKind {
	if s.err != nil {
		return 0
	}
	switch c := s.next(); {
	case c == '{':
		return isObject
	case c == '[':
		return isArray
	case c == '"':
		return isString
	case c == 'n':
		return isNull
	case c == 't', c == 'f':
		return isBool
	case c == '-', c >= '0' && c <= '9':
		return isNumber
	}
	s.fail(errSyntax)
	return 0
}

// open begins an object or array, whose opening byte peek has seen. It returns
// the mark that more takes.
func (s *scanner) open() (mark int) {
	s.pos++
	s.depth++
	if s.depth > maxDepth {
		s.fail(errDepth)
	}
	return len(s.names)
}

// member moves to the next member of the object opened with mark, and returns
// its name. False at the object's end and on errors.
func (s *scanner) member(mark int, first bool) (name []byte, ok bool) {
	if s.err != nil {
		return nil, false
	}
	c := s.next()
	if c == '}' {
		s.pos++
		s.depth--
		s.names = s.names[:mark]
		return nil, false
	}
	if !first {
		if c != ',' {
			s.fail(errSyntax)
			return nil, false
		}
		s.pos++
		c = s.next()
	}
	if c != '"' {
		s.fail(errSyntax)
		return nil, false
	}
	at := s.str()
	if s.err != nil {
		return nil, false
	}
	if s.next() != ':' {
		s.fail(errSyntax)
		return nil, false
	}
	s.pos++
	s.note(mark, at)
	if s.err != nil {
		return nil, false
	}
	return s.bytes(at), true
}

// element moves to the next element of an array. False at its end and on errors.
func (s *scanner) element(first bool) bool {
	if s.err != nil {
		return false
	}
	c := s.next()
	if c == ']' {
		s.pos++
		s.depth--
		return false
	}
	if !first {
		if c != ',' {
			s.fail(errSyntax)
			return false
		}
		s.pos++
		if s.next() == ']' {
			s.fail(errSyntax)
			return false
		}
	}
	return true
}

// note remembers a name of the innermost object and refuses it when there is
// one like it already.
func (s *scanner) note(mark int, at span) {
	if len(s.names)-mark >= maxNames {
		s.fail(errNames)
		return
	}
	hash := foldHash(s.bytes(at))
	for i := mark; i < len(s.names); i++ {
		if s.names[i].hash == hash && foldedEqual(s.bytes(s.names[i].at), s.bytes(at)) {
			s.fail(errDuplicate)
			return
		}
	}
	s.names = append(s.names, seenName{hash: hash, at: at})
}

// plain marks the bytes that stand for themselves in a string.
var plain = func() (table [256]bool) {
	for c := range table {
		table[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return table
}()

// str reads a string whose opening quote is next.
func (s *scanner) str() span {
	data, i := s.data, s.pos+1
	at := span{start: i}
	for {
		for i < len(data) && plain[data[i]] {
			i++
		}
		switch {
		case i == len(data) || data[i] < 0x20:
			s.fail(errSyntax)
			return span{}
		case data[i] == '"':
			at.end, s.pos = i, i+1
			return at
		}
		at.escaped = true
		i++ // the backslash
		if i == len(data) {
			s.fail(errSyntax)
			return span{}
		}
		switch data[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i++
		case 'u':
			if hex4(data[i+1:]) < 0 {
				s.fail(errSyntax)
				return span{}
			}
			i += 5
		default:
			s.fail(errSyntax)
			return span{}
		}
	}
}

// num reads a number whose first byte is next. exact is true for an integer in
// the range of int64, written without fraction, exponent or minus zero.
func (s *scanner) num() (value int64, exact bool) {
	negative := s.data[s.pos] == '-'
	if negative {
		s.pos++
	}
	start := s.pos
	exact = true
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		digit := int64(s.data[s.pos] - '0')
		// Counted downwards, since -2^63 has no positive twin.
		if value < (minInt64+digit)/10 {
			exact = false
		} else {
			value = value*10 - digit
		}
		s.pos++
	}
	digits := s.pos - start
	if digits == 0 || digits > 1 && s.data[start] == '0' {
		s.fail(errSyntax)
		return 0, false
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		exact = false
		s.pos++
		s.digits()
	}
	if s.pos < len(s.data) && (s.data[s.pos] == 'e' || s.data[s.pos] == 'E') {
		exact = false
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		s.digits()
	}
	switch {
	case !exact, negative && value == 0:
		return 0, false
	case negative:
		return value, true
	case value == minInt64:
		return 0, false
	}
	return -value, true
}

const minInt64 = -1 << 63

// digits reads one digit or more.
func (s *scanner) digits() {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		s.pos++
	}
	if s.pos == start {
		s.fail(errSyntax)
	}
}

var (
	wordNull  = []byte("null")
	wordTrue  = []byte("true")
	wordFalse = []byte("false")
)

// word reads null, true or false.
func (s *scanner) word() {
	for _, word := range [...][]byte{wordNull, wordTrue, wordFalse} {
		if bytes.HasPrefix(s.data[s.pos:], word) {
			s.pos += len(word)
			return
		}
	}
	s.fail(errSyntax)
}

// skip reads any value, checking it as strictly as one that is wanted, and
// returns its type.
func (s *scanner) skip() valueKind {
	kind := s.peek()
	switch kind {
	case isObject:
		mark := s.open()
		for first := true; ; first = false {
			if _, ok := s.member(mark, first); !ok {
				break
			}
			s.skip()
		}
	case isArray:
		s.open()
		for first := true; s.element(first); first = false {
			s.skip()
		}
	case isString:
		s.str()
	case isNumber:
		s.num()
	case isNull, isBool:
		s.word()
	}
	return kind
}
