package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// FuzzScanner holds the scanner against encoding/json: it takes no text that
// encoding/json refuses, and what it refuses beyond that it refuses for one of
// its own reasons.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `null`, `{"a":1}`, `{"a":1,"A":2}`, `{"a":[1,2.5e-3,true,false,null,"x\u0041\ud83d\ude00"]}`, `{"a":01}`, `{"a":-0}`, `{"a":"\ud800"}`,
		`{"k":1,"` + "\u212a" + `":2}`, strings.Repeat("[", 40), "\xff", `{"a":1}x`, `{"a":1,}`, ` { "a" : 1 } `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := scan(data)
		defer s.done()
		if s.err == nil {
			s.skip()
		}
		s.finish()
		valid := json.Valid(data)
		switch {
		case s.err == nil && !valid:
			t.Fatalf("%q was taken", data)
		case s.err != nil && valid:
			if errors.Is(s.err, errSyntax) || errors.Is(s.err, errTrailing) {
				t.Fatalf("%q was refused: %v", data, s.err)
			}
		}
		if s.err != nil && !errors.Is(s.err, ErrMalformed) {
			t.Fatalf("%v is not ErrMalformed", s.err)
		}
	})
}

func FuzzParseEnvelope(f *testing.F) {
	good := `{"id":"EV-1","event_type":"TRANSACTION.SUCCESS","summary":"s","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"fdasflkja484","associated_data":null,"ciphertext":"c2l4dGVlbiBieXRlcyBhbmQ="}}`
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "EV-1", `\u0045`, 1)))
	f.Add([]byte(`{"resource":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEnvelope(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		var theirs struct {
			Resource *struct {
				Algorithm, Nonce, Ciphertext string
			}
		}
		if err := json.Unmarshal(data, &theirs); err != nil || theirs.Resource == nil {
			// Another spelling of a name may shadow it there, never here.
			if theirs.Resource == nil && bytes.Contains(data, []byte("resource")) || err != nil && !json.Valid(data) {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if len(e.Nonce) != nonceSize || data[e.ResourceStart] != '{' || data[e.ResourceEnd-1] != '}' || !json.Valid(data[e.ResourceStart:e.ResourceEnd]) {
			t.Fatalf("%q: resource %d:%d", data, e.ResourceStart, e.ResourceEnd)
		}
		// The resource can be replaced in place by any object.
		if replaced := string(data[:e.ResourceStart]) + `{"x":1}` + string(data[e.ResourceEnd:]); !json.Valid([]byte(replaced)) {
			t.Fatalf("%q", replaced)
		}
		if c, err := e.Ciphertext(nil); err == nil && len(c) < tagSize {
			t.Fatalf("%d bytes of ciphertext", len(c))
		}
	})
}

func FuzzClassify(f *testing.F) {
	for _, s := range append(documented(f), shapes()...) {
		f.Add(s.eventType, s.summary, []byte(s.plaintext))
	}
	kinds := map[Kind]bool{}
	for _, kind := range Kinds() {
		kinds[kind] = true
	}
	f.Fuzz(func(t *testing.T, eventType, summary string, data []byte) {
		head := Head{ID: "EV-1", EventType: eventType, Summary: summary}
		if !isToken(eventType) {
			head.EventType, head.Odd = "", true // as ParseEnvelope has it
		}
		e, err := Classify(head, data, own)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := Classify(head, bytes.Clone(data), own)
		if err != nil || again.Key != e.Key || again.ID != e.ID || again.Group != e.Group {
			t.Fatalf("%q: not the same twice: %v", data, err)
		}
		if !json.Valid(data) || !kinds[e.Kind] || e.Key == "" || len(e.Key) > maxKey || len(e.ID) != 36 {
			t.Fatalf("%q: kind %q, key %q, id %q", data, e.Kind, e.Key, e.ID)
		}
		for _, c := range []byte(e.Key + e.Group + e.OutTradeNo + e.Mchid + e.SubMchid + e.State + e.TradeScene) {
			if c < 0x20 || c > 0x7e {
				t.Fatalf("%q: byte %#x in what goes into headers", data, c)
			}
		}
		if e.Kind.IsChecked() && (e.OutTradeNo == "" && e.Kind != Refund || head.Odd) {
			t.Fatalf("%q: %s without a number", data, e.Kind)
		}
		if e.Paid() && e.NotPaid() {
			t.Fatalf("%q: paid and not", data)
		}
	})
}
