package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/caddy-wechatpay/caddy-wechatpay"

// What the rules below name.
const (
	sdk        = "github.com/wechatpay-apiv3/wechatpay-go"
	badger     = "github.com/dgraph-io/badger/v4"
	caddy      = "github.com/caddyserver/caddy/v2"
	xcaddy     = "github.com/caddyserver/xcaddy"
	zap        = "go.uber.org/zap"
	prometheus = "github.com/prometheus/client_golang"
)

// Small libraries that the domain packages may use.
var smallLibraries = []string{
	"github.com/tidwall/gjson", "github.com/tidwall/sjson", // bytes survive a rewrite
	"golang.org/x/time", "golang.org/x/sync", "github.com/sony/gobreaker/v2",
	"github.com/cenkalti/backoff/v5", "github.com/google/uuid",
	"rsc.io/qr", // code_url as a picture
}

// rule says what a folder's packages may import besides the standard library.
// The longest folder that holds a package decides.
type rule struct {
	folder string // relative to the module; "." is its root
	may    []string
	all    bool // anything
	reason string
}

var rules = []rule{
	{
		folder: "storage",
		reason: "every store, on any technology, implements this contract, so it depends on none",
	},
	{
		folder: "storage/badgerstore",
		may:    []string{ours("storage"), badger, "golang.org/x/sys"},
		reason: "an embedded store is a Badger database and the contract, usable without Caddy",
	},
	{
		folder: "storage/storagetest",
		may:    []string{ours("storage"), "pgregory.net/rapid"},
		reason: "the conformance suite knows the contract and no store",
	},
	{
		folder: "merchant",
		may:    []string{sdk, "golang.org/x/sync"},
		reason: "credentials and keys are the official SDK's business and ours, nobody else's",
	},
	{
		folder: "notify",
		may:    append([]string{ours("notify"), ours("storage"), ours("merchant"), sdk}, smallLibraries...),
		reason: "receiving is decided without Caddy, logging or metrics libraries, and without the sending side",
	},
	{
		folder: "payops",
		may:    append([]string{ours("payops"), ours("storage"), ours("merchant"), sdk}, smallLibraries...),
		reason: "sending is decided without Caddy, logging or metrics libraries, and without the receiving side",
	},
	{
		folder: "sandbox",
		may:    []string{ours("sandbox"), "rsc.io/qr", "github.com/santhosh-tekuri/jsonschema/v6"},
		reason: "a test platform that shares code with what it tests repeats its mistakes and proves nothing",
	},
	{folder: "caddymodule", all: true, reason: "it wires everything"},
	{
		folder: ".",
		may:    []string{ours("caddymodule")},
		reason: "it only registers the modules",
	},
	{
		folder: "cmd/caddy",
		may:    []string{module, caddy},
		reason: "Caddy and the plugin, as xcaddy would write it",
	},
	{
		folder: "cmd/build",
		may:    []string{xcaddy},
		reason: "it builds Caddy and is no part of it",
	},
	{folder: "cmd", all: true, reason: "other programs measure the whole and are not shipped in Caddy"},
	{folder: "internal", all: true, reason: "what tests share; shipped packages may not import it, see onlyTests"},
}

// only says who alone may depend on something, directly or through others.
var only = []struct {
	on     string
	may    []string // folders
	reason string
}{
	{caddy, []string{".", "caddymodule", "cmd", "internal"}, "only caddymodule speaks Caddy"},
	{zap, []string{".", "caddymodule", "cmd", "internal"}, "slog inside, zap at the Caddy edge"},
	{prometheus, []string{".", "caddymodule", "cmd", "internal"}, "the domain counts through small interfaces"},
	{ours("caddymodule"), []string{".", "cmd", "internal"}, "only imports.go and the programs need the modules"},
	{ours("storage/badgerstore"), []string{".", "storage/badgerstore", "caddymodule", "cmd", "internal"}, "the domain speaks storage.Store; caddymodule picks one"},
}

// onlyTests is what no program that users run may hold.
var onlyTests = map[string]string{
	ours("internal"):            "test helpers are not for production",
	ours("storage/storagetest"): "a conformance suite is not for production",
	"pgregory.net/rapid":        "a test library would be linked into every user's Caddy",
	"go.uber.org/goleak":        "a test library would be linked into every user's Caddy",
	"github.com/rogpeppe":       "a test library would be linked into every user's Caddy",
}

// ours is the import path of a folder of this module.
func ours(folder string) string { return module + "/" + folder }

