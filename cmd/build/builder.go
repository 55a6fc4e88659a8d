package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/xcaddy"
)

// loadBuilder reads the JSON of an xcaddy.Builder. Unknown fields are errors: a
// misspelled one would otherwise build something else than was meant.
func loadBuilder(path string) (xcaddy.Builder, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return xcaddy.Builder{}, fmt.Errorf("reading the configuration: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return xcaddy.Builder{}, fmt.Errorf("finding the configuration: %w", err)
	}
	builder, err := parseBuilder(data, filepath.Dir(abs))
	if err != nil {
		return xcaddy.Builder{}, fmt.Errorf("%s: %w", path, err)
	}
	return builder, nil
}

// parseBuilder decodes data and makes its relative paths absolute against dir.
func parseBuilder(data []byte, dir string) (xcaddy.Builder, error) {
	var builder xcaddy.Builder
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&builder); err != nil {
		return xcaddy.Builder{}, fmt.Errorf("parsing: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return xcaddy.Builder{}, errors.New("parsing: there is more than one JSON value")
	}
	if len(builder.Plugins) == 0 {
		return xcaddy.Builder{}, errors.New("plugins is empty; that would build a Caddy without the gateway")
	}
	for i, plugin := range builder.Plugins {
		if plugin.PackagePath == "" {
			return xcaddy.Builder{}, fmt.Errorf("plugins[%d] has no module_path", i)
		}
	}
	for i, replacement := range builder.Replacements {
		if replacement.Old == "" || replacement.New == "" {
			return xcaddy.Builder{}, fmt.Errorf("replacements[%d] needs old and new", i)
		}
		target := replacement.New.String()
		if !isRelative(target) {
			continue
		}
		target = filepath.Join(dir, filepath.FromSlash(target))
		if info, err := os.Stat(target); err != nil {
			return xcaddy.Builder{}, fmt.Errorf("replacements[%d]: %w", i, err)
		} else if !info.IsDir() {
			return xcaddy.Builder{}, fmt.Errorf("replacements[%d]: %s is not a directory", i, target)
		}
		builder.Replacements[i] = xcaddy.NewReplace(replacement.Old.String(), target)
	}
	for i, embed := range builder.EmbedDirs {
		if embed.Dir != "" && !filepath.IsAbs(embed.Dir) {
			builder.EmbedDirs[i].Dir = filepath.Join(dir, filepath.FromSlash(embed.Dir))
		}
	}
	if builder.PgoProfile != "" && !filepath.IsAbs(builder.PgoProfile) {
		builder.PgoProfile = filepath.Join(dir, filepath.FromSlash(builder.PgoProfile))
	}
	return builder, nil
}

// isRelative reports whether the target of a replacement is a relative path and
// not a module: as in go.mod, a path begins with a dot.
func isRelative(target string) bool {
	return target == "." || target == ".." ||
		strings.HasPrefix(target, "./") || strings.HasPrefix(target, "../") ||
		strings.HasPrefix(target, `.\`) || strings.HasPrefix(target, `..\`)
}
