package receive

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/merchant"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
	"github.com/caddy-wechatpay/caddy-wechatpay/notify/event"
	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testMchid  = "1900000001"
	testAppid  = "wx8888888888888888"
	testAPIv3  = "0123456789abcdefghijklmnopqrstuv"
	testSerial = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"
	testKeyID  = "PUB_KEY_ID_0119000000012024101100000000000001"
	testNonce  = "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"
	testBound  = 20 * time.Second // of waits for an event, never spent
)

// baseTime is where every clock of these tests stands.
var baseTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func now() time.Time { return baseTime }

func mustRSA() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// The keys are made once: each costs a good part of a second.
var (
	platformKey = sync.OnceValue(mustRSA)
	strangerKey = sync.OnceValue(mustRSA)
	merchantKey = sync.OnceValue(mustRSA)
)

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// platformCertificate makes a certificate of the platform key.
func platformCertificate(serial string, notBefore, notAfter time.Time) string {
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		panic("serial " + serial)
	}
	template := &x509.Certificate{
		SerialNumber: number,
		Subject:      pkix.Name{CommonName: "Tenpay.com sign", Organization: []string{"Tenpay.com"}},
		NotBefore:    notBefore, NotAfter: notAfter,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, platformKey().Public(), platformKey()))
	return pemOf("CERTIFICATE", der)
}

const (
	certSerial  = "0A0B5157F09EFDC096DE15EBE81A47057A7232F1"
	laterSerial = "1A0B5157F09EFDC096DE15EBE81A47057A7232F2"
)

var theMerchant = sync.OnceValue(func() *merchant.Merchant {
	return must(merchant.New(merchant.Config{
		Name: "shop", Mchid: testMchid,
		Apps:       []merchant.App{{Appid: testAppid, Type: merchant.AppOfficial}},
		SerialNo:   testSerial,
		PrivateKey: pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(merchantKey()))),
		APIv3Keys:  []string{testAPIv3},
		PublicKeys: []merchant.PublicKeyConfig{{
			ID: testKeyID, PEM: pemOf("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(platformKey().Public()))),
		}},
		Certificates: merchant.CertificatesFiles,
		CertificatePEMs: []string{
			platformCertificate(certSerial, baseTime.Add(-time.Hour), baseTime.Add(365*24*time.Hour)),
			platformCertificate(laterSerial, baseTime.Add(24*time.Hour), baseTime.Add(5*365*24*time.Hour)),
		},
	}, merchant.Deps{Now: now}))
})

// unready is a merchant whose keys are not there yet.
type unready struct{ Merchant }

func (unready) Ready() error { return errors.New("waiting for keys") }

// resource seals a plaintext.
type resource struct {
	Algorithm      string `json:"algorithm"`
	Ciphertext     string `json:"ciphertext"`
	AssociatedData string `json:"associated_data"`
	OriginalType   string `json:"original_type"`
	Nonce          string `json:"nonce"`
}

func sealRaw(plaintext, nonce, associated string) []byte {
	block := must(aes.NewCipher([]byte(testAPIv3)))
	gcm := must(cipher.NewGCM(block))
	return gcm.Seal(nil, []byte(nonce), []byte(plaintext), []byte(associated))
}

func seal(plaintext string) resource {
	return resource{
		Algorithm: "AEAD_AES_256_GCM", OriginalType: "transaction", AssociatedData: "transaction",
		Nonce:      "fdasflkja484",
		Ciphertext: base64.StdEncoding.EncodeToString(sealRaw(plaintext, "fdasflkja484", "transaction")),
	}
}

// envelope is a notification as WeChat Pay writes it.
func envelope(id, eventType, summary string, r any) []byte {
	return must(json.Marshal(struct {
		ID           string `json:"id"`
		CreateTime   string `json:"create_time"`
		ResourceType string `json:"resource_type"`
		EventType    string `json:"event_type"`
		Summary      string `json:"summary"`
		Resource     any    `json:"resource"`
	}{id, "2026-03-01T20:00:00+08:00", "encrypt-resource", eventType, summary, r}))
}

const testID = "EV-2018022511223320873"

