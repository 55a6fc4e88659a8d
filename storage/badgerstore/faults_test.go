package badgerstore_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
)

func TestDiskFloor(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	dir := filepath.Join(t.TempDir(), "store")
	o := badgerstore.Options{
		Dir: dir, FreeFloor: 300 << 20,
		FreeSpace: func(d string) (int64, error) {
			if d != dir {
				t.Errorf("asked about %s", d)
			}
			return free.Load(), nil
		},
	}
	s := open(t, o)
	ctx := t.Context()
	n := crashEvent(1)
	a, err := s.Accept(ctx, storage.AcceptRequest{Notification: n, Claim: storage.ClaimTerms{Owner: "o", Lease: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	free.Store(300<<20 - 1)
	for name, call := range map[string]func() error{
		"Accept": func() error {
			_, err := s.Accept(ctx, storage.AcceptRequest{Notification: crashEvent(2)})
			return err
		},
		"Park": func() error {
			_, _, err := s.Park(ctx, crashEvent(2), storage.ParkContradiction, "")
			return err
		},
		"Complete": func() error {
			return s.Complete(ctx, n.ID, a.Claim.Fence, storage.Completion{State: storage.StateDelivered})
		},
		"Decide": func() error {
			_, err := s.Decide(ctx, storage.Decision{ID: n.ID, Act: storage.ActDismiss})
			return err
		},
		"Change":           func() error { return s.Change(ctx, storage.Keys{}, func(*storage.Rows) error { return nil }) },
		"ScheduleWork":     func() error { return s.ScheduleWork(ctx, storage.Work{ID: "a", Kind: "k"}) },
		"AppendAudit":      func() error { return s.AppendAudit(ctx, storage.AuditEntry{}) },
		"SaveCertificates": func() error { return s.SaveCertificates(ctx, "m", nil) },
		"Healthy":          func() error { return s.Healthy(ctx) },
	} {
		if err := call(); !errors.Is(err, storage.ErrDiskFloor) {
			t.Errorf("%s below the floor: %v", name, err)
		}
	}
	// Reading and what needs no disk still work.
	if _, err := s.Notification(ctx, n.ID); err != nil {
		t.Error(err)
	}
	if d, err := s.Accept(ctx, storage.AcceptRequest{Notification: n}); err != nil || d.Outcome != storage.AcceptedDuplicate {
		t.Error("a duplicate is known without writing", d, err)
	}
	free.Store(300 << 20)
	if err := s.Healthy(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Complete(ctx, n.ID, a.Claim.Fence, storage.Completion{State: storage.StateDelivered}); err != nil {
		t.Error("writing does not resume:", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	free.Store(64<<20 - 1)
	if _, err := badgerstore.Open(ctx, o); !errors.Is(err, storage.ErrDiskFloor) {
		t.Errorf("opened on a full volume: %v", err)
	}
	free.Store(64 << 20)
	open(t, o) // enough to read
	o.FreeSpace = func(string) (int64, error) { return 0, fs.ErrPermission }
	o.Dir = filepath.Join(t.TempDir(), "other")
	if _, err := badgerstore.Open(ctx, o); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("opened without knowing the free space: %v", err)
	}
}

func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if w := badgerstore.DirWarning(dir); strings.Contains(w, "NFS") {
		t.Error(w)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("DirWarning created something", err)
	}
	open(t, badgerstore.Options{Dir: dir, FreeFloor: -1})
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Fatalf("%v %v", st.Mode(), err)
	}
	_, err = badgerstore.Open(t.Context(), badgerstore.Options{Dir: dir, FreeFloor: -1})
	if err == nil || !strings.Contains(err.Error(), "another gateway uses the directory "+dir) {
		t.Fatalf("second gateway: %v", err)
	}
	if _, err := badgerstore.Open(t.Context(), badgerstore.Options{}); err == nil {
		t.Fatal("opened without a directory")
	}
}

// raw opens the database below a closed store.
func raw(t *testing.T, dir string, fn func(*badger.Txn) error) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(dir).WithLoggingLevel(badger.ERROR).WithMemTableSize(16 << 20))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestCorruptRecord(t *testing.T) {
	for _, how := range []string{"payload", "truncated", "version", "swapped", "body missing"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, badgerstore.Options{Dir: dir, FreeFloor: -1})
			n, other := crashEvent(1), crashEvent(2)
			for _, n := range []storage.Notification{n, other} {
				if _, err := s.Accept(t.Context(), storage.AcceptRequest{Notification: n}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			raw(t, dir, func(txn *badger.Txn) error {
				read := func(key string) []byte {
					item, err := txn.Get([]byte(key))
					if err != nil {
						t.Fatal(err)
					}
					v, err := item.ValueCopy(nil)
					if err != nil {
						t.Fatal(err)
					}
					return v
				}
				key := "n" + string(rune(len(n.ID))) + n.ID
				v := read(key)
				switch how {
				case "payload":
					v[len(v)/2] ^= 1
				case "truncated":
					v = v[:len(v)-1]
				case "version":
					v[0]++
				case "swapped":
					v = read("n" + string(rune(len(other.ID))) + other.ID)
				case "body missing":
					return txn.Delete([]byte("b" + key[1:]))
				}
				return txn.Set([]byte(key), v)
			})
			s = open(t, badgerstore.Options{Dir: dir, FreeFloor: -1})
			if _, err := s.Notification(t.Context(), n.ID); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Notification: %v", err)
			}
			if how != "body missing" {
				if _, err := s.Accept(t.Context(), storage.AcceptRequest{Notification: n}); !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("Accept: %v", err)
				}
			}
			// The queue goes on with the other one, and then reports it.
			terms := storage.ClaimTerms{Owner: "o", Lease: time.Hour}
			claims, err := s.Claim(t.Context(), "shop", terms, 10)
			if err != nil || len(claims) != 1 || claims[0].Record.ID != other.ID {
				t.Errorf("Claim: %v %v", claims, err)
			}
		})
	}
}

