package merchant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core/auth"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/validators"
	"github.com/wechatpay-apiv3/wechatpay-go/core/consts"
)

// MaxAnswer bounds what [Merchant.Validator] reads of one API answer, in bytes.
const MaxAnswer = 8 << 20

var (
	// ErrAnswerTooLarge is returned for an answer over [MaxAnswer].
	ErrAnswerTooLarge = errors.New("merchant: the answer is larger than any API answer")
	// ErrAnswerHeaders is returned for an answer whose signature headers are
	// absent, repeated, not canonically spelled, or 300 s or more off.
	ErrAnswerHeaders = errors.New("merchant: the answer's signature headers are not acceptable")
)

// clockWindow is how far a signature's timestamp may be off either way,
// exclusive. https://pay.weixin.qq.com/doc/v3/merchant/4013053249
const clockWindow = 300 * time.Second

// keyVerifier puts the SDK's auth.Verifier on top of a key set.
type keyVerifier struct {
	keys func() *KeySet
	now  func() time.Time
}

// Verify looks the serial up and checks the signature. Its errors are this
// package's sentinels and hold nothing of the message.
func (v keyVerifier) Verify(_ context.Context, serial, message, signature string) error {
	key, err := v.keys().Lookup(serial, v.now())
	if err != nil {
		return err
	}
	raw, err := DecodeSignature(signature)
	if err != nil {
		return err
	}
	return key.Verify([]byte(message), raw)
}

// GetSerial returns the serial for the Wechatpay-Serial of requests.
func (v keyVerifier) GetSerial(context.Context) (string, error) {
	key, ok := v.keys().Preferred()
	if !ok {
		return "", ErrNoKeys
	}
	return key.Serial, nil
}

// answerValidator runs the SDK's response validator behind the checks it lacks:
// it would take a missing timestamp for 0, the first of two values, time.Now
// for the clock, and any number of bytes.
type answerValidator struct {
	verifier keyVerifier
	sdk      *validators.WechatPayResponseValidator
}

func newAnswerValidator(v keyVerifier) *answerValidator {
	return &answerValidator{verifier: v, sdk: validators.NewWechatPayResponseValidator(v)}
}

// Validate checks the signature of an answer and leaves its body readable.
func (a *answerValidator) Validate(ctx context.Context, response *http.Response) error {
	if err := checkAnswerHeaders(response.Header, a.verifier.now()); err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("merchant: reading the answer: %w", err)
	}
	if len(body) > MaxAnswer {
		return ErrAnswerTooLarge
	}
	return a.sdk.Validate(ctx, response)
}

// GetAcceptSerial returns the serial for the Wechatpay-Serial of requests.
func (a *answerValidator) GetAcceptSerial(ctx context.Context) (string, error) {
	return a.verifier.GetSerial(ctx)
}

// checkAnswerHeaders wants each signature header exactly once and the
// timestamp in plain digits, less than 300 s off either way.
func checkAnswerHeaders(header http.Header, now time.Time) error {
	for _, name := range []string{consts.WechatPayTimestamp, consts.WechatPayNonce, consts.WechatPaySignature, consts.WechatPaySerial} {
		values := header.Values(name)
		if len(values) != 1 || values[0] == "" {
			return ErrAnswerHeaders
		}
		for i := range len(values[0]) {
			if c := values[0][i]; c <= ' ' || c > '~' {
				return ErrAnswerHeaders
			}
		}
	}
	text := header.Get(consts.WechatPayTimestamp)
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds <= 0 || strconv.FormatInt(seconds, 10) != text {
		return ErrAnswerHeaders
	}
	// Whole seconds, compared as integers: no overflow, since both are positive.
	if off := now.Unix() - seconds; off >= int64(clockWindow/time.Second) || off <= -int64(clockWindow/time.Second) {
		return ErrAnswerHeaders
	}
	return nil
}

// Verifier returns the SDK's verifier on top of the merchant's current keys:
// serials are looked up in [Merchant.Keys] at the time of each call.
func (m *Merchant) Verifier() auth.Verifier { return m.verifier() }

// Validator returns the SDK's validator for API answers on top of the
// merchant's current keys. It wants every signature header exactly once, reads
// at most [MaxAnswer] bytes, leaves the body readable, and holds the timestamp
// against the injected clock and, in the SDK, against time.Now.
func (m *Merchant) Validator() auth.Validator { return newAnswerValidator(m.verifier()) }

func (m *Merchant) verifier() keyVerifier { return keyVerifier{keys: m.Keys, now: m.now} }
