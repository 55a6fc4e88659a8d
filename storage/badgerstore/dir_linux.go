package badgerstore

import (
	"fmt"
	"path/filepath"
	"syscall"
)

func freeSpace(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// DirWarning tells why a directory is no place for records of money: a file
// system that lives in memory, or a container's own layer that goes with it.
// It returns "" when there is nothing to say, and creates nothing: for a
// directory that does not exist yet the nearest existing parent is looked at.
func DirWarning(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs(abs, &st); err == nil {
			return fileSystemWarning(dir, int64(st.Type))
		}
		up := filepath.Dir(abs)
		if up == abs {
			return ""
		}
		abs = up
	}
}

// The magic numbers are those of statfs(2).
func fileSystemWarning(dir string, magic int64) string {
	switch uint32(magic) {
	case 0x01021994: // TMPFS_MAGIC
		return fmt.Sprintf("%s is on a file system in memory (tmpfs): notifications that WeChat was told SUCCESS for are lost with the machine; put it on a disk", dir)
	case 0x858458f6: // RAMFS_MAGIC
		return fmt.Sprintf("%s is on a file system in memory (ramfs): notifications that WeChat was told SUCCESS for are lost with the machine; put it on a disk", dir)
	case 0x794c7630: // OVERLAYFS_SUPER_MAGIC
		return fmt.Sprintf("%s is on a container's own layer (overlayfs), which goes with the container: mount a volume there", dir)
	case 0x6969: // NFS_SUPER_MAGIC
		return fmt.Sprintf("%s is on NFS, whose locks and memory maps an embedded store cannot rely on: use a local disk", dir)
	}
	return ""
}
