package operation

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Operation is one operation of APIv3. Its values are shared and must not be
// changed.
type Operation struct {
	Method string
	Path   string // template, such as /v3/pay/transactions/out-trade-no/{out_trade_no}
	Group  Group
	// Multipart is true for uploads: multipart/form-data, of which only the
	// part "meta" is signed.
	Multipart bool
	// Act says what the gateway does for it.
	Act Act
	// Kind is the kind of order that creates, queries and closes are about.
	Kind storage.OrderKind
	// Request and Response list the members that WeChat Pay wants or sends
	// encrypted, as paths like contact_info.name or receivers[].name.
	Request, Response []string
	// Number is the merchant's number of an operation that moves money, or asks
	// for one that did; nil for others.
	Number *Number
	// SubMchid is where its requests have the sub-merchant they act for.
	SubMchid SubMchidPlace
}

// String returns "METHOD path-template": a closed set, fit for logs.
func (o *Operation) String() string { return o.Method + " " + o.Path }

//go:embed operations.txt
var tableText string

// table and tries are built once, at start: about a millisecond.
var table, tries = build(tableText)

// All lists every operation, by path and method. The slice is the caller's.
func All() []*Operation { return slices.Clone(table) }

// build reads the embedded table. It panics on a line that cannot be read:
// the file is part of the program.
func build(text string) ([]*Operation, map[string]*node) {
	var all []*Operation
	roots, numbers, places := map[string]*node{}, numberOf(), subMchidPlaces(placesText)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, " ")
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "/v3/") {
			panic(fmt.Sprintf("operation: unreadable line %q", line))
		}
		o := &Operation{Method: fields[0], Path: fields[1]}
		for _, flag := range fields[2:] {
			name, list, _ := strings.Cut(flag, "=")
			switch name {
			case "multipart":
				o.Multipart = true
			case "request":
				o.Request = strings.Split(list, ",")
			case "response":
				o.Response = strings.Split(list, ",")
			default:
				panic(fmt.Sprintf("operation: unreadable line %q", line))
			}
		}
		o.Group = groupOf(newShape(o.Method, o.Path, o.Multipart))
		if s, ok := served[o.String()]; ok {
			o.Act, o.Kind = s.act, s.kind
		} else if o.Number = numbers[o.String()]; o.Number != nil {
			o.Act = ActNumbered
			if o.Method == "GET" {
				o.Act = ActQueryNumber
			}
		}
		if o.SubMchid = places[o.String()]; strings.Contains(o.Path, "{sub_mchid}") {
			o.SubMchid = SubMchidInPath
		}
		if roots[o.Method] == nil {
			roots[o.Method] = &node{}
		}
		roots[o.Method].add(o)
		all = append(all, o)
	}
	return all, roots
}
