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
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
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
	m, bad := p.authenticate(r, body)
	if bad != nil {
		p.log.Info("api call refused", "method", r.Method, "path", r.URL.Path, "issue", bad.Detail.Issue)
		return refusal(bad)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refusal(errInvalid("查询串格式错误"))
	}
	out, bad := p.dispatch(m, r, query, body)
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
	if r.Header.Get("User-Agent") == "" || r.Header.Get("Accept") == "" {
		return paramError("header", "", "Accept and User-Agent are required", "Http头缺少Accept或User-Agent")
	}
	if r.Method == http.MethodPost {
		kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		if !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
			return paramError("header", "Content-Type", "want application/json", "Http头Content-Type须为application/json")
		}
	}
	return nil
}

// dispatch finds the operation. A nil answer without an error is 204.
func (p *Platform) dispatch(m *merchant, r *http.Request, query url.Values, body []byte) (any, *apiError) {
	path, ok := segments(r.URL.EscapedPath())
	if !ok {
		return nil, errResource()
	}
	last := len(path) - 1
	switch pattern := operation(path); pattern {
	case "certificates":
		return get(r, func() (any, *apiError) { return p.listCertificates(m, query["algorithm_type"]) })
	case "pay/transactions/native":
		return post(r, func() (any, *apiError) { return p.createNative(m, body) })
	case "pay/transactions/out-trade-no/*":
		return get(r, func() (any, *apiError) { return p.queryNative(m, path[last], query) })
	case "pay/transactions/id/*":
		return get(r, func() (any, *apiError) { return p.queryTransaction(m, path[last], query) })
	case "pay/transactions/out-trade-no/*/close":
		return post(r, func() (any, *apiError) { return nil, p.closeNative(m, path[last-1], body) })
	case "combine-transactions/native":
		return post(r, func() (any, *apiError) { return p.createCombine(m, body) })
	case "combine-transactions/out-trade-no/*":
		return get(r, func() (any, *apiError) { return p.queryCombine(m, path[last]) })
	case "combine-transactions/out-trade-no/*/close":
		return post(r, func() (any, *apiError) { return nil, p.closeCombine(m, path[last-1], body) })
	}
	return nil, errResource()
}

// segments splits the path after /v3/ and undoes its escapes part by part, so
// that an escaped slash never adds a part.
func segments(escaped string) ([]string, bool) {
	rest, ok := strings.CutPrefix(escaped, "/v3/")
	if !ok {
		return nil, false
	}
	parts := strings.Split(rest, "/")
	for i, s := range parts {
		plain, err := url.PathUnescape(s)
		if err != nil || plain == "" {
			return nil, false
		}
		parts[i] = plain
	}
	return parts, true
}

// operation is the path with the number or id replaced by a star.
func operation(path []string) string {
	parts := append([]string(nil), path...)
	for i := 1; i < len(parts); i++ {
		if parts[i-1] == "out-trade-no" || parts[i-1] == "id" {
			parts[i] = "*"
			break
		}
	}
	return strings.Join(parts, "/")
}

func get(r *http.Request, f func() (any, *apiError)) (any, *apiError) {
	if r.Method != http.MethodGet {
		return nil, errMethod()
	}
	return f()
}

func post(r *http.Request, f func() (any, *apiError)) (any, *apiError) {
	if r.Method != http.MethodPost {
		return nil, errMethod()
	}
	return f()
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
