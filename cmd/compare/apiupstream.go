package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
)

// apiUpstream answers in WeChat Pay's place, on loopback: each answer carries a
// signature that verifies. It verifies nothing, and signs one answer once a
// second, so that next to no processor time is its own: WeChat Pay's is not
// spent on this machine either. With fresh it signs every answer anew.
type apiUpstream struct {
	platform *testplatform.Platform
	url      string
	srv      *http.Server
	fresh    bool

	mu     sync.Mutex
	second int64
	signed map[string]http.Header // by answer, of this second
}

func newAPIUpstream(dir string, fresh bool) (*apiUpstream, error) {
	p, err := testplatform.New(dir)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &apiUpstream{platform: p, url: "http://" + l.Addr().String(), fresh: fresh}
	u.srv = &http.Server{Handler: u}
	go func() {
		if err := u.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	return u, nil
}

func (u *apiUpstream) close() { _ = u.srv.Close() }

func (u *apiUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	answer := `{"code_url":"weixin://wxpay/bizpayurl?pr=p4lpSuKzz"}`
	if r.Method == http.MethodGet {
		answer = fmt.Sprintf(`{"mchid":"%s","appid":"%s","out_trade_no":"%s","trade_state":"NOTPAY","trade_state_desc":"订单未支付","amount":{"total":100,"currency":"CNY"}}`,
			testplatform.Mchid, testplatform.Appid, path.Base(r.URL.Path))
	}
	for name, values := range u.sign(answer) {
		w.Header()[name] = values
	}
	w.Header().Set("Request-ID", "08F78BD7A00610-01")
	_, _ = io.WriteString(w, answer) // the caller may be gone
}

// sign returns the headers of an answer, signed within this second.
func (u *apiUpstream) sign(answer string) http.Header {
	if u.fresh {
		return u.platform.Sign([]byte(answer))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now().Unix(); now != u.second || u.signed == nil {
		u.second, u.signed = now, map[string]http.Header{}
	}
	h := u.signed[answer]
	if h == nil {
		h = u.platform.Sign([]byte(answer))
		u.signed[answer] = h
	}
	return h
}

// merchantOptions are the lines of a merchant block that calls this upstream.
func (u *apiUpstream) merchantOptions() string {
	return strings.TrimSpace(u.platform.MerchantOptions()) + "\nnotify_url " + apiNotifyURL + "\napi_base " + u.url
}
