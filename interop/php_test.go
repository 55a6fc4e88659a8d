//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// phpReceiver is examples/php.
func phpReceiver(t *testing.T) receiver {
	t.Helper()
	php := tool(t, "php", "php-cli")
	dir, err := filepath.Abs("../examples/php")
	if err != nil {
		t.Fatal(err)
	}
	return receiver{
		serve: func(t *testing.T, port int, env []string) *process {
			cmd := exec.Command(php, "-S", fmt.Sprintf("127.0.0.1:%d", port), filepath.Join(dir, "receiver.php"))
			cmd.Dir = t.TempDir()
			cmd.Env = append(env, "PHP_CLI_SERVER_WORKERS=4")
			return start(t, "php", cmd)
		},
		order: func(t *testing.T, env []string, number string, fen ...string) (string, error) {
			cmd := exec.Command(php, append([]string{filepath.Join(dir, "create_order.php"), number}, fen...)...)
			cmd.Env = env
			out, err := runTool(t, 30*time.Second, cmd)
			return strings.TrimSpace(out), err
		},
		state: func(t *testing.T, dir, number string) orderState {
			t.Helper()
			text, err := os.ReadFile(filepath.Join(dir, number+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var order struct {
				Paid      bool     `json:"paid"`
				Shipments int      `json:"shipments"`
				Events    []string `json:"events"`
			}
			if err := json.Unmarshal(text, &order); err != nil {
				t.Fatal(err)
			}
			return orderState{order.Paid, order.Shipments, len(order.Events)}
		},
	}
}

func TestPHPAlone(t *testing.T) { phpReceiver(t).testAlone(t) }

func TestPHPBehindGateway(t *testing.T) { phpReceiver(t).testBehindGateway(t) }

// phpCaller is examples/php/pay.php.
func phpCaller(t *testing.T) exampleCaller {
	t.Helper()
	php := tool(t, "php", "php-cli")
	return func(args ...string) *exec.Cmd {
		return exec.Command(php, append([]string{"../examples/php/pay.php"}, args...)...)
	}
}

func TestPHPFlows(t *testing.T) { phpCaller(t).testFlows(t) }

func TestPHPOutcomes(t *testing.T) { phpCaller(t).testOutcomes(t) }
