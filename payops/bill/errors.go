package bill

import (
	"errors"
	"fmt"
)

// What applying for a bill and downloading it may end with. Errors hold nothing
// of a bill, a link or a header.
var (
	// ErrNoStatement: WeChat Pay's verified word that there is no such bill
	// (NO_STATEMENT_EXIST): nothing was paid, refunded or moved on that day.
	ErrNoStatement = errors.New("bill: WeChat Pay has no bill of that day")
	// ErrNotReady: the bill is being made (STATEMENT_CREATING); it is worth asking
	// again every half hour.
	// https://pay.weixin.qq.com/doc/v3/merchant/4013071254
	ErrNotReady = errors.New("bill: the bill is not ready yet")
	// ErrRequest: the request names no bill that can be.
	ErrRequest = errors.New("bill: not a request for a bill")
	// ErrUnavailable: WeChat Pay could not be reached, or its answer proves
	// nothing. Asking again is harmless.
	ErrUnavailable = errors.New("bill: no answer that proves anything")
	// ErrLink: the answer's link leads elsewhere than to the merchant's API hosts,
	// or is no link, or its digest is of no known kind. Nothing was sent there.
	ErrLink = errors.New("bill: the link to the bill is not to be followed")
	// ErrLinkExpired: the link is older than 30 seconds, or WeChat Pay refuses it.
	ErrLinkExpired = errors.New("bill: the link to the bill has expired")
	// ErrIncomplete: the download broke off, or is not what gzip makes.
	ErrIncomplete = errors.New("bill: the file is not whole")
	// ErrDigest: the file is not the one whose digest WeChat Pay signed.
	ErrDigest = errors.New("bill: the file's digest is not the signed one")
	// ErrTooLarge: the file exceeds Config.MaxSize.
	ErrTooLarge = errors.New("bill: the file is too large")
	// ErrBomb: the file decompresses to more than a bill can.
	ErrBomb = errors.New("bill: the file decompresses beyond reason")
	// ErrDisk: the temporary file cannot be written.
	ErrDisk = errors.New("bill: the temporary file cannot be written")
)

// RejectedError is WeChat Pay's verified refusal of a request for a bill, when it
// is none that has an error of its own.
type RejectedError struct {
	Status int    // of HTTP
	Code   string // WeChat Pay's: PARAM_ERROR, NO_AUTH, FREQUENCY_LIMITED, …
}

// Error names the code.
func (e *RejectedError) Error() string {
	return fmt.Sprintf("bill: WeChat Pay refuses the request: %d %s", e.Status, e.Code)
}

// What reading a bill may end with.
var (
	// ErrEncoding: the bill is not UTF-8.
	ErrEncoding = errors.New("bill: not UTF-8")
	// ErrColumns: a column that is needed is missing, or stands there twice.
	ErrColumns = errors.New("bill: the columns are not a bill's")
	// ErrRow: a row does not have the form of one.
	ErrRow = errors.New("bill: not a row of a bill")
	// ErrAmount: an amount is none, or has a part smaller than its unit.
	ErrAmount = errors.New("bill: not an exact amount")
	// ErrTruncated: the summary row is missing.
	ErrTruncated = errors.New("bill: the bill has no end")
	// ErrTotals: the summary row differs from the sum of the rows.
	ErrTotals = errors.New("bill: the summary row does not agree with the rows")
)

// ParseError says where a bill is wrong. It matches the error it wraps and holds
// no value of the bill.
type ParseError struct {
	Line   int    // counted from 1
	Column string // its name in the bill, "" when it is about the whole row
	Err    error
}

// Error says where.
func (e *ParseError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("%v (line %d)", e.Err, e.Line)
	}
	return fmt.Sprintf("%v (line %d, %s)", e.Err, e.Line, e.Column)
}

// Unwrap returns what is wrong.
func (e *ParseError) Unwrap() error { return e.Err }