func TestCorruptMemo(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1700000000, 0)
	o := badgerstore.Options{Dir: dir, FreeFloor: -1, Now: func() time.Time { return now }}
	s := open(t, o)
	put := func(name string) error {
		return s.Change(t.Context(), storage.Keys{Memos: []string{name}}, func(r *storage.Rows) error {
			r.Memos[name] = &storage.Memo{Key: name, Data: []byte("data"), Expires: now.Add(time.Minute)}
			return nil
		})
	}
	if err := errors.Join(put("a"), put("b"), s.Close()); err != nil {
		t.Fatal(err)
	}
	raw(t, dir, func(txn *badger.Txn) error {
		item, err := txn.Get([]byte("M\x01a"))
		if err != nil {
			return err
		}
		v, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		v[len(v)-1] ^= 1
		return txn.Set([]byte("M\x01a"), v)
	})
	s = open(t, o)
	if _, err := s.Memo(t.Context(), "a"); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Memo: %v", err)
	}
	if err := put("a"); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Change: %v", err)
	}
	if m, err := s.Memo(t.Context(), "b"); err != nil || string(m.Data) != "data" {
		t.Errorf("the other one: %v", err)
	}
	// Expired, it is in nobody's way.
	now = now.Add(time.Minute)
	swept, err := s.Sweep(t.Context(), storage.Retention{Orders: time.Hour, Bodies: time.Hour})
	if err != nil || swept.Memos != 2 {
		t.Errorf("swept %+v: %v", swept, err)
	}
	if err := put("a"); err != nil {
		t.Error(err)
	}
}

func TestNewerFormat(t *testing.T) {
	dir := t.TempDir()
	s := open(t, badgerstore.Options{Dir: dir, FreeFloor: -1})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, dir, func(txn *badger.Txn) error { return txn.Set([]byte("F"), badgerstore.FormatRecord(2)) })
	_, err := badgerstore.Open(t.Context(), badgerstore.Options{Dir: dir, FreeFloor: -1})
	if err == nil || !strings.Contains(err.Error(), "format version 2") {
		t.Fatal(err)
	}
}

func TestPanickingChangeStaysWithItsCaller(t *testing.T) {
	s := open(t, badgerstore.Options{InMemory: true})
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("the panic did not come back")
			}
		}()
		_ = s.Change(t.Context(), storage.Keys{}, func(*storage.Rows) error { panic("mine") })
	}()
	if _, err := s.Accept(t.Context(), storage.AcceptRequest{Notification: crashEvent(1)}); err != nil {
		t.Fatal(err)
	}
}

// TestHoleInTheCommits removes what one commit in the middle left behind, as a
// damaged write-ahead log that is not the newest does.
func TestHoleInTheCommits(t *testing.T) {
	dir := t.TempDir()
	s := open(t, badgerstore.Options{Dir: dir, FreeFloor: -1})
	for i := range 5 {
		if _, err := s.Accept(t.Context(), storage.AcceptRequest{Notification: crashEvent(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, dir, func(txn *badger.Txn) error { return txn.Delete([]byte{'j', 0, 0, 0, 3}) })
	_, err := badgerstore.Open(t.Context(), badgerstore.Options{Dir: dir, FreeFloor: -1})
	if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "1 of the commits") {
		t.Fatal(err)
	}
	// The loss is accepted once, and not noticed again.
	if err := os.Remove(filepath.Join(dir, "COMMITS")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s = open(t, badgerstore.Options{Dir: dir, FreeFloor: -1})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
