package caddymodule

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func replayCommand() *cobra.Command {
	cmd := withDecision(&cobra.Command{
		Use:   "replay [<id>... | --from <time> [--to <time>]]",
		Short: "Send notifications to the backend again",
		Long: `
Makes delivered or dead notifications, and those that no route took, pending
again: single ones, or all that were received from --from (included) to --to (not
included; now when it is not given). They go out under the same Webhook-Id, in
the order in which they were received, with Wechatpay-Gateway-Source "replay".

Times are RFC 3339, or a date with or without a time of day in the local zone.
--dry-run counts what a range holds and changes nothing; it wants no --by. A
replay that is interrupted stays done as far as it came.`,
		Example: `  caddy wechatpay replay evt_2b1c… --by li --reason "backend lost it"
  caddy wechatpay replay --from 2026-01-01 --to 2026-01-02 --dry-run
  caddy wechatpay replay --from "2026-01-01 08:00" --merchant shop --state dead --by li --reason "backend restored"`,
		RunE: runs(replay),
	})
	cmd.Flags().String("from", "", "Received at or after this time")
	cmd.Flags().String("to", "", "Received before this time")
	cmd.Flags().String("merchant", "", "Of this merchant block")
	cmd.Flags().String("kind", "", "Of this kind, such as payment or refund")
	cmd.Flags().String("state", "", "delivered, dead or parked")
	cmd.Flags().Bool("dry-run", false, "Count only")
	return cmd
}

func replay(c *command) error {
	dry, err := c.cmd.Flags().GetBool("dry-run")
	if err != nil {
		return err
	}
	from, to := c.text("from"), c.text("to")
	switch {
	case len(c.args) > 0 && (from != "" || to != "" || dry || c.text("merchant") != "" || c.text("kind") != "" || c.text("state") != ""):
		return errors.New("name notifications, or a range with --from and --to, not both")
	case len(c.args) > 0:
		return decide(c, string(storage.ActReplay))
	case from == "":
		return errors.New("what is to be replayed? Name notifications, or a range with --from")
	}
	req := replayRequest{
		Merchant: c.text("merchant"), Kind: c.text("kind"), State: storage.State(c.text("state")), DryRun: dry,
	}
	if req.From, err = instant(from); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if to != "" {
		if req.To, err = instant(to); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
	}
	if !dry {
		if req.decision, err = c.decision(); err != nil {
			return err
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	resp, err := client.do(c.cmd.Context(), http.MethodPost, "/wechatpay/replay", req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return fmt.Errorf("the gateway's answer broke off: %w", err)
		}
		return refusal(resp.StatusCode, text)
	}
	return followReplay(c, resp.Body)
}

// followReplay tells how far a replay has come until its last line.
func followReplay(c *command, answer io.Reader) error {
	var line replayProgress
	lines := bufio.NewScanner(answer)
	for lines.Scan() {
		line = replayProgress{}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return errors.New("the gateway's answer is not what it should be; is it an older version?")
		}
		switch {
		case c.json:
			fmt.Fprintln(c.out, lines.Text())
		case line.Error == "" && !line.Finished && line.Replayed+line.Skipped == 0:
			fmt.Fprintf(c.say, "found %d\n", line.Found)
		case line.Error == "" && !line.Finished:
			fmt.Fprintf(c.say, "replayed %d of %d\n", line.Replayed, line.Found)
		}
	}
	switch {
	case line.Error != "":
		return &exitError{exitRefused, fmt.Errorf("replayed %d of %d, then: %s", line.Replayed, line.Found, printable(line.Error))}
	case !line.Finished:
		return &exitError{exitRefused, fmt.Errorf("replayed %d of %d or more, then the gateway's answer broke off", line.Replayed, line.Found)}
	case c.json:
	case line.DryRun:
		fmt.Fprintf(c.out, "%d to replay\n", line.Found)
	default:
		fmt.Fprintf(c.out, "replayed %d, skipped %d that cannot be replayed any more\n", line.Replayed, line.Skipped)
	}
	return nil
}

// instant reads a time as people write it, in the local zone unless it says so.
func instant(text string) (string, error) {
	if _, err := time.Parse(time.RFC3339, text); err == nil {
		return text, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t.Format(time.RFC3339), nil
		}
	}
	return "", fmt.Errorf("%q is no time; write 2026-01-01, \"2026-01-01 08:00\" or 2026-01-01T08:00:00+08:00", text)
}
