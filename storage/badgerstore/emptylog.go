package badgerstore

import (
	"fmt"
	"os"
	"path/filepath"
)

// removeEmptyLogs removes write-ahead and value logs without a byte in them. Badger makes
// such a file and gives it its length in two steps; a process that died in
// between left one that Badger refuses to open, although nothing was ever
// written to it. Where a log lost what it held, the witness of the commits
// tells.
//
// It holds the lock that Badger takes on the directory: another gateway that is
// at work there may be between the two steps. When the lock is taken it does
// nothing, and opening the store says why.
func (s *Store) removeEmptyLogs() error {
	unlock, ok := lockDir(s.opt.Dir)
	if !ok {
		return nil
	}
	defer unlock()
	files, err := os.ReadDir(s.opt.Dir)
	if err != nil {
		return fmt.Errorf("badgerstore: %w", err)
	}
	for _, f := range files {
		if ext := filepath.Ext(f.Name()); ext != ".mem" && ext != ".vlog" {
			continue
		}
		info, err := f.Info()
		if err != nil || info.Size() > 0 {
			continue
		}
		if err := os.Remove(filepath.Join(s.opt.Dir, f.Name())); err != nil {
			return fmt.Errorf("badgerstore: an empty log is in the way: %w", err)
		}
		s.log.Warn("removed an empty log that a crash left behind", "file", f.Name())
	}
	return nil
}
