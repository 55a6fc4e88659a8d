package badgerstore

// A small heap of entries that knows the place of each, so that one can be
// taken out of the middle. container/heap would box every entry.

func byDue(a, b *entry) bool   { return a.mark().compare(b.mark()) < 0 }
func setPlace(e *entry, i int) { e.place = i }
func byLease(a, b *entry) bool { return a.until < b.until }
func setLease(e *entry, i int) { e.lease = i }

func heapPush(h *[]*entry, e *entry, less func(a, b *entry) bool, set func(*entry, int)) {
	*h = append(*h, e)
	heapUp(*h, len(*h)-1, less, set)
}

func heapRemove(h *[]*entry, i int, less func(a, b *entry) bool, set func(*entry, int)) {
	s := *h
	gone, last := s[i], len(s)-1
	if i != last {
		s[i] = s[last]
		set(s[i], i)
	}
	s[last] = nil
	*h = s[:last]
	if i != last {
		if heapUp(*h, i, less, set) == i {
			heapDown(*h, i, less, set)
		}
	}
	set(gone, -1)
}

func heapUp(s []*entry, i int, less func(a, b *entry) bool, set func(*entry, int)) int {
	e := s[i]
	for i > 0 {
		up := (i - 1) / 2
		if !less(e, s[up]) {
			break
		}
		s[i] = s[up]
		set(s[i], i)
		i = up
	}
	s[i] = e
	set(e, i)
	return i
}

func heapDown(s []*entry, i int, less func(a, b *entry) bool, set func(*entry, int)) {
	e := s[i]
	for {
		down := 2*i + 1
		if down >= len(s) {
			break
		}
		if down+1 < len(s) && less(s[down+1], s[down]) {
			down++
		}
		if !less(s[down], e) {
			break
		}
		s[i] = s[down]
		set(s[i], i)
		i = down
	}
	s[i] = e
	set(e, i)
}
