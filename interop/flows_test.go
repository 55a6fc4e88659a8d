//go:build interop

package interop

import (
	"fmt"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// A service provider of the sandbox, and one of its sub-merchants.
const (
	providerMchid = "1900000002"
	subMchid      = "1900000019"
)

// sandboxServer is a sandbox in the test's own process: with a service provider,
// with bills of the day, and with refunds that end at once.
func sandboxServer(t *testing.T) (url string) {
	t.Helper()
	p, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{
			{Mchid: mchid, Appid: appid},
			{Mchid: mchid, Appid: miniAppid},
			{Mchid: providerMchid, Appid: appid, ServiceProvider: true, SubMchids: []string{subMchid}},
		},
		TimeScale: 100, RefundTime: 5 * time.Second, BillsAtOnce: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(p)
	t.Cleanup(func() {
		s.Close()
		p.Close()
	})
	return s.URL
}

// flowGateway is a gateway in front of that sandbox with an own-key caller for
// the merchant and, on a site of its own, for the service provider.
func flowGateway(t *testing.T, backend, sandboxURL, callerKey string) (g gateway, provider string) {
	t.Helper()
	provider = fmt.Sprintf("http://127.0.0.1:%d", freePorts(t, 1)[0])
	caller := fmt.Sprintf("caller %[1]s key %[2]s %[3]s\n\t\t\tallow %[1]s pay combine partner query close refund bill media crypto",
		callerName, callerSerial, callerKey)
	g = startGateway(t, gatewayOptions{
		backend: backend, sandbox: sandboxURL, callers: caller,
		merchants: fmt.Sprintf(`merchant agency {
			mchid %s
			app %s official
			service_provider
			notify_url %s/wechatpay/notify/agency
			sandbox %s
		}`, providerMchid, appid, provider, sandboxURL),
		notify: fmt.Sprintf(`handle /wechatpay/raw/* {
		wechatpay_notify {
			ack delivery
			payload raw
			sign %s
			deliver {
				reverse_proxy %s
			}
		}
	}`, webhookSecret, backend),
		sites: fmt.Sprintf(`%s {
	bind 127.0.0.1
	handle /wechatpay/notify/* {
		wechatpay_notify {
			sign %s
			deliver {
				reverse_proxy %s
			}
		}
	}
	handle {
		wechatpay_api agency {
			%s
		}
	}
}`, provider, webhookSecret, backend, caller),
	})
	return g, provider
}

// TestNodeFlows has wechatpay-axios-plugin go through every flow of the combine
// guide, refunds, bills and uploads.
func TestNodeFlows(t *testing.T) {
	npmInstall(t)
	caller := newKeyFiles(t, t.TempDir(), "caller")
	port := freePorts(t, 1)[0]
	sandboxURL := sandboxServer(t)
	g, provider := flowGateway(t, fmt.Sprintf("127.0.0.1:%d", port), sandboxURL, caller.public)
	runNode(t, "flows.js", 27, environment(
		t, "GATEWAY_URL="+g.url, "SANDBOX_URL="+sandboxURL, "MCHID="+mchid, "APPID="+appid, "MINI_APPID="+miniAppid,
		"PROVIDER_URL="+provider, "PROVIDER_MCHID="+providerMchid, "SUB_MCHID="+subMchid,
		"CALLER_SERIAL="+callerSerial, "CALLER_KEY="+caller.private,
		"BACKEND_PORT="+strconv.Itoa(port), "WEBHOOK_SECRET="+webhookSecret,
		"RAW_NOTIFY_URL="+g.url+"/wechatpay/raw/demo",
	))
}
