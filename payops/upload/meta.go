package upload

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"strings"
	"unicode/utf8"
)

const (
	// MaxMeta is the longest meta part, in bytes.
	MaxMeta = 64 << 10
	// maxParts is the most parts of an upload; WeChat Pay's have two.
	maxParts = 16
	// maxPartHeader is the longest header of a part, in bytes.
	maxPartHeader = 8 << 10
	// maxBoundary is the longest boundary, RFC 2046 5.1.1.
	maxBoundary = 70
)

var (
	// ErrContentType: the Content-Type is not multipart/form-data with one
	// boundary of the characters that RFC 2046 5.1.1 allows.
	ErrContentType = errors.New("upload: the Content-Type is not multipart/form-data with a boundary")
	// ErrBody: the body is not built as RFC 2046 5.1 and RFC 7578 have it, or can
	// be read in more than one way.
	ErrBody = errors.New("upload: the body is not strict multipart/form-data")
	// ErrMeta: there is no part meta, or more than one, or it is no JSON object
	// of at most [MaxMeta] bytes.
	ErrMeta = errors.New("upload: exactly one part meta with a JSON object is needed")
)

// Meta returns the content of the part meta, a slice of body. It allocates
// little, copies nothing, and leaves file names and contents unread.
// Errors: [ErrContentType], [ErrBody], [ErrMeta].
// https://pay.weixin.qq.com/doc/v3/partner/4012467222
func Meta(contentType string, body []byte) ([]byte, error) {
	boundary, err := boundaryOf(contentType)
	if err != nil {
		return nil, err
	}
	// Every delimiter is a line of its own: CRLF, two dashes and the boundary,
	// then CRLF, or two dashes at the end. The first one has no CRLF before it.
	delimiter := []byte("\r\n--" + boundary)
	rest, ok := bytes.CutPrefix(body, delimiter[2:])
	if !ok {
		return nil, ErrBody
	}
	var meta []byte
	for range maxParts {
		if rest, ok = bytes.CutPrefix(rest, []byte("\r\n")); !ok {
			return nil, ErrBody
		}
		name, content, found := cutHeader(rest)
		if !found {
			return nil, ErrBody
		}
		end := bytes.Index(content, delimiter)
		if end < 0 || bytes.HasPrefix(content, delimiter[2:]) {
			return nil, ErrBody
		}
		content, rest = content[:end], content[end+len(delimiter):]
		switch {
		case name == "meta" && meta != nil, name != "meta" && strings.EqualFold(name, "meta"):
			return nil, ErrMeta
		case name == "meta":
			if !validMeta(content) {
				return nil, ErrMeta
			}
			meta = content
		}
		if last, ok := bytes.CutPrefix(rest, []byte("--")); ok {
			if len(last) > 0 && string(last) != "\r\n" {
				return nil, ErrBody // an epilogue
			}
			if meta == nil {
				return nil, ErrMeta
			}
			return meta, nil
		}
	}
	return nil, ErrBody
}

func validMeta(content []byte) bool {
	return len(content) > 1 && len(content) <= MaxMeta && utf8.Valid(content) && json.Valid(content) &&
		bytes.TrimLeft(content, " \t\r\n")[0] == '{'
}

// boundaryOf reads the boundary.
func boundaryOf(contentType string) (string, error) {
	media, params, err := mime.ParseMediaType(contentType)
	boundary := params["boundary"]
	if err != nil || media != "multipart/form-data" || boundary == "" || len(boundary) > maxBoundary ||
		strings.HasSuffix(boundary, " ") || strings.Contains(contentType, "*") {
		return "", ErrContentType
	}
	for i := range len(boundary) {
		switch c := boundary[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
		case strings.IndexByte("'()+_,-./:=? ", c) >= 0:
		default:
			return "", ErrContentType
		}
	}
	return boundary, nil
}

// cutHeader reads the header of a part and returns its name and what follows.
func cutHeader(part []byte) (name string, content []byte, ok bool) {
	head, _, found := bytes.Cut(part[:min(len(part), maxPartHeader)], []byte("\r\n\r\n"))
	if !found {
		return "", nil, false
	}
	content = part[len(head)+4:]
	disposition := false
	for line := range strings.SplitSeq(string(head), "\r\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok || !token(key) || !headerText(value) {
			return "", nil, false
		}
		switch strings.ToLower(key) {
		case "content-disposition":
			if disposition {
				return "", nil, false
			}
			disposition = true
			if name, ok = formName(value); !ok {
				return "", nil, false
			}
		case "content-transfer-encoding":
			// Another encoding would make another content of the same bytes.
			if encoding := strings.ToLower(strings.TrimSpace(value)); encoding != "binary" && encoding != "8bit" {
				return "", nil, false
			}
		}
	}
	return name, content, disposition
}

// formName reads form-data; name="…"; filename="…". The file's name may hold
// anything but quotes and control characters; only the plain name parameter is
// known, not the name* of RFC 2231 that some readers prefer.
func formName(value string) (string, bool) {
	kind, rest, _ := strings.Cut(value, ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "form-data") {
		return "", false
	}
	name, seen := "", map[string]bool{}
	for rest = strings.TrimLeft(rest, " \t"); rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		key = strings.ToLower(key)
		if !ok || seen[key] {
			return "", false
		}
		seen[key] = true
		var text string
		if quoted, isQuoted := strings.CutPrefix(after, `"`); isQuoted {
			if text, rest, ok = strings.Cut(quoted, `"`); !ok || strings.HasSuffix(text, `\`) {
				return "", false
			}
		} else {
			end := strings.IndexAny(after, "; \t")
			if end < 0 {
				end = len(after)
			}
			if text, rest = after[:end], after[end:]; text == "" || strings.Contains(text, `"`) {
				return "", false
			}
		}
		switch key {
		case "name":
			name = text
		case "filename", "filename*":
		default:
			return "", false
		}
		if rest = strings.TrimLeft(rest, " \t"); rest != "" {
			if rest, ok = strings.CutPrefix(rest, ";"); !ok {
				return "", false
			}
			rest = strings.TrimLeft(rest, " \t") // nothing may follow: the official Go SDK ends so
		}
	}
	return name, name != "" && !strings.Contains(name, `\`)
}

// token reports whether s may be a header's name.
func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// headerText reports whether s holds no control character: above all no lone CR
// or LF, where another reader might see another line.
func headerText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
