package badgerstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func check(n *storage.Notification) error {
	if n.ID == "" || n.Key == "" {
		return errors.New("badgerstore: a notification needs an id and a business key")
	}
	if n.ResourceStart < 0 || n.ResourceStart > n.ResourceEnd || n.ResourceEnd > len(n.Body) {
		return errors.New("badgerstore: the resource does not lie within the body")
	}
	if len(n.ID) > 64 || len(n.Key) > 512 {
		return errTooLarge
	}
	size := len(n.Body) + len(n.Raw)
	for _, h := range n.RawHeaders {
		size += len(h.Name) + len(h.Value)
	}
	for _, s := range [...]string{n.Merchant, n.Group, n.NotificationID, n.OutTradeNo} {
		if len(s) > maxKeyText {
			return errTooLarge
		}
	}
	for _, s := range [...]string{n.Mchid, n.SubMchid, n.Appid, n.EventType, n.Kind, n.OutRefundNo, n.TransactionID, n.ParkingID, n.TradeScene, n.Host, n.Path, n.Route} {
		size += len(s)
	}
	for _, o := range n.Orders {
		if err := checkOrderKey(o); err != nil {
			return err
		}
		size += len(o.Mchid) + len(o.SubMchid) + len(o.Number)
	}
	if size > storage.MaxRecord {
		return errTooLarge
	}
	return nil
}

// loadNote reads a notification without its bodies; nil when there is none.
func loadNote(v view, id string) (*note, error) {
	key := key1(kNote, id)
	var n note
	found, err := v.get(key, func(p []byte) error { return n.decode(key, p) })
	if err != nil || !found {
		return nil, err
	}
	return &n, nil
}

// loadBodies adds what loadNote leaves out.
func loadBodies(v view, n *note) error {
	if n.hasBody {
		key := key1(kBody, n.ID)
		found, err := v.get(key, func(p []byte) error { return decodeBody(key, p, &n.Notification) })
		if err == nil && !found {
			err = corrupt(key, "missing")
		}
		if err != nil {
			return err
		}
	}
	return loadAnswer(v, n)
}

func loadAnswer(v view, n *note) error {
	if !n.hasAnswer {
		return nil
	}
	key := key1(kAnswer, n.ID)
	found, err := v.get(key, func(p []byte) error {
		n.Answer = append([]byte{}, p...)
		return nil
	})
	if err == nil && !found {
		err = corrupt(key, "missing")
	}
	return err
}

// Accept stores the notification unless its business key is taken.
func (s *Store) Accept(ctx context.Context, req storage.AcceptRequest) (storage.Acceptance, error) {
	wanted := req.Claim.Owner != ""
	if wanted {
		if err := checkTerms(req.Claim); err != nil {
			return storage.Acceptance{}, err
		}
	}
	if err := check(&req.Notification); err != nil {
		return storage.Acceptance{}, err
	}
	if err := s.enter(); err != nil {
		return storage.Acceptance{}, err
	}
	defer s.leave()

	// Most repeats are answered from what is committed.
	if id := req.Notification.ID; s.recent.has(id) {
		if a, ok, err := s.repeated(&req, wanted); err != nil || ok {
			return a, err
		}
	} else {
		defer s.recent.add(id)
	}
	body := encodeBody(&req.Notification)
	var a storage.Acceptance
	err := s.do(ctx, func(t *tx) error {
		var err error
		a, err = t.accept(&req, body)
		return err
	})
	if err != nil {
		return storage.Acceptance{}, err
	}
	return a, nil
}

// repeated answers a repeat of a committed notification for which nothing is to
// be written.
func (s *Store) repeated(req *storage.AcceptRequest, wanted bool) (a storage.Acceptance, ok bool, err error) {
	sn := s.read()
	defer sn.release()
	n, err := loadNote(sn, req.Notification.ID)
	if err != nil || n == nil {
		return a, false, err
	}
	if wanted && (n.State == storage.StatePending || n.State == storage.StateDead) {
		return a, false, nil
	}
	conflict, fresh, err := wechatIDSeen(sn, &req.Notification)
	if err != nil || fresh {
		return a, false, err
	}
	if a, err = duplicate(sn, n, req); err != nil {
		return a, false, err
	}
	a.IDConflict = conflict
	s.mem.mu.Lock()
	a.Leased, err = s.mem.leasedNow(n.ID, nanos(s.now())), nil
	s.mem.mu.Unlock()
	s.mem.noteSeen(n.ID)
	return a, true, err
}

// duplicate is the answer for a business key that is taken.
func duplicate(v view, n *note, req *storage.AcceptRequest) (storage.Acceptance, error) {
	a := storage.Acceptance{Outcome: storage.AcceptedDuplicate, State: n.State, Attempts: n.Attempts}
	if n.Key != req.Notification.Key {
		return a, fmt.Errorf("badgerstore: id %s belongs to another business key", n.ID)
	}
	if err := loadAnswer(v, n); err != nil {
		return a, err
	}
	a.Answer = n.Answer
	if n.State == storage.StatePending && n.Group != "" {
		g, found, err := loadGroup(v, n.Merchant, n.Group)
		if err != nil {
			return a, err
		}
		a.Behind = found && g.head != n.ID
	}
	return a, nil
}

