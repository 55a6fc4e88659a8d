package receive

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// Incoming is a callback as it came in.
type Incoming struct {
	Method string
	// Host and Path are kept for the delivery; they decide nothing.
	Host, Path string
	// Header is keyed as net/http keys it.
	Header http.Header
	// ContentLength is -1 when it is not known.
	ContentLength int64
	Body          io.Reader
	// Arrived is when the request did: the answer's deadline counts from it, the
	// time that the body takes included. Zero: when Receive is called.
	Arrived time.Time
}

// Answer is what WeChat is told: a status and a JSON body, which must not be
// changed. code has at most 32 characters, message at most 64.
// https://pay.weixin.qq.com/doc/v3/merchant/4012791861
type Answer struct {
	Status int
	Body   []byte
}

func answer(status int, code, message string) Answer {
	return Answer{Status: status, Body: []byte(`{"code":"` + code + `","message":"` + message + `"}`)}
}

func fail(status int, message string) Answer { return answer(status, "FAIL", message) }

// The answers. Nothing in them comes from a request.
var (
	answerSuccess = answer(http.StatusOK, "SUCCESS", "成功")

	answerMethod        = fail(http.StatusMethodNotAllowed, "POST only")
	answerNoMerchant    = fail(http.StatusNotFound, "no such merchant")
	answerTooLarge      = fail(http.StatusRequestEntityTooLarge, "body too large")
	answerHeaders       = fail(http.StatusUnauthorized, "signature headers missing or malformed")
	answerXML           = fail(http.StatusUnauthorized, "APIv2 notifications are not accepted here")
	answerSignatureType = fail(http.StatusUnauthorized, "unknown signature type")
	answerTimestamp     = fail(http.StatusUnauthorized, "timestamp malformed or 300 s or more off")
	answerSerial        = fail(http.StatusUnauthorized, "unknown serial")
	answerSignature     = fail(http.StatusUnauthorized, "signature does not verify")
	answerDisconnected  = fail(http.StatusBadRequest, "body incomplete")
	answerMalformed     = fail(http.StatusBadRequest, "notification is malformed")
	answerDecrypt       = fail(http.StatusBadRequest, "resource cannot be decrypted")
	answerParked        = fail(http.StatusConflict, "held for a check of the order")
	answerUndelivered   = fail(http.StatusInternalServerError, "not delivered yet")
	answerInternal      = fail(http.StatusInternalServerError, "internal error")
	answerUnavailable   = fail(http.StatusServiceUnavailable, "try again later")
)

// Unavailable is the answer while there is no store to receive into: WeChat asks
// again.
func Unavailable() Answer { return answerUnavailable }

// delivered is the answer to a callback that a backend took: the JSON object it
// gave for WeChat, since some events carry an answer, or success.
func delivered(body []byte) Answer {
	if !isObject(body) {
		return answerSuccess
	}
	return Answer{Status: http.StatusOK, Body: body}
}

func isObject(body []byte) bool {
	for _, c := range body {
		switch c {
		case ' ', '\t', '\r', '\n':
		case '{':
			return json.Valid(body)
		default:
			return false
		}
	}
	return false
}