// basic is a payment of an order.
func basic(number string, total int) string {
	return `{"transaction_id":"4200` + number + `","amount":{"payer_total":` + strconv.Itoa(total) +
		`,"total":` + strconv.Itoa(total) + `,"currency":"CNY","payer_currency":"CNY"},"mchid":"` + testMchid +
		`","trade_state":"SUCCESS","bank_type":"CMC","promotion_detail":[],"success_time":"2026-03-01T19:59:58+08:00",` +
		`"payer":{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},"out_trade_no":"` + number + `","appid":"` + testAppid +
		`","trade_state_desc":"支付成功","trade_type":"NATIVE","attach":"","scene_info":{"device_id":"013467007045764"}}`
}

func paid(plaintext string) []byte {
	return envelope(testID, "TRANSACTION.SUCCESS", "支付成功", seal(plaintext))
}

// sign signs a message with a key, raw.
func sign(key *rsa.PrivateKey, timestamp, nonce string, body []byte) []byte {
	digest := sha256.Sum256(slices.Concat([]byte(timestamp+"\n"+nonce+"\n"), body, []byte("\n")))
	return must(rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]))
}

// request is a callback that is right in every way.
func request(body []byte) Incoming {
	timestamp := strconv.FormatInt(baseTime.Unix(), 10)
	return Incoming{
		Method: http.MethodPost, Host: "pay.example.com", Path: "/wechatpay/notify/shop",
		ContentLength: int64(len(body)), Body: bytes.NewReader(body),
		Header: http.Header{
			"Wechatpay-Timestamp":      {timestamp},
			"Wechatpay-Nonce":          {testNonce},
			"Wechatpay-Serial":         {testKeyID},
			"Wechatpay-Signature":      {base64.StdEncoding.EncodeToString(sign(platformKey(), timestamp, testNonce, body))},
			"Wechatpay-Signature-Type": {"WECHATPAY2-SHA256-RSA2048"},
			"Content-Type":             {"application/json"},
			"User-Agent":               {"Mozilla/4.0"},
		},
	}
}

// resign makes the signature right for the headers as they are.
func resign(in Incoming, body []byte) Incoming {
	raw := sign(platformKey(), in.Header["Wechatpay-Timestamp"][0], in.Header["Wechatpay-Nonce"][0], body)
	in.Header["Wechatpay-Signature"] = []string{base64.StdEncoding.EncodeToString(raw)}
	return in
}

func commitRoute() *notify.Route {
	return &notify.Route{ID: "r1", Merchant: "shop", Ack: notify.AckCommit, AmountCheck: notify.CheckKnown, Payload: notify.PayloadEnvelope}
}

// observed is an Observer that remembers outcomes.
type observed struct {
	notify.NopObserver
	mu       sync.Mutex
	outcomes []notify.Outcome
	changes  []notify.Change
	conflict int
	unlisted int
}

func (o *observed) CallbackAnswered(_, _ string, out notify.Outcome, _ int, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcomes = append(o.outcomes, out)
}

func (o *observed) Changed(c notify.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes = append(o.changes, c)
}

func (o *observed) IDConflict(string, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conflict++
}

func (o *observed) AppidUnlisted(string, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unlisted++
}

func (o *observed) last() notify.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.outcomes) == 0 {
		return ""
	}
	return o.outcomes[len(o.outcomes)-1]
}

func (o *observed) count(out notify.Outcome) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, got := range o.outcomes {
		if got == out {
			n++
		}
	}
	return n
}

// bench is a receiver with everything around it.
type bench struct {
	*Receiver
	store *fakeStore
	seen  *observed
	logs  *bytes.Buffer
}

