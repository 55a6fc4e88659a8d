package openid_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	. "github.com/caddy-wechatpay/caddy-wechatpay/payops/openid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "hush0123456789abcdefhush01234567"
	code   = "071hushCode0123456789abcdefghijk"
)

// client talks to a WeChat that answers by the handler, over the transport that
// merchants have.
func client(t *testing.T, handler http.HandlerFunc) Client {
	t.Helper()
	server := httptest.NewServer(handler)
	c := merchant.NewClient(merchant.Config{})
	t.Cleanup(func() {
		c.CloseIdleConnections()
		server.Close()
	})
	return Client{Base: server.URL, HTTP: c}
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

// TestExchange holds the three kinds of apps against WeChat's two endpoints.
func TestExchange(t *testing.T) {
	for _, tc := range []struct {
		kind        merchant.AppType
		uri, answer string
		want        Identity
	}{
		{
			merchant.AppOfficial,
			"/sns/oauth2/access_token?appid=wx8888888888888888&secret=" + secret + "&code=" + code + "&grant_type=authorization_code",
			`{"access_token":"hush-token","expires_in":7200,"refresh_token":"hush-refresh","openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o","scope":"snsapi_base"}`,
			Identity{Openid: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		},
		{
			merchant.AppMobile,
			"/sns/oauth2/access_token?appid=wx8888888888888888&secret=" + secret + "&code=" + code + "&grant_type=authorization_code",
			`{"access_token":"hush-token","openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o","scope":"snsapi_userinfo","unionid":"o6_bmasdasdsad6_2sgVt7hMZOPfL"}`,
			Identity{Openid: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", Unionid: "o6_bmasdasdsad6_2sgVt7hMZOPfL"},
		},
		{
			merchant.AppMiniProgram,
			"/sns/jscode2session?appid=wx8888888888888888&secret=" + secret + "&js_code=" + code + "&grant_type=authorization_code",
			`{"session_key":"hush-key","openid":"oMINI0123","unionid":"","errcode":0,"errmsg":"ok"}`,
			Identity{Openid: "oMINI0123"},
		},
	} {
		var asked []string
		c := client(t, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.RequestURI)
			fmt.Fprint(w, tc.answer)
		})
		app := official()
		app.Type = tc.kind
		got, err := c.Exchange(t.Context(), app, code)
		if err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v", tc.kind, got, err)
		}
		if len(asked) != 1 || asked[0] != "GET "+tc.uri {
			t.Errorf("%s: asked %q", tc.kind, asked)
		}
	}
}

// TestRefusals: each of WeChat's numbers has a reason and says what to do.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		answer  string
		reason  Reason
		errcode int
		say     string
	}{
		{`{"errcode":40029,"errmsg":"invalid code, rid: 5f3c"}`, ReasonCode, 40029, "not valid"},
		{`{"errcode":40163,"errmsg":"code been used, rid: 5f3c"}`, ReasonCode, 40163, "has been used"},
		{`{"errcode":42003,"errmsg":"oauth_code timeout"}`, ReasonCode, 42003, "five minutes"},
		{`{"errcode":40125,"errmsg":"invalid appsecret hush"}`, ReasonSecret, 40125, "AppSecret is wrong"},
		{`{"errcode":40013,"errmsg":"invalid appid"}`, ReasonSecret, 40013, "appid"},
		{`{"errcode":48001,"errmsg":"api unauthorized"}`, ReasonSecret, 48001, "订阅号"},
		{`{"errcode":45011,"errmsg":"api minute-quota reach limit"}`, ReasonRate, 45011, "minute"},
		{`{"errcode":40226,"errmsg":"code blocked"}`, ReasonUser, 40226, "blocked"},
		{`{"errcode":10003,"errmsg":"redirect_uri"}`, ReasonRedirect, 10003, "网页授权域名"},
		{`{"errcode":10005,"errmsg":"scope"}`, ReasonScope, 10005, "scope"},
		{`{"errcode":-1,"errmsg":"system error"}`, ReasonBusy, -1, "busy"},
		{`{"errcode":99999,"errmsg":"hush"}`, ReasonUnreachable, 99999, "does not know"},
		{`{"openid":"oUpF8u","is_snapshotuser":1,"access_token":"hush"}`, ReasonUser, 0, "快照页"},
		{`{"openid":""}`, ReasonUnreachable, 0, "openid"},
		{`{"openid":"a b"}`, ReasonUnreachable, 0, "openid"},
		{`{"openid":"oUpF8u","unionid":"\u0000"}`, ReasonUnreachable, 0, "openid"},
		{`{"openid":"` + strings.Repeat("o", 129) + `"}`, ReasonUnreachable, 0, "openid"},
		{`{"openid":7}`, ReasonUnreachable, 0, "not WeChat's"},
		{`<xml>hush</xml>`, ReasonUnreachable, 0, "not WeChat's"},
		{``, ReasonUnreachable, 0, "not WeChat's"},
		{`null`, ReasonUnreachable, 0, "openid"},
		{strings.Repeat(" ", 17<<10) + `{"openid":"oUpF8u"}`, ReasonUnreachable, 0, "more than an answer"},
	} {
		_, err := client(t, says(tc.answer)).Exchange(t.Context(), official(), code)
		wantError(t, err, tc.reason, tc.errcode, tc.say)
	}
}

