package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// A witness remembers, outside Badger, the number of the last commit. Badger
// cuts its write-ahead log at the first entry that does not hold and says
// nothing; the witness makes the gap visible when the store is opened.
//
// It is written after the commit is durable and not synced itself, so it never
// runs ahead of the store: after kill -9 it is exact, after a power loss it may
// be behind, and then sees less.
type witness struct {
	path string
	f    *os.File
	slot int64
}

const (
	witnessName = "COMMITS"
	witnessSlot = 64
)

func openWitness(dir string) (*witness, error) {
	w := &witness{path: filepath.Join(dir, witnessName)}
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("badgerstore: %w", err)
	}
	w.f = f
	return w, nil
}

// last returns the highest number in the two slots, and whether one holds.
func (w *witness) last() (n uint64, ok bool) {
	var b [2 * witnessSlot]byte
	if _, err := w.f.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, false
	}
	for i := range 2 {
		s := b[i*witnessSlot:]
		if v := binary.LittleEndian.Uint64(s); v > 0 && binary.LittleEndian.Uint32(s[8:]) == crc32.Checksum(s[:8], castagnoli) && v >= n {
			n, ok = v, true
			w.slot = int64(1 - i)
		}
	}
	return n, ok
}

// write records a commit. A failure only makes the witness see less.
func (w *witness) write(n uint64) {
	if w == nil {
		return
	}
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], n)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	if _, err := w.f.WriteAt(b[:], w.slot*witnessSlot); err == nil {
		w.slot = 1 - w.slot
	}
}

func (w *witness) close() {
	if w != nil {
		_ = w.f.Close()
	}
}
