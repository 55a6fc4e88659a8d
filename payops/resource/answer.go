package resource

import (
	"net/http"
	"strings"
)

// carry copies what the gateway says beside an operation's answer.
func carry(to, from http.Header) {
	for name, values := range from {
		if strings.HasPrefix(name, "Wechatpay-Gateway-") || name == "Request-Id" {
			to[name] = append(to[name], values...)
		}
	}
}

// numbered gives an operation's answer, which is no success, to the caller as it
// is, and names in Location what it was about: whoever let the gateway choose the
// number needs it to query or to repeat.
func numbered(answer Answer, location string) Response {
	if answer.Status >= 200 && answer.Status < 300 {
		return unknown(location) // taken, and not yet done
	}
	response := answer.Response()
	response.Header = response.Header.Clone()
	response.Header.Set("Location", location)
	return response
}

// unknown is the answer when nobody knows whether it is done.
func unknown(location string) Response {
	response := respond(http.StatusInternalServerError, problem{
		Code:    codeSystem,
		Message: "结果未知：请用原单号查询或以原参数重试，切勿更换单号。Outcome unknown: query, or retry with the same number, never a new one.",
	})
	response.Header.Set("Location", location)
	response.Header.Set(headerOutcome, "unknown")
	return response
}
