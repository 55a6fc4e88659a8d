package caddymodule

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// option is one line of a block: its name, what its arguments look like, and
// what takes them.
type option struct {
	name   string
	syntax string // the arguments, as errors show them
	min    int    // fewest arguments
	max    int    // most arguments; negative: no bound
	repeat bool   // may stand more than once
	secret bool   // arguments never appear in an error
	later  bool   // belongs to the grammar, but this version does not have it
	given  bool   // an earlier block of the same kind has set it

	// set takes the arguments of an option without a block.
	set func(args []string) error
	// parse takes over from the dispenser, whose current token is the option's
	// name, and leaves it at the last token of the option.
	parse func(d *caddyfile.Dispenser) error
}

// optionBlock parses a block of options and remembers where each was given, so
// that an error found when all are known still names its line.
type optionBlock struct {
	name    string // as errors name the block, such as `merchant shop`
	options []option
	at      map[string]caddyfile.Token
}

// parse reads the block that begins at d's current line. All arguments before
// the block must have been consumed.
func (b *optionBlock) parse(d *caddyfile.Dispenser) error {
	b.at = make(map[string]caddyfile.Token)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		opt, ok := b.option(name)
		if !ok {
			return d.Errf("%s: unrecognized option %s", b.name, b.suggestion(name))
		}
		if opt.later {
			return d.WrapErr(b.notYet(name))
		}
		if first, ok := b.at[name]; ok && !opt.repeat {
			return d.Errf("%s: duplicate option %q, first given at %s:%d", b.name, name, first.File, first.Line)
		}
		if opt.given {
			return d.Errf("%s: duplicate option %q, first given in an earlier block", b.name, name)
		}
		if _, ok := b.at[name]; !ok {
			b.at[name] = d.Token()
		}
		if err := b.take(d, opt); err != nil {
			return err
		}
	}
	return nil
}

// take reads one option.
func (b *optionBlock) take(d *caddyfile.Dispenser, opt option) error {
	if opt.parse != nil {
		return opt.parse(d)
	}
	token := d.Token()
	args := d.RemainingArgs()
	usage := strings.TrimSpace(opt.name + " " + opt.syntax)
	switch {
	case len(args) < opt.min:
		return d.Errf("%s: missing argument of option %q; syntax: %s", b.name, opt.name, usage)
	case opt.max >= 0 && len(args) > opt.max && opt.secret:
		return d.Errf("%s: surplus argument of option %q; syntax: %s", b.name, opt.name, usage)
	case opt.max >= 0 && len(args) > opt.max:
		return d.Errf("%s: surplus argument %q of option %q; syntax: %s", b.name, args[opt.max], opt.name, usage)
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("%s: option %q takes no block; syntax: %s", b.name, opt.name, usage)
	}
	// A repeated option is told apart by its first argument, unless that is a
	// secret. The last one counts: it is the one that is too many.
	if opt.repeat && !opt.secret && len(args) > 0 {
		b.at[opt.name+" "+args[0]] = token
	}
	if err := opt.set(args); err != nil {
		return wrapAt(token, invalid(b.name, opt.name, "%w", err))
	}
	return nil
}

// check gives err, the verdict of a validate method, the line of the option it
// is about: that of the option, or that of the closing brace when the option is
// absent.
func (b *optionBlock) check(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	var about *optionError
	if errors.As(err, &about) {
		option := about.option
		for {
			if token, ok := b.at[option]; ok {
				return wrapAt(token, err)
			}
			cut := strings.LastIndexByte(option, ' ')
			if cut < 0 {
				break
			}
			option = option[:cut]
		}
	}
	return d.WrapErr(err)
}

func (b *optionBlock) option(name string) (option, bool) {
	for _, opt := range b.options {
		if opt.name == name {
			return opt, true
		}
	}
	return option{}, false
}

// notYet is the error for a part of the grammar whose feature is still to come.
func (b *optionBlock) notYet(what string) error {
	return fmt.Errorf("%s: option %q is not in this version of caddy-wechatpay yet; remove it to load the configuration", b.name, what)
}

// looksLikeOption keeps what is no option name, such as a line of a PEM block
// that lost its quotes, out of errors.
var looksLikeOption = regexp.MustCompile(`^[A-Za-z0-9_.{}@*/:-]{1,40}$`)

// suggestion names an unknown option together with what may have been meant.
func (b *optionBlock) suggestion(name string) string {
	names := make([]string, 0, len(b.options))
	for _, opt := range b.options {
		if !opt.later {
			names = append(names, opt.name)
		}
	}
	if !looksLikeOption.MatchString(name) {
		return "(not shown, it does not look like one); the options are " + strings.Join(names, ", ")
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("%q; did you mean %q?", name, near)
	}
	return fmt.Sprintf("%q; the options are %s", name, strings.Join(names, ", "))
}

// nearest returns the candidate that differs from name by at most a third of
// its letters, or "".
func nearest(name string, candidates []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, c := range candidates {
		if n := editDistance(strings.ToLower(name), c); n < bestDistance {
			best, bestDistance = c, n
		}
	}
	return best
}

// editDistance counts the insertions, deletions, substitutions and swaps of
// neighbours that turn a into b.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			substitution := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				substitution++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, substitution)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// wrapAt gives err the file and line of token.
func wrapAt(token caddyfile.Token, err error) error {
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d.WrapErr(err)
}

// noArgs refuses arguments between a name and its block.
func noArgs(d *caddyfile.Dispenser, name string) error {
	if d.NextArg() {
		return d.Errf("%s: surplus argument %q", name, d.Val())
	}
	return nil
}
