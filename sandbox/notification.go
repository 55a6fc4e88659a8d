package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Notification is what a callback tells, before it is encrypted and signed.
// Its fields go into the callback as they stand, empty ones too; only a zero
// ID and CreateTime are filled in. PaymentNotification fills in the rest.
type Notification struct {
	ID             string    // of the notification; retries keep it. Zero: a fresh one
	CreateTime     time.Time // retries keep it; written in whole seconds, +08:00. Zero: now
	EventType      string    // event_type, e.g. TRANSACTION.SUCCESS
	OriginalType   string    // resource.original_type, e.g. transaction; "" leaves it out
	Summary        string    // e.g. 支付成功
	AssociatedData string    // resource.associated_data; may be empty
	Plaintext      []byte    // the resource, usually a JSON object
}

// PaymentNotification is the Notification of a payment (支付成功) with this resource.
func PaymentNotification(plaintext []byte) Notification {
	return Notification{
		EventType: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "支付成功",
		AssociatedData: "transaction", Plaintext: plaintext,
	}
}

// RefundNotification is the Notification of a refund's result with this resource.
func RefundNotification(status RefundStatus, plaintext []byte) Notification {
	n := Notification{
		EventType: "REFUND." + string(status), OriginalType: "refund", AssociatedData: "refund", Plaintext: plaintext,
	}
	switch status {
	case RefundSuccess:
		n.Summary = "退款成功"
	case RefundAbnormal:
		n.Summary = "退款异常"
	case RefundClosed:
		n.Summary = "退款关闭"
	case RefundProcessing:
	}
	return n
}

// EntranceNotification is the Notification of a parking entry's state
// (停车入场状态变更通知) with this resource.
func EntranceNotification(plaintext []byte) Notification {
	return Notification{EventType: "VEHICLE.ENTRANCE_STATE_CHANGE", Summary: "停车入场状态通知", Plaintext: plaintext}
}

// ChargeNotification is the Notification of a parking order (订单支付结果通知)
// that has come to this state, with this resource; ChargePending has none.
func ChargeNotification(state ChargeState, plaintext []byte) Notification {
	n := Notification{AssociatedData: "transaction", Plaintext: plaintext}
	switch state {
	case ChargeSuccess, ChargeAdvanced:
		n = PaymentNotification(plaintext)
	case ChargeFail:
		n.EventType, n.Summary = "TRANSACTION.FAIL", "扣款失败"
	case ChargePaidBack:
		n.EventType, n.Summary = "TRANSACTION.PAY_BACK", "用户还款"
	case ChargePending:
	}
	return n
}

// envelope has the fields and their order of a live callback.
type envelope struct {
	ID           string   `json:"id"`
	CreateTime   string   `json:"create_time"`
	ResourceType string   `json:"resource_type"`
	EventType    string   `json:"event_type"`
	Summary      string   `json:"summary"`
	Resource     resource `json:"resource"`
}

type resource struct {
	OriginalType   string `json:"original_type,omitempty"`
	Algorithm      string `json:"algorithm"`
	Ciphertext     string `json:"ciphertext"`
	AssociatedData string `json:"associated_data"`
	Nonce          string `json:"nonce"`
}

// CallbackOption changes how Callback signs or encrypts.
type CallbackOption func(*callbackPlan)

// callbackPlan is a callback in the making; nil pointers mean the usual.
type callbackPlan struct {
	key           *platformKey
	wantKey       string // "public key" or "certificate"
	timestamp     *string
	nonce         *string
	serial        *string
	signature     *string
	signatureType *string
	probe         bool
	forged        bool
	apiV3Key      *string
	resourceNonce *string
	algorithm     *string
	body          func([]byte) []byte
}

// WithTime signs as at t instead of now.
func WithTime(t time.Time) CallbackOption {
	return WithTimestamp(strconv.FormatInt(t.Unix(), 10))
}

// WithTimestamp sends and signs this text as Wechatpay-Timestamp.
func WithTimestamp(text string) CallbackOption {
	return func(c *callbackPlan) { c.timestamp = &text }
}

// WithNonce sends and signs this text as Wechatpay-Nonce.
func WithNonce(text string) CallbackOption {
	return func(c *callbackPlan) { c.nonce = &text }
}

// WithSerial sends this text as Wechatpay-Serial; the key that signs stays.
func WithSerial(text string) CallbackOption {
	return func(c *callbackPlan) { c.serial = &text }
}

// WithPublicKey signs with the current public key, whatever the share says.
func WithPublicKey() CallbackOption {
	return func(c *callbackPlan) { c.wantKey = "public key" }
}

// WithCertificate signs with the current platform certificate's key, whatever
// the share says.
func WithCertificate() CallbackOption {
	return func(c *callbackPlan) { c.wantKey = "certificate" }
}

// WithSignature sends this text as Wechatpay-Signature.
func WithSignature(text string) CallbackOption {
	return func(c *callbackPlan) { c.signature = &text }
}

// WithSignatureType sends this text as Wechatpay-Signature-Type; "" leaves the
// header out, which means RSA.
func WithSignatureType(text string) CallbackOption {
	return func(c *callbackPlan) { c.signatureType = &text }
}

