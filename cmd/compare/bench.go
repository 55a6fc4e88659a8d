package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"
)

// options are the command's flags.
type options struct {
	caddy, dir  string
	connections int
	events      int
	rounds      int
	stored      int
	settle      time.Duration
	profile     string

	api     bool
	callers []int // how many call at the same time, one measurement for each
	slice   time.Duration
	fresh   bool // the upstream signs every answer anew
}

func (options) settleDefault() time.Duration { return time.Minute }

// figure is what one measurement found.
type figure struct {
	rate float64       // callbacks per second
	cpu  time.Duration // Caddy's processor time per callback
}

// round holds one round's figures.
type round struct {
	proxy, burst, sustained, delivery figure
}

// memoryFigure is what the process holds with the notifications stored.
type memoryFigure struct {
	stored             int
	rssAnon, rssFile   int64 // KiB
	acknowledgedPerSec float64
}

// bench holds what all measurements share.
type bench struct {
	options
	tmp      string
	platform *platform
	backend  *backend
	stores   int
}

func newBench(o options, tmp string) (*bench, error) {
	p, err := newPlatform(tmp)
	if err != nil {
		return nil, err
	}
	be, err := newBackend()
	if err != nil {
		return nil, err
	}
	return &bench{options: o, tmp: tmp, platform: p, backend: be}, nil
}

func (b *bench) close() { b.backend.close() }

func (b *bench) round(ctx context.Context, i int) (r round, err error) {
	steps := []func() error{
		func() error { r.proxy, err = b.proxy(ctx); return err },
		func() error { r.burst, err = b.burst(ctx); return err },
		func() error { r.sustained, err = b.sustained(ctx); return err },
		func() error { r.delivery, err = b.delivery(ctx); return err },
	}
	// The order rotates, so that no side always runs on a warmer machine.
	for k := range steps {
		if err := steps[(k+i)%len(steps)](); err != nil {
			return r, err
		}
	}
	return r, nil
}

// proxy: bare reverse_proxy, to the same backend, of the same bodies.
func (b *bench) proxy(ctx context.Context) (figure, error) {
	return b.measure(ctx, "proxy", `reverse_proxy `+b.backend.addr, b.backend.addr, false)
}

// burst: ack commit while the backend refuses connections, so that what is
// measured is taking in alone.
func (b *bench) burst(ctx context.Context) (figure, error) {
	closed, err := closedPort()
	if err != nil {
		return figure{}, err
	}
	return b.measure(ctx, "burst", b.notify("commit", closed), "", false)
}

// sustained: ack commit until every callback is delivered and marked.
func (b *bench) sustained(ctx context.Context) (figure, error) {
	return b.measure(ctx, "sustained", b.notify("commit", b.backend.addr), b.backend.addr, true)
}

// delivery: the backend's success before WeChat's.
func (b *bench) delivery(ctx context.Context) (figure, error) {
	return b.measure(ctx, "delivery", b.notify("delivery", b.backend.addr), b.backend.addr, false)
}

func (b *bench) notify(ack, backend string) string {
	return fmt.Sprintf("wechatpay_notify shop {\n\t\tack %s\n\t\tdeliver {\n\t\t\treverse_proxy %s\n\t\t}\n\t}", ack, backend)
}

// measure starts a Caddy with the handler, warms it up, and returns callbacks
// per second.
func (b *bench) measure(ctx context.Context, side, handler, backend string, drain bool) (figure, error) {
	srv, err := b.start(ctx, handler)
	if err != nil {
		return figure{}, err
	}
	defer srv.stop()
	warm := b.platform.callbacks(max(b.connections*4, b.events/20))
	if _, err := send(ctx, srv.addr, b.connections, warm); err != nil {
		return figure{}, fmt.Errorf("warming up: %w", err)
	}
	if drain {
		if err := srv.drained(ctx); err != nil {
			return figure{}, err
		}
	}
	reqs := b.platform.callbacks(b.events)
	before := b.backend.count.Load()
	defer b.profileOnce(side, srv)()
	used, err := srv.cpu()
	if err != nil {
		return figure{}, err
	}
	begin := time.Now()
	if _, err := send(ctx, srv.addr, b.connections, reqs); err != nil {
		return figure{}, err
	}
	if drain {
		if err := srv.drained(ctx); err != nil {
			return figure{}, err
		}
	}
	took := time.Since(begin)
	now, err := srv.cpu()
	if err != nil {
		return figure{}, err
	}
	if backend != "" {
		if got := b.backend.count.Load() - before; got != int64(b.events) {
			return figure{}, fmt.Errorf("the backend got %d requests for %d callbacks", got, b.events)
		}
	}
	n := time.Duration(b.events)
	return figure{rate: float64(b.events) / took.Seconds(), cpu: (now - used) / n}, nil
}

// profileOnce begins a CPU profile of the side if one is wanted and there is
// none yet; the function it returns ends it.
func (b *bench) profileOnce(side string, srv *server) (end func()) {
	path := filepath.Join(b.profile, side+".pprof")
	if _, err := os.Stat(path); b.profile == "" || err == nil {
		return func() {}
	}
	done := make(chan error, 1)
	go func() { done <- srv.cpuProfile(path) }()
	return func() {
		if err := <-done; err != nil {
			log.Printf("profile of %s: %v", side, err)
		}
	}
}

// memory stores notifications whose deliveries are held, waits, and reads what
// the process keeps in memory.
func (b *bench) memory(ctx context.Context) (*memoryFigure, error) {
	closed, err := closedPort()
	if err != nil {
		return nil, err
	}
	srv, err := b.start(ctx, b.notify("commit", closed))
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	log.Printf("storing %d notifications", b.stored)
	var sending time.Duration
	for left := b.stored; left > 0; {
		n := min(left, 10_000)
		reqs := b.platform.callbacks(n)
		took, err := send(ctx, srv.addr, b.connections, reqs)
		if err != nil {
			return nil, err
		}
		sending += took
		left -= n
		log.Printf("stored %d of %d", b.stored-left, b.stored)
	}
	log.Printf("waiting %v", b.settle)
	select {
	case <-time.After(b.settle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	fig := &memoryFigure{stored: b.stored, acknowledgedPerSec: float64(b.stored) / sending.Seconds()}
	fig.rssAnon, fig.rssFile, err = srv.memory()
	return fig, err
}

// start runs a Caddy whose only site has the handler.
func (b *bench) start(ctx context.Context, handler string) (*server, error) {
	b.stores++
	dir := filepath.Join(b.tmp, fmt.Sprintf("store-%d", b.stores))
	return startServer(ctx, b.caddy, dir, func(listen, admin string) string {
		return fmt.Sprintf(`{
	admin %s
	auto_https off
	log {
		level ERROR
	}
	wechatpay {
		storage badger %s
		merchant shop {
%s
		}
	}
}
http://%s {
	bind 127.0.0.1
	%s
}
`, admin, filepath.Join(dir, "db"), b.platform.MerchantOptions(), listen, handler)
	})
}

// closedPort returns a loopback address that refuses connections.
func closedPort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
