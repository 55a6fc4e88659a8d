//go:build interop

package interop

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/operation"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// seedVariable repeats a choice of operations; "all" chooses every one.
const seedVariable = "OPERATIONS_SEED"

// exchange is a request as it was on the wire.
type exchange struct {
	method, uri string
	header      http.Header
	body        []byte
}

// log remembers exchanges.
type exchanges struct {
	mu  sync.Mutex
	all []exchange
}

// read takes a request off the wire and remembers it.
func (l *exchanges) read(r *http.Request) (exchange, error) {
	body, err := io.ReadAll(r.Body)
	x := exchange{r.Method, r.RequestURI, r.Header.Clone(), body}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, x)
	return x, err
}

func (l *exchanges) list() []exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// passage stands before the gateway and remembers what callers put on the wire.
func passage(t *testing.T, gateway string) (url string, seen *exchanges) {
	t.Helper()
	seen = new(exchanges)
	base := strings.TrimPrefix(gateway, "http://")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, err := seen.read(r)
		if err != nil {
			http.Error(w, "cut short", http.StatusBadRequest)
			return
		}
		resp, err := http.DefaultTransport.RoundTrip(rawRequest(base, x))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body) // the caller may be gone
	}))
	t.Cleanup(s.Close)
	return s.URL, seen
}

// rawRequest is the exchange's request to another host, byte for byte.
func rawRequest(host string, x exchange) *http.Request {
	r := &http.Request{
		Method: x.method, URL: &url.URL{Scheme: "http", Host: host, Opaque: x.uri}, Host: host,
		Header: x.header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if len(x.body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(x.body)), int64(len(x.body))
	}
	return r
}

// upstream is a WeChat Pay that remembers what arrives and signs what it answers.
type upstream struct {
	exchanges
	key  *rsa.PrivateKey
	id   string // of the key
	file []byte // what downloads answer, which WeChat Pay does not sign

	downloads map[string]bool // their paths
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := u.read(r); err != nil {
		http.Error(w, "cut short", http.StatusBadRequest)
		return
	}
	h := w.Header()
	h.Set("Request-ID", "08F78BD7A00610-01")
	if u.downloads[r.URL.Path] {
		h.Set("Content-Type", "application/x-gzip")
		_, _ = w.Write(u.file)
		return
	}
	body := []byte("{ \"remark\": \"微信 \\\"<&>\\\"\",\n\"code_url\":\"weixin://wxpay/bizpayurl?pr=p4lpSuKzz\" }")
	timestamp, nonce := strconv.FormatInt(time.Now().Unix(), 10), hex.EncodeToString(body[:16])
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n", timestamp, nonce, body))
	signature, err := rsa.SignPKCS1v15(rand.Reader, u.key, crypto.SHA256, sum[:])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Wechatpay-Timestamp", timestamp)
	h.Set("Wechatpay-Nonce", nonce)
	h.Set("Wechatpay-Serial", u.id)
	h.Set("Wechatpay-Signature", base64.StdEncoding.EncodeToString(signature))
	h.Set("Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048")
	_, _ = w.Write(body)
}

// chosen is one operation as operations.js reads it.
type chosen struct {
	Name      string         `json:"name"`
	Method    string         `json:"method"` // lower case, as the plugin has its verbs
	Path      string         `json:"path"`
	Params    map[string]any `json:"params,omitempty"`
	Data      any            `json:"data,omitempty"`
	Multipart bool           `json:"multipart"`
	Download  bool           `json:"download"`
}

// choose takes one operation of each group, method and kind of body; without
// randomness it takes all.
func choose(random *mathrand.Rand) []chosen {
	kinds := make(map[string][]*operation.Operation)
	for _, o := range operation.All() {
		kind := fmt.Sprintf("%s %s", o.Group, o.Method)
		if o.Multipart {
			kind += " multipart"
		}
		if o.Act == operation.ActDownload {
			kind += " download"
		}
		kinds[kind] = append(kinds[kind], o)
	}
	var out []chosen
	if random == nil {
		for i, o := range operation.All() {
			out = append(out, exampleOf(o, i))
		}
		return out
	}
	for i, kind := range slices.Sorted(func(yield func(string) bool) {
		for kind := range kinds {
			if !yield(kind) {
				return
			}
		}
	}) {
		all := kinds[kind]
		slices.SortFunc(all, func(a, b *operation.Operation) int { return cmp.Compare(a.String(), b.String()) })
		c := exampleOf(all[random.IntN(len(all))], i)
		c.Name = kind + ": " + c.Name
		out = append(out, c)
	}
	return out
}

