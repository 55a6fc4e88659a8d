package operation

import (
	_ "embed"
	"fmt"
	"strings"
)

// SubMchidPlace says where the requests of an operation have the sub-merchant
// (子商户) that they act for. A sub_mchid anywhere else means nothing to it.
type SubMchidPlace uint8

// The places.
const (
	// SubMchidNowhere: the operation acts for no sub-merchant, or its requests do
	// not say for which.
	SubMchidNowhere  SubMchidPlace = iota
	SubMchidInPath                 // {sub_mchid} of the path
	SubMchidInQuery                // the parameter sub_mchid
	SubMchidInBody                 // the body's own member sub_mchid
	SubMchidInOrders               // sub_mchid of each of the body's sub_orders
)

//go:embed submchid.txt
var placesText string

// subMchidPlaces reads the embedded list: places by operation. It panics on a line
// that cannot be read: the file is part of the program.
func subMchidPlaces(text string) map[string]SubMchidPlace {
	all := map[string]SubMchidPlace{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		place, operation, _ := strings.Cut(line, " ")
		switch place {
		case "query":
			all[operation] = SubMchidInQuery
		case "body":
			all[operation] = SubMchidInBody
		case "orders":
			all[operation] = SubMchidInOrders
		default:
			panic(fmt.Sprintf("operation: unreadable line %q", line))
		}
	}
	return all
}
