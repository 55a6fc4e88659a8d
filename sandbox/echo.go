package sandbox

import (
	"encoding/json"
)

// echo is POST /v3/security/echo (https://pay.weixin.qq.com/doc/v3/partner/4015139289):
// it proves a merchant's signing, verifying, encrypting and decrypting, and with
// a notify_url its receiving of callbacks. The page names no field of the
// callback's resource; here it repeats echo_message.
func echo(p *Platform, c *call) (any, *apiError) {
	if p.validKey(c.serial) == nil {
		return nil, errSerial()
	}
	in, bad := p.parse(c)
	if bad != nil {
		return nil, bad
	}
	message := in.text("echo_message", true, 1, 4096)
	secret := in.secret("encrypted_echo_message", false)
	notifyURL := in.text("notify_url", false, 1, 255)
	if notifyURL != "" && in.problem() == nil {
		if issue := badNotifyURL(notifyURL); issue != "" {
			in.refuse("notify_url", issue, "不是合法的通知地址，须为http(s)完整地址且不允许携带查询串")
		}
	}
	if bad := in.problem(); bad != nil {
		return nil, bad
	}
	var out struct {
		Message   string `json:"echo_message"`
		Encrypted string `json:"encrypted_echo_message,omitempty"`
	}
	out.Message = message
	if secret != "" {
		var err error
		if out.Encrypted, err = sealField(c.m, secret); err != nil {
			p.log.Error("encrypting a field failed", "error", err)
			return nil, errSystem()
		}
	}
	if notifyURL != "" {
		if err := p.callEcho(c.m, message, notifyURL); err != nil {
			return nil, errSystem()
		}
	}
	return out, nil
}

func (p *Platform) callEcho(m *merchant, message, notifyURL string) error {
	plaintext, err := json.Marshal(struct {
		Message string `json:"echo_message"`
	}{message})
	if err != nil {
		return err
	}
	n := Notification{
		ID: p.randomUUID(), CreateTime: stamp(p.now()), EventType: "SECURITY_ECHO.SUCCESS",
		OriginalType: "security", Summary: "回调通知成功", Plaintext: plaintext,
	}
	c := &callback{mchid: m.mchid, notification: n, url: notifyURL, state: Held, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.callbacks) >= maxCallbacks {
		return errTooMany
	}
	p.callbacks = append(p.callbacks, c)
	p.byCallback[n.ID] = c
	return p.startLocked(c, Faults{})
}
