package merchant

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core/consts"
)

const (
	sandboxFirstRetry = 200 * time.Millisecond
	sandboxLastRetry  = 5 * time.Second
	// sandboxInterval is the time between two reads once keys are there, ±10 %:
	// short enough that a rotation is seen by whoever is trying one out.
	sandboxInterval = 10 * time.Second
)

// runSandbox fetches the sandbox's keys until ctx ends: again and again until
// they are there, then by timer. Nothing that anybody sends causes a fetch.
func (m *Merchant) runSandbox(ctx context.Context) {
	var (
		delay   time.Duration
		retry   = sandboxFirstRetry
		held    [sha256.Size]byte // of the answer in force
		have    bool
		failing bool
	)
	for m.sleep(ctx, delay) {
		next, digest, outcome, err := m.fetchSandbox(ctx, held, have)
		if ctx.Err() != nil {
			return
		}
		m.metrics.KeyRefresh(m.name, SourceSandbox, outcome)
		if err != nil {
			// Once, not at every try: a sandbox that is switched off is no news.
			if !failing {
				m.log.Warn("sandbox keys not fetched", "error", err)
			}
			failing = true
			if delay = sandboxInterval; !have {
				delay, retry = retry, min(2*retry, sandboxLastRetry)
			}
			continue
		}
		if next != nil {
			m.setState(next)
			m.log.Info("sandbox keys fetched", "keys", next.keys.Len())
		}
		held, have, failing = digest, true, false
		delay = time.Duration(float64(sandboxInterval) * (0.9 + 0.2*m.fraction()))
	}
}

// fetchSandbox reads the keys once. The state is nil when nothing has changed.
func (m *Merchant) fetchSandbox(ctx context.Context, held [sha256.Size]byte, have bool) (next *state, digest [sha256.Size]byte, outcome RefreshOutcome, err error) {
	defer func() {
		if r := recover(); r != nil {
			next, outcome, err = nil, RefreshPanicked, errors.New("the fetch panicked")
			m.log.Error("sandbox key fetch panicked", "stack", string(debug.Stack()))
		}
	}()
	body, _, err := m.fetch(ctx, "/sandbox/keys/"+m.mchid, func() (http.Header, error) {
		return http.Header{consts.Accept: {consts.ApplicationJSON}, consts.UserAgent: {userAgent}}, nil
	})
	if err != nil {
		if errors.Is(err, errMalformed) {
			return nil, digest, RefreshMalformed, err
		}
		return nil, digest, RefreshFailed, err
	}
	digest = sha256.Sum256(body)
	if have && digest == held {
		return nil, digest, RefreshUnchanged, nil
	}
	next, err = m.parseSandboxKeys(body)
	if err != nil {
		return nil, digest, RefreshMalformed, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return next, digest, RefreshChanged, nil
}

// parseSandboxKeys reads the sandbox's answer. Its keys replace the ones
// before, not join them: a sandbox that was restarted is another platform.
func (m *Merchant) parseSandboxKeys(body []byte) (*state, error) {
	var answer struct {
		Mchid  string   `json:"mchid"`
		Appids []string `json:"appids"`
		Apps   []struct {
			Appid   string   `json:"appid"`
			Type    AppType  `json:"type"`
			Secret  string   `json:"secret"`
			Domains []string `json:"domains"`
		} `json:"apps"`
		SerialNo   string `json:"serial_no"`
		PrivateKey string `json:"private_key"`
		APIv3Key   string `json:"apiv3_key"`
		PublicKeys []struct {
			ID  string `json:"id"`
			PEM string `json:"pem"`
		} `json:"public_keys"`
		PlatformCertificates []string `json:"platform_certificates"`
	}
	if json.Unmarshal(body, &answer) != nil {
		// The cause is left out: the text around it holds keys.
		return nil, errors.New("it is not the JSON that was expected")
	}
	if answer.Mchid != m.mchid {
		return nil, errors.New("mchid: it is another one's")
	}
	if !serialForm.MatchString(answer.SerialNo) {
		return nil, errors.New("serial_no: it is not hex")
	}
	key, err := ParsePrivateKey(answer.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("private_key: %w", err)
	}
	aead, err := newAEAD(NewSecret(answer.APIv3Key))
	if err != nil {
		return nil, fmt.Errorf("apiv3_key: %w", err)
	}
	s := &state{
		credential: newCredential(m.mchid, answer.SerialNo, key),
		apiv3:      []cipher.AEAD{aead},
	}
	for _, appid := range answer.Appids {
		if !appidForm.MatchString(appid) {
			return nil, errors.New("appids: one is not wx and 16 letters or digits")
		}
		s.offered = append(s.offered, App{Appid: appid, Type: AppOfficial})
	}
	for _, a := range answer.Apps {
		i := slices.IndexFunc(s.offered, func(app App) bool { return app.Appid == a.Appid })
		if i < 0 {
			return nil, errors.New("apps: one is not among the appids")
		}
		s.offered[i].Type, s.offered[i].Domains = a.Type, a.Domains
		if a.Secret != "" {
			s.offered[i].Secret = NewSecret(a.Secret)
		}
	}
	var c checker
	if c.apps(s.offered); len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	s.offered = c.out.apps
	s.apps = appsOf(m.configuredApps, s.offered)
	var publicKeys, certificates []Key
	for _, k := range answer.PublicKeys {
		public, err := parsePublicKey(k.PEM)
		switch {
		case err != nil:
			return nil, fmt.Errorf("public_keys: %w", err)
		case !publicKeyIDForm.MatchString(k.ID) || !strings.HasPrefix(k.ID, SandboxPublicKeyIDPrefix):
			return nil, errors.New("public_keys: an id without the sandbox's mark")
		case slices.ContainsFunc(publicKeys, func(have Key) bool { return have.Serial == k.ID }):
			return nil, errors.New("public_keys: an id stands there twice")
		}
		publicKeys = append(publicKeys, Key{Serial: k.ID, Kind: KindPublicKey, public: public})
	}
	for _, text := range answer.PlatformCertificates {
		certs, err := parseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("platform_certificates: %w", err)
		}
		for _, cert := range certs {
			if !isSandboxCertificate(cert) {
				return nil, errors.New("platform_certificates: one without the sandbox's mark")
			}
			key, err := certificateKey(cert)
			if err != nil {
				return nil, fmt.Errorf("platform_certificates: %w", err)
			}
			if slices.ContainsFunc(certificates, func(have Key) bool { return have.Serial == key.Serial }) {
				return nil, errors.New("platform_certificates: a serial stands there twice")
			}
			certificates = append(certificates, key)
		}
	}
	if len(publicKeys)+len(certificates) == 0 {
		return nil, errors.New("it gives neither public keys nor platform certificates")
	}
	s.keys = newKeySet(m.now, publicKeys, certificates)
	return s, nil
}

// appsOf returns the apps in force: those the block lists, else the sandbox's.
// A listed one without a secret has the one the sandbox gives it.
func appsOf(configured, offered []App) []App {
	if len(configured) == 0 {
		return offered
	}
	apps := slices.Clone(configured)
	for i, app := range apps {
		if at := slices.IndexFunc(offered, func(o App) bool { return o.Appid == app.Appid }); at >= 0 && app.Secret.Empty() {
			apps[i].Secret = offered[at].Secret
		}
	}
	return apps
}
