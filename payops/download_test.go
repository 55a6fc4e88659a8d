package payops_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
)

const downloadTarget = "/v3/billdownload/file?token=6XIv5TUPto7pByrTQKhd&tartype=gzip"

// serveFile makes the fake answer a download with a file.
func (g *rig) serveFile(answer http.HandlerFunc) {
	g.wx.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := verifyRequest(got{method: r.Method, uri: r.RequestURI, header: r.Header}); err != nil {
			g.t.Errorf("WeChat Pay would refuse it: %v", err)
		}
		answer(w, r)
	})
}

// fetch downloads over a real connection.
func (g *rig) fetch(ctx context.Context) (*http.Response, []byte, error) {
	g.t.Helper()
	server := httptest.NewServer(g.api)
	defer server.Close()
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+downloadTarget, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer all-token")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	response, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

// TestDownload: 20 MiB, more than an answer may otherwise have, unsigned, come
// through as they are, with or without a known length.
func TestDownload(t *testing.T) {
	file := bytes.Repeat([]byte("\x1f\x8b\x00`2026-11-22,100\r\n"), 1<<20)
	for _, chunked := range []bool{false, true} {
		g := newRig(t, rigOptions{})
		g.serveFile(func(w http.ResponseWriter, r *http.Request) {
			if r.RequestURI != downloadTarget {
				t.Error(r.RequestURI)
			}
			w.Header().Set("Content-Type", "application/x-gzip")
			w.Header().Set("Request-Id", "08F78")
			if !chunked {
				w.Header().Set("Content-Length", strconv.Itoa(len(file)))
			}
			_, _ = w.Write(file)
		})
		response, body, err := g.fetch(context.Background())
		if err != nil || response.StatusCode != 200 || sha256.Sum256(body) != sha256.Sum256(file) {
			t.Fatalf("%v %d bytes", err, len(body))
		}
		if h := response.Header; h.Get("Content-Type") != "application/x-gzip" || h.Get("Request-Id") != "08F78" || (response.ContentLength >= 0) == chunked {
			t.Error(h, response.ContentLength)
		}
		if len(g.ledger.allCalls()) != 0 {
			t.Error("a download left a row")
		}
	}
}

// TestDownloadRefusals: nothing but a whole file looks like a whole file.
func TestDownloadRefusals(t *testing.T) {
	signed := func(a reply) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			signAnswer(w.Header(), r.Header.Get("Wechatpay-Serial"), a)
			w.WriteHeader(a.status)
			_, _ = io.WriteString(w, a.body)
		}
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		status int // 0: the connection breaks
		rule   payops.Rule
	}{
		"too long, by its length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "101")
			_, _ = w.Write(make([]byte, 101))
		}, 502, payops.RuleTooLarge},
		"too long, by its bytes": {func(w http.ResponseWriter, _ *http.Request) {
			for range 101 {
				_, _ = w.Write([]byte("x"))
				_ = http.NewResponseController(w).Flush()
			}
		}, 0, ""},
		"as long as allowed": {func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, _ = w.Write([]byte("x"))
				_ = http.NewResponseController(w).Flush()
			}
		}, 200, ""},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "90")
			_, _ = w.Write(make([]byte, 20))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, 0, ""},
		"breaks off, chunked": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 20))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, 0, ""},
		"no bill, signed":   {signed(reply{status: 400, body: `{"code":"PARAM_ERROR","message":"x"}`}), 400, ""},
		"no bill, unsigned": {signed(reply{status: 404, body: `{"code":"NOT_FOUND","message":"x"}`, sign: "none"}), 404, ""},
		"an unsigned 206":   {signed(reply{status: 206, body: `x`, sign: "none"}), 500, ""},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/v3/x", http.StatusFound)
		}, 500, ""},
		"breaks before the header": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 500, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rigOptions{maxDownload: 100})
			g.serveFile(tc.answer)
			response, body, err := g.fetch(context.Background())
			if tc.status == 0 {
				if err == nil {
					t.Errorf("%d bytes and no error", len(body))
				}
				return
			}
			if err != nil || response.StatusCode != tc.status || response.Header.Get("Wechatpay-Gateway-Refused") != string(tc.rule) {
				t.Errorf("%v %v %s", err, response, body)
			}
		})
	}
}

// TestDownloadEndsWithItsCaller: no request at WeChat Pay outlives its caller.
func TestDownloadEndsWithItsCaller(t *testing.T) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g := newRig(t, rigOptions{})
	g.serveFile(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("x"))
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
		close(ended)
	})
	if _, _, err := g.fetch(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-ended
}

// TestDownloadOutlivesAnAttempt: the time for an answer ends with its header.
func TestDownloadOutlivesAnAttempt(t *testing.T) {
	g := newRig(t, rigOptions{attempt: 300 * time.Millisecond})
	g.serveFile(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 5 {
			fmt.Fprint(w, i)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(100 * time.Millisecond) // longer than an attempt in all
		}
	})
	if _, body, err := g.fetch(context.Background()); err != nil || string(body) != "01234" {
		t.Errorf("%q %v", body, err)
	}
	g = newRig(t, rigOptions{downloadTimeout: 200 * time.Millisecond})
	g.serveFile(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("x"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	if _, body, err := g.fetch(context.Background()); err == nil {
		t.Errorf("a download without end: %q", body)
	}
}

// TestOnlyFilesAreUnsigned: bills, receipts and images of complaints come without
// a signature; every other answer needs its own.
func TestOnlyFilesAreUnsigned(t *testing.T) {
	image := "\x89PNG\x00\xff"
	g := newRig(t, rigOptions{answer: func(got) reply {
		return reply{status: 200, body: image, sign: "none", header: http.Header{"Content-Type": {"image/png"}}}
	}})
	for _, target := range []string{
		"/v3/merchant-service/image/ABC", "/v3/bill/tradebill?bill_date=2026-11-21", "/v3/billdownload/files", "/v3/merchant-service/complaints-v2",
		transferPath + "/out-bill-no/T1",
	} {
		if r := g.do("GET", target, ""); r.StatusCode != 500 || r.Header.Get("Wechatpay-Gateway-Outcome") != "unknown" {
			t.Errorf("%s: %d", target, r.StatusCode)
		}
	}
	for _, target := range []string{
		"/v3/merchant-service/images/ChsyMDAwMDAw%20MDAw", "/v3/global/merchant-service/images/A", "/v3/billdownload/file?token=x",
		"/v3/transferdownload/elecvoucherfile?token=x", "/v3/transferdownload/signfile?token=x",
	} {
		if r := g.do("GET", target, ""); r.StatusCode != 200 || text(t, r) != image || r.Header.Get("Content-Type") != "image/png" {
			t.Errorf("%s: %d %v", target, r.StatusCode, r.Header)
		}
	}
	// An error is no file: it is signed, or proves nothing.
	for sign, unknown := range map[string]bool{"": false, "none": true} {
		g := newRig(t, rigOptions{answer: func(got) reply {
			return reply{status: 403, body: `{"code":"NO_AUTH","message":"x"}`, sign: sign}
		}})
		if r := g.do("GET", "/v3/merchant-service/images/A", ""); r.StatusCode != 403 || (r.Header.Get("Wechatpay-Gateway-Outcome") == "unknown") != unknown {
			t.Errorf("%q: %d %v", sign, r.StatusCode, r.Header)
		}
	}
}
