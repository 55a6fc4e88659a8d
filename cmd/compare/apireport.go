package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// apiReport is what a run of -api found.
type apiReport struct {
	options
	command string
	load    string // before the run
	figures apiFigures
}

var sideNames = map[string]string{
	sideSDK:     "the SDK's own client",
	sideHandler: "through the gateway, as a handler in the same process",
	sideCaddy:   "through the gateway, a Caddy process",
}

func (r *apiReport) markdown() string {
	signs := "each answer once a second"
	if r.fresh {
		signs = "every answer anew"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "```sh\n%s\n```\n\n", strings.TrimSpace(r.command))
	fmt.Fprintf(&b, "%d rounds, %v for each figure in each round; %s/%s, %d processors, %s; callers, upstream and gateway on the same machine, whose load average before the run was %s; synced commits; the upstream signs %s. CPU is that of every process: callers, upstream, and gateway.\n",
		r.rounds, r.slice, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), r.load, signs)
	for _, operation := range apiOperations {
		title := "POST " + apiNativePath + ", a new order each"
		if operation == "query" {
			title = "GET " + apiQueryPath + "{out_trade_no}"
		}
		fmt.Fprintf(&b, "\n%s:\n\n", title)
		fmt.Fprint(&b, "| callers | side | calls/s | of the SDK | range over the rounds | median | p99 | added at the median | CPU per call | of the SDK's |\n")
		fmt.Fprint(&b, "|---:|---|---:|---:|---|---:|---:|---:|---:|---:|\n")
		for _, concurrency := range r.callers {
			sides := r.figures[apiCell{operation, concurrency}]
			for _, name := range []string{sideSDK, sideHandler, sideCaddy} {
				b.WriteString(apiRow(concurrency, name, sides))
			}
		}
	}
	return b.String()
}

// apiRow is one side of one cell.
func apiRow(concurrency int, name string, sides map[string][]apiSample) string {
	samples, base := sides[name], sides[sideSDK]
	var rates, ratios, cpu, times []float64
	for i, s := range samples {
		rates = append(rates, s.rate)
		ratios = append(ratios, s.rate/base[i].rate)
		cpu = append(cpu, float64(s.cpu.Microseconds()))
		times = append(times, float64(s.cpu)/float64(base[i].cpu))
	}
	mid, high := quantiles(samples)
	baseMid, _ := quantiles(base)
	added := ""
	if name != sideSDK {
		added = fmt.Sprintf("%.2f ms", milliseconds(mid-baseMid))
	}
	return fmt.Sprintf("| %d | %s | %.0f | %.2f | %.2f–%.2f | %.2f ms | %.2f ms | %s | %.0f µs | %.2f |\n",
		concurrency, sideNames[name], median(rates), median(ratios), slices.Min(ratios), slices.Max(ratios),
		milliseconds(mid), milliseconds(high), added, median(cpu), median(times))
}

// quantiles are the median and the 99th percentile over all rounds.
func quantiles(samples []apiSample) (mid, high time.Duration) {
	var all []time.Duration
	for _, s := range samples {
		all = append(all, s.latencies...)
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
