//go:build !linux

package badgerstore

import "math"

// freeSpace is not known on this system; writes are not refused for it.
func freeSpace(string) (int64, error) { return math.MaxInt64, nil }

// DirWarning tells why a directory is no place for records of money. On this
// system it has nothing to say.
func DirWarning(string) string { return "" }
