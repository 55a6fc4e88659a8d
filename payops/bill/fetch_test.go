package bill

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

const (
	base     = "https://api.mch.weixin.qq.com"
	filePath = "/v3/billdownload/file?token=6XIv5TUPto7pByr%2BTQKhd_-&tartype=gzip"
)

// fake answers what a sender is asked for.
type fake struct {
	t        *testing.T
	apply    send.Result
	download send.Result
	targets  []string
	attempts []time.Duration
	onApply  func()
	closed   int
}

func (f *fake) Do(_ context.Context, r send.Request) send.Result {
	f.targets = append(f.targets, r.Target)
	f.attempts = append(f.attempts, r.Attempt)
	if r.Method != "GET" || r.Body != nil || !r.Repeatable || r.Stream != (len(f.targets) == 2) {
		f.t.Errorf("%+v", r)
	}
	if len(f.targets) == 1 {
		if f.onApply != nil {
			f.onApply()
		}
		return f.apply
	}
	res := f.download
	if res.Stream != nil {
		res.Stream = closing{res.Stream, &f.closed}
	}
	return res
}

type closing struct {
	io.Reader
	n *int
}

func (c closing) Close() error { *c.n++; return nil }

func sum1(content []byte) string {
	sum := sha1.Sum(content)
	return hex.EncodeToString(sum[:])
}

func zipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func linkTo(url, hash string) send.Result {
	return send.Result{Outcome: send.Succeeded, Verified: true, Status: 200,
		Body: []byte(`{"hash_type":"SHA1","hash_value":"` + hash + `","download_url":"` + url + `"}`)}
}

func streamOf(content []byte, length int64) send.Result {
	return send.Result{Outcome: send.Succeeded, Status: 200, Stream: io.NopCloser(bytes.NewReader(content)), Length: length}
}

// fetch runs one fetch, and checks that it leaves nothing behind.
func (f *fake) fetch(change func(*Config)) (string, error) {
	f.t.Helper()
	cfg := Config{Sender: f, Bases: []string{base, "https://api2.mch.weixin.qq.com"}, Dir: f.t.TempDir(), MaxSize: 2 << 20}
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	file, err := c.Fetch(context.Background(), Request{Kind: KindTrade, Date: "2026-11-21"})
	text := ""
	if err == nil {
		for range 2 { // readers are independent
			content, err := io.ReadAll(file.Reader())
			if err != nil || int64(len(content)) != file.Size() {
				f.t.Fatal(len(content), file.Size(), err)
			}
			text = string(content)
		}
		if err := errors.Join(file.Close(), file.Close()); err != nil {
			f.t.Error(err)
		}
		if _, err := file.Reader().Read(make([]byte, 1)); err == nil {
			f.t.Error("a closed file can be read")
		}
	}
	if len(c.files) != 0 {
		f.t.Error("a place for a file is still taken")
	}
	if entries, err := os.ReadDir(cfg.Dir); err != nil && cfg.Dir != "/nonexistent" || len(entries) > 0 {
		f.t.Error("left behind:", entries, err)
	}
	if f.download.Stream != nil && len(f.targets) == 2 && f.closed != 1 {
		f.t.Error("the download was closed", f.closed, "times")
	}
	return text, err
}

func TestFetch(t *testing.T) {
	content := []byte(fixture(t, "trade_all.csv"))
	z := zipped(t, content)
	for name, tc := range map[string]struct {
		file   []byte
		url    string
		hash   string
		length int64
	}{
		"gzip":                      {z, base + filePath, sum1(content), int64(len(z))},
		"of unknown length":         {z, base + filePath, sum1(content), -1},
		"in two members":            {append(zipped(t, content[:100]), zipped(t, content[100:])...), base + filePath, sum1(content), -1},
		"plain":                     {content, base + filePath, sum1(content), int64(len(content))},
		"the backup host":           {z, "https://api2.mch.weixin.qq.com" + filePath, sum1(content), -1},
		"the port, and upper case":  {z, "HTTPS://API.mch.weixin.qq.com:443" + filePath, strings.ToUpper(sum1(content)), -1},
		"a space as the pages have": {z, " " + base + filePath, sum1(content), -1},
		"empty":                     {nil, base + filePath, sum1(nil), 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{t: t, apply: linkTo(tc.url, tc.hash), download: streamOf(tc.file, tc.length)}
			want := string(content)
			if tc.file == nil {
				want = ""
			}
			if have, err := f.fetch(nil); err != nil || have != want {
				t.Errorf("%q %v", have, err)
			}
			if f.targets[0] != "/v3/bill/tradebill?bill_date=2026-11-21&bill_type=ALL&tar_type=GZIP" || f.targets[1] != filePath {
				t.Error(f.targets)
			}
		})
	}
}

