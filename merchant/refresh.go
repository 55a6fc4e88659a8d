package merchant

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"
)

const (
	// refreshInterval is the time between two downloads that succeed, ±10 %.
	// WeChat Pay asks for less than 12 hours; an hour is what its Java SDK does.
	refreshInterval = time.Hour
	// refreshGap is the least time between two downloads, whatever happens: the
	// failing ones, and those of configurations that follow each other fast.
	refreshGap = 5 * time.Minute
	// startSpread is over how much time the downloads that are due at a start
	// are spread, when a good set is there already.
	startSpread = 10 * time.Second
)

// runCertificates refreshes the platform certificates until ctx ends. It is the
// only place that downloads them, one after the other, by timer: nothing that
// anybody sends can cause a download. It closes loaded when the store has
// answered.
func (m *Merchant) runCertificates(ctx context.Context, loaded chan<- struct{}) {
	saved := m.loadSaved(ctx)
	close(loaded)
	delay := m.firstDelay(saved)
	failures := 0
	for m.sleep(ctx, delay) {
		outcome := m.refreshCertificates(ctx, &saved)
		if ctx.Err() != nil {
			return
		}
		m.metrics.KeyRefresh(m.name, SourceCertificates, outcome)
		switch outcome {
		case RefreshChanged, RefreshUnchanged:
			failures = 0
			delay = time.Duration(float64(refreshInterval) * (0.9 + 0.2*m.fraction()))
		case RefreshFailed, RefreshMalformed, RefreshPanicked:
			failures++
			delay = m.failureDelay(failures)
		}
	}
}

// firstDelay is 0 without a valid set, unless the same settings were tried less
// than refreshGap ago; with one, what is left of the interval.
func (m *Merchant) firstDelay(saved savedCertificates) time.Duration {
	now := m.now()
	var delay time.Duration
	valid := slices.ContainsFunc(saved.certificates, func(key Key) bool { return key.ValidAt(now) == nil })
	if valid && !saved.fetchedAt.IsZero() {
		interval := time.Duration(float64(refreshInterval) * (0.9 + 0.2*m.fraction()))
		delay = max(saved.fetchedAt.Add(interval).Sub(now), time.Duration(float64(startSpread)*m.fraction()))
		delay = min(delay, refreshInterval) // a clock that was set back must not put it off for ever
	}
	if saved.settings == m.settings && !saved.attemptedAt.IsZero() {
		// A jump back of the clock never makes this longer than the gap.
		delay = max(delay, min(saved.attemptedAt.Add(refreshGap).Sub(now), refreshGap))
	}
	return delay
}

// failureDelay is 5, 10, 20, 40 and then 60 minutes, plus up to 20 %.
func (m *Merchant) failureDelay(failures int) time.Duration {
	delay := refreshInterval
	if failures < 5 {
		delay = min(refreshGap<<(failures-1), refreshInterval)
	}
	return time.Duration(float64(delay) * (1 + 0.2*m.fraction()))
}

// refreshCertificates downloads once. Whatever goes wrong, a panic included,
// the last good set stays.
func (m *Merchant) refreshCertificates(ctx context.Context, saved *savedCertificates) (outcome RefreshOutcome) {
	defer func() {
		if r := recover(); r != nil {
			outcome = RefreshPanicked
			m.log.Error("platform certificate refresh panicked", "stack", string(debug.Stack()))
		}
	}()
	saved.attemptedAt, saved.settings = m.now(), m.settings
	m.save(ctx, *saved)
	fresh, err := m.download(ctx)
	switch {
	case ctx.Err() != nil:
		return RefreshFailed
	case errors.Is(err, errMalformed):
		m.log.Error("platform certificates not refreshed", "error", err)
		return RefreshMalformed
	case err != nil:
		m.log.Warn("platform certificates not refreshed", "error", err)
		return RefreshFailed
	}
	saved.fetchedAt = m.now()
	before := m.state.Load()
	known := before.keys.All()
	held := ofKind(known, KindCertificate)
	merged := mergeCertificates(held, fresh, m.now(), func(serial string) {
		m.log.Warn("platform certificate dropped", "serial", serial, "reason", "another certificate of this serial is trusted already")
	})
	outcome = RefreshUnchanged
	if !sameCertificates(held, merged) {
		outcome = RefreshChanged
		after := *before
		after.keys = newKeySet(m.now, ofKind(known, KindPublicKey), merged)
		m.setState(&after)
		m.log.Info("platform certificates refreshed", "certificates", len(merged))
	}
	saved.certificates = merged
	m.save(ctx, *saved)
	return outcome
}

// mergeCertificates adds fresh to held and drops what has expired: during a
// rotation both generations sign, and callbacks of the old one may still be on
// their way when the list no longer names it. A serial keeps the certificate it
// was first seen with; refused is told of any other.
func mergeCertificates(held, fresh []Key, now time.Time, refused func(serial string)) []Key {
	var merged []Key
	for _, key := range slices.Concat(held, fresh) {
		if now.After(key.NotAfter) {
			continue
		}
		at := slices.IndexFunc(merged, func(k Key) bool { return k.Serial == key.Serial })
		if at < 0 {
			merged = append(merged, key)
		} else if !bytes.Equal(merged[at].der, key.der) && refused != nil {
			refused(key.Serial)
		}
	}
	if len(merged) > maxCertificates {
		slices.SortStableFunc(merged, func(a, b Key) int { return cmp.Compare(b.NotAfter.Unix(), a.NotAfter.Unix()) })
		merged = merged[:maxCertificates]
	}
	return merged
}

// sameCertificates compares two sets without duplicates.
func sameCertificates(a, b []Key) bool {
	if len(a) != len(b) {
		return false
	}
	for _, key := range a {
		if !slices.ContainsFunc(b, func(k Key) bool { return bytes.Equal(k.der, key.der) }) {
			return false
		}
	}
	return true
}

// ofKind returns the keys of one kind, in their order.
func ofKind(keys []Key, kind KeyKind) []Key {
	var out []Key
	for _, key := range keys {
		if key.Kind == kind {
			out = append(out, key)
		}
	}
	return out
}
