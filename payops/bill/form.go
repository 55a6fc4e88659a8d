package bill

import (
	"io"
	"slices"
	"strings"
)

// field is one column of a bill of T.
type field[T any] struct {
	name  string
	older []string // what early bills call it
	// free is true of text that merchants choose: of all columns only it may hold
	// what separates values.
	free bool
	set  func(*T, string) error
}

func (f *field[T]) called(name string) bool {
	return f.name == name || slices.Contains(f.older, name)
}

// total is one column of the summary row.
type total[T any] struct {
	name     string
	older    []string
	of       string // the column it sums up, "" for one that must always be there
	decimals int
	value    func(*T) int64
}

// form is what a kind of bill looks like.
type form[T any] struct {
	fields []field[T]
	totals []total[T]
	// check looks at the columns of a bill, by the names that they have in it.
	check func(has func(string) bool) (missing string)
	// done completes and checks a record. early is true of bills in the form that
	// WeChat Pay used before it had 应结订单金额.
	done func(record *T, has func(string) bool) error
	// joined is told that free columns could not be told apart.
	joined func(*T)
}

// bound is a form bound to the columns of one bill.
type bound[T any] struct {
	*form[T]
	columns []int // of each column its field, -1 for one that is not known
	names   []string
	// from and to are the free columns: columns[from:to], empty when there are none
	// or they do not stand together.
	from, to int
}

func (b *bound[T]) has(name string) bool { return slices.Contains(b.names, name) }

// bind maps the columns of a bill by their names.
func (f *form[T]) bind(header string) (*bound[T], error) {
	b := &bound[T]{form: f, names: strings.Split(header, ",")}
	seen := make([]bool, len(f.fields))
	for i, name := range b.names {
		at := slices.IndexFunc(f.fields, func(c field[T]) bool { return c.called(name) })
		b.columns = append(b.columns, at)
		if at < 0 {
			continue
		}
		if seen[at] {
			return nil, &ParseError{Column: f.fields[at].name, Err: ErrColumns}
		}
		seen[at] = true
		if f.fields[at].free {
			if b.to == 0 {
				b.from = i
			}
			b.to = i + 1
		}
	}
	for _, at := range b.columns[b.from:b.to] {
		if at < 0 || !f.fields[at].free {
			b.from, b.to = 0, 0
			break
		}
	}
	if missing := f.check(b.has); missing != "" {
		return nil, &ParseError{Column: missing, Err: ErrColumns}
	}
	return b, nil
}

// record reads a row.
func (b *bound[T]) record(line string, record *T) error {
	cells := values(line)
	joined := false
	if more := len(cells) - len(b.columns); more > 0 && b.to > b.from {
		// A separator within free text. What stands before it and behind it is
		// certain, and so is all of it together.
		last := len(cells) - (len(b.columns) - b.to)
		text := strings.Join(cells[b.from:last], ","+tick)
		fit := append(slices.Clone(cells[:b.from]), text)
		for range b.to - b.from - 1 {
			fit = append(fit, "")
			joined = true
		}
		cells = append(fit, cells[last:]...)
	}
	if len(cells) != len(b.columns) {
		return &ParseError{Err: ErrRow}
	}
	for i, at := range b.columns {
		if at < 0 {
			continue
		}
		if err := b.fields[at].set(record, cells[i]); err != nil {
			return &ParseError{Column: b.fields[at].name, Err: err}
		}
	}
	if joined {
		b.joined(record)
	}
	if err := b.done(record, b.has); err != nil {
		return &ParseError{Err: err}
	}
	return nil
}

// summary holds the summary row against the sums, which are in the order of
// b.totals.
func (b *bound[T]) summary(header, row string, sums []sum) error {
	names, cells := strings.Split(header, ","), values(row)
	if !isRow(row) || len(names) != len(cells) {
		return &ParseError{Err: ErrRow}
	}
	seen := make([]bool, len(b.totals))
	for i, name := range names {
		at := slices.IndexFunc(b.totals, func(t total[T]) bool { return t.name == name || slices.Contains(t.older, name) })
		if at < 0 {
			continue
		}
		if seen[at] {
			return &ParseError{Column: name, Err: ErrColumns}
		}
		seen[at] = true
		n, ok := parseYuan(cells[i], b.totals[at].decimals)
		if !ok {
			return &ParseError{Column: name, Err: ErrAmount}
		}
		if sums[at].over || n != sums[at].total {
			return &ParseError{Column: name, Err: ErrTotals}
		}
	}
	for i, t := range b.totals {
		if !seen[i] && (t.of == "" || b.summed(t.of)) {
			return &ParseError{Column: t.name, Err: ErrColumns}
		}
	}
	return nil
}

// summed reports whether the bill has the column, under whichever name.
func (b *bound[T]) summed(name string) bool {
	return slices.ContainsFunc(b.columns, func(at int) bool { return at >= 0 && b.fields[at].name == name })
}

// scan reads a bill whole, in the memory of one line, and returns the sums in the
// order of f.totals. It ends early, without an error, when yield says so.
func (f *form[T]) scan(r io.Reader, yield func(*T) bool) (sums []sum, err error) {
	l := newLines(r)
	defer func() {
		if where, ok := err.(*ParseError); ok {
			where.Line = l.n
		}
	}()
	line, err := l.line()
	if err != nil {
		return nil, err
	}
	b, err := f.bind(line)
	if err != nil {
		return nil, err
	}
	sums = make([]sum, len(f.totals))
	for {
		if line, err = l.line(); err != nil {
			return nil, err
		}
		if !isRow(line) {
			break
		}
		var record T
		if err := b.record(line, &record); err != nil {
			return nil, err
		}
		for i, t := range f.totals {
			sums[i].add(t.value(&record))
		}
		if !yield(&record) {
			return sums, nil
		}
	}
	row, err := l.line()
	if err != nil {
		return nil, err
	}
	if err := b.summary(line, row, sums); err != nil {
		return nil, err
	}
	for {
		rest, err := l.next()
		switch {
		case err == io.EOF:
			return sums, nil
		case err == nil && rest != "":
			err = ErrRow
		}
		if err != nil {
			return nil, l.wrong(err)
		}
	}
}

// line returns a line that must be there.
func (l *lines) line() (string, error) {
	line, err := l.next()
	if err == io.EOF {
		err = ErrTruncated
	}
	if err != nil {
		return "", l.wrong(err)
	}
	return line, nil
}

// wrong says where an error of [lines.next] is, and leaves the reader's own
// errors as they are.
func (l *lines) wrong(err error) error {
	switch err {
	case ErrRow, ErrEncoding, ErrTruncated:
		return &ParseError{Line: l.n, Err: err}
	}
	return err
}