// TestNeverHandedOut: what is not the file that WeChat Pay signed the digest of is
// not seen by anybody.
func TestNeverHandedOut(t *testing.T) {
	content := []byte(fixture(t, "trade_all.csv"))
	z := zipped(t, content)
	broken := errors.New("broken")
	flipped := bytes.Clone(z)
	flipped[len(flipped)/2] ^= 1
	bomb := zipped(t, make([]byte, 2<<20))
	for name, tc := range map[string]struct {
		stream io.Reader
		length int64
		want   error
	}{
		"another file":         {bytes.NewReader(zipped(t, []byte("another"))), -1, ErrDigest},
		"another plain file":   {strings.NewReader("another"), -1, ErrDigest},
		"a byte changed":       {bytes.NewReader(flipped), -1, ErrIncomplete},
		"a plain byte less":    {bytes.NewReader(content[:len(content)-1]), -1, ErrDigest},
		"a byte less":          {bytes.NewReader(z[:len(z)-1]), -1, ErrIncomplete},
		"half":                 {bytes.NewReader(z[:len(z)/2]), -1, ErrIncomplete},
		"a header":             {bytes.NewReader(z[:5]), -1, ErrIncomplete},
		"nothing":              {bytes.NewReader(nil), -1, ErrDigest},
		"bytes behind it":      {bytes.NewReader(append(bytes.Clone(z), 'x')), -1, ErrIncomplete},
		"zeros behind it":      {bytes.NewReader(append(bytes.Clone(z), 0, 0, 0, 0)), -1, ErrIncomplete},
		"compressed twice":     {bytes.NewReader(zipped(t, z)), -1, ErrDigest},
		"breaks off":           {io.MultiReader(bytes.NewReader(z[:len(z)/2]), iotest.ErrReader(broken)), -1, ErrIncomplete},
		"breaks off at once":   {iotest.ErrReader(broken), -1, ErrIncomplete},
		"breaks off, plain":    {io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), -1, ErrIncomplete},
		"shorter than it says": {bytes.NewReader(z), int64(len(z)) + 1, ErrIncomplete},
		"longer than it says":  {bytes.NewReader(z), int64(len(z)) - 1, ErrIncomplete},
		"too long, it says":    {bytes.NewReader(z), 4 << 20, ErrTooLarge},
		"too long, plain":      {io.LimitReader(endless{}, 3<<20), -1, ErrTooLarge},
		"too long, unpacked":   {bytes.NewReader(zipped(t, noise(2<<20+1))), -1, ErrTooLarge},
		"a bomb":               {bytes.NewReader(bomb), int64(len(bomb)), ErrBomb},
		"many bombs":           {bytes.NewReader(bytes.Repeat(zipped(t, make([]byte, 1<<20)), 4)), -1, ErrBomb},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{t: t, apply: linkTo(base+filePath, sum1(content)), download: send.Result{Status: 200, Stream: io.NopCloser(tc.stream), Length: tc.length}}
			if have, err := f.fetch(nil); !errors.Is(err, tc.want) || have != "" {
				t.Errorf("%d bytes, %v, want %v", len(have), err, tc.want)
			}
		})
	}
}

// endless gives ticks.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '`'
	}
	return len(p), nil
}

// noise is what compresses as bills do.
func noise(n int) []byte {
	out := make([]byte, n)
	state := uint32(1)
	for i := range out {
		state = state*1664525 + 1013904223
		out[i] = '0' + byte(state>>24)%4
	}
	return out
}

