package sensitive

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/tidwall/gjson"
)

const (
	// MaxList is the longest list of paths, in bytes.
	MaxList = 2 << 10
	// MaxPaths is the most paths of a list.
	MaxPaths = 32
	// MaxValues is the most values of one body that are encrypted or decrypted:
	// each takes a private key about a millisecond.
	MaxValues = 512
	// maxDepth is the most names of a path.
	maxDepth = 16
	// maxName is the longest name, in bytes.
	maxName = 64
)

// ErrList is returned when the list of paths cannot be read.
var ErrList = errors.New("sensitive: not a list of paths")

// Path names members of a body: names joined by dots, with [] behind a name for
// every element of a list, such as contact_info.name or receivers[].name. The
// zero value names nothing.
type Path struct {
	text  string
	steps []step
}

type step struct {
	name string
	each bool // every element of the list under that name
}

// String returns the path as it is written.
func (p Path) String() string { return p.text }

// ParseList reads paths that commas separate; blanks around them are left out.
// A path that is listed twice would be encrypted twice: that is [ErrList], too.
func ParseList(list string) ([]Path, error) {
	if len(list) > MaxList {
		return nil, ErrList
	}
	return Parse(strings.Split(list, ","))
}

// Parse reads paths. Errors: [ErrList].
func Parse(texts []string) ([]Path, error) {
	if len(texts) == 0 || len(texts) > MaxPaths {
		return nil, ErrList
	}
	seen := make(map[string]bool, len(texts))
	paths := make([]Path, 0, len(texts))
	for _, text := range texts {
		p, err := parse(strings.Trim(text, " \t"))
		if err != nil || seen[p.text] {
			return nil, ErrList
		}
		seen[p.text] = true
		paths = append(paths, p)
	}
	return paths, nil
}

func parse(text string) (Path, error) {
	names := strings.Split(text, ".")
	if len(names) > maxDepth {
		return Path{}, ErrList
	}
	p := Path{text: text}
	for _, name := range names {
		name, each := strings.CutSuffix(name, "[]")
		if name == "" || len(name) > maxName {
			return Path{}, ErrList
		}
		for i := range len(name) {
			if c := name[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != '-' {
				return Path{}, ErrList
			}
		}
		p.steps = append(p.steps, step{name, each})
	}
	return p, nil
}

// find calls visit with every value of the path, in the order of the body, until
// it returns false.
func (p Path) find(body []byte, visit func(gjson.Result) bool) {
	if len(p.steps) > 0 {
		walk(gjson.ParseBytes(body), p.steps, visit)
	}
}

// walk compares names as they are meant, escapes and all, and never takes a
// name for an index.
func walk(value gjson.Result, steps []step, visit func(gjson.Result) bool) (goOn bool) {
	if len(steps) == 0 {
		return visit(value)
	}
	goOn = true
	if !value.IsObject() {
		return goOn
	}
	value.ForEach(func(name, member gjson.Result) bool {
		switch {
		case name.Str != steps[0].name:
		case !steps[0].each:
			goOn = walk(member, steps[1:], visit)
		case member.IsArray():
			member.ForEach(func(_, element gjson.Result) bool {
				goOn = walk(element, steps[1:], visit)
				return goOn
			})
		}
		return goOn
	})
	return goOn
}

// change is new text for a part of a body.
type change struct {
	at, length int
	text       []byte
}

// splice makes the changes, which are in the order of the body and do not
// overlap.
func splice(body []byte, changes []change) []byte {
	size := len(body)
	for _, c := range changes {
		size += len(c.text) - c.length
	}
	out := make([]byte, 0, size)
	done := 0
	for _, c := range changes {
		out = append(append(out, body[done:c.at]...), c.text...)
		done = c.at + c.length
	}
	return append(out, body[done:]...)
}

// quote spells a JSON string without escaping what need not be.
func quote(text string) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}
