package sandbox_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestCallbackShape(t *testing.T) {
	r := &receiver{script: []int{http.StatusNoContent}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	c.order(strings.Replace(nativeBody("ORDER-1", 100), `"attach"`, `"scene_info":{"payer_client_ip":"127.0.0.1","device_id":"POS1"},"attach"`, 1))
	c.order(combineBody("COMB-1", subOrder(mchid, "SUB--A", 10), subOrder(other, "SUB--B", 20)))
	for _, number := range []string{"ORDER-1", "COMB-1"} {
		if _, err := p.Pay(number, sandbox.Faults{}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.WaitState(bounded(t), number, sandbox.Delivered); err != nil {
			t.Fatal(err)
		}
	}
	got := r.all()
	if len(got) != 2 {
		t.Fatalf("%d callbacks", len(got))
	}
	n, plain := c.open(got[0].header, got[0].body)
	if n.EventType != "TRANSACTION.SUCCESS" || n.ResourceType != "encrypt-resource" || n.Summary != "支付成功" ||
		n.Resource.OriginalType != "transaction" || n.Resource.Algorithm != "AEAD_AES_256_GCM" || len(n.ID) != 36 {
		t.Errorf("%+v", n)
	}
	wechatTime := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00$`)
	var paid struct {
		SuccessTime string `json:"success_time"`
	}
	if err := json.Unmarshal([]byte(plain), &paid); err != nil || !wechatTime.MatchString(n.CreateTime) || paid.SuccessTime != n.CreateTime {
		t.Errorf("create_time %q, success_time %q: want whole seconds, +08:00 (%v)", n.CreateTime, paid.SuccessTime, err)
	}
	shown, err := json.Marshal(p.Callbacks()[0].CreateTime)
	if err != nil || string(shown) != `"`+n.CreateTime+`"` {
		t.Errorf("the view says %s, the callback %s", shown, n.CreateTime)
	}
	if n.Resource.Nonce == got[0].header.Get("Wechatpay-Nonce") {
		t.Error("the resource's nonce is the header's")
	}
	sameJSON(t, plain, `{"appid":"`+appid+`","mchid":"`+mchid+`","out_trade_no":"ORDER-1","attach":"a","scene_info":{"device_id":"POS1"},
		"trade_state":"SUCCESS","trade_state_desc":"支付成功","trade_type":"NATIVE","bank_type":"OTHERS",
		"transaction_id":"*","success_time":"*","payer":{"openid":"*"},
		"amount":{"total":100,"payer_total":100,"currency":"CNY","payer_currency":"CNY"}}`,
		"transaction_id", "success_time", "openid")
	_, plain = c.open(got[1].header, got[1].body)
	sameJSON(t, plain, `{"combine_appid":"`+appid+`","combine_mchid":"`+mchid+`","combine_out_trade_no":"COMB-1","combine_payer_info":{"openid":"*"},"sub_orders":[
		{"mchid":"`+mchid+`","out_trade_no":"SUB--A","attach":"x","trade_state":"SUCCESS","trade_type":"NATIVE","bank_type":"OTHERS","transaction_id":"*","success_time":"*",
		 "amount":{"total_amount":10,"currency":"CNY","payer_amount":10,"payer_currency":"CNY"}},
		{"mchid":"`+other+`","out_trade_no":"SUB--B","attach":"x","trade_state":"SUCCESS","trade_type":"NATIVE","bank_type":"OTHERS","transaction_id":"*","success_time":"*",
		 "amount":{"total_amount":20,"currency":"CNY","payer_amount":20,"payer_currency":"CNY"}}]}`,
		"openid", "transaction_id", "success_time")
}

// TestSchedule runs the whole day of retries on a fake clock.
func TestSchedule(t *testing.T) {
	for _, scale := range []int{1, 60} {
		synctest.Test(t, func(t *testing.T) {
			r := &receiver{script: []int{500, 0, 202, 302, 404}}
			p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r}; o.TimeScale = scale })
			c := newClient(t, p, mchid)
			c.order(nativeBody("ORDER-1", 100))
			start := time.Now()
			if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
				t.Fatal(err)
			}
			ended, err := p.WaitState(t.Context(), "ORDER-1", sandbox.Exhausted)
			if err != nil {
				t.Fatal(err)
			}
			got := r.all()
			if len(got) != 16 || len(ended.Attempts) != 16 {
				t.Fatalf("%d sends, %d attempts, want 16", len(got), len(ended.Attempts))
			}
			if ended.Attempts[1].Status != 0 || ended.Attempts[1].Error == "" {
				t.Errorf("a refused connection: %+v", ended.Attempts[1])
			}
			waits := []time.Duration{
				0, 15 * time.Second, 15 * time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute,
				20 * time.Minute, 30 * time.Minute, 30 * time.Minute, 30 * time.Minute, time.Hour,
				3 * time.Hour, 3 * time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour,
			}
			at, seen := start, map[string]bool{}
			first, plain := c.open(got[0].header, got[0].body)
			for i, g := range got {
				at = at.Add(waits[i] / time.Duration(scale))
				if !g.at.Equal(at) {
					t.Errorf("send %d after %v, want %v", i, g.at.Sub(start), at.Sub(start))
				}
				n, again := c.open(g.header, g.body)
				if n.ID != first.ID || n.CreateTime != first.CreateTime || again != plain {
					t.Errorf("send %d tells something else", i)
				}
				for _, fresh := range []string{g.header.Get("Wechatpay-Nonce"), n.Resource.Nonce, n.Resource.Ciphertext, g.header.Get("Wechatpay-Signature")} {
					if seen[fresh] {
						t.Errorf("send %d repeats %q", i, fresh)
					}
					seen[fresh] = true
				}
				if have, want := g.header.Get("Wechatpay-Timestamp"), g.at.Unix(); have != itoa(want) {
					t.Errorf("send %d is signed at %s, want %d", i, have, want)
				}
			}
			if scale == 1 && at.Sub(start) != 24*time.Hour+4*time.Minute {
				t.Errorf("the schedule takes %v", at.Sub(start))
			}
		})
	}
}

func TestSuccessIs200Or204(t *testing.T) {
	for status, want := range map[int]bool{200: true, 204: true, 201: false, 202: false, 206: false, 301: false, 400: false, 503: false} {
		if have := (sandbox.Attempt{Status: status}).Succeeded(); have != want {
			t.Errorf("%d: %v", status, have)
		}
	}
}

func TestDeliveryStopsTheSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{script: []int{500, 500, 200}}
		p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
		c := newClient(t, p, mchid)
		c.order(nativeBody("ORDER-1", 100))
		if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
			t.Fatal(err)
		}
		waiting, err := p.WaitCallback(t.Context(), "ORDER-1", 1)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if waiting, err = p.WaitCallback(t.Context(), "ORDER-1", 1); err != nil || waiting.State != sandbox.Sending || !waiting.Next.Equal(time.Now().Add(15*time.Second)) {
			t.Errorf("%+v %v", waiting, err)
		}
		if _, err := p.WaitCallback(t.Context(), "ORDER-1", 2); err != nil {
			t.Fatal(err)
		}
		// Sent by hand while the series waits: its success ends the series.
		if _, err := p.Send("ORDER-1", sandbox.Faults{}); err != nil {
			t.Fatal(err)
		}
		if c, err := p.WaitState(t.Context(), "ORDER-1", sandbox.Delivered); err != nil || !c.Next.IsZero() {
			t.Errorf("%+v %v", c, err)
		}
		time.Sleep(48 * time.Hour) // of the fake clock
		if n := len(r.all()); n != 3 {
			t.Errorf("%d sends, want 3", n)
		}
	})
}

func kinds(c sandbox.Callback) (out []sandbox.AttemptKind) {
	for _, a := range c.Attempts {
		out = append(out, a.Kind)
	}
	return out
}

func TestFaults(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	c.order(combineBody("COMB-1", subOrder(mchid, "SUB--A", 10), subOrder(other, "SUB--B", 20)))
	_, err := p.Pay("COMB-1", sandbox.Faults{Probes: 1, Forged: 1, Stale: 1, StaleSeconds: 301, WrongAmount: -1, Concurrent: 3, Duplicates: 2})
	if err != nil {
		t.Fatal(err)
	}
	view, err := p.WaitCallback(bounded(t), "COMB-1", 9)
	if err != nil {
		t.Fatal(err)
	}
	have := kinds(view)
	count := map[sandbox.AttemptKind]int{}
	for _, k := range have {
		count[k]++
	}
	if have[0] != sandbox.ProbeSend || have[1] != sandbox.ForgedSend || have[2] != sandbox.StaleSend || have[3] != sandbox.WrongAmount ||
		count[sandbox.Regular] != 1 || count[sandbox.Concurrent] != 2 || count[sandbox.Duplicate] != 2 || len(have) != 9 {
		t.Fatalf("%v", have)
	}
	got := r.all()
	for i, g := range got[:2] {
		if c.check(g.header, g.body) == nil {
			t.Errorf("send %d verifies", i)
		}
		if c.platformKeys()[g.header.Get("Wechatpay-Serial")] == nil {
			t.Errorf("send %d does not name a key of the platform", i)
		}
	}
	probe := got[0].header.Get("Wechatpay-Signature")
	raw, err := base64.StdEncoding.Strict().DecodeString(probe)
	if !strings.HasPrefix(probe, sandbox.ProbePrefix) || err != nil || len(raw) != 256 {
		t.Errorf("probe signature %q: %v", probe, err)
	}
	c.open(got[2].header, got[2].body)
	if age := time.Now().Unix() - atoi(t, got[2].header.Get("Wechatpay-Timestamp")); age < 301 || age > 320 {
		t.Errorf("stale by %d s", age)
	}
	id, wrong := c.open(got[3].header, got[3].body)
	if !strings.Contains(wrong, `"total_amount":9,`) || !strings.Contains(wrong, `"total_amount":20,`) {
		t.Errorf("wrong amount: %s", wrong)
	}
	for _, g := range got[4:] {
		n, plain := c.open(g.header, g.body)
		if n.ID != id.ID || !strings.Contains(plain, `"total_amount":10,`) {
			t.Errorf("%s %s", n.ID, plain)
		}
	}
}

func TestFaultsRefused(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	c.order(nativeBody("ORDER-1", 100))
	for _, f := range []sandbox.Faults{
		{Probes: -1}, {Forged: 1001}, {Stale: -1}, {StaleSeconds: -1}, {Duplicates: -1}, {Concurrent: 5000},
		{WrongAmount: 1 << 62}, {WrongAmount: -101}, {Lost: true, Duplicates: 1}, {Coupon: -1}, {Coupon: 100},
	} {
		if _, err := p.Pay("ORDER-1", f); err == nil {
			t.Fatalf("%+v accepted", f)
		}
	}
	if _, err := p.Send("ORDER-1", sandbox.Faults{}); !errors.Is(err, sandbox.ErrNotPaid) {
		t.Errorf("send before the payment: %v", err)
	}
	if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Pay("ORDER-1", sandbox.Faults{}); !errors.Is(err, sandbox.ErrPaid) {
		t.Errorf("paid twice: %v", err)
	}
	if _, err := p.Send("ORDER-1", sandbox.Faults{WrongAmount: -101}); err == nil {
		t.Error("a negative amount was accepted")
	}
}

func TestSendAgain(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	c.order(nativeBody("ORDER-1", 100))
	if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	want := 1
	for _, step := range []struct {
		f    sandbox.Faults
		more []sandbox.AttemptKind
	}{
		{sandbox.Faults{}, []sandbox.AttemptKind{sandbox.Duplicate}},
		{sandbox.Faults{Duplicates: 2}, []sandbox.AttemptKind{sandbox.Duplicate, sandbox.Duplicate}},
		{sandbox.Faults{Concurrent: 2}, []sandbox.AttemptKind{sandbox.Concurrent, sandbox.Concurrent}},
		{sandbox.Faults{Probes: 1}, []sandbox.AttemptKind{sandbox.ProbeSend}},
		{sandbox.Faults{WrongAmount: 1, Lost: true}, []sandbox.AttemptKind{sandbox.WrongAmount}},
	} {
		if _, err := p.WaitCallback(bounded(t), "ORDER-1", want); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Send("ORDER-1", step.f); err != nil {
			t.Fatal(err)
		}
		view, err := p.WaitCallback(bounded(t), "ORDER-1", want+len(step.more))
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range kinds(view)[want:] {
			if k != step.more[i] {
				t.Errorf("%+v: %v", step.f, kinds(view)[want:])
			}
		}
		want += len(step.more)
	}
	if n := len(r.all()); n != want {
		t.Errorf("%d sends, want %d", n, want)
	}
}

func TestLostAndReordered(t *testing.T) {
	r := &receiver{script: []int{200}}
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: r} })
	c := newClient(t, p, mchid)
	for _, number := range []string{"ORDER-1", "ORDER-2"} {
		c.order(nativeBody(number, 100))
		view, err := p.Pay(number, sandbox.Faults{Lost: true})
		if err != nil || view.State != sandbox.Held {
			t.Fatal(view.State, err)
		}
	}
	// Bad sends go out though the right one is lost.
	if _, err := p.Send("ORDER-1", sandbox.Faults{Probes: 1, Lost: true}); err != nil {
		t.Fatal(err)
	}
	if view, err := p.WaitCallback(bounded(t), "ORDER-1", 1); err != nil || view.State != sandbox.Held {
		t.Fatal(view.State, err)
	}
	if err := p.SendInOrder(bounded(t), "ORDER-2", "ORDER-1"); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, g := range r.all()[1:] {
		_, plain := c.open(g.header, g.body)
		order = append(order, plain[strings.Index(plain, "ORDER-"):][:7])
	}
	if strings.Join(order, " ") != "ORDER-2 ORDER-1" {
		t.Errorf("order %v", order)
	}
	if err := p.SendInOrder(bounded(t), "NOBODY"); !errors.Is(err, sandbox.ErrNoOrder) {
		t.Errorf("%v", err)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer target.Close()
	merchant := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer merchant.Close()
	for name, given := range map[string]*http.Client{"own client": nil, "given client": {}} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t, func(o *sandbox.Options) { o.Client = given })
			c := newClient(t, p, mchid)
			c.order(strings.Replace(nativeBody("ORDER-1", 1), notify, merchant.URL+"/notify", 1))
			if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
				t.Fatal(err)
			}
			view, err := p.WaitCallback(bounded(t), "ORDER-1", 1)
			if err != nil {
				t.Fatal(err)
			}
			if a := view.Attempts[0]; a.Status != http.StatusTemporaryRedirect || a.Location != target.URL || view.State != sandbox.Sending {
				t.Errorf("%+v %s", a, view.State)
			}
		})
	}
	if followed.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestSlowMerchantHasFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: hang}; o.TimeScale = 1000 })
		c := newClient(t, p, mchid)
		c.order(nativeBody("ORDER-1", 100))
		if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
			t.Fatal(err)
		}
		view, err := p.WaitCallback(t.Context(), "ORDER-1", 1)
		if err != nil {
			t.Fatal(err)
		}
		if a := view.Attempts[0]; a.Duration != 5*time.Second || a.Status != 0 {
			t.Errorf("%+v", a)
		}
	})
}

func TestCloseInTheMiddle(t *testing.T) {
	entered := make(chan struct{}, 1)
	hang := roundTripper(func(r *http.Request) (*http.Response, error) {
		entered <- struct{}{}
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	p := newPlatform(t, func(o *sandbox.Options) { o.Client = &http.Client{Transport: hang} })
	c := newClient(t, p, mchid)
	c.order(nativeBody("ORDER-1", 100))
	c.order(nativeBody("ORDER-2", 100))
	if _, err := p.Pay("ORDER-1", sandbox.Faults{}); err != nil {
		t.Fatal(err)
	}
	<-entered
	waiter := make(chan error)
	go func() {
		_, err := p.WaitState(context.Background(), "ORDER-1", sandbox.Exhausted)
		waiter <- err
	}()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiter; !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("waiting: %v", err)
	}
	if _, err := p.Pay("ORDER-2", sandbox.Faults{}); !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("pay: %v", err)
	}
	if o, err := p.Order("ORDER-2"); err != nil || o.State != sandbox.NotPay {
		t.Errorf("%v %v", o.State, err)
	}
	if _, err := p.Send("ORDER-1", sandbox.Faults{}); !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("send: %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	p := newPlatform(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.WaitCallback(ctx, "NOBODY", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestCallbackOptions(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	n := sandbox.PaymentNotification([]byte(`{"a":1}`))
	n.ID, n.CreateTime = "EV-1", time.Unix(1700000000, 0)
	build := func(opt ...sandbox.CallbackOption) (http.Header, string) {
		t.Helper()
		h, body, err := p.Callback(mchid, n, opt...)
		if err != nil {
			t.Fatal(err)
		}
		return h, string(body)
	}
	h, body := build()
	read, plain := c.open(h, []byte(body))
	if read.ID != "EV-1" || read.CreateTime != "2023-11-15T06:13:20+08:00" || plain != `{"a":1}` {
		t.Errorf("%+v %s", read, plain)
	}
	for name, tc := range map[string]struct {
		opt      sandbox.CallbackOption
		header   string
		want     string
		verifies bool
	}{
		"time":              {sandbox.WithTime(time.Unix(1, 0)), "Wechatpay-Timestamp", "1", true},
		"timestamp":         {sandbox.WithTimestamp("1e9"), "Wechatpay-Timestamp", "1e9", true},
		"nonce":             {sandbox.WithNonce(""), "Wechatpay-Nonce", "", true},
		"serial":            {sandbox.WithSerial("X"), "Wechatpay-Serial", "X", false},
		"public key":        {sandbox.WithPublicKey(), "Wechatpay-Serial", c.keys.PublicKeys[0].ID, true},
		"signature":         {sandbox.WithSignature("AAAA"), "Wechatpay-Signature", "AAAA", false},
		"signature type":    {sandbox.WithSignatureType("NONE"), "Wechatpay-Signature-Type", "NONE", false},
		"no signature type": {sandbox.WithSignatureType(""), "Wechatpay-Signature-Type", "", false},
		"forged":            {sandbox.Forged(), "Wechatpay-Signature-Type", sandbox.SignatureType, false},
		"probe":             {sandbox.Probe(), "Wechatpay-Signature-Type", sandbox.SignatureType, false},
	} {
		h, body := build(tc.opt)
		if have := h.Get(tc.header); have != tc.want {
			t.Errorf("%s: %s %q, want %q", name, tc.header, have, tc.want)
		}
		if have := c.check(h, []byte(body)) == nil; have != tc.verifies {
			t.Errorf("%s: verifies %v, want %v", name, have, tc.verifies)
		}
	}
	if h, _ := build(sandbox.WithCertificate()); !strings.HasPrefix(h.Get("Wechatpay-Serial"), sandbox.CertificateSerialPrefix) {
		t.Error("not signed with the certificate")
	}
	h, body = build(sandbox.WithBody(func([]byte) []byte { return []byte("null") }))
	if body != "null" || c.check(h, []byte(body)) != nil {
		t.Errorf("body %s", body)
	}
	for _, nonce := range []string{"", "short", "0123456789ab", strings.Repeat("x", 16)} {
		h, body := build(sandbox.WithResourceNonce(nonce), sandbox.WithAlgorithm("X"))
		c.verify(h, []byte(body))
		if !strings.Contains(body, `"nonce":"`+nonce+`"`) || !strings.Contains(body, `"algorithm":"X"`) {
			t.Errorf("%s", body)
		}
	}
	if _, _, err := p.Callback("1", n); err == nil {
		t.Error("unknown mchid accepted")
	}
	if _, _, err := p.Callback(mchid, n, sandbox.WithAPIv3Key("short")); err == nil {
		t.Error("a short key was accepted")
	}
	only := newPlatform(t, func(o *sandbox.Options) { o.Keys = sandbox.PublicKeyMode })
	if _, _, err := only.Callback(mchid, n, sandbox.WithCertificate()); err == nil {
		t.Error("signed with a certificate in public_key mode")
	}
}

// TestConcurrentUse lets many users order, pay, query and look at the same time.
func TestConcurrentUse(t *testing.T) {
	p := newPlatform(t, nil)
	c := newClient(t, p, mchid)
	ctx := bounded(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			number := "ORDER-" + itoa(int64(i))
			c.call("POST", "/v3/pay/transactions/native", nativeBody(number, int64(i+1)))
			if _, err := p.Pay(number, sandbox.Faults{Concurrent: 3, Duplicates: 1}); err != nil {
				t.Error(err)
			}
			if _, err := p.WaitCallback(ctx, number, 4); err != nil {
				t.Error(err)
			}
			c.call("GET", "/v3/pay/transactions/out-trade-no/"+number+"?mchid="+mchid, "")
			p.Orders()
			p.Callbacks()
			if i%5 == 0 {
				if _, err := p.RotatePublicKey(sandbox.Rotation{Overlap: time.Hour}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(p.Callbacks()); n != 20 {
		t.Errorf("%d callbacks", n)
	}
	// The same number placed by many at once is one order.
	for range 20 {
		wg.Go(func() { c.call("POST", "/v3/pay/transactions/native", nativeBody("SAME-1", 5)) })
	}
	wg.Wait()
	if n := len(p.Orders()); n != 21 {
		t.Errorf("%d orders", n)
	}
	var paid atomic.Int32
	for range 20 {
		wg.Go(func() {
			if _, err := p.Pay("SAME-1", sandbox.Faults{}); err == nil {
				paid.Add(1)
			}
		})
	}
	wg.Wait()
	if paid.Load() != 1 {
		t.Errorf("paid %d times", paid.Load())
	}
}