// notifyURL is what orders of the choice carry.
const notifyURL = "https://pay.example.com/notify"

// awkward is a value that has to be escaped in a query. It has no apostrophe: the
// plugin signs one escaped and sends it bare.
const awkward = "一 &=+*~"

// parameter is one of a path template.
var parameter = regexp.MustCompile(`\{[a-z_A-Z0-9]+\}`)

// exampleOf is a request of an operation that leaves the gateway nothing to fill
// in. Where the gateway has rules about its numbers or its money, it keeps them.
func exampleOf(o *operation.Operation, n int) chosen {
	number := fmt.Sprintf("N%07d-_*", n)
	c := chosen{
		Name: o.String(), Method: strings.ToLower(o.Method),
		Multipart: o.Multipart, Download: o.Act == operation.ActDownload,
	}
	c.Path = parameter.ReplaceAllStringFunc(o.Path, func(name string) string {
		switch name {
		case "{empty}":
			return ""
		case "{transaction_id}":
			return "4200000000202611220000000000"
		}
		return number
	})
	type object = map[string]any
	const description = `图书 "<&>"`
	yuan := object{"total": 100, "currency": "CNY"}
	sub := func(i int) object {
		return object{
			"mchid": shopMchid, "out_trade_no": fmt.Sprintf("%s%d", number, i), "description": description, "attach": "",
			"amount": object{"total_amount": 100, "currency": "CNY"},
		}
	}
	switch o.Act {
	case operation.ActCreate:
		switch o.Kind {
		case storage.OrderCombine:
			c.Data = object{
				"combine_appid": appid, "combine_mchid": shopMchid, "combine_out_trade_no": number, "notify_url": notifyURL,
				"sub_orders": []object{sub(1), sub(2)},
			}
		case storage.OrderPartner:
			c.Data = object{
				"sp_appid": appid, "sp_mchid": shopMchid, "sub_mchid": subMchid, "out_trade_no": number,
				"description": description, "notify_url": notifyURL, "amount": yuan,
			}
		case storage.OrderBasic, storage.OrderParking:
			c.Data = object{
				"appid": appid, "mchid": shopMchid, "out_trade_no": number, "description": description,
				"notify_url": notifyURL, "amount": yuan,
			}
		}
		if o.CodePay() {
			delete(c.Data.(object), "notify_url")
		}
	case operation.ActClose:
		switch o.Kind {
		case storage.OrderCombine:
			c.Data = object{"combine_appid": appid, "sub_orders": []object{{"mchid": shopMchid, "out_trade_no": number}}}
		case storage.OrderPartner:
			c.Data = object{"sp_mchid": shopMchid, "sub_mchid": subMchid}
		case storage.OrderBasic, storage.OrderParking:
			c.Data = object{"mchid": shopMchid}
		}
	case operation.ActQuery:
		c.Params = object{"a": awkward, "mchid": shopMchid}
		if o.Kind == storage.OrderPartner {
			c.Params = object{"a": awkward, "sp_mchid": shopMchid, "sub_mchid": subMchid}
		}
	case operation.ActReverse:
		c.Data = object{"mchid": shopMchid, "appid": appid}
		if o.Kind == storage.OrderPartner {
			c.Data = object{"sp_mchid": shopMchid, "sp_appid": appid, "sub_mchid": subMchid}
		}
	case operation.ActRefund:
		c.Data = object{"out_trade_no": number, "out_refund_no": "R" + number, "amount": object{"refund": 1, "total": 100, "currency": "CNY"}}
		if strings.Contains(o.Path, "ecommerce") {
			c.Data.(object)["sub_mchid"], c.Data.(object)["sp_appid"] = subMchid, appid
		}
	case operation.ActEnterParking:
		c.Data = object{
			"out_parking_no": number, "plate_number": "粤B888888", "plate_color": "BLUE", "notify_url": "https://pay.example.com/n",
			"start_time": "2026-11-22T10:00:00+08:00", "parking_name": description, "free_duration": 3600,
		}
	case operation.ActChargeParking:
		c.Data = object{
			"appid": appid, "description": description, "out_trade_no": number, "trade_scene": "PARKING",
			"notify_url": "https://pay.example.com/n", "amount": yuan,
			"parking_info": object{
				"parking_id": "5K8264ILTKCH16CQ250", "plate_number": "粤B888888", "plate_color": "BLUE", "start_time": "2026-11-22T10:00:00+08:00",
				"end_time": "2026-11-22T11:00:00+08:00", "parking_name": description, "charging_duration": 3600, "device_id": "1",
			},
		}
	case operation.ActAbnormalRefund:
		c.Data = object{"out_refund_no": "R" + number, "type": "MERCHANT_BANK_CARD"}
	default:
		if o.Method == http.MethodPost && o.Number != nil {
			c.Data = numbered(o, number)
			break
		}
		c.Params = object{"z": "(x)|y", "a": awkward, "list": []string{"b", "a"}}
		if o.Act == operation.ActQueryNumber && !o.Number.InPath(o) {
			c.Params[o.Number.Field] = number
		}
		if o.Method != http.MethodGet && o.Method != http.MethodDelete {
			c.Data = object{"b": 1.5, "a": "一\u2028\"<&>\\", "c": []any{nil, true, object{}}}
		}
	}
	return c
}

