package caddymodule

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage/badgerstore"
)

func init() {
	caddy.RegisterModule(new(BadgerStorage))
}

// BadgerStorage keeps everything in an embedded Badger database. One directory
// serves one gateway process at a time; several gateways need a shared store.
type BadgerStorage struct {
	// The directory, created when missing. It must be on a local disk: not on
	// NFS, and not on tmpfs or a container's overlay, which forget.
	// Default: `wechatpay` in Caddy's data directory.
	Dir string `json:"dir,omitempty"`

	dir string // absolute
}

// CaddyModule returns the Caddy module information.
func (*BadgerStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "wechatpay.storage.badger",
		New: func() caddy.Module { return new(BadgerStorage) },
	}
}

// Provision resolves the directory. It creates and opens nothing.
func (b *BadgerStorage) Provision(caddy.Context) error {
	dir := filepath.Join(caddy.AppDataDir(), "wechatpay")
	if b.Dir != "" {
		var err error
		if dir, err = caddy.NewReplacer().ReplaceOrErr(b.Dir, true, true); err != nil {
			return fmt.Errorf("storage badger: directory: %w", err)
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("storage badger: directory: %w", err)
	}
	if fi, err := os.Stat(abs); err == nil && !fi.IsDir() {
		return fmt.Errorf("storage badger: %s is not a directory; name one, or leave it out for the default", abs)
	}
	b.dir = abs
	return nil
}

// StoreKey is the directory with its symbolic links resolved as far as it
// exists, so that two spellings of one place are one store.
func (b *BadgerStorage) StoreKey() (string, error) {
	return "badger:" + canonicalDir(b.dir), nil
}

// canonicalDir resolves the symbolic links of the longest existing prefix.
func canonicalDir(dir string) string {
	for prefix, rest := dir, ""; ; {
		if real, err := filepath.EvalSymlinks(prefix); err == nil {
			return filepath.Join(real, rest)
		}
		parent := filepath.Dir(prefix)
		if parent == prefix {
			return dir
		}
		rest = filepath.Join(filepath.Base(prefix), rest)
		prefix = parent
	}
}

// OpenStore opens the database.
func (b *BadgerStorage) OpenStore(ctx context.Context, log *slog.Logger) (storage.Store, error) {
	return badgerstore.Open(ctx, badgerstore.Options{Dir: b.dir, Logger: log})
}

// Warnings tells when the directory's file system does not keep what it is given.
func (b *BadgerStorage) Warnings() []string {
	if w := badgerstore.DirWarning(b.dir); w != "" {
		return []string{w}
	}
	return nil
}

var (
	_ caddy.Provisioner = (*BadgerStorage)(nil)
	_ StorageModule     = (*BadgerStorage)(nil)
)
