package sandbox

import (
	"fmt"
	"net/http"
	"strings"
)

// APIFaultKind is a way an API call can go wrong on demand.
type APIFaultKind string

// The faults of API calls. Those of the first group have no effect on the
// platform's state; in the second group the operation is carried out.
const (
	FaultError         APIFaultKind = "error"          // 500 SYSTEM_ERROR, signed
	FaultTimeoutBefore APIFaultKind = "timeout_before" // no answer until the caller hangs up
	FaultDropBefore    APIFaultKind = "drop_before"    // the connection is cut

	FaultErrorAfter     APIFaultKind = "error_after"     // 500 SYSTEM_ERROR though it was done
	FaultTimeoutAfter   APIFaultKind = "timeout_after"   // no answer until the caller hangs up
	FaultDropAfter      APIFaultKind = "drop_after"      // the connection is cut
	FaultUnsigned       APIFaultKind = "unsigned"        // the answer without signature headers
	FaultWrongSignature APIFaultKind = "wrong_signature" // the answer signed by a stranger's key
	FaultSigntest       APIFaultKind = "signtest"        // the answer with a WECHATPAY/SIGNTEST/ signature
)

func (k APIFaultKind) known() bool {
	switch k {
	case FaultError, FaultTimeoutBefore, FaultDropBefore, FaultErrorAfter, FaultTimeoutAfter,
		FaultDropAfter, FaultUnsigned, FaultWrongSignature, FaultSigntest:
		return true
	}
	return false
}

func (k APIFaultKind) beforeEffect() bool {
	return k == FaultError || k == FaultTimeoutBefore || k == FaultDropBefore
}

// hangs is for faults after the effect that take the place of the answer.
func (k APIFaultKind) hangs() bool {
	return k == FaultErrorAfter || k == FaultTimeoutAfter || k == FaultDropAfter
}

// APIFault makes the next Count calls that match go wrong.
type APIFault struct {
	Kind   APIFaultKind `json:"kind"`
	Method string       `json:"method"` // "": any
	Path   string       `json:"path"`   // a prefix of the URL's path; "": any
	Count  int          `json:"count"`  // calls; zero: 1
}

type apiFault struct {
	APIFault
	left int
}

const maxFaultCount = 100_000

// FailAPI arms a fault. Faults apply in the order they were armed, one to a call.
func (p *Platform) FailAPI(f APIFault) error {
	if !f.Kind.known() {
		return fmt.Errorf("sandbox: unknown api fault %q", f.Kind)
	}
	if f.Count < 0 || f.Count > maxFaultCount {
		return fmt.Errorf("sandbox: api fault count %d: want 1 to %d", f.Count, maxFaultCount)
	}
	if f.Count == 0 {
		f.Count = 1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.apiFaults) >= 1000 {
		return fmt.Errorf("sandbox: 1000 api faults are armed already")
	}
	p.apiFaults = append(p.apiFaults, &apiFault{APIFault: f, left: f.Count})
	return nil
}

// ClearAPIFaults disarms what FailAPI armed.
func (p *Platform) ClearAPIFaults() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apiFaults = nil
}

// takeFault uses up one call of the first fault that matches; "" is none.
func (p *Platform) takeFault(method, path string) APIFaultKind {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.apiFaults {
		if f.Method != "" && f.Method != method || !strings.HasPrefix(path, f.Path) {
			continue
		}
		if f.left--; f.left == 0 {
			p.apiFaults = append(p.apiFaults[:i:i], p.apiFaults[i+1:]...)
		}
		return f.Kind
	}
	return ""
}

// failCall takes the place of an answer.
func (p *Platform) failCall(w http.ResponseWriter, r *http.Request, kind APIFaultKind) {
	switch kind {
	case FaultError, FaultErrorAfter:
		if err := p.writeSigned(w, r, refusal(errSystem()), ""); err != nil {
			p.log.Error("signing an answer failed", "error", err)
		}
		return
	case FaultTimeoutBefore, FaultTimeoutAfter:
		select {
		case <-r.Context().Done():
		case <-p.ctx.Done():
		}
	}
	panic(http.ErrAbortHandler) // net/http cuts the connection without a word
}
