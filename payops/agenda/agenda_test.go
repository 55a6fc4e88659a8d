package agenda

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// fake is an agenda in memory, by the contract's words.
type fake struct {
	mu    sync.Mutex
	work  map[string]*item
	fence uint64
	fails error // of ClaimWork
}

type item struct {
	storage.Work
	fence uint64
	until time.Time
}

func newFake(list ...storage.Work) *fake {
	f := &fake{work: map[string]*item{}}
	for _, w := range list {
		f.work[w.Kind+"/"+w.ID] = &item{Work: w}
	}
	return f
}

func (f *fake) ScheduleWork(_ context.Context, w storage.Work) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.work[w.Kind+"/"+w.ID] = &item{Work: w}
	return nil
}

func (f *fake) ClaimWork(_ context.Context, kind string, terms storage.ClaimTerms, limit int) ([]storage.ClaimedWork, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		return nil, f.fails
	}
	var due []*item
	now := time.Now()
	for _, w := range f.work {
		if w.Kind == kind && !w.Due.After(now) && !w.until.After(now) {
			due = append(due, w)
		}
	}
	slices.SortFunc(due, func(a, b *item) int { return a.Due.Compare(b.Due) })
	var list []storage.ClaimedWork
	for _, w := range due[:min(limit, len(due))] {
		f.fence++
		w.fence, w.until = f.fence, now.Add(terms.Lease)
		list = append(list, storage.ClaimedWork{Work: w.Work, Fence: w.fence, LeaseUntil: w.until})
	}
	return list, nil
}

func (f *fake) FinishWork(_ context.Context, kind, id string, fence uint64, next time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.work[kind+"/"+id]
	switch {
	case w == nil:
		return storage.ErrNotFound
	case w.fence != fence:
		return storage.ErrStale
	case next.IsZero():
		delete(f.work, kind+"/"+id)
		return nil
	}
	w.Due, w.until, w.fence = next, time.Time{}, 0
	w.Attempt++
	return nil
}

func (f *fake) get(id string) (storage.Work, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.work[id]
	if w == nil {
		return storage.Work{}, false
	}
	return w.Work, true
}

// results counts by result.
type results struct {
	mu sync.Mutex
	n  map[Result]int
}

func (r *results) Worked(_, _ string, result Result, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = map[Result]int{}
	}
	r.n[result]++
}

func start(t *testing.T, cfg Config) *Runner {
	t.Helper()
	if cfg.Owner == "" {
		cfg.Owner = "test"
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Start()
	r.Start() // twice is once
	return r
}

func stop(t *testing.T, r *Runner) {
	t.Helper()
	if err := r.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestDueWorkIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := newFake(
			storage.Work{Kind: "close", ID: "now", Merchant: "shop", Due: began.Add(-time.Hour), Payload: []byte("p")},
			storage.Work{Kind: "close", ID: "later", Due: began.Add(time.Minute)},
			storage.Work{Kind: "other", ID: "foreign", Due: began.Add(-time.Hour)},
		)
		var seen results
		at := map[string]time.Duration{}
		var mu sync.Mutex
		r := start(t, Config{Agenda: f, Observer: &seen, Kinds: []Kind{{Name: "close", Do: func(_ context.Context, w storage.Work) (time.Time, error) {
			mu.Lock()
			defer mu.Unlock()
			if w.ID == "now" && (w.Merchant != "shop" || string(w.Payload) != "p") {
				t.Errorf("got %+v", w)
			}
			at[fmt.Sprintf("%s %d", w.ID, w.Attempt)] = time.Since(began)
			if w.ID == "later" && w.Attempt == 0 {
				return time.Now().Add(time.Minute), nil
			}
			return time.Time{}, nil
		}}}})
		time.Sleep(3 * time.Minute) // of the test's own clock
		stop(t, r)
		for name, want := range map[string]time.Duration{"now 0": 0, "later 0": time.Minute, "later 1": 2 * time.Minute} {
			if got, ok := at[name]; !ok || got < want || got > want+3*time.Second {
				t.Errorf("%s at %v, %v", name, got, ok)
			}
		}
		if len(at) != 3 || seen.n[Done] != 2 || seen.n[Again] != 1 {
			t.Errorf("%v %v", at, seen.n)
		}
		if _, ok := f.get("other/foreign"); !ok || len(f.work) != 1 {
			t.Error("work of another kind was touched")
		}
	})
}

func TestWorkersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for i := range 50 {
			_ = f.ScheduleWork(t.Context(), storage.Work{Kind: "k", ID: fmt.Sprint(i), Due: time.Now()})
		}
		var mu sync.Mutex
		running, most, total := 0, 0, map[string]int{}
		do := func(_ context.Context, w storage.Work) (time.Time, error) {
			mu.Lock()
			running++
			most = max(most, running)
			total[w.ID]++
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			return time.Time{}, nil
		}
		began := time.Now()
		// Two runners share the agenda, three workers each.
		a := start(t, Config{Agenda: f, Owner: "a", Kinds: []Kind{{Name: "k", Do: do, Workers: 3}}})
		b := start(t, Config{Agenda: f, Owner: "b", Kinds: []Kind{{Name: "k", Do: do, Workers: 3}}})
		for len(f.left()) > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("took %v: a full batch waits for the next poll", took)
		}
		stop(t, a)
		stop(t, b)
		if most != 6 || len(total) != 50 {
			t.Errorf("%d at once, %d done", most, len(total))
		}
		for id, n := range total {
			if n != 1 {
				t.Errorf("%s done %d times", id, n)
			}
		}
	})
}

