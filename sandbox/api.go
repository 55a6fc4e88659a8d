package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const maxAPIBody = 1 << 20 // bytes

func isAPIPath(path string) bool { return path == "/v3" || strings.HasPrefix(path, "/v3/") }

// apiAnswer is what the API says before it is signed.
type apiAnswer struct {
	status   int
	body     []byte
	fileType string // of a file, which is no JSON and is not signed
}

func refusal(e *apiError) apiAnswer { return apiAnswer{status: e.status, body: e.body()} }

// serveAPI answers one v3 call: fault, verification, operation, signed answer.
func (p *Platform) serveAPI(w http.ResponseWriter, r *http.Request) {
	fault := p.takeFault(r.Method, r.URL.Path)
	if fault.Kind.beforeEffect() {
		p.failCall(w, r, fault)
		return
	}
	answer := p.answerCall(w, r)
	if fault.Kind.hangs() || fault.Kind == FaultSlow && !p.dawdle(r, fault) {
		p.failCall(w, r, fault)
		return
	}
	if err := p.writeSigned(w, r, answer, fault.Kind); err != nil {
		p.log.Error("signing an answer failed", "error", err)
		http.Error(w, "", http.StatusInternalServerError)
	}
}

func (p *Platform) answerCall(w http.ResponseWriter, r *http.Request) apiAnswer {
	limit := int64(maxAPIBody)
	if isUpload(r.URL.Path) {
		limit = maxUpload
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return refusal(fail(http.StatusRequestEntityTooLarge, "INVALID_REQUEST", "请求体过大"))
		}
		return refusal(errInvalid("读取请求体失败"))
	}
	if bad := checkHeaders(r); bad != nil {
		return refusal(bad)
	}
	var file *upload
	if isUpload(r.URL.Path) && r.Method == http.MethodPost {
		var bad *apiError
		if body, file, bad = readUpload(r, body); bad != nil {
			return refusal(bad)
		}
	}
	m, bad := p.authenticate(r, body)
	if bad != nil {
		p.log.Info("api call refused", "method", r.Method, "path", r.URL.Path, "issue", bad.Detail.Issue)
		return refusal(bad)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refusal(errInvalid("查询串格式错误"))
	}
	c := &call{m: m, r: r, serial: strings.TrimSpace(r.Header.Get("Wechatpay-Serial")), query: query, body: body, file: file}
	out, bad := p.dispatch(c)
	if bad != nil {
		p.log.Info("api call refused", "method", r.Method, "path", r.URL.Path, "mchid", m.mchid, "code", bad.Code)
		return refusal(bad)
	}
	if out == nil {
		return apiAnswer{status: http.StatusNoContent}
	}
	if file, ok := out.(fileAnswer); ok {
		return apiAnswer{http.StatusOK, file.content, file.contentType}
	}
	encoded, err := json.Marshal(out)
	if err != nil {
		p.log.Error("encoding an answer failed", "error", err)
		return refusal(errSystem())
	}
	return apiAnswer{status: http.StatusOK, body: encoded}
}

// checkHeaders refuses what WeChat Pay's front refuses before it looks at the signature.
func checkHeaders(r *http.Request) *apiError {
	want := "application/json"
	if isUpload(r.URL.Path) {
		want = uploadType
	}
	if r.Header.Get("User-Agent") == "" || r.Header.Get("Accept") == "" {
		return paramError("header", "", "Accept and User-Agent are required", "Http头缺少Accept或User-Agent")
	}
	if r.Method == http.MethodPost {
		kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		if !strings.EqualFold(strings.TrimSpace(kind), want) {
			return paramError("header", "Content-Type", "want "+want, "Http头Content-Type须为"+want)
		}
	}
	return nil
}

// writeSigned signs an answer with the key the request asked for and writes it,
// or spoils it as kind says.
func (p *Platform) writeSigned(w http.ResponseWriter, r *http.Request, a apiAnswer, kind APIFaultKind) error {
	h := w.Header()
	h.Set("Request-ID", "08"+p.randomFrom("0123456789ABCDEF", 30)+"-0")
	h.Set("Cache-Control", "no-cache, must-revalidate")
	if kind != FaultUnsigned && a.fileType == "" {
		if err := p.sign(h, r, a.body, kind); err != nil {
			return err
		}
	}
	if kind == FaultTampered && len(a.body) > 2 && a.body[0] == '{' {
		a.body = append([]byte(`{"tampered":true,`), a.body[1:]...)
	}
	if a.status != http.StatusNoContent {
		h.Set("Content-Type", "application/json; charset=utf-8")
		if a.fileType != "" {
			h.Set("Content-Type", a.fileType)
		}
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = w.Write(a.body) // the caller may be gone; nothing to do about it
	}
	return nil
}

// sign puts the signature of an answer into its header.
func (p *Platform) sign(h http.Header, r *http.Request, body []byte, kind APIFaultKind) error {
	k := p.responseKey(r.Header.Get("Wechatpay-Serial"))
	at := p.now()
	var err error
	if kind == FaultStaleCertificate {
		if k, err = p.retired(); err != nil {
			return err
		}
	}
	if kind == FaultStaleTimestamp {
		at = at.Add(-10 * time.Minute)
	}
	signer := k.key
	if kind == FaultWrongSignature {
		if signer, err = p.forger(); err != nil {
			return err
		}
	}
	nonce, timestamp := p.randomText(32), strconv.FormatInt(at.Unix(), 10)
	signature, err := signText(signer, timestamp+"\n"+nonce+"\n"+string(body)+"\n")
	if err != nil {
		return err
	}
	if kind == FaultSigntest {
		signature = p.probeSignature()
	}
	h.Set("Wechatpay-Nonce", nonce)
	h.Set("Wechatpay-Timestamp", timestamp)
	h.Set("Wechatpay-Serial", k.id)
	h.Set("Wechatpay-Signature", signature)
	h.Set("Wechatpay-Signature-Type", SignatureType)
	return nil
}
