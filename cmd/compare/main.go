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
	"strings"
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
	write := flag.String("write", "", "Markdown file that gets the report between its compare markers")
	flag.Parse()
	if flag.NArg() > 0 || o.connections < 1 || o.events < o.connections || o.rounds < 1 {
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
	b, err := newBench(o, tmp)
	if err != nil {
		return err
	}
	defer b.close()
	rep := report{options: o, command: "go run ./cmd/compare " + strings.Join(os.Args[1:], " ")}
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
	text := rep.markdown()
	fmt.Print(text)
	if write != "" {
		return rep.writeTo(write, text)
	}
	return nil
}

// median of a non-empty list.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return s[len(s)/2]
}
