package guard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Mode says what becomes of a broken rule.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce" // refused
	Warn    Mode = "warn"    // sent, with the rule in Wechatpay-Gateway-Warning
	Off     Mode = "off"     // not looked at
)

// Setting is one "rules" line of a configuration.
type Setting struct {
	Mode Mode `json:"mode"`
	// Rules are those that the mode is for. None: all of them, where enforce
	// gives every rule back its default.
	Rules []Name `json:"rules,omitempty"`
}

// ParseSetting reads what follows "rules" in a Caddyfile: <mode> [<rule>…]. Its
// errors name what is wrong.
func ParseSetting(args []string) (Setting, error) {
	if len(args) == 0 {
		return Setting{}, errors.New("rules needs enforce, warn or off")
	}
	s := Setting{Mode: Mode(args[0])}
	for _, arg := range args[1:] {
		s.Rules = append(s.Rules, Name(arg))
	}
	_, err := NewPolicy([]Setting{s})
	return s, err
}

// Policy is the mode of each rule. The zero value is the default: everything is
// enforced but close_too_early, which warns. It is immutable.
type Policy struct{ modes map[Name]Mode }

// NewPolicy applies settings in their order: a later one wins, and one that
// names its rules wins over one that does not. Its errors name what is wrong.
func NewPolicy(settings []Setting) (Policy, error) {
	p := Policy{modes: map[Name]Mode{}}
	named, all := map[Name]bool{}, false
	for _, s := range settings {
		switch s.Mode {
		case Enforce, Warn, Off:
		default:
			return Policy{}, fmt.Errorf("rules: %q is no mode; it is enforce, warn or off", s.Mode)
		}
		if len(s.Rules) == 0 && all {
			return Policy{}, errors.New("rules: two lines are for all rules")
		}
		all = all || len(s.Rules) == 0
		for _, name := range s.Rules {
			switch {
			case find(name) == nil:
				return Policy{}, fmt.Errorf("rules: there is no rule %q; there are %s", name, join(Names()))
			case named[name]:
				return Policy{}, fmt.Errorf("rules: %s is named twice", name)
			}
			named[name] = true
			p.modes[name] = s.Mode
		}
	}
	for _, s := range settings {
		if len(s.Rules) > 0 || s.Mode == Enforce {
			continue
		}
		for _, name := range Names() {
			if !named[name] {
				p.modes[name] = s.Mode
			}
		}
	}
	return p, nil
}

// Mode returns the mode of a rule.
func (p Policy) Mode(name Name) Mode {
	if mode, ok := p.modes[name]; ok {
		return mode
	}
	if rule := find(name); rule != nil {
		return rule.Default
	}
	return Enforce
}

func join(names []Name) string {
	names = slices.Sorted(slices.Values(names))
	text := make([]string, len(names))
	for i, name := range names {
		text[i] = string(name)
	}
	return strings.Join(text, ", ")
}
