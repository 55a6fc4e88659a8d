package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strings"
)

// upload is the file of a multipart upload; what is signed is its meta.
type upload struct {
	filename string // of the form's part
	content  []byte
}

const (
	maxUpload  = 8 << 20 // bytes of a whole upload's body
	maxMeta    = 4 << 10 // bytes
	maxImage   = 5 << 20 // of JPG, BMP and PNG; 2 MB for marketing
	maxPDF     = 15 << 19
	maxVideo   = 5 << 20
	maxFavor   = 2 << 20
	uploadType = "multipart/form-data"
)

// uploads are the operations that take a file: which endings, how many bytes,
// and what they answer.
var uploads = map[string]struct {
	endings map[string]int // to the largest size in bytes
	answer  func(p *Platform, c *call) any
}{
	"/v3/merchant/media/upload":              {map[string]int{".jpg": maxImage, ".jpeg": maxImage, ".bmp": maxImage, ".png": maxImage, ".pdf": maxPDF}, mediaID},
	"/v3/merchant/media/video_upload":        {map[string]int{".avi": maxVideo, ".wmv": maxVideo, ".mpeg": maxVideo, ".mp4": maxVideo, ".mov": maxVideo, ".mkv": maxVideo, ".flv": maxVideo, ".f4v": maxVideo, ".m4v": maxVideo, ".rmvb": maxVideo}, mediaID},
	"/v3/marketing/favor/media/image-upload": {map[string]int{".jpg": maxFavor, ".jpeg": maxFavor, ".bmp": maxFavor, ".png": maxFavor}, mediaURL},
	"/v3/merchant-service/images/upload":     {map[string]int{".jpg": maxFavor, ".jpeg": maxFavor, ".bmp": maxFavor, ".png": maxFavor}, mediaID},
}

func mediaID(p *Platform, _ *call) any {
	return struct {
		ID string `json:"media_id"`
	}{base64.RawURLEncoding.EncodeToString(p.randomBytes(84))}
}

func mediaURL(p *Platform, c *call) any {
	return struct {
		URL string `json:"media_url"`
	}{"https://wxpaylogo.qpic.cn/wxpaylogo/" + p.randomText(48) + "/0?" + c.m.mchid}
}

func isUpload(path string) bool { _, ok := uploads[path]; return ok }

// readUpload takes an upload's body apart: the meta, which is what the caller
// signed, and the file.
func readUpload(r *http.Request, body []byte) (meta []byte, file *upload, bad *apiError) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return nil, nil, paramError("header", "Content-Type", "no boundary", "Http头Content-Type缺少boundary")
	}
	form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, paramError("body", "", "not a multipart form", "请求体不是合法的multipart表单")
		}
		content, err := io.ReadAll(part) // bounded by the body
		if err != nil {
			return nil, nil, paramError("body", "", "not a multipart form", "请求体不是合法的multipart表单")
		}
		switch {
		case part.FormName() == "meta" && meta == nil && len(content) <= maxMeta:
			meta = append([]byte{}, content...)
		case part.FormName() == "file" && file == nil:
			file = &upload{part.FileName(), content}
		default:
			return nil, nil, paramError("body", "/"+part.FormName(), "want one meta and one file", "表单只允许一个meta和一个file")
		}
	}
	if meta == nil || file == nil {
		return nil, nil, paramError("body", "", "want one meta and one file", "表单缺少meta或file")
	}
	return meta, file, nil
}

// acceptUpload is POST /v3/merchant/media/upload and its like
// (https://pay.weixin.qq.com/doc/v3/merchant/4012760432). The file is checked
// and dropped.
func acceptUpload(p *Platform, c *call) (any, *apiError) {
	rule := uploads[c.r.URL.Path]
	var meta struct {
		Filename string `json:"filename"`
		SHA256   string `json:"sha256"`
	}
	if c.file == nil || json.Unmarshal(c.body, &meta) != nil || meta.Filename == "" || meta.SHA256 == "" {
		return nil, paramError("body", "/meta", "want filename and sha256", "meta须为包含filename与sha256的JSON")
	}
	most, ok := rule.endings[strings.ToLower(path.Ext(meta.Filename))]
	if !ok || c.file.filename == "" {
		return nil, paramError("body", "/meta/filename", "file type not allowed", "文件类型不支持")
	}
	if len(c.file.content) == 0 || len(c.file.content) > most {
		return nil, paramError("body", "/file", "empty or too large", "文件为空或大小超出限制")
	}
	sum := sha256.Sum256(c.file.content)
	if !strings.EqualFold(meta.SHA256, hex.EncodeToString(sum[:])) {
		return nil, paramError("body", "/meta/sha256", "not the file's", "meta中的sha256与文件内容不一致")
	}
	return rule.answer(p, c), nil
}
