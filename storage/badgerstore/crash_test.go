package badgerstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
)

// The test binary runs itself as a child that writes until it is killed. What
// the store acknowledged, the child has written to its standard output before.
const (
	childDir  = "BADGERSTORE_CHILD_DIR"
	childHook = "BADGERSTORE_CHILD_HOOK" // "<step>:<n>": die there at the n-th time
	childFrom = "BADGERSTORE_CHILD_FROM"
	// childCheck makes the child check a store instead, see check.
	childCheck = "BADGERSTORE_CHILD_CHECK"
)

func childMode() bool { return os.Getenv(childDir) != "" }

func child() {
	if acked := os.Getenv(childCheck); acked != "" {
		check(acked)
		return
	}
	step, count, _ := strings.Cut(os.Getenv(childHook), ":")
	left, _ := strconv.ParseInt(count, 10, 64)
	var at atomic.Int64
	s, err := badgerstore.Open(context.Background(), badgerstore.Options{
		Dir: os.Getenv(childDir), FreeFloor: -1,
		Hook: func(name string) {
			if name == step && at.Add(1) == left {
				die()
			}
		},
	})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	from, _ := strconv.Atoi(os.Getenv(childFrom))
	var mu sync.Mutex
	say := func(what string, i int) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(os.Stdout, what, i)
	}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := from + w; ; i += 16 {
				a, err := s.Accept(context.Background(), storage.AcceptRequest{
					Notification: crashEvent(i),
					Claim:        storage.ClaimTerms{Owner: "child", Lease: time.Hour},
				})
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				say("accepted", i)
				if i%4 == 1 {
					if err := crashChange(s, w, i); err != nil {
						fmt.Println("error", err)
						os.Exit(1)
					}
					say("changed", i)
				}
				if a.Claim == nil || i%3 == 0 {
					continue
				}
				done := storage.Completion{State: storage.StateDelivered, Status: 200, Answer: []byte(strconv.Itoa(i))}
				if err := s.Complete(context.Background(), a.Claim.Record.ID, a.Claim.Fence, done); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				say("delivered", i)
			}
		})
	}
	wg.Wait()
}

// die ends the process as kill -9 does: nothing deferred is run, nothing is
// flushed.
func die() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		_ = p.Kill()
	}
	select {}
}

func crashEvent(i int) storage.Notification {
	size := 500 + i%5000
	if i%50 == 0 {
		size = 600 << 10 // in chunks
	}
	body := bytes.Repeat([]byte{byte(i), byte(i >> 8), byte(i >> 16)}, size)
	id := fmt.Sprintf("evt_%08d", i)
	return storage.Notification{
		ID: id, Key: "payment/" + id, Merchant: "shop", Group: fmt.Sprint("g", i/2), Mchid: "1900000001",
		NotificationID: "wx" + id, Kind: "payment", OutTradeNo: fmt.Sprint("no", i), ReceivedAt: time.Unix(int64(i), 0).UTC(),
		Body: body, ResourceStart: 0, ResourceEnd: len(body),
	}
}

func crashOrder(i int) storage.OrderKey {
	return storage.OrderKey{Mchid: "1900000001", Number: fmt.Sprint("no", i)}
}

// crashChange writes an order, counts it in a memo of its writer, and schedules
// its query, all in one step. Every tenth memo is written in chunks.
func crashChange(s *badgerstore.Store, writer, i int) error {
	k, name := crashOrder(i), fmt.Sprint("count/", writer)
	return s.Change(context.Background(), storage.Keys{Order: k, Memos: []string{name}}, func(r *storage.Rows) error {
		r.Order = &storage.Order{Key: k, State: storage.OrderIntended, CreatedAt: time.Unix(int64(i), 0)}
		n := 0
		if m := r.Memos[name]; m != nil {
			n, _ = strconv.Atoi(strings.TrimSpace(string(m.Data)))
		}
		data := []byte(strconv.Itoa(n + 1))
		if n%10 == 0 {
			data = append(data, bytes.Repeat([]byte(" "), 600<<10)...)
		}
		r.Memos[name] = &storage.Memo{Key: name, Data: data, Expires: time.Now().Add(time.Hour)}
		r.Schedule = []storage.Work{{ID: k.Number, Kind: "query", Due: time.Unix(int64(i), 0)}}
		return nil
	})
}

