package caddymodule

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell whether the gateway takes callbacks, and what to look at",
		Long: `
Shows the store, the merchants' keys, the clock, what waits in the inbox and
where deliveries go, with a line for everything that wants somebody's eyes.

Exit code 0: all is well; 3: callbacks or calls are refused; 4: something to
look at, such as parked notifications.`,
		Example: `  caddy wechatpay status
  caddy wechatpay status --address unix//run/caddy/admin.sock
  caddy wechatpay status --json | jq .inbox.parked`,
		Args: cobra.NoArgs,
		RunE: runs(showStatus),
	}
}

func showStatus(c *command) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var all struct {
		healthView
		routesView
	}
	ctx := c.cmd.Context()
	if err := client.call(ctx, http.MethodGet, "/wechatpay/health", nil, &all.healthView, http.StatusServiceUnavailable); err != nil {
		return err
	}
	if len(all.Merchants) == 0 && !all.Healthy && all.Store == "" {
		return &exitError{exitUnhealthy, fmt.Errorf("the gateway is still starting")}
	}
	if err := client.call(ctx, http.MethodGet, "/wechatpay/routes", nil, &all.routesView); err != nil {
		return err
	}
	if c.json {
		err = c.printJSON(&all)
	} else {
		err = printStatus(c, &all.healthView, &all.routesView)
	}
	switch {
	case err != nil:
		return err
	case !all.Healthy:
		return &exitError{code: exitUnhealthy}
	case len(all.Warnings) > 0:
		return &exitError{code: exitAttention}
	}
	return nil
}

func printStatus(c *command, h *healthView, routes *routesView) error {
	t := newTable(c.out)
	healthy := "healthy"
	if !h.Healthy {
		healthy = "NOT HEALTHY"
	}
	t.row("gateway", healthy)
	store := h.Store
	if h.Space != nil {
		store += ", " + humanize.IBytes(uint64(max(h.Space.Free, 0))) + " free"
	}
	t.row("store", store)
	if h.Inbox != nil {
		text := fmt.Sprintf("%d pending, %d of them being delivered; %d parked, %d dead", h.Inbox.Pending, h.Inbox.Leased, h.Inbox.Parked, h.Inbox.Dead)
		if h.Inbox.OldestPending != "" {
			text += "; oldest since " + h.Inbox.OldestPending
		}
		t.row("inbox", text)
	}
	for _, name := range sortedKeys(h.Merchants) {
		t.row("merchant "+name, merchantLine(h, name))
	}
	for _, r := range routes.Routes {
		t.row("route "+r.Route, routeLine(&r))
	}
	for _, p := range routes.Gone {
		t.row("route "+p.Place, "no longer configured; paused by "+p.By+": "+p.Reason)
	}
	if err := t.end(); err != nil {
		return err
	}
	for _, line := range h.Reasons {
		fmt.Fprintln(c.out, "! "+printable(line))
	}
	for _, line := range h.Warnings {
		fmt.Fprintln(c.out, "- "+printable(line))
	}
	return nil
}

func merchantLine(h *healthView, name string) string {
	parts := []string{h.Merchants[name]}
	for _, key := range h.Keys[name] {
		text := strings.ReplaceAll(key.Kind, "_", " ") + " " + key.Serial
		if key.DaysLeft != nil {
			text += fmt.Sprintf(" (%d days left)", *key.DaysLeft)
		}
		parts = append(parts, text)
	}
	if clock, ok := h.Clock[name]; ok {
		parts = append(parts, fmt.Sprintf("clock %+.1f s", clock.Skew))
	}
	return strings.Join(parts, "; ")
}

func routeLine(r *routeView) string {
	whose := "merchant " + r.Merchant
	if r.Merchant == "*" {
		whose = "every merchant"
	}
	text := fmt.Sprintf("%s, ack %s", whose, r.Ack)
	if len(r.Upstreams) > 0 {
		text += ", to " + strings.Join(r.Upstreams, " ")
	}
	switch {
	case r.Paused != nil:
		text += "; PAUSED by " + r.Paused.By + ": " + r.Paused.Reason
	case r.Held:
		text += "; HELD by the pause of a route that is gone"
	}
	if r.Down {
		text += "; backend does not answer"
	}
	return text
}

func holdCommand(act string) *cobra.Command {
	short, long := "Hold the deliveries of a route", `
Holds what a route delivers until it is resumed: over reloads and restarts, too.
WeChat Pay is answered as ever (with "ack delivery" it is told to come again),
and what comes is kept. What is being sent is finished. Should the route's
backend be changed meanwhile, the pause goes on for the one in its place.

A route is named as "caddy wechatpay status" shows it, by its beginning, or by
its merchant ("*" for a route of every merchant) where that fits one only.`
	if act == "resume" {
		short, long = "End a pause", `
Delivers again what a pause held, in the order in which it came.`
	}
	return withDecision(&cobra.Command{
		Use:   act + " <route>",
		Short: short,
		Long:  long,
		Example: fmt.Sprintf(`  caddy wechatpay %[1]s shop --by li --reason "stock-taking"
  caddy wechatpay %[1]s '*/3f2a1b9c0d4e' --by li --reason "stock-taking"`, act),
		Args: cobra.ExactArgs(1),
		RunE: runs(func(c *command) error { return holdRoute(c, act) }),
	})
}

func holdRoute(c *command, act string) error {
	why, err := c.decision()
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var view routesView
	request := pauseRequest{Route: c.args[0], decision: why}
	if err := client.call(c.cmd.Context(), http.MethodPost, "/wechatpay/"+act, request, &view); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(view)
	}
	t := newTable(c.out)
	for _, r := range view.Routes {
		t.row("route "+r.Route, routeLine(&r))
	}
	return t.end()
}

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who decided what, and why",
		Example: `  caddy wechatpay audit
  caddy wechatpay audit --after 1200 --json`,
		Args: cobra.NoArgs,
		RunE: runs(showAudit),
	}
	cmd.Flags().Uint64("after", 0, "Begin after the entry of this number")
	cmd.Flags().Int("limit", maxPage, "Show at most so many entries")
	return cmd
}

func showAudit(c *command) error {
	after, err := c.cmd.Flags().GetUint64("after")
	if err != nil {
		return err
	}
	limit, err := c.cmd.Flags().GetInt("limit")
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var log struct {
		Entries []storage.AuditEntry `json:"entries"`
	}
	q := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	if err := client.call(c.cmd.Context(), http.MethodGet, "/wechatpay/audit?"+q.Encode(), nil, &log); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(log)
	}
	t := newTable(c.out, "NO", "AT", "BY", "ACT", "ABOUT", "REASON")
	for _, e := range log.Entries {
		t.row(e.Seq, clockTime(e.At), e.By, e.Act, e.Object, e.Reason)
	}
	if err := t.end(); err != nil {
		return err
	}
	if len(log.Entries) == limit {
		fmt.Fprintf(c.out, "There may be more: --after %d\n", log.Entries[limit-1].Seq)
	}
	return nil
}
