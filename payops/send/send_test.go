package send

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
)

func testMerchant(t *testing.T, bases ...string) *merchant.Merchant {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	platform := "PUB_KEY_ID_0119000000012026010100000000000001"
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	m, err := merchant.New(merchant.Config{
		Name: "shop", Mchid: "1900000001", SerialNo: "7D3A", APIBases: bases,
		PrivateKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		APIv3Keys:  []string{"0123456789abcdef0123456789ABCDEF"},
		PublicKeys: []merchant.PublicKeyConfig{{ID: platform, PEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))}},
	}, merchant.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// failing is a transport that is not Go's own: it reports no connections.
type failing struct {
	errs  []error
	hosts []string
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	f.hosts = append(f.hosts, r.URL.Host)
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

// TestUnsentNeedsProof: with a transport that cannot tell, only a dial error is
// proof that nothing was sent.
func TestUnsentNeedsProof(t *testing.T) {
	m := testMerchant(t, "https://main.example.com", "https://backup.example.com")
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	read := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	for name, tc := range map[string]struct {
		errs       []error
		repeatable bool
		outcome    Outcome
		err        error
		hosts      int
	}{
		"both refuse":                {[]error{dial, dial}, false, Unsent, ErrUnreachable, 2},
		"reset, not repeatable":      {[]error{read, dial}, false, Unknown, ErrNoAnswer, 1},
		"reset, then refused":        {[]error{read, dial}, true, Unknown, ErrNoAnswer, 2},
		"refused, then reset":        {[]error{dial, read}, false, Unknown, ErrNoAnswer, 2},
		"something else entirely":    {[]error{errors.New("x"), dial}, false, Unknown, ErrNoAnswer, 1},
		"a dial that takes too long": {[]error{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}}, false, Unsent, ErrDialTimeout, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failing{errs: tc.errs}
			s := New(Config{Merchant: m, HTTP: &http.Client{Transport: f}})
			res := s.Do(context.Background(), Request{Method: "POST", Target: "/v3/x", Body: []byte("{}"), Repeatable: tc.repeatable})
			if res.Outcome != tc.outcome || !errors.Is(res.Err, tc.err) || len(f.hosts) != tc.hosts || res.Attempts != tc.hosts {
				t.Errorf("%s %v, hosts %v", res.Outcome, res.Err, f.hosts)
			}
		})
	}
}

func TestOnlyAPIPathsAreSigned(t *testing.T) {
	m := testMerchant(t)
	f := &failing{}
	s := New(Config{Merchant: m, HTTP: &http.Client{Transport: f}})
	for _, target := range []string{"", "/", "/v2/x", "//evil.example.com/v3/x", "http://evil.example.com/v3/x", "v3/x", "/V3/x"} {
		if res := s.Do(context.Background(), Request{Method: "GET", Target: target}); res.Outcome != Unsent || !errors.Is(res.Err, ErrSign) {
			t.Errorf("%q: %s %v", target, res.Outcome, res.Err)
		}
	}
	if len(f.hosts) != 0 {
		t.Error(f.hosts)
	}
}

func TestEndedContextSendsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f := &failing{}
	s := New(Config{Merchant: testMerchant(t), HTTP: &http.Client{Transport: f}})
	if res := s.Do(ctx, Request{Method: "GET", Target: "/v3/x"}); res.Outcome != Unsent || !errors.Is(res.Err, ErrDialTimeout) || len(f.hosts) != 0 {
		t.Errorf("%s %v", res.Outcome, res.Err)
	}
}

func TestHostsOrder(t *testing.T) {
	h, now := newHosts([]string{"a", "b", "c"}), time.Unix(1_800_000_000, 0)
	want := func(order ...int) {
		t.Helper()
		if got := h.order(now); !slices.Equal(got, order) {
			t.Errorf("%v, want %v", got, order)
		}
	}
	want(0, 1, 2)
	h.report(0, false, now)
	h.report(0, false, now)
	want(0, 1, 2)
	h.report(0, true, now) // an answer between failures starts the count anew
	h.report(0, false, now)
	h.report(0, false, now)
	want(0, 1, 2)
	h.report(0, false, now)
	want(1, 2, 0)
	now = now.Add(holdFor - 1)
	want(1, 2, 0)
	now = now.Add(1)
	want(0, 1, 2) // one probe
	want(1, 2, 0) // and one only
	for range tripAfter {
		h.report(1, false, now)
		h.report(2, false, now)
	}
	want(0, 1, 2) // all are down: the usual order
	h.report(0, true, now)
	want(0, 1, 2)
}

func TestOutcomeNames(t *testing.T) {
	for o, want := range map[Outcome]string{Unsent: "unsent", Succeeded: "succeeded", Rejected: "rejected", Unknown: "unknown", 99: "unknown"} {
		if o.String() != want {
			t.Errorf("%d: %s", o, o)
		}
	}
}
