package deliver

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

// The vector that the Standard Webhooks libraries test themselves with.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTimestamp = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func signWith(t *testing.T, id string, timestamp int64, body string, secrets ...string) string {
	t.Helper()
	var parsed []merchant.Secret
	for _, text := range secrets {
		secret, err := ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, secret)
	}
	s, err := newSigner(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return s.sign(id, timestamp, []byte(body))
}

func TestSignVector(t *testing.T) {
	for _, secret := range []string{vectorSecret, strings.TrimPrefix(vectorSecret, "whsec_")} {
		if got := signWith(t, vectorID, vectorTimestamp, vectorBody, secret); got != vectorSignature {
			t.Errorf("got %s, want %s", got, vectorSignature)
		}
	}
}

// hmacByHand is HMAC-SHA256 from its definition (RFC 2104), for keys of at most
// one block.
func hmacByHand(key, message []byte) []byte {
	inner, outer := bytes.Repeat([]byte{0x36}, 64), bytes.Repeat([]byte{0x5c}, 64)
	for i, b := range key {
		inner[i] ^= b
		outer[i] ^= b
	}
	in := sha256.Sum256(append(inner, message...))
	out := sha256.Sum256(append(outer, in[:]...))
	return out[:]
}

func TestSignAgainstTheDefinition(t *testing.T) {
	for _, size := range []int{24, 32, 64} {
		key := bytes.Repeat([]byte{byte(size), 7}, size/2)
		body := strings.Repeat("正文", size)
		message := fmt.Sprintf("msg_1.%d.%s", 1700000000+size, body)
		want := "v1," + base64.StdEncoding.EncodeToString(hmacByHand(key, []byte(message)))
		got := signWith(t, "msg_1", int64(1700000000+size), body, base64.StdEncoding.EncodeToString(key))
		if got != want {
			t.Errorf("%d bytes: got %s, want %s", size, got, want)
		}
	}
}

func TestSignRollover(t *testing.T) {
	other := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))
	got := strings.Split(signWith(t, vectorID, vectorTimestamp, vectorBody, other, vectorSecret), " ")
	if len(got) != 2 || got[0] == got[1] || got[1] != vectorSignature {
		t.Errorf("signatures: %q", got)
	}
}

func TestSignConcurrently(t *testing.T) {
	secret, err := ParseSecret(vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSigner([]merchant.Secret{secret})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			body := []byte(strings.Repeat("x", i))
			mac := hmac.New(sha256.New, mustDecode(t, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
			_, _ = fmt.Fprintf(mac, "id.%d.%s", i, body)
			want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
			for range 200 {
				if got := s.sign("id", int64(i), body); got != want {
					t.Errorf("got %s, want %s", got, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func mustDecode(t *testing.T, text string) []byte {
	t.Helper()
	out, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseSecret(t *testing.T) {
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n)) }
	for _, good := range []string{encode(24), encode(32), encode(64), "whsec_" + encode(33)} {
		secret, err := ParseSecret(good)
		if err != nil || secret.Reveal() != good {
			t.Errorf("a good secret of %d characters: %v", len(good), err)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "prefix only": "whsec_", "23 bytes": encode(23), "65 bytes": encode(65), "not base64": "whsec_swordfish-swordfish-swordfish!",
		"unpadded": strings.TrimRight(encode(25), "="), "url alphabet": base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 24)),
		"asymmetric": "whsk_" + encode(32), "blank inside": encode(24)[:8] + " " + encode(24)[8:], "line break": encode(24) + "\n",
		"loose last bits": encode(25)[:33] + "/==", "other prefix": "WHSEC_" + encode(24),
	} {
		_, err := ParseSecret(bad)
		if !errors.Is(err, ErrSecret) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(bad) > 8 && strings.Contains(err.Error(), bad[6:]) {
			t.Errorf("%s: the error holds the secret", name)
		}
	}
	if _, err := newSigner([]merchant.Secret{merchant.NewSecret(vectorSecret), {}}); !errors.Is(err, ErrSecret) {
		t.Errorf("an empty secret: %v", err)
	}
}

func benchSecrets() []merchant.Secret { return []merchant.Secret{merchant.NewSecret(vectorSecret)} }

func BenchmarkSign(b *testing.B) {
	s, err := newSigner(benchSecrets())
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 2000)
	b.ReportAllocs()
	for b.Loop() {
		s.sign(vectorID, vectorTimestamp, body)
	}
}
