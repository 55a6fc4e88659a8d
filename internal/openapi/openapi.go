// Package openapi reads an OpenAPI 3.1 description and holds JSON against its
// schemas, as far as the gateway's description goes: a keyword that it does not
// know is an error, never passed over.
package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Document is a description.
type Document struct {
	OpenAPI    string
	Paths      map[string]map[string]Operation
	Components struct {
		Schemas   map[string]*Schema
		Responses map[string]Response
	}
}

// Operation is one method of one path.
type Operation struct {
	OperationID string
	Parameters  []Parameter
	RequestBody *Body
	Responses   map[string]Response
}

// Parameter is one of the path, the query or the header.
type Parameter struct {
	Name, In string
	Required bool
	Schema   *Schema
}

// Body is a request's body.
type Body struct {
	Required bool
	Content  map[string]Content
}

// Content is a body of one media type.
type Content struct {
	Schema   *Schema
	Examples map[string]struct{ Value json.RawMessage }
}

// Response is an answer, or a reference to one.
type Response struct {
	Ref     string `json:"$ref"`
	Content map[string]Content
}

// Schema is a JSON schema of the keywords below.
type Schema struct {
	Ref         string `json:"$ref"`
	Description string
	Type        string
	Format      string
	Properties  map[string]*Schema
	Required    []string
	Additional  json.RawMessage `json:"additionalProperties"`
	Items       *Schema
	Enum        []string
	Pattern     string
	MinLength   *int
	MaxLength   *int
	MinItems    *int
	MaxItems    *int
	Minimum     *int64
	OneOf       []*Schema
	AllOf       []*Schema
}

// UnmarshalJSON refuses keywords that Validate would pass over.
func (s *Schema) UnmarshalJSON(data []byte) error {
	type plain Schema
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(s))
}

// Parse reads a description.
func Parse(data []byte) (*Document, error) {
	var d Document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	return &d, nil
}

// Resolve follows a schema's reference; nil when it leads nowhere.
func (d *Document) Resolve(s *Schema) *Schema {
	for s != nil && s.Ref != "" {
		name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/")
		if !ok {
			return nil
		}
		s = d.Components.Schemas[name]
	}
	return s
}

// Answer is the response of a status, the default one where it is not listed.
func (d *Document) Answer(op Operation, status int) (r Response, listed bool) {
	r, listed = op.Responses[fmt.Sprint(status)]
	if !listed {
		r = op.Responses["default"]
	}
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		r = d.Components.Responses[name]
	}
	return r, listed
}

// Validate holds a JSON text against a schema.
func (d *Document) Validate(s *Schema, text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("openapi: %w", err)
	}
	return d.validate(s, v, "$")
}

func (d *Document) validate(s *Schema, v any, at string) error {
	if s = d.Resolve(s); s == nil {
		return fmt.Errorf("openapi: %s: the schema leads nowhere", at)
	}
	for _, part := range s.AllOf {
		if err := d.validate(part, v, at); err != nil {
			return err
		}
	}
	if len(s.OneOf) > 0 {
		fit := 0
		for _, part := range s.OneOf {
			if d.validate(part, v, at) == nil {
				fit++
			}
		}
		if fit != 1 {
			return fmt.Errorf("openapi: %s fits %d of oneOf", at, fit)
		}
	}
	switch s.Type {
	case "":
		return nil
	case "object":
		return d.object(s, v, at)
	case "array":
		list, ok := v.([]any)
		if !ok || s.MinItems != nil && len(list) < *s.MinItems || s.MaxItems != nil && len(list) > *s.MaxItems {
			return fmt.Errorf("openapi: %s is no such list", at)
		}
		for i, item := range list {
			if err := d.validate(s.Items, item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "string":
		return text(s, v, at)
	case "integer":
		n, ok := v.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil || s.Minimum != nil && i < *s.Minimum {
			return fmt.Errorf("openapi: %s is no such integer", at)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return fmt.Errorf("openapi: %s is no boolean", at)
		}
	default:
		return fmt.Errorf("openapi: %s: unknown type %s", at, s.Type)
	}
	return nil
}

func (d *Document) object(s *Schema, v any, at string) error {
	o, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("openapi: %s is no object", at)
	}
	for _, name := range s.Required {
		if _, ok := o[name]; !ok {
			return fmt.Errorf("openapi: %s.%s is missing", at, name)
		}
	}
	for name, member := range o {
		property, ok := s.Properties[name]
		if !ok {
			if string(s.Additional) == "false" {
				return fmt.Errorf("openapi: %s.%s is not described", at, name)
			}
			continue
		}
		if err := d.validate(property, member, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func text(s *Schema, v any, at string) error {
	value, ok := v.(string)
	if !ok {
		return fmt.Errorf("openapi: %s is no string", at)
	}
	n := utf8.RuneCountInString(value)
	var err error
	switch {
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, value):
		err = errors.New("none of the values listed")
	case s.MinLength != nil && n < *s.MinLength, s.MaxLength != nil && n > *s.MaxLength:
		err = errors.New("too short or too long")
	case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(value):
		err = errors.New("does not fit " + s.Pattern)
	case s.Format == "date-time":
		_, err = time.Parse(time.RFC3339, value)
	}
	if err != nil {
		return fmt.Errorf("openapi: %s: %w", at, err)
	}
	return nil
}
