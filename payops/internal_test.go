package payops

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// FuzzParseObject: gjson, encoding/json and the checks agree on
// every body that passes.
func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{
		`{"amount":{"total":1},"out_trade_no":"N12345"}`, `{"a":1,"A":2}`, `{"\u0061":1,"a":2}`, `{}`, `[]`, `null`,
		`{"a":[{"b":1,"b":2}]}`, "{\"\xff\":1}", `{"a":1}x`, `{"K":1,"` + "\u212a" + `":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseObject(body)
		if err != nil {
			return
		}
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatalf("passes, and encoding/json refuses: %v", err)
		}
		if len(m) != len(o) {
			t.Fatalf("%d members here, %d in encoding/json", len(o), len(m))
		}
		if total, ok := fen(o["total"]); ok {
			if total < 1 || gjson.GetBytes(body, "total").Int() != int64(total) {
				t.Fatalf("total %d here, %s in gjson", total, gjson.GetBytes(body, "total").Raw)
			}
		}
		if s, ok := o.text("out_trade_no"); ok && validNumber(s, storage.OrderBasic) {
			if strings.ContainsAny(s, "/.%\\?# \r\n") || gjson.GetBytes(body, "out_trade_no").String() != s {
				t.Fatalf("number %q", s)
			}
		}
	})
}

// FuzzFill: filling in changes nothing but what was missing.
func FuzzFill(f *testing.F) {
	f.Add([]byte(`{ "a" : 1 }`))
	f.Add([]byte("{}"))
	f.Add([]byte("\n{\n\"notify_url\" : null ,\"b\":\"\\u4e00\"}\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseObject(body)
		if err != nil {
			return
		}
		d := &draft{body: body}
		if refused := d.fill(o, "notify_url", "https://a.example.com/n"); refused != nil {
			return
		}
		after, err := parseObject(d.body)
		if err != nil {
			t.Fatalf("%q became %q: %v", body, d.body, err)
		}
		if s, _ := after.text("notify_url"); s == "" {
			t.Fatalf("%q became %q", body, d.body)
		}
		delete(o, "notify_url")
		delete(after, "notify_url")
		if fmt.Sprint(o) != fmt.Sprint(after) {
			t.Fatalf("%q became %q", body, d.body)
		}
	})
}

// TestSjsonKeepsBytes pins what the filling in rests on.
func TestSjsonKeepsBytes(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                             `{"k":"v"}`,
		`{"a":1.50}`:                     `{"a":1.50,"k":"v"}`,
		"{ \"a\" : [ 1 , 2 ] ,\"b\":{}}": "{ \"a\" : [ 1 , 2 ] ,\"b\":{},\"k\":\"v\"}",
		`{"k" : null ,"\u0061":1e2}`:     `{"k" : "v" ,"\u0061":1e2}`,
		`{"k":"","z":"\/"}`:              `{"k":"v","z":"\/"}`,
	} {
		got, err := sjson.SetBytes([]byte(in), "k", "v")
		if err != nil || string(got) != want {
			t.Errorf("%s: %s %v, want %s", in, got, err, want)
		}
	}
}

func TestContent(t *testing.T) {
	base := storage.Order{
		Kind: storage.OrderCombine, Key: storage.OrderKey{Mchid: "1", Number: "n"}, Appid: "wx1",
		Amount: storage.Money{Total: 3, Currency: "CNY"},
		Subs: []storage.SubOrder{
			{Mchid: "1", OutTradeNo: "a", Amount: storage.Money{Total: 1, Currency: "CNY"}},
			{Mchid: "1", OutTradeNo: "b", Amount: storage.Money{Total: 2, Currency: "CNY"}},
		},
	}
	seen := map[string]string{contentOf(base): "base"}
	swapped := base
	swapped.Subs = []storage.SubOrder{base.Subs[1], base.Subs[0]}
	if contentOf(swapped) != contentOf(base) {
		t.Error("the order of sub-orders matters")
	}
	for name, change := range map[string]func(*storage.Order){
		"kind":       func(o *storage.Order) { o.Kind = storage.OrderBasic },
		"payee":      func(o *storage.Order) { o.Key.Mchid = "2" },
		"sub payee":  func(o *storage.Order) { o.Key.SubMchid = "2" },
		"amount":     func(o *storage.Order) { o.Amount.Total = 4 },
		"currency":   func(o *storage.Order) { o.Amount.Currency = "USD" },
		"appid":      func(o *storage.Order) { o.Appid = "wx2" },
		"no subs":    func(o *storage.Order) { o.Subs = nil },
		"sub amount": func(o *storage.Order) { o.Subs[0].Amount.Total = 2 },
		"sub mchid":  func(o *storage.Order) { o.Subs[0].Mchid = "2" },
		"sub number": func(o *storage.Order) { o.Subs[0].OutTradeNo = "c" },
		"shifted":    func(o *storage.Order) { o.Subs[0].Mchid, o.Subs[0].SubMchid = "", "1" },
	} {
		o := base
		o.Subs = append([]storage.SubOrder(nil), base.Subs...)
		change(&o)
		digest := contentOf(o)
		if other, ok := seen[digest]; ok {
			t.Errorf("%s has the content of %s", name, other)
		}
		seen[digest] = name
	}
}

func TestAddFen(t *testing.T) {
	if _, ok := addFen(math.MaxInt64, 1); ok {
		t.Error("overflow passes")
	}
	if sum, ok := addFen(math.MaxInt64-1, 1); !ok || sum != math.MaxInt64 {
		t.Error(sum, ok)
	}
}

func TestKeyLocks(t *testing.T) {
	var l Locks
	key := func(n int) storage.OrderKey { return storage.OrderKey{Mchid: "1", Number: fmt.Sprint(n)} }
	ctx := context.Background()

	// Any number of callers with overlapping keys, in any order: no deadlock,
	// and one at a time.
	var wg sync.WaitGroup
	var inside [4]int
	for i := range 40 {
		wg.Go(func() {
			for range 25 {
				unlock, err := l.lock(ctx, key(i%4), key((i+1)%4), key(i%4))
				if err != nil {
					t.Error(err)
					return
				}
				inside[i%4]++ // the race detector watches
				inside[(i+1)%4]++
				unlock()
			}
		})
	}
	wg.Wait()
	if len(l.locks) != 0 {
		t.Errorf("%d locks are left", len(l.locks))
	}

	unlock, err := l.lock(ctx, key(1))
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := l.lock(short, key(0), key(1), key(2)); err == nil {
		t.Error("a held lock was taken")
	}
	unlock()
	if len(l.locks) != 0 {
		t.Errorf("%d locks are left", len(l.locks))
	}
}
