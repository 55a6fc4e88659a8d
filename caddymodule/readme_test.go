package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// syntaxComment finds the grammar in the comment above a parser.
var syntaxComment = regexp.MustCompile(`(?m)^// .*Syntax:\n//\n((?://\t.*\n)+)`)

// trailingComment is a remark after an option; each language has its own.
var trailingComment = regexp.MustCompile(`(?m)\s+# .*$`)

// syntaxBlocks returns the grammars that users read, as the parsers' comments
// have them.
func syntaxBlocks(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("caddyfile_*.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := make(map[string]string)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range syntaxComment.FindAllStringSubmatch(string(source), -1) {
			text := strings.ReplaceAll("\n"+match[1], "\n//\t", "\n")[1:]
			blocks[strings.Fields(text)[0]] = text
		}
	}
	return blocks
}

// TestReadmeSyntax holds the option blocks of both READMEs against the comments
// above the parsers.
func TestReadmeSyntax(t *testing.T) {
	blocks := syntaxBlocks(t)
	names := []string{"wechatpay", "merchant", "wechatpay_notify", "wechatpay_api", "wechatpay_sandbox", "wechatpay_demo_shop"}
	for _, name := range names {
		if blocks[name] == "" {
			t.Fatalf("no comment holds the syntax of %s", name)
		}
	}
	for file, sameRemarks := range map[string]bool{"README.md": true, "README.zh-CN.md": false} {
		readme, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		text := string(readme)
		for _, name := range names {
			want := blocks[name]
			if !sameRemarks {
				text, want = bare(text), bare(want)
			}
			if !strings.Contains(text, "```caddyfile\n"+want+"```\n") {
				t.Errorf("%s: the block of %s differs from the comment above its parser:\n%s", file, name, want)
			}
		}
	}
}

// bare drops remarks.
func bare(text string) string { return trailingComment.ReplaceAllString(text, "") }

// caddyfileBlock finds the Caddyfiles in a README.
var caddyfileBlock = regexp.MustCompile("(?s)```caddyfile\n(.*?)```\n")

// TestReadmeOpens adapts the Caddyfile that each README opens with.
func TestReadmeOpens(t *testing.T) {
	for _, file := range []string{"README.md", "README.zh-CN.md"} {
		readme, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		match := caddyfileBlock.FindStringSubmatch(string(readme))
		if match == nil {
			t.Fatalf("%s opens with no Caddyfile", file)
		}
		_, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(match[1]), nil)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, w := range warnings {
			t.Errorf("%s: %s", file, w)
		}
	}
}

// jsonBlock finds the JSON configuration in a README.
var jsonBlock = regexp.MustCompile("(?s)```json\n(.*?)```\n")

// TestReadmeJSON decodes each README's JSON configuration as Caddy does, which
// refuses unknown fields, and judges it.
func TestReadmeJSON(t *testing.T) {
	for _, file := range []string{"README.md", "README.zh-CN.md"} {
		readme, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		match := jsonBlock.FindStringSubmatch(string(readme))
		if match == nil {
			t.Fatalf("%s shows no JSON", file)
		}
		var config struct {
			Apps struct {
				Wechatpay json.RawMessage
				HTTP      struct {
					Servers map[string]struct {
						Routes []struct{ Handle []map[string]json.RawMessage }
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(match[1]), &config); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var app App
		if err := caddy.StrictUnmarshalJSON(config.Apps.Wechatpay, &app); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := app.Retain.validate(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for name, merchant := range app.Merchants {
			if err := merchant.validate(name); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		judged := 0
		for _, route := range config.Apps.HTTP.Servers["pay"].Routes {
			for _, handler := range route.Handle {
				var validator interface{ validate() error }
				switch string(handler["handler"]) {
				case `"wechatpay_notify"`:
					validator = new(NotifyConfig)
				case `"wechatpay_api"`:
					validator = new(APIConfig)
				default:
					continue
				}
				delete(handler, "handler")
				raw, err := json.Marshal(handler)
				if err != nil {
					t.Fatal(err)
				}
				if err := caddy.StrictUnmarshalJSON(raw, validator); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				if err := validator.validate(); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				judged++
			}
		}
		if judged != 2 {
			t.Errorf("%s: judged %d handlers, want 2", file, judged)
		}
	}
}
