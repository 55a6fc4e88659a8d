package badgerstore

import (
	"log/slog"
	"time"
)

// DefaultFreeFloor is the free space, in bytes, below which writes are refused.
// Badger writes through memory maps, and a write to a map that the volume cannot
// back kills the process with SIGBUS, so the refusal must come first. 256 MiB
// holds what Badger may still write on its own after the last accepted commit:
// two write-ahead logs of twice 16 MiB, two flushed memtables, and the output of
// two concurrent compactions beside their input.
const DefaultFreeFloor = 256 << 20

// openFloor is the free space, in bytes, that opening needs at least: a new
// write-ahead log and the flush of what the last run left in its own.
const openFloor = 64 << 20

// Options configure a store.
type Options struct {
	// Dir is the directory; it is created with mode 0700 when it is missing.
	Dir string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets what Badger and the store have to say; nil discards it.
	Logger *slog.Logger
	// FreeFloor is the free space, in bytes, below which writes are refused with
	// storage.ErrDiskFloor. Zero means DefaultFreeFloor, negative switches it off.
	FreeFloor int64
	// FreeSpace tells the free bytes of the volume that holds dir; nil asks the
	// operating system.
	FreeSpace func(dir string) (int64, error)
	// InMemory keeps everything in memory and nothing on disk. Dir is ignored.
	// It is for tests.
	InMemory bool
	// Hook, when set, is called at named steps of every commit, for tests that
	// stop the process there: "commit.before", "commit.after" (durable, nobody
	// told yet). It runs on the committing goroutine.
	Hook func(step string)
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FreeFloor == 0 {
		o.FreeFloor = DefaultFreeFloor
	}
	if o.FreeSpace == nil {
		o.FreeSpace = freeSpace
	}
	if o.Hook == nil {
		o.Hook = func(string) {}
	}
	return o
}
