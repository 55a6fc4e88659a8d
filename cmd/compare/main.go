// Command compare measures, in one run on one machine, what the gateway costs
// beside the bare reverse_proxy of the same Caddy: callbacks per second with
// the same bodies, headers, connections and backend.
//
// It builds cmd/caddy, starts it as a process of its own for each side, plays
// WeChat on loopback with freshly signed callbacks, and prints the ratios. With
// -write it also puts the report into a Markdown file:
//
//	go run ./cmd/compare -write docs/performance.md
//
// With -api it measures the payment API instead: calls of WeChat Pay's API through
// the gateway beside the same calls by the official SDK's own client, in one
// program and against one upstream that signs its answers:
//
//	go run ./cmd/compare -api -write docs/performance.md
//
// Figures are medians over rounds in which all sides run one after the other,
// so that a machine whose speed drifts does not favour one of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("compare: ")
	var o options
	flag.StringVar(&o.caddy, "caddy", "", "the Caddy binary with the gateway in it (default: built from ./cmd/caddy)")
	flag.StringVar(&o.dir, "dir", "", "where stores are kept while measuring; the disk under it is measured, too (default: a temporary directory)")
	flag.IntVar(&o.connections, "c", 64, "connections that send callbacks")
	flag.IntVar(&o.events, "n", 8000, "callbacks per measurement")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the median of their ratios is reported")
	flag.IntVar(&o.stored, "stored", 100_000, "notifications stored for the memory figure; 0 leaves it out")
	flag.DurationVar(&o.settle, "settle", o.settleDefault(), "wait between the last write and the memory figure")
	flag.StringVar(&o.profile, "profile", "", "directory that gets a CPU profile of Caddy for each side of the first round (go tool pprof reads it)")
	flag.BoolVar(&o.api, "api", false, "measure the payment API beside the official SDK's own client")
	o.callers = []int{1, 16, apiConnections}
	flag.Func("callers", "with -api: how many call at the same time, one measurement for each (default 1,16,64)", func(text string) error {
		o.callers = nil
		for field := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(field)
			if err != nil || n < 1 || n > apiConnections {
				return fmt.Errorf("want numbers from 1 to %d", apiConnections)
			}
			o.callers = append(o.callers, n)
		}
		return nil
	})
	flag.BoolVar(&o.fresh, "fresh", false, "with -api: the upstream signs every answer anew, on this machine's processors, instead of once a second")
	flag.DurationVar(&o.slice, "slice", 2*time.Second, "with -api: how long each side works for one figure in one round")
	write := flag.String("write", "", "Markdown file that gets the report between its compare markers")
	flag.Parse()
	if flag.NArg() > 0 || o.connections < 1 || o.events < o.connections || o.rounds < 1 || o.slice < 10*time.Millisecond {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, *write); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options, write string) error {
	tmp, err := os.MkdirTemp(o.dir, "compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if o.caddy == "" {
		o.caddy = filepath.Join(tmp, "caddy")
		log.Print("building cmd/caddy")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-w -s", "-o", o.caddy, "./cmd/caddy")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("building cmd/caddy (run this from the module's root, or name a binary with -caddy): %w", err)
		}
	}
	command := "go run ./cmd/compare " + strings.Join(os.Args[1:], " ")
	if o.api {
		return runAPI(ctx, o, tmp, command, write)
	}
	return runNotify(ctx, o, tmp, command, write)
}

// runNotify measures callbacks.
func runNotify(ctx context.Context, o options, tmp, command, write string) error {
	b, err := newBench(o, tmp)
	if err != nil {
		return err
	}
	defer b.close()
	rep := report{options: o, command: command}
	for i := range o.rounds {
		r, err := b.round(ctx, i)
		if err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		rep.rounds = append(rep.rounds, r)
		log.Printf("round %d/%d: reverse_proxy %.0f/s, commit burst %.0f/s, commit sustained %.0f/s, delivery %.0f/s",
			i+1, o.rounds, r.proxy.rate, r.burst.rate, r.sustained.rate, r.delivery.rate)
	}
	if o.stored > 0 {
		if rep.memory, err = b.memory(ctx); err != nil {
			return fmt.Errorf("memory: %w", err)
		}
	}
	return publish(write, marksNotify, rep.markdown())
}

// runAPI measures the payment API.
func runAPI(ctx context.Context, o options, tmp, command, write string) error {
	load := loadAverage()
	b, err := newAPIBench(ctx, o, tmp)
	if err != nil {
		return err
	}
	defer b.close()
	figures, err := b.run(ctx)
	if err != nil {
		return err
	}
	rep := apiReport{options: o, command: command, load: load, figures: figures}
	return publish(write, marksAPI, rep.markdown())
}

// loadAverage is how busy the machine was in the last minute; "unknown" where it
// does not tell.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(text)); err == nil && len(fields) > 0 {
		return fields[0]
	}
	return "unknown"
}

// median of a non-empty list.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return s[len(s)/2]
}
