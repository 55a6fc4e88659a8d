package sandbox_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

func metaOf(name string, content []byte) string {
	sum := sha256.Sum256(content)
	return fmt.Sprintf(`{"filename":%q,"sha256":%q}`, name, hex.EncodeToString(sum[:]))
}

// upload sends parts (name to content) with signed as what the caller signs.
func (c *client) upload(path, signed string, parts ...[2]string) *httptest.ResponseRecorder {
	c.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for _, p := range parts {
		create := form.CreateFormField
		if p[0] == "file" {
			create = func(name string) (io.Writer, error) { return form.CreateFormFile(name, "a.png") }
		}
		w, err := create(p[0])
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := w.Write([]byte(p[1])); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		c.t.Fatal(err)
	}
	r := c.request("POST", path, b.String())
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Authorization", c.authorization("POST", path, signed, time.Now()))
	return serve(c.p, r)
}

func TestUploads(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	const path, content = "/v3/merchant/media/upload", "\x89PNG picture"
	meta := metaOf("a.png", []byte(content))
	file := [2]string{"file", content}
	for _, tc := range []struct {
		name, path, signed string
		parts              [][2]string
		status             int
		code               string
	}{
		{"right", path, meta, [][2]string{{"meta", meta}, file}, 200, ""},
		{"file first", path, meta, [][2]string{file, {"meta", meta}}, 200, ""},
		{"the whole body signed", path, meta + content, [][2]string{{"meta", meta}, file}, 401, "SIGN_ERROR"},
		{"nothing signed", path, "", [][2]string{{"meta", meta}, file}, 401, "SIGN_ERROR"},
		{"file changed", path, meta, [][2]string{{"meta", meta}, {"file", content + "!"}}, 400, "PARAM_ERROR"},
		{"file empty", path, metaOf("a.png", nil), [][2]string{{"meta", metaOf("a.png", nil)}, {"file", ""}}, 400, "PARAM_ERROR"},
		{"no file", path, meta, [][2]string{{"meta", meta}}, 400, "PARAM_ERROR"},
		{"no meta", path, "", [][2]string{file}, 400, "PARAM_ERROR"},
		{"two metas", path, meta, [][2]string{{"meta", meta}, {"meta", meta}, file}, 400, "PARAM_ERROR"},
		{"two files", path, meta, [][2]string{{"meta", meta}, file, file}, 400, "PARAM_ERROR"},
		{"another part", path, meta, [][2]string{{"meta", meta}, file, {"x", "y"}}, 400, "PARAM_ERROR"},
		{"meta is no JSON", path, "x", [][2]string{{"meta", "x"}, file}, 400, "PARAM_ERROR"},
		{"meta without sha256", path, `{"filename":"a.png"}`, [][2]string{{"meta", `{"filename":"a.png"}`}, file}, 400, "PARAM_ERROR"},
		{"a program", path, metaOf("a.exe", []byte(content)), [][2]string{{"meta", metaOf("a.exe", []byte(content))}, file}, 400, "PARAM_ERROR"},
		{"a picture as a video", "/v3/merchant/media/video_upload", meta, [][2]string{{"meta", meta}, file}, 400, "PARAM_ERROR"},
		{"marketing", "/v3/marketing/favor/media/image-upload", meta, [][2]string{{"meta", meta}, file}, 200, ""},
		{"complaint", "/v3/merchant-service/images/upload", meta, [][2]string{{"meta", meta}, file}, 200, ""},
	} {
		w := c.upload(tc.path, tc.signed, tc.parts...)
		if w.Code != tc.status || tc.code != "" && codeOf(t, w.Body.String()) != tc.code {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
		}
		if tc.status == 200 {
			c.verify(w.Header(), w.Body.Bytes())
			if want := map[bool]string{true: `"media_url"`, false: `"media_id"`}[tc.name == "marketing"]; !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %s", tc.name, w.Body)
			}
		}
	}
	edge := strings.Repeat("x", 5<<20)
	if w := c.upload(path, metaOf("a.jpg", []byte(edge)), [2]string{"meta", metaOf("a.jpg", []byte(edge))}, [2]string{"file", edge}); w.Code != 200 {
		t.Errorf("5 MB: %d", w.Code)
	}
	edge += "x"
	if w := c.upload(path, metaOf("a.jpg", []byte(edge)), [2]string{"meta", metaOf("a.jpg", []byte(edge))}, [2]string{"file", edge}); w.Code != 400 {
		t.Errorf("5 MB and a byte: %d", w.Code)
	}
	r := c.request("POST", path, meta)
	if w := serve(p, r); w.Code != 400 {
		t.Errorf("as JSON: %d", w.Code)
	}
	r.Header.Set("Content-Type", "multipart/form-data")
	if w := serve(p, r); w.Code != 400 {
		t.Errorf("without a boundary: %d", w.Code)
	}
	if w := serve(p, c.request("GET", path, "")); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
}

