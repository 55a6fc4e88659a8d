package resource

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wechatpay-apiv3/wechatpay-go/utils"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/payops/invoke"
)

// signatureBody is what WeChat Pay signed, and the signature's headers.
type signatureBody struct {
	Timestamp string `json:"timestamp"` // Wechatpay-Timestamp
	Nonce     string `json:"nonce"`     // Wechatpay-Nonce
	Body      string `json:"body"`      // byte for byte
	Signature string `json:"signature"` // Wechatpay-Signature
	Serial    string `json:"serial"`    // Wechatpay-Serial
}

// verdict is whether a signature is WeChat Pay's, and fresh.
type verdict struct {
	Verified bool   `json:"verified"`
	Reason   string `json:"reason,omitempty"` // of one that is not: timestamp, serial, signature or probe
}

// signatureWindow is how far a signature's timestamp may be off either way,
// exclusive. https://pay.weixin.qq.com/doc/v3/merchant/4013053249
const signatureWindow = 300 * time.Second

// probePrefix begins signatures that WeChat Pay makes to find out who verifies.
const probePrefix = "WECHATPAY/SIGNTEST/"

// verify says whether WeChat Pay signed a callback or an answer. What is not
// verified is 200 with verified false: the question was answered.
func (rs *Resources) verify(r *Request) Response {
	var body signatureBody
	if refused := rs.cryptoBody(r, &body); refused.Refused() {
		return refused
	}
	if strings.Contains(body.Timestamp+body.Nonce, "\n") {
		return badRequest(RuleBody, "timestamp and nonce are header values, of one line")
	}
	if refused := rs.keysReady(); refused.Refused() {
		return refused
	}
	return respond(http.StatusOK, rs.judge(body))
}

func (rs *Resources) judge(body signatureBody) verdict {
	if strings.HasPrefix(body.Signature, probePrefix) {
		return verdict{Reason: "probe"}
	}
	now := rs.Now()
	seconds, err := strconv.ParseInt(body.Timestamp, 10, 64)
	if off := now.Unix() - seconds; err != nil || seconds <= 0 || strconv.FormatInt(seconds, 10) != body.Timestamp ||
		off >= int64(signatureWindow/time.Second) || off <= -int64(signatureWindow/time.Second) {
		return verdict{Reason: "timestamp"}
	}
	key, err := rs.Merchant.Keys().Lookup(body.Serial, now)
	if err != nil {
		return verdict{Reason: "serial"}
	}
	signature, err := merchant.DecodeSignature(body.Signature)
	if err != nil || key.Verify([]byte(body.Timestamp+"\n"+body.Nonce+"\n"+body.Body+"\n"), signature) != nil {
		return verdict{Reason: "signature"}
	}
	return verdict{Verified: true}
}

type plaintextBody struct {
	Plaintext string `json:"plaintext"`
}

type ciphertextBody struct {
	Ciphertext string `json:"ciphertext"`
}

// encrypted is a sensitive field as WeChat Pay wants it.
type encrypted struct {
	Ciphertext string `json:"ciphertext"`
	Serial     string `json:"serial"` // for the Wechatpay-Serial of the request that carries it
}

// encrypt encrypts one sensitive field for WeChat Pay, RSAES-OAEP.
// https://pay.weixin.qq.com/doc/v3/merchant/4013053264
func (rs *Resources) encrypt(r *Request) Response {
	var body plaintextBody
	if refused := rs.cryptoBody(r, &body); refused.Refused() {
		return refused
	}
	if refused := rs.keysReady(); refused.Refused() {
		return refused
	}
	key, ok := rs.Merchant.Keys().Preferred()
	if !ok {
		return keysMissing()
	}
	if most := key.PublicKey().Size() - 42; body.Plaintext == "" || len(body.Plaintext) > most {
		return badRequest(RuleBody, "plaintext must be 1 to "+strconv.Itoa(most)+" bytes in UTF-8")
	}
	ciphertext, err := utils.EncryptOAEPWithPublicKey(body.Plaintext, key.PublicKey())
	if err != nil {
		return refuse(http.StatusInternalServerError, codeSystem, RuleInternal, "the field cannot be encrypted")
	}
	return respond(http.StatusOK, encrypted{ciphertext, key.Serial})
}

