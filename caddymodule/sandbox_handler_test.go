package caddymodule

import (
	"reflect"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechatpay/caddy-wechatpay/sandbox"
)

// Every option reaches the platform, which takes them.
func TestSandboxOptions(t *testing.T) {
	config := SandboxConfig{
		Merchants: []SandboxMerchant{
			{"1900000100", "wx8888888888888888"}, {"1900000001", "wx8888888888888888"}, {"1900000100", "wx9999999999999999"},
		},
		ServiceProviders: map[string][]string{"1900000100": {"1900000109", "1900000110"}},
		Apps: []MerchantApp{
			{Appid: "wx8888888888888888", Type: "official", Secret: "0123456789abcdef", Domains: []string{"shop.example.com"}},
			{Appid: "wx9999999999999999", Type: "miniprogram"},
		},
		Keys: "certificates", TimeScale: 10, RefundTime: caddy.Duration(time.Minute), RefundPace: true, BillsAtOnce: true,
	}
	if err := config.validate(); err != nil {
		t.Fatal(err)
	}
	got := config.options()
	want := sandbox.Options{
		Merchants: []sandbox.Merchant{
			{
				Mchid: "1900000100", Appid: "wx8888888888888888", ServiceProvider: true, SubMchids: []string{"1900000109", "1900000110"},
				AppType: sandbox.AppOfficial, AppSecret: "0123456789abcdef", Domains: []string{"shop.example.com"},
			},
			{Mchid: "1900000001", Appid: "wx8888888888888888", AppType: sandbox.AppOfficial, AppSecret: "0123456789abcdef"},
			{Mchid: "1900000100", Appid: "wx9999999999999999", ServiceProvider: true, AppType: sandbox.AppMiniProgram},
		},
		Keys: sandbox.CertificatesMode, TimeScale: 10, RefundTime: time.Minute, RefundPace: true, BillsAtOnce: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	p, err := sandbox.New(got)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
}
