package bill

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// maxLine bounds a line in bytes. The longest that WeChat Pay's own limits allow
// is under 4 KiB.
const maxLine = 64 << 10

var byteOrderMark = []byte("\ufeff")

// lines reads a bill line by line. The first line decides what ends all of them,
// so that a bare line feed within a value of a bill with CRLF is a part of it.
type lines struct {
	r   *bufio.Reader
	end []byte // nil before the first line
	n   int    // lines read
	buf []byte
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 32<<10)} }

// next returns the next line without its end. Errors: io.EOF after the last one,
// ErrRow, ErrEncoding, and what the reader gives.
func (l *lines) next() (string, error) {
	l.buf = l.buf[:0]
	for {
		piece, err := l.r.ReadSlice('\n')
		l.buf = append(l.buf, piece...)
		switch {
		case len(l.buf) > maxLine:
			l.n++
			return "", ErrRow
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(l.buf) == 0:
			return "", io.EOF
		case err != nil && err != io.EOF:
			return "", err
		case err == nil && l.end != nil && !bytes.HasSuffix(l.buf, l.end):
			continue
		}
		l.n++
		if l.end == nil {
			l.buf = bytes.TrimPrefix(l.buf, byteOrderMark)
			l.end = []byte("\n")
			if bytes.HasSuffix(l.buf, []byte("\r\n")) {
				l.end = []byte("\r\n")
			}
		}
		line := bytes.TrimSuffix(l.buf, l.end)
		if !utf8.Valid(line) {
			return "", ErrEncoding
		}
		return string(line), nil
	}
}

// tick stands before every value, so that spreadsheets take it for text.
const tick = "`"

// isRow reports whether a line is one of values, and none of column names.
func isRow(line string) bool { return strings.HasPrefix(line, tick) }

// values splits a row. A comma within a value is a part of it, unless a tick
// follows.
func values(line string) []string {
	return strings.Split(strings.TrimPrefix(line, tick), ","+tick)
}