// wechatIDSeen tells whether WeChat's notification id came with another
// business key before, and whether it is new.
func wechatIDSeen(v view, n *storage.Notification) (conflict, fresh bool, err error) {
	if n.NotificationID == "" {
		return false, false, nil
	}
	found, err := v.get(key1(kWechatID, n.NotificationID), func(p []byte) error {
		conflict = string(p) != n.ID
		return nil
	})
	return conflict, !found, err
}

func loadGroup(v view, merchant, group string) (g groupRecord, found bool, err error) {
	key := key2(kGroup, merchant, group)
	found, err = v.get(key, g.decode(key))
	return g, found, err
}

func (t *tx) accept(req *storage.AcceptRequest, body []byte) (storage.Acceptance, error) {
	in := &req.Notification
	old, err := loadNote(t, in.ID)
	if err != nil {
		return storage.Acceptance{}, err
	}
	if old != nil {
		return t.acceptAgain(req, old)
	}
	conflict, err := t.noteWechatID(in)
	if err != nil {
		return storage.Acceptance{}, err
	}
	superseded, err := t.supersede(in.ID)
	if err != nil {
		return storage.Acceptance{}, err
	}
	n := &note{Record: storage.Record{Notification: *in, State: storage.StatePending, NextDue: t.now()}}
	head, err := t.insert(n, body)
	if err != nil {
		return storage.Acceptance{}, err
	}
	a := storage.Acceptance{
		Outcome: storage.AcceptedFresh, State: storage.StatePending,
		Behind: !head, IDConflict: conflict, Superseded: superseded,
	}
	if head && req.Claim.Owner != "" {
		n.Body, n.Raw, n.RawHeaders = in.Body, in.Raw, in.RawHeaders
		a.Claim = t.claim(n, req.Claim)
	} else if head {
		t.pushes(n)
	}
	return a, nil
}

// insert writes a new pending notification, at the end of its group's queue, and
// tells whether it is the first there. What is to be known in memory remains to
// be said.
func (t *tx) insert(n *note, body []byte) (head bool, err error) {
	n.seq = t.seq()
	n.Seen = 1
	n.hasBody = true
	if head, err = t.enqueue(n); err != nil {
		return false, err
	}
	t.put(key1(kBody, n.ID), body)
	at := n.received()
	t.putText(timeKey(at, n.seq), n.ID)
	if n.OutTradeNo != "" {
		t.putText(indexKey(kNumber, n.OutTradeNo, at, n.seq), n.ID)
	}
	return head, nil
}

// enqueue puts a notification at the end of its group's queue, as pending, and
// writes it. The caller removes it from its old state first.
func (t *tx) enqueue(n *note) (head bool, err error) {
	n.State, n.ParkReason, n.ParkDetail = storage.StatePending, "", ""
	n.qseq = t.seq()
	head = true
	if n.Group != "" {
		g, found, err := loadGroup(t, n.Merchant, n.Group)
		if err != nil {
			return false, err
		}
		if found {
			t.putText(key1(kLink, g.tail), n.ID)
			g.tail, head = n.ID, false
		} else {
			g = groupRecord{n.ID, n.ID}
		}
		t.put(key2(kGroup, n.Merchant, n.Group), g.encode())
	}
	if head {
		t.putText(indexKey(kDue, n.Queue(), nanos(n.NextDue), n.qseq), n.ID)
	}
	t.enterState(n)
	t.put(key1(kNote, n.ID), n.encode())
	return head, nil
}

// pushes says that a head waits in its queue once this is durable.
func (t *tx) pushes(n *note) {
	t.then(effect{kind: effectPush, id: n.ID, queue: n.Queue(), due: nanos(n.NextDue), qseq: n.qseq})
}

// enterState and leaveState keep the index of states and the counters.
func (t *tx) enterState(n *note) {
	if n.State != storage.StateDelivered {
		t.putText(indexKey(kState, string(n.State), n.received(), n.seq), n.ID)
	}
	t.count(n, 1)
	if n.State == storage.StatePending {
		t.then(effect{kind: effectOldest, due: n.received()})
	}
	if n.finished() && n.hasBody && t.counters().BodyCursor >= string(timeKey(n.received(), n.seq)) {
		// The sweeper is past it.
		t.putText(key1(kLate, string(key1(kNote, n.ID))), n.ID)
	}
}

func (t *tx) leaveState(n *note) {
	if n.State != storage.StateDelivered {
		t.del(indexKey(kState, string(n.State), n.received(), n.seq))
	}
	t.count(n, -1)
}