// decrypt opens one sensitive field of an answer with the merchant's key.
func (rs *Resources) decrypt(r *Request) Response {
	var body ciphertextBody
	if refused := rs.cryptoBody(r, &body); refused.Refused() {
		return refused
	}
	if refused := rs.keysReady(); refused.Refused() {
		return refused
	}
	credential, err := rs.Merchant.Credential()
	if err != nil {
		return keysMissing()
	}
	key := credential.PrivateKey().Reveal()
	raw, err := base64.StdEncoding.DecodeString(body.Ciphertext)
	if err != nil || len(raw) != key.Size() {
		return badRequest(RuleCiphertext, "ciphertext must be base64 of "+strconv.Itoa(key.Size())+" bytes, as a field of an answer has it")
	}
	plaintext, err := utils.DecryptOAEP(body.Ciphertext, key)
	if err != nil || !utf8.ValidString(plaintext) {
		return badRequest(RuleCiphertext, "the ciphertext was not encrypted for this merchant's API certificate")
	}
	return respond(http.StatusOK, plaintextBody{plaintext})
}

// invokeBody names an order by its prepay_id, and who opens its payment.
type invokeBody struct {
	Way      string `json:"way"` // jsapi, miniprogram or app
	Appid    string `json:"appid"`
	PrepayID string `json:"prepay_id"`
}

// invoke signs what opens a payment (调起支付). Nothing but an appid and a
// prepay_id of WeChat Pay's spelling comes under the merchant's key.
func (rs *Resources) invoke(r *Request) Response {
	var body invokeBody
	if refused := rs.cryptoBody(r, &body); refused.Refused() {
		return refused
	}
	if body.Appid == "" {
		body.Appid = rs.Merchant.DefaultApp().Appid
	}
	// A service provider also opens payments in its sub-merchants' apps.
	if !rs.Merchant.HasApp(body.Appid) && !rs.Merchant.ServiceProvider() && len(rs.Merchant.Apps()) > 0 {
		return badRequest(RuleAppid, "the appid is not one of the merchant's apps; it is the order's")
	}
	parameters, err := rs.Invoke(r.Core.Live(), invoke.Way(body.Way), body.Appid, body.PrepayID)
	switch {
	case err == nil:
		return respond(http.StatusOK, parameters)
	case errors.Is(err, invoke.ErrWay):
		return badRequest(RuleBody, "way must be jsapi, miniprogram or app; native and h5 orders need no parameters")
	case errors.Is(err, invoke.ErrAppid):
		return badRequest(RuleAppid, "appid must be wx and 16 letters or digits")
	case errors.Is(err, invoke.ErrPrepayID):
		return badRequest(RulePrepayID, "prepay_id must be one that WeChat Pay gave; nothing else is signed")
	case errors.Is(err, merchant.ErrNoKeys):
		return keysMissing()
	}
	rs.Logger.Error("parameters cannot be signed", "error", err)
	return refuse(http.StatusInternalServerError, codeSystem, RuleInternal, "the parameters cannot be signed")
}

// cryptoBody reads the body of a resource that takes no query.
func (rs *Resources) cryptoBody(r *Request, into any) Response {
	if _, refused := r.Values(); refused.Refused() {
		return refused
	}
	return r.decode(into, false)
}

func (rs *Resources) keysReady() Response {
	if rs.Merchant.Ready() != nil {
		return keysMissing()
	}
	return Response{}
}

func keysMissing() Response {
	return later(refuse(http.StatusServiceUnavailable, codeSystem, RuleNotReady, "the gateway holds no keys of WeChat Pay yet, or no valid one"), time.Second)
}