func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{store: newFakeStore(), seen: &observed{}, logs: new(bytes.Buffer)}
	c := Config{
		Store: b.store, Now: now, Observer: b.seen, Owner: "test",
		Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: b.logs}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	b.Receiver = New(c)
	t.Cleanup(b.Close)
	return b
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// fakeStore keeps the contract in maps, and counts what was written.
type fakeStore struct {
	mu      sync.Mutex
	records map[string]*storage.Record // accepted, by id
	parked  map[string]*storage.Record // by the id they are parked under
	ids     map[string]string          // WeChat's notification id → key
	orders  map[storage.OrderKey]storage.Order
	refunds map[storage.RefundKey]storage.Refund
	memos   map[string]storage.Memo
	fence   uint64
	claims  map[string]uint64
	behind  bool
	fail    error // of every method
	failing map[string]error
	calls   map[string]int
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		records: map[string]*storage.Record{}, parked: map[string]*storage.Record{}, ids: map[string]string{},
		orders: map[storage.OrderKey]storage.Order{}, refunds: map[storage.RefundKey]storage.Refund{}, memos: map[string]storage.Memo{},
		claims: map[string]uint64{}, failing: map[string]error{}, calls: map[string]int{},
	}
}

func (s *fakeStore) enter(ctx context.Context, method string) error {
	s.calls[method]++
	if s.fail != nil {
		return s.fail
	}
	if err := s.failing[method]; err != nil {
		return err
	}
	return ctx.Err()
}

func (s *fakeStore) touched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		n += c
	}
	return n
}

func (s *fakeStore) Accept(ctx context.Context, q storage.AcceptRequest) (a storage.Acceptance, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "Accept"); err != nil {
		return a, err
	}
	n := q.Notification
	if n.NotificationID != "" {
		if key, ok := s.ids[n.NotificationID]; ok && key != n.Key {
			a.IDConflict = true
		} else {
			s.ids[n.NotificationID] = n.Key
		}
	}
	a.Outcome = storage.AcceptedDuplicate
	record := s.records[n.ID]
	if record == nil {
		a.Outcome = storage.AcceptedFresh
		record = &storage.Record{Notification: n, State: storage.StatePending, NextDue: n.ReceivedAt}
		s.records[n.ID] = record
		for _, id := range slices.Sorted(maps.Keys(s.parked)) {
			if p := s.parked[id]; p.Key == n.Key && p.State == storage.StateParked {
				p.State = storage.StateSuperseded
				a.Superseded = append(a.Superseded, id)
			}
		}
	}
	record.Seen++
	a.State, a.Attempts, a.Answer, a.Behind = record.State, record.Attempts, record.Answer, s.behind
	if q.Claim.Owner != "" && !s.behind && (record.State == storage.StatePending || record.State == storage.StateDead) {
		if s.claims[n.ID] != 0 {
			a.Leased = true
		} else {
			s.fence++
			s.claims[n.ID] = s.fence
			a.Claim = &storage.Claim{Record: *record, Fence: s.fence, Owner: q.Claim.Owner}
		}
	}
	return a, nil
}

func (s *fakeStore) complete(id string, state storage.State, answer []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claims, id)
	record := s.records[id]
	record.State, record.Answer = state, answer
	record.Attempts++
}

func (s *fakeStore) Release(ctx context.Context, id string, fence uint64, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "Release"); err != nil {
		return err
	}
	if s.claims[id] != fence {
		return storage.ErrStale
	}
	delete(s.claims, id)
	return nil
}

func (s *fakeStore) Park(ctx context.Context, n storage.Notification, reason storage.ParkReason, detail string) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "Park"); err != nil {
		return "", false, err
	}
	sum := sha256.Sum256(append([]byte(n.Key+"\n"), n.Resource()...))
	id := "prk_" + base64.RawURLEncoding.EncodeToString(sum[:12])
	if s.parked[id] != nil {
		return id, false, nil
	}
	n.ID = id
	s.parked[id] = &storage.Record{Notification: n, State: storage.StateParked, ParkReason: reason, ParkDetail: detail}
	return id, true, nil
}

func (s *fakeStore) ParkedFor(ctx context.Context, key storage.OrderKey) (list []storage.Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "ParkedFor"); err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(s.parked)) {
		if p := s.parked[id]; p.State == storage.StateParked && slices.Contains(p.Orders, key) {
			list = append(list, *p)
		}
	}
	return list, nil
}

