package badgerstore

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func appendUvarint(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

// Park stores a notification without taking its business key.
func (s *Store) Park(ctx context.Context, in storage.Notification, reason storage.ParkReason, detail string) (string, bool, error) {
	if err := check(&in); err != nil {
		return "", false, err
	}
	if len(detail) > storage.MaxRecord/2 {
		return "", false, errTooLarge
	}
	id, fresh := parkedID(&in), false
	body := encodeBody(&in)
	err := s.guard(ctx, func(t *tx) error {
		there, err := t.has(key1(kNote, id))
		if err != nil || there {
			return err
		}
		key := key1(kParked, in.ID)
		var list []string
		if _, err := t.get(key, func(p []byte) error {
			list, err = decodeTexts(key, p)
			return err
		}); err != nil {
			return err
		}
		if _, err := t.noteWechatID(&in); err != nil {
			return err
		}
		n := &note{
			Record: storage.Record{
				Notification: in, State: storage.StateParked, ParkReason: reason, ParkDetail: detail,
			},
			seq: t.seq(), underID: in.ID, hasBody: true,
		}
		n.ID = id
		t.put(key, encodeTexts(append(slices.Clip(list), id)))
		t.put(key1(kBody, id), body)
		at := n.received()
		t.putText(timeKey(at, n.seq), id)
		if n.OutTradeNo != "" {
			t.putText(indexKey(kNumber, n.OutTradeNo, at, n.seq), id)
		}
		for _, o := range n.Orders {
			t.putText(parkedOnKey(o, at, n.seq), id)
		}
		t.enterState(n)
		t.put(key1(kNote, id), n.encode())
		fresh = true
		return nil
	})
	if err != nil {
		return "", false, err
	}
	if !fresh {
		s.mem.noteSeen(id)
	}
	return id, fresh, nil
}

// ParkedFor lists what is parked before acceptance and speaks of the order,
// oldest first, whole.
func (s *Store) ParkedFor(_ context.Context, key storage.OrderKey) ([]storage.Record, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.mem.mu.Lock()
	none := s.mem.counters.ParkedOn == 0
	s.mem.mu.Unlock()
	if none {
		return nil, nil
	}
	sn := s.read()
	defer sn.release()
	var ids []string
	if err := sn.scan(orderKey(kParkedOn, key), nil, false, func(_, p []byte) (bool, error) {
		ids = append(ids, string(p))
		return len(ids) < 100, nil
	}); err != nil {
		return nil, err
	}
	list := make([]storage.Record, 0, len(ids))
	for _, id := range ids {
		n, err := s.whole(sn, id)
		if err != nil {
			return nil, err
		}
		if n == nil {
			return nil, corrupt([]byte{kParkedOn}, "parked notification is missing")
		}
		list = append(list, n.Record)
	}
	return list, nil
}

// whole reads a notification with its bodies; nil when there is none.
func (s *Store) whole(v view, id string) (*note, error) {
	n, err := loadNote(v, id)
	if err != nil || n == nil {
		return nil, err
	}
	if err := loadBodies(v, n); err != nil {
		return nil, err
	}
	s.mem.annotate(n)
	return n, nil
}
