//go:build interop

package interop

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// What the production-style merchant shop of the node test has.
const (
	shopMchid       = "1900000109"
	shopSerial      = "3775B6A45ACD588826D15E583A95F5DD1234ABCD"
	shopAPIv3Key    = "interop-apiv3-key-of-32-bytes-ok"
	shopPublicKeyID = "PUB_KEY_ID_0119000001092024010100000000000001"
	shopCertSerial  = "7132D72A03E93CDDF8C03BBD1F37EEDF00C0FFEE"
	callerSerial    = "7D3A0BB5C4B9A2F60E1122334455667788990011"
	callerName      = "store"
)

// keyFiles are a fresh RSA key as PEM files.
type keyFiles struct {
	key             *rsa.PrivateKey
	private, public string // paths
}

func newKeyFiles(t *testing.T, dir, name string) keyFiles {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return keyFiles{
		key:     key,
		private: writePEM(t, dir, name+"_key.pem", "PRIVATE KEY", private),
		public:  writePEM(t, dir, name+"_pub.pem", "PUBLIC KEY", public),
	}
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificateOf makes a platform certificate (微信支付平台证书) with this serial.
func certificateOf(t *testing.T, dir string, k keyFiles, serial string) (path string) {
	t.Helper()
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		t.Fatalf("serial %s is no number", serial)
	}
	name := pkix.Name{CommonName: "Tenpay.com Root CA", Organization: []string{"Tenpay.com"}, Country: []string{"CN"}}
	template := &x509.Certificate{
		SerialNumber: number, Subject: name, Issuer: name,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.key.PublicKey, k.key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, dir, "platform_cert.pem", "CERTIFICATE", der)
}

// npmInstall installs what package-lock.json names, if nothing is installed.
func npmInstall(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("node_modules/wechatpay-axios-plugin/package.json"); err == nil {
		return
	}
	// npm needs the user's own settings: they say where packages come from.
	if _, err := runTool(t, 5*time.Minute, exec.Command(tool(t, "npm", "npm"), "ci", "--ignore-scripts")); err != nil {
		t.Fatal(err)
	}
}

// nodeSummary is in what node:test prints last: "# pass 42" or "ℹ pass 42".
var nodeSummary = regexp.MustCompile(`(?m)^\S+ (pass|fail|cancelled|skipped|todo) (\d+)$`)

// runNode runs one of the scripts. It ends with an error if a test in it
// failed; want is how many there are at least.
func runNode(t *testing.T, script string, want int, env []string) {
	t.Helper()
	cmd := exec.Command(tool(t, "node", "nodejs"), script)
	cmd.Env = env
	out, err := runTool(t, 3*time.Minute, cmd)
	if err != nil {
		t.Errorf("node %s: %v", script, err)
		return
	}
	passed := 0
	for _, m := range nodeSummary.FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[2])
		switch {
		case err != nil:
			t.Error(err)
		case m[1] == "pass":
			passed = n
		case n != 0:
			t.Errorf("node %s: %s", script, m[0])
		}
	}
	t.Logf("node %s: %d tests passed", script, passed)
	if passed < want {
		t.Errorf("node %s: %d tests passed, want at least %d", script, passed, want)
	}
}

