//go:build interop

package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// javaClasses compiles examples/java for Java 8.
func javaClasses(t *testing.T) (java, classes string) {
	t.Helper()
	const packages = "default-jdk-headless"
	java, javac := tool(t, "java", packages), tool(t, "javac", packages)
	sources, err := filepath.Glob("../examples/java/*.java")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources in examples/java: %v", err)
	}
	classes = t.TempDir()
	// -options: JDK 21 and later call release 8 obsolete.
	compile := exec.Command(javac, append([]string{
		"--release", "8", "-encoding", "UTF-8", "-Xlint:all,-options", "-Werror", "-d", classes,
	}, sources...)...)
	compile.Env = environment(t)
	if _, err := runTool(t, 2*time.Minute, compile); err != nil {
		t.Fatal(err)
	}
	return java, classes
}

// javaReceiver is examples/java.
func javaReceiver(t *testing.T) receiver {
	t.Helper()
	java, classes := javaClasses(t)
	return receiver{
		serve: func(t *testing.T, port int, env []string) *process {
			cmd := exec.Command(java, "-cp", classes, "Receiver", "127.0.0.1", strconv.Itoa(port))
			cmd.Env = env
			return start(t, "java", cmd)
		},
		order: func(t *testing.T, env []string, number string, fen ...string) (string, error) {
			cmd := exec.Command(java, append([]string{"-cp", classes, "CreateOrder", number}, fen...)...)
			cmd.Env = env
			out, err := runTool(t, time.Minute, cmd)
			return strings.TrimSpace(out), err
		},
		state: func(t *testing.T, dir, number string) orderState {
			t.Helper()
			text, err := os.ReadFile(filepath.Join(dir, number+".properties"))
			if err != nil {
				t.Fatal(err)
			}
			order := make(map[string]string)
			for _, line := range strings.Split(string(text), "\n") {
				if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
					order[name] = value
				}
			}
			shipments, err := strconv.Atoi(order["shipments"])
			if err != nil {
				t.Fatal(err)
			}
			return orderState{order["paid"] == "true", shipments, len(strings.Fields(order["events"]))}
		},
	}
}

func TestJavaAlone(t *testing.T) { javaReceiver(t).testAlone(t) }

func TestJavaBehindGateway(t *testing.T) { javaReceiver(t).testBehindGateway(t) }

// javaCaller is examples/java/Pay.java.
func javaCaller(t *testing.T) exampleCaller {
	t.Helper()
	java, classes := javaClasses(t)
	return func(args ...string) *exec.Cmd {
		return exec.Command(java, append([]string{"-cp", classes, "Pay"}, args...)...)
	}
}

func TestJavaFlows(t *testing.T) { javaCaller(t).testFlows(t) }

func TestJavaOutcomes(t *testing.T) { javaCaller(t).testOutcomes(t) }
