package caddymodule

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// The READMEs name every metric, event, outcome and result there is, and no
// others.
func TestReadmesNameWhatIsCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	if err := registerMetrics(reg, &inboxCollector{}); err != nil {
		t.Fatal(err)
	}
	var metrics []string
	described := make(chan *prometheus.Desc, 100)
	reg.Describe(described)
	close(described)
	for d := range described {
		metrics = append(metrics, regexp.MustCompile(`fqName: "([a-z_]+)"`).FindStringSubmatch(d.String())[1])
	}
	var events []string
	for _, file := range []string{"observer.go", "api_handler.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(wechatpay\.[a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
			events = append(events, m[1])
		}
	}
	outcomes := constantsOf(t, "../notify/observer.go", "Outcome")
	results := constantsOf(t, "../notify/observer.go", "Result")
	if len(metrics) < 10 || len(events) < 8 || !slices.Contains(outcomes, string(notify.OutcomeProbe)) || !slices.Contains(results, string(notify.ResultNotSent)) {
		t.Fatalf("found %d metrics, %d events, outcomes %v, results %v", len(metrics), len(events), outcomes, results)
	}
	for _, readme := range []string{"../README.md", "../README.zh-CN.md"} {
		raw, err := os.ReadFile(readme)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		for _, name := range append(metrics, events...) {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%s does not name %s", readme, name)
			}
		}
		for _, m := range regexp.MustCompile("`((?:caddy_wechatpay_|wechatpay\\.)[a-z_]+)`").FindAllStringSubmatch(text, -1) {
			if !slices.Contains(metrics, m[1]) && !slices.Contains(events, m[1]) && !strings.HasPrefix(m[1], "wechatpay.storage") {
				t.Errorf("%s names %s, which does not exist", readme, m[1])
			}
		}
		for _, list := range [][]string{outcomes, results} {
			if !strings.Contains(text, "`"+strings.Join(list, " ")+"`") {
				t.Errorf("%s does not list %s", readme, strings.Join(list, " "))
			}
		}
	}
}

// constantsOf reads the values of a type's constants, in order.
func constantsOf(t *testing.T, file, name string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, m := range regexp.MustCompile(name+`[A-Za-z0-9]*\s+`+name+`\s*=\s*"([a-z0-9_]+)"`).FindAllStringSubmatch(string(text), -1) {
		values = append(values, m[1])
	}
	return values
}
