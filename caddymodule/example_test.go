package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// examplePorts are the ports that Caddyfile.example names.
var examplePorts = []string{"8443", "8880", "8080", "8181"}

// The newcomer's first minute: Caddyfile.example in a process of its own, with
// its ports replaced by free ones. The shop's page shows a combine order made
// through the gateway; it is paid on the sandbox, which sends the callback in
// every bad way it knows; the backend gets it once.
func TestCaddyfileExample(t *testing.T) {
	text, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	port := make(map[string]string)
	for _, p := range examplePorts {
		if !strings.Contains(config, p) {
			t.Fatalf("Caddyfile.example does not name port %s", p)
		}
		_, port[p], _ = net.SplitHostPort(freePort(t))
		config = strings.ReplaceAll(config, p, port[p])
	}
	admin := freePort(t)
	config = strings.Replace(config, "{\n", "{\n\tadmin "+admin+"\n", 1)
	b := &bench{t: t, dir: t.TempDir(), listen: "127.0.0.1:" + port["8080"], admin: admin}
	c := b.spawnText(config)
	defer func() {
		c.kill()
		if t.Failed() {
			t.Log(c.log)
		}
	}()

	shop := "http://" + b.listen
	var order string
	eventually(t, 30*time.Second, "the shop sells a combine order", func() bool {
		page := get(t, shop+"/")
		order = regexp.MustCompile(`<code>(C[0-9A-Z]+)</code>`).FindString(page)
		order = strings.TrimSuffix(strings.TrimPrefix(order, "<code>"), "</code>")
		return order != "" && strings.Contains(page, "<svg") && strings.Contains(page, "/sandbox/pay?code_url=")
	})

	control := "http://127.0.0.1:" + port["8181"] + "/sandbox/control"
	faults := `{"order":"` + order + `","faults":{"probes":1,"forged":1,"stale":1,"duplicates":3,"concurrent":5}}`
	resp, err := http.Post(control+"/pay", "application/json", strings.NewReader(faults))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("pay: %s", resp.Status)
	}
	var sent struct {
		Attempts []struct {
			Kind   string `json:"kind"`
			Status int    `json:"status"`
		} `json:"attempts"`
	}
	decode(t, get(t, control+"/wait?order="+order+"&attempts=11&timeout=8"), &sent)
	for _, a := range sent.Attempts {
		want := http.StatusOK
		if a.Kind == "probe" || a.Kind == "forged" || a.Kind == "stale" {
			want = http.StatusUnauthorized
		}
		if a.Status != want {
			t.Errorf("a %s callback got %d, want %d", a.Kind, a.Status, want)
		}
	}

	var got struct {
		Events []struct {
			Kind        string `json:"kind"`
			AmountCheck string `json:"amount_check"`
			Verified    bool   `json:"verified"`
			Times       int    `json:"times"`
		} `json:"events"`
	}
	eventually(t, 10*time.Second, "the backend has it", func() bool {
		decode(t, get(t, shop+"/events"), &got)
		return len(got.Events) > 0
	})
	if len(got.Events) != 1 || got.Events[0].Times != 1 || !got.Events[0].Verified ||
		got.Events[0].Kind != "combine" || got.Events[0].AmountCheck != "matched" {
		t.Errorf("the backend got %+v", got.Events)
	}
	c.kill() // the log is whole then
	if log := c.log.String(); strings.Contains(log, `"msg":"root certificate installed"`) || strings.Contains(log, "certificate installed properly") {
		t.Error("the system's trust store was touched")
	}
}

// spawnText runs a configuration as it is.
func (b *bench) spawnText(config string) *child {
	b.t.Helper()
	file := filepath.Join(b.dir, "Caddyfile")
	mustWrite(b.t, file, config)
	return b.spawnFile(file)
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.NewDecoder(bytes.NewReader([]byte(text))).Decode(into); err != nil {
		t.Fatal(fmt.Errorf("%w in %s", err, text))
	}
}
