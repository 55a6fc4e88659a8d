package send

import (
	"errors"
	"io"
	"net/http"
)

// Outcome is what is known after a call.
type Outcome uint8

// The outcomes.
const (
	// Unsent: WeChat cannot have seen the request; nothing left this process.
	Unsent Outcome = iota
	// Succeeded: a 2xx whose signature verifies, or of a stream a 200.
	Succeeded
	// Rejected: a 4xx whose signature verifies. WeChat did nothing.
	Rejected
	// Unknown: everything else. WeChat may have done it; only a query tells.
	Unknown
)

// String returns unsent, succeeded, rejected or unknown.
func (o Outcome) String() string {
	switch o {
	case Unsent:
		return "unsent"
	case Succeeded:
		return "succeeded"
	case Rejected:
		return "rejected"
	case Unknown:
		return "unknown"
	}
	return "unknown"
}

var (
	// ErrSign: the request could not be signed. Nothing was sent.
	ErrSign = errors.New("send: the request cannot be signed")
	// ErrUnreachable: no host could be reached. Nothing was sent.
	ErrUnreachable = errors.New("send: no API host could be reached")
	// ErrDialTimeout: no host could be reached in time. Nothing was sent.
	ErrDialTimeout = errors.New("send: no API host could be reached in time")
	// ErrNoAnswer: the request was sent, and no whole answer came back.
	ErrNoAnswer = errors.New("send: no whole answer came back")
	// ErrAnswerTooLarge: the answer exceeds the cap.
	ErrAnswerTooLarge = errors.New("send: the answer is too large")
	// ErrUnverified: the answer's signature is missing or does not verify.
	ErrUnverified = errors.New("send: the answer does not verify")
	// ErrProbe: as ErrUnverified, and the signature is one of WeChat's own
	// WECHATPAY/SIGNTEST/ probes.
	ErrProbe = errors.New("send: the answer carries a signature probe")
)

// Result is what became of a request.
type Result struct {
	Outcome Outcome
	// Verified is true when the answer's signature verifies.
	Verified bool
	// Status, Header and Body are the answer; Status is 0 when there is none.
	// Header holds only what is meant for the caller, untouched.
	Status int
	Header http.Header
	Body   []byte
	// Stream is the unread body of a streamed answer, for the receiver to close;
	// nil when there is none. Length is its length in bytes, -1 when unknown.
	Stream io.ReadCloser
	Length int64
	// Err says what went wrong, nil when the answer verifies. It matches one of
	// this package's errors and holds nothing of a body or a header.
	Err error
	// Attempts counts the hosts that were tried.
	Attempts int
}
