package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// memoTo makes a change that leaves a memo of the data, for as long as given.
func (e *env) memoTo(name, data string, keep time.Duration) func(*storage.Rows) error {
	return func(r *storage.Rows) error {
		r.Memos[name] = &storage.Memo{Key: name, Data: []byte(data), Expires: e.clock.Now().Add(keep)}
		return nil
	}
}

func (e *env) putMemo(name, data string, keep time.Duration) {
	e.Helper()
	e.ok(e.s.Change(e.ctx, storage.Keys{Memos: []string{name}}, e.memoTo(name, data, keep)))
}

// memo checks what a memo holds; no data means that there is none.
func (e *env) memo(name, want string) {
	e.Helper()
	m, err := e.s.Memo(e.ctx, name)
	if want == "" {
		e.is(err, storage.ErrNotFound)
	} else {
		e.ok(err)
		e.equal(m.Key, name)
		e.equal(string(m.Data), want)
	}
	// A change sees the same.
	e.is(e.s.Change(e.ctx, storage.Keys{Memos: []string{name}}, func(r *storage.Rows) error {
		if m := r.Memos[name]; (m == nil) != (want == "") || m != nil && (string(m.Data) != want || m.Key != name) {
			e.Errorf("in a change: %+v, want %.100q", m, want)
		}
		return errChange
	}), errChange)
}

