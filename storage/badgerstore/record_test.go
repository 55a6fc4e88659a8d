package badgerstore

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func fullNote() *note {
	return &note{
		Record: storage.Record{
			Notification: storage.Notification{
				ID: "evt_1", Key: "k", Merchant: "m", Group: "g", Mchid: "1", SubMchid: "2", Appid: "3", NotificationID: "4",
				EventType: "5", Kind: "6", OutTradeNo: "7", OutRefundNo: "8", TransactionID: "9", ParkingID: "10", TradeScene: "11",
				Orders: []storage.OrderKey{{Mchid: "a", SubMchid: "b", Number: "c"}, {Number: "d"}}, Money: true,
				Source: storage.SourceQuery, AmountCheck: storage.AmountOff, ReceivedAt: time.Unix(1, 2).UTC(), Host: "h", Path: "/p", Route: "r",
			},
			State: storage.StateParked, ParkReason: storage.ParkNoRoute, ParkDetail: "d", Attempts: 3, NextDue: time.Unix(5, 0).UTC(),
			LastError: "e", LastStatus: 500, DeliveredAt: time.Time{}, Seen: 1, BodyExpired: true,
		},
		seq: 1, qseq: 2, underID: "u", hasBody: true, hasAnswer: true,
	}
}

func TestRecordRoundTrip(t *testing.T) {
	key, want := []byte("nk"), fullNote()
	p, flags, err := unseal(key, seal(key, want.encode(), 0))
	if err != nil || flags != 0 {
		t.Fatal(err, flags)
	}
	var got note
	if err := got.decode(key, p); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, want) {
		t.Fatalf("%+v\n%+v", got, want)
	}
}

// TestEveryFlippedBit: no single changed bit, no cut and no other key goes
// unnoticed.
func TestEveryFlippedBit(t *testing.T) {
	key := []byte("nk")
	rec := seal(key, fullNote().encode(), 0)
	for i := range len(rec) * 8 {
		bad := bytes.Clone(rec)
		bad[i/8] ^= 1 << (i % 8)
		if _, _, err := unseal(key, bad); !errors.Is(err, storage.ErrCorrupt) {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	for i := range rec {
		if _, _, err := unseal(key, rec[:i]); !errors.Is(err, storage.ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, _, err := unseal([]byte("nl"), rec); !errors.Is(err, storage.ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestTimes(t *testing.T) {
	last := int64(minTime)
	for _, at := range []time.Time{{}, time.Unix(-1<<32, 0), time.Unix(0, 0), time.Unix(0, 1), time.Unix(1<<32, 0)} {
		n := nanos(at)
		if !fromNanos(n).Equal(at) || n < last {
			t.Errorf("%v: %d", at, n)
		}
		if readTime(appendTime(nil, n)) != n {
			t.Errorf("%v", at)
		}
		last = n
	}
}

// FuzzDecode feeds payloads that passed the checksum, as a bug of another
// version would write them: the decoders may refuse them and no more.
func FuzzDecode(f *testing.F) {
	f.Add(fullNote().encode()[envelopeHeader:])
	f.Add(encodeBody(&storage.Notification{Body: []byte("body"), ResourceEnd: 2, Raw: []byte{}, RawHeaders: []storage.Header{{Name: "a", Value: "b"}}})[envelopeHeader:])
	f.Add(encodeTexts([]string{"a", "b"})[envelopeHeader:])
	f.Add((&workRecord{Work: storage.Work{ID: "a", Payload: []byte("p")}}).encode()[envelopeHeader:])
	f.Add(encodeMemo(&storage.Memo{Data: []byte("d"), Expires: time.Unix(1, 0)})[envelopeHeader:])
	f.Add((&counters{Commit: 1, BodyCursor: "x"}).encode()[envelopeHeader:])
	f.Fuzz(func(t *testing.T, p []byte) {
		key := []byte("key")
		var n note
		if n.decode(key, p) == nil {
			var again note
			if err := again.decode(key, n.encode()[envelopeHeader:]); err != nil || !reflect.DeepEqual(n, again) {
				t.Fatalf("%v\n%+v\n%+v", err, n, again)
			}
		}
		var in storage.Notification
		if decodeBody(key, p, &in) == nil {
			_ = in.Resource()
		}
		_, _ = decodeTexts(key, p)
		var w workRecord
		_ = w.decode(key, p)
		var c counters
		_ = c.decode(p)
		var m storage.Memo
		if decodeMemo(key, p, &m) == nil {
			if again := encodeMemo(&m)[envelopeHeader:]; !bytes.Equal(again, p) {
				t.Fatalf("%x became %x", p, again)
			}
		}
		var g groupRecord
		_ = g.decode(key)(p)
		_, _, _, _ = decodeChunkList(key, p)
		_, _, _ = unseal(key, p)
	})
}
