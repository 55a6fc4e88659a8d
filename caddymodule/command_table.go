package caddymodule

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table prints rows in columns for people.
type table struct {
	w    *tabwriter.Writer
	rows int
}

func newTable(out io.Writer, columns ...string) *table {
	t := &table{w: tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
	if len(columns) > 0 {
		fmt.Fprintln(t.w, strings.Join(columns, "\t"))
	}
	return t
}

// row adds a line. Empty cells show as a dash.
func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		if texts[i] = printable(fmt.Sprint(cell)); texts[i] == "" {
			texts[i] = "-"
		}
	}
	t.rows++
	fmt.Fprintln(t.w, strings.Join(texts, "\t"))
}

func (t *table) end() error { return t.w.Flush() }

// printable keeps what others wrote from speaking to the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// clockTime shows a time in the local zone.
func clockTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
