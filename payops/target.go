package payops

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
)

// target returns path and query as they came over the wire, which is what a
// caller signed and what is signed for WeChat Pay. A URL that an outer handler
// has rewritten is taken as rewritten. ok is false for what is no plain path:
// another host's URL, a fragment, control characters, a backslash.
func target(r *http.Request) (path, query string, ok bool) {
	path, query, _ = strings.Cut(r.RequestURI, "?")
	if decoded, err := url.PathUnescape(path); err != nil || decoded != r.URL.Path || query != r.URL.RawQuery {
		path, query = r.URL.EscapedPath(), r.URL.RawQuery
	}
	// An absolute URL, of whatever scheme, is another host's, or wants to look so.
	if !strings.HasPrefix(path, "/") || r.RequestURI != "" && r.RequestURI[0] != '/' {
		return "", "", false
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c == 0x7f || c == '#' || c == '\\' {
			return "", "", false
		}
	}
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c == 0x7f || c == '#' {
			return "", "", false
		}
	}
	return path, query, true
}

// join puts path and query together again. An empty query leaves no mark.
func join(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}

// cleanPath reports whether a path is what it seems: no empty, dot or doubly
// encoded segment, no encoded slash.
func cleanPath(path string) bool {
	for segment := range strings.SplitSeq(path[1:], "/") {
		if _, ok := operation.DecodeSegment(segment); !ok {
			return false
		}
	}
	return true
}
