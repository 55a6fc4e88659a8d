package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor --config <file>",
		Short: "Check a set-up, and say what to do",
		Long: `
Looks at the configuration, the keys and certificates, the files that hold them,
the store's directory, whether notify_url is reached from here and answered by
the gateway, and the clock; and asks the running gateway, if there is one, what
it has seen. It changes nothing and shows no secret.

Run it as the user that Caddy runs as, with the same environment. With --offline
nothing outside this machine is asked.

Exit code 0: nothing to mend; 3: errors; 4: warnings.`,
		Example: `  caddy wechatpay doctor --config /etc/caddy/Caddyfile
  caddy wechatpay doctor --config /etc/caddy/Caddyfile --offline --json`,
		Args: cobra.NoArgs,
		RunE: runs(examine),
	}
	cmd.Flags().Bool("offline", false, "Ask nothing outside this machine")
	return cmd
}

// doctorWait bounds each question that the doctor asks.
const doctorWait = 10 * time.Second

func examine(c *command) error {
	offline, err := c.cmd.Flags().GetBool("offline")
	if err != nil {
		return err
	}
	d := &doctor{now: time.Now}
	if !offline {
		d.get = outsideGet
	}
	config, _, _, err := caddycmd.LoadConfig(c.text("config"), c.text("adapter"))
	switch {
	case err != nil:
		d.note(findingError, "configuration", err.Error(), "mend it; the message names file and line")
	case len(config) == 0:
		return errors.New("which configuration? Name it with --config")
	default:
		d.examine(c.cmd.Context(), config)
		d.gateway(c, config)
	}
	return c.diagnosis(d.findings)
}

// outsideGet asks a URL and follows no redirect.
func outsideGet(ctx context.Context, target string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, err
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err // without the URL, which the finding names
	}
	return resp, err
}

// gateway asks the gateway that runs with the configuration.
func (d *doctor) gateway(c *command, config []byte) {
	client, err := c.client()
	if err != nil {
		d.note(findingNote, "running gateway", err.Error(), "")
		return
	}
	ctx, cancel := context.WithTimeout(c.cmd.Context(), doctorWait)
	defer cancel()
	var health healthView
	if err := client.call(ctx, http.MethodGet, "/wechatpay/health", nil, &health, http.StatusServiceUnavailable); err != nil {
		d.note(findingNote, "running gateway", err.Error(), "what only a running gateway knows is left out")
		return
	}
	d.live(&health)
	since := d.now().Add(-strictAfter)
	unknown := 0
	for after := ""; ; {
		var page inboxPage
		if err := client.call(ctx, http.MethodGet, "/wechatpay/inbox?limit=1000&after="+url.QueryEscape(after), nil, &page); err != nil {
			d.note(findingNote, "running gateway", err.Error(), "")
			return
		}
		for i := range page.Notifications {
			n := &page.Notifications[i]
			if n.ReceivedAt.Before(since) {
				d.strict(config, true, unknown)
				return
			}
			switch event.Kind(n.Kind) {
			case event.Payment, event.PartnerPayment, event.Combine:
				if n.AmountCheck == string(storage.AmountUnknown) {
					unknown++
				}
			}
		}
		if after = page.After; after == "" {
			d.strict(config, unknown > 0, unknown)
			return
		}
	}
}

// diagnosis prints the findings, the worst first.
func (c *command) diagnosis(findings []finding) error {
	counts := make(map[string]int)
	sorted := make([]finding, 0, len(findings))
	for _, level := range []string{findingError, findingWarning, findingNote, findingOK} {
		for _, f := range findings {
			if f.Level == level {
				counts[level]++
				sorted = append(sorted, f)
			}
		}
	}
	if c.json {
		if err := c.printJSON(struct {
			Findings []finding `json:"findings"`
		}{sorted}); err != nil {
			return err
		}
	} else {
		for _, f := range sorted {
			fmt.Fprintf(c.out, "%-7s  %s: %s\n", f.Level, printable(f.About), printable(f.Says))
			if f.Do != "" && f.Level != findingOK {
				fmt.Fprintf(c.out, "         → %s\n", printable(f.Do))
			}
		}
		fmt.Fprintf(c.out, "%d errors, %d warnings, %d notes\n", counts[findingError], counts[findingWarning], counts[findingNote])
	}
	switch {
	case counts[findingError] > 0:
		return &exitError{code: exitUnhealthy}
	case counts[findingWarning] > 0:
		return &exitError{code: exitAttention}
	}
	return nil
}
