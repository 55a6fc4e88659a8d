package badgerstore

import (
	"encoding/binary"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// note is a notification as stored: the record without its bodies, and what the
// store itself needs to know of it.
type note struct {
	storage.Record
	seq  uint64 // order of arrival; never changes
	qseq uint64 // place in the queue; a replay gets a new one
	// underID is the id that a notification parked before acceptance gets when
	// it is accepted; empty for accepted ones. Its own ID is its parked id.
	underID   string
	hasBody   bool
	hasAnswer bool
}

func (n *note) received() int64 { return nanos(n.ReceivedAt) }

// finished says that retention may remove the bodies.
func (n *note) finished() bool {
	switch n.State {
	case storage.StateDelivered, storage.StateDismissed, storage.StateSuperseded:
		return true
	case storage.StatePending, storage.StateDead, storage.StateParked:
		return false
	}
	return false
}

const (
	bitMoney = 1 << iota
	bitBody
	bitAnswer
	bitExpired
)

func (n *note) encode() []byte {
	b := newRecord(640)
	var bits uint64
	for _, f := range []struct {
		on  bool
		bit uint64
	}{{n.Money, bitMoney}, {n.hasBody, bitBody}, {n.hasAnswer, bitAnswer}, {n.BodyExpired, bitExpired}} {
		if f.on {
			bits |= f.bit
		}
	}
	b = binary.AppendUvarint(b, bits)
	b = appendFixed64(b, n.seq)
	b = appendFixed64(b, n.qseq)
	b = appendNanos(b, n.received())
	b = appendNanos(b, nanos(n.NextDue))
	b = appendNanos(b, nanos(n.DeliveredAt))
	b = binary.AppendUvarint(b, uint64(n.Attempts))
	b = binary.AppendUvarint(b, uint64(n.LastStatus))
	for _, s := range [...]string{
		n.ID, n.underID, n.Key, n.Merchant, n.Group, n.Mchid, n.SubMchid, n.Appid, n.NotificationID,
		n.EventType, n.Kind, n.OutTradeNo, n.OutRefundNo, n.TransactionID, n.ParkingID, n.TradeScene,
		string(n.Source), string(n.AmountCheck), n.Host, n.Path, n.Route,
		string(n.State), string(n.ParkReason), n.ParkDetail, n.LastError,
	} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(n.Orders)))
	for _, o := range n.Orders {
		b = appendOrderKey(b, o)
	}
	return b
}

func (n *note) decode(key, payload []byte) error {
	r := reader{s: string(payload)}
	bits := r.uvarint()
	n.Money, n.hasBody = bits&bitMoney != 0, bits&bitBody != 0
	n.hasAnswer, n.BodyExpired = bits&bitAnswer != 0, bits&bitExpired != 0
	n.seq, n.qseq = r.fixed64(), r.fixed64()
	n.ReceivedAt, n.NextDue, n.DeliveredAt = fromNanos(r.nanos()), fromNanos(r.nanos()), fromNanos(r.nanos())
	n.Attempts, n.LastStatus = int(r.uvarint()), int(r.uvarint())
	for _, s := range [...]*string{
		&n.ID, &n.underID, &n.Key, &n.Merchant, &n.Group, &n.Mchid, &n.SubMchid, &n.Appid, &n.NotificationID,
		&n.EventType, &n.Kind, &n.OutTradeNo, &n.OutRefundNo, &n.TransactionID, &n.ParkingID, &n.TradeScene,
		(*string)(&n.Source), (*string)(&n.AmountCheck), &n.Host, &n.Path, &n.Route,
		(*string)(&n.State), (*string)(&n.ParkReason), &n.ParkDetail, &n.LastError,
	} {
		*s = r.text()
	}
	if c := r.count(); c > 0 {
		n.Orders = make([]storage.OrderKey, 0, min(c, 64))
		for range c {
			n.Orders = append(n.Orders, storage.OrderKey{Mchid: r.text(), SubMchid: r.text(), Number: r.text()})
			if r.bad {
				break
			}
		}
	}
	n.Seen = 1
	return r.done(key)
}

// encodeBody holds what retention removes first.
func encodeBody(n *storage.Notification) []byte {
	size := len(n.Body) + len(n.Raw) + 32
	for _, h := range n.RawHeaders {
		size += len(h.Name) + len(h.Value) + 10
	}
	b := newRecord(size)
	b = binary.AppendUvarint(b, uint64(n.ResourceStart))
	b = binary.AppendUvarint(b, uint64(n.ResourceEnd))
	b = binary.AppendUvarint(b, uint64(len(n.RawHeaders)))
	for _, h := range n.RawHeaders {
		b = appendText(appendText(b, h.Name), h.Value)
	}
	b = appendBytes(b, n.Body)
	return appendBytes(b, n.Raw)
}

func decodeBody(key, payload []byte, n *storage.Notification) error {
	// The two large fields are copied once each, as bytes, and not through the
	// reader's string.
	rest := payload
	uv := func() uint64 {
		v, k := binary.Uvarint(rest)
		if k <= 0 {
			rest = nil
			return 1 << 62
		}
		rest = rest[k:]
		return v
	}
	take := func() ([]byte, bool) {
		l := uv()
		if l > uint64(len(rest)) {
			return nil, false
		}
		p := rest[:l:l]
		rest = rest[l:]
		return p, true
	}
	start, end, headers := uv(), uv(), uv()
	if headers > uint64(len(rest)) {
		return corrupt(key, "fields do not fit")
	}
	n.RawHeaders = nil
	for range headers {
		name, ok1 := take()
		value, ok2 := take()
		if !ok1 || !ok2 {
			return corrupt(key, "fields do not fit")
		}
		n.RawHeaders = append(n.RawHeaders, storage.Header{Name: string(name), Value: string(value)})
	}
	body, ok1 := takeBytes(take)
	raw, ok2 := takeBytes(take)
	if !ok1 || !ok2 || len(rest) != 0 || start > end || end > uint64(len(body)) {
		return corrupt(key, "fields do not fit")
	}
	n.Body, n.Raw, n.ResourceStart, n.ResourceEnd = body, raw, int(start), int(end)
	return nil
}

// appendBytes keeps nil and empty apart: the first byte says which.
func appendBytes(b, p []byte) []byte {
	if p == nil {
		return append(b, 1, 0)
	}
	b = binary.AppendUvarint(append(b, 1, 1), uint64(len(p)))
	return append(b, p...)
}

func takeBytes(take func() ([]byte, bool)) ([]byte, bool) {
	kind, ok := take()
	if !ok || len(kind) != 1 || kind[0] > 1 {
		return nil, false
	}
	if kind[0] == 0 {
		return nil, true
	}
	p, ok := take()
	if !ok {
		return nil, false
	}
	return append(make([]byte, 0, len(p)), p...), true
}
