package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// The merchant "play" of a sandbox, and its caller.
const (
	playMchid = "1900009999"
	playAppid = "wx9999999999999999"
	playToken = "play-token-0123456789"
)

// newPlay is a bench with one more merchant, "play", whose WeChat Pay is a
// sandbox in this process; apiOptions stand in its wechatpay_api block.
func newPlay(t *testing.T, apiOptions string) (*bench, *sandbox.Platform) {
	t.Helper()
	platform, err := sandbox.New(sandbox.Options{
		Merchants: []sandbox.Merchant{{Mchid: playMchid, Appid: playAppid}},
		TimeScale: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = platform.Close() })
	srv := httptest.NewServer(platform)
	t.Cleanup(srv.Close)

	b := newBench(t)
	b.global = fmt.Sprintf(`merchant play {
			mchid %s
			app %s official
			sandbox %s
			notify_url http://%s/wechatpay/notify/play
		}`, playMchid, playAppid, srv.URL, b.listen)
	b.site = fmt.Sprintf(`@api path /v3/* /gateway/*
	handle @api {
		wechatpay_api play {
			caller erp token %s
			allow erp *
			%s
		}
	}`, playToken, apiOptions)
	return b, platform
}

// keysBound is how long a merchant may take to fetch a sandbox's keys.
const keysBound = 10 * time.Second

// apiAnswer is what the payment API gave a caller.
type apiAnswer struct {
	status int
	header http.Header
	body   string
}

// api calls the payment API as the caller erp.
func (b *bench) api(method, path, body string, header http.Header) apiAnswer {
	b.t.Helper()
	req, err := http.NewRequest(method, "http://"+b.listen+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+playToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return apiAnswer{resp.StatusCode, resp.Header, string(text)}
}

// place orders by Native, waiting for the merchant's keys, and returns the answer.
func (b *bench) place(number string, total int64) apiAnswer {
	b.t.Helper()
	return b.api(http.MethodPost, "/v3/pay/transactions/native", nativeOrder(number, total), nil)
}

func nativeOrder(number string, total int64) string {
	text, err := json.Marshal(map[string]any{
		"description": "图书", "out_trade_no": number, "amount": map[string]any{"total": total, "currency": "CNY"},
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// ready waits until the play merchant has its keys.
func (b *bench) ready() {
	b.t.Helper()
	eventually(b.t, keysBound, "the sandbox's keys", func() bool {
		return b.api(http.MethodGet, "/v3/pay/transactions/out-trade-no/NOSUCHORDER", "", nil).status != http.StatusServiceUnavailable
	})
}
