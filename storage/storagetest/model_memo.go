package storagetest

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func checkMemoKeys(names []string) error {
	if len(names) > storage.MaxChangeMemos || slices.ContainsFunc(names, func(n string) bool { return len(n) > storage.MaxMemoKey }) {
		return storage.ErrTooLarge
	}
	return nil
}

func checkMemos(names []string, memos map[string]*storage.Memo) error {
	for name, memo := range memos {
		switch {
		case name == "" || !slices.Contains(names, name):
			return errors.New("model: a memo is not under a key that was named")
		case memo == nil:
		case memo.Key != name:
			return errors.New("model: a memo is not under its own key")
		case memo.Expires.IsZero():
			return errors.New("model: a memo must say when it expires")
		case len(memo.Data) > storage.MaxMemo:
			return storage.ErrTooLarge
		}
	}
	return nil
}

// memo returns a copy of a memo that has not expired.
func (m *Model) memo(name string) (storage.Memo, bool) {
	memo, ok := m.memos[name]
	memo.Data = bytes.Clone(memo.Data)
	return memo, ok && memo.Expires.After(m.now())
}

func (m *Model) readMemos(names []string, rows *storage.Rows) {
	if len(names) > 0 {
		rows.Memos = map[string]*storage.Memo{}
	}
	for _, name := range names {
		if memo, ok := m.memo(name); ok {
			rows.Memos[name] = &memo
		}
	}
}

func (m *Model) writeMemos(names []string, memos map[string]*storage.Memo) {
	for _, name := range names {
		memo := memos[name]
		if memo != nil {
			c := *memo
			c.Data = bytes.Clone(memo.Data)
			m.memos[name] = c
		} else if _, live := m.memo(name); live {
			delete(m.memos, name)
		}
	}
}

// Memo implements storage.Ledger.
func (m *Model) Memo(_ context.Context, key string) (storage.Memo, error) {
	if err := m.lock(); err != nil {
		return storage.Memo{}, err
	}
	defer m.mu.Unlock()
	if memo, ok := m.memo(key); ok {
		return memo, nil
	}
	return storage.Memo{}, storage.ErrNotFound
}
