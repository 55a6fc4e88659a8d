package deliver

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// judge says what an answer means. Success is a 2xx whose body does not say
// otherwise. These say otherwise:
//
//   - a JSON object with a code that is not SUCCESS or OK (in any case), 0 or 200
//     (number or string);
//   - XML with a return_code of FAIL (the answer of APIv2 backends);
//   - a body of fail, quoted or not, in any case.
//
// The content type is not asked: legacy backends answer JSON as text/html. An
// answer of which only the beginning was kept is judged by that beginning: who
// refuses says so in a few bytes.
func judge(answer *notify.Response) notify.Result {
	switch {
	case answer.NoRoute:
		return notify.ResultNoRoute
	case answer.Status == 0:
		return notify.ResultUnreachable
	case answer.Status < 200 || answer.Status > 299:
		return notify.ResultStatus
	case refuses(answer.Body):
		return notify.ResultRefused
	default:
		return notify.ResultSuccess
	}
}

var byteOrderMark = []byte("\ufeff")

// refuses reports whether a 2xx's body says that the event was not taken.
func refuses(body []byte) bool {
	body = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(body), byteOrderMark))
	if len(body) == 0 {
		return false
	}
	switch body[0] {
	case '{':
		return objectRefuses(body)
	case '<':
		return xmlRefuses(body)
	default:
		return saysFail(body)
	}
}

// objectRefuses looks at every code of the object's own level: of two, the one
// that refuses counts.
func objectRefuses(body []byte) bool {
	refused := false
	gjson.ParseBytes(body).ForEach(func(key, value gjson.Result) bool {
		if key.Str == "code" && !codeAccepts(value) {
			refused = true
		}
		return !refused
	})
	return refused
}

func codeAccepts(code gjson.Result) bool {
	switch code.Type {
	case gjson.String:
		text := strings.TrimSpace(code.Str)
		return strings.EqualFold(text, "SUCCESS") || strings.EqualFold(text, "OK") || text == "0" || text == "200"
	case gjson.Number:
		return code.Num == 0 || code.Num == 200
	case gjson.Null, gjson.False, gjson.True, gjson.JSON:
		return false
	default:
		return false
	}
}

var returnCode = []byte("return_code")

// xmlRefuses looks for an element return_code that holds FAIL. What does not
// parse is read as far as it goes.
func xmlRefuses(body []byte) bool {
	if !bytes.Contains(body, returnCode) {
		return false // a page, most likely: not worth parsing
	}
	decoder := xml.NewDecoder(bytes.NewReader(body))
	decoder.Strict = false
	decoder.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	inside := 0
	var text []byte
	for {
		token, err := decoder.RawToken()
		if err != nil {
			return inside > 0 && saysFail(text)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Local == string(returnCode) {
				inside, text = inside+1, nil
			}
		case xml.EndElement:
			if t.Name.Local == string(returnCode) && inside > 0 {
				if saysFail(text) {
					return true
				}
				inside--
			}
		case xml.CharData:
			if inside > 0 {
				text = append(text, t...)
			}
		}
	}
}

// saysFail reports whether text is fail in any case, quoted or not.
func saysFail(text []byte) bool {
	text = bytes.TrimSpace(text)
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		text = bytes.TrimSpace(text[1 : n-1])
	}
	return len(text) == 4 && bytes.EqualFold(text, []byte("fail"))
}

// answerFor returns the backend's JSON object when it is whole: what WeChat gets
// in delivery mode instead of the gateway's own. Nil when there is none.
func answerFor(answer *notify.Response) []byte {
	if answer.Truncated {
		return nil
	}
	body := bytes.TrimSpace(bytes.TrimPrefix(answer.Body, byteOrderMark))
	if len(body) == 0 || body[0] != '{' || !gjson.ValidBytes(body) {
		return nil
	}
	return body
}

// errPanic wraps what a Deliverer panicked with.
var errPanic = errors.New("deliver: the delivery route panicked")

// classify says what an attempt without a complete answer was.
func classify(err error, answer *notify.Response) notify.Result {
	var network net.Error
	switch {
	case errors.Is(err, errPanic):
		return notify.ResultPanic
	case errors.Is(err, notify.ErrNotSent):
		return notify.ResultNotSent
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		return notify.ResultTimeout
	case answer.Status != 0, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, http.ErrAbortHandler):
		// ErrAbortHandler is how a reverse proxy says that the backend's answer
		// broke off after its header had been passed on.
		return notify.ResultIncomplete
	default:
		return notify.ResultUnreachable
	}
}
