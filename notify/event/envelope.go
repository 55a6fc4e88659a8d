package event

import (
	"bytes"
	"encoding/base64"
)

// Algorithm is the only resource.algorithm there is for RSA merchants.
// https://pay.weixin.qq.com/doc/v3/merchant/4012071382
const Algorithm = "AEAD_AES_256_GCM"

// nonceSize and tagSize are AEAD_AES_256_GCM's (RFC 5116), in bytes.
const (
	nonceSize = 12
	tagSize   = 16
)

// Head is what a notification says about itself outside its resource. Fields
// that are absent or null are empty.
type Head struct {
	ID        string // WeChat's notification id
	EventType string // such as TRANSACTION.SUCCESS
	Summary   string // 回调摘要: tells profit sharing from its return
	// Odd is true when one of these fields is not a string, or not one that an
	// id or an event type can be. The event's kind is then Unknown.
	Odd bool
}

// Envelope is a parsed notification whose resource is still encrypted. Nonce,
// AssociatedData and Sealed may alias the parsed bytes.
type Envelope struct {
	Head
	Nonce          []byte // 12 bytes
	AssociatedData []byte // 附加数据, may be empty
	Sealed         []byte // ciphertext in base64, not yet decoded
	// ResourceStart and ResourceEnd bound the resource's value in the bytes
	// that were parsed.
	ResourceStart, ResourceEnd int
}

// ParseEnvelope parses a notification (通知报文). Its errors wrap
// [ErrMalformed]. create_time and everything else that is not needed is checked
// for syntax only.
func ParseEnvelope(body []byte) (Envelope, error) {
	s := scan(body)
	defer s.done()
	if err := s.wantObject(); err != nil {
		return Envelope{}, err
	}
	var e Envelope
	found := false
	mark := s.open()
	for initial := true; ; initial = false {
		name, ok := s.member(mark, initial)
		if !ok {
			break
		}
		switch string(name) {
		case "id":
			e.ID = s.token(&e.Odd)
		case "event_type":
			e.EventType = s.token(&e.Odd)
		case "summary":
			e.Summary = s.text(&e.Odd)
		case "resource":
			if s.peek() != isObject {
				s.fail(errResource)
				break
			}
			found = true
			e.ResourceStart = s.pos
			s.resource(&e)
			e.ResourceEnd = s.pos
		default:
			s.skip()
		}
	}
	s.finish()
	switch {
	case s.err != nil:
		return Envelope{}, s.err
	case !found:
		return Envelope{}, errResource
	}
	return e, nil
}

// wantObject demands that an object comes next.
func (s *scanner) wantObject() error {
	if s.err == nil && s.peek() != isObject {
		s.err = errNotObject
	}
	return s.err
}

// resource reads the encrypted resource. What is missing in it is an error at
// its end, so that broken JSON is told first.
func (s *scanner) resource(e *Envelope) {
	var algorithm []byte
	aadOK := true
	mark := s.open()
	for initial := true; ; initial = false {
		name, ok := s.member(mark, initial)
		if !ok {
			break
		}
		switch string(name) {
		case "algorithm":
			algorithm, _ = s.anyString()
		case "nonce":
			e.Nonce, _ = s.anyString()
		case "ciphertext":
			e.Sealed, _ = s.anyString()
		case "associated_data":
			if s.peek() == isNull {
				s.word()
				break
			}
			e.AssociatedData, aadOK = s.anyString()
		default:
			s.skip()
		}
	}
	switch {
	case string(algorithm) != Algorithm:
		s.fail(errAlgorithm)
	case len(e.Nonce) != nonceSize:
		s.fail(errNonce)
	case !aadOK:
		s.fail(errAAD)
	case len(e.Sealed) == 0:
		s.fail(errCiphertext)
	}
}

// anyString reads a value and returns it if it is a string.
func (s *scanner) anyString() ([]byte, bool) {
	if s.peek() != isString {
		s.skip()
		return nil, false
	}
	at := s.str()
	if s.err != nil {
		return nil, false
	}
	return s.bytes(at), true
}

// text reads a string; null is no string, and anything else is odd.
func (s *scanner) text(odd *bool) string {
	switch s.peek() {
	case isString:
		at := s.str()
		if s.err != nil {
			return ""
		}
		return string(s.bytes(at))
	case isNull:
		s.word()
	default:
		s.skip()
		*odd = true
	}
	return ""
}

// token reads a string that can stand in a header, a log and a key.
func (s *scanner) token(odd *bool) string {
	value := s.text(odd)
	if !isToken(value) {
		*odd = true
		return ""
	}
	return value
}

// maxToken bounds ids, numbers and states, in bytes. WeChat Pay's longest is 64.
const maxToken = 128

// isToken says whether value can be an id, a number or a state: visible ASCII,
// with spaces inside only. The empty string is one: it stands for none.
func isToken(value string) bool {
	if len(value) > maxToken {
		return false
	}
	for i := range len(value) {
		if value[i] < 0x20 || value[i] > 0x7e {
			return false
		}
	}
	return value == "" || value[0] != ' ' && value[len(value)-1] != ' '
}

// Ciphertext decodes the sealed resource into dst's spare capacity (growing it
// when needed): canonical base64 of at least 16 bytes, the length of the tag.
// Line breaks, which Go's decoder skips, and spare bits are refused. Its error
// wraps [ErrMalformed].
func (e *Envelope) Ciphertext(dst []byte) ([]byte, error) {
	encoding := base64.StdEncoding.Strict()
	if bytes.IndexByte(e.Sealed, '\n') >= 0 || bytes.IndexByte(e.Sealed, '\r') >= 0 {
		return nil, errCiphertext
	}
	out, err := encoding.AppendDecode(dst[:0], e.Sealed)
	if err != nil || len(out) < tagSize {
		return nil, errCiphertext
	}
	return out, nil
}
