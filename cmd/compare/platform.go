package main

import (
	"sync"

	"github.com/caddy-wechatpay/caddy-wechatpay/internal/testplatform"
)

// platform makes the callbacks: each is a payment of its own.
type platform struct {
	*testplatform.Platform

	mu   sync.Mutex
	next int
}

func newPlatform(dir string) (*platform, error) {
	p, err := testplatform.New(dir)
	return &platform{Platform: p}, err
}

// signers is how many goroutines sign at once. Signing costs far more than
// verifying and takes most of a run's time.
const signers = 2

// callbacks signs n callbacks, each as the bytes of a whole HTTP/1.1 request.
func (p *platform) callbacks(n int) [][]byte {
	p.mu.Lock()
	first := p.next
	p.next += n
	p.mu.Unlock()
	reqs := make([][]byte, n)
	var wg sync.WaitGroup
	for part := range signers {
		wg.Go(func() {
			for i := part; i < n; i += signers {
				h, body := p.Callback(testplatform.Payment(first+i, 100))
				reqs[i] = testplatform.Wire("/wechatpay/notify/shop", h, body)
			}
		})
	}
	wg.Wait()
	return reqs
}
