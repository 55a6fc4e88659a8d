package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/native"
	"github.com/wechatpay-apiv3/wechatpay-go/utils"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/caller"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
)

const (
	apiNotifyURL  = "https://pay.example.com/wechatpay/notify/shop"
	apiToken      = "compare-token-of-one-run-only"
	apiNativePath = "/v3/pay/transactions/native"
	apiQueryPath  = "/v3/pay/transactions/out-trade-no/"
	// apiConnections are kept open by every side's client: as many as may call at
	// the same time, and as many as the gateway's own client keeps.
	apiConnections = 64
)

// The sides, as the report names them.
const (
	sideSDK     = "sdk"
	sideHandler = "handler"
	sideCaddy   = "caddy"
)

// apiSide is one way to call WeChat Pay.
type apiSide struct {
	name   string
	create func(ctx context.Context, number string) error
	query  func(ctx context.Context, number string) error
	close  func()
	server *server // the Caddy process; nil for the sides in this program
}

// processorTime is what everything that the side needs has used so far: this
// program with the callers, the upstream and the store, and the Caddy process.
func (s apiSide) processorTime() (time.Duration, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, err
	}
	own := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	if s.server == nil {
		return own, nil
	}
	caddy, err := s.server.cpu()
	return own + caddy, err
}

// prepayRequest is the order that every side creates, complete.
func prepayRequest(number string) native.PrepayRequest {
	return native.PrepayRequest{
		Appid: core.String(testplatform.Appid), Mchid: core.String(testplatform.Mchid),
		Description: core.String("图书"), OutTradeNo: core.String(number), NotifyUrl: core.String(apiNotifyURL),
		Amount: &native.Amount{Total: core.Int64(100), Currency: core.String("CNY")},
	}
}

// checkPrepay and checkOrder hold what came back against what was asked for.
func checkPrepay(answer native.PrepayResponse) error {
	if answer.CodeUrl == nil || *answer.CodeUrl == "" {
		return errors.New("no code_url")
	}
	return nil
}

func checkOrder(answer payments.Transaction, number string) error {
	if answer.OutTradeNo == nil || *answer.OutTradeNo != number {
		return errors.New("another order")
	}
	return nil
}

// newSDKSide is the official SDK's own client, which signs and verifies by
// itself. Its HTTP client is the gateway's: the SDK's default keeps two
// connections only.
func newSDKSide(ctx context.Context, b *apiBench) (apiSide, error) {
	privatePEM, publicPEM, err := b.upstream.platform.Keys()
	if err != nil {
		return apiSide{}, err
	}
	key, err := utils.LoadPrivateKey(privatePEM)
	if err != nil {
		return apiSide{}, err
	}
	public, err := utils.LoadPublicKey(publicPEM)
	if err != nil {
		return apiSide{}, err
	}
	transport := merchant.NewTransport(merchant.Config{})
	client, err := core.NewClient(ctx,
		option.WithWechatPayPublicKeyAuthCipher(testplatform.Mchid, testplatform.SerialNo, key, testplatform.KeyID, public),
		option.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		return apiSide{}, err
	}
	return apiSide{
		name: sideSDK, close: transport.CloseIdleConnections,
		create: func(ctx context.Context, number string) error {
			result, err := client.Post(ctx, b.upstream.url+apiNativePath, prepayRequest(number))
			if err != nil {
				return err
			}
			var answer native.PrepayResponse
			if err := core.UnMarshalResponse(result.Response, &answer); err != nil {
				return err
			}
			return checkPrepay(answer)
		},
		query: func(ctx context.Context, number string) error {
			result, err := client.Get(ctx, b.upstream.url+apiQueryPath+number+"?mchid="+testplatform.Mchid)
			if err != nil {
				return err
			}
			var answer payments.Transaction
			if err := core.UnMarshalResponse(result.Response, &answer); err != nil {
				return err
			}
			return checkOrder(answer, number)
		},
	}, nil
}

