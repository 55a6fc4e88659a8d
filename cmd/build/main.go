// Command build builds Caddy with the WeChat Pay gateway, as xcaddy does, from
// a file that holds the JSON of xcaddy.Builder: the versions and plugins of a
// build are then under version control.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/caddyserver/xcaddy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	build := func(ctx context.Context, b xcaddy.Builder, output string) error { return b.Build(ctx, output) }
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, build))
}

const help = `Build Caddy with the WeChat Pay gateway.

usage: build [-config xcaddy.json] [-o caddy]

The configuration is the JSON of xcaddy.Builder: caddy_version, plugins,
replacements, os, arch, cgo, build_flags and so on. Relative paths in it count
from the file's own directory. Go, and git for modules that no proxy has, must
be installed.

`

// run is main without the process: it returns the exit code, 0 for success and
// for help, 1 for a failed build, 2 for wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, build func(context.Context, xcaddy.Builder, string) error) int {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	config := flags.String("config", "xcaddy.json", "the `file` to read")
	output := flags.String("o", defaultOutput(), "the `file` to write the program to")
	printHelp := func(w io.Writer) {
		fmt.Fprint(w, help)
		flags.SetOutput(w)
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printHelp(stdout)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "build: %v\n\n", err)
		printHelp(stderr)
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "build: unexpected argument %q\n\n", flags.Arg(0))
		printHelp(stderr)
		return 2
	}

	builder, err := loadBuilder(*config)
	if err != nil {
		fmt.Fprintf(stderr, "build: %v\n", err)
		return 1
	}
	version := builder.CaddyVersion
	if version == "" {
		version = "(latest)"
	}
	fmt.Fprintf(stdout, "building Caddy %s with %d plugin(s) from %s; a first build takes minutes\n", version, len(builder.Plugins), *config)
	for _, plugin := range builder.Plugins {
		fmt.Fprintf(stdout, "  plugin %s\n", plugin)
	}
	for _, replacement := range builder.Replacements {
		fmt.Fprintf(stdout, "  replacing %s by %s\n", replacement.Old, replacement.New)
	}
	begin := time.Now()
	if err := build(ctx, builder, *output); err != nil {
		fmt.Fprintf(stderr, "build: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "built %s in %s\n", *output, time.Since(begin).Round(time.Second))
	return 0
}

func defaultOutput() string {
	if runtime.GOOS == "windows" {
		return "caddy.exe"
	}
	return "caddy"
}
