package payops_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
)

// TestMedia: raw bytes become the form that WeChat Pay takes, signed over meta.
func TestMedia(t *testing.T) {
	g := newRig(t, rigOptions{answer: func(got) reply { return reply{status: 200, body: `{"media_id":"H1ihR9JUtVj"}`} }})
	file := make([]byte, 2<<20) // more than a JSON body may have
	if _, err := rand.Read(file); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(file)
	for _, tc := range []struct{ kind, name, path, media string }{
		{"images", "门店 1.PNG", "/v3/merchant/media/upload", "image/png"},
		{"videos", "tour.mp4", "/v3/merchant/media/video_upload", "video/mp4"},
		{"images", "a.tiff", "/v3/merchant/media/upload", "application/octet-stream"},
	} {
		r := g.do("POST", "/gateway/media/"+tc.kind+"?filename="+url.QueryEscape(tc.name), string(file), "Content-Type", "application/octet-stream")
		if body := text(t, r); r.StatusCode != 200 || body != `{"media_id":"H1ihR9JUtVj"}` || r.Header.Get("Wechatpay-Signature") == "" {
			t.Fatalf("%s: %d %s", tc.name, r.StatusCode, body)
		}
		all := g.wx.requests()
		sent := all[len(all)-1]
		_, params, err := mime.ParseMediaType(sent.header.Get("Content-Type"))
		if err != nil || sent.uri != tc.path {
			t.Fatalf("%s: sent to %s: %v", tc.name, sent.uri, err)
		}
		form := multipart.NewReader(bytes.NewReader([]byte(sent.body)), params["boundary"])
		meta, err := form.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		signed, err := io.ReadAll(meta)
		if err != nil || meta.FormName() != "meta" || string(signed) != `{"filename":"`+tc.name+`","sha256":"`+hex.EncodeToString(sum[:])+`"}` {
			t.Errorf("%s: meta %s", tc.name, signed)
		}
		part, err := form.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(part)
		if err != nil || part.FormName() != "file" || part.FileName() != tc.name || part.Header.Get("Content-Type") != tc.media || !bytes.Equal(content, file) {
			t.Errorf("%s: file %s %v", tc.name, part.FileName(), part.Header)
		}
		if _, err := form.NextPart(); err != io.EOF {
			t.Errorf("%s: a third part", tc.name)
		}
	}
	before := len(g.wx.requests())
	const image = "/gateway/media/images?filename=a.png"
	for _, tc := range []struct {
		name, target, body, contentType string
		status                          int
		rule                            payops.Rule
	}{
		{"no name", "/gateway/media/images", "x", "image/png", 400, "filename"},
		{"no ending", "/gateway/media/images?filename=png", "x", "image/png", 400, "filename"},
		{"only an ending", "/gateway/media/images?filename=.png", "x", "image/png", 400, "filename"},
		{"a path", "/gateway/media/images?filename=a%2Fb.png", "x", "image/png", 400, "filename"},
		{"a quote", "/gateway/media/images?filename=a%22.png", "x", "image/png", 400, "filename"},
		{"a line end", "/gateway/media/images?filename=a%0D%0A.png", "x", "image/png", 400, "filename"},
		{"a long name", "/gateway/media/images?filename=" + strings.Repeat("a", 130) + ".png", "x", "image/png", 400, "filename"},
		{"another parameter", image + "&sha256=x", "x", "image/png", 400, payops.RulePath},
		{"nothing", image, "", "image/png", 400, payops.RuleBody},
		{"a form", image, "x", "multipart/form-data; boundary=a", 400, payops.RuleContentType},
		{"what curl -d sends", image, "x", "application/x-www-form-urlencoded", 400, payops.RuleContentType},
		{"JSON", image, "{}", "application/json", 400, payops.RuleContentType},
		{"too large", image, strings.Repeat("x", payops.DefaultMaxUpload+1), "image/png", 413, payops.RuleTooLarge},
	} {
		g.refused(tc.name, g.do("POST", tc.target, tc.body, "Content-Type", tc.contentType), tc.status, tc.rule)
	}
	g.refused("compressed", g.do("POST", image, "x", "Content-Encoding", "gzip"), 400, payops.RuleContentType)
	g.refused("not allowed", g.do("POST", image, "x", "Authorization", "Bearer pay-token"), 403, payops.RuleNotAllowed)
	if len(g.wx.requests()) != before {
		t.Error("WeChat Pay was asked")
	}
}
