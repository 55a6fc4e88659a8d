package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// adminWait is how long the admin endpoint may take to begin its answer.
const adminWait = 30 * time.Second

// adminClient speaks to the admin endpoint of a running Caddy. Caddy's own
// AdminAPIRequest gives no status and no body of an answer that is an error, and
// an unhealthy gateway's answer is one.
type adminClient struct {
	address string
	origin  string
	http    http.Client
}

func newAdminClient(address string) (*adminClient, error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 || parsed.Host == "" ||
		!parsed.IsUnixNetwork() && !parsed.IsFdNetwork() && !strings.HasPrefix(parsed.Network, "tcp") {
		return nil, fmt.Errorf("%s is no address of an admin endpoint; write localhost:2019 or unix//run/caddy/admin.sock", address)
	}
	c := &adminClient{address: address, origin: "http://127.0.0.1"}
	target := parsed.JoinHostPort(0)
	switch {
	case parsed.IsUnixNetwork():
		target, _, _ = strings.Cut(parsed.Host, "|") // without its permissions
	case parsed.IsFdNetwork():
		return nil, fmt.Errorf("%s: a file descriptor can only be reached by the process that has it; give --address", address)
	default:
		c.origin = "http://" + target
	}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, parsed.Network, target)
		},
		ResponseHeaderTimeout: adminWait,
		DisableKeepAlives:     true,
	}
	return c, nil
}

// do sends a request and returns the answer, whatever its status.
func (c *adminClient) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.origin+path, text)
	if err != nil {
		return nil, err
	}
	if c.origin != "http://127.0.0.1" {
		req.Header.Set("Origin", c.origin)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op
		}
		return nil, fmt.Errorf("no gateway answers at %s: %w; is Caddy running, and is this its admin endpoint?", c.address, err)
	}
	return resp, nil
}

// call sends a request and decodes the answer, or returns the gateway's refusal.
// Statuses beside 200 whose answer is wanted all the same are listed.
func (c *adminClient) call(ctx context.Context, method, path string, body, into any, wanted ...int) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("the gateway's answer broke off: %w", err)
	}
	ok := resp.StatusCode == http.StatusOK
	for _, status := range wanted {
		ok = ok || resp.StatusCode == status
	}
	if !ok {
		return refusal(resp.StatusCode, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the gateway's answer to %s is not what it should be; is it an older version?", path)
	}
	return nil
}

// refusal is the gateway's own word.
func refusal(status int, body []byte) error {
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error == "" {
		said.Error = http.StatusText(status)
	}
	if status == http.StatusNotFound && len(bytes.TrimSpace(body)) == 0 {
		said.Error = "this Caddy has no such admin route; is the gateway built into it?"
	}
	return &exitError{exitRefused, fmt.Errorf("the gateway refused (%d): %s", status, printable(said.Error))}
}
