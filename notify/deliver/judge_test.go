package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

func TestJudgeStatus(t *testing.T) {
	for code, want := range map[int]notify.Result{
		0: notify.ResultUnreachable, 100: notify.ResultStatus, 101: notify.ResultStatus, 199: notify.ResultStatus,
		200: notify.ResultSuccess, 201: notify.ResultSuccess, 202: notify.ResultSuccess, 204: notify.ResultSuccess,
		206: notify.ResultSuccess, 299: notify.ResultSuccess,
		300: notify.ResultStatus, 301: notify.ResultStatus, 302: notify.ResultStatus, 304: notify.ResultStatus,
		307: notify.ResultStatus, 308: notify.ResultStatus,
		400: notify.ResultStatus, 401: notify.ResultStatus, 404: notify.ResultStatus, 410: notify.ResultStatus,
		429: notify.ResultStatus, 499: notify.ResultStatus, 500: notify.ResultStatus, 502: notify.ResultStatus,
		503: notify.ResultStatus, 599: notify.ResultStatus, 999: notify.ResultStatus,
	} {
		// The body of a bad status cannot make it good.
		answer := notify.Response{Status: code, Body: []byte(`{"code":"SUCCESS"}`)}
		if got := judge(&answer); got != want {
			t.Errorf("status %d: %s, want %s", code, got, want)
		}
	}
	if got := judge(&notify.Response{NoRoute: true, Status: 200}); got != notify.ResultNoRoute {
		t.Errorf("no route: %s", got)
	}
}

var acceptedBodies = []string{
	"", " ", "\r\n\t", "\ufeff", "ok", "OK", "success", "SUCCESS", "true", "null", "[]", `["fail"]`, "200", `"success"`,
	`{}`, `{"code":"SUCCESS"}`, `{"code":"success","message":"成功"}`, `{"code":"Success"}`, `{"code":"OK"}`, `{"code":"ok"}`,
	`{"code":" SUCCESS "}`, `{"code":0}`, `{"code":200}`, `{"code":"0"}`, `{"code":"200"}`, `{"code":0.0}`, `{"code":2e2}`,
	`{"CODE":"FAIL"}`, `{"status":"FAIL"}`, `{"errcode":1}`, `{"data":{"code":"FAIL"}}`, `{"data":[{"code":500}]}`,
	"\ufeff" + `{"code":"SUCCESS"}`, "\n {\"code\":\"SUCCESS\"}\n", `{"message":"code: FAIL"}`,
	"<xml><return_code><![CDATA[SUCCESS]]></return_code></xml>", "<xml><return_code>SUCCESS</return_code></xml>",
	"<xml><return_msg>FAIL</return_msg></xml>", "<html><body>fail</body></html>", "<", "<xml>", "<return_code/>",
	"<!-- <return_code>FAIL</return_code> --><xml/>",
	"failure", "failed", "not fail", "fail.", "fa il", `"failed"`, `'fail"`,
}

var refusingBodies = []string{
	"fail", "FAIL", "Fail", " fail\n", `"fail"`, `"FAIL"`, `'fail'`, ` "Fail" `, "\ufefffail", `" fail "`,
	`{"code":"FAIL"}`, `{"code":"FAIL","message":"失败"}`, `{"code":"fail"}`, `{"code":"ERROR"}`, `{"code":"SYSTEM_ERROR"}`,
	`{"code":""}`, `{"code":null}`, `{"code":false}`, `{"code":true}`, `{"code":{}}`, `{"code":[]}`, `{"code":["SUCCESS"]}`,
	`{"code":1}`, `{"code":-1}`, `{"code":500}`, `{"code":"500"}`, `{"code":201}`, `{"code":200.5}`, `{"code":"00"}`,
	`{"code":"SUCCESSFUL"}`, `{"code":"OK!"}`, `{"a":1,"code":"FAIL"}`, `{"code":"SUCCESS","code":"FAIL"}`,
	`{"code":"FAIL","code":"SUCCESS"}`, `{"\u0063ode":"FAIL"}`, `{"code":"\u0046AIL"}`, "\ufeff{\"code\":\"FAIL\"}",
	" \r\n{\"code\":\"FAIL\"}", `{"code":"FAIL",`, `{"code":"FAIL"`,
	"<xml><return_code>FAIL</return_code></xml>", "<xml><return_code><![CDATA[FAIL]]></return_code><return_msg/></xml>",
	"<xml>\n<return_code> fail </return_code></xml>", `<?xml version="1.0" encoding="GBK"?><xml><return_code>FAIL</return_code></xml>`,
	"<xml><return_code>FAIL", "<xml><a><return_code>FAIL</return_code></a>", "<xml><return_code>FA<![CDATA[IL]]></return_code></xml>",
}

