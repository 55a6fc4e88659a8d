package merchant

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// printings returns value as everything in the standard library prints it.
func printings(t *testing.T, value any) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s", "% x"} {
		out[verb] = fmt.Sprintf(verb, value)
	}
	out["Sprint"] = fmt.Sprint(value)
	out["Errorf"] = fmt.Errorf("failed: %v", value).Error()
	out["Join"] = errors.Join(fmt.Errorf("a %+v", value), fmt.Errorf("b %#v", value)).Error()
	if data, err := json.Marshal(value); err == nil {
		out["json"] = string(data)
	}
	if data, err := xml.Marshal(value); err == nil {
		out["xml"] = string(data)
	}
	var text, js bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "value", value, slog.Group("g", "inner", value))
	slog.New(slog.NewJSONHandler(&js, nil)).Info("m", "value", value, slog.Group("g", "inner", value))
	out["slog text"], out["slog json"] = text.String(), js.String()
	return out
}

func TestSecretsDoNotPrint(t *testing.T) {
	cfg := goodConfig()
	cfg.APIv3Keys = []string{testAPIv3, testAPIv3b}
	cfg.Apps[0].Secret = NewSecret(testAPIv3)
	m := wantNew(t, cfg, Deps{})
	credential, err := m.Credential()
	if err != nil {
		t.Fatal(err)
	}
	type outer struct { // fmt calls no methods on unexported fields
		secret     Secret
		key        PrivateKey
		credential Credential
		merchant   *Merchant
		Secret     Secret
		Key        PrivateKey
		Credential Credential
	}
	secret, key := NewSecret(testAPIv3), NewPrivateKey(merchantKey())
	nested := outer{secret, key, credential, m, secret, key, credential}
	for name, value := range map[string]any{
		"Secret": secret, "*Secret": &secret, "[]Secret": []Secret{secret}, "map": map[string]Secret{"a": secret},
		"PrivateKey": key, "*PrivateKey": &key, "[]PrivateKey": []PrivateKey{key},
		"Credential": credential, "*Credential": &credential, "[]Credential": []Credential{credential},
		"Config": cfg, "*Config": &cfg, "[]Config": []Config{cfg}, "map of Config": map[string]any{"shop": cfg},
		"App": cfg.Apps[0], "[]App": cfg.Apps, "App of a Merchant": m.DefaultApp(),
		"*Merchant": m, "[]*Merchant": []*Merchant{m},
		"nested": nested, "*nested": &nested,
	} {
		for how, text := range printings(t, value) {
			wantNoSecret(t, name+" through "+how, text)
		}
	}
	for how, text := range printings(t, secret) {
		if !strings.Contains(text, redacted) && how != "xml" {
			t.Errorf("Secret through %s is %q", how, text)
		}
	}
}

func TestSecretText(t *testing.T) {
	if s := NewSecret("a b"); s.Reveal() != "a b" || s.Empty() {
		t.Error("a secret does not hold its text")
	}
	var zero Secret
	if zero.Reveal() != "" || !zero.Empty() {
		t.Error("the zero secret is not empty")
	}
	if text, err := zero.MarshalText(); err != nil || string(text) != redacted {
		t.Errorf("MarshalText: %q, %v", text, err)
	}
	if !NewSecret("x").Equal(NewSecret("x")) || NewSecret("x").Equal(NewSecret("y")) || NewSecret("x").Equal(zero) {
		t.Error("Equal")
	}
	var none PrivateKey
	if none.Reveal() != nil || !none.Empty() || NewPrivateKey(merchantKey()).Empty() {
		t.Error("Empty of keys")
	}
}

func TestConfigPrintsURLsWithoutTheirSecrets(t *testing.T) {
	cfg := goodConfig()
	cfg.EgressProxy = "http://user:pa55word@proxy.example.com:3128"
	cfg.NotifyURL = "https://user:pa55word@pay.example.com/?token=t0ken"
	cfg.APIBases = []string{"https://user:pa55word@api.example.com", "::pa55word::"}
	cfg.Sandbox = "https://user:pa55word@sandbox.example.com"
	for how, text := range printings(t, cfg) {
		if strings.Contains(text, "pa55word") || strings.Contains(text, "t0ken") {
			t.Errorf("a password shows through %s", how)
		}
	}
	if text := cfg.String(); !strings.Contains(text, "proxy.example.com") || !strings.Contains(text, testMchid) {
		t.Errorf("what is no secret is hidden: %s", text)
	}
}
