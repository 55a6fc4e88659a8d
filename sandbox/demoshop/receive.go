package demoshop

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxDelivery = 1 << 20 // bytes
	tolerance   = 5 * time.Minute
	maxEvents   = 200 // kept; the oldest go first
	maxRefused  = 10
)

// event is what came in under one Webhook-Id.
type event struct {
	WebhookID   string    `json:"webhook_id"`
	Kind        string    `json:"kind"`
	EventType   string    `json:"event_type"`
	AmountCheck string    `json:"amount_check"`
	Source      string    `json:"source"`
	Attempt     string    `json:"attempt"` // of the last delivery
	Verified    bool      `json:"verified"`
	Times       int       `json:"times"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
}

// receive is the legacy backend: it checks the Standard Webhooks signature,
// acts once for each Webhook-Id, and answers success to repeats too.
func (s *Shop) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDelivery))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "body too large or cut short")
		return
	}
	if err := s.verify(r.Header, body); err != nil {
		s.log.Warn("delivery refused", "reason", err.Error())
		s.recordRefused(r.Header)
		refuse(w, http.StatusUnauthorized, err.Error())
		return
	}
	s.record(r.Header)
	writeJSON(w, http.StatusOK, map[string]string{"code": "SUCCESS"})
}

func refuse(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"code": "FAIL", "message": message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encoding failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the caller may be gone
}

// verify checks a delivery by the Standard Webhooks specification: HMAC-SHA256
// over id.timestamp.body, any one of the signatures listed, five minutes.
func (s *Shop) verify(h http.Header, body []byte) error {
	if s.secret == nil {
		return errors.New("no webhook secret configured")
	}
	id, ok1 := single(h, "Webhook-Id")
	timestamp, ok2 := single(h, "Webhook-Timestamp")
	signatures, ok3 := single(h, "Webhook-Signature")
	if !ok1 || !ok2 || !ok3 {
		return errors.New("want Webhook-Id, Webhook-Timestamp and Webhook-Signature once each")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return errors.New("timestamp is no number")
	}
	if at := s.now().Unix(); seconds < at-int64(tolerance/time.Second) || seconds > at+int64(tolerance/time.Second) {
		return errors.New("timestamp is more than five minutes off")
	}
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, given := range strings.Fields(signatures) {
		if subtle.ConstantTimeCompare([]byte(given), want) == 1 {
			return nil
		}
	}
	return errors.New("signature does not match")
}

func single(h http.Header, name string) (string, bool) {
	values := h.Values(name)
	return strings.Join(values, ""), len(values) == 1 && values[0] != ""
}

// record notes a verified delivery. A real backend would, in one transaction,
// insert the Webhook-Id under a unique index and do what the payment is for.
func (s *Shop) record(h http.Header) {
	const prefix = "Wechatpay-Gateway-"
	id := h.Get("Webhook-Id")
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byID[id]
	if e == nil {
		e = &event{
			WebhookID: id, First: now, Verified: true,
			Kind: h.Get(prefix + "Kind"), EventType: h.Get(prefix + "Event-Type"),
		}
		s.byID[id] = e
		s.events = append(s.events, e)
		if len(s.events) > maxEvents {
			delete(s.byID, s.events[0].WebhookID)
			s.events = s.events[1:]
		}
	}
	e.Times++
	e.Last = now
	e.AmountCheck, e.Source, e.Attempt = h.Get(prefix+"Amount-Check"), h.Get(prefix+"Source"), h.Get(prefix+"Attempt")
}

// recordRefused notes a delivery whose signature is wrong, for the page only:
// apart from the verified ones, few, and cut short, since anybody can send them.
func (s *Shop) recordRefused(h http.Header) {
	id := h.Get("Webhook-Id")
	if len(id) > 64 {
		id = id[:64]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.refused = append(s.refused, event{WebhookID: id, Times: 1, First: now, Last: now})
	if len(s.refused) > maxRefused {
		s.refused = s.refused[1:]
	}
}

// Received is how many deliveries verified under a Webhook-Id.
func (s *Shop) Received(webhookID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[webhookID]; e != nil {
		return e.Times
	}
	return 0
}

func (s *Shop) snapshot() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]event, 0, len(s.events)+len(s.refused))
	for i := len(s.events) - 1; i >= 0; i-- {
		out = append(out, *s.events[i])
	}
	for i := len(s.refused) - 1; i >= 0; i-- {
		out = append(out, s.refused[i])
	}
	return out
}
