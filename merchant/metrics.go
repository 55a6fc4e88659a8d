package merchant

// KeySource is where a refresh takes keys from.
type KeySource string

const (
	SourceCertificates KeySource = "certificates" // GET /v3/certificates
	SourceSandbox      KeySource = "sandbox"      // GET /sandbox/keys/{mchid}
)

// RefreshOutcome is how a refresh ended: a closed set, fit for a label.
type RefreshOutcome string

const (
	RefreshChanged   RefreshOutcome = "changed"   // the key set is another one now
	RefreshUnchanged RefreshOutcome = "unchanged" // the same keys as before
	RefreshFailed    RefreshOutcome = "failed"    // no answer, or an answer other than 200
	RefreshMalformed RefreshOutcome = "malformed" // an answer that was not believed; the last good set stays
	RefreshPanicked  RefreshOutcome = "panicked"  // a bug, caught; the last good set stays
)

// Metrics counts what the package does. Implementations are safe for
// concurrent use and do not block.
type Metrics interface {
	// KeyRefresh counts one refresh.
	KeyRefresh(merchant string, source KeySource, outcome RefreshOutcome)
	// KeySetChanged shows the set that is trusted from now on, for gauges such
	// as the number of keys and the newest NotAfter.
	KeySetChanged(merchant string, keys *KeySet)
}

// NopMetrics counts nothing.
type NopMetrics struct{}

// KeyRefresh does nothing.
func (NopMetrics) KeyRefresh(string, KeySource, RefreshOutcome) {}

// KeySetChanged does nothing.
func (NopMetrics) KeySetChanged(string, *KeySet) {}
