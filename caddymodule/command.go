package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "wechatpay",
		Usage: "<command>",
		Short: "Shows and decides what the running WeChat Pay gateway holds",
		Long: `
Asks the running gateway through Caddy's admin endpoint, and lets operators
decide about notifications (回调通知).

The endpoint is the one of --address, or that of the configuration: --config,
or a Caddyfile in this folder, as "caddy reload" finds it. A unix socket is
written unix//run/caddy/admin.sock.

What decides about money wants --by and --reason; both are kept in the audit
log.

Exit codes: 0 done; 1 wrong usage, or no gateway answered; 2 the gateway
refused, or did a part only; of status and doctor: 3 not healthy, 4 something to
look at.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.PersistentFlags().String("address", "", "The address of Caddy's admin endpoint, such as localhost:2019 or unix//run/caddy/admin.sock")
			cmd.PersistentFlags().StringP("config", "c", "", "Configuration file to take that address from")
			cmd.PersistentFlags().StringP("adapter", "a", "", "Name of the configuration's adapter")
			cmd.PersistentFlags().Bool("json", false, "Print JSON")
			cmd.AddCommand(
				statusCommand(), inboxCommand(), showCommand(),
				actCommand("release", "Deliver parked notifications as they are", `
Accepts notifications that were parked, although they contradict the ledger or
speak of an order it does not know, and delivers them. The amount that WeChat
Pay said is not changed. Their Wechatpay-Gateway-Amount-Check is "overridden".`),
				actCommand("dismiss", "Decide that notifications are not to be delivered", `
Ends parked, dead or waiting notifications: the backend never gets them. They
stay visible. WeChat Pay is told that they arrived, so it does not repeat them.`),
				replayCommand(), holdCommand("pause"), holdCommand("resume"), auditCommand(), doctorCommand(),
			)
		},
	})
}

// The exit codes of `caddy wechatpay`, beside 0 and 1.
const (
	exitRefused   = 2
	exitUnhealthy = 3
	exitAttention = 4
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error // nil: everything is said already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// runs wraps what a command does: the gateway is found, the error printed as one
// line and turned into the exit code.
func runs(f func(c *command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cmd.SilenceErrors = true
		asJSON, err := cmd.Flags().GetBool("json")
		if err == nil {
			err = f(&command{cmd: cmd, args: args, json: asJSON, out: cmd.OutOrStdout(), say: cmd.ErrOrStderr()})
		}
		if err == nil {
			return nil
		}
		if text := err.Error(); text != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "Error: "+text)
		}
		var exit *exitError
		if !errors.As(err, &exit) {
			return err // 1
		}
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return exit.code, nil })(cmd, args)
	}
}

// command is one run of a command.
type command struct {
	cmd  *cobra.Command
	args []string
	json bool
	out  io.Writer // for the answer
	say  io.Writer // for progress
}

// text returns a flag's value.
func (c *command) text(flag string) string {
	value, err := c.cmd.Flags().GetString(flag)
	if err != nil {
		panic(err) // the command has no such flag
	}
	return value
}

// client finds the admin endpoint.
func (c *command) client() (*adminClient, error) {
	address, file, adapter := c.text("address"), c.text("config"), c.text("adapter")
	if address == "" {
		config, found, usedAdapter, err := caddycmd.LoadConfig(file, adapter)
		if err != nil {
			return nil, err
		}
		if len(config) > 0 {
			var admin struct {
				Admin caddy.AdminConfig `json:"admin"`
			}
			if json.Unmarshal(config, &admin) == nil && admin.Admin.Disabled {
				return nil, fmt.Errorf("%s switches the admin endpoint off; give it one, such as admin unix//run/caddy/admin.sock", found)
			}
		}
		if address, err = caddycmd.DetermineAdminAPIAddress("", config, found, usedAdapter); err != nil {
			return nil, err
		}
	}
	return newAdminClient(address)
}

// decision reads --by and --reason, which must be there before anything is asked.
func (c *command) decision() (decision, error) {
	d := decision{By: strings.TrimSpace(c.text("by")), Reason: strings.TrimSpace(c.text("reason"))}
	if d.By == "" || d.Reason == "" {
		return d, errors.New("--by and --reason are wanted: who decides this, and why")
	}
	return d, nil
}

func withDecision(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("by", "", "Who decides (kept in the audit log)")
	cmd.Flags().String("reason", "", "Why (kept in the audit log)")
	return cmd
}

// printJSON prints what the gateway answered.
func (c *command) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
