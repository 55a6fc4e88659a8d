package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "rewrite the expectations of testdata/adapt")

// fewestAdaptFiles guards against a test that passes because it found nothing.
const fewestAdaptFiles = 60

// TestAdapt adapts every testdata/adapt/*.caddyfiletest: a Caddyfile, a line of
// ten dashes, and the JSON it becomes or the whole error it gets. Files named
// err_… hold errors.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "adapt", "*.caddyfiletest"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < fewestAdaptFiles {
		t.Fatalf("found %d adapt files, want at least %d", len(files), fewestAdaptFiles)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".caddyfiletest")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, found := strings.Cut(strings.ReplaceAll(string(data), "\r\n", "\n"), "----------\n")
			if !found && !*update {
				t.Fatal("no line of ten dashes")
			}
			got, failed := adapt(t, input)
			if wantError := strings.HasPrefix(name, "err_"); failed != wantError {
				t.Fatalf("failed = %v, want %v; got:\n%s", failed, wantError, got)
			}
			if *update {
				if err := os.WriteFile(file, []byte(input+"----------\n"+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want = strings.TrimSpace(want); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// adapt returns the configuration's JSON, or the error's text and true.
func adapt(t *testing.T, input string) (string, bool) {
	t.Helper()
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
	if err != nil {
		return err.Error(), true
	}
	for _, w := range warnings {
		t.Errorf("unexpected warning: %s", w)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, adapted, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return pretty.String(), false
}

// TestErrorsNameTheLine checks that every error of the grammar says where.
func TestErrorsNameTheLine(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "adapt", "err_*.caddyfiletest"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, want, _ := strings.Cut(string(data), "----------\n")
		if !strings.Contains(want, "at Caddyfile:") {
			t.Errorf("%s: the error names no line: %s", file, want)
		}
	}
}

// TestErrorsKeepSecrets checks that no error repeats what stood where a secret
// belongs: every secret in the files holds the word hush.
func TestErrorsKeepSecrets(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "adapt", "err_*.caddyfiletest"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, _, _ := strings.Cut(string(data), "----------\n")
		if !strings.Contains(input, "hush") {
			continue
		}
		seen++
		if got, _ := adapt(t, input); strings.Contains(got, "hush") {
			t.Errorf("%s: the error holds a secret: %s", file, got)
		}
	}
	if seen == 0 {
		t.Error("no file holds a secret")
	}
}
