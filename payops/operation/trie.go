package operation

import (
	"net/url"
	"strings"
)

// maxSegments bounds the length of the paths that are looked at; the longest
// template has fewer.
const maxSegments = 24

// node is one segment of the trie. A literal segment is preferred to a
// parameter; the walk comes back when the literal leads nowhere.
type node struct {
	literal map[string]*node
	param   *node
	op      *Operation
}

// add puts a template into the trie. Of two templates that differ in the names
// of their parameters only, the first one stays.
func (n *node) add(o *Operation) {
	for segment := range strings.SplitSeq(o.Path[1:], "/") {
		var next **node
		switch {
		case segment == "{empty}": // the path ends in a slash
			segment = ""
			fallthrough
		case segment == "" || segment[0] != '{':
			if n.literal == nil {
				n.literal = map[string]*node{}
			}
			child := n.literal[segment]
			if child == nil {
				child = &node{}
				n.literal[segment] = child
			}
			n = child
			continue
		default:
			next = &n.param
		}
		if *next == nil {
			*next = &node{}
		}
		n = *next
	}
	if n.op == nil {
		n.op = o
	}
}

// Match is what a concrete path turned out to be.
type Match struct {
	*Operation
	// Params are the decoded values of the template's parameters, in order.
	// None is empty, a dot segment, or holds a slash, a backslash, a percent
	// sign or a control character.
	Params []string
}

// Param returns the value of the first parameter, "" when there is none.
func (m Match) Param() string {
	if len(m.Params) == 0 {
		return ""
	}
	return m.Params[0]
}

// Named returns the values of the template's parameters of a name.
func (m Match) Named(name string) []string {
	var values []string
	i := 0
	for segment := range strings.SplitSeq(m.Path, "/") {
		if segment == "" || segment[0] != '{' || segment == "{empty}" {
			continue
		}
		if i < len(m.Params) && segment == "{"+name+"}" {
			values = append(values, m.Params[i])
		}
		i++
	}
	return values
}

// Find returns the operation that a method and a concrete, still escaped path
// (without query) name. Literal segments are compared byte for byte: a path
// that spells them in another way names nothing.
func Find(method, escapedPath string) (Match, bool) {
	root := tries[method]
	if root == nil || len(escapedPath) == 0 || escapedPath[0] != '/' {
		return Match{}, false
	}
	segments := strings.Split(escapedPath[1:], "/")
	if len(segments) > maxSegments {
		return Match{}, false
	}
	var params []string
	op := root.find(segments, &params)
	if op == nil {
		return Match{}, false
	}
	return Match{Operation: op, Params: params}, true
}

func (n *node) find(segments []string, params *[]string) *Operation {
	if len(segments) == 0 {
		return n.op
	}
	if next, ok := n.literal[segments[0]]; ok {
		if op := next.find(segments[1:], params); op != nil {
			return op
		}
	}
	if n.param == nil {
		return nil
	}
	value, ok := DecodeSegment(segments[0])
	if !ok {
		return nil
	}
	before := len(*params)
	*params = append(*params, value)
	if op := n.param.find(segments[1:], params); op != nil {
		return op
	}
	*params = (*params)[:before]
	return nil
}

// DecodeSegment decodes one escaped path segment, and refuses what could turn
// into another path on its way: the empty segment, "." and "..", and anything
// that holds a slash, a backslash, a percent sign or a control character once
// it is decoded.
func DecodeSegment(escaped string) (string, bool) {
	value, err := url.PathUnescape(escaped)
	if err != nil || value == "" || value == "." || value == ".." {
		return "", false
	}
	for i := range len(value) {
		switch c := value[i]; {
		case c < ' ', c == 0x7f, c == '/', c == '\\', c == '%':
			return "", false
		}
	}
	return value, true
}