// throughGateway calls the payment API as a plain backend does: with a token.
func throughGateway(name, base string) apiSide {
	transport := &http.Transport{MaxIdleConnsPerHost: apiConnections, MaxIdleConns: apiConnections, DisableCompression: true}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	call := func(ctx context.Context, method, target string, body []byte, answer any) error {
		r, err := http.NewRequestWithContext(ctx, method, base+target, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+apiToken)
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Wechatpay-Signature") == "" {
			return fmt.Errorf("answer %s: %s", resp.Status, text)
		}
		return json.Unmarshal(text, answer)
	}
	return apiSide{
		name: name, close: transport.CloseIdleConnections,
		create: func(ctx context.Context, number string) error {
			body, err := json.Marshal(prepayRequest(number))
			if err != nil {
				return err
			}
			var answer native.PrepayResponse
			if err := call(ctx, http.MethodPost, apiNativePath, body, &answer); err != nil {
				return err
			}
			return checkPrepay(answer)
		},
		query: func(ctx context.Context, number string) error {
			var answer payments.Transaction
			if err := call(ctx, http.MethodGet, apiQueryPath+number+"?mchid="+testplatform.Mchid, nil, &answer); err != nil {
				return err
			}
			return checkOrder(answer, number)
		},
	}
}

// newHandlerSide is the payment API as an http.Handler in this program, over
// loopback HTTP, with an embedded store that syncs every commit.
func newHandlerSide(ctx context.Context, b *apiBench) (apiSide, error) {
	private, public, err := b.upstream.platform.Keys()
	if err != nil {
		return apiSide{}, err
	}
	cfg := merchant.Config{
		Name: "shop", Mchid: testplatform.Mchid, SerialNo: testplatform.SerialNo, PrivateKey: private,
		Apps: []merchant.App{{Appid: testplatform.Appid}}, APIv3Keys: []string{testplatform.APIv3Key},
		PublicKeys: []merchant.PublicKeyConfig{{ID: testplatform.KeyID, PEM: public}},
		NotifyURL:  apiNotifyURL, APIBases: []string{b.upstream.url},
	}
	m, err := merchant.New(cfg, merchant.Deps{})
	if err != nil {
		return apiSide{}, err
	}
	callers, err := caller.New(testplatform.Mchid, []caller.Config{{
		Name: "erp", Token: merchant.NewSecret(apiToken), Allow: []string{"pay", "query"},
	}})
	if err != nil {
		return apiSide{}, err
	}
	store, err := badgerstore.Open(ctx, badgerstore.Options{Dir: filepath.Join(b.tmp, "handler-db")})
	if err != nil {
		return apiSide{}, err
	}
	api, err := payops.New(payops.Config{Merchant: m, Ledger: store, Callers: callers})
	if err != nil {
		return apiSide{}, errors.Join(err, store.Close())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return apiSide{}, errors.Join(err, store.Close())
	}
	srv := &http.Server{Handler: api}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	side := throughGateway(sideHandler, "http://"+l.Addr().String())
	idle := side.close
	side.close = func() {
		idle()
		_ = srv.Close()
		_ = store.Close()
	}
	return side, nil
}

// newCaddySide is the gateway as it is run: a Caddy process.
func newCaddySide(ctx context.Context, b *apiBench) (apiSide, error) {
	dir := filepath.Join(b.tmp, "caddy-api")
	srv, err := startServer(ctx, b.caddy, dir, func(listen, admin string) string {
		return fmt.Sprintf(`{
	admin %s
	auto_https off
	log {
		level ERROR
	}
	wechatpay {
		storage badger %s
		merchant shop {
%s
		}
	}
}
http://%s {
	bind 127.0.0.1
	wechatpay_api shop {
		caller erp token %s
		allow erp pay query
	}
}
`, admin, filepath.Join(dir, "db"), b.upstream.merchantOptions(), listen, apiToken)
	})
	if err != nil {
		return apiSide{}, err
	}
	side := throughGateway(sideCaddy, "http://"+srv.addr)
	idle := side.close
	side.close = func() {
		idle()
		srv.stop()
	}
	side.server = srv
	return side, nil
}
