package receive

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// maxPooled bounds the buffers that are kept for the next callback, in bytes.
const maxPooled = 128 << 10

// buffers are the scratch space of one callback.
type buffers struct {
	message    []byte // what is signed: timestamp, nonce and body, a line each
	ciphertext []byte
}

func (r *Receiver) getBuffers() *buffers { return r.buffers.Get().(*buffers) }

func (r *Receiver) putBuffers(b *buffers) {
	if cap(b.message) <= maxPooled && cap(b.ciphertext) <= maxPooled {
		r.buffers.Put(b)
	}
}

var (
	errTooLarge = errors.New("receive: body too large")
	errBroken   = errors.New("receive: body broke off")
)

// readMessage reads the body into what the signature covers, so that its bytes
// are copied once: timestamp\nnonce\nbody\n. body is part of message.
func (b *buffers) readMessage(s *signed, in *Incoming, limit int64) (message, body []byte, err error) {
	m := append(b.message[:0], s.timestamp...)
	m = append(m, '\n')
	m = append(m, s.nonce...)
	m = append(m, '\n')
	start := len(m)
	// One byte beyond the expected end tells a longer body, and one is for '\n'.
	m = slices.Grow(m, int(min(max(in.ContentLength, 4<<10), limit))+2)
	defer func() { b.message = m[:0] }()
	for idle := 0; in.Body != nil; {
		if len(m) == cap(m) {
			m = slices.Grow(m, 1)
		}
		room := m[len(m):cap(m)]
		room = room[:min(int64(len(room)), limit+1-int64(len(m)-start))]
		n, err := in.Body.Read(room)
		m = m[:len(m)+n]
		if n > 0 {
			idle = 0
		} else if idle++; idle > 100 {
			return nil, nil, errBroken // a reader that neither reads nor ends
		}
		if int64(len(m)-start) > limit {
			return nil, nil, errTooLarge
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
				return nil, nil, errTooLarge
			}
			return nil, nil, errBroken
		}
	}
	if in.ContentLength >= 0 && int64(len(m)-start) != in.ContentLength {
		return nil, nil, errBroken
	}
	m = append(m, '\n')
	return m, m[start : len(m)-1 : len(m)-1], nil
}

// looksXML says whether a request without signature headers is an APIv2
// notification: XML by its Content-Type or by its first byte.
func looksXML(in *Incoming) bool {
	if kind, _, err := mime.ParseMediaType(in.Header.Get("Content-Type")); err == nil {
		if strings.HasSuffix(kind, "/xml") || strings.HasSuffix(kind, "+xml") {
			return true
		}
	}
	if in.Body == nil || in.ContentLength == 0 {
		return false
	}
	var start [64]byte
	n, _ := io.ReadAtLeast(in.Body, start[:], 1)
	text := bytes.TrimLeft(bytes.TrimPrefix(start[:n], []byte("\xef\xbb\xbf")), " \t\r\n")
	return len(text) > 0 && text[0] == '<'
}