// TestLinks: a signed request goes to the merchant's API hosts and nowhere else.
func TestLinks(t *testing.T) {
	hash := sum1(nil)
	for name, body := range map[string]string{
		"another host":      linkJSON("https://evil.example.com"+filePath, hash),
		"a host's prefix":   linkJSON("https://api.mch.weixin.qq.com.example.com"+filePath, hash),
		"credentials":       linkJSON("https://api.mch.weixin.qq.com@example.com"+filePath, hash),
		"a password":        linkJSON("https://u:p@api.mch.weixin.qq.com"+filePath, hash),
		"another port":      linkJSON("https://api.mch.weixin.qq.com:8443"+filePath, hash),
		"plain HTTP":        linkJSON("http://api.mch.weixin.qq.com"+filePath, hash),
		"HTTP on 443":       linkJSON("http://api.mch.weixin.qq.com:443"+filePath, hash),
		"an address":        linkJSON("https://127.0.0.1"+filePath, hash),
		"metadata":          linkJSON("http://169.254.169.254/v3/latest", hash),
		"a file":            linkJSON("file:///v3/etc", hash),
		"no scheme":         linkJSON("//api.mch.weixin.qq.com"+filePath, hash),
		"a path":            linkJSON(filePath, hash),
		"another path":      linkJSON(base+"/v2/billdownload/file?token=x", hash),
		"no path":           linkJSON(base, hash),
		"only a query":      linkJSON(base+"?/v3/", hash),
		"dots":              linkJSON(base+"/v3/../secapi", hash),
		"encoded dots":      linkJSON(base+"/v3/%2e%2e/secapi", hash),
		"a double slash":    linkJSON(base+"/v3//file", hash),
		"a fragment":        linkJSON(base+filePath+"#x", hash),
		"an empty fragment": linkJSON(base+filePath+"#", hash),
		"a backslash":       linkJSON(base+`/v3/x\\\\y`, hash),
		"a space":           linkJSON(base+"/v3/x y", hash),
		"a line end":        linkJSON(base+`/v3/x\r\nHost: y`, hash),
		"not ASCII":         linkJSON(base+"/v3/账单", hash),
		"too long":          linkJSON(base+"/v3/"+strings.Repeat("x", 9<<10), hash),
		"nothing":           linkJSON("", hash),
		"MD5":               strings.Replace(linkJSON(base+filePath, hash), "SHA1", "MD5", 1),
		"a short digest":    linkJSON(base+filePath, hash[:38]),
		"no digest":         linkJSON(base+filePath, ""),
		"no hex":            linkJSON(base+filePath, strings.Repeat("x", 40)),
		"no JSON":           "x",
		"a list":            "[]",
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{t: t, apply: send.Result{Outcome: send.Succeeded, Verified: true, Status: 200, Body: []byte(body)}}
			if _, err := f.fetch(nil); !errors.Is(err, ErrLink) || len(f.targets) != 1 {
				t.Errorf("%v %q", err, f.targets)
			}
		})
	}
}

func linkJSON(url, hash string) string { return string(linkTo(url, hash).Body) }

func TestApplyRefused(t *testing.T) {
	refused := func(body string) send.Result {
		return send.Result{Outcome: send.Rejected, Verified: true, Status: 400, Body: []byte(body)}
	}
	for name, tc := range map[string]struct {
		apply send.Result
		want  error
		code  string
	}{
		"no bill":         {refused(`{"code":"NO_STATEMENT_EXIST","message":"请求的账单文件不存在"}`), ErrNoStatement, ""},
		"not ready":       {refused(`{"code":"STATEMENT_CREATING","message":"账单生成中"}`), ErrNotReady, ""},
		"wrong":           {refused(`{"code":"PARAM_ERROR","message":"x"}`), nil, "PARAM_ERROR"},
		"no code":         {refused(`x`), nil, ""},
		"text as code":    {refused(`{"code":"oUpF8u secret"}`), nil, ""},
		"5xx":             {send.Result{Outcome: send.Unknown, Verified: true, Status: 500, Body: []byte(`{"code":"SYSTEM_ERROR"}`)}, ErrUnavailable, ""},
		"unsigned no":     {send.Result{Outcome: send.Unknown, Status: 400, Body: []byte(`{"code":"NO_STATEMENT_EXIST"}`), Err: send.ErrUnverified}, ErrUnavailable, ""},
		"unsigned yes":    {send.Result{Outcome: send.Unknown, Status: 200, Body: linkTo(base+filePath, sum1(nil)).Body, Err: send.ErrUnverified}, send.ErrUnverified, ""},
		"not reached":     {send.Result{Err: send.ErrUnreachable}, ErrUnavailable, ""},
		"and it says why": {send.Result{Err: send.ErrUnreachable}, send.ErrUnreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{t: t, apply: tc.apply}
			_, err := f.fetch(nil)
			var rejected *RejectedError
			if tc.want == nil && (!errors.As(err, &rejected) || rejected.Code != tc.code || rejected.Status != 400) || tc.want != nil && !errors.Is(err, tc.want) || len(f.targets) != 1 {
				t.Errorf("%v %q", err, f.targets)
			}
		})
	}
}

func TestDownloadRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		download send.Result
		want     error
	}{
		"expired":         {send.Result{Outcome: send.Rejected, Verified: true, Status: 400}, ErrLinkExpired},
		"unsigned 404":    {send.Result{Outcome: send.Unknown, Status: 404, Err: send.ErrUnverified}, ErrLinkExpired},
		"5xx":             {send.Result{Outcome: send.Unknown, Status: 502, Err: send.ErrUnverified}, ErrUnavailable},
		"a redirect":      {send.Result{Outcome: send.Unknown, Status: 302, Err: send.ErrUnverified}, ErrUnavailable},
		"part of it":      {send.Result{Outcome: send.Succeeded, Verified: true, Status: 206}, ErrUnavailable},
		"no answer":       {send.Result{Outcome: send.Unknown, Err: send.ErrNoAnswer}, ErrUnavailable},
		"nobody is there": {send.Result{Outcome: send.Unsent, Err: send.ErrUnreachable}, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{t: t, apply: linkTo(base+filePath, sum1(nil)), download: tc.download}
			if _, err := f.fetch(nil); !errors.Is(err, tc.want) || len(f.targets) != 2 {
				t.Errorf("%v %q", err, f.targets)
			}
		})
	}
}

