package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a Caddy process.
type server struct {
	cmd   *exec.Cmd
	addr  string
	admin *http.Client
	log   *bytes.Buffer
	exit  chan error
}

// startServer writes a Caddyfile into dir, runs caddy with it, and waits until
// it answers.
func startServer(ctx context.Context, caddy, dir string, caddyfile func(listen, admin string) string) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	listen, err := closedPort()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "admin.sock")
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(caddyfile(listen, "unix/"+socket)), 0o600); err != nil {
		return nil, err
	}
	s := &server{addr: listen, log: new(bytes.Buffer), exit: make(chan error, 1)}
	s.cmd = exec.CommandContext(ctx, caddy, "run", "--config", file, "--adapter", "caddyfile")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.exit <- s.cmd.Wait() }()
	s.admin = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	if err := s.poll(ctx, 30*time.Second, func() bool {
		c, err := net.DialTimeout("tcp", listen, time.Second)
		if err != nil {
			return false
		}
		_ = c.Close()
		_, err = s.inbox()
		return err == nil
	}); err != nil {
		s.stop()
		return nil, fmt.Errorf("caddy did not come up: %w\n%s", err, s.log)
	}
	return s, nil
}

// poll asks until it is true, the process has ended or the bound is reached.
func (s *server) poll(ctx context.Context, bound time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok() {
			return nil
		}
		select {
		case err := <-s.exit:
			s.exit <- err
			return errors.New("the process ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// inbox returns how many notifications are undelivered.
func (s *server) inbox() (int64, error) {
	resp, err := s.admin.Get("http://admin/wechatpay/health")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var h struct {
		Inbox *struct {
			Pending int64 `json:"pending"`
		} `json:"inbox"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
		return 0, err
	}
	if h.Inbox == nil {
		return 0, errors.New("no inbox yet")
	}
	return h.Inbox.Pending, nil
}

// drained waits until everything is delivered and marked.
func (s *server) drained(ctx context.Context) error {
	return s.poll(ctx, 2*time.Minute, func() bool {
		n, err := s.inbox()
		return err == nil && n == 0
	})
}

// cpu reads the processor time the process has used so far. Linux counts it in
// hundredths of a second.
func (s *server) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses; utime and stime are the 14th
	// and 15th.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", s.cmd.Process.Pid)
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// cpuProfile saves two seconds of the process's CPU profile.
func (s *server) cpuProfile(path string) error {
	resp, err := s.admin.Get("http://admin/debug/pprof/profile?seconds=2")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return err
}

// memory reads RssAnon and RssFile of the process, in KiB.
func (s *server) memory() (anon, file int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, value, _ := strings.Cut(sc.Text(), ":")
		n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
		switch name {
		case "RssAnon":
			anon = n
		case "RssFile":
			file = n
		}
	}
	return anon, file, nil
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exit:
	case <-time.After(15 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exit
	}
}
