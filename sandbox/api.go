package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const maxAPIBody = 1 << 20 // bytes

func isAPIPath(path string) bool { return path == "/v3" || strings.HasPrefix(path, "/v3/") }

// apiAnswer is what the API says before it is signed.
type apiAnswer struct {
	status int
	body   []byte
}

func refusal(e *apiError) apiAnswer { return apiAnswer{e.status, e.body()} }

// serveAPI answers one v3 call: fault, verification, operation, signed answer.
func (p *Platform) serveAPI(w http.ResponseWriter, r *http.Request) {
	kind := p.takeFault(r.Method, r.URL.Path)
	if kind.beforeEffect() {
		p.failCall(w, r, kind)
		return
	}
	answer := p.answerCall(w, r)
	if kind.hangs() {
		p.failCall(w, r, kind)
		return
	}
	if err := p.writeSigned(w, r, answer, kind); err != nil {
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
	encoded, err := json.Marshal(out)
	if err != nil {
		p.log.Error("encoding an answer failed", "error", err)
		return refusal(errSystem())
	}
	return apiAnswer{http.StatusOK, encoded}
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
// or spoils the signature as kind says.
func (p *Platform) writeSigned(w http.ResponseWriter, r *http.Request, a apiAnswer, kind APIFaultKind) error {
	h := w.Header()
	h.Set("Request-ID", "08"+p.randomFrom("0123456789ABCDEF", 30)+"-0")
	h.Set("Cache-Control", "no-cache, must-revalidate")
	if a.status != http.StatusNoContent {
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	if kind != FaultUnsigned {
		k := p.responseKey(r.Header.Get("Wechatpay-Serial"))
		nonce := p.randomText(32)
		timestamp := strconv.FormatInt(p.now().Unix(), 10)
		signer := k.key
		if kind == FaultWrongSignature {
			var err error
			if signer, err = p.forger(); err != nil {
				return err
			}
		}
		signature, err := signText(signer, timestamp+"\n"+nonce+"\n"+string(a.body)+"\n")
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
	}
	w.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = w.Write(a.body) // the caller may be gone; nothing to do about it
	}
	return nil
}