func TestSecurityEcho(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	const path = "/v3/security/echo"
	call := func(serial, body string) (int, string, string) {
		in := c.request("POST", path, body)
		in.Header.Set("Wechatpay-Serial", serial)
		w := serve(p, in)
		c.verify(w.Header(), w.Body.Bytes())
		return w.Code, w.Body.String(), w.Header().Get("Wechatpay-Serial")
	}
	for serial, key := range c.platformKeys() {
		status, answer, signedBy := call(serial, `{"echo_message":"hello","encrypted_echo_message":"`+encrypt(t, key, "秘密")+`"}`)
		var out struct {
			Message   string `json:"echo_message"`
			Encrypted string `json:"encrypted_echo_message"`
		}
		if err := json.Unmarshal([]byte(answer), &out); err != nil || status != 200 || out.Message != "hello" || signedBy != serial {
			t.Fatalf("%d %s signed by %s: %v", status, answer, signedBy, err)
		}
		sealed, err := base64.StdEncoding.DecodeString(out.Encrypted)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := rsa.DecryptOAEP(sha1.New(), nil, c.key, sealed, nil); err != nil || string(plain) != "秘密" {
			t.Errorf("%q %v", plain, err)
		}
		for name, body := range map[string]string{
			"no message": `{}`, "plaintext": `{"echo_message":"x","encrypted_echo_message":"x"}`,
			"notify_url": `{"echo_message":"x","notify_url":"https://m/n?x=1"}`, "not JSON": `[`,
		} {
			if status, answer, _ := call(serial, body); status != 400 || codeOf(t, answer) != "PARAM_ERROR" {
				t.Errorf("%s: %d %s", name, status, answer)
			}
		}
	}
	if status, answer, _ := call("", `{"echo_message":"hello"}`); status != 400 || codeOf(t, answer) != "PARAM_ERROR" {
		t.Errorf("no serial: %d %s", status, answer)
	}
	if n := len(p.Callbacks()); n != 0 {
		t.Errorf("%d callbacks without a notify_url", n)
	}
	if status, answer, _ := call(c.keys.PublicKeys[0].ID, `{"echo_message":"hello","notify_url":"`+notify+`"}`); status != 200 || strings.Contains(answer, "encrypted") {
		t.Errorf("%d %s", status, answer)
	}
	id := p.Callbacks()[0].ID
	if _, err := p.WaitState(bounded(t), id, sandbox.Delivered); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(id, sandbox.Faults{WrongAmount: 1}); err == nil {
		t.Error("a wrong amount of no amount was accepted")
	}
	n, plain := c.open(r.all()[0].header, r.all()[0].body)
	if n.EventType != "SECURITY_ECHO.SUCCESS" || n.Resource.OriginalType != "security" || n.Resource.AssociatedData != "" {
		t.Errorf("%+v", n)
	}
	sameJSON(t, plain, `{"echo_message":"hello"}`)
}