// within reports whether path is prefix or below it.
func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// folderOf returns a package's folder relative to the module.
func folderOf(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// inFolder reports whether folder is parent or below it; the root is only itself.
func inFolder(folder, parent string) bool {
	return folder == parent || (parent != "." && strings.HasPrefix(folder, parent+"/"))
}

// goPackage is what `go list -json` says of a package. Imports and Deps leave
// out what only tests import.
type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
	Module     *struct{ Main bool }
}

// listPackages returns the module's packages and everything they depend on.
func listPackages(t *testing.T) map[string]goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps,Module", module+"/...")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	all := make(map[string]goPackage)
	for dec := json.NewDecoder(&stdout); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	return all
}

// own returns the module's own packages.
func own(all map[string]goPackage) []goPackage {
	var packages []goPackage
	for _, p := range all {
		if p.Module != nil && p.Module.Main {
			packages = append(packages, p)
		}
	}
	slices.SortFunc(packages, func(a, b goPackage) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return packages
}

// ruleOf returns the rule of the longest folder that holds the package.
func ruleOf(folder string) (best rule, ok bool) {
	for _, r := range rules {
		if inFolder(folder, r.folder) && (!ok || len(r.folder) > len(best.folder)) {
			best, ok = r, true
		}
	}
	return best, ok
}

func TestImports(t *testing.T) {
	all := listPackages(t)
	for _, p := range own(all) {
		folder := folderOf(p.ImportPath)
		r, ok := ruleOf(folder)
		if !ok {
			t.Errorf("%s: no rule says what this package may import; add one", folder)
			continue
		}
		for _, imported := range p.Imports {
			if all[imported].Standard || imported == "C" || r.all {
				continue
			}
			if !slices.ContainsFunc(r.may, func(allowed string) bool { return allows(allowed, imported) }) {
				t.Errorf("%s imports %s: %s", folder, imported, r.reason)
			}
		}
	}
}

// allows reports whether an entry of rule.may covers an import. The contract
// package is allowed without the stores below it, and the root without the rest
// of the module.
func allows(allowed, imported string) bool {
	if allowed == ours("storage") || allowed == module {
		return imported == allowed
	}
	return within(imported, allowed)
}

// measures reports whether a folder holds a program that is run to measure or
// to try out the gateway, beside it.
func measures(folder string) bool {
	return inFolder(folder, "cmd") && folder != "cmd/caddy" && folder != "cmd/build"
}

func TestDependencies(t *testing.T) {
	for _, p := range own(listPackages(t)) {
		folder := folderOf(p.ImportPath)
		for _, o := range only {
			if slices.ContainsFunc(o.may, func(f string) bool { return inFolder(folder, f) }) {
				continue
			}
			for _, dep := range p.Deps {
				if within(dep, o.on) {
					t.Errorf("%s depends on %s: %s", folder, dep, o.reason)
				}
			}
		}
		if inFolder(folder, "internal") || folder == "storage/storagetest" || measures(folder) {
			continue
		}
		for forbidden, reason := range onlyTests {
			for _, dep := range p.Deps {
				if within(dep, forbidden) {
					t.Errorf("%s depends on %s outside its tests: %s", folder, dep, reason)
				}
			}
		}
	}
}

// TestRulesNameWhatExists fails when a folder or a dependency was renamed and a
// rule has come to forbid nothing.
func TestRulesNameWhatExists(t *testing.T) {
	all := listPackages(t)
	packages := own(all)
	for _, r := range rules {
		if !slices.ContainsFunc(packages, func(p goPackage) bool { return inFolder(folderOf(p.ImportPath), r.folder) }) {
			t.Errorf("rule for %s: there is no such folder", r.folder)
		}
	}
	for _, o := range only {
		found := false
		for path := range all {
			found = found || within(path, o.on)
		}
		if !found {
			t.Errorf("rule on %s: nothing depends on it any more", o.on)
		}
	}
}

// TestProgramHoldsThePlugin checks that the program is made of what it is for.
func TestProgramHoldsThePlugin(t *testing.T) {
	program, ok := listPackages(t)[ours("cmd/caddy")]
	if !ok {
		t.Fatal("there is no cmd/caddy")
	}
	for _, want := range []string{module, ours("caddymodule"), caddy, badger, sdk} {
		if !slices.ContainsFunc(program.Deps, func(dep string) bool { return within(dep, want) }) {
			t.Errorf("cmd/caddy does not hold %s", want)
		}
	}
}
