package badgerstore

import (
	"encoding/binary"
	"fmt"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Every commit leaves its number behind, in a ring. When a write-ahead log that
// is not the newest is damaged, Badger drops the rest of that one and goes on
// with the next: the last commit is there and those before it are not. Then
// there is a hole in the ring.
//
// The ring is longer than what write-ahead logs can hold: three of 16 MiB, and
// no commit takes less than 400 bytes there.
const markRing = 1 << 17

func markWrite(commit uint64) write {
	key := binary.BigEndian.AppendUint32([]byte{kMark}, uint32(commit%markRing))
	return write{key, seal(key, appendFixed64(newRecord(8), commit), 0)}
}

// checkMarks returns an error when the mark of a commit is missing.
func (s *Store) checkMarks(c *counters) error {
	first := max(c.Base, 1)
	if c.Commit >= markRing {
		first = max(first, c.Commit-markRing+1)
	}
	if c.Commit == 0 || first > c.Commit {
		return nil
	}
	found := uint64(0)
	if err := s.snap.scan([]byte{kMark}, nil, false, func(k, p []byte) (bool, error) {
		if len(p) != 8 {
			return false, corrupt(k, "wrong length")
		}
		if n := binary.LittleEndian.Uint64(p); n >= first && n <= c.Commit {
			found++
		}
		return true, nil
	}); err != nil {
		return err
	}
	if missing := c.Commit - first + 1 - found; missing > 0 {
		return fmt.Errorf("%w: %d of the commits %d to %d that were acknowledged are missing", storage.ErrCorrupt, missing, first, c.Commit)
	}
	return nil
}
