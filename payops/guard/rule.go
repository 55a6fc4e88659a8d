package guard

import (
	"net/http"
	"slices"
	"time"
)

// Name names a rule: in a configuration, and in Wechatpay-Gateway-Refused,
// Wechatpay-Gateway-Warning and Wechatpay-Gateway-Rule-Unchecked.
type Name string

// Verdict is what a rule says.
type Verdict uint8

// The verdicts.
const (
	// Pass: the rule is kept, or has nothing to say about the request.
	Pass Verdict = iota
	// Refuse: the rule is broken.
	Refuse
	// Unchecked: neither the ledger nor WeChat Pay told what the rule needs.
	Unchecked
)

// String returns pass, refuse or unchecked.
func (v Verdict) String() string {
	switch v {
	case Pass:
		return "pass"
	case Refuse:
		return "refuse"
	case Unchecked:
		return "unchecked"
	}
	return "unchecked"
}

// Finding is a verdict and, of a refusal, when to try again.
type Finding struct {
	Verdict Verdict
	// RetryAfter is when the same request may pass; zero: time cures nothing.
	RetryAfter time.Duration
}

func pass() Finding      { return Finding{} }
func refuse() Finding    { return Finding{Verdict: Refuse} }
func unchecked() Finding { return Finding{Verdict: Unchecked} }

// wait refuses until d has passed, and passes when nothing of it is left.
func wait(d time.Duration) Finding {
	if d <= 0 {
		return pass()
	}
	return Finding{Verdict: Refuse, RetryAfter: d}
}

// refuseIf refuses what is wrong.
func refuseIf(wrong bool) Finding {
	if wrong {
		return refuse()
	}
	return pass()
}

// Rule is one row of [Table].
type Rule struct {
	Name   Name
	Looks  string // what it looks at
	Source string // where WeChat Pay says so
	// Status is the HTTP status of the refusal: 400, 403, 409 or 429.
	Status int
	// Message goes to the caller with the refusal. It holds no value of a request.
	Message string
	// Default is the mode where the configuration says nothing.
	Default Mode
	// Check is pure. A rule passes what it has nothing to say about.
	Check func(Facts) Finding
}

// Refusal is the first enforced rule that is broken.
type Refusal struct {
	Rule       *Rule
	RetryAfter time.Duration
}

// Result is what the table says about a request.
type Result struct {
	Refusal   *Refusal // nil: none
	Warnings  []Name   // broken rules that only warn
	Unchecked []Name   // rules that are not off and could not be checked
}

// Evaluate runs the table from top to bottom and stops at the first refusal.
func Evaluate(p Policy, f Facts) Result {
	var result Result
	for i := range Table {
		rule := &Table[i]
		mode := p.Mode(rule.Name)
		if mode == Off {
			continue
		}
		switch finding := rule.Check(f); finding.Verdict {
		case Pass:
		case Unchecked:
			result.Unchecked = append(result.Unchecked, rule.Name)
		case Refuse:
			if mode == Warn {
				result.Warnings = append(result.Warnings, rule.Name)
				continue
			}
			result.Refusal = &Refusal{Rule: rule, RetryAfter: finding.RetryAfter}
			return result
		}
	}
	return result
}

// Names lists the rules in the order of the table. The slice is the caller's.
func Names() []Name {
	names := make([]Name, len(Table))
	for i := range Table {
		names[i] = Table[i].Name
	}
	return names
}

func find(name Name) *Rule {
	i := slices.IndexFunc(Table, func(r Rule) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &Table[i]
}

const (
	malformed = http.StatusBadRequest
	conflict  = http.StatusConflict
	tooSoon   = http.StatusTooManyRequests
)
