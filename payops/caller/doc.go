// Package caller knows who may call the payment API, and what each may do.
//
// A caller proves itself by a bearer token or, as towards WeChat Pay itself, by
// a WECHATPAY2-SHA256-RSA2048 signature made with the caller's own key: an
// official SDK needs nothing but another host name and its own key pair. Every
// caller has a list of operation groups it is allowed; nothing is implied.
package caller