// checkChanges demands that orders, the memos that count them and the work that
// was scheduled with them say the same.
func checkChanges(t *testing.T, s *badgerstore.Store, all *acks) {
	t.Helper()
	work := map[string]bool{}
	list, err := s.ClaimWork(t.Context(), "query", storage.ClaimTerms{Owner: "after", Lease: time.Hour}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		work[w.ID] = true
	}
	orders := map[int]int{}
	for i := range all.highest + 200 {
		o, err := s.Order(t.Context(), crashOrder(i))
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
		there := err == nil && o.Key == crashOrder(i)
		if all.changed[i] && !there {
			t.Errorf("changed, and lost: %d", i)
		}
		if there != work[crashOrder(i).Number] {
			t.Errorf("order %d and its work did not become durable together", i)
		}
		if there {
			orders[i%16]++
		}
	}
	for w := range 16 {
		m, err := s.Memo(t.Context(), fmt.Sprint("count/", w))
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
		if n, _ := strconv.Atoi(strings.TrimSpace(string(m.Data))); n != orders[w] {
			t.Errorf("writer %d: %d counted, %d orders", w, n, orders[w])
		}
	}
}

// acks are what a child said before it died.
type acks struct {
	accepted, delivered, changed map[int]bool

	highest int
}

// runChild runs a child and kills it after some acknowledgements, unless it dies
// by itself at the hook.
func runChild(t *testing.T, dir string, from, killAfter int, hook string, all *acks) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childHook+"="+hook, childFrom+"="+strconv.Itoa(from))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		i, err := strconv.Atoi(rest)
		switch {
		case what == "error":
			t.Errorf("child: %s", rest)
		case err != nil: // a line cut off by the kill
		case what == "accepted":
			all.accepted[i] = true
			all.highest = max(all.highest, i)
		case what == "delivered":
			all.delivered[i] = true
		case what == "changed":
			all.changed[i] = true
		}
		if n++; hook == "" && n == killAfter {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	if ctx.Err() != nil {
		t.Fatal("the child did not die in time")
	}
}

