package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// inboxPage is one answer of the inbox.
type inboxPage struct {
	Notifications []notificationView `json:"notifications"`
	After         string             `json:"after,omitempty"`
}

func inboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inbox",
		Short: "List notifications, newest first",
		Example: `  caddy wechatpay inbox --state parked
  caddy wechatpay inbox --out-trade-no 20260101000001
  caddy wechatpay inbox --state dead --json | jq -r '.notifications[].id'`,
		Args: cobra.NoArgs,
		RunE: runs(listInbox),
	}
	cmd.Flags().String("state", "", "pending, delivered, dead, parked, dismissed or superseded")
	cmd.Flags().String("merchant", "", "Of this merchant block")
	cmd.Flags().String("kind", "", "Of this kind, such as payment or refund")
	cmd.Flags().String("out-trade-no", "", "Of this order")
	cmd.Flags().Int("limit", 50, "Show at most so many, up to 1000")
	cmd.Flags().String("after", "", "Go on where the list before ended")
	return cmd
}

func listInbox(c *command) error {
	q := make(url.Values)
	for flag, name := range map[string]string{
		"state": "state", "merchant": "merchant", "kind": "kind", "out-trade-no": "out_trade_no", "after": "after",
	} {
		if value := c.text(flag); value != "" {
			q.Set(name, value)
		}
	}
	limit, err := c.cmd.Flags().GetInt("limit")
	if err != nil {
		return err
	}
	q.Set("limit", strconv.Itoa(limit))
	client, err := c.client()
	if err != nil {
		return err
	}
	var page inboxPage
	if err := client.call(c.cmd.Context(), http.MethodGet, "/wechatpay/inbox?"+q.Encode(), nil, &page); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(page)
	}
	t := newTable(c.out, "RECEIVED", "STATE", "KIND", "MERCHANT", "ORDER", "ATTEMPTS", "WHY", "ID")
	for i := range page.Notifications {
		n := &page.Notifications[i]
		t.row(clockTime(n.ReceivedAt), n.State, n.Kind, n.Merchant, n.number(), n.Attempts, n.why(), n.ID)
	}
	if err := t.end(); err != nil {
		return err
	}
	if page.After != "" {
		fmt.Fprintln(c.out, "There is more: --after "+page.After)
	}
	return nil
}

// number is the number by which people know what it is about.
func (n *notificationView) number() string {
	for _, number := range []string{n.OutRefundNo, n.OutTradeNo, n.ParkingID, n.NotificationID} {
		if number != "" {
			return number
		}
	}
	return ""
}

// why tells why it is not delivered.
func (n *notificationView) why() string {
	switch {
	case n.ParkReason != "" && n.ParkDetail != "":
		return n.ParkReason + ": " + n.ParkDetail
	case n.ParkReason != "":
		return n.ParkReason
	case n.LastError != "" && n.LastStatus != 0:
		return fmt.Sprintf("%s %d", n.LastError, n.LastStatus)
	default:
		return n.LastError
	}
}

func showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show <id>",
		Short: "Show a notification whole, personal data masked",
		Long: `
Shows all that is known of a notification, and its body: numbers, amounts, states
and times as they are, and everything that is personal, or might be, as ***.`,
		Example: `  caddy wechatpay show evt_2b1c…
  caddy wechatpay show evt_2b1c… --json | jq .body.resource.amount`,
		Args: cobra.ExactArgs(1),
		RunE: runs(showOne),
	}
}

func showOne(c *command) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var n wholeView
	if err := client.call(c.cmd.Context(), http.MethodGet, "/wechatpay/inbox/"+url.PathEscape(c.args[0])+"?body=1", nil, &n); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(n)
	}
	t := newTable(c.out)
	for _, f := range n.fields() {
		if f.value != "" && f.value != "0" {
			t.row(f.name, f.value)
		}
	}
	if err := t.end(); err != nil {
		return err
	}
	switch {
	case n.BodyExpired:
		fmt.Fprintln(c.out, "The body is gone by retention.")
	case n.BodyError != "":
		fmt.Fprintln(c.out, "The body is not shown: "+n.BodyError)
	default:
		var body bytes.Buffer
		if err := json.Indent(&body, n.Body, "", "  "); err != nil {
			return err
		}
		fmt.Fprintln(c.out, body.String())
	}
	return nil
}

// field is a line about a notification.
type field struct{ name, value string }

func (n *wholeView) fields() []field {
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return clockTime(*t)
	}
	return []field{
		{"id", n.ID}, {"state", n.State}, {"why", n.why()}, {"event type", n.EventType}, {"kind", n.Kind},
		{"merchant", n.Merchant}, {"mchid", n.Mchid}, {"sub_mchid", n.SubMchid}, {"appid", n.Appid},
		{"out_trade_no", n.OutTradeNo}, {"out_refund_no", n.OutRefundNo}, {"transaction_id", n.TransactionID},
		{"parking_id", n.ParkingID}, {"trade scene", n.TradeScene}, {"notification", n.NotificationID},
		{"source", n.Source}, {"amount check", n.AmountCheck}, {"received", clockTime(n.ReceivedAt)},
		{"times received", strconv.Itoa(n.Seen)}, {"attempts", strconv.Itoa(n.Attempts)}, {"next attempt", at(n.NextDue)},
		{"delivered", at(n.DeliveredAt)}, {"path", n.Path}, {"route", n.Route},
	}
}

// actCommand is a decision about single notifications.
func actCommand(act, short, long string) *cobra.Command {
	return withDecision(&cobra.Command{
		Use:   act + " <id>...",
		Short: short,
		Long:  long,
		Example: fmt.Sprintf(`  caddy wechatpay %[1]s evt_2b1c… --by li --reason "checked with finance"
  caddy wechatpay inbox --state parked --json | jq -r '.notifications[].id' |
    xargs caddy wechatpay %[1]s --by li --reason "checked with finance"`, act),
		Args: cobra.MinimumNArgs(1),
		RunE: runs(func(c *command) error { return decide(c, act) }),
	})
}

// decide carries an act out on each notification named, and goes on after a
// refusal.
func decide(c *command, act string) error {
	why, err := c.decision()
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	done := make([]notificationView, 0, len(c.args))
	refused := 0
	for _, id := range c.args {
		var n notificationView
		err := client.call(c.cmd.Context(), http.MethodPost, "/wechatpay/inbox/"+url.PathEscape(id)+"/"+act, why, &n)
		var exit *exitError
		switch {
		case err == nil:
			done = append(done, n)
			if !c.json {
				fmt.Fprintf(c.out, "%s: %s, now %s\n", printable(n.ID), act, n.State)
			}
		case errors.As(err, &exit):
			refused++
			fmt.Fprintf(c.say, "%s: %v\n", printable(id), err)
		default:
			return err
		}
	}
	if c.json {
		if err := c.printJSON(inboxPage{Notifications: done}); err != nil {
			return err
		}
	}
	if refused > 0 {
		return &exitError{exitRefused, fmt.Errorf("%d of %d were refused", refused, len(c.args))}
	}
	return nil
}