var memoTests = []test{
	{"RoundTrip", func(e *env) {
		e.memo("a", "")
		e.putMemo("a", "one", time.Hour)
		e.putMemo("a/b", "other", time.Hour)
		e.memo("a", "one")
		e.putMemo("a", "two", time.Hour)
		e.memo("a", "two")
		e.ok(e.s.Change(e.ctx, storage.Keys{Memos: []string{"a", "a", ""}}, func(r *storage.Rows) error {
			e.equal(len(r.Memos), 1)
			r.Memos["a"].Data[0] = 'T'
			return nil
		}))
		e.memo("a", "Two")
		e.ok(e.s.Change(e.ctx, storage.Keys{Memos: []string{"a"}}, func(r *storage.Rows) error {
			delete(r.Memos, "a")
			return nil
		}))
		e.memo("a", "")
		e.ok(e.s.Change(e.ctx, storage.Keys{Memos: []string{"a/b"}}, func(r *storage.Rows) error {
			r.Memos["a/b"] = nil
			return nil
		}))
		e.memo("a/b", "")
		m, err := e.s.Memo(e.ctx, "")
		e.is(err, storage.ErrNotFound)
		e.equal(m, storage.Memo{})
		e.sweep(storage.Retention{Bodies: time.Hour, Orders: time.Hour}, storage.Swept{})
	}},
	{"WithTheRows", func(e *env) {
		o := e.order("o")
		keys := storage.Keys{Order: o.Key, Memos: []string{"a", "b"}}
		e.putMemo("b", "old", time.Hour)
		both := func(err error) func(r *storage.Rows) error {
			return func(r *storage.Rows) error {
				c := o
				r.Order = &c
				_ = e.memoTo("a", "new", time.Hour)(r)
				delete(r.Memos, "b")
				r.Schedule = append(r.Schedule, storage.Work{ID: "w", Kind: "query", Due: e.clock.Now(), Payload: []byte("p")})
				return err
			}
		}
		e.is(e.s.Change(e.ctx, keys, both(errChange)), errChange)
		e.memo("a", "")
		e.memo("b", "old")
		e.work()
		e.ok(e.s.Change(e.ctx, keys, both(nil)))
		if e.h.Reopen != nil {
			e.s = e.h.Reopen(e, e.s, Options{Now: e.clock.Now})
		}
		e.equal(e.getOrder(o.Key), o)
		e.memo("a", "new")
		e.memo("b", "")
		e.equal(string(e.work("w")[0].Payload), "p")
	}},
	{"NothingOfARefusedChange", func(e *env) {
		e.ok(e.put(e.order("combine", "s1")))
		o := e.order("c2", "s1") // its sub-order's number is taken
		e.is(e.s.Change(e.ctx, storage.Keys{Order: o.Key, Memos: []string{"a"}}, func(r *storage.Rows) error {
			r.Order = &o
			r.Schedule = []storage.Work{{ID: "w", Kind: "query"}}
			return e.memoTo("a", "x", time.Hour)(r)
		}), storage.ErrNumberTaken)
		e.memo("a", "")
		e.work()
	}},
	{"Expires", func(e *env) {
		e.putMemo("a", "one", time.Minute)
		e.clock.Advance(time.Minute - 1)
		e.memo("a", "one")
		e.clock.Advance(1)
		e.memo("a", "")
		e.putMemo("a", "two", time.Minute)
		e.memo("a", "two")
		e.putMemo("late", "x", -time.Second)
		e.memo("late", "")
	}},
	{"Refused", func(e *env) {
		e.putMemo("a", "old", time.Hour)
		for name, change := range map[string]func(*storage.Rows) error{
			"unnamed":       e.memoTo("b", "x", time.Hour),
			"unnamed, nil":  func(r *storage.Rows) error { r.Memos["b"] = nil; return nil },
			"no key":        e.memoTo("", "x", time.Hour),
			"another's key": func(r *storage.Rows) error { r.Memos["a"].Key = "b"; return nil },
			"no end":        func(r *storage.Rows) error { r.Memos["a"].Expires = time.Time{}; return nil },
		} {
			err := e.s.Change(e.ctx, storage.Keys{Memos: []string{"a"}}, func(r *storage.Rows) error {
				r.Memos["a"].Data = []byte("new")
				r.Schedule = []storage.Work{{ID: "w", Kind: "query"}}
				return change(r)
			})
			if err == nil {
				e.Errorf("%s: no error", name)
			}
		}
		if e.s.Change(e.ctx, storage.Keys{}, func(r *storage.Rows) error {
			r.Memos = map[string]*storage.Memo{}
			return e.memoTo("a", "x", time.Hour)(r)
		}) == nil {
			e.Error("a memo that was not named")
		}
		e.memo("a", "old")
		e.memo("b", "")
		e.work()
	}},
	{"Bounds", func(e *env) {
		long := strings.Repeat("k", storage.MaxMemoKey)
		e.putMemo(long, "x", time.Hour)
		e.memo(long, "x")
		e.is(e.s.Change(e.ctx, storage.Keys{Memos: []string{long + "k"}}, func(*storage.Rows) error { return nil }), storage.ErrTooLarge)
		big := strings.Repeat("0123456789abcdef", storage.MaxMemo/16)
		e.putMemo("big", big, time.Hour)
		e.memo("big", big)
		e.is(e.s.Change(e.ctx, storage.Keys{Memos: []string{"big"}}, e.memoTo("big", big+"x", time.Hour)), storage.ErrTooLarge)
		e.memo("big", big)
		e.putMemo("big", big[1:], time.Hour)
		e.memo("big", big[1:])
		// As much as one change may carry, and no more.
		var names []string
		for i := range storage.MaxChangeMemos {
			names = append(names, fmt.Sprint("m", i))
		}
		e.is(e.s.Change(e.ctx, storage.Keys{Memos: append([]string{"x"}, names...)}, func(*storage.Rows) error { return nil }), storage.ErrTooLarge)
		o := e.order("o")
		o.CodeURL = strings.Repeat("x", storage.MaxRecord-4096)
		full := func(work int) error {
			return e.s.Change(e.ctx, storage.Keys{Order: o.Key, Memos: names}, func(r *storage.Rows) error {
				c := o
				r.Order = &c
				for _, name := range names {
					_ = e.memoTo(name, big, time.Hour)(r)
				}
				for i := range work {
					r.Schedule = append(r.Schedule, storage.Work{ID: strconv.Itoa(i), Kind: "query", Due: e.clock.Now(), Payload: []byte(big[:storage.MaxPayload])})
				}
				return nil
			})
		}
		e.is(full(storage.MaxChangeWork+1), storage.ErrTooLarge)
		_, err := e.s.Order(e.ctx, o.Key)
		e.is(err, storage.ErrNotFound)
		e.ok(full(storage.MaxChangeWork))
		e.equal(e.getOrder(o.Key), o)
		for _, name := range names {
			e.memo(name, big)
		}
		list, err := e.s.ClaimWork(e.ctx, "query", worker, 100)
		e.ok(err)
		e.equal(len(list), storage.MaxChangeWork)
		for _, w := range list {
			e.equal(w.Payload, []byte(big[:storage.MaxPayload]))
		}
	}},
	{"ScheduleAsScheduleWork", func(e *env) {
		schedule := func(list ...storage.Work) error {
			return e.s.Change(e.ctx, storage.Keys{}, func(r *storage.Rows) error {
				e.equal(len(r.Schedule), 0)
				r.Schedule = list
				return nil
			})
		}
		work := func(id string, in time.Duration, payload string) storage.Work {
			return storage.Work{ID: id, Kind: "query", Merchant: shop, Due: e.clock.Now().Add(in), Payload: []byte(payload)}
		}
		e.schedule("a", 0, "1")
		e.ok(schedule(work("a", time.Hour, "2"), work("b", 0, "3"), work("b", 0, "4"))) // the last counts
		held := e.work("b")[0]
		e.equal(string(held.Payload), "4")
		e.ok(schedule(work("b", time.Second, "5"))) // held: as when it is scheduled
		e.clock.Advance(2 * time.Second)
		e.work()
		e.finish(held, e.clock.Now().Add(time.Hour))
		again := e.work("b")[0]
		e.equal(string(again.Payload), "5")
		e.equal(again.Attempt, 1)
		e.finish(again, time.Time{})
		for name, w := range map[string]storage.Work{"no id": {Kind: "query"}, "no kind": {ID: "x"}} {
			if schedule(work("c", 0, ""), w) == nil {
				e.Errorf("%s: no error", name)
			}
		}
		e.is(schedule(work("c", 0, ""), work("d", 0, strings.Repeat("x", storage.MaxPayload+1))), storage.ErrTooLarge)
		e.work()
		e.clock.Advance(time.Hour)
		e.work("a")
	}},
	{"WatchSeesSchedule", func(e *env) {
		changed, stop := e.s.Watch()
		defer stop()
		e.ok(e.s.Change(e.ctx, storage.Keys{}, func(r *storage.Rows) error {
			r.Schedule = []storage.Work{{ID: "a", Kind: "query", Due: e.clock.Now()}}
			return nil
		}))
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			e.Fatal("no signal")
		}
		e.work("a")
	}},
	{"Sweep", func(e *env) {
		keep := storage.Retention{Bodies: time.Hour, Orders: time.Hour}
		e.putMemo("a", "x", time.Minute)
		e.putMemo("moved", "x", time.Minute)
		e.putMemo("moved", "x", time.Hour)
		e.putMemo("back", "x", time.Hour)
		e.putMemo("back", "x", time.Minute)
		e.putMemo("big", strings.Repeat("x", storage.MaxMemo), time.Minute)
		e.clock.Advance(time.Minute - 1)
		e.sweep(keep, storage.Swept{})
		e.clock.Advance(1)
		e.sweep(keep, storage.Swept{Memos: 3})
		e.sweep(keep, storage.Swept{})
		e.memo("moved", "x")
		e.putMemo("late", "x", -30*time.Second) // before what was swept
		e.putMemo("back", "again", time.Minute)
		e.sweep(keep, storage.Swept{Memos: 1})
		e.memo("back", "again")
		e.clock.Advance(time.Hour)
		if e.h.Reopen != nil {
			e.s = e.h.Reopen(e, e.s, Options{Now: e.clock.Now})
		}
		e.sweep(keep, storage.Swept{Memos: 2})
	}},
	{"SweepInParts", func(e *env) {
		e.parallel(300, func(i int) error {
			var names []string
			for j := range 8 {
				names = append(names, fmt.Sprint(i, "/", j))
			}
			return e.s.Change(e.ctx, storage.Keys{Memos: names}, func(r *storage.Rows) error {
				for _, name := range names {
					_ = e.memoTo(name, "x", time.Duration(1+i)*time.Second)(r)
				}
				return nil
			})
		})
		e.clock.Advance(290 * time.Second)
		e.sweep(storage.Retention{Bodies: time.Hour, Orders: time.Hour}, storage.Swept{Memos: 290 * 8})
		e.memo("289/0", "")
		e.memo("290/0", "x")
	}},
	{"ConcurrentCounting", func(e *env) {
		// Fifty orders, one memo: a limit that many refunds share.
		const bound = 30
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				o := e.order(fmt.Sprint("o", i))
				err := e.s.Change(e.ctx, storage.Keys{Order: o.Key, Memos: []string{"sum"}}, func(r *storage.Rows) error {
					n := 0
					if m := r.Memos["sum"]; m != nil {
						n, _ = strconv.Atoi(string(m.Data))
					}
					if n == bound {
						return errChange
					}
					c := o
					r.Order = &c
					r.Schedule = []storage.Work{{ID: o.Key.Number, Kind: "query", Due: e.clock.Now()}}
					return e.memoTo("sum", strconv.Itoa(n+1), time.Hour)(r)
				})
				if err != nil && !errors.Is(err, errChange) {
					e.Error(err)
				}
			})
		}
		wg.Wait()
		e.memo("sum", strconv.Itoa(bound))
		n := 0
		for i := range 50 {
			if _, err := e.s.Order(e.ctx, orderKey(fmt.Sprint("o", i))); err == nil {
				n++
			}
		}
		e.equal(n, bound)
		list, err := e.s.ClaimWork(e.ctx, "query", worker, 100)
		e.ok(err)
		e.equal(len(list), bound)
	}},
	{"SweepUnderChanges", func(e *env) {
		// Who gives a memo longer, and who sweeps it, never lose one between them.
		e.putMemo("a", "x", time.Second)
		data := bytes.Repeat([]byte("y"), 40<<10)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 100 {
				if _, err := e.s.Sweep(e.ctx, storage.Retention{Bodies: time.Hour, Orders: time.Hour}); err != nil {
					e.Error(err)
				}
			}
		})
		for range 100 {
			e.clock.Advance(time.Second)
			e.putMemo("a", string(data), time.Second)
			e.memo("a", string(data))
		}
		wg.Wait()
		e.memo("a", string(data))
	}},
}
