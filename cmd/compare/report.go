package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// report is what a run found.
type report struct {
	options
	command string
	rounds  []round
	memory  *memoryFigure
}

// marks are the lines of a Markdown file between which a report is put.
type marks struct{ begin, end string }

var (
	marksNotify = marks{"<!-- compare: begin -->", "<!-- compare: end -->"}
	marksAPI    = marks{"<!-- compare -api: begin -->", "<!-- compare -api: end -->"}
)

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "```sh\n%s\n```\n\n", strings.TrimSpace(r.command))
	fmt.Fprintf(&b, "%d callbacks per measurement over %d connections, median of %d rounds; %s/%s, %d processors, %s; load generator, backend and Caddy on the same machine, synced commits.\n\n",
		r.events, r.connections, len(r.rounds), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	fmt.Fprint(&b, "| side | callbacks/s | of bare `reverse_proxy` | range over the rounds | Caddy's CPU per callback |\n|---|---:|---:|---|---:|\n")
	row := func(name string, of func(round) figure) {
		var rates, ratios, cpu []float64
		for _, x := range r.rounds {
			rates = append(rates, of(x).rate)
			ratios = append(ratios, of(x).rate/x.proxy.rate)
			cpu = append(cpu, float64(of(x).cpu.Microseconds()))
		}
		lo, hi := slices.Min(ratios), slices.Max(ratios)
		fmt.Fprintf(&b, "| %s | %.0f | %.2f | %.2f–%.2f | %.0f µs |\n", name, median(rates), median(ratios), lo, hi, median(cpu))
	}
	row("bare `reverse_proxy`", func(x round) figure { return x.proxy })
	row("`ack commit`, burst (backend refuses connections)", func(x round) figure { return x.burst })
	row("`ack commit`, sustained (until all are delivered and marked)", func(x round) figure { return x.sustained })
	row("`ack delivery`", func(x round) figure { return x.delivery })
	if m := r.memory; m != nil {
		fmt.Fprintf(&b, "\n%d stored notifications, all undelivered, %v after the last write: RssAnon %.0f MiB, RssFile (Badger's mapped tables) %.0f MiB; stored at %.0f/s.\n",
			m.stored, r.settle, float64(m.rssAnon)/1024, float64(m.rssFile)/1024, m.acknowledgedPerSec)
	}
	return b.String()
}

// publish prints a report, and puts it between the marks of a Markdown file if
// one is named.
func publish(path string, m marks, text string) error {
	fmt.Print(text)
	if path == "" {
		return nil
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok1 := bytes.Cut(old, []byte(m.begin))
	_, after, ok2 := bytes.Cut(rest, []byte(m.end))
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no %q and %q", path, m.begin, m.end)
	}
	out := fmt.Sprintf("%s%s\n\n%s\n%s%s", before, m.begin, text, m.end, after)
	return os.WriteFile(path, []byte(out), 0o644)
}
