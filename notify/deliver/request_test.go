package deliver

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var update = flag.Bool("update", false, "rewrite golden files")

func goldenClaim() *storage.Claim {
	n := payment(1)
	n.ID, n.SubMchid, n.ReceivedAt = vectorID, "1900000109", epoch
	n.Raw = []byte(`{"id":"EV-1","resource":{"ciphertext":"…"}}`)
	n.RawHeaders = []storage.Header{
		{Name: "Wechatpay-Signature", Value: strings.Repeat("Ab+/", 171) + "=="}, // RSA-4096
		{Name: "Wechatpay-Timestamp", Value: "1614265330"},
		{Name: "Wechatpay-Nonce", Value: "EcNnbA"},
		{Name: "Wechatpay-Serial", Value: "PUB_KEY_ID_0119000000012024"},
		{Name: "wechatpay-signature-type", Value: "WECHATPAY2-SHA256-RSA2048"},
		{Name: "WECHATPAY-GATEWAY-AMOUNT-CHECK", Value: "forged"},
		{Name: "Authorization", Value: "forged"},
	}
	return &storage.Claim{Record: storage.Record{Notification: n, Attempts: 2}}
}

// dump writes a delivery as it stands on the wire.
func dump(d *notify.Delivery) string {
	var out strings.Builder
	fmt.Fprintf(&out, "POST %s HTTP/1.1\nHost: %s\n", d.Path, d.Host)
	names := make([]string, 0, len(d.Header))
	for name := range d.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range d.Header[name] {
			fmt.Fprintf(&out, "%s: %s\n", name, value)
		}
	}
	fmt.Fprintf(&out, "\n%s\n", d.Body)
	return out.String()
}

// validValue reports whether a header may hold the text (RFC 9110, 5.5, without
// obs-text).
func validValue(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) && strings.Trim(text, " ") == text
}

// TestDeliveryGolden compares whole requests, byte for byte.
func TestDeliveryGolden(t *testing.T) {
	sign, err := newSigner([]merchant.Secret{merchant.NewSecret(vectorSecret)})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		form   notify.PayloadForm
		sign   *signer
		change func(*storage.Claim)
	}{
		{"envelope", notify.PayloadEnvelope, nil, func(*storage.Claim) {}},
		{"envelope_signed", notify.PayloadEnvelope, sign, func(*storage.Claim) {}},
		{"resource_signed", notify.PayloadResource, sign, func(c *storage.Claim) { c.Record.Attempts, c.Record.SubMchid = 0, "" }},
		{"raw_signed", notify.PayloadRaw, sign, func(*storage.Claim) {}},
		{"raw_of_a_query", notify.PayloadRaw, nil, func(c *storage.Claim) {
			c.Record.Raw, c.Record.RawHeaders = nil, nil
			c.Record.Source, c.Record.AmountCheck = storage.SourceQuery, storage.AmountUnknown
		}},
		{"replay", notify.PayloadEnvelope, nil, func(c *storage.Claim) { c.Replay = true }},
		{"odd_values", notify.PayloadEnvelope, nil, func(c *storage.Claim) {
			c.Record.EventType = " TRANSACTION.\r\nX-Evil: 1\x00\x7f支付 "
			c.Record.Kind = strings.Repeat("k", 9000)
			c.Record.Mchid = "\n"
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			claim := goldenClaim()
			row.change(claim)
			d := newDelivery(&notify.Route{Payload: row.form}, row.sign, claim, epoch)
			got := dump(d)
			file := "testdata/" + row.name + ".http"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if length := d.Header.Get("Content-Length"); length != fmt.Sprint(len(d.Body)) {
				t.Errorf("Content-Length %s of %d bytes", length, len(d.Body))
			}
			for name, values := range d.Header {
				if name != http.CanonicalHeaderKey(name) || len(values) != 1 || !validValue(values[0]) {
					t.Errorf("header %q: %q", name, values)
				}
			}
		})
	}
}

// TestHeaderValuesAreApart: the values share an array, and must not grow into
// each other.
func TestHeaderValuesAreApart(t *testing.T) {
	d := newDelivery(&notify.Route{}, nil, goldenClaim(), epoch)
	before := d.Header.Clone()
	for name := range before {
		d.Header.Add(name, "more")
	}
	for name, values := range before {
		if d.Header[name][0] != values[0] {
			t.Errorf("%s became %q", name, d.Header[name])
		}
	}
}

func TestDeliverable(t *testing.T) {
	good := storage.Record{Notification: payment(1)}
	if !deliverable(&good) || !bytes.HasPrefix(good.Resource(), []byte("{")) {
		t.Error("a whole record")
	}
	for name, change := range map[string]func(*storage.Record){
		"expired":  func(r *storage.Record) { r.BodyExpired = true },
		"no body":  func(r *storage.Record) { r.Body = nil },
		"end":      func(r *storage.Record) { r.ResourceEnd = len(r.Body) + 1 },
		"start":    func(r *storage.Record) { r.ResourceStart = -1 },
		"reversed": func(r *storage.Record) { r.ResourceStart = r.ResourceEnd + 1 },
	} {
		rec := good
		change(&rec)
		if deliverable(&rec) {
			t.Error(name)
		}
	}
}

func FuzzHeaderValue(f *testing.F) {
	for _, text := range []string{"", "TRANSACTION.SUCCESS", " a\r\nb: c ", "支付", "\x00", strings.Repeat("x", 300)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := headerValue(text)
		if !validValue(got) || len(got) > maxHeaderValue || strings.Trim(got, " \t") != got {
			t.Fatalf("%q became %q", text, got)
		}
	})
}
