package badgerstore

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// The key space. The first byte says what a key is; text in keys is preceded by
// its length, so that no two keys can be mistaken for each other and a prefix
// selects whole components.
const (
	kFormat  = 'F' // format version of the store
	kCounter = 'c' // counters, one record per batch
	kQueueNo = 'm' // merchant → number of its pending notifications

	kNote     = 'n' // id → notification without bodies
	kBody     = 'b' // id → body, raw bytes and headers
	kAnswer   = 'a' // id → the backend's answer
	kTime     = 't' // received, seq → id: every notification
	kState    = 's' // state, received, seq → id: every state but delivered
	kNumber   = 'o' // out_trade_no, received, seq → id
	kWechatID = 'w' // WeChat's notification id → id of the first business key
	kParked   = 'p' // id → ids of what is parked under the business key
	kParkedOn = 'v' // order, received, seq → id of a parked notification
	kGroup    = 'g' // merchant, group → head and tail of those waiting
	kLink     = 'l' // id → id of the next waiting one in its group
	kDue      = 'q' // merchant, due, qseq → id: heads of groups only

	kOrder    = 'O' // order
	kSub      = 'S' // number of a sub-order → its combine order
	kTx       = 'T' // mchid, transaction_id → order
	kRefund   = 'R' // refund
	kCall     = 'C' // call
	kOpenCall = 'P' // started, id → call that is pending
	kAged     = 'U' // created, row key → for the sweeper
	kMemo     = 'M' // key → memo
	kMemoEnd  = 'E' // expires, key → key: for the sweeper

	kWork    = 'W' // kind, id → work
	kWorkDue = 'D' // kind, due, seq → id

	kAudit = 'A' // seq → entry
	kCert  = 'Z' // merchant → platform certificates
	kLate  = 'L' // keys that the sweeper passed before they were finished
	kChunk = 'z' // key, chunk set, index → part of a large value
	kMark  = 'j' // number of a commit modulo markRing → the number
)

const maxKeyText = 1024

// The first and the last time that nanoseconds since 1970 can tell.
var (
	firstTime = time.Unix(0, math.MinInt64+1)
	lastTime  = time.Unix(0, math.MaxInt64)
)

// nanos maps a time to a number that sorts as the time does. The zero time, and
// what lies before the year 1678, is the smallest; what lies after 2262 is the
// largest.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(firstTime):
		return math.MinInt64
	case t.After(lastTime):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == math.MinInt64 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func appendTime(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(n)^(1<<63))
}

func readTime(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ (1 << 63)) }

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func key1(kind byte, s string) []byte {
	return appendText(append(make([]byte, 0, len(s)+4), kind), s)
}

func key2(kind byte, s, t string) []byte {
	return appendText(appendText(append(make([]byte, 0, len(s)+len(t)+6), kind), s), t)
}

func timeKey(at int64, seq uint64) []byte {
	b := appendTime(append(make([]byte, 0, 17), kTime), at)
	return binary.BigEndian.AppendUint64(b, seq)
}

func indexKey(kind byte, text string, at int64, seq uint64) []byte {
	b := appendText(append(make([]byte, 0, len(text)+20), kind), text)
	return binary.BigEndian.AppendUint64(appendTime(b, at), seq)
}

func appendOrderKey(b []byte, k storage.OrderKey) []byte {
	return appendText(appendText(appendText(b, k.Mchid), k.SubMchid), k.Number)
}

func orderKey(kind byte, k storage.OrderKey) []byte {
	return appendOrderKey(append(make([]byte, 0, 64), kind), k)
}

func parkedOnKey(k storage.OrderKey, at int64, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendTime(orderKey(kParkedOn, k), at), seq)
}

func refundKey(k storage.RefundKey) []byte {
	b := append(make([]byte, 0, 64), kRefund)
	return appendText(appendText(appendText(b, k.Mchid), k.SubMchid), k.OutRefundNo)
}

func agedKey(at int64, row []byte) []byte {
	return append(appendTime(append(make([]byte, 0, len(row)+9), kAged), at), row...)
}

func openCallKey(at int64, id string) []byte {
	return appendText(appendTime(append(make([]byte, 0, len(id)+12), kOpenCall), at), id)
}

func memoEndKey(at int64, name string) []byte {
	return appendText(appendTime(append(make([]byte, 0, len(name)+12), kMemoEnd), at), name)
}

func auditKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kAudit}, seq)
}

// tail16 returns the time and the sequence number that end an index key.
func tail16(k []byte) (at int64, seq uint64) {
	k = k[len(k)-16:]
	return readTime(k), binary.BigEndian.Uint64(k[8:])
}
