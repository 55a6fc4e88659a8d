package payops

import (
	"errors"
	"net/http"
	"strings"

	"github.com/wechatpay-apiv3/wechatpay-go/core/consts"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/sensitive"
)

// How a caller has sensitive fields (敏感信息字段) encrypted and decrypted: auto, for
// what the operation table lists, or a list of paths. Neither header goes on to
// WeChat Pay.
const (
	headerEncrypt = "Wechatpay-Gateway-Encrypt"
	headerDecrypt = "Wechatpay-Gateway-Decrypt"
	fieldsAuto    = "auto"

	// headerDecrypted lists the paths that were opened in an answer; what WeChat
	// Pay signed is then no longer what the caller gets, and its signature's
	// headers are moved to names that begin with originalPrefix.
	headerDecrypted = "Wechatpay-Gateway-Decrypted"
	originalPrefix  = "Wechatpay-Gateway-Original-"

	warningSealed = "not_decrypted" // the answer is as WeChat Pay signed it
)

// signatureHeaders are what an answer is verified by.
var signatureHeaders = []string{
	consts.WechatPaySignature, consts.WechatPayTimestamp, consts.WechatPayNonce, consts.WechatPaySerial,
	"Wechatpay-Signature-Type",
}

// fields is what a caller wants encrypted or decrypted.
type fields struct {
	paths []sensitive.Path
	// listed: by the caller, not by the operation table.
	listed bool
}

// readFields reads one of the two headers; nil when it is absent.
func readFields(q *request, name string, known []string) (*fields, *refusal) {
	values := q.header.Values(name)
	switch {
	case len(values) == 0:
		return nil, nil
	case len(values) > 1:
		return nil, badRequest(RuleSensitive, name+" appears twice")
	case strings.EqualFold(values[0], fieldsAuto):
		paths, err := sensitive.Parse(known)
		if err != nil {
			return nil, badRequest(RuleSensitive, name+": auto knows no such fields of this operation; list their paths")
		}
		return &fields{paths: paths}, nil
	}
	paths, err := sensitive.ParseList(values[0])
	if err != nil {
		return nil, badRequest(RuleSensitive, name+" must be auto, or up to 32 paths such as contact_info.name,receivers[].name")
	}
	return &fields{paths: paths, listed: true}, nil
}

// fields carries out what a caller says about sensitive fields: those of the
// body are encrypted now, before any rule looks at it and before an intent row;
// those of the answer when it is there.
func (a *API) fields(q *request) *refusal {
	want, refused := readFields(q, headerEncrypt, q.op.Request)
	if refused != nil {
		return refused
	}
	if q.decrypt, refused = readFields(q, headerDecrypt, q.op.Response); refused != nil {
		return refused
	}
	if q.decrypt != nil && q.op.Act == operation.ActDownload {
		return badRequest(RuleSensitive, "a file is passed on as it is")
	}
	if want == nil {
		return nil
	}
	if len(q.body) == 0 || q.uploads() {
		return badRequest(RuleSensitive, "the request has no JSON body with fields to encrypt")
	}
	if _, _, refused := jsonBody(q, false); refused != nil {
		return refused
	}
	key, ok := a.merchant.Keys().Preferred()
	if !ok {
		return notReady()
	}
	if want.listed && a.mixes(q, want, key) {
		return badRequest(RuleSensitive, "the body holds fields encrypted by the caller too: name their key in Wechatpay-Serial, and it must be "+
			"the one that the gateway encrypts with")
	}
	body, err := sensitive.Encrypt(q.body, want.paths, want.listed, key.PublicKey())
	if err != nil {
		return unencryptable(err)
	}
	q.body, q.serial = body, key.Serial
	return nil
}

// mixes reports whether other fields than the wanted ones are encrypted already
// with what may be another key: WeChat Pay is told of one key only.
func (a *API) mixes(q *request, want *fields, key merchant.Key) bool {
	given := q.header.Values(consts.WechatPaySerial)
	if len(given) == 1 {
		if theirs, err := a.merchant.Keys().Lookup(given[0], a.now()); err == nil && theirs.Serial == key.Serial {
			return false
		}
	}
	known, err := sensitive.Parse(q.op.Request)
	if err != nil {
		return false // the operation has none
	}
	listed := make(map[string]bool, len(want.paths))
	for _, p := range want.paths {
		listed[p.String()] = true
	}
	others := known[:0]
	for _, p := range known {
		if !listed[p.String()] {
			others = append(others, p)
		}
	}
	return sensitive.Encrypted(q.body, others, key.PublicKey().Size())
}

func unencryptable(err error) *refusal {
	switch {
	case errors.Is(err, sensitive.ErrAbsent):
		return badRequest(RuleSensitive, "a listed path names nothing in the body; nothing was encrypted and nothing sent")
	case errors.Is(err, sensitive.ErrNotText):
		return badRequest(RuleSensitive, "a listed path names something else than a string")
	case errors.Is(err, sensitive.ErrEncrypted):
		return badRequest(RuleSensitive, "a field is encrypted already; it is never encrypted twice: leave it out of the list")
	case errors.Is(err, sensitive.ErrTooLong):
		return badRequest(RuleSensitive, "a field is longer than RSA-OAEP can encrypt")
	}
	return badRequest(RuleSensitive, "more fields than are encrypted in one request")
}

// open decrypts the fields of a verified answer that the caller wants opened. It
// is all or nothing: an answer of which a field does not open goes back as WeChat
// Pay signed it, with a warning. h is the header of the answer to the caller.
func (a *API) open(h http.Header, q *request, res send.Result) []byte {
	if q.decrypt == nil || !res.Verified || res.Status >= http.StatusMultipleChoices || len(res.Body) == 0 {
		return res.Body
	}
	credential, err := a.merchant.Credential()
	if err != nil {
		h.Add(headerWarning, warningSealed)
		return res.Body
	}
	body, done, err := sensitive.Decrypt(res.Body, q.decrypt.paths, q.decrypt.listed, credential.PrivateKey().Reveal())
	if err != nil || len(done) == 0 && q.decrypt.listed {
		a.log.Warn("fields of an answer are not decrypted", "operation", q.op.String(), "error", err)
		h.Add(headerWarning, warningSealed)
		return res.Body
	}
	if len(done) == 0 {
		return res.Body
	}
	for _, name := range signatureHeaders {
		if values, ok := h[name]; ok {
			h[originalPrefix+strings.TrimPrefix(name, "Wechatpay-")] = values
			delete(h, name)
		}
	}
	h.Set(headerDecrypted, strings.Join(done, ","))
	h.Set("Cache-Control", "no-store")
	return body
}