func TestJudgeBody(t *testing.T) {
	check := func(body string, want notify.Result) {
		t.Helper()
		answer := notify.Response{Status: 200, ContentType: "text/html", Body: []byte(body)}
		if got := judge(&answer); got != want {
			t.Errorf("%q: %s, want %s", body, got, want)
		}
	}
	for _, body := range acceptedBodies {
		check(body, notify.ResultSuccess)
	}
	for _, body := range refusingBodies {
		check(body, notify.ResultRefused)
	}
}

func TestJudgeBeginningOfLongAnswer(t *testing.T) {
	long := strings.Repeat("x", maxAnswer)
	for body, want := range map[string]notify.Result{
		`{"code":"FAIL","data":"` + long:    notify.ResultRefused,
		`{"code":"SUCCESS","data":"` + long: notify.ResultSuccess,
		`{"data":"` + long:                  notify.ResultSuccess,
		"<html>" + long:                     notify.ResultSuccess,
	} {
		answer := notify.Response{Status: 200, Body: []byte(body[:maxAnswer]), Truncated: true}
		if got := judge(&answer); got != want {
			t.Errorf("%.24q…: %s, want %s", body, got, want)
		}
		if answerFor(&answer) != nil {
			t.Errorf("%.24q…: half an answer would go to WeChat", body)
		}
	}
}

func TestAnswerFor(t *testing.T) {
	for body, want := range map[string]string{
		`{"code":"SUCCESS","data":{"x":1}}`: `{"code":"SUCCESS","data":{"x":1}}`,
		"\ufeff {}\n":                       "{}",
		"":                                  "",
		"OK":                                "",
		"[1]":                               "",
		`{"a":`:                             "",
		"<xml/>":                            "",
	} {
		got := answerFor(&notify.Response{Status: 200, Body: []byte(body)})
		if string(got) != want || (want == "") != (got == nil) {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	reset := &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	for _, row := range []struct {
		err    error
		status int
		want   notify.Result
	}{
		{refused, 0, notify.ResultUnreachable},
		{reset, 0, notify.ResultUnreachable},
		{reset, 200, notify.ResultIncomplete},
		{io.EOF, 0, notify.ResultUnreachable},
		{io.ErrUnexpectedEOF, 0, notify.ResultIncomplete},
		{fmt.Errorf("reading: %w", io.ErrUnexpectedEOF), 200, notify.ResultIncomplete},
		{http.ErrAbortHandler, 0, notify.ResultIncomplete},
		{context.DeadlineExceeded, 0, notify.ResultTimeout},
		{fmt.Errorf("deliver: %w", context.DeadlineExceeded), 200, notify.ResultTimeout},
		{os.ErrDeadlineExceeded, 0, notify.ResultTimeout},
		{fmt.Errorf("%w: x", errPanic), 0, notify.ResultPanic},
		{errors.New("anything"), 0, notify.ResultUnreachable},
	} {
		if got := classify(row.err, &notify.Response{Status: row.status}); got != row.want {
			t.Errorf("%v, status %d: %s, want %s", row.err, row.status, got, row.want)
		}
	}
}

// FuzzJudge: no answer panics; the verdict on a body does not depend on blanks
// around it; and only a whole JSON object is handed to WeChat.
func FuzzJudge(f *testing.F) {
	for _, body := range append(acceptedBodies, refusingBodies...) {
		f.Add([]byte(body), false)
		f.Add([]byte(body), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, truncated bool) {
		answer := notify.Response{Status: 200, Body: bytes.Clone(body), Truncated: truncated}
		got := judge(&answer)
		if got != notify.ResultSuccess && got != notify.ResultRefused {
			t.Fatalf("%q: %s", body, got)
		}
		if !bytes.Equal(answer.Body, body) {
			t.Fatalf("%q was changed to %q", body, answer.Body)
		}
		padded := notify.Response{Status: 200, Body: append(append([]byte("\r\n "), body...), " \n"...)}
		if again := judge(&padded); again != got {
			t.Fatalf("%q: %s, but %s with blanks around it", body, got, again)
		}
		if out := answerFor(&answer); out != nil && (truncated || out[0] != '{' || out[len(out)-1] != '}') {
			t.Fatalf("%q would go to WeChat as %q", body, out)
		}
	})
}
