package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// send plays the requests over the connections and returns the time from the
// first byte to the last answer. Every answer must be 200. The sender is kept
// cheap, so that what it measures is the server.
func send(ctx context.Context, addr string, connections int, reqs [][]byte) (time.Duration, error) {
	conns := make([]net.Conn, connections)
	for i := range conns {
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns[i] = c
	}
	var (
		next   atomic.Int64
		wg     sync.WaitGroup
		failed = make(chan error, connections)
	)
	begin := time.Now()
	for _, c := range conns {
		wg.Go(func() {
			br := bufio.NewReader(c)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(reqs) {
					return
				}
				if err := exchange(c, br, reqs[i]); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	select {
	case err := <-failed:
		return 0, err
	default:
		return took, ctx.Err()
	}
}

func exchange(c net.Conn, br *bufio.Reader, req []byte) error {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(req); err != nil {
		return err
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return fmt.Errorf("answer %s: %s", resp.Status, text)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// backend answers every request with 200 and a small JSON body, as a legacy
// system does.
type backend struct {
	addr  string
	count atomic.Int64
	srv   *http.Server
}

func newBackend() (*backend, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &backend{addr: l.Addr().String()}
	answer := []byte(`{"code":"SUCCESS"}`)
	b.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		b.count.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})}
	go func() {
		if err := b.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	return b, nil
}

func (b *backend) close() { _ = b.srv.Close() }
