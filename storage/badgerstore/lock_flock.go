//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package badgerstore

import (
	"os"
	"syscall"
)

// lockDir takes the lock that Badger takes on its directory, flock(2), unless
// somebody has it.
func lockDir(dir string) (unlock func(), ok bool) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, false
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // it was only read
		return nil, false
	}
	return func() { _ = f.Close() }, true // which gives the lock back
}