// checkAcks opens the store and compares it with what was acknowledged: nothing
// is missing, and every record is whole or absent.
func checkAcks(t *testing.T, dir string, all *acks) {
	t.Helper()
	s, err := badgerstore.Open(t.Context(), badgerstore.Options{Dir: dir, FreeFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	checkChanges(t, s, all)
	var pending, present int64
	for i := range all.highest + 200 {
		want := crashEvent(i)
		r, err := s.Notification(t.Context(), want.ID)
		if errors.Is(err, storage.ErrNotFound) {
			if all.accepted[i] {
				t.Errorf("accepted, and lost: %d", i)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		present++
		if !bytes.Equal(r.Body, want.Body) || r.Key != want.Key {
			t.Errorf("not whole: %d", i)
		}
		switch r.State {
		case storage.StatePending:
			pending++
			if all.delivered[i] {
				t.Errorf("delivered, and forgotten: %d", i)
			}
		case storage.StateDelivered:
			if string(r.Answer) != strconv.Itoa(i) {
				t.Errorf("answer of %d: %q", i, r.Answer)
			}
		case storage.StateDead, storage.StateParked, storage.StateDismissed, storage.StateSuperseded:
			t.Errorf("%d is %s", i, r.State)
		}
	}
	st, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Pending != pending {
		t.Errorf("counted %d pending, found %d", st.Pending, pending)
	}
	// Every group goes on: all that is pending can be delivered, in order.
	last := map[string]string{}
	for {
		claims, err := s.Claim(t.Context(), "shop", storage.ClaimTerms{Owner: "after", Lease: time.Hour}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(claims) == 0 {
			break
		}
		for _, c := range claims {
			if last[c.Record.Group] == c.Record.ID {
				t.Fatalf("%s twice", c.Record.ID)
			}
			last[c.Record.Group] = c.Record.ID
			pending--
		}
		var wg sync.WaitGroup
		for _, c := range claims {
			wg.Go(func() {
				done := storage.Completion{State: storage.StateDelivered, Answer: []byte(strings.TrimLeft(c.Record.ID[4:], "0"))}
				if c.Record.ID == "evt_00000000" {
					done.Answer = []byte("0")
				}
				if err := s.Complete(t.Context(), c.Record.ID, c.Fence, done); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if pending != 0 {
		t.Errorf("%d pending notifications could not be claimed", pending)
	}
	t.Logf("%d acknowledged, %d present", len(all.accepted), present)
}

func newAcks() *acks {
	return &acks{accepted: map[int]bool{}, delivered: map[int]bool{}, changed: map[int]bool{}}
}

// TestKill kills the process at random moments and at every named step, again
// and again over one directory.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	all := newAcks()
	for round, hook := range []string{"", "commit.before:1", "commit.after:1", "", "commit.before:20", "commit.after:20", ""} {
		runChild(t, dir, round*10000, 100+rnd.IntN(3000), hook, all)
		if len(all.accepted) == 0 && hook == "" {
			t.Fatal("the child acknowledged nothing")
		}
		if t.Failed() {
			return
		}
	}
	checkAcks(t, dir, all)
}

// TestFlippedByte flips one byte of a store that was killed, at offsets spread
// over every file, and demands that nothing acknowledged is missing in silence:
// the store does not open, or says that the record is corrupt, or has it.
func TestFlippedByte(t *testing.T) {
	base := filepath.Join(t.TempDir(), "store")
	all := newAcks()
	runChild(t, base, 0, 600, "", all) // some of it in tables, some in the log
	s, err := badgerstore.Open(t.Context(), badgerstore.Options{Dir: base, FreeFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // what the log held is in tables now
		t.Fatal(err)
	}
	runChild(t, base, 10000, 600, "", all)

	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	files, err := os.ReadDir(base)
	if err != nil {
		t.Fatal(err)
	}
	acked := filepath.Join(t.TempDir(), "acked")
	var list strings.Builder
	for i := range all.accepted {
		fmt.Fprintln(&list, i)
	}
	if err := os.WriteFile(acked, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	refused, reported, harmless := map[string]int{}, map[string]int{}, map[string]int{}
	for _, f := range files {
		ext := filepath.Ext(f.Name())
		if f.Name() == "LOCK" {
			continue
		}
		whole, err := os.ReadFile(filepath.Join(base, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(whole, "\x00"))
		if used == 0 {
			continue
		}
		for range 3 {
			off := rnd.IntN(used)
			dir := filepath.Join(t.TempDir(), "copy")
			copyStore(t, base, dir, f.Name(), func(b []byte) { b[off] ^= 1 << rnd.IntN(8) })
			silent, said, open := runCheck(t, dir, acked)
			if !open {
				refused[ext]++
			}
			switch {
			case silent > 0:
				t.Errorf("%s, byte %d of %d: %d acknowledged notifications are missing or changed, and nobody says so", f.Name(), off, used, silent)
			case said > 0:
				reported[ext]++
			case open:
				harmless[ext]++
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("refused to open %v, reported %v, harmless %v", refused, reported, harmless)
}

// check is a child that opens a store and tells how many of the acknowledged
// notifications are missing or changed without an error, and how many with one.
// A process of its own, because a failed badger.Open leaves goroutines and
// memory behind, and to see that nothing crashes.
func check(acked string) {
	s, err := badgerstore.Open(context.Background(), badgerstore.Options{Dir: os.Getenv(childDir), FreeFloor: -1})
	if err != nil {
		fmt.Println("refused 0 0")
		return
	}
	list, err := os.ReadFile(acked)
	if err != nil {
		fmt.Println(err)
		return
	}
	silent, said := 0, 0
	for _, line := range strings.Fields(string(list)) {
		i, _ := strconv.Atoi(line)
		r, err := s.Notification(context.Background(), crashEvent(i).ID)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			silent++
		case err != nil:
			said++
		case !bytes.Equal(r.Body, crashEvent(i).Body):
			silent++
		}
	}
	fmt.Println("opened", silent, said)
	_ = s.Close()
}

func runCheck(t *testing.T, dir, acked string) (silent, said int, open bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childCheck+"="+acked)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	complaint := stderr.String()
	var word string
	if err != nil && strings.Contains(complaint, "panic: ") && strings.Contains(complaint, "badger/v4.newLevelsController") {
		// Badger reads a table's last key before it checks the table's sum, in a
		// goroutine of its own, and panics over what it finds. That is no silence.
		t.Logf("Badger panicked over a damaged table")
		return 0, 0, false
	}
	if races := strings.Count(complaint, "WARNING: DATA RACE"); err != nil && races > 0 && races == strings.Count(complaint, "badger/v4.closeAllTables()") {
		// When one table cannot be opened, Badger closes those that are, while it
		// opens others still. It refuses to open either way, and the race detector
		// makes the child's end a failure.
		t.Logf("Badger raced with itself over a damaged table")
		err = nil
	}
	if _, serr := fmt.Sscan(stdout.String(), &word, &silent, &said); serr != nil || err != nil || word != "opened" && word != "refused" {
		t.Errorf("the child failed: %v\n%.2000s\n%.4000s", err, stdout.String(), complaint)
	}
	return silent, said, word == "opened"
}

// TestMissingLog removes the write-ahead log: Badger opens without a word, the
// store does not.
func TestMissingLog(t *testing.T) {
	base := filepath.Join(t.TempDir(), "store")
	runChild(t, base, 0, 300, "", newAcks())
	logs, err := filepath.Glob(filepath.Join(base, "*.mem"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, l := range logs {
		if err := os.Remove(l); err != nil {
			t.Fatal(err)
		}
	}
	_, err = badgerstore.Open(t.Context(), badgerstore.Options{Dir: base, FreeFloor: -1})
	if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "COMMITS") {
		t.Fatalf("error %v", err)
	}
	if err := os.Remove(filepath.Join(base, "COMMITS")); err != nil {
		t.Fatal(err)
	}
	open(t, badgerstore.Options{Dir: base, FreeFloor: -1})
}

// TestEmptyLog leaves the logs behind that a process leaves which dies between
// making one and giving it its length.
func TestEmptyLog(t *testing.T) {
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			all := newAcks()
			runChild(t, dir, 0, 300, "", all)
			empty := filepath.Join(dir, name)
			if err := os.WriteFile(empty, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, badgerstore.Options{Dir: dir, FreeFloor: -1})
			for i := range all.accepted {
				if _, err := s.Notification(t.Context(), crashEvent(i).ID); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}

			// Beside a gateway that is at work nothing is removed.
			beside := filepath.Join(dir, "9"+name)
			if err := os.WriteFile(beside, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := badgerstore.Open(t.Context(), badgerstore.Options{Dir: dir, FreeFloor: -1}); err == nil {
				t.Fatal("two stores in one directory")
			}
			if _, err := os.Stat(beside); err != nil {
				t.Error(err)
			}
		})
	}
}

// copyStore copies a store's files as sparse as they are, changing one.
func copyStore(t *testing.T, from, to, change string, fn func([]byte)) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if f.Name() == change {
			fn(b)
		}
		out, err := os.Create(filepath.Join(to, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		_, err = out.Write(bytes.TrimRight(b, "\x00"))
		if err := errors.Join(err, out.Truncate(int64(len(b))), out.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
