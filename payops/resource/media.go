package resource

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// WeChat Pay's uploads. https://pay.weixin.qq.com/doc/v3/merchant/4012760432
const (
	imagePath = "/v3/merchant/media/upload"
	videoPath = "/v3/merchant/media/video_upload"
)

// maxFilename bounds a file's name, in bytes.
const maxFilename = 128

func (rs *Resources) uploadImage(r *Request) Response { return rs.upload(r, imagePath) }
func (rs *Resources) uploadVideo(r *Request) Response { return rs.upload(r, videoPath) }

// upload sends the request's body as a file: it makes the digest that WeChat Pay
// signs for and the form around both. What kinds and sizes of files there may
// be is WeChat Pay's decision.
func (rs *Resources) upload(r *Request, to string) Response {
	values, refused := r.Values("filename")
	if refused.Refused() {
		return refused
	}
	name := values.Get("filename")
	if !plainFilename(name) {
		return badRequest(RuleFilename, "filename must be the file's name with its ending, such as shop.png: at most 128 bytes, without a path, quotes or control characters")
	}
	if refused := fileType(r.Header); refused.Refused() {
		return refused
	}
	if len(r.Body) == 0 {
		return badRequest(RuleBody, "the body must be the file's bytes")
	}
	digest := sha256.Sum256(r.Body)
	meta := jsonBody(struct {
		Filename string `json:"filename"`
		SHA256   string `json:"sha256"`
	}{name, hex.EncodeToString(digest[:])})
	id, err := rs.NewID()
	if err != nil {
		return refuse(http.StatusInternalServerError, codeSystem, RuleInternal, "there is no randomness")
	}
	boundary := "wechatpay-" + id // random: no file holds it
	return r.Core.V3(Call{
		Method: http.MethodPost, Path: to,
		ContentType: "multipart/form-data; boundary=" + boundary,
		Body:        form(boundary, meta, name, r.Body),
	}).Response()
}

// plainFilename reports whether a name can stand in a form as it is.
func plainFilename(name string) bool {
	return len(name) <= maxFilename && utf8.ValidString(name) && path.Ext(name) != "" && path.Ext(name) != name &&
		!strings.ContainsAny(name, `"\/%`) && !strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) })
}

// fileType refuses bodies that are something around a file: a form would become
// the file, and what curl -d sends has lost its line ends.
func fileType(h http.Header) Response {
	given := h.Values("Content-Type")
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	kind, _, _ := strings.Cut(media, "/")
	switch {
	case len(h.Values("Content-Encoding")) > 0:
		return badRequest(RuleContentType, "a Content-Encoding is not taken")
	case len(given) == 0:
		return Response{}
	case len(given) > 1 || err != nil:
	case kind == "image", kind == "video", media == "application/octet-stream", media == "application/pdf":
		return Response{}
	}
	return badRequest(RuleContentType, "the body is the file itself: Content-Type application/octet-stream, image/… or video/…, and with curl --data-binary @file")
}

// mediaTypes are those of the files that WeChat Pay's pages name most.
var mediaTypes = map[string]string{
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".bmp": "image/bmp", ".pdf": "application/pdf", ".mp4": "video/mp4",
}

// form is multipart/form-data of the two parts in WeChat Pay's order.
func form(boundary string, meta []byte, name string, file []byte) []byte {
	media := mediaTypes[strings.ToLower(path.Ext(name))]
	if media == "" {
		media = "application/octet-stream"
	}
	var b bytes.Buffer
	b.Grow(len(file) + len(meta) + 4*len(boundary) + 2*len(name) + 512)
	b.WriteString("--" + boundary + "\r\nContent-Disposition: form-data; name=\"meta\"\r\nContent-Type: application/json\r\n\r\n")
	b.Write(meta)
	b.WriteString("\r\n--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\nContent-Type: " + media + "\r\n\r\n")
	b.Write(file)
	b.WriteString("\r\n--" + boundary + "--\r\n")
	return b.Bytes()
}
