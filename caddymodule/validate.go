package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// The checks below judge what a configuration says, whether it was written as a
// Caddyfile or as JSON. They read no file and resolve no placeholder: a value
// that holds one is left to Provision.

// optionError says which option of a block an error is about, so that the
// Caddyfile adapter can give it that option's line.
type optionError struct {
	option string // such as `payload`, or `caller erp` for one of several
	err    error
}

func (e *optionError) Error() string { return e.err.Error() }
func (e *optionError) Unwrap() error { return e.err }

// invalid is the error for an option whose value is refused.
func invalid(block, option, format string, args ...any) error {
	return &optionError{option, fmt.Errorf("%s: invalid option %q: %w", block, option, fmt.Errorf(format, args...))}
}

// missing is the error for a required option that is absent.
func missing(block, option, fix string) error {
	return &optionError{option, fmt.Errorf("%s: missing option %q; %s", block, option, fix)}
}

// merchantNameForm is a merchant block's name.
var merchantNameForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$`)

// validateMerchantName checks the name of a merchant block, which stands as a
// path segment in notify URLs.
func validateMerchantName(name string) error {
	if !merchantNameForm.MatchString(name) {
		return errors.New("a merchant's name has 1 to 64 letters, digits, '.', '_' or '-', as it stands in notify URLs")
	}
	return nil
}

// validateBase checks the base URL of an API: https, or anything on loopback.
func validateBase(text string) error {
	if hasPlaceholder(text) {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return errors.New("it is an absolute URL, such as https://api.mch.weixin.qq.com")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("a user name, a query string or a fragment is not allowed in it")
	case u.Scheme != "https" && !isLoopback(u.Hostname()):
		return errors.New("it must be https, except on a loopback address")
	}
	return nil
}

// validateHost checks a base URL that requests are signed for: the signature
// covers the whole path, so there is none to put before it.
func validateHost(text string) error {
	if err := validateBase(text); err != nil || hasPlaceholder(text) {
		return err
	}
	if u, err := url.Parse(text); err == nil && u.Path != "" && u.Path != "/" {
		return errors.New("it has a scheme, a host and a port only; remove the path")
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// hasPlaceholder reports whether a value is known only when it is resolved.
func hasPlaceholder(value string) bool {
	return strings.Contains(value, "{") && strings.Contains(value, "}")
}

// notOneOf tells what an option takes instead of got.
func notOneOf(got string, allowed ...string) error {
	if near := nearest(got, allowed); near != "" && near != got {
		return fmt.Errorf("unknown value %q, did you mean %q? It takes %s", got, near, strings.Join(allowed, ", "))
	}
	return fmt.Errorf("unknown value %q; it takes %s", got, strings.Join(allowed, ", "))
}