func wantError(t *testing.T, err error, reason Reason, errcode int, say string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != reason || e.Errcode != errcode || !strings.Contains(err.Error(), say) {
		t.Errorf("got %v, want %s (%d) that says %q", err, reason, errcode, say)
		return
	}
	if printed := fmt.Sprintf("%v %+v %#v", err, e, *e); strings.Contains(printed, "hush") || strings.Contains(printed, "secret=") || strings.Contains(printed, "127.0.0.1") {
		t.Errorf("the error holds a secret or the URL: %s", printed)
	}
}

// TestNothingIsSent: what cannot be exchanged asks nobody.
func TestNothingIsSent(t *testing.T) {
	c := client(t, func(http.ResponseWriter, *http.Request) { t.Error("WeChat was asked") })
	for _, bad := range []string{"", "a b", "a&appid=wx1", "a\r\nHost: b", "支付", "a#b", strings.Repeat("a", 513)} {
		_, err := c.Exchange(t.Context(), official(), bad)
		wantError(t, err, ReasonCode, 0, "code")
	}
	bare := official()
	bare.Secret = merchant.Secret{}
	_, err := c.Exchange(t.Context(), bare, code)
	wantError(t, err, ReasonSecret, 0, "add secret")
}

// TestUnreachable: no error of the network holds the URL, and with it the
// AppSecret.
func TestUnreachable(t *testing.T) {
	var followed bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	for name, handler := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/?"+r.URL.RawQuery, http.StatusFound)
		},
		"500": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, r.RequestURI, http.StatusInternalServerError)
		},
		"hang up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"openid":"oU`)
		},
	} {
		_, err := client(t, handler).Exchange(t.Context(), official(), code)
		t.Log(name, err)
		wantError(t, err, ReasonUnreachable, 0, "openid_base")
	}
	if followed {
		t.Error("a redirect was followed")
	}
	down := client(t, says(""))
	down.Base = "http://127.0.0.1:1"
	_, err := down.Exchange(t.Context(), official(), code)
	wantError(t, err, ReasonUnreachable, 0, "cannot be reached")

	released := make(chan struct{})
	slow := client(t, func(_ http.ResponseWriter, r *http.Request) { // until the caller is gone
		<-r.Context().Done()
		close(released)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = slow.Exchange(ctx, official(), code)
	wantError(t, err, ReasonUnreachable, 0, "in time")
	var e *Error
	if !errors.As(err, &e) || !e.Timeout {
		t.Errorf("a timeout is not one: %v", err)
	}
	<-released
}

// FuzzParseAnswer: whatever the host says, there is an identity of readable ids
// or an error that repeats none of it.
func FuzzParseAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"a","openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o","scope":"snsapi_base"}`,
		`{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"o","unionid":"u","errcode":0}`,
		`{"errcode":40029,"errmsg":"invalid code"}`, `{"errcode":"40029"}`, `{"errcode":1e400}`, `null`, `[]`, `{"openid":"o","openid":"p"}`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := ParseAnswer(body)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || got != (Identity{}) || e.Message == "" {
				t.Fatalf("%v, %+v", err, got)
			}
			return
		}
		for _, id := range []string{got.Openid, got.Unionid} {
			if len(id) > 128 || strings.Trim(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-") != "" {
				t.Fatalf("%+v", got)
			}
		}
		if got.Openid == "" {
			t.Fatal("no openid and no error")
		}
	})
}