func (t *tx) count(n *note, delta int64) {
	c := t.counters()
	switch n.State {
	case storage.StatePending:
		t.addPending(n.Queue(), delta)
	case storage.StateParked:
		c.Parked += delta
		if n.underID != "" {
			c.ParkedOn += delta
		}
	case storage.StateDead:
		c.Dead += delta
	case storage.StateDelivered, storage.StateDismissed, storage.StateSuperseded:
	}
}

// noteWechatID remembers WeChat's notification id for the business key that
// brought it first.
func (t *tx) noteWechatID(in *storage.Notification) (conflict bool, err error) {
	conflict, fresh, err := wechatIDSeen(t, in)
	if err == nil && fresh && in.NotificationID != "" {
		t.putText(key1(kWechatID, in.NotificationID), in.ID)
	}
	return conflict, err
}

// acceptAgain answers for a business key that is taken, with the claim if it is
// wanted and can be given.
func (t *tx) acceptAgain(req *storage.AcceptRequest, n *note) (storage.Acceptance, error) {
	a, err := duplicate(t, n, req)
	if err != nil {
		return a, err
	}
	if a.IDConflict, err = t.noteWechatID(&req.Notification); err != nil {
		return a, err
	}
	m := &t.c.s.mem
	m.noteSeen(n.ID)
	now := nanos(t.now())
	m.mu.Lock()
	_, busy := m.busy[n.ID]
	a.Leased = m.leasedNow(n.ID, now)
	m.mu.Unlock()
	if req.Claim.Owner == "" || a.Leased || busy || a.Behind {
		return a, nil
	}
	switch n.State {
	case storage.StatePending:
	case storage.StateDead:
		if n.Group != "" {
			_, waiting, err := loadGroup(t, n.Merchant, n.Group)
			if err != nil {
				return a, err
			}
			if a.Behind = waiting; waiting {
				return a, nil
			}
		}
		if n.BodyExpired {
			return a, nil
		}
		if err := loadBodies(t, n); err != nil {
			return a, err
		}
		t.leaveState(n)
		n.NextDue = t.now()
		if _, err := t.enqueue(n); err != nil {
			return a, err
		}
		a.State = storage.StatePending
	case storage.StateDelivered, storage.StateParked, storage.StateDismissed, storage.StateSuperseded:
		return a, nil
	}
	if err := loadBodies(t, n); err != nil {
		return a, err
	}
	a.Claim = t.claim(n, req.Claim)
	return a, nil
}

// claim leases a head in memory. Nothing can fail in the operation after it.
func (t *tx) claim(n *note, terms storage.ClaimTerms) *storage.Claim {
	m := &t.c.s.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.lookup(n.Queue(), n.ID, nanos(n.NextDue), n.qseq)
	m.unlease(e)
	m.grant(e, terms, nanos(t.now()))
	t.then(effect{kind: effectClaimed, id: n.ID, fence: e.fence})
	n.Seen, n.NextDue = 1+m.seen[n.ID], fromNanos(e.due)
	return &storage.Claim{
		Record: n.Record, Fence: e.fence, Owner: e.owner,
		LeaseUntil: fromNanos(e.until), Replay: n.Source == storage.SourceReplay,
	}
}

// leasedNow says whether somebody holds the notification, with the lock held.
func (m *memory) leasedNow(id string, now int64) bool {
	e := m.entries[id]
	return e != nil && e.leased() && e.until > now
}

// supersede ends what is parked under the business key of the id.
func (t *tx) supersede(id string) (ids []string, err error) {
	if t.counters().ParkedOn == 0 {
		return nil, nil
	}
	key := key1(kParked, id)
	found, err := t.get(key, func(p []byte) error {
		ids, err = decodeTexts(key, p)
		return err
	})
	if err != nil || !found {
		return nil, err
	}
	for _, p := range ids {
		n, err := loadNote(t, p)
		if err != nil {
			return nil, err
		}
		if n == nil {
			return nil, corrupt(key, "parked notification is missing")
		}
		t.unpark(n, storage.StateSuperseded)
	}
	t.del(key)
	return ids, nil
}

// unpark gives a notification that was parked before acceptance its final state.
// The list under its business key is the caller's to change.
func (t *tx) unpark(n *note, to storage.State) {
	t.leaveState(n)
	for _, o := range n.Orders {
		t.del(parkedOnKey(o, n.received(), n.seq))
	}
	n.State = to
	t.enterState(n)
	t.put(key1(kNote, n.ID), n.encode())
}

// parkedID names what is parked: its business key and its resource.
func parkedID(n *storage.Notification) string {
	h := sha256.New()
	sum := sha256.Sum256(n.Resource())
	h.Write([]byte(n.Key))
	h.Write([]byte{0})
	h.Write(sum[:])
	return "parked_" + hex.EncodeToString(h.Sum(nil)[:16])
}

func decodeTexts(key, p []byte) (list []string, err error) {
	r := reader{s: string(p)}
	for range r.count() {
		list = append(list, r.text())
	}
	return list, r.done(key)
}

func encodeTexts(list []string) []byte {
	b := appendUvarint(newRecord(64), len(list))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}
