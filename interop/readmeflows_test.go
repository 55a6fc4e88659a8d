//go:build interop

package interop

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Where the READMEs show the flows: from these headings to the next.
var flowHeadings = map[string]string{"../README.md": "\n## Flows\n", "../README.zh-CN.md": "\n## 各流程\n"}

// flow is one shown flow: its title, and the commands as they are shown.
type flow struct{ title, commands string }

// flowsOf reads a README's flows, the Caddyfile that they run with, and the page
// without both.
func flowsOf(t *testing.T, page string) (flows []flow, caddyfile, rest string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, section, found := strings.Cut(string(text), flowHeadings[page])
	if !found {
		t.Fatalf("%s shows no flows", page)
	}
	section, after, _ := strings.Cut(section, "\n## ")
	blocks := strings.Split(section, "```sh\n")
	for i, block := range blocks[1:] {
		_, title, _ := cutLast(blocks[i], "\n**")
		title, _, titled := strings.Cut(title, "**")
		if !titled {
			t.Fatalf("%s: a block has no title:\n%s", page, block)
		}
		commands, _, _ := strings.Cut(block, "```")
		flows = append(flows, flow{strings.TrimRight(title, ".。"), commands})
	}
	if match := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindStringSubmatch(section); match != nil {
		caddyfile = match[1]
	}
	return flows, caddyfile, before + "\n## " + after
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// flowAnswers is what each flow prints, in parts that must all be there.
var flowAnswers = map[string][]string{
	"Native: a QR code on a screen":                        {`"code_url":"weixin://`},
	"The QR code itself":                                   {},
	"A checkout, for backends that do not know WeChat Pay": {`"state":"created"`, `"code_url":"weixin://`, `/qr.png`},
	"Who is the payer: OpenID":                             {`/connect/oauth2/authorize?appid=wx8888888888888888&redirect_uri=https%3A%2F%2Fshop.example.com%2Fback`, `"openid":"o`},
	"JSAPI: a page inside WeChat":                          {`"prepay_id":"wx`, `"signType":"RSA"`, `"paySign":"`},
	"Mini program":                                         {`"appid":"wx7777777777777777"`, `"paySign":"`},
	"App":                                                  {`"package":"Sign=WXPay"`, `"sign":"`},
	"H5: a browser on a phone":                             {`"h5_url":"https://`},
	"Combine order":                                        {`"code_url":"weixin://`},
	"A service provider's order":                           {`"code_url":"weixin://`},
	"Pay, in the sandbox":                                  {`"out_trade_no":"NATIVE0001"`, `"out_trade_no":"CART0001"`, `"TRANSACTION.SUCCESS"`},
	"Query":                                                {`"trade_state":"SUCCESS"`, `"state":"paid"`},
	"Refund":                                               {`"out_refund_no":"REFUND0001"`, `"status":"PROCESSING"`, `"out_trade_no":"CART0001A"`, `"refund":20`},
	"Refund query":                                         {`"out_refund_no":"REFUND0001"`, `"state":"`},
	"Close":                                                {`"close_at":"`},
	"Another price: replace an order":                      {`"code":"ORDERPAID"`, `"out_trade_no":"NATIVE0001"`},
	"An order made elsewhere":                              {`"state":"registered"`},
	"Bills":                                                {`"kind":"trade"`, `"out_trade_no":"NATIVE0001"`, `"total":100`},
	"Pictures":                                             {`"media_id":"`},
	"Sensitive fields":                                     {`"echo_message":"hello"`, `"encrypted_echo_message":"Zhang San"`},
	"On to a backend":                                      {`{"booked":"THEN000001"}`},
	"A caller with a key of its own":                       {`"code_url":"weixin://`},
	"Everything else":                                      {`"openapi": "3.1`, `/gateway/checkout`},
}

// ownKey is what the page adds to the configuration for such a caller.
const ownKey = "caller store key 7D3A0BB5 store_pub.pem\nallow store pay\n"

// TestReadmeFlows runs every flow of the READMEs as it is shown, in the shown
// order, on the shown configuration: only ports are the test's own.
func TestReadmeFlows(t *testing.T) {
	tool(t, "curl", "curl")
	flows, caddyfile, _ := flowsOf(t, "../README.md")
	chinese, chineseFile, _ := flowsOf(t, "../README.zh-CN.md")
	file, err := os.ReadFile("../Caddyfile.flows")
	if err != nil {
		t.Fatal(err)
	}
	if caddyfile == "" || !strings.HasSuffix(string(file), caddyfile) || caddyfile != chineseFile {
		t.Error("the READMEs show another Caddyfile.flows")
	}
	if !slices.EqualFunc(flows, chinese, func(a, b flow) bool { return a.commands == b.commands }) {
		t.Error("the READMEs show different commands")
	}

	binary, err := caddyBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir, ports := t.TempDir(), freePorts(t, 3)
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"openssl genrsa -out store.pem 2048", "openssl rsa -in store.pem -pubout -out store_pub.pem"} {
		if !strings.Contains(string(readme), "`"+command+"`") {
			t.Errorf("the page does not show %s", command)
		}
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = dir
		if out, err := runTool(t, callBound, cmd); err != nil {
			t.Fatal(err, out)
		}
	}
	const lastAllow = "\n\t\t\tallow erp pay combine query close refund bill media crypto openid"
	if !strings.Contains(string(readme), "```caddyfile\n"+ownKey+"```\n") || !strings.Contains(string(file), lastAllow) {
		t.Error("the page shows other lines for a caller with a key of its own")
	}
	own := strings.NewReplacer("localhost:9880", fmt.Sprint("localhost:", ports[0]), "localhost:9881", fmt.Sprint("localhost:", ports[1]),
		"auto_https off", fmt.Sprintf("auto_https off\n\tadmin localhost:%d", ports[2]), lastAllow, lastAllow+"\n"+ownKey)
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(own.Replace(string(file))), 0o600); err != nil {
		t.Fatal(err)
	}
	const token = "a-token-of-your-choice"
	cmd := exec.Command(binary, "run", "--config", config)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ERP_TOKEN="+token, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	p := start(t, "flows", cmd)
	p.waitReady(t, func() error {
		for _, below := range []string{"", "/platform"} {
			req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://localhost:%d%s/v3/pay/transactions/out-trade-no/NOBODY0001?mchid=1900000001", ports[0], below), nil)
			if err != nil {
				return err
			}
			if below != "" {
				req.URL.Path, req.URL.RawQuery = below+"/v3/pay/partner/transactions/out-trade-no/NOBODY0001", "sp_mchid=1900000100&sub_mchid=1900000109"
			}
			req.Header.Set("Authorization", "Bearer "+token)
			if status, body, err := do(req); err != nil || status != http.StatusNotFound {
				return fmt.Errorf("%d %s %w", status, body, err)
			}
		}
		return nil
	})

	for _, f := range flows {
		want, known := flowAnswers[f.title]
		if !known {
			t.Errorf("nobody says what %q prints", f.title)
			continue
		}
		cmd := exec.Command("sh", "-ec", own.Replace(f.commands))
		cmd.Dir = dir
		cmd.Env = environment(t, "ERP_TOKEN="+token)
		out, err := runTool(t, callBound, cmd)
		if err != nil {
			t.Errorf("%s: %v\n%s", f.title, err, out)
		}
		for _, part := range want {
			if !strings.Contains(out, part) {
				t.Errorf("%s printed no %s:\n%s", f.title, part, out)
			}
		}
	}
	if len(flows) != len(flowAnswers) {
		t.Errorf("%d flows are shown, %d are known", len(flows), len(flowAnswers))
	}
	if picture, err := os.ReadFile(filepath.Join(dir, "native.png")); err != nil || !strings.HasPrefix(string(picture), "\x89PNG") {
		t.Errorf("the QR code is no picture: %v", err)
	}
}
