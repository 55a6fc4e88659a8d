package resource

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var description []byte

// OpenAPI returns the OpenAPI 3.1 description of all resources, as
// GET /gateway/openapi.json gives it. The slice is the caller's.
func OpenAPI() []byte { return append([]byte(nil), description...) }

// describe answers with the description.
func (rs *Resources) describe(r *Request) Response {
	if _, refused := r.Values(); refused.Refused() {
		return refused
	}
	if refused := r.noBody(); refused.Refused() {
		return refused
	}
	return Response{Status: http.StatusOK, Body: description, Header: http.Header{"Content-Type": {"application/json"}}}
}
