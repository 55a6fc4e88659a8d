package badgerstore

import (
	"hash/maphash"
	"sync/atomic"
)

// recentIDs remembers which notifications came lately, so that only what may be
// a repeat is looked up before it goes to the committer: reading costs a fresh
// notification about a tenth of its acceptance. It forgets at will, since the
// committer decides in any case. The zero value is not ready; see newRecentIDs.
type recentIDs struct {
	seed  maphash.Seed
	slots [1 << 16]atomic.Uint64 // by the low bits of the id's hash
}

func newRecentIDs() *recentIDs { return &recentIDs{seed: maphash.MakeSeed()} }

func (r *recentIDs) add(id string) {
	h := maphash.String(r.seed, id)
	r.slots[h%uint64(len(r.slots))].Store(h)
}

func (r *recentIDs) has(id string) bool {
	h := maphash.String(r.seed, id)
	return r.slots[h%uint64(len(r.slots))].Load() == h
}