func (s *fakeStore) Decide(ctx context.Context, d storage.Decision) (storage.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "Decide"); err != nil {
		return storage.Record{}, err
	}
	p := s.parked[d.ID]
	if p == nil {
		return storage.Record{}, storage.ErrNotFound
	}
	if p.State != storage.StateParked {
		return storage.Record{}, storage.ErrState
	}
	p.State = storage.StateSuperseded
	record := &storage.Record{Notification: p.Notification, State: storage.StatePending}
	record.ID, record.AmountCheck = "evt_released_"+d.ID, d.AmountCheck
	if s.records[record.ID] != nil {
		return storage.Record{}, storage.ErrState
	}
	s.records[record.ID] = record
	return *record, nil
}

func (s *fakeStore) Change(ctx context.Context, keys storage.Keys, change func(*storage.Rows) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "Change"); err != nil {
		return err
	}
	var rows storage.Rows
	if order, ok := s.orders[keys.Order]; ok {
		order.Subs = slices.Clone(order.Subs)
		rows.Order = &order
	}
	if refund, ok := s.refunds[keys.Refund]; ok {
		rows.Refund = &refund
	}
	rows.Memos = map[string]*storage.Memo{}
	for _, name := range keys.Memos {
		if memo, ok := s.memos[name]; ok {
			rows.Memos[name] = &memo
		}
	}
	if err := change(&rows); err != nil {
		return err
	}
	for name, memo := range rows.Memos {
		s.memos[name] = *memo
	}
	if rows.Order != nil {
		s.orders[keys.Order] = *rows.Order
	}
	if rows.Refund != nil {
		s.refunds[keys.Refund] = *rows.Refund
	}
	return nil
}

func (s *fakeStore) Order(ctx context.Context, key storage.OrderKey) (storage.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "Order"); err != nil {
		return storage.Order{}, err
	}
	if order, ok := s.orders[key]; ok {
		return order, nil
	}
	for _, order := range s.orders {
		for _, sub := range order.Subs {
			if sub.Key() == key {
				return order, nil
			}
		}
	}
	return storage.Order{}, storage.ErrNotFound
}

func (s *fakeStore) OrderByTransaction(ctx context.Context, mchid, id string) (storage.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "OrderByTransaction"); err != nil {
		return storage.Order{}, err
	}
	for _, order := range s.orders {
		if order.Key.Mchid == mchid && order.TransactionID == id {
			return order, nil
		}
		for _, sub := range order.Subs {
			if sub.Mchid == mchid && sub.TransactionID == id {
				return order, nil
			}
		}
	}
	return storage.Order{}, storage.ErrNotFound
}

func (s *fakeStore) Refund(ctx context.Context, key storage.RefundKey) (storage.Refund, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(ctx, "Refund"); err != nil {
		return storage.Refund{}, err
	}
	if refund, ok := s.refunds[key]; ok {
		return refund, nil
	}
	return storage.Refund{}, storage.ErrNotFound
}

// only returns the one accepted record.
func (s *fakeStore) only(t *testing.T) storage.Record {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) != 1 {
		t.Fatalf("%d notifications are stored, want 1", len(s.records))
	}
	for _, record := range s.records {
		return *record
	}
	panic("unreachable")
}

// checkAnswer asserts what WeChat Pay demands of any answer.
func checkAnswer(t *testing.T, a Answer) {
	t.Helper()
	var body struct{ Code, Message *string }
	if err := json.Unmarshal(a.Body, &body); err != nil || body.Code == nil || body.Message == nil {
		t.Errorf("answer %q is not WeChat-shaped: %v", a.Body, err)
		return
	}
	if n := len([]rune(*body.Code)); n > 32 {
		t.Errorf("code has %d characters", n)
	}
	if n := len([]rune(*body.Message)); n > 64 {
		t.Errorf("message has %d characters", n)
	}
	if want := map[bool]string{true: "SUCCESS", false: "FAIL"}[a.Status < 300]; *body.Code != want {
		t.Errorf("code %q with status %d", *body.Code, a.Status)
	}
}

// parsed is the event of goodBody.
func parsed(t *testing.T) *event.Event {
	t.Helper()
	e, err := event.Classify(event.Head{ID: testID, EventType: "TRANSACTION.SUCCESS"}, []byte(basic("20260301009999", 100)), testMchid)
	if err != nil {
		t.Fatal(err)
	}
	return &e
}
