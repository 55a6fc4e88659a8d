package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// apiSample is what one side did in one slice of time.
type apiSample struct {
	rate      float64 // calls per second
	latencies []time.Duration
	cpu       time.Duration // of every process, per call
}

// apiCell is one operation at one concurrency.
type apiCell struct {
	operation   string
	concurrency int
}

// apiFigures are the samples of every round, by cell and side.
type apiFigures map[apiCell]map[string][]apiSample

// apiBench measures calls of WeChat Pay's API: by the official SDK's own client,
// and through the gateway, in one program against one upstream.
type apiBench struct {
	options
	tmp      string
	upstream *apiUpstream
	sides    []apiSide
	next     atomic.Int64 // the number of the next order
}

// apiOperations are what is measured.
var apiOperations = []string{"create", "query"}

func newAPIBench(ctx context.Context, o options, tmp string) (*apiBench, error) {
	b := &apiBench{options: o, tmp: tmp}
	up, err := newAPIUpstream(tmp, o.fresh)
	if err != nil {
		return nil, err
	}
	b.upstream = up
	for _, open := range []func(context.Context, *apiBench) (apiSide, error){newSDKSide, newHandlerSide, newCaddySide} {
		side, err := open(ctx, b)
		if err != nil {
			b.close()
			return nil, err
		}
		b.sides = append(b.sides, side)
	}
	return b, nil
}

func (b *apiBench) close() {
	for _, s := range slices.Backward(b.sides) {
		s.close()
	}
	b.upstream.close()
}

// run measures every cell in every round.
func (b *apiBench) run(ctx context.Context) (apiFigures, error) {
	figures := apiFigures{}
	for round := range b.rounds {
		for _, operation := range apiOperations {
			for _, concurrency := range b.callers {
				cell := apiCell{operation, concurrency}
				if figures[cell] == nil {
					figures[cell] = map[string][]apiSample{}
				}
				// The order rotates, so that no side always runs on a warmer machine.
				for i := range b.sides {
					side := b.sides[(i+round)%len(b.sides)]
					sample, err := b.sample(ctx, side, cell, round)
					if err != nil {
						return nil, fmt.Errorf("%s, %s at %d: %w", side.name, operation, concurrency, err)
					}
					figures[cell][side.name] = append(figures[cell][side.name], sample)
				}
			}
		}
		log.Printf("round %d/%d", round+1, b.rounds)
	}
	return figures, nil
}

// sample lets a side work for a slice of time, after a shorter one that warms
// its connections up.
func (b *apiBench) sample(ctx context.Context, side apiSide, cell apiCell, round int) (apiSample, error) {
	if _, err := b.drive(ctx, side, cell, b.slice/10); err != nil {
		return apiSample{}, err
	}
	if b.profile != "" && round == 0 && cell.concurrency == slices.Max(b.callers) {
		end, err := b.profileAPI(side, cell)
		if err != nil {
			return apiSample{}, err
		}
		defer end()
	}
	return b.drive(ctx, side, cell, b.slice)
}

// drive calls until the time is over. Calls that were begun are finished.
func (b *apiBench) drive(ctx context.Context, side apiSide, cell apiCell, slice time.Duration) (apiSample, error) {
	var (
		wg      sync.WaitGroup
		all     = make([][]time.Duration, cell.concurrency)
		failed  = make(chan error, cell.concurrency)
		stopped atomic.Bool
	)
	used, err := side.processorTime()
	if err != nil {
		return apiSample{}, err
	}
	begin := time.Now()
	for i := range cell.concurrency {
		wg.Go(func() {
			for ctx.Err() == nil && !stopped.Load() && time.Since(begin) < slice {
				at := time.Now()
				var err error
				switch cell.operation {
				case "create":
					err = side.create(ctx, fmt.Sprintf("CREATE%012d", b.next.Add(1)))
				case "query":
					err = side.query(ctx, fmt.Sprintf("QUERY%012d", i))
				}
				if err != nil {
					failed <- err
					stopped.Store(true)
					return
				}
				all[i] = append(all[i], time.Since(at))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	now, err := side.processorTime()
	if err != nil {
		return apiSample{}, err
	}
	select {
	case err := <-failed:
		return apiSample{}, err
	default:
	}
	latencies := slices.Concat(all...)
	if err := ctx.Err(); err != nil || len(latencies) == 0 {
		return apiSample{}, fmt.Errorf("nothing was measured: %w", err)
	}
	n := len(latencies)
	return apiSample{rate: float64(n) / took.Seconds(), latencies: latencies, cpu: (now - used) / time.Duration(n)}, nil
}

// profileAPI begins a CPU profile of a side, of this program or of Caddy's; the
// function it returns ends it.
func (b *apiBench) profileAPI(side apiSide, cell apiCell) (end func(), err error) {
	path := filepath.Join(b.profile, fmt.Sprintf("api-%s-%s.pprof", side.name, cell.operation))
	if side.server != nil {
		done := make(chan error, 1)
		go func() { done <- side.server.cpuProfile(path) }()
		return func() {
			if err := <-done; err != nil {
				log.Printf("profile of %s: %v", side.name, err)
			}
		}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}