func (f *fake) left() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for id := range f.work {
		ids = append(ids, id)
	}
	return ids
}

func TestFailuresComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(
			storage.Work{Kind: "k", ID: "panics", Due: time.Now()},
			storage.Work{Kind: "k", ID: "fails", Due: time.Now()},
			storage.Work{Kind: "k", ID: "names a time", Due: time.Now()},
		)
		var seen results
		var mu sync.Mutex
		times := map[string][]time.Duration{}
		began := time.Now()
		r := start(t, Config{Agenda: f, Observer: &seen, Jitter: func() float64 { return 0.5 }, Kinds: []Kind{{
			Name: "k", Do: func(_ context.Context, w storage.Work) (time.Time, error) {
				mu.Lock()
				times[w.ID] = append(times[w.ID], time.Since(began).Truncate(time.Second))
				mu.Unlock()
				if w.Attempt == 3 {
					return time.Time{}, nil
				}
				switch w.ID {
				case "panics":
					panic("hush")
				case "fails":
					return time.Time{}, errors.New("no")
				}
				return time.Now().Add(time.Second), errors.New("no")
			},
		}}})
		time.Sleep(10 * time.Minute)
		stop(t, r)
		for id, want := range map[string][]time.Duration{
			"panics":       {0, 10 * time.Second, 30 * time.Second, 70 * time.Second},
			"fails":        {0, 10 * time.Second, 30 * time.Second, 70 * time.Second},
			"names a time": {0, time.Second, 2 * time.Second, 3 * time.Second},
		} {
			if !slices.Equal(times[id], want) {
				t.Errorf("%s at %v", id, times[id])
			}
		}
		if seen.n[Failed] != 9 || seen.n[Done] != 3 || len(f.work) != 0 {
			t.Errorf("%v, %d left", seen.n, len(f.work))
		}
	})
}

func TestRetryGrows(t *testing.T) {
	for attempt, want := range map[int]time.Duration{
		-1: time.Hour, 0: 10 * time.Second, 1: 20 * time.Second, 3: 80 * time.Second, 8: 2560 * time.Second, 9: time.Hour, 1000: time.Hour,
	} {
		if got := Retry(attempt); got != want {
			t.Errorf("Retry(%d) = %v, want %v", attempt, got, want)
		}
	}
}

// A store that fails is asked again; nothing else happens.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(storage.Work{Kind: "k", ID: "1", Due: time.Now()})
		f.fails = storage.ErrCorrupt
		done := make(chan struct{})
		r := start(t, Config{Agenda: f, Kinds: []Kind{{Name: "k", Do: func(context.Context, storage.Work) (time.Time, error) {
			close(done)
			return time.Time{}, nil
		}}}})
		time.Sleep(time.Minute)
		f.mu.Lock()
		f.fails = nil
		f.mu.Unlock()
		<-done
		stop(t, r)
	})
}

// Stop waits for handlers, and cuts off those that go on for too long: their work
// is due at once for the next runner.
func TestStopGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		due := time.Now()
		f := newFake(storage.Work{Kind: "k", ID: "long", Due: due}, storage.Work{Kind: "k", ID: "late", Due: due.Add(time.Second * 30)})
		var seen results
		entered := make(chan struct{})
		r := start(t, Config{Agenda: f, Observer: &seen, Kinds: []Kind{{Name: "k", Do: func(ctx context.Context, _ storage.Work) (time.Time, error) {
			close(entered)
			<-ctx.Done()
			return time.Time{}, ctx.Err()
		}}}})
		<-entered
		r.Halt()
		time.Sleep(40 * time.Second)
		if w, _ := f.get("k/late"); w.Attempt != 0 {
			t.Error("claimed after Halt")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		w, ok := f.get("k/long")
		if !ok || !w.Due.Equal(due) || seen.n[Returned] != 1 {
			t.Errorf("%+v %v %v", w, ok, seen.n)
		}
		stop(t, r)
		r.Start() // after Halt it does nothing
	})
}

// A handler has its lease and no more.
func TestHandlerEndsBeforeItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(storage.Work{Kind: "k", ID: "1", Due: time.Now()})
		began := time.Now()
		var first sync.Once
		ended := make(chan time.Duration, 1)
		r := start(t, Config{Agenda: f, Kinds: []Kind{{Name: "k", Lease: 10 * time.Second, Do: func(ctx context.Context, _ storage.Work) (time.Time, error) {
			first.Do(func() {
				<-ctx.Done()
				ended <- time.Since(began)
			})
			return time.Time{}, ctx.Err()
		}}}})
		if got := <-ended; got != 9*time.Second {
			t.Errorf("ended after %v", got)
		}
		time.Sleep(time.Minute)
		stop(t, r)
	})
}

func TestNewRefuses(t *testing.T) {
	do := func(context.Context, storage.Work) (time.Time, error) { return time.Time{}, nil }
	for name, cfg := range map[string]Config{
		"no agenda":  {Owner: "o"},
		"no owner":   {Agenda: newFake()},
		"no name":    {Agenda: newFake(), Owner: "o", Kinds: []Kind{{Do: do}}},
		"no handler": {Agenda: newFake(), Owner: "o", Kinds: []Kind{{Name: "k"}}},
		"twice":      {Agenda: newFake(), Owner: "o", Kinds: []Kind{{Name: "k", Do: do}, {Name: "k", Do: do}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
