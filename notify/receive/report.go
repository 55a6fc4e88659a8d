package receive

import (
	"context"
	"log/slog"

	"github.com/caddy-wechatpay/caddy-wechatpay/notify"
)

// report counts and logs what WeChat was told. Nothing of a body, no nonce and
// no signature is ever in it; the serial is, once it is known to be harmless.
func (r *Receiver) report(ctx context.Context, v *visit, a Answer) {
	took := r.now().Sub(v.began)
	r.observer.CallbackAnswered(v.merchant, string(v.kind), v.outcome, a.Status, took)
	level := levelOf(v.outcome)
	if !r.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("outcome", string(v.outcome)),
		slog.Int("status", a.Status),
		slog.Duration("took", took))
	text := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	text("merchant", v.merchant)
	text("kind", string(v.kind))
	text("id", v.id)
	text("reason", v.reason)
	text("field", v.field)
	if visible(v.signed.serial, maxSerial) {
		text("serial", v.signed.serial)
	}
	if v.signed.timestamp != "" {
		attrs = append(attrs, slog.Int64("skew_seconds", v.signed.skew))
	}
	if v.body >= 0 {
		attrs = append(attrs, slog.Int("body_bytes", v.body))
	}
	if v.err != nil {
		text("error", v.err.Error())
	}
	r.log.LogAttrs(ctx, level, "notification answered", attrs...)
}

// levelOf says how loud an outcome is. What any stranger can cause is not loud.
func levelOf(o notify.Outcome) slog.Level {
	switch o {
	case notify.OutcomeCommitted, notify.OutcomeDelivered, notify.OutcomeDuplicate,
		notify.OutcomeMethod, notify.OutcomeNoMerchant, notify.OutcomeHeaders, notify.OutcomeDisconnected:
		return slog.LevelDebug
	case notify.OutcomeProbe, notify.OutcomeXML, notify.OutcomeTooLarge, notify.OutcomeSerial,
		notify.OutcomeSignature, notify.OutcomeTimestamp, notify.OutcomeUndelivered:
		return slog.LevelInfo
	case notify.OutcomeParked, notify.OutcomeUnavailable:
		return slog.LevelWarn
	case notify.OutcomeDecrypt, notify.OutcomeMalformed, notify.OutcomeInternalError:
		return slog.LevelError
	default:
		return slog.LevelError
	}
}
