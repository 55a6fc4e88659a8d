package caddymodule

import (
	"fmt"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// resolve replaces the placeholders of a configuration value. A placeholder
// that is unknown or empty is an error that names the option: an empty secret
// would verify anything that is keyed with nothing.
func resolve(option, value string) (string, error) {
	out, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w", option, err)
	}
	if strings.TrimSpace(out) == "" {
		return "", fmt.Errorf("%s: is empty", option)
	}
	return out, nil
}

// resolvePEM gives the PEM text that an option names: a file's path, or a
// placeholder that holds the text itself. Errors never hold the text.
func resolvePEM(option, value string) (string, error) {
	out, err := resolve(option, value)
	if err != nil {
		return "", err
	}
	if strings.Contains(out, "-----BEGIN ") {
		return out, nil
	}
	if strings.ContainsAny(out, "\r\n\x00") || len(out) > 4096 {
		return "", fmt.Errorf("%s: is neither the path of a PEM file nor PEM text", option)
	}
	const maxPEM = 1 << 20
	fi, err := os.Stat(out)
	if err != nil {
		return "", fmt.Errorf("%s: %w", option, err)
	}
	if fi.IsDir() || fi.Size() > maxPEM {
		return "", fmt.Errorf("%s: %s is not a PEM file", option, out)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return "", fmt.Errorf("%s: %w", option, err)
	}
	return string(text), nil
}

// isPlaceholder reports whether the value keeps its secret out of the
// configuration.
func isPlaceholder(value string) bool {
	return strings.Contains(value, "{env.") || strings.Contains(value, "{file.")
}
