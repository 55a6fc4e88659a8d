package operation

import (
	"fmt"
	"slices"
	"strings"
)

// Group is what a caller is allowed: a set of operations that belong together.
// An operation is in exactly one.
type Group string

// The groups. Refund, transfer, profitsharing and crypto are never implied by
// another.
const (
	Pay           Group = "pay"           // creating basic orders (基础支付)
	Combine       Group = "combine"       // creating combine orders (合单)
	Partner       Group = "partner"       // creating a service provider's orders (服务商)
	Query         Group = "query"         // every order and refund query
	Close         Group = "close"         // every close
	Refund        Group = "refund"        // refunds, reversals, abnormal refunds
	Bill          Group = "bill"          // bills and their files
	Parking       Group = "parking"       // 停车
	ProfitSharing Group = "profitsharing" // 分账
	Transfer      Group = "transfer"      // money out: transfers, red packets
	Media         Group = "media"         // uploads, images
	Crypto        Group = "crypto"        // certificates, echo, encryption
	OpenID        Group = "openid"        // openid exchange
	Other         Group = "other"         // what no rule names
)

// groups in the order in which documents list them.
var groups = []Group{
	Pay, Combine, Partner, Query, Close, Refund, Bill, Parking,
	ProfitSharing, Transfer, Media, Crypto, OpenID, Other,
}

// Groups lists every group. The slice is the caller's.
func Groups() []Group { return slices.Clone(groups) }

// ParseGroup reads the name of a group. The error lists the names.
func ParseGroup(name string) (Group, error) {
	if g := Group(name); slices.Contains(groups, g) {
		return g, nil
	}
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = string(g)
	}
	return "", fmt.Errorf("operation: %q is no operation group; groups are %s", name, strings.Join(names, " "))
}
