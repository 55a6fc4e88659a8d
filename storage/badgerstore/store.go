package badgerstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// formatVersion is the version of the key space. A store with a newer one is
// not opened; an older one would be migrated by Open.
const formatVersion = 1

// Store is the embedded store. Open makes one; all methods are safe for
// concurrent use.
type Store struct {
	opt     Options
	log     *slog.Logger
	now     func() time.Time
	db      *badger.DB
	floor   floor
	witness *witness

	// life is held shared by every public method and alone by Close.
	life   sync.RWMutex
	closed bool

	sick atomic.Pointer[error] // set by the first commit that failed

	committer committer
	recent    *recentIDs

	snapMu sync.Mutex
	snap   *snapshot

	mem memory
}

var _ storage.Store = (*Store)(nil)

// Open opens the store in opt.Dir, creating it when it is missing. It fails
// when another process holds the directory, when the store was written by a
// newer version, when a table's checksum does not hold, when commits that were
// acknowledged are missing, and when the volume has too little space to open it
// without risk. Opening ends every lease of the last owner.
func Open(ctx context.Context, opt Options) (*Store, error) {
	every := floorInterval
	if opt.FreeSpace != nil {
		every = 0 // a given function is asked every time
	}
	opt = opt.withDefaults()
	s := &Store{opt: opt, log: opt.Logger, now: opt.Now, recent: newRecentIDs()}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opt.InMemory {
		s.floor = floor{limit: -1}
	} else {
		if opt.Dir == "" {
			return nil, errors.New("badgerstore: no directory given")
		}
		if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("badgerstore: %w", err)
		}
		s.floor = floor{limit: opt.FreeFloor, dir: opt.Dir, space: opt.FreeSpace, every: every}
		if err := s.floor.checkOpen(); err != nil {
			return nil, err
		}
	}
	if !opt.InMemory {
		if err := s.removeEmptyLogs(); err != nil {
			return nil, err
		}
	}
	db, err := badger.Open(s.badgerOptions())
	if err != nil {
		return nil, openError(opt.Dir, err)
	}
	s.db = db
	if err := s.load(); err != nil {
		if s.snap != nil {
			s.snap.release()
		}
		s.witness.close()
		return nil, errors.Join(err, db.Close())
	}
	s.committer.start(s)
	return s, nil
}

func (s *Store) badgerOptions() badger.Options {
	o := badger.DefaultOptions(s.opt.Dir)
	if s.opt.InMemory {
		o = badger.DefaultOptions("").WithInMemory(true)
	}
	return o.
		WithSyncWrites(!s.opt.InMemory).
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithValueLogFileSize(16 << 20).
		WithCompression(options.None). // no decompression on reads, no block cache to size
		WithBlockCacheSize(0).
		WithIndexCacheSize(16 << 20).
		WithMetricsEnabled(false).
		WithDetectConflicts(false). // one writer
		WithChecksumVerificationMode(options.OnTableRead).
		WithLogger(logger{s.log})
}

func openError(dir string, err error) error {
	if strings.Contains(err.Error(), "Cannot acquire directory lock") {
		return fmt.Errorf("badgerstore: another gateway uses the directory %s (an embedded store belongs to one process): %w", dir, err)
	}
	return fmt.Errorf("badgerstore: cannot open %s: %w", dir, err)
}

// load reads what the store keeps in memory and starts a new generation.
func (s *Store) load() error {
	s.mem.init()
	s.publishSnapshot()
	var c counters
	var version uint64
	fresh := true
	if _, err := s.snap.get([]byte{kFormat}, func(p []byte) error {
		fresh = false
		if len(p) != 8 {
			return corrupt([]byte{kFormat}, "wrong length")
		}
		version = binary.LittleEndian.Uint64(p)
		return nil
	}); err != nil {
		return err
	}
	if version > formatVersion {
		return fmt.Errorf("badgerstore: the store in %s has format version %d, this program knows up to %d: use the newer program", s.opt.Dir, version, formatVersion)
	}
	found, err := s.snap.get([]byte{kCounter}, c.decode)
	if err != nil {
		return err
	}
	if !found && !fresh {
		return corrupt([]byte{kCounter}, "missing")
	}
	if !s.opt.InMemory {
		if s.witness, err = openWitness(s.opt.Dir); err != nil {
			return err
		}
		if err := s.checkLoss(&c); err != nil {
			return err
		}
	}
	pending := map[string]int64{}
	if err := s.snap.scan([]byte{kQueueNo}, nil, false, func(k, p []byte) (bool, error) {
		r := reader{s: string(p)}
		name, n := r.text(), int64(r.fixed64())
		if n != 0 {
			pending[name] = n
		}
		return true, r.done(k)
	}); err != nil {
		return err
	}
	hasChunks, err := s.dropOrphanChunks()
	if err != nil {
		return err
	}
	c.Generation++
	c.Commit++
	if err := s.db.Update(func(t *badger.Txn) error {
		k := []byte{kFormat}
		if err := t.Set(k, seal(k, appendFixed64(newRecord(8), formatVersion), 0)); err != nil {
			return err
		}
		mark := markWrite(c.Commit)
		if err := t.Set(mark.key, mark.val); err != nil {
			return err
		}
		k = []byte{kCounter}
		return t.Set(k, seal(k, c.encode(), 0))
	}); err != nil {
		return fmt.Errorf("badgerstore: %w", err)
	}
	s.witness.write(c.Commit)
	s.publishSnapshot()
	s.mem.load(c, pending)
	s.committer.load(c, pending, hasChunks)
	return nil
}

// checkLoss returns an error when commits that were acknowledged are missing, at
// the end (the witness knows their number) or in between (their marks are
// missing). Removing the witness accepts the loss.
func (s *Store) checkLoss(c *counters) error {
	last, ok := s.witness.last()
	if !ok {
		if c.Commit > 0 {
			s.log.Warn("the store's commit witness is missing or damaged; commits lost before this start are not noticed")
			c.Base = c.Commit + 1
		}
		return nil
	}
	err := s.checkMarks(c)
	if last > c.Commit {
		err = fmt.Errorf("%w: the store ends at commit %d, but commit %d was acknowledged", storage.ErrCorrupt, c.Commit, last)
	}
	if err != nil {
		return fmt.Errorf("badgerstore: the write-ahead log in %s is damaged, or files are missing: %w; restore a backup, or accept the loss by removing the file %s and have the orders of that time queried",
			s.opt.Dir, err, s.witness.path)
	}
	return nil
}

// enter guards a public method against Close; leave ends it.
func (s *Store) enter() error {
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return storage.ErrClosed
	}
	return nil
}

func (s *Store) leave() { s.life.RUnlock() }

// Close ends the store. Writes under way are finished first.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.committer.stop()
	s.mem.closeWatches()
	s.snap.release()
	err := s.db.Close()
	s.witness.close()
	if err != nil {
		return fmt.Errorf("badgerstore: close: %w", err)
	}
	return nil
}

// Healthy returns nil when the store takes writes, or why it does not.
func (s *Store) Healthy(context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.writable()
}

func (s *Store) writable() error {
	if err := s.sick.Load(); err != nil {
		return *err
	}
	return s.floor.check()
}

// fail makes the store refuse writes from now on.
func (s *Store) fail(err error) error {
	e := fmt.Errorf("badgerstore: a commit failed, no writes are taken until the store is opened again: %w", err)
	if s.sick.CompareAndSwap(nil, &e) {
		s.log.Error("commit failed, the store takes no more writes", "error", err)
	}
	return *s.sick.Load()
}
