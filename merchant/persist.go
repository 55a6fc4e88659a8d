package merchant

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"time"
)

// savedCertificates is what survives a restart: the last good set, when it was
// fetched, and when a download was last tried, so that reloads in a row do not
// download in a row.
type savedCertificates struct {
	certificates []Key
	fetchedAt    time.Time // zero: never
	attemptedAt  time.Time // zero: never
	settings     string    // fingerprint of what the attempt was made with
}

// savedForm is its JSON. Certificates are public; it holds no secret.
type savedForm struct {
	Version      int      `json:"version"`
	Mchid        string   `json:"mchid"`
	AttemptedAt  int64    `json:"attempted_at,omitempty"` // Unix seconds
	FetchedAt    int64    `json:"fetched_at,omitempty"`   // Unix seconds
	Settings     string   `json:"settings,omitempty"`
	Certificates [][]byte `json:"certificates,omitempty"` // DER
}

const savedVersion = 1

// encodeSaved and decodeSaved are inverse to each other.
func encodeSaved(mchid string, saved savedCertificates) ([]byte, error) {
	form := savedForm{Version: savedVersion, Mchid: mchid, Settings: saved.settings}
	if !saved.attemptedAt.IsZero() {
		form.AttemptedAt = saved.attemptedAt.Unix()
	}
	if !saved.fetchedAt.IsZero() {
		form.FetchedAt = saved.fetchedAt.Unix()
	}
	for _, key := range saved.certificates {
		form.Certificates = append(form.Certificates, key.der)
	}
	return json.Marshal(form)
}

// decodeSaved applies to a stored certificate what a downloaded one has to pass.
func decodeSaved(mchid string, data []byte, now time.Time) (savedCertificates, error) {
	var form savedForm
	if json.Unmarshal(data, &form) != nil {
		return savedCertificates{}, errors.New("the record does not parse")
	}
	if form.Version != savedVersion {
		return savedCertificates{}, errors.New("the record has another version")
	}
	if form.Mchid != mchid {
		return savedCertificates{}, errors.New("the record is of another mchid")
	}
	saved := savedCertificates{settings: form.Settings}
	if form.AttemptedAt > 0 {
		saved.attemptedAt = time.Unix(form.AttemptedAt, 0)
	}
	if form.FetchedAt > 0 {
		saved.fetchedAt = time.Unix(form.FetchedAt, 0)
	}
	for _, der := range form.Certificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil || isSandboxCertificate(cert) {
			continue
		}
		if key, err := certificateKey(cert); err == nil {
			saved.certificates = append(saved.certificates, key)
		}
	}
	saved.certificates = mergeCertificates(nil, saved.certificates, now, nil)
	return saved, nil
}

// loadSaved reads the last good set and trusts it. What cannot be read is
// logged and treated as absent.
func (m *Merchant) loadSaved(ctx context.Context) (saved savedCertificates) {
	defer func() {
		if r := recover(); r != nil {
			saved = savedCertificates{}
			m.log.Error("platform certificates not loaded", "reason", "the store panicked")
		}
	}()
	if m.store == nil {
		return saved
	}
	data, err := m.store.LoadCertificates(ctx, m.name)
	if err != nil {
		if ctx.Err() == nil {
			m.log.Warn("platform certificates not loaded", "error", err)
		}
		return saved
	}
	if data == nil {
		return saved
	}
	loaded, err := decodeSaved(m.mchid, data, m.now())
	if err != nil {
		m.log.Warn("platform certificates not loaded", "error", err)
		return saved
	}
	if len(loaded.certificates) > 0 {
		before := m.state.Load()
		after := *before
		after.keys = newKeySet(m.now, ofKind(before.keys.All(), KindPublicKey), loaded.certificates)
		m.setState(&after)
	}
	return loaded
}

// save keeps the set. A failure is logged: the set in memory is good, and the
// next refresh saves again.
func (m *Merchant) save(ctx context.Context, saved savedCertificates) {
	if m.store == nil {
		return
	}
	data, err := encodeSaved(m.mchid, saved)
	if err == nil {
		err = m.store.SaveCertificates(ctx, m.name, data)
	}
	if err != nil && ctx.Err() == nil {
		m.log.Warn("platform certificates not saved", "error", err)
	}
}