// numbered is the body of an operation that the gateway knows by a number of the
// merchant's: the number, the amounts, and what the gateway would fill in.
func numbered(o *operation.Operation, number string) map[string]any {
	body := map[string]any{"remark": `"<&>" 一`}
	if !o.Number.InPath(o) {
		set(body, o.Number.Field, number)
	}
	for _, path := range o.Number.Amounts {
		set(body, path, 1)
	}
	for _, name := range o.Number.Fill {
		value := appid
		if name == "notify_url" {
			value = notifyURL
		}
		set(body, name, value)
	}
	return body
}

// set sets the member at a path such as receivers[].amount, in the one element
// of each list on the way.
func set(into map[string]any, path string, value any) {
	name, rest, more := strings.Cut(path, ".")
	name, list := strings.CutSuffix(name, "[]")
	if !more {
		into[name] = value
		return
	}
	child := map[string]any{}
	switch have := into[name].(type) {
	case map[string]any:
		child = have
	case []any:
		child = have[0].(map[string]any)
	}
	set(child, rest, value)
	into[name] = child
	if list {
		into[name] = []any{child}
	}
}

// TestOperations has wechatpay-axios-plugin send one operation of each group and
// method through the gateway, chosen at random: what arrives at WeChat Pay has
// the caller's URL and body, byte for byte, and the merchant's signature.
func TestOperations(t *testing.T) {
	npmInstall(t)
	all := choose(randomness(t))
	if len(all) < 25 {
		t.Fatalf("chose only %d operations", len(all))
	}

	dir := t.TempDir()
	caller, merchant, platform := newKeyFiles(t, dir, "caller"), newKeyFiles(t, dir, "merchant"), newKeyFiles(t, dir, "platform")
	up := &upstream{key: platform.key, id: shopPublicKeyID, file: bytes.Repeat([]byte("\x1f\x8b\x00,`1.00\r\n"), 100_000)}
	up.downloads = make(map[string]bool)
	for _, o := range all {
		if o.Download {
			up.downloads[o.Path] = true
		}
	}
	api := httptest.NewServer(up)
	t.Cleanup(api.Close)
	shop := fmt.Sprintf("http://127.0.0.1:%d", freePorts(t, 1)[0])
	startGateway(t, gatewayOptions{
		backend: "127.0.0.1:1",
		merchants: fmt.Sprintf(`merchant shop {
			mchid %s
			app %s official
			serial_no %s
			private_key %s
			apiv3_key %s
			public_key %s %s
			api_base %s
		}`, shopMchid, appid, shopSerial, merchant.private, shopAPIv3Key, shopPublicKeyID, platform.public, api.URL),
		sites: fmt.Sprintf(`%s {
	bind 127.0.0.1
	handle {
		wechatpay_api shop {
			caller %[2]s key %[3]s %[4]s
			allow %[2]s *
		}
	}
}`, shop, callerName, callerSerial, caller.public),
	})
	entrance, sent := passage(t, shop)

	operations, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "operations.json")
	if err := os.WriteFile(file, operations, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(up.file)
	runNode(t, "operations.js", len(all), environment(
		t, "GATEWAY_URL="+entrance, "MCHID="+shopMchid, "CALLER_SERIAL="+callerSerial, "CALLER_KEY="+caller.private,
		"PLATFORM_ID="+shopPublicKeyID, "PLATFORM_PUBLIC_KEY="+platform.public,
		"OPERATIONS_FILE="+file, "FILE_SHA1="+hex.EncodeToString(sum[:]),
	))

	left, arrived := sent.list(), up.list()
	if len(left) != len(all) {
		t.Errorf("the plugin sent %d requests, want %d", len(left), len(all))
	}
	for i, x := range left {
		name := all[min(i, len(all)-1)].Name
		var here []exchange
		for _, y := range arrived {
			if y.method == x.method && y.uri == x.uri {
				here = append(here, y)
			}
		}
		if len(here) != 1 {
			t.Errorf("%s: %s %s arrived %d times", name, x.method, x.uri, len(here))
			continue
		}
		if !bytes.Equal(here[0].body, x.body) {
			t.Errorf("%s: arrived with the body\n%q\nwant\n%q", name, here[0].body, x.body)
		}
		for _, h := range []string{"Content-Type", "Accept", "User-Agent", "Wechatpay-Serial"} {
			if got, want := here[0].header.Get(h), x.header.Get(h); got != want {
				t.Errorf("%s: arrived with %s %q, want %q", name, h, got, want)
			}
		}
		if err := here[0].verify(shopMchid, shopSerial, &merchant.key.PublicKey); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// randomness is of the seed that the environment gives, or of one that it prints.
func randomness(t *testing.T) *mathrand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	switch given := os.Getenv(seedVariable); given {
	case "":
	case "all":
		return nil
	default:
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d repeats this choice", seedVariable, seed)
	return mathrand.New(mathrand.NewPCG(seed, 0))
}

// authorization takes an Authorization header apart.
var authorization = regexp.MustCompile(`^WECHATPAY2-SHA256-RSA2048 (.*)$`)

// verify checks the Authorization as WeChat Pay describes it
// (https://pay.weixin.qq.com/doc/v3/merchant/4012365336).
func (x exchange) verify(mchid, serial string, key *rsa.PublicKey) error {
	m := authorization.FindStringSubmatch(x.header.Get("Authorization"))
	if m == nil {
		return fmt.Errorf("no Authorization of this type")
	}
	fields := make(map[string]string)
	for part := range strings.SplitSeq(m[1], ",") {
		name, value, _ := strings.Cut(part, "=")
		fields[name] = strings.Trim(value, `"`)
	}
	if fields["mchid"] != mchid {
		return fmt.Errorf("signed for mchid %s", fields["mchid"])
	}
	want, _ := new(big.Int).SetString(serial, 16)
	if have, ok := new(big.Int).SetString(fields["serial_no"], 16); !ok || have.Cmp(want) != 0 {
		return fmt.Errorf("signed with serial_no %s", fields["serial_no"])
	}
	at, err := strconv.ParseInt(fields["timestamp"], 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("signed at %s", fields["timestamp"])
	}
	signed, err := x.signed()
	if err != nil {
		return err
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(fields["signature"])
	if err != nil {
		return err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%s\n", x.method, x.uri, fields["timestamp"], fields["nonce_str"], signed))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature)
}

// signed is what of the body is signed: of an upload, its meta.
func (x exchange) signed() ([]byte, error) {
	media, params, err := mime.ParseMediaType(x.header.Get("Content-Type"))
	if err != nil || media != "multipart/form-data" {
		return x.body, nil
	}
	form := multipart.NewReader(bytes.NewReader(x.body), params["boundary"])
	for {
		part, err := form.NextRawPart()
		if err != nil {
			return nil, err
		}
		if part.FormName() == "meta" {
			return io.ReadAll(part)
		}
	}
}
