package badgerstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// floorInterval is how long a reading of the free space is trusted, less what
// was written since. It is measured on the process's own clock: an injected one
// may stand still.
const floorInterval = 250 * time.Millisecond

// writeAmplification is how many bytes one accepted byte may take on the volume
// until the next reading: the write-ahead log, the flushed table, a compaction.
const writeAmplification = 4

type floor struct {
	limit int64 // negative: off
	dir   string
	space func(string) (int64, error)
	every time.Duration // how long a reading is trusted

	mu      sync.Mutex
	readAt  time.Time
	free    int64
	failure error
	written atomic.Int64
}

// check returns ErrDiskFloor when the volume has less free space than the limit.
func (f *floor) check() error {
	if f.limit < 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	left := f.free - writeAmplification*f.written.Load()
	if now := time.Now(); f.readAt.IsZero() || now.Sub(f.readAt) >= f.every || f.failure != nil || left < f.limit {
		f.readAt = now
		f.written.Store(0)
		f.free, f.failure = f.space(f.dir)
		left = f.free
	}
	if f.failure != nil {
		return fmt.Errorf("%w: cannot tell the free space of the volume: %w", storage.ErrDiskFloor, f.failure)
	}
	if left < f.limit {
		return fmt.Errorf("%w: %d MiB free, %d MiB wanted", storage.ErrDiskFloor, left>>20, f.limit>>20)
	}
	return nil
}

// FreeSpace returns the free space of the volume that holds the store, in bytes,
// and the floor below which writes are refused; floor is negative when it is
// switched off. In memory there is no volume, and both are 0.
func (s *Store) FreeSpace() (free, floor int64, err error) {
	if s.floor.limit < 0 && s.floor.dir == "" {
		return 0, 0, nil
	}
	free, err = s.floor.space(s.floor.dir)
	return free, s.floor.limit, err
}

// checkOpen refuses to open a store on a volume so full that opening it could
// kill the process.
func (f *floor) checkOpen() error {
	if f.limit < 0 {
		return nil
	}
	free, err := f.space(f.dir)
	if err != nil {
		return fmt.Errorf("badgerstore: cannot tell the free space of %s: %w", f.dir, err)
	}
	if want := min(f.limit, openFloor); free < want {
		return fmt.Errorf("badgerstore: %w: %s has %d MiB free, opening needs %d MiB", storage.ErrDiskFloor, f.dir, free>>20, want>>20)
	}
	return nil
}

// wrote counts bytes handed to Badger since the last reading.
func (f *floor) wrote(n int) { f.written.Add(int64(n)) }
