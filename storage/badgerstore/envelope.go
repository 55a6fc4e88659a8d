package badgerstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Every value in the store is an envelope: version, flags, length of the
// payload, CRC-32C over key, version, flags and payload. The key is part of the
// sum, so a value found under another key is corrupt, too.
const (
	envelopeVersion = 1
	envelopeHeader  = 10

	flagChunked = 1 // the payload describes chunks that hold the real one
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newRecord returns a buffer with room for the header, to append a payload to.
func newRecord(size int) []byte {
	return make([]byte, envelopeHeader, envelopeHeader+size)
}

// seal fills in the header of a record made by newRecord.
func seal(key, rec []byte, flags byte) []byte {
	rec[0], rec[1] = envelopeVersion, flags
	binary.LittleEndian.PutUint32(rec[2:], uint32(len(rec)-envelopeHeader))
	binary.LittleEndian.PutUint32(rec[6:], checksum(key, rec))
	return rec
}

func checksum(key, rec []byte) uint32 {
	sum := crc32.Update(0, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, rec[:6])
	return crc32.Update(sum, castagnoli, rec[envelopeHeader:])
}

// unseal returns the payload and the flags of a record, or ErrCorrupt.
func unseal(key, rec []byte) ([]byte, byte, error) {
	switch {
	case len(rec) < envelopeHeader:
		return nil, 0, corrupt(key, "too short")
	case rec[0] != envelopeVersion:
		return nil, 0, corrupt(key, "unknown version")
	case binary.LittleEndian.Uint32(rec[2:]) != uint32(len(rec)-envelopeHeader):
		return nil, 0, corrupt(key, "wrong length")
	case binary.LittleEndian.Uint32(rec[6:]) != checksum(key, rec):
		return nil, 0, corrupt(key, "wrong checksum")
	}
	return rec[envelopeHeader:], rec[1], nil
}

// corrupt names the kind of record, not its key, which may hold numbers of
// people's orders.
func corrupt(key []byte, what string) error {
	kind := byte('?')
	if len(key) > 0 {
		kind = key[0]
	}
	return fmt.Errorf("%w: %s (record kind %q)", storage.ErrCorrupt, what, kind)
}

// A reader takes a payload apart. The first field that does not fit makes every
// later one empty and bad true.
type reader struct {
	s   string
	bad bool
}

func (r *reader) uvarint() uint64 {
	var v uint64
	for i := 0; i < len(r.s) && i < binary.MaxVarintLen64; i++ {
		c := r.s[i]
		if c < 0x80 {
			if i == binary.MaxVarintLen64-1 && c > 1 {
				break
			}
			r.s = r.s[i+1:]
			return v | uint64(c)<<(7*i)
		}
		v |= uint64(c&0x7f) << (7 * i)
	}
	r.bad, r.s = true, ""
	return 0
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.s)) {
		r.bad, r.s = true, ""
		return ""
	}
	t := r.s[:n]
	r.s = r.s[n:]
	return t
}

func (r *reader) fixed64() uint64 {
	if len(r.s) < 8 {
		r.bad, r.s = true, ""
		return 0
	}
	var v uint64
	for i := range 8 {
		v |= uint64(r.s[i]) << (8 * i)
	}
	r.s = r.s[8:]
	return v
}

func (r *reader) nanos() int64 { return int64(r.fixed64()) }

// count reads the length of a list whose elements take at least one byte each.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.s)) {
		r.bad, r.s = true, ""
		return 0
	}
	return int(n)
}

func (r *reader) done(key []byte) error {
	if r.bad || r.s != "" {
		return corrupt(key, "fields do not fit")
	}
	return nil
}

func appendFixed64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendNanos(b []byte, n int64) []byte { return appendFixed64(b, uint64(n)) }
