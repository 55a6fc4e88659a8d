package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decode reads the request's body into a struct: exactly one JSON object in
// UTF-8, of which every member is one of the struct's by the byte, stands there
// once, and is of its type. Amounts are whole numbers in digits. null is absent.
// An empty body is an empty object where that is allowed. A refusal has a Status.
func (r *Request) decode(into any, emptyAllowed bool) Response {
	types := r.Header.Values("Content-Type")
	if len(types) > 0 {
		if media, _, err := mime.ParseMediaType(types[0]); err != nil || media != "application/json" || len(types) > 1 {
			return badRequest(RuleContentType, "the Content-Type must be application/json")
		}
	}
	if len(r.Header.Values("Content-Encoding")) > 0 {
		return badRequest(RuleContentType, "a Content-Encoding is not taken")
	}
	if len(r.Body) == 0 && emptyAllowed {
		return Response{}
	}
	return decode(r.Body, into)
}

// noBody refuses a body where the resource takes none.
func (r *Request) noBody() Response {
	if len(r.Body) > 0 {
		return badRequest(RuleBody, "the resource takes no body here")
	}
	return Response{}
}

// decode is [Request.decode] for a body alone.
func decode(body []byte, into any) Response {
	if !utf8.Valid(body) || !json.Valid(body) {
		return badRequest(RuleBody, "the body must be one JSON object in UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if refused := checkValue(d, reflect.TypeOf(into).Elem(), ""); refused.Refused() {
		return refused
	}
	// Every name is spelled as the struct has it, and stands there once: there is
	// nothing left that json.Unmarshal could read in its own way.
	if err := json.Unmarshal(body, into); err != nil {
		return badRequest(RuleBody, "the body cannot be read")
	}
	return Response{}
}

// checkValue checks the next value against a type. at names it.
func checkValue(d *json.Decoder, t reflect.Type, at string) Response {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := d.Token()
	switch {
	case err != nil:
		return badRequest(RuleBody, "the body must be one JSON object in UTF-8")
	case token == nil && at != "":
		return Response{}
	}
	ok := false
	switch t.Kind() {
	case reflect.Struct:
		if token == json.Delim('{') {
			return checkObject(d, t, at)
		}
		return badRequest(RuleBody, named(at, "the body")+" must be an object")
	case reflect.Slice:
		if token != json.Delim('[') {
			return badRequest(RuleBody, at+" must be a list")
		}
		for i := 0; d.More(); i++ {
			if refused := checkValue(d, t.Elem(), at+"["+strconv.Itoa(i)+"]"); refused.Refused() {
				return refused
			}
		}
		_, err := d.Token()
		ok = err == nil
	case reflect.String:
		if _, ok = token.(string); !ok {
			return badRequest(RuleBody, at+" must be a string")
		}
	case reflect.Bool:
		if _, ok = token.(bool); !ok {
			return badRequest(RuleBody, at+" must be true or false")
		}
	case reflect.Int64:
		number, isNumber := token.(json.Number)
		if !isNumber || !plainInteger(number.String()) {
			return badRequest(RuleAmount, at+" must be a whole number in digits; amounts are in fen")
		}
		ok = true
	}
	if !ok {
		return badRequest(RuleBody, "the body must be one JSON object in UTF-8")
	}
	return Response{}
}

// plainInteger reports whether text is an int64 in digits alone: not 1.0, 1e2, -1.
func plainInteger(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	_, err := strconv.ParseInt(text, 10, 64)
	return err == nil
}

// checkObject checks the members of an object that has been begun.
func checkObject(d *json.Decoder, t reflect.Type, at string) Response {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, isText := token.(string)
		if err != nil || !isText {
			return badRequest(RuleBody, "the body must be one JSON object in UTF-8")
		}
		field, known := member(t, name)
		switch {
		case !known:
			return badRequest(RuleBody, "unknown member: "+shown(join(at, name)))
		case seen[name]:
			return badRequest(RuleDuplicateKey, join(at, name)+" stands there twice")
		}
		seen[name] = true
		if refused := checkValue(d, field, join(at, name)); refused.Refused() {
			return refused
		}
	}
	if _, err := d.Token(); err != nil {
		return badRequest(RuleBody, "the body must be one JSON object in UTF-8")
	}
	if at == "" {
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return badRequest(RuleBody, "the body must be one JSON object in UTF-8")
		}
	}
	return Response{}
}

// member returns the type of a struct's member by its JSON name.
func member(t reflect.Type, name string) (reflect.Type, bool) {
	for i := range t.NumField() {
		tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if tag == name && tag != "" && tag != "-" {
			return t.Field(i).Type, true
		}
	}
	return nil, false
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

func named(at, otherwise string) string {
	if at == "" {
		return otherwise
	}
	return at
}

// shown is a member's name as a message repeats it: nothing that is not spelled
// like one.
func shown(name string) string {
	if len(name) > 96 {
		return "(a long name)"
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '_', c == '-', c == '.', c == '[', c == ']':
		default:
			return "(a name with other characters than letters, digits and _)"
		}
	}
	return name
}

// jsonBody marshals a body that is sent to WeChat Pay.
func jsonBody(value any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil { // structs of texts and numbers
		panic(http.ErrAbortHandler)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