// Probe puts a WECHATPAY/SIGNTEST/ signature in place of the right one, as
// WeChat Pay does to see whether a merchant verifies. Everything else is right.
func Probe() CallbackOption { return func(c *callbackPlan) { c.probe = true } }

// Forged signs with a key of a stranger under a genuine Wechatpay-Serial.
func Forged() CallbackOption { return func(c *callbackPlan) { c.forged = true } }

// WithAPIv3Key encrypts with another APIv3 key; it must be 16, 24 or 32 bytes long.
func WithAPIv3Key(key string) CallbackOption {
	return func(c *callbackPlan) { c.apiV3Key = &key }
}

// WithResourceNonce writes this text as resource.nonce. Of 12 bytes it is also
// what encrypts; of any other length it only takes the place of what did.
func WithResourceNonce(text string) CallbackOption {
	return func(c *callbackPlan) { c.resourceNonce = &text }
}

// WithAlgorithm writes this text as resource.algorithm.
func WithAlgorithm(text string) CallbackOption {
	return func(c *callbackPlan) { c.algorithm = &text }
}

// WithBody changes the finished body before it is signed, so that the signature
// is right and the content is not.
func WithBody(change func(body []byte) []byte) CallbackOption {
	return func(c *callbackPlan) { c.body = change }
}

// probeSignature has the length of a real one and never verifies.
func (p *Platform) probeSignature() string {
	return ProbePrefix + p.randomFrom(alphanumeric+"+/", 322) + "A=="
}

// Callback builds a callback exactly as the platform sends it to the merchant
// mchid: encrypted with its APIv3 key, signed, with every header. Options bend
// it. Each call encrypts and signs anew. It fails on an unknown mchid and on
// options that cannot be carried out; nothing is sent.
func (p *Platform) Callback(mchid string, n Notification, opt ...CallbackOption) (http.Header, []byte, error) {
	m := p.merchants[mchid]
	if m == nil {
		return nil, nil, fmt.Errorf("sandbox: unknown mchid %q", mchid)
	}
	var plan callbackPlan
	for _, o := range opt {
		o(&plan)
	}
	switch plan.wantKey {
	case "":
		plan.key = p.callbackKey()
	case "public key":
		plan.key = p.currentKey(true)
	case "certificate":
		plan.key = p.currentKey(false)
	}
	if plan.key == nil {
		return nil, nil, fmt.Errorf("sandbox: no %s in %s mode", plan.wantKey, p.keyMode)
	}
	body, err := p.callbackBody(m, n, &plan)
	if err != nil {
		return nil, nil, err
	}
	header, err := p.callbackHeader(body, &plan)
	if err != nil {
		return nil, nil, err
	}
	return header, body, nil
}

func (p *Platform) callbackBody(m *merchant, n Notification, plan *callbackPlan) ([]byte, error) {
	if n.ID == "" {
		n.ID = p.randomUUID()
	}
	if n.CreateTime.IsZero() {
		n.CreateTime = stamp(p.now())
	}
	key := or(plan.apiV3Key, m.apiV3Key)
	nonce := p.randomText(12)
	written := or(plan.resourceNonce, nonce)
	if len(written) == 12 {
		nonce = written
	}
	ciphertext, err := seal(key, nonce, n.AssociatedData, n.Plaintext)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(envelope{
		ID: n.ID, CreateTime: rfc3339(n.CreateTime), ResourceType: "encrypt-resource",
		EventType: n.EventType, Summary: n.Summary,
		Resource: resource{
			OriginalType: n.OriginalType, Algorithm: or(plan.algorithm, aeadAlgorithm),
			Ciphertext: ciphertext, AssociatedData: n.AssociatedData, Nonce: written,
		},
	})
	if err != nil {
		return nil, errors.New("sandbox: encode callback")
	}
	if plan.body != nil {
		body = plan.body(body)
	}
	return body, nil
}

func (p *Platform) callbackHeader(body []byte, plan *callbackPlan) (http.Header, error) {
	timestamp := or(plan.timestamp, strconv.FormatInt(p.now().Unix(), 10))
	nonce := or(plan.nonce, p.randomText(32))
	signer := plan.key.key
	if plan.forged {
		var err error
		if signer, err = p.forger(); err != nil {
			return nil, err
		}
	}
	signature, err := signText(signer, timestamp+"\n"+nonce+"\n"+string(body)+"\n")
	if err != nil {
		return nil, err
	}
	if plan.probe {
		signature = p.probeSignature()
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "*/*")
	h.Set("User-Agent", "Mozilla/4.0")
	h.Set("Wechatpay-Timestamp", timestamp)
	h.Set("Wechatpay-Nonce", nonce)
	h.Set("Wechatpay-Serial", or(plan.serial, plan.key.id))
	h.Set("Wechatpay-Signature", or(plan.signature, signature))
	if t := or(plan.signatureType, SignatureType); t != "" {
		h.Set("Wechatpay-Signature-Type", t)
	}
	return h, nil
}

func or(given *string, usual string) string {
	if given != nil {
		return *given
	}
	return usual
}