// TestLinkLife: an old link is not even tried.
func TestLinkLife(t *testing.T) {
	for late, want := range map[time.Duration]error{LinkLife: ErrLinkExpired, LinkLife - time.Second: nil, 0: nil} {
		now, calls := time.Unix(1_800_000_000, 0), 0
		f := &fake{t: t, apply: linkTo(base+filePath, sum1(nil)), download: streamOf(nil, 0)}
		_, err := f.fetch(func(c *Config) {
			c.Now = func() time.Time {
				if calls++; calls > 1 {
					return now.Add(late)
				}
				return now
			}
		})
		if !errors.Is(err, want) || (len(f.targets) == 2) != (want == nil) {
			t.Errorf("%v: %v %q", late, err, f.targets)
		}
		if want == nil && f.attempts[1] != min(LinkLife-late, send.DefaultAttempt) {
			t.Error(f.attempts)
		}
	}
}

func TestDisk(t *testing.T) {
	f := &fake{t: t, apply: linkTo(base+filePath, sum1(nil)), download: streamOf(nil, 0)}
	if _, err := f.fetch(func(c *Config) { c.Dir = "/nonexistent" }); !errors.Is(err, ErrDisk) {
		t.Error(err)
	}
}

// TestPlaces: a file that is not closed holds its place, and a fetch that waits
// for one ends with its caller.
func TestPlaces(t *testing.T) {
	f := &fake{t: t, apply: linkTo(base+filePath, sum1(nil)), download: streamOf(nil, 0)}
	c, err := NewClient(Config{Sender: f, Bases: []string{base}, Dir: t.TempDir(), Files: 1})
	if err != nil {
		t.Fatal(err)
	}
	request := Request{Kind: KindFundFlow, Date: "2026-11-21"}
	file, err := c.Fetch(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Fetch(ctx, request); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	f.targets, f.download = nil, streamOf(nil, 0)
	if file, err = c.Fetch(context.Background(), request); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTargets(t *testing.T) {
	for want, r := range map[string]Request{
		"/v3/bill/tradebill?bill_date=2026-11-21&bill_type=ALL&tar_type=GZIP":                                  {Kind: KindTrade, Date: "2026-11-21"},
		"/v3/bill/tradebill?bill_date=2026-11-21&bill_type=REFUND&sub_mchid=1900000109&tar_type=GZIP":          {Kind: KindTrade, Date: "2026-11-21", Type: TypeRefund, SubMchid: "1900000109"},
		"/v3/bill/tradebill?bill_date=2026-11-21&bill_type=SUC_SPECIAL&tar_type=GZIP":                          {Kind: KindTrade, Date: "2026-11-21", Type: TypeSuccessSpecial},
		"/v3/bill/fundflowbill?account_type=BASIC&bill_date=2026-11-21&tar_type=GZIP":                          {Kind: KindFundFlow, Date: "2026-11-21"},
		"/v3/bill/fundflowbill?account_type=OPERATION&bill_date=2026-11-21&sub_mchid=1900000109&tar_type=GZIP": {Kind: KindFundFlow, Date: "2026-11-21", Account: AccountOperation, SubMchid: "1900000109"},
	} {
		if have, err := r.Target(); err != nil || have != want {
			t.Errorf("%s %v, want %s", have, err, want)
		}
	}
	for _, r := range []Request{
		{}, {Kind: KindTrade}, {Date: "2026-11-21"}, {Kind: "x", Date: "2026-11-21"},
		{Kind: KindTrade, Date: "20261121"}, {Kind: KindTrade, Date: "2026-02-30"}, {Kind: KindTrade, Date: "2026-11-21&bill_type=ALL"},
		{Kind: KindTrade, Date: "2026-1-2"}, {Kind: KindTrade, Date: "2026-11-21", Type: "X"}, {Kind: KindTrade, Date: "2026-11-21", Account: AccountBasic},
		{Kind: KindTrade, Date: "2026-11-21", SubMchid: "1&x"}, {Kind: KindFundFlow, Date: "2026-11-21", Type: TypeAll},
		{Kind: KindFundFlow, Date: "2026-11-21", Account: "X"},
	} {
		if have, err := r.Target(); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %s %v", r, have, err)
		}
	}
	f := &fake{t: t}
	for _, cfg := range []Config{{}, {Sender: f}, {Bases: []string{base}}, {Sender: f, Bases: []string{"api.mch.weixin.qq.com"}}, {Sender: f, Bases: []string{"https://a b"}}} {
		if _, err := NewClient(cfg); err == nil {
			t.Errorf("%+v", cfg)
		}
	}
}
