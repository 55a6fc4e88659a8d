package resource

import (
	"bytes"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/openapi"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/invoke"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/parking"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func readDescription(t *testing.T) *openapi.Document {
	t.Helper()
	d, err := openapi.Parse(OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEveryRouteIsDescribed holds the table against the description, both ways.
func TestEveryRouteIsDescribed(t *testing.T) {
	d := readDescription(t)
	if d.OpenAPI != "3.1.0" {
		t.Error(d.OpenAPI)
	}
	routes, ids := map[string]bool{}, map[string]bool{}
	placeholder := regexp.MustCompile(`\{([a-z_]+)\}`)
	for _, route := range Table() {
		method := strings.ToLower(route.Method)
		routes[method+" "+route.Pattern] = true
		op, ok := d.Paths[route.Pattern][method]
		if !ok {
			t.Errorf("%s %s is not described", route.Method, route.Pattern)
			continue
		}
		if op.OperationID == "" || ids[op.OperationID] {
			t.Errorf("%s %s: operationId %q", route.Method, route.Pattern, op.OperationID)
		}
		ids[op.OperationID] = true
		var want, got []string
		for _, match := range placeholder.FindAllStringSubmatch(route.Pattern, -1) {
			want = append(want, match[1])
		}
		once := false
		for _, p := range op.Parameters {
			switch p.In {
			case "path":
				if !p.Required {
					t.Errorf("%s: %s is required", route.Pattern, p.Name)
				}
				got = append(got, p.Name)
			case "header":
				once = once || p.Name == "Idempotency-Key"
			}
		}
		if !slices.Equal(want, got) || once != route.Once {
			t.Errorf("%s %s: path parameters %v, Idempotency-Key %v", route.Method, route.Pattern, got, once)
		}
		for _, status := range []string{"400", "401", "403", "default"} {
			if _, ok := op.Responses[status]; !ok {
				t.Errorf("%s %s: no %s", route.Method, route.Pattern, status)
			}
		}
		if !slices.ContainsFunc([]string{"200", "201", "202"}, func(s string) bool { _, ok := op.Responses[s]; return ok }) {
			t.Errorf("%s %s never succeeds", route.Method, route.Pattern)
		}
	}
	for path, methods := range d.Paths {
		for method := range methods {
			if !routes[method+" "+path] {
				t.Errorf("%s %s is described and not there", method, path)
			}
		}
	}
}

// asked are the schemas of requests, and answered those of answers, by the struct
// that reads or writes them.
var (
	asked = map[string]any{
		"Checkout": Checkout{}, "CheckoutSub": CheckoutSub{}, "SceneInfo": SceneInfo{}, "StoreInfo": StoreInfo{}, "H5Info": H5Info{},
		"Amount": Amount{}, "SubAmount": SubAmount{}, "Registration": Registration{}, "RegisteredSub": RegisteredSub{}, "Empty": struct{}{},
		"Refund": Refund{}, "RefundAmount": RefundAmount{}, "Code": codeBody{}, "Signature": signatureBody{}, "Plaintext": plaintextBody{},
		"Ciphertext": ciphertextBody{}, "Invocation": invokeBody{}, "ParkingEntry": ParkingEntry{}, "ParkingExit": ParkingExit{}, "ParkingNative": ParkingNative{},
	}
	answered = map[string]any{
		"Error": problem{}, "Money": storage.Money{}, "Opened": Opened{}, "QRLinks": QRLinks{}, "Replaced": Replaced{}, "Order": Order{},
		"SubOrder": SubOrder{}, "RefundView": RefundView{}, "InvokeJSAPI": invoke.JSAPI{}, "InvokeApp": invoke.App{},
		"Authorization": authorization{}, "Identity": identity{}, "Verdict": verdict{}, "Encrypted": encrypted{},
		"PlateService": PlateService{}, "OpenPage": parking.OpenPage{}, "OpenData": parking.OpenData{}, "ParkingView": ParkingView{}, "ParkingOrder": ParkingOrder{}, "ParkingRelease": ParkingRelease{}, "ParkingOffer": ParkingOffer{},
	}
	// others are checked in other ways: two put together, a list of texts, what
	// WeChat Pay answers, and what is streamed.
	others = []string{"Closing", "OrderState", "Media", "Bill"}
)

// TestSchemasAreTheStructs: every member of a struct is in its *openapi.Schema, and the
// other way round.
func TestSchemasAreTheStructs(t *testing.T) {
	d := readDescription(t)
	for name := range d.Components.Schemas {
		if asked[name] == nil && answered[name] == nil && !slices.Contains(others, name) {
			t.Errorf("schema %s belongs to no struct", name)
		}
	}
	for name, value := range asked {
		s, ok := d.Components.Schemas[name]
		if !ok {
			t.Errorf("no schema %s", name)
			continue
		}
		same(t, d, name, s, reflect.TypeOf(value))
		if string(s.Additional) != "false" {
			t.Errorf("%s: unknown members are refused; say additionalProperties false", name)
		}
	}
	for name, value := range answered {
		s, ok := d.Components.Schemas[name]
		if !ok {
			t.Errorf("no schema %s", name)
			continue
		}
		same(t, d, name, s, reflect.TypeOf(value))
		// What is always there is required.
		var always []string
		for i := range reflect.TypeOf(value).NumField() {
			tag, rest, _ := strings.Cut(reflect.TypeOf(value).Field(i).Tag.Get("json"), ",")
			if rest == "" {
				always = append(always, tag)
			}
		}
		slices.Sort(always)
		required := slices.Sorted(slices.Values(s.Required))
		if !slices.Equal(always, required) {
			t.Errorf("%s: required %v, always there %v", name, required, always)
		}
	}
	embedded, own := reflect.TypeOf(closing{}).Field(0), reflect.TypeOf(closing{}).Field(1)
	all := d.Components.Schemas["Closing"].AllOf
	if embedded.Type != reflect.TypeOf(Order{}) || len(all) != 2 || all[0].Ref != "#/components/schemas/Order" || len(all[1].Properties) != 1 ||
		all[1].Properties[own.Tag.Get("json")].Type != "string" {
		t.Errorf("Closing: %+v", all)
	}
}

func same(t *testing.T, d *openapi.Document, name string, s *openapi.Schema, typ reflect.Type) {
	t.Helper()
	members := map[string]bool{}
	for i := range typ.NumField() {
		tag, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if tag == "" || tag == "-" {
			continue
		}
		members[tag] = true
		property, ok := s.Properties[tag]
		if !ok {
			t.Errorf("%s.%s is not described", name, tag)
			continue
		}
		if want, got := jsonType(typ.Field(i).Type), typeOf(d, property); want != got && want != "" && got != "" {
			t.Errorf("%s.%s is %s, described as %s", name, tag, want, got)
		}
	}
	for property := range s.Properties {
		if !members[property] {
			t.Errorf("%s.%s is described and not there", name, property)
		}
	}
	for _, required := range s.Required {
		if !members[required] {
			t.Errorf("%s.%s is required and not there", name, required)
		}
	}
}

func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonType(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Int64:
		return "integer"
	case reflect.Bool:
		return "boolean"
	case reflect.Slice:
		return "array"
	case reflect.Struct:
		if t.String() == "time.Time" {
			return "string"
		}
		return "object"
	case reflect.Map:
		return "object"
	}
	return "" // an interface
}

func typeOf(d *openapi.Document, s *openapi.Schema) string {
	if s = d.Resolve(s); s == nil {
		return "a schema that leads nowhere"
	}
	return s.Type
}

// TestReferencesLead: every $ref names something.
func TestReferencesLead(t *testing.T) {
	d := readDescription(t)
	for _, match := range regexp.MustCompile(`"\$ref": "([^"]+)"`).FindAllStringSubmatch(string(OpenAPI()), -1) {
		if name, ok := strings.CutPrefix(match[1], "#/components/schemas/"); ok && d.Components.Schemas[name] == nil {
			t.Errorf("%s leads nowhere", match[1])
		} else if name, isResponse := strings.CutPrefix(match[1], "#/components/responses/"); isResponse && d.Components.Responses[name].Content == nil {
			t.Errorf("%s leads nowhere", match[1])
		} else if !ok && !isResponse {
			t.Errorf("%s is of no known place", match[1])
		}
	}
}

// TestExamplesAreTaken: every example is what its schema says and what its struct
// reads, and is neither with a member more.
func TestExamplesAreTaken(t *testing.T) {
	d := readDescription(t)
	for path, methods := range d.Paths {
		for method, op := range methods {
			if op.RequestBody == nil {
				continue
			}
			content, ok := op.RequestBody.Content["application/json"]
			if !ok {
				continue // a file
			}
			if len(content.Examples) == 0 {
				t.Errorf("%s %s has no example", method, path)
			}
			name := strings.TrimPrefix(content.Schema.Ref, "#/components/schemas/")
			for label, example := range content.Examples {
				taken := func(body []byte) (bySchema, byStruct bool) {
					into := reflect.New(reflect.TypeOf(asked[name])).Interface()
					return d.Validate(content.Schema, body) == nil, !decode(body, into).Refused()
				}
				if bySchema, byStruct := taken(example.Value); !bySchema || !byStruct {
					t.Errorf("%s %s, %s: schema %v, struct %v", method, path, label, bySchema, byStruct)
				}
				more := append([]byte(`{"surplus":1`), bytes.Replace(bytes.TrimPrefix(bytes.TrimSpace(example.Value), []byte("{")), []byte(`"`), []byte(`,"`), 1)...)
				if bySchema, byStruct := taken(more); bySchema || byStruct {
					t.Errorf("%s %s, %s with a member more: schema %v, struct %v", method, path, label, bySchema, byStruct)
				}
			}
		}
	}
}
