package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/xcaddy"
)

const module = "github.com/caddy-wechatpay/caddy-wechatpay"

func TestRepositoryConfig(t *testing.T) {
	builder, err := loadBuilder(filepath.Join("..", "..", "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(builder.Replacements) != 1 || builder.Replacements[0].New.String() != root {
		t.Errorf("replacements = %v, want one to %s", builder.Replacements, root)
	}
	if len(builder.Plugins) != 1 || builder.Plugins[0].String() != module+"@v0.0.0" {
		t.Errorf("plugins = %v, want %s@v0.0.0", builder.Plugins, module)
	}
	// The version stands in go.mod too; the two must not drift apart.
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "github.com/caddyserver/caddy/v2 " + builder.CaddyVersion + "\n"; !strings.Contains(string(mod), want) {
		t.Errorf("go.mod does not require %q", strings.TrimSpace(want))
	}
}

func TestParseBuilder(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"fork", "web"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	input := `{
		"caddy_version": "v2.11.9", "os": "linux", "arch": "arm64", "cgo": true,
		"build_flags": "-trimpath", "timeout_build": 1000000000, "pgo_profile": "default.pgo",
		"plugins": [{"module_path": "example.com/a", "version": "v1.0.0"}],
		"replacements": [
			{"old": "example.com/a", "new": "./fork"},
			{"old": "example.com/b", "new": "/srv/b"},
			{"old": "example.com/c", "new": "example.com/d@v1.2.3"}
		],
		"embed_dir": [{"dir": "web", "name": "site"}]
	}`
	got, err := parseBuilder([]byte(input), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct{ what, got, want string }{
		{"caddy_version", got.CaddyVersion, "v2.11.9"},
		{"os", got.OS, "linux"},
		{"arch", got.Arch, "arm64"},
		{"build_flags", got.BuildFlags, "-trimpath"},
		{"timeout_build", got.TimeoutBuild.String(), "1s"},
		{"pgo_profile", got.PgoProfile, filepath.Join(dir, "default.pgo")},
		{"embed_dir", got.EmbedDirs[0].Dir, filepath.Join(dir, "web")},
		{"relative replacement", got.Replacements[0].New.String(), filepath.Join(dir, "fork")},
		{"absolute replacement", got.Replacements[1].New.String(), "/srv/b"},
		{"module replacement", got.Replacements[2].New.String(), "example.com/d@v1.2.3"},
	} {
		if check.got != check.want {
			t.Errorf("%s = %q, want %q", check.what, check.got, check.want)
		}
	}
	if !got.Cgo {
		t.Error("cgo = false, want true")
	}
}

func TestParseBuilderErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const plugins = `"plugins": [{"module_path": "example.com/a"}]`
	for name, test := range map[string]struct{ input, want string }{
		"empty":                  {``, "EOF"},
		"no JSON":                {`{`, "unexpected EOF"},
		"trailing value":         {`{` + plugins + `} {}`, "more than one JSON value"},
		"unknown field":          {`{"plugin": []}`, `unknown field "plugin"`},
		"no plugins":             {`{"caddy_version": "v2.11.9"}`, "plugins is empty"},
		"plugin without path":    {`{"plugins": [{"version": "v1.0.0"}]}`, "plugins[0] has no module_path"},
		"replacement without":    {`{` + plugins + `, "replacements": [{"old": "example.com/a"}]}`, "replacements[0] needs old and new"},
		"replacement not there":  {`{` + plugins + `, "replacements": [{"old": "example.com/a", "new": "./none"}]}`, "replacements[0]: stat"},
		"replacement not folder": {`{` + plugins + `, "replacements": [{"old": "example.com/a", "new": "./file"}]}`, "is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseBuilder([]byte(test.input), dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want it to contain %q", err, test.want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	config := filepath.Join("..", "..", "xcaddy.json")
	for name, test := range map[string]struct {
		args           []string
		fail           error
		code           int
		built          string
		stdout, stderr string
	}{
		"build":           {args: []string{"-config", config, "-o", "out/caddy"}, built: "out/caddy", stdout: "built out/caddy"},
		"default output":  {args: []string{"-config", config}, built: defaultOutput(), stdout: "building Caddy v2.11.9 with 1 plugin(s)"},
		"help":            {args: []string{"-h"}, stdout: "usage: build"},
		"unknown flag":    {args: []string{"-x"}, code: 2, stderr: "usage: build"},
		"argument":        {args: []string{"caddy"}, code: 2, stderr: `unexpected argument "caddy"`},
		"no such file":    {args: []string{"-config", "none.json"}, code: 1, stderr: "reading the configuration"},
		"failing builder": {args: []string{"-config", config}, fail: errors.New("no network"), code: 1, built: defaultOutput(), stderr: "no network"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			built := ""
			build := func(_ context.Context, _ xcaddy.Builder, output string) error {
				built = output
				return test.fail
			}
			if code := run(t.Context(), test.args, &stdout, &stderr, build); code != test.code {
				t.Errorf("code = %d, want %d; stderr: %s", code, test.code, stderr.String())
			}
			if built != test.built {
				t.Errorf("built %q, want %q", built, test.built)
			}
			if !strings.Contains(stdout.String(), test.stdout) {
				t.Errorf("stdout = %q, want it to contain %q", stdout.String(), test.stdout)
			}
			if !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("stderr = %q, want it to contain %q", stderr.String(), test.stderr)
			}
		})
	}
}
