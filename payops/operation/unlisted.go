package operation

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// unlistedPath is the path of every operation that the table does not know: a
// closed set, fit for logs and metrics.
const unlistedPath = "(unlisted)"

// Unlisted returns what stands for an operation that [Find] does not know, so
// that a new one of WeChat Pay's can be called before the table has it. ok is
// false for what might be a known operation in another spelling (another case,
// a needless escape, a path parameter): that would go around its rules. The group is
// the one that the path's words suggest. What such an operation means is not
// known: it is passed on once.
func Unlisted(method, escapedPath string, multipart bool) (m Match, ok bool) {
	if !slices.Contains(methods, method) || !plainPath(escapedPath) {
		return Match{}, false
	}
	segments := strings.Split(escapedPath[1:], "/")
	if len(segments) < 2 || len(segments) > maxSegments || segments[0] != "v3" {
		return Match{}, false
	}
	for _, o := range table {
		if o.Method == method && o.resembles(segments) {
			return Match{}, false
		}
	}
	o := &Operation{Method: method, Path: unlistedPath, Multipart: multipart}
	o.Group = groupOf(newShape(method, strings.ToLower(escapedPath), multipart))
	return Match{Operation: o}, true
}

// methods are those of APIv3.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// resembles reports whether a path is the operation's but for the case of its
// letters.
func (o *Operation) resembles(segments []string) bool {
	if strings.Count(o.Path, "/") != len(segments) {
		return false
	}
	i := 0
	for t := range strings.SplitSeq(o.Path[1:], "/") {
		if (t == "" || t[0] != '{') && !strings.EqualFold(t, segments[i]) {
			return false
		}
		i++
	}
	return true
}

// escapable are the characters of a path that may be written as escapes: none
// that a known path is made of, none that divides paths.
const escapable = " !\"$&'()*+,:=<>@[]^`{|}"

// plainPath reports whether a path can be read in one way only: no escapes of
// what need not be escaped, no path parameters, no empty or dot segments.
func plainPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
		for i := 0; i < len(segment); i++ {
			switch c := segment[i]; {
			case c == '%':
				text, err := url.PathUnescape(segment[i:min(i+3, len(segment))])
				if err != nil || !strings.Contains(escapable, text) {
					return false
				}
				i += 2
			case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
			case strings.IndexByte("-_.~|*@:", c) >= 0:
			default:
				return false
			}
		}
	}
	return true
}
