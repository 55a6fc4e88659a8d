package payops_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// TestEverythingAtOnce mixes creates, repeats, queries, closes and
// registrations of a few numbers, with answers of every sort. Whatever happens,
// of each number one content only ever reaches WeChat Pay until a verified
// rejection frees it, and no lock is left.
func TestEverythingAtOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 1))
	pick := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	// live is the amount that WeChat Pay may hold for a number; "" for none.
	live := map[string]string{}
	g := newRig(t, rigOptions{answer: func(x got) reply {
		if x.method == "GET" {
			return reply{status: 404, body: `{"code":"ORDER_NOT_EXIST"}`}
		}
		if strings.HasSuffix(x.uri, "/close") {
			return reply{status: 204, sign: []string{"", "none"}[pick(2)]}
		}
		_, rest, _ := strings.Cut(x.body, `"out_trade_no":"`)
		number := rest[:strings.IndexByte(rest, '"')]
		_, rest, _ = strings.Cut(x.body, `"total":`)
		total := rest[:strings.IndexByte(rest, ',')]
		sort := pick(4)
		mu.Lock()
		defer mu.Unlock()
		if held := live[number]; held != "" && held != total {
			t.Errorf("%s: %s after %s", number, total, held)
		}
		switch sort {
		case 0:
			if live[number] == "" {
				return reply{status: 400, body: `{"code":"PARAM_ERROR"}`}
			}
			return reply{status: 400, body: `{"code":"INVALID_REQUEST"}`}
		case 1:
			live[number] = total
			return reply{status: 200, body: `{"code_url":"weixin://x"}`, sign: "bad"}
		}
		live[number] = total
		return codeURL(x)
	}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				number := fmt.Sprintf("N2026112%d", pick(4))
				switch pick(6) {
				case 0:
					g.do("GET", basicQuery+number, "")
				case 1:
					g.do("POST", basicQuery+number+"/close", "")
				case 2:
					g.do("PUT", ordersPath+number, fmt.Sprintf(`{"amount":{"total":%d}}`, 1+pick(3)))
				default:
					g.do("POST", nativePath, basicBody(number, fmt.Sprint(1+pick(3))))
				}
			}
		})
	}
	wg.Wait()
	for _, c := range g.ledger.allCalls() {
		if c.Outcome == storage.CallPending || c.EndedAt.IsZero() {
			t.Errorf("%+v", c)
		}
	}
}