// TestNode has wechatpay-axios-plugin call the gateway, and sign for it.
func TestNode(t *testing.T) {
	npmInstall(t)
	dir := t.TempDir()
	caller, merchant := newKeyFiles(t, dir, "caller"), newKeyFiles(t, dir, "merchant")
	public, certified := newKeyFiles(t, dir, "platform_public"), newKeyFiles(t, dir, "platform_certified")

	// In place of WeChat Pay's API there is something that counts: nothing that
	// a callback says may make the gateway call out.
	var calls atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer api.Close()

	backend := newRecorder(t, "")
	g := startGateway(t, gatewayOptions{
		backend: backend.address(),
		merchants: fmt.Sprintf(`merchant shop {
			mchid %s
			app %s official
			serial_no %s
			private_key %s
			apiv3_key %s
			public_key %s %s
			platform_certificates %s
			api_base %s
		}`, shopMchid, appid, shopSerial, merchant.private, shopAPIv3Key,
			shopPublicKeyID, public.public, certificateOf(t, dir, certified, shopCertSerial), api.URL),
		callers: fmt.Sprintf("caller %[1]s key %[2]s %[3]s\n\t\t\tallow %[1]s pay combine query close",
			callerName, callerSerial, caller.public),
	})

	t.Run("caller", func(t *testing.T) {
		runNode(t, "caller.js", 15, environment(
			t, "GATEWAY_URL="+g.url, "SANDBOX_URL="+g.sandbox, "MCHID="+mchid, "APPID="+appid,
			"CALLER_SERIAL="+callerSerial, "CALLER_KEY="+caller.private,
		))
	})

	t.Run("callback", func(t *testing.T) {
		accepted := filepath.Join(dir, "accepted.jsonl")
		runNode(t, "callback.js", 60, environment(
			t, "NOTIFY_URL="+g.url+"/wechatpay/notify/shop", "OTHER_MERCHANT=demo",
			"MCHID="+shopMchid, "APPID="+appid, "APIV3_KEY="+shopAPIv3Key, "MERCHANT_KEY="+merchant.private,
			"PLATFORM_PUBLIC_KEY_ID="+shopPublicKeyID, "PLATFORM_PUBLIC_KEY_PRIVATE="+public.private,
			"PLATFORM_CERTIFICATE_SERIAL="+shopCertSerial, "PLATFORM_CERTIFICATE_PRIVATE="+certified.private,
			"ACCEPTED_FILE="+accepted,
		))
		checkDeliveries(t, backend, accepted)
	})

	t.Run("sandbox at a production merchant", func(t *testing.T) {
		const number = "SANDBOX_AT_SHOP"
		before := backend.count()
		body := fmt.Sprintf(`{"mchid":"%s","appid":"%s","out_trade_no":"%s","description":"x","notify_url":"%s","amount":{"total":1}}`,
			mchid, appid, number, g.url+"/wechatpay/notify/shop")
		if status, answer, err := g.call(http.MethodPost, "/v3/pay/transactions/native", []byte(body)); err != nil || status != http.StatusOK {
			t.Fatalf("creating the order: %d %s %v", status, answer, err)
		}
		g.pay(t, number, nil)
		for _, a := range g.waitCallback(t, number, 3).Attempts {
			if a.Status != http.StatusUnauthorized {
				t.Errorf("what the sandbox signed was answered %d %s, want 401", a.Status, a.Error)
			}
		}
		if n := backend.count(); n != before {
			t.Errorf("what the sandbox signed was delivered")
		}
	})

	t.Run("nothing called out", func(t *testing.T) {
		if n := calls.Load(); n != 0 {
			t.Errorf("callbacks made the gateway call WeChat Pay's API %d times", n)
		}
	})
}

// checkDeliveries holds what the backend got against what the script sent and
// the gateway accepted: each once, byte for byte, and nothing else.
func checkDeliveries(t *testing.T, backend *recorder, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) < 10 {
		t.Errorf("the gateway accepted %d callbacks, want at least 10", len(lines))
	}
	ids := make(map[string]bool)
	for _, line := range lines {
		var sent struct {
			Kind      string `json:"kind"`
			Plaintext string `json:"plaintext"`
		}
		if err := json.Unmarshal(line, &sent); err != nil {
			t.Fatal(err)
		}
		got := backend.wait(t, sent.Plaintext, 1)
		if len(got) != 1 {
			t.Errorf("delivered %d times: %s", len(got), sent.Plaintext)
		}
		d := got[0]
		var envelope struct {
			Resource json.RawMessage `json:"resource"`
		}
		if err := json.Unmarshal(d.body, &envelope); err != nil || string(envelope.Resource) != sent.Plaintext {
			t.Errorf("delivered resource %s\nwant %s (%v)", envelope.Resource, sent.Plaintext, err)
		}
		id, timestamp := d.header.Get("Webhook-Id"), d.header.Get("Webhook-Timestamp")
		if id == "" || ids[id] {
			t.Errorf("Webhook-Id %q is empty or another event's", id)
		}
		ids[id] = true
		for name, want := range map[string]string{
			"Wechatpay-Gateway-Merchant": "shop", "Wechatpay-Gateway-Mchid": shopMchid,
			"Wechatpay-Gateway-Kind": sent.Kind, "Wechatpay-Gateway-Source": "callback",
			"Wechatpay-Gateway-Amount-Check": "unknown",
			"Webhook-Signature":              signDelivery(t, webhookSecret, id, timestamp, d.body),
		} {
			if got := d.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
	if n := backend.count(); n != len(lines) {
		t.Errorf("the backend got %d deliveries, want %d: one for each accepted callback", n, len(lines))
	}
}
