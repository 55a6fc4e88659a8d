package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// APIFaultKind is a way an API call can go wrong on demand.
type APIFaultKind string

// The faults of API calls. Those of the first group have no effect on the
// platform's state; in the second group the operation is carried out.
const (
	FaultError         APIFaultKind = "error"          // 500 SYSTEM_ERROR, signed
	FaultTimeoutBefore APIFaultKind = "timeout_before" // no answer until the caller hangs up
	FaultDropBefore    APIFaultKind = "drop_before"    // the connection is cut
	FaultRefuse        APIFaultKind = "refuse"         // APIFault.Code, signed

	FaultErrorAfter     APIFaultKind = "error_after"     // 500 SYSTEM_ERROR though it was done
	FaultTimeoutAfter   APIFaultKind = "timeout_after"   // no answer until the caller hangs up
	FaultDropAfter      APIFaultKind = "drop_after"      // the connection is cut
	FaultUnsigned       APIFaultKind = "unsigned"        // the answer without signature headers
	FaultWrongSignature APIFaultKind = "wrong_signature" // the answer signed by a stranger's key
	FaultSigntest       APIFaultKind = "signtest"        // the answer with a WECHATPAY/SIGNTEST/ signature

	FaultSlow             APIFaultKind = "slow"              // the answer after APIFault.DelayMS
	FaultTampered         APIFaultKind = "tampered"          // a field put into the answer after signing
	FaultStaleTimestamp   APIFaultKind = "stale_timestamp"   // the answer rightly signed ten minutes ago
	FaultStaleCertificate APIFaultKind = "stale_certificate" // the answer signed by a certificate that expired
)

var apiFaultKinds = []APIFaultKind{
	FaultError, FaultTimeoutBefore, FaultDropBefore, FaultRefuse,
	FaultErrorAfter, FaultTimeoutAfter, FaultDropAfter, FaultUnsigned, FaultWrongSignature, FaultSigntest,
	FaultSlow, FaultTampered, FaultStaleTimestamp, FaultStaleCertificate,
}

func (k APIFaultKind) beforeEffect() bool {
	return k == FaultError || k == FaultTimeoutBefore || k == FaultDropBefore || k == FaultRefuse
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
	// Code is what FaultRefuse answers: one of WeChat Pay's, such as NOT_ENOUGH.
	Code string `json:"code"`
	// DelayMS is how long FaultSlow waits, in milliseconds, whatever the time
	// scale; at most a minute. Zero: 3000.
	DelayMS int64 `json:"delay_ms"`
}

// refusals are what FaultRefuse knows, with WeChat Pay's statuses and words.
var refusals = map[string]*apiError{
	"PARAM_ERROR":           fail(http.StatusBadRequest, "PARAM_ERROR", "参数错误"),
	"INVALID_REQUEST":       errInvalid("请求参数符合参数格式，但不符合业务规则"),
	"BANK_ERROR":            fail(http.StatusBadRequest, "BANK_ERROR", "银行系统异常"),
	"SIGN_ERROR":            fail(http.StatusUnauthorized, "SIGN_ERROR", "签名错误"),
	"NO_AUTH":               errNoAuth("商户无权限"),
	"NOT_ENOUGH":            fail(http.StatusForbidden, "NOT_ENOUGH", "基本账户余额不足，请充值后重新发起"),
	"ACCOUNT_ERROR":         fail(http.StatusForbidden, "ACCOUNT_ERROR", "账户异常"),
	"USER_ACCOUNT_ABNORMAL": fail(http.StatusForbidden, "USER_ACCOUNT_ABNORMAL", "用户账户异常或注销"),
	"RULE_LIMIT":            fail(http.StatusForbidden, "RULE_LIMIT", "业务规则限制"),
	"TRADE_ERROR":           fail(http.StatusForbidden, "TRADE_ERROR", "交易错误"),
	"OUT_TRADE_NO_USED":     errNumberUsed(),
	"ORDER_CLOSED":          errOrderClosed(),
	"ORDERPAID":             errOrderPaid(),
	"MCH_NOT_EXISTS":        fail(http.StatusNotFound, "MCH_NOT_EXISTS", "商户号不存在"),
	"ORDER_NOT_EXIST":       errNoOrder(),
	"RESOURCE_NOT_EXISTS":   errResource(),
	"FREQUENCY_LIMITED":     errFrequency(),
	"RATELIMIT_EXCEEDED":    fail(http.StatusTooManyRequests, "RATELIMIT_EXCEEDED", "频率超限"),
	"SYSTEM_ERROR":          errSystem(),
}

const maxSlow = time.Minute

type apiFault struct {
	APIFault
	left int
}

const maxFaultCount = 100_000

// FailAPI arms a fault. Faults apply in the order they were armed, one to a call.
func (p *Platform) FailAPI(f APIFault) error {
	if !slices.Contains(apiFaultKinds, f.Kind) {
		return fmt.Errorf("sandbox: unknown api fault %q", f.Kind)
	}
	if (f.Kind == FaultRefuse) != (f.Code != "") || f.Code != "" && refusals[f.Code] == nil {
		return fmt.Errorf("sandbox: api fault %q with code %q: refuse, and it alone, takes one of WeChat Pay's codes", f.Kind, f.Code)
	}
	if f.DelayMS < 0 || f.DelayMS > maxSlow.Milliseconds() || f.DelayMS != 0 && f.Kind != FaultSlow {
		return fmt.Errorf("sandbox: api fault delay_ms %d: slow, and it alone, takes 1 to %d", f.DelayMS, maxSlow.Milliseconds())
	}
	if f.Kind == FaultSlow && f.DelayMS == 0 {
		f.DelayMS = 3000
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

// takeFault uses up one call of the first fault that matches; the zero value is none.
func (p *Platform) takeFault(method, path string) APIFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.apiFaults {
		if f.Method != "" && f.Method != method || !strings.HasPrefix(path, f.Path) {
			continue
		}
		if f.left--; f.left == 0 {
			p.apiFaults = append(p.apiFaults[:i:i], p.apiFaults[i+1:]...)
		}
		return f.APIFault
	}
	return APIFault{}
}

// failCall takes the place of an answer.
func (p *Platform) failCall(w http.ResponseWriter, r *http.Request, f APIFault) {
	switch f.Kind {
	case FaultError, FaultErrorAfter, FaultRefuse:
		say := errSystem()
		if f.Kind == FaultRefuse {
			say = refusals[f.Code]
		}
		if err := p.writeSigned(w, r, refusal(say), ""); err != nil {
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

// dawdle waits as FaultSlow says; it returns false when nobody waits any more.
func (p *Platform) dawdle(r *http.Request, f APIFault) bool {
	timer := time.NewTimer(time.Duration(f.DelayMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-p.ctx.Done():
	}
	return false
}
