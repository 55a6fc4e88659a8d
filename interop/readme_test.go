//go:build interop

package interop

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Every command that the READMEs show is run, as it is shown: only the host
// that it names is a gateway of the test's.
func TestReadmeCommands(t *testing.T) {
	tool(t, "curl", "curl")
	g := startGateway(t, gatewayOptions{backend: "127.0.0.1:1"})
	shell := func(command string) (string, error) {
		command = strings.ReplaceAll(command, "https://pay.example.com", g.url)
		command = strings.ReplaceAll(command, "/run/caddy/admin.sock", g.admin)
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = ".."
		cmd.Env = environment(t, "ERP_TOKEN="+token)
		return runTool(t, callBound, cmd)
	}
	ran := make(map[string]bool)
	for _, readme := range []string{"../README.md", "../README.zh-CN.md"} {
		for _, command := range commandsOf(t, readme) {
			if ran[command] {
				continue
			}
			ran[command] = true
			t.Run(strings.Fields(command)[0]+"/"+filepath.Base(readme), func(t *testing.T) {
				switch {
				case command == "go test ./...":
					// This very test runs where .ci/run has run that.
					ci, err := os.ReadFile("../.ci/run")
					if err != nil || !bytes.Contains(ci, []byte("\n"+command+"\n")) {
						t.Errorf(".ci/run does not run %q: %v", command, err)
					}
				case strings.HasPrefix(command, "go run ./cmd/caddy run "):
					runExample(t, command)
				case strings.HasPrefix(command, "xcaddy build "):
					buildWithXcaddy(t, command)
				case strings.Contains(command, "/v3/pay/transactions/native"):
					out, err := shell(command)
					if err != nil || !strings.Contains(out, `"code_url":"weixin://`) {
						t.Errorf("%v: %s", err, out)
					}
				case strings.HasPrefix(command, "caddy wechatpay "):
					binary, err := caddyBinary()
					if err != nil {
						t.Fatal(err)
					}
					out, err := shell(binary + strings.TrimPrefix(command, "caddy"))
					if err != nil || out == "" {
						t.Errorf("%v: %s", err, out)
					}
				case strings.Contains(command, "/wechatpay/inbox"):
					out, err := shell(command)
					if err != nil || !strings.Contains(out, `"notifications":[]`) {
						t.Errorf("%v: %s", err, out)
					}
				default:
					t.Errorf("nothing runs this command:\n%s", command)
				}
			})
		}
	}
}

// commandsOf returns the commands of a page's sh blocks, continued lines joined
// and languages' own words made one.
func commandsOf(t *testing.T, page string) []string {
	t.Helper()
	_, _, text := flowsOf(t, page) // the flows are run by a test of their own
	var commands []string
	for i, block := range strings.Split(text, "```") {
		body, shown := strings.CutPrefix(block, "sh\n")
		if i%2 == 0 || !shown {
			continue
		}
		body = strings.ReplaceAll(body, "两本书", "Two books")
		for line := range strings.Lines(strings.ReplaceAll(body, "\\\n", " ")) {
			if line = strings.TrimSpace(line); line != "" {
				commands = append(commands, line)
			}
		}
	}
	if len(commands) < 4 {
		t.Fatalf("%s shows only %q", page, commands)
	}
	return commands
}

// runExample runs the newcomer's command, with its own ports, and opens the page.
func runExample(t *testing.T, command string) {
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", "exec "+command)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir+"/data", "XDG_CONFIG_HOME="+dir+"/config")
	p := start(t, "example", cmd)
	p.waitReady(t, func() error {
		req, err := http.NewRequest(http.MethodGet, "http://localhost:8080/", nil)
		if err != nil {
			return err
		}
		status, body, err := do(req)
		if err != nil {
			return err
		}
		if status != http.StatusOK || !bytes.Contains(body, []byte("<svg")) {
			return fmt.Errorf("status %d, no QR code", status)
		}
		return nil
	})
}

// buildWithXcaddy builds from the checkout as the page says. What it says for a
// published version names the same module without one, and has nothing to be
// fetched before the first release.
func buildWithXcaddy(t *testing.T, command string) {
	rest := strings.TrimPrefix(command, "xcaddy ")
	if !strings.HasSuffix(rest, "@v0.0.0=.") {
		if !strings.HasSuffix(rest, "--with github.com/caddy-wechatpay/caddy-wechatpay") {
			t.Errorf("not the module's path: %s", command)
		}
		return
	}
	out := filepath.Join(t.TempDir(), "caddy")
	cmd := exec.Command("sh", "-c", "go run github.com/caddyserver/xcaddy/cmd/xcaddy "+rest+" --output "+out)
	cmd.Dir = ".."
	cmd.Env = os.Environ()
	if text, err := runTool(t, 20*time.Minute, cmd); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	text, err := exec.Command(out, "list-modules").CombinedOutput()
	if err != nil || !bytes.Contains(text, []byte("http.handlers.wechatpay_notify")) {
		t.Errorf("%v\n%s", err, text)
	}
}
