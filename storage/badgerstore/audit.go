package badgerstore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// AppendAudit adds an entry, durably.
func (s *Store) AppendAudit(ctx context.Context, e storage.AuditEntry) error {
	return s.guard(ctx, func(t *tx) error { return t.audit(e) })
}

func (t *tx) audit(e storage.AuditEntry) error {
	c := t.counters()
	c.Audit++
	e.Seq = c.Audit
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("badgerstore: audit entry: %w", err)
	}
	if len(b) > storage.MaxRecord {
		return errTooLarge
	}
	t.put(auditKey(e.Seq), append(newRecord(len(b)), b...))
	return nil
}

// AuditLog lists entries with Seq above after, oldest first.
func (s *Store) AuditLog(_ context.Context, after uint64, limit int) ([]storage.AuditEntry, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	sn := s.read()
	defer sn.release()
	var list []storage.AuditEntry
	if limit <= 0 || after == 1<<64-1 {
		return nil, nil
	}
	err := sn.scan([]byte{kAudit}, auditKey(after+1), false, func(k, p []byte) (bool, error) {
		var e storage.AuditEntry
		if err := json.Unmarshal(p, &e); err != nil {
			return false, corrupt(k, "not an audit entry")
		}
		list = append(list, e)
		return len(list) < limit, nil
	})
	return list, err
}

// LoadCertificates returns a merchant's last good set of platform certificates.
func (s *Store) LoadCertificates(_ context.Context, merchant string) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	sn := s.read()
	defer sn.release()
	var data []byte
	_, err := sn.get(key1(kCert, merchant), func(p []byte) error {
		data = append([]byte{}, p...)
		return nil
	})
	return data, err
}

// SaveCertificates keeps a merchant's platform certificates.
func (s *Store) SaveCertificates(ctx context.Context, merchant string, data []byte) error {
	if len(data) > storage.MaxRecord || len(merchant) > maxKeyText {
		return errTooLarge
	}
	rec := append(newRecord(len(data)), data...)
	return s.guard(ctx, func(t *tx) error {
		t.put(key1(kCert, merchant), append([]byte(nil), rec...))
		return nil
	})
}
