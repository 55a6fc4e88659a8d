package payops_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestFiftyCreatesOfOneNumber(t *testing.T) {
	g := newRig(t, rigOptions{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 50 {
		wg.Go(func() {
			r := g.do("POST", nativePath, basicBody("N20261122", fmt.Sprint(100+i)))
			mu.Lock()
			defer mu.Unlock()
			statuses[r.StatusCode]++
		})
	}
	wg.Wait()
	if statuses[200] != 1 || statuses[409] != 49 {
		t.Errorf("%v", statuses)
	}
	sent := g.wx.requests()
	if len(sent) != 1 || !strings.Contains(sent[0].body, fmt.Sprintf(`"total":%d,`, g.order("N20261122").Amount.Total)) {
		t.Errorf("%d sent; %+v", len(sent), g.order("N20261122"))
	}
}

func TestRepeatWaitsForTheRunningCall(t *testing.T) {
	running, hold := make(chan struct{}, 2), make(chan struct{})
	g := newRig(t, rigOptions{answer: func(x got) reply {
		running <- struct{}{}
		<-hold
		return codeURL(x)
	}})
	results := make(chan int, 2)
	for range 2 {
		go func() { results <- g.do("POST", nativePath, basicBody("N20261122", "100")).StatusCode }()
	}
	<-running
	if n := len(g.wx.requests()); n != 1 {
		t.Errorf("%d at once", n)
	}
	close(hold)
	if a, b := <-results, <-results; a != 200 || b != 200 {
		t.Error(a, b)
	}
	if n := len(g.ledger.allCalls()); n != 2 {
		t.Errorf("%d calls", n)
	}
}

func TestCallerThatStopsWaitingForARepeat(t *testing.T) {
	running, hold := make(chan struct{}), make(chan struct{})
	g := newRig(t, rigOptions{answer: func(x got) reply {
		close(running)
		<-hold
		return codeURL(x)
	}})
	first := make(chan int)
	go func() { first <- g.do("POST", nativePath, basicBody("N20261122", "100")).StatusCode }()
	<-running
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := g.serve(newRequest(ctx, "POST", nativePath, basicBody("N20261122", "100")))
	if r.Header.Get("Retry-After") != "1" {
		t.Error(r.Header)
	}
	g.refused("gone while waiting", r, 429, payops.RuleBusy)
	close(hold)
	if status := <-first; status != 200 || len(g.ledger.allCalls()) != 1 {
		t.Error(status, g.ledger.allCalls())
	}
	g.refused("gone before the intent", g.serve(newRequest(ctx, "POST", nativePath, basicBody("N20261123", "100"))), 429, payops.RuleBusy)
	if n := len(g.ledger.allCalls()); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestCallerThatDisconnectsChangesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	g := newRig(t, rigOptions{answer: func(x got) reply {
		cancel()
		return codeURL(x)
	}})
	r := newRequest(ctx, "POST", nativePath, basicBody("N20261122", "100"))
	g.serve(r)
	if o, c := g.order("N20261122"), g.lastCall(); o.State != storage.OrderCreated || c.Outcome != storage.CallSucceeded {
		t.Errorf("%+v %+v", o, c)
	}
}
