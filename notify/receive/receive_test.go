package receive

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestReceiveCommits(t *testing.T) {
	b := newBench(t)
	plaintext := basic("20260301000001", 100)
	body := paid(plaintext)
	a := b.Receive(t.Context(), commitRoute(), theMerchant(), request(body))
	if a.Status != http.StatusOK || string(a.Body) != `{"code":"SUCCESS","message":"成功"}` {
		t.Fatalf("answer %d %s", a.Status, a.Body)
	}
	got := b.store.only(t)
	if string(got.Resource()) != plaintext {
		t.Errorf("resource is %q", got.Resource())
	}
	want := bytes.Replace(body, body[bytes.Index(body, []byte(`{"algorithm`)):len(body)-1], []byte(plaintext), 1)
	if !bytes.Equal(got.Body, want) {
		t.Errorf("body is\n%s\nwant\n%s", got.Body, want)
	}
	if got.Kind != "payment" || got.AmountCheck != storage.AmountUnknown || got.Source != storage.SourceCallback ||
		got.Merchant != "shop" || got.Route != "r1" || got.Host != "pay.example.com" || got.Path != "/wechatpay/notify/shop" ||
		got.NotificationID != testID || !got.Money || got.Raw != nil || got.OutTradeNo != "20260301000001" {
		t.Errorf("record %+v", got.Notification)
	}
	again := b.Receive(t.Context(), commitRoute(), theMerchant(), request(body))
	if again.Status != http.StatusOK || b.seen.last() != notify.OutcomeDuplicate {
		t.Errorf("a repeat: %d %s", again.Status, b.seen.last())
	}
	b.store.only(t)
}

func TestReceiveBySerialOfCertificate(t *testing.T) {
	b := newBench(t)
	in := request(paid(basic("20260301000002", 100)))
	in.Header["Wechatpay-Serial"] = []string{certSerial}
	delete(in.Header, "Wechatpay-Signature-Type") // absent means RSA
	if a := b.Receive(t.Context(), commitRoute(), theMerchant(), in); a.Status != http.StatusOK {
		t.Fatalf("answer %d %s", a.Status, a.Body)
	}
}

// Logs may tell lengths and serials, never what a stranger or WeChat sent.
func TestLogsHoldNoContent(t *testing.T) {
	b := newBench(t)
	body := paid(basic("20260301000003", 100))
	b.Receive(t.Context(), commitRoute(), theMerchant(), request(body))
	in := request(body)
	in.Header["Wechatpay-Serial"] = []string{"evil\nserial"}
	b.Receive(t.Context(), commitRoute(), theMerchant(), in)
	in = request(append(body, ' '))
	in.ContentLength--
	b.Receive(t.Context(), commitRoute(), theMerchant(), in)
	in = request(body)
	in.Header["Wechatpay-Nonce"] = []string{strings.Repeat("x", 32)}
	b.Receive(t.Context(), commitRoute(), theMerchant(), in)
	logs := b.logs.String()
	for _, secret := range []string{"oUpF8uMuAJO", testNonce, in.Header["Wechatpay-Signature"][0][:20], "evil", "ciphertext", "xxxx"} {
		if strings.Contains(logs, secret) {
			t.Errorf("logs contain %q:\n%s", secret, logs)
		}
	}
	if strings.Count(logs, "\n") != 4 || !strings.Contains(logs, testKeyID) || !strings.Contains(logs, "skew_seconds=0") {
		t.Errorf("logs:\n%s", logs)
	}
}
